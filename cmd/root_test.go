package cmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"
)

func discard() genericiooptions.IOStreams {
	return genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}
}

func TestNameIsWhatTheUserTyped(t *testing.T) {
	for plugin, want := range map[string]string{
		"":               "Error: \"helm-parallel-hooks install\" requires at least 1 argument\n\nUsage:  helm-parallel-hooks install [NAME] [CHART] [flags]\n",
		"parallel-hooks": "Error: \"helm parallel-hooks install\" requires at least 1 argument\n\nUsage:  helm parallel-hooks install [NAME] [CHART] [flags]\n",
	} {
		isolate(t)
		t.Setenv("HELM_PLUGIN_NAME", plugin)
		if got, _ := runWith(t, plainHelm{}, "install"); got != (outcome{"", want, 1}) {
			t.Errorf("plugin %q: got %+v, want %q", plugin, got, want)
		}
	}
}

func TestHintAtSwallowedArguments(t *testing.T) {
	const hint = "Write --kube-insecure-skip-tls-verify=true instead"
	for _, test := range []struct {
		plugin, insecure, args string
		want                   bool
	}{
		{"parallel-hooks", "true", "install", true},
		{"parallel-hooks", "true", "install web", true},
		{"parallel-hooks", "true", "install web testdata/charts/shop url", true},
		{"parallel-hooks", "true", "install web testdata/charts/none", false},
		{"parallel-hooks", "false", "install", false},
		{"", "true", "install", false},
	} {
		isolate(t)
		t.Setenv("HELM_PLUGIN_NAME", test.plugin)
		t.Setenv("HELM_KUBEINSECURE_SKIP_TLS_VERIFY", test.insecure)
		got, _ := runWith(t, plainHelm{}, strings.Fields(test.args)...)
		if strings.Contains(got.stderr, hint) != test.want || got.code != 1 {
			t.Errorf("%+v: got %+v, want the hint: %v", test, got, test.want)
		}
	}
}

func TestNoCommandPrintsHelp(t *testing.T) {
	isolate(t)
	got, _ := runWith(t, plainHelm{})
	if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "Available Commands:") {
		t.Errorf("got %+v, want help", got)
	}
}

func TestBadStorageDriver(t *testing.T) {
	isolate(t)
	t.Setenv("HELM_DRIVER", "paper")
	got, _ := runWith(t, plainHelm{}, "install", "web", "testdata/charts/shop")
	want := outcome{"", "Error: preparing release storage (HELM_DRIVER=\"paper\"): unknown driver \"paper\"\n", 1}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestBadDatabase: the error says what to set, and no password.
func TestBadDatabase(t *testing.T) {
	for connection, want := range map[string]string{
		"": "HELM_DRIVER_SQL_CONNECTION_STRING, which says where the database is, is not set",
		"postgresql://me:planted%@127.0.0.1:1/helm":                "HELM_DRIVER_SQL_CONNECTION_STRING is not a valid connection string",
		"postgresql://me:planted@127.0.0.1:1/helm?sslmode=disable": "127.0.0.1:1: connect: connection refused",
	} {
		isolate(t)
		t.Setenv("HELM_DRIVER", "sql")
		t.Setenv("HELM_DRIVER_SQL_CONNECTION_STRING", connection)
		t.Setenv("PGHOST", "127.0.0.1")
		t.Setenv("PGPORT", "1")
		got, _ := runWith(t, plainHelm{}, "uninstall", "web")
		if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, want) || strings.Contains(got.stderr, "planted") {
			t.Errorf("with %q: got %+v, want %q and no password", connection, got, want)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("INSTALLATION FAILED: %w", &interruptedError{err: errors.New("x"), code: 130}), 130},
	} {
		if got := ExitCode(test.err); got != test.want {
			t.Errorf("ExitCode(%v) = %d, want %d", test.err, got, test.want)
		}
	}
	if got := signalCode(syscall.SIGHUP); got != 129 {
		t.Errorf("signalCode(SIGHUP) = %d, want 129", got)
	}
}

func TestVersion(t *testing.T) {
	isolate(t)
	if got, _ := runWith(t, plainHelm{}, "version", "--short"); got != (outcome{"v0.0.1\n", "", 0}) {
		t.Errorf("version --short: got %+v", got)
	}
	got, _ := runWith(t, plainHelm{}, "version")
	if !strings.HasPrefix(got.stdout, "helm-parallel-hooks v0.0.1 (Helm library ") || got.code != 0 {
		t.Errorf("version: got %+v", got)
	}
	if flag, _ := runWith(t, plainHelm{}, "--version"); flag != got {
		t.Errorf("--version: got %+v, want %+v", flag, got)
	}
	for _, args := range [][]string{{"now"}, {"--short", "-o", "json"}, {"-o", "xml"}} {
		if got, _ := runWith(t, plainHelm{}, append([]string{"version"}, args...)...); got.code != 1 {
			t.Errorf("version %q: got %+v, want exit code 1", args, got)
		}
	}
}

// TestVersionData: what programs read has fixed names, in JSON and in YAML.
func TestVersionData(t *testing.T) {
	isolate(t)
	for format, unmarshal := range map[string]func([]byte, any) error{"json": json.Unmarshal, "yaml": func(b []byte, v any) error { return yaml.Unmarshal(b, v) }} {
		got, _ := runWith(t, plainHelm{}, "version", "-o", format)
		var data map[string]string
		if err := unmarshal([]byte(got.stdout), &data); err != nil {
			t.Fatalf("version -o %s: %v in %+v", format, err, got)
		}
		if data["version"] != "v0.0.1" || data["goVersion"] != runtime.Version() || data["platform"] != runtime.GOOS+"/"+runtime.GOARCH {
			t.Errorf("version -o %s: got %v", format, data)
		}
		for _, library := range []string{"helmLibrary", "kubernetesClient"} {
			if data[library] == "" {
				t.Errorf("version -o %s doesn't say %s: %v", format, library, data)
			}
		}
	}
}

// TestCommit: the linker's word on the commit counts for more than Go's, and where
// neither knows it nothing is said of it.
func TestCommit(t *testing.T) {
	stamped := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}}}
	for _, test := range []struct {
		name         string
		commit, date string
		info         *debug.BuildInfo
		want         string
	}{
		{"linker", "fedcba9876543210", "2026-05-06T07:08:09Z", stamped, ", commit fedcba987654 of 2026-05-06)"},
		{"Go", "", "", stamped, ", commit 0123456789ab of 2026-01-02)"},
		{"no date", "fedcba9876543210", "", new(debug.BuildInfo), ", commit fedcba987654)"},
		{"nobody", "", "", new(debug.BuildInfo), " " + runtime.GOOS + "/" + runtime.GOARCH + ")"},
	} {
		p := &program{version: "0.1.0", commit: test.commit, date: test.date}
		if got := p.programVersions(test.info).String(); !strings.HasSuffix(got, test.want) {
			t.Errorf("%s: got %q, want it to end with %q", test.name, got, test.want)
		}
	}
	p := &program{commit: "fedcba", date: "2026-05-06T07:08:09Z"}
	if got := p.programVersions(stamped); got.Commit != "fedcba" || got.Date != "2026-05-06T07:08:09Z" {
		t.Errorf("programVersions() = %+v, want the linker's commit and date", got)
	}
}

func TestPluginVersion(t *testing.T) {
	for _, test := range []struct{ linked, module, want string }{
		{"0.1.0", "v9", "v0.1.0"},
		{"v0.1.0", "v9", "v0.1.0"},
		{"", "v0.2.0", "v0.2.0"},
		{"", "", "(unknown)"},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: test.module}}
		if got := pluginVersion(test.linked, info); got != test.want {
			t.Errorf("pluginVersion(%q, %q) = %q, want %q", test.linked, test.module, got, test.want)
		}
	}
	info := &debug.BuildInfo{Deps: []*debug.Module{{Path: "other"}, {Path: "helm.sh/helm/v3", Version: "v3.22.0"}}}
	if got := moduleVersion(info, "helm.sh/helm/v3"); got != "v3.22.0" {
		t.Errorf("moduleVersion() = %q, want v3.22.0", got)
	}
}
