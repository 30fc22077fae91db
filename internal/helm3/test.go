package helm3

import (
	"context"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
)

// Test does what client.Run does, with the hooks run by our engine: the action
// package can't be told to leave them out (pkg/action/release_testing.go). The
// release is returned along with an error if tests have run. The order of its
// hooks, here and in the record, is Helm's: those that the filters leave out come
// first.
//
// About ctx and the error see [Operation.Install].
func (o *Operation) Test(ctx context.Context, client *action.ReleaseTesting, name string) (*release.Release, error) {
	detach, ok := o.attach(ctx, "test")
	if !ok {
		return client.Run(name)
	}
	defer detach()

	o.asked = asked{timeout: client.Timeout}
	if err := o.cfg.KubeClient.IsReachable(); err != nil {
		return nil, err
	}
	if err := chartutil.ValidateReleaseName(name); err != nil {
		return nil, fmt.Errorf("releaseTest: Release name is invalid: %s", name)
	}
	rel, err := o.cfg.Releases.Last(name)
	if err != nil {
		return nil, err
	}
	selected, excluded := partition(rel.Hooks, func(name string) bool {
		return !slices.Contains(client.Filters[action.ExcludeNameFilter], name)
	})
	selected, skipped := partition(selected, func(name string) bool {
		include := client.Filters[action.IncludeNameFilter]
		return len(include) == 0 || slices.Contains(include, name)
	})
	rel.Hooks = slices.Concat(excluded, skipped, selected)

	all, err := o.hooksOf(rel)
	if err != nil {
		return nil, err
	}
	for _, h := range all.hooks {
		if !slices.Contains(selected, all.origin[h]) {
			h.Events = nil // still one that others may be after
		}
	}
	if err := o.plan(rel, release.HookTest); err != nil {
		return nil, err
	}
	if err := o.claim(rel); err != nil {
		return nil, err
	}
	if o.opts.Parallelism > 1 {
		o.records.merge = mergeRuns
	}
	failed := o.runHooks(rel, release.HookTest)
	stored := o.records.update(rel)
	if failed != nil {
		return rel, o.complete(name, failed)
	}
	return rel, stored
}

// mergeRuns returns the current state of a release with the hooks of another state of it:
// while tests run an upgrade may have superseded it.
func mergeRuns(current, tested *release.Release) *release.Release {
	merged := snapshot(tested)
	merged.Info, merged.Labels = current.Info, current.Labels
	return merged
}

// partition returns the hooks whose names are wanted, and the others.
func partition(all []*release.Hook, wanted func(name string) bool) (these, others []*release.Hook) {
	for _, h := range all {
		if wanted(h.Name) {
			these = append(these, h)
		} else {
			others = append(others, h)
		}
	}
	return these, others
}
