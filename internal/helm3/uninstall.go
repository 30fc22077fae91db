package helm3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// Uninstall does what client.Run does, with the hooks run by our engine. It takes
// over what client's DisableHooks and Wait ask for and changes these fields.
//
// An uninstallation that is interrupted once its record says so ends as failed,
// from which Helm can upgrade, roll back and uninstall: Helm, which dies where it
// stands, leaves it uninstalling.
//
// About ctx and the error see [Operation.Install].
func (o *Operation) Uninstall(ctx context.Context, client *action.Uninstall, name string) (*release.UninstallReleaseResponse, error) {
	detach, ok := o.attach(ctx, "uninstall")
	if !ok {
		return client.Run(name)
	}
	defer detach()
	response, err := o.uninstall(client, name)
	return response, o.complete(name, err)
}

// uninstall does the work of [Operation.Uninstall]. The operation must be
// attached.
//
// The pre-delete hooks run before the action, in a record that says what Helm's
// says at that point (pkg/action/uninstall.go, Run); the post-delete hooks when
// the action waits for the deletion.
func (o *Operation) uninstall(client *action.Uninstall, name string) (*release.UninstallReleaseResponse, error) {
	if client.DryRun {
		return client.Run(name)
	}
	o.takeOver(&client.Wait, &client.DisableHooks, client.Timeout)
	if err := o.cfg.KubeClient.IsReachable(); err != nil {
		return nil, err
	}
	last, missing := o.cfg.Releases.Last(name)
	if missing == nil {
		if err := o.plan(last, release.HookPreDelete, release.HookPostDelete); err != nil {
			return nil, err
		}
	}
	if missing != nil || last.Info.Status == release.StatusUninstalled {
		if !o.commit() {
			return nil, errInterrupted
		}
		return client.Run(name) // which knows what to say
	}
	if err := o.claim(last); err != nil {
		return nil, err
	}
	o.records.own(last)
	last.Info.Status = release.StatusUninstalling
	o.deleted = helmtime.Now()
	last.Info.Deleted = o.deleted
	last.Info.Description = "Deletion in progress (or silently failed)"
	response := &release.UninstallReleaseResponse{Release: last}
	if err := o.runHooks(last, release.HookPreDelete); err != nil {
		return response, o.uninstallFailed(last, err)
	}
	if o.stopped() {
		return response, o.uninstallFailed(last, errInterrupted)
	}
	response, err := client.Run(name)
	switch {
	case o.cut != nil:
		return response, o.uninstallFailed(o.uninstalling, o.cut)
	case err == nil:
		return response, nil
	case o.undeleted != nil && o.opts.Parallelism > 1:
		err = fmt.Errorf("%w: %w", err, o.undeleted)
	case o.twoErrors:
		// Helm took them for one.
		err = errors.New(strings.Replace(err.Error(), " 1 error(s): ", " 2 error(s): ", 1))
	}
	return response, o.uninstallFailed(cmp.Or(o.uninstalling, last), err)
}

// beforeDeletion returns an error if the resources of the release that is
// uninstalled must not be deleted any more.
func (o *Operation) beforeDeletion() error {
	if o.uninstalling != nil && o.stopped() {
		o.cut = errInterrupted
	}
	return o.cut
}

// afterDeletion waits until the resources of the release that is uninstalled are
// gone, if the user asked for it, and runs the post-delete hooks.
func (o *Operation) afterDeletion(resources kube.ResourceList, timeout time.Duration) error {
	var waited error
	if o.asked.wait {
		waited = o.waitGone(resources, timeout)
	}
	if o.stopped() {
		o.cut = errInterrupted
		return o.cut
	}
	failed := o.runHooks(o.uninstalling, release.HookPostDelete)
	err := cmp.Or(waited, failed)
	if waited != nil && failed != nil {
		o.twoErrors = true
		err = fmt.Errorf("%w; %w", waited, failed) // as Helm joins them
	}
	var run *hooks.RunError
	if errors.As(failed, &run) && run.Interrupted != nil {
		o.cut = err
	}
	return err
}

// uninstallFailed returns the error of an uninstallation that ended with err. If
// it was interrupted, its record is marked as failed.
func (o *Operation) uninstallFailed(rel *release.Release, err error) error {
	if o.records.finished() || o.cut == nil && !o.stopped() {
		return err
	}
	rel.Info.Status = release.StatusUninstalling
	fail(rel, err)
	if stored := o.records.update(rel); stored != nil {
		return fmt.Errorf("%w; and the record of release %s could not be marked as failed: %w", err, rel.Name, stored)
	}
	return err
}
