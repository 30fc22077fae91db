package e2e

import (
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// phasesOf returns what a release's record says of its hooks, as "name=Phase"; "name=" is one that never ran.
func phasesOf(rel *release.Release) []string {
	var phases []string
	for _, h := range rel.Hooks {
		phases = append(phases, h.Name+"="+string(h.LastRun.Phase))
	}
	slices.Sort(phases)
	return phases
}

func wantEqual(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// mustBeFailed checks a release after a failed install: its status, and that the real helm can read it.
func (s *session) mustBeFailed(name string) *release.Release {
	s.t.Helper()
	rel := s.release(name)
	if rel.Info.Status != release.StatusFailed {
		s.t.Errorf("status = %s, want failed", rel.Info.Status)
	}
	status := s.must(s.helm("status", name, "--show-desc"))
	if !strings.Contains(status.stdout, "STATUS: failed") {
		s.t.Errorf("helm does not see the failure: %v", status)
	}
	if got := s.must(s.helm("get", "hooks", name)); strings.Count(got.stdout, "# Source:") != len(rel.Hooks) {
		s.t.Errorf("helm does not see the %d hooks: %v", len(rel.Hooks), got)
	}
	return rel
}

// TestFailingHook: running hooks reach their end, queued ones are never created, and the record says of each what
// truly happened.
func TestFailingHook(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.install("failing", "tiers", 3, "--set-json",
		`tiers=[{"weight":0,"jobs":5,"durations":["3s","1s","3s"]},{"weight":1,"jobs":1}]`,
		"--set", "failing={job-0-01}")
	const words = "failed pre-install: 1 error occurred:\n\t* job job-0-01 failed: BackoffLimitExceeded (pod job-0-01-"
	if got.code != 1 || !strings.Contains(got.stderr, "Error: INSTALLATION FAILED: "+words) {
		t.Errorf("want exit code 1 and Helm's words; got: %v", got)
	}
	if !strings.Contains(got.stderr, "\nJob/job-0-01, pre-install hook of weight 0: failed after ") ||
		!strings.Contains(got.stderr, "\n  last lines of pod job-0-01-") {
		t.Errorf("want the log of the failed container; got: %v", got)
	}
	rel := s.mustBeFailed("failing")
	if !strings.HasPrefix(rel.Info.Description, `Release "failing" failed: `+words) {
		t.Errorf("description = %q, want Helm's words", rel.Info.Description)
	}
	wantEqual(t, "phases", phasesOf(rel), []string{"job-0-00=Succeeded", "job-0-01=Failed", "job-0-02=Succeeded", "job-0-03=", "job-0-04=", "job-1-00="})

	runs := s.trail().Runs()
	var names []string
	for _, run := range runs {
		names = append(names, run.Name)
		if run.Ended == 0 || run.Succeeded == (run.Name == "job-0-01") {
			t.Errorf("run %+v, want it to have ended, and to have failed if it's job-0-01", run)
		}
	}
	slices.Sort(names)
	wantEqual(t, "created", names, []string{"job-0-00", "job-0-01", "job-0-02"})
	// The record's last word came after the end of what still ran.
	writes := s.trail().Of("secrets").Where(func(r audit.Request) bool { return r.Verb == "update" })
	for _, run := range runs {
		if last := writes[len(writes)-1].ResourceVersion; last < run.Ended {
			t.Errorf("the record was last written at %d, before %s ended at %d", last, run.Name, run.Ended)
		}
	}
}

// TestTwoFailingHooks: both are named, in the error and in the record.
func TestTwoFailingHooks(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.install("failing", "tiers", 4, "--set", "tiers[0].jobs=4,failing={job-0-01,job-0-03}")
	rel := s.mustBeFailed("failing")
	for _, text := range []string{"2 errors occurred:", "job job-0-01 failed: BackoffLimitExceeded", "job job-0-03 failed: BackoffLimitExceeded"} {
		if !strings.Contains(got.stderr, text) || !strings.Contains(rel.Info.Description, text) {
			t.Errorf("want %q in error and description; got: %v\ndescription: %s", text, got, rel.Info.Description)
		}
	}
	wantEqual(t, "phases", phasesOf(rel), []string{"job-0-00=Succeeded", "job-0-01=Failed", "job-0-02=Succeeded", "job-0-03=Failed"})
}

// TestKeepGoing: the rest of the tier runs, the next one doesn't.
func TestKeepGoing(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.install("failing", "tiers", 2, "--hook-keep-going", "--set", "tiers[0].jobs=4,tiers[1].weight=3,tiers[1].jobs=1,failing={job-0-00}")
	if got.code != 1 {
		t.Errorf("want exit code 1; got: %v", got)
	}
	wantEqual(t, "phases", phasesOf(s.mustBeFailed("failing")), []string{"job-0-00=Failed", "job-0-01=Succeeded", "job-0-02=Succeeded", "job-0-03=Succeeded", "job-1-00="})
}

// TestDeletePolicies: what is left in the cluster is what Helm leaves, after success and after a failure.
func TestDeletePolicies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		policies, failing string
		want              []string
	}{
		{"{before-hook-creation}", "", []string{"job-0-00", "job-0-01", "job-0-02"}},
		{"{hook-succeeded}", "", nil},
		{"{hook-failed}", "", []string{"job-0-00", "job-0-01", "job-0-02"}},
		{"{hook-succeeded}", "job-0-01", []string{"job-0-01"}},
		{"{hook-failed}", "job-0-01", []string{"job-0-00", "job-0-02"}},
		{"{hook-succeeded,hook-failed}", "job-0-01", nil},
	} {
		t.Run(test.policies+test.failing, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			got := s.install("policies", "tiers", 3, "--set", "tiers[0].jobs=3,deletePolicy="+test.policies+",failing={"+test.failing+"}")
			if want := map[bool]int{true: 0, false: 1}[test.failing == ""]; got.code != want {
				t.Fatalf("want exit code %d; got: %v", want, got)
			}
			jobs, err := bed.client.BatchV1().Jobs(s.namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, job := range jobs.Items {
				left = append(left, job.Name)
			}
			slices.Sort(left)
			wantEqual(t, "left", left, test.want)
		})
	}
}

// TestHookOfAnEarlierRunIsReplaced: with before-hook-creation, the default, an old Job makes place for the new one.
func TestHookOfAnEarlierRunIsReplaced(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	for _, release := range []string{"first", "second"} {
		s.must(s.install(release, "tiers", 4, "--set", "tiers[0].jobs=4,manifest=false"))
	}
	if runs := s.trail().Runs(); len(runs) != 8 {
		t.Errorf("%d Jobs ran, want 8", len(runs))
	}
}

// TestLogPolicies: logs come as a block of each hook, each line with the hook's name, on stderr.
func TestLogPolicies(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.must(s.install("logs", "tiers", 2, "--set", "tiers[0].jobs=2,logPolicy={hook-succeeded}",
		"--set-json", `logs={"job-0-00":"one\ntwo","job-0-01":"three\nfour"}`))
	for _, block := range []string{"[job-0-00] one\n[job-0-00] two\n", "[job-0-01] three\n[job-0-01] four\n"} {
		if !strings.Contains(got.stderr, block) {
			t.Errorf("want %q on stderr; got: %v", block, got)
		}
	}
	if strings.Contains(got.stdout, "two") {
		t.Errorf("logs reached stdout: %v", got)
	}
}

// TestFailingPostInstallHook: the release is failed, its resources stay.
func TestFailingPostInstallHook(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.install("failing", "tiers", 3, "--set", "tiers[0].jobs=2,event=post-install,failing={job-0-01}")
	rel := s.mustBeFailed("failing")
	const words = "failed post-install: 1 error occurred:\n\t* job job-0-01 failed: BackoffLimitExceeded"
	if got.code != 1 || !strings.Contains(got.stderr, words) || !strings.Contains(rel.Info.Description, words) {
		t.Errorf("want exit code 1 and Helm's words; got: %v\ndescription: %s", got, rel.Info.Description)
	}
	if _, err := bed.client.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), "manifest", metav1.GetOptions{}); err != nil {
		t.Errorf("the manifest's object: %v", err)
	}
}

// TestTimeout: a hook that doesn't end in time fails with Helm's words, and what it logged last is shown.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.install("slow", "tiers", 3, "--timeout", "6s", "--set", "tiers[0].jobs=2,tiers[0].durations={1s,1h}",
		"--set-json", `logs={"job-0-01":"rows copied: 1\nrows copied: 2"}`)
	if got.code != 1 || !strings.Contains(got.stderr, "job job-0-01: not done after 6s (--timeout), and not ended by that: timed out waiting for the condition\n") {
		t.Errorf("want exit code 1 and the hook that took too long; got: %v", got)
	}
	for _, text := range []string{"\n  last lines of pod job-0-01-", "\n  | rows copied: 1\n  | rows copied: 2\n", " logs job/job-0-01 --all-containers\n"} {
		if !strings.Contains(got.stderr, text) {
			t.Errorf("want %q; got: %v", text, got)
		}
	}
	wantEqual(t, "phases", phasesOf(s.mustBeFailed("slow")), []string{"job-0-00=Succeeded", "job-0-01=Failed"})
}

// TestAtomic: a failed install leaves nothing behind, and the delete hooks ran.
func TestAtomic(t *testing.T) {
	t.Parallel()
	for _, hook := range []string{"post-install", "pre-install"} {
		t.Run(hook, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			chart := s.chart(atomicChart)
			got := s.plugin("install", "atomic", chart, "--hook-parallelism", "4", "--atomic", "--set", "failing="+hook)
			if got.code != 1 || !strings.Contains(got.stderr, "Error: INSTALLATION FAILED: release atomic failed, and has been uninstalled due to atomic being set: failed "+hook+": ") {
				t.Errorf("want exit code 1 and Helm's words; got: %v", got)
			}
			if rel, err := storedRelease(t.Context(), s.namespace, "atomic"); err == nil {
				t.Errorf("a record is left, with status %s", rel.Info.Status)
			}
			var ran []string
			for _, run := range s.trail().Runs() {
				ran = append(ran, run.Name)
			}
			want := []string{"job-pre-install", "job-post-install", "job-pre-delete", "job-post-delete"}
			if hook == "pre-install" {
				want = slices.Delete(want, 1, 2)
			}
			wantEqual(t, "hooks that ran", ran, want)
			jobs, err := bed.client.BatchV1().Jobs(s.namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			maps, err := bed.client.CoreV1().ConfigMaps(s.namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=manifest"})
			if err != nil {
				t.Fatal(err)
			}
			if len(jobs.Items)+len(maps.Items) > 0 {
				t.Errorf("left behind: %d Jobs and %d ConfigMaps", len(jobs.Items), len(maps.Items))
			}
		})
	}
}

// atomicChart has a Job for each event of an install and an uninstall. Which of them fails is a value.
const atomicChart = `
-- Chart.yaml --
apiVersion: v2
name: atomic
version: 1.0.0
-- templates/manifest.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: manifest
-- templates/jobs.yaml --
{{- range $event := list "pre-install" "post-install" "pre-delete" "post-delete" }}
apiVersion: batch/v1
kind: Job
metadata:
  name: job-{{ $event }}
  annotations:
    helm.sh/hook: {{ $event }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations:
        parallel-hooks.test/exit-code: {{ eq $event $.Values.failing | ternary "1" "0" | quote }}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
---
{{- end }}
`
