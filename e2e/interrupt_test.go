package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// slowTiers are values of the chart tiers: six Jobs of one weight, job-0-00 to job-0-05, and job-1-00 of the next.
func slowTiers(duration string) []string {
	return []string{"--set-json", `tiers=[{"jobs":6,"duration":"` + duration + `"},{"jobs":1}]`}
}

// TestInterruptedTier: after a first signal no hook starts, those that run are watched to their end, and the release
// ends as failed, with a record that is true and that helm can go on from.
func TestInterruptedTier(t *testing.T) {
	t.Parallel()
	ctrlC := func(c *command) { c.signalGroup(syscall.SIGINT) }
	kill := func(sig syscall.Signal) func(*command) { return func(c *command) { c.signal(sig) } }
	parallel := []string{"--hook-parallelism=2"}
	for _, test := range []struct {
		name      string
		helm      bool // whether helm calls the plugin
		flags     []string
		running   []string // when the signal comes
		interrupt func(*command)
		code      int
		manifest  bool // whether the manifest comes before the hooks
	}{
		{"ctrl-c", false, parallel, []string{"job-0-00", "job-0-01"}, ctrlC, 130, false},
		{"kill", false, parallel, []string{"job-0-00", "job-0-01"}, kill(syscall.SIGTERM), 143, false},
		{"hang-up", false, parallel, []string{"job-0-00", "job-0-01"}, kill(syscall.SIGHUP), 129, false},
		{"ctrl-c, serial", false, nil, []string{"job-0-00"}, ctrlC, 130, false},
		{"ctrl-c after the manifest", false, append(parallel, "--set=event=post-install"), []string{"job-0-00", "job-0-01"}, ctrlC, 130, true},
		// Helm dies at once; a plugin that is not told has to notice.
		{"ctrl-c through helm", true, parallel, []string{"job-0-00", "job-0-01"}, ctrlC, 130, false},
		{"kill helm alone", true, parallel, []string{"job-0-00", "job-0-01"}, kill(syscall.SIGTERM), 143, false},
		{"ctrl-c through helm, serial", true, nil, []string{"job-0-00"}, ctrlC, 130, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			args := slices.Concat([]string{"install", "slow", chartPath("tiers")}, slowTiers("3s"), test.flags)
			var c *command
			if test.helm {
				c = s.start("helm", append([]string{"parallel-hooks"}, args...)...)
			} else {
				c = s.start("helm-parallel-hooks", args...)
			}
			for _, job := range test.running {
				s.await(job, created("jobs/"+job))
			}
			test.interrupt(c)
			got := c.end()

			if got.code != test.code || died(c) != test.helm {
				t.Errorf("exit code %d, ended by the signal itself: %v; want %d, %v: %v", got.code, died(c), test.code, test.helm, got)
			}
			if want := "Release slow has been cancelled.\n"; got.stdout != want {
				t.Errorf("stdout = %q, want %q", got.stdout, want)
			}
			trail := s.trail()
			runs := trail.Runs()
			if got := namesOf(runs); !slices.Equal(got, test.running) {
				t.Errorf("Jobs created: %q, want only those that ran when the signal came: %q", got, test.running)
			}
			written, stored := lastRecord(t, trail, "slow")
			for _, run := range runs {
				if !run.Succeeded || run.Ended >= written {
					t.Errorf("run %+v; want it to have succeeded before the last record was written, at %d", run, written)
				}
			}
			if got := slices.Contains(trail.Of("configmaps").Creates().Objects(), "configmaps/manifest"); got != test.manifest {
				t.Errorf("the manifest was created: %v, want %v", got, test.manifest)
			}
			event := "pre-install"
			if test.manifest {
				event = "post-install"
			}
			checkFailed(t, stored, "failed "+event+": ", test.running, release.HookPhaseSucceeded)
			checkUsable(t, s, "slow", chartPath("tiers"))
		})
	}
}

// TestInterruptedTwice: a second signal is obeyed at once, and the record still says what was known.
func TestInterruptedTwice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		helm          bool // whether helm calls the plugin
		first, second syscall.Signal
		code          int
	}{
		{"ctrl-c", false, syscall.SIGINT, syscall.SIGINT, 130},
		{"kill", false, syscall.SIGTERM, syscall.SIGTERM, 143},
		{"ctrl-c, then kill", false, syscall.SIGINT, syscall.SIGTERM, 130},
		{"ctrl-c through helm", true, syscall.SIGINT, syscall.SIGINT, 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			running := []string{"job-0-00", "job-0-01"}
			args := slices.Concat([]string{"install", "slow", chartPath("tiers"), "--hook-parallelism=2"}, slowTiers("1h"))
			name := "helm-parallel-hooks"
			if test.helm {
				name, args = "helm", append([]string{"parallel-hooks"}, args...)
			}
			stdout, stderr := newScreen(), newScreen()
			c := s.startOn(stdout, stderr, name, args...)
			for _, job := range running {
				s.await(job, created("jobs/"+job))
			}
			c.signalGroup(test.first)
			// A signal that comes while one like it is pending would be lost.
			stdout.await(c, "Release slow has been cancelled.\n")
			c.signalGroup(test.second)
			got := c.end()

			trail := s.trail()
			runs := trail.Runs()
			for _, run := range runs {
				if run.Ended != 0 {
					t.Errorf("run %+v, want it to go on after the command has ended", run)
				}
			}
			if got := namesOf(runs); !slices.Equal(got, running) {
				t.Errorf("Jobs created: %q, want only those that ran when the signal came: %q", got, running)
			}
			if got.code != test.code || died(c) != test.helm {
				t.Errorf("exit code %d, ended by the signal itself: %v; want %d, %v; stderr:\n%s", got.code, died(c), test.code, test.helm, stderr)
			}
			_, stored := lastRecord(t, trail, "slow")
			checkFailed(t, stored, "failed pre-install: ", running, release.HookPhaseUnknown)
			for _, job := range running {
				if !strings.Contains(stored.Info.Description, "Job/"+job) {
					t.Errorf("description = %q, want it to name %s, which goes on", stored.Info.Description, job)
				}
			}
			checkUsable(t, s, "slow", chartPath("tiers"))
		})
	}
}

// TestInterruptedBeforeCreation: a hook whose old object is still going has not started, and does not start any more.
func TestInterruptedBeforeCreation(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.needsAudit()
	jobs := bed.client.BatchV1().Jobs(s.namespace)
	if _, err := jobs.Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "job-0-01", Finalizers: []string{"parallel-hooks.test/held"}},
		Spec: batchv1.JobSpec{Suspend: new(true), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "none"}},
		}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stdout, stderr := newScreen(), newScreen()
	args := slices.Concat([]string{"install", "slow", chartPath("tiers"), "--hook-parallelism=2"}, slowTiers("3s"))
	c := s.startOn(stdout, stderr, "helm-parallel-hooks", args...)
	s.await("job-0-00", created("jobs/job-0-00"))
	s.await("the deletion of the old job-0-01", func(r audit.Request) bool { return r.Verb == "delete" && r.Object() == "jobs/job-0-01" })
	c.signalGroup(syscall.SIGINT)
	stdout.await(c, "Release slow has been cancelled.\n")
	letGo := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := jobs.Patch(t.Context(), "job-0-01", types.MergePatchType, letGo, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.end(); got.code != 130 {
		t.Errorf("exit code %d, want 130; stderr:\n%s", got.code, stderr)
	}
	trail := s.trail()
	if got, want := trail.By(byPlugin).Of("jobs").Creates().Objects(), []string{"jobs/job-0-00"}; !slices.Equal(got, want) {
		t.Errorf("created %q, want %q", got, want)
	}
	_, stored := lastRecord(t, trail, "slow")
	checkFailed(t, stored, "failed pre-install: ", []string{"job-0-00"}, release.HookPhaseSucceeded)
}

// TestInterruptedBeforeTheRecord: while the chart is still being rendered there is nothing to wait for and nothing to
// leave behind.
func TestInterruptedBeforeTheRecord(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		interrupt func(*command)
		code      int
	}{
		{"ctrl-c", func(c *command) { c.signalGroup(syscall.SIGINT) }, 130},
		{"kill", func(c *command) { c.signal(syscall.SIGTERM) }, 143},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			begun := newFIFO(t)
			// It does not end by itself, nor by the signal: what ends is ours.
			renderer := filepath.Join(t.TempDir(), "renderer")
			if err := os.WriteFile(renderer, []byte("#!/bin/sh\ntrap '' INT TERM\necho begun >\"$1\"\nexec sleep 3600\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			c := s.start("helm-parallel-hooks", "install", "never", chartPath("tiers"), "--hook-parallelism=2",
				"--post-renderer", renderer, "--post-renderer-args", begun.Name())
			if _, err := bufio.NewReader(begun).ReadString('\n'); err != nil {
				t.Fatalf("waiting for the post-renderer: %v", err)
			}
			test.interrupt(c)
			if got := c.end(); got.code != test.code || got.stdout != "Release never has been cancelled.\n" {
				t.Errorf("want exit code %d and Helm's line about the cancellation on stdout; got: %v", test.code, got)
			}
			if got := s.trail().By(byHelm, byPlugin).Creates().Objects(); len(got) != 0 {
				t.Errorf("created %q, want nothing, not even a record", got)
			}
			s.must(s.helm("install", "never", chartPath("tiers"), "--no-hooks"))
		})
	}
}

// TestInterruptedWhileWaiting: the hooks are done, and what is waited for will never be ready.
func TestInterruptedWhileWaiting(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := s.chart(`
-- Chart.yaml --
apiVersion: v2
name: unready
version: 1.0.0
-- templates/hook.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: after
  annotations:
    helm.sh/hook: post-install
-- templates/deployment.yaml --
apiVersion: apps/v1
kind: Deployment
metadata:
  name: unready
spec:
  selector: {matchLabels: {app: unready}}
  template:
    metadata: {labels: {app: unready}}
    spec:
      nodeSelector: {parallel-hooks.test/node: nowhere}
      containers: [{name: main, image: none}]
`)
	c := s.start("helm-parallel-hooks", "install", "unready", chart, "--hook-parallelism=2", "--wait", "--timeout=1h")
	s.await("a look at the Deployment", func(r audit.Request) bool {
		return r.Verb == "get" && r.Object() == "deployments/unready" && r.Code == 200 && strings.HasPrefix(r.UserAgent, byHelm)
	})
	c.signalGroup(syscall.SIGINT)
	if got := c.end(); got.code != 130 || got.stdout != "Release unready has been cancelled.\n" {
		t.Errorf("want exit code 130 and Helm's line about the cancellation on stdout; got: %v", got)
	}
	trail := s.trail()
	_, stored := lastRecord(t, trail, "unready")
	checkFailed(t, stored, "context canceled", nil, "")
	if got := trail.By(byPlugin).Creates().Objects(); len(got) != 0 {
		t.Errorf("hooks created: %q, want none, since the resources were not ready", got)
	}
	checkUsable(t, s, "unready", chart)
}

// TestInterruptedAtomicInstall is undone, as helm does it, and the hooks that belong to that run.
func TestInterruptedAtomicInstall(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	c := s.start("helm-parallel-hooks", "install", "atomic", chartPath("tiers"), "--hook-parallelism=2", "--atomic",
		"--set-json", `tiers=[{"jobs":6,"duration":"3s"},{"event":"pre-delete","jobs":3,"duration":"100ms"}]`)
	s.await("job-0-01", created("jobs/job-0-01"))
	c.signalGroup(syscall.SIGINT)
	got := c.end()
	if got.code != 130 || !strings.Contains(got.stderr, "release atomic failed, and has been uninstalled due to atomic being set: failed pre-install: ") {
		t.Errorf("want exit code 130 and Helm's words about atomic; got: %v", got)
	}
	trail := s.trail()
	if got, want := namesOf(trail.Runs()), []string{"job-0-00", "job-0-01", "job-1-00", "job-1-01", "job-1-02"}; !slices.Equal(got, want) {
		t.Errorf("Jobs created: %q, want %q", got, want)
	}
	for _, run := range trail.Runs() {
		if !run.Succeeded {
			t.Errorf("run %+v, want it to have succeeded", run)
		}
	}
	if got := leftBehind(trail.Of("secrets", "configmaps")); len(got) != 0 {
		t.Errorf("left behind: %q, want nothing", got)
	}
}

// TestReaderGone: a pager that was closed must not end an operation half-way.
func TestReaderGone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
	}{
		{"helm-parallel-hooks", nil},
		{"helm", []string{"parallel-hooks"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			c := s.startOn(w, w, test.name, append(test.args, "install", "unread", chartPath("tiers"), "--hook-parallelism=2")...)
			s.await("the first Job", created("jobs/job-0-00"))
			for _, end := range []*os.File{r, w} {
				if err := end.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.end(); got.code != 0 {
				t.Errorf("exit code %d, want 0", got.code)
			}
			if got := s.release("unread").Info.Status; got != release.StatusDeployed {
				t.Errorf("status = %s, want %s", got, release.StatusDeployed)
			}
			if got := len(s.trail().Runs()); got != 6 {
				t.Errorf("%d Jobs ran, want 6", got)
			}
		})
	}
}

// end is [command.wait] for a command that was told to end: if it doesn't, this test fails and not the whole run.
func (c *command) end() result {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		c.t.Fatalf("%v: still running a minute after it was told to end", c.cmd)
	}
	return c.wait()
}

// died reports whether the signal itself ended the process, as against a process that chose its exit code.
func died(c *command) bool {
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
}

func namesOf(runs []audit.Run) []string {
	var all []string
	for _, run := range runs {
		all = append(all, run.Name)
	}
	slices.Sort(all)
	return all
}

// leftBehind returns what helm and the plugin have created and not deleted.
func leftBehind(trail audit.Trail) []string {
	trail = trail.By(byHelm, byPlugin)
	objects := trail.Creates().Objects()
	for _, deleted := range trail.Deletes().Objects() {
		if i := slices.Index(objects, deleted); i >= 0 {
			objects = slices.Delete(objects, i, i+1)
		}
	}
	slices.Sort(objects)
	return objects
}

// lastRecord returns the last write of a release's record, and the resource version that it led to.
func lastRecord(t *testing.T, trail audit.Trail, name string) (int64, *release.Release) {
	t.Helper()
	writes := trail.Of("secrets").Where(func(r audit.Request) bool {
		return (r.Verb == "create" || r.Verb == "update") && r.Code < 300 && strings.HasPrefix(r.Name, "sh.helm.release.v1."+name+".")
	})
	if len(writes) == 0 {
		t.Fatalf("no record of release %q was written", name)
	}
	last := slices.MaxFunc(writes, func(a, b audit.Request) int { return int(a.ResourceVersion - b.ResourceVersion) })
	var secret corev1.Secret
	if err := json.Unmarshal(last.RequestBody, &secret); err != nil {
		t.Fatalf("%v: %v", last, err)
	}
	stored, err := decodeRelease(secret.Data["release"])
	if err != nil {
		t.Fatalf("%v: %v", last, err)
	}
	return last.ResourceVersion, stored
}

// checkFailed checks the record of an interrupted install: Helm's words and then these, and which hooks have run,
// with the phase that they must have.
func checkFailed(t *testing.T, stored *release.Release, words string, ran []string, phase release.HookPhase) {
	t.Helper()
	if got := stored.Info.Status; got != release.StatusFailed {
		t.Errorf("status = %s, want %s", got, release.StatusFailed)
	}
	if got, want := stored.Info.Description, `Release "`+stored.Name+`" failed: `+words; !strings.HasPrefix(got, want) {
		t.Errorf("description = %q, want it to begin with %q", got, want)
	}
	for _, h := range stored.Hooks {
		var want release.HookPhase
		if slices.Contains(ran, h.Name) {
			want = phase
		}
		last := h.LastRun
		started, completed := want != "", want == release.HookPhaseSucceeded
		if last.Phase != want || last.StartedAt.IsZero() == started || last.CompletedAt.IsZero() == completed {
			t.Errorf("last run of hook %s: %+v; want phase %q, a start: %v, an end: %v", h.Name, last, want, started, completed)
		}
	}
}

// checkUsable lets helm look at a failed release and go on from there.
func checkUsable(t *testing.T, s *session, name, chart string) {
	t.Helper()
	if got := s.must(s.helm("status", name)); !strings.Contains(got.stdout, "STATUS: failed\n") {
		t.Errorf("helm status does not say that the release has failed: %v", got)
	}
	s.must(s.helm("upgrade", name, chart))
	if got := s.release(name); got.Version != 2 || got.Info.Status != release.StatusDeployed {
		t.Errorf("after helm upgrade: revision %d, status %s; want 2, %s", got.Version, got.Info.Status, release.StatusDeployed)
	}
}

// newFIFO returns a named pipe that is open for reading, and for writing too, so that to open it blocks nobody.
func newFIFO(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fifo.Close() })
	if err := fifo.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return fifo
}

// screen is where a running command's output can be read.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // holds a token when there is something new
}

func newScreen() *screen { return &screen{changed: make(chan struct{}, 1)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await returns when the command has written that.
func (s *screen) await(c *command, text string) {
	c.t.Helper()
	deadline := time.After(time.Minute)
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.changed:
		case <-c.ended:
			if !strings.Contains(s.String(), text) {
				c.t.Fatalf("%v: ended without writing %q, but %q", c.cmd, text, s)
			}
		case <-deadline:
			c.t.Fatalf("%v: did not write %q, but %q", c.cmd, text, s)
		}
	}
}
