package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/getter"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

const upgradeDesc = `Upgrade a release as helm upgrade does, and run the chart's hooks in parallel.

Arguments and flags are those of helm upgrade, whose help explains them: where a
chart may come from, and which values are kept, set and reset. With --install, a
release that isn't there yet is installed.

` + hooksDesc

const upgradeExample = `  # Install or upgrade, up to eight hooks of equal weight at once
  %[1]s upgrade --install shop ./shop --hook-parallelism 8

  # Go back to what was there if a hook or a resource fails
  %[1]s upgrade shop ./shop --atomic --hook-parallelism 8

  # In CI: all logs of the hooks, and a page that shows which of them ran when
  %[1]s upgrade --install shop ./shop --hook-parallelism 8 --hook-logs all --hook-report hooks.html`

// upgrade is one run of the upgrade command. Flags that it shares with install are
// those of the install that it may turn out to be.
type upgrade struct {
	install
	upgrading *action.Upgrade
	recovers  bool // before the upgrade, what an operation that died has left
}

func newUpgrade(p *program) *upgrade {
	cfg := new(action.Configuration)
	return &upgrade{
		install:   install{program: p, cfg: cfg, client: action.NewInstall(cfg)},
		upgrading: action.NewUpgrade(cfg),
	}
}

func newUpgradeCmd(p *program) *cobra.Command {
	u := newUpgrade(p)
	cmd := &cobra.Command{
		Use:               "upgrade [RELEASE] [CHART]",
		Short:             "upgrade a release",
		Long:              upgradeDesc,
		Example:           fmt.Sprintf(upgradeExample, p.name()),
		Args:              p.arguments(require.ExactArgs(2)),
		ValidArgsFunction: p.upgradeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("recreate-pods") {
				// By pflag's own means it would be on stdout.
				fmt.Fprintln(p.ErrOut, "Flag --recreate-pods has been deprecated, functionality will no longer be updated. Consult the documentation for other methods to recreate pods")
			}
			rel, err := u.run(args)
			if !completed(err) {
				return err
			}
			return u.write(rel, err)
		},
	}

	u.addUpgradeFlags(cmd)
	completeFlag(cmd, "output", outputFormats)
	return cmd
}

// addUpgradeFlags declares the flags of upgrade.
func (u *upgrade) addUpgradeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&u.upgrading.CleanupOnFail, "cleanup-on-fail", false, "allow deletion of new resources created in this upgrade when upgrade fails")
	addHistoryFlag(f, &u.upgrading.MaxHistory, u.settings.MaxHistory)
	f.BoolVarP(&u.upgrading.Install, "install", "i", false, "if a release by this name doesn't already exist, run an install")
	f.BoolVar(&u.upgrading.Recreate, "recreate-pods", false, "performs pods restart for the resource if applicable")
	hide(f, "recreate-pods")
	f.BoolVar(&u.upgrading.ResetThenReuseValues, "reset-then-reuse-values", false, "when upgrading, reset the values to the ones built into the chart, apply the last release's values and merge in any overrides from the command line via --set and -f. If '--reset-values' or '--reuse-values' is specified, this is ignored")
	f.BoolVar(&u.upgrading.ResetValues, "reset-values", false, "when upgrading, reset the values to the ones built into the chart")
	f.BoolVar(&u.upgrading.ReuseValues, "reuse-values", false, "when upgrading, reuse the last release's values and merge in any overrides from the command line via --set and -f. If '--reset-values' is specified, this is ignored")
	addServerSideFlag(f, true)
	u.addFlags(f, usages{
		atomic:          "if set, upgrade process rolls back changes made in case of failed upgrade. The --wait flag will be set automatically if --atomic is used",
		createNamespace: "if --install is set, create the release namespace if not present",
		hideNotes:       "if set, do not show notes in upgrade output. Does not affect presence in chart metadata",
		labels:          "Labels that would be added to release metadata. Should be separated by comma. Original release labels will be merged with upgrade labels. You can unset label using null.",
		noHooks:         "disable pre/post upgrade hooks",
		noValidation:    "if set, the upgrade process will not validate rendered templates against the Kubernetes OpenAPI Schema",
		skipCRDs:        "if set, no CRDs will be installed when an upgrade is performed with install flag enabled. By default, CRDs are installed if not already present, when an upgrade is performed with install flag enabled",
		takeOwnership:   "if set, upgrade will ignore the check for helm annotations and take ownership of the existing resources",
	})
	f.BoolVar(&u.recovers, "recover", false, "if set and the last operation on the release has died, bring the release's record in line with the cluster first, as the recover command does. Hooks that still run are waited for, for --timeout at most. --force has nothing to do with it, and --dry-run recovers nothing")
	u.hooks = u.addHookFlags(cmd, u.cfg)
	completeFlag(cmd, "version", u.upgradeVersions)
}

// run upgrades the release, or installs it if it's not there and --install asks
// for that.
func (u *upgrade) run(args []string) (*release.Release, error) {
	if err := u.useRegistry(); err != nil {
		return nil, err
	}
	if u.upgrading.Install {
		missing, err := u.isMissing(args[0])
		if err != nil {
			return nil, err
		}
		if missing {
			if u.format == output.Table {
				fmt.Fprintf(u.Out, "Release %q does not exist. Installing it now.\n", args[0])
			}
			return u.installChart(args)
		}
	}
	return u.upgradeRelease(args[0], args[1])
}

// isMissing reports whether there's no release of that name, or one that was
// uninstalled, whose name the install then takes over (cmd/helm/upgrade.go).
func (u *upgrade) isMissing(name string) (bool, error) {
	history := action.NewHistory(u.cfg)
	history.Max = 1
	revisions, err := history.Run(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	uninstalled := len(revisions) > 0 && revisions[len(revisions)-1].Info.Status == release.StatusUninstalled
	u.client.Replace = uninstalled
	return uninstalled, nil
}

// upgradeRelease upgrades the release. The order in which things are checked is
// Helm's (cmd/helm/upgrade.go).
func (u *upgrade) upgradeRelease(name, ref string) (*release.Release, error) {
	u.useDevelopmentVersions()
	path, err := u.client.LocateChart(ref, u.settings)
	if err != nil {
		return nil, err
	}
	if u.client.DryRunOption, err = checkDryRun(u.client.DryRunOption); err != nil {
		return nil, err
	}
	vals, err := u.values.MergeValues(getter.All(u.settings))
	if err != nil {
		return nil, err
	}
	chrt, err := loader.Load(path)
	if err != nil {
		return nil, err
	}
	chrt, err = u.withDependencies(chrt, path, u.client)
	if err != nil {
		return nil, err
	}
	if chrt.Metadata.Deprecated {
		u.warn("This chart is deprecated")
	}
	u.takeFlags()
	if u.recovers && !u.planning && slices.Contains([]string{"none", "false"}, u.client.DryRunOption) {
		if err := u.recoverFirst(name); err != nil {
			return nil, err
		}
	}

	var rel *release.Release
	err = u.operate(u.cfg, u.hooks, name, u.cancelled(name), func(ctx context.Context, op operation) (err error) {
		rel, err = op.Upgrade(ctx, u.upgrading, name, chrt, vals)
		return err
	})
	if !completed(err) {
		if u.planning {
			return nil, err
		}
		return nil, fmt.Errorf("UPGRADE FAILED: %w", err)
	}
	if u.format == output.Table {
		fmt.Fprintf(u.Out, "Release %q has been upgraded. Happy Helming!\n", name)
	}
	return rel, err
}

// takeFlags sets on the upgrade what the flags that it shares with install set.
func (u *upgrade) takeFlags() {
	from, to := u.client, u.upgrading
	to.ChartPathOptions = from.ChartPathOptions
	to.Namespace = u.settings.Namespace()
	to.Atomic = from.Atomic
	to.DependencyUpdate = from.DependencyUpdate
	to.Description = from.Description
	to.Devel = from.Devel
	to.DisableHooks = from.DisableHooks
	to.DisableOpenAPIValidation = from.DisableOpenAPIValidation
	to.DryRunOption = from.DryRunOption
	to.EnableDNS = from.EnableDNS
	to.Force = from.Force
	to.HideNotes = from.HideNotes
	to.HideSecret = from.HideSecret
	to.Labels = from.Labels
	to.PostRenderer = from.PostRenderer
	to.SkipCRDs = from.SkipCRDs
	to.SkipSchemaValidation = from.SkipSchemaValidation
	to.SubNotes = from.SubNotes
	to.TakeOwnership = from.TakeOwnership
	to.Timeout = from.Timeout
	to.Wait = from.Wait
	to.WaitForJobs = from.WaitForJobs
}
