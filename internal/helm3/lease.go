package helm3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

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

// The annotations of a Lease say of what it is one: the revision whose record tells of
// the operation, and the operation's name.
const (
	revisionAnnotation  = "helm-parallel-hooks/revision"
	operationAnnotation = "helm-parallel-hooks/operation"
)

// leaseName is the name of the Lease of a release, in its namespace.
func leaseName(release string) string { return "helm-parallel-hooks." + release }

// errPending are Helm's words (pkg/action/action.go), with who it is.
func errPending(holder string) error {
	return fmt.Errorf("another operation (install/upgrade/rollback) is in progress (%s)", holder)
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
	// stands reports whether the record still says what this operation has
	// written.
	stands func(context.Context) bool
	// lost is called when somebody else has taken the lease.
	lost func()

	stop    chan struct{}
	renewal sync.WaitGroup

	writing   sync.Mutex // held during a write
	held      *coordinationv1.Lease
	operation string
	revision  int       // whose record tells of the operation
	acquired  time.Time // when what that tells of began

	mu      sync.Mutex
	until   time.Time     // when it may have expired, by this machine's clock
	over    error         // why it's not renewed any more; nil if it is
	renewed chan struct{} // closed, and replaced, when until or over change
}

// takeLease takes the Lease of a release for the operation that what names, whose record
// is that of the revision, and returns l. It returns nil if Leases are not permitted, or have no place to
// be, and Helm's error if another operation is alive.
func takeLease(ctx context.Context, l *lease, release string, revision int, what string) (*lease, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	wanted := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Name:   leaseName(release),
		Labels: map[string]string{"app.kubernetes.io/managed-by": "helm-parallel-hooks"},
	}}
	identity := fmt.Sprintf("%s by process %d on %s, %s", what, os.Getpid(), host, uuid.NewUUID())
	wanted.Spec.HolderIdentity, wanted.Spec.LeaseDurationSeconds = &identity, ptr.To(int32(leaseDuration.Seconds()))

	found, err := l.client.Get(ctx, wanted.Name, metav1.GetOptions{})
	if err == nil && remaining(found, l.now()) > 0 {
		return nil, errPending(holderOf(found))
	}
	if err == nil {
		wanted.ResourceVersion = found.ResourceVersion
	} else if apierrors.IsNotFound(err) {
		// It's updated at once, too: what can't be renewed is no sign of life.
		found, err = l.client.Create(ctx, wanted, metav1.CreateOptions{})
		if err == nil {
			wanted.ResourceVersion = found.ResourceVersion
		}
	}
	if err == nil {
		l.held, l.stop, l.renewed = wanted, make(chan struct{}), make(chan struct{})
		l.operation, l.revision, l.acquired = what, revision, l.now()
		if err = l.write(ctx); apierrors.IsForbidden(err) {
			_ = l.client.Delete(ctx, wanted.Name, metav1.DeleteOptions{})
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
		return nil, fmt.Errorf("taking the lease of release %s: %w", release, err)
	}
	l.renewal.Go(l.renew)
	return l, nil
}

// cover makes the lease one of another revision, whose record the operation goes on with.
// If that can't be written now, the next renewal does.
func (l *lease) cover(revision int) {
	if l == nil {
		return
	}
	l.writing.Lock()
	l.revision, l.acquired = revision, l.now()
	l.writing.Unlock()
	l.renewOnce()
}

// covers reports whether a lease is that of the operation which the record of a revision
// with this status tells of.
func covers(l *coordinationv1.Lease, revision int, operations []string) bool {
	if l.Annotations[revisionAnnotation] != strconv.Itoa(revision) {
		return false
	}
	for _, operation := range operations {
		if l.Annotations[operationAnnotation] == operation {
			return true
		}
	}
	return len(operations) == 0
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
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, operationAnnotation, l.operation)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, revisionAnnotation, strconv.Itoa(l.revision))
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
	l.note(func() { l.until = begin.Add(leaseDuration - leaseMargin) })
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
	if strings.Contains(request.URL.Path, "/leases") {
		return nil
	}
	for {
		l.mu.Lock()
		until, over, renewed := l.until, l.over, l.renewed
		l.mu.Unlock()
		if over != nil {
			return over
		}
		if until.IsZero() || time.Now().Before(until) {
			return nil
		}
		select {
		case <-renewed:
		case <-ctx.Done():
			return fmt.Errorf("the lease of this operation could not be renewed in time: %w", context.Cause(ctx))
		}
	}
}

// renew gives a sign of life from time to time until the lease is released or lost.
func (l *lease) renew() {
	tick := time.NewTicker(renewInterval)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		switch l.renewOnce() {
		case leaseGone:
			// Nobody can tell any more; as if there were no permission.
			l.note(func() { l.until = time.Time{} })
			return
		case leaseTaken:
			l.note(func() { l.over = errLeaseLost })
			l.lost()
			return
		}
	}
}

type leaseFate int

const (
	leaseKept leaseFate = iota
	leaseGone
	leaseTaken
)

func (l *lease) renewOnce() leaseFate {
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	err := l.write(ctx)
	switch {
	case apierrors.IsForbidden(err):
		return leaseGone // a namespace that goes, or a right that was taken away
	case apierrors.IsConflict(err) && !l.isOurs(ctx):
		return leaseTaken
	case apierrors.IsNotFound(err) && !l.stands(ctx):
		return leaseTaken
	case apierrors.IsNotFound(err):
		return l.again(ctx) // somebody has tidied up
	}
	return leaseKept
}

// again creates the lease anew.
func (l *lease) again(ctx context.Context) leaseFate {
	l.writing.Lock()
	defer l.writing.Unlock()
	wanted := l.next()
	wanted.ResourceVersion, wanted.UID = "", ""
	begin := time.Now()
	created, err := l.client.Create(ctx, wanted, metav1.CreateOptions{})
	switch {
	case err == nil:
		l.held = created
		l.note(func() { l.until = begin.Add(leaseDuration - leaseMargin) })
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		return leaseGone
	case apierrors.IsAlreadyExists(err):
		return leaseTaken
	}
	return leaseKept
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

// release ends the renewal and deletes the lease, unless it's somebody else's by now.
func (l *lease) release() {
	if l == nil {
		return
	}
	close(l.stop)
	l.renewal.Wait()
	l.mu.Lock()
	over := l.over
	l.mu.Unlock()
	if over != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	for range 2 {
		err := l.client.Delete(ctx, l.held.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{ResourceVersion: &l.held.ResourceVersion},
		})
		switch {
		case apierrors.IsConflict(err) && l.isOurs(ctx):
			continue
		case apierrors.IsForbidden(err):
			// Then it says itself that it has ended; one that's left over expires.
			l.held.Spec.RenewTime = nil
			_, _ = l.client.Update(ctx, l.held, metav1.UpdateOptions{})
		}
		return
	}
}
