package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plot is a diagram of lines between logarithmic axes.
type plot struct {
	title, x, y string
	series      []series
}

// series is one line of a plot.
type series struct {
	name   string // in the legend; empty: it's not there
	colour int    // an index of colours
	dashed bool
	points []point // by rising x; all values are above zero
}

type point struct{ x, y float64 }

// colours can be told apart on light and on dark ground, also by the colour-blind.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"}

// The plot's size, and the space around the axes.
const (
	plotWidth, plotHeight = 720, 420
	left, right           = 64, 170
	top, bottom           = 40, 56
)

// scale maps values between min and max to positions between from and to.
type scale struct{ min, max, from, to float64 }

func (s scale) at(value float64) float64 {
	return s.from + (s.to-s.from)*math.Log(value/s.min)/math.Log(s.max/s.min)
}

// ticks are the powers of ten within the scale, and twice and five times those if they are few.
func (s scale) ticks() []float64 {
	factors := []float64{1, 2, 5}
	if s.max/s.min > 1e3 {
		factors = factors[:1]
	}
	var all []float64
	for power := math.Floor(math.Log10(s.min)); power <= math.Log10(s.max)+1e-9; power++ {
		for _, factor := range factors {
			// A little tolerance, since a power of ten is rounded.
			if tick := factor * math.Pow(10, power); tick >= s.min*0.999 && tick <= s.max*1.001 {
				all = append(all, tick)
			}
		}
	}
	return all
}

// around returns a scale for values, from the next round number below to the next one above.
func around(values []float64, from, to float64) scale {
	lowest, highest := math.Inf(1), 0.0
	for _, v := range values {
		lowest, highest = min(lowest, v), max(highest, v)
	}
	s := scale{roundDown(lowest), roundUp(highest), from, to}
	if s.min == s.max {
		s.max *= 10
	}
	return s
}

func roundDown(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	for _, factor := range []float64{5, 2} {
		if factor*power <= v*1.000001 {
			return factor * power
		}
	}
	return power
}

func roundUp(v float64) float64 {
	if down := roundDown(v); math.Abs(down-v) < v*1e-6 {
		return down
	}
	power := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	for _, factor := range []float64{2, 5} {
		if v <= factor*power {
			return factor * power
		}
	}
	return 10 * power
}

// svg draws the plot. It has no ground of its own, and its ink follows the reader's colour scheme.
func (p plot) svg() string {
	var xs, ys []float64
	for _, s := range p.series {
		for _, point := range s.points {
			xs, ys = append(xs, point.x), append(ys, point.y)
		}
	}
	if len(xs) == 0 {
		xs, ys = []float64{1}, []float64{1}
	}
	x := around(xs, left, plotWidth-right)
	y := around(ys, plotHeight-bottom, top)

	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`, plotWidth, plotHeight)
	line(`<style>text{fill:#24292f}.grid{stroke:#8c959f;stroke-opacity:.35}` +
		`@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>`)
	line(`<text x="%d" y="20" font-weight="bold">%s</text>`, left, html.EscapeString(p.title))
	for _, tick := range x.ticks() {
		at := x.at(tick)
		line(`<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`, at, top, at, plotHeight-bottom)
		line(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, at, plotHeight-bottom+18, tickLabel(tick))
	}
	for _, tick := range y.ticks() {
		at := y.at(tick)
		line(`<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`, left, at, plotWidth-right, at)
		line(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-8, at+4, tickLabel(tick))
	}
	line(`<text x="%d" y="%d" text-anchor="middle">%s</text>`, (left+plotWidth-right)/2, plotHeight-14, html.EscapeString(p.x))
	line(`<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`, (top+plotHeight-bottom)/2, html.EscapeString(p.y))
	legend := top + 10
	for _, s := range p.series {
		colour, dash := colours[s.colour%len(colours)], ""
		if s.dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		var path []string
		for _, point := range s.points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x.at(point.x), y.at(point.y)))
		}
		line(`<polyline fill="none" stroke="%s" stroke-width="2"%s points="%s"/>`, colour, dash, strings.Join(path, " "))
		if !s.dashed {
			for _, point := range s.points {
				line(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x.at(point.x), y.at(point.y), colour)
			}
		}
		if s.name == "" {
			continue
		}
		line(`<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2"%s/>`,
			plotWidth-right+14, legend, plotWidth-right+42, legend, colour, dash)
		line(`<text x="%d" y="%d">%s</text>`, plotWidth-right+50, legend+4, html.EscapeString(s.name))
		legend += 20
	}
	line(`</svg>`)
	return out.String()
}

func tickLabel(v float64) string { return fmt.Sprintf("%g", math.Round(v*1e6)/1e6) }
