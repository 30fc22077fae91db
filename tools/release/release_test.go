package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"debug/pe"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

const (
	module3 = "helm.sh/helm/v3"
	made    = "2026-01-02T03:04:05Z"
)

// TestReproducible builds one commit twice, in two folders between which everything differs that must not count, and
// looks at all that comes of it.
func TestReproducible(t *testing.T) {
	native, other := runtime.GOOS+"/"+runtime.GOARCH, "windows/amd64"
	if native == other {
		other = "linux/amd64"
	}
	first := clone(t, "a", 0o755, 0o644)
	second := clone(t, filepath.Join("another", "with a space"), 0o700, 0o600)
	must(t, second, "git", "tag", "v0.9.9")

	got := dist(t, first, native, other)
	t.Setenv("TZ", "Asia/Kathmandu")
	t.Setenv("GOFLAGS", "-buildvcs=true -mod=mod")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOARM64", "v9.0")
	again := dist(t, second, native, other)

	if !slices.Equal(names(got), names(again)) {
		t.Fatalf("the two builds differ in what they made: %q and %q", names(got), names(again))
	}
	for name := range got {
		if !bytes.Equal(got[name], again[name]) {
			t.Errorf("%s differs between the two builds", name)
		}
	}

	version := yamlVersion(t, first)
	prefix := "helm-parallel-hooks_" + version + "_"
	want := []string{"checksums.txt"}
	for _, p := range []string{native, other} {
		stem := prefix + strings.Replace(p, "/", "_", 1)
		want = append(want, stem+".tar.gz", stem+".cdx.json")
		archive, err := unpack(got[stem+".tar.gz"])
		if err != nil {
			t.Fatalf("%s.tar.gz: %v", stem, err)
		}
		checkLayout(t, first, p, version, archive)
		checkSBOM(t, first, p, version, got[stem+".cdx.json"], archive)
		checkNotices(t, p, archive)
		checkStripped(t, p, archive)
	}
	slices.Sort(want)
	if !slices.Equal(names(got), want) {
		t.Errorf("built %q, want %q", names(got), want)
	}

	archive, err := unpack(got[prefix+strings.Replace(native, "/", "_", 1)+".tar.gz"])
	if err != nil {
		t.Fatal(err)
	}
	checkVersion(t, first, version, native, archive)
}

// clone returns a folder with a repository of one commit, that of the files that git doesn't ignore here. It's the
// same commit each time.
func clone(t *testing.T, name string, folder, file fs.FileMode) string {
	t.Helper()
	source, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	listed := must(t, source, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for path := range strings.SplitSeq(strings.TrimRight(listed, "\x00"), "\x00") {
		from, to := filepath.Join(source, path), filepath.Join(dir, path)
		info, err := os.Lstat(from)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), folder); err != nil {
			t.Fatal(err)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(from)
			if err == nil {
				err = os.Symlink(target, to)
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		// Git knows of a mode only whether the owner may execute the file.
		if err := os.WriteFile(to, content, file|info.Mode()&0o100); err != nil {
			t.Fatal(err)
		}
	}
	must(t, dir, "git", "init", "--quiet")
	must(t, dir, "git", "add", "--all")
	must(t, dir, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "--message=test")
	return dir
}

// must runs a command, of which a commit gets the date made, and returns what it prints.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_DATE="+made, "GIT_COMMITTER_DATE="+made)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

// dist builds platforms and returns the files.
func dist(t *testing.T, root string, platforms ...string) map[string][]byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "dist")
	var report bytes.Buffer
	if err := run(&report, root, out, platforms); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", &report)
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(out, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = content
	}
	checkChecksums(t, out, files)
	return files
}

func names(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }

// checkChecksums: every file but checksums.txt itself is in there, and right, in the form that sha256sum reads, who says so
// as well where it is there.
func checkChecksums(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	var lines, want strings.Builder
	for _, name := range names(files) {
		if name != "checksums.txt" {
			fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(files[name]), name)
			fmt.Fprintf(&want, "%s: OK\n", name)
		}
	}
	if got := string(files["checksums.txt"]); got != lines.String() {
		t.Errorf("checksums.txt is\n%swant\n%s", got, &lines)
	}
	if _, err := exec.LookPath("sha256sum"); err != nil {
		return
	}
	if got := must(t, dir, "sha256sum", "--check", "--strict", "checksums.txt"); got != want.String() {
		t.Errorf("sha256sum --check: got\n%swant\n%s", got, &want)
	}
}

// member is a file or folder of an archive.
type member struct {
	*tar.Header
	content []byte
}

func unpack(archive []byte) ([]member, error) {
	uncompressed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	if !uncompressed.ModTime.IsZero() || uncompressed.Name != "" {
		return nil, fmt.Errorf("gzip's header has a time or a name: %+v", uncompressed.Header)
	}
	var members []member
	for reader := tar.NewReader(uncompressed); ; {
		header, err := reader.Next()
		if err == io.EOF {
			return members, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		members = append(members, member{header, content})
	}
}

// checkLayout: an archive has what Helm and the installer need, under the names that they expect.
func checkLayout(t *testing.T, root, platform, version string, archive []member) {
	t.Helper()
	binary := "bin/helm-parallel-hooks"
	if strings.HasPrefix(platform, "windows/") {
		binary += ".exe"
	}
	want := []string{
		"-rw-r--r-- LICENSE", "-rw-r--r-- README.md", "-rw-r--r-- install-binary.ps1", "-rwxr-xr-x install-binary.sh",
		"-rwxr-xr-x plugin.complete", "-rw-r--r-- plugin.yaml", "-rw-r--r-- THIRD_PARTY_LICENSES", "drwxr-xr-x bin/", "-rwxr-xr-x " + binary,
	}
	var got []string
	for _, m := range archive {
		got = append(got, m.FileInfo().Mode().String()+" "+m.Name)
		if m.Uid != 0 || m.Gid != 0 || m.Uname != "" || m.Gname != "" || m.ModTime.UTC().Format(time.RFC3339) != made {
			t.Errorf("%s: %s has an owner or another time than the commit: %+v", platform, m.Name, m.Header)
		}
		if m.Typeflag == tar.TypeDir || m.Name == binary || m.Name == notices {
			continue
		}
		if m.Name == "README.md" {
			checkLinks(t, root, version, string(m.content))
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, m.Name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(content, m.content) {
			t.Errorf("%s: %s isn't the repository's", platform, m.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the archive has\n\t%s\nwant\n\t%s", platform, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// checkLinks: what the archive's page links to is there, where the archive has it not: on the version's own pages. It says
// the same as the repository's otherwise.
func checkLinks(t *testing.T, root, version, page string) {
	t.Helper()
	base := "https://github.com/helm-parallel-hooks/helm-parallel-hooks/blob/v" + version + "/"
	files := 0
	for _, match := range regexp.MustCompile(`\]\(([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		name, within := strings.CutPrefix(match[1], base)
		switch {
		case within:
			files++
			name, _, _ = strings.Cut(name, "#")
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Errorf("README.md links to %s: %v", match[1], err)
			}
		case !strings.HasPrefix(match[1], "https://") && !strings.HasPrefix(match[1], "#"):
			t.Errorf("README.md links to %s, which the archive doesn't have", match[1])
		}
	}
	if files < 10 {
		t.Errorf("README.md links to %d files", files)
	}
	content, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(page, base, ""); got != string(content) {
		t.Errorf("README.md isn't the repository's otherwise:\n%s", got)
	}
}

// TestArchive: an archive has all that it should, whatever the binary is.
func TestArchive(t *testing.T) {
	root := clone(t, "a", 0o755, 0o644)
	made, err := readCommit(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary, licences, path := filepath.Join(dir, "helm-parallel-hooks"), filepath.Join(dir, "licences"), filepath.Join(dir, "archive")
	for _, name := range []string{binary, licences} {
		if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeArchive(path, root, binary, licences, made); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := unpack(content)
	if err != nil {
		t.Fatal(err)
	}
	checkLayout(t, root, "linux/amd64", made.version, archive)
}

// binaryOf writes an archive's binary to a file.
func binaryOf(t *testing.T, archive []member) string {
	t.Helper()
	last := archive[len(archive)-1]
	path := filepath.Join(t.TempDir(), filepath.Base(last.Name))
	if err := os.WriteFile(path, last.content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkSBOM: the list is of this binary, and has all of its modules.
func checkSBOM(t *testing.T, root, platform, version string, list []byte, archive []member) {
	t.Helper()
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(list), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatalf("%s: %v", platform, err)
	}
	path := binaryOf(t, archive)
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatalf("%s: %v", platform, err)
	}
	plugin := bom.Metadata.Component
	sum, err := checksum(path)
	if err != nil {
		t.Fatal(err)
	}
	if plugin.Version != "v"+version || (*plugin.Hashes)[0].Value != sum || bom.Metadata.Timestamp != made {
		t.Errorf("%s: the list is of %s, %+v, at %s; want v%s, %s, at %s", platform, plugin.Version, *plugin.Hashes, bom.Metadata.Timestamp, version, sum, made)
	}
	got := map[string]string{}
	for _, c := range *bom.Components {
		got[c.Name] = c.Version
		if want := "pkg:golang/" + c.Name + "@" + strings.ReplaceAll(c.Version, "+", "%2B"); c.PackageURL != want {
			t.Errorf("%s: %s has the package URL %s, want %s", platform, c.Name, c.PackageURL, want)
		}
		if c.Licenses == nil || len(*c.Licenses) == 0 {
			t.Errorf("%s: %s has no licence", platform, c.Name)
		}
	}
	want := map[string]string{"std": strings.TrimPrefix(info.GoVersion, "go")}
	for _, dep := range info.Deps {
		want[dep.Path] = dep.Version
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: the list has %v, want %v", platform, got, want)
	}
	pinned := strings.TrimSpace(must(t, root, "go", "list", "-m", "-f", "{{.Version}}", module3))
	if got[module3] != pinned {
		t.Errorf("%s: the list has %s %q, and go.mod has %q", platform, module3, got[module3], pinned)
	}
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	if built := settings["GOOS"] + "/" + settings["GOARCH"]; built != platform {
		t.Errorf("the binary for %s is one for %s", platform, built)
	}
}

// checkNotices: the archive has the licence of everything that is in the binary.
func checkNotices(t *testing.T, platform string, archive []member) {
	t.Helper()
	info, err := buildinfo.ReadFile(binaryOf(t, archive))
	if err != nil {
		t.Fatalf("%s: %v", platform, err)
	}
	var text string
	for _, m := range archive {
		if m.Name == notices {
			text = string(m.content)
		}
	}
	want := []string{
		"\nstd " + strings.TrimPrefix(info.GoVersion, "go") + ": LICENSE\n", "Copyright 2009 The Go Authors.", "Apache License",
		"Permission is hereby granted, free of charge", "(MPL-2.0)\n    https://pkg.go.dev/github.com/",
	}
	for _, dep := range info.Deps {
		want = append(want, "\n"+dep.Path+" "+dep.Version+" (", "\n"+dep.Path+" "+dep.Version+": ")
	}
	for _, words := range want {
		if !strings.Contains(text, words) {
			t.Errorf("%s: %q is not in %s", platform, words, notices)
		}
	}
}

// checkStripped: the binary has no table of symbols and nothing for a debugger, which would make it half as large again.
func checkStripped(t *testing.T, platform string, archive []member) {
	t.Helper()
	path := binaryOf(t, archive)
	var sections []string
	symbols := 0
	switch {
	case strings.HasPrefix(platform, "windows/"):
		file, err := pe.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, s := range file.Sections {
			if s.Name != ".symtab" { // where there's always a table, which is empty then
				sections = append(sections, s.Name)
			}
		}
		symbols = len(file.Symbols)
	case strings.HasPrefix(platform, "darwin/"):
		return // whose linker needs symbols
	default:
		file, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, s := range file.Sections {
			sections = append(sections, s.Name)
		}
	}
	if len(sections) == 0 || symbols > 0 || slices.ContainsFunc(sections, func(name string) bool { return name == ".symtab" || strings.Contains(name, "debug") }) {
		t.Errorf("%s: the binary isn't stripped: %d symbols, sections %q", platform, symbols, sections)
	}
}

// checkVersion: the binary says what it was built from.
func checkVersion(t *testing.T, root, version, native string, archive []member) {
	t.Helper()
	binary := binaryOf(t, archive)
	var got map[string]string
	if err := json.Unmarshal([]byte(must(t, t.TempDir(), binary, "version", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	pinned := func(path string) string {
		return strings.TrimSpace(must(t, root, "go", "list", "-m", "-f", "{{.Version}}", path))
	}
	want := map[string]string{
		"version":          "v" + version,
		"commit":           strings.TrimSpace(must(t, root, "git", "rev-parse", "HEAD")),
		"date":             made,
		"goVersion":        runtime.Version(),
		"platform":         native,
		"helmLibrary":      pinned(module3),
		"kubernetesClient": pinned("k8s.io/client-go"),
	}
	if !maps.Equal(got, want) {
		t.Errorf("version -o json: got %v, want %v", got, want)
	}
	if got := must(t, t.TempDir(), binary, "version", "--short"); got != "v"+version+"\n" {
		t.Errorf("version --short: got %q, want %q", got, "v"+version+"\n")
	}
}

func yamlVersion(t *testing.T, root string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "plugin.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if version, ok := strings.CutPrefix(line, "version: "); ok {
			return version
		}
	}
	t.Fatal("plugin.yaml has no version")
	return ""
}

// TestNoCommit: what is not in the commit is not built, and nothing is left behind.
func TestNoCommit(t *testing.T) {
	root := clone(t, "a", 0o755, 0o644)
	if err := os.WriteFile(filepath.Join(root, "README.md"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "dist")
	err := run(io.Discard, root, out, nil)
	if err == nil || !strings.Contains(err.Error(), "README.md") {
		t.Errorf("run() with a changed README.md: got error %v, want one that names it", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("run() has made its folder all the same")
	}
}

// TestMakefile: make gives this program what it's to build and where, in any folder.
func TestMakefile(t *testing.T) {
	for _, name := range []string{"a", "with a space"} {
		root := clone(t, name, 0o755, 0o644)
		cmd := exec.Command("make", "dist", "PLATFORMS=linux/amd64 plan9/amd64")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "MAKEFLAGS=")
		out, err := cmd.CombinedOutput()
		if want := `"plan9/amd64" is no platform of a release`; err == nil || !strings.Contains(string(out), want) {
			t.Errorf("make dist in a folder %q: got error %v, want one that says %q:\n%s", name, err, want, out)
		}
		if strings.Contains(string(out), "warning: ") || strings.Contains(string(out), "more than once") {
			t.Errorf("in a folder %q, make warns of its own file:\n%s", name, out)
		}
	}
}

// TestLeftovers: archives of an earlier build don't get among those of this one.
func TestLeftovers(t *testing.T) {
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "old.tar.gz"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(io.Discard, clone(t, "a", 0o755, 0o644), out, nil); err == nil || !strings.Contains(err.Error(), "isn't empty") {
		t.Errorf("run() into a folder with files: got error %v", err)
	}
}

// TestBudget: a binary or an archive above the budget is an error that says by how much.
func TestBudget(t *testing.T) {
	p := platform{"linux", "amd64"}
	if err := budget.check(p); err != nil {
		t.Errorf("sizes of just the budget: %v", err)
	}
	for _, s := range []sizes{{budget.binary + 1, 0}, {0, budget.archive + 1}} {
		if err := s.check(p); err == nil || !strings.Contains(err.Error(), "linux/amd64") {
			t.Errorf("sizes %+v: got error %v", s, err)
		}
	}
}

// TestPlatforms: those of a release are what is asked for where nothing is, and nothing else can be.
func TestPlatforms(t *testing.T) {
	all, err := platformsNamed(nil)
	if err != nil || len(all) != 11 {
		t.Errorf("platformsNamed() = %v, %v", all, err)
	}
	if !slices.IsSortedFunc(all, func(a, b platform) int { return cmp.Compare(a.String(), b.String()) }) {
		t.Errorf("platforms are not in order: %v", all)
	}
	if got, err := platformsNamed([]string{"plan9/amd64"}); err == nil {
		t.Errorf("platformsNamed(plan9/amd64) = %v, want an error", got)
	}
}
