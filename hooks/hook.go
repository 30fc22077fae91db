package hooks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// Event is a point in the life of a release at which hooks run, as written in
// the annotation helm.sh/hook: "pre-install", "post-upgrade", "test", ...
type Event string

// DeletePolicy says when a hook's objects are deleted, as written in the
// annotation helm.sh/hook-delete-policy.
type DeletePolicy string

// The delete policies that Helm knows (helm.sh/helm/v3/pkg/release/hook.go).
const (
	DeleteBeforeCreation DeletePolicy = "before-hook-creation"
	DeleteSucceeded      DeletePolicy = "hook-succeeded"
	DeleteFailed         DeletePolicy = "hook-failed"
)

// LogPolicy says after which outcome a hook's logs are shown, as written in the
// annotation helm.sh/hook-output-log-policy.
type LogPolicy string

// The log policies that Helm knows (helm.sh/helm/v3/pkg/release/hook.go).
const (
	LogSucceeded LogPolicy = "hook-succeeded"
	LogFailed    LogPolicy = "hook-failed"
)

// Hook is a hook of a release. A run reads hooks and never changes them, so one
// hook may be part of several plans.
type Hook struct {
	// Name is metadata.name of the hook's object.
	Name string
	// Kind is the kind of the hook's object.
	Kind string
	// Namespace is the namespace of the object where its manifest names
	// none. It's ignored for cluster-scoped kinds.
	Namespace string
	// Path is the template that the hook was rendered from, for messages.
	Path string
	// Weight orders the hooks of an event, lowest first.
	Weight int
	// Events are the events at which the hook runs.
	Events []Event
	// DeletePolicies; none means [DeleteBeforeCreation].
	DeletePolicies []DeletePolicy
	// LogPolicies; none means that logs aren't shown.
	LogPolicies []LogPolicy
	// Objects are what the hook creates, see [ParseObjects]: as a rule one
	// object, of which Name and Kind are those above; several if the hook is a
	// List.
	Objects []*unstructured.Unstructured
}

// String returns what identifies the hook to a person: kind and name.
func (h *Hook) String() string { return h.Kind + "/" + h.Name }

// Phase is how far a hook has come. The values are Helm's
// (helm.sh/helm/v3/pkg/release/hook.go).
type Phase string

// The phases of a hook.
const (
	// Running: created, or about to be, and not ended.
	Running Phase = "Running"
	// Succeeded: ended well.
	Succeeded Phase = "Succeeded"
	// Failed: could not be created, ended badly or didn't end in time.
	Failed Phase = "Failed"
	// Unknown: was running when the run had to leave.
	Unknown Phase = "Unknown"
)

// Result is what became of one hook of a plan.
type Result struct {
	Hook *Hook
	// Phase is empty for a hook that was never started.
	Phase Phase
	// StartedAt is when the hook was about to be created; zero if it never
	// came to that.
	StartedAt time.Time
	// CompletedAt is when the hook's end was seen; zero if it wasn't.
	CompletedAt time.Time
	// Err says why the hook failed; nil unless Phase is Failed or Unknown.
	Err *HookError
	// Ignored says that it failed, and that by [FailureAnnotation] the event did not
	// fail by that.
	Ignored bool
}

// ParseObjects returns the objects that a hook's manifest holds: one document,
// whose object may be a List. They are those that Kubernetes' resource builder makes,
// by which Helm reads hooks, down to the types of numbers. What has no kind is the
// server's to refuse.
func ParseObjects(manifest string) ([]*unstructured.Unstructured, error) {
	text, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		return nil, fmt.Errorf("parsing the manifest: %w", err)
	}
	object := &unstructured.Unstructured{}
	if err := decode(text, object); err != nil {
		return nil, fmt.Errorf("parsing the manifest: %w", err)
	}
	items, found := object.Object["items"]
	if _, isList := items.([]any); !isList && (!found || items != nil) {
		return []*unstructured.Unstructured{object}, nil
	}
	list := &unstructured.UnstructuredList{}
	if err := decode(text, list); err != nil {
		return nil, fmt.Errorf("parsing the list: %w", err)
	}
	objects := make([]*unstructured.Unstructured, len(list.Items))
	for i := range list.Items {
		objects[i] = &list.Items[i]
	}
	return objects, nil
}

func decode(text []byte, into runtime.Object) error {
	_, _, err := unstructured.UnstructuredJSONScheme.Decode(text, nil, into)
	if runtime.IsMissingKind(err) {
		return nil
	}
	return err
}

// Deletes reports whether the hook's objects are deleted by the policy. Helm
// never deletes CustomResourceDefinitions by policy, since that would delete
// all custom resources with them (pkg/action/hooks.go, deleteHookByPolicy).
func (h *Hook) Deletes(policy DeletePolicy) bool {
	isDefinition := func(o *unstructured.Unstructured) bool { return o.GroupVersionKind().GroupKind() == crdKind }
	if slices.ContainsFunc(h.Objects, isDefinition) {
		return false
	}
	if len(h.DeletePolicies) == 0 {
		return policy == DeleteBeforeCreation
	}
	return slices.Contains(h.DeletePolicies, policy)
}

// RunsToCompletion reports whether the hook is done only when what it runs has
// ended, not once it exists (pkg/kube/client.go, watchUntilReady).
func (h *Hook) RunsToCompletion() bool {
	return slices.ContainsFunc(h.Objects, runsToCompletion)
}

func runsToCompletion(o *unstructured.Unstructured) bool {
	kind := o.GroupVersionKind().GroupKind()
	return kind == jobKind || kind == podKind
}

var (
	jobKind = schema.GroupKind{Group: "batch", Kind: "Job"}
	podKind = schema.GroupKind{Kind: "Pod"}
	crdKind = schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}
)

// identities name the objects in the cluster that the hook is, so that two hooks
// which share an object can be told from two that don't.
func (h *Hook) identities() []string {
	ids := make([]string, 0, len(h.Objects))
	for _, o := range h.Objects {
		if o.GetName() == "" {
			continue // with metadata.generateName each is an object of its own
		}
		group := o.GroupVersionKind().Group
		ids = append(ids, strings.Join([]string{group, o.GetKind(), cmp.Or(o.GetNamespace(), h.Namespace), o.GetName()}, "\x00"))
	}
	return ids
}

// annotations returns the annotations of the hook's object, which the caller must
// not change: to copy them would be a third of what a plan costs. A hook of several
// objects has none: they would be of one object, or of the List, and so of no hook alone.
func (h *Hook) annotations() map[string]any {
	if len(h.Objects) != 1 {
		return nil
	}
	found, _, _ := unstructured.NestedFieldNoCopy(h.Objects[0].Object, "metadata", "annotations")
	annotations, _ := found.(map[string]any)
	return annotations
}
