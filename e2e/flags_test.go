package e2e

import (
	"encoding/json"
	goflag "flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

// operations are Helm's commands that the plugin has too.
var operations = []string{"install", "upgrade", "rollback", "uninstall", "test"}

// ownFlags are the visible flags that the plugin adds to Helm's.
var ownFlags = []string{"hook-parallelism", "hook-keep-going", "hook-order", "hook-logs", "hook-progress", "hook-report", "recover"}

// flagOf is what help shows of a flag.
type flagOf struct{ name, shorthand, kind, usage string }

// helpOf is what help shows of a command besides its description.
type helpOf struct {
	usage, aliases string
	flags, global  []flagOf
}

var flagLine = regexp.MustCompile(`^ {2,6}(?:-(\w), )?--([a-z0-9-]+)( \S+)? {2,}(\S.*)$`)

// parseHelp reads what a command prints for --help.
func parseHelp(t *testing.T, text string) helpOf {
	t.Helper()
	var help helpOf
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if title, isTitle := strings.CutSuffix(line, ":"); isTitle && !strings.HasPrefix(line, " ") {
			section = title
			continue
		}
		switch {
		case line == "":
			section = ""
		case section == "Usage":
			help.usage = strings.TrimSpace(line)
		case section == "Aliases":
			help.aliases = strings.TrimSpace(line)
		case section == "Flags" || section == "Global Flags":
			parts := flagLine.FindStringSubmatch(line)
			if parts == nil {
				t.Fatalf("not a flag: %q", line)
			}
			flag := flagOf{parts[2], parts[1], strings.TrimSpace(parts[3]), parts[4]}
			if section == "Flags" {
				help.flags = append(help.flags, flag)
			} else {
				help.global = append(help.global, flag)
			}
		}
	}
	if help.usage == "" || len(help.flags) == 0 || len(help.global) == 0 {
		t.Fatalf("no usage or no flags found in:\n%s", text)
	}
	return help
}

func isOwn(flag flagOf) bool { return slices.Contains(ownFlags, flag.name) }

// offline is a session whose commands are not to contact a cluster.
func offline(t *testing.T, variables ...string) *session {
	return &session{t: t, env: append(append(environment(t.TempDir()), "KUBECONFIG="+filepath.Join(t.TempDir(), "none")), variables...)}
}

// TestFlagsAreHelms: help shows the flags of helm's command of the same name, in the same order and with the same
// shorthand, type, default and text, whatever the environment sets; and one of two added.
func TestFlagsAreHelms(t *testing.T) {
	t.Parallel()
	for name, variables := range map[string][]string{
		"plain": nil,
		"environment": {
			"GNUPGHOME=/keys", "HELM_BURST_LIMIT=50", "HELM_DEBUG=true", "HELM_KUBEAPISERVER=https://api.example.com", "HELM_KUBEASGROUPS=one,two",
			"HELM_KUBEASUSER=me", "HELM_KUBECAFILE=/ca.crt", "HELM_KUBECONTEXT=there", "HELM_KUBEINSECURE_SKIP_TLS_VERIFY=true",
			"HELM_KUBETLS_SERVER_NAME=api", "HELM_MAX_HISTORY=7", "HELM_NAMESPACE=shop", "HELM_QPS=3", "HELM_REGISTRY_CONFIG=/registry.json",
			"HELM_REPOSITORY_CACHE=/cache", "HELM_REPOSITORY_CONFIG=/repositories.yaml",
		},
		"bad environment": {"HELM_BURST_LIMIT=x", "HELM_DEBUG=x", "HELM_KUBEINSECURE_SKIP_TLS_VERIFY=x", "HELM_MAX_HISTORY=x", "HELM_QPS=x"},
		"more or less":    {"HELM_MAX_HISTORY=-1", "HELM_QPS=-1", "HELM_BURST_LIMIT=0", "HELM_KUBEASGROUPS=, ,"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := offline(t, variables...)
			for _, command := range operations {
				want := parseHelp(t, s.must(s.helm(command, "--help")).stdout)
				got := parseHelp(t, s.must(s.binary(command, "--help")).stdout)
				var own []string
				for _, flag := range got.flags {
					if isOwn(flag) {
						own = append(own, flag.name)
					}
				}
				slices.Sort(own)
				wanted := slices.Clone(ownFlags)
				if command != "upgrade" {
					wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == "recover" })
				}
				wantEqual(t, command+": flags of its own", own, slices.Sorted(slices.Values(wanted)))
				wantFlags(t, command, slices.DeleteFunc(got.flags, isOwn), want.flags)
				wantFlags(t, command+", global", got.global, want.global)
				if usage := strings.Replace(got.usage, "helm-parallel-hooks", "helm", 1); usage != want.usage {
					t.Errorf("%s: usage = %q, want %q", command, usage, want.usage)
				}
				if got.aliases != want.aliases {
					t.Errorf("%s: aliases = %q, want %q", command, got.aliases, want.aliases)
				}
			}
		})
	}
}

func wantFlags(t *testing.T, of string, got, want []flagOf) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for _, flag := range want {
		if !slices.Contains(got, flag) {
			t.Errorf("%s: want %q", of, flag)
		}
	}
	for _, flag := range got {
		if !slices.Contains(want, flag) {
			t.Errorf("%s: got %q", of, flag)
		}
	}
	t.Errorf("%s: the flags, or their order, are not Helm's", of)
}

// TestTokenIsNotShown: helm shows a token that the environment sets as the flag's default. Helm puts one there for its
// plugins, and we do not show it.
func TestTokenIsNotShown(t *testing.T) {
	t.Parallel()
	s := offline(t, "HELM_KUBETOKEN=planted")
	if want := s.must(s.helm("install", "--help")).stdout; !strings.Contains(want, `(default "planted")`) {
		t.Errorf("helm does not show it either:\n%s", want)
	}
	for _, command := range operations {
		if got := s.must(s.binary(command, "--help")); strings.Contains(got.stdout+got.stderr, "planted") {
			t.Errorf("the token is shown: %v", got)
		}
	}
}

// helmSource returns the folder with the source that helm is built from.
func helmSource(t *testing.T) string {
	t.Helper()
	download := exec.Command("go", "mod", "download", "-json", "helm.sh/helm/v3")
	download.Dir = filepath.Join(bed.root, "e2e", "build", "helm")
	download.Env = append(os.Environ(), "GOWORK=off")
	answer, err := download.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", download, err, answer)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(answer, &module); err != nil {
		t.Fatal(err)
	}
	return module.Dir
}

var hiddenFlag = regexp.MustCompile(`\.Mark(?:Deprecated|Hidden)\("([^"]+)"`)

// TestHiddenFlagsAreHelms: flags that help leaves out are taken, and flags that there are not are refused, as by helm.
// Which are left out is in its source: deprecated ones, and those of client-go's log.
func TestHiddenFlagsAreHelms(t *testing.T) {
	t.Parallel()
	s := offline(t)
	logging := goflag.NewFlagSet("", goflag.ContinueOnError)
	klog.InitFlags(logging)
	var log []string
	logging.VisitAll(func(flag *goflag.Flag) {
		value := flag.DefValue
		if value == ":0" { // shown, but not taken
			value = "file.go:1"
		}
		log = append(log, "--"+strings.ReplaceAll(flag.Name, "_", "-")+"="+value)
	})

	source := helmSource(t)
	var marked []string
	for _, command := range operations {
		file := command + ".go"
		if command == "test" {
			file = "release_testing.go"
		}
		text, err := os.ReadFile(filepath.Join(source, "cmd", "helm", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range hiddenFlag.FindAllStringSubmatch(string(text), -1) {
			marked = append(marked, command+" web ./nowhere --"+match[1])
		}
	}
	if len(marked) == 0 {
		t.Error("found no deprecated flag in Helm's source, want upgrade --recreate-pods at least")
	}
	for _, line := range append(marked, "install -y", "install --no-such-flag", "upgrade --client", "rollback --output json", "test --wait", "uninstall --force", "--no-such-flag", "no-such-command", "installl") {
		args := strings.Fields(line)
		want, got := s.helm(args...), s.binary(args...)
		neutral := func(r result) string { return strings.ReplaceAll(r.stderr, "helm-parallel-hooks", "helm") }
		if got.code != 1 || got.code != want.code || neutral(got) != neutral(want) {
			t.Errorf("got: %v\nwant: %v", got, want)
		}
	}
	for _, command := range operations {
		args := append([]string{command, "--help"}, log...)
		if want, got := s.helm(args...), s.binary(args...); got.code != 0 || want.code != 0 {
			t.Errorf("flags of the log are not taken: got: %v\nwant: %v", got, want)
		}
	}
}

// TestHelm4FlagsAreKnown: whatever flag a command has in Helm 4, the plugin's command knows it, too, if only to say why
// it is refused.
func TestHelm4FlagsAreKnown(t *testing.T) {
	t.Parallel()
	s := offline(t)
	for _, command := range operations {
		help := parseHelp(t, s.must(s.start("helm4", command, "--help").wait()).stdout)
		for _, flag := range slices.Concat(help.flags, help.global) {
			spellings := []string{"--" + flag.name}
			if flag.shorthand != "" {
				spellings = append(spellings, "-"+flag.shorthand)
			}
			for _, spelling := range spellings {
				if got := s.binary(command, spelling+"=true", "--help"); strings.Contains(got.stderr, "unknown") {
					t.Errorf("%s %s: %v", command, spelling, got)
				}
			}
		}
	}
}

// TestCommandsAreHelms: what the list of commands and the completion of flags say of each.
func TestCommandsAreHelms(t *testing.T) {
	t.Parallel()
	s := offline(t)
	summary := func(help, command string) string {
		t.Helper()
		for line := range strings.Lines(help) {
			if name, text, _ := strings.Cut(strings.TrimSpace(line), " "); name == command {
				return strings.TrimSpace(text)
			}
		}
		t.Fatalf("%s is not listed in:\n%s", command, help)
		return ""
	}
	own, helms := s.must(s.binary("--help")).stdout, s.must(s.helm("--help")).stdout
	for _, command := range operations {
		if got, want := summary(own, command), summary(helms, command); got != want {
			t.Errorf("%s is described as %q, want %q", command, got, want)
		}
	}
	for _, alias := range []string{"del", "delete", "un"} {
		got, want := s.binary(alias), s.helm(alias)
		if text := strings.ReplaceAll(got.stderr, "helm-parallel-hooks", "helm"); got.code != want.code || text != want.stderr {
			t.Errorf("got: %v\nwant: %v", got, want)
		}
	}
}
