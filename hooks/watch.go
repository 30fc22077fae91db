package hooks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/klog/v2"
)

// sharedWatch is the one watch on a resource in a namespace that all hooks of a
// run share. It begins at a resource version that a create or delete has
// returned, so that no list is needed, and keeps the states of those objects
// only that somebody waits for: what else lives in the namespace costs nothing.
type sharedWatch struct {
	resource dynamic.ResourceInterface
	// name is what is watched, for messages.
	name string

	mu sync.Mutex
	// since is the resource version at which the watch began; empty: it
	// hasn't begun.
	since    string
	interest map[string]map[*subscription]struct{} // by object name
	err      error                                 // why the watch can't go on
}

// subscription is the interest of one hook in the objects of one name. It begins
// before the object is created or deleted, so that no event can be missed.
type subscription struct {
	watch *sharedWatch
	name  string
	// changed holds a token when states or the watch's error changed.
	changed chan struct{}
	// states are the last known ones, guarded by watch.mu. A nil object has
	// been deleted.
	states map[types.UID]*unstructured.Unstructured
}

func newSharedWatch(resource dynamic.ResourceInterface, name string) *sharedWatch {
	return &sharedWatch{resource: resource, name: name, interest: map[string]map[*subscription]struct{}{}}
}

func (w *sharedWatch) subscribe(name string) *subscription {
	s := &subscription{watch: w, name: name, changed: make(chan struct{}, 1), states: map[types.UID]*unstructured.Unstructured{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.interest[name] == nil {
		w.interest[name] = map[*subscription]struct{}{}
	}
	w.interest[name][s] = struct{}{}
	return s
}

func (s *subscription) close() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	delete(s.watch.interest[s.name], s)
	if len(s.watch.interest[s.name]) == 0 {
		delete(s.watch.interest, s.name)
	}
}

// begin makes the watch cover what happens to an object after the given state of
// it. run starts the watch's goroutine if it hasn't been started.
func (s *subscription) begin(ctx context.Context, state *unstructured.Unstructured, run func(since string)) error {
	w := s.watch
	version := state.GetResourceVersion()
	w.record(s.name, map[types.UID]*unstructured.Unstructured{state.GetUID(): state})
	w.mu.Lock()
	if w.since == "" {
		w.since = version
		w.mu.Unlock()
		run(version)
		return nil
	}
	since := w.since
	w.mu.Unlock()

	if order, err := resourceversion.CompareResourceVersion(since, version); err == nil && order <= 0 {
		return nil
	}
	// The watch began after this state, so that something may have happened
	// in between.
	current, err := w.resource.Get(ctx, s.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		w.record(s.name, map[types.UID]*unstructured.Unstructured{state.GetUID(): nil})
	case err != nil:
		return err
	default:
		states := map[types.UID]*unstructured.Unstructured{current.GetUID(): current}
		if current.GetUID() != state.GetUID() {
			states[state.GetUID()] = nil
		}
		w.record(s.name, states)
	}
	return nil
}

// await returns when done says so of the object with the given uid. done is
// called with nil when the object has been deleted.
func (s *subscription) await(ctx context.Context, uid types.UID, done func(*unstructured.Unstructured) (bool, error)) error {
	for {
		s.watch.mu.Lock()
		state, known := s.states[uid]
		failed := s.watch.err
		s.watch.mu.Unlock()
		if known {
			if ok, err := done(state); ok || err != nil {
				return err
			}
		}
		if failed != nil {
			return failed
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// record stores states of the objects of a name for those who wait for them.
func (w *sharedWatch) record(name string, states map[types.UID]*unstructured.Unstructured) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.interest[name] {
		for uid, state := range states {
			if old, known := s.states[uid]; known && isNewer(old, state) {
				continue
			}
			s.states[uid] = state
		}
		s.wake()
	}
}

// isNewer reports whether the state a of an object is newer than b.
func isNewer(a, b *unstructured.Unstructured) bool {
	if a == nil || b == nil {
		return a == nil
	}
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order > 0
}

func (s *subscription) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (w *sharedWatch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	for _, all := range w.interest {
		for s := range all {
			s.wake()
		}
	}
}

// resyncDelay is how long to wait before the next attempt to begin anew after a
// watch was lost for good.
const resyncDelay = time.Second

// run watches from the resource version on until ctx is done. Lost connections
// are taken up again where they broke.
func (w *sharedWatch) run(ctx context.Context, since string) {
	// What it has to say of connections that it takes up again helps nobody.
	ctx = klog.NewContext(ctx, logr.Discard())
	for ctx.Err() == nil {
		err := w.follow(ctx, since)
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
			w.fail(fmt.Errorf("watching %s: %w", w.name, err))
			return
		}
		for {
			since, err = w.resync(ctx)
			if err == nil {
				break
			}
			select {
			case <-time.After(resyncDelay):
			case <-ctx.Done():
				return
			}
		}
	}
}

// follow records the events after the resource version, until the server no
// longer has them or ctx is done.
func (w *sharedWatch) follow(ctx context.Context, since string) error {
	events, err := watchtools.NewRetryWatcherWithContext(ctx, since, expiryAsEvent{w.resource})
	if err != nil {
		return err
	}
	defer func() {
		events.Stop()
		<-events.Done()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, open := <-events.ResultChan():
			if !open {
				return nil
			}
			object, ok := event.Object.(*unstructured.Unstructured)
			if event.Type == watch.Error || !ok {
				return apierrors.FromObject(event.Object)
			}
			state := object
			if event.Type == watch.Deleted {
				state = nil
			}
			w.record(object.GetName(), map[types.UID]*unstructured.Unstructured{object.GetUID(): state})
		}
	}
}

// resync re-reads the objects that are waited for, after events were lost, and
// returns the resource version from which to watch on.
func (w *sharedWatch) resync(ctx context.Context) (string, error) {
	// One object of the list is enough: it's asked for the version of the whole.
	list, err := w.resource.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	names := make([]string, 0, len(w.interest))
	for name := range w.interest {
		names = append(names, name)
	}
	w.mu.Unlock()
	for _, name := range names {
		current, err := w.resource.Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return "", err
		}
		states := map[types.UID]*unstructured.Unstructured{}
		w.mu.Lock()
		for s := range w.interest[name] {
			for uid := range s.states {
				states[uid] = nil // unless it's the one that is there
			}
		}
		w.mu.Unlock()
		if err == nil {
			states[current.GetUID()] = current
		}
		w.record(name, states)
	}
	return list.GetResourceVersion(), nil
}

// expiryAsEvent turns the refusal of a resource version that is too old into the
// event by which the server as a rule says so, since a RetryWatcher repeats the
// former for ever.
type expiryAsEvent struct{ dynamic.ResourceInterface }

func (w expiryAsEvent) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	events, err := w.Watch(ctx, options)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		status := err.(apierrors.APIStatus).Status()
		fake := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 1})
		fake.Error(&status)
		return fake, nil
	}
	return events, err
}
