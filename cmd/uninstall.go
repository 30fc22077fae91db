package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
)

const uninstallDesc = `Uninstall releases as helm uninstall does, one after another, and run each one's
hooks in parallel.

Arguments and flags are those of helm uninstall.

` + hooksDesc

// uninstall is one run of the uninstall command.
type uninstall struct {
	*program
	cfg    *action.Configuration
	client *action.Uninstall
	hooks  *hookFlags
}

func newUninstallCmd(p *program) *cobra.Command {
	cfg := new(action.Configuration)
	u := &uninstall{program: p, cfg: cfg, client: action.NewUninstall(cfg)}

	cmd := &cobra.Command{
		Use:               "uninstall RELEASE_NAME [...]",
		Aliases:           []string{"del", "delete", "un"},
		SuggestFor:        []string{"remove", "rm"},
		Short:             "uninstall a release",
		Long:              uninstallDesc,
		Example:           fmt.Sprintf("  # Up to eight hooks of equal weight at once\n  %s uninstall shop --hook-parallelism 8", p.name()),
		Args:              p.arguments(require.MinimumNArgs(1)),
		ValidArgsFunction: p.uninstallArguments,
		RunE: func(_ *cobra.Command, args []string) error {
			switch u.client.DeletionPropagation {
			case "background", "foreground", "orphan":
			default:
				return fmt.Errorf("invalid cascade value (%s). Must be \"background\", \"foreground\", or \"orphan\"", u.client.DeletionPropagation)
			}
			if len(args) > 1 && u.hooks.report != "" {
				return errors.New("--hook-report is for one release at a time")
			}
			for _, name := range args {
				if err := u.uninstallRelease(name); err != nil {
					return err
				}
			}
			return nil
		},
	}

	f := cmd.Flags()
	f.StringVar(&u.client.DeletionPropagation, "cascade", "background", "Must be \"background\", \"orphan\", or \"foreground\". Selects the deletion cascading strategy for the dependents. Defaults to background.")
	f.StringVar(&u.client.Description, "description", "", "add a custom description")
	f.BoolVar(&u.client.DryRun, "dry-run", false, "simulate a uninstall")
	f.BoolVar(&u.client.IgnoreNotFound, "ignore-not-found", false, `Treat "release not found" as a successful uninstall`)
	f.BoolVar(&u.client.KeepHistory, "keep-history", false, "remove all associated resources and mark the release as deleted, but retain the release history")
	f.BoolVar(&u.client.DisableHooks, "no-hooks", false, "prevent hooks from running during uninstallation")
	addTimeoutFlag(f, &u.client.Timeout)
	addWaitFlag(f, &u.client.Wait, "if set, will wait until all the resources are deleted before returning. It will wait for as long as --timeout")
	u.hooks = p.addHookFlags(cmd, cfg)
	completeFlag(cmd, "cascade", cascades)
	return cmd
}

// uninstallRelease uninstalls one release.
func (u *uninstall) uninstallRelease(name string) error {
	client := *u.client // an operation changes it
	var response *release.UninstallReleaseResponse
	err := u.operate(u.cfg, u.hooks, name, "", func(ctx context.Context, op operation) (err error) {
		response, err = op.Uninstall(ctx, &client, name)
		return err
	})
	if !completed(err) {
		return err
	}
	if response != nil && response.Info != "" {
		fmt.Fprintln(u.Out, response.Info)
	}
	fmt.Fprintf(u.Out, "release \"%s\" uninstalled\n", name)
	return err
}
