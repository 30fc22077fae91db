package helm3

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// began is when the operation did that has died.
var began = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// ranHook is a hook with a run that the record tells of; a phase of "" is none.
func ranHook(name string, phase release.HookPhase, started time.Time, events ...release.HookEvent) *release.Hook {
	h := &release.Hook{Name: name, Kind: "Job", Events: events}
	if phase != "" {
		h.LastRun = release.HookExecution{Phase: phase, StartedAt: helmtime.Time{Time: started}}
	}
	return h
}

// TestSuspects are the hooks of which a record may not say what became of them.
func TestSuspects(t *testing.T) {
	before, after := began.Add(-time.Hour), began.Add(time.Second)
	all := func() []*release.Hook {
		return []*release.Hook{
			ranHook("ended", release.HookPhaseSucceeded, after, release.HookPreUpgrade),
			ranHook("ended-before", release.HookPhaseSucceeded, before, release.HookPreUpgrade),
			ranHook("runs", release.HookPhaseRunning, after, release.HookPreUpgrade),
			ranHook("runs-twice", release.HookPhaseSucceeded, after, release.HookPreUpgrade, release.HookPostUpgrade),
			ranHook("unrecorded", "", after, release.HookPostUpgrade),
			ranHook("test", release.HookPhaseSucceeded, before, release.HookTest),
			ranHook("deletes", "", after, release.HookPreDelete),
		}
	}
	for name, test := range map[string]struct {
		status release.Status
		hooks  []*release.Hook
		tested time.Time
		want   []string
	}{
		"an upgrade":   {release.StatusPendingUpgrade, all(), time.Time{}, []string{"ended-before", "runs", "runs-twice", "unrecorded"}},
		"a rollback":   {release.StatusPendingRollback, all(), time.Time{}, nil},
		"an uninstall": {release.StatusUninstalling, all(), time.Time{}, []string{"deletes"}},
		"tests that the record tells of": {
			release.StatusDeployed, []*release.Hook{ranHook("a", release.HookPhaseRunning, after, release.HookTest), ranHook("b", "", after, release.HookTest)},
			time.Time{}, []string{"a", "b"},
		},
		"tests that it doesn't tell of": {release.StatusDeployed, all()[5:], began, []string{"test"}},
		"nothing":                       {release.StatusDeployed, all()[5:], time.Time{}, nil},
	} {
		rel := newRelease(1, test.status, test.hooks...)
		rel.Info.LastDeployed.Time, rel.Info.Deleted.Time = began, began
		got := suspectsOf(rel, test.tested)
		var names []string
		for _, h := range got.hooks {
			names = append(names, h.Name)
		}
		if !slices.Equal(names, test.want) {
			t.Errorf("%s: got %v, want %v", name, names, test.want)
		}
	}
}

// TestSettle: what is recorded of a hook is what was found, or what is known to have been.
func TestSettle(t *testing.T) {
	created := began.Add(10 * time.Second)
	ended := created.Add(time.Minute)
	runs := finding{Found: &hooks.Found{CreatedAt: created}}
	done := finding{Found: &hooks.Found{CreatedAt: created, EndedAt: ended}}
	failed := finding{Found: &hooks.Found{CreatedAt: created, EndedAt: ended, Err: errors.New("BackoffLimitExceeded")}}
	for name, test := range map[string]struct {
		recorded release.HookPhase // since the operation began
		found    finding
		want     release.HookPhase // "": as it was
		mayRun   bool
	}{
		"never ran":                     {"", finding{}, "", false},
		"ran without a record":          {"", done, release.HookPhaseSucceeded, false},
		"runs":                          {release.HookPhaseRunning, runs, release.HookPhaseUnknown, true},
		"has failed":                    {release.HookPhaseRunning, failed, release.HookPhaseFailed, false},
		"is gone":                       {release.HookPhaseRunning, finding{}, release.HookPhaseUnknown, false},
		"may not be looked at":          {release.HookPhaseRunning, finding{denied: true}, release.HookPhaseUnknown, true},
		"had ended, and is gone":        {release.HookPhaseSucceeded, finding{}, "", false},
		"had ended":                     {release.HookPhaseSucceeded, done, "", false},
		"had ended, and runs again":     {release.HookPhaseSucceeded, runs, release.HookPhaseUnknown, true},
		"had ended, and failed then":    {release.HookPhaseSucceeded, failed, release.HookPhaseFailed, false},
		"was unknown, and has ended":    {release.HookPhaseUnknown, done, release.HookPhaseSucceeded, false},
		"was unknown, and is still so":  {release.HookPhaseUnknown, runs, release.HookPhaseUnknown, true},
		"had ended, and can't be known": {release.HookPhaseSucceeded, finding{denied: true}, "", false},
	} {
		h := ranHook("a", test.recorded, began.Add(time.Second), release.HookPreUpgrade, release.HookPostUpgrade)
		before := h.LastRun
		got := settle(h, test.found, began)
		if test.want == "" {
			if got != nil || h.LastRun != before {
				t.Errorf("%s: got %+v, recorded %+v; want it as it was", name, got, h.LastRun)
			}
			continue
		}
		if got == nil || got.Phase != test.want || h.LastRun.Phase != test.want || got.Was != test.recorded || got.MayRun != test.mayRun {
			t.Errorf("%s: got %+v, recorded %+v; want %s, may run: %v", name, got, h.LastRun, test.want, test.mayRun)
		}
		anew := test.recorded == "" || hasEnded(before)
		if found := test.found.Found; found != nil && (!h.LastRun.CompletedAt.Equal(helmtime.Time{Time: found.EndedAt}) || anew != h.LastRun.StartedAt.Equal(helmtime.Time{Time: created})) {
			t.Errorf("%s: recorded %+v, want the times of the run that was found", name, h.LastRun)
		}
	}
}

// TestAwaitDeath: nobody is taken for dead who may be alive.
func TestAwaitDeath(t *testing.T) {
	for name, test := range map[string]struct {
		lease     func(t *testing.T, c *leaseCluster, rel *release.Release) // what becomes of it
		recorded  release.Status                                            // meanwhile; "": nothing
		dead      bool                                                      // by its lease
		err       string                                                    // "": it's over
		takesLong bool
	}{
		"no lease": {
			lease: func(*testing.T, *leaseCluster, *release.Release) {},
			err:   "since it held no lease",
		},
		"a lease that is renewed": {
			lease: func(t *testing.T, c *leaseCluster, _ *release.Release) {
				held, err := c.take(t, "upgrade")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(held.stop)
			},
			err: "another operation (install/upgrade/rollback) is in progress (upgrade by process ",
		},
		"a lease that expires": {
			lease: func(t *testing.T, c *leaseCluster, _ *release.Release) {
				held, err := c.take(t, "upgrade")
				if err != nil {
					t.Fatal(err)
				}
				held.freeze()
			},
			dead: true, takesLong: true,
		},
		"one of another operation": {
			lease: func(t *testing.T, c *leaseCluster, _ *release.Release) {
				held, err := c.take(t, "uninstall")
				if err != nil {
					t.Fatal(err)
				}
				held.freeze()
			},
			err: "since the lease that is left of an operation is another one's", takesLong: true,
		},
		"one that's deleted while the record is unfinished": {
			lease: func(t *testing.T, c *leaseCluster, _ *release.Release) {
				held, err := c.take(t, "upgrade")
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(renewInterval/2, held.release)
			},
			err: "since its lease was deleted meanwhile",
		},
		"one that ends in good order": {
			lease: func(t *testing.T, c *leaseCluster, _ *release.Release) {
				held, err := c.take(t, "upgrade")
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(renewInterval/2, held.release)
			},
			recorded: release.StatusDeployed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster := newLeaseCluster()
				o, _, memory := decorated(8)
				o.cfg.Releases = memory
				o.leases = func(string) (coordination.LeaseInterface, error) { return cluster.leases(), nil }
				rel := pendingRecord(3)
				stored := snapshot(rel)
				if test.recorded != "" {
					stored.Info.Status = test.recorded
				}
				if err := memory.Create(stored); err != nil {
					t.Fatal(err)
				}
				test.lease(t, cluster, rel)
				begin := time.Now()
				dead, _, err := o.awaitDeath(rel, suspectsOf(rel, time.Time{}), RecoverOptions{Tell: func(string, ...any) {}})
				if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				if (dead != nil) != test.dead {
					t.Errorf("got the lease %v of the operation, want it: %v", dead, test.dead)
				}
				if took := time.Since(begin); test.takesLong != (took >= leaseDuration-time.Second) {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestDescriptionOfWhatWasFoundSince: what a description said of hooks that ran is no more true once somebody has looked.
func TestDescriptionOfWhatWasFoundSince(t *testing.T) {
	for description, want := range map[string]string{
		"Install complete": "Install complete",
		"failed pre-install: context canceled: interrupted; still running: Job/a":             "failed pre-install: context canceled: interrupted",
		"context canceled: interrupted; still running: Job/a, Job/b; hooks not started: 1":    "context canceled: interrupted; hooks not started: 1",
		"2 errors occurred:\n\t* interrupted; still running: Job/a\n\t* job b failed: no\n\n": "2 errors occurred:\n\t* interrupted\n\t* job b failed: no",
	} {
		if got := withoutRunning(description); got != want {
			t.Errorf("%q became %q, want %q", description, got, want)
		}
	}
}
