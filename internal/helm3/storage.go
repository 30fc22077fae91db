package helm3

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	helmtime "helm.sh/helm/v3/pkg/time"
)

// storageDriver is Helm's storage driver, decorated: it lets the operation know
// which release is pending. It's used by one goroutine at a time.
type storageDriver struct {
	driver.Driver
	operation *Operation
	// held are writes that make room for a record: the release whose place it
	// takes is superseded (pkg/action/install.go, replaceRelease), old
	// revisions go (pkg/storage/storage.go, removeLeastRecent). They wait
	// until the record can be created.
	held []func() error
}

// Create implements [driver.Creator].
func (d *storageDriver) Create(key string, rel *release.Release) error {
	o := d.operation
	create := func() error { return d.Driver.Create(key, rel) }
	events, pending := eventsOf[rel.Info.Status]
	if !pending {
		return o.records.put(rel, create)
	}
	held := d.held
	d.held = nil
	if err := o.begin(rel, events); err != nil {
		return err
	}
	for _, write := range held {
		if err := o.records.write(write); err != nil {
			o.pending = nil
			return err
		}
	}
	o.records.own(rel)
	if err := o.records.put(rel, create); err != nil {
		o.records.forget(rel) // Helm says so itself
		o.pending = nil
		return err
	}
	o.recorded = true
	return nil
}

// Query implements [driver.Queryor].
func (d *storageDriver) Query(labels map[string]string) ([]*release.Release, error) {
	found, err := d.Driver.Query(labels)
	if o := d.operation; o.opts.History != nil && o.pending == nil && err == nil && labels["status"] == "" {
		o.opts.History(found)
	}
	return found, err
}

// Update implements [driver.Updator].
func (d *storageDriver) Update(key string, rel *release.Release) error {
	o := d.operation
	update := func() error { return d.Driver.Update(key, rel) }
	if o.preparing {
		d.held = append(d.held, update)
		return nil
	}
	if o.cut != nil {
		return errInterrupted
	}
	if rel.Info.Status == release.StatusUninstalling {
		o.uninstalling = rel
		if !o.deleted.IsZero() {
			rel.Info.Deleted = o.deleted // Helm sets it before the pre-delete hooks
		}
		o.records.own(rel)
	}
	if p := o.pending; p != nil {
		if p.release != rel && o.untouched {
			// The revision that runs is what it was, whatever the action
			// makes of it (pkg/action/rollback.go, performRollback).
			return nil
		}
		if _, pending := eventsOf[rel.Info.Status]; p.release == rel && !pending {
			o.pending = nil
		}
	}
	return o.records.put(rel, update)
}

// Delete implements [driver.Deletor].
func (d *storageDriver) Delete(key string) (*release.Release, error) {
	o := d.operation
	if o.preparing {
		d.held = append(d.held, func() error {
			_, err := d.Driver.Delete(key)
			if errors.Is(err, driver.ErrReleaseNotFound) {
				return nil // somebody else made that room
			}
			return err
		})
		return nil, nil
	}
	if o.cut != nil {
		return nil, errInterrupted
	}
	return o.records.remove(func() (*release.Release, error) { return d.Driver.Delete(key) })
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
// operation's own as long as it says that the operation is under way, so that it
// can be ended whatever the operation does. It's safe for concurrent use.
type records struct {
	storage *storage.Storage // past the decorated driver

	mu         sync.Mutex       // held during a write
	owned      *release.Release // whose record tells of the operation; nil if none does
	unfinished *release.Release // that release as last stored; nil if it's finished
	closed     error            // why nothing is written any more; nil if something is
	unwritten  map[int]error    // why the last write of a revision has failed, where it has

	// merge returns what to store of a release, given its current record; nil: the
	// release as it is. Set before hooks run.
	merge func(current, rel *release.Release) *release.Release
}

// failedBecause are Helm's words for an operation that failed, by the status of
// its record. For an uninstallation Helm has none, since it leaves the record as
// it is.
var failedBecause = map[release.Status]string{
	release.StatusPendingInstall:  "Release %q failed: %s",
	release.StatusPendingUpgrade:  "Upgrade %q failed: %s",
	release.StatusPendingRollback: "Rollback %q failed: %s",
	release.StatusUninstalling:    "Uninstallation of %q failed: %s",
}

// own says which release's record tells of the operation. Another one may be
// unfinished as well, if somebody else's operation is, or was, under way.
func (r *records) own(rel *release.Release) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owned = rel
}

func (r *records) owns(rel *release.Release) bool { return same(r.owned, rel) }

// same reports whether both are the same revision.
func same(a, b *release.Release) bool {
	return a != nil && b != nil && a.Name == b.Name && a.Version == b.Version
}

// write does a write unless the operation was given up.
func (r *records) write(do func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil {
		return r.closed
	}
	return do()
}

// put does the write that stores rel.
func (r *records) put(rel *release.Release, store func() error) error {
	return r.write(func() error {
		if err := store(); err != nil {
			if r.unwritten == nil {
				r.unwritten = map[int]error{}
			}
			r.unwritten[rel.Version] = err
			return err
		}
		delete(r.unwritten, rel.Version)
		if !r.owns(rel) {
			return nil
		}
		r.unfinished = nil
		if failedBecause[rel.Info.Status] != "" {
			r.unfinished = snapshot(rel)
		}
		return nil
	})
}

// update stores rel past the decorated driver.
func (r *records) update(rel *release.Release) error {
	return r.put(rel, func() error { return r.store(rel) })
}

// store does the write for those who hold mu.
func (r *records) store(rel *release.Release) error {
	if r.merge == nil {
		return r.storage.Update(rel)
	}
	current, err := r.storage.Get(rel.Name, rel.Version)
	if err != nil {
		return err
	}
	return r.storage.Update(r.merge(current, rel))
}

// forget drops that the record of a revision could not be created.
func (r *records) forget(rel *release.Release) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unwritten, rel.Version)
}

// close has nothing written any more, because of err.
func (r *records) close(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = err
	}
}

// lacking returns why a record doesn't say what it should; nil if all do.
func (r *records) lacking() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(r.closed, errLeaseLost) && r.unfinished != nil {
		return r.closed
	}
	for _, version := range slices.Sorted(maps.Keys(r.unwritten)) {
		return fmt.Errorf("the record of revision %d could not be written: %w", version, r.unwritten[version])
	}
	return nil
}

// remove does the write that removes the release that it returns.
func (r *records) remove(remove func() (*release.Release, error)) (removed *release.Release, err error) {
	err = r.write(func() (err error) {
		removed, err = remove()
		if err == nil && removed != nil {
			delete(r.unwritten, removed.Version)
		}
		if err == nil && r.owns(removed) {
			r.unfinished = nil
		}
		return err
	})
	return removed, err
}

// finished reports whether no record says that an operation is under way.
func (r *records) finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unfinished == nil
}

// giveUp stores an unfinished record as failed, and nothing from then on. latest
// returns the state of a release whose hooks run, which is newer than what was
// stored; nil if none do.
func (r *records) giveUp(latest func() *release.Release) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil {
		return fmt.Errorf("nothing is written any more: %w", r.closed)
	}
	r.closed = errInterrupted
	failed := latest()
	if failed == nil && r.unfinished != nil {
		failed = snapshot(r.unfinished)
	}
	if failed == nil {
		return nil
	}
	for _, h := range failed.Hooks {
		if h.LastRun.Phase == release.HookPhaseRunning {
			h.LastRun.Phase = release.HookPhaseUnknown
		}
	}
	if r.owns(failed) { // not so where tests run
		fail(failed, errInterrupted)
	}
	return r.store(failed)
}

// fail marks an unfinished release as failed.
func fail(rel *release.Release, because error) {
	rel.Info.Deleted = helmtime.Time{}
	rel.SetStatus(release.StatusFailed, fmt.Sprintf(failedBecause[rel.Info.Status], rel.Name, because))
}
