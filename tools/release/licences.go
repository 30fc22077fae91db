package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/google/licensecheck"
)

// part is a Go module that a binary is made of, or Go's own library.
type part struct {
	path, version string
	licences      []string // by their names in SPDX, in order
	files         []legal
}

// legal is a file of a module in which its licence stands, or what has to be passed on with it.
type legal struct{ name, text string }

// library is Go's own. It's where most vulnerabilities are found; scanners know it as a module of this name.
const library = "std"

// legalName are the names of such files. Not of documentation, which isn't linked.
var legalName = regexp.MustCompile(`(?i)^(licen[cs]e|unlicense|copying|copyright|notice|patents)([.-].*)?$`)

var notLegal = regexp.MustCompile(`(?i)\.(docs|go|s|h|sh|py|ya?ml|json|tmpl)$`)

// readParts returns the modules that Go's linker has recorded in a binary, and what stands in them of licences: at the
// top, and in every folder above a package that was linked, since some have code of others somewhere below. Of a module
// of which it finds none it must not be said that it may be passed on, so that is an error.
func readParts(root, binary string, p platform) ([]part, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	folders, err := linkedFolders(root, p)
	if err != nil {
		return nil, err
	}
	parts := []part{{path: library, version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		parts = append(parts, part{path: dep.Path, version: dep.Version})
	}
	var failed error
	for i := range parts {
		of := &parts[i]
		if folders[of.path] == nil {
			failed = errors.Join(failed, fmt.Errorf("%s is in the binary, but go list doesn't know of it", of.path))
			continue
		}
		failed = errors.Join(failed, of.read(folders[of.path]))
	}
	return parts, failed
}

// tree is a module's folder, and those folders in it whose packages are linked.
type tree struct {
	top      string
	packages []string
}

// linkedFolders returns what a build for a platform compiles, by module.
func linkedFolders(root string, p platform) (map[string]*tree, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module,ImportPath", ".")
	cmd.Dir, cmd.Env = root, environment(p)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("go list: %w: %s", err, bytes.TrimSpace(exit.Stderr))
	} else if err != nil {
		return nil, err
	}
	goRoot, err := goRoot(root, p)
	if err != nil {
		return nil, err
	}
	type module struct {
		Path, Dir string
		Main      bool
		Replace   *module
	}
	trees := map[string]*tree{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var linked struct {
			Dir, ImportPath string
			Standard        bool
			Module          *module
		}
		if err := decoder.Decode(&linked); err == io.EOF {
			return trees, nil
		} else if err != nil {
			return nil, err
		}
		path, top := library, goRoot
		if of := linked.Module; of != nil {
			if of.Main {
				continue
			}
			if of.Replace != nil {
				of = of.Replace
			}
			path, top = of.Path, of.Dir
		} else if !linked.Standard {
			return nil, fmt.Errorf("%s is of no module", linked.ImportPath)
		}
		if trees[path] == nil {
			trees[path] = &tree{top: top}
		}
		trees[path].packages = append(trees[path].packages, linked.Dir)
	}
}

func goRoot(root string, p platform) (string, error) {
	cmd := exec.Command("go", "env", "GOROOT")
	cmd.Dir, cmd.Env = root, environment(p)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// read takes what is in a module's folders.
func (of *part) read(folders *tree) error {
	wanted := map[string]bool{folders.top: true}
	for _, dir := range folders.packages {
		for ; !wanted[dir] && strings.HasPrefix(dir, folders.top); dir = filepath.Dir(dir) {
			wanted[dir] = true
		}
	}
	found, known := map[string]bool{}, false
	for dir := range wanted {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if !entry.Type().IsRegular() || !legalName.MatchString(entry.Name()) || notLegal.MatchString(entry.Name()) {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				return err
			}
			name, err := filepath.Rel(folders.top, filepath.Join(dir, entry.Name()))
			if err != nil {
				return err
			}
			of.files = append(of.files, legal{filepath.ToSlash(name), tidy(content)})
			for _, id := range identify(content) {
				found[id] = true
				// A licence further below is that of a part.
				known = known || dir == folders.top
			}
		}
	}
	slices.SortFunc(of.files, func(a, b legal) int { return cmp.Compare(a.name, b.name) })
	of.licences = slices.Sorted(maps.Keys(found))
	if !known {
		return fmt.Errorf("%s %s: no licence that is known was found in %s; without one it must not be passed on", of.path, of.version, folders.top)
	}
	return nil
}

// identify names the licences in a text.
func identify(text []byte) []string {
	var ids []string
	for _, match := range licensecheck.Scan(text).Match {
		// An address is no licence, and of a grant of patents SPDX knows no name.
		if match.IsURL || match.ID == "GooglePatentClause" || match.ID == "GooglePatentsFile" {
			continue
		}
		ids = append(ids, match.ID)
	}
	return ids
}

// tidy is a text as it's written here: that of a licence often differs by such things alone.
func tidy(text []byte) string {
	lines := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRightFunc(line, unicode.IsSpace)
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n\f") + "\n"
}

// noticesOf writes the licences of all that a binary is made of, each text once.
func noticesOf(parts []part) []byte {
	sorted := slices.SortedFunc(slices.Values(parts), func(a, b part) int { return cmp.Compare(a.path, b.path) })
	var out bytes.Buffer
	out.WriteString(`The program helm-parallel-hooks is linked from what is listed here, each under its own licence. The texts of the licences,
and the notices that have to be passed on with them, follow below. The source of each is unchanged. "go mod download
MODULE@VERSION" fetches it, and the page at the address that it has here says where its repository is.

`)
	type use struct{ text, by string }
	var uses []use
	for _, of := range sorted {
		fmt.Fprintf(&out, "%s %s (%s)\n    %s\n", of.path, of.version, strings.Join(of.licences, ", "), of.source())
		for _, file := range of.files {
			uses = append(uses, use{file.text, of.path + " " + of.version + ": " + file.name})
		}
	}
	written := map[string]bool{}
	for _, first := range uses {
		if written[first.text] {
			continue
		}
		written[first.text] = true
		fmt.Fprintf(&out, "\n%s\n", strings.Repeat("=", 100))
		for _, of := range uses {
			if of.text == first.text {
				fmt.Fprintln(&out, of.by)
			}
		}
		fmt.Fprintf(&out, "%s\n\n%s", strings.Repeat("-", 100), first.text)
	}
	return out.Bytes()
}

// source is the page that says where the source of a module's version is.
func (of part) source() string {
	if of.path == library {
		return "https://go.dev/dl/go" + of.version + ".src.tar.gz"
	}
	return "https://pkg.go.dev/" + of.path + "@" + of.version
}
