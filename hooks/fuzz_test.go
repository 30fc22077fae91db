package hooks

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
)

// noise returns bytes to draw from, enough for the largest plan that is drawn.
func noise(seed byte) []byte {
	text := make([]byte, 4<<10)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(text)
	return text
}

// drawHostileHooks draws hooks as no sane chart has them: weights at the limits of
// integers, lists, objects that several hooks share, events that are named twice and
// annotations that can't be followed.
func drawHostileHooks(t *rapid.T) []*Hook {
	kinds := []string{"Job", "Pod", "ConfigMap", "ServiceAccount", "CustomResourceDefinition", "Widget", "Aardvark", "", "List"}
	name := rapid.SampledFrom([]string{"a", "b", "B", "", "\x00", "ä"})
	events := rapid.SampledFrom([][]Event{{"pre-install"}, {"post-install", "pre-install"}, {"pre-install", "test", "pre-install"}, {"test"}, {""}, {}})
	weight := rapid.SampledFrom([]int{0, 0, 0, 1, -1, math.MinInt, math.MaxInt})
	values := [][2]string{
		{SlotsAnnotation, "1"},
		{SlotsAnnotation, "2"},
		{SlotsAnnotation, "9223372036854775807"},
		{SlotsAnnotation, "all"},
		{TimeoutAnnotation, "1ns"},
		{FailureAnnotation, "ignore"},
		{AfterAnnotation, "a"},
		{AfterAnnotation, "b,Job/B"},
		{AfterAnnotation, "ä, Widget/,"},
		{"helm.sh/hook-weight", "1"},
	}
	if rapid.Bool().Draw(t, "misspelt") {
		values = [][2]string{{SlotsAnnotation, "0"}, {AnnotationPrefix + "slot", "1"}, {AnnotationPrefix, "1"}, {SlotsAnnotation, "2"}}
	}
	annotations := rapid.SliceOfN(rapid.SampledFrom(values), 0, 3)
	hook := rapid.Custom(func(t *rapid.T) *Hook {
		h := newHook(
			rapid.SampledFrom(kinds).Draw(t, "kind"),
			name.Draw(t, "name"),
			weight.Draw(t, "weight"),
		)
		h.Events = events.Draw(t, "events")
		h.Objects[0].SetNamespace(rapid.SampledFrom([]string{"", "ns", "other"}).Draw(t, "namespace"))
		if set := annotations.Draw(t, "annotations"); len(set) > 0 {
			all := map[string]string{}
			for _, a := range set {
				all[a[0]] = a[1]
			}
			h.Objects[0].SetAnnotations(all)
		}
		if h.Kind == "List" {
			h.Objects = nil
			for range rapid.IntRange(0, 3).Draw(t, "items") {
				h.Objects = append(h.Objects, newHook(rapid.SampledFrom(kinds).Draw(t, "kind"), name.Draw(t, "name"), 0).Objects...)
			}
		}
		return h
	})
	return rapid.SliceOfN(hook, 0, 24).Draw(t, "hooks")
}

func FuzzNewPlan(f *testing.F) {
	for seed := range byte(32) {
		f.Add(noise(seed))
	}
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		const event = "pre-install"
		all := drawHostileHooks(t)
		parallelism := rapid.SampledFrom([]int{math.MinInt, 0, 1, 2, 3, 7, math.MaxInt}).Draw(t, "parallelism")
		before := dump(t, all)
		plan, err := NewPlan(event, all, PlanOptions{Parallelism: parallelism})
		for range 4 {
			again, failed := NewPlan(event, all, PlanOptions{Parallelism: parallelism})
			if !reflect.DeepEqual(plan, again) || fmt.Sprint(err) != fmt.Sprint(failed) {
				t.Fatalf("planned a second time:\n%v, %v\nthe first time:\n%v, %v", again, failed, plan, err)
			}
		}
		if after := dump(t, all); after != before {
			t.Fatalf("planning has changed the hooks:\nfrom %s\nto   %s", before, after)
		}
		if refused := parallelism > 1 && slices.ContainsFunc(all, func(h *Hook) bool { return isRefused(h, event) }); refused && err == nil || !refused && err != nil && !strings.Contains(err.Error(), AfterAnnotation) {
			t.Fatalf("got error %v, but one is expected: %t", err, refused)
		}
		if err != nil {
			return
		}
		checkPlan(t, plan, all, max(1, parallelism))
		seconds := make(map[*Hook]time.Duration, len(all))
		for _, h := range all {
			seconds[h] = rapid.SampledFrom([]time.Duration{0, -time.Second, time.Nanosecond, time.Second, 3 * time.Second, time.Hour}).Draw(t, "took")
		}
		checkForecast(t, plan, seconds)
	}))
}

func dump(t *rapid.T, all []*Hook) string {
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// isRefused reports whether a hook of the event has an annotation of ours that can't
// be followed, among those that are drawn.
func isRefused(h *Hook, event Event) bool {
	if !slices.Contains(h.Events, event) || len(h.Objects) != 1 {
		return false
	}
	for key, value := range h.Objects[0].GetAnnotations() {
		if key == SlotsAnnotation && value == "0" || strings.HasPrefix(key, AnnotationPrefix) && !slices.Contains(hookAnnotations, key) {
			return true
		}
	}
	return false
}

// checkPlan checks what holds of every plan of the hooks.
func checkPlan(t *rapid.T, plan *Plan, all []*Hook, slots int) {
	var want []*Hook
	for _, h := range all {
		for _, event := range h.Events {
			if event == plan.Event {
				want = append(want, h)
			}
		}
	}
	slices.SortStableFunc(want, func(a, b *Hook) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Name, b.Name))
	})
	got := plan.Hooks()
	if plan.Serial() && !slices.Equal(got, want) {
		t.Fatalf("the serial order is %v, want %v", got, want)
	}
	times := map[*Hook]int{}
	for _, h := range want {
		times[h]++
	}
	for _, h := range got {
		times[h]--
	}
	for h, n := range times {
		if n != 0 {
			t.Fatalf("hook %s is planned too often or too seldom, by %d", h, -n)
		}
	}
	if plan.Parallelism != slots || plan.Len() != len(got) {
		t.Fatalf("plan has %d slots and %d hooks, want %d and %d", plan.Parallelism, plan.Len(), slots, len(got))
	}
	for i, tier := range plan.Tiers {
		if i > 0 && plan.Tiers[i-1].Weight >= tier.Weight {
			t.Fatalf("weight %d comes after %d", tier.Weight, plan.Tiers[i-1].Weight)
		}
		if len(tier.Stages) == 0 {
			t.Fatalf("weight %d has no stage", tier.Weight)
		}
		work := false
		for j, stage := range tier.Stages {
			if work || len(stage.Steps) == 0 || j > 0 && plan.Serial() {
				t.Fatalf("weight %d: stage %d comes after that of Jobs and Pods, or is empty, or one too many", tier.Weight, j)
			}
			for _, step := range stage.Steps {
				work = work || step.Hook.RunsToCompletion()
			}
			if j > 0 && stage.Kind != "" && compareKinds(tier.Stages[j-1].Kind, stage.Kind) >= 0 {
				t.Fatalf("weight %d: kind %q comes after %q", tier.Weight, stage.Kind, tier.Stages[j-1].Kind)
			}
			for k, step := range stage.Steps {
				checkStep(t, plan, tier, stage, k)
				if !plan.Serial() && step.Hook.RunsToCompletion() != work && len(step.Needs) == 0 {
					t.Fatalf("weight %d: stage %d mixes work and setup", tier.Weight, j)
				}
			}
		}
	}
}

func checkStep(t *rapid.T, plan *Plan, tier Tier, stage Stage, k int) {
	step := stage.Steps[k]
	h := step.Hook
	if h.Weight != tier.Weight {
		t.Fatalf("hook %s of weight %d is planned for %d", h, h.Weight, tier.Weight)
	}
	if step.Slots < 1 || step.Slots > plan.Parallelism {
		t.Fatalf("hook %s takes %d slots of %d", h, step.Slots, plan.Parallelism)
	}
	seen := map[int]bool{}
	for _, before := range step.After {
		// Earlier steps alone: so no cycle is possible.
		if before < 0 || before >= k || seen[before] {
			t.Fatalf("step %d of %d waits for %v", k, len(stage.Steps), step.After)
		}
		seen[before] = true
	}
	for before := range k {
		shared := slices.ContainsFunc(stage.Steps[before].Hook.identities(), func(id string) bool {
			return slices.Contains(h.identities(), id)
		})
		if shared && !reaches(stage, k, before) {
			t.Fatalf("hook %s may run beside %s, which is the same object", h, stage.Steps[before].Hook)
		}
	}
}

// checkForecast checks what holds of the forecast of every plan.
func checkForecast(t *rapid.T, plan *Plan, took map[*Hook]time.Duration) {
	duration := func(h *Hook) time.Duration { return took[h] }
	forecast := plan.Forecast(duration)
	if again := plan.Forecast(duration); !slices.Equal(forecast, again) {
		t.Fatalf("forecast a second time: %v, the first time %v", again, forecast)
	}
	if len(forecast) != plan.Len() {
		t.Fatalf("forecast of %d hooks, want %d", len(forecast), plan.Len())
	}
	rest := forecast
	var barrier, sum time.Duration
	for _, tier := range plan.Tiers {
		for _, stage := range tier.Stages {
			these := rest[:len(stage.Steps)]
			rest = rest[len(these):]
			end := barrier
			for i, f := range these {
				takes := max(0, took[f.Hook])
				sum += takes
				if f.Hook != stage.Steps[i].Hook || f.Start < barrier || f.End-f.Start != takes {
					t.Fatalf("hook %s runs from %v to %v, want %v from %v on", f.Hook, f.Start, f.End, takes, barrier)
				}
				for _, before := range stage.Steps[i].After {
					if these[before].End > f.Start {
						t.Fatalf("hook %s starts at %v, before %s has ended", f.Hook, f.Start, these[before].Hook)
					}
				}
				used := 0
				for j, other := range these {
					if other.Start <= f.Start && f.Start < other.End {
						if used += stage.Steps[j].Slots; used > plan.Parallelism || used < 0 {
							t.Fatalf("more than %d slots are taken at %v", plan.Parallelism, f.Start)
						}
					}
				}
				end = max(end, f.End)
			}
			barrier = end
		}
	}
	if barrier > sum || plan.Serial() && barrier != sum {
		t.Fatalf("all hooks take %v, one after another %v", barrier, sum)
	}
}

func FuzzSlots(f *testing.F) {
	for _, value := range []string{"1", "all", "0", "-1", "+2", "007", "1.5", " 1", "9223372036854775808", "１", "0x10", "1_000", ""} {
		f.Add(SlotsAnnotation, value, 4)
	}
	for _, value := range []string{"1s", "-1s", "1h1h", "-0s", "1h30m", ".5s", "1.s", "+1.5h2ms", "2562047h47m16s", "2562048h", "1", "abort", "ignore", "Abort", "a", "Job/a", "b", "Job/b, low", " b ,b", "Pod/b", "late", "a,a", ",", "\x00"} {
		for _, key := range hookAnnotations[1:] {
			f.Add(key, value, 2)
		}
	}
	f.Add("parallel-hooks/", "1", 1)
	f.Add("parallel-hooks/slots ", "1", 2)
	f.Add("helm.sh/hook", "pre-install\x00", 0)
	f.Fuzz(func(t *testing.T, key, value string, parallelism int) {
		h, b := newHook("Job", "a", 0, key, value), newHook("Job", "b", 0)
		plan, err := NewPlan("pre-install", []*Hook{newHook("Pod", "low", -1), h, b, newHook("Job", "late", 1)}, PlanOptions{Parallelism: parallelism})
		want := Step{Slots: 1}
		refused := false
		switch {
		case parallelism <= 1 || !strings.HasPrefix(key, AnnotationPrefix):
		case key == FailureAnnotation:
			want.IgnoreFailure = value == "ignore"
			refused = value != "ignore" && value != "abort"
		case key == AfterAnnotation:
			for _, name := range strings.Split(value, ",") {
				switch strings.TrimSpace(name) {
				case "b", "Job/b":
					want.Needs = []*Hook{b}
				case "low", "Pod/low": // has ended by then
				default:
					refused = true
				}
			}
		case key == TimeoutAnnotation:
			var certain bool
			if want.Timeout, certain = nanoseconds(value); !certain {
				return
			}
			refused = want.Timeout <= 0
		case key == SlotsAnnotation && value == "all":
			want.Slots = parallelism
		case key == SlotsAnnotation:
			n, ok := new(big.Int).SetString(value, 10)
			if refused = !ok || !n.IsInt64() || n.Sign() <= 0; !refused {
				want.Slots = min(int(n.Int64()), parallelism)
			}
		default:
			refused = true
		}
		switch {
		case refused:
			if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), h.Path) {
				t.Errorf("annotation %q: %q: got %v, want an error that names it and the hook", key, value, err)
			}
			return
		case err != nil:
			t.Errorf("annotation %q: %q: %v", key, value, err)
			return
		}
		for step := range plan.steps() {
			if step.Hook != h {
				continue
			}
			// The parser reckons a fraction in binary, and may be wrong by its last digits.
			if off := (step.Timeout - want.Timeout).Abs(); off > want.Timeout>>40+time.Duration(len(value)) {
				t.Errorf("annotation %q: %q is a timeout of %d ns, want %d", key, value, step.Timeout, want.Timeout)
			}
			if step.Slots != want.Slots || step.IgnoreFailure != want.IgnoreFailure || !slices.Equal(step.Needs, want.Needs) {
				t.Errorf("annotation %q: %q, %d at once: got %+v, want %+v", key, value, parallelism, step, want)
			}
		}
	})
}

var (
	durationText = regexp.MustCompile(`^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`)
	durationPart = regexp.MustCompile(`([0-9.]+)([^0-9.]+)`)
)

// nanoseconds reckons a duration exactly; it's 0 for what is none, or not above zero, or
// more than fits. It isn't certain of what is next to the least and the most.
func nanoseconds(value string) (took time.Duration, certain bool) {
	if !durationText.MatchString(value) || value[0] == '-' {
		return 0, true
	}
	units := map[string]int64{"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
	sum := new(big.Rat)
	for _, part := range durationPart.FindAllStringSubmatch(value, -1) {
		n, _ := new(big.Rat).SetString(part[1])
		sum.Add(sum, n.Mul(n, new(big.Rat).SetInt64(units[part[2]])))
	}
	whole := new(big.Int).Quo(sum.Num(), sum.Denom())
	slack := big.NewInt(int64(len(value)))
	switch most := big.NewInt(math.MaxInt64); {
	case sum.Sign() == 0:
		return 0, true
	case whole.Cmp(slack) < 0, new(big.Int).Sub(whole, most).CmpAbs(new(big.Int).Lsh(slack, 23)) < 0:
		return 0, false
	case whole.Cmp(most) > 0:
		return 0, true
	default:
		return time.Duration(whole.Int64()), true
	}
}

func FuzzParseObjects(f *testing.F) {
	for _, manifest := range []string{
		"apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: a\n  annotations:\n    parallel-hooks/slots: \"2\"\n",
		"apiVersion: v1\nkind: List\nmetadata: {name: l}\nitems:\n- {apiVersion: batch/v1, kind: Job, metadata: {name: a}}\n- {kind: ConfigMap}\n",
		"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List, items: [{kind: Pod}]}\n",
		"kind: ConfigMapList\napiVersion: v1\nitems:\n- metadata: {name: a}\n",
		"base: &base {name: a}\nmetadata:\n  <<: *base\nkind: Pod\n",
		"a: &a [*a]\n",
		"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
		"kind: Pod\nspec: {activeDeadlineSeconds: 9007199254740993, f: 1e3, big: 99999999999999999999, nan: .nan, inf: -.inf}\n",
		"kind: Pod\n---\nkind: Job\n",
		"{\"kind\":\"Pod\"}{\"kind\":\"Job\"}",
		"metadata: string\nkind: [x]\napiVersion: {}\nitems: []\n",
		"items: [1, null, x]\n", "items: null\nkind: List\n", "null", "[]", "- a", "\t", "? [a]\n: b\n", "1: a\ntrue: b\n", "a: 1\na: 2\n", "!!binary x", "%YAML 1.3\n---\n", "\xff", "\ufeffkind: Pod", "a: 2026-03-14T15:09:26Z\nb: 0o17\nc: 0x1F\nd: 1_000\ne: 190:20:30\n",
	} {
		f.Add(manifest)
	}
	f.Fuzz(func(t *testing.T, manifest string) {
		objects, err := ParseObjects(manifest)
		if err != nil {
			if len(objects) > 0 || strings.TrimSpace(err.Error()) == "" {
				t.Fatalf("got objects along with the error %v", err)
			}
			return
		}
		again, err := ParseObjects(manifest)
		if err != nil || !reflect.DeepEqual(objects, again) {
			t.Fatalf("parsed a second time: %v, %v, the first time: %v", again, err, objects)
		}
		for _, o := range objects {
			if o == nil {
				t.Fatal("an object is nil")
			}
			// Numbers are of the types that Kubernetes' own parsers make: a copy
			// of others panics, and those of a float lose digits.
			if copied := o.DeepCopy(); !reflect.DeepEqual(copied.Object, o.Object) {
				t.Fatalf("a copy differs: %v, want %v", copied, o)
			}
			checkRoundTrip(t, o)
		}
		h := &Hook{Name: "a", Kind: "b", Events: []Event{"test"}, Objects: objects}
		for parallelism := range 3 {
			plan, err := NewPlan("test", []*Hook{h, h}, PlanOptions{Parallelism: parallelism})
			if err == nil && (plan.Len() != 2 || len(plan.Forecast(func(*Hook) time.Duration { return 1 })) != 2) {
				t.Fatalf("the plan holds %d hooks, want 2", plan.Len())
			}
		}
		if h.Deletes(DeleteBeforeCreation) == slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool {
			return o.GetKind() == "CustomResourceDefinition" && o.GroupVersionKind().Group == "apiextensions.k8s.io"
		}) {
			t.Fatal("a CustomResourceDefinition is to be deleted, or something else isn't")
		}
	})
}

func TestParseObjectsAsHelmDoes(t *testing.T) {
	for manifest, want := range map[string]string{
		"kind: Job\nspec: {activeDeadlineSeconds: 9007199254740993, ratio: 1.0}": `[{"kind":"Job","spec":{"activeDeadlineSeconds":9007199254740993,"ratio":1}}]`,
		"kind: ConfigMapList\napiVersion: v1\nitems:\n- metadata: {name: a}":     `[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}]`,
		"kind: List\nitems:\n- {kind: List, items: [{kind: Pod}]}\n- kind: Job":  `[{"items":[{"kind":"Pod"}],"kind":"List"},{"kind":"Job"}]`,
		"kind: List\nitems: []":          `null`,
		"kind: Widget\nitems: {a: b}":    `[{"items":{"a":"b"},"kind":"Widget"}]`,
		"metadata: {name: without-kind}": `[{"metadata":{"name":"without-kind"}}]`,
	} {
		objects, err := ParseObjects(manifest)
		if err != nil {
			t.Errorf("%s: %v", manifest, err)
			continue
		}
		var contents []map[string]any
		for _, o := range objects {
			contents = append(contents, o.Object)
		}
		if got, err := json.Marshal(contents); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", manifest, got, err, want)
		}
	}
}

// checkRoundTrip checks that an object is sent to the server as it was parsed.
func checkRoundTrip(t *testing.T, o *unstructured.Unstructured) {
	sent, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatalf("can't be sent: %v", err)
	}
	read := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(sent))
	decoder.UseNumber()
	if err := decoder.Decode(&read); err != nil {
		t.Fatal(err)
	}
	if want := len(o.Object); len(read) != want {
		t.Fatalf("%d fields are sent, want %d", len(read), want)
	}
}
