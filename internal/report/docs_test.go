package report

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// TestDocumentedPlans: the plans in the chart author's guide are those of the templates
// above them.
func TestDocumentedPlans(t *testing.T) {
	text, err := os.ReadFile("../../docs/charts.md")
	if err != nil {
		t.Fatal(err)
	}
	history := History{"Job/shop-migrate": time.Minute}
	for _, name := range []string{"carts", "customers", "invoices", "orders", "products", "reviews"} {
		history["Job/shop-reindex-"+name] = 20 * time.Second
	}
	for heading, test := range map[string]struct {
		install     bool
		parallelism int
		history     History
	}{
		"### slots":     {false, 8, history},
		"## An example": {true, 4, nil},
	} {
		_, section, _ := strings.Cut(string(text), "\n"+heading+"\n")
		section, _, _ = strings.Cut(section, "\n##")
		documented := &chart.Chart{Metadata: &chart.Metadata{APIVersion: chart.APIVersionV2, Name: "shop", Version: "1.0.0"}}
		for block := range strings.SplitSeq(section, "```yaml\n# ") {
			if name, template, ok := strings.Cut(block, "\n"); ok && strings.HasPrefix(name, "templates/") {
				template, _, _ = strings.Cut(template, "```")
				documented.Templates = append(documented.Templates, &chart.File{Name: name, Data: []byte(template)})
			}
		}
		install := action.NewInstall(&action.Configuration{
			Releases:   storage.Init(driver.NewMemory()),
			KubeClient: &kubefake.PrintingKubeClient{Out: io.Discard},
			Log:        func(string, ...any) {},
		})
		install.ReleaseName, install.Namespace = "shop", "shop"
		install.DryRun, install.ClientOnly = true, true
		rel, err := install.Run(documented, map[string]any{"image": "shop:1.0", "backfill": map[string]any{"batch": "100"}})
		if err != nil {
			t.Fatalf("%s: %v", heading, err)
		}
		plan, err := NewPlan(rel, test.install, test.parallelism, ByName, test.history)
		if err != nil {
			t.Fatalf("%s: %v", heading, err)
		}
		var out bytes.Buffer
		if err := plan.WriteTable(&out); err != nil {
			t.Fatal(err)
		}
		want := ""
		for line := range strings.Lines(out.String()) {
			if strings.TrimSpace(line) != "" {
				line = "    " + line
			}
			want += line
		}
		if len(rel.Hooks) == 0 || !strings.Contains(section, "\n\n"+want) {
			t.Errorf("%s of docs/charts.md has another plan than:\n\n%s", heading, want)
		}
	}
}
