package hooks_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// manifest is one of a chart's hooks, rendered.
const manifest = `
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: "example/migrate:1"}]
`

// A plan is data: it can be made and looked at without a cluster.
func ExampleNewPlan() {
	objects, err := hooks.ParseObjects(manifest)
	if err != nil {
		log.Fatal(err)
	}
	migrate := &hooks.Hook{Name: "migrate", Kind: "Job", Events: []hooks.Event{"pre-install"}, Weight: -5, Objects: objects}
	plan, err := hooks.NewPlan("pre-install", []*hooks.Hook{migrate}, hooks.PlanOptions{Parallelism: 8})
	if err != nil {
		log.Fatal(err)
	}
	for _, tier := range plan.Tiers {
		for _, stage := range tier.Stages {
			fmt.Println(tier.Weight, stage.Steps[0].Hook)
		}
	}
	// Output: -5 Job/migrate
}

// Run a plan on the cluster of the current kubeconfig.
func ExampleRunner() {
	var plan *hooks.Plan // see NewPlan

	config, err := clientcmd.BuildConfigFromFlags("", clientcmd.RecommendedHomeFile)
	if err != nil {
		log.Fatal(err)
	}
	config.QPS = -1 // the slots bound the load
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	client, err := hooks.NewClient(config, mapper, hooks.ClientOptions{Namespace: "shop", FieldManager: "example"})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	runner := hooks.Runner{Cluster: client, Timeout: 5 * time.Minute}
	results, err := runner.Run(context.Background(), plan)
	for _, result := range results {
		fmt.Println(result.Hook, result.Phase, result.CompletedAt.Sub(result.StartedAt))
	}
	if err != nil {
		log.Print(err)
	}
}
