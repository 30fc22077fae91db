package lint

import (
	"cmp"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// identity names an object in the cluster.
type identity struct{ group, kind, namespace, name string }

func (i identity) String() string { return i.kind + "/" + i.name }

func identityOf(o *unstructured.Unstructured, namespace string) identity {
	return identity{o.GroupVersionKind().Group, o.GetKind(), cmp.Or(o.GetNamespace(), namespace), o.GetName()}
}

var (
	jobKind = schema.GroupKind{Group: "batch", Kind: "Job"}
	podKind = schema.GroupKind{Kind: "Pod"}
)

func groupKind(o *unstructured.Unstructured) schema.GroupKind {
	return o.GroupVersionKind().GroupKind()
}

// checkSameObjects looks for hooks that can't run at once since they're one object.
func (c *check) checkSameObjects(event hooks.Event, tiers []tier) {
	for _, tier := range tiers {
		first := map[identity]*hooks.Hook{}
		for _, h := range tier.hooks {
			for _, o := range h.Objects {
				if o.GetName() == "" {
					continue // with metadata.generateName each is an object of its own
				}
				id := identityOf(o, h.Namespace)
				switch before := first[id]; before {
				case nil:
					first[id] = h
				case h: // a List may hold an object twice
				default:
					c.add(sameObject, aboutHook(h).at(event), "%s is a hook of weight %d in %s as well: they run one after another", id, tier.weight, before.Path)
				}
			}
		}
	}
}

// checkJobs looks for Jobs that are left to Kubernetes' defaults.
func (c *check) checkJobs(h *hooks.Hook) {
	for _, o := range h.Objects {
		if groupKind(o) != jobKind {
			continue
		}
		// With a limit for each index the one for all is no matter.
		if !has(o, "spec", "backoffLimit") && !has(o, "spec", "backoffLimitPerIndex") {
			c.add(noBackoffLimit, aboutHook(h), "Job %s has no spec.backoffLimit: Kubernetes takes 6, and waits longer before each new attempt", o.GetName())
		}
		if !has(o, "spec", "activeDeadlineSeconds") {
			c.add(noDeadline, aboutHook(h), "Job %s has no spec.activeDeadlineSeconds: if the operation gives up after --timeout, the Job runs on", o.GetName())
		}
	}
}

func has(o *unstructured.Unstructured, fields ...string) bool {
	value, found, err := unstructured.NestedFieldNoCopy(o.Object, fields...)
	return err == nil && found && value != nil
}
