package e2e

import (
	"strings"
	"syscall"
	"testing"

	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// TestHelmIsSerial is what everything else is compared with: helm runs the hooks of one weight one by one, by name.
func TestHelmIsSerial(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := s.chart(`
-- Chart.yaml --
apiVersion: v2
name: three
version: 1.0.0
-- templates/jobs.yaml --
{{- range $name := list "c" "a" "b" }}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  annotations:
    helm.sh/hook: pre-install
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
---
{{- end }}
`)
	s.must(s.helm("install", "three", chart))

	runs := s.trail().Runs()
	var names []string
	for _, run := range runs {
		names = append(names, run.Name)
		if !run.Succeeded {
			t.Errorf("run %+v, want it to have succeeded", run)
		}
	}
	if got, want := strings.Join(names, " "), "a b c"; got != want {
		t.Errorf("Jobs were created in the order %s, want %s", got, want)
	}
	if got := audit.MaxActive(runs); got != 1 {
		t.Errorf("%d Jobs were active at once, want 1", got)
	}
	if got := s.release("three").Info.Status; got != release.StatusDeployed {
		t.Errorf("status = %s, want %s", got, release.StatusDeployed)
	}
}

// TestHelmIsInterrupted is about the commands in the background as much as about helm: on a first signal it gives up
// and says so in the record.
func TestHelmIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		signal func(*command)
	}{
		{"kill", func(c *command) { c.signal(syscall.SIGTERM) }},
		{"ctrl-c", func(c *command) { c.signalGroup(syscall.SIGINT) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			chart := s.chart(`
-- Chart.yaml --
apiVersion: v2
name: slow
version: 1.0.0
-- templates/job.yaml --
apiVersion: batch/v1
kind: Job
metadata:
  name: slow
  annotations:
    helm.sh/hook: pre-install
spec:
  template:
    metadata:
      annotations:
        parallel-hooks.test/duration: 1h
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
`)
			c := s.start("helm", "install", "slow", chart)
			s.await("the Job", created("jobs/slow"))
			test.signal(c)
			if got := c.wait(); got.code != 1 || !strings.Contains(got.stderr, "context canceled") {
				t.Errorf("helm ended otherwise than with exit code 1 and 'context canceled': %v", got)
			}
			if got := s.release("slow").Info.Status; got != release.StatusFailed {
				t.Errorf("status = %s, want %s", got, release.StatusFailed)
			}
		})
	}
}
