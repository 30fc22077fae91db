// Package display shows a person how an operation goes. Its displays are
// observers of the engine's notices and write to stderr; stdout belongs to what
// Helm prints.
package display

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// maxNamed is how many hooks a line lists before it only counts.
const maxNamed = 10

// Options says what a display shows.
type Options struct {
	// Progress shows each weight, and each hook's start and end. Otherwise
	// only what went wrong or needs patience is shown.
	Progress bool
	// KeepGoing says that further hooks of a weight start after a failure.
	KeepGoing bool
	// Leave says how to leave at once after a first signal.
	Leave string
}

// Plain writes one line per notice, fit for a log and for grep. Each line is one
// call of Write, so lines stay whole if out is shared by goroutines, which is
// then out's to allow. Errors of out are dropped: a display that fails must not
// fail the operation.
//
// Like every observer it's told one notice at a time.
type Plain struct {
	out     io.Writer
	options Options

	// began is when the first event began.
	began time.Time
	// Of the current event.
	plan      *hooks.Plan
	eventAt   time.Time
	running   []*hooks.Hook
	started   int
	succeeded int
	failed    bool
}

// NewPlain returns a display that writes to out.
func NewPlain(out io.Writer, options Options) *Plain {
	return &Plain{out: out, options: options}
}

// Observe implements [hooks.Observer].
func (p *Plain) Observe(n hooks.Notice) {
	switch n := n.(type) {
	case hooks.EventStarted:
		now := time.Now()
		if p.began.IsZero() {
			p.began = now
		}
		p.plan, p.eventAt, p.running, p.started, p.succeeded, p.failed = n.Plan, now, nil, 0, 0, false
	case hooks.TierStarted:
		p.progress("%s, weight %d: %s", n.Event, n.Weight, contents(p.plan, n.Tier))
	case hooks.HookStarted:
		p.started++
		p.running = append(p.running, n.Hook)
		if n.Hook.RunsToCompletion() {
			p.hook(n.At, "started", n.Hook, "")
		}
	case hooks.HookEnded:
		p.ended(n)
	case hooks.HookWarned:
		p.line("WARNING: %s hook %s: %s", n.Event, Printable(n.Hook.String()), oneLine(n.Message))
	case hooks.Stopping:
		text := waiting(n.Event, n.Running, n.Queued)
		if len(n.Running) > 0 {
			text += " " + p.options.Leave
		}
		p.line("Interrupted: %s", text)
	case hooks.EventEnded:
		took := time.Since(p.eventAt).Seconds()
		if n.Err == nil {
			p.progress("%s: %s in %.1fs", p.plan.Event, count(p.plan.Len(), "hook", "hooks"), took)
		} else {
			p.progress("%s: %d of %s succeeded in %.1fs", p.plan.Event, p.succeeded, count(p.plan.Len(), "hook", "hooks"), took)
		}
	}
}

func (p *Plain) ended(n hooks.HookEnded) {
	r := n.Result
	if i := slices.Index(p.running, r.Hook); i >= 0 {
		p.running = slices.Delete(p.running, i, i+1)
	}
	what, detail := strings.ToLower(string(r.Phase)), ""
	if r.Phase == hooks.Succeeded {
		p.succeeded++
		if !r.Hook.RunsToCompletion() {
			what = "created"
		}
	}
	if what != "created" && !r.StartedAt.IsZero() && !r.CompletedAt.IsZero() {
		detail = fmt.Sprintf("  %.1fs", r.CompletedAt.Sub(r.StartedAt).Seconds())
	}
	if r.Err != nil {
		detail += ": " + oneLine(r.Err.Problem())
	}
	p.hook(r.CompletedAt, what, r.Hook, detail)

	if r.Phase == hooks.Failed && !p.failed && !p.options.KeepGoing && len(p.running) > 0 {
		p.progress("A hook failed: %s", waiting(n.Event, p.running, p.plan.Len()-p.started))
	}
	p.failed = p.failed || r.Phase == hooks.Failed
}

// hook writes what happened to a hook, and how long after the first event began.
func (p *Plain) hook(at time.Time, what string, h *hooks.Hook, detail string) {
	if at.IsZero() {
		at = time.Now()
	}
	elapsed := fmt.Sprintf("+%.1fs", max(0, at.Sub(p.began)).Seconds())
	p.progress("  %-7s %-9s  %s%s", elapsed, what, Printable(h.String()), detail)
}

func (p *Plain) progress(format string, args ...any) {
	if p.options.Progress {
		p.line(format, args...)
	}
}

func (p *Plain) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

// contents says what a tier holds.
func contents(plan *hooks.Plan, tier int) string {
	setup, work, kinds := 0, 0, map[string]int{}
	for _, stage := range plan.Tiers[tier].Stages {
		for _, step := range stage.Steps {
			if step.Hook.RunsToCompletion() {
				work++
				kinds[step.Hook.Kind]++
			} else {
				setup++
			}
		}
	}
	var parts []string
	if setup > 0 {
		parts = append(parts, count(setup, "object to set up", "objects to set up"))
	}
	if work > 0 {
		var of []string
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			of = append(of, count(kinds[kind], kind, kind+"s"))
		}
		parts = append(parts, strings.Join(of, " and "))
	}
	text := strings.Join(parts, ", then ")
	if max(setup, work) > plan.Parallelism {
		text += fmt.Sprintf(", at most %d at once", plan.Parallelism)
	}
	return text
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// waiting says that no further hook starts and what is waited for.
func waiting(event hooks.Event, running []*hooks.Hook, queued int) string {
	text := "no further hook starts"
	if queued > 0 {
		text += fmt.Sprintf(" (%d of %s won't run)", queued, event)
	}
	if len(running) == 0 {
		return text + "."
	}
	var names []string
	for _, h := range running[:min(len(running), maxNamed)] {
		names = append(names, Printable(h.String()))
	}
	if more := len(running) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("%s; waiting for %s: %s.", text, count(len(running), "running hook", "running hooks"), strings.Join(names, ", "))
}

var _ hooks.Observer = (*Plain)(nil)
