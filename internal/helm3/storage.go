package helm3

import (
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// storageDriver is Helm's storage driver, decorated: it lets the operation know
// which release is pending. It's used by one goroutine at a time.
type storageDriver struct {
	driver.Driver
	operation *Operation
}

// Create implements [driver.Creator].
func (d *storageDriver) Create(key string, rel *release.Release) error {
	events, pending := eventsOf[rel.Info.Status]
	if !pending {
		return d.Driver.Create(key, rel)
	}
	if err := d.operation.begin(rel, events); err != nil {
		return err
	}
	if err := d.Driver.Create(key, rel); err != nil {
		d.operation.pending = nil
		return err
	}
	d.operation.recorded = true
	return nil
}

// Update implements [driver.Updator].
func (d *storageDriver) Update(key string, rel *release.Release) error {
	if p := d.operation.pending; p != nil && p.release == rel {
		if _, pending := eventsOf[rel.Info.Status]; !pending {
			d.operation.pending = nil
		}
	}
	if rel.Info.Status == release.StatusUninstalling {
		d.operation.uninstalling = rel
	}
	return d.Driver.Update(key, rel)
}
