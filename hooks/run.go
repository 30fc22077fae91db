package hooks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// drainTimeout is for how long no line may come of a log that's read to its end once
// all hooks have ended.
const drainTimeout = 10 * time.Second

// Runner runs plans. The zero value of each field but Cluster is fine. A Runner
// isn't changed by a run, so runs may share one.
type Runner struct {
	// Cluster is where the hooks run.
	Cluster Cluster
	// Observer is told what happens; nil: nobody is.
	Observer Observer
	// Timeout bounds the waiting for one hook's end, from its own start, and
	// that for one old object to be gone. Zero: no bound.
	Timeout time.Duration
	// KeepGoing lets the rest of a tier run after a hook of it has failed.
	// The event fails all the same and further tiers don't run.
	KeepGoing bool
	// Stop, once closed, keeps further hooks from starting. Those that run
	// are waited for. Nil: never.
	Stop <-chan struct{}
	// Logs takes the logs that hooks ask to be shown by their [LogPolicy],
	// each hook's as one text; nil: nobody.
	Logs LogSink
	// StreamLogs has Logs take what each container logs, line by line while
	// it runs, whatever the policies.
	StreamLogs bool
	// LogTail is how many last lines of a failed container's log are read.
	// In a serial plan nothing is found out about a failed hook if it's zero.
	LogTail int
	// FollowPods has [HookProgressed] tell what pods do, of hooks that have
	// run for FollowAfter. It costs a watch on the pods of Jobs in a
	// namespace, two on events, and for FollowAfter above zero a list per
	// hook.
	FollowPods  bool
	FollowAfter time.Duration
}

// Run runs the plan and returns the result of each of its hooks in plan order.
//
// It returns when all that it started has ended. The error is nil if all hooks
// succeeded, or failed as [Result.Ignored] says, and were deleted as their policies
// ask, else a [*RunError]. Cancel
// ctx to leave at once: hooks are then neither waited for nor deleted.
func (r *Runner) Run(ctx context.Context, plan *Plan) ([]Result, error) {
	x := &run{Runner: r, plan: plan, results: make([]Result, 0, plan.Len()), lost: map[*Hook]bool{}, begun: map[*Hook]bool{}}
	for step := range plan.steps() {
		x.results = append(x.results, Result{Hook: step.Hook})
	}

	following, unfollow := context.WithCancelCause(ctx)
	defer unfollow(nil)
	x.following = following
	x.observe(EventStarted{plan})
	first := 0
	for i, tier := range plan.Tiers {
		x.observe(TierStarted{plan.Event, i, tier.Weight})
		first = x.tier(ctx, tier, first)
		x.observe(TierEnded{plan.Event, i, tier.Weight})
		if x.failed.Load() || x.halted(ctx, nil) {
			break
		}
	}
	x.drain(unfollow)
	cleanUp := x.cleanUp(ctx)
	err := x.err(ctx, cleanUp)
	x.observe(EventEnded{plan.Event, x.results, err})
	return x.results, err
}

// run is one call of Run. The goroutine of Run owns its fields but for failed; the
// goroutines of hooks return their results over a channel.
type run struct {
	*Runner
	plan    *Plan
	results []Result
	stopped bool
	ended   int
	lost    map[*Hook]bool // what didn't end well, or wasn't started since that was needed
	// failed is set as soon as a hook has failed, before its pods are asked
	// why, so that no other hook starts meanwhile.
	failed atomic.Bool

	// begun are the hooks that run and are more than an old object that is deleted. A hook
	// begins under beginning, and then either is among them or sees that it must not.
	beginning sync.Mutex
	begun     map[*Hook]bool

	notices sync.Mutex // serialises Observe

	// followers tell of pods until their hooks have ended, and read logs a
	// little longer, at most until following is done.
	following context.Context
	followers sync.WaitGroup
	logged    atomic.Int64 // how many lines were told
}

func (x *run) observe(n Notice) {
	if x.Observer == nil {
		return
	}
	x.notices.Lock()
	defer x.notices.Unlock()
	x.Observer.Observe(n)
}

func (x *run) warn(h *Hook, format string, args ...any) {
	x.observe(HookWarned{x.plan.Event, h, fmt.Sprintf(format, args...)})
}

// halted reports whether no further hook may start. running are the hooks that
// run, by their place in the plan, for those who are told about it.
func (x *run) halted(ctx context.Context, running map[int]*Hook) bool {
	if !x.stopped && x.told() {
		x.stopped = true
		still := make([]*Hook, 0, len(running))
		x.beginning.Lock()
		for _, i := range slices.Sorted(maps.Keys(running)) {
			if x.begun[running[i]] {
				still = append(still, running[i])
			}
		}
		x.beginning.Unlock()
		x.observe(Stopping{x.plan.Event, still, len(x.results) - x.ended - len(still)})
	}
	return x.stopped || ctx.Err() != nil
}

// begin reports whether a hook may be created now that its old object is gone. Meanwhile
// all may have been told to stop: then it was never started.
func (x *run) begin(h *Hook) bool {
	x.beginning.Lock()
	defer x.beginning.Unlock()
	x.begun[h] = !x.told() && (!x.failed.Load() || x.KeepGoing)
	return x.begun[h]
}

// told reports whether the run was told to stop.
func (x *run) told() bool {
	select {
	case <-x.Stop:
		return true
	default:
		return false
	}
}

// tier runs the stages of a tier whose first hook is x.results[first], and
// returns the index after its last.
func (x *run) tier(ctx context.Context, tier Tier, first int) int {
	slots := semaphore.NewWeighted(x.plan.slots())
	open := true
	for _, stage := range tier.Stages {
		if open {
			x.stage(ctx, stage, slots, x.results[first:first+len(stage.Steps)])
			open = !x.halted(ctx, nil) && (!x.failed.Load() || x.KeepGoing)
		}
		first += len(stage.Steps)
	}
	return first
}

// stage starts the steps of a stage as slots, limits and their order allow, and
// returns when all that were started have ended. It alone starts hooks and takes and
// frees slots, so a slot that becomes free goes to the first step that is ready, and
// no hook holds anything while it waits for something.
func (x *run) stage(ctx context.Context, stage Stage, slots *semaphore.Weighted, results []Result) {
	schedule := newSchedule(x.plan, stage, slots)
	running := map[int]*Hook{}
	ended := make(chan int)
	var workers sync.WaitGroup
	defer workers.Wait()

	for {
		if len(x.lost) > 0 {
			schedule.drop(x.loses)
		}
		for !x.halted(ctx, running) && (!x.failed.Load() || x.KeepGoing) {
			i, ok := schedule.next()
			if !ok {
				break
			}
			step := stage.Steps[i]
			running[i] = step.Hook
			workers.Go(func() {
				results[i] = x.hook(ctx, step)
				ended <- i
			})
		}
		if len(running) == 0 {
			return
		}
		stop := x.Stop
		if x.stopped {
			stop = nil
		}
		select {
		case i := <-ended:
			x.beginning.Lock()
			delete(x.begun, running[i])
			x.beginning.Unlock()
			delete(running, i)
			schedule.ended(i)
			x.ended++
			if results[i].Phase != Succeeded && !results[i].Ignored {
				x.lost[results[i].Hook] = true
			}
		case <-stop:
		}
	}
}

// loses reports whether a step can't start any more, since what it needs is lost, and
// then notes that it's lost as well.
func (x *run) loses(step Step) bool {
	lost := slices.ContainsFunc(step.Needs, func(h *Hook) bool { return x.lost[h] })
	if lost {
		x.lost[step.Hook] = true
	}
	return lost
}

// hook runs one hook to its end.
func (x *run) hook(ctx context.Context, step Step) (result Result) {
	h := step.Hook
	result.Hook = h
	fail := func(op string, err error) Result {
		result.Phase = Failed
		var ended *EndedBadly
		var unanswered *NoAnswerError
		switch {
		case ctx.Err() != nil && !errors.As(err, &ended), op == OpCreate && !x.plan.Serial() && errors.As(err, &unanswered) && unanswered.Acted:
			// Whether it goes on is not for us to know.
			result.Phase = Unknown
		case !result.StartedAt.IsZero():
			result.CompletedAt = time.Now()
		}
		result.Ignored = step.IgnoreFailure && result.Phase == Failed
		if !result.Ignored {
			x.failed.Store(true)
		}
		result.Err = &HookError{Event: x.plan.Event, Hook: h, Op: op, Err: err, Timeout: step.Timeout}
		if !result.StartedAt.IsZero() {
			result.Err.After = time.Since(result.StartedAt)
		}
		return result
	}

	var err error
	if h.Deletes(DeleteBeforeCreation) {
		err = x.delete(ctx, h)
	}
	if ctx.Err() != nil || err == nil && !x.begin(h) {
		return result
	}
	defer func() { x.observe(HookEnded{x.plan.Event, result}) }()
	if err != nil {
		return fail(OpDelete, err)
	}

	result.StartedAt = time.Now()
	x.observe(HookStarted{x.plan.Event, h, result.StartedAt})
	waitCtx, cancel := bounded(ctx, cmp.Or(step.Timeout, x.Timeout))
	defer cancel()
	execution, err := x.Cluster.Create(waitCtx, h)
	if err != nil {
		return fail(OpCreate, withCause(waitCtx, err))
	}
	ended := make(chan struct{})
	x.follow(ctx, h, execution, ended)
	err = execution.Wait(waitCtx)
	close(ended)
	if errors.Is(err, ErrVanished) {
		x.warn(h, "%v; it counts as succeeded, as in Helm", err)
		err = nil
	}
	if err != nil {
		fail(OpWait, err)
		if ctx.Err() == nil {
			x.report(ctx, h, result.Err)
		}
		return result
	}
	result.CompletedAt = time.Now()
	result.Phase = Succeeded
	return result
}

// report finds out what a failed hook's pods said, while they still exist.
func (x *run) report(ctx context.Context, h *Hook, failure *HookError) {
	ctx, cancel := bounded(ctx, x.Timeout)
	defer cancel()
	tail := x.LogTail
	if slices.Contains(h.LogPolicies, LogFailed) {
		x.showLogs(ctx, h)
		tail = 0
	}
	if x.plan.Serial() && x.LogTail == 0 {
		// Helm says no more of a failure than its error, nor asks for more.
		return
	}
	findings, err := x.Cluster.Inspect(ctx, h, tail)
	if err != nil {
		x.warn(h, "could not find out why it failed: %v", err)
	}
	failure.Findings = findings
}

func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, timeout, ErrTimeout)
}

func (x *run) delete(ctx context.Context, h *Hook) error {
	ctx, cancel := bounded(ctx, x.Timeout)
	defer cancel()
	return withCause(ctx, x.Cluster.Delete(ctx, h))
}

// withCause lets an error of a request that ended with its context say why that
// did.
func withCause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// follow begins to tell about a hook's pods, until it has ended.
func (x *run) follow(ctx context.Context, h *Hook, execution Execution, ended <-chan struct{}) {
	var f Follower
	after := x.FollowAfter
	if x.FollowPods {
		f.Activity = func(activity string) {
			x.notices.Lock()
			defer x.notices.Unlock()
			select {
			case <-ended: // which Observer may have been told already
			default:
				if x.Observer != nil {
					x.Observer.Observe(HookProgressed{x.plan.Event, h, activity})
				}
			}
		}
	}
	if x.StreamLogs && x.Logs != nil {
		f.Log = func(source LogSource, text []byte) {
			x.logged.Add(1)
			x.Logs.Log(source, text)
		}
		after = 0
	}
	if f.Activity == nil && f.Log == nil || !h.RunsToCompletion() {
		return
	}
	x.followers.Go(func() {
		select {
		case <-time.After(after):
		case <-ended:
			if f.Log == nil {
				return
			}
		case <-x.following.Done():
			return
		}
		if err := execution.Follow(x.following, ended, f); err != nil && ctx.Err() == nil {
			x.warn(h, "not all of its log could be read: %v", err)
		}
	})
}

// errSlowLog says that a log was left for no line of it came any more.
var errSlowLog = fmt.Errorf("nothing came for %v", drainTimeout)

// drain returns when all logs were read to their ends, or no line has come for some
// time.
func (x *run) drain(unfollow context.CancelCauseFunc) {
	drained := make(chan struct{})
	go func() {
		x.followers.Wait()
		close(drained)
	}()
	for {
		before := x.logged.Load()
		select {
		case <-drained:
			return
		case <-time.After(drainTimeout):
			if x.logged.Load() == before {
				unfollow(errSlowLog)
				<-drained
				return
			}
		}
	}
}

// showLogs shows the logs of a hook as one text, unless they were shown while it
// ran.
func (x *run) showLogs(ctx context.Context, h *Hook) {
	if x.Logs == nil || x.StreamLogs || !h.RunsToCompletion() {
		return
	}
	var text bytes.Buffer
	if err := x.Cluster.Logs(ctx, h, &text); err != nil {
		x.warn(h, "error outputting logs for hook failure: %v", err)
	}
	x.Logs.Log(LogSource{Hook: h}, text.Bytes())
}

// cleanUp shows logs and deletes hooks as their policies ask, once no hook runs
// any more, and returns what could not be deleted.
//
// The order is Helm's (pkg/action/hooks.go, execHook): after success from the
// last hook to the first; after a failure the failed ones, then those that had
// succeeded. In a parallel plan the hooks of one stage are deleted at once.
func (x *run) cleanUp(ctx context.Context) []*HookError {
	if ctx.Err() != nil {
		return nil
	}
	complete := !slices.ContainsFunc(x.results, func(r Result) bool { return r.Phase != Succeeded && !r.Ignored })
	var failed []*Hook
	succeeded := map[*Hook]bool{}
	for _, result := range x.results {
		switch {
		case result.Phase == Succeeded:
			succeeded[result.Hook] = true
		case result.Phase == Failed && result.Err.Op == OpWait:
			failed = append(failed, result.Hook)
		case result.Phase == Failed && x.plan.Serial():
			// Helm leaves everything where a hook could not be created.
			return nil
		}
	}
	tell := func(errs []*HookError) {
		for _, err := range errs {
			x.warn(err.Hook, "error deleting the hook resource on hook failure: %v", err.Err)
		}
	}
	tell(x.deleteAll(ctx, failed, func(h *Hook) bool { return h.Deletes(DeleteFailed) }))
	batches := x.batches()
	if complete {
		var errs []*HookError
		for _, batch := range batches {
			errs = append(errs, x.deleteAll(ctx, batch, func(h *Hook) bool {
				if succeeded[h] && slices.Contains(h.LogPolicies, LogSucceeded) {
					x.showLogs(ctx, h)
				}
				return succeeded[h] && h.Deletes(DeleteSucceeded)
			})...)
			if x.plan.Serial() && len(errs) > 0 {
				break // as Helm
			}
		}
		return errs
	}
	if x.plan.Serial() {
		slices.Reverse(batches)
	}
	for _, batch := range batches {
		errs := x.deleteAll(ctx, batch, func(h *Hook) bool {
			return succeeded[h] && h.Deletes(DeleteSucceeded)
		})
		tell(errs)
		if x.plan.Serial() && len(errs) > 0 {
			break // as Helm
		}
	}
	return nil
}

// batches returns the plan's hooks from the last to the first, in batches whose
// hooks may be deleted at once: the stages, less what is one object, or each hook
// by itself in a serial plan.
func (x *run) batches() [][]*Hook {
	var batches [][]*Hook
	for _, tier := range slices.Backward(x.plan.Tiers) {
		for _, stage := range slices.Backward(tier.Stages) {
			var batch []*Hook
			taken := map[string]bool{}
			for _, step := range slices.Backward(stage.Steps) {
				ids := step.Hook.identities()
				if len(batch) > 0 && (x.plan.Serial() || slices.ContainsFunc(ids, func(id string) bool { return taken[id] })) {
					batches = append(batches, batch)
					batch, taken = nil, map[string]bool{}
				}
				batch = append(batch, step.Hook)
				for _, id := range ids {
					taken[id] = true
				}
			}
			batches = append(batches, batch)
		}
	}
	return batches
}

// deleteAll deletes those of the hooks for which want says so, as many at once
// as there are slots.
func (x *run) deleteAll(ctx context.Context, all []*Hook, want func(*Hook) bool) []*HookError {
	slots := semaphore.NewWeighted(x.plan.slots())
	errs := make([]*HookError, len(all))
	var workers sync.WaitGroup
	for i, h := range all {
		if slots.Acquire(ctx, 1) != nil {
			break
		}
		workers.Go(func() {
			defer slots.Release(1)
			if !want(h) {
				return
			}
			if err := x.delete(ctx, h); err != nil {
				errs[i] = &HookError{Event: x.plan.Event, Hook: h, Op: OpCleanUp, Err: err}
			}
		})
	}
	workers.Wait()
	return slices.DeleteFunc(errs, func(e *HookError) bool { return e == nil })
}

// err returns the error of the run as a whole.
func (x *run) err(ctx context.Context, cleanUp []*HookError) error {
	e := &RunError{Event: x.plan.Event, Failures: cleanUp}
	for _, result := range x.results {
		if result.Ignored {
			continue
		}
		switch result.Phase {
		case Failed:
			e.Failures = append(e.Failures, result.Err)
		case Unknown:
			if ctx.Err() == nil { // it failed, as far as we can know
				e.Failures = append(e.Failures, result.Err)
				continue
			}
			e.Unknown = append(e.Unknown, result.Hook)
		case "":
			e.NotStarted = append(e.NotStarted, result.Hook)
		}
	}
	switch {
	case ctx.Err() != nil:
		e.Interrupted = context.Cause(ctx)
	case x.stopped:
		e.Interrupted = ErrStopped
	}
	if len(e.Failures) == 0 && len(e.Unknown) == 0 && len(e.NotStarted) == 0 && e.Interrupted == nil {
		return nil
	}
	return e
}

// schedule says which step of a stage starts next. It has a single user.
type schedule struct {
	plan    *Plan
	steps   []Step
	slots   *semaphore.Weighted // the tier's
	queue   *queue
	running []int // hooks, by index of [Plan.Limits]
}

func newSchedule(plan *Plan, stage Stage, slots *semaphore.Weighted) *schedule {
	after := make([][]int, len(stage.Steps))
	for i, step := range stage.Steps {
		after[i] = step.After
	}
	return &schedule{plan: plan, steps: stage.Steps, slots: slots, queue: newQueue(after), running: make([]int, len(plan.Limits))}
}

// next takes the slots of the step that starts now, and returns its index; false if
// none may start before another has ended. A step whose chart has enough running lets
// those of other charts go first, while one that needs more slots than are free holds
// back those behind it, lest it never gets them.
func (s *schedule) next() (int, bool) {
	for at, i := range s.queue.ready {
		step := s.steps[i]
		if slices.ContainsFunc(step.Limits, func(l int) bool { return s.running[l] >= s.plan.Limits[l].MaxParallel }) {
			continue
		}
		if !s.slots.TryAcquire(s.plan.slotsOf(step)) {
			return 0, false
		}
		for _, l := range step.Limits {
			s.running[l]++
		}
		return s.queue.take(at), true
	}
	return 0, false
}

// drop passes over the steps that could start now and never will, so that they hold back
// nobody who waits for slots.
func (s *schedule) drop(never func(Step) bool) {
	for at := 0; at < len(s.queue.ready); {
		i := s.queue.ready[at]
		if !never(s.steps[i]) {
			at++
			continue
		}
		s.queue.take(at)
		s.queue.ended(i)
		at = 0 // those after it may have come in anywhere
	}
}

// ended gives back what the step has taken, and lets those start that wait for it.
func (s *schedule) ended(i int) {
	s.slots.Release(s.plan.slotsOf(s.steps[i]))
	for _, l := range s.steps[i].Limits {
		s.running[l]--
	}
	s.queue.ended(i)
}

// queue holds what has not started, of that first what may start since all before it have
// ended.
type queue struct {
	ready      []int // ascending
	missing    []int // how many before it have not ended
	successors [][]int
}

// newQueue returns a queue of as many as after has elements, which are those, by index,
// that each comes after.
func newQueue(after [][]int) *queue {
	q := &queue{missing: make([]int, len(after)), successors: make([][]int, len(after))}
	for i, before := range after {
		q.missing[i] = len(before)
		for _, j := range before {
			q.successors[j] = append(q.successors[j], i)
		}
		if q.missing[i] == 0 {
			q.ready = append(q.ready, i)
		}
	}
	return q
}

// take removes what is ready at a place, and returns it.
func (q *queue) take(at int) int {
	i := q.ready[at]
	// As a rule it's the first, and there may be thousands behind it.
	copy(q.ready[1:at+1], q.ready[:at])
	q.ready = q.ready[1:]
	return i
}

func (q *queue) ended(i int) {
	for _, next := range q.successors[i] {
		q.missing[next]--
		if q.missing[next] == 0 {
			at, _ := slices.BinarySearch(q.ready, next)
			q.ready = slices.Insert(q.ready, at, next)
		}
	}
}
