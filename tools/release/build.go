package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// commit is what the binaries say of where they come from.
type commit struct {
	version string // of plugin.yaml, without a v
	hash    string
	date    date
}

// date is when a commit was made, to the second, in UTC.
type date struct{ time.Time }

func (d date) String() string { return d.UTC().Format(time.RFC3339) }

// readCommit returns what is checked out. It refuses a folder in which something was changed since: the commit
// would not say how to build the same again.
func readCommit(root string) (commit, error) {
	changed, err := git(root, "status", "--porcelain")
	if err != nil {
		return commit{}, err
	}
	if changed != "" {
		return commit{}, fmt.Errorf("only a commit can be built again, and these files aren't in it:\n%s", changed)
	}
	shown, err := git(root, "show", "--no-patch", "--format=%H %ct", "HEAD")
	if err != nil {
		return commit{}, err
	}
	hash, stamp, _ := strings.Cut(shown, " ")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return commit{}, fmt.Errorf("reading the date of the commit: %w", err)
	}
	version, err := readVersion(filepath.Join(root, "plugin.yaml"))
	return commit{version, hash, date{time.Unix(seconds, 0)}}, err
}

func readVersion(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var plugin struct{ Version string }
	if err := yaml.Unmarshal(text, &plugin); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if plugin.Version == "" {
		return "", fmt.Errorf("%s says no version", path)
	}
	return plugin.Version, nil
}

func git(root string, args ...string) (string, error) {
	out, err := exec.Command("git", append([]string{"-C", root}, args...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(exit.Stderr))
	}
	return strings.TrimSpace(string(out)), err
}

// build builds the plugin's binary.
//
// Neither the folder nor what git says of it gets into the binary, but by what the linker is told: whether there are
// tags in a clone must not make a difference.
func build(root, binary string, p platform, c commit) error {
	symbols := ""
	for _, of := range [][2]string{{"version", c.version}, {"commit", c.hash}, {"date", c.date.String()}} {
		symbols += " -X main." + of[0] + "=" + of[1]
	}
	cmd := exec.Command("go", "build", "-o", binary, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"+symbols, ".")
	cmd.Dir = root
	cmd.Env = environment(p)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// environment is what go sees when it builds for a platform. What the user has set for builds of their own, in the
// environment or by go env -w, doesn't count.
func environment(p platform) []string {
	return append(os.Environ(),
		"GOOS="+p.os, "GOARCH="+p.arch,
		"GOAMD64=v1", "GOARM=7", "GOARM64=v8.0", "GOPPC64=power8",
		"CGO_ENABLED=0", "GOWORK=off", "GOFIPS140=off", "GOFLAGS=-trimpath",
	)
}
