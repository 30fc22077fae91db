package cmd

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/lint"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/report"
)

// update makes TestCommandReference write its files anew:
//
//	go test ./cmd -run TestCommandReference -update
var update = flag.Bool("update", false, "write the generated documents anew")

// documented returns the command tree as it's documented: called by helm, in a home
// of nobody's.
func documented(t *testing.T) *cobra.Command {
	t.Helper()
	isolate(t)
	for name, value := range map[string]string{
		"HELM_PLUGIN_NAME": "parallel-hooks", "KUBECONFIG": "", "HOME": "/home/you", "GNUPGHOME": "/home/you/.gnupg",
		"HELM_CONFIG_HOME": "/home/you/.config/helm", "HELM_CACHE_HOME": "/home/you/.cache/helm", "HELM_DATA_HOME": "/home/you/.local/share/helm",
	} {
		t.Setenv(name, value)
	}
	root := newRootCmd(newProgram(discard(), ""))
	root.Version = "" // would be one more thing to write anew
	root.DisableAutoGenTag = true
	var show func(*cobra.Command)
	show = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		c.DisableAutoGenTag = true
		for _, child := range c.Commands() {
			show(child)
		}
	}
	show(root)
	return root
}

// TestCommandReference: docs/commands and docs/man say of every command and flag what
// the program says.
func TestCommandReference(t *testing.T) {
	root := documented(t)
	dir := t.TempDir()
	for _, folder := range []string{"commands", "man"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := doc.GenMarkdownTree(root, filepath.Join(dir, "commands")); err != nil {
		t.Fatal(err)
	}
	date := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC) // of no matter, but the same each time
	header := &doc.GenManHeader{Title: "HELM-PARALLEL-HOOKS", Section: "1", Date: &date, Source: "helm-parallel-hooks", Manual: "Helm plugins"}
	if err := doc.GenManTree(root, header, filepath.Join(dir, "man")); err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join("..", "docs")
	if *update {
		for _, folder := range []string{"commands", "man"} {
			if err := os.RemoveAll(filepath.Join(docs, folder)); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(docs, folder), os.DirFS(filepath.Join(dir, folder))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, folder := range []string{"commands", "man"} {
		want, got := files(t, filepath.Join(dir, folder)), files(t, filepath.Join(docs, folder))
		if !maps.Equal(got, want) {
			t.Errorf("docs/%s isn't what the program says; go test ./cmd -run TestCommandReference -update writes it anew", folder)
		}
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReferenceIsComplete: docs/reference.md names every flag of ours, annotation, event,
// phase, kind of JSON object and field.
func TestReferenceIsComplete(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "reference.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{hooks.SlotsAnnotation}
	for _, phase := range []hooks.Phase{hooks.Running, hooks.Succeeded, hooks.Failed, hooks.Unknown} {
		names = append(names, string(phase))
	}
	for _, event := range report.Events() {
		names = append(names, event.String())
	}
	for _, code := range []int{0, 1, 129, 130, 143} {
		if !bytes.Contains(text, fmt.Appendf(nil, "\n| %d |", code)) {
			t.Errorf("docs/reference.md doesn't say what exit code %d means", code)
		}
	}
	names = append(names, progressModes...)
	names = append(names, logModes...)
	names = append(names, reportEndings()...)
	for _, record := range []any{display.Record{}, display.RecordHook{}, report.Timeline{}, report.Event{}, report.Hook{}, report.Forecast{}, report.Plan{}, report.PlanEvent{}, report.PlanTier{}, report.PlanStage{}, report.PlanHook{}, report.PlanLimit{}, lint.Report{}, lint.Finding{}, programVersions{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(record)) {
			if tag, _, _ := strings.Cut(field.Tag.Get("json"), ","); tag != "" {
				names = append(names, tag)
			}
		}
	}
	documented(t).Commands()[0].Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, "hook-") {
			names = append(names, "--"+f.Name)
		}
	})
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !bytes.Contains(text, []byte("`"+name+"`")) {
			t.Errorf("docs/reference.md doesn't mention `%s`", name)
		}
	}
}
