package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

var update = flag.Bool("update", false, "write the golden files anew")

var deployed = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

func at(seconds float64) helmtime.Time {
	return helmtime.Time{Time: deployed.Add(time.Duration(seconds * float64(time.Second)))}
}

// ran returns a hook that ran in the given seconds after its revision was made.
func ran(events, kind, name string, weight int, from, to float64, phase release.HookPhase) *release.Hook {
	h := &release.Hook{
		Name: name, Kind: kind, Path: "shop/templates/" + name + ".yaml", Weight: weight,
		Manifest: fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata:\n  name: %q\n", map[string]string{"Job": "batch/v1"}[kind], kind, name),
		LastRun:  release.HookExecution{Phase: phase, StartedAt: at(from)},
	}
	if kind != "Job" {
		h.Manifest = strings.Replace(h.Manifest, "apiVersion: ", "apiVersion: v1", 1)
	}
	for _, e := range strings.Split(events, ",") {
		h.Events = append(h.Events, release.HookEvent(e))
	}
	if to > 0 {
		h.LastRun.CompletedAt = at(to)
	}
	return h
}

func newRelease(version int, status release.Status, all ...*release.Hook) *release.Release {
	return &release.Release{
		Name: "shop", Namespace: "web", Version: version, Hooks: all,
		Info:  &release.Info{Status: status, LastDeployed: at(0)},
		Chart: &chart.Chart{Metadata: &chart.Metadata{Name: "shop", Version: "1.2.3"}},
	}
}

const done = release.HookPhaseSucceeded

// parallel is a revision whose hooks ran in parallel and of which the last failed.
func parallel() *release.Release {
	return newRelease(3, release.StatusFailed,
		ran("pre-install,pre-upgrade", "ConfigMap", "settings", -5, 0.5, 0.52, done),
		ran("pre-install,pre-upgrade", "Job", "migrate-a", -5, 0.6, 2.6, done),
		ran("pre-install,pre-upgrade", "Job", "migrate-b", -5, 0.6, 4.6, done),
		ran("pre-install,pre-upgrade", "Job", "migrate-c", -5, 2.6, 4.1, done),
		ran("pre-upgrade", "Job", "seed", 0, 4.6, 10.6, done),
		ran("post-upgrade", "Job", "warm-up", 0, 12, 13.5, release.HookPhaseFailed),
		ran("post-upgrade", "Job", "announce", 0, 12, 0, release.HookPhaseUnknown),
		ran("test", "Job", "smoke", 0, -100, -90, done), // before this revision
	)
}

// hostile has names by which a chart might try to get at those who look.
func hostile() *release.Release {
	return newRelease(1, release.StatusDeployed,
		ran("pre-install", "Job", "<script>alert(1)</script>", 0, 0, 1, done),
		ran("pre-install", "Job", "a\x1b[2J\u202e:;#\",x", 0, 0, 1, release.HookPhase(`"onload="x`)),
	)
}

func TestTimelineFormats(t *testing.T) {
	for name, rel := range map[string]*release.Release{"parallel": parallel(), "hostile": hostile(), "none": newRelease(1, release.StatusDeployed)} {
		timeline, err := NewTimeline(rel, 1, 2, 16)
		if err != nil {
			t.Fatal(err)
		}
		for format, write := range map[string]func(io.Writer) error{
			"table":        func(out io.Writer) error { return timeline.WriteTable(out, 100) },
			"narrow.table": func(out io.Writer) error { return timeline.WriteTable(out, 40) },
			"json":         func(out io.Writer) error { return output.EncodeJSON(out, timeline) },
			"yaml":         func(out io.Writer) error { return output.EncodeYAML(out, timeline) },
			"mermaid":      timeline.WriteMermaid,
			"trace":        timeline.WriteTrace,
			"html":         timeline.WriteHTML,
		} {
			golden(t, "timeline-"+name+"."+format, write)
		}
	}
}

// TestRows: hooks that a person can't tell apart by their starts are in the order of their names,
// and nobody else's order changes.
func TestRows(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct{ started, want string }{ // weight, name and milliseconds
		"all at once":            {"0c0 0b10 0a20", "a b c"},
		"one after another":      {"0c0 0b100 0a200", "c b a"},
		"by weight first":        {"0c0 1b0 0a0", "a c b"},
		"by weight, before time": {"1a0 0b900", "b a"},
		"rounded alike":          {"0x0 0b51 0a149", "x a b"},
		"rounded otherwise":      {"0b49 0a51 0x0", "b x a"},
	} {
		t.Run(name, func(t *testing.T) {
			var all []Hook
			for field := range strings.FieldsSeq(test.started) {
				millis, err := strconv.Atoi(field[2:])
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, Hook{Name: field[1:2], Kind: "Job", Weight: int(field[0] - '0'), Start: start.Add(time.Duration(millis) * time.Millisecond)})
			}
			e := newEvent("pre-install", all)
			var got []string
			for _, h := range e.rows() {
				got = append(got, h.Name)
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %v, want %s", got, test.want)
			}
			table := new(bytes.Buffer)
			e.writeRows(table, 80)
			listed := regexp.MustCompile(`Job/\w`).FindAllString(table.String(), -1)
			if strings.Join(listed, " ") != "Job/"+strings.Join(got, " Job/") {
				t.Errorf("the table has %v, want %v", listed, got)
			}
		})
	}
}

func golden(t *testing.T, name string, write func(io.Writer) error) {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%s differs (go test ./internal/report -update writes it anew):\n%s", name, out.String())
	}
}

func TestNothingThatAChartSaysIsRunOrObeyed(t *testing.T) {
	timeline, err := NewTimeline(hostile())
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := timeline.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	document, err := html.Parse(&page)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"lang", "charset", "name", "content", "http-equiv", "class", "scope", "style", "aria-hidden", "data-label", "role"}
	for node := range document.Descendants() {
		if node.Data == "script" && node.Type == html.ElementNode {
			t.Error("the page has a script")
		}
		for _, attribute := range node.Attr {
			if !slices.Contains(known, attribute.Key) {
				t.Errorf("element %s has an attribute %s=%q", node.Data, attribute.Key, attribute.Val)
			}
		}
	}
	var text bytes.Buffer
	for _, write := range []func(io.Writer) error{
		func(out io.Writer) error { return timeline.WriteTable(out, 80) }, timeline.WriteMermaid, timeline.WriteHTML,
	} {
		if err := write(&text); err != nil {
			t.Fatal(err)
		}
	}
	if strings.ContainsAny(text.String(), "\x1b\u202e") {
		t.Errorf("control characters got through: %q", text.String())
	}
}

func TestTraceIsJSON(t *testing.T) {
	timeline, err := NewTimeline(parallel())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := timeline.WriteTrace(&out); err != nil {
		t.Fatal(err)
	}
	var trace struct{ TraceEvents []traceEvent }
	if err := json.Unmarshal(out.Bytes(), &trace); err != nil {
		t.Fatal(err)
	}
	// Nothing of a thread may overlap: viewers would nest it.
	ends := map[[2]int]int64{}
	for _, e := range trace.TraceEvents {
		if e.Phase != "X" {
			continue
		}
		thread := [2]int{e.Process, e.Thread}
		if e.Micros < ends[thread] {
			t.Errorf("%s begins before what runs in its thread has ended", e.Name)
		}
		ends[thread] = e.Micros + e.Duration
	}
	if len(ends) != 4 {
		t.Errorf("hooks are in %d threads, want 2 of pre-upgrade and 2 of post-upgrade", len(ends))
	}
}

func TestEventAtWhichAHookRan(t *testing.T) {
	const status = release.StatusDeployed
	for name, test := range map[string]struct {
		rel  *release.Release
		want string
	}{
		"of one event":          {newRelease(2, status, ran("post-upgrade", "Job", "a", 0, 1, 2, done)), "post-upgrade"},
		"first revision":        {newRelease(1, status, ran("pre-install,pre-upgrade", "Job", "a", 0, 1, 2, done)), "pre-install"},
		"later revision":        {newRelease(2, status, ran("pre-install,pre-upgrade,pre-rollback", "Job", "a", 0, 1, 2, done)), "pre-upgrade"},
		"both of a pair":        {newRelease(2, status, ran("pre-upgrade,post-upgrade", "Job", "a", 0, 1, 2, done)), "post-upgrade"},
		"failed before":         {newRelease(2, release.StatusFailed, ran("pre-upgrade,post-upgrade", "Job", "a", 0, 1, 2, done)), "pre-upgrade"},
		"another hook tells":    {newRelease(3, status, ran("pre-install,pre-upgrade", "Job", "a", 0, 1, 2, done), ran("post-install", "Job", "b", 0, 3, 4, done)), "pre-install post-install"},
		"a test":                {newRelease(1, status, ran("test", "Job", "a", 0, 100, 101, done)), "test"},
		"uninstalled":           {newRelease(1, release.StatusUninstalled, ran("pre-delete", "Job", "a", 0, 100, 101, done), ran("pre-install", "Job", "b", 0, 1, 2, done)), "pre-install pre-delete"},
		"of the older revision": {newRelease(4, status, ran("pre-upgrade", "Job", "a", 0, -5, -4, done)), ""},
		"description":           {described("Rollback to 2", ran("pre-rollback,pre-upgrade", "Job", "a", 0, 1, 2, done)), "pre-rollback"},
	} {
		timeline, err := NewTimeline(test.rel)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range timeline.Events {
			got = append(got, e.Name)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func described(text string, all ...*release.Hook) *release.Release {
	rel := newRelease(3, release.StatusDeployed, all...)
	rel.Info.Description = text
	return rel
}

func TestBadAnnotationIsNamed(t *testing.T) {
	rel := parallel()
	rel.Hooks[1].Manifest += "  annotations:\n    parallel-hooks/slots: none\n"
	_, err := NewTimeline(rel, 2)
	if err == nil || !strings.Contains(err.Error(), "migrate-a") {
		t.Errorf("got %v, want an error that names the hook", err)
	}
	if _, err := NewTimeline(rel); err != nil {
		t.Errorf("without a forecast: got %v, want none, since the record alone tells", err)
	}
}

func TestHistory(t *testing.T) {
	var revisions []*release.Release
	for version, seconds := range []float64{100, 100, 5, 1, 3, 2, 4} {
		revisions = append(revisions, newRelease(version+1, release.StatusSuperseded,
			ran("pre-upgrade", "Job", "a", 0, 0, seconds, done),
			ran("pre-upgrade", "Job", "b", 0, 0, 1, release.HookPhaseFailed),
		))
	}
	revisions = append(revisions, newRelease(9, release.StatusDeployed, ran("pre-upgrade", "Job", "a", 0, -9, -1, done)))
	history := NewHistory(revisions)
	if got, want := history["Job/a"], 3*time.Second; got != want {
		t.Errorf("got %v, want %v, the median of the last five that ran", got, want)
	}
	if _, known := history["Job/b"]; known {
		t.Error("a hook that never ended well has a time")
	}
}

// TestPlanWithoutTimes: what isn't known is no time of zero, and no part of a sum that is.
func TestPlanWithoutTimes(t *testing.T) {
	known := func(s float64) *float64 { return &s }
	for name, test := range map[string]struct {
		plan        Plan
		first, last string // of the event, and of all
	}{
		"none known":            {Plan{Unknown: 2, Events: []PlanEvent{event(0, nil, nil)}}, "time not known", "not known. For 2 hooks no earlier revision has recorded a time."},
		"the only one":          {Plan{Unknown: 1, Events: []PlanEvent{event(0, nil)}}, "time not known", "not known. For 1 hook no earlier revision has recorded a time."},
		"what takes none known": {Plan{Unknown: 1, Events: []PlanEvent{event(0, known(0), nil)}}, "time not known", "not known. For 1 hook no earlier revision has recorded a time."},
		"all known":             {Plan{Seconds: 2, SerialSeconds: 2, Events: []PlanEvent{event(2, known(2))}}, "2.0s", "2.0s, one after another 2.0s."},
		"all take none":         {Plan{Events: []PlanEvent{event(0, known(0))}}, "0.0s", "0.0s, one after another 0.0s."},
		"some known": {Plan{Unknown: 1, Seconds: 2, SerialSeconds: 2, Events: []PlanEvent{event(2, known(2), nil)}}, "at least 2.0s",
			"2.0s, one after another 2.0s. For 1 hook no earlier revision has recorded a time; it counts nothing."},
		"another event's unknown": {Plan{Unknown: 2, Seconds: 2, SerialSeconds: 2, Events: []PlanEvent{event(2, known(2)), event(0, nil, nil)}}, "2.0s",
			"2.0s, one after another 2.0s. For 2 hooks no earlier revision has recorded a time; they count nothing."},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.plan.Events[0].expected(); got != test.first {
				t.Errorf("the event: got %q, want %q", got, test.first)
			}
			if got := test.plan.summary(); got != test.last {
				t.Errorf("all: got %q, want %q", got, test.last)
			}
		})
	}
}

// event returns an event of a plan that takes so long, and its hooks each so long; nil: not known.
func event(seconds float64, hooks ...*float64) PlanEvent {
	stage := PlanStage{}
	for _, s := range hooks {
		stage.Hooks = append(stage.Hooks, PlanHook{Seconds: s})
	}
	return PlanEvent{Seconds: seconds, Tiers: []PlanTier{{Stages: []PlanStage{stage}}}}
}

func TestPlanFormats(t *testing.T) {
	rel := parallel()
	rel.Hooks = append(rel.Hooks, ran("pre-upgrade", "Job", "new", 0, 0, 0, ""))
	heavy := ran("pre-upgrade", "Job", "heavy", -5, 0, 3, done)
	heavy.Manifest += "  annotations:\n    parallel-hooks/slots: \"2\"\n"
	rel.Hooks = append(rel.Hooks, heavy, ran("pre-upgrade", "Job", "migrate-a", -5, 0, 1, done))
	history := NewHistory([]*release.Release{parallel(), newRelease(2, release.StatusSuperseded, heavy)})
	annotated := *rel
	annotated.Chart = &chart.Chart{Metadata: &chart.Metadata{Name: "shop", Annotations: map[string]string{
		hooks.MaxParallelAnnotation: "2", hooks.SubchartMaxParallelAnnotation: "db=1",
	}}}
	after := ran("pre-upgrade", "Job", "after", -5, 0, 1, done)
	after.Manifest += "  annotations:\n    parallel-hooks/after: migrate-b, Job/migrate-c\n    parallel-hooks/timeout: 90s\n    parallel-hooks/failure: ignore\n"
	annotated.Hooks = append(slices.Clone(rel.Hooks), after)
	for name, test := range map[string]struct {
		rel         *release.Release
		parallelism int
		order       string
	}{
		"serial": {rel, 0, ByName}, "three": {rel, 3, ByName}, "longest": {rel, 3, LongestFirst}, "annotated": {&annotated, 3, ByName},
	} {
		plan, err := NewPlan(test.rel, false, test.parallelism, test.order, history)
		if err != nil {
			t.Fatal(err)
		}
		for format, write := range map[string]func(io.Writer) error{
			"table": plan.WriteTable, "mermaid": plan.WriteMermaid,
			"json": func(out io.Writer) error { return output.EncodeJSON(out, plan) },
			"yaml": func(out io.Writer) error { return output.EncodeYAML(out, plan) },
		} {
			golden(t, "plan-"+name+"."+format, write)
		}
	}
	plan, err := NewPlan(newRelease(1, release.StatusPendingInstall), true, 3, ByName, nil)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan-none.table", plan.WriteTable)
}
