package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/release"
)

const installDesc = `Install a chart as helm install does, and run its hooks in parallel.

Arguments and flags are those of helm install, whose help explains them: where a
chart may come from, and how its values are set.

` + hooksDesc

const installExample = `  # Up to eight hooks of equal weight at once
  %[1]s install shop ./shop --hook-parallelism 8

  # The same for every command of a CI job
  export HELM_HOOK_PARALLELISM=8
  %[1]s install shop ./shop --wait --atomic`

// install is one run of the install command, or of upgrade --install.
type install struct {
	*program
	cfg    *action.Configuration
	client *action.Install
	values values.Options
	format output.Format
	hooks  *hookFlags
	// planning says that nothing is done but to see what would be.
	planning bool
}

func newInstallCmd(p *program) *cobra.Command {
	cfg := new(action.Configuration)
	i := &install{program: p, cfg: cfg, client: action.NewInstall(cfg)}

	cmd := &cobra.Command{
		Use:               "install [NAME] [CHART]",
		Short:             "install a chart",
		Long:              installDesc,
		Example:           fmt.Sprintf(installExample, p.name()),
		Args:              p.arguments(require.MinimumNArgs(1)),
		ValidArgsFunction: p.installArguments,
		RunE: func(_ *cobra.Command, args []string) error {
			rel, err := i.run(args)
			if !completed(err) {
				return fmt.Errorf("INSTALLATION FAILED: %w", err)
			}
			return i.write(rel, err)
		},
	}

	f := cmd.Flags()
	f.BoolVar(&i.client.Replace, "replace", false, "re-use the given name, only if that name is a deleted release which remains in the history. This is unsafe in production")
	f.BoolVarP(&i.client.GenerateName, "generate-name", "g", false, "generate the name (and omit the NAME parameter)")
	f.StringVar(&i.client.NameTemplate, "name-template", "", "specify template used to name the release")
	addServerSideFlag(f, false)
	i.addFlags(f, usages{
		atomic:          "if set, the installation process deletes the installation on failure. The --wait flag will be set automatically if --atomic is used",
		createNamespace: "create the release namespace if not present",
		hideNotes:       "if set, do not show notes in install output. Does not affect presence in chart metadata",
		labels:          "Labels that would be added to release metadata. Should be divided by comma.",
		noHooks:         "prevent hooks from running during install",
		noValidation:    "if set, the installation process will not validate rendered templates against the Kubernetes OpenAPI Schema",
		skipCRDs:        "if set, no CRDs will be installed. By default, CRDs are installed if not already present",
		takeOwnership:   "if set, install will ignore the check for helm annotations and take ownership of the existing resources",
	})
	i.hooks = p.addHookFlags(cmd, cfg)
	completeFlag(cmd, "output", outputFormats)
	completeFlag(cmd, "version", p.installVersions)
	return cmd
}

// usages are the texts of flags that install and upgrade have in common and
// describe in words of their own.
type usages struct {
	atomic, createNamespace, hideNotes, labels, noHooks, noValidation, skipCRDs, takeOwnership string
}

// addFlags declares the flags that install and upgrade have in common, as Helm 3
// does (cmd/helm/install.go, upgrade.go).
func (i *install) addFlags(f *pflag.FlagSet, usage usages) {
	client := i.client
	f.BoolVar(&client.Atomic, "atomic", false, usage.atomic)
	f.BoolVar(&client.CreateNamespace, "create-namespace", false, usage.createNamespace)
	f.BoolVar(&client.DependencyUpdate, "dependency-update", false, "update dependencies if they are missing before installing the chart")
	f.StringVar(&client.Description, "description", "", "add a custom description")
	f.BoolVar(&client.Devel, "devel", false, "use development versions, too. Equivalent to version '>0.0.0-0'. If --version is set, this is ignored")
	f.BoolVar(&client.DisableOpenAPIValidation, "disable-openapi-validation", false, usage.noValidation)
	addDryRunFlag(f, &client.DryRunOption, "simulate an install. If --dry-run is set with no option being specified or as '--dry-run=client', it will not attempt cluster connections. Setting '--dry-run=server' allows attempting cluster connections.")
	f.BoolVar(&client.EnableDNS, "enable-dns", false, "enable DNS lookups when rendering templates")
	f.BoolVar(&client.Force, "force", false, "force resource updates through a replacement strategy")
	f.BoolVar(&client.HideNotes, "hide-notes", false, usage.hideNotes)
	f.BoolVar(&client.HideSecret, "hide-secret", false, "hide Kubernetes Secrets when also using the --dry-run flag")
	f.StringToStringVarP(&client.Labels, "labels", "l", nil, usage.labels)
	f.BoolVar(&client.DisableHooks, "no-hooks", false, usage.noHooks)
	f.BoolVar(&client.SubNotes, "render-subchart-notes", false, "if set, render subchart notes along with the parent")
	f.BoolVar(&client.SkipCRDs, "skip-crds", false, usage.skipCRDs)
	f.BoolVar(&client.SkipSchemaValidation, "skip-schema-validation", false, "if set, disables JSON schema validation")
	f.BoolVar(&client.TakeOwnership, "take-ownership", false, usage.takeOwnership)
	addTimeoutFlag(f, &client.Timeout)
	addWaitFlags(f, &client.Wait, &client.WaitForJobs)
	addValueFlags(f, &i.values)
	addChartPathFlags(f, &client.ChartPathOptions)
	addOutputFlag(f, &i.format)
	addPostRendererFlags(f, &client.PostRenderer)

	addRollbackOnFailureFlag(f, &client.Atomic)
	addForceReplaceFlag(f, &client.Force)
}

// cancelled is what is printed when the operation is interrupted.
func (i *install) cancelled(name string) string {
	if i.planning {
		return ""
	}
	return cancelledLine(name)
}

// useRegistry lets the client find charts in OCI registries.
func (i *install) useRegistry() error {
	registryClient, err := i.registryClient(&i.client.ChartPathOptions)
	if err != nil {
		return err
	}
	i.client.SetRegistryClient(registryClient)
	return nil
}

// useDevelopmentVersions does what --devel asks for.
func (i *install) useDevelopmentVersions() {
	if i.client.Version == "" && i.client.Devel {
		i.debug("setting version to >0.0.0-0")
		i.client.Version = ">0.0.0-0"
	}
}

func (i *install) run(args []string) (*release.Release, error) {
	if err := i.useRegistry(); err != nil {
		return nil, err
	}
	return i.installChart(args)
}

// installChart installs the chart. The order in which things are checked is Helm's, so
// that of several mistakes the same one is reported (cmd/helm/install.go).
func (i *install) installChart(args []string) (*release.Release, error) {
	i.debug("Original chart version: %q", i.client.Version)
	i.useDevelopmentVersions()
	name, ref, err := i.client.NameAndChart(args)
	if err != nil {
		return nil, i.explainArguments(err)
	}
	i.client.ReleaseName = name

	chrt, vals, err := i.loadChart(i.client, ref, &i.values)
	if err != nil {
		return nil, err
	}
	i.client.Namespace = i.settings.Namespace()
	if i.client.DryRunOption, err = checkDryRun(i.client.DryRunOption); err != nil {
		return nil, err
	}

	var rel *release.Release
	// Helm names the first argument when cancelled, whatever that is.
	err = i.operate(i.cfg, i.hooks, args[0], i.cancelled(args[0]), func(ctx context.Context, op operation) (err error) {
		rel, err = op.Install(ctx, i.client, chrt, vals)
		return err
	})
	if !completed(err) {
		return nil, err
	}
	return rel, err
}

// write prints the release. err is what the operation that changed it ended with.
func (i *install) write(rel *release.Release, err error) error {
	if failed := i.format.Write(i.Out, status{rel, i.settings.Debug, i.client.HideNotes}); failed != nil {
		return failed
	}
	return err
}
