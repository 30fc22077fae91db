package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func printVersion(stdout io.Writer, root string) error {
	version, err := readVersion(filepath.Join(root, "plugin.yaml"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, version)
	return err
}

// definition is what the changelog ends with: where its own links lead.
var definition = regexp.MustCompile(`^\[[^\]]*\]: `)

// toFile is a link to a file of the repository, which has neither a scheme nor leads within the page.
var toFile = regexp.MustCompile(`\]\(([^):#][^):]*)\)`)

// linked returns a page with its links to files made links below a URL.
func linked(page, url string) string {
	return toFile.ReplaceAllString(page, "]("+strings.TrimSuffix(url, "/")+"/$1)")
}

// printNotes prints what stands below the heading of this version in the changelog, without the heading.
func printNotes(stdout io.Writer, root, url string) error {
	version, err := readVersion(filepath.Join(root, "plugin.yaml"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	var notes bytes.Buffer
	within := false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "## "):
			within = strings.HasPrefix(line, "## ["+version+"]")
		case definition.MatchString(line):
			within = false
		case within:
			// On a release's page, a link would lead somewhere below that page.
			notes.WriteString(linked(line, url))
		}
	}
	if len(bytes.TrimSpace(notes.Bytes())) == 0 {
		return fmt.Errorf("CHANGELOG.md says nothing of version %s: there's no section \"## [%s]\", or nothing in it", version, version)
	}
	_, err = fmt.Fprintf(stdout, "%s\n", bytes.TrimSpace(notes.Bytes()))
	return err
}
