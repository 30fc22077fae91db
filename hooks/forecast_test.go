package hooks

import (
	"context"
	"io"
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
		durations := map[*Hook]time.Duration{}
		for i, h := range all {
			// No two sums of such durations are equal, so that it's never
			// left to chance which of two hooks ends first.
			durations[h] = time.Duration(rapid.IntRange(0, 4).Draw(rt, "seconds"))*time.Hour + 1<<i
		}
		plan, err := NewPlan("pre-install", all, PlanOptions{Parallelism: rapid.IntRange(0, 6).Draw(rt, "parallelism")})
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
