package helm3

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	leaseDuration = 30 * time.Second
	// renewInterval is how often an operation gives one.
	renewInterval = 10 * time.Second
	// renewTimeout is how long one attempt to do so may take.
	renewTimeout = 8 * time.Second
	// releaseTimeout is how long the end of an operation may be held up by it.
	releaseTimeout = 3 * time.Second
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
// other one of ours begins, and the release isn't recovered. client-go's
// leaderelection waits for its turn and doesn't tell a missing permission from
// any other error, so it isn't used.
type lease struct {
	client coordination.LeaseInterface
	// now returns the server's time, by which all who look at a lease go.
	now  func() time.Time
	held *coordinationv1.Lease // as last written; owned by the renewing goroutine while it runs

	stop    context.CancelFunc
	renewal sync.WaitGroup
}

// takeLease takes the Lease of a release for the operation that what names. It returns
// nil if Leases are not permitted, or have no place to be, and Helm's error if another
// operation is alive. lost is called at most once, if somebody else takes it.
func takeLease(ctx context.Context, client coordination.LeaseInterface, now func() time.Time, release, what string, lost func()) (*lease, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	l := &lease{client: client, now: now}
	found, err := client.Get(ctx, leaseName(release), metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	switch {
	case missing:
		found = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
			Name:   leaseName(release),
			Labels: map[string]string{"app.kubernetes.io/managed-by": "helm-parallel-hooks"},
		}}
	case apierrors.IsForbidden(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("taking the lease of release %s: %w", release, err)
	default:
		if left := remaining(found, now()); left > 0 {
			return nil, errPending(holderOf(found))
		}
	}
	at := metav1.NewMicroTime(now())
	found.Spec = coordinationv1.LeaseSpec{
		HolderIdentity:       ptr.To(fmt.Sprintf("%s by process %d on %s, %s", what, os.Getpid(), host, uuid.NewUUID())),
		LeaseDurationSeconds: ptr.To(int32(leaseDuration.Seconds())),
		AcquireTime:          &at,
		RenewTime:            &at,
	}
	if missing {
		l.held, err = client.Create(ctx, found, metav1.CreateOptions{})
	} else {
		l.held, err = client.Update(ctx, found, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		// Without permission to change it, or without its namespace, where records
		// are kept elsewhere.
		return nil, nil
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		return nil, errPending("it began at this moment")
	case err != nil:
		return nil, fmt.Errorf("taking the lease of release %s: %w", release, err)
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.renewal.Go(func() { l.renew(renewing, lost) })
	return l, nil
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

// renew gives a sign of life from time to time until ctx is done or the lease is lost.
func (l *lease) renew(ctx context.Context, lost func()) {
	tick := time.NewTicker(renewInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, renewTimeout)
		next := l.held.DeepCopy()
		at := metav1.NewMicroTime(l.now())
		next.Spec.RenewTime = &at
		renewed, err := l.client.Update(attempt, next, metav1.UpdateOptions{})
		cancel()
		switch {
		case err == nil:
			l.held = renewed
		case apierrors.IsNotFound(err), apierrors.IsConflict(err) && !l.isOurs(ctx):
			lost()
			return
		}
	}
}

// isOurs reports whether the lease is ours although it isn't as we know it: an earlier
// renewal may have got through of which we had no answer in time. It's so too as long as
// nobody can tell.
func (l *lease) isOurs(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
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
	l.stop()
	l.renewal.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	// One that's left over expires.
	_ = l.client.Delete(ctx, l.held.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &l.held.UID, ResourceVersion: &l.held.ResourceVersion},
	})
}
