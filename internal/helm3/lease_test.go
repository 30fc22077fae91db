package helm3

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"helm.sh/helm/v3/pkg/release"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	clienttesting "k8s.io/client-go/testing"
)

// leaseCluster is a server that has Leases.
type leaseCluster struct {
	*fake.Clientset

	mu     sync.Mutex
	refuse func(verb string, lease *coordinationv1.Lease) error // see refuses
	losses int
}

// refuses has answer give the error of each request; nil: none.
func (c *leaseCluster) refuses(answer func(verb string, lease *coordinationv1.Lease) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = answer
}

// lost returns how often an operation learnt that it had been taken for dead.
func (c *leaseCluster) lost() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.losses
}

func newLeaseCluster() *leaseCluster {
	c := &leaseCluster{Clientset: fake.NewClientset()}
	c.PrependReactor("*", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		c.mu.Lock()
		answer := c.refuse
		c.mu.Unlock()
		if answer == nil {
			return false, nil, nil
		}
		var written *coordinationv1.Lease
		if write, ok := action.(clienttesting.UpdateAction); ok {
			written = write.GetObject().(*coordinationv1.Lease)
		}
		err := answer(action.GetVerb(), written)
		return err != nil, nil, err
	})
	return c
}

func (c *leaseCluster) leases() coordination.LeaseInterface {
	return c.CoordinationV1().Leases("ns")
}

// pendingRecord is of a revision of the release shop, deployed at an hour of its own.
func pendingRecord(revision int) *release.Release {
	rel := newRelease(revision, release.StatusPendingUpgrade)
	rel.Info.LastDeployed.Time = time.Date(2026, 1, 1, revision, 0, 0, 0, time.UTC)
	return rel
}

func (c *leaseCluster) take(t *testing.T, what string) (*lease, error) {
	return takeLease(t.Context(), &lease{
		client: c.leases(),
		now:    time.Now,
		lost: func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.losses++
		},
	}, pendingRecord(3), what, nil)
}

// left returns the Leases in the cluster.
func (c *leaseCluster) left(t *testing.T) []coordinationv1.Lease {
	t.Helper()
	all, err := c.leases().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return all.Items
}

// freeze ends the renewals of a lease, as if its process was stopped.
func (l *lease) freeze() {
	l.stop()
	l.renewal.Wait()
}

// thaw has it go on.
func (l *lease) thaw() {
	l.begin()
}

// change returns what the gate says to a change at this moment, and whether it lets it wait.
func (l *lease) change(t *testing.T) (err error, waits bool) {
	t.Helper()
	waiting := errors.New("waiting")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, waiting)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://server/apis/batch/v1/namespaces/ns/jobs", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	err = l.gate(ctx, request)
	return err, errors.Is(err, waiting)
}

var (
	forbiddenLease = apierrors.NewForbidden(coordinationv1.Resource("leases"), "any", nil)
	conflictLease  = apierrors.NewConflict(coordinationv1.Resource("leases"), "any", nil)
)

// refuseVerb returns what refuses a verb with an error.
func refuseVerb(refused string, err error) func(string, *coordinationv1.Lease) error {
	return func(verb string, _ *coordinationv1.Lease) error {
		if verb == refused {
			return err
		}
		return nil
	}
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := newLeaseCluster()
		first, err := cluster.take(t, "upgrade")
		if err != nil {
			t.Fatal(err)
		}
		// Renewed, so alive, however long it takes.
		time.Sleep(10*time.Minute + time.Second)
		if _, err := cluster.take(t, "test"); err == nil || !strings.HasPrefix(err.Error(), "another operation (install/upgrade/rollback) is in progress (upgrade by process ") {
			t.Errorf("while one is alive: got %v, want Helm's words and who it is", err)
		}
		if err, _ := first.change(t); err != nil {
			t.Errorf("a change while it is alive: %v", err)
		}

		// Without a sign of life it changes nothing more, before it's dead to others.
		first.freeze()
		time.Sleep(leaseDuration - leaseMargin)
		if err, waits := first.change(t); !waits {
			t.Errorf("a change when the lease may soon have expired: %v, want it to wait", err)
		}
		if _, err := cluster.take(t, "test"); err == nil {
			t.Error("taken from an operation that may be alive")
		}
		// It gets on when it has been renewed,
		first.thaw()
		time.Sleep(renewInterval)
		synctest.Wait()
		if err, _ := first.change(t); err != nil {
			t.Errorf("a change after the lease was renewed: %v", err)
		}
		// or is dead.
		first.freeze()
		time.Sleep(leaseDuration + time.Second)
		second, err := cluster.take(t, "recover")
		if err != nil {
			t.Fatalf("an operation without a sign of life: got %v, want its lease", err)
		}
		cluster.refuses(func(verb string, written *coordinationv1.Lease) error {
			if verb == "update" && strings.HasPrefix(holderOf(written), "upgrade ") {
				return conflictLease
			}
			return nil
		})
		first.thaw()
		time.Sleep(renewInterval + time.Second)
		synctest.Wait()
		if cluster.lost() != 1 {
			t.Errorf("the one that was taken for dead learnt of it %d times, want once", cluster.lost())
		}
		if err, _ := first.change(t); !errors.Is(err, errLeaseLost) {
			t.Errorf("a change by the one that was taken for dead: got %v, want %v", err, errLeaseLost)
		}
		first.release()
		if got := cluster.left(t); len(got) != 1 {
			t.Errorf("%d leases left, want that of the second", len(got))
		}
		second.release()
		if got := cluster.left(t); len(got) != 0 {
			t.Errorf("left: %v; want nothing", got)
		}
	})
}

// TestLeaseWhoseRenewalWasNotAnswered: the next one meets a lease that isn't as it was last
// seen, but ours.
func TestLeaseWhoseRenewalWasNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := newLeaseCluster()
		held, err := cluster.take(t, "upgrade")
		if err != nil {
			t.Fatal(err)
		}
		updates, conflicts := 0, 0
		cluster.refuses(func(verb string, written *coordinationv1.Lease) error {
			if verb != "update" {
				return nil
			}
			switch updates++; {
			case updates == 1:
				stored := written.DeepCopy()
				stored.ResourceVersion = "2"
				if err := cluster.Tracker().Update(coordinationv1.SchemeGroupVersion.WithResource("leases"), stored, "ns"); err != nil {
					t.Error(err)
				}
				return context.DeadlineExceeded
			case written.ResourceVersion != "2":
				conflicts++
				return conflictLease
			}
			return nil
		})
		time.Sleep(5*renewInterval + time.Second)
		held.release()
		if updates != 5 || conflicts != 1 || cluster.lost() != 0 {
			t.Errorf("%d updates, %d conflicts, lost %d times; want 5, 1, never", updates, conflicts, cluster.lost())
		}
	})
}

// TestLeaseWithoutPermission: an operation goes on without, and leaves none behind that it
// couldn't renew.
func TestLeaseWithoutPermission(t *testing.T) {
	for _, verb := range []string{"get", "create", "update"} {
		cluster := newLeaseCluster()
		cluster.refuses(refuseVerb(verb, forbiddenLease))
		got, err := cluster.take(t, "test")
		if got != nil || err != nil {
			t.Errorf("without permission to %s: got %v, %v; want neither a lease nor an error", verb, got, err)
		}
		got.release()
		cluster.refuses(nil)
		if left := cluster.left(t); len(left) != 0 {
			t.Errorf("without permission to %s: left %v", verb, left)
		}
	}
}

// TestLeaseThatIsDeleted by somebody, who has tidied up; or who has recovered the release, as nobody does before it has
// expired.
func TestLeaseThatIsDeleted(t *testing.T) {
	for name, silent := range map[string]time.Duration{"alive": 0, "taken for dead": leaseDuration} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster := newLeaseCluster()
				held, err := cluster.take(t, "upgrade")
				if err != nil {
					t.Fatal(err)
				}
				held.freeze()
				time.Sleep(silent)
				if err := cluster.leases().Delete(t.Context(), held.held.Name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				held.thaw()
				time.Sleep(renewInterval + time.Second)
				synctest.Wait()
				left := cluster.left(t)
				if silent == 0 && (len(left) != 1 || !covers(&left[0], pendingRecord(3), "upgrade") || cluster.lost() != 0) {
					t.Errorf("lost %d times, left %v; want it created again", cluster.lost(), left)
				}
				if silent > 0 && (len(left) != 0 || cluster.lost() != 1) {
					t.Errorf("lost %d times, left %v; want it lost", cluster.lost(), left)
				}
				held.release()
				if left := cluster.left(t); len(left) != 0 {
					t.Errorf("after it has ended: left %v", left)
				}
			})
		})
	}
}

// TestLeaseWhosePermissionIsTakenAway: it may come back. Else the operation goes on without a lease, if nobody can then
// take it for dead by one.
func TestLeaseWhosePermissionIsTakenAway(t *testing.T) {
	for name, test := range map[string]struct {
		refused  []string
		back     time.Duration
		waits    bool
		leasesTo int
	}{
		"for a moment":       {[]string{"update", "delete"}, 25 * time.Second, false, 1},
		"for good":           {[]string{"update"}, time.Hour, false, 0},
		"and that to delete": {[]string{"update", "delete"}, time.Hour, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster := newLeaseCluster()
				held, err := cluster.take(t, "upgrade")
				if err != nil {
					t.Fatal(err)
				}
				back := time.Now().Add(test.back)
				cluster.refuses(func(verb string, _ *coordinationv1.Lease) error {
					if time.Now().Before(back) && slices.Contains(test.refused, verb) {
						return forbiddenLease
					}
					return nil
				})
				time.Sleep(2*leaseDuration + time.Second)
				if err, waits := held.change(t); waits != test.waits || !waits && err != nil || cluster.lost() != 0 {
					t.Errorf("a change: %v, lost %d times; want it to wait: %v", err, cluster.lost(), test.waits)
				}
				if left := cluster.left(t); len(left) != test.leasesTo {
					t.Errorf("left %v, want %d", left, test.leasesTo)
				}
				held.release()
			})
		})
	}
}

func TestLeaseRelease(t *testing.T) {
	t.Run("without permission to delete", func(t *testing.T) {
		cluster := newLeaseCluster()
		held, err := cluster.take(t, "upgrade")
		if err != nil {
			t.Fatal(err)
		}
		cluster.refuses(refuseVerb("delete", forbiddenLease))
		held.release()
		next, err := cluster.take(t, "test")
		if err != nil {
			t.Fatalf("the next operation: %v, want it to begin at once", err)
		}
		next.release()
	})
	t.Run("after an unanswered renewal", func(t *testing.T) {
		cluster := newLeaseCluster()
		held, err := cluster.take(t, "upgrade")
		if err != nil {
			t.Fatal(err)
		}
		deletions := 0
		cluster.refuses(func(verb string, _ *coordinationv1.Lease) error {
			if verb == "delete" {
				if deletions++; deletions == 1 {
					return conflictLease
				}
			}
			return nil
		})
		held.release()
		if left := cluster.left(t); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestLeaseCovers: a lease says of which record it's one.
func TestLeaseCovers(t *testing.T) {
	cluster := newLeaseCluster()
	held, err := cluster.take(t, "upgrade")
	if err != nil {
		t.Fatal(err)
	}
	defer held.release()
	check := func(record *release.Release, want bool, operations ...string) {
		t.Helper()
		if got := covers(&cluster.left(t)[0], record, operations...); got != want {
			t.Errorf("revision %d, operations %v: %v, want %v", record.Version, operations, got, want)
		}
	}
	check(pendingRecord(3), true, "rollback", "upgrade")
	check(pendingRecord(3), true)
	check(pendingRecord(3), false, "uninstall")
	check(pendingRecord(4), false, "upgrade")
	again := pendingRecord(3) // of a release that was installed anew
	again.Info.LastDeployed = again.Info.LastDeployed.Add(time.Hour)
	check(again, false, "upgrade")

	before := cluster.left(t)[0].Spec.AcquireTime.Time
	held.cover(pendingRecord(4)) // an atomic one that rolls back
	check(pendingRecord(3), false, "upgrade")
	check(pendingRecord(4), true, "upgrade")
	if after := cluster.left(t)[0].Spec.AcquireTime.Time; !after.After(before) {
		t.Errorf("began at %v for revision 4, at %v for revision 3", after, before)
	}
}

// TestLeaseOfWhoRecovers stays that of the operation that has died until its record says so.
func TestLeaseOfWhoRecovers(t *testing.T) {
	cluster := newLeaseCluster()
	died, err := cluster.take(t, "upgrade")
	if err != nil {
		t.Fatal(err)
	}
	died.handBack()
	died.release()
	dead := cluster.left(t)[0]
	for _, recovered := range []bool{false, true} {
		recovering, err := takeLease(t.Context(), &lease{client: cluster.leases(), now: time.Now}, pendingRecord(3), "recover", &dead)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cluster.take(t, "upgrade"); err == nil || !strings.Contains(err.Error(), "(recover by process ") {
			t.Errorf("meanwhile: got %v, want Helm's words and who it is", err)
		}
		if !recovered {
			recovering.handBack()
		}
		recovering.release()
		left := cluster.left(t)
		if recovered {
			if len(left) != 0 {
				t.Errorf("recovered: left %v", left)
			}
			continue
		}
		if len(left) != 1 || !covers(&left[0], pendingRecord(3), "upgrade") || remaining(&left[0], time.Now()) > 0 || !left[0].Spec.AcquireTime.Equal(dead.Spec.AcquireTime) {
			t.Errorf("not recovered: left %v, want the lease of the one that has died", left)
		}
	}
}
