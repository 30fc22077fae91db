package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

// Plan says which hooks an operation would run when.
type Plan struct {
	SchemaVersion int    `json:"schemaVersion"`
	Release       string `json:"release"`
	Namespace     string `json:"namespace"`
	// Operation is "install" or "upgrade".
	Operation   string `json:"operation"`
	Parallelism int    `json:"parallelism"`
	// Order is in which hooks start that may run at once: "name" or "longest-first".
	Order string `json:"order"`
	// Limits are how many hooks of single charts run at once at most.
	Limits []PlanLimit `json:"limits,omitempty"`
	// Seconds is how long all events' hooks are expected to take, SerialSeconds
	// how long one after another. Hooks whose time is not known count nothing.
	Seconds       float64 `json:"seconds"`
	SerialSeconds float64 `json:"serialSeconds"`
	// SecondsByOrder is how long they are expected to take in each order.
	SecondsByOrder map[string]float64 `json:"secondsByOrder"`
	// Unknown is how many hooks have no recorded time.
	Unknown int         `json:"unknown"`
	Events  []PlanEvent `json:"events"`
}

// PlanLimit is how many hooks of charts and their subcharts run at once at most, all of
// them together.
type PlanLimit struct {
	Charts      []string `json:"charts"`
	MaxParallel int      `json:"maxParallel"`
}

// PlanEvent is the part of a plan for one event.
type PlanEvent struct {
	Name    string     `json:"event"`
	Seconds float64    `json:"seconds"`
	Tiers   []PlanTier `json:"tiers"`
}

// PlanTier is the hooks of one weight. Its stages run one after another.
type PlanTier struct {
	Weight int         `json:"weight"`
	Stages []PlanStage `json:"stages"`
}

// PlanStage is the hooks of a tier that may run at once, in the order in which
// they start.
type PlanStage struct {
	// Kind is that of objects to set up; empty for Jobs and Pods, and where
	// hooks run one after another.
	Kind  string     `json:"kind,omitempty"`
	Hooks []PlanHook `json:"hooks"`
}

// PlanHook is a hook that would run.
type PlanHook struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Path  string `json:"path"`
	Slots int    `json:"slots"`
	// After are the hooks of the same stage that it waits for.
	After []string `json:"after,omitempty"`
	after []int    // the same by their places in the stage
	// Timeout is how long it may run, in seconds, by its annotation; zero:
	// --timeout.
	Timeout float64 `json:"timeout,omitempty"`
	// IgnoreFailure says that its failure is of no matter, by its annotation.
	IgnoreFailure bool `json:"ignoreFailure,omitempty"`
	// Start is when it's expected to start, from the event's start, and
	// Seconds how long it's expected to take; nil if that isn't known.
	Start   float64  `json:"start"`
	Seconds *float64 `json:"seconds"`
}

// The orders in which hooks that may run at once start.
const (
	ByName       = "name"
	LongestFirst = "longest-first"
)

// Orders are all of them.
var Orders = []string{ByName, LongestFirst}

// History says how long hooks took in earlier revisions.
type History map[string]time.Duration

// Duration returns how long a hook took, if that's known.
func (h History) Duration(hook *hooks.Hook) (took time.Duration, known bool) {
	took, known = h[hook.String()]
	return took, known
}

// historyLength is from how many revisions a hook's time is taken, at most.
const historyLength = 5

// NewHistory reads from the records of revisions how long each hook took: the
// median of the newest ones in which it ran to a good end.
func NewHistory(revisions []*release.Release) History {
	newest := slices.Clone(revisions)
	slices.SortFunc(newest, func(a, b *release.Release) int { return b.Version - a.Version })
	times := map[string][]time.Duration{}
	for _, rel := range newest {
		for _, h := range rel.Hooks {
			if !ranIn(rel, h) || h.LastRun.Phase != release.HookPhaseSucceeded {
				continue
			}
			if key := h.Kind + "/" + h.Name; len(times[key]) < historyLength {
				times[key] = append(times[key], took(h))
			}
		}
	}
	history := History{}
	for key, all := range times {
		slices.Sort(all)
		history[key] = (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	}
	return history
}

// NewPlan returns the plan of the hooks that installing or upgrading to rel, which
// was rendered for that and never recorded, would run, in one of [Orders]. The error
// is one of an annotation that can't be followed.
func NewPlan(rel *release.Release, install bool, parallelism int, order string, history History) (*Plan, error) {
	p := &Plan{
		SchemaVersion: SchemaVersion, Release: rel.Name, Namespace: rel.Namespace,
		Operation: "upgrade", Parallelism: max(1, parallelism), Order: order, Events: []PlanEvent{},
		SecondsByOrder: map[string]float64{},
	}
	events := byUpgrade
	if install {
		p.Operation, events = "install", byInstall
	}
	all, err := convert(rel)
	if err != nil {
		return nil, err
	}
	options := hooks.PlanOptions{Parallelism: parallelism}
	if parallelism > 1 {
		if options.Limits, err = helm3.Limits(rel.Chart); err != nil {
			return nil, err
		}
		for _, l := range options.Limits {
			p.Limits = append(p.Limits, PlanLimit{l.Charts, l.MaxParallel})
		}
	}
	// What can't be followed is refused at whatever event, as by the operation.
	for _, event := range lifecycle {
		if _, err := hooks.NewPlan(hooks.Event(event), all, options); err != nil {
			return nil, err
		}
	}
	for _, each := range Orders {
		options.Duration = nil
		if each == LongestFirst {
			options.Duration = history.Duration
		}
		var total, serial time.Duration
		for _, event := range events {
			planned, err := hooks.NewPlan(hooks.Event(event), all, options)
			if err != nil {
				return nil, err
			}
			if planned.Len() == 0 {
				continue
			}
			forecast := planned.Forecast(func(h *hooks.Hook) time.Duration { return history[h.String()] })
			var end time.Duration
			for _, f := range forecast {
				end = max(end, f.End)
				serial += f.End - f.Start
			}
			total += end
			if each == order {
				p.Events = append(p.Events, newPlanEvent(planned, forecast, end, history))
			}
		}
		p.SecondsByOrder[each], p.SerialSeconds = display.Seconds(total), display.Seconds(serial)
	}
	p.Seconds = p.SecondsByOrder[order]
	for h := range p.hooks() {
		if h.Seconds == nil {
			p.Unknown++
		}
	}
	return p, nil
}

// convert returns the hooks of a release in the engine's terms, in their order.
func convert(rel *release.Release) ([]*hooks.Hook, error) {
	all := make([]*hooks.Hook, len(rel.Hooks))
	for i, h := range rel.Hooks {
		var err error
		if all[i], err = helm3.Convert(h, rel.Namespace); err != nil {
			return nil, fmt.Errorf("reading hook %s: %w", h.Path, err)
		}
	}
	return all, nil
}

// newPlanEvent pairs a plan with its forecast, which is in plan order.
func newPlanEvent(planned *hooks.Plan, forecast []hooks.Forecast, end time.Duration, history History) PlanEvent {
	event := PlanEvent{Name: string(planned.Event), Seconds: display.Seconds(end)}
	for _, tier := range planned.Tiers {
		shown := PlanTier{Weight: tier.Weight}
		for _, stage := range tier.Stages {
			part := PlanStage{Kind: stage.Kind}
			for _, step := range stage.Steps {
				hook := PlanHook{
					Name: step.Hook.Name, Kind: step.Hook.Kind, Path: step.Hook.Path, Slots: step.Slots,
					Start: display.Seconds(forecast[0].Start), after: step.After,
					Timeout: display.Seconds(step.Timeout), IgnoreFailure: step.IgnoreFailure,
				}
				if took, ok := history.Duration(step.Hook); ok {
					s := display.Seconds(took)
					hook.Seconds = &s
				}
				for _, i := range step.After {
					hook.After = append(hook.After, stage.Steps[i].Hook.String())
				}
				part.Hooks = append(part.Hooks, hook)
				forecast = forecast[1:]
			}
			shown.Stages = append(shown.Stages, part)
		}
		event.Tiers = append(event.Tiers, shown)
	}
	return event
}

func (p *Plan) hooks() func(yield func(*PlanHook) bool) {
	return func(yield func(*PlanHook) bool) {
		for i := range p.Events {
			for h := range p.Events[i].hooks() {
				if !yield(h) {
					return
				}
			}
		}
	}
}

func (e *PlanEvent) hooks() func(yield func(*PlanHook) bool) {
	return func(yield func(*PlanHook) bool) {
		for _, tier := range e.Tiers {
			for _, stage := range tier.Stages {
				for i := range stage.Hooks {
					if !yield(&stage.Hooks[i]) {
						return
					}
				}
			}
		}
	}
}

// WriteTable writes the plan for a person.
func (p *Plan) WriteTable(out io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "To %s %s in namespace %s, %s\n", p.Operation, display.Printable(p.Release), display.Printable(p.Namespace), p.atOnce())
	if len(p.Events) == 0 {
		b.WriteString("\nNo hook would run.\n")
	}
	noted := ""
	for h := range p.hooks() {
		if h.notes() != "" {
			noted = "\tNOTES"
		}
	}
	for _, event := range p.Events {
		fmt.Fprintf(&b, "\n%s: %s\n", event.Name, event.expected())
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "WEIGHT\tSTAGE\tHOOK\tSTARTS\tTAKES\tSLOTS\tWAITS FOR"+noted)
		for _, tier := range event.Tiers {
			for number, stage := range tier.Stages {
				for _, h := range stage.Hooks {
					takes := "?"
					if h.Seconds != nil {
						takes = inSeconds(*h.Seconds)
					}
					fmt.Fprintf(w, "%d\t%d\t%s\t+%s\t%s\t%d\t%s\t%s\n", tier.Weight, number+1, display.Printable(h.Kind+"/"+h.Name), inSeconds(h.Start), takes, h.Slots, display.Printable(strings.Join(h.After, ", ")), h.notes())
				}
			}
		}
		_ = w.Flush() // to a buffer
	}
	for i, l := range p.Limits {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "Of %s: at most %d at once\n", display.Printable(strings.Join(l.Charts, " and ")), l.MaxParallel)
	}
	if len(p.Events) > 0 {
		fmt.Fprintf(&b, "\nExpected: %s\n", p.summary())
	}
	_, err := out.Write(trimLines(b.Bytes()))
	return err
}

func (p *Plan) atOnce() string {
	if p.Parallelism == 1 {
		return "one hook after another"
	}
	text := fmt.Sprintf("up to %d hooks of equal weight at once", p.Parallelism)
	if p.Order == LongestFirst {
		text += ", longest first"
	}
	return text
}

// otherOrder says how long the hooks would take in the other order, if not as long.
func (p *Plan) otherOrder() string {
	if p.SecondsByOrder[ByName] == p.SecondsByOrder[LongestFirst] {
		return ""
	}
	if p.Order == LongestFirst {
		return fmt.Sprintf(" In the order of their names: %s.", inSeconds(p.SecondsByOrder[ByName]))
	}
	return fmt.Sprintf(" Longest first (--hook-order %s): %s.", LongestFirst, inSeconds(p.SecondsByOrder[LongestFirst]))
}

// notes say what else annotations ask for.
func (h *PlanHook) notes() string {
	var notes []string
	if h.Timeout > 0 {
		notes = append(notes, "timeout "+(time.Duration(h.Timeout*float64(time.Second))).String())
	}
	if h.IgnoreFailure {
		notes = append(notes, "failure ignored")
	}
	return strings.Join(notes, ", ")
}

// expected says how long the event is expected to take.
func (e *PlanEvent) expected() string {
	unknown := false
	for h := range e.hooks() {
		unknown = unknown || h.Seconds == nil
	}
	switch {
	case unknown && e.Seconds == 0:
		return "time not known"
	case unknown:
		return "at least " + inSeconds(e.Seconds)
	default:
		return inSeconds(e.Seconds)
	}
}

// summary says how long all events are expected to take, and what isn't known of that.
func (p *Plan) summary() string {
	caveat, counts := "", ""
	switch p.Unknown {
	case 0:
	case 1:
		caveat, counts = " For 1 hook no earlier revision has recorded a time", "; it counts nothing."
	default:
		caveat, counts = fmt.Sprintf(" For %d hooks no earlier revision has recorded a time", p.Unknown), "; they count nothing."
	}
	if p.Unknown > 0 && p.SerialSeconds == 0 {
		return "not known." + caveat + "."
	}
	return fmt.Sprintf("%s, one after another %s.%s%s%s", inSeconds(p.Seconds), inSeconds(p.SerialSeconds), p.otherOrder(), caveat, counts)
}

// trimLines removes the blanks that padding leaves at the ends of lines.
func trimLines(text []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		out.Write(bytes.TrimRight(line, " \n"))
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// WriteMermaid writes which hook comes after which as a flowchart in the language
// of Mermaid: a box for each tier and stage, with arrows where one waits for
// another.
func (p *Plan) WriteMermaid(out io.Writer) error {
	var b bytes.Buffer
	b.WriteString("flowchart LR\n")
	n, before := 0, ""
	for _, event := range p.Events {
		for _, tier := range event.Tiers {
			for _, stage := range tier.Stages {
				n++
				box := fmt.Sprintf("s%d", n)
				fmt.Fprintf(&b, "  subgraph %s [\"%s, weight %d\"]\n", box, plainName(event.Name), tier.Weight)
				for i, h := range stage.Hooks {
					fmt.Fprintf(&b, "    %sh%d[\"%s\"]\n", box, i, plainName(h.Kind+"/"+h.Name))
				}
				b.WriteString("  end\n")
				for i, h := range stage.Hooks {
					for _, after := range h.after {
						fmt.Fprintf(&b, "  %sh%d --> %sh%d\n", box, after, box, i)
					}
				}
				if before != "" {
					fmt.Fprintf(&b, "  %s --> %s\n", before, box)
				}
				before = box
			}
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}
