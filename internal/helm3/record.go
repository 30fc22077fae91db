package helm3

import (
	"slices"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// recordInterval is how often, at most, the record follows the hooks of a running
// tier. A write costs the whole release, so Helm's write per hook would make a
// large release slow. Where a write takes long they are further apart still, so
// that no more than one part in recordShare of the time is spent on them.
const (
	recordInterval = 5 * time.Second
	recordShare    = 20
)

// recorder writes what becomes of the hooks of an event into the release record:
// before the first hook is created, from time to time while something changes,
// after each tier and at the end. There is one write at a time, of a snapshot,
// and changes meanwhile go into the next one.
//
// It's an observer of the run. Between newRecorder and the return of finish
// nobody else may change the release.
type recorder struct {
	release *release.Release
	origin  map[*hooks.Hook]*release.Hook
	store   func(snapshot *release.Release) error
	log     func(format string, args ...any)

	stop    chan struct{}
	stopped sync.WaitGroup

	writing sync.Mutex // held during a write
	mu      sync.Mutex // guards what follows
	runs    map[*release.Hook]release.HookExecution
	reached map[*release.Hook]bool
	dirty   bool
}

// newRecorder returns a recorder with a goroutine that writes from time to time,
// until finish.
func newRecorder(rel *release.Release, origin map[*hooks.Hook]*release.Hook, store func(*release.Release) error, log func(string, ...any)) *recorder {
	r := &recorder{
		release: rel,
		origin:  origin,
		store:   store,
		log:     log,
		stop:    make(chan struct{}),
		runs:    map[*release.Hook]release.HookExecution{},
		reached: map[*release.Hook]bool{},
	}
	r.stopped.Go(func() {
		next := time.NewTimer(recordInterval)
		defer next.Stop()
		for {
			select {
			case <-next.C:
				begin := time.Now()
				r.flush()
				next.Reset(max(recordInterval, recordShare*time.Since(begin)))
			case <-r.stop:
				return
			}
		}
	})
	return r
}

// Observe implements [hooks.Observer].
func (r *recorder) Observe(n hooks.Notice) {
	switch n := n.(type) {
	case hooks.HookStarted:
		first := r.set(n.Hook, release.HookExecution{
			StartedAt: helmtime.Time{Time: n.At},
			Phase:     release.HookPhaseRunning,
		})
		if first {
			r.flush()
		}
	case hooks.HookEnded:
		execution := release.HookExecution{
			StartedAt:   helmtime.Time{Time: n.Result.StartedAt},
			CompletedAt: helmtime.Time{Time: n.Result.CompletedAt},
			Phase:       release.HookPhase(n.Result.Phase),
		}
		r.set(n.Result.Hook, execution)
	case hooks.TierEnded:
		r.flush()
	}
}

// set notes what became of a hook and reports whether it's the first of the run.
func (r *recorder) set(h *hooks.Hook, execution release.HookExecution) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	hook := r.origin[h]
	r.reached[hook] = true
	if execution.StartedAt.IsZero() {
		return false // Helm too leaves the last run as it was
	}
	first := len(r.runs) == 0
	r.runs[hook] = execution
	r.dirty = true
	return first
}

// flush writes the record if something has changed since the last time.
func (r *recorder) flush() {
	r.writing.Lock()
	defer r.writing.Unlock()

	r.mu.Lock()
	if !r.dirty {
		r.mu.Unlock()
		return
	}
	r.dirty = false
	now := r.state()
	r.mu.Unlock()

	if err := r.store(now); err != nil {
		r.log("warning: Failed to update release %s: %s", r.release.Name, err)
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
	}
}

// state returns the release with what became of its hooks so far. r.mu must be
// held.
func (r *recorder) state() *release.Release {
	now := snapshot(r.release)
	for i, h := range r.release.Hooks {
		r.apply(now.Hooks[i], h)
	}
	return now
}

// latest returns the release with what became of its hooks so far, nil if none
// has started. It's safe for concurrent use.
func (r *recorder) latest() *release.Release {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.runs) == 0 {
		return nil
	}
	return r.state()
}

// apply sets on a hook what became of the hook origin, of which it's a copy, or
// itself.
func (r *recorder) apply(hook, origin *release.Hook) {
	if execution, ok := r.runs[origin]; ok {
		hook.LastRun = execution
	}
	if r.reached[origin] && len(hook.DeletePolicies) == 0 {
		// Helm notes the default that it has followed (pkg/action/hooks.go).
		hook.DeletePolicies = slices.Clone(defaultDeletePolicies)
	}
}

var defaultDeletePolicies = []release.HookDeletePolicy{release.HookBeforeHookCreation}

// finish ends the recorder, writes what is not stored yet and sets what became of
// the hooks on the release itself, for what the action has to record next.
func (r *recorder) finish() {
	close(r.stop)
	r.stopped.Wait()
	r.flush()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.release.Hooks {
		r.apply(h, h)
	}
}
