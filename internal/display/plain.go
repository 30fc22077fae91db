package display

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// maxNamed is how many hooks a line lists before it only counts.
const maxNamed = 10

// heartbeat is how often a plain display says what still runs.
const heartbeat = 30 * time.Second

// Plain writes one line per notice, fit for a log and for grep, and every 30 seconds
// one that says what still runs. Each line is one call of Write, so lines stay whole
// if out is shared by goroutines, which is then out's to allow.
type Plain struct {
	out     io.Writer
	options Options
	// quiet leaves out lines about what is under way.
	quiet bool

	beats sync.WaitGroup

	mu sync.Mutex // guards what follows
	// began is when the first event began.
	began  time.Time
	closed bool
	// stop ends the heartbeat; nil if there is none.
	stop chan struct{}
	// Of the current event.
	plan      *hooks.Plan
	eventAt   time.Time
	running   []*runningHook // in the order in which they started
	started   int
	unstarted int // ended without having started
	succeeded int
	failed    int
	ignored   int // failed, which is of no matter
	unknown   int // whose end nobody has seen
	stopping  bool
}

// runningHook is a hook that runs.
type runningHook struct {
	hook *hooks.Hook
	at   time.Time
	// activity is what its pods do, as far as known.
	activity string
}

// NewPlain returns a display that writes to out.
func NewPlain(out io.Writer, options Options) *Plain {
	return &Plain{out: out, options: options}
}

// Write implements [Display].
func (p *Plain) Write(text []byte) (int, error) { return p.out.Write(text) }

// Close implements [Display].
func (p *Plain) Close() {
	p.mu.Lock()
	p.closed = true
	p.endBeats()
	p.mu.Unlock()
	p.beats.Wait()
}

// Log implements [hooks.LogSink].
func (p *Plain) Log(source hooks.LogSource, text []byte) {
	p.mu.Lock()
	serial := p.plan == nil || p.plan.Serial()
	p.mu.Unlock()
	_, _ = p.out.Write(logLines(serial, p.options.Color, source, text))
}

// Observe implements [hooks.Observer].
func (p *Plain) Observe(n hooks.Notice) {
	p.mu.Lock()
	if !p.closed {
		p.observe(n)
	}
	p.mu.Unlock()
	if _, ok := n.(hooks.EventEnded); ok {
		p.beats.Wait()
	}
}

func (p *Plain) observe(n hooks.Notice) {
	switch n := n.(type) {
	case hooks.EventStarted:
		now := time.Now()
		if p.began.IsZero() {
			p.began = now
		}
		p.plan, p.eventAt, p.running = n.Plan, now, nil
		p.started, p.unstarted, p.succeeded, p.failed, p.ignored, p.unknown = 0, 0, 0, 0, 0, 0
		p.stopping = false
		if p.options.Progress && !p.quiet {
			p.beginBeats()
		}
	case hooks.TierStarted:
		p.progress("%s, weight %d: %s", n.Event, n.Weight, contents(p.plan, n.Tier))
	case hooks.HookStarted:
		p.started++
		p.running = append(p.running, &runningHook{hook: n.Hook, at: n.At})
		if n.Hook.RunsToCompletion() && !p.quiet {
			p.hook(n.At, "started", n.Hook, "")
		}
	case hooks.HookProgressed:
		if i := p.find(n.Hook); i >= 0 {
			p.running[i].activity = oneLine(n.Activity)
		}
	case hooks.HookEnded:
		p.ended(n)
	case hooks.HookWarned:
		p.line("WARNING: %s hook %s: %s", n.Event, Printable(n.Hook.String()), oneLine(n.Message))
	case hooks.ClusterWarned:
		p.line("WARNING: %s", oneLine(n.Message))
	case hooks.Stopping:
		p.stopping = true
		text := waiting(n.Event, n.Running, n.Queued)
		if len(n.Running) > 0 {
			text += " " + p.options.Leave
		}
		p.line("Interrupted: %s", text)
	case hooks.EventEnded:
		p.endBeats()
		took := time.Since(p.eventAt).Seconds()
		of, others := count(p.plan.Len(), "hook", "hooks"), ""
		if n.Err != nil || p.ignored > 0 {
			of, others = fmt.Sprintf("%d of %s succeeded", p.succeeded, of), p.others()
		}
		p.progress("%s: %s in %.1fs%s", p.plan.Event, of, took, others)
	}
}

// others says what has become of the event's hooks that didn't succeed.
func (p *Plain) others() string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(p.failed, "failed")
	add(p.unknown, "unknown")
	add(p.queued(), "never started")
	text := ""
	if len(parts) > 0 {
		text = "; " + strings.Join(parts, ", ")
	}
	switch {
	case p.ignored > 0 && p.failed > 0:
		text += fmt.Sprintf("; %d more failed, which is ignored", p.ignored)
	case p.ignored > 0:
		text += fmt.Sprintf("; %d failed, which is ignored", p.ignored)
	}
	return text
}

func (p *Plain) find(h *hooks.Hook) int {
	return slices.IndexFunc(p.running, func(r *runningHook) bool { return r.hook == h })
}

func (p *Plain) ended(n hooks.HookEnded) {
	r := n.Result
	if i := p.find(r.Hook); i >= 0 {
		p.running = slices.Delete(p.running, i, i+1)
	} else {
		p.unstarted++
	}
	what, detail := strings.ToLower(string(r.Phase)), ""
	if r.Phase == hooks.Succeeded {
		p.succeeded++
		if !r.Hook.RunsToCompletion() {
			what = "created"
		}
	}
	if r.Phase == hooks.Unknown {
		p.unknown++
	}
	if what != "created" && !r.StartedAt.IsZero() && !r.CompletedAt.IsZero() {
		detail = fmt.Sprintf("  %.1fs", r.CompletedAt.Sub(r.StartedAt).Seconds())
	}
	if r.Err != nil {
		detail += ": " + oneLine(r.Err.Problem())
		if causes := r.Err.Causes(); causes != "" {
			detail += " (" + oneLine(causes) + ")"
		}
	}
	if r.Ignored {
		p.ignored++
		detail += "; ignored, by its annotation"
	}
	p.hook(r.CompletedAt, what, r.Hook, detail)

	if r.Phase != hooks.Failed || r.Ignored {
		return
	}
	if p.failed++; p.failed == 1 && !p.options.KeepGoing && len(p.running) > 0 {
		var running []*hooks.Hook
		for _, r := range p.running {
			running = append(running, r.hook)
		}
		p.progress("A hook failed: %s", waiting(n.Event, running, p.queued()))
	}
}

// queued is how many hooks of the event have neither started nor ended.
func (p *Plain) queued() int { return p.plan.Len() - p.started - p.unstarted }

// hook writes what happened to a hook: when, and how long after the first event
// began.
func (p *Plain) hook(at time.Time, what string, h *hooks.Hook, detail string) {
	if at.IsZero() {
		at = time.Now()
	}
	elapsed := fmt.Sprintf("+%.1fs", max(0, at.Sub(p.began)).Seconds())
	word := fmt.Sprintf("%-9s", what)
	if p.options.Color {
		switch what {
		case "failed", "unknown":
			word = colored(red, word)
		case "succeeded", "created":
			word = colored(green, word)
		}
	}
	p.progress("  %s %-7s %s  %s%s", at.Local().Format(time.TimeOnly), elapsed, word, Printable(h.String()), detail)
}

// speak has a quiet display say what is under way, too.
func (p *Plain) speak() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = false
	p.beginBeats()
}

// beginBeats begins to say from time to time what still runs, until endBeats.
func (p *Plain) beginBeats() {
	stop := make(chan struct{})
	p.stop = stop
	p.beats.Go(func() {
		ticks := time.NewTicker(heartbeat)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				p.mu.Lock()
				if p.stop == stop {
					p.beat()
				}
				p.mu.Unlock()
			case <-stop:
				return
			}
		}
	})
}

func (p *Plain) endBeats() {
	if p.stop != nil {
		close(p.stop)
		p.stop = nil
	}
}

func (p *Plain) beat() {
	now := time.Now()
	since := fmt.Sprintf("%s +%.1fs", now.Local().Format(time.TimeOnly), now.Sub(p.began).Seconds())
	if len(p.running) == 0 {
		p.progress("  %s  no hook of %s runs: objects are being deleted, or logs read", since, p.plan.Event)
		return
	}
	var names []string
	for _, r := range p.running[:min(len(p.running), maxNamed)] {
		name := fmt.Sprintf("%s %.0fs", Printable(r.hook.String()), time.Since(r.at).Seconds())
		if r.activity != "" {
			name += " (" + r.activity + ")"
		}
		names = append(names, name)
	}
	if more := len(p.running) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	p.progress("  %s  %s of %s still running: %s", since,
		count(len(p.running), "hook", "hooks"), p.plan.Event, strings.Join(names, ", "))
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
	var setup, work []hooks.Step
	kinds := map[string]int{}
	for _, stage := range plan.Tiers[tier].Stages {
		for _, step := range stage.Steps {
			if step.Hook.RunsToCompletion() {
				work = append(work, step)
				kinds[step.Hook.Kind]++
			} else {
				setup = append(setup, step)
			}
		}
	}
	var parts, bounds []string
	if len(setup) > 0 {
		parts = append(parts, count(len(setup), "object to set up", "objects to set up"))
		bounds = append(bounds, bound(plan, setup))
	}
	if len(work) > 0 {
		var of []string
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			of = append(of, count(kinds[kind], Printable(kind), Printable(kind)+"s"))
		}
		parts = append(parts, strings.Join(of, " and "))
		bounds = append(bounds, bound(plan, work))
	}
	if len(bounds) == 2 && bounds[0] == bounds[1] {
		bounds[0] = "" // said once, of both
	}
	for i := range parts {
		parts[i] += bounds[i]
	}
	return strings.Join(parts, ", then ")
}

// bound says how many of the steps run at once at most, if not all.
func bound(plan *hooks.Plan, steps []hooks.Step) string {
	allowed := atOnce(plan.Limits, steps)
	switch {
	case allowed < min(len(steps), plan.Parallelism):
		return fmt.Sprintf(", at most %d at once by the charts' limits", allowed)
	case len(steps) > plan.Parallelism:
		return fmt.Sprintf(", at most %d at once", plan.Parallelism)
	default:
		return ""
	}
}

// atOnce returns how many of the steps the limits let run at once at most.
func atOnce(limits []hooks.Limit, steps []hooks.Step) int {
	// A group is steps of which so many run at once at most, and the limits that count
	// all of them.
	type group struct {
		most   int
		limits []int
	}
	var groups []group
	counted := make([]int, len(limits))
	for _, step := range steps {
		groups = append(groups, group{1, step.Limits})
		for _, l := range step.Limits {
			counted[l]++
		}
	}
	var narrow []int // those that count some step, the narrowest first
	for l, n := range counted {
		if n > 0 {
			narrow = append(narrow, l)
		}
	}
	slices.SortStableFunc(narrow, func(a, b int) int { return cmp.Compare(counted[a], counted[b]) })
	for _, l := range narrow {
		var rest, within []group
		for _, g := range groups {
			if slices.Contains(g.limits, l) {
				within = append(within, g)
			} else {
				rest = append(rest, g)
			}
		}
		if len(within) == 0 {
			continue // it counts only parts of groups
		}
		one := group{limits: slices.Clone(within[0].limits)}
		for _, g := range within {
			one.most += g.most
			one.limits = slices.DeleteFunc(one.limits, func(l int) bool { return !slices.Contains(g.limits, l) })
		}
		one.most = min(one.most, limits[l].MaxParallel)
		groups = append(rest, one)
	}
	most := 0
	for _, g := range groups {
		most += g.most
	}
	return most
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

var _ Display = (*Plain)(nil)
