package install

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cosign puts a cosign on the PATH that remembers how it was called, and what it was asked about. Like some versions of
// the real one, it may know a flag for the format of bundles.
func (s *site) cosign(confirms, knowsFlag bool) func() []string {
	s.Helper()
	code, help := "1", ""
	if confirms {
		code = "0"
	}
	if knowsFlag {
		help = "--new-bundle-format"
	}
	s.program("cosign", `if [ "$1" = version ]; then printf 'GitVersion:    v%s\nGitCommit: 1.2.3\n' "${COSIGN_VERSION:-3.0.5}"; exit 0; fi
if [ "$2" = --help ]; then echo "Flags: `+help+`"; exit 0; fi
{ for arg; do printf '%s\n' "$arg"; done; cat "$arg"; } >"$HOME/cosign"
[ `+code+` = 0 ] || echo "error: none of the expected identities matched" >&2
exit `+code)
	return func() []string {
		content, err := os.ReadFile(filepath.Join(s.env["HOME"], "cosign"))
		if os.IsNotExist(err) {
			return nil
		}
		must(s.T, err)
		return strings.Split(strings.TrimSpace(string(content)), "\n")
	}
}

// after is the argument that follows a flag.
func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

const issuer = "https://token.actions.githubusercontent.com"

// TestCosign: where cosign is there and the release has a bundle, nothing is installed unless cosign confirms that the
// release workflow of the repository has signed the checksum file.
func TestCosign(t *testing.T) {
	t.Parallel()
	const workflow = "/.github/workflows/release.yaml@refs/tags/v1.2.3"
	for name, test := range map[string]struct{ origin, identity string }{
		"home":              {origin, origin + workflow},
		"in another case":   {"https://github.com/Helm-Parallel-Hooks/helm-parallel-hooks.git", origin + workflow},
		"a fork":            {"git@github.com:Some-One/Fork.git", "https://github.com/Some-One/Fork" + workflow},
		"a mirror":          {"https://git.example.com/mirrors/parallel-hooks", origin + workflow},
		"a local mirror":    {"/srv/git/parallel-hooks", origin + workflow},
		"a look-alike host": {"https://github.com.example.com/a/b", origin + workflow},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				for _, knowsFlag := range []bool{true, false} {
					s.cloneOf(test.origin)
					p := s.released(t)
					p.put(version, "checksums.txt.sigstore.json", []byte("{}"))
					called := s.cosign(true, knowsFlag)
					wantWords(t, s.install().stdout, "cosign confirms the signature by "+test.identity)
					s.wantBinary(program(version, here))
					args := called()
					if len(args) == 0 || args[0] != "verify-blob" || slices.Contains(args, "--new-bundle-format") != knowsFlag {
						t.Errorf("cosign was called so: %q", args)
					}
					if got := after(args, "--certificate-identity"); got != test.identity {
						t.Errorf("identity %s, want %s", got, test.identity)
					}
					if got := after(args, "--certificate-oidc-issuer"); got != issuer {
						t.Errorf("issuer %s, want %s", got, issuer)
					}
					if got := after(args, "--bundle"); !strings.HasSuffix(got, "/checksums.txt.sigstore.json") {
						t.Errorf("bundle %s", got)
					}
					if got, want := args[len(args)-1], asset(version, here); !strings.HasSuffix(got, want) {
						t.Errorf("cosign was asked about %q, want a line that ends in %q", got, want)
					}
				}
			})
		})
	}
}

// TestCosignRefuses: what cosign doesn't confirm is not installed, nor is anything built instead.
func TestCosignRefuses(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		p := s.released(t)
		p.put(version, "checksums.txt.sigstore.json", []byte("{}"))
		s.toolchain()
		s.installOld()
		s.cosign(false, true)
		got := s.fail("none of the expected identities matched", "cosign doesn't confirm", "the binary that was there before is as it was", "tampered with")
		refuseWords(t, got.stderr, "PATH", "3.0.5")
		s.wantBinary(oldBinary)
		for _, old := range []string{"2.4.1", "3.0.4"} {
			s.env["COSIGN_VERSION"] = old
			got = s.fail("none of the expected identities matched", "cosign is "+old+" here, which is too old", "3.0.5 or newer")
			refuseWords(t, got.stderr, "tampered")
			s.wantBinary(oldBinary)
		}
		if args := s.buildArgs(); args != nil {
			t.Errorf("it was built instead: %q", args)
		}
		if got := p.seen(); slices.Contains(got, "v1.2.3/"+asset(version, here)) {
			t.Errorf("the archive was downloaded: %q", got)
		}
	})
}

// TestForksName: GitHub finds a fork by any case of letters, and the signature has one; so that's a reason for cosign not to
// confirm, but not where the plugin's home is written in another case, which is known.
func TestForksName(t *testing.T) {
	t.Parallel()
	const advice = "If that isn't how GitHub writes the fork's name, install it by the name as it is there."
	for from, want := range map[string]bool{"https://github.com/some-one/fork": true, strings.ToUpper(origin[:19]) + origin[19:]: false, origin: false, "/srv/git/mirror": false} {
		t.Run(strings.ReplaceAll(from, "/", "|"), func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.cloneOf(from)
				p := s.released(t)
				p.put(version, "checksums.txt.sigstore.json", []byte("{}"))
				s.cosign(false, true)
				got := s.fail("cosign doesn't confirm", "If it couldn't reach sigstore's servers")
				if strings.Contains(got.stderr, advice) != want {
					t.Errorf("the advice is given: %v, want %v: %v", !want, want, got)
				}
			})
		})
	}
}

// TestHomeSignsByCosign: of a release of the plugin's home no other signature counts, be it by a key that the user trusts;
// of a mirror's it does.
func TestHomeSignsByCosign(t *testing.T) {
	t.Parallel()
	maker := newKeyring(t)
	maker.generate("maker")
	files := map[string][]byte{asset(version, here): pack(t, contents(version, here, program(version, here)))}
	files["checksums.txt"] = sums(files)
	files["checksums.txt.asc"] = maker.sign(files["checksums.txt"])
	for _, test := range []struct {
		name, origin string
		mirror       bool // whether one is set
		file         bool // whether the archive is one
		taken        bool // whether the signature counts
	}{
		{name: "home", origin: origin},
		{name: "home in another case", origin: "https://github.com/Helm-Parallel-Hooks/helm-parallel-hooks.git"},
		{name: "home, from a file", origin: origin, file: true},
		{name: "home, from a file, with a mirror besides", origin: origin, mirror: true, file: true},
		{name: "home, from a mirror", origin: origin, mirror: true, taken: true},
		{name: "a fork", origin: "https://github.com/some-one/fork", taken: true},
		{name: "a fork, from a file", origin: "https://github.com/some-one/fork", file: true, taken: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				s.cloneOf(test.origin)
				s.env["GNUPGHOME"] = maker.home
				s.env["HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE"] = "1"
				s.link("gpg")
				s.cosign(true, true)
				folder := t.TempDir()
				for name, content := range files {
					must(t, os.WriteFile(filepath.Join(folder, name), content, 0o644))
				}
				// It answers for every server.
				s.program("curl", `while [ "$1" != --output ]; do shift; done
case $3 in */v1.2.3/*) cp '`+folder+`'/"${3##*/}" "$2" 2>/dev/null && exit ;; esac; printf 404; exit 22`)
				if test.mirror {
					s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = "https://mirror.invalid"
				}
				if test.file {
					s.env["HELM_PARALLEL_HOOKS_ARCHIVE"] = filepath.Join(folder, asset(version, here))
				}
				s.installOld()
				if test.taken {
					wantWords(t, s.install().stdout, "gpg confirms the signature")
					s.wantBinary(program(version, here))
					return
				}
				got := s.fail("nothing confirms a signature of checksums.txt")
				refuseWords(t, got.stderr, "gpg")
				delete(s.env, "HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE")
				s.fail("there's no checksums.txt.sigstore.json")
				s.wantBinary(oldBinary)
				// Where cosign isn't there, it counts for nothing either.
				s.remove("cosign")
				refuseWords(t, s.install().stdout, "gpg")
				s.wantBinary(program(version, here))
			})
		})
	}
}

// TestUnsigned: who can change a release can take its signature away, so where cosign could check it, one without is
// installed only if the user has said so. One whose signature can't be had just now is not installed at all.
func TestUnsigned(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		p := s.released(t)
		called := s.cosign(true, true)
		s.link("gpg")
		s.toolchain()
		s.installOld()
		s.fail("there's no checksums.txt.sigstore.json in "+p.url+"/v"+version, "HELM_PARALLEL_HOOKS_UNSIGNED=1")
		s.wantBinary(oldBinary)
		if args := s.buildArgs(); args != nil {
			t.Errorf("it was built instead: %q", args)
		}
		s.remove("go")
		s.env["HELM_PARALLEL_HOOKS_UNSIGNED"] = "1"
		wantWords(t, s.install().stdout, "no signature was checked")
		s.wantBinary(program(version, here))
		if args := called(); args != nil {
			t.Errorf("cosign was called: %q", args)
		}
		for _, file := range []string{"checksums.txt.sigstore.json", "checksums.txt.asc"} {
			for _, answer := range []http.HandlerFunc{status(500), cut, status(403)} {
				p.answer(version, file, answer)
				s.installOld()
				s.fail(file+": ", "No Go toolchain")
				s.wantBinary(oldBinary)
			}
			p.answer(version, file, status(404))
		}
	})
}

// TestRequiredSignature: who has said so gets no release that nothing has confirmed, from a server, from a file or as an
// archive that is a plugin. What is built has no signature, and is built all the same.
func TestRequiredSignature(t *testing.T) {
	t.Parallel()
	inEveryShell(t, func(t *testing.T, s *site) {
		p := s.released(t)
		s.env["HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE"] = "1"
		s.env["HELM_PARALLEL_HOOKS_UNSIGNED"] = "1"
		s.installOld()
		p.put(version, "checksums.txt.sigstore.json", []byte("{}"))
		s.fail("nothing confirms a signature of checksums.txt", "cosign 3.0.5")
		s.cosign(true, true)
		s.install()
		s.wantBinary(program(version, here))

		s.installOld()
		p.answer(version, "checksums.txt.sigstore.json", status(404))
		s.fail("nothing confirms a signature of checksums.txt")
		s.wantBinary(oldBinary)

		folder := t.TempDir()
		content := pack(t, contents(version, here, program(version, here)))
		for name, content := range map[string][]byte{asset(version, here): content, "checksums.txt": sums(map[string][]byte{asset(version, here): content})} {
			must(t, os.WriteFile(filepath.Join(folder, name), content, 0o644))
		}
		s.env["HELM_PARALLEL_HOOKS_ARCHIVE"] = filepath.Join(folder, asset(version, here))
		s.fail("nothing confirms a signature of checksums.txt in " + folder)
		must(t, os.WriteFile(filepath.Join(folder, "checksums.txt.sigstore.json"), []byte("{}"), 0o644))
		s.install()
		s.wantBinary(program(version, here))

		delete(s.env, "HELM_PARALLEL_HOOKS_ARCHIVE")
		p.answer(version, "checksums.txt", status(404))
		s.toolchain()
		s.install()
		s.wantBinary(built)

		must(t, os.Remove(filepath.Join(s.plugin, "go.mod")))
		s.fail("of an archive that is installed as a plugin no signature can be checked")
	})
}

// keyring is a keyring of gpg's, with the path short enough for the socket in it.
type keyring struct {
	t    *testing.T
	home string
}

func newKeyring(t *testing.T) *keyring {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg")
	must(t, err)
	k := &keyring{t, home}
	t.Cleanup(func() {
		// The agent that gpg has started would stay.
		if got := k.try("gpgconf", "--kill", "all"); got.code != 0 {
			t.Error(got)
		}
		must(t, os.RemoveAll(home))
	})
	return k
}

func (k *keyring) try(name string, args ...string) result {
	k.t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "GNUPGHOME="+k.home)
	return run(k.t, c)
}

func (k *keyring) gpg(args ...string) result {
	k.t.Helper()
	got := k.try("gpg", append([]string{"--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	if got.code != 0 {
		k.t.Fatal(got)
	}
	return got
}

// generate makes a key and returns its fingerprint.
func (k *keyring) generate(name string) string {
	k.t.Helper()
	k.gpg("--quick-generate-key", name+" (made for a test) <"+name+"@example.invalid>", "ed25519", "sign", "never")
	for line := range strings.Lines(k.gpg("--with-colons", "--list-keys", name).stdout) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9]
		}
	}
	k.t.Fatal("the key has no fingerprint")
	return ""
}

// sign makes a detached signature. Some of them, one after another, are signatures as well.
func (k *keyring) sign(content []byte) []byte {
	k.t.Helper()
	dir := k.t.TempDir()
	must(k.t, os.WriteFile(filepath.Join(dir, "file"), content, 0o644))
	k.gpg("--output", filepath.Join(dir, "file.asc"), "--detach-sign", filepath.Join(dir, "file"))
	signature, err := os.ReadFile(filepath.Join(dir, "file.asc"))
	must(k.t, err)
	return signature
}

// TestGPG: the checksum file's signature is checked by the real gpg and the keys that the user has. A bad one fails; a
// key that the user doesn't have or doesn't trust is told, and isn't called a confirmation.
func TestGPG(t *testing.T) {
	t.Parallel()
	maker := newKeyring(t)
	key := maker.generate("maker")
	files := map[string][]byte{asset(version, here): pack(t, contents(version, here, program(version, here)))}
	signature := maker.sign(sums(files))
	public := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(public, []byte(maker.gpg("--armor", "--export", key).stdout), 0o644))

	revoked := newKeyring(t)
	revoked.gpg("--import", public)
	certificate, err := os.ReadFile(filepath.Join(maker.home, "openpgp-revocs.d", key+".rev"))
	must(t, err)
	// gpg makes it unusable by a colon, so that nobody revokes a key by accident.
	certificate = []byte(strings.Replace(string(certificate), ":-----BEGIN", "-----BEGIN", 1))
	must(t, os.WriteFile(filepath.Join(revoked.home, "revocation"), certificate, 0o600))
	revoked.gpg("--import", filepath.Join(revoked.home, "revocation"))

	knowing := newKeyring(t)
	knowing.gpg("--import", public)
	other := newKeyring(t)
	other.generate("other")

	// A name is what its owner has chosen.
	posing := newKeyring(t)
	posing.gpg("--quick-generate-key", "x] TRUST_FULLY 0 pgp [GNUPG:] TRUST_ULTIMATE 0 <posing@example.invalid>", "ed25519", "sign", "never")
	posed := posing.sign(sums(files))
	posedKey := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(posedKey, []byte(posing.gpg("--armor", "--export", "posing@example.invalid").stdout), 0o644))
	misled := newKeyring(t)
	misled.gpg("--import", posedKey)

	for name, test := range map[string]struct {
		home      string // of gpg; none if empty
		signature []byte
		said      string // on success
		refused   string
	}{
		"trusted":        {home: maker.home, signature: signature, said: "gpg confirms the signature by the key " + key},
		"known":          {home: knowing.home, signature: signature, said: "nothing vouches for its key " + key},
		"unknown":        {home: other.home, signature: signature, said: "was NOT checked, the key " + key[len(key)-16:] + " is not in your keyring"},
		"no keyring":     {signature: signature, said: "was NOT checked, there's no keyring"},
		"of other text":  {home: maker.home, signature: maker.sign([]byte("other")), refused: "gpg doesn't confirm"},
		"good and bad":   {home: maker.home, signature: slices.Concat(signature, maker.sign([]byte("other"))), refused: "gpg doesn't confirm"},
		"twice":          {home: maker.home, signature: slices.Concat(signature, signature), said: "gpg confirms the signature by the key " + key},
		"no signature":   {home: maker.home, signature: []byte("<html>\n"), refused: "gpg doesn't confirm"},
		"posing":         {home: misled.home, signature: posed, said: "nothing vouches for its key"},
		"revoked":        {home: revoked.home, signature: signature, refused: "gpg doesn't confirm"},
		"unknown, wrong": {home: other.home, signature: []byte("\n"), refused: "gpg doesn't confirm"},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, s *site) {
				p := newPage(t)
				p.publishFiles(version, files)
				p.put(version, "checksums.txt.asc", test.signature)
				s.env["HELM_PARALLEL_HOOKS_BASE_URL"] = p.url
				s.link("gpg")
				s.toolchain()
				s.installOld()
				if test.home != "" {
					s.env["GNUPGHOME"] = test.home
				}
				if test.refused != "" {
					s.fail(test.refused)
					s.wantBinary(oldBinary)
					return
				}
				got := s.install()
				wantWords(t, got.stdout, test.said)
				if !strings.Contains(test.said, "confirms") {
					refuseWords(t, got.stdout, "confirms")
				}
				s.wantBinary(program(version, here))
				if _, err := os.Stat(filepath.Join(s.env["HOME"], ".gnupg")); err == nil {
					t.Error("gpg has made a keyring in the user's folder")
				}
			})
		})
	}
}
