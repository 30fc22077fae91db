package hooks_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/apimodel/scenario"
)

// TestModel runs drawn hooks in drawn clusters and judges by the cluster's own history
// whether the engine has kept its promises. A seed that fails is run again, and told in
// full, by
//
//	MODEL_SEED=7 go test ./hooks -run TestModel
//
// and more of them by MODEL_RUNS=20000.
func TestModel(t *testing.T) {
	tally := map[string]int{}
	for _, seed := range scenario.Seeds(t, 300) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run := scenario.Start(t, scenario.Draw(seed))
				run.Do(t, nil)
				for _, problem := range run.Check() {
					t.Errorf("seed %d: %s", seed, problem)
				}
				if scenario.Single() {
					t.Logf("%s%s", run.Scenario, strings.Join(run.Model.Trace(), "\n"))
				}
				run.Tally(tally)
			})
		})
	}
	for _, what := range slices.Sorted(maps.Keys(tally)) {
		t.Logf("%s: %d", what, tally[what])
	}
}
