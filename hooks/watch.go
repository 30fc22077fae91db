package hooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	"k8s.io/utils/ptr"
)

// sharedWatch is the one watch on a resource in a namespace that all hooks of a
// run share. It begins at a resource version that a create or delete has
// returned, so that no list is needed, and keeps the states of those objects only
// that somebody waits for. Of what else lives in the namespace it's told changes
// alone, and drops them.
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
	trouble  error                                 // why there's no connection; nil if there is one

	// suspect is told of connections that brought nothing to their ends.
	suspect   chan struct{}
	warn      func(message string) // may be nil
	mustWatch bool                 // reading instead is no way out
}

// subscription is the interest of one hook in the objects of one name. It begins
// before the object is created or deleted, so that no event can be missed.
type subscription struct {
	watch *sharedWatch
	name  string
	// untilGone says that it's no matter how the objects end.
	untilGone bool
	// changed is closed, and replaced, when states or the watch's error
	// change. Both fields are guarded by watch.mu.
	changed chan struct{}
	states  map[types.UID]state
}

// state is what is known of an object.
type state struct {
	// object is how it was last seen. What has been deleted stays, since its
	// end may have come right before.
	object  *unstructured.Unstructured
	deleted bool
}

func newSharedWatch(resource dynamic.ResourceInterface, name string, warn func(string)) *sharedWatch {
	return &sharedWatch{
		resource: resource,
		name:     name,
		interest: map[string]map[*subscription]struct{}{},
		suspect:  make(chan struct{}, 1),
		warn:     warn,
	}
}

// subscribe is for those who wait for what becomes of objects.
func (w *sharedWatch) subscribe(name string) *subscription {
	return w.add(&subscription{watch: w, name: name})
}

// subscribeGone is for those who wait only until objects are gone.
func (w *sharedWatch) subscribeGone(name string) *subscription {
	return w.add(&subscription{watch: w, name: name, untilGone: true})
}

func (w *sharedWatch) add(s *subscription) *subscription {
	s.changed, s.states = make(chan struct{}), map[types.UID]state{}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.interest[s.name] == nil {
		w.interest[s.name] = map[*subscription]struct{}{}
	}
	w.interest[s.name][s] = struct{}{}
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

// begin makes the watch cover what happens to an object after it was seen like
// this. run starts the watch's goroutine if it hasn't been started.
func (s *subscription) begin(ctx context.Context, seen *unstructured.Unstructured, run func(since string)) error {
	w := s.watch
	version := seen.GetResourceVersion()
	w.record(s.name, seen.GetUID(), state{object: seen})
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
	// The watch began after the object was seen, so that something may have
	// happened in between.
	return w.refresh(ctx, s.name)
}

// refresh reads the object of a name and records what has become of those of
// that name which are waited for.
func (w *sharedWatch) refresh(ctx context.Context, name string) error {
	gone, err := w.read(ctx, name)
	for _, uid := range gone {
		w.record(name, uid, state{deleted: true})
	}
	return err
}

// read reads and records the object of a name, and returns which others of that name
// that are waited for are gone. That isn't recorded: how they ended may still be told.
func (w *sharedWatch) read(ctx context.Context, name string) ([]types.UID, error) {
	// Only what was known before the object is read can be found to be gone: an
	// answer may be older than an object that's created meanwhile.
	gone := map[types.UID]bool{}
	w.mu.Lock()
	for s := range w.interest[name] {
		for uid, known := range s.states {
			if !known.deleted {
				gone[uid] = true
			}
		}
	}
	w.mu.Unlock()
	current, err := w.resource.Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	if err == nil {
		delete(gone, current.GetUID())
		w.record(name, current.GetUID(), state{object: current})
	}
	return slices.Collect(maps.Keys(gone)), nil
}

// await returns when done says so of the object with the given uid.
func (s *subscription) await(ctx context.Context, uid types.UID, done func(state) (bool, error)) error {
	for {
		s.watch.mu.Lock()
		current, known := s.states[uid]
		changed, failed := s.changed, s.watch.err
		s.watch.mu.Unlock()
		if known {
			if ok, err := done(current); ok || err != nil {
				return err
			}
		}
		if failed != nil {
			return failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s.watch.mu.Lock()
			trouble := s.watch.trouble
			s.watch.mu.Unlock()
			if trouble != nil {
				return fmt.Errorf("%w: no connection to watch %s: %w", context.Cause(ctx), s.watch.name, trouble)
			}
			return context.Cause(ctx)
		}
	}
}

// record stores the state of an object for those who wait for one of its name.
func (w *sharedWatch) record(name string, uid types.UID, now state) {
	w.recordFor(name, uid, now, func(*subscription) bool { return true })
}

func (w *sharedWatch) recordFor(name string, uid types.UID, now state, whom func(*subscription) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.interest[name] {
		if whom(s) {
			s.states[uid] = s.states[uid].then(now)
			s.wake()
		}
	}
}

// then returns what is known of an object after both states were seen, in
// whatever order: an answer to a request may come later than the event.
func (a state) then(b state) state {
	known := state{object: a.object, deleted: a.deleted || b.deleted}
	if b.object != nil && (a.object == nil || !isNewer(a.object, b.object)) {
		known.object = b.object
	}
	return known
}

func isNewer(a, b *unstructured.Unstructured) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order > 0
}

// wake wakes all who wait. The caller holds watch.mu.
func (s *subscription) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
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

// resyncDelay is how long to wait before a watch that was lost for good begins
// anew, so that a server which loses it again and again is not flooded.
const resyncDelay = time.Second

// run watches from the resource version on until ctx is done. Lost connections
// are taken up again where they broke.
func (w *sharedWatch) run(ctx context.Context, since string) {
	// What it has to say of connections that it takes up again helps nobody.
	ctx = klog.NewContext(ctx, logr.Discard())
	err := w.follow(ctx, since)
	refused := 0 // in a row: a token may just have been replaced
	for ctx.Err() == nil {
		switch {
		case apierrors.IsForbidden(err) && w.mustWatch:
			w.fail(fmt.Errorf("watching %s: %w", w.name, err))
			return
		case apierrors.IsForbidden(err):
			w.poll(ctx)
			return
		case apierrors.IsUnauthorized(err):
			if refused++; refused > 1 {
				w.fail(fmt.Errorf("watching %s: %w", w.name, err))
				return
			}
		default:
			refused = 0
		}
		if since, err = w.resync(ctx); err == nil {
			err = w.follow(ctx, since)
		}
		select {
		case <-time.After(resyncDelay):
		case <-ctx.Done():
		}
	}
}

// pollInterval is how often objects are read that may not be watched, as Helm polls
// for deletions (pkg/kube/wait.go).
const pollInterval = 2 * time.Second

// poll reads the objects that are waited for again and again, where they may not be
// watched, until ctx is done or they may not be read either.
func (w *sharedWatch) poll(ctx context.Context) {
	if w.warn != nil {
		w.warn(fmt.Sprintf("no permission to watch %s: they are read every %v instead", w.name, pollInterval))
	}
	refused := 0 // in a row: a token may just have been replaced
	for ctx.Err() == nil {
		err := w.refreshAll(ctx)
		if refused++; !apierrors.IsUnauthorized(err) {
			refused = 0
		}
		if apierrors.IsForbidden(err) || refused > 1 {
			w.fail(fmt.Errorf("there is permission neither to watch nor to get %s: %w", w.name, err))
			return
		}
		w.noteConnection(err)
		select {
		case <-time.After(pollInterval):
		case <-ctx.Done():
		}
	}
}

// follow records the events after the resource version, until the server no
// longer has them or ctx is done.
func (w *sharedWatch) follow(ctx context.Context, since string) error {
	events, err := watchtools.NewRetryWatcherWithContext(ctx, since, w)
	if err != nil {
		return err
	}
	defer func() {
		events.Stop()
		<-events.Done()
	}()
	var again <-chan time.Time
	var missing map[types.UID]time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.suspect:
			again, missing = w.recheck(ctx, missing)
		case <-again:
			again, missing = w.recheck(ctx, missing)
		case event, open := <-events.ResultChan():
			if !open {
				return nil
			}
			object, ok := event.Object.(*unstructured.Unstructured)
			if event.Type == watch.Error || !ok {
				return apierrors.FromObject(event.Object)
			}
			w.record(object.GetName(), object.GetUID(), state{object, event.Type == watch.Deleted})
		}
	}
}

// WatchWithContext makes one connection for a RetryWatcher.
func (w *sharedWatch) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	events, err := openWatch(ctx, options, w.resource.Watch, w.suspected)
	w.noteConnection(err)
	return events, err
}

// suspected has the objects read that are waited for, since events may not reach us.
func (w *sharedWatch) suspected() {
	select {
	case w.suspect <- struct{}{}:
	default:
	}
}

// missingGrace is how long an object may be missing before it counts as deleted, after
// a connection of its watch was lost without a word: a whole connection, since the next
// one tells how the object ended, if that gets through.
const missingGrace = watchTimeout + watchGrace

// recheck reads the objects that are waited for. Missing ones are deleted for those who
// ask no more than that, and for all if they were missing for long by the times that the
// last recheck returned. It returns when to do so again, if that's of use, and since when
// objects are missing.
func (w *sharedWatch) recheck(ctx context.Context, before map[types.UID]time.Time) (<-chan time.Time, map[types.UID]time.Time) {
	missing := map[types.UID]time.Time{}
	for _, name := range w.names() {
		gone, err := w.read(ctx, name)
		if err != nil {
			if apierrors.IsForbidden(err) {
				return nil, before
			}
			return time.After(resyncDelay), before
		}
		for _, uid := range gone {
			since, known := before[uid]
			switch {
			case known && time.Since(since) >= missingGrace:
				w.record(name, uid, state{deleted: true})
				continue
			case !known:
				since = time.Now()
			}
			missing[uid] = since
			w.recordFor(name, uid, state{deleted: true}, func(s *subscription) bool { return s.untilGone })
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	longest := slices.MinFunc(slices.Collect(maps.Values(missing)), time.Time.Compare)
	return time.After(missingGrace - time.Since(longest)), missing
}

// noteConnection notes why there's no connection, or by nil that there is one.
func (w *sharedWatch) noteConnection(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = err
}

// resync re-reads the objects that are waited for, after events were lost, and
// returns the resource version from which to watch on.
func (w *sharedWatch) resync(ctx context.Context) (string, error) {
	// One object of the list is enough: it's asked for the version of the whole.
	list, err := w.resource.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return "", err
	}
	if err := w.refreshAll(ctx); err != nil {
		return "", err
	}
	return list.GetResourceVersion(), nil
}

// refreshAll reads all objects that are waited for.
func (w *sharedWatch) refreshAll(ctx context.Context) error {
	for _, name := range w.names() {
		if err := w.refresh(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// names returns the names of the objects that are waited for.
func (w *sharedWatch) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.interest))
}

const (
	// watchTimeout is how long one connection of a watch lasts. The server ends it
	// after that; the next one goes on where it ended.
	watchTimeout = 30 * time.Second
	// watchGrace is how much later than that a connection is taken for dead on which
	// the server was not heard to end it: a network may lose it without a word.
	watchGrace = 10 * time.Second
)

// openWatch makes one connection of a watch. suspected is called if it was dead when it
// ended; nil: that's of no interest. The refusal of a resource version that is too old
// is turned into the event by which the server as a rule says so, since a RetryWatcher
// repeats the former for ever.
func openWatch(ctx context.Context, options metav1.ListOptions, open func(context.Context, metav1.ListOptions) (watch.Interface, error), suspected func()) (watch.Interface, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout+watchGrace)
	options.TimeoutSeconds = ptr.To(int64(watchTimeout.Seconds()))
	events, err := open(ctx, options)
	connection := &boundedWatch{Interface: events, ctx: ctx, cancel: cancel, suspected: suspected}
	if err == nil {
		return connection, nil
	}
	connection.end()
	var expired apierrors.APIStatus
	if (apierrors.IsResourceExpired(err) || apierrors.IsGone(err)) && errors.As(err, &expired) {
		status := expired.Status()
		fake := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 1})
		fake.Error(&status)
		return fake, nil
	}
	return nil, err
}

// boundedWatch is one connection of a watch.
type boundedWatch struct {
	watch.Interface
	ctx       context.Context
	cancel    context.CancelFunc
	suspected func()
}

// Stop implements [watch.Interface].
func (w *boundedWatch) Stop() {
	w.end()
	w.Interface.Stop()
}

func (w *boundedWatch) end() {
	if w.suspected != nil && errors.Is(w.ctx.Err(), context.DeadlineExceeded) {
		w.suspected()
	}
	w.cancel()
}
