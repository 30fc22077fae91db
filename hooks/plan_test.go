package hooks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
)

// newHook returns a pre-install hook with one object.
func newHook(kind, name string, weight int, annotations ...string) *Hook {
	apiVersion := "v1"
	switch kind {
	case "Job":
		apiVersion = "batch/v1"
	case "CustomResourceDefinition":
		apiVersion = "apiextensions.k8s.io/v1"
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion,
		"kind":       kind,
		"metadata":   map[string]any{"name": name},
	}}
	if len(annotations) > 0 {
		set := map[string]string{}
		for i := 0; i < len(annotations); i += 2 {
			set[annotations[i]] = annotations[i+1]
		}
		object.SetAnnotations(set)
	}
	return &Hook{
		Name: name, Kind: kind, Namespace: "ns", Path: "chart/templates/" + name + ".yaml",
		Weight: weight, Events: []Event{"pre-install"}, Objects: []*unstructured.Unstructured{object},
	}
}

// outline writes a plan as text: a line per stage.
func outline(p *Plan) string {
	var out strings.Builder
	for _, tier := range p.Tiers {
		for _, stage := range tier.Stages {
			fmt.Fprintf(&out, "%d %s:", tier.Weight, cmp.Or(stage.Kind, "-"))
			for _, step := range stage.Steps {
				fmt.Fprintf(&out, " %s", step.Hook)
				if step.Slots != 1 {
					fmt.Fprintf(&out, "*%d", step.Slots)
				}
				for _, i := range step.After {
					fmt.Fprintf(&out, ">%d", i)
				}
			}
			out.WriteByte('\n')
		}
	}
	return out.String()
}

func TestNewPlan(t *testing.T) {
	admission := []*Hook{
		newHook("NetworkPolicy", "admission", 0),
		newHook("ServiceAccount", "admission", 0),
		newHook("ClusterRole", "admission", 0),
		newHook("ClusterRoleBinding", "admission", 0),
		newHook("Role", "admission", 0),
		newHook("RoleBinding", "admission", 0),
		newHook("Job", "admission-create", 0),
		newHook("Job", "admission-patch", 5),
	}
	listOfJobs := newHook("List", "", 0)
	listOfJobs.Objects = newHook("Job", "in-list", 0).Objects
	listOfTwins := newHook("List", "", 0)
	listOfTwins.Objects = slices.Concat(listOfJobs.Objects, listOfJobs.Objects)
	otherNamespace := newHook("ConfigMap", "one", 0)
	otherNamespace.Objects[0].SetNamespace("other")
	twoEvents := newHook("Job", "both", 0)
	twoEvents.Events = []Event{"pre-install", "pre-upgrade"}
	otherEvent := newHook("Job", "upgrade", 0)
	otherEvent.Events = []Event{"pre-upgrade"}

	for _, test := range []struct {
		name        string
		hooks       []*Hook
		parallelism int
		want        string
	}{
		{"no hooks", nil, 4, ""},
		{"setup before work", admission, 8, `0 NetworkPolicy: NetworkPolicy/admission
0 ServiceAccount: ServiceAccount/admission
0 ClusterRole: ClusterRole/admission
0 ClusterRoleBinding: ClusterRoleBinding/admission
0 Role: Role/admission
0 RoleBinding: RoleBinding/admission
0 -: Job/admission-create
5 -: Job/admission-patch
`},
		{"serial by name", admission, 1, `0 -: NetworkPolicy/admission ServiceAccount/admission ClusterRole/admission ClusterRoleBinding/admission Role/admission RoleBinding/admission Job/admission-create
5 -: Job/admission-patch
`},
		{"zero is serial", []*Hook{newHook("ConfigMap", "b", 0), newHook("Job", "a", 0)}, 0, "0 -: Job/a ConfigMap/b\n"},
		{"negative weights first", []*Hook{newHook("Job", "a", 1), newHook("Job", "b", -7), newHook("Job", "c", 0)}, 2, "-7 -: Job/b\n0 -: Job/c\n1 -: Job/a\n"},
		{"pods and jobs by name", []*Hook{newHook("Pod", "b", 0), newHook("Job", "a", 0), newHook("Job", "c", 0)}, 2, "0 -: Job/a Pod/b Job/c\n"},
		{"unknown kinds last", []*Hook{newHook("Zebra", "a", 0), newHook("Apple", "b", 0), newHook("CustomResourceDefinition", "c", 0), newHook("Job", "d", 0)}, 2,
			"0 CustomResourceDefinition: CustomResourceDefinition/c\n0 Apple: Apple/b\n0 Zebra: Zebra/a\n0 -: Job/d\n"},
		{"a list of jobs is work", []*Hook{listOfJobs, newHook("Secret", "s", 0)}, 2, "0 Secret: Secret/s\n0 -: List/\n"},
		{"same object twice in a list", []*Hook{listOfTwins}, 2, "0 -: List/\n"},
		{"same object in a chain", []*Hook{newHook("Job", "a", 0), newHook("Job", "b", 0), newHook("Job", "a", 0), newHook("Job", "a", 0)}, 4, "0 -: Job/a Job/a>0 Job/a>1 Job/b\n"},
		{"same name elsewhere", []*Hook{newHook("ConfigMap", "one", 0), otherNamespace}, 4, "0 ConfigMap: ConfigMap/one ConfigMap/one\n"},
		{"only the event's", []*Hook{twoEvents, otherEvent}, 4, "0 -: Job/both\n"},
		{"slots", []*Hook{newHook("Job", "a", 0, SlotsAnnotation, "3"), newHook("Job", "b", 0, SlotsAnnotation, "99"), newHook("Job", "c", 0, SlotsAnnotation, "all")}, 4, "0 -: Job/a*3 Job/b*4 Job/c*4\n"},
		{"serial heeds no annotation", []*Hook{newHook("Job", "a", 0, SlotsAnnotation, "none")}, 1, "0 -: Job/a\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan, err := NewPlan("pre-install", test.hooks, PlanOptions{Parallelism: test.parallelism})
			if err != nil {
				t.Fatal(err)
			}
			if got := outline(plan); got != test.want {
				t.Errorf("NewPlan:\ngot:\n%swant:\n%s", got, test.want)
			}
		})
	}
}

func compareKinds(a, b string) int { return stageKey{kind: a}.compare(stageKey{kind: b}) }

// drawHooks draws hooks in the order of a release record: stable by kind.
func drawHooks(t *rapid.T) []*Hook {
	kinds := []string{"Job", "Pod", "ConfigMap", "ServiceAccount", "CustomResourceDefinition", "Role", "Widget", "Aardvark"}
	all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *Hook {
		h := newHook(
			rapid.SampledFrom(kinds).Draw(t, "kind"),
			rapid.StringMatching(`[a-d]{1,2}`).Draw(t, "name"),
			rapid.IntRange(-2, 2).Draw(t, "weight"),
		)
		h.Events = rapid.SampledFrom([][]Event{{"pre-install"}, {"pre-install", "post-install"}, {"post-install"}}).Draw(t, "events")
		if rapid.Bool().Draw(t, "annotated") {
			h.Objects[0].SetAnnotations(map[string]string{SlotsAnnotation: rapid.SampledFrom([]string{"1", "2", "7", "all"}).Draw(t, "slots")})
		}
		return h
	}), 0, 30).Draw(t, "hooks")
	slices.SortStableFunc(all, func(a, b *Hook) int { return compareKinds(a.Kind, b.Kind) })
	return all
}

func TestPlanHoldsEachHookOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := drawHooks(t)
		plan, err := NewPlan("pre-install", all, PlanOptions{Parallelism: rapid.IntRange(0, 6).Draw(t, "parallelism")})
		if err != nil {
			t.Fatal(err)
		}
		want := map[*Hook]int{}
		for _, h := range all {
			if slices.Contains(h.Events, "pre-install") {
				want[h]++
			}
		}
		got := plan.Hooks()
		if len(got) != plan.Len() || len(got) != len(want) {
			t.Fatalf("plan holds %d hooks, Len is %d, want %d", len(got), plan.Len(), len(want))
		}
		for _, h := range got {
			if want[h] != 1 {
				t.Fatalf("hook %s: planned more than once or not asked for", h)
			}
			want[h]--
		}
	})
}

func TestPlanKeepsBarriersAndKinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parallelism := rapid.IntRange(2, 6).Draw(t, "parallelism")
		plan, err := NewPlan("pre-install", drawHooks(t), PlanOptions{Parallelism: parallelism})
		if err != nil {
			t.Fatal(err)
		}
		for i, tier := range plan.Tiers {
			if i > 0 && plan.Tiers[i-1].Weight >= tier.Weight {
				t.Fatalf("weight %d comes after %d", tier.Weight, plan.Tiers[i-1].Weight)
			}
			for j, stage := range tier.Stages {
				if work := stage.Kind == ""; work != (j == len(tier.Stages)-1 && stage.Steps[0].Hook.RunsToCompletion()) {
					t.Fatalf("tier %d: stage %d of %d has kind %q", tier.Weight, j, len(tier.Stages), stage.Kind)
				}
				if j > 0 && stage.Kind != "" && compareKinds(tier.Stages[j-1].Kind, stage.Kind) >= 0 {
					t.Fatalf("tier %d: %s comes after %s", tier.Weight, stage.Kind, tier.Stages[j-1].Kind)
				}
				for k, step := range stage.Steps {
					h := step.Hook
					if h.Weight != tier.Weight || stage.Kind == "" && !h.RunsToCompletion() || stage.Kind != "" && h.Kind != stage.Kind {
						t.Fatalf("tier %d, stage %q: holds %s of weight %d", tier.Weight, stage.Kind, h, h.Weight)
					}
					if step.Slots < 1 || step.Slots > parallelism {
						t.Fatalf("hook %s takes %d slots of %d", h, step.Slots, parallelism)
					}
					for before := range k {
						same := stage.Steps[before].Hook.identities()[0] == h.identities()[0]
						if same && !reaches(stage, k, before) {
							t.Fatalf("%s may run beside itself", h)
						}
					}
				}
			}
		}
	})
}

// reaches reports whether step from runs only after step to.
func reaches(stage Stage, from, to int) bool {
	return slices.ContainsFunc(stage.Steps[from].After, func(i int) bool { return i == to || reaches(stage, i, to) })
}
