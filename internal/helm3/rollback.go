package helm3

import (
	"context"
	"errors"

	"helm.sh/helm/v3/pkg/action"
)

// Rollback does what client.Run does, with the hooks run by our engine. It takes
// over what client's DisableHooks and Wait ask for and changes these fields.
// description stands in the new revision's record instead of Helm's "Rollback to
// N", unless it's empty.
//
// Where Helm leaves the new revision pending for ever after a failed hook, it
// ends as failed; if that was a pre-rollback hook, nothing has changed in the
// cluster and the revision that runs stays what it was.
//
// About ctx and the error see [Operation.Install].
func (o *Operation) Rollback(ctx context.Context, client *action.Rollback, name, description string) error {
	detach, ok := o.attach(ctx, "rollback")
	if !ok {
		return client.Run(name)
	}
	defer detach()

	o.preparing = true
	o.description = description
	o.takeOver(&client.Wait, &client.DisableHooks, client.Timeout)

	err := client.Run(name)
	if o.hookErr != nil && errors.Is(err, o.hookErr) {
		// What waiting for resources puts before its error isn't said of a
		// hook's (pkg/action/rollback.go, performRollback).
		err = o.hookErr
	}
	return o.complete(name, err)
}
