// Package apimodel is test support: a model of a Kubernetes API server and of the
// controllers behind it, as an [http.RoundTripper]. It needs no socket and no process,
// so that it runs in the virtual time of testing/synctest: a client may be shown hours
// of latency, faults and outages in no time.
//
// What a model does is drawn from a seed by what is asked and how often that was asked
// before, not by the order in which goroutines come: the same seed gives the same
// world. The model keeps its own history of what was asked and of what became of each
// object, by which a client can be judged.
package apimodel

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// HookAnnotation is set by those who create objects: its value is in the history, so
// that two objects of the same name can be told apart.
const HookAnnotation = "apimodel/hook"

// Host is what a client's configuration names as its host.
const Host = "http://apimodel"

// kinds are what the model serves.
var kinds = map[schema.GroupVersionKind]meta.RESTScope{
	{Group: "batch", Version: "v1", Kind: "Job"}:                             meta.RESTScopeNamespace,
	{Version: "v1", Kind: "Pod"}:                                             meta.RESTScopeNamespace,
	{Version: "v1", Kind: "ConfigMap"}:                                       meta.RESTScopeNamespace,
	{Version: "v1", Kind: "Secret"}:                                          meta.RESTScopeNamespace,
	{Version: "v1", Kind: "ServiceAccount"}:                                  meta.RESTScopeNamespace,
	{Version: "v1", Kind: "Event"}:                                           meta.RESTScopeNamespace,
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}:        meta.RESTScopeNamespace,
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}: meta.RESTScopeRoot,
	{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"}:       meta.RESTScopeNamespace,
}

// Mapper returns the mapper of the kinds that the model serves.
func Mapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind, scope := range kinds {
		mapper.Add(kind, scope)
	}
	return mapper
}

// kindOf returns the kind by its resource's name.
var kindOf = func() map[string]schema.GroupVersionKind {
	all := map[string]schema.GroupVersionKind{}
	for kind := range kinds {
		plural, _ := meta.UnsafeGuessKindToResource(kind)
		all[plural.Resource] = kind
	}
	return all
}()

// Key names an object.
type Key struct{ Resource, Namespace, Name string }

func (k Key) String() string { return k.Resource + "/" + k.Name }

// Fate is what the cluster does with an object.
type Fate struct {
	// Refused is the status code with which its creation is refused; 0: it isn't.
	Refused int
	// Runs is how long a Job or a Pod runs until it ends; negative: for ever.
	Runs time.Duration
	// Fails says that it ends badly.
	Fails bool
	// Expires is how long after its end a Job is deleted by the cluster; negative:
	// it isn't.
	Expires time.Duration
	// DeletedAfter is how long after its creation somebody deletes it; 0: nobody
	// does.
	DeletedAfter time.Duration
	// Lingers is for how long a finalizer holds it once its deletion was asked for;
	// negative: for ever.
	Lingers time.Duration
	// Returned says that the answer to the deletion holds the object although that
	// is gone already.
	Returned bool
}

// Life is the history of one object, from its creation to its removal. Times are
// zero for what has not happened.
type Life struct {
	Key
	UID string
	// Hook is the value of [HookAnnotation].
	Hook    string
	Fate    Fate
	Created time.Time
	// Ended is when it was complete or had failed.
	Ended  time.Time
	Failed bool
	// endedAt is the resource version of that.
	endedAt int64
	Removed time.Time
	// By is who removed it.
	By By
	// Unseen says that a client may not know of a failure before the removal: it
	// may not watch, or had lost its watch and was refused what came meanwhile.
	Unseen bool
}

// By is who has removed an object.
type By string

// Those who remove objects.
const (
	ByClient   By = "the client"
	BySomebody By = "somebody"
	ByTTL      By = "its time to live"
)

// Config says what a model is like.
type Config struct {
	Seed uint64
	// Fate says what becomes of an object that is about to be created.
	Fate func(key Key, hook string) Fate
	// Latency is the most that a request takes to the server, and as much again
	// its answer; at least a hundredth of that each.
	Latency time.Duration
	// Lag is the most by which an event comes late to a watch.
	Lag time.Duration
	// Skew is by how much the server's clock is ahead.
	Skew   time.Duration
	Faults Faults
	// ForbidWatch has every watch refused.
	ForbidWatch bool
}

// Model is the API server. It's safe for concurrent use, in the bubble of
// testing/synctest in which it was made.
type Model struct {
	config Config
	begun  time.Time

	mu        sync.Mutex
	changed   chan struct{} // closed, and replaced, when history grows
	version   int64
	compacted int64
	objects   map[Key]*object
	history   []event
	lives     []*Life
	requests  []*Request
	counts    map[string]int
	trace     []string
}

type object struct {
	content map[string]any
	life    *Life
}

// event is a change of an object.
type event struct {
	version int64
	at      time.Time
	kind    string // ADDED, MODIFIED, DELETED
	key     Key
	labels  map[string]any
	object  []byte
}

// New returns a model of an empty cluster.
func New(config Config) *Model {
	m := &Model{
		config: config, begun: time.Now(), changed: make(chan struct{}), version: 100,
		objects: map[Key]*object{}, counts: map[string]int{},
	}
	m.compact()
	return m
}

// rand returns a source of numbers for a purpose, the same for the same seed.
func (m *Model) rand(purpose ...any) *rand.Rand {
	return Rand(m.config.Seed, purpose...)
}

// Rand returns a source of numbers for a purpose, the same for the same seed.
func Rand(seed uint64, purpose ...any) *rand.Rand {
	hash := fnv.New64a()
	fmt.Fprintln(hash, purpose...)
	return rand.New(rand.NewPCG(seed, hash.Sum64()))
}

// Between draws a duration.
func Between(r *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// Put stores an object that was there before anybody asks.
func (m *Model) Put(manifest map[string]any, namespace string, fate Fate) error {
	apiVersion, _ := manifest["apiVersion"].(string)
	kind, _ := manifest["kind"].(string)
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	scope := kinds[gvk]
	if scope == nil {
		return fmt.Errorf("the model serves no %v", gvk)
	}
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	key := Key{Resource: plural.Resource, Name: nested(manifest, "metadata", "name")}
	if scope.Name() == meta.RESTScopeNameNamespace {
		key.Namespace = namespace
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.create(key, runtime.DeepCopyJSON(manifest), "", fate)
	return nil
}

// create stores an object and begins its life. m.mu must be held, as for all below.
func (m *Model) create(key Key, content map[string]any, hook string, fate Fate) *object {
	life := &Life{Key: key, UID: fmt.Sprintf("uid-%d", len(m.lives)+1), Hook: hook, Fate: fate, Created: time.Now()}
	m.lives = append(m.lives, life)
	metadata := content["metadata"].(map[string]any)
	metadata["uid"] = life.UID
	metadata["creationTimestamp"] = m.stamp()
	if key.Namespace != "" {
		metadata["namespace"] = key.Namespace
	}
	o := &object{content, life}
	m.objects[key] = o
	m.commit("ADDED", o)
	if key.Resource == "jobs" || key.Resource == "pods" {
		m.start(o)
	}
	if fate.DeletedAfter > 0 {
		m.after(o, fate.DeletedAfter, func() { m.remove(o, BySomebody) })
	}
	return o
}

// stamp returns the server's time as objects have it.
func (m *Model) stamp() string {
	return time.Now().Add(m.config.Skew).UTC().Format(time.RFC3339)
}

// after does something with an object later, unless it's gone by then.
func (m *Model) after(o *object, delay time.Duration, do func()) {
	time.AfterFunc(delay, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if o.life.Removed.IsZero() {
			do()
		}
	})
}

// start lets a Job or a Pod run and end as its fate says.
func (m *Model) start(o *object) {
	fate := o.life.Fate
	status := func(change map[string]any) func() {
		return func() {
			status, _ := o.content["status"].(map[string]any)
			o.content["status"] = maps.Clone(status)
			if status == nil {
				o.content["status"] = map[string]any{}
			}
			maps.Copy(o.content["status"].(map[string]any), change)
			m.commit("MODIFIED", o)
		}
	}
	isJob := o.life.Resource == "jobs"
	running := map[string]any{"phase": "Running"}
	if isJob {
		running = map[string]any{"active": int64(1), "startTime": m.stamp()}
	}
	at := Between(m.rand("start", o.life.Key), 0, 2*time.Second)
	if fate.Runs >= 0 {
		at = min(at, fate.Runs/2)
	}
	m.after(o, at, status(running))
	if fate.Runs < 0 {
		return
	}
	m.after(o, fate.Runs, func() {
		phase, conditions := "Succeeded", []string{"SuccessCriteriaMet", "Complete"}
		reason := "CompletionsReached"
		if fate.Fails {
			phase, conditions = "Failed", []string{"FailureTarget", "Failed"}
			reason = "BackoffLimitExceeded"
		}
		ended := map[string]any{"phase": phase}
		if isJob {
			all := make([]any, len(conditions))
			for i, condition := range conditions {
				all[i] = map[string]any{"type": condition, "status": "True", "reason": reason}
			}
			// Kubernetes sets the first condition some time before the other.
			status(map[string]any{"conditions": all[:1], "active": int64(0)})()
			ended = map[string]any{"conditions": all}
		}
		status(ended)()
		o.life.Ended, o.life.Failed, o.life.endedAt = time.Now(), fate.Fails, m.version
		m.note("%s %s (%s)", o.life.Key, strings.ToLower(phase), o.life.UID)
		if isJob && fate.Expires >= 0 {
			m.after(o, fate.Expires, func() { m.remove(o, ByTTL) })
		}
	})
}

// remove deletes an object, or marks it as long as a finalizer holds it, and reports
// whether it's gone.
func (m *Model) remove(o *object, by By) bool {
	metadata := o.content["metadata"].(map[string]any)
	if metadata["deletionTimestamp"] != nil {
		return false
	}
	lingers := o.life.Fate.Lingers
	gone := func() {
		o.life.Removed, o.life.By = time.Now(), by
		o.life.Unseen = o.life.Unseen || m.config.ForbidWatch
		delete(m.objects, o.life.Key)
		m.commit("DELETED", o)
		m.note("%s removed by %s (%s)", o.life.Key, by, o.life.UID)
	}
	if lingers == 0 {
		gone()
		return true
	}
	metadata = maps.Clone(metadata)
	metadata["deletionTimestamp"] = m.stamp()
	metadata["finalizers"] = []any{"example.com/hold"}
	o.content["metadata"] = metadata
	m.commit("MODIFIED", o)
	if lingers > 0 {
		m.after(o, lingers, gone)
	}
	return false
}

// commit gives an object that has changed its version and tells who watches.
func (m *Model) commit(kind string, o *object) {
	m.version++
	metadata := maps.Clone(o.content["metadata"].(map[string]any))
	metadata["resourceVersion"] = fmt.Sprint(m.version)
	o.content["metadata"] = metadata
	labels, _ := metadata["labels"].(map[string]any)
	m.history = append(m.history, event{m.version, time.Now(), kind, o.life.Key, labels, encode(o.content)})
	close(m.changed)
	m.changed = make(chan struct{})
}

// compact forgets the history from time to time, if that's one of the faults.
func (m *Model) compact() {
	every := m.config.Faults.CompactEvery
	if every <= 0 {
		return
	}
	r := m.rand("compact")
	var again func()
	again = func() {
		time.AfterFunc(Between(r, every/10, 2*every), func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.config.Faults.over(time.Since(m.begun)) {
				return
			}
			m.compacted = m.version
			m.note("history compacted up to %d", m.compacted)
			again()
		})
	}
	again()
}

// note adds a line to the trace.
func (m *Model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%10.4fs  ", time.Since(m.begun).Seconds())+fmt.Sprintf(format, args...))
}

// Trace returns all that has happened, for a person.
func (m *Model) Trace() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.trace)
}

// Note adds to the trace what somebody else has to say.
func (m *Model) Note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(format, args...)
}

// Lives returns the history of all objects, in the order of their creation.
func (m *Model) Lives() []Life {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Life, len(m.lives))
	for i, life := range m.lives {
		all[i] = *life
	}
	return all
}

// Requests returns all requests, in the order in which they were sent.
func (m *Model) Requests() []Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Request, len(m.requests))
	for i, request := range m.requests {
		all[i] = *request
	}
	return all
}

func nested(content map[string]any, path ...string) string {
	for _, step := range path[:len(path)-1] {
		content, _ = content[step].(map[string]any)
	}
	text, _ := content[path[len(path)-1]].(string)
	return text
}

func encode(content any) []byte {
	text, err := json.Marshal(content)
	if err != nil {
		panic(err) // it was made of JSON
	}
	return text
}
