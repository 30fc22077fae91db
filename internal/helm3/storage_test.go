package helm3

import (
	"errors"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// decorated returns an operation whose records go to a memory driver, and its
// decorated driver.
func decorated(parallelism int) (*Operation, *storage.Storage, *storage.Storage) {
	memory := storage.Init(driver.NewMemory())
	o := New(new(action.Configuration), Options{Parallelism: parallelism})
	o.records.storage = memory
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
