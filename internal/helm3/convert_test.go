package helm3

import (
	"slices"
	"sort"
	"testing"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"pgregory.net/rapid"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func TestInstallOrderIsHelms(t *testing.T) {
	if !slices.Equal(hooks.InstallOrder, releaseutil.InstallOrder) {
		t.Errorf("hooks.InstallOrder is not Helm's:\ngot  %v\nwant %v", hooks.InstallOrder, releaseutil.InstallOrder)
	}
}

// helmOrder sorts hooks as Helm's execHook does (pkg/action/hooks.go).
type helmOrder []*release.Hook

func (x helmOrder) Len() int      { return len(x) }
func (x helmOrder) Swap(i, j int) { x[i], x[j] = x[j], x[i] }
func (x helmOrder) Less(i, j int) bool {
	if x[i].Weight == x[j].Weight {
		return x[i].Name < x[j].Name
	}
	return x[i].Weight < x[j].Weight
}

// TestSerialPlanIsHelmsOrder renders hooks through Helm's own sorting of
// manifests and compares the order in which both would run them.
func TestSerialPlanIsHelmsOrder(t *testing.T) {
	kinds := []string{"Job", "Pod", "ConfigMap", "ServiceAccount", "Widget", "Aardvark", "CustomResourceDefinition"}
	rapid.Check(t, func(t *rapid.T) {
		files := map[string]string{}
		for i := range rapid.IntRange(0, 20).Draw(t, "n") {
			weight := rapid.SampledFrom([]string{"", "0", "-1", "5", "05", "+2", "heavy", "1.5"}).Draw(t, "weight")
			event := rapid.SampledFrom([]string{"pre-install", "post-install", "pre-install,post-install", "Pre-Install"}).Draw(t, "event")
			path := "chart/templates/" + string(rune('a'+i)) + ".yaml"
			files[path] = "apiVersion: v1\nkind: " + rapid.SampledFrom(kinds).Draw(t, "kind") +
				"\nmetadata:\n  name: " + rapid.StringMatching(`[a-c]{1,2}`).Draw(t, "name") +
				"\n  annotations:\n    helm.sh/hook: " + event + "\n    helm.sh/hook-weight: \"" + weight + "\"\n"
		}
		recorded, _, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
		if err != nil {
			t.Fatal(err)
		}
		var want []*release.Hook
		for _, h := range recorded {
			if slices.Contains(h.Events, release.HookPreInstall) {
				want = append(want, h)
			}
		}
		sort.Stable(helmOrder(want))

		var converted []*hooks.Hook
		for _, h := range recorded {
			hook, err := Convert(h, "ns")
			if err != nil {
				t.Fatal(err)
			}
			converted = append(converted, hook)
		}
		plan, err := hooks.NewPlan("pre-install", converted, hooks.PlanOptions{Parallelism: rapid.IntRange(0, 1).Draw(t, "parallelism")})
		if err != nil {
			t.Fatal(err)
		}
		got := plan.Hooks()
		if len(got) != len(want) {
			t.Fatalf("planned %d hooks, want %d", len(got), len(want))
		}
		for i := range got {
			if got[i].Path != want[i].Path {
				t.Fatalf("hook %d: got %s (%s), want %s/%s (%s)", i, got[i], got[i].Path, want[i].Kind, want[i].Name, want[i].Path)
			}
		}
	})
}
