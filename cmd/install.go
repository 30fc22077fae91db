package cmd

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/getter"
	"helm.sh/helm/v3/pkg/release"
)

const installDesc = `Install a chart as helm install does, and run its hooks in parallel.

Arguments and flags are those of helm install, whose help explains them: where a
chart may come from, and how its values are set. Besides, --hook-parallelism says
how many hooks of equal weight may run at once. A hook never starts before every
hook of a lower weight has ended well, and a Job or Pod not before the
ServiceAccounts, ConfigMaps and other objects that are hooks of its own weight
exist.

When a hook fails, no further hook starts; those that run are waited for, so that
the release's record says truly what became of each. Ctrl-C does the same. To leave
at once, send a second signal: Ctrl-C again where this was not called by helm, else
kill with the process number that is shown.
`

const installExample = `  # Up to eight hooks of equal weight at once
  %[1]s install shop ./shop --hook-parallelism 8

  # The same for every command of a CI job
  export HELM_HOOK_PARALLELISM=8
  %[1]s install shop ./shop --wait --atomic`

// install is one run of the install command.
type install struct {
	*program
	cfg    *action.Configuration
	client *action.Install
	values values.Options
	hooks  *hookFlags
}

func newInstallCmd(p *program) *cobra.Command {
	cfg := new(action.Configuration)
	i := &install{program: p, cfg: cfg, client: action.NewInstall(cfg)}
	var format output.Format

	cmd := &cobra.Command{
		Use:     "install [NAME] [CHART]",
		Short:   "install a chart",
		Long:    installDesc,
		Example: fmt.Sprintf(installExample, p.name()),
		Args:    p.arguments(require.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			rel, err := i.run(args)
			if !completed(err) {
				return fmt.Errorf("INSTALLATION FAILED: %w", err)
			}
			if failed := format.Write(p.Out, status{rel, p.settings.Debug, i.client.HideNotes}); failed != nil {
				return failed
			}
			return err
		},
	}

	f := cmd.Flags()
	addInstallFlags(f, i.client)
	addValueFlags(f, &i.values)
	addChartPathFlags(f, &i.client.ChartPathOptions)
	f.BoolVar(&i.client.HideSecret, "hide-secret", false, "hide Kubernetes Secrets when also using the --dry-run flag")
	addOutputFlag(f, &format)
	addPostRendererFlags(f, &i.client.PostRenderer)
	i.hooks = addHookFlags(cmd)
	return cmd
}

// addInstallFlags declares the flags that helm install shares with no other
// command that is here, as Helm 3 does (cmd/helm/install.go).
func addInstallFlags(f *pflag.FlagSet, client *action.Install) {
	f.BoolVar(&client.CreateNamespace, "create-namespace", false, "create the release namespace if not present")
	addDryRunFlag(f, &client.DryRunOption, "simulate an install. If --dry-run is set with no option being specified or as '--dry-run=client', it will not attempt cluster connections. Setting '--dry-run=server' allows attempting cluster connections.")
	f.BoolVar(&client.Force, "force", false, "force resource updates through a replacement strategy")
	f.BoolVar(&client.DisableHooks, "no-hooks", false, "prevent hooks from running during install")
	f.BoolVar(&client.Replace, "replace", false, "re-use the given name, only if that name is a deleted release which remains in the history. This is unsafe in production")
	f.DurationVar(&client.Timeout, "timeout", 300*time.Second, "time to wait for any individual Kubernetes operation (like Jobs for hooks)")
	addWaitFlag(f, &client.Wait, "if set, will wait until all Pods, PVCs, Services, and minimum number of Pods of a Deployment, StatefulSet, or ReplicaSet are in a ready state before marking the release as successful. It will wait for as long as --timeout")
	f.BoolVar(&client.WaitForJobs, "wait-for-jobs", false, "if set and --wait enabled, will wait until all Jobs have been completed before marking the release as successful. It will wait for as long as --timeout")
	f.BoolVarP(&client.GenerateName, "generate-name", "g", false, "generate the name (and omit the NAME parameter)")
	f.StringVar(&client.NameTemplate, "name-template", "", "specify template used to name the release")
	f.StringVar(&client.Description, "description", "", "add a custom description")
	f.BoolVar(&client.Devel, "devel", false, "use development versions, too. Equivalent to version '>0.0.0-0'. If --version is set, this is ignored")
	f.BoolVar(&client.DependencyUpdate, "dependency-update", false, "update dependencies if they are missing before installing the chart")
	f.BoolVar(&client.DisableOpenAPIValidation, "disable-openapi-validation", false, "if set, the installation process will not validate rendered templates against the Kubernetes OpenAPI Schema")
	f.BoolVar(&client.Atomic, "atomic", false, "if set, the installation process deletes the installation on failure. The --wait flag will be set automatically if --atomic is used")
	f.BoolVar(&client.SkipCRDs, "skip-crds", false, "if set, no CRDs will be installed. By default, CRDs are installed if not already present")
	f.BoolVar(&client.SubNotes, "render-subchart-notes", false, "if set, render subchart notes along with the parent")
	f.BoolVar(&client.SkipSchemaValidation, "skip-schema-validation", false, "if set, disables JSON schema validation")
	f.StringToStringVarP(&client.Labels, "labels", "l", nil, "Labels that would be added to release metadata. Should be divided by comma.")
	f.BoolVar(&client.EnableDNS, "enable-dns", false, "enable DNS lookups when rendering templates")
	f.BoolVar(&client.HideNotes, "hide-notes", false, "if set, do not show notes in install output. Does not affect presence in chart metadata")
	f.BoolVar(&client.TakeOwnership, "take-ownership", false, "if set, install will ignore the check for helm annotations and take ownership of the existing resources")

	addRollbackOnFailureFlag(f, &client.Atomic)
	addForceReplaceFlag(f, &client.Force)
	addServerSideFlag(f)
}

// run installs the chart. The order in which things are checked is Helm's, so
// that of several mistakes the same one is reported (cmd/helm/install.go).
func (i *install) run(args []string) (*release.Release, error) {
	if err := i.configure(i.cfg); err != nil {
		return nil, err
	}
	registryClient, err := i.registryClient(&i.client.ChartPathOptions)
	if err != nil {
		return nil, err
	}
	i.client.SetRegistryClient(registryClient)

	i.debug("Original chart version: %q", i.client.Version)
	if i.client.Version == "" && i.client.Devel {
		i.debug("setting version to >0.0.0-0")
		i.client.Version = ">0.0.0-0"
	}
	name, ref, err := i.client.NameAndChart(args)
	if err != nil {
		return nil, i.explainArguments(err)
	}
	i.client.ReleaseName = name

	path, err := i.client.LocateChart(ref, i.settings)
	if err != nil {
		return nil, err
	}
	i.debug("CHART PATH: %s\n", path)
	vals, err := i.values.MergeValues(getter.All(i.settings))
	if err != nil {
		return nil, err
	}
	chrt, err := loader.Load(path)
	if err != nil {
		return nil, err
	}
	if err := checkInstallable(chrt); err != nil {
		return nil, err
	}
	if chrt.Metadata.Deprecated {
		i.warn("This chart is deprecated")
	}
	chrt, err = i.withDependencies(chrt, path, i.client.DependencyUpdate, i.client.Keyring, registryClient)
	if err != nil {
		return nil, err
	}
	i.client.Namespace = i.settings.Namespace()
	if i.client.DryRunOption, err = checkDryRun(i.client.DryRunOption); err != nil {
		return nil, err
	}

	var rel *release.Release
	// Helm names the first argument when cancelled, whatever that is.
	err = i.operate(i.cfg, i.hooks, args[0], func(ctx context.Context, op operation) (err error) {
		rel, err = op.Install(ctx, i.client, chrt, vals)
		return err
	})
	if !completed(err) {
		return nil, err
	}
	return rel, err
}
