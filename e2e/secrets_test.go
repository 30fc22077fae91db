package e2e

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/release"
)

// secretiveChart has a canary wherever a secret may be: in values, in Secrets, ConfigMaps, annotations, arguments and
// environments, of what is deployed and of hooks. What its hooks log has one, too.
const secretiveChart = `
-- Chart.yaml --
apiVersion: v2
name: secretive
version: 1.0.0
-- values.yaml --
password: none
failing: none
refused: none
replicas: 0
-- templates/_helpers.tpl --
{{- define "data" }}
annotations: {secretive/note: canary-of-annotation}
data:
  password: {{ "canary-of-secret" | b64enc }}
  more: {{ .Values.password | b64enc }}
{{- end }}
{{- define "pod" }}
restartPolicy: Never
containers:
- name: main
  image: none
  args: ["--password={{ .Values.password }}"]
  env: [{name: PASSWORD, value: canary-of-environment}]
{{- end }}
-- templates/deployed.yaml --
apiVersion: v1
kind: Secret
metadata:
  name: deployed
  annotations: {secretive/note: canary-of-annotation}
data:
  password: {{ "canary-of-secret" | b64enc }}
  more: {{ .Values.password | b64enc }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: deployed
  annotations: {secretive/note: canary-of-annotation}
data:
  {{ ternary "not a key" "password" (eq .Values.refused "resource") }}: canary-of-configmap
  revision: {{ .Release.Revision | quote }}
-- templates/hooks.yaml --
{{- range $event := list "pre-install" "pre-upgrade" "pre-rollback" "pre-delete" "test" }}
apiVersion: v1
kind: Secret
metadata:
  name: {{ $event }}
  annotations: {helm.sh/hook: {{ $event }}, secretive/note: canary-of-annotation}
{{- if and (eq $event "pre-upgrade") (eq $.Values.refused "secret") }}
data: {password: "canary-of-secret, not encoded"}
{{- else }}
data: {password: {{ "canary-of-secret" | b64enc }}, more: {{ $.Values.password | b64enc }}}
{{- end }}
---
apiVersion: v1
kind: Pod
metadata:
  name: {{ $event }}
  annotations:
    helm.sh/hook: {{ $event }}
    secretive/note: canary-of-annotation
    parallel-hooks.test/logs: "a line\ncanary-of-log"
    parallel-hooks.test/exit-code: {{ ternary "1" "0" (eq $event $.Values.failing) | quote }}
spec:
  {{- include "pod" $ | nindent 2 }}
---
{{- end }}
apiVersion: batch/v1
kind: Job
metadata:
  name: job
  annotations: {helm.sh/hook: pre-upgrade, secretive/note: canary-of-annotation}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations:
        secretive/note: canary-of-annotation
        parallel-hooks.test/logs: "a line\ncanary-of-log"
        parallel-hooks.test/exit-code: {{ ternary "1" "0" (eq "pre-upgrade" $.Values.failing) | quote }}
    spec:
      {{- include "pod" . | replace "Never" (ternary "Always" "Never" (eq .Values.refused "job")) | nindent 6 }}
`

// leaks returns the lines of a text that have a canary in them, encoded or not.
func leaks(text string) (lines []string) {
	encoded := base64.StdEncoding.EncodeToString([]byte("canary-of-secret"))
	for line := range strings.Lines(text) {
		if strings.Contains(line, "canary") || strings.Contains(line, encoded[:len(encoded)-4]) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestSecretsAreNotShown: of values and manifests nothing is printed, reported or written into descriptions, whatever
// goes wrong; of logs, what was asked for.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	formats := []string{".html", ".json", ".yaml", ".trace.json", ".mmd", ".txt"}
	for first, test := range []struct {
		progress, logs string
	}{
		{"plain", "all"}, {"json", "failed"}, {"plain", "none"}, {"live", "failed"},
	} {
		t.Run(test.progress+", "+test.logs, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			chart := s.chart(secretiveChart)
			for i, step := range []struct {
				line  string
				fails string
				logs  bool // whether logs are shown
				maybe bool // whether they may be shown: a pod starts beside what fails
				once  bool // whether it's the same in each mode
			}{
				{line: "install app CHART", logs: test.logs == "all"},
				{line: "upgrade app CHART --set failing=pre-upgrade", fails: "job job failed: BackoffLimitExceeded", logs: test.logs != "none"},
				{line: "upgrade app CHART --set refused=job", fails: `Job.batch "job" is invalid`, maybe: test.logs == "all"},
				{line: "upgrade app CHART --set refused=secret", fails: "illegal base64 data", once: true},
				{line: "upgrade app CHART --set refused=resource", fails: `ConfigMap "deployed" is invalid`, logs: test.logs == "all", once: true},
				{line: "upgrade app CHART --set failing=test", logs: test.logs == "all"},
				{line: "test app", fails: "pod test failed", logs: test.logs != "none"},
				{line: "rollback app 1", logs: test.logs == "all", once: true},
				{line: "plan app CHART", once: true},
				{line: "plan app CHART -o json", once: true},
				{line: "timeline app", once: true},
				{line: "timeline app -o html", once: true},
				{line: "uninstall app", logs: test.logs == "all"},
			} {
				if step.once && first > 0 {
					continue
				}
				args := strings.Fields(strings.ReplaceAll(step.line, "CHART", chart+" --set password=canary-of-values"))
				reported := filepath.Join(t.TempDir(), "report"+formats[(first+i)%len(formats)])
				if args[0] != "timeline" {
					args = append(args, "--hook-parallelism", "4")
				}
				if operates := args[0] != "timeline" && args[0] != "plan"; operates {
					args = append(args, "--hook-progress", test.progress, "--hook-logs", test.logs, "--hook-report", reported)
				} else if err := os.WriteFile(reported, []byte("Job"), 0o600); err != nil {
					t.Fatal(err)
				}
				var got result
				if test.progress == "live" {
					term := s.openTerminal(t, 200, 50, "helm-parallel-hooks", args...)
					term.await(`ended with \d`)
					got = result{line: strings.Join(args, " "), stderr: term.all()}
					if strings.Contains(got.stderr, "ended with 1") {
						got.code = 1
					}
				} else {
					got = s.plugin(args...)
				}

				if (got.code != 0) != (step.fails != "") || !strings.Contains(got.stderr, step.fails) {
					t.Fatalf("want %q in an error, or none; got: %v", step.fails, got)
				}
				shown := got.stdout + got.stderr
				logs := strings.Contains(shown, "canary-of-log")
				if secrets := leaks(strings.ReplaceAll(shown, "canary-of-log", "")); len(secrets) > 0 || logs != step.logs && !step.maybe {
					t.Errorf("want logs to be shown: %v, and no secret; got %q in: %v", step.logs, secrets, got)
				}
				for _, revision := range s.revisions("app") {
					if found := leaks(revision.Info.Description); len(found) > 0 {
						t.Errorf("%s: in the description of revision %d: %q", got.line, revision.Version, found)
					}
				}
				report, err := os.ReadFile(reported)
				if err != nil || len(report) == 0 {
					t.Errorf("no report: %v", err)
				}
				if found := leaks(string(report)); len(found) > 0 {
					t.Errorf("%s: in the report %s: %q", got.line, reported, found)
				}
			}
		})
	}
}

// TestSecretsInWordsOfOthers: the API server and the YAML parser may quote what they refuse. The plugin then says what
// helm says.
func TestSecretsInWordsOfOthers(t *testing.T) {
	t.Parallel()
	chart := func(job, more string) string {
		return `
-- Chart.yaml --
apiVersion: v2
name: quoted
version: 1.0.0
-- templates/job.yaml --
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  suspend: true
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none, env: [{name: PASSWORD, value: ` + job + `}]}]
` + more
	}
	for name, change := range map[string]string{
		"an immutable template": chart("canary-of-environment", ""),
		"an alias":              chart("same", "-- templates/bad.yaml --\nkind: Secret\nstringData: {password: *canary-of-secret}\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(who tool) (said string, left *release.Release) {
				s := newSession(t)
				s.must(s.helm("install", "app", s.chart(chart("same", ""))))
				got := s.by(who, "upgrade", "app", s.chart(change))
				_, said, _ = strings.Cut(got.stderr, "Error: ")
				return said, s.release("app")
			}
			got, ours := run(parallel)
			want, theirs := run(helm3)
			// Before Kubernetes 1.36, the server names the Job's uid.
			mask := func(text string) string { return uids.ReplaceAllString(text, "<uid>") }
			if len(leaks(got)) == 0 || mask(got) != mask(want) || mask(ours.Info.Description) != mask(theirs.Info.Description) {
				t.Errorf("got:  %s\nhelm: %s\ndescriptions:\n%s\n%s", got, want, ours.Info.Description, theirs.Info.Description)
			}
		})
	}
}
