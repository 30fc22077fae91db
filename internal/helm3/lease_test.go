package helm3

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := fake.NewClientset()
		leases := cluster.CoordinationV1().Leases("ns")
		taken := false // as the server says to the first holder from then on
		cluster.PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
			written := action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
			if taken && strings.HasPrefix(*written.Spec.HolderIdentity, "upgrade ") {
				return true, nil, apierrors.NewConflict(coordinationv1.Resource("leases"), written.Name, nil)
			}
			return false, nil, nil
		})
		take := func(what string, lost func()) (*lease, error) {
			return takeLease(t.Context(), leases, time.Now, "shop", what, lost)
		}

		losses := 0
		first, err := take("upgrade", func() { losses++ })
		if err != nil {
			t.Fatal(err)
		}
		// Renewed, so alive, however long it takes.
		time.Sleep(10 * time.Minute)
		if _, err := take("test", nil); err == nil || !strings.HasPrefix(err.Error(), "another operation (install/upgrade/rollback) is in progress (upgrade by process ") {
			t.Errorf("while one is alive: got %v, want Helm's words and who it is", err)
		}
		// Without a sign of life it's dead after a while, as if its process was killed.
		first.stop()
		first.renewal.Wait()
		time.Sleep(leaseDuration - renewInterval - time.Second)
		if _, err := take("test", nil); err == nil {
			t.Error("taken from an operation that may be alive")
		}
		time.Sleep(renewInterval + 2*time.Second)
		taken = true
		second, err := take("recover", nil)
		if err != nil {
			t.Fatalf("an operation without a sign of life: got %v, want its lease", err)
		}
		// It was not dead after all.
		go first.renew(t.Context(), func() { losses++ })
		time.Sleep(renewInterval + time.Second)
		synctest.Wait()
		if losses != 1 {
			t.Errorf("the one that was taken for dead learnt of it %d times, want once", losses)
		}
		second.release()
		if all, err := leases.List(t.Context(), metav1.ListOptions{}); err != nil || len(all.Items) != 0 {
			t.Errorf("left: %v, %v; want nothing", all.Items, err)
		}
	})
}

// TestLeaseWhoseRenewalWasNotAnswered: the next one meets a lease that isn't as it was last
// seen, but ours.
func TestLeaseWhoseRenewalWasNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := fake.NewClientset()
		leases := cluster.CoordinationV1().Leases("ns")
		updates, conflicts := 0, 0
		cluster.PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
			written := action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
			switch updates++; {
			case updates == 1:
				stored := written.DeepCopy()
				stored.ResourceVersion = "2"
				if err := cluster.Tracker().Update(coordinationv1.SchemeGroupVersion.WithResource("leases"), stored, "ns"); err != nil {
					t.Error(err)
				}
				return true, nil, context.DeadlineExceeded
			case written.ResourceVersion != "2":
				conflicts++
				return true, nil, apierrors.NewConflict(coordinationv1.Resource("leases"), written.Name, nil)
			}
			return false, nil, nil
		})
		losses := 0
		held, err := takeLease(t.Context(), leases, time.Now, "shop", "upgrade", func() { losses++ })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*renewInterval + time.Second)
		if updates != 5 || conflicts != 1 || losses != 0 {
			t.Errorf("%d updates, %d conflicts, lost %d times; want 5, 1, never", updates, conflicts, losses)
		}
		held.release()
	})
}

// TestLeaseWithoutPermission: an operation goes on without.
func TestLeaseWithoutPermission(t *testing.T) {
	for _, verb := range []string{"get", "create"} {
		cluster := fake.NewClientset()
		cluster.PrependReactor(verb, "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(coordinationv1.Resource("leases"), "any", nil)
		})
		got, err := takeLease(t.Context(), cluster.CoordinationV1().Leases("ns"), time.Now, "shop", "test", nil)
		if got != nil || err != nil {
			t.Errorf("without permission to %s: got %v, %v; want neither a lease nor an error", verb, got, err)
		}
		got.release()
	}
}
