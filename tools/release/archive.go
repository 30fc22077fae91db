package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// notices is the name of the file with the licences of what the binary is made of.
const notices = "THIRD_PARTY_LICENSES"

// packed is what an archive has of the repository. The modes are written here rather than read from the disk, where
// they depend on the umask of whoever has cloned the repository.
var packed = []struct {
	name string
	mode int64
}{
	{"LICENSE", 0o644},
	{"README.md", 0o644},
	{"install-binary.ps1", 0o644},
	{"install-binary.sh", 0o755},
	{"plugin.complete", 0o755},
	{"plugin.yaml", 0o644},
}

// home is where the files of a version are that an archive doesn't have.
const home = "https://github.com/helm-parallel-hooks/helm-parallel-hooks/blob/v"

// writeArchive packs a binary, the licences of what it's made of, and what Helm needs around it. Names are as Helm 3 wants
// them when it's given the archive's URL: no folder around all, no "./" before a name, and each folder before its files.
func writeArchive(path, root, binary, licences string, of commit) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	compressed, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)
	for _, file := range packed {
		content, err := os.ReadFile(filepath.Join(root, file.name))
		if err != nil {
			return err
		}
		if filepath.Ext(file.name) == ".md" {
			content = []byte(linked(string(content), home+of.version))
		}
		if err := add(archive, file.name, bytes.NewReader(content), int64(len(content)), file.mode, of.date); err != nil {
			return err
		}
	}
	if err := addFile(archive, notices, licences, 0o644, of.date); err != nil {
		return err
	}
	folder := &tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755, ModTime: of.date.Time}
	if err := archive.WriteHeader(folder); err != nil {
		return err
	}
	if err := addFile(archive, "bin/"+filepath.Base(binary), binary, 0o755, of.date); err != nil {
		return err
	}
	return errors.Join(archive.Close(), compressed.Close())
}

// addFile adds a file as it is.
func addFile(archive *tar.Writer, name, path string, mode int64, made date) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return add(archive, name, file, info.Size(), mode, made)
}

// add adds a file that belongs to nobody in particular.
func add(archive *tar.Writer, name string, content io.Reader, size, mode int64, made date) error {
	header := &tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: name, Mode: mode, ModTime: made.Time, Size: size}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(archive, content)
	return err
}

// writeChecksums writes checksums.txt in the form that sha256sum --check reads.
func writeChecksums(folder string, names []string) error {
	var lines strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		sum, err := checksum(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s  %s\n", sum, name)
	}
	return os.WriteFile(filepath.Join(folder, "checksums.txt"), []byte(lines.String()), 0o644)
}

func checksum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}
