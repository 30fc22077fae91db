package helm3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// WarnOfRecords has warn told of records that can't be read, and leaves them out:
// Helm's storage drivers do so silently with those that can't be decoded, and at
// others Helm panics.
func WarnOfRecords(cfg *action.Configuration, namespace string, warn func(message string)) {
	d := &readableDriver{Driver: cfg.Releases.Driver, warn: warn, told: map[string]bool{}}
	resource := ""
	switch storage := d.Driver.(type) {
	case *driver.Secrets:
		resource = "secrets"
		d.listen(&storage.Log)
	case *driver.ConfigMaps:
		resource = "configmaps"
		d.listen(&storage.Log)
	default:
		return
	}
	d.names = func(selector string) ([]string, error) {
		clients, err := cfg.KubernetesClientSet()
		if err != nil {
			return nil, err
		}
		answer, err := clients.CoreV1().RESTClient().Get().Namespace(namespace).Resource(resource).Param("labelSelector", selector).
			SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").DoRaw(context.TODO())
		if err != nil {
			return nil, err
		}
		var list metav1.PartialObjectMetadataList
		if err := json.Unmarshal(answer, &list); err != nil {
			return nil, err
		}
		names := make([]string, len(list.Items))
		for i, item := range list.Items {
			names[i] = item.Name
		}
		return names, nil
	}
	cfg.Releases.Driver = d
}

// readableDriver is a storage driver that leaves out the records that can't be read,
// and says which they are.
type readableDriver struct {
	driver.Driver
	// names returns the objects that hold the records which a selector selects.
	names func(selector string) ([]string, error)
	warn  func(string)

	mu     sync.Mutex
	logged bool // the driver has left something out
	told   map[string]bool
}

// listen notes that the driver logs, which it does where it can't decode a record.
func (d *readableDriver) listen(log *func(string, ...any)) {
	original := *log
	*log = func(format string, args ...any) {
		d.mu.Lock()
		d.logged = true
		d.mu.Unlock()
		original(format, args...)
	}
}

// Query implements [driver.Queryor].
func (d *readableDriver) Query(query map[string]string) ([]*release.Release, error) {
	d.mu.Lock()
	d.logged = false
	d.mu.Unlock()
	found, err := d.Driver.Query(query)
	if err != nil {
		return found, err
	}
	all := len(found)
	read := slices.DeleteFunc(found, isDamaged)
	d.mu.Lock()
	incomplete := d.logged || len(read) < all
	d.mu.Unlock()
	if incomplete {
		d.findDamaged(labels.SelectorFromSet(query).String())
	}
	for _, rel := range read {
		d.dropNullHooks(rel)
	}
	return read, nil
}

// List implements [driver.Queryor].
func (d *readableDriver) List(filter func(*release.Release) bool) ([]*release.Release, error) {
	return d.Driver.List(func(rel *release.Release) bool { return !isDamaged(rel) && filter(rel) })
}

// Get implements [driver.Driver].
func (d *readableDriver) Get(key string) (rel *release.Release, err error) {
	damaged := fmt.Errorf("the record %s can't be read: its data is cut off, or not what helm writes", key)
	defer func() {
		// Where Helm's drivers can't decode a record they go on with a nil
		// pointer (pkg/storage/driver/secrets.go, Get).
		if recover() != nil {
			rel, err = nil, damaged
		}
	}()
	rel, err = d.Driver.Get(key)
	if err != nil {
		return nil, err
	}
	if isDamaged(rel) {
		return nil, damaged
	}
	d.dropNullHooks(rel)
	return rel, nil
}

func isDamaged(rel *release.Release) bool { return rel == nil || rel.Info == nil }

func (d *readableDriver) dropNullHooks(rel *release.Release) {
	if slices.Contains(rel.Hooks, nil) {
		rel.Hooks = slices.DeleteFunc(rel.Hooks, func(h *release.Hook) bool { return h == nil })
		d.tell(fmt.Sprintf("in the record of revision %d of release %s a hook is null; it is left out", rel.Version, rel.Name))
	}
}

// findDamaged says which of the selected records can't be read.
func (d *readableDriver) findDamaged(selector string) {
	names, err := d.names(selector)
	for _, name := range names {
		if _, problem := d.Get(name); problem != nil && !errors.Is(problem, driver.ErrReleaseNotFound) {
			d.tell(problem.Error() + "; it is left out")
		}
	}
	if err != nil {
		d.tell(fmt.Sprintf("a record with the labels %s can't be read; it is left out (which one it is can't be found out: %v)", selector, err))
	}
}

// tell warns of something once.
func (d *readableDriver) tell(message string) {
	d.mu.Lock()
	known := d.told[message]
	d.told[message] = true
	d.mu.Unlock()
	if !known {
		d.warn(message)
	}
}
