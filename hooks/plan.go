package hooks

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
	// Limits bound the hooks of charts further.
	Limits []Limit
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
	// Kind is the kind of the stage's setup hooks, but for those that come later
	// than that by [AfterAnnotation]. It's empty for the stage of Jobs and Pods,
	// and for the only stage of a serial tier.
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
	// Needs are the hooks of the same tier that must have ended well before this
	// one starts, by [AfterAnnotation]. One whose failure is ignored has ended well.
	Needs []*Hook
	// Timeout bounds the waiting for the hook's end instead of [Runner.Timeout],
	// if it's above zero.
	Timeout time.Duration
	// IgnoreFailure says that the event doesn't fail if the hook does.
	IgnoreFailure bool
	// Limits are those that count the hook, by index of [Plan.Limits].
	Limits []int
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

// PlanOptions say how hooks are planned. The zero value gives Helm's serial plan.
type PlanOptions struct {
	// Parallelism is how many slots each tier has; 1 or less gives Helm's serial
	// order, which no other option changes.
	Parallelism int
	// Limits bound how many hooks of single charts run at once, see [LimitsOf].
	Limits []Limit
	// Duration returns how long a hook is expected to take, if that's known. Of the
	// hooks that may start, the one then starts first that takes longest together
	// with the longest of those after it; hooks that nothing is known of come before
	// those. Nil: in the order of their names.
	Duration func(*Hook) (time.Duration, bool)
}

// NewPlan returns the plan of those of the hooks that name the event.
//
// all must be in the order of the release record, which is by kind: it decides
// between hooks of equal weight and name, as in Helm (pkg/action/hooks.go,
// execHook). A hook that names the event twice is planned twice, as in Helm.
//
// The error joins an [*AnnotationError] for each annotation of a hook that can't be
// followed; nothing of a plan with such a hook should run. A serial plan heeds no
// annotation, as plain Helm doesn't.
func NewPlan(event Event, all []*Hook, options PlanOptions) (*Plan, error) {
	for _, limit := range options.Limits {
		if limit.MaxParallel < 1 {
			return nil, fmt.Errorf("the limit of charts %s is %d, and must be at least 1", strings.Join(limit.Charts, ", "), limit.MaxParallel)
		}
	}
	plan := &Plan{Event: event, Parallelism: max(1, options.Parallelism)}

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

	p := planner{plan: plan, all: all, duration: options.Duration, after: map[*Hook][]string{}}
	if !plan.Serial() {
		plan.Limits = slices.Clone(options.Limits)
	}
	steps := make([]Step, len(selected))
	for i, h := range selected {
		if i > 0 && h == selected[i-1] {
			steps[i] = steps[i-1]
		} else {
			steps[i] = p.step(h)
		}
	}
	for len(steps) > 0 {
		weight := steps[0].Hook.Weight
		n := slices.IndexFunc(steps, func(s Step) bool { return s.Hook.Weight != weight })
		if n < 0 {
			n = len(steps)
		}
		plan.Tiers = append(plan.Tiers, p.tier(steps[:n]))
		steps = steps[n:]
	}
	if len(p.bad) > 0 {
		return nil, p.bad
	}
	return plan, nil
}

// planner is one call of [NewPlan].
type planner struct {
	plan     *Plan
	all      []*Hook
	duration func(*Hook) (time.Duration, bool)
	// after is what the hooks' [AfterAnnotation] names, where there is one.
	after map[*Hook][]string
	// called are all, by index and what they're called; nil until somebody asks.
	called map[string][]int
	bad    annotationErrors
}

// step returns the step of a hook as its annotations ask for it.
func (p *planner) step(h *Hook) Step {
	if p.plan.Serial() {
		return Step{Hook: h, Slots: 1}
	}
	d, bad := directivesOf(h, p.plan.Parallelism)
	p.bad = append(p.bad, bad...)
	if d.after != nil {
		p.after[h] = d.after
	}
	step := Step{Hook: h, Slots: d.slots, Timeout: d.timeout, IgnoreFailure: d.ignoreFailure}
	for i, limit := range p.plan.Limits {
		if limit.Covers(h) {
			step.Limits = append(step.Limits, i)
		}
	}
	return step
}

// tier plans the steps of one weight, given by name.
func (p *planner) tier(steps []Step) Tier {
	type link struct {
		stage stageKey
		chain string
	}
	before := p.resolve(steps)
	after := make([][]int, len(steps)) // within a stage
	last := map[link]int{}
	keys := make([]stageKey, len(steps))
	stages := map[stageKey][]int{}
	for _, i := range p.order(steps, before) {
		keys[i] = p.stageOf(steps[i].Hook)
		for _, j := range before[i] {
			// Then it can't be set up together with those of its kind.
			if keys[j] != keys[i] && keys[j].compare(keys[i]) > 0 {
				keys[i] = keys[j]
			}
		}
		for _, j := range before[i] {
			if keys[j] == keys[i] {
				after[i] = append(after[i], j)
			}
		}
		for _, chain := range p.chains(steps[i]) {
			// A List may hold an object twice, and doesn't wait for itself.
			if j, ok := last[link{keys[i], chain}]; ok && j != i && !slices.Contains(after[i], j) {
				after[i] = append(after[i], j)
			}
			last[link{keys[i], chain}] = i
		}
		stages[keys[i]] = append(stages[keys[i]], i)
	}
	tier := Tier{Weight: steps[0].Hook.Weight}
	place := make([]int, len(steps))
	for _, key := range slices.SortedFunc(maps.Keys(stages), stageKey.compare) {
		tier.Stages = append(tier.Stages, Stage{Kind: key.kind, Steps: p.rank(steps, after, stages[key], place)})
	}
	return tier
}

// stageOf returns the stage of a hook that comes after none of another.
func (p *planner) stageOf(h *Hook) stageKey {
	switch {
	case p.plan.Serial():
		return stageKey{}
	case h.RunsToCompletion():
		return stageKey{work: true}
	default:
		return stageKey{kind: h.Kind}
	}
}

// chains name what lets steps run one after another alone: their objects, and charts that
// have one hook at a time.
func (p *planner) chains(step Step) []string {
	chains := step.Hook.identities()
	for _, limit := range step.Limits {
		if p.plan.Limits[limit].MaxParallel == 1 {
			chains = append(chains, strconv.Itoa(limit))
		}
	}
	return chains
}

// resolve has in Needs which steps [AfterAnnotation] names, and returns them by index.
func (p *planner) resolve(steps []Step) [][]int {
	before := make([][]int, len(steps))
	if len(p.after) == 0 {
		return before
	}
	called := index(steps, func(step Step) *Hook { return step.Hook })
	for i := range steps {
		step := &steps[i]
		for _, name := range p.after[step.Hook] {
			found := false
			for _, j := range called[name] {
				other := steps[j].Hook
				if other == step.Hook {
					continue
				}
				found = true
				if !slices.Contains(before[i], j) {
					before[i] = append(before[i], j)
				}
				if !slices.Contains(step.Needs, other) {
					step.Needs = append(step.Needs, other)
				}
			}
			if !found {
				p.refuse(step.Hook, p.missing(step.Hook, name))
			}
		}
	}
	return before
}

// index returns the places of hooks, ascending, by what they may be called: their names,
// and kinds and names.
func index[T any](all []T, hookOf func(T) *Hook) map[string][]int {
	called := make(map[string][]int, 2*len(all))
	for i, one := range all {
		h := hookOf(one)
		called[h.Name] = append(called[h.Name], i)
		called[h.String()] = append(called[h.String()], i)
	}
	return called
}

// validAfter says what [AfterAnnotation] may name.
const validAfter = "must be other hooks of the same event, of the same weight or a lower one"

// missing says why no hook of the tier is called name that another one is to come after;
// empty if it needs none, since the one that's called so is done by then or not of the
// event.
func (p *planner) missing(h *Hook, name string) string {
	if p.called == nil {
		p.called = index(p.all, func(h *Hook) *Hook { return h })
	}
	problem := ""
	for _, i := range p.called[name] {
		other := p.all[i]
		shared := func(event Event) bool { return slices.Contains(h.Events, event) }
		switch {
		case other == h:
			problem = "names the hook itself; " + validAfter
		case len(other.Events) > 0 && !slices.ContainsFunc(other.Events, shared):
			problem = fmt.Sprintf("%s is a hook of other events; %s", other, validAfter)
		case other.Weight < h.Weight || !slices.Contains(other.Events, p.plan.Event):
			return ""
		default:
			problem = fmt.Sprintf("%s has weight %d, which comes after weight %d; %s", other, other.Weight, h.Weight, validAfter)
		}
	}
	if problem != "" {
		return problem
	}
	problem = fmt.Sprintf("no hook of the release is called %q; ", name)
	for _, other := range p.all {
		// The name of the release is easily forgotten.
		if other != h && (strings.HasSuffix(other.Name, "-"+name) || strings.EqualFold(other.Name, name) || strings.EqualFold(other.String(), name)) {
			problem += fmt.Sprintf("did you mean %s? ", other)
			break
		}
	}
	return problem + "must be names of hooks, or Kind/name, separated by commas"
}

// refuse notes what's wrong with a hook's [AfterAnnotation].
func (p *planner) refuse(h *Hook, problem string) {
	if problem == "" {
		return
	}
	value, _ := h.annotations()[AfterAnnotation].(string)
	p.bad = append(p.bad, &AnnotationError{Hook: h, Annotation: AfterAnnotation, Value: value, Problem: problem})
}

// order returns the steps, by index, so that each comes behind those before it, else by
// name. It's nil if they go round in a circle.
func (p *planner) order(steps []Step, before [][]int) []int {
	queue := newQueue(before)
	order := make([]int, 0, len(steps))
	for len(queue.ready) > 0 {
		i := queue.take(0)
		order = append(order, i)
		queue.ended(i)
	}
	if len(order) == len(steps) {
		return order
	}

	// Whoever is left over waits for someone who is.
	left := func(i int) bool { return queue.missing[i] > 0 }
	at := slices.IndexFunc(queue.missing, func(n int) bool { return n > 0 })
	var path []int
	for !slices.Contains(path, at) {
		path = append(path, at)
		at = before[at][slices.IndexFunc(before[at], left)]
	}
	path = append(path[slices.Index(path, at):], at)
	names := make([]string, len(path))
	for i, at := range path {
		names[i] = steps[at].Hook.String()
	}
	p.refuse(steps[at].Hook, "goes round in a circle: "+strings.Join(names, " after "))
	return nil
}

// rank returns those steps of a tier that are members of a stage, which are given in an
// order that after allows, in the order in which they start. place is for its own use.
func (p *planner) rank(steps []Step, after [][]int, members, place []int) []Step {
	if p.duration != nil && !p.plan.Serial() {
		// Stable, so that what comes after others stays behind them.
		length := p.lengths(steps, after, members)
		slices.SortStableFunc(members, func(a, b int) int { return cmp.Compare(length[b], length[a]) })
	}
	for at, i := range members {
		place[i] = at
	}
	ranked := make([]Step, len(members))
	for at, i := range members {
		ranked[at] = steps[i]
		for _, j := range after[i] {
			ranked[at].After = append(ranked[at].After, place[j])
		}
		slices.Sort(ranked[at].After)
	}
	return ranked
}

// unknownLength is longer than all that's known.
const unknownLength time.Duration = math.MaxInt64

// lengths returns how long each member takes, together with the longest of those after it.
func (p *planner) lengths(steps []Step, after [][]int, members []int) map[int]time.Duration {
	rest := make(map[int]time.Duration, len(members)) // of those after it
	length := make(map[int]time.Duration, len(members))
	for _, i := range slices.Backward(members) {
		took, known := p.duration(steps[i].Hook)
		if took = max(0, took); !known || took > unknownLength-rest[i] {
			took = unknownLength - rest[i]
		}
		length[i] = took + rest[i]
		for _, j := range after[i] {
			rest[j] = max(rest[j], length[i])
		}
	}
	return length
}

var kindRank = func() map[string]int {
	rank := make(map[string]int, len(InstallOrder))
	for i, kind := range InstallOrder {
		rank[kind] = i
	}
	return rank
}()

// stageKey is what tells the stages of a tier apart: the kind of their setup hooks, or
// that they're the work.
type stageKey struct {
	work bool
	kind string
}

// compare orders the stages of a tier.
func (a stageKey) compare(b stageKey) int {
	rankA, knownA := kindRank[a.kind]
	rankB, knownB := kindRank[b.kind]
	switch {
	case a.work:
		return 1
	case b.work:
		return -1
	case knownA && knownB:
		return cmp.Compare(rankA, rankB)
	case knownA:
		return -1
	case knownB:
		return 1
	default:
		return strings.Compare(a.kind, b.kind)
	}
}
