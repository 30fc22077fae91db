// Command release builds the archives of a release, from the commit that is checked out and from nothing else: two
// builds of one commit, by one version of Go, are the same to the byte, wherever, whenever and by whomever they are
// made.
//
// Of every platform it writes an archive and a list of what is in its binary (SBOM), and then the checksums of all. It
// also tells the release workflow the version and what the release is to say of itself.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "the repository's `folder`")
	version := flag.Bool("version", false, "print the version in plugin.yaml, and build nothing")
	notes := flag.String("notes", "", "print what CHANGELOG.md says of that version, its links to files made links below `URL`, and build nothing")
	out := flag.String("out", "dist", "the `folder` to write to, which must not exist or be empty")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: release [flags] [OS/ARCH ...]\nWithout a platform all are built.\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	switch {
	case *version:
		err = printVersion(os.Stdout, *root)
	case *notes != "":
		err = printNotes(os.Stdout, *root, *notes)
	default:
		err = run(os.Stdout, *root, *out, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run builds the platforms that are named, or all.
func run(stdout io.Writer, root, out string, names []string) error {
	wanted, err := platformsNamed(names)
	if err != nil {
		return err
	}
	commit, err := readCommit(root)
	if err != nil {
		return err
	}
	if err := emptyFolder(out); err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)

	fmt.Fprintf(stdout, "Version %s, commit %s of %s\n", commit.version, commit.hash, commit.date)
	var tooLarge error
	var written []string
	for _, p := range wanted {
		binary := filepath.Join(temp, p.binary())
		if err := build(root, binary, p, commit); err != nil {
			return fmt.Errorf("building for %s: %w", p, err)
		}
		name := fmt.Sprintf("helm-parallel-hooks_%s_%s_%s", commit.version, p.os, p.arch)
		archive, list := name+".tar.gz", name+".cdx.json"
		parts, err := readParts(root, binary, p)
		if err != nil {
			return fmt.Errorf("finding the licences of what is in the binary for %s: %w", p, err)
		}
		licences := filepath.Join(temp, notices)
		if err := os.WriteFile(licences, noticesOf(parts), 0o644); err != nil {
			return err
		}
		if err := writeArchive(filepath.Join(out, archive), root, binary, licences, commit); err != nil {
			return fmt.Errorf("writing %s: %w", archive, err)
		}
		if err := writeSBOM(filepath.Join(out, list), binary, parts, commit); err != nil {
			return fmt.Errorf("writing %s: %w", list, err)
		}
		written = append(written, archive, list)
		sizes, err := measure(binary, filepath.Join(out, archive))
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%-14v  binary %5.1f MB  archive %5.1f MB\n", p, megabytes(sizes.binary), megabytes(sizes.archive))
		if err := sizes.check(p); err != nil && tooLarge == nil {
			tooLarge = err
		}
	}
	if err := writeChecksums(out, written); err != nil {
		return err
	}
	return tooLarge
}

// emptyFolder makes a folder, and refuses one in which there is something: what an earlier build has left must not
// be taken for a part of this one.
func emptyFolder(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s isn't empty", path)
	}
	return err
}
