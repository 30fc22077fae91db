package cmd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/release"
)

const testDesc = `Run the tests of a release as helm test does, with --hook-parallelism in parallel.

Arguments and flags are those of helm test. With --hook-keep-going all tests of a
weight run, whichever of them fail.

` + hooksDesc

func newTestCmd(p *program) *cobra.Command {
	cfg := new(action.Configuration)
	client := action.NewReleaseTesting(cfg)
	var hooks *hookFlags
	var logs bool
	var filter []string

	cmd := &cobra.Command{
		Use:               "test [RELEASE]",
		Short:             "run tests for a release",
		Long:              testDesc,
		Example:           fmt.Sprintf("  # All tests of equal weight, eight at a time, whichever of them fail\n  %s test shop --hook-parallelism 8 --hook-keep-going", p.name()),
		Args:              p.arguments(require.ExactArgs(1)),
		ValidArgsFunction: p.testArguments,
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			client.Namespace = p.settings.Namespace()
			addFilters(client.Filters, filter)
			// Set unless the operation is left before it ends.
			var tested atomic.Pointer[release.Release]
			err := p.operate(cfg, hooks, name, "", func(ctx context.Context, op operation) error {
				rel, err := op.Test(ctx, client, name)
				tested.Store(rel)
				return err
			})
			rel := tested.Load()
			if rel == nil && err != nil {
				return err
			}
			// Tests that failed are shown too.
			if err := output.Table.Write(p.Out, status{rel, p.settings.Debug, client.HideNotes}); err != nil {
				return err
			}
			if logs {
				fmt.Fprintln(p.Out)
				failed := client.GetPodLogs(p.Out, rel)
				switch {
				case failed == nil || interrupted(err):
				case hooks.parallelism.n > 1:
					return errors.Join(err, failed)
				default:
					return failed // instead of the tests' error, as Helm does
				}
			}
			return err
		},
	}

	f := cmd.Flags()
	f.StringSliceVar(&filter, "filter", []string{}, "specify tests by attribute (currently \"name\") using attribute=value syntax or '!attribute=value' to exclude a test (can specify multiple or separate values with commas: name=test1,name=test2)")
	f.BoolVar(&client.HideNotes, "hide-notes", false, "if set, do not show notes in test output. Does not affect presence in chart metadata")
	f.BoolVar(&logs, "logs", false, "dump the logs from test pods (this runs after all tests are complete, but before any cleanup)")
	addTimeoutFlag(f, &client.Timeout)
	hooks = p.addHookFlags(cmd, cfg)
	return cmd
}

var notName = regexp.MustCompile(`^!\s?name=`)

// addFilters adds what --filter asks for. As in Helm, anything else than name=
// and !name= has no effect (cmd/helm/release_testing.go).
func addFilters(filters map[string][]string, given []string) {
	for _, f := range given {
		if name, ok := strings.CutPrefix(f, "name="); ok {
			filters[action.IncludeNameFilter] = append(filters[action.IncludeNameFilter], name)
		} else if notName.MatchString(f) {
			filters[action.ExcludeNameFilter] = append(filters[action.ExcludeNameFilter], notName.ReplaceAllLiteralString(f, ""))
		}
	}
}
