package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// words splits a line of a test at its spaces; a _ stands for a word that has not been begun.
func words(line string) []string {
	list := strings.Fields(line)
	for i, word := range list {
		if word == "_" {
			list[i] = ""
		}
	}
	return list
}

// candidates returns the sorted candidates in what __complete printed, but for flags of the plugin's own and for those
// that Helm 4 adds for all of its plugins.
func candidates(r result) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(r.stdout), "\n"), func(line string) bool {
		name, _, _ := strings.Cut(line, "\t")
		return strings.HasPrefix(name, "--hook-") || slices.Contains([]string{"--recover", "--color", "--colour", "--content-cache"}, name)
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// completed prepares two releases, one with two revisions, and a repository with two charts.
func completed(t *testing.T) *session {
	s := newSession(t)
	folder := t.TempDir()
	chart := s.chart(onlyConfigMap)
	s.must(s.helm("package", chart, "--destination", folder))
	s.must(s.helm("package", chart, "--destination", folder, "--version", "2.0.0", "--app-version", "9"))
	repository := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(repository.Close)
	s.must(s.helm("repo", "index", folder))
	s.must(s.helm("repo", "add", "local", repository.URL))
	s.must(s.helm("install", "one", chart))
	s.must(s.helm("upgrade", "one", chart))
	s.must(s.helm("install", "two", chart))
	return s
}

// TestCompletionIsHelms: for the same line helm, the plugin through either helm, and the bare binary offer the same.
func TestCompletionIsHelms(t *testing.T) {
	t.Parallel()
	s := completed(t)
	nowhere := newSession(t)
	for _, test := range []struct {
		line  string // $ns is the namespace with the releases
		empty bool   // whether there's nothing to offer
		// bare says that neither helm gives its plugins a chance.
		bare bool
	}{
		{line: "inst"},
		{line: "install _", empty: true},
		{line: "install web _"},
		{line: "install web loc"},
		{line: "install web local/"},
		{line: "install web o"},
		{line: "install web local/only _", empty: true},
		{line: "install -g _"},
		{line: "install web local/only --version _"},
		{line: "install web local/only --version=2"},
		{line: "install -g local/only --version _"},
		{line: "install web local/none --version _", empty: true},
		{line: "install web ./only --version _", empty: true},
		{line: "install -o _"},
		{line: "install --output=j"},
		{line: "install --"},
		{line: "install -"},
		{line: "install --set _", empty: true},
		{line: "upgrade _"},
		{line: "upgrade o"},
		{line: "upgrade one _"},
		{line: "upgrade one local/only --version _"},
		{line: "upgrade one local/only _"},
		{line: "upgrade --debug one _"},
		{line: "upgrade --"},
		{line: "upgrade -"},
		{line: "upgrade -i -o _"},
		{line: "rollback _"},
		{line: "rollback one _"},
		{line: "rollback one 1 _"},
		{line: "rollback none _", empty: true},
		{line: "rollback --"},
		{line: "uninstall _"},
		{line: "uninstall one _"},
		{line: "uninstall one two _", empty: true},
		{line: "delete _"},
		{line: "uninstall --"},
		{line: "test _"},
		{line: "test one _"},
		{line: "test --"},
		{line: "--qps 9 upgrade _"},
		{line: "upgrade --kube-context="},
		{line: "upgrade --kube-context _", bare: true},
		{line: "upgrade --namespace=$ns"},
		{line: "upgrade --namespace $ns", bare: true},
		{line: "no-such-command _", empty: true, bare: true},
	} {
		t.Run(test.line, func(t *testing.T) {
			s := &session{t: t, namespace: s.namespace, env: s.env}
			list := words(strings.ReplaceAll(test.line, "$ns", s.namespace))
			want := s.must(s.helm(slices.Concat([]string{"__complete"}, list)...))
			if empty := strings.HasPrefix(want.stdout, ":"); empty != test.empty {
				t.Errorf("helm has nothing to offer: %v, want %v: %v", empty, test.empty, want)
			}
			got := []result{s.must(s.binary(slices.Concat([]string{"__complete"}, list)...))}
			if !test.bare {
				got = append(got,
					s.must(s.helm(slices.Concat([]string{"__complete", "parallel-hooks"}, list)...)),
					s.must(s.start("helm4", slices.Concat([]string{"__complete", "parallel-hooks"}, list)...).wait()))
			}
			for _, r := range got {
				if !sameCandidates(test.line, candidates(r), candidates(want)) {
					t.Errorf("got: %v\nwant the candidates of: %v", r, want)
				}
			}
		})
	}

	// From another namespace, those that a flag names.
	want := s.must(s.helm("__complete", "upgrade", ""))
	for _, r := range []result{
		nowhere.helm("__complete", "parallel-hooks", "upgrade", "--namespace", s.namespace, ""),
		nowhere.helm("__complete", "-n", s.namespace, "parallel-hooks", "upgrade", ""),
		nowhere.binary("__complete", "upgrade", "-n", s.namespace, ""),
	} {
		if r.stdout != want.stdout {
			t.Errorf("got: %v\nwant: %v", r, want)
		}
	}
	for _, line := range []string{"upgrade _", "rollback one _"} {
		lost := newSession(t)
		lost.loseCluster()
		list := words(line)
		want := lost.helm(slices.Concat([]string{"__complete"}, list)...)
		for _, r := range []result{
			lost.binary(slices.Concat([]string{"__complete"}, list)...),
			lost.helm(slices.Concat([]string{"__complete", "parallel-hooks"}, list)...),
		} {
			if r.stdout != want.stdout || r.code != want.code {
				t.Errorf("without a cluster: got: %v\nwant: %v", r, want)
			}
		}
	}
	// What a debugged run says besides goes to stderr.
	debug := &session{t: t, env: append(slices.Clone(s.env), "HELM_DEBUG=true")}
	if got := debug.binary("__complete", "upgrade", ""); got.stdout != want.stdout {
		t.Errorf("with HELM_DEBUG: got: %v\nwant: %v", got, want)
	}
}

// sameCandidates compares candidates. The cluster's namespaces change while tests run.
func sameCandidates(line, got, want string) bool {
	if strings.Contains(line, "--namespace") {
		return strings.Contains(got, "\nkube-system") && strings.Contains(want, "\nkube-system")
	}
	return got == want
}

// TestCompletionAsksForReleasesAlone: the server hears nothing of other candidates.
func TestCompletionAsksForReleasesAlone(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.needsAudit()
	user := s.become()
	asked := func() audit.Trail {
		return append(s.trail(), s.trailOf("")...).Where(func(r audit.Request) bool { return r.User == user })
	}
	for _, line := range []string{"_", "install _", "install web _", "install web x/", "upgrade one _", "upgrade --", "upgrade -o _", "uninstall --cascade _", "rollback one 1 _", "test one _", "upgrade --kube-context _"} {
		s.must(s.binary(slices.Concat([]string{"__complete"}, words(line))...))
	}
	if got := asked(); len(got) > 0 {
		t.Errorf("the server was asked: %v", got)
	}
	s.must(s.binary("__complete", "upgrade", ""))
	if len(asked()) == 0 {
		t.Error("the server was not asked for releases, so its silence means nothing")
	}
}

// TestShells: the scripts are ones that the shells take, and a release's name comes through them to the user.
func TestShells(t *testing.T) {
	t.Parallel()
	s := completed(t)
	for _, test := range []struct {
		shell string
		// complete is a program that prints the candidates for $1, the words of a
		// line; $2 is the file with the script.
		complete []string
	}{
		{"bash", []string{"--norc", "-c", `
			source /usr/share/bash-completion/bash_completion || exit
			source "$2" || exit
			COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$1; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
			name=${COMP_WORDS[0]}
			spec=$(complete -p "$name") && [[ $spec == *"-F __start_$name "* ]] || exit
			"__start_$name" 2>/dev/null
			printf '%s\n' "${COMPREPLY[@]}"`}},
		// What zsh's own functions do with the candidates is not for a shell without a terminal.
		{"zsh", []string{"-f", "-c", `
			compdef() { }
			_describe() { print -l -- "${completions[@]}" }
			source "$2" || exit
			words=(${=1}); CURRENT=${#words}
			"_${words[1]}"`}},
		{"fish", []string{"--no-config", "--command", `
			source $argv[2]; or exit
			complete --do-complete $argv[1]`}},
	} {
		t.Run(test.shell, func(t *testing.T) {
			t.Parallel()
			shell, err := exec.LookPath(test.shell)
			if err != nil {
				t.Fatalf("%v; .ci/run says which packages the tests need", err)
			}
			for _, line := range []string{"helm parallel-hooks upgrade o", "helm-parallel-hooks upgrade o", "helm parallel-hooks unin", "helm-parallel-hooks upgrade --hook-par"} {
				want := map[string]string{"o": "one", "unin": "uninstall", "--hook-par": "--hook-parallelism"}[line[strings.LastIndex(line, " ")+1:]]
				command := strings.Fields(line)[0]
				script := filepath.Join(t.TempDir(), "script")
				if err := os.WriteFile(script, []byte(s.must(s.start(command, "completion", test.shell).wait()).stdout), 0o644); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(shell, "-n", script).CombinedOutput(); err != nil {
					t.Errorf("%s does not take the script of %s: %v\n%s", test.shell, command, err, out)
				}
				args := slices.Clone(test.complete)
				if test.shell != "fish" {
					args = append(args, test.shell) // $0
				}
				complete := exec.Command(shell, append(args, line, script)...)
				complete.Env = s.env
				out, err := complete.CombinedOutput()
				if first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n"); err != nil || !isCandidate(first, want) {
					t.Errorf("%s offers for %q: %q (%v), want %s alone", test.shell, line, out, err, want)
				}
			}
		})
	}
}

// isCandidate reports whether a shell's line is that word, be it with a description.
func isCandidate(line, word string) bool {
	rest, ok := strings.CutPrefix(line, word)
	return ok && (strings.TrimSpace(rest) == "" || strings.ContainsAny(rest[:1], "\t :"))
}
