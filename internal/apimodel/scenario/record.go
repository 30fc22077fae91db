package scenario

import (
	"fmt"
	"net/http"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// Record is what was stored of the hooks at some time.
type Record struct {
	At time.Time
	// Hooks are those that have a phase. Of each, Result.Err is of no interest.
	Hooks map[*hooks.Hook]hooks.Result
	// GivenUp says that it was stored because the operation was given up.
	GivenUp bool
}

// CheckRecords returns what was not true in the records, given in their order, when they
// were stored. tried says when storing was tried, in vain or not.
func (r *Run) CheckRecords(records []Record, tried []time.Time) []string {
	j := newJudge(r)
	byHook := map[*hooks.Hook]*hook{}
	for _, h := range j.hooks {
		byHook[h.Hook] = h
	}
	last := map[*hooks.Hook]hooks.Phase{}
	for _, record := range records {
		for _, h := range r.Hooks {
			now := record.Hooks[h]
			if before := last[h]; before != now.Phase && before != "" && before != hooks.Running {
				j.problem("%s was stored to be %q after %s", h, now.Phase, before)
			}
			last[h] = now.Phase
			if wrong := j.untrue(byHook[h], now, record); wrong != "" {
				j.problem("%s was stored as %s %v after the run's beginning: %s", h, now.Phase, record.At.Sub(r.Began), wrong)
			}
		}
	}
	for _, request := range j.requests {
		if request.Method == http.MethodPost && (len(tried) == 0 || request.Sent.Before(tried[0])) {
			j.problem("%s was created before anything was stored", request.Key)
		}
	}
	return j.problems
}

// untrue returns why a hook was not as it was stored; empty if it was.
func (j *judge) untrue(h *hook, stored hooks.Result, record Record) string {
	result := h.result
	if stored.Phase != "" && !stored.StartedAt.Equal(result.StartedAt) {
		return fmt.Sprintf("it started at %v, and not at %v", result.StartedAt, stored.StartedAt)
	}
	ended := stored.Phase != "" && stored.Phase != hooks.Running && !record.GivenUp
	if ended && (stored.Phase != result.Phase || !stored.CompletedAt.Equal(result.CompletedAt)) {
		return fmt.Sprintf("it became %s at %v, and not at %v", result.Phase, result.CompletedAt, stored.CompletedAt)
	}
	if stored.CompletedAt.After(record.At) {
		return "it had not ended yet"
	}
	switch stored.Phase {
	case hooks.Succeeded:
		return j.wrong(h, hooks.Succeeded, record.At)
	case hooks.Unknown:
		if j.left.IsZero() && !record.GivenUp && !unanswered(h) {
			return "nobody has told the run to leave"
		}
	case hooks.Running:
		if record.GivenUp {
			return "nobody will tell its end any more"
		}
	}
	return ""
}
