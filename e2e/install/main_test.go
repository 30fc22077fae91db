// Package install tests how the plugin's binary gets onto a machine: the install script by itself, in every shell that
// may run it and against a releases page that fails in every way, and through the real helm 3 and helm 4. Nothing here
// needs a cluster or the internet.
package install

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a command may take that is expected to end by itself.
const patience = 2 * time.Minute

// root is the repository's folder.
var root string

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(playRole())
	}
	// Under nohup or in the background of a script; what is started would ignore them too, unless they are caught here.
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	var err error
	if root, err = filepath.Abs("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// shells are those that run the script somewhere: Debian's sh, Alpine's, and that of macOS, Fedora and Git for Windows.
var shells = map[string][]string{"dash": {"dash"}, "busybox": {"busybox", "sh"}, "bash": {"bash"}}

// inEveryShell runs a test once for each shell, each time with a plugin's folder of its own.
func inEveryShell(t *testing.T, test func(t *testing.T, s *site)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(shells)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newSite(t, shells[name]))
		})
	}
}

// site is a machine as far as the script can tell: a plugin's folder, as Helm leaves it after cloning, and the programs
// on the PATH.
type site struct {
	*testing.T
	dir    string // with all of it
	shell  []string
	plugin string // the plugin's folder
	cwd    string // the user's
	path   string // a folder with links to all programs that there are
	env    map[string]string
}

// usual are the programs that the script finds on any machine. A program that a case is about is added or taken away.
var usual = []string{
	"cat", "chmod", "cp", "curl", "dirname", "env", "git", "grep", "gzip", "head", "mkdir", "mv", "od", "rm", "rmdir", "sed",
	"sha256sum", "tail", "tar", "tr", "uname",
}

// origin is where the plugin was cloned from, as far as git knows. Nothing answers there.
const origin = "https://github.com/helm-parallel-hooks/helm-parallel-hooks"

// version is what plugin.yaml says in a site.
const version = "1.2.3"

func newSite(t *testing.T, shell []string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{
		T:      t,
		dir:    dir,
		shell:  slices.Clone(shell),
		plugin: filepath.Join(dir, "my plugins", "helm-parallel-hooks"),
		cwd:    filepath.Join(dir, "the user's folder"),
		path:   filepath.Join(dir, "path"),
	}
	s.shell[0] = lookUp(t, shell[0])
	s.env = map[string]string{
		"PATH":            s.path,
		"HOME":            filepath.Join(dir, "home"),
		"HELM_PLUGIN_DIR": s.plugin,
		// A mistake that leads to the internet fails at once.
		"https_proxy": "http://127.0.0.1:9",
		"HTTPS_PROXY": "http://127.0.0.1:9",
	}
	for _, folder := range []string{s.plugin, s.cwd, s.path, s.env["HOME"]} {
		must(t, os.MkdirAll(folder, 0o755))
	}
	s.link(usual...)
	// Pauses between attempts are seen in the output, and waited for by nobody. (A shell with a sleep of its own does.)
	s.program("sleep", "exit 0")

	s.write("plugin.yaml", "name: parallel-hooks\nversion: "+version+"\n")
	s.write("go.mod", "module example.com/source\n")
	script, err := os.ReadFile(filepath.Join(root, "install-binary.sh"))
	must(t, err)
	s.write("install-binary.sh", string(script))
	s.cloneOf(origin)
	return s
}

// cloneOf makes the plugin's folder a clone of a repository, as far as the script looks.
func (s *site) cloneOf(origin string) {
	s.Helper()
	s.write(".git/config", "[remote \"origin\"]\n\turl = "+origin+"\n")
}

func (s *site) write(name, content string) {
	s.Helper()
	path := filepath.Join(s.plugin, name)
	must(s.T, os.MkdirAll(filepath.Dir(path), 0o755))
	must(s.T, os.WriteFile(path, []byte(content), 0o644))
}

// link puts this machine's programs on the PATH.
func (s *site) link(names ...string) {
	s.Helper()
	for _, name := range names {
		must(s.T, os.Symlink(lookUp(s.T, name), filepath.Join(s.path, name)))
	}
}

// remove takes programs off the PATH.
func (s *site) remove(names ...string) {
	s.Helper()
	for _, name := range names {
		must(s.T, os.Remove(filepath.Join(s.path, name)))
	}
}

// program puts a program on the PATH that is a shell script.
func (s *site) program(name, script string) {
	s.Helper()
	path := filepath.Join(s.path, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Fatal(err)
	}
	must(s.T, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

// built is what the Go toolchain of a site makes.
var built = headers[here] + "built from source"

// toolchain puts a go on the PATH that builds at once, and remembers how it was called.
func (s *site) toolchain() {
	s.Helper()
	must(s.T, os.WriteFile(filepath.Join(s.env["HOME"], "built"), []byte(built), 0o644))
	goos, goarch, _ := strings.Cut(here, "_")
	s.program("go", `case $1$2 in
envGOHOSTOS) echo `+goos+` ;;
envGOHOSTARCH) echo `+goarch+` ;;
envGOVERSION) echo go1.99 ;;
build*)
  { pwd; echo "$CGO_ENABLED $GOWORK $GOTMPDIR GOFLAGS=$GOFLAGS"; echo "for $GOOS $GOARCH"; for arg; do printf '%s\n' "$arg"; done; } >"$HOME/go-build"
  while [ "$1" != -o ]; do shift; done
  cat "$HOME/built" >"$2"
  ;;
esac`)
}

// buildArgs are the folder that go build was called in, what it saw of the environment, and its arguments.
func (s *site) buildArgs() []string {
	s.Helper()
	content, err := os.ReadFile(filepath.Join(s.env["HOME"], "go-build"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	must(s.T, err)
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

// command is the script in the user's folder, yet to be started, as plugin.yaml has it, or by hand.
func (s *site) command() *exec.Cmd {
	folder := cmp.Or(s.env["HELM_PLUGIN_DIR"], s.plugin)
	c := exec.Command(s.shell[0], append(s.shell[1:], filepath.Join(folder, "install-binary.sh"))...)
	c.Dir = s.cwd
	for name, value := range s.env {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

// run runs the script.
func (s *site) run() result {
	s.Helper()
	return run(s.T, s.command())
}

// install runs the script and expects it to succeed.
func (s *site) install() result {
	s.Helper()
	got := s.run()
	if got.code != 0 {
		s.Fatalf("the installation failed: %v", got)
	}
	s.wantTidy()
	return got
}

// fail runs the script and expects it to fail, and to say so and what to do.
func (s *site) fail(words ...string) result {
	s.Helper()
	got := s.refuse(words...)
	if !strings.HasPrefix(got.stderr[strings.LastIndex(strings.TrimRight(got.stderr, "\n"), "\n")+1:], "helm-parallel-hooks: Then run: ") {
		s.Errorf("the last line doesn't say what to run then: %v", got)
	}
	return got
}

// refuse is as fail, where the script can't know by which command it's to be run.
func (s *site) refuse(words ...string) result {
	s.Helper()
	got := s.run()
	if got.code != 1 {
		s.Fatalf("the exit code is %d, want 1: %v", got.code, got)
	}
	wantWords(s.T, got.stderr, words...)
	s.wantTidy()
	return got
}

// binary is what is installed, or "" if nothing is.
func (s *site) binary() string {
	s.Helper()
	content, err := os.ReadFile(filepath.Join(s.plugin, "bin", "helm-parallel-hooks"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ""
	}
	must(s.T, err)
	return string(content)
}

func (s *site) wantBinary(want string) {
	s.Helper()
	if got := s.binary(); got != want {
		s.Errorf("the binary is %q, want %q", got, want)
	}
	if info, err := os.Stat(filepath.Join(s.plugin, "bin", "helm-parallel-hooks")); err == nil && info.Mode().Perm() != 0o755 {
		s.Errorf("the binary's mode is %v, want 0755", info.Mode())
	}
}

// oldBinary is what an earlier installation has left.
const oldBinary = "an older binary"

func (s *site) installOld() {
	s.Helper()
	s.write("bin/helm-parallel-hooks", oldBinary)
	must(s.T, os.Chmod(filepath.Join(s.plugin, "bin", "helm-parallel-hooks"), 0o755))
}

// wantTidy expects the script to have left nothing but the binary, in the plugin's folder as in the user's.
func (s *site) wantTidy() {
	s.Helper()
	entries, err := os.ReadDir(filepath.Join(s.plugin, "bin"))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		s.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "helm-parallel-hooks" && name != "helm-parallel-hooks.exe" {
			s.Errorf("bin/%s was left behind", name)
		}
	}
	if entries, err = os.ReadDir(s.cwd); err != nil {
		s.Fatal(err)
	}
	for _, entry := range entries {
		s.Errorf("%s was left in the user's folder", entry.Name())
	}
}

// result is how a command ended.
type result struct {
	args           []string
	code           int
	stdout, stderr string
}

func (r result) String() string {
	return fmt.Sprintf("%q ended with exit code %d\nstdout:\n%s\nstderr:\n%s", r.args, r.code, r.stdout, r.stderr)
}

// run runs a command to its end.
func run(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	must(t, c.Start())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err := c.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	got := result{args: c.Args, code: c.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if ctx.Err() != nil {
		t.Fatalf("no end after %v: %v", patience, got)
	}
	return got
}

func wantWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said in:\n%s", want, text)
		}
	}
}

func refuseWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if strings.Contains(text, word) {
			t.Errorf("%q is said in:\n%s", word, text)
		}
	}
}

// lookUp finds a program of this machine. A test that lacks one fails: .ci/run installs them all.
func lookUp(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	must(t, err)
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// roleVariable makes this test's own program play another one, which has to heed signals as that one does.
const roleVariable = "INSTALL_TEST_ROLE"

// playRole plays the Go toolchain: it leaves its output half done, and files in its temporary folder, and announces by a
// request that it's at work.
func playRole() int {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "env" {
		goos, goarch, _ := strings.Cut(here, "_")
		fmt.Println(map[string]string{"GOHOSTOS": goos, "GOHOSTARCH": goarch, "GOVERSION": "go1.99"}[args[1]])
		return 0
	}
	output := args[slices.Index(args, "-o")+1]
	for _, path := range []string{output, filepath.Join(os.Getenv("GOTMPDIR"), "go-build1", "b001", "half")} {
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte("half"), 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
	}
	fmt.Fprintln(os.Stderr, cmp.Or(announce(os.Getenv("ANNOUNCE")), errors.New("nobody has interrupted the build")))
	return 2
}
