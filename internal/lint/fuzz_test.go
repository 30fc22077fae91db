package lint

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
)

// FuzzCheck: whatever a template says, as source and as what it renders to, nothing
// panics, every finding is of a rule and its line is one of the template's, and SARIF is
// JSON.
func FuzzCheck(f *testing.F) {
	log.SetOutput(io.Discard) // where Helm tells of unknown events
	templates, err := filepath.Glob("../../cmd/testdata/charts/broken/templates/*.yaml")
	if err != nil || len(templates) == 0 {
		f.Fatal(templates, err)
	}
	for _, file := range templates {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), strings.NewReplacer("{{ .Release.Name }}", "web", "{{ .Values.weight | quote }}", `"10"`, "{{ .Values.policy }}", "hook-success").Replace(string(text)))
	}
	f.Fuzz(func(t *testing.T, source, text string) {
		const name = "shop/templates/a.yaml"
		files := map[string]string{name: text}
		all, resources, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
		if err != nil {
			return // Helm would have refused the chart
		}
		rel := &release.Release{Namespace: "web", Hooks: all, Chart: &chart.Chart{Metadata: &chart.Metadata{Name: "shop"}}}
		for _, r := range resources {
			rel.Manifest += "---\n" + r.Content + "\n"
		}
		r, err := Check(rel, files, Sources{name: {name, source}})
		if err != nil {
			return
		}
		for _, found := range r.Findings {
			if found.Rule == "" || found.Line < 0 || found.Line > strings.Count(source, "\n")+1 {
				t.Errorf("got %+v of %d lines", found, strings.Count(source, "\n")+1)
			}
		}
		if err := r.WriteTable(io.Discard); err != nil {
			t.Error(err)
		}
		var out bytes.Buffer
		if err := r.WriteSARIF(&out, ""); err != nil || !json.Valid(out.Bytes()) {
			t.Errorf("got error %v and\n%s", err, &out)
		}
	})
}
