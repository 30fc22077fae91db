package lint

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// templates are what a chart's templates render to, by their paths.
type templates map[string]string

// rendered returns the release that Helm would make of them.
func rendered(t *testing.T, files templates) *release.Release {
	t.Helper()
	all, resources, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		t.Fatal(err)
	}
	manifest := ""
	for _, r := range resources {
		manifest += "---\n# Source: " + r.Name + "\n" + r.Content + "\n"
	}
	return &release.Release{
		Name: "release-name", Namespace: "web", Version: 1, Hooks: all, Manifest: manifest,
		Chart: &chart.Chart{Metadata: &chart.Metadata{Name: "shop", Version: "1.2.3"}},
	}
}

func checked(t *testing.T, files templates) *Report {
	t.Helper()
	sources := Sources{}
	for name, text := range files {
		sources[name] = Source{name, text}
	}
	r, err := Check(rendered(t, files), files, sources)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lines writes findings down, one to a line.
func lines(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s %s %s %d: %s\n", f.Severity, f.Rule, f.Hook, strings.Join(f.Events, ","), f.Line, f.Message)
	}
	return b.String()
}

// job returns a Job against which nothing can be said but what its annotations, lines
// of YAML, and the spec of its pods say.
func job(name, events, annotations, pod string) string {
	text := "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: " + name + "\n  annotations:\n    helm.sh/hook: " + events + "\n"
	for line := range strings.Lines(annotations) {
		text += "    " + strings.TrimSuffix(line, "\n") + "\n"
	}
	text += "spec:\n  backoffLimit: 0\n  activeDeadlineSeconds: 60\n  template:\n    spec:\n      restartPolicy: Never\n"
	for line := range strings.Lines(pod) {
		text += "      " + strings.TrimSuffix(line, "\n") + "\n"
	}
	return text
}

// object returns an object of the core group, a hook if it has events.
func object(kind, name, events, annotations string) string {
	text := "apiVersion: v1\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n"
	if events != "" || annotations != "" {
		text += "  annotations:\n"
	}
	if events != "" {
		text += "    helm.sh/hook: " + events + "\n"
	}
	for line := range strings.Lines(annotations) {
		text += "    " + strings.TrimSuffix(line, "\n") + "\n"
	}
	return text
}

// list returns a List of ConfigMaps, with its annotations and what stands for their names.
func list(annotations string, names ...string) string {
	text := "apiVersion: v1\nkind: List\nmetadata: {name: l, annotations:\n  " + annotations + "}\nitems:\n"
	for _, name := range names {
		text += "- {apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}}\n"
	}
	return text
}

func weight(n int) string { return fmt.Sprintf("helm.sh/hook-weight: %q", fmt.Sprint(n)) }

const (
	policies = "before-hook-creation, hook-succeeded, hook-failed"
	unread   = "; make each object a hook of its own, without a List\n"
	events   = "pre-install, pre-upgrade, pre-rollback, post-install, post-upgrade, post-rollback, test, pre-delete, post-delete"
)

func TestAnnotations(t *testing.T) {
	for name, test := range map[string]struct{ manifest, want string }{
		"nothing": {job("a", "pre-install", "", ""), ""},
		"all that is known": {job("a", "Pre-Install, test-success", `helm.sh/hook-weight: "-5"
helm.sh/hook-delete-policy: Before-Hook-Creation, hook-succeeded,hook-failed
helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
parallel-hooks/slots: "2"
other/annotation: x`, ""), ""},
		"bad slots": {job("a", "pre-install,pre-upgrade", `parallel-hooks/slots: "0"`, ""),
			`error invalid-annotation Job/a pre-install,pre-upgrade 7: parallel-hooks/slots: "0": must be an integer of at least 1, or "all"` + "\n"},
		"after nobody, for an hour": {job("a", "test", "parallel-hooks/after: b\nparallel-hooks/timeout: 1h", ""),
			`error invalid-annotation Job/a test 7: parallel-hooks/after: "b": no hook of the release is called "b"; must be names of hooks, or Kind/name, separated by commas` + "\n"},
		"after itself": {job("a", "test", "parallel-hooks/failure: ignore\nparallel-hooks/after: Job/a", ""),
			`error invalid-annotation Job/a test 8: parallel-hooks/after: "Job/a": names the hook itself; must be other hooks of the same event, of the same weight or a lower one` + "\n"},
		"a List": {list("{helm.sh/hook: test, parallel-hooks/failure: ignore}", "a", "b"),
			`error invalid-annotation List/l test 4: parallel-hooks/failure: "ignore": isn't read at a List` + unread},
		"a member of a List": {list("{helm.sh/hook: test}", "a", `b, annotations: {parallel-hooks/slots: nonsense, parallel-hooks/none: 1, helm.sh/hook-weight: "1"}`),
			`error invalid-annotation List/l test 7: parallel-hooks/none: "1": isn't read at ConfigMap/b, which is one of several objects in a List` + unread +
				`error invalid-annotation List/l test 7: parallel-hooks/slots: "nonsense": isn't read at ConfigMap/b, which is one of several objects in a List` + unread},
		"a List of one": {list("{helm.sh/hook: test, parallel-hooks/slots: nonsense}", `b, annotations: {parallel-hooks/slots: "2"}`),
			`error invalid-annotation List/l test 4: parallel-hooks/slots: "nonsense": isn't read at a List` + unread},
		"a bad one in a List of one": {list("{helm.sh/hook: test}", "b, annotations: {parallel-hooks/slots: nonsense}"),
			`error invalid-annotation List/l test 6: parallel-hooks/slots: "nonsense": must be an integer of at least 1, or "all"` + "\n"},
		"a List of none": {list("{helm.sh/hook: test, parallel-hooks/slots: all}"),
			`error invalid-annotation List/l test 4: parallel-hooks/slots: "all": isn't read at a List` + unread},
		"a List that's no hook": {list("{parallel-hooks/slots: all}", "a", "b, annotations: {parallel-hooks/slots: all}"), ""},
		"a fraction": {job("a", "test", `helm.sh/hook-weight: "1.5"`, ""),
			`error invalid-weight Job/a test 7: helm.sh/hook-weight is "1.5", which is no whole number: Helm takes 0` + "\n"},
		"a word": {job("a", "test", `helm.sh/hook-weight: first`, ""),
			`error invalid-weight Job/a test 7: helm.sh/hook-weight is "first", which is no whole number: Helm takes 0` + "\n"},
		"no weight": {job("a", "test", `helm.sh/hook-weight:`, ""),
			`error invalid-weight Job/a test 7: helm.sh/hook-weight is "", which is no whole number: Helm takes 0` + "\n"},
		"a number": {job("a", "test", `helm.sh/hook-weight: 5`, ""),
			`error annotation-not-string Job/a test 7: helm.sh/hook-weight is 5, which is no string: Kubernetes will refuse the object; put the value in quotes` + "\n"},
		"a number of slots": {job("a", "pre-install,test", "parallel-hooks/slots: 4\nparallel-hooks/timeout: 90", ""),
			`error annotation-not-string Job/a pre-install,test 7: parallel-hooks/slots is 4, which is no string: Kubernetes will refuse the object; put the value in quotes` + "\n" +
				`error annotation-not-string Job/a pre-install,test 8: parallel-hooks/timeout is 90, which is no string: Kubernetes will refuse the object; put the value in quotes` + "\n"},
		"a number of slots, and a bad one": {job("a", "test", "parallel-hooks/slots: 4\nparallel-hooks/timeout: \"90\"", ""),
			`error annotation-not-string Job/a test 7: parallel-hooks/slots is 4, which is no string: Kubernetes will refuse the object; put the value in quotes` + "\n" +
				`error invalid-annotation Job/a test 8: parallel-hooks/timeout: "90": must be a duration above zero, such as "90s" or "1h30m"` + "\n"},
		"a number of slots in a List of one": {list("{helm.sh/hook: test, parallel-hooks/slots: 4}", "b, annotations: {parallel-hooks/slots: 5}"),
			`error annotation-not-string List/l test 4: parallel-hooks/slots is 4, which is no string: Kubernetes will refuse the object; put the value in quotes` + "\n" +
				`error invalid-annotation List/l test 4: parallel-hooks/slots: "4": isn't read at a List` + unread +
				`error invalid-annotation List/l test 4: parallel-hooks/slots: "5": is no string; put the value in quotes` + "\n"},
		"a truth": {job("a", "test", `other/annotation: true`, ""),
			`error annotation-not-string Job/a test 7: other/annotation is true, which is no string: Kubernetes will refuse the object; put the value in quotes` + "\n"},
		"an unknown event": {job("a", "pre-install,preupgrade", "", ""),
			`error unknown-event Job/a  6: helm.sh/hook names "preupgrade", which is no event: Helm leaves the object out, as a hook and as a resource; known are ` + events + "\n"},
		"a comma too many": {job("a", "pre-install,", "", ""),
			`error unknown-event Job/a  6: helm.sh/hook names "", which is no event: Helm leaves the object out, as a hook and as a resource; known are ` + events + "\n"},
		"an event of Helm 2": {job("a", "crd-install", "", ""),
			`error unknown-event Job/a  6: helm.sh/hook names "crd-install", which is no event: Helm leaves the object out, as a hook and as a resource; put the definition into the chart's folder crds` + "\n"},
		"an unknown delete policy": {job("a", "test", `helm.sh/hook-delete-policy: hook-success`, ""),
			`error unknown-delete-policy Job/a test 7: helm.sh/hook-delete-policy names "hook-success", which is none of ` + policies + ": Helm never deletes the hook, so that the next time it exists already\n"},
		"one of two delete policies": {job("a", "test", `helm.sh/hook-delete-policy: hook-success,before-hook-creation`, ""),
			`error unknown-delete-policy Job/a test 7: helm.sh/hook-delete-policy names "hook-success", which is none of ` + policies + ": Helm ignores it\n"},
		"an unknown log policy": {job("a", "test", `helm.sh/hook-output-log-policy: always`, ""),
			`warning unknown-log-policy Job/a test 7: helm.sh/hook-output-log-policy names "always", which is none of hook-succeeded, hook-failed: Helm ignores it` + "\n"},
		"not a hook":      {object("ConfigMap", "a", "", "helm.sh/hook-weight: x\nparallel-hooks/slots: x"), ""},
		"a partial":       {"", ""},
		"nothing at all":  {"---\n# nothing\n", ""},
		"no annotations":  {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", ""},
		"an empty object": {"{}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(checked(t, templates{"shop/templates/a.yaml": test.manifest})); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// TestPlanErrors: whatever the engine can't follow becomes a finding, how ever its
// errors are joined.
func TestPlanErrors(t *testing.T) {
	h := &hooks.Hook{Kind: "Job", Name: "a", Path: "shop/templates/a.yaml"}
	sources := Sources{
		"shop/templates/a.yaml": {"shop/templates/a.yaml", "kind: Job\nannotations:\n  helm.sh/hook: test\n  parallel-hooks/after: a\n"},
		"shop/Chart.yaml":       {"shop/Chart.yaml", "name: shop\nannotations:\n  parallel-hooks/max-parallel: x\n"},
	}
	c := &check{sources: sources, seen: map[string]*Finding{}}
	rel := rendered(t, nil)
	for _, event := range []hooks.Event{"pre-install", "test"} {
		c.addPlanError(rel, errors.Join(
			&hooks.AnnotationError{Hook: h, Annotation: "parallel-hooks/after", Value: "a", Problem: "is itself"},
			fmt.Errorf("chart: %w", errors.Join(
				&hooks.AnnotationError{Chart: "shop", Annotation: "parallel-hooks/max-parallel", Value: "x", Problem: "must be a number"},
			)),
			errors.New("something else"),
		), event)
	}
	c.addPlanError(rel, nil, "test")
	want := `error invalid-annotation  pre-install,test 3: parallel-hooks/max-parallel: "x": must be a number
error invalid-annotation  pre-install,test 0: something else
error invalid-annotation Job/a pre-install,test 4: parallel-hooks/after: "a": is itself
`
	got := strings.Split(lines(c.report(rel)), "\n")
	slices.Sort(got)
	wanted := strings.Split(want, "\n")
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

// TestUses: every way in which a pod names an object, created by a hook of a higher
// weight.
func TestUses(t *testing.T) {
	for name, test := range map[string]struct{ kind, pod string }{
		"account":              {"ServiceAccount", "serviceAccountName: used"},
		"deprecated account":   {"ServiceAccount", "serviceAccount: used"},
		"envFrom configMapRef": {"ConfigMap", "containers: [{name: c, envFrom: [{configMapRef: {name: used}}]}]"},
		"envFrom secretRef":    {"Secret", "containers: [{name: c, envFrom: [{secretRef: {name: used}}]}]"},
		"configMapKeyRef":      {"ConfigMap", "containers: [{name: c, env: [{name: A, value: a}, {name: E, valueFrom: {configMapKeyRef: {name: used, key: k}}}]}]"},
		"secretKeyRef":         {"Secret", "containers: [{name: c, env: [{name: E, valueFrom: {secretKeyRef: {name: used, key: k, optional: false}}}]}]"},
		"init container":       {"ConfigMap", "initContainers: [{name: c, envFrom: [{configMapRef: {name: used}}]}]"},
		"configMap volume":     {"ConfigMap", "volumes: [{name: v, configMap: {name: used}}]"},
		"secret volume":        {"Secret", "volumes: [{name: v, secret: {secretName: used}}]"},
		"claim":                {"PersistentVolumeClaim", "volumes: [{name: v, persistentVolumeClaim: {claimName: used}}]"},
		"projected configMap":  {"ConfigMap", "volumes: [{name: v, projected: {sources: [{configMap: {name: used}}]}}]"},
		"projected secret":     {"Secret", "volumes: [{name: v, projected: {sources: [{secret: {name: used}}]}}]"},
		"driver's secret":      {"Secret", "volumes: [{name: v, csi: {driver: d, nodePublishSecretRef: {name: used}}}]"},
	} {
		t.Run(name, func(t *testing.T) {
			got := lines(checked(t, templates{
				"shop/templates/job.yaml":  job("a", "pre-install", weight(1), test.pod),
				"shop/templates/used.yaml": object(test.kind, "used", "pre-install", weight(2)),
			}))
			want := "error used-before-created Job/a pre-install 6: has weight 1 and uses " + test.kind + "/used, which is created by a hook of weight 2 (shop/templates/used.yaml): it isn't there yet\n"
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestWhenWhatIsUsedIsThere(t *testing.T) {
	const settings = "containers: [{name: c, envFrom: [{configMapRef: {name: used}}, {configMapRef: {name: used}}]}]"
	const created = ": it isn't there yet\n"
	used := func(events string, n int) string { return object("ConfigMap", "used", events, weight(n)) }
	pod := func(events string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    helm.sh/hook: " + events + "\nspec:\n  " + settings + "\n"
	}
	for name, test := range map[string]struct{ user, used, want string }{
		"lower weight":         {job("a", "pre-install", weight(1), settings), used("pre-install", 0), ""},
		"equal weight, before": {job("x", "pre-install", weight(1), settings), used("pre-install", 1), ""},
		"equal weight, after": {job("a", "pre-install", weight(1), settings), used("pre-install", 1),
			"warning name-order Job/a pre-install 6: uses ConfigMap/used, which is a hook of the same weight whose name comes later: where hooks run one after another, as in plain Helm, it isn't there yet; give it a lower weight\n"},
		"equal name":         {job("used", "pre-install", weight(1), settings), used("pre-install", 1), ""},
		"higher weight, Pod": {pod("test"), used("test", 3), "error used-before-created Pod/p test 6: has weight 0 and uses ConfigMap/used, which is created by a hook of weight 3 (shop/templates/used.yaml)" + created},
		"two events": {job("a", "pre-install,pre-upgrade", weight(1), settings), used("pre-upgrade,pre-install", 2),
			"error used-before-created Job/a pre-install 6: has weight 1 and uses ConfigMap/used, which is created by a hook of weight 2 (shop/templates/used.yaml)" + created},
		"also of a lower weight": {job("a", "pre-install", weight(1), settings), used("pre-install", 2) + "---\n" + used("pre-install", 0),
			"note replaced-object ConfigMap/used pre-install 0: ConfigMap/used is a hook of weight 0 in shop/templates/used.yaml as well: this one deletes it and creates its own\n"},
		"other event":     {job("a", "pre-install", weight(1), settings), used("post-install", 2), ""},
		"other namespace": {strings.Replace(job("a", "pre-install", weight(1), settings), "  name: a\n", "  name: a\n  namespace: far\n", 1), used("pre-install", 2), ""},
		"the same namespace": {strings.Replace(job("a", "pre-install", weight(1), settings), "  name: a\n", "  name: a\n  namespace: web\n", 1), used("pre-install", 2),
			"error used-before-created Job/a pre-install 7: has weight 1 and uses ConfigMap/used, which is created by a hook of weight 2 (shop/templates/used.yaml)" + created},
		"optional":           {job("a", "pre-install", weight(1), "containers: [{name: c, envFrom: [{configMapRef: {name: used, optional: true}}]}]"), used("pre-install", 2), ""},
		"nobody's":           {job("a", "pre-install", weight(1), settings), object("ConfigMap", "other", "pre-install", weight(2)), ""},
		"the default":        {job("a", "pre-install", weight(1), "serviceAccountName: default"), object("ServiceAccount", "default", "pre-install", weight(2)), ""},
		"not Kubernetes'":    {job("a", "pre-install", weight(1), "containers: nonsense"), used("pre-install", 2), ""},
		"one List":           {"apiVersion: v1\nkind: List\nmetadata:\n  annotations:\n    helm.sh/hook: test\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: p}\n  spec: {" + settings + "}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: used}}\n", "", ""},
		"ordinary, before":   {job("a", "pre-install,pre-upgrade", weight(1), settings), object("ConfigMap", "used", "", ""), "warning used-before-install Job/a pre-install 6: uses ConfigMap/used, which is no hook but an ordinary resource of the chart: at the first installation it doesn't exist yet\n"},
		"ordinary, between":  {job("a", "post-install,pre-delete,test,pre-upgrade", weight(1), settings), object("ConfigMap", "used", "", ""), ""},
		"ordinary, after":    {job("a", "post-delete", weight(1), settings), object("ConfigMap", "used", "", ""), "warning used-after-delete Job/a post-delete 6: uses ConfigMap/used, which is no hook but an ordinary resource of the chart: it's deleted by then\n"},
		"ordinary, kept":     {job("a", "post-delete", weight(1), settings), object("ConfigMap", "used", "", "helm.sh/resource-policy: keep"), ""},
		"ordinary, and hook": {job("a", "post-install", weight(1), settings), object("ConfigMap", "used", "", "") + "---\n" + used("post-install", 2), ""},
		"ordinary, and hook before the installation": {job("a", "pre-install", weight(1), settings), object("ConfigMap", "used", "", "") + "---\n" + used("pre-install", 2),
			"error used-before-created Job/a pre-install 6: has weight 1 and uses ConfigMap/used, which is created by a hook of weight 2 (shop/templates/used.yaml)" + created},
	} {
		t.Run(name, func(t *testing.T) {
			got := lines(checked(t, templates{"shop/templates/user.yaml": test.user, "shop/templates/used.yaml": test.used}))
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// TestOrderAgainstNames: what an annotation orders otherwise than names do is in that order
// by the plugin alone.
func TestOrderAgainstNames(t *testing.T) {
	const remedy = " by parallel-hooks/after, and before it by name: where hooks run one after another, as in plain Helm, the name alone counts; call it so that its name comes later, or give it a higher weight\n"
	after := func(names string) string { return "parallel-hooks/after: " + names }
	all := func(manifests ...string) string { return strings.Join(manifests, "---\n") }
	for name, test := range map[string]struct{ manifest, want string }{
		"as by name": {all(job("a", "test", "", ""), job("b", "test", after("a"), "")), ""},
		"against names": {all(job("a", "test", after("b"), ""), job("b", "test", "", "")),
			"warning name-order Job/a test 7: is after Job/b" + remedy},
		"a chain": {all(job("load", "test", after("seed"), ""), job("schema", "test", "", ""), job("seed", "test", after("schema"), "")),
			"warning name-order Job/load test 7: is after Job/seed" + remedy},
		"one of two": {all(job("a", "test", "", ""), job("b", "test", after("a, Job/c"), ""), job("c", "test", "", "")),
			"warning name-order Job/b test 20: is after Job/c" + remedy},
		"both of two": {all(job("a", "test", after("c,b"), ""), job("b", "test", "", ""), job("c", "test", "", "")),
			"warning name-order Job/a test 7: is after Job/b" + remedy + "warning name-order Job/a test 7: is after Job/c" + remedy},
		"at two events": {all(job("a", "test,pre-upgrade", after("b"), ""), job("b", "pre-upgrade,test", "", "")),
			"warning name-order Job/a pre-upgrade,test 7: is after Job/b" + remedy},
		"of a lower weight":   {all(job("a", "test", after("b")+"\n"+weight(1), ""), job("b", "test", "", "")), ""},
		"an object to set up": {all(object("ConfigMap", "a", "test", after("b")), job("b", "test", "", "")), "warning name-order ConfigMap/a test 7: is after Job/b" + remedy},
		"by kind":             {all(object("ConfigMap", "a", "test", ""), job("a", "test", after("ConfigMap/a"), "")), ""},
		"a weight without quotes": {all(job("a", "test", "helm.sh/hook-weight: 1\n"+after("b"), ""), job("b", "test", weight(1), "")),
			"error annotation-not-string Job/a test 7: helm.sh/hook-weight is 1, which is no string: Kubernetes will refuse the object; put the value in quotes\n" +
				"warning name-order Job/a test 8: is after Job/b" + remedy},
		"what can't be followed": {all(job("a", "test", after("b"), ""), job("b", "test", after("a"), "")),
			`error invalid-annotation Job/a test 7: parallel-hooks/after: "b": goes round in a circle: Job/a after Job/b after Job/a` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(checked(t, templates{"shop/templates/a.yaml": test.manifest})); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestSameObjects(t *testing.T) {
	const (
		message  = "ConfigMap/c is a hook of weight 0 in shop/templates/a.yaml as well: "
		replaced = "this one deletes it and creates its own\n"
		exists   = "this one fails, since it exists already\n"
		waits    = "they run one after another, and "
		succeed  = "\nhelm.sh/hook-delete-policy: hook-succeeded"
	)
	crd := func(annotations string) string {
		return strings.Replace(object("CustomResourceDefinition", "c", "test", annotations), "v1", "apiextensions.k8s.io/v1", 1)
	}
	for name, test := range map[string]struct{ first, second, want string }{
		"the same":                {object("ConfigMap", "c", "test", ""), object("ConfigMap", "c", "test,pre-install", ""), "warning same-object ConfigMap/c test 6: " + message + waits + replaced},
		"the same, not deleted":   {object("ConfigMap", "c", "test", ""), object("ConfigMap", "c", "test", succeed[1:]), "warning same-object ConfigMap/c test 6: " + message + waits + exists},
		"other weight":            {object("ConfigMap", "c", "test", ""), object("ConfigMap", "c", "test", weight(1)), "note replaced-object ConfigMap/c test 6: " + message + replaced},
		"other weight, by policy": {object("ConfigMap", "c", "test", ""), object("ConfigMap", "c", "test", weight(1)+succeed+",before-hook-creation"), "note replaced-object ConfigMap/c test 6: " + message + replaced},
		"other weight, not deleted": {object("ConfigMap", "c", "test", "helm.sh/hook-delete-policy: hook-succeeded,before-hook-creation"), object("ConfigMap", "c", "test", weight(1)+succeed),
			"warning same-object ConfigMap/c test 6: " + message + exists},
		"other weight, a definition": {crd(""), crd(weight(1)),
			"warning same-object CustomResourceDefinition/c test 6: CustomResourceDefinition/c is a hook of weight 0 in shop/templates/a.yaml as well: " + exists},
		"three": {object("ConfigMap", "c", "test", ""), object("ConfigMap", "c", "test", weight(2)) + "---\n" + object("ConfigMap", "c", "test", weight(1)),
			"note replaced-object ConfigMap/c test 0: " + message + replaced + "note replaced-object ConfigMap/c test 0: ConfigMap/c is a hook of weight 1 in shop/templates/b.yaml as well: " + replaced},
		"other event":     {object("ConfigMap", "c", "test", ""), object("ConfigMap", "c", "pre-install", ""), ""},
		"other kind":      {object("ConfigMap", "c", "test", ""), object("Secret", "c", "test", ""), ""},
		"other name":      {object("ConfigMap", "c", "test", ""), object("ConfigMap", "d", "test", ""), ""},
		"other namespace": {object("ConfigMap", "c", "test", ""), "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  namespace: far\n  annotations:\n    helm.sh/hook: test\n", ""},
		"no name":         {"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: c, annotations: {helm.sh/hook: test}}", "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: c, annotations: {helm.sh/hook: test}}", ""},
		"in a List":       {"apiVersion: v1\nkind: List\nmetadata: {annotations: {helm.sh/hook: test}}\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}, {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}]", object("ConfigMap", "c", "test", ""), "warning same-object ConfigMap/c test 6: " + message + waits + replaced},
	} {
		t.Run(name, func(t *testing.T) {
			got := lines(checked(t, templates{"shop/templates/a.yaml": test.first, "shop/templates/b.yaml": test.second}))
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestJobs(t *testing.T) {
	const limit = "warning no-backoff-limit Job/a test 4: Job a has no spec.backoffLimit: Kubernetes takes 6, and waits longer before each new attempt\n"
	const deadline = "note no-deadline Job/a test 4: Job a has no spec.activeDeadlineSeconds: if the operation gives up after --timeout, the Job runs on\n"
	for name, test := range map[string]struct{ manifest, want string }{
		"both":               {"batch/v1\nkind: Job\nmetadata: {name: a, annotations:\n  {helm.sh/hook: test}}\nspec: {backoffLimit: 0, activeDeadlineSeconds: 1}", ""},
		"none":               {"batch/v1\nkind: Job\nmetadata: {name: a, annotations:\n  {helm.sh/hook: test}}\nspec: {}", limit + deadline},
		"nothing":            {"batch/v1\nkind: Job\nmetadata: {name: a, annotations:\n  {helm.sh/hook: test}}\nspec: {backoffLimit: null, activeDeadlineSeconds:}", limit + deadline},
		"a limit":            {"batch/v1\nkind: Job\nmetadata: {name: a, annotations:\n  {helm.sh/hook: test}}\nspec: {backoffLimit: 3}", deadline},
		"one for each index": {"batch/v1\nkind: Job\nmetadata: {name: a, annotations:\n  {helm.sh/hook: test}}\nspec: {backoffLimitPerIndex: 3}", deadline},
		"the pods'":          {"batch/v1\nkind: Job\nmetadata: {name: a, annotations:\n  {helm.sh/hook: test}}\nspec: {backoffLimit: 3, template: {spec: {activeDeadlineSeconds: 3}}}", deadline},
		"not Kubernetes'":    {"example.com/v1\nkind: Job\nmetadata: {name: a, annotations:\n  {helm.sh/hook: test}}", ""},
		"no hook":            {"batch/v1\nkind: Job\nmetadata: {name: a}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(checked(t, templates{"shop/templates/a.yaml": "apiVersion: " + test.manifest})); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestNumberedNames(t *testing.T) {
	const found = `is called as if it came after Job/01-schema, which has the same weight: where hooks run in parallel, it doesn't; say so by parallel-hooks/after or by weights` + "\n"
	for name, test := range map[string]struct{ manifest, want string }{
		"numbered":   {job("01-schema", "test", "", "") + "---\n" + job("02-data", "test", "", ""), "warning numbered-names Job/02-data test 19: " + found},
		"with after": {job("01-schema", "test", "", "") + "---\n" + job("02-data", "test", "parallel-hooks/after: 01-schema", ""), ""},
		"a member with after": {job("01-schema", "test", "", "") + "---\n" + strings.NewReplacer("name: l,", "name: 02-data,", "kind: ConfigMap", "kind: Pod").Replace(list("{helm.sh/hook: test}", "p, annotations: {parallel-hooks/after: 01-schema}", "c")),
			"error invalid-annotation List/02-data test 19: parallel-hooks/after: \"01-schema\": isn't read at Pod/p, which is one of several objects in a List" + unread +
				"warning numbered-names List/02-data test 17: " + found},
		"of other weights":   {job("01-schema", "test", "", "") + "---\n" + job("02-data", "test", weight(1), ""), ""},
		"parts of one thing": {job("run-1-shard", "test", "", "") + "---\n" + job("run-2-shard", "test", "", ""), ""},
		"at the end":         {job("run-1", "test", "", "") + "---\n" + job("data-2", "test", "", ""), ""},
		"of other things":    {job("shop-1-schema", "test", "", "") + "---\n" + job("cart-2-data", "test", "", ""), ""},
		"versions":           {job("v1-schema", "test", "", "") + "---\n" + job("v2-data", "test", "", ""), ""},
		"objects to set up":  {object("ConfigMap", "01-schema", "test", "") + "---\n" + object("ConfigMap", "02-data", "test", ""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(checked(t, templates{"shop/templates/a.yaml": test.manifest})); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// TestNumberedNamesOfMany draws names, and looks at every two of them.
func TestNumberedNamesOfMany(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var all []*hooks.Hook
		for range rapid.IntRange(0, 12).Draw(rt, "hooks") {
			number, behind := rapid.IntRange(1, 4).Draw(rt, "number"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "behind")
			o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod"}}
			h := &hooks.Hook{Kind: "Pod", Name: fmt.Sprintf("run-%d-%s", number, behind), Path: "shop/templates/a.yaml", Objects: []*unstructured.Unstructured{o}}
			if rapid.IntRange(0, 4).Draw(rt, "after") == 0 {
				o.SetAnnotations(map[string]string{hooks.AfterAnnotation: "x"})
			}
			all = append(all, h)
		}
		want := map[string]bool{}
		for i, h := range all {
			for _, other := range all[:i] {
				if !saysAfter(h) && !saysAfter(other) && h.Name[4] != other.Name[4] && h.Name[6] != other.Name[6] {
					want[h.String()+" "+other.String()] = true
					break
				}
			}
		}
		c := &check{seen: map[string]*Finding{}}
		c.checkNames("test", []tier{{hooks: all}})
		got := map[string]bool{}
		for _, f := range c.findings {
			other, _, _ := strings.Cut(strings.TrimPrefix(f.Message, "is called as if it came after "), ",")
			got[f.Hook+" "+other] = true
		}
		if !maps.Equal(got, want) {
			rt.Fatalf("hooks %v: got %v, want %v", all, got, want)
		}
	})
}

func TestWeights(t *testing.T) {
	const once = ": with one weight they'd run at once, if they don't need one another\n"
	for name, test := range map[string]struct {
		hooks string // as chart:name=weight; chart is a subchart, or the chart itself if there's none
		want  string
	}{
		"one weight":             {"a:a=0 b:b=0 c:c=0", ""},
		"two subcharts":          {"a:a=0 b:b=1", "note separate-weights Job/b test 6: the Jobs and Pods of weights 0 and 1 are of different subcharts (shop/charts/a, shop/charts/b)" + once},
		"three subcharts":        {"a:a=-5 b:b=1 c:c=7", "note separate-weights Job/b test 6: the Jobs and Pods of weights -5, 1 and 7 are of different subcharts (shop/charts/a, shop/charts/b, shop/charts/c)" + once},
		"a chain in each":        {"a:a1=0 b:b1=0 a:a2=1 b:b2=1", ""},
		"a chain in one of them": {"a:a1=0 b:b1=0 a:a2=1 c:c2=1", ""},
		"the chart's own first":  {":a=0 b:b=1", ""},
		"the chart's own last":   {"b:b=1 :z=2", ""},
		"names that begin alike": {"a:a=0 aa:b=1", "note separate-weights Job/b test 6: the Jobs and Pods of weights 0 and 1 are of different subcharts (shop/charts/a, shop/charts/aa)" + once},
		"migrate and seed":       {":migrate=1 :seed=2", ""},
		"three steps":            {":a=1 :b=2 :c=3", ""},
		"four steps":             {":a=1 :b=2 :c=3 :d=10", "note separate-weights Job/b test 6: weights 1, 2, 3 and 10 have one Job or Pod each" + once},
		"four steps, one of two": {":a=1 :b=2 :c=3 :d=4 :e=4", ""},
		"two, then three":        {":a=0 :b=0 :c=1 :d=2 :e=3", ""},
		"four, then two":         {":a=1 :b=2 :c=3 :d=4 :e=5 :f=5", "note separate-weights Job/b test 6: weights 1, 2, 3 and 4 have one Job or Pod each" + once},
	} {
		t.Run(name, func(t *testing.T) {
			files := templates{
				// Objects to set up are of no matter: they take no time.
				"shop/templates/setup.yaml": object("ConfigMap", "x", "test", weight(-9)) + "---\n" + object("Secret", "x", "test", weight(-8)),
			}
			for field := range strings.FieldsSeq(test.hooks) {
				subchart, rest, _ := strings.Cut(field, ":")
				hook, n, _ := strings.Cut(rest, "=")
				folder := "shop"
				if subchart != "" {
					folder = path.Join("shop", "charts", subchart)
				}
				files[path.Join(folder, "templates", hook+".yaml")] = job(hook, "test", "helm.sh/hook-weight: \""+n+"\"", "")
			}
			if got := lines(checked(t, files)); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// TestWeightsOfOneObject: what replaces an object, or comes after one that does, can't be
// of the weight of what has created it.
func TestWeightsOfOneObject(t *testing.T) {
	step := func(name string, n int) string { return job(name, "test", weight(n), "") + "---\n" }
	settings := func(n int) string { return object("ConfigMap", "settings", "test", weight(n)) + "---\n" }
	const (
		replaced = "note replaced-object %s test 0: %[1]s is a hook of weight %d in shop/templates/a.yaml as well: this one deletes it and creates its own\n"
		steps    = "note separate-weights Job/b test %d: weights %s have one Job or Pod each: with one weight they'd run at once, if they don't need one another\n"
	)
	for name, test := range map[string]struct{ manifest, want string }{
		"four steps":                  {step("a", 0) + step("b", 1) + step("c", 2) + step("d", 3), fmt.Sprintf(steps, 20, "0, 1, 2 and 3")},
		"the last is the first again": {step("a", 0) + step("b", 1) + step("c", 2) + step("a", 3), fmt.Sprintf(replaced, "Job/a", 0)},
		"setup between is one again":  {settings(-1) + step("a", 0) + step("b", 1) + settings(2) + step("c", 3) + step("d", 4), fmt.Sprintf(replaced, "ConfigMap/settings", -1)},
		"setup at a weight of its own and of the Job that needs it": {settings(-1) + step("a", 0) + step("b", 1) + settings(2) + step("c", 2) + step("d", 3), fmt.Sprintf(replaced, "ConfigMap/settings", -1)},
		"four steps after all that is one again":                    {settings(-2) + settings(-1) + step("a", 0) + step("b", 1) + step("c", 2) + step("d", 3), fmt.Sprintf(replaced, "ConfigMap/settings", -2) + fmt.Sprintf(steps, 36, "0, 1, 2 and 3")},
		"one again at one weight is no matter":                      {settings(-1) + settings(-1) + step("a", 0) + step("b", 1) + step("c", 2) + step("d", 3), "warning same-object ConfigMap/settings test 0: ConfigMap/settings is a hook of weight -1 in shop/templates/a.yaml as well: they run one after another, and this one deletes it and creates its own\n" + fmt.Sprintf(steps, 36, "0, 1, 2 and 3")},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(checked(t, templates{"shop/templates/a.yaml": test.manifest})); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestHookThatIsNoObject(t *testing.T) {
	rel := rendered(t, nil)
	rel.Hooks = []*release.Hook{{Name: "a", Kind: "Job", Path: "shop/templates/a.yaml", Manifest: "a: [", Events: []release.HookEvent{release.HookTest}}}
	if _, err := Check(rel, nil, nil); err == nil || !strings.Contains(err.Error(), "hook Job/a (shop/templates/a.yaml): parsing the manifest") {
		t.Errorf("got error %v, want one that names the hook", err)
	}
}

// TestRulesAreExplained: docs/lint.md has a part for each rule, with its severity, and
// for no other.
func TestRulesAreExplained(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "lint.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, rule := range Rules {
		want = append(want, fmt.Sprintf("### %s\n\n%s.", rule.ID, map[Severity]string{Error: "Error", Warning: "Warning", Note: "Note"}[rule.Severity]))
	}
	for part := range bytes.SplitSeq(text, []byte("\n### ")) {
		heading, rest, _ := strings.Cut(string(part), "\n\n")
		severity, _, _ := strings.Cut(rest, ".")
		got = append(got, fmt.Sprintf("### %s\n\n%s.", heading, severity))
	}
	if got = got[1:]; !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
