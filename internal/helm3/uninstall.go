package helm3

import (
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
)

// uninstall does what client.Run does, with the delete hooks run by our engine.
// The operation must be attached.
//
// The pre-delete hooks run before the action, in a record that says what Helm's
// says at that point (pkg/action/uninstall.go, Run); the post-delete hooks when
// the action waits for the deletion.
func (o *Operation) uninstall(client *action.Uninstall, name string) (*release.UninstallReleaseResponse, error) {
	o.wait = client.Wait
	o.hooksDisabled = client.DisableHooks
	o.timeout = client.Timeout
	client.DisableHooks = true
	if o.hooksDisabled || client.DryRun {
		return client.Run(name)
	}
	client.Wait = true

	last, err := o.cfg.Releases.Last(name)
	if err != nil || last.Info.Status == release.StatusUninstalled {
		return client.Run(name) // which knows what to say
	}
	last.Info.Status = release.StatusUninstalling
	last.Info.Deleted = helmtime.Now()
	last.Info.Description = "Deletion in progress (or silently failed)"
	if err := o.runHooks(last, release.HookPreDelete); err != nil {
		return &release.UninstallReleaseResponse{Release: last}, err
	}
	return client.Run(name)
}
