package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// terminal is a real terminal, tmux, in which one command runs.
type terminal struct {
	t      *testing.T
	socket string
	env    []string
}

// openTerminal runs a command in a terminal of that size, which stays open when the command has ended.
func (s *session) openTerminal(t *testing.T, width, height int, name string, args ...string) *terminal {
	t.Helper()
	term := &terminal{t: t, socket: filepath.Join(t.TempDir(), "tmux"), env: s.env}
	command := shellQuoted(append([]string{filepath.Join(bed.dir, "bin", name)}, args...))
	term.tmux("-f", "/dev/null", "start-server", ";", "set-option", "-g", "history-limit", "5000", ";",
		"set-option", "-g", "status", "off", ";", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height),
		"cd "+shellQuoted([]string{bed.root})+"; "+command+"; echo ended with $?; exec cat")
	t.Cleanup(func() { term.tmux("kill-server") })
	return term
}

func shellQuoted(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

func (term *terminal) tmux(args ...string) string {
	term.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // also after the test's end
	defer cancel()
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-S", term.socket}, args...)...)
	cmd.Env = append(term.env, "LANG=C.UTF-8", "TERM=xterm-256color", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// shown returns what the terminal shows.
func (term *terminal) shown() string { return term.tmux("capture-pane", "-p") }

// all returns what the terminal shows and what has scrolled away, each line as it was written.
func (term *terminal) all() string { return term.tmux("capture-pane", "-p", "-J", "-S", "-") }

// await returns what is shown as soon as it fits the pattern.
func (term *terminal) await(pattern string) (shown string) {
	term.t.Helper()
	wanted := regexp.MustCompile(pattern)
	err := wait.PollUntilContextTimeout(term.t.Context(), 50*time.Millisecond, 3*time.Minute, true, func(context.Context) (bool, error) {
		shown = term.shown()
		return wanted.MatchString(shown), nil
	})
	if err != nil {
		term.t.Fatalf("%v: no %q in:\n%s", err, pattern, term.all())
	}
	return shown
}

// TestLiveProgress: a real terminal shows what runs, in no more than its size, also when that changes, and in the end
// one line per hook and nothing of the region.
func TestLiveProgress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                       string
		width, height, to, jobs, n int
		program                    string
		args                       []string
	}{
		{"80 columns", 80, 24, 80, 24, 8, "helm-parallel-hooks", nil},
		{"160 columns, through helm", 160, 40, 160, 24, 8, "helm", []string{"parallel-hooks"}},
		{"becoming narrower", 120, 12, 50, 40, 20, "helm-parallel-hooks", nil},
		{"200 hooks", 100, 30, 100, 200, 50, "helm-parallel-hooks", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			term := s.openTerminal(t, test.width, test.height, test.program, append(test.args,
				"install", "app", chartPath("tiers"), "--hook-parallelism", fmt.Sprint(test.n),
				"--set", fmt.Sprintf("tiers[0].jobs=%d,tiers[0].duration=2s", test.jobs))...)
			shown := term.await(fmt.Sprintf(`pre-install, weight 0: \d+ of %d done, %d running`, test.jobs, test.n))
			if !regexp.MustCompile(`(?m)^  Job/job-0-\d+ +\d+\.\ds`).MatchString(shown) {
				t.Errorf("no running hook is shown:\n%s", shown)
			}
			term.await(`Running|Pending`)
			if test.to != test.width {
				term.tmux("resize-window", "-x", fmt.Sprint(test.to))
			}
			term.await(`ended with 0`)
			all := term.all()
			t.Log(all)
			for i := range test.jobs {
				name := fmt.Sprintf("Job/job-0-%02d ", i)
				if n := strings.Count(all, "succeeded  "+name); n != 1 {
					t.Errorf("%s: %d lines say that it succeeded, want 1", name, n)
				}
			}
			// What a terminal that becomes narrower pushes out of its window is out of reach.
			left := 0
			if test.to != test.width {
				left = 1
			}
			if n := strings.Count(all, " running"); n > left {
				t.Errorf("%d lines of the region are left", n)
			}
			if want := fmt.Sprintf("pre-install: %d hooks in ", test.jobs); strings.Count(all, want) != 1 {
				t.Errorf("not one %q", want)
			}
			if !strings.Contains(all, "STATUS: deployed") {
				t.Error("Helm's own output is missing")
			}
		})
	}
}

// TestLiveFailure: what went wrong stays on the screen when the region has gone, and no colour comes where none is
// wanted.
func TestLiveFailure(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.env = append(s.env, "NO_COLOR=1")
	term := s.openTerminal(t, 100, 30, "helm-parallel-hooks", "install", "app", chartPath("tiers"), "--hook-parallelism", "4",
		"--set-json", `tiers=[{"jobs":6,"durations":["6s","6s","1s","6s"]}]`, "--set", "failing={job-0-02}")
	term.await(`4 running`)
	term.tmux("send-keys", "x") // echoed, and of no matter
	term.await(`ended with 1`)
	all := term.all()
	for _, want := range []string{"failed     Job/job-0-02", "A hook failed: no further hook starts", "Error: INSTALLATION FAILED", "describe job/job-0-02"} {
		if !strings.Contains(all, want) {
			t.Errorf("want %q in:\n%s", want, all)
		}
	}
	if colored := term.tmux("capture-pane", "-p", "-e", "-S", "-"); strings.Contains(colored, "\x1b[3") {
		t.Errorf("colours in spite of NO_COLOR: %q", colored)
	}
}

// TestLiveWarnings: what the API server warns of, which client-go prints by itself, stays on the screen and leaves nothing
// of the region behind.
func TestLiveWarnings(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	term := s.openTerminal(t, 140, 30, "helm-parallel-hooks", "install", "app", s.chart(`
-- Chart.yaml --
apiVersion: v2
name: warned
version: 1.0.0
-- templates/hooks.yaml --
{{- range until 6 }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: job-{{ . }}
  annotations: {helm.sh/hook: pre-install}
spec:
  bogus{{ . }}: 1
  template:
    metadata:
      annotations: {parallel-hooks.test/duration: 1s}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
{{- end }}
`), "--hook-parallelism", "2")
	term.await(`ended with 0`)
	all := term.all()
	for i := range 6 {
		if n := strings.Count(all, fmt.Sprintf(`unknown field \"spec.bogus%d\"`, i)); n != 1 {
			t.Errorf("%d warnings about hook %d, want 1", n, i)
		}
	}
	if strings.Contains(all, " running") || t.Failed() {
		t.Errorf("want the warnings and nothing of the region in:\n%s", all)
	}
}
