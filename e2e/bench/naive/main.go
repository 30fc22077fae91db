// Naive installs a chart with its hooks in parallel in the simplest way: Helm's own code for one hook, in a goroutine
// per hook, bounded by a semaphore. It's what helm/helm pull request 11804 did inside of Helm, and is here for
// comparison only.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
)

func main() {
	parallelism := flag.Int("hook-parallelism", 1, "how many hooks of one weight run at once")
	timeout := flag.Duration("timeout", 5*time.Minute, "how long a hook may take")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: naive [flags] NAME CHART")
		os.Exit(2)
	}
	if err := install(flag.Arg(0), flag.Arg(1), *parallelism, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// installation is the installation of a release with parallel hooks.
type installation struct {
	cfg     *action.Configuration
	client  *kube.Client
	timeout time.Duration

	mu      sync.Mutex // held while the release is changed or written
	release *release.Release
}

func install(name, path string, parallelism int, timeout time.Duration) error {
	kube.ManagedFieldsManager = "helm" // as Helm's own binary
	settings := cli.New()
	cfg := new(action.Configuration)
	if err := cfg.Init(settings.RESTClientGetter(), settings.Namespace(), os.Getenv("HELM_DRIVER"), func(string, ...any) {}); err != nil {
		return err
	}
	chart, err := loader.Load(path)
	if err != nil {
		return err
	}
	// A dry run is all of an installation up to the point where the record is created.
	render := action.NewInstall(cfg)
	render.ReleaseName, render.Namespace = name, settings.Namespace()
	render.DryRun, render.DryRunOption = true, "server"
	rendered, err := render.Run(chart, nil)
	if err != nil {
		return err
	}

	i := &installation{cfg: cfg, client: cfg.KubeClient.(*kube.Client), timeout: timeout, release: rendered}
	rendered.SetStatus(release.StatusPendingInstall, "Initial install underway")
	if err := cfg.Releases.Create(rendered); err != nil {
		return err
	}
	if err := i.all(parallelism); err != nil {
		rendered.SetStatus(release.StatusFailed, err.Error())
		return errors.Join(err, cfg.Releases.Update(rendered))
	}
	rendered.SetStatus(release.StatusDeployed, "Install complete")
	return cfg.Releases.Update(rendered)
}

// all is what Helm does between the first and the last record of an installation.
func (i *installation) all(parallelism int) error {
	if err := i.hooks(release.HookPreInstall, parallelism); err != nil {
		return err
	}
	resources, err := i.client.Build(strings.NewReader(i.release.Manifest), false)
	if err != nil {
		return err
	}
	if len(resources) > 0 {
		if _, err := i.client.Create(resources); err != nil {
			return err
		}
	}
	return i.hooks(release.HookPostInstall, parallelism)
}

// hooks runs the hooks of an event, those of one weight in parallel.
func (i *installation) hooks(event release.HookEvent, parallelism int) error {
	byWeight := map[int][]*release.Hook{}
	var weights []int
	for _, h := range i.release.Hooks {
		if !slices.Contains(h.Events, event) {
			continue
		}
		if byWeight[h.Weight] == nil {
			weights = append(weights, h.Weight)
		}
		byWeight[h.Weight] = append(byWeight[h.Weight], h)
	}
	slices.Sort(weights)
	for _, weight := range weights {
		slots := make(chan struct{}, max(1, parallelism))
		errs := make([]error, len(byWeight[weight]))
		var running sync.WaitGroup
		for n, h := range byWeight[weight] {
			running.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				errs[n] = i.hook(h)
			})
		}
		running.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// hook is the body of the loop in Helm's execHook (pkg/action/hooks.go).
func (i *installation) hook(h *release.Hook) error {
	if len(h.DeletePolicies) == 0 {
		h.DeletePolicies = []release.HookDeletePolicy{release.HookBeforeHookCreation}
	}
	if slices.Contains(h.DeletePolicies, release.HookBeforeHookCreation) {
		old, err := i.client.Build(bytes.NewBufferString(h.Manifest), false)
		if err != nil {
			return err
		}
		if _, errs := i.client.Delete(old); len(errs) > 0 {
			return errors.Join(errs...)
		}
		if err := i.client.WaitForDelete(old, i.timeout); err != nil {
			return err
		}
	}
	resources, err := i.client.Build(bytes.NewBufferString(h.Manifest), true)
	if err != nil {
		return err
	}
	i.record(func() {
		h.LastRun = release.HookExecution{StartedAt: helmtime.Now(), Phase: release.HookPhaseRunning}
	})
	_, err = i.client.Create(resources)
	if err == nil {
		err = i.client.WatchUntilReady(resources, i.timeout)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	h.LastRun.CompletedAt = helmtime.Now()
	h.LastRun.Phase = release.HookPhaseSucceeded
	if err != nil {
		h.LastRun.Phase = release.HookPhaseFailed
	}
	return err
}

// record changes the release and writes it. Helm too goes on when that fails.
func (i *installation) record(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
	if err := i.cfg.Releases.Update(i.release); err != nil {
		fmt.Fprintln(os.Stderr, "warning:", err)
	}
}
