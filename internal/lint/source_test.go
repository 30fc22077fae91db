package lint

import (
	"os"
	"path/filepath"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
)

func TestLine(t *testing.T) {
	for name, test := range map[string]struct {
		text, annotation, name string
		want                   int
	}{
		"one object":              {"kind: Job\nmetadata:\n  name: a\n  annotations:\n    helm.sh/hook: test\n", "helm.sh/hook", "a", 5},
		"in quotes":               {"kind: Job\nmetadata:\n  annotations:\n    \"helm.sh/hook\": test\n", "helm.sh/hook", "a", 4},
		"in single quotes":        {"kind: Job\nmetadata:\n  annotations:\n    'helm.sh/hook' : test\n", "helm.sh/hook", "a", 4},
		"in a flow":               {"kind: Job\nmetadata: {annotations: {a: b, helm.sh/hook: test}}\n", "helm.sh/hook", "a", 2},
		"another annotation":      {"kind: Job\nmetadata:\n  annotations:\n    helm.sh/hook: test\n    helm.sh/hook-weight: x\n", "helm.sh/hook-weight", "a", 5},
		"not there":               {"kind: Job\nmetadata:\n  annotations:\n    helm.sh/hook: test\n", "helm.sh/hook-weight", "a", 0},
		"one that begins alike":   {"kind: Job\nmetadata:\n  annotations:\n    helm.sh/hook-weight: x\n", "helm.sh/hook", "a", 0},
		"one that ends alike":     {"kind: Job\nmetadata:\n  annotations:\n    my-helm.sh/hook: x\n", "helm.sh/hook", "a", 0},
		"twice":                   {"kind: Job\nmetadata:\n  annotations:\n    {{ if .a }}\n    helm.sh/hook: a\n    {{ else }}\n    helm.sh/hook: b\n    {{ end }}\n", "helm.sh/hook", "a", 0},
		"in a comment":            {"{{- /*\nhelm.sh/hook: a\nkind: Job */ -}}\nkind: Job\n# helm.sh/hook: b\nmetadata:\n  annotations:\n    helm.sh/hook: test\n", "helm.sh/hook", "a", 8},
		"by kind":                 {"kind: ConfigMap\nhelm.sh/hook: a\n---\nkind: Job\nhelm.sh/hook: b\n---\nkind: Secret\nhelm.sh/hook: c\n", "helm.sh/hook", "a", 5},
		"by name":                 {"kind: Job\nmetadata:\n  name: a\n  annotations: {helm.sh/hook: test}\n---\nkind: Job\nmetadata:\n  labels:\n    x: y\n  name: \"b\" # two\n  annotations: {helm.sh/hook: test}\n", "helm.sh/hook", "b", 11},
		"by a part of a name":     {"kind: Job\nmetadata:\n  name: {{ .Release.Name }}-a\n  annotations: {helm.sh/hook: test}\n---\nkind: Job\nmetadata:\n  name: {{ .Release.Name }}-b\n  annotations: {helm.sh/hook: test}\n", "helm.sh/hook", "x-b", 9},
		"by a name that isn't it": {"kind: Job\nmetadata:\n  name: {{ .a }}\n  annotations: {helm.sh/hook: test}\n---\nkind: Job\nmetadata:\n  name: {{ .b }}\n  annotations: {helm.sh/hook: test}\n", "helm.sh/hook", "b", 0},
		"by several parts":        {"kind: Job\nmetadata:\n  name: {{ .a }}-x-{{ .b }}-y\n  annotations: {helm.sh/hook: test}\n---\nkind: Job\nmetadata:\n  name: '{{ .a }}-z-{{ .b }}-y'\n  annotations: {helm.sh/hook: test}\n---\nkind: Job\nmetadata:\n  name: {{ .a }}-z-{{ .b }}-x\n  annotations: {helm.sh/hook: test}\n", "helm.sh/hook", "b-z-b-y", 9},
		"a name of branches":      {"kind: Job\nmetadata:\n  name: {{ if .a }}x{{ else }}b{{ end }}\n  annotations: {helm.sh/hook: test}\n", "helm.sh/hook", "b", 4},
		"a loop":                  {"{{- range .x }}\n---\nkind: Job\nmetadata:\n  name: {{ . }}\n  annotations: {helm.sh/hook: test}\n{{- end }}\n", "helm.sh/hook", "b", 6},
		"another that's included": {"kind: Job\nmetadata:\n  name: {{ .a }}\n  annotations: {helm.sh/hook: test}\n---\n{{ include \"job\" . }}\n", "helm.sh/hook", "b", 0},
		"included itself":         {"{{ include \"job\" . }}\n", "helm.sh/hook", "b", 0},
		"annotations included":    {"kind: Job\nmetadata:\n  name: b\n  annotations: {{ include \"x\" . }}\n---\nkind: Job\nmetadata:\n  name: a\n  annotations: {helm.sh/hook: test}\n", "helm.sh/hook", "b", 0},
		"no text":                 {"", "helm.sh/hook", "b", 0},
		"Windows' ends of lines":  {"kind: Job\r\nmetadata:\r\n  name: a\r\n  annotations:\r\n    helm.sh/hook: test\r\n", "helm.sh/hook", "a", 5},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Source{Text: test.text}).line(test.annotation, "Job", test.name); got != test.want {
				t.Errorf("got %d, want %d in\n%s", got, test.want, test.text)
			}
		})
	}
}

// TestSources: files are found by the name that the user gave, also those of a
// dependency whose name is an alias, in a folder of yet another name.
func TestSources(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"here/Chart.yaml":                          "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies: [{name: service, alias: orders, version: 1.0.0}, {name: stored, version: 1.0.0}]\n",
		"here/templates/a.yaml":                    "a: 1\n",
		"here/charts/folder/Chart.yaml":            "apiVersion: v2\nname: service\nversion: 1.0.0\n",
		"here/charts/folder/templates/b.yaml":      "b: 1\n",
		"here/charts/other/Chart.yaml":             "apiVersion: v2\nname: other\nversion: 1.0.0\n",
		"here/charts/other/templates/tests/b.yaml": "b: 1\n",
		"stored/Chart.yaml":                        "apiVersion: v2\nname: stored\nversion: 1.0.0\n",
		"stored/templates/c.yaml":                  "c: 1\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archived(t, "stored", filepath.Join("here", "charts"))
	if err := os.RemoveAll("stored"); err != nil {
		t.Fatal(err)
	}
	chrt := loaded(t, "here")
	whole := archived(t, "here", ".")
	for name, test := range map[string]struct {
		chrt *chart.Chart
		ref  string
		want map[string]string
	}{
		"a folder": {chrt, "here", map[string]string{
			"shop/Chart.yaml":                          "here/Chart.yaml",
			"shop/templates/a.yaml":                    "here/templates/a.yaml",
			"shop/charts/orders/templates/b.yaml":      "here/charts/folder/templates/b.yaml",
			"shop/charts/other/templates/tests/b.yaml": "here/charts/other/templates/tests/b.yaml",
			"shop/charts/stored/templates/c.yaml":      "here/Chart.yaml",
		}},
		"an absolute folder": {chrt, filepath.Join(dir, "here"), map[string]string{
			"shop/templates/a.yaml": filepath.ToSlash(filepath.Join(dir, "here/templates/a.yaml")),
		}},
		"an archive": {loaded(t, whole), whole, map[string]string{
			"shop/templates/a.yaml":               "shop-1.0.0.tgz",
			"shop/charts/orders/templates/b.yaml": "shop-1.0.0.tgz",
		}},
		"elsewhere": {chrt, "oci://example.com/shop", map[string]string{
			"shop/templates/a.yaml":               "shop/templates/a.yaml",
			"shop/charts/orders/templates/b.yaml": "shop/charts/orders/templates/b.yaml",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sources := NewSources(test.chrt, test.ref)
			for template, want := range test.want {
				if got := sources[template].File; got != want {
					t.Errorf("%s: got %q, want %q", template, got, want)
				}
			}
		})
	}
	if got := NewSources(chrt, "here")["shop/charts/orders/templates/b.yaml"].Text; got != "b: 1\n" {
		t.Errorf("got text %q of the file of the alias", got)
	}
}

func archived(t *testing.T, folder, into string) string {
	t.Helper()
	chrt, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	file, err := chartutil.Save(chrt, into)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// loaded returns the chart as it is after Helm has processed its dependencies.
func loaded(t *testing.T, ref string) *chart.Chart {
	t.Helper()
	chrt, err := loader.Load(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := chartutil.ProcessDependenciesWithMerge(chrt, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	return chrt
}
