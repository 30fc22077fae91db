package helm3

import (
	"errors"
	"fmt"
	"sync"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// storageDriver is Helm's storage driver, decorated: it lets the operation know
// which release is pending. It's used by one goroutine at a time.
type storageDriver struct {
	driver.Driver
	operation *Operation
	// superseded are updates that Helm makes before it creates the record of
	// a release which takes another's place (pkg/action/install.go,
	// replaceRelease). They wait until that can go ahead.
	superseded []func() error
}

// Create implements [driver.Creator].
func (d *storageDriver) Create(key string, rel *release.Release) error {
	o := d.operation
	events, pending := eventsOf[rel.Info.Status]
	if !pending {
		return o.records.write(func() error { return d.Driver.Create(key, rel) })
	}
	if err := o.begin(rel, events); err != nil {
		return err
	}
	for _, update := range d.superseded {
		if err := o.records.write(update); err != nil {
			return err
		}
	}
	d.superseded = nil
	create := func() error { return d.Driver.Create(key, rel) }
	if err := o.records.begin(snapshot(rel), create); err != nil {
		o.pending = nil
		return err
	}
	o.recorded = true
	return nil
}

// Update implements [driver.Updator].
func (d *storageDriver) Update(key string, rel *release.Release) error {
	o := d.operation
	update := func() error { return d.Driver.Update(key, rel) }
	if !o.recorded && o.uninstalling == nil && rel.Info.Status == release.StatusSuperseded {
		d.superseded = append(d.superseded, update)
		return nil
	}
	if rel.Info.Status == release.StatusUninstalling {
		o.uninstalling = rel
	}
	if p := o.pending; p != nil && p.release == rel {
		if _, pending := eventsOf[rel.Info.Status]; !pending {
			o.pending = nil
			return o.records.end(update)
		}
	}
	return o.records.write(update)
}

// snapshot returns a copy of a release that no later change of the release's
// status or hooks reaches.
func snapshot(rel *release.Release) *release.Release {
	copied := *rel
	info := *rel.Info
	copied.Info = &info
	copied.Hooks = make([]*release.Hook, len(rel.Hooks))
	for i, h := range rel.Hooks {
		hook := *h
		copied.Hooks[i] = &hook
	}
	return &copied
}

// records writes release records, one at a time, and knows the last state of the
// pending one, so that it can be ended whatever its operation does. It's safe for
// concurrent use.
type records struct {
	storage *storage.Storage // past the decorated driver

	mu      sync.Mutex       // held during a write
	pending *release.Release // as last stored; nil if no record is pending
	closed  bool             // nothing is written any more
}

// write does a write unless the operation was given up.
func (r *records) write(do func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errInterrupted
	}
	return do()
}

// begin does the write that creates the record of a pending release.
func (r *records) begin(pending *release.Release, create func() error) error {
	return r.write(func() error {
		err := create()
		if err == nil {
			r.pending = pending
		}
		return err
	})
}

// end does the write after which the record isn't pending any more.
func (r *records) end(update func() error) error {
	return r.write(func() error {
		err := update()
		if err == nil {
			r.pending = nil
		}
		return err
	})
}

// update stores a snapshot of the release whose hooks run.
func (r *records) update(rel *release.Release) error {
	return r.write(func() error {
		err := r.storage.Update(rel)
		if err == nil && r.pending != nil {
			r.pending = rel
		}
		return err
	})
}

// giveUp stores the pending record as failed, and nothing from then on.
func (r *records) giveUp() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("the operation was given up already")
	}
	r.closed = true
	if r.pending == nil {
		return nil
	}
	failed := snapshot(r.pending)
	for _, h := range failed.Hooks {
		if h.LastRun.Phase == release.HookPhaseRunning {
			h.LastRun.Phase = release.HookPhaseUnknown
		}
	}
	failed.SetStatus(release.StatusFailed, fmt.Sprintf("Release %q failed: %s", failed.Name, errInterrupted))
	return r.storage.Update(failed)
}
