package hooks

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

func TestNewPlanRefusesAnnotations(t *testing.T) {
	const (
		slots   = `must be an integer of at least 1, or "all"`
		timeout = `must be a duration above zero, such as "90s" or "1h30m"`
		failure = `must be "abort" or "ignore"`
		known   = `known: parallel-hooks/slots, parallel-hooks/after, parallel-hooks/timeout, parallel-hooks/failure`
		names   = `must be names of hooks, separated by commas`
		others  = `; must be other hooks of the same event, of the same weight or a lower one`
		nobody  = `no hook of the release is called "gone"; must be names of hooks, or Kind/name, separated by commas`
	)
	for _, test := range []struct{ key, value, want string }{
		{SlotsAnnotation, "0", slots},
		{SlotsAnnotation, "-1", slots},
		{SlotsAnnotation, "1.5", slots},
		{SlotsAnnotation, "", slots},
		{SlotsAnnotation, "All", slots},
		{TimeoutAnnotation, "0s", timeout},
		{TimeoutAnnotation, "-5m", timeout},
		{TimeoutAnnotation, "90", timeout},
		{TimeoutAnnotation, "", timeout},
		{FailureAnnotation, "", failure},
		{FailureAnnotation, "Ignore", failure},
		{AfterAnnotation, "", names},
		{AfterAnnotation, "good,", names},
		{AfterAnnotation, "gone", nobody},
		{AfterAnnotation, "good, gone", nobody},
		{AfterAnnotation, "Pod/good", `no hook of the release is called "Pod/good"; must be names of hooks, or Kind/name, separated by commas`},
		{AfterAnnotation, "bad", "names the hook itself" + others},
		{AfterAnnotation, "Job/bad", "names the hook itself" + others},
		{AfterAnnotation, "Good", `no hook of the release is called "Good"; did you mean Job/good? must be names of hooks, or Kind/name, separated by commas`},
		{AfterAnnotation, "job/good", `no hook of the release is called "job/good"; did you mean Job/good? must be names of hooks, or Kind/name, separated by commas`},
		{AfterAnnotation, "schema", `no hook of the release is called "schema"; did you mean Job/shop-schema? must be names of hooks, or Kind/name, separated by commas`},
		{AfterAnnotation, "elsewhere", "Job/elsewhere is a hook of other events" + others},
		{AfterAnnotation, "late", "Job/late has weight 1, which comes after weight 0" + others},
		{AfterAnnotation, "round", "goes round in a circle: Job/bad after Job/round after Job/bad"},
		{"parallel-hooks/slot", "1", "unknown annotation; did you mean parallel-hooks/slots? " + known},
		{"parallel-hooks/Timeout", "1s", "unknown annotation; did you mean parallel-hooks/timeout? " + known},
		{"parallel-hooks/colour", "1", "unknown annotation; " + known},
		{"parallel-hooks/", "1", "unknown annotation; " + known},
		{MaxParallelAnnotation, "1", "is an annotation of a chart, in its Chart.yaml; a hook may have parallel-hooks/slots, parallel-hooks/after, parallel-hooks/timeout, parallel-hooks/failure"},
	} {
		all := []*Hook{
			newHook("Job", "good", 0), newHook("Job", "bad", 0, test.key, test.value),
			newHook("Job", "round", 0, AfterAnnotation, "bad"), newHook("Job", "late", 1), newHook("Job", "shop-schema", 0),
			newHook("Job", "elsewhere", 0),
		}
		all[5].Events = []Event{"post-install"}
		plan, err := NewPlan("pre-install", all, PlanOptions{Parallelism: 2})
		want := fmt.Sprintf("hook Job/bad (chart/templates/bad.yaml): annotation %s: %q: %s", test.key, test.value, test.want)
		var refused *AnnotationError
		if plan != nil || !errors.As(err, &refused) || err.Error() != want {
			t.Errorf("NewPlan with %s=%q: got %v, %v, want error %q", test.key, test.value, plan, err, want)
		}
		if plan, err := NewPlan("pre-install", all, PlanOptions{Parallelism: 1}); err != nil || plan.Len() != len(all)-1 {
			t.Errorf("NewPlan of a serial plan with %s=%q: got %v, want Helm's order", test.key, test.value, err)
		}
	}
	bad := newHook("Job", "bad", 0)
	bad.Objects[0].Object["metadata"].(map[string]any)["annotations"] = map[string]any{SlotsAnnotation: int64(4)}
	if _, err := NewPlan("pre-install", []*Hook{bad}, PlanOptions{Parallelism: 2}); err == nil || !strings.HasSuffix(err.Error(), `annotation parallel-hooks/slots: "4": is no string; put the value in quotes`) {
		t.Errorf("NewPlan with a number for a string: got %v", err)
	}
	// All are named, in the same order each time, whatever that of a map.
	for range 20 {
		_, err := NewPlan("pre-install", []*Hook{newHook("Job", "bad", 0, SlotsAnnotation, "0", "parallel-hooks/a", "1", "parallel-hooks/b", "1")}, PlanOptions{Parallelism: 2})
		var named []string
		var all interface{ Unwrap() []error }
		if errors.As(err, &all) {
			for _, one := range all.Unwrap() {
				named = append(named, one.(*AnnotationError).Annotation)
			}
		}
		if want := []string{"parallel-hooks/a", "parallel-hooks/b", SlotsAnnotation}; !slices.Equal(named, want) {
			t.Fatalf("NewPlan with several bad annotations: got %q, want %q", named, want)
		}
	}
}

func TestNewPlanFollowsAnnotations(t *testing.T) {
	timed := func(all map[string]time.Duration) func(*Hook) (time.Duration, bool) {
		return func(h *Hook) (time.Duration, bool) { took, ok := all[h.Name]; return took, ok }
	}
	inChart := func(chart string, h *Hook) *Hook {
		h.Path = chart + "/templates/" + h.Name + ".yaml"
		return h
	}
	upgraded, onUpgrades := newHook("Job", "first", 0), newHook("Job", "a", 0, AfterAnnotation, "first")
	upgraded.Events, onUpgrades.Events = []Event{"pre-upgrade"}, []Event{"pre-install", "pre-upgrade"}
	leftOut := newHook("Job", "out", 0)
	leftOut.Events = nil
	for name, test := range map[string]struct {
		hooks   []*Hook
		options PlanOptions
		want    string
	}{
		"after": {
			[]*Hook{newHook("Job", "a", 0, AfterAnnotation, "c"), newHook("Job", "b", 0), newHook("Job", "c", 0)},
			PlanOptions{}, "0 -: Job/b Job/c Job/a>1\n",
		},
		"after several, by kind and name": {
			[]*Hook{newHook("Job", "a", 0, AfterAnnotation, " Pod/b ,c"), newHook("Job", "b", 0), newHook("Job", "c", 0), newHook("Pod", "b", 0)},
			PlanOptions{}, "0 -: Job/b Pod/b Job/c Job/a>1>2\n",
		},
		"after all of a name": {
			[]*Hook{newHook("Job", "a", 0, AfterAnnotation, "b"), newHook("Job", "b", 0), newHook("Pod", "b", 0), newHook("ConfigMap", "b", 0)},
			PlanOptions{}, "0 ConfigMap: ConfigMap/b\n0 -: Job/b Pod/b Job/a>0>1\n",
		},
		"after a lower weight": {
			[]*Hook{newHook("Job", "a", 1, AfterAnnotation, "b"), newHook("Job", "b", 0)},
			PlanOptions{}, "0 -: Job/b\n1 -: Job/a\n",
		},
		"after a hook of another event": {
			[]*Hook{onUpgrades, upgraded},
			PlanOptions{}, "0 -: Job/a\n",
		},
		"after a hook that's left out": {
			[]*Hook{newHook("Job", "a", 0, AfterAnnotation, "out"), leftOut},
			PlanOptions{}, "0 -: Job/a\n",
		},
		"setup after work": {
			[]*Hook{newHook("ConfigMap", "a", 0), newHook("ConfigMap", "b", 0, AfterAnnotation, "c"), newHook("Job", "c", 0)},
			PlanOptions{}, "0 ConfigMap: ConfigMap/a\n0 -: Job/c ConfigMap/b>0\n",
		},
		"setup after setup that comes later": {
			[]*Hook{newHook("Secret", "a", 0, AfterAnnotation, "b"), newHook("ConfigMap", "b", 0), newHook("Secret", "c", 0)},
			PlanOptions{}, "0 Secret: Secret/c\n0 ConfigMap: ConfigMap/b Secret/a>0\n",
		},
		"after, against the order of one object": {
			[]*Hook{newHook("Job", "a", 0, AfterAnnotation, "b"), newHook("Job", "b", 0), {
				Name: "a2", Kind: "Job", Events: []Event{"pre-install"}, Objects: newHook("Job", "a", 0).Objects,
			}},
			PlanOptions{}, "0 -: Job/a2 Job/b Job/a>1\n",
		},
		"longest first": {
			jobs(0, "a", "b", "c", "d"),
			PlanOptions{Duration: timed(map[string]time.Duration{"a": 1, "b": 3, "c": 2, "d": 3})}, "0 -: Job/b Job/d Job/c Job/a\n",
		},
		"longest first, what's not known before all": {
			jobs(0, "a", "b", "c", "d"),
			PlanOptions{Duration: timed(map[string]time.Duration{"a": 1, "c": math.MaxInt64})}, "0 -: Job/b Job/c Job/d Job/a\n",
		},
		"longest first, not across weights and stages": {
			[]*Hook{newHook("Job", "a", 0), newHook("ConfigMap", "b", 0), newHook("Job", "c", 1)},
			PlanOptions{Duration: timed(map[string]time.Duration{"a": 2, "b": 1, "c": 3})}, "0 ConfigMap: ConfigMap/b\n0 -: Job/a\n1 -: Job/c\n",
		},
		"longest first, with those after it": {
			[]*Hook{newHook("Job", "a", 0), newHook("Job", "b", 0), newHook("Job", "c", 0, AfterAnnotation, "b")},
			PlanOptions{Duration: timed(map[string]time.Duration{"a": 5, "b": 1, "c": 5})}, "0 -: Job/b Job/a Job/c>0\n",
		},
		"one of a chart at a time": {
			[]*Hook{inChart("shop/charts/db", newHook("Job", "a", 0)), inChart("shop/charts/db", newHook("Job", "c", 0)), inChart("shop", newHook("Job", "b", 0)), inChart("shop/charts/db2", newHook("Job", "d", 0))},
			PlanOptions{Limits: []Limit{{[]string{"shop/charts/db"}, 1}}}, "0 -: Job/a Job/b Job/c>0 Job/d\n",
		},
		"one of a chart at a time, longest first": {
			[]*Hook{inChart("shop/charts/db", newHook("Job", "a", 0)), inChart("shop/charts/db", newHook("Job", "c", 0)), inChart("shop", newHook("Job", "b", 0))},
			PlanOptions{Limits: []Limit{{[]string{"shop/charts/db"}, 1}}, Duration: timed(map[string]time.Duration{"a": 1, "b": 2, "c": 3})},
			"0 -: Job/a Job/c>0 Job/b\n",
		},
		"one of a chart at a time, after against their names": {
			[]*Hook{inChart("shop", newHook("Job", "a", 0, AfterAnnotation, "b")), inChart("shop", newHook("Job", "b", 0)), inChart("shop/charts/db", newHook("Job", "c", 0))},
			PlanOptions{Limits: []Limit{{[]string{"shop"}, 1}}}, "0 -: Job/b Job/a>0 Job/c>1\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Parallelism = 4
			plan, err := NewPlan("pre-install", test.hooks, test.options)
			if err != nil {
				t.Fatal(err)
			}
			if got := outline(plan); got != test.want {
				t.Errorf("NewPlan:\ngot:\n%swant:\n%s", got, test.want)
			}
		})
	}
}

func TestLimitsOf(t *testing.T) {
	const (
		known     = "known: parallel-hooks/max-parallel, parallel-hooks/subchart-max-parallel"
		integer   = "must be an integer of at least 1"
		subcharts = `must be names of subcharts with integers of at least 1, such as "db=1, cache/backup=2"`
	)
	const chart = "shop/charts/db"
	for _, test := range []struct {
		key, value string
		want       []Limit
		problem    string
	}{
		{"artifacthub.io/license", "MIT", nil, ""},
		{MaxParallelAnnotation, "3", []Limit{{[]string{chart}, 3}}, ""},
		{MaxParallelAnnotation, "0", nil, integer},
		{MaxParallelAnnotation, "all", nil, integer},
		{SubchartMaxParallelAnnotation, "a=1, b/c =2", []Limit{{[]string{chart + "/charts/a"}, 1}, {[]string{chart + "/charts/b/charts/c"}, 2}}, ""},
		{SubchartMaxParallelAnnotation, "a+b/c=1", []Limit{{[]string{chart + "/charts/a", chart + "/charts/b/charts/c"}, 1}}, ""},
		{SubchartMaxParallelAnnotation, "a+=1", nil, subcharts},
		{SubchartMaxParallelAnnotation, "", nil, subcharts},
		{SubchartMaxParallelAnnotation, "a=1,", nil, subcharts},
		{SubchartMaxParallelAnnotation, "=1", nil, subcharts},
		{SubchartMaxParallelAnnotation, "a//b=1", nil, subcharts},
		{SubchartMaxParallelAnnotation, "a=0", nil, subcharts},
		{SubchartMaxParallelAnnotation, "a", nil, subcharts},
		{"parallel-hooks/max-paralel", "1", nil, "unknown annotation; did you mean parallel-hooks/max-parallel? " + known},
		{"parallel-hooks/colour", "1", nil, "unknown annotation; " + known},
		{SlotsAnnotation, "1", nil, "is an annotation of a hook; a chart may have parallel-hooks/max-parallel, parallel-hooks/subchart-max-parallel"},
	} {
		limits, err := LimitsOf(chart, map[string]string{test.key: test.value})
		if test.problem == "" {
			if err != nil || !reflect.DeepEqual(limits, test.want) {
				t.Errorf("LimitsOf %s=%q: got %v, %v, want %v", test.key, test.value, limits, err, test.want)
			}
			continue
		}
		var refused *AnnotationError
		if want := fmt.Sprintf("chart %s (Chart.yaml): annotation %s: %q: %s", chart, test.key, test.value, test.problem); !errors.As(err, &refused) || err.Error() != want {
			t.Errorf("LimitsOf %s=%q: got %v, %v, want %q", test.key, test.value, limits, err, want)
		}
	}
}

func TestSubchartLimits(t *testing.T) {
	limits := []Limit{{[]string{"shop"}, 4}, {[]string{"shop/charts/db"}, 1}, {[]string{"shop/charts/a/charts/b"}, 2}, {[]string{"shop2/charts/c"}, 3}, {[]string{"shop/charts/db"}, 1}}
	text := SubchartLimits("shop", limits)
	if want := "a/b=2, db=1"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	read, err := LimitsOf("shop", map[string]string{SubchartMaxParallelAnnotation: text})
	if want := []Limit{{[]string{"shop/charts/a/charts/b"}, 2}, {[]string{"shop/charts/db"}, 1}}; err != nil || !reflect.DeepEqual(read, want) {
		t.Errorf("read again: got %v, %v, want %v", read, err, want)
	}
	if text := SubchartLimits("shop", limits[:1]); text != "" {
		t.Errorf("of a chart without subcharts: got %q", text)
	}
}

// TestSchemaOfAnnotations: the published JSON schema takes what is followed, and nothing
// else. It differs where nobody goes: it takes numbers of up to nine digits, which every
// platform does, and doesn't see that a duration is longer than 292 years or shorter than
// a nanosecond.
func TestSchemaOfAnnotations(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	const file = "../docs/annotations.schema.json"
	for of, values := range map[string]map[string][]string{
		"hook": {
			SlotsAnnotation:                 {"1", "007", "+2", "all", "999999999", "+0000000000999999999", "99999999999999999999", "0", "-1", "", "1.5", "All", " 1", "00"},
			AfterAnnotation:                 {"a", "a,b", " a , Job/b", "", ",", "a,", "a, ,b", " "},
			TimeoutAnnotation:               {"1s", "1h30m", "1.5h", ".5m", "100ms", "1.s", "+1s", "0s", "0h0m", "-1s", "90", "", "1d", "1 s", "s", "."},
			FailureAnnotation:               {"abort", "ignore", "", "Ignore", "retry"},
			MaxParallelAnnotation:           {"1"},
			AnnotationPrefix + "slot":       {"1"},
			AnnotationPrefix:                {"1"},
			"helm.sh/hook":                  {"pre-install"},
			"x" + AnnotationPrefix + "slot": {"1"},
		},
		"chart": {
			MaxParallelAnnotation:         {"1", "12", "999999999", "99999999999999999999", "0", "", "all", "-1", "1.0"},
			SubchartMaxParallelAnnotation: {"a=1", "a=1,b=2", " a/b = 1 , c=2 ", "", "a", "a=", "=1", "a=0", "a//b=1", "/a=1", "a b=1", "a=1,", "a=1=2", "a=999999999", "a=99999999999999999999", "a=1,b=99999999999999999999"},
			SlotsAnnotation:               {"1"},
			"artifacthub.io/license":      {"MIT"},
		},
	} {
		schema, err := compiler.Compile(file + "#/$defs/" + of)
		if err != nil {
			t.Fatal(err)
		}
		for key, all := range values {
			for _, value := range all {
				var followed error
				if of == "chart" {
					_, followed = LimitsOf("shop", map[string]string{key: value})
				} else if _, bad := directivesOf(newHook("Job", "a", 0, key, value), 4); len(bad) > 0 {
					followed = bad[0]
				}
				if err := schema.Validate(map[string]any{key: value}); (err == nil) != (followed == nil) {
					t.Errorf("%s: %s=%q: the schema says %v, the planner %v", of, key, value, err, followed)
				}
			}
		}
	}
}

// TestAnnotationsHold draws charts with all annotations, and failures, and runs them in
// virtual time: a run always ends, no chart has more hooks running than it may, a hook
// starts when those that it needs have ended well and not else, and only a failure that
// isn't ignored is one of the event.
func TestAnnotationsHold(t *testing.T) {
	charts := []string{"shop", "shop/charts/a", "shop/charts/a/charts/b", "shop/charts/c", "shop/charts/ab"}
	rapid.Check(t, func(rt *rapid.T) {
		var all []*Hook
		durations, failures := map[string]time.Duration{}, map[string]error{}
		needs := map[*Hook][]*Hook{}
		for i := range rapid.IntRange(1, 14).Draw(rt, "hooks") {
			name := fmt.Sprintf("h%02d", rapid.IntRange(0, 99).Draw(rt, "name")*100+i)
			annotations := []string{}
			h := newHook(rapid.SampledFrom([]string{"Job", "Job", "Job", "Pod", "ConfigMap", "Secret"}).Draw(rt, "kind"), name, rapid.IntRange(0, 1).Draw(rt, "weight"))
			var after []string
			for _, other := range all {
				if other.Weight == h.Weight && rapid.IntRange(0, 4).Draw(rt, "after") == 0 {
					after = append(after, rapid.SampledFrom([]string{other.Name, other.String()}).Draw(rt, "called"))
					needs[h] = append(needs[h], other)
				}
			}
			if len(after) > 0 {
				annotations = append(annotations, AfterAnnotation, strings.Join(after, ", "))
			}
			if slots := rapid.SampledFrom([]string{"", "", "2", "all"}).Draw(rt, "slots"); slots != "" {
				annotations = append(annotations, SlotsAnnotation, slots)
			}
			annotations = append(annotations, FailureAnnotation, rapid.SampledFrom([]string{"abort", "ignore"}).Draw(rt, "failure"))
			timeout := time.Hour
			if rapid.IntRange(0, 5).Draw(rt, "timed") == 0 {
				timeout = 2500 * time.Millisecond
				annotations = append(annotations, TimeoutAnnotation, timeout.String())
			}
			annotated := newHook(h.Kind, name, h.Weight, annotations...)
			h.Objects = annotated.Objects
			h.Path = fmt.Sprintf("%s/templates/%s.yaml", rapid.SampledFrom(charts).Draw(rt, "chart"), name)
			all = append(all, h)
			durations[name] = time.Duration(rapid.IntRange(0, 4).Draw(rt, "seconds")) * time.Second
			if rapid.IntRange(0, 7).Draw(rt, "fate") == 0 || durations[name] > timeout {
				failures[name] = errors.New("no")
			}
		}
		options := PlanOptions{Parallelism: rapid.IntRange(2, 5).Draw(rt, "N"), Limits: drawLimits(rt, charts)}
		if rapid.Bool().Draw(rt, "longest first") {
			options.Duration = func(h *Hook) (time.Duration, bool) { return durations[h.Name], len(h.Name)%2 == 0 }
		}
		keepGoing := rapid.Bool().Draw(rt, "keep going")
		plan, err := NewPlan("pre-install", all, options)
		if err != nil {
			rt.Fatal(err)
		}

		var results []Result
		var runErr error
		synctest.Test(t, func(t *testing.T) {
			runner := Runner{Cluster: &fakeCluster{durations: durations, failures: failures}, KeepGoing: keepGoing, Timeout: time.Hour}
			results, runErr = runner.Run(t.Context(), plan)
		})

		of := map[*Hook]Result{}
		for _, r := range results {
			of[r.Hook] = r
		}
		endedWell := func(h *Hook) bool { return of[h].Phase == Succeeded || of[h].Ignored }
		failedTier := math.MaxInt
		for _, h := range all {
			r := of[h]
			ignores := h.Objects[0].GetAnnotations()[FailureAnnotation] == "ignore"
			if r.Phase != "" && (r.Phase == Failed) != (failures[h.Name] != nil) || r.Ignored != (r.Phase == Failed && ignores) {
				rt.Errorf("%s: phase %q, ignored %t", h, r.Phase, r.Ignored)
			}
			if r.Phase == Failed && !r.Ignored {
				failedTier = min(failedTier, h.Weight)
			}
			for _, other := range needs[h] {
				if r.Phase != "" && (!endedWell(other) || r.StartedAt.Before(of[other].CompletedAt)) {
					rt.Errorf("%s started at %v, and %s had not ended well", h, r.StartedAt, other)
				}
			}
		}
		for _, h := range all {
			wanted := !slices.ContainsFunc(needs[h], func(other *Hook) bool { return !endedWell(other) })
			switch {
			case h.Weight > failedTier && of[h].Phase != "":
				rt.Errorf("%s started although its event had failed at weight %d", h, failedTier)
			case h.Weight < failedTier && of[h].Phase == "", h.Weight == failedTier && keepGoing && wanted && of[h].Phase == "":
				rt.Errorf("%s was never started", h)
			}
		}
		if (runErr == nil) != (failedTier == math.MaxInt) {
			rt.Errorf("the event's error is %v, and a failure that isn't ignored is of weight %d", runErr, failedTier)
		}
		for _, limit := range options.Limits {
			counts := func(h *Hook) bool {
				for _, chart := range limit.Charts {
					if strings.HasPrefix(h.Path, chart+"/") {
						return true
					}
				}
				return false
			}
			for _, r := range results {
				n := 0
				for _, other := range results {
					if counts(other.Hook) && !other.StartedAt.After(r.StartedAt) && other.CompletedAt.After(r.StartedAt) {
						n++
					}
				}
				if r.Phase != "" && n > limit.MaxParallel {
					rt.Errorf("%d hooks of %s run at %v, want at most %d", n, limit.Charts, r.StartedAt, limit.MaxParallel)
				}
			}
		}
	})
}

// TestIgnoredFailures: whatever makes a hook fail is ignored, and what policies say of failed and succeeded hooks is done.
func TestIgnoredFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ignored := func(name string, policies ...DeletePolicy) *Hook {
			h := newHook("Job", name, 0, FailureAnnotation, "ignore")
			h.DeletePolicies = policies
			return h
		}
		well := newHook("Job", "well", 1)
		well.DeletePolicies = []DeletePolicy{DeleteSucceeded}
		kept := ignored("kept", DeleteSucceeded)
		cluster := &fakeCluster{
			failures:  map[string]error{"ends": errors.New("no"), "kept": errors.New("no")},
			createErr: map[string]error{"refused": errors.New("no")},
			deleteErr: map[string]error{"stays": errors.New("no")},
		}
		plan := mustPlan(t, []*Hook{ignored("ends", DeleteFailed), kept, ignored("refused", DeleteFailed), ignored("stays", DeleteBeforeCreation), well}, 2)
		results, err := (&Runner{Cluster: cluster}).Run(t.Context(), plan)
		if err != nil {
			t.Errorf("the event failed: %v", err)
		}
		if got, want := phases(results), "ends=Failed kept=Failed refused=Failed stays=Failed well=Succeeded"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for _, r := range results {
			if r.Ignored != (r.Phase == Failed) {
				t.Errorf("%s is %s, ignored: %t", r.Hook, r.Phase, r.Ignored)
			}
		}
		var deleted []string
		for _, call := range cluster.log {
			if name, ok := strings.CutPrefix(call, "delete "); ok {
				deleted = append(deleted, name)
			}
		}
		if want := []string{"stays", "ends", "well"}; !slices.Equal(deleted, want) {
			t.Errorf("deleted %v, want the old object, then what the policies say: %v", deleted, want)
		}
	})
}

// TestInterruptionIsNotIgnored: a hook that is left running has not failed.
func TestInterruptionIsNotIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		cluster := &fakeCluster{durations: map[string]time.Duration{"a": time.Minute}}
		results, err := (&Runner{Cluster: cluster}).Run(ctx, mustPlan(t, []*Hook{newHook("Job", "a", 0, FailureAnnotation, "ignore"), newHook("Job", "b", 1)}, 2))
		var failed *RunError
		if !errors.As(err, &failed) || failed.Interrupted == nil || results[0].Phase != Unknown || results[0].Ignored || results[1].Phase != "" {
			t.Errorf("got %s, ignored %t, %v, want an interruption", phases(results), results[0].Ignored, err)
		}
	})
}

func TestLimitsMustAllowAHook(t *testing.T) {
	if _, err := NewPlan("pre-install", jobs(0, "a"), PlanOptions{Parallelism: 2, Limits: []Limit{{Charts: []string{"chart"}}}}); err == nil {
		t.Error("a limit of 0 is taken")
	}
}

// TestCircleIsRefused draws any relation, and asks a search in depth whether it's a plan's.
func TestCircleIsRefused(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 7).Draw(rt, "hooks")
		after := make([][]int, n)
		var all []*Hook
		for i := range n {
			var names []string
			for j := range n {
				if j != i && rapid.IntRange(0, 4).Draw(rt, "after") == 0 {
					after[i] = append(after[i], j)
					names = append(names, fmt.Sprint("h", j))
				}
			}
			h := newHook(rapid.SampledFrom([]string{"Job", "Secret"}).Draw(rt, "kind"), fmt.Sprint("h", i), 0)
			if len(names) > 0 {
				h.Objects[0].SetAnnotations(map[string]string{AfterAnnotation: strings.Join(names, ",")})
			}
			all = append(all, h)
		}
		var above []int
		var circular func(i int) bool
		circular = func(i int) bool {
			if slices.Contains(above, i) {
				return true
			}
			above = append(above, i)
			defer func() { above = above[:len(above)-1] }()
			return slices.ContainsFunc(after[i], circular)
		}
		want := false
		for i := range n {
			want = want || circular(i)
		}
		_, err := NewPlan("pre-install", all, PlanOptions{Parallelism: 2})
		if (err != nil) != want {
			rt.Fatalf("got error %v, want a circle: %t", err, want)
		}
		if err == nil {
			return
		}
		// The circle that it names is one.
		_, circle, _ := strings.Cut(err.Error(), "circle: ")
		names := strings.Split(circle, " after ")
		if len(names) < 3 || names[0] != names[len(names)-1] {
			rt.Fatalf("%v names no circle", err)
		}
		index := func(name string) int { return slices.IndexFunc(all, func(h *Hook) bool { return h.String() == name }) }
		for i := range names[1:] {
			if !slices.Contains(after[index(names[i])], index(names[i+1])) {
				rt.Fatalf("%v: %s is not after %s", err, names[i], names[i+1])
			}
		}
	})
}

// makespan returns how long a plan of one tier takes.
func makespan(t interface{ Fatal(...any) }, all []*Hook, took map[*Hook]time.Duration, n int, longestFirst bool) time.Duration {
	options := PlanOptions{Parallelism: n}
	if longestFirst {
		options.Duration = func(h *Hook) (time.Duration, bool) { return took[h], true }
	}
	plan, err := NewPlan("pre-install", all, options)
	if err != nil {
		t.Fatal(err)
	}
	var end time.Duration
	for _, f := range plan.Forecast(func(h *Hook) time.Duration { return took[h] }) {
		end = max(end, f.End)
	}
	return end
}

// optimum returns the shortest time in which n machines do what takes this long, by trying
// all ways to spread it.
func optimum(took []time.Duration, n int) time.Duration {
	best := time.Duration(math.MaxInt64)
	load := make([]time.Duration, n)
	var spread func(i int)
	spread = func(i int) {
		if longest := slices.Max(load); longest >= best {
			return
		}
		if i == len(took) {
			best = slices.Max(load)
			return
		}
		for m := range load {
			load[m] += took[i]
			spread(i + 1)
			load[m] -= took[i]
			if load[m] == 0 {
				return // the other empty ones are alike
			}
		}
	}
	spread(0)
	return best
}

// TestLongestFirstAgainstTheOptimum: no order takes longer than 2-1/N times the optimum
// (R. L. Graham, Bounds for Certain Multiprocessing Anomalies, 1966), and longest first
// not longer than 4/3-1/3N times (the same, Bounds on Multiprocessing Timing Anomalies,
// 1969).
func TestLongestFirstAgainstTheOptimum(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 4).Draw(rt, "N")
		all := jobs(0, strings.Split("abcdefghi", "")[:rapid.IntRange(1, 9).Draw(rt, "hooks")]...)
		took := map[*Hook]time.Duration{}
		var list []time.Duration
		for _, h := range all {
			took[h] = time.Duration(rapid.IntRange(1, 12).Draw(rt, "seconds")) * time.Second
			list = append(list, took[h])
		}
		best := optimum(list, n)
		byName, longest := makespan(rt, all, took, n, false), makespan(rt, all, took, n, true)
		if byName < best || longest < best {
			rt.Fatalf("by name %v, longest first %v: less than the optimum of %v", byName, longest, best)
		}
		if int64(byName)*int64(n) > int64(best)*int64(2*n-1) {
			rt.Errorf("by name %v, more than 2-1/%d times %v", byName, n, best)
		}
		if int64(longest)*int64(3*n) > int64(best)*int64(4*n-1) {
			rt.Errorf("longest first %v, more than 4/3-1/%d times %v", longest, 3*n, best)
		}
	})
}

// TestAnyOrderIsWithinTheBound: also with hooks that come after others, in either order.
func TestAnyOrderIsWithinTheBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(rt, "N")
		all := jobs(0, strings.Split("abcdefghijklmnopqrst", "")[:rapid.IntRange(1, 20).Draw(rt, "hooks")]...)
		took, path := map[*Hook]time.Duration{}, map[*Hook]time.Duration{}
		var sum, critical time.Duration
		for i, h := range all {
			took[h] = time.Duration(rapid.IntRange(1, 12).Draw(rt, "seconds")) * time.Second
			path[h] = took[h]
			var after []string
			for _, other := range all[:i] {
				if rapid.IntRange(0, 6).Draw(rt, "after") == 0 {
					after = append(after, other.Name)
					path[h] = max(path[h], took[h]+path[other])
				}
			}
			if len(after) > 0 {
				h.Objects[0].SetAnnotations(map[string]string{AfterAnnotation: strings.Join(after, ",")})
			}
			sum += took[h]
			critical = max(critical, path[h])
		}
		// What the proof shows: of the time in which a slot is free, a longest path runs.
		bound := int64(sum) + int64(n-1)*int64(critical)
		for _, longestFirst := range []bool{false, true} {
			if took := makespan(rt, all, took, n, longestFirst); int64(took)*int64(n) > bound {
				rt.Errorf("longest first %t: %v is more than the bound of %v", longestFirst, took, time.Duration(bound/int64(n)))
			}
		}
	})
}

// TestLongestFirstSaves is the case for which longest first is there: one hook of 10 s
// whose name comes after those of twenty hooks of 1 s, four at once.
func TestLongestFirstSaves(t *testing.T) {
	all := jobs(0, strings.Split("abcdefghijklmnopqrstu", "")...)
	took := map[*Hook]time.Duration{}
	for _, h := range all {
		took[h] = time.Second
	}
	took[all[20]] = 10 * time.Second
	byName, longest := makespan(t, all, took, 4, false), makespan(t, all, took, 4, true)
	if byName != 15*time.Second || longest != 10*time.Second {
		t.Errorf("by name %v, longest first %v, want 15s and 10s, which is the optimum", byName, longest)
	}
}
