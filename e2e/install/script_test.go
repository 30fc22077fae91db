package install

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// downloaders are the programs that may be there to download with, and how to have just that one.
var downloaders = map[string]func(*site){
	"curl": func(*site) {},
	"wget": func(s *site) {
		s.remove("curl")
		s.link("wget", "timeout")
	},
	"busybox wget": func(s *site) {
		s.remove("curl")
		for _, name := range []string{"wget", "timeout"} {
			must(s.T, os.Symlink(lookUp(s.T, "busybox"), filepath.Join(s.path, name)))
		}
	},
}

// bounded has what is bounded by a timeout of that many seconds end after one, so that nobody waits for it.
func (s *site) bounded(seconds string) {
	s.Helper()
	path := filepath.Join(s.path, "timeout")
	real, err := os.Readlink(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	must(s.T, err)
	applet := ""
	if filepath.Base(real) == "busybox" {
		applet = " timeout"
	}
	s.program("timeout", `[ "$1" = `+seconds+` ] || exit 9; shift; exec `+real+applet+` 1 "$@"`)
}

// withEveryDownloader runs a test once for each shell and each program to download with.
func withEveryDownloader(t *testing.T, test func(t *testing.T, s *site)) {
	for _, name := range slices.Sorted(maps.Keys(downloaders)) {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				downloaders[name](s)
				test(t, s)
			})
		})
	}
}

// TestRelease: the binary of the release that plugin.yaml names is installed, for this platform, in place of an older
// one, and without building anything.
func TestRelease(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		p.publish(t, version, slices.Sorted(maps.Keys(headers))...)
		p.publish(t, "1.2.4", here)
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url + "/"
		s.toolchain()
		s.installOld()
		got := s.install()
		wantWords(t, got.stdout, "Taking "+asset(version, here)+" from "+p.url+"/v"+version, "no signature was checked",
			"Installed "+s.plugin+"/bin/helm-parallel-hooks")
		s.wantBinary(program(version, here))
		if got, want := p.seen(), []string{"v1.2.3/checksums.txt", "v1.2.3/" + asset(version, here)}; !slices.Equal(got, want) {
			t.Errorf("requests: %q, want %q", got, want)
		}
		if args := s.buildArgs(); args != nil {
			t.Errorf("go was called: %q", args)
		}
	})
}

// TestChecksumPrograms: whatever program computes SHA-256 is taken; where there's none, nothing that was downloaded is
// installed.
func TestChecksumPrograms(t *testing.T) {
	t.Parallel()
	for name, provide := range map[string]func(*site){
		"sha256sum": func(s *site) { s.link("sha256sum") },
		"shasum":    func(s *site) { s.link("shasum") },
		"openssl":   func(s *site) { s.link("openssl") },
		"sha256":    func(s *site) { s.program("sha256", "exec "+lookUp(s.T, "openssl")+" dgst -sha256 -r \"$2\"") },
	} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.remove("sha256sum")
				provide(s)
				p := s.released(t)
				s.install()
				s.wantBinary(program(version, here))

				p.put(version, asset(version, here), pack(t, contents(version, here, headers[here]+"another")))
				s.fail("the checksum of " + asset(version, here) + " is wrong")
				s.wantBinary(program(version, here))
			})
		})
	}
}

// TestTampered: what isn't what the release says is never installed, nor is it a reason to build instead.
func TestTampered(t *testing.T) {
	t.Parallel()
	good := program(version, here)
	other := "darwin_arm64"
	for name, test := range map[string]struct {
		publish func(*testing.T, *page)
		want    string
	}{
		"wrong checksum": {func(t *testing.T, p *page) {
			p.publish(t, version, here)
			p.put(version, asset(version, here), pack(t, contents(version, here, headers[here]+"something else")))
		}, "the checksum of " + asset(version, here) + " is wrong"},
		"another file's checksum": {func(t *testing.T, p *page) {
			p.publish(t, version, here)
			p.put(version, "checksums.txt", sums(map[string][]byte{asset(version, here): []byte("x"), asset(version, other): []byte("y")}))
		}, "the checksum of " + asset(version, here) + " is wrong"},
		"named twice": {func(t *testing.T, p *page) {
			p.publish(t, version, here)
			p.put(version, "checksums.txt", append(sums(map[string][]byte{asset(version, here): []byte("x")}),
				sums(map[string][]byte{asset(version, here): pack(t, contents(version, here, good))})...))
		}, "more than once"},
		"another platform's binary": {func(t *testing.T, p *page) {
			p.publishFiles(version, map[string][]byte{asset(version, here): pack(t, contents(version, here, program(version, other)))})
		}, "is no program for"},
		"no program": {func(t *testing.T, p *page) {
			p.publishFiles(version, map[string][]byte{asset(version, here): pack(t, contents(version, here, "#!/bin/sh\n"))})
		}, "is no program for"},
		"a link": {func(t *testing.T, p *page) {
			p.publishFiles(version, map[string][]byte{asset(version, here): pack(t, []file{{"bin/helm-parallel-hooks", "/bin/busybox", true}})})
		}, "is no program for"},
		"no binary": {func(t *testing.T, p *page) {
			p.publishFiles(version, map[string][]byte{asset(version, here): pack(t, []file{{name: "README.md", content: "read me"}})})
		}, "can't unpack"},
		"no archive": {func(t *testing.T, p *page) {
			p.publishFiles(version, map[string][]byte{asset(version, here): []byte("not an archive")})
		}, "can't unpack"},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				p := newPage(t)
				test.publish(t, p)
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
				s.toolchain()
				s.fail(test.want)
				s.wantBinary("")
				s.installOld()
				s.fail(test.want, "the binary that was there before is as it was")
				s.wantBinary(oldBinary)
				if args := s.buildArgs(); args != nil {
					t.Errorf("it was built instead: %q", args)
				}
			})
		})
	}
}

// TestOneFileIsUnpacked: whatever else an archive has, it's not written anywhere.
func TestOneFileIsUnpacked(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		p := newPage(t)
		files := append(contents(version, here, program(version, here)),
			file{name: "../../escaped", content: "x"}, file{name: "install-binary.sh", content: "exit 1"})
		p.publishFiles(version, map[string][]byte{asset(version, here): pack(t, files)})
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
		s.install()
		s.wantBinary(program(version, here))
		for _, line := range listing(t, filepath.Dir(s.plugin)) {
			if strings.Contains(line, "escaped") {
				t.Errorf("%s was written outside of the temporary folder", line)
			}
		}
		s.install() // by the same script
	})
}

// TestUnavailable: where the release's binary can't be had the plugin is built, and it's said why. Without a Go
// toolchain the installation fails, says the same, and leaves everything as it was.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	whole := pack(t, contents(version, here, program(version, here)))
	for name, test := range map[string]struct {
		prepare  func(*site, *page)
		want     string
		requests int // -1: as many as it takes
	}{
		"no release":       {func(*site, *page) {}, "checksums.txt: the server answered 404", 1},
		"gone":             {func(_ *site, p *page) { p.answer(version, "checksums.txt", status(410)) }, "the server answered 410", 1},
		"forbidden":        {func(_ *site, p *page) { p.answer(version, "checksums.txt", status(403)) }, "the server answered 403", 1},
		"broken":           {func(_ *site, p *page) { p.answer(version, "checksums.txt", status(500)) }, "the server answered 500", 4},
		"cut":              {func(_ *site, p *page) { p.answer(version, "checksums.txt", cut) }, "checksums.txt: ", -1},
		"another platform": {func(s *site, p *page) { p.publish(s.T, version, "darwin_arm64") }, "release 1.2.3 has no binary for linux on", 1},
		"archive is missing": {func(s *site, p *page) {
			p.publish(s.T, version, here)
			p.answer(version, asset(version, here), status(404))
		}, asset(version, here) + ": the server answered 404", 2},
		"archive is cut": {func(s *site, p *page) {
			p.publish(s.T, version, here)
			p.answer(version, asset(version, here), truncated(whole))
		}, asset(version, here) + ": ", -1},
		"a proxy's page": {func(_ *site, p *page) {
			p.put(version, "checksums.txt", []byte("<html>Please log in</html>\n"))
		}, "is not a checksum file", 1},
		"an empty checksum file": {func(_ *site, p *page) { p.put(version, "checksums.txt", nil) }, "is not a checksum file", 1},
		"no server": {func(s *site, _ *page) {
			server := httptest.NewServer(http.NotFoundHandler())
			s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = server.URL
			server.Close()
		}, "checksums.txt: ", 0},
		"no tar":              {func(s *site, p *page) { p.publish(s.T, version, here); s.remove("tar") }, "tar is not there", 0},
		"no od":               {func(s *site, p *page) { p.publish(s.T, version, here); s.remove("od") }, "od is not there", 0},
		"no checksum program": {func(s *site, p *page) { p.publish(s.T, version, here); s.remove("sha256sum") }, "none of sha256sum, shasum, openssl and sha256 is there", 0},
	} {
		t.Run(name, func(t *testing.T) {
			withEveryDownloader(t, func(t *testing.T, s *site) {
				p := newPage(t)
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
				test.prepare(s, p)

				s.fail(test.want, "No Go toolchain was found", "https://go.dev/dl/", "Then run: sh '"+s.plugin+"/install-binary.sh'")
				s.wantBinary("")
				if got := len(p.seen()); test.requests >= 0 && got != test.requests {
					t.Errorf("%d requests, want %d: %q", got, test.requests, p.seen())
				}
				s.installOld()
				s.fail(test.want, "the binary that was there before is as it was")
				s.wantBinary(oldBinary)

				s.toolchain()
				got := s.install()
				wantWords(t, got.stdout, "No binary of release 1.2.3 can be had: ", test.want, "Building helm-parallel-hooks 1.2.3 with go1.99")
				s.wantBinary(built)
				wantWords(t, strings.Join(s.buildArgs(), "\n"), s.plugin, "0 off "+s.plugin+"/bin/.new.", "-trimpath", "-buildvcs=false", "main.version=1.2.3")
			})
		})
	}
}

// TestStuckDownload: a server that sends half and then nothing more is given up and tried again; by busybox's wget, which
// doesn't heed silence, late and once.
func TestStuckDownload(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		p.publish(t, version, here)
		p.answer(version, asset(version, here), stuck(pack(t, contents(version, here, program(version, here)))))
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
		s.env["HELM_PARALLEL_HOOKS_TIMEOUT"] = "1"
		if strings.Contains(t.Name(), "busybox_wget") {
			s.bounded("30")
		}
		s.installOld()
		s.fail(asset(version, here) + ": ")
		s.wantBinary(oldBinary)
		want := 5
		if strings.Contains(t.Name(), "busybox_wget") {
			want = 2
		}
		if got := len(p.seen()); got != want {
			t.Errorf("%d requests, want %d: %q", got, want, p.seen())
		}
	})
}

// TestDrippingDownload: a server that is never silent, but would take for ever, is given up: by curl for its speed, and
// tried again; by wget after a time for which nobody would wait twice.
func TestDrippingDownload(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		p.publish(t, version, here)
		p.answer(version, asset(version, here), drip)
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
		s.env["HELM_PARALLEL_HOOKS_TIMEOUT"] = "2"
		s.bounded("60")
		s.installOld()
		words, want := "curl: (28)", 5
		if strings.Contains(t.Name(), "wget") {
			words, want = "it took longer than 60 s", 2
		}
		s.fail(asset(version, here) + ": " + words)
		s.wantBinary(oldBinary)
		if got := len(p.seen()); got != want {
			t.Errorf("%d requests, want %d: %q", got, want, p.seen())
		}
	})
}

// TestNothingToDownloadWith: with neither curl nor wget the plugin is built.
func TestNothingToDownloadWith(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.remove("curl")
		s.fail("neither curl nor wget is there", "No Go toolchain was found")
		s.toolchain()
		wantWords(t, s.install().stdout, "neither curl nor wget is there", "Building")
		s.wantBinary(built)
	})
}

// TestFailedBuild: a build that fails leaves everything as it was.
func TestFailedBuild(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.cloneOf("/somewhere")
		s.program("go", `[ "$1" = env ] || { while [ "$1" != -o ]; do shift; done; printf half >"$2"; echo 'undefined: x' >&2; exit 1; }`)
		s.installOld()
		s.fail("undefined: x", "the build failed")
		s.wantBinary(oldBinary)
	})
}

// TestRetry: what may succeed the next time is tried again, four times in all; what won't, isn't.
func TestRetry(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		whole := pack(t, contents(version, here, program(version, here)))
		files := map[string][]byte{asset(version, here): whole}
		p.answer(version, "checksums.txt", first(status(500), status(429), cut, serve(sums(files))))
		p.answer(version, asset(version, here), first(truncated(whole), status(503), serve(whole)))
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
		got := s.install()
		s.wantBinary(program(version, here))
		wantWords(t, got.stdout, "checksums.txt: the server answered 500; trying again in 1 s.",
			"checksums.txt: the server answered 429; trying again in 2 s.", "trying again in 4 s.",
			asset(version, here)+": the server answered 503; trying again in 2 s.")
	})
}

// TestPlatforms: what uname says leads to the archive that has Go's names for it.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ system, machine, want string }{
		{"Linux", "x86_64", "linux_amd64"},
		{"Linux", "aarch64", "linux_arm64"},
		{"Linux", "armv7l", "linux_arm"},
		{"Linux", "armv8l", "linux_arm"},
		{"Linux", "ppc64le", "linux_ppc64le"},
		{"Linux", "s390x", "linux_s390x"},
		{"Darwin", "x86_64", "darwin_amd64"},
		{"Darwin", "arm64", "darwin_arm64"},
		{"FreeBSD", "amd64", "freebsd_amd64"},
		{"FreeBSD", "arm64", "freebsd_arm64"},
		{"MINGW64_NT-10.0-19045", "x86_64", "windows_amd64"},
		{"MSYS_NT-10.0-22631", "x86_64", "windows_amd64"},
		{"CYGWIN_NT-10.0", "x86_64", "windows_amd64"},
		{"Windows_NT", "x86_64", "windows_amd64"},
		{"MINGW64_NT-10.0-22631-ARM64", "x86_64", "windows_arm64"},
		{"MINGW64_NT-10.0-22631", "aarch64", "windows_arm64"},
		{"Linux", "armv6l", ""},
		{"Linux", "i686", ""},
		{"Linux", "riscv64", ""},
		{"Linux", "ppc64", ""},
		{"SunOS", "i86pc", ""},
		{"OpenBSD", "amd64", ""},
		{"FreeBSD", "i386", ""},
	} {
		t.Run(test.system+" "+test.machine, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				p := newPage(t)
				p.publish(t, version, slices.Sorted(maps.Keys(headers))...)
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
				s.program("uname", `case $1 in -s) echo '`+test.system+`' ;; -m) echo '`+test.machine+`' ;; *) exit 1 ;; esac`)
				if test.want == "" {
					s.fail("there are no releases for ", " on "+test.machine)
					if got := p.seen(); len(got) > 0 {
						t.Errorf("requests: %q, want none", got)
					}
					return
				}
				s.install()
				name := "bin/helm-parallel-hooks"
				if strings.HasPrefix(test.want, "windows") {
					name += ".exe"
				}
				got, err := os.ReadFile(filepath.Join(s.plugin, name))
				must(t, err)
				if want := program(version, test.want); string(got) != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}

				// Each other platform's program is told apart from this one's.
				for other := range headers {
					if other == test.want {
						continue
					}
					p.publishFiles(version, map[string][]byte{asset(version, test.want): pack(t, contents(version, test.want, program(version, other)))})
					s.fail("is no program for")
				}
			})
		})
	}
}

// TestRealPrograms: what Go makes for a platform is taken for that platform's.
func TestRealPrograms(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the standard library for every platform")
	}
	source := filepath.Join(t.TempDir(), "main.go")
	must(t, os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644))
	for platform, names := range map[string][2]string{
		"linux_amd64": {"Linux", "x86_64"}, "linux_arm64": {"Linux", "aarch64"}, "linux_arm": {"Linux", "armv7l"},
		"linux_ppc64le": {"Linux", "ppc64le"}, "linux_s390x": {"Linux", "s390x"},
		"darwin_amd64": {"Darwin", "x86_64"}, "darwin_arm64": {"Darwin", "arm64"},
		"freebsd_amd64": {"FreeBSD", "amd64"}, "freebsd_arm64": {"FreeBSD", "arm64"},
		"windows_amd64": {"MSYS_NT-10.0", "x86_64"}, "windows_arm64": {"MSYS_NT-10.0", "aarch64"},
	} {
		t.Run(platform, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(platform, "_")
			binary := filepath.Join(t.TempDir(), "program")
			c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, source)
			c.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "GOARM=7", "CGO_ENABLED=0", "GOWORK=off")
			if got := run(t, c); got.code != 0 {
				t.Fatal(got)
			}
			content, err := os.ReadFile(binary)
			must(t, err)
			inEveryShell(t, func(t *testing.T, s *site) {
				p := newPage(t)
				p.publishFiles(version, map[string][]byte{asset(version, platform): pack(t, contents(version, platform, string(content)))})
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
				s.program("uname", `case $1 in -s) echo '`+names[0]+`' ;; -m) echo '`+names[1]+`' ;; *) exit 1 ;; esac`)
				s.install()
			})
		})
	}
}

// asked has a curl on the PATH that remembers where it was sent, and finds nothing there.
func (s *site) asked() func() string {
	s.program("curl", `for last; do :; done; printf '%s\n' "$last" >>"$HOME/asked"; printf 404; echo "no such file" >&2; exit 22`)
	return func() string {
		content, err := os.ReadFile(filepath.Join(s.env["HOME"], "asked"))
		if os.IsNotExist(err) {
			return ""
		}
		must(s.T, err)
		return strings.TrimSpace(string(content))
	}
}

// TestOrigins: the releases are those of the repository that the plugin was cloned from, in whatever form git has its
// address; and what it has of credentials is neither shown nor sent.
func TestOrigins(t *testing.T) {
	t.Parallel()
	for origin, repository := range map[string]string{
		"https://github.com/helm-parallel-hooks/helm-parallel-hooks":      "https://github.com/helm-parallel-hooks/helm-parallel-hooks",
		"https://github.com/helm-parallel-hooks/helm-parallel-hooks.git":  "https://github.com/helm-parallel-hooks/helm-parallel-hooks",
		"https://github.com/helm-parallel-hooks/helm-parallel-hooks.git/": "https://github.com/helm-parallel-hooks/helm-parallel-hooks",
		"https://me:sesame@github.com/a/fork.git":                         "https://github.com/a/fork",
		"https://me:ses@me@github.com/a/fork":                             "https://github.com/a/fork",
		"https://sesame@git.example.com:8443/group/sub/b.c_d~e.git":       "https://git.example.com:8443/group/sub/b.c_d~e",
		"http://git.example.com:3000/a/b":                                 "https://git.example.com/a/b",
		"git://git.example.com:9418/a/b.git":                              "https://git.example.com/a/b",
		"ssh://git@github.com/a/b.git":                                    "https://github.com/a/b",
		"ssh://git@git.example.com:2222/a/b.git":                          "https://git.example.com/a/b",
		"ssh://git@ssh.github.com:443/a/b.git":                            "https://github.com/a/b",
		"git+ssh://git@github.com/a/b":                                    "https://github.com/a/b",
		"git@github.com:a/b.git":                                          "https://github.com/a/b",
		"github.com:a/b":                                                  "https://github.com/a/b",
		"git@git.example.com:/srv/b.git":                                  "https://git.example.com/srv/b",
		"file:///srv/git/b":                                               "",
		"/srv/git/b":                                                      "",
		"/srv/with:colon/b":                                               "",
		"./with:colon/b":                                                  "",
		"../b":                                                            "",
		`C:\git\b`:                                                        "",
		"C:/git/b":                                                        "",
		"https://me:ses/me@github.com/a/b":                                "",
		"https://github.com":                                              "",
		"https://github.com/a/b?sesame":                                   "",
		"https://[::1]/a/b":                                               "",
		"https://github.com/a/$(touch sesame)":                            "",
	} {
		t.Run(strings.ReplaceAll(origin, "/", "|"), func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.cloneOf(strings.ReplaceAll(origin, `\`, `\\`))
				asked := s.asked()
				got := s.fail()
				want := ""
				if repository != "" {
					want = repository + "/releases/download/v1.2.3/checksums.txt"
					wantWords(t, got.stderr, want+": the server answered 404")
				} else {
					wantWords(t, got.stderr, "doesn't come from a server")
				}
				if got := asked(); got != want {
					t.Errorf("asked for %q, want %q", got, want)
				}
				// The folder is named after the test.
				said := strings.ReplaceAll(got.stdout+got.stderr, s.plugin, "")
				refuseWords(t, said, "sesame", "ses@me", "ses/me")
			})
		})
	}
}

// TestOriginIsTheClonesOwn: another repository that Helm was called in or that the plugin's folder is in has no say, and
// a folder that's no clone has no origin.
func TestOriginIsTheClonesOwn(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		asked := s.asked()
		other := filepath.Join(s.env["HOME"], "other")
		for _, c := range [][]string{
			{"git", "init", "-q", other}, {"git", "-C", other, "remote", "add", "origin", "https://github.com/wrong/one"},
			{"git", "init", "-q", filepath.Dir(s.plugin)}, {"git", "-C", filepath.Dir(s.plugin), "remote", "add", "origin", "https://github.com/wrong/too"},
		} {
			if got := run(t, exec.Command(c[0], c[1:]...)); got.code != 0 {
				t.Fatal(got)
			}
		}
		s.env["GIT_DIR"] = filepath.Join(other, ".git")
		s.fail()
		if got, want := asked(), origin+"/releases/download/v1.2.3/checksums.txt"; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
		must(t, os.Remove(filepath.Join(s.env["HOME"], "asked")))

		// In a working tree, .git is a file.
		must(t, os.RemoveAll(filepath.Join(s.plugin, ".git")))
		tree := filepath.Join(s.env["HOME"], "tree")
		must(t, os.MkdirAll(tree, 0o755))
		if got := run(t, exec.Command("git", "init", "-q", "--separate-git-dir", tree, s.plugin)); got.code != 0 {
			t.Fatal(got)
		}
		if got := run(t, exec.Command("git", "-C", s.plugin, "remote", "add", "origin", "https://github.com/a/tree")); got.code != 0 {
			t.Fatal(got)
		}
		s.fail()
		if got, want := asked(), "https://github.com/a/tree/releases/download/v1.2.3/checksums.txt"; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}

		must(t, os.Remove(filepath.Join(s.plugin, ".git")))
		s.fail("doesn't come from a server")
	})
}

// TestMirrorsCredentials: those in a mirror's address are used and never shown.
func TestMirrorsCredentials(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		p.publish(t, version, here)
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:sesame"))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != want {
				w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
				status(401)(w, r)
				return
			}
			p.ServeHTTP(w, r)
		}))
		t.Cleanup(server.Close)
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = strings.Replace(server.URL, "http://", "http://me:sesame@", 1) + "/releases/download"
		got := s.install()
		s.wantBinary(program(version, here))
		refuseWords(t, got.stdout+got.stderr, "sesame")

		for _, answer := range []http.HandlerFunc{status(404), status(500), cut} {
			p.answer(version, "checksums.txt", answer)
			got = s.fail(server.URL + "/releases/download/v1.2.3/checksums.txt: ")
			refuseWords(t, got.stdout+got.stderr, "sesame")
		}
		server.Close()
		got = s.fail("checksums.txt: ")
		refuseWords(t, got.stdout+got.stderr, "sesame")

		// Some program may repeat the address that it was given.
		s.program("curl", `for last; do :; done; echo "curl: can't reach $last" >&2; exit 6`)
		got = s.fail("can't reach http://" + strings.TrimPrefix(server.URL, "http://"))
		refuseWords(t, got.stdout+got.stderr, "sesame")
	})
}

// TestProxy: the proxy that the environment names is asked.
func TestProxy(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		p.publish(t, version, here)
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Host != "releases.invalid" {
				status(502)(w, r)
				return
			}
			p.ServeHTTP(w, r)
		}))
		t.Cleanup(proxy.Close)
		s.env["http_proxy"] = proxy.URL
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = "http://releases.invalid/releases/download"
		s.install()
		s.wantBinary(program(version, here))
	})
}

// TestRedirections: releases pages redirect; from https, never to http.
func TestRedirections(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		p.publish(t, version, here)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, strings.TrimSuffix(p.url, "/releases/download")+r.URL.Path, http.StatusFound)
		}))
		t.Cleanup(server.Close)
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = server.URL + "/releases/download"
		s.install()
		s.wantBinary(program(version, here))
	})
	for _, downloader := range []string{"curl", "wget"} {
		t.Run("from https by "+downloader, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				downloaders[downloader](s)
				p := newPage(t)
				p.publish(t, version, here)
				secure := newSecureServer(t, s, p)
				for name, address := range map[string]string{
					"to https": secure.URL, "on the same server": "", "to another server of the same protocol": strings.TrimPrefix(secure.URL, "https:"),
				} {
					secure.redirect(func(r *http.Request) string { return address + "/direct" + r.URL.Path })
					s.installOld()
					s.install()
					if got := s.binary(); got != program(version, here) {
						t.Errorf("%s: the binary is %q", name, got)
					}
				}
				asked := len(p.seen())
				plain := strings.TrimSuffix(p.url, "/releases/download")
				secure.redirect(func(r *http.Request) string { return plain + r.URL.Path })
				s.fail("checksums.txt: ", "http")
				if got := p.seen(); len(got) > asked {
					t.Errorf("the redirection was followed: %q", got[asked:])
				}
				secure.redirect(func(r *http.Request) string { return r.URL.Path })
				s.fail("checksums.txt: ", "redirect")
			})
		})
	}
	// One that checks certificates, unlike the one that is here.
	t.Run("from https by busybox wget", func(t *testing.T) {
		inEveryShell(t, func(t *testing.T, s *site) {
			s.remove("curl")
			for _, to := range []string{"http://example.invalid/x", "HTTP://example.invalid/x", "ftp://example.invalid/x"} {
				s.program("wget", `case $1 in --version) exit 1 ;; --help) echo "BusyBox v1.36.1 () multi-call binary." >&2; exit 1 ;; esac
while [ "$1" != -O ]; do shift; done
printf '  HTTP/1.1 302 Found\r\n  location: `+to+`\r\n' >&2
echo x >"$2"`)
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = "https://example.invalid"
				s.fail("it redirects from https to " + to)
			}
			s.program("wget", `case $1 in --version) exit 1 ;; --help) echo "BusyBox v1.33.1 () multi-call binary." >&2; exit 1 ;; esac; echo "$@" >"$HOME/called"`)
			s.fail("isn't known to check the server's certificate")
			if _, err := os.Stat(filepath.Join(s.env["HOME"], "called")); err == nil {
				t.Error("it was asked all the same")
			}
		})
	})
}

// TestWget2 is one that says what the real one says: it follows a redirection to http though told to follow none, and
// ends well though the server has answered with an error. So it's never asked for anything.
func TestWget2(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"https://example.invalid", "http://example.invalid"} {
		t.Run(strings.ReplaceAll(base, "/", "|"), func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.remove("curl")
				s.program("wget", `case $1 in --version) echo "GNU Wget2 1.99.1 - multithreaded metalink/file/website downloader"; exit ;; esac
echo "$@" >"$HOME/called"
while [ "$1" != -O ]; do shift; done
printf "HTTP response 302 Found [$3]\nAdding URL: http://example.invalid/x\nSaving '$2'\nHTTP response 200 OK [http://example.invalid/x]\n"
echo x >"$2"`)
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = base
				s.installOld()
				s.fail("checksums.txt: this wget is wget2", "install curl or GNU wget 1")
				s.wantBinary(oldBinary)
				if _, err := os.Stat(filepath.Join(s.env["HOME"], "called")); err == nil {
					t.Error("it was asked all the same")
				}
			})
		})
	}
}

// secureServer has a page of releases below /direct, by https, and sends elsewhere who asks for anything else.
type secureServer struct {
	*httptest.Server
	mu sync.Mutex
	to func(*http.Request) string
}

// newSecureServer starts one. Its certificate is made for the test, so the programs of the site are told not to mind.
func newSecureServer(t *testing.T, s *site, p *page) *secureServer {
	t.Helper()
	secure := &secureServer{}
	secure.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, found := strings.CutPrefix(r.URL.Path, "/direct"); found {
			r.URL.Path = path
			p.ServeHTTP(w, r)
			return
		}
		secure.mu.Lock()
		to := secure.to(r)
		secure.mu.Unlock()
		// Not by http.Redirect, which makes an address of a path.
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}))
	// busybox has no other that Go has as well.
	secure.TLS = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	must(t, os.WriteFile(filepath.Join(s.env["HOME"], ".curlrc"), []byte("insecure\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.env["HOME"], ".wgetrc"), []byte("check_certificate = off\n"), 0o644))
	s.env["no_proxy"] = "127.0.0.1"
	s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = secure.URL + "/releases/download"
	return secure
}

func (s *secureServer) redirect(to func(*http.Request) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
}

// TestCertificates: from a server whose certificate nobody vouches for, nothing is taken, by any program. busybox's own
// TLS doesn't look at certificates, and says so; then what it has fetched doesn't count.
func TestCertificates(t *testing.T) {
	t.Parallel()
	withEveryDownloader(t, func(t *testing.T, s *site) {
		p := newPage(t)
		p.publish(t, version, here)
		s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = newSecureServer(t, s, p).URL + "/direct/releases/download"
		for _, name := range []string{".curlrc", ".wgetrc"} {
			must(t, os.Remove(filepath.Join(s.env["HOME"], name)))
		}
		s.installOld()
		got := s.fail("checksums.txt: ", "certificate")
		refuseWords(t, got.stderr, "More details here")
		s.wantBinary(oldBinary)
		if seen := p.seen(); slices.Contains(seen, "v1.2.3/"+asset(version, here)) {
			t.Errorf("the archive was downloaded: %q", seen)
		}
		s.toolchain()
		wantWords(t, s.install().stdout, "No binary of release 1.2.3 can be had", "certificate")
		s.wantBinary(built)
	})
}

// TestCurlsOwnWords: of what curl says the line is told that says what is wrong, not the advice that follows it.
func TestCurlsOwnWords(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.program("curl", `echo "curl: (60) SSL certificate problem" >&2; echo "More details here: https://curl.se/docs/sslcerts.html" >&2; exit 60`)
		s.fail("checksums.txt: curl: (60) SSL certificate problem")
	})
}

// TestArchive: HELM_PARALLEL_HOOKS_ARCHIVE names a file to take instead of downloading one. It's checked in the same
// way, and nothing is asked for or built where it won't do.
func TestArchive(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		asked := s.asked()
		s.toolchain()
		folder := filepath.Join(s.env["HOME"], "down loads")
		must(t, os.MkdirAll(folder, 0o755))
		name := asset(version, here)
		archive := pack(t, contents(version, here, program(version, here)))
		keep := func(name string, content []byte) {
			t.Helper()
			must(t, os.WriteFile(filepath.Join(folder, name), content, 0o644))
		}
		s.env["HELM_PARALLEL_HOOKS_ARCHIVE"] = filepath.Join(folder, name)
		s.fail("HELM_PARALLEL_HOOKS_ARCHIVE names "+filepath.Join(folder, name), "not there")
		keep(name, archive)
		s.fail("there's no checksums.txt in "+folder, "must be beside it")
		keep("checksums.txt", sums(map[string][]byte{asset(version, "darwin_arm64"): archive}))
		s.fail("release 1.2.3 has no binary for linux")
		keep("checksums.txt", sums(map[string][]byte{name: []byte("other")}))
		s.fail("the checksum of " + name + " is wrong")
		s.wantBinary("")

		keep("checksums.txt", sums(map[string][]byte{name: archive}))
		wantWords(t, s.install().stdout, "Taking "+name+" from "+folder)
		s.wantBinary(program(version, here))

		// By a path from where the user is.
		relative, err := filepath.Rel(s.cwd, filepath.Join(folder, name))
		must(t, err)
		s.installOld()
		s.env["HELM_PARALLEL_HOOKS_ARCHIVE"] = relative
		s.install()
		s.wantBinary(program(version, here))

		keep(asset("1.2.4", here), archive)
		s.env["HELM_PARALLEL_HOOKS_ARCHIVE"] = filepath.Join(folder, asset("1.2.4", here))
		s.fail("must name a file "+name, "not "+asset("1.2.4", here))
		if got := asked(); got != "" {
			t.Errorf("asked for %s", got)
		}
		if args := s.buildArgs(); args != nil {
			t.Errorf("it was built: %q", args)
		}
	})
}

// TestUnpackedArchive: a release's archive that was installed as a plugin has its binary in place; that of another
// platform is refused.
func TestUnpackedArchive(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		asked := s.asked()
		must(t, os.Remove(filepath.Join(s.plugin, "go.mod")))
		must(t, os.RemoveAll(filepath.Join(s.plugin, ".git")))
		s.toolchain()
		s.fail("there's no source here", "doesn't come from a server")

		s.write("bin/helm-parallel-hooks", program(version, here))
		wantWords(t, s.install().stdout, "Installed")
		s.wantBinary(program(version, here))
		s.write("bin/helm-parallel-hooks", program(version, "darwin_arm64"))
		s.fail("the binary in this archive is not for linux on", "helm plugin uninstall parallel-hooks", asset(version, here))
		if got := asked(); got != "" {
			t.Errorf("asked for %s", got)
		}
	})
}

// TestLinkedFolder: Helm links to a local folder. That's where somebody works on the plugin, so what is built is what is
// there, whatever was released; without Go, it's the release.
func TestLinkedFolder(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		p := s.released(t)
		link := filepath.Join(s.env["HOME"], "linked plugin")
		must(t, os.Symlink(s.plugin, link))
		s.env["HELM_PLUGIN_DIR"] = link
		s.install()
		s.wantBinary(program(version, here))

		asked := len(p.seen())
		s.toolchain()
		wantWords(t, s.install().stdout, "link to a folder of yours", "Building")
		s.wantBinary(built)
		if got := p.seen(); len(got) != asked {
			t.Errorf("requests: %q, want none", got[asked:])
		}
	})
}

// TestUnwritable: where the binary can't be written, that's said, and what is there stays.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	// Root may write to any folder, so these are conditions that hold for root as well.
	for name, test := range map[string]struct {
		prepare func(*site)
		want    string
	}{
		"a file in the folder's place":   {func(s *site) { s.write("bin", "a file") }, "can't make the folder"},
		"a folder in the file's place":   {func(s *site) { s.write("bin/helm-parallel-hooks/file", "x") }, "is a folder. Remove it."},
		"a dangling link for the folder": {func(s *site) { must(s.T, os.Symlink("/nowhere/at all", filepath.Join(s.plugin, "bin"))) }, "can't make the folder"},
		"a folder without room":          {func(s *site) { must(s.T, os.Symlink("/proc/self", filepath.Join(s.plugin, "bin"))) }, "can't write to the folder"},
		"a binary that won't be moved":   {func(s *site) { s.program("mv", "exit 1"); s.installOld() }, "can't write"},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.released(t)
				s.toolchain()
				test.prepare(s)
				before := listing(t, s.plugin)
				got := s.run()
				if got.code != 1 {
					t.Fatalf("the exit code is %d, want 1: %v", got.code, got)
				}
				wantWords(t, got.stderr, test.want)
				if after := listing(t, s.plugin); !slices.Equal(before, after) {
					t.Errorf("the folder has changed from %q to %q", before, after)
				}
			})
		})
	}
}

// TestReadOnlyFolder: whoever may not write to the plugin's folder, which root always may, is told so, and what is there
// stays.
func TestReadOnlyFolder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		folder string
		want   string
	}{
		"the plugin's": {"", "can't make the folder"},
		"the binary's": {"bin", "can't write to the folder"},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				p := s.released(t)
				s.toolchain()
				if test.folder != "" {
					s.installOld()
				}
				folder := filepath.Join(s.plugin, test.folder)
				must(t, os.Chmod(folder, 0o555))
				t.Cleanup(func() { _ = os.Chmod(folder, 0o755) })
				before := listing(t, s.plugin)
				c := s.command()
				if os.Geteuid() == 0 {
					c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
					// A test's own folder is nobody else's.
					must(t, os.Chmod(filepath.Dir(s.dir), 0o755))
				}
				got := run(t, c)
				if got.code != 1 {
					t.Fatalf("the exit code is %d, want 1: %v", got.code, got)
				}
				wantWords(t, got.stderr, test.want, "Then run: sh '"+s.plugin+"/install-binary.sh'")
				if after := listing(t, s.plugin); !slices.Equal(before, after) {
					t.Errorf("the folder has changed from %q to %q", before, after)
				}
				if asked := p.seen(); len(asked) > 0 {
					t.Errorf("requests: %q, want none", asked)
				}
			})
		})
	}
}

// listing names all that is in a folder, and what the files say.
func listing(t *testing.T, folder string) []string {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(path, folder)
		if entry.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", content)
		}
		names = append(names, line)
		return nil
	}))
	return names
}

// TestByHand: without Helm, the script installs into the folder that it's in, by whatever path it's called, and though the
// environment still has the folder of another plugin, or of another copy of this one.
func TestByHand(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.released(t)
		other := filepath.Join(s.env["HOME"], "another copy")
		must(t, os.CopyFS(other, os.DirFS(s.plugin)))
		before := listing(t, other)
		delete(s.env, "HELM_PLUGIN_DIR")
		for _, path := range []string{"install-binary.sh", "./install-binary.sh", filepath.Join("..", filepath.Base(s.plugin), "install-binary.sh"), filepath.Join(s.plugin, "install-binary.sh")} {
			s.installOld()
			c := exec.Command(s.shell[0], append(s.shell[1:], path)...)
			c.Dir, c.Env = s.plugin, append(s.command().Env, "HELM_PLUGIN_DIR="+other)
			if got := run(t, c); got.code != 0 {
				t.Fatal(got)
			}
			s.wantTidy()
			if got := s.binary(); got != program(version, here) {
				t.Errorf("by %s, the binary is %q", path, got)
			}
		}
		if after := listing(t, other); !slices.Equal(before, after) {
			t.Errorf("another folder has changed from %q to %q", before, after)
		}
	})
}

// TestRelativeFolder: where HELM_DATA_HOME is relative, so is the plugin's folder; and CDPATH must not lead elsewhere.
func TestRelativeFolder(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.released(t)
		s.env["HELM_PLUGIN_DIR"] = filepath.Base(s.plugin)
		decoy := filepath.Join(s.env["HOME"], filepath.Base(s.plugin))
		must(t, os.Mkdir(decoy, 0o755))
		s.env["CDPATH"] = s.env["HOME"]
		c := s.command()
		c.Dir = filepath.Dir(s.plugin)
		if got := run(t, c); got.code != 0 {
			t.Fatal(got)
		}
		s.wantBinary(program(version, here))
	})
}

// TestManifests: the version is read from plugin.yaml however it's written, and nothing else passes for one.
func TestManifests(t *testing.T) {
	t.Parallel()
	for manifest, want := range map[string]string{
		"version: 1.2.3\nname: parallel-hooks\n":         "1.2.3",
		"name: \"parallel-hooks\"\nversion: \"1.2.3\"\n": "1.2.3",
		"name: parallel-hooks\r\nversion: 1.2.3\r\n":     "1.2.3",
		"name: parallel-hooks\nversion: 2.0.0-rc.1\n":    "2.0.0-rc.1",
		"name: parallel-hooks \nversion: 1.2.3   ":       "1.2.3",
		"name: parallel-hooks\n":                         "",
		"name: parallel-hooks\nversion: ../../1.2.3\n":   "",
		"name: parallel-hooks\nversion: 1.2.3 $(exit)\n": "",
	} {
		t.Run(fmt.Sprintf("%q", strings.ReplaceAll(manifest, "/", "|")), func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				p := newPage(t)
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
				s.write("plugin.yaml", manifest)
				if want == "" {
					s.fail("plugin.yaml doesn't say the version")
					return
				}
				p.publish(t, want, here)
				s.install()
				s.wantBinary(program(want, here))
			})
		})
	}
}

// TestOtherFolder: in a folder that isn't the plugin's, nothing is installed.
func TestOtherFolder(t *testing.T) {
	t.Parallel()
	for name, manifest := range map[string]string{
		"another plugin": "name: secrets\nversion: 1.2.3\n", "a look-alike": "name: parallel-hooks-x\nversion: 1.2.3\n", "no name": "version: 1.2.3\n",
		"a name within": "usage: x\n  name: parallel-hooks\nversion: 1.2.3\n",
	} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.toolchain()
				s.write("plugin.yaml", manifest)
				s.refuse("is not the plugin's folder")
				s.wantBinary("")
			})
		})
	}
}

// TestBuiltForThisMachine: what the user's own builds are for and how they are made, by the environment, doesn't count; and what was built for
// something else all the same isn't installed.
func TestBuiltForThisMachine(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.cloneOf("/somewhere")
		s.toolchain()
		s.env["GOOS"], s.env["GOARCH"], s.env["GOFLAGS"] = "plan9", "arm", "-mod=vendor"
		s.install()
		s.wantBinary(built)
		wantWords(t, s.buildArgs()[1], " GOFLAGS=-trimpath")
		if got, want := s.buildArgs()[2], "for "+strings.Replace(here, "_", " ", 1); got != want {
			t.Errorf("built %q, want %q", got, want)
		}
		must(t, os.WriteFile(filepath.Join(s.env["HOME"], "built"), []byte(program(version, "darwin_arm64")), 0o644))
		s.fail("what was built is no program for linux")
		s.wantBinary(built)
	})
}

// TestBuildNamesCommit: what is built from a clone says of which commit, whatever repository Helm was called in; without
// git it's built all the same.
func TestBuildNamesCommit(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.cloneOf("/somewhere")
		s.toolchain()
		flags := func() string {
			t.Helper()
			s.install()
			return after(s.buildArgs(), "-ldflags")
		}
		const without = "-s -w -X main.version=1.2.3"
		if got := flags(); got != without {
			t.Errorf("in a folder that's no clone, the linker gets %q, want %q", got, without)
		}

		git := func(args ...string) string {
			t.Helper()
			c := exec.Command("git", append([]string{"-C", s.plugin, "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"}, args...)...)
			c.Env = append(os.Environ(), "GIT_AUTHOR_DATE=2026-01-02T03:04:05+05:45", "GIT_COMMITTER_DATE=2026-01-02T03:04:05+05:45")
			got := run(t, c)
			if got.code != 0 {
				t.Fatal(got)
			}
			return strings.TrimSpace(got.stdout)
		}
		git("init", "-q")
		s.write(".gitignore", "/bin/\n")
		git("add", "-A")
		git("commit", "-q", "--no-verify", "-m", "test")
		commit := git("rev-parse", "HEAD")
		s.env["GIT_DIR"] = filepath.Join(s.env["HOME"], "nothing")
		s.env["TZ"] = "Asia/Kathmandu"
		want := without + " -X main.commit=" + commit + " -X main.date=2026-01-01T21:19:05Z"
		if got := flags(); got != want {
			t.Errorf("the linker gets %q, want %q", got, want)
		}
		s.write("main.go", "package main\n")
		if got, want := flags(), strings.Replace(want, commit, commit+"-dirty", 1); got != want {
			t.Errorf("with a change, the linker gets %q, want %q", got, want)
		}
		s.remove("git")
		if got := flags(); got != without {
			t.Errorf("without git, the linker gets %q, want %q", got, without)
		}
	})
}

// TestNothingToUnpackWith: most versions of tar call gzip, and say little where it's missing.
func TestNothingToUnpackWith(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		s.released(t)
		s.remove("gzip")
		s.fail("gzip is not there")
		s.wantBinary("")

		must(t, os.Remove(filepath.Join(s.plugin, "go.mod")))
		s.write("bin/helm-parallel-hooks", program(version, here))
		s.remove("od")
		s.fail("od is not there")
	})
}

// TestOtherRuns: what a run has left that was killed is removed, and the folder of one that is at work is not, not even if
// it has the name that this one would take.
func TestOtherRuns(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"with mktemp", "without"} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				if name == "with mktemp" {
					s.link("mktemp")
				}
				s.link("find")
				s.cloneOf("/somewhere")
				s.toolchain()
				for _, left := range []string{"old", "young"} {
					s.write("bin/.new."+left+"/file", "x")
				}
				old := time.Now().Add(-49 * time.Hour)
				must(t, os.Chtimes(filepath.Join(s.plugin, "bin", ".new.old"), old, old))
				if got := s.run(); got.code != 0 {
					t.Fatal(got)
				}
				s.wantBinary(built)
				if _, err := os.Stat(filepath.Join(s.plugin, "bin", ".new.old")); err == nil {
					t.Error("what a run of two days ago has left is still there")
				}
				if _, err := os.Stat(filepath.Join(s.plugin, "bin", ".new.young", "file")); err != nil {
					t.Error(err)
				}
				must(t, os.RemoveAll(filepath.Join(s.plugin, "bin", ".new.young")))
				s.wantTidy()
			})
		})
	}
	t.Run("of the same number", func(t *testing.T) {
		inEveryShell(t, func(t *testing.T, s *site) {
			if s.shell[len(s.shell)-1] == "sh" {
				t.Skip("busybox has a mkdir of its own")
			}
			s.toolchain()
			real := lookUp(t, "mkdir")
			s.program("mkdir", `case $1 in bin/.new.*) `+real+` -p "$1/theirs"; exit 1 ;; esac; exec `+real+` "$@"`)
			got := s.run()
			if got.code != 1 {
				t.Fatal(got)
			}
			wantWords(t, got.stderr, "can't write to the folder")
			if theirs, err := filepath.Glob(filepath.Join(s.plugin, "bin", ".new.*", "theirs")); err != nil || len(theirs) != 1 {
				t.Errorf("the other run's folder is gone: %q, %v", theirs, err)
			}
		})
	})
}

// TestQuotedCommand: the command to try again by can be pasted, whatever the folder is called.
func TestQuotedCommand(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		folder := filepath.Join(filepath.Dir(s.plugin), "it's $HOME")
		must(t, os.Rename(s.plugin, folder))
		s.plugin = folder
		s.env["HELM_PLUGIN_DIR"] = folder
		s.remove("curl")
		got := s.fail("Then run: sh '")
		_, command, _ := strings.Cut(got.stderr, "Then run: ")
		s.toolchain()
		c := exec.Command(s.shell[0], append(s.shell[1:], "-c", "sh() { "+strings.Join(s.shell, " ")+" \"$@\"; }; "+strings.TrimSpace(command))...)
		c.Dir, c.Env = s.cwd, s.command().Env
		if got := run(t, c); got.code != 0 {
			t.Fatal(got)
		}
		s.wantBinary(built)
	})
}

// TestSettings: a setting that makes no sense is refused by its name.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, value, want string }{
		{"HELM_PARALLEL_HOOKS_BASE_URL", "ftp://mirror", "must begin with https:// or http://"},
		{"HELM_PARALLEL_HOOKS_BASE_URL", "mirror/releases", "must begin with https:// or http://"},
		{"HELM_PARALLEL_HOOKS_TIMEOUT", "soon", "must be a number of seconds"},
		{"HELM_PARALLEL_HOOKS_TIMEOUT", "0", "must be a number of seconds"},
		{"HELM_PARALLEL_HOOKS_ARCHIVE", "none.tar.gz", "which is not there"},
		{"HELM_PARALLEL_HOOKS_UNSIGNED", "yes", "must be 0 or 1"},
		{"HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE", "true", "must be 0 or 1"},
	} {
		t.Run(test.name+"="+strings.ReplaceAll(test.value, "/", "|"), func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.toolchain()
				s.env[test.name] = test.value
				s.fail(test.name, test.want)
				s.wantBinary("")
			})
		})
	}
}
