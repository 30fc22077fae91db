// Package audit reads an API server's audit log: who asked for what, in which order, and what came of it. The tests
// judge by it, since it cannot be wrong about what reached the server. Order is that of resource versions where there
// are any, which is the order in which etcd committed, and never that of clocks.
package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
)

// Request is one request to the API server. Request and response bodies are there for writes only.
type Request struct {
	User, UserAgent              string
	Verb                         string // create, update, patch, delete, deletecollection, get, list or watch
	URI                          string
	Group, Resource, Subresource string
	Namespace, Name              string
	Code                         int
	ReceivedAt, AnsweredAt       time.Time
	RequestBody, ResponseBody    json.RawMessage
	UID                          string   // of the object in the response
	ResourceVersion              int64    // of the object in the response; 0 if there is none
	Owners                       []string // kinds of the owners of the object in the response
	finished, succeeded          bool     // whether the object is a Job or Pod that has ended, and how
}

// Object is the name of what the request is about, as in "jobs/migrate".
func (r Request) Object() string { return r.Resource + "/" + r.Name }

// String is what a test shows of a request.
func (r Request) String() string {
	path := r.Object()
	if r.Subresource != "" {
		path += "/" + r.Subresource
	}
	return fmt.Sprintf("%s %s: %d", r.Verb, path, r.Code)
}

// Trail is a number of requests, in the order in which they were answered unless a method says otherwise.
type Trail []Request

// Where returns the requests that keep says yes to.
func (t Trail) Where(keep func(Request) bool) Trail {
	var kept Trail
	for _, r := range t {
		if keep(r) {
			kept = append(kept, r)
		}
	}
	return kept
}

// By returns the requests whose user agent begins with one of these prefixes, as in "Helm/".
func (t Trail) By(userAgents ...string) Trail {
	return t.Where(func(r Request) bool {
		return slices.ContainsFunc(userAgents, func(prefix string) bool { return strings.HasPrefix(r.UserAgent, prefix) })
	})
}

// Of returns the requests for one of these resources, as in "jobs", whatever the subresource.
func (t Trail) Of(resources ...string) Trail {
	return t.Where(func(r Request) bool { return slices.Contains(resources, r.Resource) })
}

// Creates returns the requests that created an object, in the order in which the objects came into being.
func (t Trail) Creates() Trail {
	created := t.Where(func(r Request) bool { return r.Verb == "create" && r.Subresource == "" && r.Code == 201 })
	slices.SortStableFunc(created, func(a, b Request) int { return cmp.Compare(a.ResourceVersion, b.ResourceVersion) })
	return created
}

// Deletes returns the requests that deleted an object, or that marked it for deletion.
func (t Trail) Deletes() Trail {
	return t.Where(func(r Request) bool { return r.Verb == "delete" && r.Code < 300 })
}

// Objects returns [Request.Object] of each request.
func (t Trail) Objects() []string {
	objects := make([]string, len(t))
	for i, r := range t {
		objects[i] = r.Object()
	}
	return objects
}

// Run is the life of a Job, or of a Pod that nothing owns.
type Run struct {
	Resource, Name     string
	Created            int64 // the resource version of its creation
	Ended              int64 // the resource version by which it was complete or failed; 0 if it never was
	Succeeded          bool
	CreatedAt, EndedAt time.Time
}

// Runs returns all Jobs, and all Pods that nothing owns, in the order of their creation.
func (t Trail) Runs() []Run {
	var runs []Run
	byUID := map[string]int{}
	for _, r := range t.Of("jobs", "pods").Creates() {
		if len(r.Owners) == 0 {
			byUID[r.UID] = len(runs)
			runs = append(runs, Run{Resource: r.Resource, Name: r.Name, Created: r.ResourceVersion, CreatedAt: r.AnsweredAt})
		}
	}
	for _, r := range t.Of("jobs", "pods") {
		i, known := byUID[r.UID]
		if !known || !r.finished || r.ResourceVersion <= runs[i].Created {
			continue
		}
		// Later updates of an object that has ended say so again; the first one counts.
		if ended := runs[i].Ended; ended == 0 || r.ResourceVersion < ended {
			runs[i].Ended, runs[i].EndedAt, runs[i].Succeeded = r.ResourceVersion, r.AnsweredAt, r.succeeded
		}
	}
	return runs
}

// MaxActive returns how many of the runs were active at once at most. One that never ended counts as active for ever.
func MaxActive(runs []Run) int {
	type change struct {
		at   int64
		step int
	}
	var changes []change
	for _, r := range runs {
		changes = append(changes, change{r.Created, +1})
		if r.Ended != 0 {
			changes = append(changes, change{r.Ended, -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	active, most := 0, 0
	for _, c := range changes {
		active += c.step
		most = max(most, active)
	}
	return most
}

// Log collects what an API server writes, sorted by namespace. Objects that have no namespace are found under "".
type Log struct {
	mu       sync.Mutex
	rest     []byte // the beginning of a line whose end has not come yet
	trails   map[string]Trail
	changed  chan struct{} // closed and replaced whenever there is something new
	firstErr error
}

// NewLog returns an empty log. It is to be given to the control plane as its audit writer.
func NewLog() *Log {
	return &Log{trails: map[string]Trail{}, changed: make(chan struct{})}
}

// Write takes the next piece of the log. It never fails, for that would break the API server's pipe: a line that is
// not an event is reported by [Log.Trail].
func (l *Log) Write(piece []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, piece...)
	for {
		line, rest, complete := bytes.Cut(l.rest, []byte("\n"))
		if !complete {
			break
		}
		if err := l.add(line); err != nil && l.firstErr == nil {
			l.firstErr = fmt.Errorf("audit log: %w in %.200q", err, line)
		}
		l.rest = rest
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return len(piece), nil
}

func (l *Log) add(line []byte) error {
	var event struct {
		Verb, RequestURI, UserAgent string
		User                        struct{ Username string }
		ObjectRef                   struct{ Resource, Namespace, Name, UID, APIGroup, Subresource string }
		ResponseStatus              struct{ Code int }
		RequestObject               json.RawMessage
		ResponseObject              json.RawMessage
		RequestReceivedTimestamp    time.Time
		StageTimestamp              time.Time
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return err
	}
	r := Request{
		User: event.User.Username, UserAgent: event.UserAgent, Verb: event.Verb, URI: event.RequestURI,
		Group: event.ObjectRef.APIGroup, Resource: event.ObjectRef.Resource, Subresource: event.ObjectRef.Subresource,
		Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name, Code: event.ResponseStatus.Code,
		ReceivedAt: event.RequestReceivedTimestamp, AnsweredAt: event.StageTimestamp,
		RequestBody: event.RequestObject, ResponseBody: event.ResponseObject,
	}
	if len(r.ResponseBody) > 0 {
		if err := r.readResponse(); err != nil {
			return err
		}
	}
	l.trails[r.Namespace] = append(l.trails[r.Namespace], r)
	return nil
}

func (r *Request) readResponse() error {
	var object struct {
		Kind     string
		Metadata struct {
			Name, UID, ResourceVersion string
			OwnerReferences            []struct{ Kind string }
		}
		// Errors and some deletions are answered by a Status whose status is a word.
		Status json.RawMessage
	}
	if err := json.Unmarshal(r.ResponseBody, &object); err != nil {
		return err
	}
	if object.Kind == "Status" {
		return nil
	}
	r.UID = object.Metadata.UID
	if r.Name == "" {
		r.Name = object.Metadata.Name // the server chose it, or the URI of a creation did not have it
	}
	for _, owner := range object.Metadata.OwnerReferences {
		r.Owners = append(r.Owners, owner.Kind)
	}
	if version := object.Metadata.ResourceVersion; version != "" {
		var err error
		if r.ResourceVersion, err = strconv.ParseInt(version, 10, 64); err != nil {
			return err
		}
	}
	if (r.Resource != "jobs" && r.Resource != "pods") || len(object.Status) == 0 {
		return nil
	}
	var status struct {
		Phase      corev1.PodPhase
		Conditions []struct{ Type, Status string }
	}
	if err := json.Unmarshal(object.Status, &status); err != nil {
		return err
	}
	r.succeeded = status.Phase == corev1.PodSucceeded
	r.finished = r.succeeded || status.Phase == corev1.PodFailed
	for _, condition := range status.Conditions {
		if r.Resource == "jobs" && condition.Status == "True" && (condition.Type == "Complete" || condition.Type == "Failed") {
			r.finished, r.succeeded = true, condition.Type == "Complete"
		}
	}
	return nil
}

const marker = "audit-log-marker-"

// Trail returns the requests of a namespace that had been answered before the call. To know that it has seen them
// all, it makes one of its own through the client and waits for that.
func (l *Log) Trail(ctx context.Context, client kubernetes.Interface, namespace string) (Trail, error) {
	name := marker + rand.String(10)
	if namespace == metav1.NamespaceNone {
		if _, err := client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("asking for a marker: %w", err)
		}
	} else if _, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("asking for a marker in %q: %w", namespace, err)
	}
	if _, err := l.Await(ctx, namespace, func(r Request) bool { return r.Name == name }); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.trails[namespace]
	return all.Where(func(r Request) bool { return !strings.HasPrefix(r.Name, marker) }), l.firstErr
}

// Await returns the first request of a namespace that is as wanted, which may have been made already.
func (l *Log) Await(ctx context.Context, namespace string, wanted func(Request) bool) (Request, error) {
	seen := 0
	for {
		l.mu.Lock()
		trail, changed := l.trails[namespace], l.changed
		l.mu.Unlock()
		for ; seen < len(trail); seen++ {
			if wanted(trail[seen]) {
				return trail[seen], nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Request{}, fmt.Errorf("audit log of %q: not seen among %d requests: %w", namespace, seen, ctx.Err())
		}
	}
}

// Forget frees what is kept of a namespace.
func (l *Log) Forget(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.trails, namespace)
}
