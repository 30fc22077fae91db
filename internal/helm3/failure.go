package helm3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
)

// hookFailure says in Helm's words why an event failed. They go into the record's
// description, so they hold no logs; those are in [Details].
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
		line += "; still running: " + strings.Join(names, ", ")
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
				text = fmt.Sprintf("not done after %v (--timeout), and not ended by that: %s", e.timeout, text)
			}
			text = fmt.Sprintf("%s %s: %s", strings.ToLower(failure.Hook.Kind), failure.Hook.Name, text)
		}
		if said := containers(failure.Containers); said != "" {
			text += " (" + said + ")"
		}
	}
	return text
}

func isUnmapped(err error) bool {
	var unmapped *hooks.MappingError
	return errors.As(err, &unmapped)
}

// containers returns why containers failed, in one line.
func containers(reports []hooks.ContainerReport) string {
	said := make([]string, len(reports))
	for i, c := range reports {
		said[i] = fmt.Sprintf("pod %s, container %s: %s", c.Pod, c.Container, c.Reason)
		if c.Ended {
			said[i] += fmt.Sprintf(", exit code %d", c.ExitCode)
		}
		if c.Message != "" {
			said[i] += ": " + display.Printable(strings.TrimSpace(c.Message))
		}
	}
	return strings.Join(said, "; ")
}

// detailedError adds to an error what the containers of the failed hooks logged.
type detailedError struct {
	error
	details string
}

func (e *detailedError) Unwrap() error { return e.error }

// Error returns the error and the details below it.
func (e *detailedError) Error() string {
	return strings.TrimRight(e.error.Error(), "\n") + "\n" + e.details
}

// withDetails adds the last log lines of failed containers to an error that
// failing hooks have caused. They don't belong into the release record.
func (o *Operation) withDetails(err error) error {
	if err == nil {
		return nil
	}
	var details strings.Builder
	for _, event := range o.failures {
		for _, failure := range event.Failures {
			for _, c := range failure.Containers {
				if len(c.Log) == 0 {
					continue
				}
				fmt.Fprintf(&details, "last lines of %s (pod %s, container %s):\n", failure.Hook, c.Pod, c.Container)
				for _, line := range c.Log {
					fmt.Fprintf(&details, "  | %s\n", display.Printable(line))
				}
			}
		}
	}
	if details.Len() == 0 {
		return err
	}
	return &detailedError{err, strings.TrimRight(details.String(), "\n")}
}
