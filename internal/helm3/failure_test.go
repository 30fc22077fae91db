package helm3

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func TestFailuresHaveHelmsWords(t *testing.T) {
	hook := &hooks.Hook{Kind: "Job", Name: "a", Path: "chart/templates/a.yaml"}
	other := &hooks.Hook{Kind: "Job", Name: "b", Path: "chart/templates/b.yaml"}
	failed := func(h *hooks.Hook, op string, err error, containers ...hooks.ContainerReport) *hooks.HookError {
		return &hooks.HookError{Event: "pre-install", Hook: h, Op: op, Err: err, Containers: containers}
	}
	backoff := &hooks.EndedBadly{Kind: "Job", Name: "a", Reason: "BackoffLimitExceeded"}
	unmapped := &hooks.MappingError{Name: "a", Err: errors.New("no matches")}
	report := hooks.ContainerReport{Pod: "a-x", Container: "main", Reason: "Error", ExitCode: 3, Ended: true, Log: []string{"secret"}}

	for _, test := range []struct {
		name   string
		err    *hooks.RunError
		serial bool
		want   string
	}{
		{"a failed Job", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpWait, backoff)}}, true,
			"1 error occurred:\n\t* job a failed: BackoffLimitExceeded\n\n"},
		{"a timeout", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpWait, hooks.ErrTimeout)}}, true,
			"1 error occurred:\n\t* timed out waiting for the condition\n\n"},
		{"a refused creation", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpCreate, errors.New("it exists"))}}, true,
			"warning: Hook pre-install chart/templates/a.yaml failed: 1 error occurred:\n\t* it exists\n\n"},
		{"a refused creation among many", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpCreate, errors.New("it exists")), failed(other, hooks.OpWait, backoff)}}, false,
			"2 errors occurred:\n\t* Job/a (chart/templates/a.yaml): creating: it exists\n\t* job a failed: BackoffLimitExceeded\n\n"},
		{"a deletion that takes too long", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpDelete, hooks.ErrTimeout)}}, true,
			"context deadline exceeded"},
		{"an unknown kind to delete", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpDelete, unmapped)}}, true,
			"unable to build kubernetes object for deleting hook chart/templates/a.yaml: " + unmapped.Error()},
		{"an unknown kind to create", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpCreate, unmapped)}}, true,
			"unable to build kubernetes object for pre-install hook chart/templates/a.yaml: " + unmapped.Error()},
		{"with what its pod said", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpWait, backoff, report)}}, false,
			"1 error occurred:\n\t* job a failed: BackoffLimitExceeded (pod a-x, container main: Error, exit code 3)\n\n"},
		{"two failures", &hooks.RunError{Failures: []*hooks.HookError{failed(hook, hooks.OpWait, backoff), failed(other, hooks.OpWait, hooks.ErrTimeout)}}, false,
			"2 errors occurred:\n\t* job a failed: BackoffLimitExceeded\n\t* job b: not done after 3s (--timeout), and not ended by that: timed out waiting for the condition\n\n"},
		{"interrupted", &hooks.RunError{Interrupted: hooks.ErrStopped, NotStarted: []*hooks.Hook{hook, other}}, false,
			"context canceled: interrupted; hooks not started: 2"},
		{"left at once", &hooks.RunError{Interrupted: context.Canceled, Unknown: []*hooks.Hook{hook}}, false,
			"context canceled: interrupted; still running: Job/a"},
		{"interrupted and failed", &hooks.RunError{Interrupted: hooks.ErrStopped, Failures: []*hooks.HookError{failed(hook, hooks.OpWait, backoff)}}, false,
			"2 errors occurred:\n\t* context canceled: interrupted\n\t* job a failed: BackoffLimitExceeded\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.err.Event = "pre-install"
			err := &hookFailure{test.err, test.serial, 3 * time.Second}
			if got := err.Error(); got != test.want {
				t.Errorf("error:\ngot  %q\nwant %q", got, test.want)
			}
			if !errors.Is(err, test.err) {
				t.Error("the engine's error can't be found in it")
			}
		})
	}
}

func TestLogsAreInTheErrorAndNotInTheRecord(t *testing.T) {
	hook := &hooks.Hook{Kind: "Job", Name: "a"}
	failure := &hooks.HookError{Hook: hook, Op: hooks.OpWait, Err: hooks.ErrTimeout, Containers: []hooks.ContainerReport{
		{Pod: "a-x", Container: "main", Reason: "Error", Log: []string{"first", "red \x1b[31m"}},
	}}
	o := &Operation{failures: []*hooks.RunError{{Failures: []*hooks.HookError{failure}}}}
	recorded := &hookFailure{o.failures[0], false, 0}
	if strings.Contains(recorded.Error(), "first") {
		t.Errorf("what is recorded holds a log: %q", recorded)
	}
	want := "\nlast lines of Job/a (pod a-x, container main):\n  | first\n  | red \\x1b[31m"
	if got := o.withDetails(recorded).Error(); !strings.HasSuffix(got, want) {
		t.Errorf("error: got %q, want it to end with %q", got, want)
	}
}
