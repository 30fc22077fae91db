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
//
// A terminal that takes nothing any more, of a connection that hangs say, must not
// hold up the operation. So one goroutine alone writes to it, from NewLive until
// Close. What it doesn't take is kept up to a limit, and then left out.
type Live struct {
	plain *Plain // knows what runs, and writes what has ended
	size  func() (width, height int, err error)

	wake   chan struct{} // has room for one
	writer chan struct{} // closed when the writing goroutine has ended

	// screen and widths are the writing goroutine's.
	screen *cwriter.Writer
	// widths are those of the lines of the region on the screen.
	widths []int

	mu sync.Mutex // guards what follows; never held during output
	// above is what is yet to be written above the region, dropped how many
	// lines were left out of it.
	above   bytes.Buffer
	dropped int
	shown   bool // there's a region
	closed  bool
	left    bool // the terminal is somebody else's by now
	tier    hooks.TierStarted
	// expected is how long the event is expected to take; zero: not known.
	expected time.Duration
	// written is closed, and replaced, when all of above was written.
	written chan struct{}
}

// NewLive returns a display on a terminal, with a goroutine that Close ends.
func NewLive(terminal *os.File, options Options) *Live {
	screen := cwriter.New(terminal)
	return newLive(screen, screen.GetTermSize, options)
}

func newLive(screen *cwriter.Writer, size func() (width, height int, err error), options Options) *Live {
	l := &Live{
		screen: screen, size: size,
		wake: make(chan struct{}, 1), writer: make(chan struct{}), written: make(chan struct{}),
	}
	options.Progress = true
	l.plain = NewPlain(aboveRegion{l}, options)
	l.plain.quiet = true
	go l.run()
	return l
}

// Limits of what a terminal that takes nothing costs.
const (
	// backlog is how many bytes are kept for it.
	backlog = 16 << 20
	// patience is how long is waited for it where order matters.
	patience = time.Second
)

// aboveRegion is where finished lines go. It never blocks.
type aboveRegion struct{ *Live }

func (a aboveRegion) Write(text []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.above.Len()+len(text) > backlog {
		a.dropped += max(1, bytes.Count(text, []byte("\n")))
	} else {
		a.above.Write(text)
	}
	a.signal()
	return len(text), nil
}

// signal wakes the writing goroutine.
func (l *Live) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // it will see this, too
	}
}

// Write implements [Display]. While no event runs it returns when the text is on the
// terminal, so that what is written to stdout next comes after it.
func (l *Live) Write(text []byte) (int, error) {
	n, err := aboveRegion{l}.Write(text)
	l.mu.Lock()
	shown := l.shown
	l.mu.Unlock()
	if !shown {
		l.flush()
	}
	return n, err
}

// flush returns when all that is to be written is on the terminal, or that takes too
// long.
func (l *Live) flush() {
	l.mu.Lock()
	written := l.written
	l.mu.Unlock()
	l.signal()
	select {
	case <-written:
	case <-l.writer:
	case <-time.After(patience):
	}
}

// Log implements [hooks.LogSink].
func (l *Live) Log(source hooks.LogSource, text []byte) { l.plain.Log(source, text) }

// Close implements [Display]. What is written afterwards is lost.
func (l *Live) Close() {
	l.plain.Close()
	l.end()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	select {
	case <-l.writer:
	case <-time.After(patience):
	}
}

// Observe implements [hooks.Observer].
func (l *Live) Observe(n hooks.Notice) {
	switch n := n.(type) {
	case hooks.EventStarted:
		l.plain.Observe(n)
		expected := l.forecast(n.Plan)
		l.mu.Lock()
		l.shown, l.expected = !l.left && !l.closed, expected
		l.mu.Unlock()
		return
	case hooks.TierStarted:
		l.mu.Lock()
		l.tier = n
		l.mu.Unlock()
	case hooks.Stopping:
		if l.plain.options.Detached {
			l.mu.Lock()
			l.left = true
			l.mu.Unlock()
			l.end()
			l.plain.speak()
		}
	case hooks.EventEnded:
		l.plain.Observe(n)
		l.end()
		return
	}
	l.plain.Observe(n)
}

// end takes the region away.
func (l *Live) end() {
	l.mu.Lock()
	l.shown = false
	l.mu.Unlock()
	l.flush()
}

// run writes to the terminal until the display is closed.
func (l *Live) run() {
	defer close(l.writer)
	ticks := time.NewTicker(refreshInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-l.wake:
			l.mu.Lock()
			shown := l.shown
			l.mu.Unlock()
			if shown {
				continue // the next tick will do
			}
		}
		if closed := l.refresh(); closed {
			return
		}
	}
}

// refresh brings the terminal up to date, and reports whether that was the last time.
func (l *Live) refresh() (closed bool) {
	width, height, err := l.size()
	if err != nil || width <= 0 || height <= 0 {
		width, height = defaultWidth, defaultHeight
	}
	l.plain.mu.Lock()
	l.mu.Lock()
	var region []line
	if l.shown {
		region = l.region(time.Now(), width, height)
	}
	// The last line may not be whole yet. It waits, where a region would be in its way.
	whole := l.above.Len()
	if l.shown {
		whole = bytes.LastIndexByte(l.above.Bytes(), '\n') + 1
	}
	text := bytes.Clone(l.above.Next(whole))
	if l.above.Len() == 0 {
		l.above = bytes.Buffer{} // frees what a burst has taken
	}
	if l.dropped > 0 {
		text = fmt.Appendf(text, "%d lines are left out here, since the terminal didn't take them.\n", l.dropped)
		l.dropped = 0
	}
	written := l.written
	l.written = make(chan struct{})
	closed = l.closed
	l.mu.Unlock()
	l.plain.mu.Unlock()

	l.draw(text, region, width, height)
	close(written)
	return closed
}

// draw replaces the region on the screen by the text and the given lines.
func (l *Live) draw(text []byte, region []line, width, height int) {
	if len(text) == 0 && len(region) == 0 && len(l.widths) == 0 {
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
	if len(l.widths) > 0 {
		// A key that was pressed has moved the cursor to the right.
		_, _ = l.screen.WriteString("\r\x1b[J")
	}
	_, _ = l.screen.Write(text)
	l.widths = l.widths[:0]
	for _, line := range region {
		_, _ = l.screen.WriteString(line.text + "\n")
		l.widths = append(l.widths, line.width)
	}
	if l.screen.Flush(len(region)) != nil {
		l.screen.Reset() // or it would grow as long as the terminal is gone
	}
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
	counts := []string{fmt.Sprintf("%d of %d done", p.succeeded, p.plan.Len()), fmt.Sprintf("%d running", len(p.running))}
	if queued := p.queued(); queued > 0 {
		what := "queued"
		if p.stopping || p.failed > 0 && !p.options.KeepGoing {
			what = "won't run"
		}
		counts = append(counts, fmt.Sprintf("%d %s", queued, what))
	}
	if p.failed > 0 {
		counts = append(counts, fmt.Sprintf("%d failed", p.failed))
	}
	if p.ignored > 0 {
		counts = append(counts, fmt.Sprintf("%d ignored", p.ignored))
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
