package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
)

// history is everything that etcd has stored, by namespace. It knows also what an API server stored that died before
// it could write its audit log.
type history struct {
	client *clientv3.Client
	stop   context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	changes map[string][]change
	seen    int64         // the last revision
	changed chan struct{} // closed and replaced whenever there is something new
	err     error
}

// change is a creation, an update or a deletion. Its revision is the resource version of the object.
type change struct {
	object   string // as in "jobs/migrate"
	revision int64
	created  bool
	deleted  bool
	job      *batchv1.Job // what it is now, if it is one
}

// markerKey is outside of what the API server knows.
const markerKey = "parallel-hooks.test/marker"

func watchEtcd(plane *controlplane.ControlPlane) (*history, error) {
	client, err := plane.EtcdClient()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	h := &history{client: client, stop: stop, ended: make(chan struct{}), changes: map[string][]change{}, changed: make(chan struct{})}
	answers := client.Watch(ctx, "", clientv3.WithPrefix())
	go func() {
		defer close(h.ended)
		for answer := range answers {
			h.add(answer)
		}
	}()
	return h, nil
}

func (h *history) close() error {
	h.stop()
	<-h.ended
	return h.client.Close()
}

func (h *history) add(answer clientv3.WatchResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() {
		close(h.changed)
		h.changed = make(chan struct{})
	}()
	if err := answer.Err(); err != nil {
		h.err = fmt.Errorf("watching etcd: %w", err)
		return
	}
	for _, event := range answer.Events {
		h.seen = event.Kv.ModRevision
		namespace, object, ok := keyOf(string(event.Kv.Key))
		if !ok {
			continue
		}
		c := change{object: object, revision: event.Kv.ModRevision, created: event.IsCreate(), deleted: event.Type == clientv3.EventTypeDelete}
		if strings.HasPrefix(object, "jobs/") && !c.deleted {
			decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(event.Kv.Value, nil, nil)
			if err != nil {
				h.err = fmt.Errorf("reading %s from etcd: %w", event.Kv.Key, err)
				return
			}
			c.job = decoded.(*batchv1.Job)
		}
		h.changes[namespace] = append(h.changes[namespace], c)
	}
}

// keyOf says which object of a namespace is stored under a key, of those that matter.
func keyOf(key string) (namespace, object string, ok bool) {
	path, ok := strings.CutPrefix(key, "/registry/")
	path = strings.Replace(path, "services/specs/", "services/", 1)
	parts := strings.Split(path, "/")
	if !ok || len(parts) != 3 {
		return "", "", false
	}
	switch parts[0] {
	case "configmaps", "jobs", "secrets", "services":
		return parts[1], parts[0] + "/" + parts[2], true
	}
	return "", "", false
}

// now returns a revision: what was stored before it had been stored before the call.
func (h *history) now(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	put, err := h.client.Put(ctx, markerKey, "")
	if err != nil {
		return 0, fmt.Errorf("asking etcd for its revision: %w", err)
	}
	return put.Header.Revision, nil
}

// between returns what was stored in a namespace after one revision and before another.
func (h *history) between(ctx context.Context, namespace string, from, to int64) ([]change, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		h.mu.Lock()
		all, seen, changed, err := h.changes[namespace], h.seen, h.changed, h.err
		h.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if seen >= to {
			var some []change
			for _, c := range all {
				if c.revision > from && c.revision < to {
					some = append(some, c)
				}
			}
			return some, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("etcd has told until revision %d, not %d: %w", seen, to, ctx.Err())
		}
	}
}

// conditionOf returns the condition by which a Job has ended; nil if it hasn't.
func conditionOf(job *batchv1.Job) *batchv1.JobCondition {
	if job == nil {
		return nil
	}
	for i, condition := range job.Status.Conditions {
		if (condition.Type == batchv1.JobComplete || condition.Type == batchv1.JobFailed) && condition.Status == corev1.ConditionTrue {
			return &job.Status.Conditions[i]
		}
	}
	return nil
}
