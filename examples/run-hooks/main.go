// Command run-hooks runs the hooks of one event out of manifests that are rendered
// already, in parallel and without a release:
//
//	helm template shop ./chart | run-hooks -namespace shop -event pre-install -parallelism 4
//
// It shows what a program needs to run hooks by the package hooks. Ctrl-C lets the
// hooks that run end, and starts no more; a second one leaves at once.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func main() {
	namespace := flag.String("namespace", "default", "where objects go that name no namespace")
	event := flag.String("event", "pre-install", "the event whose hooks run")
	parallelism := flag.Int("parallelism", 4, "how many hooks of one weight run at once")
	timeout := flag.Duration("timeout", 5*time.Minute, "how long one hook may take")
	flag.Parse()
	if err := run(os.Stdin, *namespace, hooks.Event(*event), *parallelism, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(manifests io.Reader, namespace string, event hooks.Event, parallelism int, timeout time.Duration) error {
	all, err := readHooks(manifests)
	if err != nil {
		return err
	}
	// The plan has the hooks of the event alone, and is refused before anything
	// is created if an annotation is wrong.
	plan, err := hooks.NewPlan(event, all, hooks.PlanOptions{Parallelism: parallelism})
	if err != nil {
		return err
	}

	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return err
	}
	config.QPS = -1 // the number of hooks at once bounds the load
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	client, err := hooks.NewClient(config, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found)),
		hooks.ClientOptions{Namespace: namespace, FieldManager: "run-hooks"})
	if err != nil {
		return err
	}
	defer client.Close()

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	stop := make(chan struct{})
	go func() { // until the program ends
		<-signals
		close(stop)
		<-signals
		leave()
	}()

	runner := hooks.Runner{Cluster: client, Observer: progress{}, Timeout: timeout, Stop: stop}
	_, err = runner.Run(ctx, plan)
	return err
}

// progress prints the ends of hooks. The engine calls it with one notice at a time.
type progress struct{}

func (progress) Observe(notice hooks.Notice) {
	if ended, ok := notice.(hooks.HookEnded); ok {
		r := ended.Result
		fmt.Printf("%-9s %s\n", r.Phase, r.Hook)
	}
}

// readHooks returns the hooks among YAML documents, with what helm's annotations say of each.
func readHooks(manifests io.Reader) ([]*hooks.Hook, error) {
	var all []*hooks.Hook
	for documents := yaml.NewYAMLReader(bufio.NewReader(manifests)); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		objects, err := hooks.ParseObjects(string(document))
		if err != nil {
			return nil, err
		}
		if len(objects) == 0 {
			continue
		}
		annotations := objects[0].GetAnnotations()
		events := split[hooks.Event](annotations["helm.sh/hook"])
		if len(events) == 0 {
			continue
		}
		// As in Helm, a weight that is no number is 0.
		weight, _ := strconv.Atoi(annotations["helm.sh/hook-weight"])
		all = append(all, &hooks.Hook{
			Name: objects[0].GetName(), Kind: objects[0].GetKind(), Objects: objects,
			Events: events, Weight: weight,
			DeletePolicies: split[hooks.DeletePolicy](annotations["helm.sh/hook-delete-policy"]),
		})
	}
}

func split[T ~string](list string) []T {
	var parts []T
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(parts, T(part)) {
			parts = append(parts, T(part))
		}
	}
	return parts
}
