package helm3

import (
	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// Convert returns a release's hook in the engine's terms. namespace is the
// release's.
func Convert(h *release.Hook, namespace string) (*hooks.Hook, error) {
	objects, err := hooks.ParseObjects(h.Manifest)
	if err != nil {
		return nil, err
	}
	converted := &hooks.Hook{
		Name:      h.Name,
		Kind:      h.Kind,
		Namespace: namespace,
		Path:      h.Path,
		Weight:    h.Weight,
		Objects:   objects,
	}
	for _, event := range h.Events {
		converted.Events = append(converted.Events, hooks.Event(event))
	}
	for _, policy := range h.DeletePolicies {
		converted.DeletePolicies = append(converted.DeletePolicies, hooks.DeletePolicy(policy))
	}
	for _, policy := range h.OutputLogPolicies {
		converted.LogPolicies = append(converted.LogPolicies, hooks.LogPolicy(policy))
	}
	return converted, nil
}
