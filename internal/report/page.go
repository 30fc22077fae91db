package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"sync"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
)

//go:embed page.html
var pageText string

// page is parsed when one is written, since most commands write none.
var page = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(pageText)) })

// pageEvent, pageRow and pageForecast are what the page shows, as text.
type (
	pageEvent struct {
		Name, Summary string
		Rows          []pageRow
	}
	pageRow struct {
		Class, Name, Path  string
		Weight             int
		Start, Took, Phase string
		// Left and Width are of the bar, in percent of the event's time.
		Left, Width float64
	}
	pageForecast struct {
		AtOnce       int
		Time, Faster string
	}
)

// WriteHTML writes a page that needs nothing else: no network, no script. Whatever
// a chart has put into names is text in it.
func (t *Timeline) WriteHTML(out io.Writer) error {
	subtitle := fmt.Sprintf("%s in namespace %s", display.Printable(t.Status), display.Printable(t.Namespace))
	if t.Chart != "" {
		subtitle += ", chart " + display.Printable(t.Chart)
	}
	if !t.Deployed.IsZero() {
		subtitle += ", " + t.Deployed.Format(time.RFC1123)
	}
	var events []pageEvent
	for _, e := range t.Events {
		shown := pageEvent{Name: e.Name, Summary: e.summary()}
		for _, h := range e.rows() {
			shown.Rows = append(shown.Rows, e.pageRow(h))
		}
		events = append(events, shown)
	}
	var forecasts []pageForecast
	for _, f := range t.Forecasts {
		forecasts = append(forecasts, pageForecast{f.Parallelism, inSeconds(f.Seconds), fmt.Sprintf("%.1f", f.Faster)})
	}
	return page().Execute(out, map[string]any{
		"Title":     fmt.Sprintf("%s, revision %d", display.Printable(t.Release), t.Revision),
		"Subtitle":  subtitle,
		"Events":    events,
		"Forecasts": forecasts,
	})
}

func (e *Event) pageRow(h Hook) pageRow {
	row := pageRow{
		Name: display.Printable(h.String()), Path: display.Printable(h.Path), Weight: h.Weight,
		Start: "+" + e.since(h), Took: inSeconds(h.Seconds), Phase: display.Printable(h.outcome()),
	}
	if h.Phase == "Succeeded" || h.Phase == "Failed" {
		row.Class = h.Phase
	}
	end := h.End
	if end.IsZero() {
		row.Took, end = "?", e.End
	}
	if total := e.End.Sub(e.Start); total > 0 {
		percent := func(d time.Duration) float64 {
			return math.Round(1000*float64(d)/float64(total)) / 10
		}
		row.Left = min(max(percent(h.Start.Sub(e.Start)), 0), 100)
		row.Width = min(max(percent(end.Sub(h.Start)), 0), 100-row.Left)
	}
	return row
}
