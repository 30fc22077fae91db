package faults

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	passed, runs := 0, len(results.cells)
	for _, r := range results.cells {
		if r.passed {
			passed++
		}
	}
	// TestCrash has left what became of it.
	var crashes struct{ Runs, Passed map[string]int }
	found, err := os.ReadFile(filepath.Join(bed.root, ".cache", "crashes.json"))
	if err == nil {
		err = json.Unmarshal(found, &crashes)
	}
	if err != nil {
		return fmt.Errorf("the results of TestCrash: %w", err)
	}
	crash := line{Fault: "SIGKILL of the plugin, then `recover`", Moment: "any"}
	for _, command := range commands {
		crash.Cells = append(crash.Cells, cellOf(crashes.Passed[command.name], crashes.Runs[command.name]))
		passed, runs = passed+crashes.Passed[command.name], runs+crashes.Runs[command.name]
	}
	lines = append(lines, crash)
	kubernetes, err := bed.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	etcd, err := bed.etcd.client.Status(ctx, bed.plane.Etcd)
	if err != nil {
		return err
	}
	helm, err := printed(ctx, filepath.Join(bed.root, ".cache", "bin", "helm"), "version", "--template", "{{.Version}}")
	if err != nil {
		return err
	}
	toxiproxy, err := printed(ctx, "go", "list", "-m", "-f", "{{.Version}}", "github.com/Shopify/toxiproxy/v2")
	if err != nil {
		return err
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
		"Runs":        runs,
		"Passed":      passed,
		"Date":        time.Now().UTC().Format(time.DateOnly),
		"Kubernetes":  strings.TrimPrefix(kubernetes.GitVersion, "v"),
		"Etcd":        etcd.Version,
		"Helm":        strings.TrimPrefix(helm, "v"),
		"Toxiproxy":   strings.TrimPrefix(toxiproxy, "v"),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(page.String()), 0o644)
}

// printed returns what a program prints, without space around it.
func printed(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %q: %w", program, args, err)
	}
	return strings.TrimSpace(string(out)), nil
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
	return cellOf(passed, runs)
}

func cellOf(passed, runs int) string {
	switch {
	case runs == 0:
		return "–"
	case passed < runs:
		return fmt.Sprintf("**%d of %d**", passed, runs)
	default:
		return fmt.Sprintf("%d of %d", passed, runs)
	}
}
