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
	failed := func(h *hooks.Hook, op string, err error, findings ...hooks.Finding) *hooks.HookError {
		return &hooks.HookError{Event: "pre-install", Hook: h, Op: op, Err: err, Findings: findings}
	}
	backoff := &hooks.EndedBadly{Kind: "Job", Name: "a", Reason: "BackoffLimitExceeded"}
	unmapped := &hooks.MappingError{Name: "a", Err: errors.New("no matches")}
	report := hooks.Finding{Pod: "a-x", Container: "main", Reason: "Error", ExitCode: 3, Ended: true, Log: []string{"secret"}}

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

func TestDetailsAreInTheErrorAndNotInTheRecord(t *testing.T) {
	hook := &hooks.Hook{Kind: "Job", Name: "a", Namespace: "shop", Weight: 3}
	list := &hooks.Hook{Kind: "List", Name: "$(id)", Namespace: "shop", Weight: 3}
	gone := &hooks.Hook{Kind: "Pod", Name: "b", Namespace: "shop", DeletePolicies: []hooks.DeletePolicy{hooks.DeleteFailed}}
	failures := []*hooks.HookError{
		{Event: "pre-install", Hook: hook, Op: hooks.OpWait, Err: &hooks.EndedBadly{Kind: "Job", Name: "a"}, After: 1234 * time.Millisecond, Findings: []hooks.Finding{
			{Pod: "a-x", Container: "main", Reason: "Error", Ended: true, Log: []string{"first", "red \x1b[31m"}},
		}},
		{Event: "pre-install", Hook: gone, Op: hooks.OpWait, Err: hooks.ErrTimeout, After: time.Minute, Findings: []hooks.Finding{
			{Pod: "b", Container: "main", Reason: "Error", Ended: true, Message: "first words\nlast words\n"},
		}},
		{Event: "pre-install", Hook: list, Op: hooks.OpWait, Err: &hooks.EndedBadly{Kind: "Job", Name: "in-list"}},
		{Event: "pre-install", Hook: list, Op: hooks.OpWait, Err: hooks.ErrTimeout},
		{Event: "pre-install", Hook: hook, Op: hooks.OpCreate, Err: errors.New("no")},
	}
	o := &Operation{
		opts:     Options{Parallelism: 2, LogTail: 20, Kubectl: "kubectl --context c"},
		failures: []*hooks.RunError{{Failures: failures}},
	}
	recorded := &hookFailure{o.failures[0], false, 0}
	if text := recorded.Error(); strings.Contains(text, "first") || strings.Contains(text, "words") || strings.Contains(text, "kubectl") {
		t.Errorf("what is recorded holds details: %q", text)
	}
	const want = `
Job/a, pre-install hook of weight 3: failed after 1.2s
  last lines of pod a-x, container main:
  | first
  | red \x1b[31m
  look further: kubectl --context c --namespace shop describe job/a
                kubectl --context c --namespace shop logs job/a --all-containers
Pod/b, pre-install hook of weight 0: not done after 60.0s
  termination message of pod b, container main:
  | first words
  | last words
  deleted since, by its policy hook-failed
List/$(id), pre-install hook of weight 3: failed after 0.0s
  look further: kubectl --context c --namespace shop describe job/in-list
List/$(id), pre-install hook of weight 3: not done after 0.0s
  look further: kubectl --context c --namespace shop describe 'list/$(id)'`
	if got := o.withDetails(recorded).Error(); !strings.HasSuffix(got, want) {
		t.Errorf("error:\n%s\nwant it to end with:\n%s", got, want)
	}
	o.opts.Parallelism, o.opts.LogTail = 1, 0
	if got := o.withDetails(recorded); got != error(recorded) {
		t.Errorf("a serial operation's error has details: %v", got)
	}
}
