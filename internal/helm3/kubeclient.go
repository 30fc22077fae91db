package helm3

import (
	"context"
	"errors"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"helm.sh/helm/v3/pkg/kube"
)

// kubeClient is Helm's kube client, decorated: it runs hooks before resources are
// created or changed and after they are waited for. The client is embedded as it
// is, so that every optional interface for which Helm asks stays implemented.
type kubeClient struct {
	*kube.Client
	operation *Operation
}

// Create implements [kube.Interface].
func (c *kubeClient) Create(resources kube.ResourceList) (*kube.Result, error) {
	if err := c.operation.beforeResources(); err != nil {
		return nil, err
	}
	return c.Client.Create(resources)
}

// Update implements [kube.Interface].
func (c *kubeClient) Update(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	if err := c.operation.beforeResources(); err != nil {
		return &kube.Result{}, err
	}
	return c.Client.Update(original, target, force)
}

// UpdateThreeWayMerge implements [kube.InterfaceThreeWayMerge].
func (c *kubeClient) UpdateThreeWayMerge(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	if err := c.operation.beforeResources(); err != nil {
		return &kube.Result{}, err
	}
	return c.Client.UpdateThreeWayMerge(original, target, force)
}

// Delete implements [kube.Interface].
func (c *kubeClient) Delete(resources kube.ResourceList) (*kube.Result, []error) {
	if cause := context.Cause(c.operation.ctx); errors.Is(cause, errLeaseLost) {
		return &kube.Result{}, []error{cause} // somebody else may rely on them by now
	}
	if c.operation.untouched && len(resources) == 0 {
		// A rollback that cleans up on failure comes here although its
		// hooks failed, and Helm fails to delete nothing.
		return &kube.Result{}, nil
	}
	return c.Client.Delete(resources)
}

// Wait implements [kube.Interface].
func (c *kubeClient) Wait(resources kube.ResourceList, timeout time.Duration) error {
	if c.operation.pending == nil {
		return c.Client.Wait(resources, timeout) // CRDs, before there is a record
	}
	return c.operation.afterResources(resources, timeout)
}

// WaitWithJobs implements [kube.Interface].
func (c *kubeClient) WaitWithJobs(resources kube.ResourceList, timeout time.Duration) error {
	if c.operation.pending == nil {
		return c.Client.WaitWithJobs(resources, timeout)
	}
	return c.operation.afterResources(resources, timeout, kube.CheckJobs(true))
}

// DeleteWithPropagationPolicy implements [kube.InterfaceDeletionPropagation]. Helm's
// Uninstall calls it once the record says so.
func (c *kubeClient) DeleteWithPropagationPolicy(resources kube.ResourceList, policy metav1.DeletionPropagation) (*kube.Result, []error) {
	if err := c.operation.beforeDeletion(); err != nil {
		return nil, []error{err}
	}
	result, errs := c.Client.DeleteWithPropagationPolicy(resources, policy)
	c.operation.undeleted = errors.Join(errs...)
	return result, errs
}

// WaitForDelete implements [kube.InterfaceExt]. Helm's Uninstall calls it between
// the deletion of the resources and that of the record.
func (c *kubeClient) WaitForDelete(resources kube.ResourceList, timeout time.Duration) error {
	if c.operation.uninstalling == nil {
		return c.Client.WaitForDelete(resources, timeout)
	}
	return c.operation.afterDeletion(resources, timeout)
}

// readyInterval is how often Helm looks whether resources are ready, or gone
// (pkg/kube/wait.go).
const readyInterval = 2 * time.Second

// readyRetries is how often in a row Helm bears an error of a resource that may
// pass.
const readyRetries = 30

// waitGone waits until the resources are gone, as Helm does, but can be
// interrupted (pkg/kube/wait.go, waitForDeletedResources).
func (o *Operation) waitGone(resources kube.ResourceList, timeout time.Duration) error {
	o.cfg.Log("beginning wait for %d resources to be deleted with timeout of %v", len(resources), timeout)
	stoppable, stop := o.untilStopped()
	defer stop()
	ctx, cancel := context.WithTimeout(stoppable, timeout)
	defer cancel()
	return wait.PollUntilContextCancel(ctx, readyInterval, true, func(context.Context) (bool, error) {
		for _, resource := range resources {
			if err := resource.Get(); err == nil || !apierrors.IsNotFound(err) {
				return false, err
			}
		}
		return true, nil
	})
}

// waitReady waits until the resources are ready, as Helm does, but can be
// interrupted (pkg/kube/wait.go, waitForResources).
func (o *Operation) waitReady(resources kube.ResourceList, timeout time.Duration, checks ...kube.ReadyCheckerOption) error {
	clients, err := o.cfg.KubernetesClientSet()
	if err != nil {
		return err
	}
	checker := kube.NewReadyChecker(clients, o.cfg.Log, append(checks, kube.PausedAsReady(true))...)
	o.cfg.Log("beginning wait for %d resources with timeout of %v", len(resources), timeout)

	stoppable, stop := o.untilStopped()
	defer stop()
	ctx, cancel := context.WithTimeout(stoppable, timeout)
	defer cancel()
	failures := make([]int, len(resources)) // in a row
	err = wait.PollUntilContextCancel(ctx, readyInterval, true, func(ctx context.Context) (bool, error) {
		for i, resource := range resources {
			ready, err := checker.IsReady(ctx, resource)
			if err != nil && isPassing(err) {
				o.cfg.Log("Error received when checking status of resource %s. Error: '%s'", resource.Name, err)
				if failures[i]++; failures[i] > readyRetries {
					return false, err
				}
				return false, nil
			}
			failures[i] = 0
			if !ready {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil && stoppable.Err() != nil {
		return context.Cause(stoppable)
	}
	return err
}

// isPassing reports whether the error of a request is one that Helm expects to
// pass (pkg/kube/wait.go, isRetryableError).
func isPassing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code == 0 || code == http.StatusTooManyRequests || code >= 500 && code != http.StatusNotImplemented
}
