// Package report says, from release records alone, what hooks ran when. It works
// for releases that plain Helm has deployed, too.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

// SchemaVersion is that of the JSON and YAML forms. It rises when a field is
// taken away or changes its meaning.
const SchemaVersion = 1

// Timeline says what hooks of a revision of a release ran when.
type Timeline struct {
	SchemaVersion int       `json:"schemaVersion"`
	Release       string    `json:"release"`
	Namespace     string    `json:"namespace"`
	Revision      int       `json:"revision"`
	Chart         string    `json:"chart,omitempty"`
	Status        string    `json:"status"`
	Deployed      time.Time `json:"deployed,omitzero"`
	// Events are those whose hooks ran, in the order in which they did.
	Events []Event `json:"events"`
	// Forecasts say how long the same hooks would take at other parallelisms.
	Forecasts []Forecast `json:"forecasts,omitempty"`
}

// Event is the hooks of an event that ran.
type Event struct {
	Name  string    `json:"event"`
	Start time.Time `json:"start"`
	// End is that of the last hook whose end is recorded.
	End time.Time `json:"end,omitzero"`
	// Seconds is from the first hook's start to the last one's end, and
	// SerialSeconds the sum of what each hook took.
	Seconds       float64 `json:"seconds"`
	SerialSeconds float64 `json:"serialSeconds"`
	// AtOnce is the largest number of hooks that ran at the same time.
	AtOnce int    `json:"atOnce"`
	Hooks  []Hook `json:"hooks"`
}

// Hook is what became of a hook.
type Hook struct {
	Name   string    `json:"name"`
	Kind   string    `json:"kind"`
	Path   string    `json:"path"`
	Weight int       `json:"weight"`
	Phase  string    `json:"phase"`
	Start  time.Time `json:"start"`
	// End is zero if the hook's end isn't recorded.
	End     time.Time `json:"end,omitzero"`
	Seconds float64   `json:"seconds"`
	// Ignored says that it failed and that this was of no matter, by its annotation.
	// Records don't say so.
	Ignored bool `json:"ignored,omitempty"`
}

// outcome returns the phase for a person.
func (h Hook) outcome() string {
	if h.Ignored {
		return h.Phase + ", ignored"
	}
	return h.Phase
}

// String returns what identifies the hook to a person: kind and name.
func (h Hook) String() string { return h.Kind + "/" + h.Name }

// Forecast is how long the events would take at a parallelism, if each hook took
// as long as it did.
type Forecast struct {
	Parallelism int     `json:"parallelism"`
	Seconds     float64 `json:"seconds"`
	// Faster is the time that they would take one hook after another, divided
	// by Seconds.
	Faster float64 `json:"faster"`
}

// NewTimeline returns the timeline of a revision, from its record. For each of
// the parallelisms it says how long the same hooks would take; the error is one
// of planning them, because of an annotation that can't be followed, say.
func NewTimeline(rel *release.Release, parallelisms ...int) (*Timeline, error) {
	if rel.Info == nil {
		return nil, fmt.Errorf("the record of revision %d of release %q is damaged: it has no field \"info\"", rel.Version, rel.Name)
	}
	t := about(rel)
	ran := eventsOf(rel)
	for _, name := range lifecycle {
		if all := ran[name]; len(all) > 0 {
			t.Events = append(t.Events, newEvent(name.String(), recorded(all)))
		}
	}
	slices.SortStableFunc(t.Events, func(a, b Event) int { return a.Start.Compare(b.Start) })

	var serial time.Duration
	for i, n := range append([]int{1}, parallelisms...) {
		total, err := forecast(rel, ran, n)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			serial = total
			continue
		}
		t.Forecasts = append(t.Forecasts, newForecast(n, total, serial))
	}
	return t, nil
}

// about returns a timeline of a release without events.
func about(rel *release.Release) *Timeline {
	t := &Timeline{
		SchemaVersion: SchemaVersion,
		Release:       rel.Name,
		Namespace:     rel.Namespace,
		Revision:      rel.Version,
		Status:        rel.Info.Status.String(),
		Deployed:      rel.Info.LastDeployed.Time,
		Events:        []Event{},
	}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		t.Chart = rel.Chart.Metadata.Name + "-" + rel.Chart.Metadata.Version
	}
	return t
}

func newForecast(parallelism int, took, serial time.Duration) Forecast {
	f := Forecast{Parallelism: parallelism, Seconds: display.Seconds(took), Faster: 1}
	if took > 0 {
		f.Faster = float64(serial) / float64(took)
	}
	return f
}

// recorded returns what the record says of hooks.
func recorded(all []*release.Hook) []Hook {
	these := make([]Hook, len(all))
	for i, h := range all {
		these[i] = Hook{
			Name: h.Name, Kind: h.Kind, Path: h.Path, Weight: h.Weight, Phase: string(h.LastRun.Phase),
			Start: h.LastRun.StartedAt.Time, End: h.LastRun.CompletedAt.Time, Seconds: display.Seconds(took(h)),
		}
	}
	return these
}

// newEvent returns the event of which these hooks have run, at least one.
func newEvent(name string, all []Hook) Event {
	e := Event{Name: name, Hooks: all}
	for _, h := range all {
		e.SerialSeconds += h.Seconds
		if e.Start.IsZero() || h.Start.Before(e.Start) {
			e.Start = h.Start
		}
		if h.End.After(e.End) {
			e.End = h.End
		}
	}
	slices.SortStableFunc(e.Hooks, func(a, b Hook) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), a.Start.Compare(b.Start), strings.Compare(a.Name, b.Name))
	})
	if !e.End.IsZero() {
		e.Seconds = display.Seconds(e.End.Sub(e.Start))
	}
	e.SerialSeconds = math.Round(1000*e.SerialSeconds) / 1000
	e.AtOnce = len(lanes(e.Hooks))
	return e
}

// took returns how long a hook ran; zero if its end isn't recorded.
func took(h *release.Hook) time.Duration {
	if h.LastRun.StartedAt.IsZero() || h.LastRun.CompletedAt.IsZero() {
		return 0
	}
	return max(0, h.LastRun.CompletedAt.Sub(h.LastRun.StartedAt))
}

// lanes puts hooks into as few lanes as there are hooks at the same time at most,
// so that none overlaps another of its lane.
func lanes(all []Hook) [][]Hook {
	byStart := slices.Clone(all)
	slices.SortStableFunc(byStart, func(a, b Hook) int { return a.Start.Compare(b.Start) })
	var lanes [][]Hook
	for _, h := range byStart {
		free := slices.IndexFunc(lanes, func(lane []Hook) bool {
			last := lane[len(lane)-1]
			return !last.End.IsZero() && !last.End.After(h.Start)
		})
		if free < 0 {
			lanes = append(lanes, []Hook{h})
		} else {
			lanes[free] = append(lanes[free], h)
		}
	}
	return lanes
}

// Collector keeps what became of the hooks of an operation. It's an observer of the
// operation's runs.
type Collector struct{ events []Event }

// Observe implements [hooks.Observer].
func (c *Collector) Observe(n hooks.Notice) {
	ended, ok := n.(hooks.EventEnded)
	if !ok {
		return
	}
	var all []Hook
	for _, r := range ended.Results {
		if r.StartedAt.IsZero() {
			continue
		}
		h := Hook{
			Name: r.Hook.Name, Kind: r.Hook.Kind, Path: r.Hook.Path, Weight: r.Hook.Weight, Phase: string(r.Phase),
			Start: r.StartedAt, End: r.CompletedAt, Ignored: r.Ignored,
		}
		if !h.End.IsZero() {
			h.Seconds = display.Seconds(h.End.Sub(h.Start))
		}
		all = append(all, h)
	}
	if len(all) > 0 {
		c.events = append(c.events, newEvent(string(ended.Event), all))
	}
}

// Timeline returns when the hooks ran that the operation on a release has run.
// rel is the release whose hooks they were; nil if none were to run.
func (c *Collector) Timeline(name, namespace string, rel *release.Release) *Timeline {
	t := &Timeline{SchemaVersion: SchemaVersion, Release: name, Namespace: namespace}
	if rel != nil {
		t = about(rel)
	}
	t.Events = append([]Event{}, c.events...)
	return t
}

// The events, in the order in which a revision comes by them.
var lifecycle = []release.HookEvent{
	release.HookPreInstall, release.HookPreUpgrade, release.HookPreRollback,
	release.HookPostInstall, release.HookPostUpgrade, release.HookPostRollback,
	release.HookTest, release.HookPreDelete, release.HookPostDelete,
}

// Events returns all events that hooks may be of, in the order in which a revision
// comes by them.
func Events() []release.HookEvent { return slices.Clone(lifecycle) }

// The pairs of events of which a revision has one.
var (
	byInstall  = []release.HookEvent{release.HookPreInstall, release.HookPostInstall}
	byUpgrade  = []release.HookEvent{release.HookPreUpgrade, release.HookPostUpgrade}
	byRollback = []release.HookEvent{release.HookPreRollback, release.HookPostRollback}

	byUninstall = []release.HookEvent{release.HookPreDelete, release.HookPostDelete}
)

// eventsOf returns the hooks that ran, by the event at which they did.
//
// A record says when a hook ran last, not at which of its events. It's that of
// the operation which made the revision, or of what came after; see madeBy.
func eventsOf(rel *release.Release) map[release.HookEvent][]*release.Hook {
	made := madeBy(rel)
	possible := slices.Concat(made, []release.HookEvent{release.HookTest, release.HookPreDelete, release.HookPostDelete})
	all := map[release.HookEvent][]*release.Hook{}
	for _, h := range rel.Hooks {
		if !ranIn(rel, h) {
			continue
		}
		var candidates []release.HookEvent
		for _, event := range possible {
			if slices.Contains(h.Events, event) {
				candidates = append(candidates, event)
			}
		}
		// Helm notes when it began to uninstall (pkg/action/uninstall.go).
		if !rel.Info.Deleted.IsZero() && !h.LastRun.StartedAt.Before(rel.Info.Deleted) {
			candidates = slices.DeleteFunc(candidates, func(e release.HookEvent) bool { return !slices.Contains(byUninstall, e) })
		}
		if len(candidates) == 0 {
			continue
		}
		event := candidates[0]
		// A hook of both events of a pair ran last at the second one, unless
		// the operation didn't come as far.
		if len(candidates) > 1 && slices.Contains(made, candidates[1]) && rel.Info.Status != release.StatusFailed && !rel.Info.Status.IsPending() {
			event = candidates[1]
		}
		all[event] = append(all[event], h)
	}
	return all
}

// ranIn reports whether a hook ran in this revision. A rollback takes the hooks
// over from the revision that it goes back to, together with when they ran then
// (pkg/action/rollback.go, prepareRollback). In a damaged record either may be
// missing.
func ranIn(rel *release.Release, h *release.Hook) bool {
	if rel.Info == nil || h == nil {
		return false
	}
	started := h.LastRun.StartedAt
	// What recover has found in the cluster has the server's time, to the second.
	return !started.IsZero() && !started.Time.Truncate(time.Second).Before(rel.Info.LastDeployed.Time.Truncate(time.Second))
}

// madeBy returns the events of the operation that made the revision. The record
// doesn't name it: hooks that have run and belong to one operation alone tell,
// else Helm's description does, else that only a first revision is installed.
func madeBy(rel *release.Release) []release.HookEvent {
	pairs := [][]release.HookEvent{byInstall, byUpgrade, byRollback}
	for _, h := range rel.Hooks {
		if !ranIn(rel, h) {
			continue
		}
		var of [][]release.HookEvent
		for _, pair := range pairs {
			if slices.Contains(h.Events, pair[0]) || slices.Contains(h.Events, pair[1]) {
				of = append(of, pair)
			}
		}
		if len(of) == 1 {
			return of[0]
		}
	}
	for i, word := range []string{"Install", "Upgrade", "Rollback"} {
		if strings.HasPrefix(rel.Info.Description, word) {
			return pairs[i]
		}
	}
	if rel.Version == 1 {
		return byInstall
	}
	return byUpgrade
}

// forecast returns how long the events would take at a parallelism, one after
// another, if each hook took as long as it did.
func forecast(rel *release.Release, ran map[release.HookEvent][]*release.Hook, parallelism int) (time.Duration, error) {
	var total time.Duration
	options := hooks.PlanOptions{Parallelism: parallelism}
	if parallelism > 1 {
		options.Limits, _ = helm3.Limits(rel.Chart) // what's wrong was ignored by the operation, too
	}
	for event, these := range ran {
		origin := map[*hooks.Hook]*release.Hook{}
		all, err := convert(rel)
		if err != nil {
			return 0, err
		}
		for i, h := range rel.Hooks {
			origin[all[i]] = h
			if !slices.Contains(these, h) {
				all[i].Events = nil // still one that others may be after
			}
		}
		plan, err := hooks.NewPlan(hooks.Event(event), all, options)
		if err != nil {
			return 0, err
		}
		var end time.Duration
		for _, f := range plan.Forecast(func(h *hooks.Hook) time.Duration { return took(origin[h]) }) {
			end = max(end, f.End)
		}
		total += end
	}
	return total, nil
}
