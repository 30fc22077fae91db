package cmd

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// helmCalls are what users write after helm, first what helm passes on as it was
// meant and then what it does not.
var helmCalls = []struct {
	written string
	want    string // part of the error
}{
	{"", ""},
	{"version", ""},
	{"help install", ""},
	{"install web chart", ""},
	{"install web chart -n store --kube-context=test --debug", ""},
	{"install -nstore web chart --debug=true", ""},
	{"install -gn store chart", ""},
	{"--qps 9 --burst-limit 5 -v 0 --color never install web chart", ""},
	{"install web chart --kube-as-user me --kube-as-group a --kube-as-group=b", ""},
	{"install web chart --labels a=1,b=2,c=3,d=4", ""},
	{"install web chart --description=--debug --set=a=-n", ""},
	{"install web chart --kube-insecure-skip-tls-verify", ""},
	{"install web chart --kube-insecure-skip-tls-verify --debug", ""},
	{"install --kube-insecure-skip-tls-verify=true web chart", ""},
	{"install web chart --no-such-flag", ""},
	{"install -o json web chart -f values.yaml", ""},
	{"install web chart -ojson", ""},
	{"install web chart -o=json", ""},
	{"install -ojson web chart -n store", ""},
	{"install web chart -fvalues.yaml", ""},
	{"install web chart -hn", ""},

	{"install --kube-insecure-skip-tls-verify web chart", `helm did not pass on "web": when it calls a plugin it takes what follows --kube-insecure-skip-tls-verify for that flag's value. Write --kube-insecure-skip-tls-verify=true`},
	{"--kube-insecure-skip-tls-verify install web chart", `did not pass on "install"`},
	{"install -g --kube-insecure-skip-tls-verify chart other", `did not pass on "chart"`},
	{"install web chart --kube-insecure-skip-tls-verify --wait", `did not pass on "--wait"`},
	{"install web chart --kube-insecure-skip-tls-verify --help", `did not pass on "--help"`},
	{"install web chart --kube-insecure-skip-tls-verify --password=planted", `did not pass on "--password":`},
	{"install web chart --kube-insecure-skip-tls-verify --kube-apiserver https://127.0.0.1:1 --kube-token t", `did not pass on "--kube-apiserver"`},
	{"install -ojson web chart", `helm took "web" for the namespace: it reads "-ojson" letter by letter, up to the n, its own flag for a namespace. Write "-o json"`},
	{"install -gojson chart", `Write "-go json"`},
	{"install -ojson --wait web chart", `helm took "--wait" for the namespace`},
	{"install web chart -fprod-env.yaml", `helm took "v.yaml" for the namespace: it reads "-fprod-env.yaml" letter by letter`},
	{"install web chart -lname=x", `Write "-l name=x"`},
	{"install --description --debug web chart", `helm took "--debug", the value of --description, for a flag of its own. Write --description=VALUE`},
	{"install web chart --description --debug", `helm took "--debug", the value of --description`},
	{"install web chart -f --kube-token=planted", `helm took "--kube-token", the value of -f`},
	{"install web -- -n chart", `even after --`},
	{`install web chart --description -nightly`, "Write --description=VALUE"},
	{`rollback web ""`, "helm drops an empty argument"},
	{`uninstall "" web store`, "helm drops an empty argument"},
	{`uninstall web --description "" --debug --dry-run`, "helm drops an empty argument"},
	{`install web chart --kube-context "" -n ""`, ""},
	{`install web chart --description=`, ""},
}

func TestArgumentsAreTheUsers(t *testing.T) {
	for _, test := range helmCalls {
		t.Run(test.written, func(t *testing.T) {
			isolate(t)
			t.Setenv("HELM_PLUGIN_NAME", "parallel-hooks")
			written := strings.Fields(strings.ReplaceAll(test.written, `""`, "_"))
			for i, word := range written {
				if word == "_" {
					written[i] = ""
				}
			}
			_, passed := divide(written)
			err := newProgram(discard(), "").compareArguments(written, passed)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestMisreadArgumentsStopTheProgram(t *testing.T) {
	isolate(t)
	t.Setenv("HELM_PLUGIN_NAME", "parallel-hooks")
	t.Setenv("HELM_NAMESPACE", "web")
	got, opts := runWith(t, plainHelm{}, "install", "-ojson", "web", "testdata/charts/shop")
	want := outcome{"", "Error: helm took \"web\" for the namespace: it reads \"-ojson\" letter by letter, up to the n, its own flag for a namespace. Write \"-o json\"\n", 1}
	if got != want || opts != nil {
		t.Errorf("got %+v (operation made: %v), want %+v", got, opts != nil, want)
	}
}

func TestWrittenArguments(t *testing.T) {
	for _, test := range []struct {
		caller, args string
		want         string
		ok           bool
	}{
		{"/bin/helm parallel-hooks install web chart", "install web chart", "install web chart", true},
		{"/bin/helm --qps 9 parallel-hooks install web chart -n store", "--qps 9 install web chart", "--qps 9 install web chart -n store", true},
		{"/bin/helm -n parallel-hooks parallel-hooks uninstall parallel-hooks", "uninstall parallel-hooks", "-n parallel-hooks uninstall parallel-hooks", true},
		{"/bin/helm parallel-hooks", "", "", true},
		// A plugin that runs this program, and anything else that isn't helm.
		{"/bin/helm other deploy web", "install web chart", "", false},
		{"/bin/helm parallel-hooks deploy web", "install web chart", "", false},
		{"/bin/sh parallel-hooks install web chart", "install web chart", "", false},
		{"", "install web chart", "", false},
	} {
		got, ok := writtenArguments(strings.Fields(test.caller), "/bin/helm", "parallel-hooks", strings.Fields(test.args))
		if strings.Join(got, " ") != test.want || ok != test.ok {
			t.Errorf("%q passing %q: got %q, %v, want %q, %v", test.caller, test.args, got, ok, test.want, test.ok)
		}
	}
	if _, ok := writtenArguments([]string{"", "parallel-hooks"}, "", "parallel-hooks", nil); ok {
		t.Error("without the name of helm's binary some caller was taken for helm")
	}
}

func TestCommandLine(t *testing.T) {
	if runtime.GOOS != "linux" {
		if got := commandLine(os.Getpid()); got != nil {
			t.Errorf("commandLine() = %q, want none on this system", got)
		}
		return
	}
	if got := commandLine(os.Getpid()); !slices.Equal(got, os.Args) {
		t.Errorf("commandLine() = %q, want %q", got, os.Args)
	}
	if got := commandLine(1 << 30); got != nil {
		t.Errorf("commandLine of no process = %q, want none", got)
	}
}

// TestArgumentsWithoutTheCaller is about systems where a caller's command line
// can't be had.
func TestArgumentsWithoutTheCaller(t *testing.T) {
	for _, test := range []struct {
		namespace, args string
		want            bool
	}{
		{"web", "install -ojson web chart", true},
		{"v.yaml", "install web chart -fprod-env.yaml", true},
		{"store", "install -ojson web chart", false},
		{"store", "install -nstore web chart", false},
		{"store", "install -gnstore chart", false},
		{"web", "install web chart", false},
		{"", "install web chart -ojson", false},
	} {
		isolate(t)
		t.Setenv("HELM_PLUGIN_NAME", "parallel-hooks")
		t.Setenv("HELM_NAMESPACE", test.namespace)
		err := newProgram(discard(), "").checkNamespace(strings.Fields(test.args))
		if (err != nil) != test.want {
			t.Errorf("%+v: got %v, want an error: %v", test, err, test.want)
		}
	}
}

func TestValuesThatAreFlags(t *testing.T) {
	for _, test := range []struct {
		name, value string
		want        string
	}{
		{"HELM_KUBEAPISERVER", "--kube-token", `helm took "--kube-token" for the value of --kube-apiserver. Give --kube-apiserver a value, and if --kube-insecure-skip-tls-verify is among the flags, write it as --kube-insecure-skip-tls-verify=true`},
		{"HELM_NAMESPACE", "--debug", `"--debug" for the value of --namespace`},
		{"HELM_KUBECONTEXT", "-n", `"-n" for the value of --kube-context`},
		{"HELM_KUBEASGROUPS", "a,--kube-as-user=planted", `"--kube-as-user" for the value of --kube-as-group`},
		{"HELM_KUBETOKEN", "--kube-ca-file", `"--kube-ca-file" for the value of --kube-token`},
		{"HELM_KUBETOKEN", "-planted", ""},
		{"KUBECONFIG", "--debug", `"--debug" for the value of --kubeconfig`},
		{"HELM_KUBEAPISERVER", "https://127.0.0.1:1", ""},
		{"HELM_KUBEASUSER", "me", ""},
		{"HELM_PLUGINS", "-", ""},
	} {
		isolate(t)
		t.Setenv("HELM_KUBEASGROUPS", "")
		t.Setenv("HELM_REPOSITORY_CACHE", filepath.Join(t.TempDir(), "cache"))
		t.Setenv(test.name, test.value)
		t.Setenv("HELM_PLUGIN_NAME", "parallel-hooks")
		err := newProgram(discard(), "").checkArguments([]string{"install", "web", "chart"})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s=%s: got %v, want %q", test.name, test.value, err, test.want)
		}
		t.Setenv("HELM_PLUGIN_NAME", "")
		if err := newProgram(discard(), "").checkArguments([]string{"install", "web", "chart"}); err != nil {
			t.Errorf("%s=%s without helm: %v", test.name, test.value, err)
		}
		t.Setenv(test.name, "")
	}
}
