package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// recordedChart has two hooks, which any event runs.
const recordedChart = `
-- Chart.yaml --
apiVersion: v2
name: recorded
version: 1.0.0
-- templates/settings.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  revision: {{ .Release.Revision | quote }}
-- templates/hooks.yaml --
{{- range $name := list "a" "b" }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  annotations: {helm.sh/hook: "pre-install,pre-upgrade,pre-rollback,pre-delete,test"}
---
{{- end }}
`

// rewriteRecord changes the JSON of the record of a release's first revision, and then what is stored of it.
func (s *session) rewriteRecord(change func(record map[string]any), cut func(data []byte) []byte) {
	s.t.Helper()
	check := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	secrets := bed.client.CoreV1().Secrets(s.namespace)
	secret, err := secrets.Get(s.t.Context(), "sh.helm.release.v1.app.v1", metav1.GetOptions{})
	check(err)
	zipped, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(secret.Data["release"])))
	check(err)
	var record map[string]any
	check(json.NewDecoder(zipped).Decode(&record))
	change(record)
	var written bytes.Buffer
	text := base64.NewEncoder(base64.StdEncoding, &written)
	compressed := gzip.NewWriter(text)
	check(errors.Join(json.NewEncoder(compressed).Encode(record), compressed.Close(), text.Close()))
	secret.Data["release"] = cut(written.Bytes())
	_, err = secrets.Update(s.t.Context(), secret, metav1.UpdateOptions{})
	check(err)
}

// TestRecordsOfOtherShapes: a record that somebody else has written in another way is understood as far as it can be,
// and one that can't be read is named. Nothing panics, as Helm does at some of these.
func TestRecordsOfOtherShapes(t *testing.T) {
	t.Parallel()
	const (
		damaged = "WARNING: the record sh.helm.release.v1.app.v1 can't be read: its data is cut off, or not what helm writes; it is left out\n"
		none    = `no revision for release "app"`
	)
	whole := func(data []byte) []byte { return data }
	unchanged := func(map[string]any) {}
	hook := func(record map[string]any) map[string]any { return record["hooks"].([]any)[0].(map[string]any) }
	all := map[string]string{"timeline": none, "plan": none, "test": none, "upgrade": none, "rollback": none, "uninstall": "no release provided"}
	for name, test := range map[string]struct {
		change func(record map[string]any)
		cut    func(data []byte) []byte
		warns  string
		fails  map[string]string // what the errors of commands say
	}{
		"cut off":       {unchanged, func(data []byte) []byte { return data[:len(data)/2] }, damaged, all},
		"empty":         {unchanged, func([]byte) []byte { return nil }, damaged, all},
		"no base64":     {unchanged, func([]byte) []byte { return []byte("$") }, damaged, all},
		"without info":  {func(r map[string]any) { delete(r, "info") }, whole, damaged, all},
		"a hook's null": {func(r map[string]any) { r["hooks"].([]any)[0] = nil }, whole, "WARNING: in the record of revision 1 of release app a hook is null; it is left out\n", nil},
		"null hooks":    {func(r map[string]any) { r["hooks"] = nil }, whole, "", nil},
		"no hooks":      {func(r map[string]any) { delete(r, "hooks") }, whole, "", nil},
		"no chart":      {func(r map[string]any) { delete(r, "chart") }, whole, "", nil},
		"of the future": {func(r map[string]any) {
			r["future"] = map[string]any{"a": []any{1}}
			hook(r)["future"] = "x"
			hook(r)["events"] = append(hook(r)["events"].([]any), "pre-future")
		}, whole, "", nil},
		"null manifest": {func(r map[string]any) { hook(r)["manifest"] = nil }, whole, "", map[string]string{
			"test": "recorded/templates/hooks.yaml: resource mapping not found", "rollback": "recorded/templates/hooks.yaml: resource mapping not found",
			"uninstall": "recorded/templates/hooks.yaml: resource mapping not found", // of the revision that has failed
		}},
		"malformed manifest": {func(r map[string]any) { hook(r)["manifest"] = "{{" }, whole, "", map[string]string{
			"test": "hook recorded/templates/hooks.yaml: parsing the manifest: ", "rollback": "hook recorded/templates/hooks.yaml: parsing the manifest: ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			chart := s.chart(recordedChart)
			s.must(s.helm("install", "app", chart, "--no-hooks"))
			s.rewriteRecord(test.change, test.cut)
			for _, line := range [][]string{
				{"timeline", "app", "--revision", "1"}, {"plan", "app", chart}, {"test", "app"}, {"upgrade", "app", chart}, {"rollback", "app", "1"}, {"uninstall", "app"},
			} {
				if line[0] != "timeline" {
					line = append(line, "--hook-parallelism", "4")
				} else if test.warns == damaged {
					line = line[:2]
				}
				got := s.plugin(line...)
				want := test.fails[line[0]]
				if got.code != map[bool]int{true: 1, false: 0}[want != ""] || !strings.Contains(got.stderr, want) {
					t.Errorf("want %q in an error, or none; got: %v", want, got)
				}
				// A revision that's stored anew is as it should be from then on.
				repaired := test.warns != damaged && slices.Contains([]string{"upgrade", "rollback", "uninstall"}, line[0])
				if strings.Count(got.stderr, "WARNING") > 1 || !repaired && !strings.Contains(got.stderr, test.warns) || test.warns == "" && strings.Contains(got.stderr, "WARNING") {
					t.Errorf("want once: %q; got: %v", test.warns, got)
				}
			}
		})
	}
	t.Run("only an old one", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		chart := s.chart(recordedChart)
		s.must(s.helm("install", "app", chart, "--no-hooks"))
		s.must(s.helm("upgrade", "app", chart, "--no-hooks"))
		s.rewriteRecord(unchanged, func(data []byte) []byte { return data[:len(data)/2] })
		if got := s.must(s.plugin("upgrade", "app", chart)); strings.Count(got.stderr, damaged) != 1 {
			t.Errorf("want %q; got: %v", damaged, got)
		}
		got := s.plugin("rollback", "app", "1")
		if got.code != 1 || !strings.Contains(got.stderr, damaged) {
			t.Errorf("want exit code 1 and %q; got: %v", damaged, got)
		}
	})
}
