package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAllLogs: every line of every hook arrives once, whole and in order, from hooks that log fast and at once.
func TestAllLogs(t *testing.T) {
	t.Parallel()
	const jobs, seconds, rate = 20, 3, 1000
	s := newSession(t)
	got := s.must(s.install("app", "tiers", jobs, "--hook-logs", "all", "--hook-progress", "none",
		"--set", fmt.Sprintf("tiers[0].jobs=%d,tiers[0].duration=%ds,logRate=%d", jobs, seconds, rate)))
	next := map[string]int{}
	for line := range strings.Lines(got.stderr) {
		var name string
		var n int
		if _, err := fmt.Sscanf(line, "[%s line %d\n", &name, &n); err != nil {
			t.Fatalf("a torn line: %q", line)
		}
		if n != next[name] {
			t.Fatalf("hook %s: line %d comes where line %d should", name, n, next[name])
		}
		next[name]++
	}
	if len(next) != jobs {
		t.Errorf("logs of %d hooks, want %d", len(next), jobs)
	}
	for name, n := range next {
		if n != seconds*rate {
			t.Errorf("hook %s: %d lines, want %d", name, n, seconds*rate)
		}
	}
}

// TestAllLogsOfManyContainers: init containers and hooks that are Pods are read, too; the annotation for logs adds
// nothing twice.
func TestAllLogsOfManyContainers(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.must(s.plugin("install", "app", s.chart(`
-- Chart.yaml --
apiVersion: v2
name: containers
version: 1.0.0
-- templates/hooks.yaml --
apiVersion: batch/v1
kind: Job
metadata:
  name: several
  annotations: {helm.sh/hook: pre-install, helm.sh/hook-output-log-policy: hook-succeeded}
spec:
  template:
    spec:
      restartPolicy: Never
      initContainers: [{name: first, image: none}]
      containers: [{name: left, image: none}, {name: right, image: none}]
---
apiVersion: v1
kind: Pod
metadata:
  name: single
  annotations: {helm.sh/hook: pre-install}
spec:
  restartPolicy: Never
  containers: [{name: main, image: none}]
`), "--hook-parallelism", "4", "--hook-logs", "all", "--hook-progress", "none"))
	lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
	slices.Sort(lines)
	wantEqual(t, "lines", lines, []string{
		"[several/first] container first ran",
		"[several/left] container left ran",
		"[several/right] container right ran",
		"[single] container main ran",
	})
}

// TestFailedLogs: which lines an error holds is for --hook-logs to say.
func TestFailedLogs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		parallelism int
		flags       []string
		want        bool
	}{
		{2, nil, true},
		{2, []string{"--hook-logs", "none"}, false},
		{0, nil, false},
		{0, []string{"--hook-logs", "failed"}, true},
	} {
		t.Run(fmt.Sprint(test.parallelism, test.flags), func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			var lines []string
			for i := range 30 {
				lines = append(lines, fmt.Sprintf("line %d", i))
			}
			logs, err := json.Marshal(map[string]string{"job-0-00": strings.Join(lines, "\n")})
			if err != nil {
				t.Fatal(err)
			}
			got := s.install("app", "tiers", test.parallelism, append(test.flags, "--set", "failing={job-0-00},tiers[0].jobs=1", "--set-json", "logs="+string(logs))...)
			if got.code != 1 {
				t.Fatalf("want exit code 1; got: %v", got)
			}
			if shown := strings.Contains(got.stderr, "  | line 10\n") && strings.Contains(got.stderr, "  | line 29\n"); shown != test.want {
				t.Errorf("the last lines are shown: %v, want %v; got: %v", shown, test.want, got)
			}
			if strings.Contains(got.stderr, "line 9\n") {
				t.Errorf("more than the last 20 lines are shown: %v", got)
			}
		})
	}
}

// TestJSONProgress: every line of stderr is an object, and they tell of each hook from its start to its end.
func TestJSONProgress(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.must(s.install("app", "tiers", 4, "--hook-progress", "json", "--set", "tiers[0].jobs=3,tiers[1].jobs=1"))
	types := map[string]int{}
	for line := range strings.Lines(got.stderr) {
		var object struct {
			SchemaVersion int
			Type          string
			Activity      string
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil || object.SchemaVersion != 1 {
			t.Fatalf("%v in %q", err, line)
		}
		types[object.Type]++
		if object.Activity == "Running" {
			types["running"]++
		}
	}
	for kind, want := range map[string]int{"event-started": 1, "tier-started": 2, "hook-started": 4, "hook-ended": 4, "tier-ended": 2, "event-ended": 1, "running": 4} {
		if types[kind] != want {
			t.Errorf("%s: %d times, want %d; got: %v", kind, types[kind], want, got)
		}
	}
}

// TestSerialOperationShowsNoProgress: without the flag for parallelism nothing is said that Helm wouldn't.
func TestSerialOperationShowsNoProgress(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	if got := s.must(s.install("app", "tiers", 1)); got.stderr != "" {
		t.Errorf("stderr = %q, want nothing", got.stderr)
	}
	got := s.must(s.install("other", "tiers", 1, "--hook-progress", "plain", "--set", "prefix=other-"))
	if !regexp.MustCompile(`(?m)^  \d\d:\d\d:\d\d \+\d+\.\ds +succeeded  Job/other-job-0-00  \d`).MatchString(got.stderr) {
		t.Errorf("no line says that the hook succeeded: %v", got)
	}
}

// TestHookReport: the report tells of what this operation ran, also where no record is left, and of nothing else.
func TestHookReport(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	read := func(file string) (report timeline) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &report); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return report
	}
	file := func(name string) string { return filepath.Join(t.TempDir(), name) }
	values := []string{"--set", "event={pre-install,pre-delete},tiers[0].jobs=2,tiers[1].jobs=1,failing={job-1-00}"}

	installed := file("install.json")
	if got := s.install("app", "tiers", 4, append(values, "--hook-report", installed)...); got.code != 1 {
		t.Fatalf("want exit code 1; got: %v", got)
	}
	if r := read(installed); len(r.Events) != 1 || r.Events[0].Event != "pre-install" || len(r.Events[0].Hooks) != 3 {
		t.Errorf("after a failed install: got %+v", r)
	}
	uninstalled := file("uninstall.json")
	if got := s.plugin("uninstall", "app", "--hook-parallelism", "4", "--hook-report", uninstalled); got.code != 1 {
		t.Fatalf("want exit code 1; got: %v", got)
	}
	if r := read(uninstalled); len(r.Events) != 1 || r.Events[0].Event != "pre-delete" {
		t.Errorf("after an uninstall: got %+v", r)
	}
	none := file("none.json")
	s.must(s.plugin("uninstall", "app", "--no-hooks", "--hook-report", none))
	if r := read(none); len(r.Events) != 0 {
		t.Errorf("without hooks: got %+v", r)
	}

	for _, bad := range []string{"report.pdf", filepath.Join("nowhere", "report.json")} {
		got := s.install("bad", "tiers", 4, "--hook-report", bad)
		if got.code != 1 || !strings.Contains(got.stderr, "--hook-report") {
			t.Errorf("%s: want exit code 1 and the flag's name; got: %v", bad, got)
		}
	}
	if left, err := storedReleases(t.Context(), s.namespace); err != nil || len(left) != 0 {
		t.Errorf("a bad file left releases: %v, %v", left, err)
	}
}
