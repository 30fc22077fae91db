package e2e

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// TestUnusualHooks: hooks of shapes that are rare do in parallel what they do with helm.
func TestUnusualHooks(t *testing.T) {
	t.Parallel()
	job := func(metadata, annotations string) string {
		return "\napiVersion: batch/v1\nkind: Job\nmetadata: {" + metadata + `, annotations: {helm.sh/hook: "pre-install,pre-upgrade"` + annotations + "}}\n" +
			"spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: none}]}}}\n---"
	}
	configMap := func(name string) string {
		return "\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + `, annotations: {helm.sh/hook: "pre-install,pre-upgrade"}}` + "\n---"
	}
	const keeps = `, helm.sh/hook-delete-policy: hook-failed`
	for name, test := range map[string]struct {
		hooks string
		want  []string // the hooks that each operation creates, but for what the server adds to names
	}{
		"names by the server": {job("generateName: made-", keeps) + job("generateName: more-", keeps), []string{"jobs/made-", "jobs/more-"}},
		"longest names": {
			job("name: "+strings.Repeat("j", 63), "") + configMap(strings.Repeat("m", 253)),
			[]string{"configmaps/" + strings.Repeat("m", 253), "jobs/" + strings.Repeat("j", 63)},
		},
		"weights that are no numbers": {job("name: one", `, helm.sh/hook-weight: "heavy"`) + job("name: two", `, helm.sh/hook-weight: "1.5"`), []string{"jobs/one", "jobs/two"}},
		"a list": {`
apiVersion: v1
kind: List
metadata: {name: list, annotations: {helm.sh/hook: "pre-install,pre-upgrade"}}
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: first}}
- apiVersion: batch/v1
  kind: Job
  metadata: {name: second}
  spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: none}]}}}
---`, []string{"configmaps/first", "jobs/second"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var phases [2][]string
			for i, who := range []tool{parallel, helm3} {
				s := newSession(t)
				chart := s.chart("-- Chart.yaml --\napiVersion: v2\nname: unusual\nversion: 1.0.0\n-- templates/hooks.yaml --" + test.hooks + "\n")
				seen := 0
				for _, command := range []string{"install", "upgrade"} {
					s.must(s.by(who, command, "app", chart))
					trail := s.trail()
					created := trail[seen:].By(byPlugin, byHelm).Of("jobs", "configmaps").Creates().Objects()
					seen = len(trail)
					for i, object := range created {
						if strings.HasPrefix(object, "jobs/made-") || strings.HasPrefix(object, "jobs/more-") {
							created[i] = object[:len("jobs/made-")]
						}
					}
					slices.Sort(created)
					wantEqual(t, who.name+" "+command+": created", created, test.want)
				}
				phases[i] = phasesOf(s.release("app"))
			}
			wantEqual(t, "phases", phases[0], phases[1])
		})
	}
}

// TestNameByTheServer: hooks that have their names from the server run at once, and it's found out why one has failed.
func TestNameByTheServer(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.plugin("install", "app", s.chart(`
-- Chart.yaml --
apiVersion: v2
name: named
version: 1.0.0
-- templates/hooks.yaml --
{{- range $code := list 0 0 3 }}
apiVersion: batch/v1
kind: Job
metadata:
  generateName: made-{{ $code }}-
  annotations: {helm.sh/hook: pre-install, helm.sh/hook-delete-policy: hook-failed}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations: {parallel-hooks.test/duration: 1s, parallel-hooks.test/exit-code: {{ $code | quote }}}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
---
{{- end }}
`), "--hook-parallelism", "4")
	if got.code != 1 || !strings.Contains(got.stderr, ", container main: Error, exit code 3)") {
		t.Errorf("want exit code 1 and the cause; got: %v", got)
	}
	if runs := s.trail().Runs(); len(runs) != 3 || audit.MaxActive(runs) != 3 {
		t.Errorf("runs: %+v, want three at once", runs)
	}
}

// TestControlCharacters: whatever names, annotations and logs hold, only text reaches the terminal.
func TestControlCharacters(t *testing.T) {
	t.Parallel()
	const escape = `\u001b[2J\u009b1m\u202e\u0007`
	chart := func(name, annotation, exitCode string) string {
		return `
-- Chart.yaml --
apiVersion: v2
name: evil
version: 1.0.0
-- templates/hooks.yaml --
apiVersion: batch/v1
kind: Job
metadata:
  name: "` + name + `"
  labels: {note: plain}
  annotations: {helm.sh/hook: "pre-install,test", note: "` + escape + `"` + annotation + `}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations:
        parallel-hooks.test/exit-code: "` + exitCode + `"
        parallel-hooks.test/logs: "before` + escape + `after\nlast ünïcode line"
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: beside
  annotations: {helm.sh/hook: "pre-install"}
`
	}
	for name, test := range map[string]struct {
		chart string
		fails string
	}{
		"in logs":                   {chart("fine", "", "0"), ""},
		"in logs of a failure":      {chart("fine", "", "1"), "last ünïcode line"},
		"in a name":                 {chart("evil"+escape, "", "0"), `evil\x1b[2J`},
		"in a label":                {strings.Replace(chart("fine", "", "0"), "note: plain", `note: "`+escape+`"`, 1), `\x1b[2J`},
		"in a namespace":            {strings.Replace(chart("fine", "", "0"), "  labels:", `  namespace: "x`+escape+`"`+"\n  labels:", 1), `\x1b[2J`},
		"in an annotation's name":   {chart("fine", `, "parallel-hooks/`+escape+`": "1"`, "0"), `parallel-hooks/\x1b[2J`},
		"in an annotation of ours":  {chart("fine", `, parallel-hooks/slots: "`+escape+`"`, "0"), `\x1b[2J`},
		"in the name of a bad hook": {chart("evil"+escape, `, parallel-hooks/slots: "0"`, "0"), `evil\x1b[2J`},
		"in a kind":                 {strings.Replace(chart("fine", "", "0"), "kind: Job", `kind: "Job`+escape+`"`, 1), `\x1b[2J`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			dir := s.chart(test.chart)
			for _, line := range [][]string{
				{"plan", "app", dir, "--hook-parallelism", "4"},
				{"install", "app", dir, "--hook-parallelism", "4", "--hook-logs", "all"},
				{"test", "app", "--hook-parallelism", "4"},
				{"timeline", "app"},
			} {
				got := s.plugin(line...)
				if line[0] == "install" && ((got.code != 0) != (test.fails != "") || !strings.Contains(got.stderr, test.fails)) {
					t.Errorf("want %q in an error, or none; got: %v", test.fails, got)
				}
				text := got.stderr
				if line[0] == "plan" || line[0] == "timeline" {
					text += got.stdout // that of the others is Helm's
				}
				if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
					t.Errorf("%q reaches the terminal: %q", text[i:i+4], text)
				}
			}
			if _, err := bed.client.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), "beside", metav1.GetOptions{}); err != nil && test.fails == "" {
				t.Error(err)
			}
		})
	}
}
