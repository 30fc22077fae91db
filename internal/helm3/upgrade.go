package helm3

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
)

// Upgrade does what client.Run does, with the hooks run by our engine. It takes
// over what client's DisableHooks and Wait ask for and changes these fields. A
// failed upgrade that is atomic is rolled back by the action, whose rollback
// comes through the same decorators.
//
// About ctx and the error see [Operation.Install].
func (o *Operation) Upgrade(ctx context.Context, client *action.Upgrade, name string, chrt *chart.Chart, values map[string]any) (*release.Release, error) {
	detach, ok := o.attach(ctx, "upgrade")
	if !ok {
		return client.Run(name, chrt, values)
	}
	defer detach()

	o.preparing = true
	o.takeOver(&client.Wait, &client.DisableHooks, client.Timeout)
	o.asked.wait = o.asked.wait || client.Atomic

	rel, err := client.Run(name, chrt, values)
	if !o.recorded {
		err = o.checkDryRun(rel, err)
	}
	if err != nil && o.hookErr != nil {
		// As in [Operation.Rollback], but inside the error of the upgrade.
		said := ": " + o.hookErr.Error()
		if before, after, found := strings.Cut(err.Error(), fmt.Sprintf(": release %s failed%s", name, said)); found {
			err = errors.New(before + said + after)
		}
	}
	return rel, o.complete(name, err)
}
