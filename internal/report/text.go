package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
)

// The width of the bars' column, in characters.
const (
	narrowest = 10
	widest    = 80
)

// WriteTable writes a Gantt chart for a terminal that is so many columns wide.
func (t *Timeline) WriteTable(out io.Writer, columns int) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, revision %d (%s) in namespace %s", display.Printable(t.Release), t.Revision, display.Printable(t.Status), display.Printable(t.Namespace))
	if t.Chart != "" {
		fmt.Fprintf(&b, ", chart %s", display.Printable(t.Chart))
	}
	b.WriteString("\n")
	if len(t.Events) == 0 {
		b.WriteString("\nNo hook ran in this revision.\n")
	}
	for _, e := range t.Events {
		fmt.Fprintf(&b, "\n%s: %s\n", e.Name, e.summary())
		e.writeRows(&b, columns)
	}
	if len(t.Forecasts) > 0 && len(t.Events) > 0 {
		b.WriteString("\nIf each hook took as long as it did:\n")
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "AT ONCE\tHOOKS' TIME\tTIMES FASTER\t")
		for _, f := range t.Forecasts {
			fmt.Fprintf(w, "%d\t%s\t%.1f\t\n", f.Parallelism, inSeconds(f.Seconds), f.Faster)
		}
		_ = w.Flush() // to a buffer
	}
	_, err := out.Write(b.Bytes())
	return err
}

func (e *Event) summary() string {
	text := fmt.Sprintf("%d hooks", len(e.Hooks))
	if len(e.Hooks) == 1 {
		return "1 hook in " + inSeconds(e.Seconds)
	}
	text += " in " + inSeconds(e.Seconds)
	if e.AtOnce > 1 {
		text += fmt.Sprintf(", up to %d at once; one after another %s", e.AtOnce, inSeconds(e.SerialSeconds))
	}
	return text
}

func inSeconds(s float64) string { return fmt.Sprintf("%.1fs", s) }

// since returns how long after the event's start the hook started, as it's printed.
func (e *Event) since(h Hook) string { return inSeconds(h.Start.Sub(e.Start).Seconds()) }

// rows returns the hooks as they're listed for a person: those that seem to have started at
// the same moment by name, since what tells their starts apart can't be seen.
func (e *Event) rows() []Hook {
	rows := slices.Clone(e.Hooks)
	slices.SortStableFunc(rows, func(a, b Hook) int {
		order := cmp.Compare(a.Weight, b.Weight)
		if order == 0 && e.since(a) != e.since(b) {
			order = a.Start.Compare(b.Start)
		}
		return cmp.Or(order, strings.Compare(a.Name, b.Name))
	})
	return rows
}

// writeRows writes a line for each hook, its bar last.
func (e *Event) writeRows(b *bytes.Buffer, columns int) {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WEIGHT\tHOOK\tSTART\tTOOK\tPHASE\t")
	all := e.rows()
	for _, h := range all {
		took := inSeconds(h.Seconds)
		if h.End.IsZero() {
			took = "?"
		}
		fmt.Fprintf(w, "%d\t%s\t+%s\t%s\t%s\t\n", h.Weight, display.Printable(h.String()), e.since(h), took, display.Printable(h.outcome()))
	}
	_ = w.Flush() // to a buffer
	lines := strings.Split(strings.TrimRight(table.String(), "\n"), "\n")
	width := min(max(columns-len([]rune(lines[0])), narrowest), widest)
	fmt.Fprintln(b, strings.TrimRight(lines[0], " "))
	for i, h := range all {
		fmt.Fprintln(b, strings.TrimRight(lines[i+1]+e.bar(h, width), " "))
	}
}

// bar draws when a hook ran within its event. One whose end isn't recorded goes on
// to the event's end, in dots.
func (e *Event) bar(h Hook, width int) string {
	total := e.End.Sub(e.Start)
	if total <= 0 {
		return ""
	}
	at := func(t time.Time) int {
		return int(math.Round(float64(width) * float64(t.Sub(e.Start)) / float64(total)))
	}
	end, mark := h.End, "█"
	if end.IsZero() {
		end, mark = e.End, "·"
	}
	from := min(max(at(h.Start), 0), width-1)
	to := min(max(at(end), from+1), width)
	return strings.Repeat(" ", from) + strings.Repeat(mark, to-from)
}

// WriteMermaid writes a Gantt chart in the language of Mermaid, which Markdown
// on many platforms shows as a picture.
func (t *Timeline) WriteMermaid(out io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "gantt\n  title %s, revision %d\n  dateFormat x\n  axisFormat %%H:%%M:%%S\n", plainName(t.Release), t.Revision)
	for _, e := range t.Events {
		for i, h := range e.Hooks {
			if i == 0 || e.Hooks[i-1].Weight != h.Weight {
				fmt.Fprintf(&b, "  section %s, weight %d\n", plainName(e.Name), h.Weight)
			}
			state, end := "done", h.End
			switch {
			case end.IsZero():
				state, end = "active", e.End
			case h.Phase == "Failed":
				state = "crit"
			}
			// A bar needs some length.
			fmt.Fprintf(&b, "  %s :%s, %d, %d\n", plainName(h.String()), state, h.Start.UnixMilli(), max(end.UnixMilli(), h.Start.UnixMilli()+1))
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// plainName leaves no character in a name that means something to Mermaid.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(":;#,%{}<>\"'`\\", r) {
			return '_'
		}
		return r
	}, display.Printable(name))
}

// traceEvent is one of Chrome's trace events, which Perfetto and chrome://tracing
// show (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
type traceEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Micros   int64          `json:"ts"`
	Duration int64          `json:"dur,omitempty"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Args     map[string]any `json:"args,omitempty"`
}

// WriteTrace writes Chrome trace events: an event is a process in it, and what ran
// at the same time is in different threads.
func (t *Timeline) WriteTrace(out io.Writer) error {
	trace := struct {
		Events []traceEvent `json:"traceEvents"`
		Unit   string       `json:"displayTimeUnit"`
	}{Events: []traceEvent{}, Unit: "ms"}
	for i, e := range t.Events {
		trace.Events = append(trace.Events, traceEvent{
			Name: "process_name", Phase: "M", Process: i + 1,
			Args: map[string]any{"name": fmt.Sprintf("%s of %s, revision %d", e.Name, t.Release, t.Revision)},
		})
		for lane, all := range lanes(e.Hooks) {
			trace.Events = append(trace.Events, traceEvent{
				Name: "thread_name", Phase: "M", Process: i + 1, Thread: lane + 1,
				Args: map[string]any{"name": fmt.Sprintf("slot %d", lane+1)},
			})
			for _, h := range all {
				end := h.End
				if end.IsZero() {
					end = e.End
				}
				trace.Events = append(trace.Events, traceEvent{
					Name: h.String(), Category: "hook", Phase: "X",
					Micros: h.Start.UnixMicro(), Duration: max(0, end.Sub(h.Start).Microseconds()),
					Process: i + 1, Thread: lane + 1,
					Args: map[string]any{"weight": h.Weight, "phase": h.Phase, "template": h.Path},
				})
			}
		}
	}
	return json.NewEncoder(out).Encode(trace)
}
