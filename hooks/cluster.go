package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Cluster is what a run needs of a Kubernetes cluster. [Client] is the real one.
//
// Its methods are called from many goroutines at once, though never for two
// hooks that are the same object. Each returns soon after its context is done,
// with an error that wraps [context.Cause] of it.
type Cluster interface {
	// Delete deletes the hook's objects, dependents in the background, and
	// returns when they are gone. It's no error if there are none.
	Delete(ctx context.Context, h *Hook) error
	// Create creates the hook's objects, and none of them twice.
	Create(ctx context.Context, h *Hook) (Execution, error)
	// Logs writes the logs of the hook's containers, one after another.
	Logs(ctx context.Context, h *Hook, w io.Writer) error
	// Inspect finds out why a hook has failed, or what keeps it from its end:
	// from its pods, and from the events of a Job that has none. A container
	// that has failed is reported with up to tail last lines of its log.
	Inspect(ctx context.Context, h *Hook, tail int) ([]Finding, error)
}

// Execution is a hook that was created. Wait must be called, once: it frees what
// the execution holds.
type Execution interface {
	// Wait returns when the hook has ended: a Job is complete or failed, a
	// Pod succeeded or failed; anything else ends by being created. The
	// error is an [*EndedBadly] if it failed and [ErrVanished] if somebody
	// deleted it.
	Wait(ctx context.Context) error
	// Follow tells what the hook's pods do and log, until ended is closed and
	// the logs of what has run till then were told to their ends, or until
	// ctx is done. It may be called once, beside Wait. Of a hook that's deleted
	// before it has returned lines may be missing. The error says which logs
	// could not be read.
	Follow(ctx context.Context, ended <-chan struct{}, f Follower) error
}

// Follower is told about a hook's pods. What is nil is not asked for.
type Follower struct {
	// Activity takes what the pods do, each time that this changes, in words
	// for a person: "ContainerCreating", "ImagePullBackOff: ...",
	// "Unschedulable: 0/3 nodes are available", "Running (attempt 2)".
	Activity func(string)
	// Log takes a line of a container's log with its newline, or what the
	// container has left of one. It's called from a goroutine for each
	// container and may keep text.
	Log func(source LogSource, text []byte)
}

// LogSource is where lines of a log come from.
type LogSource struct {
	Hook *Hook
	// Pod and Container are empty if the text holds the logs of all the
	// hook's containers, one after another.
	Pod, Container string
	// Alone says that the pod has no other container.
	Alone bool
	// Attempt is 1 for the first run of the container in the hook's first
	// pod, and higher for each further one.
	Attempt int
}

// LogSink takes logs of hooks.
type LogSink interface {
	// Log takes whole lines, or one of them at a time while their hook runs.
	// It's called from many goroutines, and may hold them back.
	Log(source LogSource, text []byte)
}

// ErrVanished says that a hook's object was deleted by somebody while it was
// waited for.
var ErrVanished = errors.New("the object was deleted while it ran")

// ErrTimeout says that a hook didn't end, or its old object didn't go, within
// [Runner.Timeout]. The text is that of Kubernetes' own waiting functions, which
// Helm reports.
var ErrTimeout = errors.New("timed out waiting for the condition")

// ErrStopped says that hooks were not started because of [Runner.Stop].
var ErrStopped = errors.New("interrupted")

// EndedBadly says that a Job or a Pod failed.
type EndedBadly struct {
	Kind string
	Name string
	// Reason is a Job's: "BackoffLimitExceeded", "DeadlineExceeded", ...
	Reason string
}

// Error returns Helm's words (pkg/kube/client.go, waitForJob and
// waitForPodSuccess).
func (e *EndedBadly) Error() string {
	if e.Kind == "Job" {
		return fmt.Sprintf("job %s failed: %s", e.Name, e.Reason)
	}
	return fmt.Sprintf("%s %s failed", strings.ToLower(e.Kind), e.Name)
}

// Finding says how a container or a pod of a hook failed or what it waits for, or
// why there is no pod.
type Finding struct {
	// Pod is empty if there is none.
	Pod string
	// Container is empty if it's about the pod as a whole.
	Container string
	// Reason is "Error", "OOMKilled", "ImagePullBackOff", "Unschedulable",
	// "Evicted", "FailedCreate", ...
	Reason string
	// Message is what the cluster says beyond the reason, often nothing, or
	// what a container that has ended has left as its termination message,
	// which may be a part of its log.
	Message string
	// ExitCode is that of a container that has ended.
	ExitCode int32
	// Ended reports whether the container ran and ended.
	Ended bool
	// Running reports whether it still runs. That's told only where nothing else is
	// known of the hook's pods.
	Running bool
	// Log are the last lines of the container's log.
	Log []string
}

// String returns in one line all but what the container has said itself, which may be
// what nobody else should read.
func (f Finding) String() string {
	var text string
	switch {
	case f.Container != "":
		text = fmt.Sprintf("pod %s, container %s: %s", f.Pod, f.Container, f.Reason)
	case f.Pod != "":
		text = fmt.Sprintf("pod %s: %s", f.Pod, f.Reason)
	default:
		text = "no pod: " + f.Reason
	}
	if f.Ended {
		text += fmt.Sprintf(", exit code %d", f.ExitCode)
	}
	if f.Message != "" && !f.Ended {
		text += ": " + strings.Join(strings.Fields(f.Message), " ")
	}
	return text
}

// Step names within a hook's life, for [HookError.Op].
const (
	OpDelete  = "delete"
	OpCreate  = "create"
	OpWait    = "wait"
	OpCleanUp = "clean up"
)

// HookError says which hook failed, at what and why.
type HookError struct {
	Event Event
	Hook  *Hook
	// Op is what failed: [OpDelete] of an old object, [OpCreate], [OpWait]
	// for the hook's end, or [OpCleanUp] after all hooks had ended.
	Op  string
	Err error
	// Findings say why, where Op is [OpWait] and something could be found.
	Findings []Finding
	// After is how long the hook had run; zero if it never started.
	After time.Duration
	// Timeout is how long the hook was given to end by its [TimeoutAnnotation];
	// zero: [Runner.Timeout], as for the deletion of old objects.
	Timeout time.Duration
}

func (e *HookError) Error() string {
	return fmt.Sprintf("%s hook %s: %s", e.Event, e.Hook, e.Problem())
}

// Problem returns what failed and why, without naming the hook.
func (e *HookError) Problem() string {
	switch e.Op {
	case OpDelete:
		return fmt.Sprintf("deleting the object of an earlier run: %v", e.Err)
	case OpCreate:
		return fmt.Sprintf("creating: %v", e.Err)
	case OpCleanUp:
		return fmt.Sprintf("deleting after the run: %v", e.Err)
	default:
		return e.Err.Error()
	}
}

// Causes returns the findings in one line, but for containers that just run; empty if there
// are none.
func (e *HookError) Causes() string {
	var said []string
	for _, f := range e.Findings {
		if !f.Running {
			said = append(said, f.String())
		}
	}
	return strings.Join(said, "; ")
}

func (e *HookError) Unwrap() error { return e.Err }

// RunError says why an event did not end well.
type RunError struct {
	Event Event
	// Failures are the hooks that failed, in plan order.
	Failures []*HookError
	// Unknown are the hooks that still ran when the run left.
	Unknown []*Hook
	// NotStarted are the hooks that were held back, in plan order.
	NotStarted []*Hook
	// Interrupted is [ErrStopped], the cause of a cancelled context, or nil
	// if hooks failed by themselves.
	Interrupted error
}

func (e *RunError) Error() string {
	var parts []string
	if e.Interrupted != nil {
		parts = append(parts, fmt.Sprintf("%s hooks: %v", e.Event, e.Interrupted))
	}
	for _, f := range e.Failures {
		parts = append(parts, f.Error())
	}
	if n := len(e.Unknown); n > 0 {
		parts = append(parts, fmt.Sprintf("left while running: %s", hookNames(e.Unknown)))
	}
	if n := len(e.NotStarted); n > 0 {
		parts = append(parts, fmt.Sprintf("not started: %d", n))
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns the failures and what interrupted the run.
func (e *RunError) Unwrap() []error {
	var errs []error
	for _, f := range e.Failures {
		errs = append(errs, f)
	}
	if e.Interrupted != nil {
		errs = append(errs, e.Interrupted)
	}
	return errs
}

func hookNames(all []*Hook) string {
	names := make([]string, len(all))
	for i, h := range all {
		names[i] = h.String()
	}
	return strings.Join(names, ", ")
}
