package helm3

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/apimodel"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/apimodel/scenario"
)

// TestModel runs drawn hooks in drawn clusters, as TestModel of package hooks does and by
// the same environment variables, with a storage that fails and loses answers: what is in
// the record was true at the time, and agrees with the results in the end.
func TestModel(t *testing.T) {
	tally := map[string]int{}
	for _, seed := range scenario.Seeds(t, 100) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run := scenario.Start(t, scenario.Draw(seed))
				stored := recordRun(t, run, apimodel.Rand(seed, "storage"))
				for _, problem := range run.CheckRecords(stored.records, stored.tried) {
					t.Errorf("seed %d: %s", seed, problem)
				}
				if scenario.Single() {
					t.Logf("%s%s", run.Scenario, strings.Join(run.Model.Trace(), "\n"))
				}
				run.Tally(tally)
				tally["writes: stored"] += len(stored.records)
				tally["writes: tried"] += len(stored.tried)
				if stored.givenUp {
					tally["given up"]++
				}
			})
		})
	}
	for _, what := range slices.Sorted(maps.Keys(tally)) {
		t.Logf("%s: %d", what, tally[what])
	}
}

// recordRun runs the hooks as an operation does and checks its last record.
func recordRun(t *testing.T, run *scenario.Run, draw *rand.Rand) *drawnDriver {
	t.Helper()
	rel := newRelease(1, release.StatusPendingInstall)
	origin := map[*hooks.Hook]*release.Hook{}
	for _, h := range run.Hooks {
		hook := &release.Hook{Name: h.Name, Kind: h.Kind, Path: h.Path}
		rel.Hooks = append(rel.Hooks, hook)
		origin[h] = hook
	}
	d := &drawnDriver{Driver: driver.NewMemory(), run: run, draw: draw}
	d.bad = []float64{0, 0.1, 0.5}[draw.IntN(3)]
	records := &records{storage: storage.Init(d)}
	if err := records.storage.Create(rel); err != nil {
		t.Fatal(err)
	}
	records.own(rel)

	r := newRecorder(rel, origin, records.update, func(string, ...any) {})
	var giving sync.WaitGroup
	if draw.IntN(4) == 0 {
		after := apimodel.Between(draw, time.Millisecond, 30*time.Second)
		giving.Go(func() {
			<-time.After(after)
			if err := records.giveUp(func() *release.Release {
				d.mark(true)
				return r.latest()
			}); err != nil {
				d.mark(false) // it was tried, and not stored
			}
		})
	}
	run.Do(t, r)
	giving.Wait()
	missed, tried := d.missed, len(d.tried)
	r.finish()
	if missed && !d.givenUp && len(d.tried) == tried {
		t.Error("what could not be stored was not tried again in the end")
	}

	want := map[*hooks.Hook]hooks.Result{}
	for _, result := range run.Results {
		if !result.StartedAt.IsZero() {
			want[result.Hook] = result
		}
	}
	agrees := func(what string, got map[*hooks.Hook]hooks.Result) {
		for _, h := range run.Hooks {
			g, w := got[h], want[h]
			if g.Phase != w.Phase || !g.StartedAt.Equal(w.StartedAt) || !g.CompletedAt.Equal(w.CompletedAt) {
				t.Errorf("%s: %s: got %s from %v to %v, want %s from %v to %v", what, h, g.Phase, g.StartedAt, g.CompletedAt, w.Phase, w.StartedAt, w.CompletedAt)
			}
		}
	}
	agrees("the release itself", d.phases(rel))
	if len(d.records) > 0 && !d.missed && !d.givenUp {
		agrees("the last record", d.records[len(d.records)-1].Hooks)
	}
	return d
}

// drawnDriver is a storage driver that fails and loses answers. It notes what it stores. It
// takes no time for that: who waits for a mutex meanwhile would hold up the virtual clock.
type drawnDriver struct {
	driver.Driver
	run  *scenario.Run
	draw *rand.Rand
	bad  float64

	mu      sync.Mutex
	records []scenario.Record
	tried   []time.Time
	missed  bool // the last write was not stored
	givenUp bool // what is stored from now on is because of that
}

func (d *drawnDriver) mark(givenUp bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.givenUp = d.givenUp || givenUp
	if len(d.tried) == 0 {
		d.tried = append(d.tried, time.Now()) // of what runs on from now nothing is to be stored
	}
}

// Update implements [driver.Updator]. There is one at a time.
func (d *drawnDriver) Update(key string, rel *release.Release) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	record := scenario.Record{At: time.Now(), Hooks: d.phases(rel), GivenUp: d.givenUp}
	d.tried = append(d.tried, record.At)
	fails, loses := d.draw.Float64() < d.bad, d.draw.IntN(2) == 0
	d.missed = fails && !loses
	if d.missed {
		return errors.New("the storage is away")
	}
	if err := d.Driver.Update(key, rel); err != nil {
		return err
	}
	d.records = append(d.records, record)
	d.run.Model.Note("    stored")
	if fails {
		return errors.New("the storage's answer was lost")
	}
	return nil
}

// phases returns what a release says of its hooks.
func (d *drawnDriver) phases(rel *release.Release) map[*hooks.Hook]hooks.Result {
	all := map[*hooks.Hook]hooks.Result{}
	for i, h := range d.run.Hooks {
		if last := rel.Hooks[i].LastRun; last.Phase != "" {
			all[h] = hooks.Result{Hook: h, Phase: hooks.Phase(last.Phase), StartedAt: last.StartedAt.Time, CompletedAt: last.CompletedAt.Time}
		}
	}
	return all
}
