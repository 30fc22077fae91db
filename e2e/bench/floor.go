package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// floorRun runs a workload as fast as the cluster allows: creates, so many at a time, and one watch that tells which
// have ended. No Helm, no record, no limit on the client's side.
type floorRun struct {
	client      kubernetes.Interface
	namespace   string
	release     string // what names begin with
	workload    workload
	parallelism int
	recreate    bool // the objects exist, and are deleted first
	// ended reports whether an object is done; nil: once it exists.
	ended func(runtime.Object) (bool, error)

	*progress
}

// progress is what is known of the objects of a run under way.
type progress struct {
	done chan struct{} // one value for each object that has ended

	mu     sync.Mutex
	waited map[types.UID]bool // those that were created and have not ended
	early  map[types.UID]bool // those that have ended before the answer to their creation came
}

// run returns how long it took from before the first request until the last object was seen to have ended.
func (f *floorRun) run(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.progress = &progress{
		done: make(chan struct{}, f.workload.count), waited: map[types.UID]bool{}, early: map[types.UID]bool{},
	}
	var requests sync.WaitGroup
	defer requests.Wait()

	begin := time.Now()
	if f.ended != nil {
		requests.Go(func() {
			if err := f.watch(ctx); err != nil {
				cancel(fmt.Errorf("floor: watching: %w", err))
			}
		})
	}
	for started, ended := 0, 0; ended < f.workload.count; {
		for started < f.workload.count && started-ended < f.parallelism {
			n := started
			started++
			requests.Go(func() {
				if err := f.create(ctx, n); err != nil {
					cancel(fmt.Errorf("floor: %w", err))
				}
			})
		}
		select {
		case <-f.done:
			ended++
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	took := time.Since(begin)
	cancel(nil)
	return took, nil
}

func (f *floorRun) create(ctx context.Context, n int) error {
	if f.recreate {
		if err := f.delete(ctx, n); err != nil {
			return err
		}
	}
	var created metav1.Object
	var err error
	switch object := f.workload.object(f.release, n).(type) {
	case *batchv1.Job:
		created, err = f.client.BatchV1().Jobs(f.namespace).Create(ctx, object, metav1.CreateOptions{})
	case *corev1.Pod:
		created, err = f.client.CoreV1().Pods(f.namespace).Create(ctx, object, metav1.CreateOptions{})
	case *corev1.ConfigMap:
		created, err = f.client.CoreV1().ConfigMaps(f.namespace).Create(ctx, object, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	if f.ended == nil {
		f.done <- struct{}{}
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	uid := created.GetUID()
	if f.early[uid] {
		f.done <- struct{}{}
		return nil
	}
	f.waited[uid] = true
	return nil
}

// delete deletes the nth object, which is gone with the answer: nothing here has a finalizer or runs any more.
func (f *floorRun) delete(ctx context.Context, n int) error {
	object := f.workload.object(f.release, n)
	job, ok := object.(*batchv1.Job)
	if !ok {
		return fmt.Errorf("%T is not to be recreated", object)
	}
	return f.client.BatchV1().Jobs(f.namespace).Delete(ctx, job.Name, metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground),
	})
}

// watch follows the workload's kind in the namespace until ctx ends. It begins while objects are created, which is before
// any of them ends, and asks for one object only to learn the version of the whole. A server under load drops watches: a
// further one begins with all that is there.
func (f *floorRun) watch(ctx context.Context) error {
	one := metav1.ListOptions{Limit: 1}
	var options metav1.ListOptions
	if f.workload.kind == "Job" {
		list, err := f.client.BatchV1().Jobs(f.namespace).List(ctx, one)
		if err != nil {
			return err
		}
		options.ResourceVersion = list.ResourceVersion
	} else {
		list, err := f.client.CoreV1().Pods(f.namespace).List(ctx, one)
		if err != nil {
			return err
		}
		options.ResourceVersion = list.ResourceVersion
	}
	for ctx.Err() == nil {
		if err := f.follow(ctx, options); err != nil && ctx.Err() == nil {
			return err
		}
		options.ResourceVersion = ""
	}
	return nil
}

func (f *floorRun) follow(ctx context.Context, options metav1.ListOptions) error {
	var events watch.Interface
	var err error
	if f.workload.kind == "Job" {
		events, err = f.client.BatchV1().Jobs(f.namespace).Watch(ctx, options)
	} else {
		events, err = f.client.CoreV1().Pods(f.namespace).Watch(ctx, options)
	}
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		if event.Type != watch.Added && event.Type != watch.Modified {
			continue
		}
		if ended, err := f.ended(event.Object); err != nil {
			return err
		} else if !ended {
			continue
		}
		object, err := meta.Accessor(event.Object)
		if err != nil {
			return err
		}
		f.note(object.GetUID())
	}
	return nil
}

func (p *progress) note(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waited[uid] {
		delete(p.waited, uid)
		p.done <- struct{}{}
		return
	}
	p.early[uid] = true
}

// succeeded reports whether a Job or Pod has ended well.
func succeeded(object runtime.Object) (bool, error) {
	switch object := object.(type) {
	case *batchv1.Job:
		for _, condition := range object.Status.Conditions {
			switch {
			case condition.Status != corev1.ConditionTrue:
			case condition.Type == batchv1.JobComplete:
				return true, nil
			case condition.Type == batchv1.JobFailed:
				return false, fmt.Errorf("job %s failed: %s", object.Name, condition.Reason)
			}
		}
	case *corev1.Pod:
		switch object.Status.Phase {
		case corev1.PodSucceeded:
			return true, nil
		case corev1.PodFailed:
			return false, fmt.Errorf("pod %s failed", object.Name)
		}
	}
	return false, nil
}

// settled reports whether the Job controller has nothing more to do for a suspended Job.
func settled(object runtime.Object) (bool, error) {
	for _, condition := range object.(*batchv1.Job).Status.Conditions {
		if condition.Type == batchv1.JobSuspended && condition.Status == corev1.ConditionTrue {
			return true, nil
		}
	}
	return false, nil
}

// there reports an object that exists as done.
func there(runtime.Object) (bool, error) { return true, nil }
