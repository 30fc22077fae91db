package helm3

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
)

// Install does what client.Run does, with the hooks run by our engine. It takes
// over what client's DisableHooks, Wait and Atomic ask for and changes these
// fields.
//
// ctx is for leaving at once: hooks and resources are then no longer waited for,
// the record is written all the same. An error has Helm's words, without those
// that Helm's command puts before it.
func (o *Operation) Install(ctx context.Context, client *action.Install, chrt *chart.Chart, values map[string]any) (*release.Release, error) {
	detach, ok := o.attach(ctx)
	if !ok {
		return client.Run(chrt, values)
	}
	defer detach()

	atomic := client.Atomic
	o.wait = client.Wait || atomic
	o.hooksDisabled = client.DisableHooks
	o.timeout = client.Timeout
	client.Atomic = false
	client.Wait = true
	client.DisableHooks = true

	rel, err := client.Run(chrt, values)
	if err == nil || !o.recorded {
		return rel, err
	}
	if atomic {
		err = o.undoInstall(client.ReleaseName, err)
	}
	return rel, o.withDetails(err)
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
	uninstall.DisableHooks = o.hooksDisabled
	uninstall.Timeout = o.timeout
	failure := o.failure
	// A first signal has done its work: to undo is what is left to do.
	o.opts.Stop = nil
	if _, err := o.uninstall(uninstall, name); err != nil {
		return fmt.Errorf("an error occurred while uninstalling the release. original install error: %w: %w", installErr, err)
	}
	o.failure = failure
	return fmt.Errorf("release %s failed, and has been uninstalled due to atomic being set: %w", name, installErr)
}

// attach decorates the configuration's storage driver and kube client for the
// time of an operation. It reports false where there is nothing to decorate: with
// the memory driver Helm's command line creates nothing in a cluster
// (cmd/helm/helm.go, loadReleasesInMemory).
func (o *Operation) attach(ctx context.Context) (detach func(), ok bool) {
	client, ok := o.cfg.KubeClient.(*kube.Client)
	if !ok {
		return nil, false
	}
	o.ctx = ctx
	original := o.cfg.Releases.Driver
	o.records.storage = storage.Init(original)
	o.cfg.Releases.Driver = &storageDriver{Driver: original, operation: o}
	o.cfg.KubeClient = &kubeClient{Client: client, operation: o}
	return func() {
		o.cfg.Releases.Driver = original
		o.cfg.KubeClient = client
	}, true
}
