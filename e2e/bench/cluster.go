package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
)

// userAgent is that of the bench's own requests, which are no contestant's.
const userAgent = "parallel-hooks-bench"

// cluster is where the contestants run.
type cluster struct {
	kubeconfig string
	client     kubernetes.Interface // of the bench itself
	floor      kubernetes.Interface
	version    string     // of Kubernetes
	audit      *audit.Log // nil where there is none
	plane      *controlplane.ControlPlane
}

// startCluster starts a control plane. What it writes for an audit log makes it slower for everybody, so there is one
// only where requests are counted.
func startCluster(ctx context.Context, binaries string, audited bool) (*cluster, error) {
	c := &cluster{}
	options := controlplane.Options{Binaries: binaries}
	if audited {
		c.audit = audit.NewLog()
		options.Audit = c.audit
	}
	var err error
	if c.plane, err = controlplane.Start(ctx, options); err != nil {
		return nil, err
	}
	if err := c.connect(c.plane.Kubeconfig); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// foreignCluster uses a cluster that is there.
func foreignCluster(kubeconfig string) (*cluster, error) {
	kubeconfig, err := filepath.Abs(kubeconfig)
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	return c, c.connect(kubeconfig)
}

func (c *cluster) connect(kubeconfig string) error {
	c.kubeconfig = kubeconfig
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	// What the floor needs must not be the bench's own time: this costs both sides the least.
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	named := func(name string) (kubernetes.Interface, error) {
		config := rest.CopyConfig(config)
		config.UserAgent = name
		return kubernetes.NewForConfig(config)
	}
	if c.client, err = named(userAgent); err != nil {
		return err
	}
	if c.floor, err = named("floor"); err != nil {
		return err
	}
	version, err := c.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	c.version = version.GitVersion
	return nil
}

func (c *cluster) stop() error {
	if c.plane == nil {
		return nil
	}
	return c.plane.Stop()
}

// namespace creates a namespace in which pods can be made at once.
func (c *cluster) namespace(ctx context.Context) (string, error) {
	created, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	err = wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := c.client.CoreV1().ServiceAccounts(created.Name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, ignoreNotFound(err)
	})
	if err != nil {
		return created.Name, fmt.Errorf("waiting for the default service account of %s: %w", created.Name, err)
	}
	return created.Name, nil
}

// remove deletes namespaces and returns when they are gone: what their deletion costs the cluster must not be part of
// what is measured next.
func (c *cluster) remove(ctx context.Context, namespaces []string) error {
	for _, name := range namespaces {
		if err := c.client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		if c.audit != nil {
			c.audit.Forget(name)
		}
	}
	for _, name := range namespaces {
		err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			_, err := c.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), ignoreNotFound(err)
		})
		if err != nil {
			return fmt.Errorf("waiting for the namespace %s to be gone: %w", name, err)
		}
	}
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// requests returns the requests that were made so far in a namespace, and without a namespace, by other than the
// control plane and the bench.
func (c *cluster) requests(ctx context.Context, namespace string) (audit.Trail, error) {
	var all audit.Trail
	for _, place := range []string{namespace, metav1.NamespaceNone} {
		trail, err := c.audit.Trail(ctx, c.client, place)
		if err != nil {
			return nil, err
		}
		all = append(all, trail.Where(byContestant)...)
	}
	return all, nil
}

func byContestant(r audit.Request) bool {
	for _, prefix := range []string{userAgent, "kube-", "kwok"} {
		if strings.HasPrefix(r.UserAgent, prefix) {
			return false
		}
	}
	return true
}
