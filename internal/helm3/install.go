package helm3

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
)

// Install does what client.Run does, with the hooks run by our engine. It takes
// over what client's DisableHooks, Wait and Atomic ask for and changes these
// fields.
//
// ctx is for leaving at once: hooks and resources are then no longer waited for,
// the record is written all the same. An error has Helm's words, without those
// that Helm's command puts before it.
func (o *Operation) Install(ctx context.Context, client *action.Install, chrt *chart.Chart, values map[string]any) (*release.Release, error) {
	detach, ok := o.attach(ctx, "install")
	if !ok {
		return client.Run(chrt, values)
	}
	defer detach()

	atomic := client.Atomic
	o.preparing = true
	o.takeOver(&client.Wait, &client.DisableHooks, client.Timeout)
	o.asked.wait = o.asked.wait || atomic
	client.Atomic = false

	rel, err := client.Run(chrt, values)
	if !o.recorded {
		return rel, o.checkDryRun(rel, err)
	}
	if atomic && err != nil {
		err = o.undoInstall(client.ReleaseName, err)
	}
	return rel, o.complete(client.ReleaseName, err)
}

// checkDryRun returns the error of an installation or upgrade that has recorded nothing: its
// own, or why the hooks of a dry run would be refused. Where it's a pipeline's gate, it must
// not let through what is refused later.
func (o *Operation) checkDryRun(rel *release.Release, err error) error {
	if err != nil || rel == nil || o.opts.Parallelism <= 1 {
		return err
	}
	return o.plan(rel, eventsIn(rel)...)
}

// undoInstall uninstalls a release whose installation failed, delete hooks
// included, which the action package would leave out since it believes that hooks
// are disabled (pkg/action/install.go, failRelease).
func (o *Operation) undoInstall(name string, installErr error) error {
	o.cfg.Log("Install failed and atomic is set, uninstalling release")
	if o.ctx.Err() != nil {
		return fmt.Errorf("%w; release %s was not uninstalled, as atomic asks, since there was no time left", installErr, name)
	}
	uninstall := action.NewUninstall(o.cfg)
	uninstall.DisableHooks = o.asked.hooksDisabled
	uninstall.Timeout = o.asked.timeout
	// A first signal has done its work: to undo is what is left to do.
	o.opts.Stop = nil
	if _, err := o.uninstall(uninstall, name); err != nil {
		return fmt.Errorf("an error occurred while uninstalling the release. original install error: %w: %w", installErr, err)
	}
	return fmt.Errorf("release %s failed, and has been uninstalled due to atomic being set: %w", name, installErr)
}
