package helm3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
)

// hookFailure says in Helm's words why an event failed. They go into the record's
// description, so they hold no logs; those are in [detailedError].
type hookFailure struct {
	*hooks.RunError
	serial  bool
	timeout time.Duration
}

func (e *hookFailure) Unwrap() error { return e.RunError }

// Error returns what Helm says of one failed hook (pkg/action/hooks.go, execHook,
// and pkg/kube/client.go, perform), and the like for several.
func (e *hookFailure) Error() string {
	var lines []string
	if e.Interrupted != nil {
		lines = append(lines, e.interruption())
	}
	if len(e.Failures) == 1 && e.Interrupted == nil {
		return e.one(e.Failures[0])
	}
	for _, failure := range e.Failures {
		lines = append(lines, e.item(failure))
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return list(lines)
}

// stillRunning comes before the hooks, separated by commas, of which nobody knew.
const stillRunning = "; still running: "

func (e *hookFailure) interruption() string {
	line := errInterrupted.Error()
	if e.Interrupted != nil && !errors.Is(e.Interrupted, hooks.ErrStopped) && !errors.Is(e.Interrupted, context.Canceled) {
		line = e.Interrupted.Error()
	}
	if len(e.Unknown) > 0 {
		names := make([]string, len(e.Unknown))
		for i, h := range e.Unknown {
			names[i] = h.String()
		}
		line += stillRunning + strings.Join(names, ", ")
	}
	if n := len(e.NotStarted); n > 0 {
		line += fmt.Sprintf("; hooks not started: %d", n)
	}
	return line
}

// list returns errors as github.com/hashicorp/go-multierror writes them, which
// Helm uses.
func list(lines []string) string {
	occurred := fmt.Sprintf("%d errors occurred:", len(lines))
	if len(lines) == 1 {
		occurred = "1 error occurred:"
	}
	return fmt.Sprintf("%s\n\t* %s\n\n", occurred, strings.Join(lines, "\n\t* "))
}

// one returns the error of the only hook that failed.
func (e *hookFailure) one(failure *hooks.HookError) string {
	switch {
	case failure.Op == hooks.OpCreate && !isUnmapped(failure):
		return fmt.Sprintf("warning: Hook %s %s failed: %s", e.Event, failure.Hook.Path, list([]string{failure.Err.Error()}))
	case failure.Op == hooks.OpWait:
		return list([]string{e.item(failure)})
	default:
		return e.item(failure)
	}
}

// item returns the error of one hook among others.
func (e *hookFailure) item(failure *hooks.HookError) string {
	text := failure.Err.Error()
	switch failure.Op {
	case hooks.OpDelete, hooks.OpCleanUp:
		switch {
		case isUnmapped(failure):
			text = fmt.Sprintf("unable to build kubernetes object for deleting hook %s: %s", failure.Hook.Path, text)
		case errors.Is(failure, hooks.ErrTimeout) && e.serial:
			text = context.DeadlineExceeded.Error()
		case errors.Is(failure, hooks.ErrTimeout):
			text = fmt.Sprintf("deleting %s: not gone after %v (--timeout): %s", failure.Hook, e.timeout, text)
		case !e.serial:
			text = fmt.Sprintf("deleting %s: %s", failure.Hook, text)
		}
	case hooks.OpCreate:
		if isUnmapped(failure) {
			text = fmt.Sprintf("unable to build kubernetes object for %s hook %s: %s", e.Event, failure.Hook.Path, text)
		} else {
			text = fmt.Sprintf("%s (%s): creating: %s", failure.Hook, failure.Hook.Path, text)
		}
	case hooks.OpWait:
		var ended *hooks.EndedBadly
		if !e.serial && !errors.As(failure, &ended) {
			if errors.Is(failure, hooks.ErrTimeout) {
				given := fmt.Sprintf("%v (--timeout)", e.timeout)
				if failure.Timeout > 0 {
					given = fmt.Sprintf("%v (annotation %s)", failure.Timeout, hooks.TimeoutAnnotation)
				}
				text = fmt.Sprintf("not done after %s, and not ended by that: %s", given, text)
			}
			text = fmt.Sprintf("%s %s: %s", strings.ToLower(failure.Hook.Kind), failure.Hook.Name, text)
		}
		if causes := failure.Causes(); causes != "" {
			text += " (" + display.Printable(causes) + ")"
		}
	}
	return text
}

func isUnmapped(err error) bool {
	var unmapped *hooks.MappingError
	return errors.As(err, &unmapped)
}

// detailedError adds to an error what a person needs to know about the hooks that
// have caused it.
type detailedError struct {
	error
	details string
}

func (e *detailedError) Unwrap() error { return e.error }

// Error returns the error and the details below it.
func (e *detailedError) Error() string {
	return strings.TrimRight(e.error.Error(), "\n") + "\n" + e.details
}

// complete returns the error of an operation that ended with err, which may be nil: with
// details, and with what its records lack, of which Helm only tells in its debug
// log.
func (o *Operation) complete(name string, err error) error {
	err = o.withDetails(err)
	lacking := o.records.lacking()
	if err != nil && o.opts.Parallelism > 1 && strings.HasSuffix(err.Error(), errHelmsPending) {
		// Helm's check comes before ours, and doesn't know who it is.
		err = fmt.Errorf("%w; if that has died: %s", err, howToRecover(name, o.opts.Namespace))
	}
	switch {
	case lacking == nil || o.opts.Parallelism <= 1:
		return err
	case errors.Is(lacking, errLeaseLost) && err != nil && !errors.Is(err, errLeaseLost):
		return fmt.Errorf("%w\n%w", lacking, err)
	case errors.Is(lacking, errLeaseLost):
		return lacking
	case err == nil:
		return fmt.Errorf("the %s of release %s is complete, but %w; see helm status %s and %s", o.what, name, lacking, name, howToRecover(name, o.opts.Namespace))
	default:
		return fmt.Errorf("%w\nBesides, %w; see helm status %s and %s", err, lacking, name, howToRecover(name, o.opts.Namespace))
	}
}

// howToRecover is the command that brings the record of a release in line with the cluster.
func howToRecover(name, namespace string) string {
	call := "helm parallel-hooks recover " + name
	if namespace != "" {
		call += " --namespace " + display.ShellWord(namespace)
	}
	return call
}

// withDetails adds to an error that failing hooks have caused how long each had
// run, the last log lines of its containers and how to look further. They don't
// belong into the release record. Where hooks run as by Helm, there are none unless
// log lines were asked for.
func (o *Operation) withDetails(err error) error {
	if err == nil || o.opts.Parallelism <= 1 && o.opts.LogTail == 0 {
		return err
	}
	var details strings.Builder
	for _, event := range o.failures {
		for _, failure := range event.Failures {
			if failure.Op == hooks.OpWait {
				o.detail(&details, failure)
			}
		}
	}
	if details.Len() == 0 {
		return err
	}
	return &detailedError{err, strings.TrimRight(details.String(), "\n")}
}

// Ignored says of which hooks the failure was ignored, as their annotation asks, with
// details as for an error; it's empty if there are none. It may be called once the
// operation has returned.
func (o *Operation) Ignored() string {
	if len(o.ignored) == 0 {
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "WARNING: hooks have failed, which the annotation %s ignores:\n", hooks.FailureAnnotation)
	for _, failure := range o.ignored {
		words := &hookFailure{RunError: &hooks.RunError{Event: failure.Event}, timeout: o.asked.timeout}
		fmt.Fprintf(&text, "  %s\n", words.item(failure))
	}
	for _, failure := range o.ignored {
		if failure.Op == hooks.OpWait {
			o.detail(&text, failure)
		}
	}
	return text.String()
}

// detail writes the details of a hook that has failed while it ran.
func (o *Operation) detail(details *strings.Builder, failure *hooks.HookError) {
	h := failure.Hook
	what := "failed"
	if errors.Is(failure, hooks.ErrTimeout) {
		what = "not done"
	}
	fmt.Fprintf(details, "%s, %s hook of weight %d: %s after %.1fs\n", display.Printable(h.String()), failure.Event, h.Weight, what, failure.After.Seconds())
	for _, f := range failure.Findings {
		what, lines := "last lines of", f.Log
		if len(lines) == 0 && f.Ended && o.opts.LogTail > 0 && f.Message != "" {
			what, lines = "termination message of", strings.Split(strings.TrimSpace(f.Message), "\n")
		}
		if len(lines) == 0 {
			continue
		}
		fmt.Fprintf(details, "  %s pod %s, container %s:\n", what, display.Printable(f.Pod), display.Printable(f.Container))
		for _, line := range lines {
			fmt.Fprintf(details, "  | %s\n", display.PrintableLine(line))
		}
	}
	if slices.Contains(h.DeletePolicies, hooks.DeleteFailed) {
		fmt.Fprintf(details, "  deleted since, by its policy %s\n", hooks.DeleteFailed)
		return
	}
	namespace := h.Namespace
	if len(h.Objects) == 1 {
		namespace = cmp.Or(h.Objects[0].GetNamespace(), namespace)
	}
	// Of a List, or where the server chose the name, the hook's own name is no
	// object's.
	kind, name := h.Kind, h.Name
	var ended *hooks.EndedBadly
	if errors.As(failure, &ended) {
		kind, name = ended.Kind, ended.Name
	}
	kubectl := fmt.Sprintf("%s --namespace %s", cmp.Or(o.opts.Kubectl, "kubectl"), display.ShellWord(namespace))
	resource := display.ShellWord(strings.ToLower(kind) + "/" + name)
	fmt.Fprintf(details, "  look further: %s describe %s\n", kubectl, resource)
	if slices.ContainsFunc(failure.Findings, func(f hooks.Finding) bool { return f.Ended || f.Running }) {
		fmt.Fprintf(details, "                %s logs %s --all-containers\n", kubectl, resource)
	}
}
