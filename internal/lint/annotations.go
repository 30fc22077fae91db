package lint

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/report"
)

// parallelism is that of the plans that are made: the lowest for which annotations
// are read.
const parallelism = 2

// checkPlan has the engine say which annotations of the plugin it can't follow, and
// returns its plan; nil if there are such.
func (c *check) checkPlan(rel *release.Release, event hooks.Event, all []*hooks.Hook) *hooks.Plan {
	plan, err := hooks.NewPlan(event, all, hooks.PlanOptions{Parallelism: parallelism})
	c.addPlanError(rel, err, event)
	return plan
}

// checkOrder looks for hooks that are after one by annotation, and before it in Helm's
// order. tiers are the plan's, in that order.
func (c *check) checkOrder(event hooks.Event, plan *hooks.Plan, tiers []tier) {
	if plan == nil {
		return
	}
	place := map[*hooks.Hook]int{} // of those of one weight, which Needs alone names
	for _, t := range tiers {
		for i, h := range t.hooks {
			place[h] = i
		}
	}
	for _, t := range plan.Tiers {
		for _, stage := range t.Stages {
			for _, step := range stage.Steps {
				for _, other := range step.Needs {
					if place[other] < place[step.Hook] {
						continue
					}
					value, _, _ := unstructured.NestedString(step.Hook.Objects[0].Object, "metadata", "annotations", hooks.AfterAnnotation)
					c.add(nameOrder, aboutHook(step.Hook).at(event).annotated(hooks.AfterAnnotation, value), "is after %s by %s, and before it by name: where hooks run one after another, as in plain Helm, the name alone counts; call it so that its name comes later, or give it a higher weight", other, hooks.AfterAnnotation)
				}
			}
		}
	}
}

// checkLimits looks at the annotations of the plugin in each Chart.yaml.
func (c *check) checkLimits(rel *release.Release) {
	var err error
	c.limits, err = helm3.Limits(rel.Chart)
	c.addPlanError(rel, err)
}

// addPlanError adds what a plan couldn't be made for, at the events of the plan. What
// isn't about a hook is about a chart.
func (c *check) addPlanError(rel *release.Release, err error, events ...hooks.Event) {
	for err := range leaves(err) {
		var bad *hooks.AnnotationError
		if !errors.As(err, &bad) {
			c.add(invalidAnnotation, about{events: events, template: path.Join(rel.Chart.Name(), "Chart.yaml")}, "%v", err)
			continue
		}
		if c.notString[annotation{bad.Hook, bad.Annotation}] {
			continue // that's all there is to be said of it
		}
		a := about{template: path.Join(bad.Chart, "Chart.yaml")}
		if bad.Hook != nil {
			a = aboutHook(bad.Hook)
		}
		a.events = events
		c.add(invalidAnnotation, a.annotated(bad.Annotation, bad.Value), "%s: %q: %s", bad.Annotation, bad.Value, bad.Problem)
	}
}

// leaves yields the errors that a joined one is made of, or the error itself; none
// for nil.
func leaves(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) {
		if err == nil {
			return
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			yield(err)
			return
		}
		for _, part := range joined.Unwrap() {
			for leaf := range leaves(part) {
				if !yield(leaf) {
					return
				}
			}
		}
	}
}

// checkUnread looks for annotations of the plugin in a List, whose own are never read, and
// those of its members only if there's one: a hook that is several objects has no place
// for what it's told.
func (c *check) checkUnread(h *hooks.Hook, manifest string) {
	var list struct {
		Items any `json:"items"`
	}
	if yaml.Unmarshal([]byte(manifest), &list) != nil {
		return
	}
	_, isList := list.Items.([]any)
	if !isList && len(h.Objects) == 1 {
		return
	}
	const remedy = "make each object a hook of its own, without a List"
	tell := func(of string, annotations map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(annotations)) {
			if strings.HasPrefix(key, hooks.AnnotationPrefix) {
				value := fmt.Sprint(annotations[key])
				c.add(invalidAnnotation, aboutHook(h).annotated(key, value), "%s: %q: isn't read at %s; %s", key, value, of, remedy)
			}
		}
	}
	written, _ := annotationsOf(manifest)
	tell("a List", written)
	if len(h.Objects) == 1 {
		return
	}
	for _, o := range h.Objects {
		found, _, _ := unstructured.NestedFieldNoCopy(o.Object, "metadata", "annotations")
		annotations, _ := found.(map[string]any)
		tell(fmt.Sprintf("%s/%s, which is one of several objects in a List", o.GetKind(), o.GetName()), annotations)
	}
}

// annotationsOf returns the annotations of a manifest as they're written, and as Helm
// reads them: numbers become strings, nothing the empty string.
func annotationsOf(manifest string) (written map[string]any, read map[string]string) {
	var head struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	var helms releaseutil.SimpleHead
	if yaml.Unmarshal([]byte(manifest), &head) != nil || yaml.Unmarshal([]byte(manifest), &helms) != nil || helms.Metadata == nil {
		return nil, nil // Helm wouldn't have got here
	}
	return head.Metadata.Annotations, helms.Metadata.Annotations
}

// checkHookAnnotations looks at what Helm reads of a hook (pkg/releaseutil,
// manifest_sorter.go). [release.Hook] has only what Helm has made of it.
func (c *check) checkHookAnnotations(h *hooks.Hook, manifest string) {
	written, read := annotationsOf(manifest)
	a := aboutHook(h)
	for _, key := range slices.Sorted(maps.Keys(written)) {
		switch value := written[key].(type) {
		case string, nil: // nothing is the empty string to Kubernetes too
		default:
			// A List's own aren't those of which the engine says so too.
			if len(h.Objects) == 1 && h.Objects[0].GetKind() == h.Kind {
				c.notString[annotation{h, key}] = true
			}
			c.add(annotationNotString, a.annotated(key, fmt.Sprint(value)), "%s is %v, which is no string: Kubernetes will refuse the object; put the value in quotes", key, value)
		}
	}
	if weight, ok := read[release.HookWeightAnnotation]; ok {
		if _, err := strconv.Atoi(weight); err != nil {
			c.add(invalidWeight, a.annotated(release.HookWeightAnnotation, weight), "%s is %q, which is no whole number: Helm takes 0", release.HookWeightAnnotation, weight)
		}
	}
	policies := []string{string(hooks.DeleteBeforeCreation), string(hooks.DeleteSucceeded), string(hooks.DeleteFailed)}
	if value, ok := read[release.HookDeleteAnnotation]; ok {
		known, unknown := sorted(value, policies)
		for _, policy := range unknown {
			effect := "Helm ignores it"
			if len(known) == 0 {
				effect = "Helm never deletes the hook, so that the next time it exists already"
			}
			c.add(unknownDeletePolicy, a.annotated(release.HookDeleteAnnotation, value), "%s names %q, which is none of %s: %s", release.HookDeleteAnnotation, policy, strings.Join(policies, ", "), effect)
		}
	}
	policies = []string{string(hooks.LogSucceeded), string(hooks.LogFailed)}
	if value, ok := read[release.HookOutputLogAnnotation]; ok {
		_, unknown := sorted(value, policies)
		for _, policy := range unknown {
			c.add(unknownLogPolicy, a.annotated(release.HookOutputLogAnnotation, value), "%s names %q, which is none of %s: Helm ignores it", release.HookOutputLogAnnotation, policy, strings.Join(policies, ", "))
		}
	}
}

// sorted tells the words of an annotation that are known from those that aren't, as
// Helm reads them.
func sorted(value string, allowed []string) (known, unknown []string) {
	for word := range strings.SplitSeq(value, ",") {
		word = strings.ToLower(strings.TrimSpace(word))
		if slices.Contains(allowed, word) {
			known = append(known, word)
		} else {
			unknown = append(unknown, word)
		}
	}
	return known, unknown
}

// eventHints say what has become of events that Helm 2 knew.
var eventHints = map[string]string{
	"crd-install":  "put the definition into the chart's folder crds",
	"test-failure": "a test that is to fail has to turn its exit code round itself",
}

// checkDropped looks for what Helm leaves out: with one unknown event, the object is
// neither a hook nor a resource of the release.
func (c *check) checkDropped(templates map[string]string) error {
	allowed := []string{"test-success"} // Helm 2's name for test, still known
	for _, event := range report.Events() {
		allowed = append(allowed, string(event))
	}
	for _, template := range slices.Sorted(maps.Keys(templates)) {
		if strings.HasPrefix(path.Base(template), "_") || strings.HasSuffix(template, "NOTES.txt") {
			continue // as Helm does
		}
		documents := releaseutil.SplitManifests(templates[template])
		keys := slices.Collect(maps.Keys(documents))
		slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
		for _, key := range keys {
			var head releaseutil.SimpleHead
			if err := yaml.Unmarshal([]byte(documents[key]), &head); err != nil {
				return fmt.Errorf("YAML parse error on %s: %w", template, err)
			}
			if head.Metadata == nil {
				continue
			}
			value, ok := head.Metadata.Annotations[release.HookAnnotation]
			if !ok {
				continue
			}
			_, unknown := sorted(value, allowed)
			for _, event := range unknown {
				a := about{template: template, kind: head.Kind, name: head.Metadata.Name}
				remedy := eventHints[event]
				if remedy == "" {
					remedy = "known are " + strings.Join(allowed[1:], ", ")
				}
				c.add(unknownEvent, a.annotated(release.HookAnnotation, value), "%s names %q, which is no event: Helm leaves the object out, as a hook and as a resource; %s", release.HookAnnotation, event, remedy)
			}
		}
	}
	return nil
}
