package faults

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"text/template"
	"time"
)

//go:embed report.md
var reportText string

// results are how the cells have ended that were run.
var results struct {
	mu    sync.Mutex
	cells []result
}

// begun is when the run has begun.
var begun = time.Now()

type result struct {
	fault, moment, command string
	passed                 bool
}

func note(c *cell) {
	results.mu.Lock()
	defer results.mu.Unlock()
	results.cells = append(results.cells, result{c.fault.name, c.moment, c.command.name, len(c.problems) == 0 && !c.t.Failed()})
}

// line is a line of the page's table.
type line struct {
	Fault, Moment string
	Cells         []string
}

// writeReport writes docs/reliability.md.
func writeReport(ctx context.Context) error {
	tmpl, err := template.New("").Parse(reportText)
	if err != nil {
		return err
	}
	all := append([]*fault{}, faults...)
	for _, o := range outages {
		all = append(all, &o.fault)
	}
	var lines []line
	for _, f := range all {
		for i, moment := range f.moments {
			l := line{Moment: moment}
			if i == 0 {
				l.Fault = f.title
			}
			for _, command := range commands {
				l.Cells = append(l.Cells, tally(f, moment, command))
			}
			lines = append(lines, l)
		}
	}
	passed := 0
	for _, r := range results.cells {
		if r.passed {
			passed++
		}
	}
	kubernetes, err := bed.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	etcd, err := bed.etcd.client.Status(ctx, bed.plane.Etcd)
	if err != nil {
		return err
	}
	build, _ := debug.ReadBuildInfo()
	modules := map[string]string{}
	for _, module := range build.Deps {
		modules[module.Path] = module.Version
	}
	var names []string
	for _, command := range commands {
		names = append(names, "`"+command.name+"`")
	}
	path := filepath.Join(bed.root, "docs", "reliability.md")
	var page strings.Builder
	err = tmpl.Execute(&page, map[string]any{
		"Lines":       lines,
		"Commands":    names,
		"Parallelism": parallelism,
		"Minutes":     int(time.Since(begun).Minutes()) + 1,
		"Runs":        len(results.cells),
		"Passed":      passed,
		"Date":        time.Now().UTC().Format(time.DateOnly),
		"Kubernetes":  strings.TrimPrefix(kubernetes.GitVersion, "v"),
		"Etcd":        etcd.Version,
		"Helm":        strings.TrimPrefix(modules["helm.sh/helm/v3"], "v"),
		"Toxiproxy":   strings.TrimPrefix(modules["github.com/Shopify/toxiproxy/v2"], "v"),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(page.String()), 0o644)
}

// tally says how many runs of a cell have passed.
func tally(f *fault, moment string, c command) string {
	passed, runs := 0, 0
	for _, r := range results.cells {
		if r.fault == f.name && r.moment == moment && r.command == c.name {
			runs++
			if r.passed {
				passed++
			}
		}
	}
	switch {
	case runs == 0:
		return "–"
	case passed < runs:
		return fmt.Sprintf("**%d of %d**", passed, runs)
	default:
		return fmt.Sprintf("%d of %d", passed, runs)
	}
}
