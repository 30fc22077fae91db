package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// displayRow is about what it costs to show on a terminal what hooks do.
func (l limit) displayRow() row {
	w := l.jobs(200, time.Second)
	turn := 0
	shows := contestant{name: plugin, run: func(ctx context.Context, t *trial) (sample, error) {
		chart, err := t.chart(w)
		if err != nil {
			return nil, err
		}
		run := func(progress string) (sample, error) {
			namespace, err := t.namespace(ctx)
			if err != nil {
				return nil, err
			}
			c := command{
				binary: plugin, namespace: namespace, release: releaseName, terminal: true,
				args: []string{"install", releaseName, chart, "--hook-progress", progress},
			}
			c.expect(w, 50)
			if err := settle(ctx); err != nil {
				return nil, err
			}
			return t.command(ctx, c)
		}
		var shown, silent sample
		turns := []func() error{
			func() (err error) { silent, err = run("none"); return err },
			func() (err error) { shown, err = run("live"); return err },
		}
		if turn++; turn%2 == 0 {
			slices.Reverse(turns)
		}
		for _, run := range turns {
			if err := run(); err != nil {
				return nil, err
			}
		}
		shown[silentTime] = silent[hooksTime]
		return shown, nil
	}}
	return row{
		name: "display", title: "Showing on a terminal what hooks do", brief: true,
		contestants: []contestant{shows},
		metrics: []metric{{title: "200 Jobs, 50 at once: hooks' time with live progress ÷ without", unit: "×", target: 1.02, of: func(r repetition, name string) (float64, bool) {
			return ratio(r[name][hooksTime], r[name][silentTime])
		}}},
	}
}

// forecastParallelisms are those at which what was forecast is compared with what came.
var forecastParallelisms = []int{1, 4, 8}

func planError(n int) quantity   { return quantity(fmt.Sprintf("plan's error at %d, %%", n)) }
func whatIfError(n int) quantity { return quantity(fmt.Sprintf("what-if's error at %d, %%", n)) }

// forecastRow is about how well plan and timeline foretell how long the hooks of the demo's chart take.
func (l limit) forecastRow() row {
	const chart = "testdata/charts/shop"
	foretells := contestant{name: plugin, run: func(ctx context.Context, t *trial) (sample, error) {
		namespace, err := t.namespace(ctx)
		if err != nil {
			return nil, err
		}
		run := func(args ...string) error {
			if err := settle(ctx); err != nil {
				return err
			}
			_, _, err := t.execute(ctx, command{binary: plugin, namespace: namespace, args: args})
			return err
		}
		at := func(n int) string { return strconv.Itoa(n) }
		path := t.root + "/" + chart
		if err := run("install", releaseName, path); err != nil {
			return nil, err
		}
		errs := sample{}
		for _, n := range forecastParallelisms {
			var plan struct{ Seconds float64 }
			var whatIf, actual struct {
				Forecasts []struct{ Seconds float64 }
				Events    []struct{ Seconds float64 }
			}
			if err := errors.Join(
				t.read(ctx, namespace, &plan, "plan", releaseName, path, "--hook-parallelism", at(n)),
				t.read(ctx, namespace, &whatIf, "timeline", releaseName, "--revision", "1", "--what-if", at(n)),
				run("upgrade", releaseName, path, "--hook-parallelism", at(n)),
				t.read(ctx, namespace, &actual, "timeline", releaseName),
			); err != nil {
				return nil, err
			}
			took := 0.0
			for _, e := range actual.Events {
				took += e.Seconds
			}
			off := func(forecast float64) float64 { return 100 * math.Abs(forecast/took-1) }
			errs[planError(n)], errs[whatIfError(n)] = off(plan.Seconds), off(whatIf.Forecasts[0].Seconds)
		}
		return errs, nil
	}}
	r := row{name: "forecast", title: "Forecasts for the demo's chart", contestants: []contestant{foretells}}
	for _, n := range forecastParallelisms {
		r.metrics = append(r.metrics,
			figure(fmt.Sprintf("The demo's chart, %d at once: error of `plan`'s forecast", n), "%", planError(n), 10),
			figure(fmt.Sprintf("… error of `timeline --what-if %d`", n), "%", whatIfError(n), 10),
		)
	}
	return r
}

// read runs a command of the plugin's and reads what it prints in JSON.
func (t *trial) read(ctx context.Context, namespace string, into any, args ...string) error {
	var out bytes.Buffer
	if _, _, err := t.execute(ctx, command{binary: plugin, namespace: namespace, args: append(args, "-o", "json"), stdout: &out}); err != nil {
		return err
	}
	return json.Unmarshal(out.Bytes(), into)
}
