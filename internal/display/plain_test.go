package display

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

func hook(kind, name string) *hooks.Hook {
	objects, err := hooks.ParseObjects("{apiVersion: " + map[string]string{"Job": "batch/v1"}[kind] + ", kind: " + kind + "}")
	if err != nil {
		panic(err)
	}
	return &hooks.Hook{Kind: kind, Name: name, Events: []hooks.Event{"pre-install"}, Weight: -5, Objects: objects}
}

// tell gives a display an event with an object that is created, a hook that
// succeeds, one that fails, one that can't be created and an interruption.
func tell(o hooks.Observer) {
	const event = "pre-install"
	account, migrate, seed, late := hook("ServiceAccount", "sa"), hook("Job", "migrate"), hook("Job", "seed"), hook("Job", "late")
	plan, err := hooks.NewPlan(event, []*hooks.Hook{account, migrate, seed, late, hook("Job", "never")}, hooks.PlanOptions{Parallelism: 3})
	if err != nil {
		panic(err)
	}
	after := func(d time.Duration) time.Time { return <-time.After(d) }
	o.Observe(hooks.EventStarted{Plan: plan})
	o.Observe(hooks.TierStarted{Event: event, Weight: -5})
	now := after(100 * time.Millisecond)
	o.Observe(hooks.HookStarted{Event: event, Hook: account, At: now})
	o.Observe(hooks.HookEnded{Event: event, Result: hooks.Result{Hook: account, Phase: hooks.Succeeded, StartedAt: now, CompletedAt: now}})
	start := after(1134 * time.Millisecond)
	o.Observe(hooks.HookStarted{Event: event, Hook: migrate, At: start})
	o.Observe(hooks.HookStarted{Event: event, Hook: seed, At: start})
	now = after(10 * time.Second)
	o.Observe(hooks.HookEnded{Event: event, Result: hooks.Result{Hook: seed, Phase: hooks.Failed, StartedAt: start, CompletedAt: now, Err: &hooks.HookError{Op: hooks.OpWait, Err: errors.New("1 error occurred:\n\t* job seed failed: Backoff\x1b[2J\n\n")}}})
	o.Observe(hooks.HookWarned{Event: event, Hook: seed, Message: "vanished\nwhile waiting"})
	o.Observe(hooks.Stopping{Event: event, Running: []*hooks.Hook{migrate, hook("Job", "b\x1b[31m")}, Queued: 3})
	o.Observe(hooks.HookEnded{Event: event, Result: hooks.Result{Hook: migrate, Phase: hooks.Succeeded, StartedAt: start, CompletedAt: now}})
	o.Observe(hooks.HookEnded{Event: event, Result: hooks.Result{Hook: late, Phase: hooks.Failed, Err: &hooks.HookError{Op: hooks.OpDelete, Err: errors.New("no")}}})
	o.Observe(hooks.TierEnded{Event: event, Weight: -5})
	o.Observe(hooks.EventEnded{Event: event, Err: errors.New("failed")})
}

var options = Options{Progress: true, Leave: "Press Ctrl-C again to leave at once."}

const alarms = `WARNING: pre-install hook Job/seed: vanished while waiting
Interrupted: no further hook starts (3 of pre-install won't run); waiting for 2 running hooks: Job/migrate, Job/b\x1b[31m. Press Ctrl-C again to leave at once.
`

func TestPlainProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tell(NewPlain(&out, options))
		const want = `pre-install, weight -5: 1 object to set up, then 4 Jobs, at most 3 at once
  00:00:00 +0.1s   created    ServiceAccount/sa
  00:00:01 +1.2s   started    Job/migrate
  00:00:01 +1.2s   started    Job/seed
  00:00:11 +11.2s  failed     Job/seed  10.0s: 1 error occurred: * job seed failed: Backoff\x1b[2J
A hook failed: no further hook starts (2 of pre-install won't run); waiting for 1 running hook: Job/migrate.
` + alarms + `  00:00:11 +11.2s  succeeded  Job/migrate  10.0s
  00:00:11 +11.2s  failed     Job/late: deleting the object of an earlier run: no
pre-install: 2 of 5 hooks succeeded in 11.2s; 2 failed, 1 never started
`
		if got := out.String(); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestPlainWithoutProgressShowsAlarmsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tell(NewPlain(&out, Options{Leave: options.Leave}))
		if got := out.String(); got != alarms {
			t.Errorf("got:\n%s\nwant:\n%s", got, alarms)
		}
	})
}

// TestIgnoredFailure: a failure that's of no matter is shown, and stops nothing.
func TestIgnoredFailure(t *testing.T) {
	tell := func(o hooks.Observer) {
		warm, other := hook("Job", "warm"), hook("Job", "other")
		plan, err := hooks.NewPlan("pre-install", []*hooks.Hook{warm, other}, hooks.PlanOptions{Parallelism: 2})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		ended := hooks.Result{Hook: warm, Phase: hooks.Failed, Ignored: true, StartedAt: now, CompletedAt: now.Add(2 * time.Second), Err: &hooks.HookError{Op: hooks.OpWait, Err: errors.New("no")}}
		o.Observe(hooks.EventStarted{Plan: plan})
		o.Observe(hooks.HookStarted{Event: "pre-install", Hook: warm, At: now})
		o.Observe(hooks.HookStarted{Event: "pre-install", Hook: other, At: now})
		time.Sleep(2 * time.Second)
		o.Observe(hooks.HookEnded{Event: "pre-install", Result: ended})
		well := hooks.Result{Hook: other, Phase: hooks.Succeeded, StartedAt: now, CompletedAt: now.Add(2 * time.Second)}
		o.Observe(hooks.HookEnded{Event: "pre-install", Result: well})
		o.Observe(hooks.EventEnded{Event: "pre-install", Results: []hooks.Result{ended, well}})
	}
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tell(NewPlain(&out, options))
		const want = `  00:00:00 +0.0s   started    Job/warm
  00:00:00 +0.0s   started    Job/other
  00:00:02 +2.0s   failed     Job/warm  2.0s: no; ignored, by its annotation
  00:00:02 +2.0s   succeeded  Job/other  2.0s
pre-install: 1 of 2 hooks succeeded in 2.0s; 1 failed, which is ignored
`
		if got := out.String(); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tell(NewJSON(&out, options))
		ignored := 0
		for line := range strings.Lines(out.String()) {
			var r Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if r.Ignored {
				ignored++
				if r.Type != "hook-ended" || r.Hook.Name != "warm" || r.Phase != "Failed" {
					t.Errorf("ignored: %s", line)
				}
			}
			if r.Type == "event-ended" && (*r.Failed != 1 || *r.Succeeded != 1 || r.Error != "") {
				t.Errorf("at the end: %s", line)
			}
		}
		if ignored != 1 {
			t.Errorf("%d ignored, want 1:\n%s", ignored, out.String())
		}
	})
}

// TestEventEnded: the last line of an event says what has become of all its hooks.
func TestEventEnded(t *testing.T) {
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		ends string // of the first hooks, as a letter each: that of its phase, I where a failure is ignored
		err  error
		want string
	}{
		"all":                 {"SSSSSS", nil, "6 hooks in 0.0s"},
		"all, and an error":   {"SSSSSS", failed, "6 of 6 hooks succeeded in 0.0s"},
		"one ignored":         {"SSISSS", nil, "5 of 6 hooks succeeded in 0.0s; 1 failed, which is ignored"},
		"one failed":          {"SSFSSS", failed, "5 of 6 hooks succeeded in 0.0s; 1 failed"},
		"some never started":  {"SSF", failed, "2 of 6 hooks succeeded in 0.0s; 1 failed, 3 never started"},
		"interrupted":         {"SS", failed, "2 of 6 hooks succeeded in 0.0s; 4 never started"},
		"left at once":        {"SSUU", failed, "2 of 6 hooks succeeded in 0.0s; 2 unknown, 2 never started"},
		"of every kind":       {"SFUI", failed, "1 of 6 hooks succeeded in 0.0s; 1 failed, 1 unknown, 2 never started; 1 more failed, which is ignored"},
		"ignored and stopped": {"SI", failed, "1 of 6 hooks succeeded in 0.0s; 4 never started; 1 failed, which is ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				p := NewPlain(&out, options)
				var all []*hooks.Hook
				for i := range 6 {
					all = append(all, hook("Job", fmt.Sprint(i)))
				}
				plan, err := hooks.NewPlan("pre-install", all, hooks.PlanOptions{Parallelism: 6})
				if err != nil {
					t.Fatal(err)
				}
				// Another event before it is of no matter.
				for _, ends := range []string{"FUI", test.ends} {
					p.Observe(hooks.EventStarted{Plan: plan})
					for i, phase := range ends {
						r := hooks.Result{Hook: all[i], Ignored: phase == 'I', StartedAt: time.Now()}
						r.Phase = map[rune]hooks.Phase{'S': hooks.Succeeded, 'F': hooks.Failed, 'I': hooks.Failed, 'U': hooks.Unknown}[phase]
						p.Observe(hooks.HookStarted{Hook: all[i], At: time.Now()})
						p.Observe(hooks.HookEnded{Result: r})
					}
					p.Observe(hooks.EventEnded{Err: test.err})
				}
				if got := out.String(); !strings.HasSuffix(got, "\npre-install: "+test.want+"\n") {
					t.Errorf("got:\n%s\nwant it to end with:\n%s", got, test.want)
				}
			})
		})
	}
}

// TestContents: what a weight holds, and how many of that run at once at most.
func TestContents(t *testing.T) {
	const (
		shop, db, cache, queue, mail = "shop", "shop/charts/db", "shop/charts/cache", "shop/charts/queue", "shop/charts/mail"

		byLimits = " at once by the charts' limits"
	)
	limit := func(n int, charts ...string) hooks.Limit { return hooks.Limit{Charts: charts, MaxParallel: n} }
	for name, test := range map[string]struct {
		hooks       string // as chart=number of Jobs; with a +, of Jobs and as many objects to set up
		parallelism int
		limits      []hooks.Limit
		want        string
	}{
		"few":                         {"shop=3", 8, nil, "3 Jobs"},
		"many":                        {"shop=10", 8, nil, "10 Jobs, at most 8 at once"},
		"many of both":                {"shop=+10", 8, nil, "10 objects to set up, then 10 Jobs, at most 8 at once"},
		"many objects":                {"shop=+5 db=-4", 8, nil, "9 objects to set up, at most 8 at once, then 5 Jobs"},
		"a limit of all":              {"shop=10", 8, []hooks.Limit{limit(3, shop)}, "10 Jobs, at most 3" + byLimits},
		"a limit of all, of few":      {"shop=4", 8, []hooks.Limit{limit(3, shop)}, "4 Jobs, at most 3" + byLimits},
		"a limit that's no matter":    {"shop=3", 8, []hooks.Limit{limit(3, shop)}, "3 Jobs"},
		"a limit above the user's":    {"shop=10", 8, []hooks.Limit{limit(9, shop)}, "10 Jobs, at most 8 at once"},
		"a limit as high as the user": {"shop=10", 8, []hooks.Limit{limit(8, shop)}, "10 Jobs, at most 8 at once"},
		"one at a time":               {"shop=2", 8, []hooks.Limit{limit(1, shop)}, "2 Jobs, at most 1" + byLimits},
		"a limit of some":             {"shop=2 db=5", 8, []hooks.Limit{limit(3, db)}, "7 Jobs, at most 5" + byLimits},
		"a limit of some, enough":     {"shop=6 db=5", 8, []hooks.Limit{limit(3, db)}, "11 Jobs, at most 8 at once"},
		"two limits":                  {"db=5 cache=5", 8, []hooks.Limit{limit(3, db), limit(1, cache)}, "10 Jobs, at most 4" + byLimits},
		"a limit within another":      {"shop=2 db=5", 8, []hooks.Limit{limit(4, shop), limit(1, db)}, "7 Jobs, at most 3" + byLimits},
		"a limit around another":      {"shop=9 db=5", 8, []hooks.Limit{limit(4, shop), limit(1, db)}, "14 Jobs, at most 4" + byLimits},
		"of two charts together":      {"db=5 cache=5", 8, []hooks.Limit{limit(2, db, cache), limit(1, cache)}, "10 Jobs, at most 2" + byLimits},
		"limits that overlap": {"db=1 cache=1 queue=1 mail=1", 8, []hooks.Limit{limit(1, db, cache), limit(1, queue, mail), limit(1, cache, queue)},
			"4 Jobs, at most 2" + byLimits},
		"a limit of both":        {"shop=+5", 8, []hooks.Limit{limit(3, shop)}, "5 objects to set up, then 5 Jobs, at most 3" + byLimits},
		"a limit of one of both": {"shop=-5 db=5", 8, []hooks.Limit{limit(3, db)}, "5 objects to set up, then 5 Jobs, at most 3" + byLimits},
		"one after another":      {"shop=2", 1, []hooks.Limit{limit(1, shop)}, "2 Jobs, at most 1 at once"},
	} {
		t.Run(name, func(t *testing.T) {
			var all []*hooks.Hook
			for field := range strings.FieldsSeq(test.hooks) {
				folder, number, _ := strings.Cut(field, "=")
				if folder != shop {
					folder = shop + "/charts/" + folder
				}
				n, err := strconv.Atoi(strings.TrimLeft(number, "+-"))
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					for _, kind := range map[string][]string{"+": {"ServiceAccount", "Job"}, "-": {"ServiceAccount"}}[number[:1]] {
						all = append(all, hook(kind, fmt.Sprint(folder, i)))
					}
					if !strings.ContainsAny(number, "+-") {
						all = append(all, hook("Job", fmt.Sprint(folder, i)))
					}
				}
				for _, h := range all {
					if h.Path == "" {
						h.Path = folder + "/templates/a.yaml"
					}
				}
			}
			plan, err := hooks.NewPlan("pre-install", all, hooks.PlanOptions{Parallelism: test.parallelism, Limits: test.limits})
			if err != nil {
				t.Fatal(err)
			}
			if got := contents(plan, 0); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestWaiting(t *testing.T) {
	var many []*hooks.Hook
	for i := range 13 {
		many = append(many, hook("Job", fmt.Sprint(i)))
	}
	for _, test := range []struct {
		running []*hooks.Hook
		want    string
	}{
		{nil, "no further hook starts."},
		{many[:1], "no further hook starts; waiting for 1 running hook: Job/0."},
		{many, "no further hook starts; waiting for 13 running hooks: Job/0, Job/1, Job/2, Job/3, Job/4, Job/5, Job/6, Job/7, Job/8, Job/9, and 3 more."},
	} {
		if got := waiting("pre-install", test.running, 0); got != test.want {
			t.Errorf("waiting for %d hooks:\ngot  %s\nwant %s", len(test.running), got, test.want)
		}
	}
}

// TestHeartbeat: a log says every half a minute what still runs and what it does.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := NewPlain(&out, options)
		var all []*hooks.Hook
		for i := range 12 {
			all = append(all, hook("Job", fmt.Sprintf("job-%02d", i)))
		}
		plan, err := hooks.NewPlan("pre-install", all, hooks.PlanOptions{Parallelism: 12})
		if err != nil {
			t.Fatal(err)
		}
		p.Observe(hooks.EventStarted{Plan: plan})
		for _, h := range all {
			p.Observe(hooks.HookStarted{Hook: h, At: time.Now()})
		}
		p.Observe(hooks.HookProgressed{Hook: all[1], Activity: "ImagePullBackOff: \x1b[2J"})
		time.Sleep(61 * time.Second)
		p.Observe(hooks.EventEnded{Err: errors.New("no")})
		const want = `  00:01:00 +60.0s  12 hooks of pre-install still running: Job/job-00 60s, Job/job-01 60s (ImagePullBackOff: \x1b[2J), Job/job-02 60s, Job/job-03 60s, Job/job-04 60s, Job/job-05 60s, Job/job-06 60s, Job/job-07 60s, Job/job-08 60s, Job/job-09 60s, and 2 more
pre-install: 0 of 12 hooks succeeded in 61.0s
`
		got := out.String()
		if !strings.HasSuffix(got, want) || strings.Count(got, " still running: ") != 2 {
			t.Errorf("got:\n%s\nwant it to end with:\n%s", got, want)
		}
	})
}

func TestLogLines(t *testing.T) {
	source := hooks.LogSource{Hook: hook("Job", "migrate\x1b"), Pod: "p", Container: "main", Alone: true, Attempt: 1}
	several := source
	several.Alone, several.Attempt = false, 3
	const text = "\x1b[32mgreen\x1b[0m\tand \x1b]0;title\x07\r\nhalf a line"
	for _, test := range []struct {
		serial bool
		source hooks.LogSource
		want   string
	}{
		{true, source, text},
		{false, source, "[migrate\\x1b] green\tand \n[migrate\\x1b] half a line\n"},
		{false, several, "[migrate\\x1b/main#3] green\tand \n[migrate\\x1b/main#3] half a line\n"},
		{false, hooks.LogSource{Hook: source.Hook}, "[migrate\\x1b] green\tand \n[migrate\\x1b] half a line\n"},
	} {
		if got := string(logLines(test.serial, false, test.source, []byte(text))); got != test.want {
			t.Errorf("lines of %+v: got %q, want %q", test.source, got, test.want)
		}
	}
}

// oneWrite counts calls of Write.
type oneWrite struct {
	bytes.Buffer
	calls int
}

func (w *oneWrite) Write(b []byte) (int, error) {
	w.calls++
	return w.Buffer.Write(b)
}

func TestEachLineIsOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out oneWrite
		tell(NewPlain(&out, options))
		if lines := bytes.Count(out.Bytes(), []byte("\n")); out.calls != lines {
			t.Errorf("%d writes for %d lines", out.calls, lines)
		}
	})
}

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"orders-migrate": "orders-migrate",
		"größe \"x\" 数":  "größe \"x\" 数",
		"a\x1b[2Jb":      `a\x1b[2Jb`,
		"a\nb\r":         `a\nb\r`,
		"a\tb":           `a\tb`,
		"\u202eevil":     `\u202eevil`,
		"\xff":           `\xff`,
		"\ufffd":         "\ufffd",
		"":               "",
	} {
		if got := Printable(s); got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
	}
	if got, want := PrintableLine("a\tb\x1b"), "a\tb\\x1b"; got != want {
		t.Errorf("PrintableLine: got %q, want %q", got, want)
	}
}
