package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
)

// hostileTexts are by which a chart might try to get at those who look.
var hostileTexts = []string{
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, `'onload='x`, "javascript:alert(1)", "</title><svg/onload=x>",
	"</style><style>*{background:url(//x)}", "--><script>", "]]>", "{{.Release}}", "&lt;&#60;\u003cscript\u003e", "\x00<\x00script>", "<!--", "<a href=javascript:x>",
	"a\x1b[2J\u202e\u009b:;#\",x\r\nb\tc\xff", "Succeeded", "Failed", "日本 \u0301", "",
}

// released returns a revision of one hook that ran at an event and one of which the
// end isn't recorded.
func released(name, namespace, chartName, status, kind, hook, path, phase string) *release.Release {
	one, other := ran("pre-upgrade", "Job", "a", 0, 1, 2, release.HookPhase(phase)), ran("pre-upgrade", "Job", "b", 0, 1, 0, done)
	for _, h := range []*release.Hook{one, other} {
		h.Kind, h.Name, h.Path = kind, hook, path
	}
	rel := newRelease(2, release.Status(status), one, other)
	rel.Name, rel.Namespace = name, namespace
	rel.Chart.Metadata.Name, rel.Chart.Metadata.Version = chartName, chartName
	return rel
}

// FuzzPage: whatever a chart has put into names is text, in the page and in all other
// forms.
func FuzzPage(f *testing.F) {
	for i, s := range hostileTexts {
		next := hostileTexts[(i+1)%len(hostileTexts)]
		f.Add(s, next, s, next, s, next, s, next)
		f.Add("shop", "web", "shop", "deployed", "Job", s, next, "Succeeded")
	}
	f.Fuzz(func(t *testing.T, name, namespace, chartName, status, kind, hook, path, phase string) {
		timeline, err := NewTimeline(released(name, namespace, chartName, status, kind, hook, path, phase), 2)
		if err != nil {
			t.Fatal(err)
		}
		calm := "a"
		if phase == "Succeeded" || phase == "Failed" {
			calm = phase // it decides on a colour
		}
		harmless, err := NewTimeline(released("a", "a", "a", "a", "Job", "a", "a", calm), 2)
		if err != nil {
			t.Fatal(err)
		}
		page := parsePage(t, timeline)
		if got, want := structure(page), structure(parsePage(t, harmless)); got != want {
			t.Errorf("the page has elements or attributes of a chart's making:\n%s\nwant:\n%s", got, want)
		}
		rows := 0
		for node := range page.Descendants() {
			if class(node) == "name" {
				rows++
				if got, want := text(node), display.Printable(kind+"/"+hook)+display.Printable(path); got != want {
					t.Errorf("the page names a hook %q, want %q", got, want)
				}
			}
		}
		if rows != 2 {
			t.Errorf("the page has %d rows, want 2", rows)
		}
		checkTexts(t, timeline)
		for form, write := range map[string]func(*Timeline, io.Writer) error{
			"table":   func(timeline *Timeline, out io.Writer) error { return timeline.WriteTable(out, 100) },
			"mermaid": (*Timeline).WriteMermaid,
		} {
			var got, want bytes.Buffer
			if err := write(timeline, &got); err != nil {
				t.Fatal(err)
			}
			if err := write(harmless, &want); err != nil {
				t.Fatal(err)
			}
			if bytes.Count(got.Bytes(), []byte("\n")) != bytes.Count(want.Bytes(), []byte("\n")) {
				t.Errorf("%s: got the lines\n%s\nwant as many as in\n%s", form, &got, &want)
			}
		}
	})
}

func parsePage(t *testing.T, timeline *Timeline) *html.Node {
	var out bytes.Buffer
	if err := timeline.WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	if out := out.String(); display.PrintableLine(strings.ReplaceAll(out, "\n", "")) != strings.ReplaceAll(out, "\n", "") {
		t.Errorf("control characters got into the page:\n%q", out)
	}
	document, err := html.Parse(&out)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// structure returns all of a page that is no text.
func structure(document *html.Node) string {
	var b strings.Builder
	for node := range document.Descendants() {
		switch node.Type {
		case html.TextNode:
			if node.Parent.Data == "style" {
				b.WriteString(node.Data)
			}
		default:
			fmt.Fprintf(&b, "%d <%s %q in %s>\n", node.Type, node.Data, node.Attr, node.Parent.Data)
		}
	}
	return b.String()
}

func class(node *html.Node) string {
	for _, attribute := range node.Attr {
		if attribute.Key == "class" {
			return attribute.Val
		}
	}
	return ""
}

func text(node *html.Node) string {
	var b strings.Builder
	for inner := range node.Descendants() {
		if inner.Type == html.TextNode {
			b.WriteString(inner.Data)
		}
	}
	return b.String()
}

// checkTexts writes a timeline in the forms that people read, and in those of
// programs.
func checkTexts(t *testing.T, timeline *Timeline) {
	for _, write := range []func(io.Writer) error{
		func(out io.Writer) error { return timeline.WriteTable(out, 0) },
		func(out io.Writer) error { return timeline.WriteTable(out, 300) },
		timeline.WriteMermaid,
	} {
		checkText(t, write)
	}
	var out bytes.Buffer
	if err := timeline.WriteTrace(&out); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("the trace is no JSON: %v: %s", err, &out)
	}
	out.Reset()
	if err := output.EncodeJSON(&out, timeline); err != nil {
		return // a time beyond the year 9999, which the record can't have been written with
	}
	var read Timeline
	if err := json.Unmarshal(out.Bytes(), &read); err != nil || len(read.Events) != len(timeline.Events) {
		t.Errorf("reading the JSON: %v: %s", err, &out)
	}
	_ = output.EncodeYAML(io.Discard, timeline) // refuses control characters, as in Helm
}

func checkText(t *testing.T, write func(io.Writer) error) {
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSuffix(line, "\n"); display.Printable(line) != line {
			t.Errorf("control characters got through: %q", line)
		}
	}
}

// FuzzRecord: a record that somebody else has written, or damaged, is shown as far as
// it goes, or refused.
func FuzzRecord(f *testing.F) {
	for _, rel := range []*release.Release{
		parallel(), hostile(), newRelease(1, release.StatusDeployed), described("Rollback to 2", ran("pre-rollback,pre-upgrade,test", "Job", "a", 0, 1, 2, done)),
		{Name: "bare"}, {Info: &release.Info{}}, {Info: &release.Info{Deleted: at(3)}, Chart: &chart.Chart{}, Hooks: parallel().Hooks},
	} {
		record, err := json.Marshal(rel)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(record)
	}
	f.Add([]byte(`{"info":{"status":"deployed"},"hooks":[null]}`))
	f.Add([]byte(`{"info":{"status":"\u001b[2J"},"hooks":[{"name":"a","manifest":"\t","events":["test"],"last_run":{"started_at":"2026-03-14T15:09:26Z"}}]}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		var rel release.Release
		if json.Unmarshal(record, &rel) != nil {
			return
		}
		timeline, err := NewTimeline(&rel, 1, 2, 16)
		if err == nil {
			checkTimeline(t, &rel, timeline)
		} else if strings.TrimSpace(err.Error()) == "" {
			t.Error("an error without words")
		}
		history := NewHistory([]*release.Release{&rel, &rel})
		rel.Hooks = slices.DeleteFunc(rel.Hooks, func(h *release.Hook) bool { return h == nil }) // never in what was rendered
		for _, parallelism := range []int{0, 3} {
			plan, err := NewPlan(&rel, parallelism == 0, parallelism, ByName, history)
			if err != nil {
				continue
			}
			checkText(t, plan.WriteTable)
			checkText(t, plan.WriteMermaid)
			if err := output.EncodeJSON(io.Discard, plan); err != nil {
				t.Errorf("writing JSON: %v", err)
			}
		}
	})
}

func checkTimeline(t *testing.T, rel *release.Release, timeline *Timeline) {
	shown := 0
	for _, e := range timeline.Events {
		if len(e.Hooks) == 0 || e.AtOnce < 1 || e.AtOnce > len(e.Hooks) {
			t.Errorf("%s: %d hooks, %d at once", e.Name, len(e.Hooks), e.AtOnce)
		}
		shown += len(e.Hooks)
		for _, h := range e.Hooks {
			if h.Start.Before(e.Start) || h.End.After(e.End) || h.Seconds < 0 {
				t.Errorf("%s: %+v is not within %v to %v", e.Name, h, e.Start, e.End)
			}
		}
	}
	if shown > len(rel.Hooks) {
		t.Errorf("%d hooks are shown, the record has %d", shown, len(rel.Hooks))
	}
	if len(timeline.Forecasts) != 3 {
		t.Errorf("%d forecasts, want 3", len(timeline.Forecasts))
	}
	page := parsePage(t, timeline)
	rows := 0
	for node := range page.Descendants() {
		if class(node) == "bar" {
			rows++
		}
	}
	if rows != shown {
		t.Errorf("the page has %d bars, want %d", rows, shown)
	}
	checkTexts(t, timeline)
}
