package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// TestExampleProgram: a program in a module of its own, built on the package hooks, runs the hooks of one event out of
// rendered manifests, and fails where a hook does.
func TestExampleProgram(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "run-hooks")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir = filepath.Join(bed.root, "examples", "run-hooks")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := newSession(t)
	for _, test := range []struct {
		name, tiers string
		fails       bool
		want        string
	}{
		{"succeeding", `[{"jobs":4},{"jobs":2,"event":"post-install"}]`, false, strings.Repeat("Succeeded\n", 4)},
		{"failing", `[{"jobs":1},{"jobs":2,"event":"post-install"}]`, true, "Failed\n"},
	} {
		manifests := s.must(s.helm("template", test.name, chartPath("tiers"), "--set-json", "tiers="+test.tiers, "--set", "prefix="+test.name+"-,failing={failing-job-0-00}"))
		before := len(s.trail())
		run := exec.Command(program, "-namespace", s.namespace, "-event", "pre-install", "-parallelism", "2")
		run.Env, run.Stdin = s.env, strings.NewReader(manifests.stdout)
		var stdout, stderr bytes.Buffer
		run.Stdout, run.Stderr = &stdout, &stderr
		if err := run.Run(); (err != nil) != test.fails {
			t.Errorf("%s: %v\n%s%s", test.name, err, &stdout, &stderr)
		}
		var phases strings.Builder
		for line := range strings.Lines(stdout.String()) {
			phases.WriteString(strings.Fields(line)[0] + "\n")
		}
		if got := phases.String(); got != test.want {
			t.Errorf("%s: printed\n%swant the phases\n%s", test.name, &stdout, test.want)
		}
		runs := s.trail()[before:].Runs()
		if got, want := len(runs), strings.Count(test.want, "\n"); got != want {
			t.Errorf("%s: %d Jobs ran, want %d", test.name, got, want)
		}
		if got, want := audit.MaxActive(runs), min(len(runs), 2); got != want {
			t.Errorf("%s: %d Jobs at once, want %d", test.name, got, want)
		}
	}
}
