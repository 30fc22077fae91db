package cmd

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/report"
)

const planDesc = `Show which hooks upgrade --install would run, in which order, how many at once, and how
long they are expected to take by what earlier revisions of the release have recorded,
also those that plain helm has deployed. Nothing is changed.

Arguments and flags are those of upgrade. The chart is rendered as for
--dry-run=server, or with --dry-run as for --dry-run=client.
`

const planExample = `  # What would eight hooks at once save?
  %[1]s plan shop ./shop --hook-parallelism 8

  # A picture for a pull request
  %[1]s plan shop ./shop --hook-parallelism 8 -o mermaid`

func newPlanCmd(p *program) *cobra.Command {
	u := newUpgrade(p)
	format := "table"
	cmd := &cobra.Command{
		Use:               "plan [RELEASE] [CHART]",
		Short:             "show which hooks an upgrade or installation would run",
		Long:              planDesc,
		Example:           fmt.Sprintf(planExample, p.name()),
		Args:              p.arguments(require.ExactArgs(2)),
		ValidArgsFunction: p.upgradeArguments,
	}
	u.addUpgradeFlags(cmd)
	formats := formatValue{choice{&format, []string{"table", "json", "yaml", "mermaid"}}}
	flag := cmd.Flags().Lookup("output")
	flag.Value, flag.Usage, flag.DefValue = formats, formats.usage(), format
	completeFlag(cmd, "output", cobra.FixedCompletions(formats.allowed, cobra.ShellCompDirectiveNoFileComp))

	for _, name := range []string{"hook-keep-going", "hook-progress", "hook-logs", "hook-report", "recover"} {
		hide(cmd.Flags(), name) // taken, since a plan is for a line that has them, but of no matter here
	}

	cmd.RunE = func(_ *cobra.Command, args []string) error {
		p.escape()
		u.upgrading.Install = true
		u.planning = true
		u.hooks.report = ""
		if u.client.DryRunOption != "client" {
			u.client.DryRunOption = "server" // whatever else was asked: nothing is to be changed
		}
		u.format = output.JSON // what Helm says to a person while it works is no part of a plan
		plan, err := u.plan(args)
		if err != nil {
			return err
		}
		return writeAs(p.Out, plan, format, map[string]func(io.Writer) error{"table": plan.WriteTable, "mermaid": plan.WriteMermaid})
	}
	return cmd
}

// plan renders the chart and returns the plan of its hooks.
func (u *upgrade) plan(args []string) (*report.Plan, error) {
	noHooks := u.client.DisableHooks // before an operation takes it over
	rel, err := u.run(args)
	if err != nil {
		return nil, err
	}
	revisions, err := u.cfg.Releases.History(args[0])
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, err
	}
	if noHooks {
		rel.Hooks = nil
	}
	install := rel.Info.Status == release.StatusPendingInstall
	return report.NewPlan(rel, install, u.hooks.parallelism.n, u.hooks.order, report.NewHistory(revisions))
}
