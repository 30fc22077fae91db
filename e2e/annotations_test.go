package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// annotate returns the flag by which hooks of the chart tiers get annotations, given as hook, annotation (without its
// prefix) and value.
func annotate(t *testing.T, all ...[3]string) []string {
	t.Helper()
	values := map[string]map[string]string{}
	for _, a := range all {
		if values[a[0]] == nil {
			values[a[0]] = map[string]string{}
		}
		values[a[0]]["parallel-hooks/"+a[1]] = a[2]
	}
	text, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--set-json", "annotations=" + string(text)}
}

// ranBy returns the runs of Jobs and Pods by name, of which each ran once.
func (s *session) ranBy() map[string]audit.Run {
	s.t.Helper()
	byName := map[string]audit.Run{}
	for _, run := range s.trail().Runs() {
		if _, twice := byName[run.Name]; twice {
			s.t.Errorf("%s ran twice", run.Name)
		}
		byName[run.Name] = run
	}
	return byName
}

// TestAnnotationsUnderLoad: forty hooks at sixteen at once, among them all annotations of hooks, keep to them, as the API
// server has seen it.
func TestAnnotationsUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	flags := annotate(t,
		[3]string{"job-0-00", "after", "job-0-39, Job/job-0-05"},
		[3]string{"job-0-05", "after", "job-0-07"},
		[3]string{"job-0-10", "slots", "all"},
		[3]string{"job-0-20", "slots", "8"},
		[3]string{"job-0-21", "slots", "8"},
		[3]string{"job-0-22", "slots", "8"},
		[3]string{"job-0-03", "failure", "ignore"},
		[3]string{"job-0-04", "after", "job-0-03"},
		[3]string{"job-0-30", "timeout", "3s"},
		[3]string{"job-0-30", "failure", "ignore"},
	)
	// All take a second but one, which would be there at the end of any time.
	durations := make([]string, 31)
	for i := range durations {
		durations[i] = "1s"
	}
	durations[30] = "1h"
	tiers, err := json.Marshal([]any{map[string]any{"weight": 0, "jobs": 40, "durations": durations}})
	if err != nil {
		t.Fatal(err)
	}
	const timeout = 3 * time.Minute
	s.must(s.install("load", "tiers", 16, append(flags, "--timeout", timeout.String(), "--set", "failing={job-0-03}", "--set-json", "tiers="+string(tiers))...))
	ran := s.ranBy()
	if len(ran) != 40 {
		t.Errorf("%d hooks ran, want 40", len(ran))
	}
	for _, pair := range [][2]string{{"job-0-00", "job-0-39"}, {"job-0-00", "job-0-05"}, {"job-0-05", "job-0-07"}, {"job-0-04", "job-0-03"}} {
		if ran[pair[0]].Created < ran[pair[1]].Ended || ran[pair[1]].Ended == 0 {
			t.Errorf("%s was created before %s had ended", pair[0], pair[1])
		}
	}
	slots := map[string]int{"job-0-10": 16, "job-0-20": 8, "job-0-21": 8, "job-0-22": 8}
	for name, run := range ran {
		taken := 0
		for other, its := range ran {
			if its.Created <= run.Created && its.Ended > run.Created {
				taken += max(1, slots[other])
			}
		}
		if taken > 16 {
			t.Errorf("when %s was created %d slots were taken of 16", name, taken)
		}
	}
	for _, h := range s.release("load").Hooks {
		want := release.HookPhaseSucceeded
		if h.Name == "job-0-03" || h.Name == "job-0-30" {
			want = release.HookPhaseFailed
		}
		if h.LastRun.Phase != want {
			t.Errorf("hook %s: the record says %s, want %s", h.Name, h.LastRun.Phase, want)
		}
		if took := h.LastRun.CompletedAt.Sub(h.LastRun.StartedAt); h.Name == "job-0-30" && took >= timeout {
			t.Errorf("%s was given up after %v, want its own 3s", h.Name, took)
		}
	}
	if job, err := bed.client.BatchV1().Jobs(s.namespace).Get(t.Context(), "job-0-30", metav1.GetOptions{}); err != nil || job.Status.Active != 1 {
		t.Errorf("want that job-0-30 still runs: %v, %v", job, err)
	}
}

// TestTimeoutAnnotation: a hook has its own time, more or less than the user's.
func TestTimeoutAnnotation(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	durations := `tiers=[{"weight":0,"jobs":2,"durations":["6s","1s"]}]`
	s.must(s.install("longer", "tiers", 2, append(annotate(t, [3]string{"job-0-00", "timeout", "2m"}), "--timeout", "4s", "--set-json", durations)...))

	s = newSession(t)
	got := s.install("shorter", "tiers", 2, append(annotate(t, [3]string{"job-0-00", "timeout", "2s"}), "--timeout", "2m", "--set-json", strings.Replace(durations, "6s", "1h", 1))...)
	if got.code != 1 || !strings.Contains(got.stderr, "job job-0-00: not done after 2s (annotation parallel-hooks/timeout), and not ended by that") {
		t.Errorf("want an error that says whose timeout it was, got: %v", got)
	}
	s.mustBeFailed("shorter")
}

// TestIgnoredFailure: the release goes on, and all can see what failed: in the display, at the end, in the record and in
// JSON. Plain Helm fails.
func TestIgnoredFailure(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	flags := append(annotate(t, [3]string{"job-0-01", "failure", "ignore"}),
		"--set", "failing={job-0-01}", "--set-json", `tiers=[{"weight":0,"jobs":3},{"weight":5,"jobs":1}]`)
	got := s.must(s.install("shop", "tiers", 3, append(flags, "--hook-progress", "plain")...))
	for _, want := range []string{
		"job-0-01 failed: BackoffLimitExceeded (pod job-0-01-",
		"exit code 1); ignored, by its annotation",
		"pre-install: 3 of 4 hooks succeeded in ",
		"; 1 failed, which is ignored\n",
		"WARNING: hooks have failed, which the annotation parallel-hooks/failure ignores:\n  job job-0-01 failed: BackoffLimitExceeded (pod job-0-01-",
		"\nJob/job-0-01, pre-install hook of weight 0: failed after ",
		"look further: ",
	} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("stderr has no %q:\n%s", want, got.stderr)
		}
	}
	rel := s.release("shop")
	if rel.Info.Status != release.StatusDeployed {
		t.Errorf("the release is %s, want deployed", rel.Info.Status)
	}
	for _, h := range rel.Hooks {
		if failed := h.LastRun.Phase == release.HookPhaseFailed; failed != (h.Name == "job-0-01") {
			t.Errorf("hook %s: the record says %s", h.Name, h.LastRun.Phase)
		}
	}

	// --atomic has nothing to undo, and the upgrade's report says what was ignored.
	got = s.must(s.plugin(append([]string{"upgrade", "shop", chartPath("tiers"), "--hook-parallelism", "3", "--atomic", "--hook-progress", "json", "--set", "event=pre-upgrade"}, flags...)...))
	if n := strings.Count(got.stderr, `"ignored":true`); n != 1 || strings.Contains(got.stderr, "WARNING") {
		t.Errorf("JSON tells of %d ignored failures, want 1 and nothing but JSON:\n%s", n, got.stderr)
	}
	if rel := s.release("shop"); rel.Version != 2 || rel.Info.Status != release.StatusDeployed {
		t.Errorf("revision %d is %s, want revision 2 deployed", rel.Version, rel.Info.Status)
	}

	// A failure that isn't ignored is one beside it.
	got = s.plugin(append([]string{"upgrade", "shop", chartPath("tiers"), "--hook-parallelism", "3", "--set", "event=pre-upgrade", "--hook-keep-going"}, append(flags, "--set", "failing={job-0-01,job-0-02}")...)...)
	if _, text, found := strings.Cut(got.stderr, "\nError: "); got.code != 1 || !found || !strings.Contains(text, "job job-0-02 failed") || strings.Contains(text, "job-0-01") {
		t.Errorf("want an error about job-0-02 alone, got: %v", got)
	}

	plain := newSession(t)
	if got := plain.helm(append([]string{"install", "shop", chartPath("tiers")}, flags...)...); got.code != 1 || !strings.Contains(got.stderr, "job job-0-01 failed") {
		t.Errorf("plain Helm: want that job-0-01 has failed, got: %v", got)
	}
}

// TestMaxParallel: limits of charts hold, nested ones too, for each command, also for those that have the release's
// record alone.
func TestMaxParallel(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	// By chart, as its Jobs are called: the umbrella has all of them below it.
	limits := map[string]int{"limited": 5, "db": 1, "cache": 2, "web": 5}
	seen := int64(0)
	check := func(what string) {
		t.Helper()
		var runs []audit.Run
		by := map[string][]audit.Run{}
		for _, run := range s.trail().Runs() {
			if run.Created > seen {
				chart, _, _ := strings.Cut(run.Name, "-")
				runs, by[chart] = append(runs, run), append(by[chart], run)
			}
		}
		for _, run := range runs {
			seen = max(seen, run.Created)
		}
		if len(runs) != 20 {
			t.Errorf("%s: %d hooks ran, want 20", what, len(runs))
		}
		if got := audit.MaxActive(runs); got != 5 {
			t.Errorf("%s: %d hooks were active at once, want 5", what, got)
		}
		for _, chart := range slices.Sorted(maps.Keys(limits)) {
			if got := audit.MaxActive(by[chart]); got > limits[chart] {
				t.Errorf("%s: %d hooks of %s were active at once, want at most %d", what, got, chart, limits[chart])
			}
		}
		slices.SortFunc(by["db"], func(a, b audit.Run) int { return int(a.Created - b.Created) })
		if !slices.IsSortedFunc(by["db"], func(a, b audit.Run) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%s: hooks of db ran as %v, want by name", what, by["db"])
		}
	}
	s.must(s.install("shop", "limited", 16))
	check("install")
	s.must(s.plugin("upgrade", "shop", chartPath("limited"), "--hook-parallelism", "16"))
	check("upgrade")
	s.must(s.plugin("rollback", "shop", "1", "--hook-parallelism", "16"))
	check("rollback")
	s.must(s.plugin("test", "shop", "--hook-parallelism", "16"))
	check("test")
	if got := s.release("shop").Chart.Metadata.Annotations["parallel-hooks/subchart-max-parallel"]; got != "cache=2, db=1" {
		t.Errorf("the record says %q of the subcharts", got)
	}
	// It's still a record for Helm.
	s.must(s.helm("status", "shop"))
	s.must(s.helm("get", "all", "shop"))
	s.must(s.plugin("uninstall", "shop", "--hook-parallelism", "16"))
	check("uninstall")
}

// TestBadAnnotationsOfCharts are refused while the cluster is still as it was.
func TestBadAnnotationsOfCharts(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := t.TempDir() + "/limited"
	if err := os.CopyFS(chart, os.DirFS(chartPath("limited"))); err != nil {
		t.Fatal(err)
	}
	const misspelt = "apiVersion: v2\nname: db\nversion: 1.0.0\nannotations: {parallel-hooks/max-paralel: \"1\"}\n"
	if err := os.WriteFile(chart+"/charts/db/Chart.yaml", []byte(misspelt), 0o600); err != nil {
		t.Fatal(err)
	}
	got := s.plugin("install", "shop", chart, "--hook-parallelism", "4")
	if got.code != 1 || !strings.Contains(got.stderr, `chart limited/charts/db (Chart.yaml): annotation parallel-hooks/max-paralel: "1": unknown annotation; did you mean parallel-hooks/max-parallel?`) {
		t.Errorf("want an error that names chart and annotation, got: %v", got)
	}
	if created := s.trail().By(byPlugin, byHelm).Creates().Objects(); len(created) != 0 {
		t.Errorf("created %q, want nothing", created)
	}
	s.must(s.plugin("install", "shop", chart, "--set", "global.jobs=1"))
}

// TestLongestFirst: an upgrade starts those hooks first that took longest when the release was installed, and those
// that it has no time of before them; plan says what that saves.
func TestLongestFirst(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	values := []string{"--set-json", `tiers=[{"weight":0,"jobs":5,"durations":["1s","1s","1s","3s","5s"]}]`, "--set-json", `event=["pre-install","pre-upgrade"]`}
	s.must(s.install("shop", "tiers", 5, values...))
	more := append(slices.Clone(values), "--set-json", `tiers=[{"weight":0,"jobs":6,"durations":["1s","1s","1s","3s","5s","1s"]}]`)
	upgrade := func(flags ...string) []string {
		return slices.Concat([]string{"shop", chartPath("tiers"), "--hook-parallelism", "2"}, more, flags)
	}
	var plan struct {
		SecondsByOrder map[string]float64 `json:"secondsByOrder"`
	}
	if err := json.Unmarshal([]byte(s.must(s.plugin(append([]string{"plan", "-o", "json"}, upgrade()...)...)).stdout), &plan); err != nil {
		t.Fatal(err)
	}
	if plan.SecondsByOrder["longest-first"] >= plan.SecondsByOrder["name"] || plan.SecondsByOrder["longest-first"] < 5 {
		t.Errorf("plan says %v, want less for longest first, and not less than the longest takes", plan.SecondsByOrder)
	}
	before := len(s.trail().Runs())
	s.must(s.plugin(append([]string{"upgrade", "--hook-order", "longest-first"}, upgrade()...)...))
	runs := s.trail().Runs()[before:]
	slices.SortFunc(runs, func(a, b audit.Run) int { return int(a.Created - b.Created) })
	var order []string
	for _, run := range runs {
		order = append(order, run.Name)
	}
	// Two start at once, whichever is created first.
	slices.Sort(order[:2])
	if got, want := fmt.Sprint(order[:3]), "[job-0-04 job-0-05 job-0-03]"; got != want {
		t.Errorf("started first: %s, want %s", got, want)
	}
}

// annotations matches annotations of the plugin in an object, and in what the API server notes of who has set them. They
// aren't an object's first.
var annotations = regexp.MustCompile(`,\s*\\?"(f:)?parallel-hooks/[^"\\]*\\?":\s*(\{\}|"[^"]*")`)

// TestPlainHelmIgnoresAnnotations: what plain Helm makes of a chart with all annotations is what it makes of one without,
// and the plugin's serial run is too: requests and their order, objects, records' phases and what is printed.
func TestPlainHelmIgnoresAnnotations(t *testing.T) {
	t.Parallel()
	unlimited := t.TempDir() + "/limited"
	if err := os.CopyFS(unlimited, os.DirFS(chartPath("limited"))); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/Chart.yaml", "/charts/db/Chart.yaml"} {
		withoutAnnotations(t, unlimited+file)
	}
	const tiers = " --set tiers[0].jobs=4 --set tiers[1].jobs=2"
	const small = " --set global.jobs=2,global.duration=0s"
	for name, test := range map[string]struct {
		without, with string // charts, and flags
		hooks         int    // that run
	}{
		"of hooks": {chartPath("tiers") + tiers, chartPath("tiers") + tiers + " " + strings.Join(annotate(t,
			[3]string{"job-0-00", "after", "job-0-02"},
			[3]string{"job-0-01", "slots", "all"},
			[3]string{"job-0-02", "timeout", "1ns"},
			[3]string{"job-0-03", "failure", "ignore"},
			[3]string{"job-1-00", "slots", "nonsense"},
			[3]string{"job-1-01", "nonsense", ""},
		), " "), 6},
		"of charts": {unlimited + small, chartPath("limited") + small, 3 * 4 * 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(program func(*session, ...string) result, chart string) []outcome {
				s := newSession(t)
				all := s.outcomesOf(t, program, []string{"install RELEASE CHART", "upgrade RELEASE CHART", "uninstall RELEASE"}, strings.NewReplacer("RELEASE", "shop", "CHART", chart))
				runs := s.trail().Runs()
				if got := audit.MaxActive(runs); len(runs) != test.hooks || got != 1 {
					t.Errorf("%d hooks ran, %d of them at once, want %d, one after another", len(runs), got, test.hooks)
				}
				for _, o := range all {
					for field := range o {
						o[field] = annotations.ReplaceAllString(o[field], "")
					}
				}
				return all
			}
			want := run((*session).helm, test.without)
			for name, got := range map[string][]outcome{"Helm": run((*session).helm, test.with), "the plugin": run((*session).plugin, test.with)} {
				for i := range want {
					for _, complaint := range unlike(want[i], got[i], 1) {
						t.Errorf("with annotations, by %s, command %d: %s", name, i, complaint)
					}
				}
			}
		})
	}
}

// withoutAnnotations takes them out of a Chart.yaml that has some.
func withoutAnnotations(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	var chart map[string]any
	if err == nil {
		err = yaml.Unmarshal(text, &chart)
	}
	if err != nil || chart["annotations"] == nil {
		t.Fatalf("want a chart with annotations: %v, %v", chart, err)
	}
	delete(chart, "annotations")
	if text, err = yaml.Marshal(chart); err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
