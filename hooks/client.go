package hooks

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// servedDelay is how long to wait before a new kind is asked for again that the server
// doesn't know yet.
const servedDelay = 200 * time.Millisecond

// ClientOptions are the settings of a [Client].
type ClientOptions struct {
	// Namespace is where the objects of namespaced kinds are created whose
	// manifests name none; required.
	Namespace string
	// FieldManager is recorded in the objects' managedFields; required.
	FieldManager string
	// Retrier has requests made again that got no answer. The config must wrap it
	// already. Nil: the client has one of its own, which has patience for as long
	// as a request's context lasts, and takes status 500 for final.
	Retrier *Retrier
	// MustWatch fails hooks whose kind may not be watched, as Helm does. Else their
	// objects are read every two seconds.
	MustWatch bool
	// Warn is told, in words for a person, what makes it harder to see how hooks
	// go. It's called from many goroutines. May be nil.
	Warn func(message string)
}

// Client is the [Cluster] that talks to a Kubernetes API server.
//
// It watches each resource in each namespace at most once, from the first object
// on that it has created there. Close ends the watches. A Client is safe for
// concurrent use; it's meant to serve one run.
type Client struct {
	options ClientOptions
	rest    rest.Interface
	dynamic dynamic.Interface
	core    kubernetes.Interface
	mapper  meta.ResettableRESTMapper

	ctx     context.Context // ends the watches
	cancel  context.CancelFunc
	watches sync.WaitGroup

	mu     sync.Mutex
	shared map[watchKey]*sharedWatch
	// jobPods are the watches on pods, by namespace.
	jobPods map[string]*podWatch
	// crds are the CustomResourceDefinitions that this run has created, by
	// the kind that they define.
	crds map[schema.GroupKind]*crd
	// named are the names that the server chose for objects, by metadata.generateName.
	named map[*unstructured.Unstructured]string
}

type watchKey struct {
	resource  schema.GroupVersionResource
	namespace string
}

type objectKey struct {
	watchKey
	name string
}

// NewClient returns a client of the cluster that config describes. mapper finds
// the resource of a kind; it's reset when a run has created a new kind, if it can
// be. config's client-side rate limits are kept: set its QPS to -1 to let the
// number of slots bound the load.
func NewClient(config *rest.Config, mapper meta.RESTMapper, options ClientOptions) (*Client, error) {
	ctx, cancel := context.WithCancel(context.Background())
	if options.Retrier == nil {
		options.Retrier = NewRetrier()
		options.Retrier.Start(ctx, RetryOptions{Warn: options.Warn})
		config = rest.CopyConfig(config)
		config.Wrap(options.Retrier.Wrap)
	}
	client, err := newClient(ctx, cancel, config, mapper, options)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return client, nil
}

func newClient(ctx context.Context, cancel context.CancelFunc, config *rest.Config, mapper meta.RESTMapper, options ClientOptions) (*Client, error) {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	// Pods are read in the form that costs both sides least.
	typed := rest.CopyConfig(config)
	typed.ContentType = runtime.ContentTypeProtobuf
	typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	core, err := kubernetes.NewForConfigAndClient(typed, httpClient)
	if err != nil {
		return nil, err
	}
	// A dynamic client and one for plain requests beside it, since a dynamic
	// client drops the answer to a delete, which says whether the object is
	// gone.
	raw := dynamic.ConfigFor(config)
	raw.APIPath = "/" // each request has its own
	restClient, err := rest.UnversionedRESTClientForConfigAndClient(raw, httpClient)
	if err != nil {
		return nil, err
	}
	resettable, ok := mapper.(meta.ResettableRESTMapper)
	if !ok {
		resettable = fixedMapper{mapper}
	}
	return &Client{
		options: options,
		rest:    restClient,
		dynamic: dynamic.New(restClient),
		core:    core,
		mapper:  resettable,
		ctx:     ctx,
		cancel:  cancel,
		shared:  map[watchKey]*sharedWatch{},
		jobPods: map[string]*podWatch{},
		crds:    map[schema.GroupKind]*crd{},
		named:   map[*unstructured.Unstructured]string{},
	}, nil
}

type fixedMapper struct{ meta.RESTMapper }

func (fixedMapper) Reset() {}

// Close ends the client's watches and returns when their goroutines have ended.
// Nothing else of the client may be running.
func (c *Client) Close() {
	c.cancel()
	c.watches.Wait()
}

// MappingError says that the cluster has no such kind of object.
type MappingError struct {
	Name, Namespace string
	Err             error
}

// Error returns the words of Kubernetes' resource builder, which Helm reports
// (k8s.io/cli-runtime/pkg/resource/mapper.go).
func (e *MappingError) Error() string {
	return fmt.Sprintf("resource mapping not found for name: %q namespace: %q from \"\": %v\nensure CRDs are installed first", e.Name, e.Namespace, e.Err)
}

func (e *MappingError) Unwrap() error { return e.Err }

// target is an object of a hook and where it lives in the cluster.
type target struct {
	key      objectKey
	object   *unstructured.Unstructured
	resource dynamic.ResourceInterface
	// ofHook is set if the kind is defined by a CRD that is a hook itself.
	ofHook bool
}

// targets finds where the objects of a hook live. For kinds that a hook defines
// it waits until they are served.
func (c *Client) targets(ctx context.Context, h *Hook) ([]target, error) {
	targets := make([]target, len(h.Objects))
	for i, object := range h.Objects {
		gvk := object.GroupVersionKind()
		c.mu.Lock()
		defined := c.crds[gvk.GroupKind()]
		c.mu.Unlock()
		mapping, err := c.mapping(ctx, gvk, defined)
		if err != nil {
			if !meta.IsNoMatchError(err) {
				return nil, err
			}
			return nil, &MappingError{object.GetName(), object.GetNamespace(), err}
		}
		namespace := ""
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			namespace = cmp.Or(object.GetNamespace(), h.Namespace, c.options.Namespace)
		}
		targets[i] = target{
			key:      objectKey{watchKey{mapping.Resource, namespace}, object.GetName()},
			object:   object,
			resource: c.resource(watchKey{mapping.Resource, namespace}),
			ofHook:   defined != nil,
		}
	}
	return targets, nil
}

func (c *Client) resource(key watchKey) dynamic.ResourceInterface {
	if key.namespace == "" {
		return c.dynamic.Resource(key.resource)
	}
	return c.dynamic.Resource(key.resource).Namespace(key.namespace)
}

func (c *Client) mapping(ctx context.Context, gvk schema.GroupVersionKind, defined *crd) (*meta.RESTMapping, error) {
	if defined != nil {
		versions, err := defined.established(ctx)
		if err != nil {
			return nil, fmt.Errorf("waiting for the CustomResourceDefinition of %s: %w", gvk.Kind, err)
		}
		if !slices.Contains(versions, gvk.Version) {
			return nil, &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
		}
	}
	for {
		mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if !meta.IsNoMatchError(err) {
			return mapping, err
		}
		c.mapper.Reset()
		mapping, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if !meta.IsNoMatchError(err) || defined == nil {
			return mapping, err
		}
		// Discovery learns of an established kind a moment later.
		select {
		case <-time.After(servedDelay):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// watch returns the one watch on a resource in a namespace.
func (c *Client) watch(key watchKey) *sharedWatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.shared[key]
	if w == nil {
		name := key.resource.Resource
		if key.namespace != "" {
			name += fmt.Sprintf(" in namespace %q", key.namespace)
		}
		w = newSharedWatch(c.resource(key), name, c.options.Warn)
		w.mustWatch = c.options.MustWatch
		c.shared[key] = w
	}
	return w
}

// podWatch returns the one watch on the pods of Jobs in a namespace.
func (c *Client) podWatch(namespace string) *podWatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.jobPods[namespace]
	if w == nil {
		w = newPodWatch(c.core, namespace)
		c.jobPods[namespace] = w
	}
	return w
}

func (c *Client) begin(ctx context.Context, s *subscription, seen *unstructured.Unstructured) error {
	return s.begin(ctx, seen, func(since string) {
		c.watches.Go(func() { s.watch.run(c.ctx, since) })
	})
}

// Delete implements [Cluster].
func (c *Client) Delete(ctx context.Context, h *Hook) error {
	targets, err := c.targets(ctx, h)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if err := c.deleteObject(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) deleteObject(ctx context.Context, t target) error {
	if t.key.name == "" {
		return errors.New("resource name may not be empty") // it would delete the whole collection
	}
	subscription := c.watch(t.key.watchKey).subscribeGone(t.key.name)
	defer subscription.close()

	left, err := c.requestDelete(ctx, t.key)
	if err != nil {
		return err
	}
	if left != nil {
		if err := c.begin(ctx, subscription, left); err != nil {
			return err
		}
		gone := func(s state) (bool, error) {
			if s.object != nil {
				left = s.object
			}
			return s.deleted, nil
		}
		if err := subscription.await(ctx, left.GetUID(), gone); err != nil {
			if finalizers := left.GetFinalizers(); len(finalizers) > 0 {
				return fmt.Errorf("%w: finalizers that hold it: %s", err, strings.Join(finalizers, ", "))
			}
			return err
		}
	}
	return nil
}

// requestDelete asks for the deletion of an object and returns the object as long
// as it's there, because of finalizers or a grace period, and nil once it's gone.
func (c *Client) requestDelete(ctx context.Context, key objectKey) (*unstructured.Unstructured, error) {
	options, err := json.Marshal(&metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground),
	})
	if err != nil {
		return nil, err
	}
	result := c.rest.Delete().AbsPath(segments(key)...).
		SetHeader("Content-Type", runtime.ContentTypeJSON).Body(options).Do(ctx)
	if apierrors.IsNotFound(result.Error()) {
		return nil, nil
	}
	if err := result.Error(); err != nil {
		return nil, err
	}
	answer, err := result.Raw()
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(answer, &object.Object); err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	// For some kinds the answer holds the object although it's gone, and then no
	// event follows the version in it.
	if object.GetKind() == "Status" || object.GetDeletionTimestamp() == nil {
		return nil, nil
	}
	current, err := c.resource(key.watchKey).Get(ctx, key.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && current.GetUID() != object.GetUID() {
		return nil, nil
	}
	return current, err
}

func segments(key objectKey) []string {
	path := []string{"apis", key.resource.Group, key.resource.Version}
	if key.resource.Group == "" {
		path = []string{"api", key.resource.Version}
	}
	if key.namespace != "" {
		path = append(path, "namespaces", key.namespace)
	}
	return append(path, key.resource.Resource, key.name)
}

// Create implements [Cluster].
func (c *Client) Create(ctx context.Context, h *Hook) (Execution, error) {
	targets, err := c.targets(ctx, h)
	if err != nil {
		return nil, err
	}
	e := &execution{client: c, hook: h, created: time.Now()}
	for _, t := range targets {
		if err := c.createObject(ctx, t, e); err != nil {
			e.close()
			return nil, err
		}
	}
	return e, nil
}

// createObject creates an object and, if somebody has to wait for what becomes of
// it, adds it to the execution.
func (c *Client) createObject(ctx context.Context, t target, e *execution) error {
	isCRD := t.object.GroupVersionKind().GroupKind() == crdKind
	if !runsToCompletion(t.object) && !isCRD {
		_, err := c.requestCreate(ctx, t)
		return err
	}
	// With metadata.generateName the name is the server's to choose, so that
	// interest in it can't begin before.
	var s *subscription
	var pods *jobPods
	expect := func(name string) {
		s = c.watch(t.key.watchKey).subscribe(name)
		if t.object.GetKind() == "Job" {
			pods = c.podWatch(t.key.namespace).expect(name)
		}
	}
	if t.key.name != "" {
		expect(t.key.name)
	}
	created, err := c.requestCreate(ctx, t)
	late := s == nil
	if err == nil {
		if late {
			expect(created.GetName())
			c.mu.Lock()
			c.named[t.object] = created.GetName()
			c.mu.Unlock()
		}
		err = c.begin(ctx, s, created)
		if late && err == nil {
			err = s.watch.refresh(ctx, s.name) // the watch may have been faster
		}
		var unanswered *NoAnswerError
		if errors.As(err, &unanswered) {
			unanswered.Acted = true // the object was created
		}
	}
	if err != nil {
		if s != nil {
			s.close()
		}
		return err
	}
	if isCRD {
		c.mu.Lock()
		c.crds[definedKind(created)] = &crd{subscription: s, uid: created.GetUID()}
		c.mu.Unlock()
		return nil
	}
	e.objects = append(e.objects, running{subscription: s, created: created, pods: pods, late: late})
	return nil
}

// requestCreate creates an object.
func (c *Client) requestCreate(ctx context.Context, t target) (*unstructured.Unstructured, error) {
	for {
		created, err := t.resource.Create(ctx, t.object, metav1.CreateOptions{FieldManager: c.options.FieldManager})
		if !t.ofHook || !isNotServed(err) {
			return created, err
		}
		// An established kind is served everywhere a moment later.
		select {
		case <-time.After(servedDelay):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// isNotServed reports whether the server doesn't know the resource, as against
// the object or its namespace.
func isNotServed(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &status) &&
		(status.Status().Details == nil || status.Status().Details.Name == "")
}

// execution is a hook that was created, with those of its objects that have to
// be waited for.
type execution struct {
	client  *Client
	hook    *Hook
	created time.Time // no later than the first object was
	objects []running
}

// running is an object that was created.
type running struct {
	subscription *subscription
	created      *unstructured.Unstructured
	// pods are those of a Job; nil if the object is a Pod itself.
	pods *jobPods
	// late says that events right after the creation may have been missed,
	// since the name was not known before.
	late bool
}

func (e *execution) close() {
	for _, o := range e.objects {
		o.subscription.close()
	}
}

// Wait implements [Execution].
func (e *execution) Wait(ctx context.Context) error {
	defer e.close()
	var failures, vanished []error
	for _, o := range e.objects {
		err := o.subscription.await(ctx, o.created.GetUID(), func(s state) (bool, error) {
			if done, err := ended(s.object); done {
				return true, err
			}
			if s.deleted {
				return true, ErrVanished
			}
			return false, nil
		})
		switch {
		case errors.Is(err, ErrVanished):
			vanished = append(vanished, err)
		case err != nil:
			failures = append(failures, err)
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...) // an object that vanished excuses no other
	}
	return errors.Join(vanished...)
}

// ended reports whether a Job or a Pod has ended, with an error if it failed
// (pkg/kube/client.go, waitForJob and waitForPodSuccess).
func ended(o *unstructured.Unstructured) (bool, error) {
	if o.GetKind() == "Pod" {
		phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
		switch corev1.PodPhase(phase) {
		case corev1.PodSucceeded:
			return true, nil
		case corev1.PodFailed:
			return true, &EndedBadly{Kind: o.GetKind(), Name: o.GetName()}
		}
		return false, nil
	}
	for condition := range conditions(o) {
		if condition["status"] != "True" {
			continue
		}
		switch condition["type"] {
		case "Complete":
			return true, nil
		case "Failed":
			reason, _ := condition["reason"].(string)
			return true, &EndedBadly{Kind: o.GetKind(), Name: o.GetName(), Reason: reason}
		}
	}
	return false, nil
}

// conditions returns an object's conditions, which the caller must not change.
func conditions(o *unstructured.Unstructured) func(yield func(map[string]any) bool) {
	// Without a copy, since this is asked at each event.
	found, _, _ := unstructured.NestedFieldNoCopy(o.Object, "status", "conditions")
	all, _ := found.([]any)
	return func(yield func(map[string]any) bool) {
		for _, c := range all {
			if condition, ok := c.(map[string]any); ok && !yield(condition) {
				return
			}
		}
	}
}

// crd is a CustomResourceDefinition that is a hook.
type crd struct {
	subscription *subscription
	uid          types.UID
}

func definedKind(o *unstructured.Unstructured) schema.GroupKind {
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
	return schema.GroupKind{Group: group, Kind: kind}
}

// established returns when the kind that the definition defines is served, and in
// which versions.
func (d *crd) established(ctx context.Context) (versions []string, err error) {
	err = d.subscription.await(ctx, d.uid, func(s state) (bool, error) {
		if s.deleted {
			return true, ErrVanished
		}
		for condition := range conditions(s.object) {
			if condition["type"] == "Established" && condition["status"] == "True" {
				versions = servedVersions(s.object)
				return true, nil
			}
		}
		return false, nil
	})
	return versions, err
}

func servedVersions(definition *unstructured.Unstructured) (versions []string) {
	all, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, v := range all {
		if version, ok := v.(map[string]any); ok && version["served"] == true {
			name, _ := version["name"].(string)
			versions = append(versions, name)
		}
	}
	return versions
}

// Found is what's in the cluster of a hook that an operation created which is no more.
type Found struct {
	// CreatedAt is when its last object was created, by the server's clock.
	CreatedAt time.Time
	// EndedAt is when it ended, and zero as long as it runs.
	EndedAt time.Time
	// Err says how it failed; nil if it didn't.
	Err error
	// Incomplete says that some of its objects don't exist, or are older.
	Incomplete bool
	// Unnamed says that it can't be told, since the server has chosen a name
	// (metadata.generateName).
	Unnamed bool
}

// Find returns what became of a hook whose objects were created no earlier than notBefore
// by the server's clock, which counts in seconds; nil if none of them exists, or all are
// older.
func (c *Client) Find(ctx context.Context, h *Hook, notBefore time.Time) (*Found, error) {
	targets, err := c.targets(ctx, h)
	if err != nil {
		return nil, err
	}
	found := new(Found)
	var failures []error
	runs, any := false, false
	for _, t := range targets {
		if t.key.name == "" {
			return &Found{Unnamed: true}, nil
		}
		object, err := t.resource.Get(ctx, t.key.name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err != nil || object.GetCreationTimestamp().Time.Before(notBefore.Truncate(time.Second)) {
			found.Incomplete = true
			continue
		}
		any = true
		created := object.GetCreationTimestamp().Time
		if created.After(found.CreatedAt) {
			found.CreatedAt = created
		}
		ended, at, err := endOf(object)
		if err != nil {
			failures = append(failures, err)
		}
		runs = runs || !ended
		if at.After(found.EndedAt) {
			found.EndedAt = at
		}
	}
	if !any {
		return nil, nil
	}
	if found.Err = errors.Join(failures...); runs && found.Err == nil {
		found.EndedAt = time.Time{}
	}
	return found, nil
}

// endOf reports whether a hook's object has ended, and when; with an error if it failed.
func endOf(o *unstructured.Unstructured) (done bool, at time.Time, err error) {
	if !runsToCompletion(o) {
		return true, o.GetCreationTimestamp().Time, nil
	}
	done, err = ended(o)
	if !done {
		return false, time.Time{}, nil
	}
	note := func(text any) {
		written, _ := text.(string)
		if t, err := time.Parse(time.RFC3339, written); err == nil && t.After(at) {
			at = t
		}
	}
	for condition := range conditions(o) {
		if condition["status"] == "True" && (condition["type"] == "Complete" || condition["type"] == "Failed") {
			note(condition["lastTransitionTime"])
		}
	}
	all, _, _ := unstructured.NestedFieldNoCopy(o.Object, "status", "containerStatuses")
	containers, _ := all.([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		finished, _, _ := unstructured.NestedFieldNoCopy(container, "state", "terminated", "finishedAt")
		note(finished)
	}
	if at.IsZero() {
		at = time.Now()
	}
	return true, at, err
}

// nameOf returns the name that an object has got; empty if it has none yet.
func (c *Client) nameOf(t target) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(t.key.name, c.named[t.object])
}

// pods returns the pods that a hook's objects are or have started.
func (c *Client) pods(ctx context.Context, h *Hook) ([]corev1.Pod, error) {
	targets, err := c.targets(ctx, h)
	if err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, t := range targets {
		var options metav1.ListOptions
		switch t.object.GetKind() {
		case "Job":
			options.LabelSelector = jobNameLabel + "=" + c.nameOf(t)
		case "Pod":
			options.FieldSelector = fields.OneTermEqualSelector("metadata.name", c.nameOf(t)).String()
		default:
			continue
		}
		list, err := c.core.CoreV1().Pods(t.key.namespace).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("failed to get pod list with options: %+v with error: %w", options, err)
		}
		pods = append(pods, list.Items...)
	}
	return pods, nil
}

// Logs implements [Cluster].
func (c *Client) Logs(ctx context.Context, h *Hook, w io.Writer) error {
	pods, err := c.pods(ctx, h)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		for _, container := range pod.Spec.Containers {
			options := &corev1.PodLogOptions{Container: container.Name}
			stream, err := c.core.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
			if err != nil {
				return fmt.Errorf("failed to stream pod logs for pod: %s, container: %s: %w", pod.Name, container.Name, err)
			}
			_, err = io.Copy(w, stream)
			if err = errors.Join(err, stream.Close()); err != nil {
				return fmt.Errorf("failed to read pod logs for pod: %s, container: %s: %w", pod.Name, container.Name, err)
			}
		}
	}
	return nil
}

// Inspect implements [Cluster].
func (c *Client) Inspect(ctx context.Context, h *Hook, tail int) ([]Finding, error) {
	pods, err := c.pods(ctx, h)
	if err != nil {
		return nil, err
	}
	jobs, err := c.jobs(ctx, h)
	if err != nil {
		return nil, err
	}
	// The pods of an earlier run's Job of the same name may still be there.
	pods = slices.DeleteFunc(pods, func(pod corev1.Pod) bool {
		owner := metav1.GetControllerOfNoCopy(&pod)
		return owner != nil && owner.Kind == "Job" && len(jobs) > 0 && jobs[owner.UID] == nil
	})
	var findings []Finding
	for _, job := range jobs {
		if suspended(job) {
			findings = append(findings, Finding{Reason: "Suspended", Message: "spec.suspend of the Job is true"})
		}
	}
	if len(pods) == 0 && len(findings) == 0 {
		return c.refusals(ctx, jobs)
	}
	for _, pod := range pods {
		switch {
		case pod.Status.Phase == corev1.PodSucceeded:
		case pod.Status.Reason != "":
			findings = append(findings, Finding{Pod: pod.Name, Reason: pod.Status.Reason, Message: pod.Status.Message})
		case pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodFailed:
			findings = append(findings, Finding{Pod: pod.Name, Reason: "Terminating", Message: "it was deleted, and its node has not said that it has ended"})
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				findings = append(findings, Finding{Pod: pod.Name, Reason: condition.Reason, Message: condition.Message})
			}
		}
		for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			finding := Finding{Pod: pod.Name, Container: status.Name}
			switch {
			case status.State.Terminated != nil && status.State.Terminated.ExitCode != 0:
				ended := status.State.Terminated
				finding.Reason, finding.Message, finding.ExitCode, finding.Ended = ended.Reason, ended.Message, ended.ExitCode, true
				finding.Log = c.logTail(ctx, &pod, status.Name, tail)
			case status.State.Waiting != nil:
				finding.Reason, finding.Message = status.State.Waiting.Reason, status.State.Waiting.Message
				if last := status.LastTerminationState.Terminated; last != nil && last.ExitCode != 0 {
					finding.Message, finding.ExitCode, finding.Ended = last.Message, last.ExitCode, true
					finding.Log = c.logTail(ctx, &pod, status.Name, tail)
				}
			default:
				continue
			}
			findings = append(findings, finding)
		}
		if pod.Status.Phase == corev1.PodPending || pod.Status.Phase == corev1.PodRunning && !ready(&pod) {
			// A volume that can't be mounted, or a node that is lost, say.
			// What is known without it is reported all the same.
			if last, err := c.lastWarning(ctx, pod.Namespace, pod.UID); err == nil && last != nil {
				warning := Finding{Pod: pod.Name, Reason: last.Reason, Message: last.Message}
				if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Message == warning.Message }) {
					findings = append(findings, warning)
				}
			}
		}
	}
	if len(findings) == 0 {
		findings = c.running(ctx, pods, tail)
	}
	return findings, nil
}

// running returns the containers that run, with what they have logged last.
func (c *Client) running(ctx context.Context, pods []corev1.Pod, tail int) []Finding {
	var findings []Finding
	for _, pod := range pods {
		for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if status.State.Running != nil {
				findings = append(findings, Finding{
					Pod: pod.Name, Container: status.Name, Reason: "Running", Running: true,
					Log: c.logTail(ctx, &pod, status.Name, tail),
				})
			}
		}
	}
	return findings
}

// ready reports whether the cluster doesn't take a pod for one that is not ready.
func ready(pod *corev1.Pod) bool {
	return !slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue
	})
}

// suspended reports whether a Job is kept from starting pods, as queues of Jobs do.
func suspended(job *unstructured.Unstructured) bool {
	suspended, _, _ := unstructured.NestedBool(job.Object, "spec", "suspend")
	return suspended
}

// lastWarning returns the last warning about an object; nil if there is none.
func (c *Client) lastWarning(ctx context.Context, namespace string, uid types.UID) (*corev1.Event, error) {
	events, err := c.core.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
		// By its UID, since an object of an earlier run had the same name.
		FieldSelector: fields.Set{"involvedObject.uid": string(uid), "type": corev1.EventTypeWarning}.String(),
	})
	if err != nil || len(events.Items) == 0 {
		return nil, err
	}
	last := slices.MaxFunc(events.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	return &last, nil
}

// jobs returns those of a hook's objects that are Jobs and exist, by their UIDs.
func (c *Client) jobs(ctx context.Context, h *Hook) (map[types.UID]*unstructured.Unstructured, error) {
	targets, err := c.targets(ctx, h)
	if err != nil {
		return nil, err
	}
	jobs := map[types.UID]*unstructured.Unstructured{}
	for _, t := range targets {
		if t.object.GroupVersionKind().GroupKind() != jobKind {
			continue
		}
		job, err := t.resource.Get(ctx, c.nameOf(t), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		jobs[job.GetUID()] = job
	}
	return jobs, nil
}

// refusals returns why Jobs have no pods, by the last warning about each: a quota, an
// admission webhook, a missing ServiceAccount.
func (c *Client) refusals(ctx context.Context, jobs map[types.UID]*unstructured.Unstructured) ([]Finding, error) {
	var findings []Finding
	for uid, job := range jobs {
		last, err := c.lastWarning(ctx, job.GetNamespace(), uid)
		if err != nil {
			return findings, fmt.Errorf("reading the events of Job %s: %w", job.GetName(), err)
		}
		if last != nil {
			findings = append(findings, Finding{Reason: last.Reason, Message: last.Message})
		}
	}
	return findings, nil
}

// longestTailLine is how many bytes of a line are reported.
const longestTailLine = 8 << 10

// logTail returns the last lines of a container's log; none if they can't be had,
// since a failure is reported without them too.
func (c *Client) logTail(ctx context.Context, pod *corev1.Pod, container string, lines int) []string {
	if lines == 0 {
		return nil
	}
	options := &corev1.PodLogOptions{Container: container, TailLines: ptr.To(int64(lines))}
	stream, err := c.core.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return nil
	}
	defer func() { _ = stream.Close() }()
	var tail []string
	reader := bufio.NewReaderSize(stream, longestTailLine)
	for inside := false; ; {
		line, more, err := reader.ReadLine()
		if err != nil {
			return tail[max(0, len(tail)-lines):]
		}
		if !inside {
			tail = append(tail, string(line))
		}
		inside = more // the rest of a long line
	}
}
