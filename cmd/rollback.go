package cmd

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
)

const rollbackDesc = `Roll back a release as helm rollback does, and run its hooks in parallel.

Arguments and flags are those of helm rollback: without a revision, or with 0, the
release goes back to the one before. The hooks are those of the revision to which it
goes back.

` + hooksDesc

func newRollbackCmd(p *program) *cobra.Command {
	cfg := new(action.Configuration)
	client := action.NewRollback(cfg)
	var hooks *hookFlags
	var description string

	cmd := &cobra.Command{
		Use:               "rollback <RELEASE> [REVISION]",
		Short:             "roll back a release to a previous revision",
		Long:              rollbackDesc,
		Example:           fmt.Sprintf("  # Back to revision 3, up to eight hooks of equal weight at once\n  %s rollback shop 3 --hook-parallelism 8", p.name()),
		Args:              p.arguments(require.MinimumNArgs(1)),
		ValidArgsFunction: p.rollbackArguments,
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if len(args) > 1 {
				revision, err := strconv.Atoi(args[1])
				if err != nil {
					return fmt.Errorf("could not convert revision to a number: %w", err)
				}
				client.Version = revision
			}
			err := p.operate(cfg, hooks, name, "", func(ctx context.Context, op operation) error {
				return op.Rollback(ctx, client, name, description)
			})
			if completed(err) {
				fmt.Fprintln(p.Out, "Rollback was a success! Happy Helming!")
			}
			return err
		},
	}

	f := cmd.Flags()
	f.BoolVar(&client.CleanupOnFail, "cleanup-on-fail", false, "allow deletion of new resources created in this rollback when rollback fails")
	addRollbackDryRunFlag(f, &client.DryRun, "simulate a rollback")
	f.BoolVar(&client.Force, "force", false, "force resource update through delete/recreate if needed")
	addHistoryFlag(f, &client.MaxHistory, p.settings.MaxHistory)
	f.BoolVar(&client.DisableHooks, "no-hooks", false, "prevent hooks from running during rollback")
	f.BoolVar(&client.Recreate, "recreate-pods", false, "performs pods restart for the resource if applicable")
	addTimeoutFlag(f, &client.Timeout)
	addWaitFlags(f, &client.Wait, &client.WaitForJobs)

	addDescriptionFlag(f, &description)
	addForceReplaceFlag(f, &client.Force)
	addServerSideFlag(f, true)
	hooks = p.addHookFlags(cmd, cfg)
	return cmd
}
