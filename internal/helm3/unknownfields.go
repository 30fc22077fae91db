package helm3

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// KeepUnknownFields has records that cfg keeps in the cluster's namespace hold on to what Helm 3 has no name for when
// they are written again. Helm 4's records have such fields: a revision without its apply_method would be rolled back
// to by client-side apply. It's to be called before anything decorates the storage driver.
func KeepUnknownFields(cfg *action.Configuration, namespace string) {
	clients := sync.OnceValues(cfg.KubernetesClientSet)
	switch storage := cfg.Releases.Driver.(type) {
	case *driver.Secrets:
		d := driver.NewSecrets(secrets{recordClient: &recordClient[corev1.Secret, corev1.SecretList]{
			client: func() (objectClient[corev1.Secret, corev1.SecretList], error) {
				client, err := clients()
				if err != nil {
					return nil, err
				}
				return client.CoreV1().Secrets(namespace), nil
			},
			items: func(list *corev1.SecretList) []corev1.Secret { return list.Items },
			get:   func(s *corev1.Secret) (name, record string) { return s.Name, string(s.Data[recordKey]) },
			set:   func(s *corev1.Secret, record string) { s.Data[recordKey] = []byte(record) },
		}})
		d.Log = storage.Log
		cfg.Releases.Driver = d
	case *driver.ConfigMaps:
		d := driver.NewConfigMaps(configMaps{recordClient: &recordClient[corev1.ConfigMap, corev1.ConfigMapList]{
			client: func() (objectClient[corev1.ConfigMap, corev1.ConfigMapList], error) {
				client, err := clients()
				if err != nil {
					return nil, err
				}
				return client.CoreV1().ConfigMaps(namespace), nil
			},
			items: func(list *corev1.ConfigMapList) []corev1.ConfigMap { return list.Items },
			get:   func(c *corev1.ConfigMap) (name, record string) { return c.Name, c.Data[recordKey] },
			set:   func(c *corev1.ConfigMap, record string) { c.Data[recordKey] = record },
		}})
		d.Log = storage.Log
		cfg.Releases.Driver = d
	}
}

// recordKey is where Helm's drivers keep a record in an object's data (pkg/storage/driver/secrets.go, newSecretsObject).
const recordKey = "release"

// The drivers take a whole client of which they use what [objectClient] has. The rest is nil, and one level deeper, so
// that it hides nothing.
type (
	secrets struct {
		*recordClient[corev1.Secret, corev1.SecretList]
		otherSecrets
	}
	configMaps struct {
		*recordClient[corev1.ConfigMap, corev1.ConfigMapList]
		otherConfigMaps
	}
	otherSecrets    struct{ typedcorev1.SecretInterface }
	otherConfigMaps struct {
		typedcorev1.ConfigMapInterface
	}
)

// objectClient is what Helm's storage drivers use of a client for objects of type T.
type objectClient[T, L any] interface {
	Create(ctx context.Context, object *T, opts metav1.CreateOptions) (*T, error)
	Update(ctx context.Context, object *T, opts metav1.UpdateOptions) (*T, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*T, error)
	List(ctx context.Context, opts metav1.ListOptions) (*L, error)
}

// recordClient remembers the records that it reads, and adds their unknown fields to those that it updates. It's safe
// for concurrent use.
type recordClient[T, L any] struct {
	client func() (objectClient[T, L], error)
	items  func(*L) []T
	get    func(*T) (name, record string)
	set    func(object *T, record string)

	mu sync.Mutex
	// read are records as they were read, by name; unknown are the fields of those that were updated since.
	read    map[string]string
	unknown map[string]map[string]any
}

func (c *recordClient[T, L]) Create(ctx context.Context, object *T, opts metav1.CreateOptions) (*T, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	return client.Create(ctx, object, opts)
}

func (c *recordClient[T, L]) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return client.Delete(ctx, name, opts)
}

func (c *recordClient[T, L]) Get(ctx context.Context, name string, opts metav1.GetOptions) (*T, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	object, err := client.Get(ctx, name, opts)
	if err == nil {
		c.remember(object)
	}
	return object, err
}

func (c *recordClient[T, L]) List(ctx context.Context, opts metav1.ListOptions) (*L, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	list, err := client.List(ctx, opts)
	if err == nil {
		for _, object := range c.items(list) {
			c.remember(&object)
		}
	}
	return list, err
}

func (c *recordClient[T, L]) Update(ctx context.Context, object *T, opts metav1.UpdateOptions) (*T, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	name, record := c.get(object)
	if unknown := c.unknownFields(name); len(unknown) > 0 {
		merged, err := withFields(record, unknown)
		if err != nil {
			return nil, fmt.Errorf("keeping what another version of Helm wrote into the record %s: %w", name, err)
		}
		c.set(object, merged)
	}
	return client.Update(ctx, object, opts)
}

func (c *recordClient[T, L]) remember(object *T) {
	name, record := c.get(object)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		c.read, c.unknown = map[string]string{}, map[string]map[string]any{}
	}
	c.read[name] = record
	delete(c.unknown, name)
}

// unknownFields returns what the record of that name held when it was read and Helm 3 doesn't know. A record that
// can't be decoded has nothing to keep: Helm says so where it reads it.
func (c *recordClient[T, L]) unknownFields(name string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if record, ok := c.read[name]; ok {
		delete(c.read, name)
		if all, err := decodeRecord(record); err == nil {
			c.unknown[name] = unknownIn(all)
		}
	}
	return c.unknown[name]
}

// unknownIn returns what of a record Helm 3's types have no place for.
func unknownIn(all map[string]any) map[string]any {
	text, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	var rel release.Release
	if err := json.Unmarshal(text, &rel); err != nil {
		return nil
	}
	if text, err = json.Marshal(&rel); err != nil {
		return nil
	}
	var known map[string]any
	if err := json.Unmarshal(text, &known); err != nil {
		return nil
	}
	unknown, _ := lacking(all, known).(map[string]any)
	return unknown
}

// missing is a value that is whole, where another map or array in its place is the way to such values.
type missing struct{ value any }

// lacking returns the fields of all, at any depth, that known lacks, or nil. Helm leaves out fields that are empty, so
// an empty one isn't unknown.
func lacking(all, known any) any {
	switch all := all.(type) {
	case map[string]any:
		known, ok := known.(map[string]any)
		if !ok {
			return nil
		}
		found := map[string]any{}
		for key, value := range all {
			k, ok := known[key]
			switch {
			case ok:
				if below := lacking(value, k); below != nil {
					found[key] = below
				}
			case !isEmpty(value) && !hasFolded(known, key):
				found[key] = missing{value}
			}
		}
		if len(found) > 0 {
			return found
		}
	case []any:
		known, ok := known.([]any)
		if !ok || len(known) != len(all) {
			return nil
		}
		found := make([]any, len(all))
		for i := range all {
			found[i] = lacking(all[i], known[i])
		}
		if slices.ContainsFunc(found, func(element any) bool { return element != nil }) {
			return found
		}
	}
	return nil
}

// hasFolded says whether an object has the key but for its case, which decoding doesn't mind.
func hasFolded(object map[string]any, key string) bool {
	for k := range object {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

func isEmpty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == ""
	case bool:
		return !value
	case json.Number:
		return value == "0"
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return false
}

// add puts what [lacking] has found into value where value lacks it too. Arrays of another length are left alone.
func add(value, found any) {
	switch found := found.(type) {
	case map[string]any:
		value, ok := value.(map[string]any)
		if !ok {
			return
		}
		for key, below := range found {
			existing, ok := value[key]
			if whole, isWhole := below.(missing); !isWhole {
				add(existing, below)
			} else if !ok {
				value[key] = whole.value
			}
		}
	case []any:
		value, ok := value.([]any)
		if !ok || len(value) != len(found) {
			return
		}
		for i := range value {
			add(value[i], found[i])
		}
	}
}

// withFields returns an encoded record with fields that it lacks.
func withFields(record string, fields map[string]any) (string, error) {
	all, err := decodeRecord(record)
	if err != nil {
		return "", err
	}
	add(all, fields)
	text, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	// As Helm does it (pkg/storage/driver/util.go, encodeRelease).
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(packed.Bytes()), nil
}

// decodeRecord undoes what Helm does to store a record (pkg/storage/driver/util.go, decodeRelease). Numbers stay as
// they are written.
func decodeRecord(record string) (map[string]any, error) {
	text, err := base64.StdEncoding.DecodeString(record)
	if err != nil {
		return nil, err
	}
	var r io.Reader = bytes.NewReader(text)
	if bytes.HasPrefix(text, []byte{0x1f, 0x8b, 0x08}) {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, err
		}
	}
	decoder := json.NewDecoder(r)
	decoder.UseNumber()
	var all map[string]any
	err = decoder.Decode(&all)
	return all, err
}
