package cmd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/lint"
)

// helmsClock is what begins each line of Helm's log.
var helmsClock = regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `)

// lintRuns are what TestLint compares, by the name of the golden file. Charts of the
// repository are charts-NAME.
var lintRuns = map[string]string{
	"broken.table":    "testdata/charts/broken",
	"broken.json":     "testdata/charts/broken -o json",
	"broken.sarif":    "testdata/charts/broken -o sarif",
	"values":          "testdata/charts/broken --set policy=hook-succeeded,weight=0",
	"upgrade":         "testdata/charts/versions --is-upgrade --kube-version 1.30 -a example.com/v1 -n store",
	"install":         "testdata/charts/versions --kube-version 1.29",
	"none.table":      "testdata/charts/old --strict",
	"none.json":       "testdata/charts/old -o json",
	"none.sarif":      "testdata/charts/old -o sarif",
	"warnings":        "testdata/charts/shop",
	"strict":          "testdata/charts/shop --strict",
	"library":         "testdata/charts/library",
	"missing":         "testdata/charts/missing",
	"no-chart":        "testdata/charts/nowhere",
	"no-arguments":    "",
	"bad-render":      "testdata/charts/shop --set greeting=[",
	"bad-version":     "testdata/charts/shop --kube-version x",
	"bad-output":      "testdata/charts/shop -o yaml",
	"charts-shop":     "../testdata/charts/shop",
	"charts-setup":    "../testdata/charts/setup",
	"charts-limited":  "../testdata/charts/limited",
	"charts-platform": "../testdata/charts/platform",
	"charts-tiers":    "../testdata/charts/tiers",
	"charts-random":   "../testdata/charts/random",
	"charts-release":  "../testdata/charts/release --set events={pre-install+pre-upgrade,post-install,test} --set kind=job",
	"charts-crd":      "../testdata/charts/crd",
	"charts-edges":    "../testdata/charts/edges --set severalEvents=true,sameObject=true,rejectedHook=true,unknownField=true,unknownKind=true,deleteHooks=true",
}

// TestLint compares what lint prints with golden files, which -update writes anew:
//
//	go test ./cmd -run TestLint -update
func TestLint(t *testing.T) {
	for name, args := range lintRuns {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			// Whatever was contacted would answer nothing.
			t.Setenv("HELM_KUBEAPISERVER", "http://127.0.0.1:1")
			got, _ := runWith(t, nil, append([]string{"lint"}, strings.Fields(args)...)...)
			golden := filepath.Join("testdata", "lint", name+".txt")
			text := fmt.Sprintf("$ helm-parallel-hooks lint %s\nexit code %d\n--- stdout\n%s--- stderr\n%s", args, got.code, got.stdout, got.stderr)
			text = helmsClock.ReplaceAllString(text, "")
			if *update {
				if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", text, want)
			}
		})
	}
}

func lintReport(t *testing.T, args ...string) *lint.Report {
	t.Helper()
	isolate(t)
	got, _ := runWith(t, nil, append([]string{"lint", "-o", "json"}, args...)...)
	r := new(lint.Report)
	if err := json.Unmarshal([]byte(got.stdout), r); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	return r
}

// TestLintOfNoChart: what can only be meant for a file is said not to be there, before Helm's own
// words, which take it for something else.
func TestLintOfNoChart(t *testing.T) {
	const nowhere = "there is no chart %q in this folder: "
	for ref, want := range map[string]string{
		"nope":                           fmt.Sprintf(nowhere, "nope") + "non-absolute URLs should be in form of repo_name/path_to_chart, got: nope",
		"charts/nope":                    fmt.Sprintf(nowhere, "charts/nope") + "repo charts not found",
		"local/nope":                     `chart "nope" matching`, // of a repository that's known
		"./nope":                         `path "./nope" not found`,
		"/nope":                          `path "/nope" not found`,
		"http://127.0.0.1:1/a.tgz":       `Get "http://127.0.0.1:1/a.tgz": `,
		"oci://127.0.0.1:1/a":            `Get "https://127.0.0.1:1/v2/`,
		"nope --repo http://127.0.0.1:1": `looks like "http://127.0.0.1:1" is not a valid chart repository`,
		"testdata/charts":                `Chart.yaml file is missing`, // a folder that is there
	} {
		t.Run(ref, func(t *testing.T) {
			isolate(t)
			addCandidates(t)
			got, _ := runWith(t, nil, append([]string{"lint"}, strings.Fields(ref)...)...)
			if got.code != 1 || !strings.HasPrefix(got.stderr, "Error: "+want) {
				t.Errorf("got %+v, want exit code 1 and %s", got, want)
			}
		})
	}
}

// TestEveryRuleFindsSomething: the chart that's broken on purpose breaks every rule.
func TestEveryRuleFindsSomething(t *testing.T) {
	found := map[string]int{}
	for _, f := range lintReport(t, "testdata/charts/broken").Findings {
		found[f.Rule]++
	}
	for _, rule := range lint.Rules {
		if found[rule.ID] == 0 {
			t.Errorf("%s has found nothing", rule.ID)
		}
	}
}

// TestEveryChartIsLinted: TestLint knows all charts of the repository.
func TestEveryChartIsLinted(t *testing.T) {
	charts, err := filepath.Glob("../testdata/charts/*")
	if err != nil || len(charts) == 0 {
		t.Fatal(charts, err)
	}
	for _, chart := range charts {
		name := filepath.Base(chart)
		if args := strings.Fields(lintRuns["charts-"+name]); len(args) == 0 || args[0] != "../testdata/charts/"+name {
			t.Errorf("TestLint has charts-%s with %q, want %s", name, args, chart)
		}
	}
}

// TestLintOfAnArchive: what's found is the same, and where it is is the archive.
func TestLintOfAnArchive(t *testing.T) {
	chrt, err := loader.Load("testdata/charts/broken")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := chartutil.Save(chrt, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder, packed := lintReport(t, "testdata/charts/broken"), lintReport(t, archive)
	if len(packed.Findings) != len(folder.Findings) {
		t.Fatalf("got %d findings, want the %d of the folder", len(packed.Findings), len(folder.Findings))
	}
	byHook := func(a, b lint.Finding) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Hook, b.Hook), strings.Compare(a.Message, b.Message))
	}
	slices.SortFunc(folder.Findings, byHook)
	slices.SortFunc(packed.Findings, byHook)
	for i, got := range packed.Findings {
		want := folder.Findings[i]
		want.File, want.Line = filepath.ToSlash(archive), 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
