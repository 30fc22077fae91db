package helm3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	helmtime "helm.sh/helm/v3/pkg/time"
	coordinationv1 "k8s.io/api/coordination/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// Options says how an operation runs a chart's hooks.
type Options struct {
	// Parallelism is how many hooks of one weight run at once. 0 and 1: one
	// after another, as Helm does.
	Parallelism int
	// Duration returns how long a hook is expected to take, if that's known, and has
	// the longest start first. It's called once the history is known. Nil: by name.
	Duration func(*hooks.Hook) (time.Duration, bool)
	// KeepGoing lets the rest of a tier run after a hook of it has failed.
	KeepGoing bool
	// Stop is closed at the first signal: no further hook starts, and those
	// that run are watched to their end.
	Stop <-chan struct{}
	// Observer is told what happens. May be nil.
	Observer hooks.Observer
	// Logs takes the logs that hooks ask to be shown by the annotation
	// helm.sh/hook-output-log-policy, and with StreamLogs all logs. Nil:
	// nobody.
	Logs       hooks.LogSink
	StreamLogs bool
	// LogTail is how many last lines of the log of each failed container
	// an error holds.
	LogTail int
	// FollowPods has Observer told what the pods of hooks do that have run
	// for FollowAfter.
	FollowPods  bool
	FollowAfter time.Duration
	// History takes the revisions of the release that Helm has read before
	// hooks run. May be nil.
	History func([]*release.Release)
	// Namespace is the release's, for errors that say what to call. Empty: they leave
	// it out.
	Namespace string
	// Kubectl is how the user would call kubectl for the same cluster, for
	// errors. Empty: kubectl.
	Kubectl string
	// Retrier has the requests of Helm's library and of the hooks made again that
	// got no answer, from when the operation begins to change something until
	// it has ended; the configuration's clients must wrap it already. Nil: as
	// Helm, the library makes each once.
	Retrier *hooks.Retrier
	// UserAgent tells the API server's log which requests are the hooks', as
	// against Helm's. Empty: the name and the version of the Go module.
	UserAgent string
}

// Operation is one operation on one release, run by Helm's action package with
// the hooks run by ours. It's made for a single call, and not safe for concurrent
// use but for [Operation.Abandon] and [Operation.GiveUp].
type Operation struct {
	cfg  *action.Configuration
	opts Options

	// What the user asked of the action and is done here instead.
	asked asked
	// description is the user's for a rollback; empty for Helm's.
	description string

	// what the operation is called by users: "upgrade".
	what string
	// ctx is the call's, kept since Helm passes none to the decorators.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// preparing says that the action goes on to create a record, and has not
	// yet.
	preparing bool
	// recorded says that the record of a pending release was created.
	recorded bool
	// pending is what is under way since its record was created; nil before
	// and after.
	pending *pendingRelease
	// untouched says that the resources of the pending release were not
	// changed, nor will be, since its pre-hooks failed.
	untouched bool
	// uninstalling is the release that Helm's Uninstall goes on to record.
	uninstalling *release.Release
	// deleted is when the uninstallation began.
	deleted helmtime.Time
	// cut is what interrupted the uninstalling: nothing more of what Helm's
	// Uninstall records or says is true.
	cut error
	// twoErrors says that both waiting for the deletion and post-delete hooks
	// failed, for which Helm's Uninstall takes one error.
	twoErrors bool
	// undeleted is why resources could not be deleted, which Helm's Uninstall
	// says in its debug log alone.
	undeleted error
	// ran is the first release of which hooks ran.
	ran *release.Release
	// converted are the hooks of the release that was last asked for.
	converted *releaseHooks
	// hookErr is why the pending release failed, if hooks are why.
	hookErr error
	// ignored are failures of hooks that are of no matter by their annotation.
	ignored []*hooks.HookError
	// failures are what the engine returned for events that failed.
	failures []*hooks.RunError

	// leases returns a client for the Leases of a namespace.
	leases func(namespace string) (coordination.LeaseInterface, error)

	mu        sync.Mutex
	begun     bool      // something was, or is being, changed
	abandoned bool      // nothing may be changed any more
	recorder  *recorder // of the hooks that run; nil if none do
	lease     *lease    // nil if there is none

	records records
}

// asked is what the flags of an action ask of its hooks and its waiting.
type asked struct {
	wait          bool
	hooksDisabled bool
	timeout       time.Duration
}

// takeOver lets the operation do what an action's fields ask of its hooks and its
// waiting, and has the action itself run no hooks and always come to wait.
func (o *Operation) takeOver(wait, disableHooks *bool, timeout time.Duration) {
	o.asked = asked{wait: *wait, hooksDisabled: *disableHooks, timeout: timeout}
	*wait, *disableHooks = true, true
}

// New returns an operation that uses the configuration, which must have been
// initialised and which nobody else uses meanwhile.
func New(cfg *action.Configuration, opts Options) *Operation {
	if opts.Observer != nil {
		opts.Observer = &oneByOne{observer: opts.Observer}
	}
	return &Operation{
		cfg:  cfg,
		opts: opts,
		leases: func(namespace string) (coordination.LeaseInterface, error) {
			clients, err := cfg.KubernetesClientSet()
			if err != nil {
				return nil, err
			}
			return clients.CoordinationV1().Leases(namespace), nil
		},
	}
}

// Ran returns the release of which the operation has run hooks, with what became of
// them; of the failed upgrade where that was rolled back. It's nil if none ran, and
// belongs to the operation until that has returned.
func (o *Operation) Ran() *release.Release { return o.ran }

// oneByOne is an observer that may be told things from many goroutines: by runs, and by
// the clients of the cluster.
type oneByOne struct {
	mu       sync.Mutex
	observer hooks.Observer
}

// Observe implements [hooks.Observer].
func (o *oneByOne) Observe(n hooks.Notice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.observer.Observe(n)
}

// warn tells what makes it harder to see how the operation goes.
func (o *Operation) warn(message string) {
	if o.opts.Observer != nil {
		o.opts.Observer.Observe(hooks.ClusterWarned{Message: message})
	}
}

// attach decorates the configuration's storage driver and kube client for the
// time of the operation that what names. It reports false where there is nothing
// to decorate: with the memory driver Helm's command line creates nothing in a
// cluster (cmd/helm/helm.go, loadReleasesInMemory).
func (o *Operation) attach(ctx context.Context, what string) (detach func(), ok bool) {
	client, ok := o.cfg.KubeClient.(*kube.Client)
	if !ok {
		return nil, false
	}
	o.what = what
	o.ctx, o.cancel = context.WithCancelCause(ctx)
	original := o.cfg.Releases.Driver
	o.records.storage = storage.Init(original)
	o.cfg.Releases.Driver = &storageDriver{Driver: original, operation: o}
	o.cfg.KubeClient = &kubeClient{Client: client, operation: o}
	return func() {
		o.dropLease()
		if o.opts.Retrier != nil {
			o.opts.Retrier.Stop()
		}
		o.cancel(nil)
		o.cfg.Releases.Driver = original
		o.cfg.KubeClient = client
	}, true
}

// Abandon reports whether the operation has not changed anything that a release
// record tells of, and if so makes sure that it never will: the process may then
// end at any time. It's safe for concurrent use.
func (o *Operation) Abandon() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.begun {
		o.abandoned = true
	}
	return o.abandoned
}

// setRecorder lets those who are not the operation's own goroutine know of hooks
// that begin to run, and with nil that they have ended.
func (o *Operation) setRecorder(r *recorder) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recorder = r
}

// latest returns the release whose hooks run, with what became of them so far; nil
// if none do.
func (o *Operation) latest() *release.Release {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.recorder == nil {
		return nil
	}
	return o.recorder.latest()
}

// claim is called before anything of a release is changed. It fails once the operation
// has been abandoned; from the first time that it doesn't, it can't be. It also fails
// if another operation on the release is alive.
func (o *Operation) claim(rel *release.Release) error {
	o.mu.Lock()
	first := !o.begun
	o.mu.Unlock()
	if !o.commit() {
		return errInterrupted
	}
	if o.opts.Parallelism <= 1 {
		return nil
	}
	if !first {
		o.currentLease().cover(rel)
		return nil
	}
	if o.opts.Retrier != nil {
		o.opts.Retrier.Start(o.ctx, hooks.RetryOptions{
			Patience:       o.asked.timeout,
			InternalErrors: internalErrorPatience,
			Gate:           o.gate,
			Warn:           o.warn,
		})
	}
	if err := o.takeLease(rel, nil); err != nil {
		return err
	}
	if o.stopped() {
		return errInterrupted // while that took its time
	}
	return nil
}

// gate keeps an operation that may have been taken for dead from changing anything.
func (o *Operation) gate(ctx context.Context, request *http.Request) error {
	held := o.currentLease()
	if held == nil {
		return nil
	}
	return held.gate(ctx, request)
}

// currentLease returns the operation's lease; nil if there is none.
func (o *Operation) currentLease() *lease {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lease
}

// commit reports whether the operation may change something, which it then can't be kept
// from.
func (o *Operation) commit() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun = !o.abandoned
	return o.begun
}

// internalErrorPatience is for how long status 500 is taken for something that passes.
// A webhook that's out of order for good must not hold an operation up for
// minutes.
const internalErrorPatience = 30 * time.Second

// takeLease makes it known that an operation on the release is alive; about dead see the
// function of this name.
func (o *Operation) takeLease(rel *release.Release, dead *coordinationv1.Lease) error {
	client, err := o.leases(rel.Namespace)
	if err != nil {
		return err
	}
	taken, err := takeLease(o.ctx, &lease{client: client, now: o.now, lost: o.lost}, rel, o.what, dead)
	if err != nil {
		return err
	}
	if taken == nil {
		o.cfg.Log("no permission for leases in namespace %s: if this operation dies, to recover the release takes --force", rel.Namespace)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lease = taken
	return nil
}

// lost ends an operation that was taken for dead.
func (o *Operation) lost() {
	o.cancel(errLeaseLost) // first, since a write may be under way
	o.records.close(errLeaseLost)
}

// dropLease makes it known that no operation is alive.
func (o *Operation) dropLease() {
	o.mu.Lock()
	held := o.lease
	o.lease = nil
	o.mu.Unlock()
	held.release()
}

// now returns the API server's time, if that's known.
func (o *Operation) now() time.Time {
	if o.opts.Retrier != nil {
		if now := o.opts.Retrier.ServerTime(); !now.IsZero() {
			return now
		}
	}
	return time.Now()
}

// GiveUp records a pending release, or one that is being uninstalled, as failed,
// and hooks that run as unknown, past an action that doesn't end, because a
// webhook holds it up, say. Nothing that the action does later is recorded. It
// blocks for as long as the storage does, and is safe for concurrent use with the
// operation.
func (o *Operation) GiveUp() error {
	err := o.records.giveUp(o.latest)
	o.dropLease()
	return err
}

// errInterrupted carries Helm's words for an operation that was cancelled.
var errInterrupted = fmt.Errorf("%w: interrupted", context.Canceled)

// events are the hooks that belong to a record's pending status, and Helm's words
// for their failure (pkg/action/install.go, upgrade.go, rollback.go).
type events struct {
	pre, post             release.HookEvent
	preFailed, postFailed string
}

var eventsOf = map[release.Status]events{
	release.StatusPendingInstall: {
		release.HookPreInstall, release.HookPostInstall, "failed pre-install: %w", "failed post-install: %w",
	},
	release.StatusPendingUpgrade: {
		release.HookPreUpgrade, release.HookPostUpgrade, "pre-upgrade hooks failed: %w", "post-upgrade hooks failed: %w",
	},
	release.StatusPendingRollback: {
		release.HookPreRollback, release.HookPostRollback, "%w", "%w",
	},
}

// pendingRelease is a release whose record has a pending status.
type pendingRelease struct {
	release *release.Release
	events  events
	// preDone and postDone say that the hooks were run, whatever came of it.
	preDone, postDone bool
}

// begin takes notice of the record of an operation that is about to be created.
// Hooks that can't be planned are refused here, while neither hooks nor resources
// nor a record were touched.
func (o *Operation) begin(rel *release.Release, events events) error {
	planned := []release.HookEvent{events.pre, events.post}
	if isFresh(rel) {
		planned = eventsIn(rel) // those that run later, too
	}
	if err := o.plan(rel, planned...); err != nil {
		return err
	}
	if o.recorded {
		// A failed upgrade is being undone. A first signal has done its work;
		// after a second there is no time for it.
		o.opts.Stop = nil
		if o.ctx.Err() != nil {
			return errInterrupted
		}
	}
	if err := o.claim(rel); err != nil {
		return err
	}
	if o.description != "" {
		rel.Info.Description = o.description
	}
	if all := o.converted; all != nil && all.release == rel {
		recordLimits(rel, all.limits)
	}
	o.preparing = false
	o.untouched = false
	o.pending = &pendingRelease{release: rel, events: events}
	return nil
}

// eventsIn returns the events that a release has hooks of.
func eventsIn(rel *release.Release) []release.HookEvent {
	var all []release.HookEvent
	for _, h := range rel.Hooks {
		for _, event := range h.Events {
			if !slices.Contains(all, event) {
				all = append(all, event)
			}
		}
	}
	return all
}

// plan returns why hooks of a release can't be run, if they can't.
func (o *Operation) plan(rel *release.Release, events ...release.HookEvent) error {
	if o.asked.hooksDisabled {
		return nil
	}
	all, err := o.hooksOf(rel)
	if err != nil {
		return err
	}
	for _, event := range events {
		if _, err := o.newPlan(all, event); err != nil {
			return err
		}
	}
	return nil
}

func (o *Operation) newPlan(all *releaseHooks, event release.HookEvent) (*hooks.Plan, error) {
	plan, err := hooks.NewPlan(hooks.Event(event), all.hooks, hooks.PlanOptions{
		Parallelism: o.opts.Parallelism, Limits: all.limits, Duration: o.opts.Duration,
	})
	var bad *hooks.AnnotationError
	if !errors.As(err, &bad) || isFresh(all.release) {
		return plan, err
	}
	// Plain Helm, which heeds no annotation, may have recorded it.
	if !slices.Contains(all.serial, event) {
		all.serial = append(all.serial, event)
		o.warn(fmt.Sprintf("the hooks of %s run one after another, as in Helm: %v", event, err))
	}
	return hooks.NewPlan(hooks.Event(event), all.hooks, hooks.PlanOptions{})
}

// isFresh reports whether a release was just rendered, so that who rendered it should
// hear of its author's mistakes. Those in what was recorded long ago must keep nobody
// from going back to it, or from getting rid of it.
func isFresh(rel *release.Release) bool {
	return rel.Info.Status == release.StatusPendingInstall || rel.Info.Status == release.StatusPendingUpgrade
}

// beforeResources runs the pre-hooks of the pending release, once.
func (o *Operation) beforeResources() error {
	p := o.pending
	if p == nil || p.preDone {
		return nil
	}
	p.preDone = true
	err := o.runHooks(p.release, p.events.pre)
	if err != nil {
		o.hookErr = fmt.Errorf(p.events.preFailed, err)
		err = o.hookErr
	} else if o.stopped() {
		err = errInterrupted
	}
	o.untouched = err != nil
	return err
}

// afterResources waits for the resources of the pending release if the user asked
// for it, and runs the post-hooks, once.
func (o *Operation) afterResources(resources kube.ResourceList, timeout time.Duration, checks ...kube.ReadyCheckerOption) error {
	if err := o.beforeResources(); err != nil {
		return err
	}
	p := o.pending
	if p.postDone {
		return nil
	}
	p.postDone = true
	if o.asked.wait {
		if err := o.waitReady(resources, timeout, checks...); err != nil {
			return err
		}
	}
	if o.stopped() {
		return errInterrupted
	}
	if err := o.runHooks(p.release, p.events.post); err != nil {
		o.hookErr = fmt.Errorf(p.events.postFailed, err)
		return o.hookErr
	}
	return nil
}

func (o *Operation) stopped() bool {
	select {
	case <-o.opts.Stop:
		return true
	default:
		return o.ctx.Err() != nil
	}
}

// untilStopped returns a context that ends with the operation's or when it's to
// stop.
func (o *Operation) untilStopped() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(o.ctx)
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		select {
		case <-o.opts.Stop:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(context.Canceled)
		<-joined
	}
}

// releaseHooks are the hooks of a release in the engine's terms.
type releaseHooks struct {
	release *release.Release
	hooks   []*hooks.Hook
	// origin is whose hook each of them is.
	origin map[*hooks.Hook]*release.Hook
	// limits are those of the release's charts.
	limits []hooks.Limit
	// serial are the events of which it was said that their hooks run one after another.
	serial []release.HookEvent
}

// hooksOf returns the hooks of a release. They are converted once, since that
// parses every manifest.
func (o *Operation) hooksOf(rel *release.Release) (*releaseHooks, error) {
	if o.converted != nil && o.converted.release == rel {
		return o.converted, nil
	}
	all := &releaseHooks{release: rel, origin: make(map[*hooks.Hook]*release.Hook, len(rel.Hooks))}
	for _, h := range rel.Hooks {
		hook, err := Convert(h, rel.Namespace)
		if err != nil {
			return nil, fmt.Errorf("unable to build kubernetes object for hook %s: %w", h.Path, err)
		}
		all.hooks = append(all.hooks, hook)
		all.origin[hook] = h
	}
	if o.opts.Parallelism > 1 {
		var err error
		all.limits, err = Limits(rel.Chart)
		switch {
		case err != nil && isFresh(rel):
			return nil, err
		case err != nil:
			o.warn(fmt.Sprintf("ignored: %v", err))
		}
	}
	o.converted = all
	return all, nil
}

// runHooks runs the hooks of an event of a release. What became of them is in the
// release, and in its record, when it returns. An error has Helm's words.
func (o *Operation) runHooks(rel *release.Release, event release.HookEvent) error {
	if o.asked.hooksDisabled {
		return nil
	}
	all, err := o.hooksOf(rel)
	if err != nil {
		return err
	}
	plan, err := o.newPlan(all, event)
	if err != nil || plan.Len() == 0 {
		return err
	}
	if o.stopped() {
		return errInterrupted
	}
	cluster, err := o.newCluster(rel.Namespace)
	if err != nil {
		return err
	}
	defer cluster.Close()

	recorder := newRecorder(rel, all.origin, o.records.update, o.cfg.Log)
	runner := hooks.Runner{
		Cluster:     cluster,
		Observer:    hooks.Observers(recorder, o.opts.Observer),
		Timeout:     o.asked.timeout,
		KeepGoing:   o.opts.KeepGoing,
		Stop:        o.opts.Stop,
		Logs:        o.opts.Logs,
		StreamLogs:  o.opts.StreamLogs,
		LogTail:     o.opts.LogTail,
		FollowPods:  o.opts.FollowPods,
		FollowAfter: o.opts.FollowAfter,
	}
	if o.ran == nil {
		o.ran = rel
	}
	o.setRecorder(recorder)
	results, err := runner.Run(o.ctx, plan)
	recorder.finish()
	o.setRecorder(nil)
	for _, result := range results {
		if result.Ignored {
			o.ignored = append(o.ignored, result.Err)
		}
	}
	var failure *hooks.RunError
	if errors.As(err, &failure) {
		o.failures = append(o.failures, failure)
		return &hookFailure{failure, plan.Serial(), o.asked.timeout}
	}
	return err
}

// helmBurst is the burst limit that Helm sets where the user sets none
// (pkg/cli/environment.go).
const helmBurst = 100

func (o *Operation) newCluster(namespace string) (*hooks.Client, error) {
	config, err := o.cfg.RESTClientGetter.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("unable to generate config for kubernetes client: %w", err)
	}
	mapper, err := o.cfg.RESTClientGetter.ToRESTMapper()
	if err != nil {
		return nil, fmt.Errorf("unable to find out what the cluster serves: %w", err)
	}
	config = rest.CopyConfig(config)
	retrier := o.opts.Retrier
	if retrier == nil {
		retrier = hooks.NewRetrier()
		retrier.Start(o.ctx, hooks.RetryOptions{Patience: o.asked.timeout})
		config.Wrap(retrier.Wrap)
	}
	config.UserAgent = o.opts.UserAgent
	if config.QPS == 0 && config.Burst == helmBurst {
		// The slots bound the load, and the server its own.
		config.QPS = -1
	}
	return hooks.NewClient(config, mapper, hooks.ClientOptions{
		Namespace:    namespace,
		FieldManager: kube.ManagedFieldsManager,
		Retrier:      retrier,
		MustWatch:    o.opts.Parallelism <= 1,
		Warn:         o.warn,
	})
}
