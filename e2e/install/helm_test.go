package install

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// standIn is the source of a plugin's binary that says where it comes from.
const standIn = `package main

import "os"

var version, origin = "none", "source"

func main() { os.Stdout.WriteString("version " + version + " from " + origin + "\n") }
`

// released is the binary of a release, which can be run.
func released(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(standIn), 0o644))
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.origin=release -X main.version="+version, "-o", "binary", "main.go")
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if got := run(t, c); got.code != 0 {
		t.Fatal(got)
	}
	content, err := os.ReadFile(filepath.Join(dir, "binary"))
	must(t, err)
	return string(content)
}

// binaries are the releases' binaries, built once.
var binaries = map[string]func(*testing.T) string{
	"1.2.3": once(func(t *testing.T) string { return released(t, "1.2.3") }),
	"1.2.4": once(func(t *testing.T) string { return released(t, "1.2.4") }),
}

func once(build func(*testing.T) string) func(*testing.T) string {
	var mu sync.Mutex
	var content string
	return func(t *testing.T) string {
		mu.Lock()
		defer mu.Unlock()
		if content == "" {
			content = build(t)
		}
		return content
	}
}

// distribution is a release for this platform of the plugin as it is here, by the program that makes releases.
type distribution struct {
	version string
	files   map[string][]byte
}

// distribute makes one, once.
var distribute = sync.OnceValues(func() (d distribution, err error) {
	dir, err := os.MkdirTemp("", "distribution-")
	if err != nil {
		return d, err
	}
	defer os.RemoveAll(dir)
	// It takes a commit and nothing besides, and what isn't committed yet is tested, too.
	clone, out := filepath.Join(dir, "clone"), filepath.Join(dir, "out")
	command := func(folder, name string, args ...string) ([]byte, error) {
		c := exec.Command(name, args...)
		c.Dir = folder
		c.Env = append(os.Environ(), "GOWORK=off", "GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.invalid", "GIT_COMMITTER_NAME=Test",
			"GIT_COMMITTER_EMAIL=test@example.invalid")
		content, err := c.Output()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			err = fmt.Errorf("%q: %w\n%s", c.Args, err, exit.Stderr)
		}
		return content, err
	}
	listed, err := command(root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return d, err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(listed), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(clone, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(clone, name), content, 0o644)
		}
		if err != nil {
			return d, err
		}
	}
	for _, args := range [][]string{
		{"git", "init", "-q"},
		{"git", "add", "-A"},
		{"git", "-c", "commit.gpgsign=false", "commit", "-q", "--no-verify", "-m", "Test"},
		{"go", "-C", filepath.Join(root, "tools", "release"), "run", ".", "-root", clone, "-out", out, strings.Replace(here, "_", "/", 1)},
	} {
		if _, err := command(clone, args[0], args[1:]...); err != nil {
			return d, err
		}
	}
	said, err := command(root, "go", "-C", "tools/release", "run", ".", "-root", root, "-version")
	if err != nil {
		return d, err
	}
	d = distribution{strings.TrimSpace(string(said)), map[string][]byte{}}
	for _, name := range []string{asset(d.version, here), "checksums.txt"} {
		if d.files[name], err = os.ReadFile(filepath.Join(out, name)); err != nil {
			return d, err
		}
	}
	return d, nil
})

// user is somebody who has a Helm and nothing else of note, and installs the plugin from a repository.
type user struct {
	*testing.T
	four       bool // Helm 4
	home, cwd  string
	repository string // a folder
	source     string // its address
	page       *page
	env        map[string]string
}

// eachHelm runs a test with the real Helm 3 and Helm 4.
func eachHelm(t *testing.T, test func(t *testing.T, u *user)) {
	t.Helper()
	for name, four := range map[string]bool{"helm 3": false, "helm 4": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newUser(t, four))
		})
	}
}

func newUser(t *testing.T, four bool) *user {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a user")
	u := &user{
		T: t, four: four, home: filepath.Join(dir, "home"), cwd: filepath.Join(dir, "work"),
		repository: filepath.Join(dir, "server", "helm-parallel-hooks"), page: newPage(t),
	}
	u.source = "file://" + strings.ReplaceAll(u.repository, " ", "%20")
	u.env = map[string]string{
		"PATH":            filepath.Join(dir, "path"),
		"HOME":            u.home,
		"HELM_DATA_HOME":  filepath.Join(u.home, "helm data"),
		"HELM_CACHE_HOME": filepath.Join(u.home, "helm cache"), "HELM_CONFIG_HOME": filepath.Join(u.home, "helm config"),
		"HELM_PARALLEL_HOOKS_BASE_URL": u.page.url,
		"https_proxy":                  "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "no_proxy": "127.0.0.1",
		// Building a stand-in takes no module from anywhere, and heeds no flags that are for builds of the user's own.
		"GOPROXY": "off", "GOCACHE": goEnv(t, "GOCACHE"), "GOMODCACHE": goEnv(t, "GOMODCACHE"), "GOFLAGS": "-mod=vendor", "GOTOOLCHAIN": "local",
		"GIT_AUTHOR_NAME": "Test", "GIT_AUTHOR_EMAIL": "test@example.invalid",
		"GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "test@example.invalid",
	}
	for _, folder := range []string{u.home, u.cwd, u.repository, u.env["PATH"]} {
		must(t, os.MkdirAll(folder, 0o755))
	}
	// No cosign, which might be there on this machine.
	for _, name := range append([]string{"find", "go", "mktemp", "sh", "sleep"}, usual...) {
		must(t, os.Symlink(lookUp(t, name), filepath.Join(u.env["PATH"], name)))
	}
	u.git("init", "-q", "-b", "main")
	for _, name := range []string{"plugin.complete", "install-binary.sh", ".gitignore", ".gitattributes"} {
		u.copy(name)
	}
	u.commit("main.go", standIn)
	u.commit("go.mod", "module example.com/stand-in\n\ngo 1.21\n")
	u.bump("1.2.3")
	return u
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	got := run(t, exec.Command("go", "env", name))
	if got.code != 0 {
		t.Fatal(got)
	}
	return strings.TrimSpace(got.stdout)
}

// copy takes a file of the plugin into the repository.
func (u *user) copy(name string) {
	u.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	must(u.T, err)
	must(u.T, os.WriteFile(filepath.Join(u.repository, name), content, 0o755))
}

func (u *user) commit(name, content string) {
	u.Helper()
	must(u.T, os.WriteFile(filepath.Join(u.repository, name), []byte(content), 0o644))
	u.git("add", "-A")
	u.git("commit", "-q", "-m", "Change "+name)
}

// bump sets the plugin's version and tags it.
func (u *user) bump(version string) {
	u.Helper()
	u.commit("plugin.yaml", u.manifest(version))
	u.git("tag", "v"+version)
}

// manifest is the plugin's own, of another version.
func (u *user) manifest(version string) string {
	u.Helper()
	content, err := os.ReadFile(filepath.Join(root, "plugin.yaml"))
	must(u.T, err)
	before, rest, found := strings.Cut(string(content), "\nversion: ")
	_, behind, more := strings.Cut(rest, "\n")
	if !found || !more {
		u.Fatal("plugin.yaml has no version")
	}
	return before + "\nversion: " + version + "\n" + behind
}

func (u *user) git(args ...string) {
	u.Helper()
	c := u.command("git", args...)
	c.Dir = u.repository
	if got := run(u.T, c); got.code != 0 {
		u.Fatal(got)
	}
}

// command has nothing but the user's environment.
func (u *user) command(name string, args ...string) *exec.Cmd {
	u.Helper()
	c := exec.Command(lookUp(u.T, name), args...)
	c.Dir = u.cwd
	for key, value := range u.env {
		c.Env = append(c.Env, key+"="+value)
	}
	return c
}

func (u *user) helm(args ...string) result {
	u.Helper()
	name := "helm"
	if u.four {
		name = "helm4"
	}
	got := run(u.T, u.command(filepath.Join(root, ".cache", "bin", name), args...))
	// Hooks run in the user's folder, and must not leave anything there.
	entries, err := os.ReadDir(u.cwd)
	must(u.T, err)
	for _, entry := range entries {
		u.Errorf("%q has left %s in the user's folder", args, entry.Name())
	}
	return got
}

func (u *user) must(got result) result {
	u.Helper()
	if got.code != 0 {
		u.Fatal(got)
	}
	return got
}

// install installs the plugin as the documentation says for this Helm.
func (u *user) install(source string, args ...string) result {
	u.Helper()
	args = append([]string{"plugin", "install", source}, args...)
	if u.four && !filepath.IsAbs(source) {
		args = append(args, "--verify=false")
	}
	return u.helm(args...)
}

// wantPlugin expects what the plugin's binary says.
func (u *user) wantPlugin(want string) {
	u.Helper()
	if got := u.helm("parallel-hooks"); got.code != 0 || strings.TrimSpace(got.stdout) != want {
		u.Errorf("want %q: %v", want, got)
	}
}

// folder is the plugin's.
func (u *user) folder() string {
	return filepath.Join(u.env["HELM_DATA_HOME"], "plugins", filepath.Base(u.source))
}

// release publishes a version's release.
func (u *user) release(version string) {
	u.Helper()
	u.page.publishFiles(version, map[string][]byte{asset(version, here): u.archive(version)})
}

// archive is that of a release, which can be installed as a plugin.
func (u *user) archive(version string) []byte {
	u.Helper()
	script, err := os.ReadFile(filepath.Join(root, "install-binary.sh"))
	must(u.T, err)
	return pack(u.T, []file{
		{name: "plugin.yaml", content: u.manifest(version)},
		{name: "install-binary.sh", content: string(script)},
		{name: "bin/"}, // Helm 3 makes no folder that isn't named before what is in it
		{name: "bin/helm-parallel-hooks", content: binaries[version](u.T)},
	})
}

// TestHelmInstalls: from a repository, with the release's binary; and it's gone after uninstalling.
func TestHelmInstalls(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.release("1.2.3")
		wantWords(t, u.must(u.install(u.source)).stdout, "Taking "+asset("1.2.3", here), "Installed plugin: parallel-hooks")
		u.wantPlugin("version 1.2.3 from release")
		wantWords(t, u.must(u.helm("plugin", "list")).stdout, "parallel-hooks", "1.2.3")
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		if _, err := os.Stat(u.folder()); err == nil {
			t.Error("the plugin's folder is still there")
		}
		u.must(u.install(u.source))
		u.wantPlugin("version 1.2.3 from release")
	})
}

// TestHelmInstallsByHTTP: from a server, where the folder has the ending of the address.
func TestHelmInstallsByHTTP(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.release("1.2.3")
		bare := u.repository + ".git"
		u.git("clone", "-q", "--bare", u.repository, bare)
		u.git("--git-dir", bare, "update-server-info")
		server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(bare))))
		t.Cleanup(server.Close)
		u.source = server.URL + "/" + filepath.Base(bare)
		u.must(u.install(u.source))
		u.wantPlugin("version 1.2.3 from release")
		if _, err := os.Stat(filepath.Join(u.folder(), "bin", "helm-parallel-hooks")); err != nil {
			t.Error(err)
		}
	})
}

// TestHelmBuilds: before there is a release, the plugin is built from its source.
func TestHelmBuilds(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		got := u.must(u.install(u.source))
		wantWords(t, got.stdout, "No binary of release 1.2.3 can be had", "the server answered 404", "Building helm-parallel-hooks 1.2.3 with go")
		u.wantPlugin("version 1.2.3 from source")
	})
}

// TestHelmBuildsThis: the same with this very plugin, as the user has it from git, with the modules that are here.
func TestHelmBuildsThis(t *testing.T) {
	t.Parallel()
	u := newUser(t, false)
	must(t, os.RemoveAll(u.repository))
	clone := run(t, exec.Command("git", "clone", "-q", root, u.repository))
	if clone.code != 0 {
		t.Fatal(clone)
	}
	// What isn't committed yet is tested, too.
	for _, name := range []string{"plugin.complete", "plugin.yaml", "install-binary.sh"} {
		u.copy(name)
	}
	u.git("add", "-A")
	u.git("commit", "-q", "--allow-empty", "-m", "Change something")
	wantWords(t, u.must(u.install(u.source)).stdout, "Building helm-parallel-hooks")
	got := u.must(u.helm("parallel-hooks", "version"))
	content, err := os.ReadFile(filepath.Join(root, "plugin.yaml"))
	must(t, err)
	_, rest, _ := strings.Cut(string(content), "\nversion: ")
	want, _, _ := strings.Cut(rest, "\n")
	wantWords(t, got.stdout, want)
	head := u.must(run(t, u.command("git", "-C", u.folder(), "rev-parse", "HEAD")))
	wantWords(t, u.must(u.helm("parallel-hooks", "version", "-o", "json")).stdout, `"commit":"`+strings.TrimSpace(head.stdout)+`"`)
}

// TestHelmUpdates: an update wipes what git ignores, such as the old binary, so the new one must come with it.
func TestHelmUpdates(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.release("1.2.3")
		u.must(u.install(u.source))
		u.bump("1.2.4")
		u.release("1.2.4")
		wantWords(t, u.must(u.helm("plugin", "update", "parallel-hooks")).stdout, "Updated plugin: parallel-hooks")
		u.wantPlugin("version 1.2.4 from release")
		// Nothing new: the binary is wiped all the same.
		u.must(u.helm("plugin", "update", "parallel-hooks"))
		u.wantPlugin("version 1.2.4 from release")
	})
}

// TestHelmVersions: a version is asked for by its tag. Helm keeps the clone, so a version stays what it was until another
// one is asked for: by an update, and by installing anew without one.
func TestHelmVersions(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.bump("1.2.4")
		u.release("1.2.3")
		u.release("1.2.4")
		u.must(u.install(u.source, "--version", "v1.2.3"))
		u.wantPlugin("version 1.2.3 from release")

		u.must(u.helm("plugin", "update", "parallel-hooks"))
		u.wantPlugin("version 1.2.3 from release")
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		u.must(u.install(u.source))
		u.wantPlugin("version 1.2.3 from release")

		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		u.must(u.install(u.source, "--version", "1.2.4"))
		u.wantPlugin("version 1.2.4 from release")
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		u.must(u.install(u.source, "--version", "^1.2.0"))
		u.wantPlugin("version 1.2.4 from release")
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		u.must(u.install(u.source, "--version", "1.2.3"))
		u.wantPlugin("version 1.2.3 from release")

		// The way out of a version that sticks.
		must(t, os.RemoveAll(filepath.Join(u.env["HELM_CACHE_HOME"], "plugins")))
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		u.must(u.install(u.source))
		u.wantPlugin("version 1.2.4 from release")
	})
}

// TestHelmKeepsFailedPlugin: Helm lists a plugin whose installation has failed, and won't install it again. What the
// script says to do helps, and so does uninstalling.
func TestHelmKeepsFailedPlugin(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.release("1.2.3")
		good := u.archive("1.2.3")
		u.page.put("1.2.3", asset("1.2.3", here), []byte("bad"))
		got := u.install(u.source)
		if got.code == 0 {
			t.Fatal(got)
		}
		wantWords(t, got.stderr, "the checksum of "+asset("1.2.3", here)+" is wrong", "exited with error")
		wantWords(t, u.must(u.helm("plugin", "list")).stdout, "parallel-hooks")
		if got := u.helm("parallel-hooks"); got.code == 0 {
			t.Errorf("something was installed: %v", got)
		}
		wantWords(t, u.install(u.source).stderr, "plugin already exists")

		// By hand. An update fetches again as well.
		u.page.put("1.2.3", asset("1.2.3", here), good)
		u.must(run(t, u.command("sh", filepath.Join(u.folder(), "install-binary.sh"))))
		u.wantPlugin("version 1.2.3 from release")
		must(t, os.RemoveAll(filepath.Join(u.folder(), "bin")))
		u.must(u.helm("plugin", "update", "parallel-hooks"))
		u.wantPlugin("version 1.2.3 from release")

		u.page.put("1.2.3", asset("1.2.3", here), []byte("bad"))
		if got := u.helm("plugin", "update", "parallel-hooks"); got.code == 0 {
			t.Errorf("the update didn't fail: %v", got)
		}
		u.page.put("1.2.3", asset("1.2.3", here), good)
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		u.must(u.install(u.source))
		u.wantPlugin("version 1.2.3 from release")
	})
}

// TestHelmLinksLocalFolder: a local folder is linked, and built from what is there.
func TestHelmLinksLocalFolder(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.release("1.2.3")
		wantWords(t, u.must(u.install(u.repository)).stdout, "link to a folder of yours", "Building")
		u.wantPlugin("version 1.2.3 from source")
		if info, err := os.Lstat(u.folder()); err != nil || info.Mode().Type() != os.ModeSymlink {
			t.Errorf("the plugin's folder is no link: %v %v", info, err)
		}
		// Uninstalling removes the link alone.
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		if _, err := os.Stat(filepath.Join(u.repository, "bin", "helm-parallel-hooks")); err != nil {
			t.Error(err)
		}
	})
}

// wantVersion expects the real plugin, of a version.
func (u *user) wantVersion(version string) {
	u.Helper()
	if got := u.helm("parallel-hooks", "version", "--short"); got.code != 0 || got.stdout != "v"+version+"\n" {
		u.Errorf("want v%s: %v", version, got)
	}
}

// TestHelmInstallsArchive: the archive of a release, as it's made of this very plugin, is a plugin as well, from a server and, unpacked, from a folder. From
// a server that doesn't call it an archive Helm 3 would clone it.
func TestHelmInstallsArchive(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		d, err := distribute()
		must(t, err)
		name := asset(d.version, here)
		archive := d.files[name]
		for _, mediaType := range []string{"application/octet-stream", "application/gzip"} {
			u.page.answer(d.version, name, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", mediaType)
				serve(archive)(w, r)
			})
			got := u.install(u.page.url + "/v" + d.version + "/" + name)
			if !u.four && mediaType == "application/octet-stream" {
				if got.code == 0 {
					t.Errorf("docs/install.md says that this fails: %v", got)
				}
				wantWords(t, got.stderr, "Cannot detect VCS")
				continue
			}
			wantWords(t, u.must(got).stdout, "Installed")
			u.wantVersion(d.version)
			if got := u.helm("plugin", "update", "parallel-hooks"); got.code == 0 {
				t.Errorf("an archive can be updated: %v", got)
			}
			u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		}

		folder := filepath.Join(u.home, "unpacked")
		must(t, os.Mkdir(folder, 0o755))
		must(t, os.WriteFile(filepath.Join(u.home, name), archive, 0o644))
		u.must(run(t, u.command("tar", "-xzf", filepath.Join(u.home, name), "-C", folder)))
		u.must(u.install(folder))
		u.wantVersion(d.version)
	})
}

// TestHelmWithoutNetwork: behind a wall, the repository comes from a folder and the release, as it's made of this very
// plugin, from a file.
func TestHelmWithoutNetwork(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		delete(u.env, "HELM_PARALLEL_HOOKS_BASE_URL")
		d, err := distribute()
		must(t, err)
		for file, content := range d.files {
			must(t, os.WriteFile(filepath.Join(u.home, file), content, 0o644))
		}
		u.bump(d.version)
		u.env["HELM_PARALLEL_HOOKS_ARCHIVE"] = filepath.Join(u.home, asset(d.version, here))
		u.must(u.install(u.source))
		u.wantVersion(d.version)
	})
}

// TestHelmPassesSettings: Helm 4 gives a hook little of its own environment, and all of the user's; so what is set of
// signatures reaches the script by either.
func TestHelmPassesSettings(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.release("1.2.3")
		u.env["HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE"] = "1"
		got := u.install(u.source)
		if got.code == 0 {
			t.Fatal(got)
		}
		wantWords(t, got.stderr, "HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE is 1")
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))

		delete(u.env, "HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE")
		tools := filepath.Join(u.home, "tools")
		must(t, os.Mkdir(tools, 0o755))
		must(t, os.WriteFile(filepath.Join(tools, "cosign"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
		u.env["PATH"] = tools + ":" + u.env["PATH"]
		got = u.install(u.source)
		if got.code == 0 {
			t.Fatal(got)
		}
		wantWords(t, got.stderr, "there's no checksums.txt.sigstore.json")
		u.must(u.helm("plugin", "uninstall", "parallel-hooks"))
		u.env["HELM_PARALLEL_HOOKS_UNSIGNED"] = "1"
		u.must(u.install(u.source))
		u.wantPlugin("version 1.2.3 from release")
	})
}

// TestHelmsShareThePlugin: what one Helm has installed, the other one runs, updates and uninstalls.
func TestHelmsShareThePlugin(t *testing.T) {
	t.Parallel()
	eachHelm(t, func(t *testing.T, u *user) {
		u.release("1.2.3")
		u.must(u.install(u.source))
		other := *u
		other.env = maps.Clone(u.env)
		other.four = !u.four
		other.wantPlugin("version 1.2.3 from release")
		u.bump("1.2.4")
		u.release("1.2.4")
		u.must(other.helm("plugin", "update", "parallel-hooks"))
		u.wantPlugin("version 1.2.4 from release")
		u.must(other.helm("plugin", "uninstall", "parallel-hooks"))
		refuseWords(t, u.must(u.helm("plugin", "list")).stdout, "parallel-hooks")
	})
}
