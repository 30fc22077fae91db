package report

import (
	"io"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// TestPlanOfRealCharts shows what becomes of hooks that are laid out as users' are.
func TestPlanOfRealCharts(t *testing.T) {
	chart, err := loader.Load("../../testdata/charts/platform")
	if err != nil {
		t.Fatal(err)
	}
	install := action.NewInstall(&action.Configuration{
		Releases:   storage.Init(driver.NewMemory()),
		KubeClient: &kubefake.PrintingKubeClient{Out: io.Discard},
		Log:        func(string, ...any) {},
	})
	install.ReleaseName, install.Namespace = "all", "default"
	install.DryRun, install.ClientOnly = true, true
	rel, err := install.Run(chart, nil)
	if err != nil {
		t.Fatal(err)
	}
	for operation, installing := range map[string]bool{"install": true, "upgrade": false} {
		plan, err := NewPlan(rel, installing, 16, ByName, nil)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "plan-real-"+operation+".table", plan.WriteTable)
	}
}
