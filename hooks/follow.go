package hooks

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/klog/v2"
)

// jobNameLabel is what the pods of a Job carry, its value the Job's name.
const jobNameLabel = "job-name"

// logGrace is how long the log of a container that has ended may take to end
// before it's read to its end by another request.
const logGrace = 2 * time.Second

// logRetryDelay is how long to wait at first before a log is asked for again that could not
// be read.
const logRetryDelay = 200 * time.Millisecond

// eofPatience is how long after the end of a log that was followed its container may
// be seen to have ended. What is asked for later would be of the container's next run.
const eofPatience = 5 * time.Second

// podWatch is the one watch on the pods of Jobs in a namespace that all hooks share
// whose pods are followed, together with those on the events that say what a pod
// or a Job is kept from. What it can't learn is left out: it informs people only.
type podWatch struct {
	core      kubernetes.Interface
	namespace string

	mu      sync.Mutex
	started bool
	jobs    map[string]*jobPods // by the Job's name
	// said is what the newest event says of a pod or a Job.
	said map[types.UID]string
	// waiting are closed when said changes.
	waiting chan struct{}
}

// jobPods are the pods of the Jobs of one name, as they were last seen. They are
// kept from before the Job is created on, so that no pod can be missed. Guarded by
// podWatch.mu.
type jobPods struct {
	pods    map[types.UID]*corev1.Pod
	changed chan struct{} // closed, and replaced, when pods change
}

func newPodWatch(core kubernetes.Interface, namespace string) *podWatch {
	return &podWatch{
		core: core, namespace: namespace,
		jobs: map[string]*jobPods{}, said: map[types.UID]string{}, waiting: make(chan struct{}),
	}
}

// expect keeps the pods of a Job that is about to be created.
func (w *podWatch) expect(job string) *jobPods {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &jobPods{pods: map[types.UID]*corev1.Pod{}, changed: make(chan struct{})}
	w.jobs[job] = p
	return p
}

// forget drops the pods of a Job that nobody follows any more.
func (w *podWatch) forget(job string, p *jobPods) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(p.pods)
	if w.jobs[job] == p {
		delete(w.jobs, job)
	}
}

// of returns the pods that the Job with the given UID controls, the oldest first,
// what was said of them or of the Job, and channels of which one is closed at the
// next change.
func (w *podWatch) of(p *jobPods, job types.UID) (pods []*corev1.Pod, said map[types.UID]string, changed, waiting <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	said = map[types.UID]string{job: w.said[job]}
	for _, pod := range p.pods {
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && owner.UID == job {
			pods = append(pods, pod)
			said[pod.UID] = w.said[pod.UID]
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return pods, said, p.changed, w.waiting
}

// saw records a pod of a Job, or that it's gone. What is older than what is known
// already changes nothing: an answer may overtake an event.
func (w *podWatch) saw(pod *corev1.Pod, deleted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.jobs[pod.Labels[jobNameLabel]]
	if p == nil {
		return
	}
	if known := p.pods[pod.UID]; known != nil {
		order, err := resourceversion.CompareResourceVersion(known.ResourceVersion, pod.ResourceVersion)
		if err == nil && order > 0 {
			return
		}
	}
	if deleted {
		delete(p.pods, pod.UID)
	} else {
		p.pods[pod.UID] = pod
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// heard records what an event says.
func (w *podWatch) heard(e *corev1.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := e.Message
	if e.Type == corev1.EventTypeWarning {
		text = e.Reason + ": " + text
	}
	w.said[e.InvolvedObject.UID] = text
	close(w.waiting)
	w.waiting = make(chan struct{})
}

// start has run started for the watches, once.
func (w *podWatch) start(ctx context.Context, since string, run func(func())) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started {
		return
	}
	w.started = true
	ctx = klog.NewContext(ctx, logr.Discard())
	pods := w.core.CoreV1().Pods(w.namespace)
	run(func() {
		watchOn(ctx, since, jobNameLabel, "", pods, pods.List, func(list *corev1.PodList) {
			for i := range list.Items {
				w.saw(&list.Items[i], false)
			}
		}, func(event watch.Event) {
			if pod, ok := event.Object.(*corev1.Pod); ok {
				w.saw(pod, event.Type == watch.Deleted)
			}
		})
	})
	events := w.core.CoreV1().Events(w.namespace)
	var before func(*corev1.EventList)
	if since == "" { // pods may have waited for some time
		before = func(list *corev1.EventList) {
			for i := range list.Items {
				w.heard(&list.Items[i])
			}
		}
	}
	for _, selector := range []fields.Set{
		{"involvedObject.kind": "Pod", "reason": "Pulling"},
		{"involvedObject.kind": "Job", "type": corev1.EventTypeWarning},
	} {
		// Events may live in a store of their own, with its own versions.
		run(func() {
			watchOn(ctx, "", "", selector.String(), events, events.List, before, func(event watch.Event) {
				if e, ok := event.Object.(*corev1.Event); ok {
					w.heard(e)
				}
			})
		})
	}
}

// watchOn passes the events of a selection of objects to changed until ctx is done
// or the server refuses to. Where since is empty, or the server no longer has what
// came after it, it begins with a list, of which all objects are passed to listed;
// nil: none are of interest.
func watchOn[L interface{ GetResourceVersion() string }](
	ctx context.Context, since, labels, fields string, watcher interface {
		Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
	},
	list func(context.Context, metav1.ListOptions) (L, error), listed func(L), changed func(watch.Event),
) {
	options := metav1.ListOptions{LabelSelector: labels, FieldSelector: fields}
	for ctx.Err() == nil {
		if since == "" {
			listing := options
			if listed == nil {
				listing.Limit = 1 // for the version alone
			}
			all, err := list(ctx, listing)
			if apierrors.IsForbidden(err) {
				return
			}
			if err == nil {
				since = all.GetResourceVersion()
				if listed != nil {
					listed(all)
				}
			}
		}
		if since != "" {
			retrying, err := watchtools.NewRetryWatcherWithContext(ctx, since, &cache.ListWatch{
				WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
					o.LabelSelector, o.FieldSelector = options.LabelSelector, options.FieldSelector
					return openWatch(ctx, o, watcher.Watch, nil)
				},
			})
			if err != nil {
				return
			}
			for event := range retrying.ResultChan() {
				if event.Type == watch.Error {
					if apierrors.IsForbidden(apierrors.FromObject(event.Object)) {
						retrying.Stop()
						<-retrying.Done()
						return
					}
					break
				}
				changed(event)
			}
			retrying.Stop()
			<-retrying.Done()
			since = ""
		}
		select {
		case <-time.After(resyncDelay):
		case <-ctx.Done():
		}
	}
}

// freshness is for how long after its creation a Job can't have pods that a watch
// from there on misses.
const freshness = time.Second

// Follow implements [Execution].
func (e *execution) Follow(ctx context.Context, ended <-chan struct{}, f Follower) error {
	fresh := time.Since(e.created) < freshness
	errs := make([]error, len(e.objects))
	var all sync.WaitGroup
	for i, o := range e.objects {
		all.Go(func() { errs[i] = e.follow(ctx, ended, o, f, fresh) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (e *execution) follow(ctx context.Context, ended <-chan struct{}, o running, f Follower, fresh bool) error {
	c, name, uid := e.client, o.created.GetName(), o.created.GetUID()
	w := c.podWatch(o.created.GetNamespace())
	since := ""
	if fresh {
		since = o.created.GetResourceVersion()
	}
	w.start(c.ctx, since, func(run func()) { c.watches.Go(run) })

	look := func() ([]*corev1.Pod, map[types.UID]string, <-chan struct{}, <-chan struct{}) {
		return w.of(o.pods, uid)
	}
	if o.pods == nil {
		// Its own watch tells of a Pod, until Wait has returned.
		look = func() ([]*corev1.Pod, map[types.UID]string, <-chan struct{}, <-chan struct{}) {
			return w.one(o.subscription, uid)
		}
	} else {
		defer w.forget(name, o.pods)
		if !fresh || o.late {
			_ = w.refresh(ctx, name) // what it would tell comes by the watch, or not at all
		}
	}

	logs := &logReader{core: c.core, log: f.Log, hook: e.hook, begun: map[string]*containerLog{}}
	told := ""
	for {
		pods, said, changed, waiting := look()
		if said[uid] == "" && suspended(o.created) {
			said[uid] = "Suspended"
		}
		if f.Activity != nil {
			if now := activity(pods, uid, said); now != told {
				told = now
				f.Activity(now)
			}
		}
		if f.Log != nil {
			logs.read(ctx, pods)
		}
		select {
		case <-changed:
			continue
		case <-waiting:
			continue
		case <-ctx.Done():
		case <-ended:
			if f.Log == nil {
				return nil
			}
			// The hook's end may be seen before that of its pods.
			if o.pods != nil {
				if err := w.refresh(ctx, name); err != nil {
					logs.fail(err)
				}
			}
			pods, _, _, _ := look()
			logs.read(ctx, pods)
		}
		return logs.finish()
	}
}

// refresh reads the pods of a Job anew.
func (w *podWatch) refresh(ctx context.Context, job string) error {
	list, err := w.core.CoreV1().Pods(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: jobNameLabel + "=" + job})
	if err != nil {
		return fmt.Errorf("listing the pods of Job %s: %w", job, err)
	}
	for i := range list.Items {
		w.saw(&list.Items[i], false)
	}
	return nil
}

// one returns what of does, for a hook that is a Pod.
func (w *podWatch) one(s *subscription, uid types.UID) (pods []*corev1.Pod, said map[types.UID]string, changed, waiting <-chan struct{}) {
	s.watch.mu.Lock()
	current, changed := s.states[uid], s.changed
	s.watch.mu.Unlock()
	if current.object != nil {
		pod := &corev1.Pod{}
		if runtime.DefaultUnstructuredConverter.FromUnstructured(current.object.Object, pod) == nil {
			pods = append(pods, pod)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return pods, map[types.UID]string{uid: w.said[uid]}, changed, w.waiting
}

// activity says what a hook's pods do, as kubectl's STATUS column and more. It's
// about the newest pod, and empty as long as nothing is known.
func activity(pods []*corev1.Pod, job types.UID, said map[types.UID]string) string {
	if len(pods) == 0 {
		return said[job]
	}
	pod := pods[len(pods)-1]
	text := podActivity(pod)
	if pulling := said[pod.UID]; pulling != "" && (text == "ContainerCreating" || text == "PodInitializing") {
		text = pulling
	}
	failures := failuresBefore(pods, len(pods)-1)
	for _, s := range pod.Status.ContainerStatuses {
		failures += int(s.RestartCount)
	}
	if failures > 0 {
		text += fmt.Sprintf(" (attempt %d)", failures+1)
	}
	return text
}

// failuresBefore returns how many pods have failed in whose place the nth one is: a
// Job may have several at once.
func failuresBefore(pods []*corev1.Pod, nth int) int {
	failures := 0
	for _, pod := range pods[:nth] {
		index := pod.Annotations[batchv1.JobCompletionIndexAnnotation]
		if pod.Status.Phase == corev1.PodFailed && index == pods[nth].Annotations[batchv1.JobCompletionIndexAnnotation] {
			failures++
		}
	}
	return failures
}

func podActivity(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return withMessage(c.Reason, c.Message)
		}
	}
	for i, s := range pod.Status.InitContainerStatuses {
		switch {
		case s.State.Terminated != nil && s.State.Terminated.ExitCode == 0, s.Started != nil && *s.Started:
			continue
		case s.State.Running != nil:
			return fmt.Sprintf("Init %d of %d: %s", i+1, len(pod.Spec.InitContainers), s.Name)
		}
		if text := stuck(s); text != "" {
			return text
		}
	}
	for _, s := range pod.Status.ContainerStatuses {
		if text := stuck(s); text != "" {
			return text
		}
	}
	return withMessage(cmp.Or(pod.Status.Reason, string(pod.Status.Phase)), "")
}

// stuck returns what a container waits for or how it failed; empty if it does
// neither.
func stuck(s corev1.ContainerStatus) string {
	switch {
	case s.State.Waiting != nil:
		return withMessage(s.State.Waiting.Reason, s.State.Waiting.Message)
	case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
		return fmt.Sprintf("%s, exit code %d", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
	}
	return ""
}

func withMessage(reason, message string) string {
	if message = strings.TrimSpace(message); message != "" {
		return reason + ": " + message
	}
	return reason
}

// logReader reads the logs of a hook's containers, each run of a container once and
// in a goroutine of its own, which ends with that run or with the context. All its
// methods are for one goroutine.
type logReader struct {
	core    kubernetes.Interface
	log     func(LogSource, []byte)
	hook    *Hook
	begun   map[string]*containerLog // by pod, container and restart
	readers sync.WaitGroup

	mu     sync.Mutex
	failed []error
}

func (r *logReader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, err)
}

// read begins to read the logs of those runs of containers that are new, and lets
// the reading of those end that have ended or whose pod is gone.
func (r *logReader) read(ctx context.Context, pods []*corev1.Pod) {
	there := map[string]bool{}
	for _, pod := range pods {
		there[pod.Name] = true
	}
	for _, l := range r.begun {
		if !there[l.source.Pod] {
			l.end(false)
		}
	}
	for i, pod := range pods {
		nth := failuresBefore(pods, i)
		for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if s.LastTerminationState.Terminated != nil && s.RestartCount > 0 {
				r.begin(ctx, nth, pod, s.Name, s.RestartCount-1).end(true)
			}
			if s.State.Running == nil && s.State.Terminated == nil {
				continue
			}
			l := r.begin(ctx, nth, pod, s.Name, s.RestartCount)
			if s.State.Terminated != nil {
				l.end(false)
			}
		}
	}
}

// finish lets the reading of all logs end, and returns when it has, with why some
// could not be read.
func (r *logReader) finish() error {
	for _, l := range r.begun {
		l.end(false)
	}
	r.readers.Wait()
	return errors.Join(r.failed...)
}

func (r *logReader) begin(ctx context.Context, nth int, pod *corev1.Pod, container string, restart int32) *containerLog {
	key := fmt.Sprintf("%s/%s/%d", pod.UID, container, restart)
	if l := r.begun[key]; l != nil {
		return l
	}
	l := &containerLog{
		pods:  r.core.CoreV1().Pods(pod.Namespace),
		log:   r.log,
		ended: make(chan struct{}),
		source: LogSource{
			Hook: r.hook, Pod: pod.Name, Container: container, Attempt: nth + int(restart) + 1,
			Alone: len(pod.Spec.InitContainers)+len(pod.Spec.Containers) == 1,
		},
	}
	r.begun[key] = l
	r.readers.Go(func() {
		if err := l.read(ctx); err != nil {
			r.fail(fmt.Errorf("reading the log of pod %s, container %s: %w", pod.Name, container, err))
		}
	})
	return l
}

// containerLog reads the log of one run of a container. By the lines' timestamps it
// can go on where it was, without a line lost or told twice.
type containerLog struct {
	pods   typedcorev1.PodInterface
	log    func(LogSource, []byte)
	source LogSource
	// last is the latest timestamp of a line that was told, and same the
	// number of those that had it.
	last time.Time
	same int

	once  sync.Once
	ended chan struct{} // closed when the run has ended
	// previous says that the container runs again; set before ended is closed.
	previous bool
}

// end says that the run has ended.
func (l *containerLog) end(previous bool) {
	l.once.Do(func() {
		l.previous = previous
		close(l.ended)
	})
}

// read reads the log to its end: while the container runs, and then what's left.
func (l *containerLog) read(ctx context.Context) error {
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	var joined sync.WaitGroup
	joined.Go(func() {
		select {
		case <-l.ended:
		case <-following.Done():
			return
		}
		select {
		case <-time.After(logGrace):
			cancel()
		case <-following.Done():
		}
	})
	again := logRetryDelay
	for !l.hasEnded() && following.Err() == nil {
		// What has come to an end by itself was cut off, or its container has
		// ended, as will be seen in a moment.
		err := l.stream(following, corev1.PodLogOptions{Follow: true})
		switch {
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			return err
		case err == nil:
			again = eofPatience
		default:
			again = min(2*again, eofPatience)
		}
		select {
		case <-l.ended:
		case <-time.After(again):
		case <-following.Done():
		}
	}
	cancel()
	joined.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return l.stream(ctx, corev1.PodLogOptions{Previous: l.previous})
}

func (l *containerLog) hasEnded() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// stream tells the lines that were not told before, until the log's end.
func (l *containerLog) stream(ctx context.Context, options corev1.PodLogOptions) error {
	options.Container, options.Timestamps = l.source.Container, true
	if !l.last.IsZero() {
		options.SinceTime = &metav1.Time{Time: l.last}
	}
	answer, err := l.pods.GetLogs(l.source.Pod, &options).Stream(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	lines := bufio.NewReaderSize(answer, longestLine)
	told := resumption{at: l.last, known: l.same}
	for inside := false; ; {
		text, err := lines.ReadSlice('\n')
		whole := err == nil || errors.Is(err, bufio.ErrBufferFull)
		// Half a line that was cut off comes again as a whole.
		if len(text) > 0 && (whole || errors.Is(err, io.EOF) && !options.Follow) {
			if inside {
				l.say(text)
			} else {
				l.tell(text, &told)
			}
		}
		inside = errors.Is(err, bufio.ErrBufferFull)
		switch {
		case whole:
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// longestLine is the length in bytes from which on a line is told in pieces.
const longestLine = 256 << 10

// resumption is where a log was when it's read on: lines up to that time come again,
// of that time as many as are known. Once one is past it, all that comes is new, for
// clocks may go back.
type resumption struct {
	at    time.Time
	known int
}

// tell tells a line, which begins with its timestamp, unless it was told before.
func (l *containerLog) tell(line []byte, told *resumption) {
	stamp, text, _ := bytes.Cut(line, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		l.say(line)
		return
	}
	if !told.at.IsZero() {
		switch {
		case at.Before(told.at):
			return
		case at.Equal(told.at) && told.known > 0:
			told.known--
			return
		}
		told.at = time.Time{}
	}
	switch {
	case at.After(l.last):
		l.last, l.same = at, 1
	case at.Equal(l.last):
		l.same++
	}
	l.say(text)
}

func (l *containerLog) say(text []byte) {
	l.log(l.source, append(bytes.TrimSuffix(bytes.Clone(text), []byte("\n")), '\n'))
}
