package helm3

import (
	"errors"
	"testing"

	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// TestSignalBeforeTheDeletion comes while Helm's Uninstall writes that it's about
// to delete: then it doesn't, and what it goes on to write is not written.
func TestSignalBeforeTheDeletion(t *testing.T) {
	for _, keepHistory := range []bool{false, true} {
		o, records, memory := decorated(1)
		o.preparing = false
		stop := make(chan struct{})
		o.opts.Stop, o.ctx = stop, t.Context()
		rel := newRelease(1, release.StatusUninstalling)
		if err := memory.Create(rel); err != nil {
			t.Fatal(err)
		}
		if err := records.Update(rel); err != nil {
			t.Fatal(err)
		}
		close(stop)
		client := &kubeClient{operation: o} // without a client, which a request would need
		if _, errs := client.DeleteWithPropagationPolicy(nil, ""); len(errs) != 1 || !errors.Is(errs[0], errInterrupted) {
			t.Errorf("errors of the deletion = %v, want errInterrupted", errs)
		}
		if keepHistory {
			rel.Info.Status = release.StatusUninstalled
			if err := records.Update(rel); !errors.Is(err, errInterrupted) {
				t.Errorf("error of the update = %v, want errInterrupted", err)
			}
		} else if _, err := records.Delete("shop", 1); !errors.Is(err, errInterrupted) {
			t.Errorf("error of the purge = %v, want errInterrupted", err)
		}
		if err := o.uninstallFailed(rel, o.cut); !errors.Is(err, errInterrupted) {
			t.Errorf("uninstallFailed() = %v, want errInterrupted", err)
		}
		got, err := memory.Get("shop", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got.Info.Status != release.StatusFailed || got.Info.Description != `Uninstallation of "shop" failed: context canceled: interrupted` {
			t.Errorf("status = %s, description = %q; want failed and why", got.Info.Status, got.Info.Description)
		}
	}
}

// TestSignalBetweenHooksAndResources: the pre-hooks have succeeded, and nothing is
// created or changed any more.
func TestSignalBetweenHooksAndResources(t *testing.T) {
	for status, request := range map[release.Status]func(*kubeClient) error{
		release.StatusPendingInstall:  func(c *kubeClient) error { _, err := c.Create(nil); return err },
		release.StatusPendingUpgrade:  func(c *kubeClient) error { _, err := c.Update(nil, nil, false); return err },
		release.StatusPendingRollback: func(c *kubeClient) error { _, err := c.Update(nil, nil, false); return err },
	} {
		o, records, memory := decorated(1)
		stop := make(chan struct{})
		o.opts.Stop, o.ctx = stop, t.Context()
		if err := memory.Create(newRelease(1, release.StatusDeployed)); err != nil {
			t.Fatal(err)
		}
		rel := newRelease(2, status)
		if err := records.Create(rel); err != nil {
			t.Fatal(err)
		}
		close(stop)
		if err := request(&kubeClient{operation: o}); !errors.Is(err, errInterrupted) {
			t.Errorf("%s: error = %v, want errInterrupted", status, err)
		}
		// As Helm's rollback does after a failure.
		rel.Info.Status = release.StatusFailed
		for _, r := range []*release.Release{newRelease(1, release.StatusSuperseded), rel} {
			if err := records.Update(r); err != nil {
				t.Fatal(err)
			}
		}
		if first, second := statusOf(t, memory, 1), statusOf(t, memory, 2); first != "deployed" || second != "failed" {
			t.Errorf("%s: records are %s and %s, want deployed and failed", status, first, second)
		}
	}
}

// TestGivingUpKnowsWhatRuns: the record follows the hooks only from time to time,
// and doesn't say yet that the second one has begun.
func TestGivingUpKnowsWhatRuns(t *testing.T) {
	for _, test := range []struct {
		status release.Status
		owned  bool // else its tests run
		want   string
	}{
		{release.StatusPendingInstall, true, "failed"},
		{release.StatusDeployed, false, "deployed"},
		{release.StatusPendingUpgrade, false, "pending-upgrade"}, // somebody else upgrades it
	} {
		status, want := test.status, test.want
		o, _, memory := decorated(2)
		rel := newRelease(1, status)
		if test.owned {
			o.records.own(rel)
		}
		origin := map[*hooks.Hook]*release.Hook{}
		var all []*hooks.Hook
		for _, name := range []string{"a", "b", "c"} {
			rel.Hooks = append(rel.Hooks, &release.Hook{Name: name})
			all = append(all, &hooks.Hook{Name: name})
			origin[all[len(all)-1]] = rel.Hooks[len(all)-1]
		}
		if err := memory.Create(snapshot(rel)); err != nil {
			t.Fatal(err)
		}
		r := newRecorder(rel, origin, o.records.update, func(string, ...any) {})
		o.setRecorder(r)
		r.Observe(started(all[0]))
		r.Observe(started(all[1]))
		if err := o.GiveUp(); err != nil {
			t.Fatal(err)
		}
		r.finish()
		got, err := memory.Get("shop", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got.Info.Status.String() != want {
			t.Errorf("%s: status = %s, want %s", status, got.Info.Status, want)
		}
		for i, want := range []release.HookPhase{release.HookPhaseUnknown, release.HookPhaseUnknown, ""} {
			if got := got.Hooks[i].LastRun.Phase; got != want {
				t.Errorf("%s: phase of hook %d = %q, want %q", status, i, got, want)
			}
		}
	}
}
