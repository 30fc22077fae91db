package display

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func job(name string) *hooks.Hook { return &hooks.Hook{Kind: "Job", Name: name, Weight: -5} }

// tell gives a display an event with a hook that succeeds, one that fails, one
// that can't be created and an interruption.
func tell(o hooks.Observer) {
	event := hooks.Event("pre-install")
	o.Observe(hooks.EventStarted{Plan: &hooks.Plan{Event: event}})
	start := time.Now()
	o.Observe(hooks.TierStarted{Event: event, Weight: -5})
	time.Sleep(1234 * time.Millisecond)
	o.Observe(hooks.HookStarted{Event: event, Hook: job("migrate"), At: time.Now()})
	time.Sleep(10 * time.Second)
	o.Observe(hooks.HookEnded{Event: event, Result: hooks.Result{Hook: job("migrate"), Phase: hooks.Succeeded, StartedAt: start, CompletedAt: time.Now()}})
	o.Observe(hooks.HookEnded{Event: event, Result: hooks.Result{Hook: job("seed"), Phase: hooks.Failed, StartedAt: start, CompletedAt: time.Now(), Err: &hooks.HookError{Op: hooks.OpWait, Err: errors.New("1 error occurred:\n\t* job seed failed: Backoff\x1b[2J\n\n")}}})
	o.Observe(hooks.HookWarned{Event: event, Hook: job("seed"), Message: "vanished\nwhile waiting"})
	o.Observe(hooks.Stopping{Event: event, Running: []*hooks.Hook{job("a"), job("b\x1b[31m")}, Queued: 3})
	o.Observe(hooks.HookEnded{Event: event, Result: hooks.Result{Hook: job("late"), Phase: hooks.Failed, Err: &hooks.HookError{Op: hooks.OpWait, Err: errors.New("no")}}})
	o.Observe(hooks.TierEnded{Event: event, Weight: -5})
	o.Observe(hooks.EventEnded{Event: event})
}

const alarms = `WARNING: pre-install hook Job/seed: vanished while waiting
Interrupted: no further hook starts (3 of pre-install won't run); waiting for 2 running hooks: Job/a, Job/b\x1b[31m. Press Ctrl-C again to leave at once.
`

func TestPlainProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tell(NewPlain(&out, true))
		const want = `pre-install  +1.2s    started    Job/migrate (weight -5)
pre-install  +11.2s   succeeded  Job/migrate (weight -5) after 11.2s
pre-install  +11.2s   failed     Job/seed (weight -5) after 11.2s: 1 error occurred: * job seed failed: Backoff\x1b[2J
` + alarms + `pre-install  +11.2s   failed     Job/late (weight -5): no
`
		if got := out.String(); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestPlainWithoutProgressShowsAlarmsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tell(NewPlain(&out, false))
		if got := out.String(); got != alarms {
			t.Errorf("got:\n%s\nwant:\n%s", got, alarms)
		}
	})
}

func TestStopping(t *testing.T) {
	var many []*hooks.Hook
	for i := range 13 {
		many = append(many, job(fmt.Sprint(i)))
	}
	for _, test := range []struct {
		notice hooks.Stopping
		want   string
	}{
		{hooks.Stopping{}, "Interrupted: no further hook starts."},
		{hooks.Stopping{Running: many[:1]}, "Interrupted: no further hook starts; waiting for 1 running hook: Job/0. Press Ctrl-C again to leave at once."},
		{hooks.Stopping{Running: many}, "Interrupted: no further hook starts; waiting for 13 running hooks: Job/0, Job/1, Job/2, Job/3, Job/4, Job/5, Job/6, Job/7, Job/8, Job/9, and 3 more. Press Ctrl-C again to leave at once."},
	} {
		if got := stopping(test.notice); got != test.want {
			t.Errorf("stopping(%d hooks):\ngot  %s\nwant %s", len(test.notice.Running), got, test.want)
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
		tell(NewPlain(&out, true))
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
		"a\tb":           "a\tb",
		"\u202eevil":     `\u202eevil`,
		"\xff":           `\xff`,
		"\ufffd":         "\ufffd",
		"":               "",
	} {
		if got := Printable(s); got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
	}
}
