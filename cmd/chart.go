package cmd

import (
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/downloader"
	"helm.sh/helm/v3/pkg/getter"
)

// loadChart returns the chart that ref names, with its dependencies, and its values, as
// Helm finds them for an installation (cmd/helm/install.go, runInstall).
func (p *program) loadChart(client *action.Install, ref string, given *values.Options) (*chart.Chart, map[string]any, error) {
	path, err := client.LocateChart(ref, p.settings)
	if err != nil {
		return nil, nil, err
	}
	p.debug("CHART PATH: %s\n", path)
	vals, err := given.MergeValues(getter.All(p.settings))
	if err != nil {
		return nil, nil, err
	}
	chrt, err := loader.Load(path)
	if err != nil {
		return nil, nil, err
	}
	if err := checkInstallable(chrt); err != nil {
		return nil, nil, err
	}
	if chrt.Metadata.Deprecated {
		p.warn("This chart is deprecated")
	}
	chrt, err = p.withDependencies(chrt, path, client)
	return chrt, vals, err
}

// checkInstallable refuses charts that are no applications, libraries for one
// (Helm's cmd/helm/install.go).
func checkInstallable(chrt *chart.Chart) error {
	switch chrt.Metadata.Type {
	case "", "application":
		return nil
	default:
		return fmt.Errorf("%s charts are not installable", chrt.Metadata.Type)
	}
}

// withDependencies returns the chart, loaded from path, if all its dependencies
// are there. If some are missing they're downloaded and the chart is loaded again
// where --dependency-update says so, else the error names them. What is downloaded
// is said on stdout, as by Helm (cmd/helm/install.go).
func (p *program) withDependencies(chrt *chart.Chart, path string, client *action.Install) (*chart.Chart, error) {
	missing := action.CheckDependencies(chrt, chrt.Metadata.Dependencies)
	if missing == nil {
		return chrt, nil
	}
	if !client.DependencyUpdate {
		//lint:ignore ST1005 Helm's own words
		return nil, fmt.Errorf("An error occurred while checking for chart dependencies. You may need to run `helm dependency build` to fetch missing dependencies: %w", missing)
	}
	manager := &downloader.Manager{
		Out:              p.Out,
		ChartPath:        path,
		Keyring:          client.Keyring,
		Getters:          getter.All(p.settings),
		RepositoryConfig: p.settings.RepositoryConfig,
		RepositoryCache:  p.settings.RepositoryCache,
		Debug:            p.settings.Debug,
		RegistryClient:   client.GetRegistryClient(),
	}
	if err := manager.Update(); err != nil {
		return nil, err
	}
	chrt, err := loader.Load(path)
	if err != nil {
		return nil, fmt.Errorf("failed reloading chart after repo update: %w", err)
	}
	return chrt, nil
}
