// Package scenario is test support: it draws hooks, a cluster of package apimodel and
// moments of cancellation from a seed, has the engine run the hooks there, and judges
// by the model's history whether the engine has kept its promises.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/apimodel"
)

const (
	namespace = "ns"
	event     = hooks.Event("pre-install")
)

// Class is how well the cluster does.
type Class string

// The classes of scenarios.
const (
	Faultless Class = "faultless"
	Heals     Class = "heals"   // faults end while there is time left
	Forever   Class = "forever" // faults don't end
)

// Scenario is what is run where, drawn from its seed.
type Scenario struct {
	Seed        uint64
	Class       Class
	Hooks       []*hooks.Hook
	Parallelism int
	KeepGoing   bool
	Timeout     time.Duration
	FollowPods  bool
	FollowAfter time.Duration
	// Retrier says that requests are made again as by the plugin; else as by a
	// client of its own.
	Retrier bool
	// Limits are those of the hooks' charts.
	Limits []hooks.Limit
	// StopAt and CancelAt are when the run is told to stop and to leave; 0: it isn't.
	StopAt, CancelAt time.Duration

	model apimodel.Config
	// fates are those of the hooks' objects, by their markers, and old those of
	// objects of an earlier run with the same names.
	fates, old map[string]apimodel.Fate
	// asked is what annotations of hooks say, but for slots.
	asked map[*hooks.Hook]asked
}

// asked is what annotations of a hook say.
type asked struct {
	after   []*hooks.Hook
	timeout time.Duration // 0: nothing
	ignore  bool
}

// Seeds returns the seeds to run, which the environment may set: MODEL_RUNS of them from
// MODEL_SEED on; without MODEL_RUNS that one alone, and without both the given number
// from 1 on.
func Seeds(t *testing.T, count uint64) []uint64 {
	t.Helper()
	first := uint64(1)
	number := func(name string, value *uint64) bool {
		text, set := os.LookupEnv(name)
		if !set {
			return false
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		*value = n
		return true
	}
	if number("MODEL_SEED", &first) {
		count = 1
	}
	number("MODEL_RUNS", &count)
	seeds := make([]uint64, count)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	return seeds
}

// Single reports whether one seed was asked for, so that all may be told of it.
func Single() bool { return os.Getenv("MODEL_SEED") != "" && os.Getenv("MODEL_RUNS") == "" }

func marker(h *hooks.Hook) string { return h.Objects[0].GetAnnotations()[apimodel.HookAnnotation] }

func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// upTo draws a duration, as likely of each order of magnitude.
func upTo(r *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), r.Float64()))
}

// Draw returns the scenario of a seed.
func Draw(seed uint64) *Scenario {
	r := apimodel.Rand(seed, "scenario")
	s := &Scenario{
		Seed:        seed,
		Class:       oneOf(r, Faultless, Heals, Heals, Heals, Forever),
		Parallelism: 1 + r.IntN(8),
		KeepGoing:   chance(r, 15),
		FollowPods:  chance(r, 25),
		FollowAfter: oneOf(r, 0, 5*time.Second),
		Retrier:     chance(r, 60),
		Timeout:     10 * time.Minute,
		fates:       map[string]apimodel.Fate{},
		old:         map[string]apimodel.Fate{},
		asked:       map[*hooks.Hook]asked{},
	}
	good := chance(r, 50) // no hook fails
	if s.Class == Forever || !good && chance(r, 30) {
		s.Timeout = apimodel.Between(r, 20*time.Second, 5*time.Minute)
	}
	s.drawHooks(r, good)
	if directions := apimodel.Rand(seed, "directions"); chance(directions, 50) {
		s.drawDirections(directions, good)
	}
	total := time.Duration(0)
	for _, fate := range s.fates {
		total += max(0, fate.Runs) + 2*time.Second
	}
	span := total/time.Duration(s.Parallelism) + 10*time.Second
	if chance(r, 30) {
		s.StopAt = apimodel.Between(r, time.Millisecond, span)
	}
	if chance(r, 20) {
		s.CancelAt = apimodel.Between(r, time.Millisecond, span)
	}
	s.drawModel(r, span)
	return s
}

func (s *Scenario) drawHooks(r *rand.Rand, good bool) {
	weights := 1 + r.IntN(4)
	for i := range 1 + r.IntN(30) {
		kind := oneOf(r, "Job", "Job", "Job", "Job", "Job", "Pod", "ConfigMap", "ServiceAccount", "Secret", "Role", "ClusterRole", "NetworkPolicy")
		name := fmt.Sprintf("%c%d", 'a'+r.IntN(26), i)
		again := i > 0 && chance(r, 7)
		if again { // one that's the same object as an earlier one
			before := s.Hooks[r.IntN(i)]
			kind, name = before.Kind, before.Name
		}
		annotations := map[string]any{apimodel.HookAnnotation: fmt.Sprint(i)}
		if chance(r, 10) {
			annotations[hooks.SlotsAnnotation] = oneOf(r, "2", "3", "all")
		}
		apiVersion := map[string]string{
			"Job": "batch/v1", "Role": "rbac.authorization.k8s.io/v1",
			"ClusterRole": "rbac.authorization.k8s.io/v1", "NetworkPolicy": "networking.k8s.io/v1",
		}[kind]
		if apiVersion == "" {
			apiVersion = "v1"
		}
		h := &hooks.Hook{
			Name: name, Kind: kind, Namespace: namespace, Path: fmt.Sprintf("chart/templates/%d.yaml", i),
			Weight: r.IntN(weights), Events: []hooks.Event{event},
			Objects: []*unstructured.Unstructured{{Object: map[string]any{
				"apiVersion": apiVersion, "kind": kind,
				"metadata": map[string]any{"name": name, "annotations": annotations},
			}}},
		}
		for _, policy := range []hooks.DeletePolicy{hooks.DeleteBeforeCreation, hooks.DeleteSucceeded, hooks.DeleteFailed} {
			if chance(r, 45) {
				h.DeletePolicies = append(h.DeletePolicies, policy)
			}
		}
		if again && good && !deletesBefore(h) {
			h.DeletePolicies = nil
		}
		s.Hooks = append(s.Hooks, h)

		fate := apimodel.Fate{Runs: upTo(r, 10*time.Millisecond, time.Minute), Expires: -1, Returned: chance(r, 50)}
		if kind == "Job" && chance(r, 20) {
			seconds := oneOf(r, 0, 0, r.Int64N(6))
			fate.Expires = time.Duration(seconds) * time.Second
			h.Objects[0].Object["spec"] = map[string]any{"ttlSecondsAfterFinished": seconds}
		}
		if chance(r, 5) {
			fate.DeletedAfter = apimodel.Between(r, 0, fate.Runs+time.Second) + 1
		}
		if chance(r, 20) {
			fate.Lingers = upTo(r, 10*time.Millisecond, 20*time.Second)
		}
		if !good && chance(r, 4) {
			switch r.IntN(4) {
			case 0:
				fate.Refused = oneOf(r, 403, 422)
			case 1, 2:
				fate.Fails = true
			case 3:
				fate.Runs, fate.DeletedAfter = -1, 0
			}
		}
		if !good && chance(r, 1) {
			fate.Lingers = -1
		}
		s.fates[marker(h)] = fate
		if !again && chance(r, 20) && (!good || deletesBefore(h)) {
			old := apimodel.Fate{Runs: oneOf(r, -1, time.Millisecond, 5*time.Second), Fails: chance(r, 50), Expires: -1, Returned: chance(r, 50)}
			if chance(r, 40) {
				old.Lingers = upTo(r, 10*time.Millisecond, 20*time.Second)
			}
			s.old[marker(h)] = old
		}
	}
}

// drawDirections draws what the hooks' annotations ask for, and the limits of charts.
func (s *Scenario) drawDirections(r *rand.Rand, good bool) {
	last := map[string]int{} // of the hooks of a weight that are called so
	key := func(h *hooks.Hook) string { return fmt.Sprint(h.Weight, " ", h) }
	for i, h := range s.Hooks {
		last[key(h)] = i
	}
	for i, h := range s.Hooks {
		h.Path = strings.Replace(h.Path, "chart/", "chart"+oneOf(r, "", "", "/charts/a", "/charts/b", "/charts/a/charts/c")+"/", 1)
		if s.Parallelism <= 1 && chance(r, 50) {
			continue // but a serial run may meet annotations, and takes no notice of them
		}
		var asks asked
		annotations := h.Objects[0].GetAnnotations()
		if chance(r, 20) && i > 0 {
			// Never one that comes later, so that there are no circles.
			if other := s.Hooks[r.IntN(i)]; other.Weight == h.Weight && last[key(other)] < i {
				annotations[hooks.AfterAnnotation] = oneOf(r, other.Name, other.String())
				asks.after = slices.DeleteFunc(slices.Clone(s.Hooks[:i]), func(before *hooks.Hook) bool { return key(before) != key(other) })
			}
		}
		if chance(r, 10) {
			asks.timeout = 20 * time.Minute
			if !good {
				asks.timeout = apimodel.Between(r, 20*time.Second, 5*time.Minute).Round(time.Second)
				if fate := s.fates[marker(h)]; chance(r, 30) && !fate.Fails {
					fate.Runs, fate.DeletedAfter = -1, 0
					s.fates[marker(h)] = fate
				}
			}
			annotations[hooks.TimeoutAnnotation] = asks.timeout.String()
		}
		if chance(r, 25) {
			asks.ignore = true
			annotations[hooks.FailureAnnotation] = "ignore"
		}
		h.Objects[0].SetAnnotations(annotations)
		if s.Parallelism > 1 {
			s.asked[h] = asks
		}
	}
	for range r.IntN(3) {
		charts := [][]string{{"chart"}, {"chart/charts/a"}, {"chart/charts/b"}, {"chart/charts/a/charts/c"}, {"chart/charts/a/charts/c", "chart/charts/b"}}
		s.Limits = append(s.Limits, hooks.Limit{Charts: oneOf(r, charts...), MaxParallel: 1 + r.IntN(3)})
	}
}

func (s *Scenario) drawModel(r *rand.Rand, span time.Duration) {
	s.model = apimodel.Config{
		Seed:    s.Seed,
		Fate:    func(_ apimodel.Key, hook string) apimodel.Fate { return s.fates[hook] },
		Latency: upTo(r, time.Millisecond, time.Second),
		Lag:     upTo(r, time.Millisecond, 2*time.Second),
		Skew:    oneOf(r, 0, 0, time.Hour, -time.Hour),
		// The engine then reads what it would have watched.
		ForbidWatch: chance(r, 10),
	}
	if s.Class == Faultless {
		return
	}
	faults := &s.model.Faults
	faults.Rate = oneOf(r, 0, 0.01, 0.05, 0.1, 0.2, 0.4)
	faults.WatchRate = oneOf(r, 0, 0.1, 0.3, 0.7)
	for _, kind := range append(apimodel.RequestFaults, apimodel.WatchFaults...) {
		if chance(r, 50) {
			faults.Kinds = append(faults.Kinds, kind)
		}
	}
	until := span
	if s.Class == Heals {
		until = apimodel.Between(r, 5*time.Second, 90*time.Second)
		faults.End = until
	}
	for range r.IntN(3) {
		from := apimodel.Between(r, 0, until)
		to := from + apimodel.Between(r, 100*time.Millisecond, 30*time.Second)
		faults.Outages = append(faults.Outages, apimodel.Outage{From: from, To: to})
	}
	if chance(r, 40) {
		faults.CompactEvery = apimodel.Between(r, time.Second, 20*time.Second)
	}
}

// String says what the scenario is, in a few lines.
func (s *Scenario) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "seed %d: %s, %d at once, timeout %v, keep going %v, follow pods %v, retrier %v, stop at %v, leave at %v\n",
		s.Seed, s.Class, s.Parallelism, s.Timeout, s.KeepGoing, s.FollowPods, s.Retrier, s.StopAt, s.CancelAt)
	fmt.Fprintf(&text, "limits %v, latency %v, lag %v, watch forbidden %v, faults %+v\n", s.Limits, s.model.Latency, s.model.Lag, s.model.ForbidWatch, s.model.Faults)
	for _, h := range s.Hooks {
		fmt.Fprintf(&text, "  %s: weight %d, %s, policies %v, fate %+v", marker(h), h.Weight, h, h.DeletePolicies, s.fates[marker(h)])
		if asks := s.asked[h]; len(asks.after) > 0 || asks.timeout > 0 || asks.ignore || len(s.Limits) > 0 {
			fmt.Fprintf(&text, ", %s, after %v, timeout %v, failure ignored %v", h.Path, asks.after, asks.timeout, asks.ignore)
		}
		if old, ok := s.old[marker(h)]; ok {
			fmt.Fprintf(&text, ", before %+v", old)
		}
		text.WriteString("\n")
	}
	return text.String()
}

// Run is a run of a scenario.
type Run struct {
	*Scenario
	Model *apimodel.Model
	Began time.Time
	// Results and Err are what the engine returned, at Returned.
	Results  []hooks.Result
	Err      error
	Returned time.Time
	// Excused counts what is not as promised and can't be.
	Excused map[string]int

	plan *hooks.Plan
	// stopped and left are when the run was told to; zero: before it returned it
	// wasn't.
	stopped, left time.Time

	mu     sync.Mutex
	warned map[*hooks.Hook][]string
	ended  map[*hooks.Hook]time.Time
}

// Start returns a run that has not begun. It belongs to the bubble of testing/synctest
// in which it's started.
func Start(t *testing.T, s *Scenario) *Run {
	t.Helper()
	plan, err := hooks.NewPlan(event, s.Hooks, hooks.PlanOptions{Parallelism: s.Parallelism, Limits: s.Limits})
	if err != nil {
		t.Fatal(err)
	}
	r := &Run{
		Scenario: s, Model: apimodel.New(s.model), Began: time.Now(), Excused: map[string]int{},
		plan: plan, warned: map[*hooks.Hook][]string{}, ended: map[*hooks.Hook]time.Time{},
	}
	for _, h := range s.Hooks {
		if fate, ok := s.old[marker(h)]; ok {
			manifest := h.Objects[0].DeepCopy()
			manifest.SetAnnotations(nil)
			if err := r.Model.Put(manifest.Object, namespace, fate); err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

// Observe implements [hooks.Observer].
func (r *Run) Observe(n hooks.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n := n.(type) {
	case hooks.HookWarned:
		r.warned[n.Hook] = append(r.warned[n.Hook], n.Message)
		r.Model.Note("    warning of %s: %s", n.Hook, n.Message)
	case hooks.HookStarted:
		r.Model.Note("    started %s", n.Hook)
	case hooks.HookEnded:
		r.ended[n.Result.Hook] = time.Now()
		r.Model.Note("    ended %s: %s (%v)", n.Result.Hook, n.Result.Phase, n.Result.Err)
	}
}

// errTooLong ends a run that doesn't return.
var errTooLong = errors.New("it has taken longer than it ever may")

// bound is the longest that a run may take.
func (r *Run) bound() time.Duration {
	// Each hook may wait for its old object to go, for its end, to be looked into
	// and for its deletion.
	bound := time.Duration(len(r.Hooks))*4*r.Timeout + 10*time.Minute
	for _, asks := range r.asked {
		bound += asks.timeout
	}
	return bound
}

// Do runs the hooks. An observer may be nil.
func (r *Run) Do(t *testing.T, observer hooks.Observer) {
	t.Helper()
	config := &rest.Config{Host: apimodel.Host, Transport: r.Model, QPS: -1}
	options := hooks.ClientOptions{Namespace: namespace, FieldManager: "test", Warn: func(message string) { r.Model.Note("    warning: %s", message) }}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	if r.Retrier {
		options.Retrier = hooks.NewRetrier()
		options.Retrier.Start(ctx, hooks.RetryOptions{Patience: r.Timeout, InternalErrors: 30 * time.Second, Warn: options.Warn})
		config.Wrap(options.Retrier.Wrap)
	}
	client, err := hooks.NewClient(config, apimodel.Mapper(), options)
	if err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(r.bound(), func() { cancel(errTooLong) })
	defer watchdog.Stop()
	stop := make(chan struct{})
	at := func(delay time.Duration, name string, noted *time.Time, do func()) {
		if delay == 0 {
			return
		}
		timer := time.AfterFunc(delay, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.Returned.IsZero() {
				*noted = time.Now()
				r.Model.Note("    %s", name)
				do()
			}
		})
		t.Cleanup(func() { timer.Stop() })
	}
	at(r.StopAt, "told to stop", &r.stopped, func() { close(stop) })
	at(r.CancelAt, "told to leave", &r.left, func() { cancel(errLeave) })

	runner := hooks.Runner{
		Cluster: client, Observer: hooks.Observers(observer, r), Timeout: r.Timeout, KeepGoing: r.KeepGoing,
		Stop: stop, FollowPods: r.FollowPods, FollowAfter: r.FollowAfter, LogTail: 10,
	}
	results, err := runner.Run(ctx, r.plan)
	r.mu.Lock()
	r.Results, r.Err, r.Returned = results, err, time.Now()
	r.mu.Unlock()
	r.Model.Note("    returned: %v", err)
	client.Close()
	r.Model.Note("    closed")
	// Nothing may be asked any more.
	<-time.After(time.Hour)
}

var errLeave = errors.New("told to leave")
