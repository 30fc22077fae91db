package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// step is one of a workflow that runs a script.
type step struct{ ID, Run string }

// checkStep returns the script of the release workflow that looks whether this may be released.
func checkStep(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", ".github", "workflows", "release.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct{ Steps []step }
	}
	if err := yaml.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	for _, s := range workflow.Jobs["build"].Steps {
		if s.ID == "check" {
			return s.Run
		}
	}
	t.Fatal("the job build of release.yaml has no step with the id check")
	return ""
}

// candidate is a clone with a release's commit on top of main, whose changelog has a section for it.
func candidate(t *testing.T) (root, version string) {
	t.Helper()
	root = clone(t, "a", 0o755, 0o644)
	must(t, root, "git", "update-ref", "refs/remotes/origin/main", "HEAD")
	version = yamlVersion(t, root)
	path := filepath.Join(root, "CHANGELOG.md")
	changelog, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unreleased := "## [Unreleased]\n"
	released := unreleased + "\n## [" + version + "] - 2026-01-02\n\nThe first one, with [a\nguide](docs/guide.md) and [a page](https://example.com/a).\n\n## [0.0.1] - 2026-01-01\n"
	changelog = bytes.Replace(changelog, []byte(unreleased), []byte(released), 1)
	if err := os.WriteFile(path, changelog, 0o644); err != nil {
		t.Fatal(err)
	}
	commitAll(t, root)
	return root, version
}

func commitAll(t *testing.T, root string) {
	t.Helper()
	must(t, root, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "--all", "--allow-empty", "--message=test")
}

// TestReleaseCheck runs the release workflow's own script on what may be released and on what may not. After it, the
// clone must still be one that is built.
func TestReleaseCheck(t *testing.T) {
	script := checkStep(t)
	for name, test := range map[string]struct {
		event, tag string // the tag of plugin.yaml's version if empty
		change     func(t *testing.T, root string)
		want       string // in an error
	}{
		"a release":   {event: "push"},
		"a rehearsal": {event: "workflow_dispatch", tag: "release-branch"},
		"another tag": {event: "push", tag: "v9.9.9", want: "the tag is v9.9.9"},
		"no notes": {event: "push", change: func(t *testing.T, root string) {
			must(t, root, "git", "checkout", "--quiet", "HEAD^", "--", "CHANGELOG.md")
			must(t, root, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--no-verify", "--amend", "--allow-empty", "--all", "--message=test")
		}, want: "CHANGELOG.md says nothing"},
		"on main already": {event: "push", change: func(t *testing.T, root string) {
			must(t, root, "git", "update-ref", "refs/remotes/origin/main", "HEAD")
		}, want: "on top of a commit of main"},
		"more than one commit": {event: "push", change: commitAll, want: "on top of a commit of main"},
	} {
		t.Run(name, func(t *testing.T) {
			root, version := candidate(t)
			if test.change != nil {
				test.change(t, root)
			}
			temp, output := t.TempDir(), filepath.Join(t.TempDir(), "output")
			tag := test.tag
			if tag == "" {
				tag = "v" + version
			}
			// As GitHub runs a step without a shell of its own.
			cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "RUNNER_TEMP="+temp, "GITHUB_OUTPUT="+output, "GITHUB_EVENT_NAME="+test.event, "GITHUB_REF_NAME="+tag,
				"GITHUB_SERVER_URL=https://github.com", "GITHUB_REPOSITORY=some/fork")
			out, err := cmd.CombinedOutput()
			if test.want != "" {
				if err == nil || !strings.Contains(string(out), test.want) {
					t.Errorf("got error %v, want one that says %q:\n%s", err, test.want, out)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			if _, err := readCommit(root); err != nil {
				t.Errorf("after the step: %v", err)
			}
			notes, err := os.ReadFile(filepath.Join(temp, "notes", "notes.md"))
			if err != nil {
				t.Fatal(err)
			}
			want := "The first one, with [a\nguide](https://github.com/some/fork/blob/v" + version + "/docs/guide.md) and [a page](https://example.com/a).\n"
			if string(notes) != want {
				t.Errorf("the notes are\n%s\nwant\n%s", notes, want)
			}
			if got, err := os.ReadFile(output); err != nil || string(got) != "version="+version+"\n" {
				t.Errorf("the step's output is %q, %v", got, err)
			}
		})
	}
}

// TestWorkflowsCosign: what signs a release, and looks whether the signature is good, isn't what the installer refuses to
// look by.
func TestWorkflowsCosign(t *testing.T) {
	root := filepath.Join("..", "..")
	read := func(path ...string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	refused := regexp.MustCompile(`(?m)case \$used in\n +(.*)\)$`).FindStringSubmatch(read("install-binary.sh"))
	if refused == nil {
		t.Fatal("install-binary.sh has no versions of cosign that it refuses")
	}
	workflow := read(".github", "workflows", "release.yaml")
	versions := regexp.MustCompile(`(?m)^ +cosign-release: v([0-9.]+)$`).FindAllStringSubmatch(workflow, -1)
	if n := strings.Count(workflow, "uses: sigstore/cosign-installer@"); n == 0 || n != len(versions) {
		t.Fatalf("%d of %d installations of cosign in release.yaml name the version", len(versions), n)
	}
	for version, want := range map[string]bool{versions[0][1]: false, "3.0.4": true} {
		err := exec.Command("sh", "-c", "case $1 in "+refused[1]+") exit 1 ;; esac", "sh", version).Run()
		if (err != nil) != want {
			t.Errorf("install-binary.sh refuses cosign %s: %v, want %v", version, err != nil, want)
		}
	}
}

// TestWorkflowsPins: what others publish is taken by its commit, which nobody can move, and which version that is stands
// beside it, for Dependabot.
func TestWorkflowsPins(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "..", ".github", "workflows", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("workflows: %q, %v", paths, err)
	}
	uses := regexp.MustCompile(`(?m)^.*\buses:.*$`)
	pinned := regexp.MustCompile(`^ *(- )?uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	here := regexp.MustCompile(`^ *(- )?uses: \./\.github/workflows/\w+\.yaml$`)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := uses.FindAllString(string(text), -1)
		if len(lines) == 0 {
			t.Errorf("%s uses nothing", filepath.Base(path))
		}
		for _, line := range lines {
			if !pinned.MatchString(line) && !here.MatchString(line) {
				t.Errorf("%s: %s: not by a commit, with its version beside it", filepath.Base(path), strings.TrimSpace(line))
			}
		}
	}
}

// TestWorkflowsGo: everything is tested and released by one version of Go. What is tested against what comes next has a
// later one.
func TestWorkflowsGo(t *testing.T) {
	folder := filepath.Join("..", "..", ".github", "workflows")
	for _, name := range []string{"release.yaml", "test.yaml", "vulnerabilities.yaml"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if n, all := strings.Count(string(text), "go-version-file: "), strings.Count(string(text), "uses: actions/setup-go@"); n != all || n == 0 {
			t.Errorf("%s: %d of %d installations of Go take the version from .go-version", name, n, all)
		}
	}
}

// TestOnePackageList: what the tests need of a machine stands in one place, which workflows and people call.
func TestOnePackageList(t *testing.T) {
	root := filepath.Join("..", "..")
	var paths []string
	for _, pattern := range []string{".github/workflows/*", ".ci/*", "CONTRIBUTING.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) != "packages" && strings.Contains(string(text), "apt-get install") {
			t.Errorf("%s installs packages by itself rather than by .ci/packages", path)
		}
		if strings.Contains(string(text), "make e2e") && filepath.Ext(path) == ".yaml" && !strings.Contains(string(text), ".ci/packages") {
			t.Errorf("%s runs the end-to-end tests without .ci/packages", path)
		}
	}
}

// TestNewest: every module that uses the plugin's packages is moved together with it.
func TestNewest(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("..", "..", ".ci", "newest"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(script), func(r rune) bool { return strings.ContainsRune(" \t\n;\"", r) })
	moved := 0
	for folder, mod := range modules(t) {
		if slices.ContainsFunc(mod.Replace, func(r replacement) bool { return r.Old.Path == plugin }) {
			moved++
			if !slices.Contains(words, strings.TrimPrefix(folder, "/")) {
				t.Errorf(".ci/newest doesn't move %s", folder)
			}
		}
	}
	if moved < 2 {
		t.Errorf("%d modules use the plugin's packages", moved)
	}
}

const plugin = "github.com/helm-parallel-hooks/helm-parallel-hooks"

// goMod is what a go.mod file says.
type goMod struct {
	Require []requirement
	Replace []replacement
	Tool    []struct{ Path string }
}

type requirement struct {
	Path, Version string
	Indirect      bool
}

type replacement struct {
	Old, New struct{ Path, Version string }
}

// modules are the repository's, by folder.
func modules(t *testing.T) map[string]goMod {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]goMod{}
	for name := range strings.SplitSeq(strings.TrimSpace(must(t, root, "git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "go.mod", "*/go.mod")), "\n") {
		var mod goMod
		if err := json.Unmarshal([]byte(must(t, filepath.Join(root, filepath.Dir(name)), "go", "mod", "edit", "-json")), &mod); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found["/"+strings.TrimPrefix(filepath.Dir(name), ".")] = mod
	}
	return found
}

// TestDependabot: each module is looked after once, and each program of it that is run, though Go calls its module
// indirect; but for Kubernetes' own, of which the folder's name says the version.
func TestDependabot(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", ".github", "dependabot.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directories []string
			Allow       []struct {
				Name string `yaml:"dependency-name"`
				Type string `yaml:"dependency-type"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	for folder, mod := range modules(t) {
		times, allowed := 0, func(string) bool { return false }
		for _, update := range config.Updates {
			if update.Ecosystem != "gomod" || !slices.ContainsFunc(update.Directories, func(pattern string) bool { return matches(t, pattern, folder) }) {
				continue
			}
			times++
			allowed = func(name string) bool {
				for _, allow := range update.Allow {
					if allow.Type == "all" && (allow.Name == "" || matches(t, allow.Name, name) || matches(t, allow.Name+"/*", name)) {
						return true
					}
				}
				return false
			}
		}
		if strings.HasPrefix(folder, "/e2e/build/kubernetes") {
			if times != 0 {
				t.Errorf("%s is looked after, though its version is to stay", folder)
			}
			continue
		}
		if times != 1 {
			t.Errorf("%s is looked after %d times, want once", folder, times)
		}
		for _, tool := range mod.Tool {
			i := slices.IndexFunc(mod.Require, func(r requirement) bool { return tool.Path == r.Path || strings.HasPrefix(tool.Path, r.Path+"/") })
			if i < 0 {
				t.Errorf("%s: no module of %s", folder, tool.Path)
			} else if of := mod.Require[i]; of.Indirect && !allowed(of.Path) {
				t.Errorf("%s: %s is indirect, and not allowed", folder, of.Path)
			}
		}
	}
}

func matches(t *testing.T, pattern, name string) bool {
	t.Helper()
	matched, err := path.Match(pattern, name)
	if err != nil {
		t.Fatal(err)
	}
	return matched
}

// TestKubernetesVersions: what is in a folder of Kubernetes is of the version that the folder is called after, or that
// the Makefile takes where none is named.
func TestKubernetesVersions(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	usual := regexp.MustCompile(`(?m)^KUBERNETES \?= 1\.(\d+)$`).FindSubmatch(makefile)
	if usual == nil {
		t.Fatal("the Makefile names no version of Kubernetes")
	}
	found := 0
	for folder, mod := range modules(t) {
		name, is := strings.CutPrefix(folder, "/e2e/build/kubernetes")
		if !is {
			continue
		}
		found++
		minor := strings.TrimPrefix(name, "-1.")
		if name == "" {
			minor = string(usual[1])
		}
		version := ""
		for _, r := range mod.Require {
			if r.Path == "k8s.io/kubernetes" {
				version = r.Version
			}
		}
		if !strings.HasPrefix(version, "v1."+minor+".") {
			t.Errorf("%s has Kubernetes %s, want v1.%s", folder, version, minor)
		}
		if len(mod.Replace) == 0 {
			t.Errorf("%s replaces nothing", folder)
		}
		for _, r := range mod.Replace {
			if want := "v0." + strings.TrimPrefix(version, "v1."); r.New.Version != want {
				t.Errorf("%s has %s %s, want %s", folder, r.New.Path, r.New.Version, want)
			}
		}
	}
	if found < 3 {
		t.Errorf("found %d folders of Kubernetes", found)
	}
}
