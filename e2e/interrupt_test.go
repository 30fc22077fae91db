package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

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
	for _, how := range []interruption{kill, hangUp, killHelmAlone} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			running := []string{"job-0-00", "job-0-01"}
			c, _, _ := how.start(s, slices.Concat([]string{"install", "slow", chartPath("tiers"), "--hook-parallelism=2"}, slowTiers("3s"))...)
			for _, job := range running {
				s.await(job, created("jobs/"+job))
			}
			how.send(c)
			got := c.end()

			how.check(c, got)
			if want := "Release slow has been cancelled.\n"; got.stdout != want {
				t.Errorf("stdout = %q, want %q", got.stdout, want)
			}
			trail := s.trail()
			runs := trail.Runs()
			if got := namesOf(runs); !slices.Equal(got, running) {
				t.Errorf("Jobs created: %q, want only those that ran when the signal came: %q", got, running)
			}
			written, stored := lastRecord(t, trail, "slow")
			for _, run := range runs {
				if !run.Succeeded || run.Ended >= written {
					t.Errorf("run %+v; want it to have succeeded before the last record was written, at %d", run, written)
				}
			}
			if slices.Contains(trail.Of("configmaps").Creates().Objects(), "configmaps/manifest") {
				t.Error("the manifest was created")
			}
			checkFailed(t, stored, "failed pre-install: ", running, release.HookPhaseSucceeded)
			checkUsable(t, s, "slow", chartPath("tiers"))
		})
	}
}

// TestInterruptedTwice: a second signal is obeyed at once, and the record still says what was known.
func TestInterruptedTwice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		how    interruption
		second syscall.Signal
	}{
		{"ctrl-c", ctrlC, syscall.SIGINT},
		{"kill", kill, syscall.SIGTERM},
		{"ctrl-c, then kill", ctrlC, syscall.SIGTERM},
		{"ctrl-c through helm", ctrlCAtHelm, syscall.SIGINT},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			running := []string{"job-0-00", "job-0-01"}
			c, stdout, _ := test.how.start(s, slices.Concat([]string{"install", "slow", chartPath("tiers"), "--hook-parallelism=2"}, slowTiers("1h"))...)
			for _, job := range running {
				s.await(job, created("jobs/"+job))
			}
			test.how.send(c)
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
			test.how.check(c, got)
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

// TestInterruptedAtomicInstall is undone, as helm does it, and the hooks that belong to that run.
func TestInterruptedAtomicInstall(t *testing.T) {
	t.Parallel()
	for _, how := range []interruption{ctrlC, killHelmAlone} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			c, _, _ := how.start(s, "install", "atomic", chartPath("tiers"), "--hook-parallelism=2", "--atomic",
				"--set-json", `tiers=[{"jobs":6,"duration":"3s"},{"event":"pre-delete","jobs":3,"duration":"100ms"}]`)
			s.await("job-0-01", created("jobs/job-0-01"))
			how.send(c)
			got := c.end()
			how.check(c, got)
			if !strings.Contains(got.stderr, "release atomic failed, and has been uninstalled due to atomic being set: failed pre-install: ") {
				t.Errorf("want Helm's words about atomic; got: %v", got)
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
		})
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
	checkHooks(t, stored, ran, phase)
}

// checkHooks checks which hooks of a release have run, by its record, and with which phase.
func checkHooks(t *testing.T, stored *release.Release, ran []string, phase release.HookPhase) {
	t.Helper()
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
func newFIFO(t testing.TB) *os.File {
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

// stagesChart has hooks of every event, one object, and values that say where an operation can be held up: the hooks
// whose names begin with "held" run until a test ends them, if they are Pods; "unready" adds what is never ready; and
// an empty "kind" leaves out the hooks.
const stagesChart = `
-- Chart.yaml --
apiVersion: v2
name: stages
version: 1.0.0
-- values.yaml --
kind: ""
held: none
unready: false
manifest: manifest
-- templates/hooks.yaml --
{{- $events := dict "test" "test" }}
{{- range $prefix := list "pre" "post" }}
{{- $_ := printf "%[1]s-install,%[1]s-upgrade,%[1]s-rollback,%[1]s-delete" $prefix | set $events $prefix }}
{{- end }}
{{- range $prefix, $event := $events }}
{{- range $number := empty $.Values.kind | ternary 0 3 | until }}
---
apiVersion: v1
kind: {{ $.Values.kind }}
metadata:
  name: {{ $prefix }}-{{ $number }}
  annotations:
    helm.sh/hook: {{ $event }}
    parallel-hooks.test/duration: {{ eq $prefix $.Values.held | ternary "1h" "0s" }}
{{- if eq $.Values.kind "Pod" }}
spec:
  restartPolicy: Never
  containers: [{name: main, image: none}]
{{- end }}
{{- end }}
{{- end }}
-- templates/manifest.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Values.manifest }}
data:
  revision: {{ .Release.Revision | quote }}
{{- if .Values.unready }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: unready
spec:
  storageClassName: none
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
{{- end }}
`

// stage is what an operation is doing when it's interrupted.
type stage string

const (
	connecting stage = "connecting" // nothing has been changed yet
	rendering  stage = "rendering"  // likewise
	recording  stage = "recording"  // writing the record that says that it's under way
	preHooks   stage = "pre-hooks"
	resources  stage = "resources" // creating, changing or deleting them
	waiting    stage = "waiting"   // for the resources
	postHooks  stage = "post-hooks"
	testHooks  stage = "tests"
	finishing  stage = "finishing" // writing the record for the last time
)

// interruption is one of the ways in which a signal comes.
type interruption struct {
	name string
	helm bool // whether helm calls the plugin
	send func(*command)
	code int
}

var (
	ctrlC         = interruption{"ctrl-c", false, func(c *command) { c.signalGroup(syscall.SIGINT) }, 130}
	kill          = interruption{"kill", false, func(c *command) { c.signal(syscall.SIGTERM) }, 143}
	hangUp        = interruption{"hang-up", false, func(c *command) { c.signal(syscall.SIGHUP) }, 129}
	ctrlCAtHelm   = interruption{"ctrl-c through helm", true, ctrlC.send, 130} // helm dies at once
	killHelmAlone = interruption{"kill helm alone", true, kill.send, 143}      // and the plugin is not told, so it has to notice
)

// start starts a command of the plugin, on two screens.
func (how interruption) start(s *session, args ...string) (c *command, stdout, stderr *screen) {
	s.t.Helper()
	stdout, stderr = newScreen(), newScreen()
	name := "helm-parallel-hooks"
	if how.helm {
		name, args = "helm", append([]string{"parallel-hooks"}, args...)
	}
	return s.startOn(stdout, stderr, name, args...), stdout, stderr
}

// check checks how the command ended that was interrupted.
func (how interruption) check(c *command, got result) {
	c.t.Helper()
	if got.code != how.code || died(c) != how.helm {
		c.t.Errorf("exit code %d, ended by the signal itself: %v; want %d, %v: %v", got.code, died(c), how.code, how.helm, got)
	}
}

// operation is a command that is interrupted, on release r, which has so many revisions before.
type operation struct {
	args      []string
	chart     bool // whether it takes a chart
	revisions int
	begins    string // what it prints at the beginning of stdout
	cancelled string // what it prints when it's interrupted
	done      string // what it prints when it's complete
	outcomes  []outcomeAt
}

// outcomeAt is what an interruption at a stage leads to: the status of each revision, and how the description begins of
// the one that says so.
type outcomeAt struct {
	stage       stage
	statuses    string
	description string
}

const (
	interrupted = "context canceled: interrupted"
	cancelled   = "Release r has been cancelled.\n"
)

var (
	upgradeOf  = operation{args: []string{"upgrade"}, chart: true, revisions: 1, cancelled: cancelled, done: "Happy Helming!"}
	atomicOf   = operation{args: []string{"upgrade", "--atomic"}, chart: true, revisions: 1, cancelled: cancelled}
	rollbackOf = operation{args: []string{"rollback"}, revisions: 2, done: "Rollback was a success! Happy Helming!\n"}
	removal    = operation{args: []string{"uninstall"}, revisions: 1, done: "release \"r\" uninstalled\n"}
	testOf     = operation{args: []string{"test", "--logs"}, revisions: 1}
)

func (op operation) name() string { return strings.Join(op.args, " ") }

func (op operation) deletes() bool { return op.args[0] == "uninstall" }

func (op operation) with(outcomes []outcomeAt) operation {
	op.outcomes = outcomes
	return op
}

// TestInterruptedAtEachStage: whatever a command is doing when the first signal comes, no further hook starts, those
// that run are watched to their end, the record is true and never pending, and helm goes on from there.
func TestInterruptedAtEachStage(t *testing.T) {
	t.Parallel()
	const (
		install     = `Release "r" failed: `
		upgrade     = `Upgrade "r" failed: `
		rollback    = `Rollback "r" failed: `
		waited      = install // what Helm's rollback says once the resources are changed
		uninstall   = `Uninstallation of "r" failed: `
		atHooks     = interrupted + "; hooks not started: "
		preInstall  = install + "failed pre-install: " + atHooks
		preUpgrade  = upgrade + "pre-upgrade hooks failed: " + atHooks
		postUpgrade = upgrade + "post-upgrade hooks failed: " + atHooks
	)
	keepHistory := removal
	keepHistory.args = []string{"uninstall", "--keep-history"}
	for n, op := range []operation{
		{args: []string{"install"}, chart: true, cancelled: cancelled, done: "STATUS: deployed\n", outcomes: []outcomeAt{
			{rendering, "", ""},
			{recording, "failed", install + interrupted},
			{preHooks, "failed", preInstall},
			{resources, "failed", install + interrupted},
			{waiting, "failed", install + interrupted},
			{postHooks, "failed", install + "failed post-install: " + atHooks},
			{finishing, "deployed", "Install complete"},
		}},
		{args: []string{"upgrade", "--install"}, chart: true, begins: "Release \"r\" does not exist. Installing it now.\n", cancelled: cancelled, outcomes: []outcomeAt{
			{rendering, "", ""},
			{preHooks, "failed", preInstall},
		}},
		upgradeOf.with([]outcomeAt{
			{rendering, "deployed", "Install complete"},
			{recording, "deployed failed", upgrade + interrupted},
			{preHooks, "deployed failed", preUpgrade},
			{resources, "deployed failed", upgrade + interrupted},
			{waiting, "deployed failed", upgrade + interrupted},
			{postHooks, "deployed failed", postUpgrade},
			{finishing, "superseded deployed", "Upgrade complete"},
		}),
		// It's undone, with the hooks that belong to that.
		atomicOf.with([]outcomeAt{
			{preHooks, "superseded failed deployed", preUpgrade},
			{resources, "superseded failed deployed", upgrade + interrupted},
			{waiting, "superseded failed deployed", upgrade + interrupted},
			{postHooks, "superseded failed deployed", postUpgrade},
		}),
		rollbackOf.with([]outcomeAt{
			{connecting, "superseded deployed", "Upgrade complete"},
			{recording, "superseded deployed failed", rollback + interrupted},
			{preHooks, "superseded deployed failed", rollback + atHooks},
			{resources, "superseded deployed failed", waited + interrupted},
			{waiting, "superseded deployed failed", waited + interrupted},
			{postHooks, "superseded deployed failed", waited + atHooks},
			{finishing, "superseded superseded deployed", "Rollback to 1"},
		}),
		removal.with([]outcomeAt{
			{connecting, "deployed", "Install complete"},
			{recording, "failed", uninstall + interrupted},
			{preHooks, "failed", uninstall + atHooks},
			{resources, "failed", uninstall + interrupted},
			{waiting, "failed", uninstall + interrupted},
			{postHooks, "failed", uninstall + atHooks},
			{finishing, "", ""},
		}),
		keepHistory.with([]outcomeAt{
			{preHooks, "failed", uninstall + atHooks},
			{resources, "failed", uninstall + interrupted},
			{postHooks, "failed", uninstall + atHooks},
			{finishing, "uninstalled", "Uninstallation complete"},
		}),
		testOf.with([]outcomeAt{
			{connecting, "deployed", "Install complete"},
			{testHooks, "deployed", "Install complete"},
		}),
	} {
		for i, want := range op.outcomes {
			// By a terminal and by the loss of helm; serial runs as well as parallel ones.
			ways := []interruption{[]interruption{ctrlC, ctrlCAtHelm}[i%2], killHelmAlone}
			if want.stage == recording || want.stage == finishing {
				ways = ways[n%2 : n%2+1] // the record is written alike, whatever the command
			}
			for j, how := range ways {
				t.Run(fmt.Sprintf("%s/%s/%s", op.name(), want.stage, how.name), func(t *testing.T) {
					t.Parallel()
					op.interrupt(t, want, how, 1+(i+j)%2)
				})
			}
		}
	}
}

// interrupt runs the command, interrupts it once at a stage, and checks what becomes of it.
func (op operation) interrupt(t *testing.T, want outcomeAt, how interruption, parallelism int) {
	s := newSession(t)
	s.needsAudit()
	p := op.prepare(s, want.stage, parallelism)
	c, stdout, stderr := how.start(s, p.args...)
	p.reached(c)
	how.send(c)
	switch {
	case want.stage == connecting || want.stage == rendering || want.stage == waiting:
		// There is nothing to wait for.
	case op.cancelled != "":
		stdout.await(c, op.cancelled)
	case p.running != nil:
		stderr.await(c, "Interrupted: no further hook starts")
	default:
		stderr.await(c, `Interrupted: waiting until release "r" is no longer being changed.`)
	}
	p.proceed()
	got := c.end()

	how.check(c, got)
	done := want.stage == finishing
	if begins := op.begins + op.cancelled; !strings.HasPrefix(got.stdout, begins) || want.stage != testHooks && (len(got.stdout) > len(begins)) != done {
		t.Errorf("want %q at the beginning of stdout, and more: %v: %v", begins, done, got)
	}
	if done && !strings.Contains(got.stdout, op.done) || done != strings.Contains(got.stderr, "Error: interrupted too late: the operation was already complete\n") {
		t.Errorf("want it to be complete: %v: %v", done, got)
	}

	trail := s.trail()[p.since:]
	written := trail.Of("configmaps").Where(func(r audit.Request) bool { return r.Name == "manifest" && r.Verb != "get" })
	untouched := slices.Contains([]stage{connecting, rendering, recording, preHooks, testHooks}, want.stage)
	if undone := slices.Contains(op.args, "--atomic"); !undone && (len(written) == 0) != untouched {
		t.Errorf("the manifest was untouched: %v, want %v: %v", len(written) == 0, untouched, written)
	}
	revisions := s.revisions("r")
	wantEqual(t, "status of each revision", statusesOf(revisions), strings.Fields(want.statuses))
	if len(revisions) != len(strings.Fields(want.statuses)) {
		return
	}
	hooks := p.hooks
	if slices.Contains(op.args, "--atomic") {
		// The hooks of the rollback are those of the first revision.
		undoing := revisions[len(revisions)-1]
		revisions = revisions[:len(revisions)-1]
		all := slices.Concat(numbered("pre", 3), numbered("post", 3))
		checkHooks(t, undoing, all, release.HookPhaseSucceeded)
		for _, name := range all {
			hooks = append(hooks, "configmaps/"+name)
		}
	}
	createdHooks := trail.By(byPlugin).Creates().Objects()
	slices.Sort(createdHooks)
	slices.Sort(hooks)
	wantEqual(t, "hooks created", createdHooks, hooks)
	if len(revisions) > 0 {
		last := revisions[len(revisions)-1]
		if !strings.HasPrefix(last.Info.Description, want.description) {
			t.Errorf("description = %q, want it to begin with %q", last.Info.Description, want.description)
		}
		checkHooks(t, last, p.ran, release.HookPhaseSucceeded)
	}
	by := "upgrade"
	if op.deletes() && how.helm {
		by = "uninstall"
		if slices.Contains(op.args, "--keep-history") {
			by = "rollback"
		}
	}
	s.goOn(p.chart, by)
}

// TestLeftAtEachStage: a second signal is obeyed at once, whatever it is that hangs; the record says what was known.
func TestLeftAtEachStage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		op       operation
		stage    stage
		how      interruption
		statuses string
	}{
		{upgradeOf, preHooks, ctrlC, "deployed failed"},
		{upgradeOf, resources, ctrlCAtHelm, "deployed failed"},
		{atomicOf, preHooks, kill, "deployed failed"}, // there is no time to undo it
		{rollbackOf, preHooks, ctrlCAtHelm, "superseded deployed failed"},
		{rollbackOf, resources, ctrlC, "superseded deployed failed"},
		{rollbackOf, postHooks, ctrlCAtHelm, "superseded deployed failed"},
		{removal, preHooks, kill, "failed"},
		{removal, resources, ctrlC, "failed"},
		{removal, postHooks, ctrlCAtHelm, "failed"},
		{testOf, testHooks, ctrlCAtHelm, "deployed"},
	} {
		t.Run(fmt.Sprintf("%s/%s/%s", test.op.name(), test.stage, test.how.name), func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			s.needsAudit()
			p := test.op.prepare(s, test.stage, 2)
			c, _, stderr := test.how.start(s, p.args...)
			p.reached(c)
			test.how.send(c)
			stderr.await(c, "Interrupted: ")
			if test.how.helm {
				stderr.await(c, "To leave at once: kill ")
				leaveAsTold(t, stderr.String())
			} else {
				c.signalGroup(syscall.SIGTERM)
			}
			got := c.end()

			test.how.check(c, got)
			// On a machine that is slow enough even hooks are given up.
			gaveUp := strings.Contains(got.stderr, `left while release "r" was still being changed`)
			if p.running == nil && !gaveUp {
				t.Errorf("not said that the release was still being changed: %v", got)
			}
			revisions := s.revisions("r")
			wantEqual(t, "status of each revision", statusesOf(revisions), strings.Fields(test.statuses))
			last := revisions[len(revisions)-1]
			for _, h := range last.Hooks {
				want := release.HookPhase("")
				switch {
				case slices.Contains(p.running, h.Name):
					want = release.HookPhaseUnknown
				case slices.Contains(p.ran, h.Name):
					want = release.HookPhaseSucceeded
				}
				if got := h.LastRun.Phase; got != want {
					t.Errorf("phase of hook %s: %q, want %q", h.Name, got, want)
				}
			}
			for _, name := range p.running {
				if !gaveUp && test.stage != testHooks && !strings.Contains(last.Info.Description, "Pod/"+name) {
					t.Errorf("description = %q, want it to name %s, which goes on", last.Info.Description, name)
				}
			}
			p.letGo()
			s.goOn(p.chart, "upgrade")
		})
	}
}

// TestInterruptedWhileUndoing: an atomic upgrade that has failed is undone to its end, whatever comes first, and left
// by the second signal.
func TestInterruptedWhileUndoing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		failed   bool // whether the upgrade fails by itself, else by a signal that is the first
		left     bool // whether there is a second signal
		statuses string
	}{
		{"failed, then ctrl-c", true, false, "superseded failed deployed"},
		{"failed, then ctrl-c twice", true, true, "deployed failed failed"},
		{"ctrl-c twice", false, true, "deployed failed failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			s.needsAudit()
			chart := s.chart(stagesChart)
			s.must(s.helm("install", "r", chart, "--no-hooks", "--set=kind=Pod,held=pre", "--disable-openapi-validation"))
			args := []string{"upgrade", "r", chart, "--set=kind=", "--atomic", "--hook-parallelism=2"}
			if test.failed {
				args = append(args, "--set=manifest=No_Name")
			}
			held := s.hold("UPDATE", "configmaps", `request.name == "manifest"`)
			c, stdout, stderr := ctrlC.start(s, args...)
			if !test.failed {
				held.await(c)
				ctrlC.send(c)
				stdout.await(c, cancelled)
			}
			held.letGo()
			for _, name := range numbered("pre", 2) {
				s.await(name, created("pods/"+name))
			}
			if test.failed {
				ctrlC.send(c)
				stderr.await(c, `Interrupted: waiting until release "r" is no longer being changed. Press Ctrl-C again to leave at once.`)
			}
			ran, phase := numbered("pre", 2), release.HookPhaseUnknown
			if test.left {
				ctrlC.send(c)
			} else {
				ran, phase = slices.Concat(numbered("pre", 3), numbered("post", 3)), release.HookPhaseSucceeded
				for _, name := range numbered("pre", 3) {
					s.finish(name)
				}
			}
			ctrlC.check(c, c.end())
			revisions := s.revisions("r")
			wantEqual(t, "status of each revision", statusesOf(revisions), strings.Fields(test.statuses))
			checkHooks(t, revisions[len(revisions)-1], ran, phase)
			s.goOn(chart, "upgrade")
		})
	}
}

// TestLeftWhileUninstalling: what is left of an atomic installation that is being undone.
func TestLeftWhileUninstalling(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.needsAudit()
	chart := s.chart(stagesChart)
	held := s.hold("CREATE", "configmaps", `request.name == "manifest"`)
	c, stdout, _ := ctrlC.start(s, "install", "r", chart, "--set=kind=Pod,held=post", "--atomic", "--hook-parallelism=2")
	held.await(c)
	ctrlC.send(c)
	stdout.await(c, cancelled)
	held.letGo()
	for _, name := range numbered("post", 2) {
		s.await(name, created("pods/"+name))
	}
	ctrlC.send(c)
	ctrlC.check(c, c.end())
	rel := s.release("r")
	if want := `Uninstallation of "r" failed: ` + interrupted; rel.Info.Status != release.StatusFailed || !strings.HasPrefix(rel.Info.Description, want) {
		t.Errorf("status = %s, description = %q; want failed, %q", rel.Info.Status, rel.Info.Description, want)
	}
	wantEqual(t, "phases", phasesOf(rel), []string{
		"post-0=Unknown", "post-1=Unknown", "post-2=", "pre-0=Succeeded", "pre-1=Succeeded", "pre-2=Succeeded", "test-0=", "test-1=", "test-2=",
	})
	s.goOn(chart, "upgrade")
}

// TestInterruptedAmongSeveral: of several releases to uninstall, those that come after an interruption stay as they
// are, also where it came too late for the one before.
func TestInterruptedAmongSeveral(t *testing.T) {
	t.Parallel()
	for _, how := range []interruption{ctrlC, ctrlCAtHelm, killHelmAlone} {
		for _, at := range []stage{preHooks, finishing} {
			t.Run(fmt.Sprintf("%s/%s", at, how.name), func(t *testing.T) {
				t.Parallel()
				s := newSession(t)
				s.needsAudit()
				p := removal.prepare(s, at, 2)
				s.must(s.helm("install", "other", p.chart, "--set=manifest=other", "--disable-openapi-validation"))
				untouched := s.release("other").Info
				c, _, stderr := how.start(s, append(p.args, "other")...)
				p.reached(c)
				how.send(c)
				stderr.await(c, "Interrupted: ")
				p.proceed()
				got := c.end()
				how.check(c, got)
				want := map[stage]string{preHooks: "", finishing: removal.done}[at]
				if got.stdout != want {
					t.Errorf("stdout = %q, want %q", got.stdout, want)
				}
				if got := s.release("other").Info; got.Status != release.StatusDeployed || got.Description != untouched.Description {
					t.Errorf("the other release: %s, %q; want it untouched", got.Status, got.Description)
				}
				if got := s.trail().Deletes().Of("configmaps").Objects(); slices.Contains(got, "configmaps/other") {
					t.Error("the other release's object was deleted")
				}
			})
		}
	}
}

// prepared is a command that is going to stop at a stage.
type prepared struct {
	chart string
	args  []string
	since int // how many requests there were before
	// hooks are the objects that the command creates for hooks, ran the hooks, of which these are running at the stage.
	hooks, ran, running []string
	reached             func(*command) // returns when the command is at the stage
	letGo               func()         // ends what holds it up there
	session             *session
}

// proceed lets the command go on from the stage, where the hooks that run succeed.
func (p *prepared) proceed() {
	for _, name := range p.running {
		p.session.finish(name)
	}
	p.letGo()
}

// prepare installs the revisions that the command needs, and arranges that it stops at a stage.
func (op operation) prepare(s *session, at stage, parallelism int) *prepared {
	s.t.Helper()
	p := &prepared{chart: s.chart(stagesChart), session: s, letGo: func() {}}
	resource, values := "configmaps/", "kind=ConfigMap"
	hold := func(prefix string) {
		resource, values = "pods/", "kind=Pod,held="+prefix
		p.running = numbered(prefix, parallelism)
	}
	switch at {
	case recording:
		values = "kind="
	case preHooks:
		hold("pre")
	case postHooks:
		hold("post")
	case testHooks:
		hold("test")
	case waiting:
		values += ",unready=true"
	}
	if slices.Contains([]stage{resources, waiting, postHooks, finishing}, at) {
		p.ran = numbered("pre", 3)
	}
	if at == finishing {
		p.ran = append(p.ran, numbered("post", 3)...)
	}
	p.ran = append(p.ran, p.running...)
	for _, name := range p.ran {
		p.hooks = append(p.hooks, resource+name)
	}

	for revision := 1; revision <= op.revisions; revision++ {
		setup := []string{"upgrade", "--install", "r", p.chart, "--no-hooks", "--disable-openapi-validation", "--set=kind=ConfigMap"}
		if !op.chart && revision == 1 {
			setup = append(setup, "--set", values)
		}
		s.must(s.helm(setup...))
	}
	p.args = append(slices.Clone(op.args), "r", "--timeout=1h", fmt.Sprintf("--hook-parallelism=%d", parallelism))
	if op.chart {
		p.args = append(p.args, p.chart, "--set", values, "--disable-openapi-validation")
	}
	if at == waiting {
		p.args = append(p.args, "--wait")
	}
	p.since = len(s.trail())
	op.stopAt(p, at)
	return p
}

// stopAt arranges that the command stops at a stage.
func (op operation) stopAt(p *prepared, at stage) {
	s := p.session
	s.t.Helper()
	hold := func(operation admissionv1.OperationType, resource, condition string) {
		s.t.Helper()
		held := s.hold(operation, resource, condition)
		p.reached, p.letGo = held.await, held.letGo
	}
	switch at {
	case connecting:
		begun := newFIFO(s.t)
		s.useKubeconfig(func(config *clientcmdapi.Config) {
			for _, info := range config.AuthInfos {
				*info = clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
					APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
					Command: s.stubborn(), Args: []string{begun.Name()},
				}}
			}
		})
		original := slices.Clone(s.env[:len(s.env)-1])
		p.reached = func(*command) { awaitLine(s.t, begun); s.env = original }
	case rendering:
		begun := newFIFO(s.t)
		p.args = append(p.args, "--post-renderer", s.stubborn(), "--post-renderer-args", begun.Name())
		p.reached = func(*command) { awaitLine(s.t, begun) }
	case recording:
		if op.deletes() {
			hold("UPDATE", "secrets", "true")
		} else {
			hold("CREATE", "secrets", "true")
		}
	case resources:
		operation := admissionv1.Update
		switch {
		case op.deletes():
			operation = admissionv1.Delete
		case op.revisions == 0:
			operation = admissionv1.Create
		}
		hold(operation, "configmaps", `request.name == "manifest"`)
	case waiting:
		object, begins := "persistentvolumeclaims/unready", "create"
		if op.deletes() {
			object, begins = "configmaps/manifest", "delete"
			s.finalize("manifest", `["parallel-hooks.test/held"]`)
			p.letGo = func() { s.finalize("manifest", "null") }
		} else {
			s.awaitAbsence("unready")
		}
		begin, begun := time.Now(), false
		p.reached = func(*command) {
			s.t.Helper()
			s.await("a look at "+object, func(r audit.Request) bool {
				if r.Object() != object || !strings.HasPrefix(r.UserAgent, byHelm) || r.ReceivedAt.Before(begin) {
					return false
				}
				begun = begun || r.Verb == begins
				return begun && r.Verb == "get"
			})
		}
	case finishing:
		switch {
		case !op.deletes():
			hold("UPDATE", "secrets", `object.metadata.labels.status == "deployed"`)
		case slices.Contains(op.args, "--keep-history"):
			hold("UPDATE", "secrets", `object.metadata.labels.status == "uninstalled"`)
		default:
			hold("DELETE", "secrets", "true")
		}
	default:
		p.reached = func(*command) {
			s.t.Helper()
			for _, name := range p.running {
				s.await(name, created("pods/"+name))
			}
		}
	}
}

// goOn lets helm go on from what an interrupted command has left, by upgrade, uninstall or rollback. Where nothing is
// left, the release is installed.
func (s *session) goOn(chart, by string) {
	s.t.Helper()
	revisions := s.revisions("r")
	revision := "1" // of which the object is, as an installation has it whatever its revision
	switch gone := len(revisions) == 0 || revisions[len(revisions)-1].Info.Status == release.StatusUninstalled; {
	case gone:
		s.must(s.helm("upgrade", "--install", "r", chart, "--disable-openapi-validation"))
	case by == "upgrade":
		s.must(s.helm("upgrade", "r", chart, "--set=kind=", "--disable-openapi-validation"))
		revision = fmt.Sprint(len(revisions) + 1)
	case by == "rollback":
		s.must(s.helm("rollback", "r", "1", "--no-hooks"))
	case by == "uninstall":
		s.must(s.helm("uninstall", "r", "--no-hooks"))
		if left := statusesOf(s.revisions("r")); len(left) > 0 {
			s.t.Errorf("after helm uninstall the revisions are %q", left)
		}
		return
	}
	if got := s.release("r").Info.Status; got != release.StatusDeployed {
		s.t.Errorf("after helm %s the release is %s", by, got)
	}
	manifest, err := bed.client.CoreV1().ConfigMaps(s.namespace).Get(s.t.Context(), "manifest", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	if got := manifest.Data["revision"]; got != revision || manifest.DeletionTimestamp != nil {
		s.t.Errorf("after helm %s the manifest is that of revision %s, to be deleted: %v; want %s", by, got, manifest.DeletionTimestamp, revision)
	}
}

// leaveAsTold does what a plugin that was called by helm says.
func leaveAsTold(t *testing.T, stderr string) {
	t.Helper()
	_, rest, _ := strings.Cut(stderr, "To leave at once: kill ")
	var pid int
	if _, err := fmt.Sscan(rest, &pid); err != nil {
		t.Fatalf("no process to kill in %q: %v", stderr, err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return names
}

// stubborn writes a program that says to a file that it runs and then does nothing. It ends neither by itself nor by a
// signal that can be ignored: what ends is ours.
func (s *session) stubborn() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "stubborn")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ntrap '' INT TERM\nexec 2>/dev/null\necho begun >\"$1\"\nexec sleep 3600\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func awaitLine(t testing.TB, fifo *os.File) {
	t.Helper()
	if _, err := bufio.NewReader(fifo).ReadString('\n'); err != nil {
		t.Fatalf("waiting for a line in %s: %v", fifo.Name(), err)
	}
}

// finish lets a Pod succeed that would run on.
func (s *session) finish(pod string) {
	s.t.Helper()
	s.await("the node to run "+pod, func(r audit.Request) bool {
		return r.Verb == "patch" && r.Subresource == "status" && r.Object() == "pods/"+pod && r.Code == 200
	})
	succeeded := []byte(`{"status":{"phase":"Succeeded"}}`)
	if _, err := bed.client.CoreV1().Pods(s.namespace).Patch(s.t.Context(), pod, types.MergePatchType, succeeded, metav1.PatchOptions{}, "status"); err != nil {
		s.t.Fatal(err)
	}
}

// finalize sets the finalizers of a ConfigMap.
func (s *session) finalize(name, finalizers string) {
	s.t.Helper()
	patch := []byte(`{"metadata":{"finalizers":` + finalizers + `}}`)
	if _, err := bed.client.CoreV1().ConfigMaps(s.namespace).Patch(s.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// awaitAbsence returns when there is no such claim; one that was deleted goes a moment later.
func (s *session) awaitAbsence(claim string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := bed.client.CoreV1().PersistentVolumeClaims(s.namespace).Get(ctx, claim, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	}); err != nil {
		s.t.Fatal(err)
	}
}

func statusesOf(revisions []*release.Release) []string {
	var all []string
	for _, revision := range revisions {
		all = append(all, string(revision.Info.Status))
	}
	return all
}
