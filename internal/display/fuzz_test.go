package display

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8/cwriter"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// hostileTexts are by which a chart, a container or a cluster might try to get at
// those who look.
var hostileTexts = []string{
	"orders-migrate",
	"\x1b[2J\x1b[31mred\x1b[0m\x1b]0;title\x07",
	"\x1b[5A\x1b[J", "\r\x1b[J", // as a live display's own
	"\x9b2J", "\u009b2J\u0085\u008d", "\x7f\b\b\v\f\r\x00",
	"\u202eevil\u202c \u2066a\u2069 \u200f\u061c\u200e", "\u2028\u2029\ufeff\u00ad\u200b\U000e0041\U0010ffff",
	"\xff\xc3\xed\xa0\x80\xf4\x90\x80\x80", "\ufffd", "%s%d%!", "a\tb\n\tc\r\nd", "数据\u0301\u20dd👩‍👩‍👧", "\"'\\<>&",
	"",
}

// unsafe returns the first of a text that a terminal would obey, or that would make
// it show something else than what is there; empty if there's nothing of that kind.
func unsafe(text string) string {
	for i, r := range text {
		switch {
		case r == '\n':
		case r < ' ', 0x7f <= r && r <= 0x9f, // C0, DEL and C1 controls
			r == 0x061c, r == 0x200e, r == 0x200f, 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069, // directions
			r == 0x2028, r == 0x2029,
			r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd"):
			return text[i:min(i+10, len(text))]
		}
	}
	return ""
}

func FuzzPrintable(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, line := Printable(s), PrintableLine(s)
		if bad := unsafe(got); bad != "" || strings.Contains(got, "\n") {
			t.Errorf("Printable(%q) = %q, which holds %q", s, got, bad)
		}
		if again := Printable(got); again != got {
			t.Errorf("Printable(%q) = %q, once more %q", s, got, again)
		}
		if harmless := regexp.MustCompile(`^[ -~\t]*$`).MatchString(s); harmless && line != s {
			t.Errorf("PrintableLine(%q) = %q, but there's nothing to escape", s, line)
		}
		if want := strings.ReplaceAll(line, "\t", `\t`); got != want {
			t.Errorf("Printable(%q) = %q, want %q", s, got, want)
		}
	})
}

// story is what a display is told, with the texts that a chart or a cluster has a say
// in.
type story struct {
	kind, name, path, text string
	list                   bool
	parallelism            int
}

// tell gives the display an event with all kinds of notices, and calls look while
// hooks run.
func (s story) tell(d Display, look func()) {
	const event = "pre-install"
	objects := hook("Job", "a").Objects
	if s.list {
		objects = append(objects, hook("Pod", "a").Objects...)
	}
	one := &hooks.Hook{Kind: s.kind, Name: s.name, Path: s.path, Events: []hooks.Event{event}, Objects: objects}
	object := &hooks.Hook{Kind: s.kind, Name: s.name, Path: s.path, Events: []hooks.Event{event}, Objects: hook("ConfigMap", "a").Objects}
	plan, err := hooks.NewPlan(event, []*hooks.Hook{one, object}, hooks.PlanOptions{Parallelism: s.parallelism})
	if err != nil {
		panic(err)
	}
	now := time.Now()
	failed := hooks.Result{Hook: one, Phase: hooks.Failed, StartedAt: now, CompletedAt: now, Err: &hooks.HookError{
		Event: event, Hook: one, Op: hooks.OpWait, Err: errors.New(s.text),
		Findings: []hooks.Finding{{Pod: s.name, Container: s.name, Reason: s.text, Message: s.text, Log: []string{s.text}}},
	}}
	created := hooks.Result{Hook: object, Phase: hooks.Succeeded, StartedAt: now, CompletedAt: now}
	d.Observe(hooks.EventStarted{Plan: plan})
	d.Observe(hooks.TierStarted{Event: event})
	d.Observe(hooks.HookStarted{Event: event, Hook: object, At: now})
	d.Observe(hooks.HookEnded{Event: event, Result: created})
	d.Observe(hooks.HookStarted{Event: event, Hook: one, At: now})
	d.Observe(hooks.HookProgressed{Event: event, Hook: one, Activity: s.text})
	look()
	d.Observe(hooks.HookWarned{Event: event, Hook: one, Message: s.text})
	d.Observe(hooks.Stopping{Event: event, Running: []*hooks.Hook{one}, Queued: 1})
	d.Observe(hooks.HookEnded{Event: event, Result: failed})
	d.Observe(hooks.EventEnded{Event: event, Results: []hooks.Result{created, failed}, Err: errors.New(s.text)})
}

// log gives the display logs of a hook.
func (s story) log(d Display, text string) {
	source := hooks.LogSource{Hook: &hooks.Hook{Kind: s.kind, Name: s.name}}
	d.Log(source, []byte(text))
	source.Pod, source.Container, source.Attempt = s.name, s.name, 2
	d.Log(source, []byte(text))
}

func addStories(f *testing.F) {
	for i, s := range hostileTexts {
		next := hostileTexts[(i+1)%len(hostileTexts)]
		f.Add("Job", s, next, next, s+"\n"+next, false, byte(4))
		f.Add(s, next, s, next, next+"\r\n"+s, true, byte(1))
	}
}

// fuzzStories calls check with stories and a log.
func fuzzStories(f *testing.F, check func(t *testing.T, s story, log string)) {
	addStories(f)
	f.Fuzz(func(t *testing.T, kind, name, path, text, log string, list bool, parallelism byte) {
		synctest.Test(t, func(t *testing.T) {
			check(t, story{kind, name, path, text, list, max(1, int(parallelism%5))}, log)
		})
	})
}

// harmless is a story of the same notices.
func (s story) harmless() story {
	return story{kind: "Job", name: "a", path: "b", text: "c", list: s.list, parallelism: s.parallelism}
}

// FuzzPlain: of the lines of a log none is obeyed by a terminal, and none is another's
// doing.
func FuzzPlain(f *testing.F) {
	fuzzStories(f, func(t *testing.T, s story, log string) {
		tell := func(s story, color bool) (out bytes.Buffer) {
			p := NewPlain(&out, Options{Progress: true, Leave: "Leave.", Color: color})
			s.tell(p, func() { time.Sleep(heartbeat + time.Second) })
			p.Close()
			return out
		}
		out, want := tell(s, false), tell(s.harmless(), false)
		if bad := unsafe(out.String()); bad != "" {
			t.Errorf("%q got through:\n%s", bad, out.String())
		}
		if got, want := bytes.Count(out.Bytes(), []byte("\n")), bytes.Count(want.Bytes(), []byte("\n")); got != want {
			t.Errorf("%d lines, want %d:\n%s", got, want, out.String())
		}
		colored := tell(s, true)
		black, white := clocks.ReplaceAllString(out.String(), ""), clocks.ReplaceAllString(ownColors.ReplaceAllString(colored.String(), ""), "")
		if black != white {
			t.Errorf("with colours:\n%q\nwithout:\n%q", white, black)
		}

		// A serial run's logs are shown as Helm does.
		var logs bytes.Buffer
		p := NewPlain(&logs, Options{})
		plan, err := hooks.NewPlan("test", nil, hooks.PlanOptions{Parallelism: 2})
		if err != nil {
			t.Fatal(err)
		}
		p.Observe(hooks.EventStarted{Plan: plan})
		s.log(p, log)
		p.Close()
		if bad := unsafe(strings.ReplaceAll(logs.String(), "\t", "")); bad != "" {
			t.Errorf("%q got through:\n%s", bad, logs.String())
		}
		lines := 0
		for range strings.Lines(log) {
			lines += 2
		}
		if got := strings.Count(logs.String(), "\n"); got != lines {
			t.Errorf("%d lines of logs, want %d:\n%s", got, lines, logs.String())
		}
	})
}

var (
	ownColors = regexp.MustCompile(`\x1b\[\d+m`)
	clocks    = regexp.MustCompile(`\d\d:\d\d:\d\d`)
)

// regionDrawn is what a live display tells the terminal to erase its region.
var regionDrawn = regexp.MustCompile(`\x1b\[\d+A\x1b\[J|\r\x1b\[J`)

// FuzzLive: nothing but the display itself moves the cursor, and no line of the region
// is broken by the terminal.
func FuzzLive(f *testing.F) {
	fuzzStories(f, func(t *testing.T, s story, log string) {
		const width, height = 40, 6
		var out bytes.Buffer
		l := newLive(cwriter.New(&out), func() (int, int, error) { return width, height, nil }, Options{Leave: "Leave."})
		if s.parallelism > 1 {
			s.log(l, "") // before any event
		}
		s.tell(l, func() {
			if s.parallelism > 1 {
				s.log(l, log)
			}
			time.Sleep(3 * refreshInterval)
			l.plain.mu.Lock()
			l.mu.Lock()
			region := l.region(time.Now(), width, height)
			l.mu.Unlock()
			l.plain.mu.Unlock()
			if len(region) != 2 {
				t.Errorf("the region has %d lines, want 2", len(region))
			}
			for _, line := range region {
				if bad := unsafe(line.text); bad != "" || strings.Contains(line.text, "\n") {
					t.Errorf("%q is in the region: %q", bad, line.text)
				}
				if w := runewidth.StringWidth(line.text); w >= width || w != line.width {
					t.Errorf("%q is %d wide, want at most %d, and %d was noted", line.text, w, width-1, line.width)
				}
			}
		})
		l.Close()
		left := strings.ReplaceAll(regionDrawn.ReplaceAllString(out.String(), ""), "\t", "")
		if bad := unsafe(left); bad != "" {
			t.Errorf("%q got through:\n%q", bad, left)
		}
	})
}

// FuzzJSON: each line is an object, which says what there was to say, and does no
// harm in a terminal.
func FuzzJSON(f *testing.F) {
	fuzzStories(f, func(t *testing.T, s story, log string) {
		var out bytes.Buffer
		j := NewJSON(&out, Options{Leave: "Leave."})
		s.tell(j, func() { s.log(j, log) })
		j.Close()
		if bad := unsafe(out.String()); bad != "" {
			t.Errorf("%q got through:\n%s", bad, out.String())
		}
		var logged []string
		types := 0
		for line := range strings.Lines(out.String()) {
			var r Record
			if err := json.Unmarshal([]byte(line), &r); err != nil || r.SchemaVersion != JSONVersion {
				t.Fatalf("no object: %v: %s", err, line)
			}
			switch r.Type {
			case "hook-logged":
				logged = append(logged, *r.Line)
			case "hook-warned":
				if want := strings.ToValidUTF8(s.text, "\ufffd"); len(r.Message) < len(want)/3 || utf8.ValidString(s.text) && r.Message != s.text {
					t.Errorf("message %q, want %q", r.Message, want)
				}
				fallthrough
			default:
				types++
			}
			if r.Hook != nil && utf8.ValidString(s.name+"/"+s.kind) && (r.Hook.Name != s.name || r.Hook.Kind != s.kind) {
				t.Errorf("hook %+v, want %s %s", r.Hook, s.kind, s.name)
			}
		}
		if want := 10; types != want {
			t.Errorf("%d objects beside logs, want %d:\n%s", types, want, out.String())
		}
		var want []string
		for range 2 {
			for line := range strings.Lines(log) {
				want = append(want, strings.TrimSuffix(line, "\n"))
			}
		}
		if len(logged) != len(want) {
			t.Fatalf("%d lines were logged, want %d", len(logged), len(want))
		}
		for i := range want {
			if utf8.ValidString(want[i]) && logged[i] != want[i] {
				t.Errorf("logged %q, want %q", logged[i], want[i])
			}
		}
	})
}
