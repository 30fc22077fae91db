package helm3

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	helmtime "helm.sh/helm/v3/pkg/time"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// decorated returns an operation whose records go to a memory driver, and its
// decorated driver.
func decorated(parallelism int) (*Operation, *storage.Storage, *storage.Storage) {
	memory := storage.Init(driver.NewMemory())
	o := New(new(action.Configuration), Options{Parallelism: parallelism})
	o.records.storage = memory
	o.ctx, o.cancel = context.WithCancelCause(context.Background())
	o.leases = func(namespace string) (coordination.LeaseInterface, error) {
		leases := fake.NewClientset()
		leases.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(coordinationv1.Resource("leases"), "any", nil)
		})
		return leases.CoordinationV1().Leases(namespace), nil
	}
	o.cfg.Log = func(string, ...any) {}
	o.preparing = true
	return o, storage.Init(&storageDriver{Driver: memory.Driver, operation: o}), memory
}

func newRelease(version int, status release.Status, hooks ...*release.Hook) *release.Release {
	return &release.Release{Name: "shop", Version: version, Info: &release.Info{Status: status}, Hooks: hooks}
}

func statusOf(t *testing.T, records *storage.Storage, version int) string {
	t.Helper()
	rel, err := records.Get("shop", version)
	if err != nil {
		return err.Error()
	}
	return string(rel.Info.Status)
}

func badHook(event release.HookEvent) *release.Hook {
	return &release.Hook{Name: "bad", Kind: "Job", Path: "chart/templates/bad.yaml", Events: []release.HookEvent{event},
		Manifest: "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: bad\n  annotations:\n    parallel-hooks/slots: many\n"}
}

// TestRefusalLeavesRecordsAsTheyWere, also where a release would have taken the
// place of another, and for hooks of any event.
func TestRefusalLeavesRecordsAsTheyWere(t *testing.T) {
	for _, event := range []release.HookEvent{release.HookPreInstall, release.HookPostInstall, release.HookPreDelete} {
		_, records, memory := decorated(8)
		old := newRelease(1, release.StatusFailed)
		if err := memory.Create(old); err != nil {
			t.Fatal(err)
		}
		// As Helm's replaceRelease does.
		superseded := newRelease(1, release.StatusSuperseded)
		if err := records.Update(superseded); err != nil {
			t.Fatal(err)
		}
		err := records.Create(newRelease(2, release.StatusPendingInstall, badHook(event)))
		if err == nil || !strings.Contains(err.Error(), "parallel-hooks/slots") {
			t.Errorf("%s: error = %v, want one that names the annotation", event, err)
		}
		if got := statusOf(t, memory, 1); got != "failed" {
			t.Errorf("%s: the old release is %s, want it to be failed still", event, got)
		}
	}
}

func TestSupersededIsStoredWithTheNewRecord(t *testing.T) {
	_, records, memory := decorated(8)
	if err := memory.Create(newRelease(1, release.StatusFailed)); err != nil {
		t.Fatal(err)
	}
	if err := records.Update(newRelease(1, release.StatusSuperseded)); err != nil {
		t.Fatal(err)
	}
	if err := records.Create(newRelease(2, release.StatusPendingInstall)); err != nil {
		t.Fatal(err)
	}
	if old, now := statusOf(t, memory, 1), statusOf(t, memory, 2); old != "superseded" || now != "pending-install" {
		t.Errorf("records are %s and %s, want superseded and pending-install", old, now)
	}
}

func TestAbandonedOperationCreatesNoRecord(t *testing.T) {
	o, records, memory := decorated(1)
	if !o.Abandon() {
		t.Fatal("an operation without a record could not be abandoned")
	}
	if err := records.Create(newRelease(1, release.StatusPendingInstall)); !errors.Is(err, errInterrupted) {
		t.Errorf("error = %v, want errInterrupted", err)
	}
	if got := statusOf(t, memory, 1); got != driver.ErrReleaseNotFound.Error() {
		t.Errorf("a record was created, with status %s", got)
	}
}

// TestGivingUpRecordsTheTruth: the pending record is failed, hooks that ran are
// unknown, and the action has no say any more.
func TestGivingUpRecordsTheTruth(t *testing.T) {
	o, records, memory := decorated(1)
	rel := newRelease(1, release.StatusPendingInstall, &release.Hook{Name: "a"}, &release.Hook{Name: "b"})
	if err := records.Create(rel); err != nil {
		t.Fatal(err)
	}
	if o.Abandon() {
		t.Fatal("an operation with a record was abandoned")
	}
	running := snapshot(rel)
	running.Hooks[0].LastRun.Phase = release.HookPhaseSucceeded
	running.Hooks[1].LastRun.Phase = release.HookPhaseRunning
	if err := o.records.update(running); err != nil {
		t.Fatal(err)
	}
	if err := o.GiveUp(); err != nil {
		t.Fatal(err)
	}
	rel.Info.Status = release.StatusDeployed
	if err := records.Update(rel); !errors.Is(err, errInterrupted) {
		t.Errorf("a later update: error = %v, want errInterrupted", err)
	}
	got, err := memory.Get("shop", 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.Info.Status != release.StatusFailed || got.Info.Description != `Release "shop" failed: context canceled: interrupted` {
		t.Errorf("status = %s, description = %q; want failed and why", got.Info.Status, got.Info.Description)
	}
	if a, b := got.Hooks[0].LastRun.Phase, got.Hooks[1].LastRun.Phase; a != release.HookPhaseSucceeded || b != release.HookPhaseUnknown {
		t.Errorf("phases = %s, %s; want Succeeded, Unknown", a, b)
	}
}

// TestGivingUpEndsTheOwnRecord, though the last that was stored is another that is
// pending: the one that a failed rollback was meant to repair.
func TestGivingUpEndsTheOwnRecord(t *testing.T) {
	o, records, memory := decorated(1)
	o.ctx = t.Context()
	if err := memory.Create(newRelease(2, release.StatusPendingUpgrade)); err != nil {
		t.Fatal(err)
	}
	if err := records.Create(newRelease(3, release.StatusPendingRollback)); err != nil {
		t.Fatal(err)
	}
	if err := records.Update(newRelease(2, release.StatusPendingUpgrade)); err != nil {
		t.Fatal(err)
	}
	if err := o.GiveUp(); err != nil {
		t.Fatal(err)
	}
	if two, three := statusOf(t, memory, 2), statusOf(t, memory, 3); two != "pending-upgrade" || three != "failed" {
		t.Errorf("records are %s and %s, want pending-upgrade and failed", two, three)
	}
}

// TestGivingUpHasHelmsWords for every status that an operation can be left in.
func TestGivingUpHasHelmsWords(t *testing.T) {
	for status, want := range map[release.Status]string{
		release.StatusPendingInstall:  `Release "shop" failed: context canceled: interrupted`,
		release.StatusPendingUpgrade:  `Upgrade "shop" failed: context canceled: interrupted`,
		release.StatusPendingRollback: `Rollback "shop" failed: context canceled: interrupted`,
		release.StatusUninstalling:    `Uninstallation of "shop" failed: context canceled: interrupted`,
	} {
		o, records, memory := decorated(1)
		o.ctx = t.Context()
		rel := newRelease(1, status)
		if status == release.StatusUninstalling {
			o.preparing = false
			rel.Info.Deleted = helmtime.Now()
			if err := memory.Create(newRelease(1, release.StatusDeployed)); err != nil {
				t.Fatal(err)
			}
			if err := records.Update(rel); err != nil {
				t.Fatal(err)
			}
		} else if err := records.Create(rel); err != nil {
			t.Fatal(err)
		}
		if err := o.GiveUp(); err != nil {
			t.Fatal(err)
		}
		got, err := memory.Get("shop", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got.Info.Status != release.StatusFailed || got.Info.Description != want || !got.Info.Deleted.IsZero() {
			t.Errorf("%s: got %+v, want it failed, not deleted, and %q", status, got.Info, want)
		}
	}
}

// TestRefusalLeavesTheHistory that Helm would shorten to make room.
func TestRefusalLeavesTheHistory(t *testing.T) {
	_, records, memory := decorated(8)
	records.MaxHistory = 2
	for version := 1; version <= 2; version++ {
		if err := memory.Create(newRelease(version, release.StatusSuperseded)); err != nil {
			t.Fatal(err)
		}
	}
	if err := records.Create(newRelease(3, release.StatusPendingUpgrade, badHook(release.HookPreUpgrade))); err == nil {
		t.Fatal("a hook that can't be planned was accepted")
	}
	if got := statusOf(t, memory, 1); got != "superseded" {
		t.Errorf("after a refusal, revision 1: %s; want it to be there still", got)
	}
	if err := records.Create(newRelease(3, release.StatusPendingUpgrade)); err != nil {
		t.Fatal(err)
	}
	if got := statusOf(t, memory, 1); got != driver.ErrReleaseNotFound.Error() {
		t.Errorf("after the creation of revision 3, revision 1: %s; want it to be gone", got)
	}
}

// warnings keeps what an operation warns of.
type warnings []string

func (w *warnings) Observe(n hooks.Notice) {
	if n, ok := n.(hooks.ClusterWarned); ok {
		*w = append(*w, n.Message)
	}
}

// TestOldMistakesKeepNobodyFromGoingBack: hooks with annotations that can't be followed, which plain Helm has recorded, run
// as Helm runs them. Of those that don't run nothing is said.
func TestOldMistakesKeepNobodyFromGoingBack(t *testing.T) {
	for bad, want := range map[release.HookEvent]warnings{
		release.HookPreInstall: nil,
		release.HookPreRollback: {`the hooks of pre-rollback run one after another, as in Helm: hook Job/bad (chart/templates/bad.yaml): ` +
			`annotation parallel-hooks/slots: "many": must be an integer of at least 1, or "all"`},
	} {
		o, records, _ := decorated(8)
		var got warnings
		o.opts.Observer = &got
		rel := newRelease(2, release.StatusPendingRollback, badHook(bad))
		if err := records.Create(rel); err != nil {
			t.Errorf("with a bad hook of %s: %v", bad, err)
			continue
		}
		all, err := o.hooksOf(rel)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := o.newPlan(all, release.HookPreRollback)
		if err != nil || plan.Serial() != (bad == release.HookPreRollback) {
			t.Errorf("with a bad hook of %s: got the plan %+v and %v", bad, plan, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("with a bad hook of %s: warnings %q, want %q", bad, got, want)
		}
	}
}

// TestFailedPreHooksLeaveTheRunningRevision as it is, though Helm's rollback
// supersedes it.
func TestFailedPreHooksLeaveTheRunningRevision(t *testing.T) {
	for _, untouched := range []bool{true, false} {
		o, records, memory := decorated(1)
		o.ctx = t.Context()
		if err := memory.Create(newRelease(1, release.StatusDeployed)); err != nil {
			t.Fatal(err)
		}
		target := newRelease(2, release.StatusPendingRollback)
		if err := records.Create(target); err != nil {
			t.Fatal(err)
		}
		o.untouched = untouched
		target.Info.Status = release.StatusFailed
		for _, rel := range []*release.Release{newRelease(1, release.StatusSuperseded), target} {
			if err := records.Update(rel); err != nil {
				t.Fatal(err)
			}
		}
		want := "superseded"
		if untouched {
			want = "deployed"
		}
		if one, two := statusOf(t, memory, 1), statusOf(t, memory, 2); one != want || two != "failed" {
			t.Errorf("resources untouched: %v: revisions are %s and %s, want %s and failed", untouched, one, two, want)
		}
	}
}

// TestUndoingIsNotStopped by the signal that made it necessary, but not begun
// after one that wants to leave at once.
func TestUndoingIsNotStopped(t *testing.T) {
	for _, leave := range []bool{false, true} {
		o, records, memory := decorated(1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop := make(chan struct{})
		o.ctx, o.opts.Stop = ctx, stop
		upgraded := newRelease(1, release.StatusPendingUpgrade)
		if err := records.Create(upgraded); err != nil {
			t.Fatal(err)
		}
		close(stop)
		upgraded.Info.Status = release.StatusFailed
		if err := records.Update(upgraded); err != nil {
			t.Fatal(err)
		}
		if leave {
			cancel()
		}
		err := records.Create(newRelease(2, release.StatusPendingRollback))
		if leave {
			if got := statusOf(t, memory, 2); !errors.Is(err, errInterrupted) || got != driver.ErrReleaseNotFound.Error() {
				t.Errorf("after a second signal: error = %v, record: %s; want errInterrupted and none", err, got)
			}
		} else if err != nil || o.stopped() {
			t.Errorf("after a first signal: error = %v, stopped: %v; want it to go on", err, o.stopped())
		}
	}
}

// TestInterruptedUninstallationIsNotPurged: what Helm's action records after it
// was cut short isn't true.
func TestInterruptedUninstallationIsNotPurged(t *testing.T) {
	o, records, memory := decorated(1)
	o.preparing = false
	if err := memory.Create(newRelease(1, release.StatusDeployed)); err != nil {
		t.Fatal(err)
	}
	rel := newRelease(1, release.StatusUninstalling)
	if err := records.Update(rel); err != nil {
		t.Fatal(err)
	}
	if o.records.finished() {
		t.Error("an uninstallation under way counts as finished")
	}
	o.cut = errInterrupted
	if err := records.Update(newRelease(1, release.StatusUninstalled)); !errors.Is(err, errInterrupted) {
		t.Errorf("update: error = %v, want errInterrupted", err)
	}
	if _, err := records.Delete("shop", 1); !errors.Is(err, errInterrupted) {
		t.Errorf("purge: error = %v, want errInterrupted", err)
	}
	if got := statusOf(t, memory, 1); got != "uninstalling" {
		t.Errorf("status = %s, want uninstalling", got)
	}
	o.cut = nil
	if _, err := records.Delete("shop", 1); err != nil || !o.records.finished() {
		t.Errorf("purge: error = %v, finished: %v; want neither an error nor an unfinished record", err, o.records.finished())
	}
}

func TestGivingUpAnEndedOperationChangesNothing(t *testing.T) {
	o, records, memory := decorated(1)
	rel := newRelease(1, release.StatusPendingInstall)
	if err := records.Create(rel); err != nil {
		t.Fatal(err)
	}
	rel.Info.Status = release.StatusDeployed
	if err := records.Update(rel); err != nil {
		t.Fatal(err)
	}
	if err := o.GiveUp(); err != nil {
		t.Fatal(err)
	}
	if got := statusOf(t, memory, 1); got != "deployed" {
		t.Errorf("status = %s, want deployed", got)
	}
}

// failingDriver fails to write while err is set.
type failingDriver struct {
	driver.Driver
	err error
}

func (d *failingDriver) Create(key string, rel *release.Release) error {
	if d.err != nil {
		return d.err
	}
	return d.Driver.Create(key, rel)
}

func (d *failingDriver) Update(key string, rel *release.Release) error {
	if d.err != nil {
		return d.err
	}
	return d.Driver.Update(key, rel)
}

// TestRecordThatCouldNotBeWritten is said if it lacks something in the end.
func TestRecordThatCouldNotBeWritten(t *testing.T) {
	o, records, memory := decorated(8)
	failing := &failingDriver{Driver: memory.Driver, err: errors.New("no answer")}
	o.opts.Namespace = "prod"
	o.records.storage.Driver = failing
	records.Driver.(*storageDriver).Driver = failing

	if err := records.Create(newRelease(1, release.StatusPendingInstall)); err == nil {
		t.Fatal("created although the storage doesn't answer")
	}
	if err := o.complete("shop", nil); err != nil {
		t.Errorf("a record that Helm couldn't create: %v, want it left to Helm", err)
	}
	failing.err = nil
	o.preparing = true
	rel := newRelease(1, release.StatusPendingInstall)
	if err := records.Create(rel); err != nil {
		t.Fatal(err)
	}
	failing.err = errors.New("no answer")
	rel.Info.Status = release.StatusDeployed
	if err := records.Update(rel); err == nil {
		t.Fatal("written although the storage doesn't answer")
	}
	if err := o.complete("shop", nil); err == nil || !strings.Contains(err.Error(), "complete, but the record of revision 1 could not be written: no answer; see helm status shop and helm parallel-hooks recover shop --namespace prod") {
		t.Errorf("a record that isn't written: got %v", err)
	}
	failing.err = nil
	if err := records.Update(rel); err != nil {
		t.Fatal(err)
	}
	if err := o.complete("shop", nil); err != nil {
		t.Errorf("a record that was written at last: got %v", err)
	}
}

// TestOperationTakenForDead writes nothing more, and says so if its record lacks something.
func TestOperationTakenForDead(t *testing.T) {
	for _, ended := range []bool{false, true} {
		o, records, memory := decorated(8)
		rel := newRelease(1, release.StatusPendingInstall)
		if err := records.Create(rel); err != nil {
			t.Fatal(err)
		}
		if ended {
			rel.Info.Status = release.StatusDeployed
			if err := records.Update(rel); err != nil {
				t.Fatal(err)
			}
		}
		o.lost()
		if err := o.ctx.Err(); err == nil || !errors.Is(context.Cause(o.ctx), errLeaseLost) {
			t.Errorf("hooks go on: %v", err)
		}
		err := o.complete("shop", nil)
		if ended != (err == nil) || !ended && !errors.Is(err, errLeaseLost) {
			t.Errorf("ended before: %v, error %v", ended, err)
		}
		if err := records.Update(newRelease(1, release.StatusSuperseded)); err == nil || statusOf(t, memory, 1) == "superseded" {
			t.Errorf("written by an operation that was taken for dead: %v", err)
		}
	}
}
