package display

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8/cwriter"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// screen is a terminal as far as a live display uses one: it knows new lines, the
// cursor going up and the erasure of what's below, and breaks lines at its width.
type screen struct {
	mu    sync.Mutex
	width int
	lines []string // whole ones, and the one with the cursor at its end
}

var upAndErase = regexp.MustCompile(`^\x1b\[(\d+)A\x1b\[J`)

func (s *screen) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.show(string(text))
	return len(text), nil
}

func (s *screen) show(text string) {
	if len(s.lines) == 0 {
		s.lines = []string{""}
	}
	for rest := text; rest != ""; {
		if found := upAndErase.FindStringSubmatch(rest); found != nil {
			up, _ := strconv.Atoi(found[1])
			rest = rest[len(found[0]):]
			at := max(0, len(s.lines)-1-up)
			s.lines = append(s.lines[:at], "")
			continue
		}
		last := &s.lines[len(s.lines)-1]
		if strings.HasPrefix(rest, "\r\x1b[J") {
			*last = ""
			rest = rest[len("\r\x1b[J"):]
			continue
		}
		if rest[0] == '\n' {
			s.lines = append(s.lines, "")
			rest = rest[1:]
			continue
		}
		r := []rune(rest)[0]
		if runewidth.StringWidth(*last)+runewidth.RuneWidth(r) > s.width {
			s.lines = append(s.lines, "")
			last = &s.lines[len(s.lines)-1]
		}
		*last += string(r)
		rest = rest[len(string(r)):]
	}
}

// resize breaks lines anew, as a terminal does that becomes narrower.
func (s *screen) resize(width int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := strings.Join(s.lines, "\n")
	s.lines, s.width = nil, width
	s.show(old)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b bytes.Buffer
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// onScreen returns a live display on a screen.
func onScreen(s *screen, height int, options Options) *Live {
	return newLive(cwriter.New(s), func() (int, int, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.width, height, nil
	}, options)
}

// begin tells of an event with so many hooks, all of which have started.
func begin(l *Live, n, parallelism int) []*hooks.Hook {
	var all []*hooks.Hook
	for i := range n {
		all = append(all, hook("Job", fmt.Sprintf("migrate-%03d", i)))
	}
	plan, err := hooks.NewPlan("pre-install", all, hooks.PlanOptions{Parallelism: parallelism})
	if err != nil {
		panic(err)
	}
	l.Observe(hooks.EventStarted{Plan: plan})
	l.Observe(hooks.TierStarted{Event: "pre-install", Weight: -5})
	for _, h := range all[:min(n, parallelism)] {
		l.Observe(hooks.HookStarted{Event: "pre-install", Hook: h, At: time.Now()})
	}
	return all
}

func end(l *Live, h *hooks.Hook, phase hooks.Phase, began time.Time) {
	r := hooks.Result{Hook: h, Phase: phase, StartedAt: began, CompletedAt: time.Now()}
	if phase == hooks.Failed {
		r.Err = &hooks.HookError{Op: hooks.OpWait, Err: &hooks.EndedBadly{Kind: "Job", Name: h.Name, Reason: "BackoffLimitExceeded"}}
	}
	l.Observe(hooks.HookEnded{Event: "pre-install", Result: r})
}

func wantScreen(t *testing.T, s *screen, want string) {
	t.Helper()
	if got := s.String(); got != want {
		t.Errorf("the screen shows:\n%s\nwant:\n%s", got, want)
	}
}

func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 60}
		l := onScreen(s, 24, Options{Duration: func(*hooks.Hook) (time.Duration, bool) { return 4 * time.Second, true }})
		defer l.Close()
		began := time.Now()
		all := begin(l, 4, 2)
		l.Observe(hooks.HookProgressed{Hook: all[0], Activity: "ImagePullBackOff: Back-off pulling image \"registry.example/x\"\x1b[2J"})
		time.Sleep(1500 * time.Millisecond)
		end(l, all[1], hooks.Succeeded, began)
		_, _ = l.Write([]byte("a warning of somebody\nhalf a"))
		l.Observe(hooks.HookStarted{Event: "pre-install", Hook: all[2], At: time.Now()})
		time.Sleep(refreshInterval + time.Millisecond)
		synctest.Wait()
		wantScreen(t, s, `pre-install, weight -5: 4 Jobs, at most 2 at once
  00:00:01 +1.5s   succeeded  Job/migrate-001  1.5s
a warning of somebody
pre-install, weight -5: 1 of 4 done, 2 running, 1 queued; …
  Job/migrate-000    1.6s  ImagePullBackOff: Back-off pull…
  Job/migrate-002    0.1s
`)
		_, _ = l.Write([]byte(" line\n"))
		end(l, all[0], hooks.Failed, began)
		end(l, all[2], hooks.Succeeded, began)
		l.Observe(hooks.EventEnded{Event: "pre-install", Err: fmt.Errorf("failed")})
		wantScreen(t, s, `pre-install, weight -5: 4 Jobs, at most 2 at once
  00:00:01 +1.5s   succeeded  Job/migrate-001  1.5s
a warning of somebody
half a line
  00:00:01 +1.6s   failed     Job/migrate-000  1.6s: job mig
rate-000 failed: BackoffLimitExceeded
A hook failed: no further hook starts (1 of pre-install won'
t run); waiting for 1 running hook: Job/migrate-002.
  00:00:01 +1.6s   succeeded  Job/migrate-002  1.6s
pre-install: 2 of 4 hooks succeeded in 1.6s; 1 failed, 1 nev
er started
`)
		_, _ = l.Write([]byte("afterwards\n"))
		if !strings.HasSuffix(s.String(), "er started\nafterwards\n") {
			t.Errorf("what is written afterwards is not at the end:\n%s", s)
		}
	})
}

// TestLiveWhileStopping: hooks that no longer start aren't said to be queued, until the next event.
func TestLiveWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 100}
		l := onScreen(s, 24, Options{KeepGoing: true})
		defer l.Close()
		all := begin(l, 4, 2)
		l.Observe(hooks.Stopping{Event: "pre-install", Running: all[:2], Queued: 2})
		for _, want := range []string{"2 running, 2 won't run; 0.1s", "2 running, 2 queued; 0.1s"} {
			time.Sleep(refreshInterval + time.Millisecond)
			synctest.Wait()
			if got := s.String(); !strings.Contains(got, "\npre-install, weight -5: 0 of 4 done, "+want+"\n") {
				t.Errorf("the screen shows:\n%s\nwant it to say %s", got, want)
			}
			l.Observe(hooks.EventEnded{Event: "pre-install", Err: fmt.Errorf("interrupted")})
			begin(l, 4, 2)
		}
	})
}

// TestLiveInSmallWindow: the region is never higher or wider than the window, or the
// terminal would scroll it out of reach.
func TestLiveInSmallWindow(t *testing.T) {
	for _, size := range []struct{ width, height int }{{20, 5}, {1, 1}, {80, 2}, {10, 24}, {200, 60}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &screen{width: size.width}
				l := onScreen(s, size.height, Options{Color: false})
				defer l.Close()
				begin(l, 200, 50)
				for range 3 {
					time.Sleep(refreshInterval + time.Millisecond)
					synctest.Wait()
					l.plain.mu.Lock()
					l.mu.Lock()
					lines := l.region(time.Now(), size.width, size.height)
					l.mu.Unlock()
					l.plain.mu.Unlock()
					if len(lines) > max(1, size.height-1) {
						t.Errorf("%d lines in a window of %d", len(lines), size.height)
					}
					for _, line := range lines {
						if line.width > max(1, size.width-1) {
							t.Errorf("a line of %d cells in a window of %d: %q", line.width, size.width, line.text)
						}
					}
				}
			})
		})
	}
}

// TestLiveInWindowThatShrinks: lines that the terminal has broken are taken away too.
func TestLiveInWindowThatShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 80}
		l := onScreen(s, 24, Options{})
		defer l.Close()
		all := begin(l, 2, 2)
		time.Sleep(refreshInterval + time.Millisecond)
		synctest.Wait()
		s.resize(30)
		time.Sleep(refreshInterval + time.Millisecond)
		synctest.Wait()
		for _, h := range all {
			end(l, h, hooks.Succeeded, time.Now())
		}
		l.Observe(hooks.EventEnded{Event: "pre-install"})
		if got := s.String(); strings.Contains(got, "running") || !strings.HasPrefix(got, "pre-install, weight -5: 2 Jobs\n") {
			t.Errorf("something of the region is left, or too much was taken away:\n%s", got)
		}
	})
}

func TestLiveColors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 200}
		l := onScreen(s, 24, Options{Color: true})
		defer l.Close()
		all := begin(l, 1, 2)
		end(l, all[0], hooks.Failed, time.Now())
		l.Observe(hooks.EventEnded{Event: "pre-install", Err: fmt.Errorf("no")})
		if !strings.Contains(s.String(), "\x1b[31mfailed   \x1b[0m") {
			t.Errorf("no red: %q", s)
		}
	})
}

func TestClosedLiveLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 80}
		l := onScreen(s, 24, Options{})
		defer l.Close()
		all := begin(l, 2, 2)
		time.Sleep(refreshInterval + time.Millisecond)
		synctest.Wait()
		l.Close()
		end(l, all[0], hooks.Succeeded, time.Now())
		wantScreen(t, s, "pre-install, weight -5: 2 Jobs\n")
	})
}

// stalled is a terminal that takes nothing until it's freed.
type stalled struct {
	freed chan struct{}
	shown bytes.Buffer
}

func (s *stalled) Write(text []byte) (int, error) {
	<-s.freed
	return s.shown.Write(text)
}

// TestStalledTerminalHoldsNothingUp: whatever is told or written, nobody waits long for a terminal, and it's said what
// it didn't take.
func TestStalledTerminalHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stalled{freed: make(chan struct{})}
		l := newLive(cwriter.New(s), func() (int, int, error) { return 100, 24, nil }, Options{})
		began := time.Now()
		all := begin(l, 4, 4)
		time.Sleep(time.Second)
		waited := time.Now()
		for _, h := range all {
			end(l, h, hooks.Succeeded, began)
		}
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for range backlog/1024 + 10 {
			l.Log(hooks.LogSource{Hook: all[0], Alone: true}, line)
		}
		if took := time.Since(waited); took > 0 {
			t.Errorf("notices and logs were held up for %v", took)
		}
		l.Observe(hooks.EventEnded{Event: "pre-install"})
		_, _ = l.Write([]byte("afterwards\n"))
		if took := time.Since(waited); took > 2*patience {
			t.Errorf("the operation was held up for %v", took)
		}
		close(s.freed)
		l.Close()
		if !strings.Contains(s.shown.String(), " lines are left out here, since the terminal didn't take them.\n") {
			t.Error("it isn't said that something is missing")
		}
	})
}

// TestDetachedLiveLeavesTheTerminalAlone: a shell that has its terminal back gets lines, and no region.
func TestDetachedLiveLeavesTheTerminalAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 200}
		l := onScreen(s, 24, Options{Detached: true, Leave: "To leave at once: kill 7"})
		defer l.Close()
		all := begin(l, 2, 2)
		time.Sleep(refreshInterval + time.Millisecond)
		l.Observe(hooks.Stopping{Event: "pre-install", Running: all})
		time.Sleep(heartbeat + refreshInterval)
		synctest.Wait()
		wantScreen(t, s, `pre-install, weight -5: 2 Jobs
Interrupted: no further hook starts; waiting for 2 running hooks: Job/migrate-000, Job/migrate-001. To leave at once: kill 7
  00:00:30 +30.1s  2 hooks of pre-install still running: Job/migrate-000 30s, Job/migrate-001 30s
`)
		l.Observe(hooks.EventEnded{Event: "pre-install", Err: fmt.Errorf("interrupted")})
		begin(l, 1, 2)
		time.Sleep(refreshInterval + time.Millisecond)
		synctest.Wait()
		if got := s.String(); strings.Contains(got, "1 running") {
			t.Errorf("a region is drawn:\n%s", got)
		}
		l.Observe(hooks.EventEnded{Event: "pre-install"})
	})
}

// TestKeysDoNotDisturb: what a terminal echoes leaves the cursor elsewhere.
func TestKeysDoNotDisturb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{width: 80}
		l := onScreen(s, 24, Options{})
		defer l.Close()
		begin(l, 1, 2)
		time.Sleep(refreshInterval + time.Millisecond)
		synctest.Wait()
		_, _ = s.Write([]byte("^C"))
		time.Sleep(refreshInterval)
		synctest.Wait()
		wantScreen(t, s, `pre-install, weight -5: 1 Job
pre-install, weight -5: 0 of 1 done, 1 running; 0.2s
  Job/migrate-000    0.2s
`)
		l.Observe(hooks.EventEnded{Event: "pre-install"})
	})
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                    "0.0s",
		9400 * time.Millisecond:         "9.4s",
		65 * time.Second:                "1m05s",
		2*time.Hour + 3*time.Minute + 4: "2h03m",
	} {
		if got := clock(d); got != want {
			t.Errorf("clock(%v) = %q, want %q", d, got, want)
		}
	}
}
