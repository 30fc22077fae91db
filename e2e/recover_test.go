package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	inProgress = "another operation (install/upgrade/rollback) is in progress"
	// mixedTier has hooks that succeed, fail and last.
	mixedTier = `tiers=[{"jobs":2,"duration":"0s"},{"jobs":4,"durations":["0s","0s","1h","1h"]},{"jobs":1}]`
)

// awaitJob returns when a Job is as it should be.
func (s *session) awaitJob(name string, is func(*batchv1.Job) bool) {
	s.t.Helper()
	err := wait.PollUntilContextTimeout(s.t.Context(), 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		job, err := bed.client.BatchV1().Jobs(s.namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil && is(job), nil
	})
	if err != nil {
		s.t.Fatalf("waiting for Job %s: %v", name, err)
	}
}

func isOver(job *batchv1.Job) bool { return outcomeOf(job) != release.HookPhaseUnknown }

// outcomeOf returns how a Job has ended; Unknown if it hasn't.
func outcomeOf(job *batchv1.Job) release.HookPhase {
	for _, condition := range job.Status.Conditions {
		switch {
		case condition.Status != corev1.ConditionTrue:
		case condition.Type == batchv1.JobComplete:
			return release.HookPhaseSucceeded
		case condition.Type == batchv1.JobFailed:
			return release.HookPhaseFailed
		}
	}
	return release.HookPhaseUnknown
}

// finishJob has the pods of a Job succeed.
func (s *session) finishJob(name string) {
	s.t.Helper()
	s.awaitJob(name, func(job *batchv1.Job) bool { return job.Status.Active > 0 })
	pods, err := bed.client.CoreV1().Pods(s.namespace).List(s.t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, pod := range pods.Items {
		s.finish(pod.Name)
	}
}

// kill ends a command at once, as the kernel does when there's no memory left.
func (c *command) kill() {
	c.t.Helper()
	c.signal(syscall.SIGKILL)
	c.wait()
}

// TestRecover: refused while the operation is alive; after its death the record says what the cluster does.
func TestRecover(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.helm("install", "shop", chartPath("tiers"), "--set-json", "tiers=[]"))
	c := s.start("helm-parallel-hooks", "upgrade", "shop", chartPath("tiers"), "--hook-parallelism", "8",
		"--set", "event=pre-upgrade", "--set-json", mixedTier, "--set-json", `failing=["job-1-01"]`)
	for _, name := range []string{"job-1-00", "job-1-01"} {
		s.awaitJob(name, isOver)
	}
	s.awaitJob("job-1-03", func(*batchv1.Job) bool { return true })
	s.signOfLife("shop")

	alive := s.plugin("recover", "shop")
	if alive.code != 1 || !strings.Contains(alive.stderr, inProgress+" (upgrade by process ") || !strings.Contains(alive.stderr, "waiting for up to") {
		t.Errorf("recovered from a living operation: %v", alive)
	}
	c.kill()
	s.finishJob("job-1-03")
	s.awaitJob("job-1-03", isOver)

	dead := s.must(s.plugin("recover", "shop"))
	for _, want := range []string{
		`Release "shop", revision 2, was pending-upgrade and its operation dead.`,
		"Job/job-1-02  Running      still running  Unknown",
		"Job/job-1-03  Running      done           Succeeded",
		`Revision 2 is failed now: Upgrade "shop" failed: its operation ended without recording it; recovered; its hooks: `,
	} {
		if !strings.Contains(spaced(dead.stdout), spaced(want)) {
			t.Errorf("want %q; got: %v", want, dead)
		}
	}
	stored := s.release("shop")
	if stored.Info.Status != release.StatusFailed || !strings.HasPrefix(stored.Info.Description, `Upgrade "shop" failed: its operation ended without recording it; recovered`) {
		t.Errorf("status = %s, description = %q; want failed, and why", stored.Info.Status, stored.Info.Description)
	}
	wantEqual(t, "phases", phasesOf(stored), []string{
		"job-0-00=Succeeded", "job-0-01=Succeeded", "job-1-00=Succeeded", "job-1-01=Failed", "job-1-02=Unknown", "job-1-03=Succeeded", "job-2-00=",
	})
	s.checkTimes(stored)
	s.noLease("shop")

	// Again: what ran has ended since, and then there's nothing more to say.
	s.finishJob("job-1-02")
	s.awaitJob("job-1-02", isOver)
	var again struct {
		Was, Status, Description string
		Hooks                    []struct{ Name, Was, Phase string }
	}
	if err := json.Unmarshal([]byte(s.must(s.plugin("recover", "shop", "-o", "json")).stdout), &again); err != nil {
		t.Fatal(err)
	}
	if again.Was != "failed" || again.Status != "failed" || len(again.Hooks) != 1 || again.Hooks[0] != struct{ Name, Was, Phase string }{"job-1-02", "Unknown", "Succeeded"} {
		t.Errorf("the second time: got %+v, want what the hook that ran has done since", again)
	}
	const since = `Upgrade "shop" failed: its operation ended without recording it; recovered; its hooks: 4 Succeeded, 1 Failed, 1 Unknown; found since: 1 Succeeded`
	if stored := s.release("shop").Info.Description; stored != since || again.Description != since {
		t.Errorf("the description is %q, and was told to be %q; want %q", stored, again.Description, since)
	}
	if none := s.must(s.plugin("recover", "shop")); !strings.Contains(none.stdout, `Release "shop" is failed at revision 2: there is nothing to recover.`) {
		t.Errorf("the third time: %v", none)
	}
	s.must(s.helm("upgrade", "shop", chartPath("tiers"), "--set-json", "tiers=[]"))
}

func spaced(s string) string { return strings.Join(strings.Fields(s), " ") }

// signOfLife returns when the operation on a release has its lease.
func (s *session) signOfLife(name string) {
	s.t.Helper()
	lease, err := bed.client.CoordinationV1().Leases(s.namespace).Get(s.t.Context(), "helm-parallel-hooks."+name, metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil {
		s.t.Errorf("no lease of release %s: %v, %v", name, lease, err)
	}
}

// expireLease has it look as if the operation on a release had died a minute earlier.
func (s *session) expireLease(name string) {
	s.t.Helper()
	leases := bed.client.CoordinationV1().Leases(s.namespace)
	held, err := leases.Get(s.t.Context(), "helm-parallel-hooks."+name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	held.Spec.RenewTime.Time = held.Spec.RenewTime.Add(-time.Minute)
	if _, err := leases.Update(s.t.Context(), held, metav1.UpdateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) noLease(name string) {
	s.t.Helper()
	leases, err := bed.client.CoordinationV1().Leases(s.namespace).List(s.t.Context(), metav1.ListOptions{})
	if err != nil || len(leases.Items) != 0 {
		s.t.Errorf("leases left of release %s: %v, %v; want none", name, leases.Items, err)
	}
}

// checkTimes checks what a record says of Jobs that have ended against the Jobs.
func (s *session) checkTimes(stored *release.Release) {
	s.t.Helper()
	for _, h := range stored.Hooks {
		phase := h.LastRun.Phase
		if phase != release.HookPhaseSucceeded && phase != release.HookPhaseFailed {
			continue
		}
		job, err := bed.client.BatchV1().Jobs(s.namespace).Get(s.t.Context(), h.Name, metav1.GetOptions{})
		if err != nil {
			s.t.Errorf("%s is recorded as %s: %v", h.Name, phase, err)
			continue
		}
		if got := outcomeOf(job); got != phase {
			s.t.Errorf("%s is recorded as %s, but is %s", h.Name, phase, got)
		}
		// The server's times are to the second.
		if started := h.LastRun.StartedAt.Time.Truncate(time.Second); started.After(job.CreationTimestamp.Time) {
			s.t.Errorf("%s is recorded to have started at %v, but was created at %v", h.Name, started, job.CreationTimestamp)
		}
		for _, condition := range job.Status.Conditions {
			if ended := h.LastRun.CompletedAt.Time.Add(time.Second); ended.Before(condition.LastTransitionTime.Time) {
				s.t.Errorf("%s is recorded to have ended at %v, but did at %v", h.Name, h.LastRun.CompletedAt, condition.LastTransitionTime)
			}
		}
	}
}

// TestRecoverWithoutALease takes a person's word.
func TestRecoverWithoutALease(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		parallelism string
		rights      []rbacv1.PolicyRule
		why         string
	}{
		"one after another": {parallelism: "1", why: "since it held no lease"},
		"without permission": {parallelism: "4", why: "since you have no permission to get its lease", rights: []rbacv1.PolicyRule{
			{APIGroups: []string{"", "batch"}, Resources: []string{"secrets", "configmaps", "jobs", "pods"}, Verbs: []string{"*"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			if test.rights != nil {
				s.become(test.rights...)
			}
			c := s.start("helm-parallel-hooks", "install", "shop", chartPath("tiers"), "--hook-parallelism", test.parallelism, "--set-json", `tiers=[{"jobs":1,"duration":"1h"}]`)
			s.awaitJob("job-0-00", func(*batchv1.Job) bool { return true })
			s.noLease("shop")
			c.kill()
			refused := s.plugin("recover", "shop")
			if refused.code != 1 || !strings.Contains(refused.stderr, "nobody can tell whether the operation") || !strings.Contains(refused.stderr, test.why) || !strings.Contains(refused.stderr, "--force") {
				t.Errorf("want an error that says why, and what to do; got: %v", refused)
			}
			if status := s.release("shop").Info.Status; status != release.StatusPendingInstall {
				t.Errorf("status = %s after it was refused", status)
			}
			s.must(s.plugin("recover", "shop", "--force"))
			stored := s.release("shop")
			wantEqual(t, "phases", phasesOf(stored), []string{"job-0-00=Unknown"})
			if stored.Info.Status != release.StatusFailed {
				t.Errorf("status = %s, want failed", stored.Info.Status)
			}
		})
	}
}

// TestUpgradeRecovers in one step what a killed upgrade has left, and waits for what still runs, which it would delete.
func TestUpgradeRecovers(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	upgrade := []string{"upgrade", "--install", "shop", chartPath("tiers"), "--hook-parallelism", "4", "--set", "event=pre-upgrade"}
	s.must(s.plugin(slices.Concat(upgrade, []string{"--recover", "--set-json", "tiers=[]"})...)) // of which there is nothing yet
	long := slices.Concat(upgrade, []string{"--set-json", `tiers=[{"jobs":2,"duration":"1h"}]`})
	c := s.start("helm-parallel-hooks", long...)
	s.awaitJob("job-0-01", func(*batchv1.Job) bool { return true })
	c.kill()
	s.expireLease("shop")

	impatient := s.plugin(slices.Concat(upgrade, []string{"--recover", "--timeout", "3s", "--set-json", "tiers=[]"})...)
	if impatient.code != 1 || !strings.Contains(impatient.stderr, "hooks of the operation that died may still be running, and an upgrade could run them twice: Job/job-0-00, Job/job-0-01;") {
		t.Errorf("while hooks run: %v", impatient)
	}
	if last := s.release("shop"); last.Version != 2 || last.Info.Status != release.StatusFailed {
		t.Errorf("while hooks run: revision %d is %s, want revision 2 to have failed", last.Version, last.Info.Status)
	}
	stderr := newScreen()
	short := s.startOn(newScreen(), stderr, "helm-parallel-hooks", slices.Concat(upgrade, []string{"--recover", "--set-json", `tiers=[{"jobs":2,"duration":"0s"}]`})...)
	stderr.await(short, "for hooks that still run: 2")
	s.finishJob("job-0-00")
	s.finishJob("job-0-01")
	s.must(short.wait())

	var statuses []string
	for _, revision := range s.revisions("shop") {
		statuses = append(statuses, fmt.Sprintf("%d %s %s", revision.Version, revision.Info.Status, strings.Join(phasesOf(revision), " ")))
	}
	wantEqual(t, "revisions", statuses, []string{
		"1 superseded ", "2 failed job-0-00=Succeeded job-0-01=Succeeded", "3 deployed job-0-00=Succeeded job-0-01=Succeeded",
	})
	s.noLease("shop")
}

// crashes is how many instants TestCrash tries.
func crashes(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("E2E_CRASHES"))
	if os.Getenv("E2E_CRASHES") == "" {
		return 8
	}
	if err != nil {
		t.Fatalf("E2E_CRASHES: %v", err)
	}
	return n
}

// TestCrash: whenever the plugin is killed, what it has recorded is true, and after recover Helm goes on.
func TestCrash(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const mix = `tiers=[{"jobs":6,"duration":"0s"},{"jobs":6,"duration":"1s"},{"jobs":4,"duration":"0s"}]`
	results := newCrashResults(t)
	for i := range crashes(t) {
		command := []string{"install", "upgrade", "rollback", "uninstall", "test"}[i%5]
		after := time.Duration(random.Int64N(int64(8 * time.Second)))
		t.Run(fmt.Sprintf("%s after %v", command, after.Round(time.Millisecond)), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() { results.note(command, !t.Failed()) })
			s := newSession(t)
			event := map[string]string{"install": "pre-install", "upgrade": "pre-upgrade", "rollback": "pre-rollback", "uninstall": "pre-delete", "test": "test"}[command]
			chart := []string{chartPath("tiers"), "--set", "event=" + event, "--set-json", mix}
			line := slices.Concat([]string{command, "shop"}, chart)
			if command != "install" {
				s.must(s.helm(slices.Concat([]string{"install", "shop"}, chart)...))
			}
			switch command {
			case "rollback":
				s.must(s.helm(slices.Concat([]string{"upgrade", "shop"}, chart)...))
				line = []string{"rollback", "shop", "1"}
			case "uninstall", "test":
				line = []string{command, "shop"}
			}
			c := s.start("helm-parallel-hooks", append(line, "--hook-parallelism", "4")...)
			select {
			case <-time.After(after):
			case <-c.ended:
			}
			_ = syscall.Kill(c.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
			<-c.ended

			revisions := s.revisions("shop")
			if len(revisions) == 0 {
				return // it had come to nothing yet, or was uninstalled
			}
			s.checkTimes(revisions[len(revisions)-1])
			got := s.plugin("recover", "shop", "--wait", "1m")
			if got.code != 0 && strings.Contains(got.stderr, "since it held no lease") {
				got = s.plugin("recover", "shop", "--wait", "1m", "--force") // killed before it took one
			}
			s.must(got)
			last := s.release("shop")
			if last.Info.Status.IsPending() || last.Info.Status == release.StatusUninstalling {
				t.Errorf("status = %s after recover", last.Info.Status)
			}
			s.checkTimes(last)
			s.checkRecorded(last, event)
			s.must(s.helm("upgrade", "shop", chartPath("tiers"), "--set-json", "tiers=[]"))
			if t.Failed() {
				t.Logf("recover: %v", got)
			}
		})
	}
}

// crashResults are how many operations were killed, and after how many of them all was well, by command.
type crashResults struct {
	mu     sync.Mutex
	Runs   map[string]int
	Passed map[string]int
}

// newCrashResults returns results that are written for the page on reliability when the test has ended.
func newCrashResults(t *testing.T) *crashResults {
	r := &crashResults{Runs: map[string]int{}, Passed: map[string]int{}}
	t.Cleanup(func() {
		written, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(bed.root, ".cache", "crashes.json"), written, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *crashResults) note(command string, passed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Runs[command]++
	if passed {
		r.Passed[command]++
	}
}

// checkRecorded checks that each Job that exists is in the record of a release.
func (s *session) checkRecorded(stored *release.Release, event string) {
	s.t.Helper()
	jobs, err := bed.client.BatchV1().Jobs(s.namespace).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, job := range jobs.Items {
		i := slices.IndexFunc(stored.Hooks, func(h *release.Hook) bool { return h.Name == job.Name })
		if i < 0 || stored.Hooks[i].LastRun.Phase != outcomeOf(&job) {
			s.t.Errorf("%s is %s; the record says %q", job.Name, outcomeOf(&job), phasesOf(stored))
		}
	}
}

// TestTwoOperations: one wins, the other one ends with Helm's words and changes nothing.
func TestTwoOperations(t *testing.T) {
	t.Parallel()
	const slow = `tiers=[{"jobs":2,"duration":"1h"}]`
	parallel := []string{"--hook-parallelism", "4"}
	for _, test := range []struct {
		name, event   string
		first, second []string // without the chart
		by            string   // what runs the second
		want          string
	}{
		{"install and install", "pre-install", []string{"install", "shop"}, []string{"install", "shop"}, "helm-parallel-hooks", "cannot re-use a name that is still in use"},
		{"install and helm's install", "pre-install", []string{"install", "shop"}, []string{"install", "shop"}, "helm", "cannot re-use a name that is still in use"},
		{"upgrade and upgrade", "pre-upgrade", []string{"upgrade", "shop"}, []string{"upgrade", "shop"}, "helm-parallel-hooks", inProgress},
		{"upgrade and helm's upgrade", "pre-upgrade", []string{"upgrade", "shop"}, []string{"upgrade", "shop"}, "helm", inProgress},
		{"upgrade and uninstall", "pre-upgrade", []string{"upgrade", "shop"}, []string{"uninstall", "shop"}, "helm-parallel-hooks", inProgress},
		{"upgrade and rollback", "pre-upgrade", []string{"upgrade", "shop"}, []string{"rollback", "shop", "1"}, "helm-parallel-hooks", inProgress},
		{"upgrade and test", "pre-upgrade", []string{"upgrade", "shop"}, []string{"test", "shop"}, "helm-parallel-hooks", inProgress},
		{"test and upgrade", "test", []string{"test", "shop"}, []string{"upgrade", "shop"}, "helm-parallel-hooks", inProgress},
		{"uninstall and test", "pre-delete", []string{"uninstall", "shop"}, []string{"test", "shop"}, "helm-parallel-hooks", inProgress},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			chart := []string{chartPath("tiers"), "--set", "event=" + test.event, "--set-json", slow}
			line := func(words []string) []string {
				if words[0] == "install" || words[0] == "upgrade" {
					return slices.Concat(words, chart)
				}
				return words
			}
			if test.first[0] != "install" {
				s.must(s.helm(slices.Concat([]string{"install", "shop"}, chart)...))
			}
			first := s.start("helm-parallel-hooks", slices.Concat(line(test.first), parallel)...)
			s.awaitJob("job-0-01", func(*batchv1.Job) bool { return true })
			words := line(test.second)
			if test.by != "helm" {
				words = slices.Concat(words, parallel)
			}
			second := s.start(test.by, words...).wait()
			if second.code != 1 || !strings.Contains(second.stderr, test.want) {
				t.Errorf("the second: want %q; got: %v", test.want, second)
			}
			s.finishJob("job-0-00")
			s.finishJob("job-0-01")
			s.must(first.wait())
			if created := s.trail().Of("jobs").Creates().Objects(); len(created) != 2 {
				t.Errorf("created: %q, want each hook once", created)
			}
			s.noLease("shop")
		})
	}
}

// TestSimultaneousUpgrades: of those that begin at the same moment one wins, and its record is its own.
func TestSimultaneousUpgrades(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.helm("install", "shop", chartPath("tiers"), "--set-json", "tiers=[]"))
	const several = 6
	var all []*command
	for i := range several {
		program := []string{"helm-parallel-hooks", "helm"}[i%2]
		args := []string{"upgrade", "shop", chartPath("tiers"), "--set", "event=pre-upgrade", "--description", strconv.Itoa(i), "--set-json", `tiers=[{"jobs":3,"duration":"5s"}]`}
		if i%2 == 0 {
			args = append(args, "--hook-parallelism", "4")
		}
		all = append(all, s.start(program, args...))
	}
	won := 0
	winner := ""
	for i, c := range all {
		got := c.wait()
		switch {
		case got.code == 0:
			won, winner = won+1, strconv.Itoa(i)
		case !strings.Contains(got.stderr, inProgress) && !strings.Contains(got.stderr, "already exists"):
			t.Errorf("a loser's words: %v", got)
		}
	}
	revisions := s.revisions("shop")
	if won != 1 || len(revisions) != 2 || revisions[1].Info.Status != release.StatusDeployed || revisions[1].Info.Description != winner {
		t.Errorf("%d won, the last one %s; revisions %q; want one, and its record", won, winner, historyOf(revisions))
	}
	s.checkTimes(revisions[len(revisions)-1])
}

// TestTestsWhileHelmUpgrades: Helm knows no lease. The upgrade's word on the revision that is tested holds.
func TestTestsWhileHelmUpgrades(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := []string{"shop", chartPath("tiers"), "--set", "event=test", "--set-json", `tiers=[{"jobs":2,"duration":"1h"}]`}
	s.must(s.helm(append([]string{"install"}, chart...)...))
	tests := s.start("helm-parallel-hooks", "test", "shop", "--hook-parallelism", "2")
	s.awaitJob("job-0-01", func(*batchv1.Job) bool { return true })
	s.must(s.helm(append([]string{"upgrade"}, chart...)...))
	s.finishJob("job-0-00")
	s.finishJob("job-0-01")
	s.must(tests.wait())
	revisions := s.revisions("shop")
	wantEqual(t, "history", statusesOf(revisions), []string{"superseded", "deployed"})
	wantEqual(t, "phases", phasesOf(revisions[0]), []string{"job-0-00=Succeeded", "job-0-01=Succeeded"})
}
