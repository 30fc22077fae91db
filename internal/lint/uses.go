package lint

import (
	"slices"

	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/releaseutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// The events next to which a release's resources aren't there.
const (
	preInstall hooks.Event = "pre-install"
	postDelete hooks.Event = "post-delete"
)

// ordinaryResources returns what the release holds besides hooks, and whether it's
// kept when the release is uninstalled.
func ordinaryResources(manifest, namespace string) map[identity]bool {
	kept := map[identity]bool{}
	for _, document := range releaseutil.SplitManifests(manifest) {
		objects, err := hooks.ParseObjects(document)
		if err != nil {
			continue // that it isn't an object is no matter of hooks
		}
		for _, o := range objects {
			kept[identityOf(o, namespace)] = o.GetAnnotations()[kube.ResourcePolicyAnno] == kube.KeepPolicy
		}
	}
	return kept
}

// checkUses looks for Jobs and Pods whose pods can't start, since what they use isn't
// there at their time.
func (c *check) checkUses(event hooks.Event, tiers []tier, kept map[identity]bool) {
	// Helm's order, weight and then name, is that of the hooks in here.
	created := map[identity][]*hooks.Hook{}
	for _, tier := range tiers {
		for _, h := range tier.hooks {
			for _, o := range h.Objects {
				id := identityOf(o, h.Namespace)
				created[id] = append(created[id], h)
			}
		}
	}
	for _, tier := range tiers {
		for place, h := range tier.hooks {
			for _, id := range usedBy(h) {
				isKept, ordinary := kept[id]
				creators := created[id]
				switch {
				case len(creators) == 0 && !ordinary:
					// Whoever creates it isn't this chart.
				case len(creators) == 0 && event == preInstall:
					c.add(usedBeforeInstall, aboutHook(h).at(event), "uses %s, which is no hook but an ordinary resource of the chart: at the first installation it doesn't exist yet", id)
				case len(creators) == 0 && event == postDelete && !isKept:
					c.add(usedAfterDelete, aboutHook(h).at(event), "uses %s, which is no hook but an ordinary resource of the chart: it's deleted by then", id)
				case len(creators) == 0:
				case ordinary && event != preInstall && event != postDelete:
					// It's there anyway, and the hook replaces it.
				case creators[0].Weight > h.Weight && staysFromBefore(creators[0], event):
					// That of an earlier event does.
				case creators[0].Weight > h.Weight:
					c.add(usedBeforeCreated, aboutHook(h).at(event), "has weight %d and uses %s, which is created by a hook of weight %d (%s): it isn't there yet", h.Weight, id, creators[0].Weight, creators[0].Path)
				case slices.Index(tier.hooks, creators[0]) > place:
					c.add(nameOrder, aboutHook(h).at(event), "uses %s, which is a hook of the same weight whose name comes later: where hooks run one after another, as in plain Helm, it isn't there yet; give it a lower weight", id)
				}
			}
		}
	}
}

// staysFromBefore reports whether the hook has created its objects at the installation
// already, and they're still there.
func staysFromBefore(h *hooks.Hook, event hooks.Event) bool {
	if event == preInstall || slices.Contains(h.DeletePolicies, hooks.DeleteSucceeded) {
		return false
	}
	return slices.ContainsFunc(h.Events, func(e hooks.Event) bool {
		return e != event && (e == preInstall || e == "post-install" && event != preInstall)
	})
}

// usedBy returns the objects without which the hook's pods can't start, in the order
// in which it names them.
func usedBy(h *hooks.Hook) []identity {
	var ids []identity
	for _, o := range h.Objects {
		spec := podSpec(o)
		if spec == nil {
			continue
		}
		namespace := identityOf(o, h.Namespace).namespace
		needs(spec, func(kind, name string, optional *bool) {
			id := identity{"", kind, namespace, name}
			if name != "" && (optional == nil || !*optional) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		})
	}
	return ids
}

// podSpec returns what the pods of a Job, or a Pod, are; nil of anything else, and of
// what Kubernetes would refuse.
func podSpec(o *unstructured.Unstructured) *corev1.PodSpec {
	fields := []string{"spec"}
	switch groupKind(o) {
	case podKind:
	case jobKind:
		fields = []string{"spec", "template", "spec"}
	default:
		return nil
	}
	content, found, err := unstructured.NestedMap(o.Object, fields...)
	if err != nil || !found {
		return nil
	}
	spec := &corev1.PodSpec{}
	if runtime.DefaultUnstructuredConverter.FromUnstructured(content, spec) != nil {
		return nil
	}
	return spec
}

// needs tells of each object that a pod refers to and whether it may be missing; nil
// if nothing is said of that.
func needs(spec *corev1.PodSpec, tell func(kind, name string, optional *bool)) {
	account := spec.ServiceAccountName
	if account == "" {
		account = spec.DeprecatedServiceAccount
	}
	if account != "default" { // which every namespace has
		tell("ServiceAccount", account, nil)
	}
	for _, container := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, from := range container.EnvFrom {
			if ref := from.ConfigMapRef; ref != nil {
				tell("ConfigMap", ref.Name, ref.Optional)
			}
			if ref := from.SecretRef; ref != nil {
				tell("Secret", ref.Name, ref.Optional)
			}
		}
		for _, variable := range container.Env {
			if variable.ValueFrom == nil {
				continue
			}
			if ref := variable.ValueFrom.ConfigMapKeyRef; ref != nil {
				tell("ConfigMap", ref.Name, ref.Optional)
			}
			if ref := variable.ValueFrom.SecretKeyRef; ref != nil {
				tell("Secret", ref.Name, ref.Optional)
			}
		}
	}
	for i := range spec.Volumes {
		volumeNeeds(&spec.Volumes[i].VolumeSource, tell)
	}
}

func volumeNeeds(volume *corev1.VolumeSource, tell func(kind, name string, optional *bool)) {
	if v := volume.ConfigMap; v != nil {
		tell("ConfigMap", v.Name, v.Optional)
	}
	if v := volume.Secret; v != nil {
		tell("Secret", v.SecretName, v.Optional)
	}
	if v := volume.PersistentVolumeClaim; v != nil {
		tell("PersistentVolumeClaim", v.ClaimName, nil)
	}
	if v := volume.CSI; v != nil && v.NodePublishSecretRef != nil {
		tell("Secret", v.NodePublishSecretRef.Name, nil)
	}
	if volume.Projected == nil {
		return
	}
	for _, part := range volume.Projected.Sources {
		if p := part.ConfigMap; p != nil {
			tell("ConfigMap", p.Name, p.Optional)
		}
		if p := part.Secret; p != nil {
			tell("Secret", p.Name, p.Optional)
		}
	}
}
