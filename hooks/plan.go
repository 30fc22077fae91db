package hooks

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// AnnotationPrefix begins the name of every annotation by which a chart's author
// has a say in how hooks run in parallel. Plain Helm ignores them all.
const AnnotationPrefix = "parallel-hooks/"

// SlotsAnnotation says how many slots a hook takes: an integer of at least 1, or
// "all" for a hook that runs alone in its tier. More than there are counts as
// all.
const SlotsAnnotation = AnnotationPrefix + "slots"

// InstallOrder is Helm's order of kinds (helm.sh/helm/v3/pkg/releaseutil,
// kind_sorter.go). Kinds that aren't in it come last, by name.
var InstallOrder = []string{
	"PriorityClass",
	"Namespace",
	"NetworkPolicy",
	"ResourceQuota",
	"LimitRange",
	"PodSecurityPolicy",
	"PodDisruptionBudget",
	"ServiceAccount",
	"Secret",
	"SecretList",
	"ConfigMap",
	"StorageClass",
	"PersistentVolume",
	"PersistentVolumeClaim",
	"CustomResourceDefinition",
	"ClusterRole",
	"ClusterRoleList",
	"ClusterRoleBinding",
	"ClusterRoleBindingList",
	"Role",
	"RoleList",
	"RoleBinding",
	"RoleBindingList",
	"Service",
	"DaemonSet",
	"Pod",
	"ReplicationController",
	"ReplicaSet",
	"Deployment",
	"HorizontalPodAutoscaler",
	"StatefulSet",
	"Job",
	"CronJob",
	"IngressClass",
	"Ingress",
	"APIService",
}

// Plan says which hooks of an event run when. It's plain data: to be printed,
// compared and run.
type Plan struct {
	Event Event
	// Parallelism is how many slots each tier has; 1 is Helm's own way, one
	// hook after another.
	Parallelism int
	// Tiers run one after another.
	Tiers []Tier
}

// Tier is the hooks of one weight.
type Tier struct {
	Weight int
	// Stages run one after another.
	Stages []Stage
}

// Stage is a batch of hooks of a tier which may run at once.
type Stage struct {
	// Kind is the kind of the stage's setup hooks. It's empty for the stage
	// of Jobs and Pods, and for the only stage of a serial tier.
	Kind string
	// Steps start in this order, as far as slots are free.
	Steps []Step
}

// Step is one hook of a stage.
type Step struct {
	Hook *Hook
	// Slots is how many of the tier's slots the hook takes, 1 to
	// [Plan.Parallelism].
	Slots int
	// After are the steps of the same stage, by index, that must have ended
	// before this one starts.
	After []int
}

// Serial reports whether the plan runs one hook after another in Helm's order.
func (p *Plan) Serial() bool { return p.Parallelism <= 1 }

// Len returns the number of hooks in the plan.
func (p *Plan) Len() int {
	n := 0
	for range p.steps() {
		n++
	}
	return n
}

// Hooks returns the plan's hooks in plan order.
func (p *Plan) Hooks() []*Hook {
	var all []*Hook
	for step := range p.steps() {
		all = append(all, step.Hook)
	}
	return all
}

func (p *Plan) steps() func(yield func(*Step) bool) {
	return func(yield func(*Step) bool) {
		for t := range p.Tiers {
			for s := range p.Tiers[t].Stages {
				steps := p.Tiers[t].Stages[s].Steps
				for i := range steps {
					if !yield(&steps[i]) {
						return
					}
				}
			}
		}
	}
}

// NewPlan returns the plan of those of the hooks that name the event, with
// parallelism slots per tier; 1 or less gives Helm's serial order.
//
// all must be in the order of the release record, which is by kind: it decides
// between hooks of equal weight and name, as in Helm (pkg/action/hooks.go,
// execHook). A hook that names the event twice is planned twice, as in Helm.
//
// The error names each hook with an annotation that can't be followed; nothing
// of a plan with such a hook should run. A serial plan heeds no annotation, as
// plain Helm doesn't.
func NewPlan(event Event, all []*Hook, parallelism int) (*Plan, error) {
	plan := &Plan{Event: event, Parallelism: max(1, parallelism)}

	var selected []*Hook
	for _, h := range all {
		for _, e := range h.Events {
			if e == event {
				selected = append(selected, h)
			}
		}
	}
	slices.SortStableFunc(selected, func(a, b *Hook) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), strings.Compare(a.Name, b.Name))
	})

	slots := make(map[*Hook]int, len(selected))
	var bad annotationErrors
	for _, h := range selected {
		if plan.Serial() {
			slots[h] = 1
			continue
		}
		n, err := slotsOf(h, plan.Parallelism)
		if err != nil {
			bad = append(bad, err)
		}
		slots[h] = n
	}
	if len(bad) > 0 {
		return nil, bad
	}

	for len(selected) > 0 {
		weight := selected[0].Weight
		n := slices.IndexFunc(selected, func(h *Hook) bool { return h.Weight != weight })
		if n < 0 {
			n = len(selected)
		}
		plan.Tiers = append(plan.Tiers, newTier(selected[:n], slots, plan.Serial()))
		selected = selected[n:]
	}
	return plan, nil
}

// newTier plans the hooks of one weight, given by name.
func newTier(selected []*Hook, slots map[*Hook]int, serial bool) Tier {
	tier := Tier{Weight: selected[0].Weight}
	if serial {
		tier.Stages = []Stage{newStage("", selected, slots)}
		return tier
	}

	setup := map[string][]*Hook{}
	var work []*Hook
	for _, h := range selected {
		if h.RunsToCompletion() {
			work = append(work, h)
		} else {
			setup[h.Kind] = append(setup[h.Kind], h)
		}
	}
	kinds := make([]string, 0, len(setup))
	for kind := range setup {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, compareKinds)
	for _, kind := range kinds {
		tier.Stages = append(tier.Stages, newStage(kind, setup[kind], slots))
	}
	if len(work) > 0 {
		tier.Stages = append(tier.Stages, newStage("", work, slots))
	}
	return tier
}

func newStage(kind string, selected []*Hook, slots map[*Hook]int) Stage {
	stage := Stage{Kind: kind, Steps: make([]Step, len(selected))}
	last := map[string]int{}
	for i, h := range selected {
		step := Step{Hook: h, Slots: slots[h]}
		for _, id := range h.identities() {
			// A List may hold an object twice, and doesn't wait for itself.
			if before, ok := last[id]; ok && before != i && !slices.Contains(step.After, before) {
				step.After = append(step.After, before)
			}
			last[id] = i
		}
		stage.Steps[i] = step
	}
	return stage
}

var kindRank = func() map[string]int {
	rank := make(map[string]int, len(InstallOrder))
	for i, kind := range InstallOrder {
		rank[kind] = i
	}
	return rank
}()

func compareKinds(a, b string) int {
	rankA, knownA := kindRank[a]
	rankB, knownB := kindRank[b]
	switch {
	case knownA && knownB:
		return cmp.Compare(rankA, rankB)
	case knownA:
		return -1
	case knownB:
		return 1
	default:
		return strings.Compare(a, b)
	}
}

// AnnotationError says that an annotation of a hook can't be followed.
type AnnotationError struct {
	Hook       *Hook
	Annotation string
	Value      string
	// Problem says what would be valid.
	Problem string
}

func (e *AnnotationError) Error() string {
	return fmt.Sprintf("hook %s (%s): annotation %s: %q: %s", e.Hook, e.Hook.Path, e.Annotation, e.Value, e.Problem)
}

type annotationErrors []error

func (e annotationErrors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "; ")
}

func (e annotationErrors) Unwrap() []error { return e }

// slotsOf reads the hook's annotations. Those under our prefix that aren't known
// are refused, lest a misspelt one be lost silently; of several the first by name,
// so that the error is the same each time.
func slotsOf(h *Hook, parallelism int) (int, error) {
	slots := 1
	var bad *AnnotationError
	for key, content := range h.annotations() {
		if !strings.HasPrefix(key, AnnotationPrefix) || bad != nil && key > bad.Annotation {
			continue
		}
		value, _ := content.(string) // Helm takes nothing else
		n, err := strconv.Atoi(value)
		switch {
		case key != SlotsAnnotation:
			bad = &AnnotationError{h, key, value, "unknown annotation; known is " + SlotsAnnotation}
		case value == "all":
			slots = parallelism
		case err != nil || n < 1:
			bad = &AnnotationError{h, key, value, `must be an integer of at least 1, or "all"`}
		default:
			slots = min(n, parallelism)
		}
	}
	if bad != nil {
		return 0, bad
	}
	return slots, nil
}
