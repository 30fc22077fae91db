package e2e

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// TestChartSources: a chart comes from where helm install takes it from: a repository that was added, one that is
// named by its URL, an archive's URL, an OCI registry, or an archive; and missing dependencies are fetched.
func TestChartSources(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	folder := t.TempDir()
	s.must(s.helm("package", chartPath("tiers"), "--destination", folder))
	repository := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(repository.Close)
	s.must(s.helm("repo", "index", folder, "--url", repository.URL))
	s.must(s.helm("repo", "add", "local", repository.URL))
	images := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(images.Close)
	remote := "oci://" + strings.TrimPrefix(images.URL, "http://")
	s.must(s.helm("push", filepath.Join(folder, "tiers-1.0.0.tgz"), remote, "--plain-http"))

	parent := filepath.Join(t.TempDir(), "parent")
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	manifest := "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies: [{name: tiers, version: 1.0.0, repository: " + repository.URL + "}]\n"
	if err := os.WriteFile(filepath.Join(parent, "Chart.yaml"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}

	for i, source := range [][]string{
		{"local/tiers"},
		{"tiers", "--repo", repository.URL},
		{repository.URL + "/tiers-1.0.0.tgz"},
		{remote + "/tiers", "--plain-http"},
		{filepath.Join(folder, "tiers-1.0.0.tgz"), "--version", "1.0.0"},
		{parent, "--dependency-update"},
	} {
		name := "source-" + string(rune('a'+i))
		below := "" // where the values of the chart are
		if source[0] == parent {
			below = "tiers."
		}
		values := fmt.Sprintf(`%sprefix="%s-",%stiers=[{"jobs":2,"duration":"0s"}]`, below, name, below)
		got := s.plugin(append(append([]string{"install", name, "--hook-parallelism", "2"}, source...), "--set-json", values)...)
		if got.code != 0 {
			t.Errorf("from %q: %v", source, got)
			continue
		}
		wantEqual(t, "phases", phasesOf(s.release(name)), []string{name + "-job-0-00=Succeeded", name + "-job-0-01=Succeeded"})
	}
}
