package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{9, 1, 5, 7}, 6},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

// TestEvaluate has repetitions of which the second is slow for everybody: a ratio of medians would be another one than
// the median of ratios.
func TestEvaluate(t *testing.T) {
	repetitions := []repetition{
		{floor: {hooksTime: 2}, plugin: {hooksTime: 2.2}, helm3: {hooksTime: 40}},
		{floor: {hooksTime: 4}, plugin: {hooksTime: 4.8}},
		{floor: {hooksTime: 2}, plugin: {hooksTime: 2.6}},
	}
	contestants := []contestant{{name: floor}, {name: helm3}, {name: helm4}, {name: plugin}}
	for _, test := range []struct {
		target  float64
		atLeast bool
		met     bool
	}{
		{1.2, false, true},
		{1.19, false, false},
		{1.2, true, true},
		{1.21, true, false},
	} {
		m := overFloor("x", test.target)
		m.atLeast = test.atLeast
		line := row{contestants: contestants, metrics: []metric{m}}.evaluate(repetitions)[0]
		if got, want := line.Medians[plugin], 1.2; math.Abs(got-want) > 1e-9 {
			t.Errorf("plugin ÷ floor = %v, want %v", got, want)
		}
		if got, want := line.Medians[helm3], 20.0; got != want {
			t.Errorf("helm3 ÷ floor = %v, want %v", got, want)
		}
		if line.Runs[helm3] != 1 || line.Runs[plugin] != 3 {
			t.Errorf("runs = %v, want 1 of helm3 and 3 of the plugin", line.Runs)
		}
		if _, ok := line.Medians[helm4]; ok {
			t.Error("there is a median of helm4, which did not run")
		}
		if *line.Met != test.met {
			t.Errorf("met(target %v, at least %v) = %v with %v, want %v", test.target, test.atLeast, *line.Met, line.Medians[plugin], test.met)
		}
	}
}

func TestFigureWithoutTarget(t *testing.T) {
	line := row{contestants: []contestant{{name: plugin}}, metrics: []metric{figure("x", "MB", peakMemory, 0)}}.
		evaluate([]repetition{{plugin: {peakMemory: 50}}})[0]
	if line.Met != nil || line.TargetText() != "–" || line.MetText() != "" {
		t.Errorf("a figure without a target is said to have met %q: %q", line.TargetText(), line.MetText())
	}
}

func TestMerge(t *testing.T) {
	here, elsewhere := environment{Cores: 2}, environment{Cores: 4}
	old := results{here, []rowResult{{Name: "a", Title: "old a"}, {Name: "b", Title: "old b"}}}
	measured := results{here, []rowResult{{Name: "b", Title: "new b"}}}
	names := []string{"b", "a", "c"}
	titles := func(r results) (all []string) {
		for _, row := range r.Rows {
			all = append(all, row.Title)
		}
		return all
	}
	if got, want := strings.Join(titles(merge(old, measured, names)), ", "), "new b, old a"; got != want {
		t.Errorf("merged rows: %s, want %s", got, want)
	}
	measured.Environment = elsewhere
	if got, want := strings.Join(titles(merge(old, measured, names)), ", "), "new b"; got != want {
		t.Errorf("merged rows from elsewhere: %s, want %s", got, want)
	}
}

func TestGrowthFasterThanHooks(t *testing.T) {
	point := func(hooks int, ours, spread float64) growthPoint {
		return growthPoint{Hooks: hooks, Parallelism: 4, Measured: true, Ours: ours, Spread: spread}
	}
	for _, test := range []struct {
		name   string
		points []growthPoint
		faster int
	}{
		{"in step", []growthPoint{point(10, 0.1, 0), point(100, 1, 0), point(1000, 10, 0)}, 0},
		{"square", []growthPoint{point(10, 0.1, 0), point(100, 10, 0), point(1000, 1000, 0)}, 2},
		{"noise of the floor", []growthPoint{point(10, 0.1, 0), point(100, 1.9, 1)}, 0},
		{"faster than the floor at first", []growthPoint{point(10, -0.5, 0), point(100, 0.1, 0), point(1000, 0.9, 0)}, 0},
		{"one left out between", []growthPoint{point(10, 0.1, 0), {Hooks: 100, Parallelism: 4}, point(1000, 9, 0)}, 0},
		{"other parallelism", []growthPoint{point(10, 0.01, 0), {Hooks: 100, Parallelism: 16, Measured: true, Ours: 99}}, 0},
	} {
		if got := fasterThanHooks(test.points); len(got) != test.faster {
			t.Errorf("%s: %d cells grow faster than the hooks: %+v, want %d", test.name, len(got), got, test.faster)
		}
	}
}

func TestScale(t *testing.T) {
	s := around([]float64{1.2, 430, 17}, 100, 300)
	if s.min != 1 || s.max != 500 {
		t.Errorf("around 1.2 to 430: %v to %v, want 1 to 500", s.min, s.max)
	}
	if got := s.at(1); got != 100 {
		t.Errorf("at(1) = %v, want 100", got)
	}
	if got := s.at(500); got != 300 {
		t.Errorf("at(500) = %v, want 300", got)
	}
	if got, want := s.at(math.Sqrt(500)), 200.0; math.Abs(got-want) > 1e-9 {
		t.Errorf("the geometric middle is at %v, want %v", got, want)
	}
	if s := around([]float64{7, 7}, 0, 1); s.min > 7 || s.max < 7 || s.min == s.max {
		t.Errorf("around a single value: %+v", s)
	}
	if s := around([]float64{1, 1000}, 0, 1); s.min != 1 || s.max != 1000 {
		t.Errorf("around 1 to 1000: %v to %v, want just these", s.min, s.max)
	}
}

func TestTicks(t *testing.T) {
	for _, test := range []struct {
		min, max float64
		want     []float64
	}{
		{1, 20, []float64{1, 2, 5, 10, 20}},
		{0.5, 2, []float64{0.5, 1, 2}},
		{1, 20000, []float64{1, 10, 100, 1000, 10000}},
	} {
		got := scale{min: test.min, max: test.max}.ticks()
		same := len(got) == len(test.want)
		for i := range got {
			same = same && math.Abs(got[i]/test.want[i]-1) < 1e-9
		}
		if !same {
			t.Errorf("ticks(%v, %v) = %v, want %v", test.min, test.max, got, test.want)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	for _, p := range []plot{
		{title: "a < b & c", series: []series{{name: "<1>", points: []point{{1, 2}, {1000, 30}}}}},
		{title: "nothing measured"},
		{series: []series{{points: []point{{5, 5}}}}},
	} {
		svg := p.svg()
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("a position is no number:\n%s", svg)
		}
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in:\n%s", err, svg)
			}
		}
	}
}

func TestUnits(t *testing.T) {
	for _, test := range []struct {
		value float64
		unit  string
		want  string
	}{
		{1.0449, "×", "1.04"},
		{18.04, "×", "18.0"},
		{123.4, "MB", "123 MB"},
		{-0.5, "ms", "-0.50 ms"},
		{3.144, "", "3.14"},
	} {
		if got := inUnit(test.value, test.unit); got != test.want {
			t.Errorf("inUnit(%v, %q) = %q, want %q", test.value, test.unit, got, test.want)
		}
	}
}

func TestPage(t *testing.T) {
	no := false
	r := results{environment{Cores: 2, Kubernetes: "v1", OwnCluster: true}, []rowResult{
		{Name: "20", Figures: []figureLine{{
			Title: "twenty", Unit: "×", Target: 1.05, Met: &no,
			Medians: map[string]float64{plugin: 1.2, helm3: 18}, Runs: map[string]int{plugin: 3, helm3: 1},
		}}, Repetitions: []repetition{{floor: {hooksTime: 2.25}}}},
		{Name: "requests", Title: "Requests", NotMeasured: "no log"},
		{Name: "growth/10x4", Repetitions: []repetition{
			{floor: {hooksTime: 3}, plugin: {hooksTime: 3.3}},
			{floor: {hooksTime: 3}, plugin: {hooksTime: 3.3}},
			{floor: {hooksTime: 3}, plugin: {hooksTime: 3.3}},
		}},
		{Name: "growth/1000x1", NotMeasured: "too long"},
	}}
	page, err := r.page([]string{"20", "upgrade", "requests", "growth/10x4", "growth/1000x1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"0 of 1 are met",
		"| twenty | 2.25 s | 18.0¹ | – | – | 1.20 | ≤ 1.05 | **no** |",
		"| Requests: no log | ",
		"Not measured yet: `upgrade`.",
		"| 10 | 4 | 3.00 s | 3.30 s | 1.10 | 30.0 ms |",
		"| 1000 | 1 | too long | | |  |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestSumInit(t *testing.T) {
	got := sumInit(`init internal/bytealg @0.008 ms, 0 ms clock, 0 bytes, 0 allocs
init net/http @2.1 ms, 0.25 ms clock, 28000 bytes, 13 allocs
a line of the command's own, with 5 bytes, and more, and more
init k8s.io/api/core/v1 @3 ms, 0.5 ms clock, 2000 bytes, 1 allocs
`)
	if got[initTime] != 0.75 || got[initMem] != 30 {
		t.Errorf("sumInit = %v, want 0.75 ms and 30 kB", got)
	}
}

// TestChartHoldsTheFloorsObjects renders the template by hand: what Helm's contestants run must be what the floor runs.
func TestChartHoldsTheFloorsObjects(t *testing.T) {
	w := workload{kind: "Job", count: 2, duration: 1500 * time.Millisecond, event: "pre-install,pre-upgrade"}
	dir := t.TempDir()
	if err := w.writeChart(dir); err != nil {
		t.Fatal(err)
	}
	template, err := os.ReadFile(filepath.Join(dir, "templates", "hooks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(strings.ReplaceAll(string(template), "{{ .Release.Name }}", "r"), "---\n")[1:]
	if len(documents) != 2 {
		t.Fatalf("%d hooks, want 2:\n%s", len(documents), template)
	}
	for n, document := range documents {
		var got batchv1.Job
		if err := yaml.UnmarshalStrict([]byte(document), &got); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		if event := got.Annotations["helm.sh/hook"]; event != w.event {
			t.Errorf("hook of %q, want %q", event, w.event)
		}
		delete(got.Annotations, "helm.sh/hook")
		want := w.object("r", n).(*batchv1.Job)
		if got.Name != want.Name || got.Spec.Template.Annotations[controlplane.DurationAnnotation] != "1.5s" ||
			got.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever || *got.Spec.BackoffLimit != 0 {
			t.Errorf("hook %d is another Job than the floor's:\n%s", n, document)
		}
	}
}
