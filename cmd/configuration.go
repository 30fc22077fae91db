package cmd

import (
	"fmt"
	"io"
	"os"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

// configure prepares cfg for the cluster, namespace and storage that flags and
// environment name, as Helm's main does (cmd/helm/helm.go). With the sql driver
// it connects to the database, with the others it contacts nothing.
func (p *program) configure(cfg *action.Configuration) error {
	storage := os.Getenv("HELM_DRIVER")
	if flags, ok := p.settings.RESTClientGetter().(*genericclioptions.ConfigFlags); ok && p.retrier != nil {
		helms := flags.WrapConfigFn
		flags.WrapConfigFn = func(config *rest.Config) *rest.Config {
			config = helms(config)
			config.Wrap(p.retrier.Wrap)
			return config
		}
	}
	if err := cfg.Init(p.settings.RESTClientGetter(), p.settings.Namespace(), storage, p.debug); err != nil {
		return storageError(storage, err)
	}
	helm3.KeepUnknownFields(cfg, p.settings.Namespace())
	helm3.WarnOfRecords(cfg, p.settings.Namespace(), p.warn)
	cfg.SetHookOutputFunc(func(_, _, _ string) io.Writer { return p.ErrOut })
	if memory, ok := cfg.Releases.Driver.(*driver.Memory); ok {
		return p.loadReleases(cfg, memory)
	}
	return nil
}

// connectionEnv is where the sql driver finds its database.
const connectionEnv = "HELM_DRIVER_SQL_CONNECTION_STRING"

// storageError says what keeps records from being stored, without the database's
// password, which errors about a malformed connection string quote.
func storageError(storage string, err error) error {
	if storage != "sql" {
		return fmt.Errorf("preparing release storage (HELM_DRIVER=%q): %w", storage, err)
	}
	connection := os.Getenv(connectionEnv)
	if connection == "" {
		return fmt.Errorf("preparing release storage (HELM_DRIVER=%q): %s, which says where the database is, is not set: %w", storage, connectionEnv, err)
	}
	if strings.Contains(err.Error(), connection) {
		return fmt.Errorf("preparing release storage (HELM_DRIVER=%q): %s is not a valid connection string, as in postgresql://user:password@host:5432/database; what is special in a URL must be escaped", storage, connectionEnv)
	}
	return fmt.Errorf("preparing release storage (HELM_DRIVER=%q): %w", storage, err)
}

// loadReleases fills the memory driver from the files in HELM_MEMORY_DRIVER_DATA
// and puts a client that contacts nothing in place of the cluster's, as Helm
// does (cmd/helm/helm.go, loadReleasesInMemory).
func (p *program) loadReleases(cfg *action.Configuration, memory *driver.Memory) error {
	cfg.KubeClient = &kubefake.PrintingKubeClient{Out: io.Discard}
	for path := range strings.SplitSeq(os.Getenv("HELM_MEMORY_DRIVER_DATA"), ":") {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading releases for HELM_DRIVER=memory (set HELM_MEMORY_DRIVER_DATA to files of releases): %w", err)
		}
		var releases []*release.Release
		if err := yaml.Unmarshal(data, &releases); err != nil {
			return fmt.Errorf("reading releases for HELM_DRIVER=memory from %s: %w", path, err)
		}
		for _, rel := range releases {
			if err := cfg.Releases.Create(rel); err != nil {
				return fmt.Errorf("loading release %q into the memory driver: %w", rel.Name, err)
			}
		}
	}
	// Creating a release has set the driver's namespace to the release's.
	memory.SetNamespace(p.settings.Namespace())
	return nil
}
