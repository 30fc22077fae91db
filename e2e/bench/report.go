package main

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

//go:embed report.md
var reportText string

var columns = []string{helm3, helm4, naive, plugin}

// printResult shows a row on the terminal.
func printResult(out io.Writer, r rowResult) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	if r.NotMeasured != "" {
		fmt.Fprintf(w, "  not measured: %s\n", r.NotMeasured)
	}
	for _, line := range r.Figures {
		fmt.Fprintf(w, "  %s", line.Title)
		for _, name := range append([]string{floor}, columns...) {
			if _, ok := line.Medians[name]; ok && !(name == floor && line.Medians[name] == 1) {
				fmt.Fprintf(w, "\t%s %s", name, line.cell(name))
			}
		}
		if line.Target != 0 {
			fmt.Fprintf(w, "\ttarget %s\t%s", line.TargetText(), strings.Trim(line.MetText(), "*"))
		}
		fmt.Fprintln(w)
	}
}

// report writes the page, the plots and the raw figures.
func (b *bench) report(r results, names []string) error {
	page, err := r.page(names)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	growth := r.growth()
	for name, content := range map[string]string{
		"benchmarks.md":         page,
		"benchmarks-growth.svg": growthPlot(growth).svg(),
		"benchmarks-ours.svg":   oursPlot(growth).svg(),
	} {
		if err := os.WriteFile(filepath.Join(b.out, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return r.write(filepath.Join(b.out, "benchmarks.json"))
}

// page returns the page in Markdown.
func (r results) page(names []string) (string, error) {
	tmpl, err := template.New("").Parse(reportText)
	if err != nil {
		return "", err
	}
	var lines []tableLine
	var missing []string
	met, of := 0, 0
	for _, name := range names {
		row, ok := r.find(name)
		if !ok {
			missing = append(missing, "`"+name+"`")
			continue
		}
		if row.NotMeasured != "" && !strings.HasPrefix(name, "growth/") {
			lines = append(lines, tableLine{figureLine: figureLine{Title: row.Title + ": " + row.NotMeasured}})
		}
		if strings.HasPrefix(name, "growth/") {
			continue
		}
		for i, figure := range row.Figures {
			line := tableLine{figureLine: figure}
			if seconds, ok := row.medianOf(floor, hooksTime); ok && i == 0 {
				line.Floor = inUnit(seconds, "s")
			}
			lines = append(lines, line)
			if figure.Met != nil {
				of++
				if *figure.Met {
					met++
				}
			}
		}
	}
	growth := r.growth()
	faster := fasterThanHooks(growth)
	if len(growth) == len(growthHooks)*len(growthParallelism) {
		of++
		if len(faster) == 0 {
			met++
		}
	}
	var out strings.Builder
	err = tmpl.Execute(&out, map[string]any{
		"Environment": r.Environment,
		"Lines":       lines,
		"Met":         met,
		"Of":          of,
		"Growth":      growth,
		"Faster":      faster,
		"Missing":     strings.Join(missing, ", "),
		"Single":      slices.ContainsFunc(lines, tableLine.single),
	})
	return out.String(), err
}

// tableLine is a line of the page's table.
type tableLine struct {
	figureLine
	Floor string
}

func (l tableLine) single() bool {
	return slices.ContainsFunc(columns, func(name string) bool { return l.Runs[name] > 0 && l.Runs[name] < 3 })
}

func (l figureLine) Helm3() string { return l.cell(helm3) }
func (l figureLine) Helm4() string { return l.cell(helm4) }
func (l figureLine) Naive() string { return l.cell(naive) }

// Plugin returns the plugin's median and, in brackets, its least and largest figure.
func (l figureLine) Plugin() string {
	text := l.cell(plugin)
	if l.Least == l.Most {
		return text
	}
	return fmt.Sprintf("%s (%s–%s)", text, inUnit(l.Least, ""), inUnit(l.Most, ""))
}

// cell returns a contestant's median, marked if it's of fewer than three runs.
func (l figureLine) cell(name string) string {
	value, ok := l.Medians[name]
	if !ok {
		return "–"
	}
	text := inUnit(value, l.Unit)
	if l.Runs[name] < 3 {
		text += "¹"
	}
	return text
}

// TargetText returns the target as a person writes it.
func (l figureLine) TargetText() string {
	switch {
	case l.Target == 0:
		return "–"
	case l.AtLeast:
		return "≥ " + trimmed(l.Target, l.Unit)
	default:
		return "≤ " + trimmed(l.Target, l.Unit)
	}
}

// MetText says at a glance whether the target is met.
func (l figureLine) MetText() string {
	switch {
	case l.Met == nil:
		return ""
	case *l.Met:
		return "yes"
	default:
		return "**no**"
	}
}

// inUnit returns a value with as many digits as mean something.
func inUnit(value float64, unit string) string {
	digits := 2
	if size := math.Abs(value); size >= 100 {
		digits = 0
	} else if size >= 10 {
		digits = 1
	}
	return withUnit(fmt.Sprintf("%.*f", digits, value), unit)
}

func trimmed(value float64, unit string) string { return withUnit(fmt.Sprintf("%g", value), unit) }

func withUnit(number, unit string) string {
	if unit == "" || unit == "×" {
		return number
	}
	return number + " " + unit
}

// growthPoint is a cell of the growth table as measured.
type growthPoint struct {
	Hooks, Parallelism int
	LeftOut            string
	Measured           bool
	// Floor and Plugin are hooks' times in seconds.
	Floor, Plugin float64
	// Ours is the plugin's time less the floor's, Spread how far apart the floor's own runs are.
	Ours, Spread float64
	Runs         int
}

// Cells returns the columns of the growth table.
func (p growthPoint) Cells() string {
	if !p.Measured {
		return p.LeftOut + " | | | "
	}
	mark := ""
	if p.Runs < 3 {
		mark = "¹"
	}
	return fmt.Sprintf("%s%s | %s%s | %s | %s", inUnit(p.Floor, "s"), mark, inUnit(p.Plugin, "s"), mark,
		inUnit(p.Plugin/p.Floor, ""), inUnit(1000*p.Ours/float64(p.Hooks), "ms"))
}

// growth returns the cells of the growth table that are in the results.
func (r results) growth() []growthPoint {
	var points []growthPoint
	for _, hooks := range growthHooks {
		for _, parallelism := range growthParallelism {
			row, ok := r.find(cell{hooks, parallelism}.String())
			if !ok {
				continue
			}
			p := growthPoint{Hooks: hooks, Parallelism: parallelism, LeftOut: row.NotMeasured, Runs: len(row.values(plugin, hooksTime))}
			if p.Runs > 0 {
				floors := row.values(floor, hooksTime)
				p.Measured = true
				p.Floor, _ = row.medianOf(floor, hooksTime)
				p.Plugin, _ = row.medianOf(plugin, hooksTime)
				p.Spread = slices.Max(floors) - slices.Min(floors)
				var ours []float64
				for _, repetition := range row.Repetitions {
					if repetition[plugin] != nil && repetition[floor] != nil {
						ours = append(ours, repetition[plugin][hooksTime]-repetition[floor][hooksTime])
					}
				}
				p.Ours = median(ours)
			}
			points = append(points, p)
		}
	}
	// A run that isn't repeated says nothing of chance: it's taken to be what it is elsewhere.
	var usual []float64
	for _, p := range points {
		if p.Runs > 1 {
			usual = append(usual, p.Spread/p.Floor)
		}
	}
	for i := range points {
		if p := &points[i]; p.Runs == 1 && len(usual) > 0 {
			p.Spread = median(usual) * p.Floor
		}
	}
	return points
}

// resolution is below what a difference of two runs means nothing, in seconds.
const resolution = 0.01

// fasterThanHooks returns the cells in which our part of the time has grown more than the number of hooks has, since
// the next smaller number, and by more than what the floor differs by from run to run.
func fasterThanHooks(points []growthPoint) []growthPoint {
	var faster []growthPoint
	for _, parallelism := range growthParallelism {
		var before *growthPoint
		for _, p := range points {
			if p.Parallelism != parallelism || !p.Measured {
				continue
			}
			if before != nil {
				allowed := max(before.Ours, resolution) * float64(p.Hooks) / float64(before.Hooks)
				if p.Ours > allowed+p.Spread+before.Spread {
					faster = append(faster, p)
				}
			}
			before = &p
		}
	}
	return faster
}

func growthPlot(points []growthPoint) plot {
	p := plot{title: "Hooks' time: the plugin, and the floor (dashed)", x: "Jobs", y: "seconds"}
	for i, parallelism := range growthParallelism {
		ours := series{name: fmt.Sprintf("%d at once", parallelism), colour: i}
		floors := series{colour: i, dashed: true}
		for _, point := range points {
			if point.Parallelism == parallelism && point.Measured {
				ours.points = append(ours.points, pointAt(point, point.Plugin))
				floors.points = append(floors.points, pointAt(point, point.Floor))
			}
		}
		if len(ours.points) > 0 {
			p.series = append(p.series, ours, floors)
		}
	}
	return p
}

func oursPlot(points []growthPoint) plot {
	p := plot{title: "Hooks' time less the floor's: what is ours", x: "Jobs", y: "milliseconds"}
	for i, parallelism := range growthParallelism {
		s := series{name: fmt.Sprintf("%d at once", parallelism), colour: i}
		for _, point := range points {
			if point.Parallelism == parallelism && point.Measured {
				// Less than nothing can't be shown; that the difference is lost in noise can.
				s.points = append(s.points, pointAt(point, max(1000*point.Ours, 1)))
			}
		}
		if len(s.points) > 0 {
			p.series = append(p.series, s)
		}
	}
	return p
}

func pointAt(p growthPoint, y float64) point { return point{float64(p.Hooks), y} }
