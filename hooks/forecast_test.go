package hooks

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// timedCluster is a cluster in which each hook takes its time and nothing else
// takes any.
type timedCluster func(*Hook) time.Duration

func (timedCluster) Delete(context.Context, *Hook) error { return nil }

func (c timedCluster) Create(_ context.Context, h *Hook) (Execution, error) {
	return timedExecution(c(h)), nil
}

func (timedCluster) Logs(context.Context, *Hook, io.Writer) error { return nil }

func (timedCluster) Inspect(context.Context, *Hook, int) ([]Finding, error) {
	return nil, nil
}

type timedExecution time.Duration

func (e timedExecution) Wait(ctx context.Context) error { return sleep(ctx, time.Duration(e)) }

func (e timedExecution) Follow(context.Context, <-chan struct{}, Follower) error { return nil }

func TestForecastIsWhatARunDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := drawHooks(rt)
		if rapid.Bool().Draw(rt, "crowded") {
			// Many at once, for the limits.
			for i, h := range all {
				all[i] = newHook("Job", fmt.Sprintf("%s-%02d", h.Name, i), 0)
				all[i].Objects[0].SetAnnotations(h.Objects[0].GetAnnotations())
			}
		}
		charts := []string{"shop", "shop/charts/a", "shop/charts/b"}
		durations := map[*Hook]time.Duration{}
		for i, h := range all {
			h.Path = rapid.SampledFrom(charts).Draw(rt, "chart") + "/templates/a.yaml"
			drawAfter(rt, all, i)
			// No two sums of such durations are equal, so that it's never
			// left to chance which of two hooks ends first.
			durations[h] = time.Duration(rapid.IntRange(0, 4).Draw(rt, "seconds"))*time.Hour + 1<<i
		}
		options := PlanOptions{Parallelism: rapid.IntRange(0, 6).Draw(rt, "parallelism"), Limits: drawLimits(rt, charts)}
		if rapid.Bool().Draw(rt, "longest first") {
			options.Duration = func(h *Hook) (time.Duration, bool) { return durations[h], len(h.Name)%2 == 0 }
		}
		plan, err := NewPlan("pre-install", all, options)
		if err != nil {
			rt.Fatal(err)
		}
		duration := func(h *Hook) time.Duration { return durations[h] }
		forecast := plan.Forecast(duration)
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			results, err := (&Runner{Cluster: timedCluster(duration)}).Run(t.Context(), plan)
			if err != nil {
				rt.Fatal(err)
			}
			if len(results) != len(forecast) {
				rt.Fatalf("%d results, %d forecast", len(results), len(forecast))
			}
			for i, r := range results {
				got := Forecast{r.Hook, r.StartedAt.Sub(begin), r.CompletedAt.Sub(begin)}
				if got != forecast[i] {
					rt.Fatalf("%s ran from %v to %v, forecast were %v to %v", r.Hook, got.Start, got.End, forecast[i].Start, forecast[i].End)
				}
			}
		})
	})
}

// drawAfter may have a hook come after some of those before it in the list, which no other
// is called like, so that there's no circle.
func drawAfter(t *rapid.T, all []*Hook, i int) {
	h := all[i]
	var after []string
	for _, other := range all[:i] {
		alike := func(third *Hook) bool { return third != other && third.String() == other.String() }
		shared := func(event Event) bool { return slices.Contains(h.Events, event) }
		if other.Weight > h.Weight || !slices.ContainsFunc(other.Events, shared) || slices.ContainsFunc(all, alike) {
			continue
		}
		if rapid.IntRange(0, 3).Draw(t, "after") == 0 {
			after = append(after, other.String())
		}
	}
	if len(after) > 0 {
		annotations := h.Objects[0].GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[AfterAnnotation] = strings.Join(after, ",")
		h.Objects[0].SetAnnotations(annotations)
	}
}

// drawLimits draws a limit for some of the charts, and one for several together.
func drawLimits(t *rapid.T, charts []string) (limits []Limit) {
	for _, chart := range charts {
		if n := rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "limit"); n > 0 {
			limits = append(limits, Limit{[]string{chart}, n})
		}
	}
	if n := rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(t, "limit together"); n > 0 {
		limits = append(limits, Limit{rapid.SliceOfNDistinct(rapid.SampledFrom(charts), 2, len(charts), rapid.ID[string]).Draw(t, "together"), n})
	}
	return limits
}
