package main

import (
	"archive/tar"
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

// writeArchive packs a binary, the licences of what it's made of, and what Helm needs around it. Names are as Helm 3 wants them when it's given the
// archive's URL: no folder around all, no "./" before a name, and each folder before its files.
func writeArchive(path, root, binary, licences string, made date) (err error) {
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
	for _, of := range packed {
		if err := addFile(archive, of.name, filepath.Join(root, of.name), of.mode, made); err != nil {
			return err
		}
	}
	if err := addFile(archive, notices, licences, 0o644, made); err != nil {
		return err
	}
	folder := &tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755, ModTime: made.Time}
	if err := archive.WriteHeader(folder); err != nil {
		return err
	}
	if err := addFile(archive, "bin/"+filepath.Base(binary), binary, 0o755, made); err != nil {
		return err
	}
	return errors.Join(archive.Close(), compressed.Close())
}

// addFile adds a file that belongs to nobody in particular.
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
	header := &tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: name, Mode: mode, ModTime: made.Time, Size: info.Size()}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
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
