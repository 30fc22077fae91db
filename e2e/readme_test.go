package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

const homepage = "https://github.com/helm-parallel-hooks/helm-parallel-hooks"

// readmeLines returns the commands that the README gives for installing the plugin and turning it on, in their order.
func readmeLines(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(bed.root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n## Install and try it\n")
	var lines []string
	for line := range strings.Lines(part) {
		if !strings.HasPrefix(line, "    ") {
			continue
		}
		command, ok := strings.CutPrefix(line, "    helm ")
		if !ok {
			break // the demo's
		}
		lines = append(lines, strings.TrimSpace(command))
	}
	return lines
}

// publish releases what is committed: it returns the URL of a clone, and that of a page with its archive for this platform.
func publish(t *testing.T) (clone, page string) {
	t.Helper()
	folder := t.TempDir()
	checkout := filepath.Join(folder, "helm-parallel-hooks")
	toolOutput(t, "git", "clone", "--quiet", "--no-hardlinks", bed.root, checkout)
	release := func(args ...string) string {
		return toolOutput(t, "go", append([]string{"-C", filepath.Join(checkout, "tools", "release"), "run", ".", "-root", checkout}, args...)...)
	}
	version := strings.TrimSpace(release("-version"))
	pages := filepath.Join(folder, "pages")
	release("-out", filepath.Join(pages, "v"+version), runtime.GOOS+"/"+runtime.GOARCH)
	server := httptest.NewServer(http.FileServer(http.Dir(pages)))
	t.Cleanup(server.Close)
	return "file://" + checkout, server.URL
}

// toolOutput runs a program of the machine's and returns what it prints.
func toolOutput(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}

// TestReadme goes from nothing to the first parallel hooks by the README's lines, in an empty home, with either Helm. A clone
// is in the place of GitHub, and so is a page with its release.
func TestReadme(t *testing.T) {
	t.Parallel()
	lines := readmeLines(t)
	if len(lines) != 5 {
		t.Fatalf("the README has %d lines, and this test knows five: %q", len(lines), lines)
	}
	clone, page := publish(t)
	for i, helm := range []string{"helm", "helm4"} {
		t.Run(helm, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			home := t.TempDir()
			s.env = slices.DeleteFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "HELM_") && !strings.HasPrefix(v, "HELM_NAMESPACE=") })
			s.env = append(s.env, "HOME="+home, "HELM_PARALLEL_HOOKS_BASE_URL="+page,
				"HELM_PARALLEL_HOOKS_UNSIGNED=1", // whoever tests this may have cosign
			)
			s.folder = t.TempDir()
			if err := os.CopyFS(filepath.Join(s.folder, "chart"), os.DirFS(chartPath("shop"))); err != nil {
				t.Fatal(err)
			}
			run := func(line string) result {
				t.Helper()
				words, comment, _ := strings.Cut(line, "#")
				if i == 0 && strings.Contains(comment, "Helm 4") || i == 1 && strings.Contains(comment, "Helm 3") {
					return result{}
				}
				words = strings.ReplaceAll(words, homepage, clone)
				r := s.must(s.start(helm, strings.Fields(words)...).wait())
				t.Logf("%6.1fs %s", r.took.Seconds(), r.line)
				return r
			}
			// "A release and a chart of yours": one that was there before the plugin.
			s.must(s.start(helm, "install", "shop", "./chart", "--timeout", "2m").wait())

			begin := time.Now()
			installed := run(lines[0]).stdout + run(lines[1]).stdout
			if !strings.Contains(installed, "Installed plugin: parallel-hooks") {
				t.Errorf("the installation says:\n%s", installed)
			}
			if timeline := run(lines[2]).stdout; !strings.Contains(timeline, "If each hook took as long as it did:") {
				t.Errorf("the timeline says:\n%s", timeline)
			}
			if plan := run(lines[3]).stdout; !strings.Contains(plan, "up to 4 hooks of equal weight at once") {
				t.Errorf("the plan says:\n%s", plan)
			}
			run(lines[4])
			if rel := s.release("shop"); rel.Version != 2 || rel.Info.Status != "deployed" {
				t.Errorf("revision %d is %s, want 2 to be deployed", rel.Version, rel.Info.Status)
			}
			runs := slices.DeleteFunc(s.trail().Runs(), func(r audit.Run) bool { return r.CreatedAt.Before(begin) })
			if got := audit.MaxActive(runs); got != 4 {
				t.Errorf("%d hooks ran at once, want 4", got)
			}
			// The second hook at work is the first that Helm would have had wait.
			for i, r := range runs[1:] {
				if slices.ContainsFunc(runs[:i+1], func(before audit.Run) bool { return before.Ended > r.Created }) {
					t.Logf("%6.1fs from nothing to the first hook beside another", r.CreatedAt.Sub(begin).Seconds())
					break
				}
			}
		})
	}
}
