package hooks

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"
)

// Forecast says when a hook would start and end, counted from the start of its
// event.
type Forecast struct {
	Hook       *Hook
	Start, End time.Duration
}

// Forecast returns, in plan order, when the plan's hooks would run if each took
// as long as duration says from its start to its end, and nothing between them
// took any time. It follows the rules of [Runner.Run]: tiers and stages are
// barriers, a tier's slots are given in order, a hook that needs more slots than are
// free holds those behind it back, and one whose chart has enough running doesn't.
func (p *Plan) Forecast(duration func(*Hook) time.Duration) []Forecast {
	all := make([]Forecast, 0, p.Len())
	var now time.Duration
	for _, tier := range p.Tiers {
		for _, stage := range tier.Stages {
			stageForecast := p.forecastStage(stage, now, duration)
			for _, f := range stageForecast {
				now = max(now, f.End)
			}
			all = append(all, stageForecast...)
		}
	}
	return all
}

func (p *Plan) forecastStage(stage Stage, now time.Duration, duration func(*Hook) time.Duration) []Forecast {
	forecast := make([]Forecast, len(stage.Steps))
	schedule := newSchedule(p, stage, semaphore.NewWeighted(p.slots()))
	var running []int // steps, the one that ends first in front
	for {
		for i, ok := schedule.next(); ok; i, ok = schedule.next() {
			hook := stage.Steps[i].Hook
			forecast[i] = Forecast{Hook: hook, Start: now, End: now + max(0, duration(hook))}
			at, _ := slices.BinarySearchFunc(running, i, func(a, b int) int {
				return cmp.Or(cmp.Compare(forecast[a].End, forecast[b].End), cmp.Compare(a, b))
			})
			running = slices.Insert(running, at, i)
		}
		if len(running) == 0 {
			return forecast
		}
		i := running[0]
		running = running[1:]
		now = forecast[i].End
		schedule.ended(i)
	}
}

// slots returns how many slots each tier has.
func (p *Plan) slots() int64 { return int64(max(1, p.Parallelism)) }

// slotsOf returns how many of them a step takes.
func (p *Plan) slotsOf(step Step) int64 { return min(int64(max(1, step.Slots)), p.slots()) }
