package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// scenario is what is done once by helm and then by the plugin, each time in a namespace of its own; see scenarios.
type scenario struct {
	name string
	// given is what the real helm or somebody else did before.
	given []step
	// when are the commands that are compared, without the name of the program. A word is what stands between
	// blanks, NAMESPACE is the namespace, and charts is the folder of the test charts. A "! " before a command says
	// that helm fails.
	when []string
	// says is part of what helm prints to standard output or as its error, which tells that the scenario is about
	// what its name says.
	says string
	// differs are the differences on purpose.
	differs []difference
}

// step is a preparation. It fails the test if it can't be done.
type step func(*session)

// helm is a command of the real helm that ends well.
func helm(line string) step {
	return func(s *session) { s.t.Helper(); s.must(s.helm(s.words(line)...)) }
}

// helmFails is a command of the real helm that fails.
func helmFails(line string) step {
	return func(s *session) {
		s.t.Helper()
		if got := s.helm(s.words(line)...); got.code == 0 {
			s.t.Fatalf("did not fail: %v", got)
		}
	}
}

// somebodyCreates creates a ConfigMap that no release owns.
func somebodyCreates(name string) step {
	return func(s *session) {
		s.t.Helper()
		_, err := bed.client.CoreV1().ConfigMaps(s.namespace).Create(s.t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"text": "somebody's"},
		}, metav1.CreateOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// somebodyChanges changes what a ConfigMap has as its text and adds a label.
func somebodyChanges(name string) step {
	return func(s *session) {
		s.t.Helper()
		maps := bed.client.CoreV1().ConfigMaps(s.namespace)
		object, err := maps.Get(s.t.Context(), name, metav1.GetOptions{})
		if err == nil {
			object.Data["text"] = "somebody's"
			object.Labels["somebody"] = "was-here"
			_, err = maps.Update(s.t.Context(), object, metav1.UpdateOptions{})
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// somebodyDeletes deletes a ConfigMap.
func somebodyDeletes(name string) step {
	return func(s *session) {
		s.t.Helper()
		if err := bed.client.CoreV1().ConfigMaps(s.namespace).Delete(s.t.Context(), name, metav1.DeleteOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// recorded gives the last revision of a release another status, as a helm that was killed leaves it.
func recorded(name string, status release.Status) step {
	return func(s *session) {
		s.t.Helper()
		last := s.release(name)
		last.Info.Status = status
		data, err := encodeRelease(last)
		if err != nil {
			s.t.Fatal(err)
		}
		records := bed.client.CoreV1().Secrets(s.namespace)
		secret, err := records.Get(s.t.Context(), fmt.Sprintf("sh.helm.release.v1.%s.v%d", name, last.Version), metav1.GetOptions{})
		if err == nil {
			secret.Data["release"] = data
			secret.Labels["status"] = string(status)
			_, err = records.Update(s.t.Context(), secret, metav1.UpdateOptions{})
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// files writes a txtar archive into the folder where the commands run.
func files(archive string) step {
	return func(s *session) {
		s.t.Helper()
		if err := txtar.Write(txtar.Parse([]byte(s.named(archive))), s.folder); err != nil {
			s.t.Fatal(err)
		}
	}
}

// named fills in the namespace.
func (s *session) named(text string) string {
	return strings.ReplaceAll(text, "NAMESPACE", s.namespace)
}

func (s *session) words(line string) []string { return strings.Fields(s.named(line)) }

// outcome is all by which a user or a script could tell two programs apart, by field.
type outcome map[string]string

// The fields of an outcome. The last two are for runs with more than one hook at a time, in which the order within a
// weight and the texts of errors are not Helm's.
const (
	codes    = "exit codes"
	stdout   = "stdout"
	errs     = "error"
	logs     = "stderr before the error" // logs of hooks, and warnings
	records  = "records"                 // all revisions of all releases, as stored
	changes  = "changes"                 // creates, updates, patches and deletes of everything but records, in order
	objects  = "objects"                 // what is left in the cluster
	statuses = "statuses"                // of all revisions, their descriptions, and the phases of their hooks
	work     = "work"                    // changes in any order
)

var (
	serialFields   = []string{codes, stdout, errs, logs, records, changes, objects}
	parallelFields = []string{codes, stdout, statuses, work, objects}
)

// run does a scenario in a fresh namespace with one program and returns what came of it, without what can't be the
// same twice.
func (sc scenario) run(t *testing.T, program func(*session, ...string) result) outcome {
	t.Helper()
	s := newSession(t)
	s.needsAudit()
	s.folder = t.TempDir()
	if err := os.Symlink(filepath.Join(bed.root, "testdata", "charts"), filepath.Join(s.folder, "charts")); err != nil {
		t.Fatal(err)
	}
	other := s.namespace + "-other"
	t.Cleanup(func() { bed.audit.Forget(other) })
	for _, prepare := range sc.given {
		prepare(s)
	}
	prepared := len(s.trail())

	o := outcome{}
	for _, line := range sc.when {
		line = strings.TrimPrefix(line, "! ")
		got := program(s, s.words(line)...)
		o[codes] += fmt.Sprintf("%d\n", got.code)
		o[stdout] += got.stdout
		before, text, _ := strings.Cut("\n"+got.stderr, "\nError: ")
		o[logs] += strings.TrimPrefix(before, "\n")
		o[errs] += text
	}

	kinds := map[schema.GroupVersionResource]bool{}
	for _, namespace := range []string{"", s.namespace, other} {
		trail := s.trailOf(namespace)
		var from int
		switch namespace {
		case "":
			trail = trail.Where(func(r audit.Request) bool { return strings.Contains(r.Name, s.namespace) })
		case s.namespace:
			from = prepared
		}
		o.addChanges(trail.Creates(), trail[from:].By(byHelm, byPlugin), namespace != "", kinds)
	}
	for _, namespace := range []string{s.namespace, other} {
		releases, err := storedReleases(t.Context(), namespace)
		if err != nil {
			t.Fatal(err)
		}
		for _, rel := range releases {
			for _, label := range []string{"createdAt", "modifiedAt"} {
				if rel.Labels[label] != "" {
					rel.Labels[label] = oneTime
				}
			}
			o[records] += s.recordText(rel)
			o[statuses] += statusText(rel)
		}
		o[objects] += objectsIn(t, namespace, kinds)
	}
	for field, text := range o {
		o[field] = s.mask(text)
	}
	return o
}

// Whatever differs from run to run.
var (
	times = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}`)
	uids  = regexp.MustCompile(`[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}`)
	// What client-go logs of watches that end, and the head of what it logs else.
	watches   = regexp.MustCompile(`(?m)^[EIW]\d{4} .*\breflector\b.*\n?`)
	headers   = regexp.MustCompile(`(?m)^[EIW]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \w+\.go:\d+\] `)
	versions  = regexp.MustCompile(`"resourceVersion":"[0-9]+"`)
	generated = regexp.MustCompile(`\b(kube-api-access|server-[a-z0-9]+)-[a-z0-9]{5}\b`)
)

// oneTime stands for any time.
const oneTime = "TIME"

func (s *session) mask(text string) string {
	text = strings.NewReplacer(s.folder, "FOLDER", s.namespace, "NAMESPACE").Replace(text)
	text = times.ReplaceAllString(text, oneTime)
	text = uids.ReplaceAllString(text, "UID")
	text = watches.ReplaceAllString(text, "")
	text = headers.ReplaceAllString(text, "LOG ")
	text = versions.ReplaceAllString(text, `"resourceVersion":"VERSION"`)
	return generated.ReplaceAllString(text, "$1-SUFFIX")
}

// resourceOf is the kind of what a request is about.
func resourceOf(r audit.Request) schema.GroupVersionResource {
	// The URI is /api/VERSION/... or /apis/GROUP/VERSION/...
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.URI, "/apis/"+r.Group), "/api"), "/")
	return schema.GroupVersionResource{Group: r.Group, Version: parts[1], Resource: r.Resource}
}

// change is a request that has changed something.
type change struct {
	what string // the verb and the resource
	line string
	hook bool // whether it's about a hook
}

// changeOf says what a request has changed. The line is empty if that is nothing, or the record of a release.
func changeOf(r audit.Request) change {
	c := change{what: r.Verb + " " + r.Resource}
	if r.Code >= 300 || strings.HasPrefix(r.Name, "sh.helm.release.v1.") {
		return c
	}
	switch r.Verb {
	case "create", "update", "patch":
		c.line = r.Verb + " " + r.Object() + " " + compact(r.RequestBody)
	case "delete":
		c.line = r.Verb + " " + r.Object()
		var options metav1.DeleteOptions
		if json.Unmarshal(r.RequestBody, &options) == nil && options.PropagationPolicy != nil {
			c.line += " " + string(*options.PropagationPolicy)
		}
	}
	return c
}

// addChanges adds what the requests of one namespace, or of none, have changed, in Helm's order and in any, and notes the
// kinds that were created there. creates tell which objects are hooks.
func (o outcome) addChanges(creates, requests audit.Trail, namespaced bool, kinds map[schema.GroupVersionResource]bool) {
	hooks := map[string]bool{}
	for _, r := range creates {
		kinds[resourceOf(r)] = namespaced
		hooks[r.Object()] = hookOf(r) != nil
	}
	var done []change
	for _, r := range requests {
		if c := changeOf(r); c.line != "" {
			c.hook = hooks[r.Object()]
			done = append(done, c)
		}
	}
	o[changes] += inOrder(done)
	lines := strings.SplitAfter(o[changes], "\n")
	slices.Sort(lines)
	o[work] = strings.Join(lines, "")
}

// inOrder returns the lines of the changes. Those of a kind that are the manifest's are sorted, since Helm itself
// makes them at once (pkg/kube/client.go, batchPerform).
func inOrder(done []change) string {
	var text strings.Builder
	for len(done) > 0 {
		first, n := done[0], 1
		for n < len(done) && !first.hook && !done[n].hook && done[n].what == first.what {
			n++
		}
		slices.SortFunc(done[:n], func(a, b change) int { return cmp.Compare(a.line, b.line) })
		for _, c := range done[:n] {
			text.WriteString(c.line + "\n")
		}
		done = done[n:]
	}
	return text.String()
}

// inNamespace is what a body may say, but need not, since the URI does.
var inNamespace = regexp.MustCompile(`("metadata":\{"name":"[^"]*"),"namespace":"[^"]*"`)

func compact(body json.RawMessage) string {
	var line bytes.Buffer
	if json.Compact(&line, body) != nil {
		return string(body)
	}
	return inNamespace.ReplaceAllString(line.String(), "$1")
}

// recordText is a record as JSON, which has no labels, and its labels.
func (s *session) recordText(rel *release.Release) string {
	s.t.Helper()
	for _, file := range slices.Concat(rel.Chart.Templates, rel.Chart.Files) {
		// In JSON they are base64, where the name can't be masked.
		file.Data = bytes.ReplaceAll(file.Data, []byte(s.namespace), []byte("NAMESPACE"))
	}
	text, err := json.MarshalIndent(rel, "", " ")
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%s\nlabels: %v\n", text, rel.Labels)
}

func statusText(rel *release.Release) string {
	return fmt.Sprintf("%s %d: %s: %s %q\n", rel.Name, rel.Version, rel.Info.Status, rel.Info.Description, phasesOf(rel))
}

var dynamicClient = sync.OnceValues(func() (dynamic.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", bed.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return dynamic.NewForConfig(config)
})

// objectsIn returns the objects of a namespace that are there to stay and that nothing but themselves brought there:
// not what a controller made for another object, and neither status nor what the cluster itself adds.
func objectsIn(t *testing.T, namespace string, kinds map[schema.GroupVersionResource]bool) string {
	t.Helper()
	client, err := dynamicClient()
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for kind, namespaced := range kinds {
		if !namespaced || kind.Resource == "events" {
			continue
		}
		list, err := client.Resource(kind).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatalf("listing %s: %v", kind, err)
		}
		for _, object := range list.Items {
			if object.GetDeletionTimestamp() != nil || len(object.GetOwnerReferences()) > 0 || isClusters(object) {
				continue
			}
			texts = append(texts, objectText(t, object))
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, "")
}

// isClusters tells whether an object is a record, or one of those that every namespace has.
func isClusters(object unstructured.Unstructured) bool {
	switch object.GetKind() {
	case "ConfigMap":
		return object.GetName() == "kube-root-ca.crt"
	case "ServiceAccount":
		return object.GetName() == "default"
	case "Secret":
		return strings.HasPrefix(object.GetName(), "sh.helm.release.v1.")
	}
	return false
}

func objectText(t *testing.T, object unstructured.Unstructured) string {
	t.Helper()
	var managers []string
	for _, entry := range object.GetManagedFields() {
		if entry.Subresource == "" && !strings.HasPrefix(entry.Manager, "kube-") {
			managers = append(managers, entry.Manager+" "+string(entry.Operation)+" "+string(entry.FieldsV1.GetRawBytes()))
		}
	}
	slices.Sort(managers)
	delete(object.Object, "status")
	for _, field := range []string{"managedFields", "resourceVersion", "creationTimestamp", "uid"} {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
	for _, field := range []string{"nodeName", "clusterIP", "clusterIPs"} {
		unstructured.RemoveNestedField(object.Object, "spec", field)
	}
	unstructured.RemoveNestedField(object.Object, "metadata", "annotations", "deployment.kubernetes.io/revision")
	text, err := json.MarshalIndent(object.Object, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s/%s %s\nmanaged by %q\n", object.GetKind(), object.GetName(), text, managers)
}

// difference is one that is on purpose, and so is in docs/differences.md.
type difference struct {
	key      string // the id of an anchor there
	parallel bool   // it shows only with more than one hook at a time
	that     []rewriting
}

// rewriting says what the plugin has in a field in the place of what Helm has.
type rewriting struct {
	field string
	// helm is a regular expression, and plugin replaces each match. If both are empty, the field may differ in any
	// way, and must.
	helm, plugin string
}

// containerReport is what the plugin adds to an error about a Job or Pod with more than one hook at a time.
var containerReport = regexp.MustCompile(` \(pod [^()]*\)`)

// compare returns how the plugin's outcome differs otherwise than on purpose. It also complains of a difference on
// purpose that there isn't.
func (sc scenario) compare(want, got outcome, parallel bool) (complaints []string) {
	fields := serialFields
	if parallel {
		fields = parallelFields
		got = maps.Clone(got)
		got[statuses] = containerReport.ReplaceAllString(got[statuses], "")
	}
	for _, field := range fields {
		expected, anything := want[field], ""
		for _, d := range sc.differs {
			for _, r := range d.that {
				if r.field != field || d.parallel && !parallel {
					continue
				}
				if r.helm == "" {
					anything = d.key
					continue
				}
				changed := regexp.MustCompile(r.helm).ReplaceAllString(expected, r.plugin)
				if changed == expected {
					complaints = append(complaints, fmt.Sprintf("stale difference %q: helm's %s has no %q:\n%s", d.key, field, r.helm, expected))
				}
				expected = changed
			}
		}
		switch same := expected == got[field]; {
		case anything != "" && same:
			complaints = append(complaints, fmt.Sprintf("stale difference %q: %s is Helm's", anything, field))
		case anything == "" && !same:
			complaints = append(complaints, fmt.Sprintf("%s is not Helm's:\n%s", field, diff.Diff("helm", []byte(expected), "plugin", []byte(got[field]))))
		}
	}
	return complaints
}

// TestDifferences holds the plugin against the real helm. With one hook at a time nothing but times may tell them
// apart, and what docs/differences.md says; with more, also the order within a weight and the words of errors. The
// short test leaves out two of the three ways to ask for one at a time.
func TestDifferences(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			want := sc.run(t, (*session).helm)
			sc.check(t, want)
			all := [][]string{nil, {"--hook-parallelism=8"}, {"--hook-parallelism=0"}, {"--hook-parallelism=1"}}
			if testing.Short() {
				all = all[:2]
			}
			for _, flags := range all {
				got := sc.run(t, func(s *session, args ...string) result {
					return s.plugin(slices.Concat(args[:1], flags, args[1:])...)
				})
				for _, complaint := range sc.compare(want, got, slices.Contains(flags, "--hook-parallelism=8")) {
					t.Errorf("with %q: %s", flags, complaint)
				}
			}
		})
	}
}

// check fails the test if the scenario, as helm has done it, isn't about what it's meant to be about.
func (sc scenario) check(t *testing.T, helms outcome) {
	t.Helper()
	var expected strings.Builder
	for _, line := range sc.when {
		fmt.Fprintln(&expected, map[bool]int{true: 1, false: 0}[strings.HasPrefix(line, "! ")])
	}
	if helms[codes] != expected.String() {
		t.Errorf("helm ended with %q, not with %q:\n%s%s", helms[codes], expected.String(), helms[stdout], helms[errs])
	}
	if !strings.Contains(helms[stdout]+helms[errs], sc.says) {
		t.Errorf("helm did not say %q, but:\n%s%s", sc.says, helms[stdout], helms[errs])
	}
}

// TestDifferencesAreListed: each difference on purpose is in the document, and each anchor there has its scenario.
func TestDifferencesAreListed(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile(filepath.Join(bed.root, "docs", "differences.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, anchor := range regexp.MustCompile(`<a id="([^"]*)"></a>`).FindAllSubmatch(document, -1) {
		listed[string(anchor[1])] = true
	}
	shown := map[string]bool{}
	names := map[string]bool{}
	for _, sc := range scenarios {
		if names[sc.name] {
			t.Errorf("two scenarios are called %q", sc.name)
		}
		names[sc.name] = true
		for _, d := range sc.differs {
			shown[d.key] = true
			if !listed[d.key] {
				t.Errorf("scenario %q: docs/differences.md has no anchor %q", sc.name, d.key)
			}
		}
	}
	for key := range listed {
		if !shown[key] {
			t.Errorf("docs/differences.md has an anchor %q, but no scenario shows that difference", key)
		}
	}
}
