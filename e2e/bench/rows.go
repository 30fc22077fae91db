package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// row is a comparison: contestants that do the same work one right after the other, and what is to come of it.
type row struct {
	name    string
	title   string
	audited bool
	// brief says that a repetition takes a few seconds, of which chance has a larger part: it's repeated more often.
	brief bool
	// leftOut is why the row is not run at all.
	leftOut     string
	contestants []contestant
	metrics     []metric
}

// repetition is what the contestants of a row did, one after another.
type repetition map[string]sample

// metric is a figure of each contestant of a row, and what the plugin's has to be.
type metric struct {
	title string
	unit  string
	// of returns a contestant's figure in a repetition; false: it has none.
	of func(r repetition, contestant string) (float64, bool)
	// target is the limit for the plugin; 0: there is none.
	target  float64
	atLeast bool
}

// overFloor is the hooks' time as a multiple of the floor's.
func overFloor(title string, target float64) metric {
	return metric{title: title + ": hooks' time ÷ floor", unit: "×", target: target, of: func(r repetition, name string) (float64, bool) {
		return ratio(r[name][hooksTime], r[floor][hooksTime])
	}}
}

func figure(title, unit string, q quantity, target float64) metric {
	return metric{title: title, unit: unit, target: target, of: func(r repetition, name string) (float64, bool) {
		value, ok := r[name][q]
		return value, ok
	}}
}

func ratio(a, b float64) (float64, bool) {
	if a == 0 || b == 0 {
		return 0, false
	}
	return a / b, true
}

// repetitions is how often the row is repeated where rows are as a rule repeated so often.
func (r row) repetitions(usual int) int {
	if r.brief {
		return 3 * usual
	}
	return usual
}

func once(c contestant) contestant {
	c.once = true
	return c
}

func slow(c contestant) contestant {
	c.slow = true
	return c
}

func (l limit) jobs(count int, duration time.Duration) workload {
	return workload{kind: "Job", count: l.of(count), duration: duration, event: "pre-install"}
}

// limit is how many objects a row may have at most. It's there for a quick look whether all rows work.
type limit int

func (l limit) of(count int) int { return min(count, int(l)) }

// rows returns the rows in the order in which they are run and shown: first those where time counts.
func (l limit) rows() []row {
	rows := []row{
		l.twentyRow(),
		installRow("200x20", "200 Jobs, 20 at once", l.jobs(200, time.Second), 20, 1.05, naive, plugin),
		installRow("200x200", "200 Jobs, all at once", l.jobs(200, time.Second), 200, 1.20, naive, plugin),
		l.restRow(),
		l.thousandRow(),
		l.setupRow(),
		l.uninstallRow(),
		l.testRow(),
		l.crowdRow(),
		l.displayRow(),
		l.forecastRow(),
	}
	rows = append(rows, l.startRows()...)
	rows = append(rows, engineRows()...)
	rows = append(rows, l.growthRows()...)
	return append(rows, l.upgradeRow(), l.orderRow(), l.requestsRow(), l.recordsRow())
}

func installRow(name, title string, w workload, parallelism int, target float64, contestants ...string) row {
	r := row{name: name, title: title, contestants: []contestant{onFloor(w, parallelism)}}
	for _, c := range contestants {
		r.contestants = append(r.contestants, installs(c, w, parallelism))
	}
	r.metrics = []metric{overFloor(title, target)}
	return r
}

// twentyRow is the one in which a millisecond counts most.
func (l limit) twentyRow() row {
	r := installRow("20", "20 Jobs, all at once", l.jobs(20, time.Second), 20, 1.05, helm3, helm4, naive, plugin)
	r.brief = true
	for i, c := range r.contestants {
		if c.name == helm3 || c.name == helm4 {
			r.contestants[i] = slow(c)
		}
	}
	return r
}

// restRow is about what a command needs beside its hooks.
func (l limit) restRow() row {
	w := l.jobs(20, time.Second)
	rest := func(r repetition, name string) float64 { return r[name][wholeTime] - r[name][hooksTime] }
	return row{
		name: "rest", title: "What a command needs beside its hooks", brief: true,
		contestants: []contestant{
			installs(helm3, w, 1, "--no-hooks"), installs(helm4, w, 1, "--no-hooks"),
			installs(naive, w, 20), installs(plugin, w, 20), installs(called, w, 20),
		},
		metrics: []metric{
			{title: "20 Jobs, all at once: command − hooks' time (Helm: `--no-hooks`)", unit: "s", target: 0.6, of: func(r repetition, name string) (float64, bool) {
				return rest(r, name), r[name] != nil
			}},
			{title: "… as a multiple of Helm 3's", unit: "×", target: 1, of: func(r repetition, name string) (float64, bool) {
				return ratio(rest(r, name), rest(r, helm3))
			}},
			{title: "… called through Helm 3, as a multiple of Helm 3's", unit: "×", of: func(r repetition, name string) (float64, bool) {
				if name != plugin || r[called] == nil {
					return 0, false
				}
				return ratio(rest(r, called), rest(r, helm3))
			}},
		},
	}
}

func (l limit) thousandRow() row {
	r := installRow("1000x100", "1,000 Jobs, 100 at once", l.jobs(1000, time.Second), 100, 1.20, plugin)
	r.metrics = append(r.metrics, figure("1,000 Jobs, 100 at once: peak memory", "MB", peakMemory, 200))
	return r
}

func (l limit) setupRow() row {
	w := workload{kind: "ConfigMap", count: l.of(100), event: "pre-install"}
	r := installRow("configmaps", "100 ConfigMaps, 20 at once", w, 20, 0, helm3, helm4, naive, plugin)
	r.metrics = []metric{
		{title: "100 ConfigMaps, 20 at once: how many times as fast as Helm 3, whole command", unit: "×", target: 15, atLeast: true, of: func(r repetition, name string) (float64, bool) {
			return ratio(r[helm3][wholeTime], r[name][wholeTime])
		}},
		{title: "… hooks' time alone", unit: "×", of: func(r repetition, name string) (float64, bool) {
			return ratio(r[helm3][hooksTime], r[name][hooksTime])
		}},
	}
	return r
}

func (l limit) uninstallRow() row {
	w := l.jobs(50, time.Second)
	w.event = "pre-delete"
	// The record has to stay, for it has the hooks' times.
	return laterRow("uninstall", "uninstall with 50 `pre-delete` Jobs, all at once", w, 50, "uninstall", releaseName, "--keep-history")
}

func (l limit) testRow() row {
	w := workload{kind: "Pod", count: l.of(50), duration: time.Second, event: "test"}
	return laterRow("test", "test with 50 Pods, all at once", w, 50, "test", releaseName)
}

// laterRow is about a command that runs the hooks of a release which is there already.
func laterRow(name, title string, w workload, parallelism int, args ...string) row {
	runs := func(name string) contestant {
		return contestant{name: name, run: func(ctx context.Context, t *trial) (sample, error) {
			namespace, err := t.namespace(ctx)
			if err != nil {
				return nil, err
			}
			if _, err := t.install(ctx, name, namespace, releaseName, w, 1, "--no-hooks"); err != nil {
				return nil, err
			}
			return t.then(ctx, name, namespace, w, parallelism, args...)
		}}
	}
	return row{
		name: name, title: title, brief: true,
		contestants: []contestant{onFloor(w, parallelism), once(runs(helm3)), once(runs(helm4)), runs(plugin)},
		metrics:     []metric{overFloor(title, 1.10)},
	}
}

// upgradeRow is about hooks whose objects exist.
func (l limit) upgradeRow() row {
	w := l.jobs(20, time.Second)
	w.event = "pre-install,pre-upgrade"
	bare := onFloor(w, 20)
	bare.run = func(ctx context.Context, t *trial) (sample, error) {
		namespace, err := t.namespace(ctx)
		if err != nil {
			return nil, err
		}
		run := floorRun{namespace: namespace, workload: w, parallelism: 20}
		first, err := t.onFloor(ctx, run)
		if err != nil {
			return nil, err
		}
		if err := settle(ctx); err != nil {
			return nil, err
		}
		run.recreate = true
		again, err := t.onFloor(ctx, run)
		if err == nil {
			again[firstTime] = first[hooksTime]
		}
		return again, err
	}
	upgrades := contestant{name: plugin, run: func(ctx context.Context, t *trial) (sample, error) {
		namespace, err := t.namespace(ctx)
		if err != nil {
			return nil, err
		}
		first, err := t.install(ctx, plugin, namespace, releaseName, w, 20)
		if err != nil {
			return nil, err
		}
		chart, err := t.chart(w)
		if err != nil {
			return nil, err
		}
		again, err := t.then(ctx, plugin, namespace, w, 20, "upgrade", releaseName, chart)
		if err == nil {
			again[firstTime] = first[hooksTime]
		}
		return again, err
	}}
	title := "20 Jobs deleted and recreated on upgrade"
	return row{
		name: "upgrade", title: title, audited: true, brief: true,
		contestants: []contestant{bare, upgrades},
		metrics: []metric{
			{title: title + ": hooks' time ÷ that of the install", unit: "×", target: 1.10, of: func(r repetition, name string) (float64, bool) {
				return ratio(r[name][hooksTime], r[name][firstTime])
			}},
			overFloor(title, 0),
		},
	}
}

// orderRow is about hooks of which the longest has the last name.
func (l limit) orderRow() row {
	const atOnce = 4
	w := l.jobs(21, time.Second)
	w.event, w.last = "pre-install,pre-upgrade", 10*time.Second
	upgrades := contestant{name: plugin, run: func(ctx context.Context, t *trial) (sample, error) {
		namespace, err := t.namespace(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := t.install(ctx, plugin, namespace, releaseName, w, w.count); err != nil {
			return nil, err
		}
		chart, err := t.chart(w)
		if err != nil {
			return nil, err
		}
		byName, err := t.then(ctx, plugin, namespace, w, atOnce, "upgrade", releaseName, chart)
		if err != nil {
			return nil, err
		}
		longestFirst, err := t.then(ctx, plugin, namespace, w, atOnce, "upgrade", releaseName, chart, "--hook-order", "longest-first")
		if err == nil {
			longestFirst[firstTime] = byName[hooksTime]
		}
		return longestFirst, err
	}}
	title := "20 Jobs of 1 s and one of 10 s whose name is the last, 4 at once"
	// Nothing can end before the longest has, nor before all slots were busy all the time.
	least := max(w.last, (time.Duration(w.count-1)*w.duration+w.last)/atOnce)
	return row{
		name: "order", title: title, audited: true, brief: true,
		contestants: []contestant{upgrades},
		metrics: []metric{
			{title: title + ": longest first ÷ by name, hooks' time", unit: "×", target: 0.8, of: func(r repetition, name string) (float64, bool) {
				return ratio(r[name][hooksTime], r[name][firstTime])
			}},
			{title: "… longest first ÷ what the Jobs alone take at best", unit: "×", of: func(r repetition, name string) (float64, bool) {
				return ratio(r[name][hooksTime], least.Seconds())
			}},
		},
	}
}

func (l limit) requestsRow() row {
	w := l.jobs(200, 0)
	return row{
		name: "requests", title: "Requests to the API server", audited: true,
		contestants: []contestant{
			once(installs(helm3, w, 1)), once(installs(helm4, w, 1)), installs(naive, w, 20), installs(plugin, w, 20),
		},
		metrics: []metric{{title: "200 Jobs: the command's requests to the API server ÷ 200", target: 3.2, of: func(r repetition, name string) (float64, bool) {
			return ratio(r[name][requests], float64(w.count))
		}}},
	}
}

func (l limit) recordsRow() row {
	w := l.jobs(50, time.Second)
	// 600 kB that can't be compressed are 800 kB in base64, and that is what Helm's storage driver makes of a release.
	w.ballast = 600_000
	return row{
		name: "records", title: "Release records", audited: true,
		contestants: []contestant{
			once(installs(helm3, w, 1)), once(installs(helm4, w, 1)), installs(naive, w, 10), installs(plugin, w, 10),
		},
		metrics: []metric{
			figure("50 Jobs, 10 at once, a release of 800 kB encoded: records written", "", records, 10),
			figure("… MB sent for them", "MB", recordSize, 0),
		},
	}
}

// crowdRow is about a namespace in which much else lives.
func (l limit) crowdRow() row {
	const crowd = 10_000
	w := l.jobs(100, time.Second)
	others := workload{kind: "Job", count: l.of(crowd), idle: true}
	pods := workload{kind: "Pod", count: l.of(crowd), idle: true}
	var crowded string // the namespace, the same in all repetitions
	populate := func(ctx context.Context, t *trial) (err error) {
		if crowded != "" {
			return nil
		}
		namespace, err := t.cluster.namespace(ctx)
		if err != nil {
			return err
		}
		t.afterRow = append(t.afterRow, namespace)
		run := floorRun{namespace: namespace, release: "other", workload: others, parallelism: 50, ended: settled}
		if _, err := t.onFloor(ctx, run); err != nil {
			return err
		}
		run = floorRun{namespace: namespace, release: "other", workload: pods, parallelism: 50, ended: there}
		if _, err := t.onFloor(ctx, run); err != nil {
			return err
		}
		crowded = namespace
		return nil
	}
	both := func(name string, run func(ctx context.Context, t *trial, namespace, release string) (sample, error)) contestant {
		return contestant{name: name, run: func(ctx context.Context, t *trial) (sample, error) {
			if err := populate(ctx, t); err != nil {
				return nil, err
			}
			namespace, err := t.namespace(ctx)
			if err != nil {
				return nil, err
			}
			// Nothing of an earlier repetition may be in the way.
			t.releases++
			own := fmt.Sprintf("%s-%s-%d", releaseName, name, t.releases)
			var alone, amid sample
			turns := []func() error{
				func() (err error) { alone, err = run(ctx, t, namespace, releaseName); return err },
				func() (err error) { amid, err = run(ctx, t, crowded, own); return err },
			}
			if t.releases%4 > 1 {
				slices.Reverse(turns)
			}
			for _, turn := range turns {
				if err := errors.Join(settle(ctx), turn()); err != nil {
					return nil, err
				}
			}
			amid[aloneTime], amid[aloneMem] = alone[hooksTime], alone[peakMemory]
			return amid, nil
		}}
	}
	return row{
		name: "crowd", title: "A namespace with 10,000 other Jobs and as many Pods",
		contestants: []contestant{
			both(floor, func(ctx context.Context, t *trial, namespace, release string) (sample, error) {
				return t.onFloor(ctx, floorRun{namespace: namespace, release: release, workload: w, parallelism: 20})
			}),
			both(plugin, func(ctx context.Context, t *trial, namespace, release string) (sample, error) {
				return t.install(ctx, plugin, namespace, release, w, 20)
			}),
		},
		metrics: []metric{
			{title: "100 Jobs, 20 at once, beside 10,000 other Jobs and as many Pods: hooks' time ÷ that in an empty namespace", unit: "×", target: 1.10, of: func(r repetition, name string) (float64, bool) {
				return ratio(r[name][hooksTime], r[name][aloneTime])
			}},
			{title: "… peak memory − that in an empty namespace", unit: "MB", target: 20, of: func(r repetition, name string) (float64, bool) {
				return r[name][peakMemory] - r[name][aloneMem], r[name][peakMemory] != 0
			}},
		},
	}
}

// cell is a row of the table that shows how time grows.
type cell struct{ hooks, parallelism int }

func (c cell) String() string { return fmt.Sprintf("growth/%dx%d", c.hooks, c.parallelism) }

var (
	growthHooks       = []int{1, 10, 100, 1000}
	growthParallelism = []int{1, 4, 16, 64, 256}
)

// runOnce is from when on a run of a cell is not repeated, tooSlow from when on it's left out.
const (
	runOnce = time.Minute
	tooSlow = 10 * time.Minute
)

// growthRows takes Jobs that end at once: about a second each, which is the Job controller's.
func (l limit) growthRows() []row {
	var rows []row
	for _, hooks := range growthHooks {
		if hooks > int(l) {
			continue
		}
		for _, parallelism := range growthParallelism {
			c := cell{hooks, parallelism}
			w := l.jobs(hooks, 0)
			r := installRow(c.String(), fmt.Sprintf("growth: %d Jobs, %d at once", hooks, parallelism), w, parallelism, 0, plugin)
			expected := time.Duration((hooks+parallelism-1)/parallelism) * 1100 * time.Millisecond
			if expected > tooSlow {
				r.leftOut = fmt.Sprintf("takes %d minutes, a second for each Job", int(expected.Minutes()))
			}
			for i := range r.contestants {
				r.contestants[i].once = expected > runOnce
			}
			rows = append(rows, r)
		}
	}
	return rows
}
