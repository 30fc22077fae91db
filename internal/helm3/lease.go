package helm3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/release"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/utils/ptr"
)

const (
	// leaseDuration is after how long without a sign of life an operation is dead.
	// It's longer than client-go takes to give a dead connection up.
	leaseDuration = time.Minute
	// leaseMargin is how long before that the operation itself counts as dead, and
	// changes nothing more, for requests that are on their way.
	leaseMargin = 10 * time.Second
	// renewInterval is how often an operation gives a sign of life.
	renewInterval = 10 * time.Second
	// renewTimeout is how long one attempt to do so may take.
	renewTimeout = 8 * time.Second
	// releaseTimeout is how long the end of an operation may be held up by it.
	releaseTimeout = 3 * time.Second
)

// The annotations of a Lease say of what it is one: the operation's name, and the record
// that tells of it. The numbers of revisions begin anew when a release is installed
// again, so it's told by its time, too.
const (
	operationAnnotation = "helm-parallel-hooks/operation"
	revisionAnnotation  = "helm-parallel-hooks/revision"
	deployedAnnotation  = "helm-parallel-hooks/last-deployed"
)

// leaseName is the name of the Lease of a release, in its namespace.
func leaseName(release string) string { return "helm-parallel-hooks." + release }

// errHelmsPending are Helm's words for a release on which somebody else is at work
// (pkg/action/action.go).
const errHelmsPending = "another operation (install/upgrade/rollback) is in progress"

// errPending adds who it is.
func errPending(holder string) error {
	return fmt.Errorf("%s (%s)", errHelmsPending, holder)
}

// errLeaseLost says that somebody else took this operation for dead.
var errLeaseLost = errors.New("this operation was taken for dead, for it could not renew its lease: what became of the hooks that ran last is not recorded")

// lease is the sign of life of an operation on a release: as long as it's renewed, no
// other one of ours begins, and the release isn't recovered. Once it may have expired,
// the operation changes nothing until it's renewed.
//
// client-go's leaderelection waits for its turn and doesn't tell a missing permission
// from any other error, so it isn't used. A lease is safe for concurrent use.
type lease struct {
	client coordination.LeaseInterface
	// now returns the server's time, by which all who look at a lease go.
	now func() time.Time
	// lost is called when somebody else has taken the lease.
	lost func()

	// alive ends with the renewals.
	alive   context.Context
	stop    context.CancelFunc
	renewal sync.WaitGroup

	renewing    sync.Mutex // held during a renewal, and what it leads to
	writing     sync.Mutex // held during a write
	held        *coordinationv1.Lease
	annotations map[string]string // of what it is one
	acquired    time.Time         // when that began
	handsBack   bool              // to one that has died, rather than ended

	mu      sync.Mutex
	renewAt time.Time     // when the last renewal was asked for
	open    bool          // nothing is held up, since there's no lease any more
	over    error         // why it's not renewed any more; nil if it is
	failure error         // why the last renewal has failed; nil if it hasn't
	renewed chan struct{} // closed, and replaced, when one of these changes
}

// annotationsOf say that a lease is one of an operation, of which a record tells.
func annotationsOf(operation string, record *release.Release) map[string]string {
	return map[string]string{
		operationAnnotation: operation,
		revisionAnnotation:  strconv.Itoa(record.Version),
		deployedAnnotation:  record.Info.LastDeployed.UTC().Format(time.RFC3339Nano),
	}
}

// takeLease takes the Lease of a release for the operation that what names, of which its
// record tells, and returns l. It returns nil if Leases are not permitted, or have no
// place to be, and Helm's error if another operation is alive.
//
// With an operation that has died, the lease goes on to be one of that, for whoever
// recovers it may die as well.
func takeLease(ctx context.Context, l *lease, record *release.Release, what string, dead *coordinationv1.Lease) (*lease, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	ctx = ungated(ctx)
	wanted := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Name:   leaseName(record.Name),
		Labels: map[string]string{"app.kubernetes.io/managed-by": "helm-parallel-hooks"},
	}}
	identity := fmt.Sprintf("%s by process %d on %s, %s", what, os.Getpid(), host, uuid.NewUUID())
	wanted.Spec.HolderIdentity, wanted.Spec.LeaseDurationSeconds = &identity, ptr.To(int32(leaseDuration.Seconds()))

	found, err := l.client.Get(ctx, wanted.Name, metav1.GetOptions{})
	if err == nil && remaining(found, l.now()) > 0 {
		return nil, errPending(holderOf(found))
	}
	created := false
	if err == nil {
		wanted.ResourceVersion = found.ResourceVersion
	} else if apierrors.IsNotFound(err) {
		// It's updated at once, too: what can't be renewed is no sign of life.
		found, err = l.client.Create(ctx, wanted, metav1.CreateOptions{})
		if err == nil {
			wanted.ResourceVersion, created = found.ResourceVersion, true
		}
	}
	if err == nil {
		l.held, l.renewed = wanted, make(chan struct{})
		l.annotations, l.acquired = annotationsOf(what, record), l.now()
		if dead != nil {
			l.annotations, l.acquired = dead.Annotations, ptr.Deref(dead.Spec.AcquireTime, metav1.MicroTime{}).Time
		}
		err = l.write(ctx)
		switch {
		case apierrors.IsForbidden(err) && created:
			_ = l.client.Delete(ctx, wanted.Name, metav1.DeleteOptions{})
		case apierrors.IsNotFound(err):
			return nil, errPending("it ended at this moment: try again")
		}
	}
	switch {
	case err == nil:
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		// Without permission, or without its namespace, where records are kept
		// elsewhere.
		return nil, nil
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		return nil, errPending("it began at this moment")
	default:
		return nil, fmt.Errorf("taking the lease of release %s: %w", record.Name, err)
	}
	l.begin()
	return l, nil
}

// begin has the lease renewed until release.
func (l *lease) begin() {
	l.alive, l.stop = context.WithCancel(ungated(context.Background()))
	l.renewal.Go(l.renew)
}

// cover makes the lease one of another record, with which the operation goes on. If that
// can't be written now, the next renewal does.
func (l *lease) cover(record *release.Release) {
	if l == nil {
		return
	}
	l.writing.Lock()
	l.annotations, l.acquired = annotationsOf(l.annotations[operationAnnotation], record), l.now()
	l.writing.Unlock()
	l.renewOnce()
}

// handBack has release leave the lease to whoever recovers the operation that has died.
func (l *lease) handBack() {
	if l == nil {
		return
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.handsBack = true
}

// covers reports whether a lease is one of an operation of which a record tells. No
// operations: of any.
func covers(l *coordinationv1.Lease, record *release.Release, operations ...string) bool {
	operation := l.Annotations[operationAnnotation]
	for name, want := range annotationsOf(operation, record) {
		if l.Annotations[name] != want {
			return false
		}
	}
	return len(operations) == 0 || slices.Contains(operations, operation)
}

// remaining returns for how much longer a lease says that its operation is alive; not
// above 0: it's dead.
func remaining(l *coordinationv1.Lease, now time.Time) time.Duration {
	if l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
		return 0
	}
	return time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second - now.Sub(l.Spec.RenewTime.Time)
}

func holderOf(l *coordinationv1.Lease) string {
	return ptr.Deref(l.Spec.HolderIdentity, "unknown")
}

// next is the lease as it's to be written now. The caller holds writing.
func (l *lease) next() *coordinationv1.Lease {
	next := l.held.DeepCopy()
	for name, value := range l.annotations {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, name, value)
	}
	next.Spec.AcquireTime = ptr.To(metav1.NewMicroTime(l.acquired))
	next.Spec.RenewTime = ptr.To(metav1.NewMicroTime(l.now()))
	return next
}

// write renews the lease.
func (l *lease) write(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	begin := time.Now()
	written, err := l.client.Update(ctx, l.next(), metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	l.held = written
	l.note(func() { l.renewAt, l.failure = begin, nil })
	return nil
}

// note changes what gate looks at.
func (l *lease) note(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.renewed)
	l.renewed = make(chan struct{})
}

// gate returns when a request may change something: at once, unless the lease may have
// expired, and then when it's renewed or lost, with an error.
func (l *lease) gate(ctx context.Context, request *http.Request) error {
	if isUngated(request.Context()) {
		return nil
	}
	for {
		l.mu.Lock()
		open, over, failure, renewed := l.open, l.over, l.failure, l.renewed
		l.mu.Unlock()
		if over != nil {
			return over
		}
		if open || l.age() < leaseDuration-leaseMargin {
			return nil
		}
		select {
		case <-renewed:
		case <-ctx.Done():
			if failure == nil {
				failure = errors.New("no answer")
			}
			return fmt.Errorf("the lease of this operation could not be renewed in time: %w (%v)", context.Cause(ctx), failure)
		}
	}
}

// age returns for how long the lease has not been renewed. Of the clocks that goes by the
// one which is ahead: one of them stands still while the machine sleeps.
func (l *lease) age() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(time.Since(l.renewAt), time.Now().Round(0).Sub(l.renewAt.Round(0)))
}

// ungatedKey marks the requests that renew a lease, which nothing may hold up.
type ungatedKey struct{}

func ungated(ctx context.Context) context.Context {
	return context.WithValue(ctx, ungatedKey{}, true)
}

func isUngated(ctx context.Context) bool { return ctx.Value(ungatedKey{}) != nil }

// renew gives a sign of life from time to time until the lease is released, lost or gone.
func (l *lease) renew() {
	tick := time.NewTicker(renewInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.alive.Done():
			return
		case <-tick.C:
		}
		if !l.renewOnce() {
			return
		}
	}
}

// renewOnce gives a sign of life, and reports whether there's still a lease to renew.
func (l *lease) renewOnce() bool {
	ctx, cancel := context.WithTimeout(l.alive, renewTimeout)
	defer cancel()
	l.renewing.Lock()
	defer l.renewing.Unlock()
	l.mu.Lock()
	ended := l.open || l.over != nil
	l.mu.Unlock()
	if ended || l.alive.Err() != nil {
		return false
	}
	err := l.write(ctx)
	expired := l.age() >= leaseDuration-leaseMargin
	switch {
	case err == nil:
	case apierrors.IsForbidden(err) && l.age() > leaseDuration-leaseMargin-renewInterval:
		// It may pass, but others would take the operation for dead soon, unless
		// there is no lease.
		if gone := l.delete(ctx); gone == nil || apierrors.IsNotFound(gone) {
			l.note(func() { l.open = true })
		}
	case apierrors.IsConflict(err) && !l.isOurs(ctx), apierrors.IsNotFound(err) && expired:
		l.lose() // and released again, as far as anybody can tell, where it's not found
	case apierrors.IsNotFound(err):
		l.again(ctx) // somebody has tidied up
	}
	l.note(func() { l.failure = err })
	return true
}

// lose notes that somebody else has taken the lease.
func (l *lease) lose() {
	l.note(func() { l.over = errLeaseLost })
	l.lost()
}

// again creates the lease anew.
func (l *lease) again(ctx context.Context) {
	l.writing.Lock()
	wanted := l.next()
	wanted.ResourceVersion, wanted.UID = "", ""
	begin := time.Now()
	created, err := l.client.Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil {
		l.held = created
	}
	l.writing.Unlock()
	switch {
	case err == nil:
		l.note(func() { l.renewAt = begin })
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		l.note(func() { l.open = true }) // nobody can tell, as if there had been no permission
	case apierrors.IsAlreadyExists(err) && !l.isOurs(ctx):
		l.lose()
	}
}

// isOurs reports whether the lease is ours although it isn't as we know it: an earlier
// renewal may have got through of which we had no answer in time. It's so too as long as
// nobody can tell.
func (l *lease) isOurs(ctx context.Context) bool {
	l.writing.Lock()
	defer l.writing.Unlock()
	found, err := l.client.Get(ctx, l.held.Name, metav1.GetOptions{})
	if err != nil {
		return !apierrors.IsNotFound(err)
	}
	if holderOf(found) != holderOf(l.held) {
		return false
	}
	l.held = found
	return true
}

// delete deletes the lease as it was last seen.
func (l *lease) delete(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.client.Delete(ctx, l.held.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{ResourceVersion: &l.held.ResourceVersion},
	})
}

// resign writes that nobody is alive.
func (l *lease) resign(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	next := l.next()
	next.Spec.RenewTime = nil
	_, err := l.client.Update(ctx, next, metav1.UpdateOptions{})
	return err
}

// release ends the renewal and deletes the lease, unless it's somebody else's by now.
func (l *lease) release() {
	if l == nil {
		return
	}
	l.stop()
	l.renewal.Wait()
	l.renewing.Lock() // by cover
	defer l.renewing.Unlock()
	l.mu.Lock()
	over := l.over != nil || l.open
	l.mu.Unlock()
	if over {
		return
	}
	ctx, cancel := context.WithTimeout(ungated(context.Background()), releaseTimeout)
	defer cancel()
	for range 2 {
		end := l.delete
		if l.handsBack {
			end = l.resign
		}
		err := end(ctx)
		if apierrors.IsForbidden(err) {
			err = l.resign(ctx) // one that's left over expires
		}
		if !apierrors.IsConflict(err) || !l.isOurs(ctx) {
			return
		}
	}
}
