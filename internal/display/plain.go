// Package display shows a person how an operation goes. Its displays are
// observers of the engine's notices and write to stderr; stdout belongs to what
// Helm prints.
package display

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// maxNamed is how many hooks a line lists before it only counts.
const maxNamed = 10

// Plain writes one line per notice, fit for a log and for grep. Each line is one
// call of Write, so lines stay whole if out is shared by goroutines, which is
// then out's to allow. Errors of out are dropped: a display that fails must not
// fail the operation.
//
// Like every observer it's told one notice at a time.
type Plain struct {
	out      io.Writer
	progress bool
	// began is when the current event began.
	began time.Time
}

// NewPlain returns a display that writes to out: always what went wrong or needs
// patience, and each hook's start and end if progress is set.
func NewPlain(out io.Writer, progress bool) *Plain {
	return &Plain{out: out, progress: progress}
}

// Observe implements [hooks.Observer].
func (p *Plain) Observe(n hooks.Notice) {
	switch n := n.(type) {
	case hooks.EventStarted:
		p.began = time.Now()
	case hooks.HookStarted:
		if p.progress {
			p.hook(n.Event, n.At, "started", n.Hook, "")
		}
	case hooks.HookEnded:
		if p.progress {
			p.hook(n.Event, n.Result.CompletedAt, strings.ToLower(string(n.Result.Phase)), n.Result.Hook, outcome(n.Result))
		}
	case hooks.HookWarned:
		p.line("WARNING: %s hook %s: %s", n.Event, Printable(n.Hook.String()), oneLine(n.Message))
	case hooks.Stopping:
		p.line("%s", stopping(n))
	}
}

// hook writes what happened to a hook: event, time since the event began, what,
// and which hook.
func (p *Plain) hook(event hooks.Event, at time.Time, what string, h *hooks.Hook, detail string) {
	if at.IsZero() {
		at = time.Now()
	}
	elapsed := fmt.Sprintf("+%.1fs", max(0, at.Sub(p.began)).Seconds())
	p.line("%s  %-7s  %-9s  %s (weight %d)%s", event, elapsed, what, Printable(h.String()), h.Weight, detail)
}

func (p *Plain) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

// outcome says how long a hook ran and what went wrong.
func outcome(r hooks.Result) string {
	var b strings.Builder
	if !r.StartedAt.IsZero() && !r.CompletedAt.IsZero() {
		fmt.Fprintf(&b, " after %.1fs", r.CompletedAt.Sub(r.StartedAt).Seconds())
	}
	if r.Err != nil {
		b.WriteString(": " + oneLine(r.Err.Problem()))
	}
	return b.String()
}

// stopping says what an interrupted operation still waits for.
func stopping(n hooks.Stopping) string {
	text := "Interrupted: no further hook starts"
	if n.Queued > 0 {
		text += fmt.Sprintf(" (%d of %s won't run)", n.Queued, n.Event)
	}
	if len(n.Running) == 0 {
		return text + "."
	}
	var names []string
	for _, h := range n.Running[:min(len(n.Running), maxNamed)] {
		names = append(names, Printable(h.String()))
	}
	if more := len(n.Running) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	noun := "hooks"
	if len(n.Running) == 1 {
		noun = "hook"
	}
	return fmt.Sprintf("%s; waiting for %d running %s: %s. Press Ctrl-C again to leave at once.",
		text, len(n.Running), noun, strings.Join(names, ", "))
}

var _ hooks.Observer = (*Plain)(nil)
