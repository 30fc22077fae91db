package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

const recoverDesc = `Bring a release's record in line with the cluster after the operation on it has died:
its process was killed, its machine lost, its network gone for good. Such a release
stays "pending-upgrade", and Helm refuses to touch it.

The hooks of the last revision are looked for in the cluster. What became of each is
recorded, and the revision is marked as failed. From there helm, and this plugin, can
upgrade, roll back and uninstall. Nothing but the record is changed.

While it runs with --hook-parallelism above 1, an operation renews a Lease, an object of
Kubernetes that stands for it, every ten seconds. If there is one, recover waits for up
to a minute: if the Lease is renewed it refuses, since the operation is alive; if it
expires it recovers. Helm itself, and operations without permission for Leases, hold
none: then make sure yourself that it's dead, and say so with --force, which never
overrides a Lease that is renewed.
`

const recoverExample = `  # After a CI job was killed in the middle of an upgrade
  %[1]s recover shop

  # In a script, in one step
  %[1]s upgrade shop ./shop --recover --hook-parallelism 8`

func newRecoverCmd(p *program) *cobra.Command {
	cfg := new(action.Configuration)
	format := "table"
	var opts helm3.RecoverOptions
	cmd := &cobra.Command{
		Use:               "recover [RELEASE]",
		Short:             "bring the record of a release whose operation has died in line with the cluster",
		Long:              recoverDesc,
		Example:           fmt.Sprintf(recoverExample, p.name()),
		Args:              p.arguments(require.ExactArgs(1)),
		ValidArgsFunction: p.testArguments,
		PreRunE: func(*cobra.Command, []string) error {
			p.retrier = hooks.NewRetrier()
			return p.configure(cfg)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			recovery, err := p.recover(cfg, args[0], opts)
			if err != nil {
				return err
			}
			return writeAs(p.Out, recovery, format, map[string]func(io.Writer) error{
				"table": func(out io.Writer) error { return writeRecovery(out, recovery) },
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&opts.Force, "force", false, "recover although nobody can tell whether the operation is still alive. Make sure that it isn't")
	f.DurationVar(&opts.Wait, "wait", 0, "how long to wait for hooks that still run. Those that don't end are recorded as Unknown")
	formats := formatValue{choice{&format, []string{"table", "json", "yaml"}}}
	f.VarP(formats, "output", "o", formats.usage())
	completeFlag(cmd, "output", cobra.FixedCompletions(formats.allowed, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "wait", cobra.NoFileCompletions)
	return cmd
}

// recover recovers a release unless a signal ends that first; then nothing has changed.
func (p *program) recover(cfg *action.Configuration, name string, opts helm3.RecoverOptions) (*helm3.Recovery, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	asked := watchInterrupts(0)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	defer asked.close()
	watching.Go(func() {
		select {
		case sig := <-asked.signals:
			asked.release() // a second one ends the process
			cancel(&interruptedError{err: fmt.Errorf("%w: interrupted, and nothing was recorded", context.Canceled), code: signalCode(sig)})
		case <-ctx.Done():
		}
	})
	opts.Tell = func(format string, args ...any) {
		fmt.Fprintln(p.ErrOut, display.Printable(fmt.Sprintf(format, args...)))
	}
	shown := display.NewPlain(p.ErrOut, display.Options{})
	defer shown.Close()
	op := p.newOperation(cfg, helm3.Options{
		Observer:  shown,
		Retrier:   p.retrier,
		UserAgent: p.userAgent(),
	})
	recovery, err := op.Recover(ctx, name, opts)
	if i := interruption(context.Cause(ctx)); i != nil && err != nil {
		return nil, i
	}
	return recovery, err
}

// writeRecovery writes what was found and done, for a person.
func writeRecovery(out io.Writer, r *helm3.Recovery) error {
	if running := r.Running(); !r.Recovered() && len(running) > 0 {
		_, err := fmt.Fprintf(out, "Release %q is %s at revision %d, as before: hooks may still be running: %s.\n", r.Release, r.Was, r.Revision, display.Printable(strings.Join(running, ", ")))
		return err
	}
	if !r.Recovered() {
		_, err := fmt.Fprintf(out, "Release %q is %s at revision %d: there is nothing to recover.\n", r.Release, r.Was, r.Revision)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Release %q, revision %d, was %s and its operation dead.\n", r.Release, r.Revision, r.Was)
	if len(r.Hooks) > 0 {
		fmt.Fprintln(w, "\nHOOK\tRECORDED AS\tIN THE CLUSTER\tNOW RECORDED AS")
		for _, h := range r.Hooks {
			was := string(h.Was)
			if was == "" {
				was = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", display.Printable(h.Kind+"/"+h.Name), was, display.Printable(h.Found), h.Phase)
		}
	}
	if r.Was != r.Status {
		fmt.Fprintf(w, "\nRevision %d is %s now: %s\n", r.Revision, r.Status, display.Printable(r.Description))
	}
	return w.Flush()
}

// recoverFirst recovers a release that is about to be upgraded. Hooks that still run are
// waited for, since the upgrade would delete them.
func (u *upgrade) recoverFirst(name string) error {
	recovery, err := u.recover(u.cfg, name, helm3.RecoverOptions{Wait: u.upgrading.Timeout})
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil // of which the upgrade has its own words
	}
	if err != nil {
		return fmt.Errorf("recovering release %s: %w", name, err)
	}
	if recovery.Recovered() {
		if err := writeRecovery(u.ErrOut, recovery); err != nil {
			return err
		}
	}
	if running := recovery.Running(); len(running) > 0 {
		return fmt.Errorf("hooks of the operation that died may still be running, and an upgrade could run them twice: %s; wait for them, or delete them, and try again", strings.Join(running, ", "))
	}
	return nil
}
