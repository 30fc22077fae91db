package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// headers are the first bytes of a program for each platform that releases are made for.
var headers = map[string]string{
	"linux_amd64":   "\x7fELF\x02\x01\x01\x00" + strings.Repeat("\x00", 8) + "\x02\x00\x3e\x00",
	"linux_arm64":   "\x7fELF\x02\x01\x01\x00" + strings.Repeat("\x00", 8) + "\x02\x00\xb7\x00",
	"linux_arm":     "\x7fELF\x01\x01\x01\x00" + strings.Repeat("\x00", 8) + "\x02\x00\x28\x00",
	"linux_ppc64le": "\x7fELF\x02\x01\x01\x00" + strings.Repeat("\x00", 8) + "\x02\x00\x15\x00",
	"linux_s390x":   "\x7fELF\x02\x02\x01\x00" + strings.Repeat("\x00", 8) + "\x00\x02\x00\x16",
	"freebsd_amd64": "\x7fELF\x02\x01\x01\x09" + strings.Repeat("\x00", 8) + "\x02\x00\x3e\x00",
	"freebsd_arm64": "\x7fELF\x02\x01\x01\x09" + strings.Repeat("\x00", 8) + "\x02\x00\xb7\x00",
	"darwin_amd64":  "\xcf\xfa\xed\xfe\x07\x00\x00\x01" + strings.Repeat("\x00", 12),
	"darwin_arm64":  "\xcf\xfa\xed\xfe\x0c\x00\x00\x01" + strings.Repeat("\x00", 12),
	"windows_amd64": "MZ" + strings.Repeat("\x00", 58) + "\x80\x01\x00\x00" + strings.Repeat("\x00", 0x140) + "PE\x00\x00\x64\x86",
	"windows_arm64": "MZ" + strings.Repeat("\x00", 58) + "\x40\x00\x00\x00" + "PE\x00\x00\x64\xaa",
}

// here is the platform that the tests run on, as releases name it.
var here = runtime.GOOS + "_" + runtime.GOARCH

// program is a stand-in for the binary of a release: it can't run, but looks like it to the script.
func program(version, platform string) string {
	return headers[platform] + "release " + version + " for " + platform
}

// asset is the name of a release's archive.
func asset(version, platform string) string {
	return "helm-parallel-hooks_" + version + "_" + platform + ".tar.gz"
}

// file is an entry of an archive.
type file struct {
	name, content string
	link          bool // a symbolic link to content
}

// contents are what the archive of a release has in it.
func contents(version, platform, binary string) []file {
	name := "bin/helm-parallel-hooks"
	if strings.HasPrefix(platform, "windows") {
		name += ".exe"
	}
	return []file{
		{name: "plugin.yaml", content: "name: parallel-hooks\nversion: " + version + "\n"},
		{name: "LICENSE", content: "the licence"},
		{name: "bin/"},
		{name: name, content: binary},
	}
}

// pack makes an archive.
func pack(t *testing.T, files []file) []byte {
	t.Helper()
	var buffer bytes.Buffer
	compressed := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(compressed)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		switch {
		case strings.HasSuffix(f.name, "/"):
			header.Typeflag = tar.TypeDir
		case f.link:
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, f.content, 0
		}
		must(t, archive.WriteHeader(header))
		if header.Typeflag == tar.TypeReg {
			_, err := io.WriteString(archive, f.content)
			must(t, err)
		}
	}
	must(t, archive.Close())
	must(t, compressed.Close())
	return buffer.Bytes()
}

// sums is a checksum file.
func sums(files map[string][]byte) []byte {
	var lines []string
	for name, content := range files {
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(content), name))
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// page plays the releases page of a repository.
type page struct {
	url      string
	answers  map[string]http.HandlerFunc // by path
	mu       sync.Mutex
	requests []string // the paths, in order
}

func newPage(t *testing.T) *page {
	p := &page{answers: map[string]http.HandlerFunc{}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	// A request that hangs on purpose must not keep the server from closing.
	t.Cleanup(server.CloseClientConnections)
	p.url = server.URL + "/releases/download"
	return p
}

// released returns a page that has the release for this platform, from which the plugin is installed.
func (s *site) released(t *testing.T) *page {
	t.Helper()
	p := newPage(t)
	p.publish(t, version, here)
	s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
	return p
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/releases/download/")
	p.mu.Lock()
	p.requests = append(p.requests, path)
	answer := p.answers[path]
	p.mu.Unlock()
	if answer == nil {
		answer = http.NotFound
	}
	answer(w, r)
}

// seen are the paths that were asked for so far.
func (p *page) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// put publishes a file of a release.
func (p *page) put(version, name string, content []byte) {
	p.answer(version, name, serve(content))
}

func (p *page) answer(version, name string, answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers["v"+version+"/"+name] = answer
}

// publish publishes a release for platforms.
func (p *page) publish(t *testing.T, version string, platforms ...string) {
	t.Helper()
	files := map[string][]byte{}
	for _, platform := range platforms {
		files[asset(version, platform)] = pack(t, contents(version, platform, program(version, platform)))
	}
	p.publishFiles(version, files)
}

// publishFiles publishes a release of archives that are made already.
func (p *page) publishFiles(version string, files map[string][]byte) {
	for name, content := range files {
		p.put(version, name, content)
	}
	p.put(version, "checksums.txt", sums(files))
}

// Ways to answer a request.

func serve(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, http.StatusText(code), code) }
}

// cut ends the connection without an answer.
func cut(http.ResponseWriter, *http.Request) {
	panic(http.ErrAbortHandler)
}

// truncated ends the connection in the middle.
func truncated(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// stuck sends half and then nothing more.
func stuck(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// drip sends a byte now and then, and never ends.
func drip(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "20000000")
	now := time.NewTicker(200 * time.Millisecond)
	defer now.Stop()
	for {
		_, _ = w.Write([]byte("x"))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-now.C:
		case <-r.Context().Done():
			return
		}
	}
}

// first answers the first requests in one way each and those after them in the last way.
func first(answers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		answer(w, r)
	}
}

// announce sends a request that nobody answers.
func announce(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
