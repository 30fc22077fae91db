package cmd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

// TestHookFlagsThatCannotBeFollowed: they're refused, with what would be valid, before anything is contacted.
func TestHookFlagsThatCannotBeFollowed(t *testing.T) {
	folder := t.TempDir()
	for _, test := range []struct{ args, want string }{
		{"--hook-progress loud", `invalid argument "loud" for "--hook-progress" flag: must be one of auto, live, plain, json, none`},
		{"--hook-logs some", `invalid argument "some" for "--hook-logs" flag: must be one of none, failed, all`},
		{"--hook-report " + filepath.Join(folder, "report.pdf"), "the file's name must end with one of .html, .trace.json, .json, .yaml, .yml, .mmd, .txt"},
		{"--hook-report " + filepath.Join(folder, "none", "report.json"), "does not exist"},
	} {
		t.Run(test.args, func(t *testing.T) {
			isolate(t)
			t.Setenv("HELM_KUBEAPISERVER", "http://127.0.0.1:1")
			got, made := runWith(t, plainHelm{}, append([]string{"install", "web", "testdata/charts/shop"}, strings.Fields(test.args)...)...)
			if got.code != 1 || !strings.Contains(got.stderr, test.want) || made != nil {
				t.Errorf("want exit code 1 and %q; got: %+v", test.want, got)
			}
		})
	}
	t.Run("a report of several releases", func(t *testing.T) {
		isolate(t)
		got, made := runWith(t, plainHelm{}, "uninstall", "taken", "tested", "--hook-report", filepath.Join(folder, "report.json"))
		if got.code != 1 || !strings.Contains(got.stderr, "one release at a time") || made != nil {
			t.Errorf("want exit code 1 and why; got: %+v", got)
		}
	})
	for value, bad := range map[string]string{"4,0": "0", "0,a": "0", "1,a,0": "a", "-1": "-1", "": "", "4,": "", "1.5": "1.5", "9999999999999999999": "9999999999999999999"} {
		t.Run("what-if "+value, func(t *testing.T) {
			isolate(t)
			got, _ := runWith(t, nil, "timeline", "tested", "--what-if", "2", "--what-if", value)
			if want := fmt.Sprintf("Error: invalid argument %q for --what-if: must be whole numbers of at least 1, separated by commas\n", bad); got != (outcome{"", want, 1}) {
				t.Errorf("got %+v, want exit code 1 and %s", got, want)
			}
		})
	}
	for args, want := range map[string]string{
		"timeline web":                         `release "web" in namespace "default": release: not found`,
		"timeline web -n store":                `release "web" in namespace "store": release: not found`,
		"timeline taken --revision 99":         `revision 99 of release "taken" in namespace "default": release: not found`,
		"timeline taken --revision 1 -n store": `revision 1 of release "taken" in namespace "store": release: not found`,
		"timeline Taken":                       "releaseContent: Release name is invalid: Taken",
	} {
		t.Run(args, func(t *testing.T) {
			isolate(t)
			t.Setenv("HELM_KUBEAPISERVER", fakeAPI(t))
			got, _ := runWith(t, nil, strings.Fields(args)...)
			if got != (outcome{"", "Error: " + want + "\n", 1}) {
				t.Errorf("got %+v, want exit code 1 and %s", got, want)
			}
		})
	}
	for _, command := range []string{"timeline tested", "plan tested testdata/charts/shop"} {
		t.Run(command, func(t *testing.T) {
			isolate(t)
			got, _ := runWith(t, nil, append(strings.Fields(command), "-o", "xml")...)
			if got.code != 1 || !strings.Contains(got.stderr, "invalid format type, must be one of table, json, yaml, mermaid") {
				t.Errorf("want exit code 1 and the formats; got: %+v", got)
			}
		})
	}
}

// TestWhatHookFlagsAskFor: what an operation is asked to find out depends on what is shown of it, and for a serial one
// that's nothing.
func TestWhatHookFlagsAskFor(t *testing.T) {
	type asked struct {
		followPods, streamLogs bool
		followAfter            time.Duration
		logTail                int
	}
	for args, want := range map[string]asked{
		"":                      {},
		"--hook-parallelism 1":  {},
		"--hook-parallelism 4":  {followPods: true, followAfter: activityDelay, logTail: logTail},
		"--hook-progress plain": {followPods: true, followAfter: activityDelay},
		// Standard error is no terminal here.
		"--hook-progress live":                      {followPods: true, followAfter: activityDelay},
		"--hook-progress json":                      {followPods: true},
		"--hook-parallelism 4 --hook-progress none": {logTail: logTail},
		"--hook-parallelism 4 --hook-logs none":     {followPods: true, followAfter: activityDelay},
		"--hook-parallelism 4 --hook-logs all":      {followPods: true, followAfter: activityDelay, streamLogs: true},
		"--hook-logs failed":                        {logTail: logTail},
	} {
		t.Run(args, func(t *testing.T) {
			isolate(t)
			t.Setenv("HELM_KUBEAPISERVER", fakeAPI(t))
			got, made := runWith(t, plainHelm{}, append([]string{"install", "web", "testdata/charts/shop"}, strings.Fields(args)...)...)
			if got.code != 0 || made == nil {
				t.Fatalf("got: %+v", got)
			}
			if got := (asked{made.FollowPods, made.StreamLogs, made.FollowAfter, made.LogTail}); got != want {
				t.Errorf("asked for %+v, want %+v", got, want)
			}
		})
	}
}

// ranOperation is an operation that has run a hook.
type ranOperation struct {
	plainHelm
	observer hooks.Observer
}

func (o ranOperation) Install(ctx context.Context, client *action.Install, chrt *chart.Chart, vals map[string]any) (*release.Release, error) {
	hook := &hooks.Hook{Name: "migrate", Kind: "Job", Events: []hooks.Event{"pre-install"}}
	plan, err := hooks.NewPlan("pre-install", []*hooks.Hook{hook}, hooks.PlanOptions{Parallelism: 1})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	result := hooks.Result{Hook: hook, Phase: hooks.Succeeded, StartedAt: now, CompletedAt: now.Add(time.Second)}
	o.observer.Observe(hooks.EventStarted{Plan: plan})
	o.observer.Observe(hooks.EventEnded{Event: "pre-install", Results: []hooks.Result{result}})
	return o.plainHelm.Install(ctx, client, chrt, vals)
}

func (o ranOperation) Ran() *release.Release {
	return &release.Release{Name: "web", Namespace: "default", Version: 7, Info: &release.Info{Status: release.StatusDeployed}}
}

// TestHookReport: it holds what ran in this operation, and no failure to write it changes how the command ends.
func TestHookReport(t *testing.T) {
	install := func(t *testing.T, ran bool, file string) outcome {
		t.Helper()
		isolate(t)
		t.Setenv("HELM_KUBEAPISERVER", fakeAPI(t))
		var stdout, stderr bytes.Buffer
		p := newProgram(genericiooptions.IOStreams{In: new(bytes.Buffer), Out: &stdout, ErrOut: &stderr}, "0.0.1")
		p.newOperation = func(_ *action.Configuration, opts helm3.Options) operation {
			if !ran {
				return plainHelm{}
			}
			return ranOperation{observer: opts.Observer}
		}
		code := ExitCode(p.run([]string{"install", "web", "testdata/charts/shop", "--hook-report", file}))
		return outcome{stdout.String(), stderr.String(), code}
	}
	for ending, want := range map[string]string{
		".html": "<!doctype html>", ".json": `"name":"migrate"`, ".trace.json": `"traceEvents"`,
		".yaml": "name: migrate", ".yml": "revision: 7", ".mmd": "gantt", ".txt": "Job/migrate", ".TXT": "web, revision 7",
	} {
		t.Run(ending, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report"+ending)
			got := install(t, true, file)
			text, err := os.ReadFile(file)
			if got.code != 0 || err != nil || !strings.Contains(string(text), want) {
				t.Errorf("want %q in the report; got %v, %q, %+v", want, err, text, got)
			}
		})
	}
	t.Run("nothing ran", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "report.txt")
		got := install(t, false, file)
		text, err := os.ReadFile(file)
		if got.code != 0 || err != nil || !strings.Contains(string(text), "No hook ran") {
			t.Errorf("got %v, %q, %+v", err, text, got)
		}
	})
	t.Run("a file that can't be written", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "report.txt")
		if err := os.Mkdir(file, 0o755); err != nil {
			t.Fatal(err)
		}
		got := install(t, true, file)
		if got.code != 0 || !strings.Contains(got.stderr, "WARNING: the report on hooks could not be written: ") {
			t.Errorf("want exit code 0 and a warning; got: %+v", got)
		}
	})
}
