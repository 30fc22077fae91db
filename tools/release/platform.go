package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// platform is what an archive is for, in Go's words.
type platform struct{ os, arch string }

// platforms are those of a release.
var platforms = []platform{
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"freebsd", "amd64"}, {"freebsd", "arm64"},
	{"linux", "amd64"}, {"linux", "arm"}, {"linux", "arm64"}, {"linux", "ppc64le"}, {"linux", "s390x"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

func (p platform) String() string { return p.os + "/" + p.arch }

// binary is the name of the program's file.
func (p platform) binary() string {
	if p.os == "windows" {
		return "helm-parallel-hooks.exe"
	}
	return "helm-parallel-hooks"
}

// platformsNamed returns the platforms with these names, or all if there are none.
func platformsNamed(names []string) ([]platform, error) {
	if len(names) == 0 {
		return platforms, nil
	}
	var named []platform
	for _, name := range names {
		goos, arch, _ := strings.Cut(name, "/")
		p := platform{goos, arch}
		if !slices.Contains(platforms, p) {
			return nil, fmt.Errorf("%q is no platform of a release: %v", name, platforms)
		}
		named = append(named, p)
	}
	return named, nil
}

// sizes are those of a platform's files, in bytes.
type sizes struct{ binary, archive int64 }

// budget is what no platform may exceed. A larger binary is longer to download and to start, and grows by a
// dependency at a time: whoever raises this should know by which.
var budget = sizes{binary: 67_000_000, archive: 20_500_000}

func measure(binary, archive string) (sizes, error) {
	b, err := os.Stat(binary)
	if err != nil {
		return sizes{}, err
	}
	a, err := os.Stat(archive)
	if err != nil {
		return sizes{}, err
	}
	return sizes{b.Size(), a.Size()}, nil
}

// check says which of the sizes is above the budget.
func (s sizes) check(p platform) error {
	for _, of := range []struct {
		what      string
		size, max int64
	}{{"binary", s.binary, budget.binary}, {"archive", s.archive, budget.archive}} {
		if of.size > of.max {
			return fmt.Errorf("the %s for %s has %.1f MB, and %.1f MB are allowed (tools/release/platform.go); see what has come in with: go version -m",
				of.what, p, megabytes(of.size), megabytes(of.max))
		}
	}
	return nil
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }
