package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
)

// complete returns what a shell is given for a command line, whose last word is
// being typed.
func complete(t *testing.T, words ...string) string {
	t.Helper()
	got, _ := runWith(t, nil, append([]string{"__complete"}, words...)...)
	if got.code != 0 {
		t.Errorf("completion failed: %+v", got)
	}
	return got.stdout
}

// addCandidates makes the test's Helm know releases and a repository, as after
// "helm repo add", with two versions of one chart.
func addCandidates(t *testing.T) {
	t.Helper()
	config, cache := t.TempDir(), t.TempDir()
	t.Setenv("HELM_MEMORY_DRIVER_DATA", filepath.Join(config, "releases.yaml"))
	t.Setenv("HELM_REPOSITORY_CONFIG", filepath.Join(config, "repositories.yaml"))
	t.Setenv("HELM_REPOSITORY_CACHE", cache)
	for path, content := range map[string]string{
		filepath.Join(config, "releases.yaml"): `
- {name: web, namespace: default, version: 1, info: {status: superseded}, chart: {metadata: {name: shop, version: 0.1.0, appVersion: "8"}}}
- {name: web, namespace: default, version: 2, info: {status: failed}, chart: {metadata: {name: shop, version: 0.2.0, appVersion: "9"}}}
- {name: odd, namespace: default, version: 1, info: {status: deployed}}
- {name: far, namespace: elsewhere, version: 1, info: {status: deployed}, chart: {metadata: {name: shop, version: 0.1.0}}}
`,
		filepath.Join(config, "repositories.yaml"): "apiVersion: \"\"\nrepositories: [{name: local, url: https://charts.example.com}]\n",
		filepath.Join(cache, "local-charts.txt"):   "shop\nstore\n",
		filepath.Join(cache, "local-index.yaml"):   "apiVersion: v1\nentries:\n  shop:\n  - {name: shop, apiVersion: v2, version: 1.1.0, appVersion: \"9\", created: \"2026-01-02T00:00:00Z\", urls: [shop.tgz]}\n  - {name: shop, apiVersion: v2, version: 1.0.0, deprecated: true, created: \"2025-01-02T00:00:00Z\", urls: [shop.tgz]}\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompletion(t *testing.T) {
	const (
		schemes  = "oci://\tChart OCI prefix\nhttps://\tChart URL prefix\nhttp://\tChart URL prefix\nfile://\tChart local URL prefix\n"
		paths    = "./\tRelative path prefix to local chart\n/\tAbsolute path prefix to local chart\n"
		charts   = "local/\thttps://charts.example.com\n" + schemes + paths + ":2\n"
		enough   = "_activeHelp_ This command does not take any more arguments (but may accept flags).\n:4\n"
		versions = "1.1.0\tApp: 9, Created: January 2, 2026\n1.0.0\tCreated: January 2, 2025 (deprecated)\n:4\n"
		releases = "odd\t- -> deployed\nweb\tshop-0.2.0 -> failed\n:4\n"
	)
	folder := t.TempDir()
	for _, chart := range []string{"ours", "charts"} {
		if err := os.Mkdir(filepath.Join(folder, chart), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		line string // with "_" in the place of a word that hasn't been begun
		want string
	}{
		{"install _", ":4\n"},
		{"install web _", charts},
		{"install -g _", charts},
		{"install web local/shop _", ":4\n"},
		{"install web l", "local/\thttps://charts.example.com\n:2\n"},
		{"install web local/", "local/shop\nlocal/store\n:0\n"},
		{"install web local/shop --version _", versions},
		{"install -g local/shop --version _", versions},
		{"install web --version _", ":4\n"},
		{"install web ./shop --version _", ":4\n"},
		{"install web local/shop --version=1.0", versions},
		{"install web ch", ":0\n"},
		{"install web o", "oci://\tChart OCI prefix\nours\n:2\n"},
		{"install -o _", "json\tOutput result in JSON format\ntable\tOutput result in human-readable format\nyaml\tOutput result in YAML format\n:4\n"},
		{"install --hook-parallelism _", ":4\n"},
		{"install --rollback-on", ":4\n"},
		{"upgrade _", releases},
		{"upgrade web _", charts},
		{"upgrade web local/shop --version _", versions},
		{"upgrade web local/shop _", enough},
		{"uninstall _", releases},
		{"delete odd _", "web\tshop-0.2.0 -> failed\n:4\n"},
		{"uninstall --cascade _", "background\tdelete dependents after the object\nforeground\tdelete dependents before the object\norphan\tleave dependents\n:4\n"},
		{"rollback _", releases},
		{"rollback web _", "1\tApp: 8, Chart: shop-0.1.0\n2\tApp: 9, Chart: shop-0.2.0\n:4\n"},
		{"rollback nowhere _", ":1\n"},
		{"rollback web 1 _", enough},
		{"test _", releases},
		{"test web _", enough},
		{"upgrade -n elsewhere _", "far\tshop-0.1.0 -> deployed\n:4\n"},
		{"lint _", charts},
		{"lint local/shop _", enough},
		{"lint local/shop --version _", versions},
		{"lint -o _", "table\njson\nsarif\n:4\n"},
		{"version _", ":4\n"},
	} {
		t.Run(test.line, func(t *testing.T) {
			isolate(t)
			addCandidates(t)
			t.Chdir(folder)
			words := strings.Fields(test.line)
			if last := len(words) - 1; words[last] == "_" {
				words[last] = ""
			}
			if got := complete(t, words...); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// TestCompletionScripts: the bare binary has scripts of its own, the plugin
// refers to helm's.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		isolate(t)
		got, _ := runWith(t, nil, "completion", shell)
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "helm-parallel-hooks") {
			t.Errorf("completion %s: got %+v, want a script", shell, got)
		}
		t.Setenv("HELM_PLUGIN_NAME", "parallel-hooks")
		want := outcome{"", "Error: helm's own scripts complete the commands of its plugins; see \"helm completion --help\"\n", 1}
		if got, _ := runWith(t, nil, "completion", shell); got != want {
			t.Errorf("completion %s through helm: got %+v, want %+v", shell, got, want)
		}
	}
}

// TestGlobalFlagsAreOfferedOnce: helm offers them for its plugins.
func TestGlobalFlagsAreOfferedOnce(t *testing.T) {
	for plugin, want := range map[string]bool{"": true, "parallel-hooks": false} {
		isolate(t)
		t.Setenv("HELM_PLUGIN_NAME", plugin)
		got := complete(t, "upgrade", "--")
		if strings.Contains(got, "\n--namespace") != want || !strings.Contains(got, "\n--hook-parallelism") {
			t.Errorf("as plugin %q: got %s, want the global flags: %v", plugin, got, want)
		}
	}
}

// TestClusterThatDoesNotAnswer: nobody who pressed the tab key waits as long as
// an operation would.
func TestClusterThatDoesNotAnswer(t *testing.T) {
	isolate(t)
	t.Setenv("HELM_DRIVER", "")
	p := newProgram(discard(), "")
	if err := p.reach(new(action.Configuration)); err != nil {
		t.Fatal(err)
	}
	config, err := p.settings.RESTClientGetter().ToRESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	if config.Dial == nil || config.UserAgent == "" {
		t.Errorf("got %+v, want Helm's own settings and a limit to dialing", config)
	}
}
