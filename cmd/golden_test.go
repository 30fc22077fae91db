package cmd

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
)

// helmBinary makes TestOutputIsHelms write its golden files anew:
//
//	go test ./cmd -run TestOutputIsHelms -helm /path/to/helm
var helmBinary = flag.String("helm", "", "write the golden files from what this `helm` prints")

// TestOutputIsHelms compares what the commands print with what Helm 3.22 printed
// for the same arguments.
func TestOutputIsHelms(t *testing.T) {
	for name, args := range map[string]string{
		"table":                   "install web testdata/charts/shop",
		"json":                    "install web testdata/charts/shop -o json --set greeting=bye",
		"yaml":                    "install web testdata/charts/shop --output=yaml -n store",
		"debug":                   "install web testdata/charts/shop --debug --set a.b=1",
		"hide-notes":              "install web testdata/charts/shop --hide-notes",
		"description":             "install web testdata/charts/shop --description why -o json",
		"dry-run":                 "install web testdata/charts/shop --dry-run",
		"dry-run-server":          "install web testdata/charts/shop --dry-run=server --hide-secret",
		"dry-run-false":           "install web testdata/charts/shop --dry-run=false --no-hooks",
		"dry-run-empty":           "install web testdata/charts/shop --dry-run=",
		"dry-run-bad":             "install web testdata/charts/shop --dry-run=maybe",
		"name-template":           "install testdata/charts/shop --name-template {{print`tpl`}}",
		"post-renderer":           "install web testdata/charts/shop --post-renderer-args s/shop/SHOP/ --post-renderer sed --dry-run",
		"post-renderer-none":      "install web testdata/charts/shop --post-renderer no-such-program",
		"wait":                    "install web testdata/charts/shop --wait --wait-for-jobs --timeout 3s --atomic",
		"deprecated":              "install web testdata/charts/old",
		"library":                 "install web testdata/charts/library",
		"missing-dependency":      "install web testdata/charts/missing",
		"no-arguments":            "install",
		"no-name":                 "install testdata/charts/shop",
		"too-many":                "install web testdata/charts/shop more and-more",
		"name-twice":              "install web testdata/charts/shop -g",
		"bad-name":                "install Web testdata/charts/shop",
		"taken":                   "install taken testdata/charts/shop",
		"no-chart":                "install web testdata/charts/none",
		"no-repository":           "install web nowhere/shop",
		"bad-set":                 "install web testdata/charts/shop --set a[",
		"bad-values":              "install web testdata/charts/shop -f testdata/none.yaml",
		"bad-output":              "install web testdata/charts/shop -o xml",
		"bad-timeout":             "install web testdata/charts/shop --timeout 5",
		"unknown-flag":            "install web testdata/charts/shop --no-such-flag",
		"unknown-short-flag":      "install web testdata/charts/shop -y",
		"hide-secret":             "install web testdata/charts/shop --hide-secret",
		"system-label":            "install web testdata/charts/shop -l owner=me",
		"flags-first":             "--qps 9 --burst-limit 5 -v 0 install web testdata/charts/shop",
		"no-certificate":          "install web testdata/charts/shop --plain-http --username u --password p",
		"version-constraint":      "install web testdata/charts/shop --version 9 --devel",
		"unknown-command":         "instal",
		"bad-render":              "install web testdata/charts/shop --set greeting=[",
		"subchart-notes":          "install web testdata/charts/shop --render-subchart-notes --skip-crds --create-namespace --replace --take-ownership --force",
		"upgrade":                 "upgrade taken testdata/charts/shop",
		"upgrade-json":            "upgrade taken testdata/charts/shop -o json --description why --labels a=b",
		"upgrade-missing":         "upgrade web testdata/charts/shop",
		"upgrade-install":         "upgrade --install web testdata/charts/shop",
		"upgrade-install-json":    "upgrade -i web testdata/charts/shop -o json",
		"upgrade-install-taken":   "upgrade -i taken testdata/charts/shop --hide-notes",
		"upgrade-install-gone":    "upgrade -i gone testdata/charts/shop",
		"upgrade-install-library": "upgrade -i web testdata/charts/library",
		"upgrade-install-bad":     "upgrade -i web testdata/charts/shop --set greeting=[",
		"upgrade-dry-run":         "upgrade taken testdata/charts/shop --dry-run --hide-secret",
		"upgrade-dry-run-bad":     "upgrade taken testdata/charts/shop --dry-run=maybe",
		"upgrade-hide-secret":     "upgrade taken testdata/charts/shop --hide-secret",
		"upgrade-deprecated":      "upgrade taken testdata/charts/old",
		"upgrade-dependency":      "upgrade taken testdata/charts/missing",
		"upgrade-all-flags":       "upgrade taken testdata/charts/shop --atomic --cleanup-on-fail --create-namespace --dependency-update --devel --disable-openapi-validation --enable-dns --force --history-max 3 --no-hooks --recreate-pods --render-subchart-notes --reset-values --skip-crds --skip-schema-validation --take-ownership --timeout 3s --wait --wait-for-jobs",
		"upgrade-pending":         "upgrade stuck testdata/charts/shop",
		"upgrade-one-argument":    "upgrade taken",
		"upgrade-bad-name":        "upgrade Taken testdata/charts/shop",
		"rollback":                "rollback tested 1",
		"rollback-before":         "rollback tested",
		"rollback-dry-run":        "rollback tested 1 --dry-run",
		"rollback-all-flags":      "rollback tested 1 --cleanup-on-fail --force --history-max 2 --no-hooks --recreate-pods --timeout 3s --wait --wait-for-jobs",
		"rollback-missing":        "rollback web 1",
		"rollback-no-revision":    "rollback tested 9",
		"rollback-negative":       "rollback tested -- -1",
		"rollback-bad-revision":   "rollback tested one",
		"rollback-no-arguments":   "rollback",
		"uninstall":               "uninstall taken",
		"uninstall-several":       "uninstall taken tested web taken",
		"uninstall-all-flags":     "uninstall taken --cascade foreground --description why --keep-history --no-hooks --timeout 3s --wait",
		"uninstall-alias":         "un taken --dry-run",
		"uninstall-cascade":       "uninstall taken --cascade all",
		"uninstall-ignore":        "delete web --ignore-not-found",
		"uninstall-gone":          "uninstall gone --keep-history",
		"uninstall-purge":         "uninstall gone",
		"uninstall-no-arguments":  "uninstall",
		"uninstall-bad-name":      "del Web",
		"test":                    "test tested",
		"test-filter":             "test tested --filter name=smoke --hide-notes",
		"test-exclude":            "test tested --filter !name=smoke,other=x",
		"test-missing":            "test web",
		"test-two":                "test tested taken",
		"test-bad-name":           "test Web",
		"disable-validations":     "install web testdata/charts/shop --disable-openapi-validation --skip-schema-validation --enable-dns --dependency-update",
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			t.Setenv("HELM_KUBEAPISERVER", fakeAPI(t))
			golden := filepath.Join("testdata", "helm", name+".txt")
			if *helmBinary != "" {
				if err := os.WriteFile(golden, []byte(runHelm(t, args).masked(args)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := runWith(t, nil, strings.Fields(args)...)
			if got := got.masked(args); got != string(want) {
				t.Errorf("%s\ngot:\n%s\nwant what Helm prints:\n%s", args, got, want)
			}
		})
	}
}

// TestStatusOfTestsIsHelms compares how tests that have run are shown, which an
// installation never has.
func TestStatusOfTestsIsHelms(t *testing.T) {
	isolate(t)
	golden := filepath.Join("testdata", "helm", "tested.txt")
	if *helmBinary != "" {
		if err := os.WriteFile(golden, []byte(runHelm(t, "status tested").stdout), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	cfg := new(action.Configuration)
	if err := newProgram(discard(), "").configure(cfg); err != nil {
		t.Fatal(err)
	}
	rel, err := cfg.Releases.Last("tested")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := (status{release: rel}).WriteTable(&got); err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got:\n%s\nwant what Helm prints:\n%s", &got, want)
	}
}

func runHelm(t *testing.T, args string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	helm := exec.CommandContext(t.Context(), *helmBinary, strings.Fields(args)...)
	helm.Stdout, helm.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := helm.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), helm.ProcessState.ExitCode()}
}

var (
	clock = regexp.MustCompile(`(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}|\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)`)
	home  = regexp.MustCompile(`\S*/(config|cache|data)/`)
)

// masked writes an outcome down without what differs from run to run, the
// program's name, and debug messages, which name lines of Helm's own source.
func (o outcome) masked(args string) string {
	if strings.Contains(args, "--debug") {
		o.stderr = "(not compared)\n"
	}
	text := fmt.Sprintf("$ helm %s\nexit code %d\n--- stdout\n%s--- stderr\n%s", args, o.code, o.stdout, o.stderr)
	text = clock.ReplaceAllString(text, "(time)")
	text = home.ReplaceAllString(text, "(home)/$1/")
	return strings.ReplaceAll(text, "helm-parallel-hooks", "helm")
}
