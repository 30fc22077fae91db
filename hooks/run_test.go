package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCluster runs hooks in virtual time. It's for what a real cluster can't
// show: exact times and interleavings.
type fakeCluster struct {
	durations    map[string]time.Duration // by hook name; zero: at once
	failures     map[string]error         // what Wait returns at the end
	createErr    map[string]error
	deleteErr    map[string]error
	deleteTakes  time.Duration
	inspectTakes time.Duration
	drainTakes   time.Duration // from a hook's end to that of its log

	mu      sync.Mutex
	log     []string // calls, in order
	starts  map[string]time.Time
	ends    map[string]time.Time
	running map[string]bool // by identity
	overlap []string        // objects that ran beside themselves
}

func (c *fakeCluster) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *fakeCluster) Delete(ctx context.Context, h *Hook) error {
	c.note("delete %s", h.Name)
	if err := sleep(ctx, c.deleteTakes); err != nil {
		return err
	}
	return c.deleteErr[h.Name]
}

func (c *fakeCluster) Create(_ context.Context, h *Hook) (Execution, error) {
	c.note("create %s", h.Name)
	if err := c.createErr[h.Name]; err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.starts == nil {
		c.starts, c.ends, c.running = map[string]time.Time{}, map[string]time.Time{}, map[string]bool{}
	}
	c.starts[h.Path] = time.Now()
	if c.running[h.identities()[0]] {
		c.overlap = append(c.overlap, h.String())
	}
	c.running[h.identities()[0]] = true
	return fakeExecution{c, h}, nil
}

func (c *fakeCluster) Logs(_ context.Context, h *Hook, w io.Writer) error {
	c.note("logs %s", h.Name)
	_, err := fmt.Fprintf(w, "one line of %s\nand another", h.Name)
	return err
}

func (c *fakeCluster) Inspect(ctx context.Context, h *Hook, _ int) ([]Finding, error) {
	if err := sleep(ctx, c.inspectTakes); err != nil {
		return nil, err
	}
	return []Finding{{Pod: h.Name, Container: "main", Reason: "Error", ExitCode: 3, Ended: true}}, nil
}

type fakeExecution struct {
	cluster *fakeCluster
	hook    *Hook
}

func (e fakeExecution) Wait(ctx context.Context) error {
	c := e.cluster
	err := sleep(ctx, c.durations[e.hook.Name])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[e.hook.Path] = time.Now()
	c.running[e.hook.identities()[0]] = false
	c.log = append(c.log, "ended "+e.hook.Name)
	return errors.Join(err, c.failures[e.hook.Name])
}

// Follow tells what the hook's pods do, and a line of their log, half a second after
// its start and every second from then on, and a last line after its end.
func (e fakeExecution) Follow(ctx context.Context, ended <-chan struct{}, f Follower) error {
	source := LogSource{Hook: e.hook, Pod: e.hook.Name, Container: "main"}
	next := time.After(500 * time.Millisecond)
	for i := 1; ; i++ {
		select {
		case <-ended:
			if f.Log != nil {
				if err := sleep(ctx, e.cluster.drainTakes); err != nil {
					return err
				}
				f.Log(source, fmt.Appendf(nil, "last line of %s\n", e.hook.Name))
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
		next = time.After(time.Second)
		if f.Activity != nil {
			f.Activity(fmt.Sprintf("step %d", i))
		}
		if f.Log != nil {
			f.Log(source, fmt.Appendf(nil, "line %d of %s\n", i, e.hook.Name))
		}
	}
}

// notices writes notices as text.
type notices struct{ lines []string }

func (n *notices) Observe(notice Notice) {
	switch notice := notice.(type) {
	case EventStarted:
		n.lines = append(n.lines, fmt.Sprintf("event started: %d hooks", notice.Plan.Len()))
	case TierStarted:
		n.lines = append(n.lines, fmt.Sprintf("tier %d started", notice.Weight))
	case HookStarted:
		n.lines = append(n.lines, fmt.Sprintf("%s started", notice.Hook.Name))
	case HookEnded:
		n.lines = append(n.lines, fmt.Sprintf("%s %s", notice.Result.Hook.Name, notice.Result.Phase))
	case HookProgressed:
		n.lines = append(n.lines, fmt.Sprintf("%s: %s", notice.Hook.Name, notice.Activity))
	case HookWarned:
		n.lines = append(n.lines, fmt.Sprintf("%s: %s", notice.Hook.Name, notice.Message))
	case Stopping:
		n.lines = append(n.lines, fmt.Sprintf("stopping: running %s, queued %d", hookNames(notice.Running), notice.Queued))
	case TierEnded:
		n.lines = append(n.lines, fmt.Sprintf("tier %d ended", notice.Weight))
	case EventEnded:
		n.lines = append(n.lines, fmt.Sprintf("event ended: %v", notice.Err))
	}
}

// logTexts is a sink that keeps what it's given.
type logTexts struct {
	mu    sync.Mutex
	texts []string
}

func (l *logTexts) Log(source LogSource, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts = append(l.texts, fmt.Sprintf("%s: %s", source.Hook.Name, text))
}

func jobs(weight int, names ...string) []*Hook {
	all := make([]*Hook, len(names))
	for i, name := range names {
		all[i] = newHook("Job", name, weight)
	}
	return all
}

func mustPlan(t *testing.T, all []*Hook, parallelism int) *Plan {
	t.Helper()
	plan, err := NewPlan("pre-install", all, PlanOptions{Parallelism: parallelism})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func phases(results []Result) string {
	var all []string
	for _, r := range results {
		all = append(all, r.Hook.Name+"="+string(r.Phase))
	}
	return strings.Join(all, " ")
}

func wantLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot:\n  %s\nwant:\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestRunTellsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := slices.Concat(jobs(0, "a", "b"), jobs(1, "c"), []*Hook{newHook("ConfigMap", "z", 0)})
		cluster := &fakeCluster{durations: map[string]time.Duration{"a": 2 * time.Second, "b": time.Second}}
		var told notices
		runner := Runner{Cluster: cluster, Observer: Observers(nil, &told)}
		results, err := runner.Run(t.Context(), mustPlan(t, all, 2))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := phases(results), "z=Succeeded a=Succeeded b=Succeeded c=Succeeded"; got != want {
			t.Errorf("results: got %s, want %s", got, want)
		}
		if took := results[1].CompletedAt.Sub(results[1].StartedAt); took != 2*time.Second {
			t.Errorf("hook a took %v, want 2s", took)
		}
		// a and b start at once: which is told first is open.
		if i := slices.Index(told.lines, "b started"); i >= 0 && i+1 < len(told.lines) && told.lines[i+1] == "a started" {
			told.lines[i], told.lines[i+1] = told.lines[i+1], told.lines[i]
		}
		wantLines(t, "notices", told.lines, []string{
			"event started: 4 hooks",
			"tier 0 started", "z started", "z Succeeded", "a started", "b started", "b Succeeded", "a Succeeded", "tier 0 ended",
			"tier 1 started", "c started", "c Succeeded", "tier 1 ended",
			"event ended: <nil>",
		})
	})
}

func TestSerialRunIsHelms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := jobs(0, "a", "b", "c")
		all[0].DeletePolicies = []DeletePolicy{DeleteSucceeded}
		all[0].LogPolicies = []LogPolicy{LogSucceeded}
		all[1].DeletePolicies = []DeletePolicy{DeleteBeforeCreation, DeleteSucceeded}
		crd := newHook("CustomResourceDefinition", "crd", -1)
		crd.DeletePolicies = []DeletePolicy{DeleteBeforeCreation, DeleteSucceeded}
		cluster := &fakeCluster{durations: map[string]time.Duration{"a": time.Second, "b": time.Second}}
		var logs logTexts
		runner := Runner{Cluster: cluster, Logs: &logs}
		if _, err := runner.Run(t.Context(), mustPlan(t, append(all, crd), 1)); err != nil {
			t.Fatal(err)
		}
		wantLines(t, "calls", cluster.log, []string{
			"create crd", "ended crd",
			"create a", "ended a",
			"delete b", "create b", "ended b",
			"delete c", "create c", "ended c",
			"delete b", "logs a", "delete a",
		})
		wantLines(t, "logs", logs.texts, []string{"a: one line of a\nand another"})
	})
}

func TestFailureStopsWhatIsQueued(t *testing.T) {
	boom := &EndedBadly{Kind: "Job", Name: "b", Reason: "BackoffLimitExceeded"}
	for _, test := range []struct {
		name      string
		keepGoing bool
		want      string
		calls     []string
	}{
		{"by default", false, "a=Succeeded b=Failed c=Succeeded d= e= f=", []string{"a", "b", "c"}},
		{"keep going", true, "a=Succeeded b=Failed c=Succeeded d=Succeeded e=Succeeded f=", []string{"a", "b", "c", "d", "e"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster := &fakeCluster{
					durations: map[string]time.Duration{"a": 9 * time.Second, "b": time.Second, "c": 9 * time.Second, "d": time.Second},
					failures:  map[string]error{"b": boom},
				}
				runner := Runner{Cluster: cluster, KeepGoing: test.keepGoing}
				start := time.Now()
				results, err := runner.Run(t.Context(), mustPlan(t, append(jobs(0, "a", "b", "c", "d", "e"), jobs(1, "f")...), 3))
				if took := time.Since(start); took != 9*time.Second {
					t.Errorf("Run returned after %v, want 9s: running hooks are watched to their end", took)
				}
				if got := phases(results); got != test.want {
					t.Errorf("results: got %s, want %s", got, test.want)
				}
				var created []string
				for _, line := range cluster.log {
					if name, ok := strings.CutPrefix(line, "create "); ok {
						created = append(created, name)
					}
				}
				slices.Sort(created)
				wantLines(t, "created", created, test.calls)

				var failure *RunError
				if !errors.As(err, &failure) || !errors.Is(err, boom) || len(failure.Failures) != 1 || failure.Interrupted != nil {
					t.Fatalf("error: got %#v, want a RunError with the failure of b alone", err)
				}
				if c := failure.Failures[0].Findings; len(c) != 1 || c[0].ExitCode != 3 {
					t.Errorf("containers: got %v, want the one that was inspected", c)
				}
			})
		})
	}
}

// TestWhatNeverStartsHoldsNobodyBack: a hook whose need has failed doesn't wait for slots.
func TestWhatNeverStartsHoldsNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := jobs(0, "a", "b", "c", "d", "e")
		all[1].Objects[0].SetAnnotations(map[string]string{AfterAnnotation: "a", SlotsAnnotation: "all"})
		all[2].Objects[0].SetAnnotations(map[string]string{AfterAnnotation: "b"})
		cluster := &fakeCluster{
			durations: map[string]time.Duration{"a": time.Second, "d": time.Minute, "e": time.Second},
			failures:  map[string]error{"a": errors.New("no")},
		}
		begin := time.Now()
		runner := Runner{Cluster: cluster, KeepGoing: true}
		results, _ := runner.Run(t.Context(), mustPlan(t, all, 2))
		if got, want := phases(results), "a=Failed b= c= d=Succeeded e=Succeeded"; got != want {
			t.Errorf("results: got %s, want %s", got, want)
		}
		if started := results[4].StartedAt.Sub(begin); started != time.Second {
			t.Errorf("e started after %v, want 1s: b waits for both slots in vain", started)
		}
	})
}

func TestNothingStartsWhileAFailureIsLookedInto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := &fakeCluster{
			durations:    map[string]time.Duration{"a": time.Second, "b": 2 * time.Second},
			failures:     map[string]error{"a": errors.New("no")},
			inspectTakes: 5 * time.Second,
		}
		runner := Runner{Cluster: cluster}
		results, _ := runner.Run(t.Context(), mustPlan(t, jobs(0, "a", "b", "c"), 2))
		if got, want := phases(results), "a=Failed b=Succeeded c="; got != want {
			t.Errorf("results: got %s, want %s", got, want)
		}
	})
}

func TestAllFailuresAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := &fakeCluster{
			durations: map[string]time.Duration{"a": 2 * time.Second, "b": time.Second},
			failures:  map[string]error{"a": errors.New("no a"), "b": errors.New("no b")},
			createErr: map[string]error{"c": errors.New("no c")},
			deleteErr: map[string]error{"d": errors.New("no d")},
		}
		runner := Runner{Cluster: cluster, KeepGoing: true}
		results, err := runner.Run(t.Context(), mustPlan(t, jobs(0, "a", "b", "c", "d"), 4))
		if got, want := phases(results), "a=Failed b=Failed c=Failed d=Failed"; got != want {
			t.Errorf("results: got %s, want %s", got, want)
		}
		want := "pre-install hook Job/a: no a; pre-install hook Job/b: no b; pre-install hook Job/c: creating: no c; " +
			"pre-install hook Job/d: deleting the object of an earlier run: no d"
		if err == nil || err.Error() != want {
			t.Errorf("error:\ngot  %v\nwant %s", err, want)
		}
		if !results[3].StartedAt.IsZero() || results[2].StartedAt.IsZero() {
			t.Error("d was never created and must have no start; c was attempted and must have one")
		}
	})
}

func TestStopWaitsForRunningHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := append(jobs(0, "a", "b", "c", "d"), jobs(1, "e")...)
		all[0].DeletePolicies = []DeletePolicy{DeleteSucceeded}
		cluster := &fakeCluster{durations: map[string]time.Duration{"a": 5 * time.Second, "b": 7 * time.Second}}
		stop := make(chan struct{})
		var told notices
		runner := Runner{Cluster: cluster, Observer: &told, Stop: stop}
		time.AfterFunc(time.Second, func() { close(stop) })
		start := time.Now()
		results, err := runner.Run(t.Context(), mustPlan(t, all, 2))
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("Run returned after %v, want 7s", took)
		}
		if got, want := phases(results), "a=Succeeded b=Succeeded c= d= e="; got != want {
			t.Errorf("results: got %s, want %s", got, want)
		}
		if !errors.Is(err, ErrStopped) {
			t.Errorf("error: got %v, want ErrStopped", err)
		}
		if !slices.Contains(told.lines, "stopping: running Job/a, Job/b, queued 3") {
			t.Errorf("notices: got %q, want one that says what is waited for", told.lines)
		}
		if last := cluster.log[len(cluster.log)-1]; last != "delete a" {
			t.Errorf("last call: got %q, want the deletion of a by its policy", last)
		}
	})
}

// TestNothingIsCreatedAfterItsOldObjectTookTooLong: a hook whose old object still
// goes has not started.
func TestNothingIsCreatedAfterItsOldObjectTookTooLong(t *testing.T) {
	for _, test := range []struct {
		name string
		stop bool
	}{{"stopped meanwhile", true}, {"another hook failed meanwhile", false}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := jobs(0, "a", "b")
				all[0].DeletePolicies = []DeletePolicy{DeleteSucceeded} // none before
				cluster := &fakeCluster{deleteTakes: 5 * time.Second, durations: map[string]time.Duration{"a": time.Second}}
				stop := make(chan struct{})
				if test.stop {
					time.AfterFunc(time.Second/2, func() { close(stop) })
				} else {
					cluster.failures = map[string]error{"a": errors.New("no")}
				}
				var told notices
				runner := Runner{Cluster: cluster, Stop: stop, Observer: &told}
				results, err := runner.Run(t.Context(), mustPlan(t, all, 2))
				want := map[bool]string{true: "a=Succeeded b=", false: "a=Failed b="}[test.stop]
				if got := phases(results); got != want || err == nil {
					t.Errorf("got %s, %v; want %s and an error", got, err, want)
				}
				if slices.Contains(cluster.log, "create b") {
					t.Errorf("calls: got %q, want no creation of b", cluster.log)
				}
				if said := slices.Contains(told.lines, "stopping: running Job/a, queued 1"); said != test.stop {
					t.Errorf("notices: got %q, want b among those that won't run: %t", told.lines, test.stop)
				}
			})
		})
	}
}

func TestStopBeforeTheFirstHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		close(stop)
		cluster := &fakeCluster{}
		runner := Runner{Cluster: cluster, Stop: stop}
		results, err := runner.Run(t.Context(), mustPlan(t, jobs(0, "a", "b"), 2))
		if !errors.Is(err, ErrStopped) || len(cluster.log) != 0 || phases(results) != "a= b=" {
			t.Errorf("got %v, calls %q, results %s; want ErrStopped and no call", err, cluster.log, phases(results))
		}
	})
}

func TestCancelLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := jobs(0, "a", "b", "c")
		all[0].DeletePolicies = []DeletePolicy{DeleteSucceeded, DeleteFailed}
		cluster := &fakeCluster{durations: map[string]time.Duration{"a": time.Second, "b": time.Hour, "c": time.Hour}}
		cause := errors.New("second signal")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(cause) })
		runner := Runner{Cluster: cluster}
		start := time.Now()
		results, err := runner.Run(ctx, mustPlan(t, all, 2))
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("Run returned after %v, want 3s", took)
		}
		if got, want := phases(results), "a=Succeeded b=Unknown c=Unknown"; got != want {
			t.Errorf("results: got %s, want %s", got, want)
		}
		if !results[1].CompletedAt.IsZero() {
			t.Error("b: nobody saw it complete, and still it has a time")
		}
		if !errors.Is(err, cause) {
			t.Errorf("error: got %v, want the cause of the cancellation", err)
		}
		if slices.Contains(cluster.log, "delete a") {
			t.Error("a was deleted after the run had to leave")
		}
	})
}

func TestTimeoutCountsFromTheHooksOwnStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := &fakeCluster{durations: map[string]time.Duration{"a": 8 * time.Second, "b": 8 * time.Second, "c": 11 * time.Second}}
		runner := Runner{Cluster: cluster, Timeout: 10 * time.Second}
		results, err := runner.Run(t.Context(), mustPlan(t, jobs(0, "a", "b", "c"), 1))
		if got, want := phases(results), "a=Succeeded b=Succeeded c=Failed"; got != want {
			t.Errorf("results: got %s, want %s", got, want)
		}
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("error: got %v, want ErrTimeout", err)
		}
		if took := results[2].CompletedAt.Sub(results[2].StartedAt); took != 10*time.Second {
			t.Errorf("c was given up after %v, want 10s", took)
		}
	})
}

func TestTimeoutOfADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := &fakeCluster{deleteTakes: time.Minute}
		runner := Runner{Cluster: cluster, Timeout: 10 * time.Second}
		_, err := runner.Run(t.Context(), mustPlan(t, jobs(0, "a"), 2))
		if !errors.Is(err, ErrTimeout) || slices.Contains(cluster.log, "create a") {
			t.Errorf("got error %v, calls %q; want ErrTimeout and no creation", err, cluster.log)
		}
	})
}

func TestVanishedHookSucceedsWithAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := &fakeCluster{failures: map[string]error{"a": ErrVanished}}
		var told notices
		runner := Runner{Cluster: cluster, Observer: &told}
		if _, err := runner.Run(t.Context(), mustPlan(t, jobs(0, "a"), 2)); err != nil {
			t.Errorf("error: got %v, want none, as in Helm", err)
		}
		if !slices.Contains(told.lines, "a: the object was deleted while it ran; it counts as succeeded, as in Helm") {
			t.Errorf("notices: got %q, want a warning", told.lines)
		}
	})
}

func TestDeletePolicies(t *testing.T) {
	policies := func(h *Hook, policies ...DeletePolicy) *Hook {
		h.DeletePolicies = policies
		return h
	}
	hooksOf := func() []*Hook {
		return []*Hook{
			policies(newHook("ServiceAccount", "sa", 0), DeleteSucceeded),
			policies(newHook("Job", "a", 0), DeleteSucceeded),
			policies(newHook("Job", "b", 0), DeleteFailed),
			policies(newHook("Job", "c", 1), DeleteSucceeded, DeleteFailed),
		}
	}
	for _, test := range []struct {
		name        string
		fails       string
		parallelism int
		want        []string
	}{
		{"success, serial", "", 1, []string{"delete c", "delete sa", "delete a"}},
		{"success, parallel", "", 4, []string{"delete c", "delete a", "delete sa"}},
		{"failure, serial", "c", 1, []string{"delete c", "delete a", "delete sa"}},
		{"failure, parallel", "c", 4, []string{"delete c", "delete a", "delete sa"}},
		{"failure of an earlier tier", "b", 4, []string{"delete b", "delete a", "delete sa"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				second := map[string]time.Duration{"a": time.Second, "b": time.Second, "c": time.Second}
				cluster := &fakeCluster{durations: second, failures: map[string]error{}}
				if test.fails != "" {
					cluster.failures[test.fails] = errors.New("no")
				}
				runner := Runner{Cluster: cluster}
				_, err := runner.Run(t.Context(), mustPlan(t, hooksOf(), test.parallelism))
				if (err != nil) != (test.fails != "") {
					t.Errorf("error: got %v", err)
				}
				var deleted []string
				for _, line := range cluster.log {
					if strings.HasPrefix(line, "delete ") {
						deleted = append(deleted, line)
					}
				}
				wantLines(t, "deleted", deleted, test.want)
			})
		})
	}
}

func TestHelmLeavesAllWhereAHookCouldNotBeCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := jobs(0, "a", "b")
		all[0].DeletePolicies = []DeletePolicy{DeleteSucceeded}
		cluster := &fakeCluster{createErr: map[string]error{"b": errors.New("no")}}
		runner := Runner{Cluster: cluster}
		_, err := runner.Run(t.Context(), mustPlan(t, all, 1))
		if err == nil || slices.Contains(cluster.log, "delete a") {
			t.Errorf("got error %v, calls %q; want an error and no deletion of a", err, cluster.log)
		}
	})
}

func TestFailedCleanUpFailsTheEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := jobs(0, "a")
		all[0].DeletePolicies = []DeletePolicy{DeleteSucceeded}
		cluster := &fakeCluster{deleteErr: map[string]error{"a": errors.New("forbidden")}}
		runner := Runner{Cluster: cluster}
		results, err := runner.Run(t.Context(), mustPlan(t, all, 2))
		if phases(results) != "a=Succeeded" || err == nil || !strings.Contains(err.Error(), "deleting after the run: forbidden") {
			t.Errorf("got %s, %v; want the hook succeeded and an error of its deletion", phases(results), err)
		}
	})
}

func TestLogsComeAsBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := jobs(0, "a", "b")
		for _, h := range all {
			h.LogPolicies = []LogPolicy{LogFailed}
		}
		cluster := &fakeCluster{
			durations: map[string]time.Duration{"a": time.Second, "b": time.Second},
			failures:  map[string]error{"a": errors.New("no"), "b": errors.New("no")},
		}
		var logs logTexts
		runner := Runner{Cluster: cluster, Logs: &logs}
		if _, err := runner.Run(t.Context(), mustPlan(t, all, 2)); err == nil {
			t.Error("error: got none")
		}
		slices.Sort(logs.texts)
		wantLines(t, "logs", logs.texts, []string{"a: one line of a\nand another", "b: one line of b\nand another"})
	})
}

func TestFollowedPods(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		want  []string
	}{
		{"from the start", 0, []string{"a started", "a: step 1", "a: step 2", "a Succeeded", "b started", "b: step 1", "b Succeeded"}},
		{"of what takes long", 1100 * time.Millisecond, []string{"a started", "a: step 1", "a Succeeded", "b started", "b Succeeded"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cluster := &fakeCluster{durations: map[string]time.Duration{"a": 2 * time.Second, "b": time.Second}}
				var told notices
				runner := Runner{Cluster: cluster, Observer: &told, FollowPods: true, FollowAfter: test.after}
				if _, err := runner.Run(t.Context(), mustPlan(t, jobs(0, "a", "b"), 1)); err != nil {
					t.Fatal(err)
				}
				wantLines(t, "notices", told.lines[2:len(told.lines)-2], test.want)
			})
		})
	}
}

// TestStreamedLogs: logs are read to their ends before hooks are deleted, though a hook
// doesn't hold its slot for that.
func TestStreamedLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := &fakeCluster{
			durations:  map[string]time.Duration{"a": 2 * time.Second, "b": time.Second},
			drainTakes: 5 * time.Second,
		}
		all := jobs(0, "a", "b")
		for _, h := range all {
			h.DeletePolicies, h.LogPolicies = []DeletePolicy{DeleteSucceeded}, []LogPolicy{LogSucceeded}
		}
		var logs logTexts
		runner := Runner{Cluster: cluster, Logs: &logs, StreamLogs: true}
		begun := time.Now()
		results, err := runner.Run(t.Context(), mustPlan(t, all, 1))
		if err != nil {
			t.Fatal(err)
		}
		wantLines(t, "logs", logs.texts, []string{
			"a: line 1 of a\n", "a: line 2 of a\n", "b: line 1 of b\n", "a: last line of a\n", "b: last line of b\n",
		})
		wantLines(t, "calls", cluster.log, []string{"create a", "ended a", "create b", "ended b", "delete b", "delete a"})
		if took := results[1].CompletedAt.Sub(begun); took != 3*time.Second {
			t.Errorf("the hooks took %v, want 3s", took)
		}
	})
}

// TestStreamedLogsThatDoNotEnd: what can't be read to its end holds nothing up for long.
func TestStreamedLogsThatDoNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runner := Runner{Cluster: &fakeCluster{drainTakes: time.Hour}, Logs: new(logTexts), StreamLogs: true}
		begun := time.Now()
		if _, err := runner.Run(t.Context(), mustPlan(t, jobs(0, "a"), 1)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != drainTimeout {
			t.Errorf("the run took %v, want %v", took, drainTimeout)
		}
	})
}

// listScheduling returns the time that a stage's steps take when each starts, in
// order, as soon as its slots are free and its predecessors have ended. It's the
// textbook's rule, written without the runner.
func listScheduling(stage Stage, parallelism int, durations map[string]time.Duration) time.Duration {
	const pending, ended = -1, -2
	until := make([]time.Duration, len(stage.Steps)) // end of a running step, or a state
	for i := range until {
		until[i] = pending
	}
	var now time.Duration
	free := parallelism
	for {
		for i, step := range stage.Steps {
			if until[i] != pending || slices.ContainsFunc(step.After, func(j int) bool { return until[j] != ended }) {
				continue
			}
			if step.Slots > free {
				break
			}
			free -= step.Slots
			until[i] = now + durations[step.Hook.Name]
		}
		next := time.Duration(-1)
		for _, end := range until {
			if end >= 0 && (next < 0 || end < next) {
				next = end
			}
		}
		if next < 0 {
			return now
		}
		now = next
		for i, end := range until {
			if end == now {
				free += stage.Steps[i].Slots
				until[i] = ended
			}
		}
	}
}

// TestScheduling draws hooks and runs them in virtual time: never more than N
// slots are taken, weights and setup are barriers, no object runs beside itself,
// and all takes exactly as long as list scheduling says.
func TestScheduling(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := drawHooks(rt)
		parallelism := rapid.IntRange(1, 5).Draw(rt, "N")
		durations := map[string]time.Duration{}
		for i, h := range all {
			h.Path = fmt.Sprint(i)
			// Whole seconds, and none: ties are where schedulers differ.
			durations[h.Name] = time.Duration(rapid.IntRange(1, 4).Draw(rt, "seconds")) * time.Second
		}
		plan, err := NewPlan("pre-install", all, PlanOptions{Parallelism: parallelism})
		if err != nil {
			rt.Fatal(err)
		}
		slots := map[string]int{}
		var want time.Duration
		for _, tier := range plan.Tiers {
			for _, stage := range tier.Stages {
				want += listScheduling(stage, parallelism, durations)
				for _, step := range stage.Steps {
					slots[step.Hook.Path] = step.Slots
				}
			}
		}

		cluster := &slottedCluster{fakeCluster: fakeCluster{durations: durations}, slots: slots}
		var took time.Duration
		var runErr error
		synctest.Test(t, func(t *testing.T) {
			runner := Runner{Cluster: cluster}
			start := time.Now()
			_, runErr = runner.Run(t.Context(), plan)
			took = time.Since(start)
		})
		if runErr != nil {
			rt.Fatal(runErr)
		}
		if took != want {
			rt.Errorf("makespan: got %v, want %v\n%s", took, want, outline(plan))
		}
		if cluster.max > parallelism {
			rt.Errorf("%d slots taken of %d", cluster.max, parallelism)
		}
		if len(cluster.overlap) > 0 {
			rt.Errorf("ran beside itself: %v", cluster.overlap)
		}
		var barrier time.Time
		for _, tier := range plan.Tiers {
			for _, stage := range tier.Stages {
				last := barrier
				for _, step := range stage.Steps {
					if start := cluster.starts[step.Hook.Path]; start.Before(barrier) {
						rt.Errorf("%s of weight %d started before all before it had ended", step.Hook, tier.Weight)
					}
					if end := cluster.ends[step.Hook.Path]; end.After(last) {
						last = end
					}
				}
				barrier = last
			}
		}
	})
}

// slottedCluster counts the slots that hooks hold, by path.
type slottedCluster struct {
	fakeCluster
	slots     map[string]int
	held, max int
}

func (c *slottedCluster) Create(ctx context.Context, h *Hook) (Execution, error) {
	execution, err := c.fakeCluster.Create(ctx, h)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held += c.slots[h.Path]
	c.max = max(c.max, c.held)
	return slottedExecution{c, execution, h}, err
}

type slottedExecution struct {
	cluster *slottedCluster
	Execution
	hook *Hook
}

func (e slottedExecution) Wait(ctx context.Context) error {
	err := e.Execution.Wait(ctx)
	e.cluster.mu.Lock()
	defer e.cluster.mu.Unlock()
	e.cluster.held -= e.cluster.slots[e.hook.Path]
	return err
}

// TestFailureAndStopInvariants draws failures, slow deletions and a moment to stop:
// nothing is created after the first failure or the stop, the stop is told once and
// truly, no two calls are about one object at once, and each hook has one result.
func TestFailureAndStopInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := drawHooks(rt)
		durations, failures := map[string]time.Duration{}, map[string]error{}
		for i, h := range all {
			h.Path = fmt.Sprint(i)
			h.DeletePolicies = rapid.SampledFrom([][]DeletePolicy{nil, {DeleteSucceeded}, {DeleteBeforeCreation, DeleteSucceeded, DeleteFailed}}).Draw(rt, "policies")
			durations[h.Name] = time.Duration(rapid.IntRange(1, 4).Draw(rt, "seconds")) * time.Second
			if rapid.IntRange(0, 9).Draw(rt, "fate") == 0 {
				failures[h.Name] = errors.New("no")
			}
		}
		plan, err := NewPlan("pre-install", all, PlanOptions{Parallelism: rapid.IntRange(2, 5).Draw(rt, "N")})
		if err != nil {
			rt.Fatal(err)
		}
		cluster := &exclusiveCluster{fakeCluster: fakeCluster{
			durations: durations, failures: failures,
			deleteTakes: time.Duration(rapid.IntRange(0, 3).Draw(rt, "deletion")) * 500 * time.Millisecond,
		}}
		// Off the grid of the other times, so that what came first is clear.
		stopAt := time.Duration(rapid.IntRange(0, 40).Draw(rt, "stop"))*time.Second/2 + time.Millisecond
		var told haltObserver
		var results []Result
		synctest.Test(t, func(t *testing.T) {
			stop := make(chan struct{})
			timer := time.AfterFunc(stopAt, func() { close(stop) })
			defer timer.Stop()
			told.stopAt = time.Now().Add(stopAt)
			runner := Runner{Cluster: cluster, Observer: &told, Stop: stop}
			results, err = runner.Run(t.Context(), plan)
		})
		for _, problem := range append(told.problems, cluster.problems...) {
			rt.Error(problem)
		}
		succeeded := 0
		for i, h := range plan.Hooks() {
			if results[i].Hook != h {
				rt.Fatalf("result %d is of %s, want %s", i, results[i].Hook, h)
			}
			if results[i].Phase == Succeeded {
				succeeded++
			}
		}
		if (err == nil) != (succeeded == len(results) && told.stops == 0) {
			rt.Errorf("error %v with %d of %d succeeded and %d stops", err, succeeded, len(results), told.stops)
		}
	})
}

// haltObserver finds hooks that start after the run should have halted.
type haltObserver struct {
	stopAt   time.Time
	failedAt time.Time
	running  map[*Hook]bool
	stops    int
	problems []string
}

func (o *haltObserver) Observe(n Notice) {
	if o.running == nil {
		o.running = map[*Hook]bool{}
	}
	switch n := n.(type) {
	case HookStarted:
		o.running[n.Hook] = true
		if n.At.After(o.stopAt) || !o.failedAt.IsZero() && n.At.After(o.failedAt) {
			o.problems = append(o.problems, fmt.Sprintf("%s started at %v after stop at %v or failure at %v", n.Hook, n.At, o.stopAt, o.failedAt))
		}
	case HookEnded:
		delete(o.running, n.Result.Hook)
		if n.Result.Phase == Failed && o.failedAt.IsZero() {
			o.failedAt = time.Now()
		}
	case Stopping:
		o.stops++
		for h := range o.running {
			if !slices.Contains(n.Running, h) {
				o.problems = append(o.problems, fmt.Sprintf("%s runs and is not told to be waited for", h))
			}
		}
		if o.stops > 1 {
			o.problems = append(o.problems, "the stop was told twice")
		}
	}
}

// exclusiveCluster finds calls that are about one object at once.
type exclusiveCluster struct {
	fakeCluster
	busy     map[string]bool
	problems []string
}

func (c *exclusiveCluster) Delete(ctx context.Context, h *Hook) error {
	id := h.identities()[0]
	c.mu.Lock()
	if c.busy == nil {
		c.busy = map[string]bool{}
	}
	if c.busy[id] {
		c.problems = append(c.problems, fmt.Sprintf("two deletions of %s at once", h))
	}
	c.busy[id] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy[id] = false
	}()
	return c.fakeCluster.Delete(ctx, h)
}
