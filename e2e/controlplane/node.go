package controlplane

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

const nodeName = "node"

// prepareCluster gives the cluster a node and a storage class, and waits for what every pod needs: the node being
// ready, and the controller manager making service accounts.
func prepareCluster(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "standard",
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: "parallel-hooks.test/none", // kwok.yaml binds the claims
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   nodeName,
		Labels: map[string]string{"kubernetes.io/hostname": nodeName, "kubernetes.io/os": "linux"},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	core := client.CoreV1().RESTClient()
	if err := waitFor(ctx, core, "nodes", metav1.NamespaceNone, nodeName, &corev1.Node{}, nodeReady); err != nil {
		return fmt.Errorf("waiting for the node: %w", err)
	}
	exists := func(runtime.Object) bool { return true }
	if err := waitFor(ctx, core, "serviceaccounts", metav1.NamespaceDefault, "default", &corev1.ServiceAccount{}, exists); err != nil {
		return fmt.Errorf("waiting for the default service account: %w", err)
	}
	return nil
}

func nodeReady(object runtime.Object) bool {
	for _, condition := range object.(*corev1.Node).Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// waitFor returns when the object of this name exists and is as it should be.
func waitFor(
	ctx context.Context, client cache.Getter, resource, namespace, name string, kind runtime.Object, ready func(runtime.Object) bool,
) error {
	lw := cache.NewListWatchFromClient(client, resource, namespace, fields.OneTermEqualSelector("metadata.name", name))
	_, err := watchtools.UntilWithSync(ctx, lw, kind, nil, func(event watch.Event) (bool, error) {
		return event.Type != watch.Deleted && ready(event.Object), nil
	})
	return err
}
