package display

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8/cwriter"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// refreshInterval is how often a live display is drawn.
const refreshInterval = 100 * time.Millisecond

// The size of a terminal that doesn't tell its own.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Live shows in a terminal what is under way, in a region at the bottom that is
// drawn anew while an event's hooks run. What has ended, and what others write,
// scrolls away above it.
type Live struct {
	plain *Plain // knows what runs, and writes what has ended

	drawing sync.WaitGroup
	left    bool // the terminal is somebody else's by now

	mu     sync.Mutex // guards what follows; held during output
	screen *cwriter.Writer
	size   func() (width, height int, err error)
	stop   chan struct{} // ends the drawing; nil while no event runs
	// above is what is yet to be written above the region. Its last line is
	// not whole.
	above bytes.Buffer
	// widths are those of the lines of the region on the screen.
	widths []int
	tier   hooks.TierStarted
	// expected is how long the event is expected to take; zero: not known.
	expected time.Duration
}

// NewLive returns a display on a terminal.
func NewLive(terminal *os.File, options Options) *Live {
	l := &Live{screen: cwriter.New(terminal)}
	l.size = l.screen.GetTermSize
	options.Progress = true
	l.plain = NewPlain(l, options)
	l.plain.quiet = true
	return l
}

// Write implements [Display].
func (l *Live) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.above.Write(text)
	if l.stop == nil {
		l.draw(nil)
	}
	return len(text), nil
}

// Log implements [hooks.LogSink].
func (l *Live) Log(source hooks.LogSource, text []byte) { l.plain.Log(source, text) }

// Close implements [Display].
func (l *Live) Close() {
	l.plain.Close()
	l.end()
}

// Observe implements [hooks.Observer].
func (l *Live) Observe(n hooks.Notice) {
	switch n := n.(type) {
	case hooks.EventStarted:
		l.plain.Observe(n)
		if !l.left {
			l.begin(n.Plan)
		}
		return
	case hooks.TierStarted:
		l.mu.Lock()
		l.tier = n
		l.mu.Unlock()
	case hooks.Stopping:
		if l.plain.options.Detached {
			l.left = true
			l.end()
			l.plain.speak()
		}
	case hooks.EventEnded:
		l.end()
	}
	l.plain.Observe(n)
}

// begin draws the region from time to time, until end.
func (l *Live) begin(plan *hooks.Plan) {
	stop := make(chan struct{})
	l.mu.Lock()
	l.stop = stop
	l.expected = l.forecast(plan)
	l.mu.Unlock()
	l.drawing.Go(func() {
		ticks := time.NewTicker(refreshInterval)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				l.refresh()
			case <-stop:
				return
			}
		}
	})
}

// end takes the region away.
func (l *Live) end() {
	l.mu.Lock()
	stop := l.stop
	l.stop = nil
	if stop != nil {
		close(stop)
		l.draw(nil)
	}
	l.mu.Unlock()
	l.drawing.Wait()
}

// forecast returns how long an event is expected to take, zero if there's a hook of
// which that's not known.
func (l *Live) forecast(plan *hooks.Plan) time.Duration {
	if l.plain.options.Duration == nil {
		return 0
	}
	known := true
	var end time.Duration
	for _, f := range plan.Forecast(func(h *hooks.Hook) time.Duration {
		took, ok := l.plain.options.Duration(h)
		known = known && (ok || !h.RunsToCompletion())
		return took
	}) {
		end = max(end, f.End)
	}
	if !known {
		return 0
	}
	return end
}

func (l *Live) refresh() {
	width, height, err := l.size()
	if err != nil || width <= 0 || height <= 0 {
		width, height = defaultWidth, defaultHeight
	}
	l.plain.mu.Lock()
	defer l.plain.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop == nil {
		return
	}
	// Where the window has become narrower, the terminal has broken lines.
	broken := 0
	for _, w := range l.widths {
		broken += max(0, (w-1)/width)
	}
	if broken > 0 {
		fmt.Fprintf(l.screen, "\x1b[%dA\x1b[J", broken)
		if len(l.widths)+broken+2 > height {
			_, _ = l.screen.WriteString("\n") // the line above has scrolled away
		}
	}
	l.draw(l.region(time.Now(), width, height))
}

// draw replaces the region on the screen by what has to be above it and the given
// lines. The caller holds l.mu.
func (l *Live) draw(lines []line) {
	whole := bytes.LastIndexByte(l.above.Bytes(), '\n') + 1
	if len(lines) == 0 {
		whole = l.above.Len() // nothing comes that could be in its way
	}
	_, _ = l.screen.Write(l.above.Next(whole))
	l.widths = l.widths[:0]
	for _, line := range lines {
		_, _ = l.screen.WriteString(line.text + "\n")
		l.widths = append(l.widths, line.width)
	}
	_ = l.screen.Flush(len(lines))
}

// line is a line of the region.
type line struct {
	text  string
	width int // in cells, without colours
}

// region returns the lines that say what is under way: one about the event and one
// for each running hook, as far as there is room. The caller holds plain.mu.
func (l *Live) region(now time.Time, width, height int) []line {
	p := l.plain
	head := fmt.Sprintf("%s, weight %d", p.plan.Event, l.tier.Weight)
	if n := len(p.plan.Tiers); n > 1 {
		head += fmt.Sprintf(" (%d of %d)", l.tier.Tier+1, n)
	}
	ended := p.started - len(p.running)
	counts := []string{fmt.Sprintf("%d of %d done", ended-p.failed, p.plan.Len()), fmt.Sprintf("%d running", len(p.running))}
	if queued := p.plan.Len() - p.started; queued > 0 {
		counts = append(counts, fmt.Sprintf("%d queued", queued))
	}
	if p.failed > 0 {
		counts = append(counts, fmt.Sprintf("%d failed", p.failed))
	}
	elapsed := now.Sub(p.eventAt)
	head += ": " + strings.Join(counts, ", ") + "; " + clock(elapsed)
	switch left := l.expected - elapsed; {
	case l.expected == 0:
	case left > 0:
		head += ", about " + clock(left) + " left"
	default:
		head += ", expected " + clock(l.expected)
	}
	color := yellow
	if p.failed > 0 {
		color = red
	}
	lines := []line{l.line(head, width, color)}

	// Two lines are left free: one below, where the cursor is, and one above, for
	// tmux takes the erasure of a whole window for the clearing of a screen whose
	// text is to be kept.
	room := max(0, height-len(lines)-2)
	shown := p.running
	if len(shown) > room {
		shown = shown[:max(0, room-1)]
	}
	names := 0
	for _, r := range shown {
		names = max(names, runewidth.StringWidth(Printable(r.hook.String())))
	}
	names = min(names, max(width/2, 10))
	for _, r := range shown {
		name := runewidth.FillRight(runewidth.Truncate(Printable(r.hook.String()), names, "…"), names)
		lines = append(lines, l.line(strings.TrimRight(fmt.Sprintf("  %s  %6s  %s", name, clock(now.Sub(r.at)), r.activity), " "), width, 0))
	}
	if more := len(p.running) - len(shown); more > 0 && room > 0 {
		lines = append(lines, l.line(fmt.Sprintf("  … and %d more", more), width, faint))
	}
	return lines
}

// line returns a line that fits into a terminal of that width. Its last cell stays
// free: to write there makes some terminals begin a new line.
func (l *Live) line(text string, width, color int) line {
	text = runewidth.Truncate(text, max(1, width-1), "…")
	made := line{text: text, width: runewidth.StringWidth(text)}
	if color != 0 && l.plain.options.Color {
		made.text = colored(color, text)
	}
	return made
}

// clock returns a duration as a person reads it off: 9.4s, 1m05s, 2h03m.
func clock(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", max(0, d).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

var _ Display = (*Live)(nil)
