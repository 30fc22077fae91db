package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/benchmark/parse"
)

// startRuns is how many runs of a command that takes a moment make a repetition.
const startRuns = 10

// startRows are about what a command costs that does next to nothing.
func (l limit) startRows() []row {
	w := l.jobs(20, time.Second)
	starts := func(name string, args ...string) contestant {
		return contestant{name: name, run: func(ctx context.Context, t *trial) (sample, error) {
			if args[0] == "install" {
				chart, err := t.chart(w)
				if err != nil {
					return nil, err
				}
				args = []string{"install", releaseName, chart, "--dry-run=client"}
			}
			return t.start(ctx, command{binary: name, namespace: "default", args: args})
		}}
	}
	compared := func(title string) []metric {
		return []metric{
			{title: title + ": ÷ Helm 3", unit: "×", target: 1, of: func(r repetition, name string) (float64, bool) {
				return ratio(r[name][wholeTime], r[helm3][wholeTime])
			}},
			{title: "… called through Helm 3: ÷ Helm 3", unit: "×", of: func(r repetition, name string) (float64, bool) {
				return ratio(r[name][throughHelm], r[helm3][wholeTime])
			}},
			figure("… time before main()", "ms", initTime, 0),
			figure("… memory before main()", "kB", initMem, 0),
		}
	}
	return []row{
		{
			name: "start/version", title: "`version`",
			contestants: []contestant{starts(helm3, "version"), starts(helm4, "version"), starts(plugin, "version")},
			metrics:     compared("`version`"),
		},
		{
			name: "start/dryrun", title: "`install --dry-run=client`, 20 Jobs",
			contestants: []contestant{starts(helm3, "install"), starts(helm4, "install"), starts(plugin, "install")},
			metrics:     compared("`install --dry-run=client`, 20 Jobs"),
		},
	}
}

// start measures a command that is too short for a single run to tell much.
func (t *trial) start(ctx context.Context, c command) (sample, error) {
	var times []float64
	var last sample
	for range startRuns {
		run, _, err := t.execute(ctx, c)
		if err != nil {
			return nil, err
		}
		times = append(times, run[wholeTime])
		last = run
	}
	last[wholeTime] = median(times)
	if c.binary == called {
		return last, nil
	}
	traced, err := t.traceInit(ctx, c)
	if err != nil {
		return nil, err
	}
	last[initTime], last[initMem] = traced[initTime], traced[initMem]
	if c.binary == plugin {
		c.binary = called
		through, err := t.start(ctx, c)
		if err != nil {
			return nil, err
		}
		last[throughHelm] = through[wholeTime]
	}
	return last, nil
}

// traceInit asks the Go runtime what a command's packages do before main.
func (t *trial) traceInit(ctx context.Context, c command) (sample, error) {
	cmd := exec.CommandContext(ctx, t.binaries[c.binary], "version")
	cmd.Env = []string{"GODEBUG=inittrace=1", "HOME=" + t.dir}
	var trace bytes.Buffer
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s version: %w\n%s", c.binary, err, trace.Bytes())
	}
	return sumInit(trace.String()), nil
}

// sumInit adds up lines such as "init net/http @2.1 ms, 0.026 ms clock, 28696 bytes, 13 allocs".
func sumInit(trace string) sample {
	sum := sample{initTime: 0, initMem: 0}
	for line := range strings.Lines(trace) {
		parts := strings.Split(strings.TrimSpace(line), ", ")
		if !strings.HasPrefix(line, "init ") || len(parts) != 4 {
			continue
		}
		clock, err1 := strconv.ParseFloat(strings.TrimSuffix(parts[1], " ms clock"), 64)
		size, err2 := strconv.ParseFloat(strings.TrimSuffix(parts[2], " bytes"), 64)
		if err1 == nil && err2 == nil {
			sum[initTime] += clock
			sum[initMem] += size / 1e3
		}
	}
	return sum
}

// engineRows are the Go benchmarks of the engine, which need no cluster.
func engineRows() []row {
	benchmark := func(name string) []contestant {
		return []contestant{{name: plugin, run: func(ctx context.Context, t *trial) (sample, error) { return t.goBenchmark(ctx, name) }}}
	}
	milliseconds := func(r repetition, name string) (float64, bool) { return r[name][perHook] / 1e6, r[name] != nil }
	microseconds := func(r repetition, name string) (float64, bool) { return r[name][perHook] / 1e3, r[name] != nil }
	kilobytes := func(r repetition, name string) (float64, bool) { return r[name][perHookMem] / 1e3, r[name] != nil }
	return []row{
		{
			name: "engine/plan", title: "Planning 10,000 hooks", contestants: benchmark("BenchmarkPlan/10000"),
			metrics: []metric{{title: "Planning 10,000 hooks", unit: "ms", target: 50, of: milliseconds}},
		},
		{
			name: "engine/run", title: "Running a hook, without the cluster", contestants: benchmark("BenchmarkRun/at=16"),
			metrics: []metric{
				{title: "Running a hook, without the cluster: time", unit: "µs", target: 20, of: microseconds},
				{title: "Running a hook, without the cluster: memory", unit: "kB", target: 4, of: kilobytes},
			},
		},
	}
}

func (t *trial) goBenchmark(ctx context.Context, name string) (sample, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+strings.ReplaceAll(name, "/", "$/^")+"$", "./hooks")
	cmd.Dir = t.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s: %w\n%s", name, err, out)
	}
	results, err := parse.ParseSet(bytes.NewReader(out))
	if err != nil {
		return nil, err
	}
	for got, result := range results {
		if strings.HasPrefix(got, name) && len(result) == 1 {
			return sample{perHook: result[0].NsPerOp, perHookMem: float64(result[0].AllocedBytesPerOp)}, nil
		}
	}
	return nil, fmt.Errorf("go test -bench %s: no result in\n%s", name, out)
}
