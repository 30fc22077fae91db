package helm3

import (
	"errors"
	"fmt"
	"io"
	"log"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
)

// built returns the objects of a hook's manifest as Helm's kube client builds them
// (pkg/kube/client.go, Build), but for what a cluster says.
func built(manifest string) ([]map[string]any, error) {
	infos, err := resource.NewLocalBuilder().ContinueOnError().Flatten().Unstructured().
		Stream(strings.NewReader(manifest), "").Do().Infos()
	if err != nil {
		return nil, err
	}
	var all []map[string]any
	for _, info := range infos {
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("a %T", info.Object)
		}
		all = append(all, object.Object)
	}
	return all, nil
}

// FuzzConvert takes a template's output through Helm's own sorting of manifests. What
// becomes of its hooks must be the objects that Helm would create, in Helm's order.
func FuzzConvert(f *testing.F) {
	const job = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: %s\n  annotations:\n    helm.sh/hook: %s\n    helm.sh/hook-weight: %q\n"
	for _, content := range []string{
		fmt.Sprintf(job, "a", "pre-install", "5") + "---\n" + fmt.Sprintf(job, "b", "pre-install, Post-Install ,pre-install", "-99999999999999999999"),
		fmt.Sprintf(job, "a", "test-success", "x") + "    helm.sh/hook-delete-policy: hook-succeeded,Hook-Failed, \n    parallel-hooks/slots: \"2\"\nspec: {activeDeadlineSeconds: 9007199254740993, f: 1.5, e: 1e3}\n",
		"apiVersion: v1\nkind: List\nmetadata:\n  annotations: {helm.sh/hook: pre-install}\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret}]}\n",
		"apiVersion: v1\nkind: ConfigMapList\nmetadata:\n  annotations: {helm.sh/hook: pre-install}\nitems:\n- {metadata: {name: a}}\n",
		"apiVersion: v1\nkind: List\nmetadata:\n  annotations: {helm.sh/hook: pre-install}\nitems: null\n",
		"# a\n---\n\n--- # b\nkind: Pod\napiVersion: v1\nmetadata: &m\n  annotations: {\"helm.sh/hook\": test}\nspec: *m\n...\n",
		"{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"annotations\": {\"helm.sh/hook\": \"post-delete\"}}, \"n\": 18446744073709551615}",
		"apiVersion: v1\r\nkind: Pod\r\nmetadata:\r\n  annotations:\r\n    helm.sh/hook: test\r\n",
	} {
		f.Add(content, 4)
	}
	log.SetOutput(io.Discard) // Helm tells of hooks that it doesn't know
	f.Fuzz(func(t *testing.T, content string, parallelism int) {
		recorded, _, err := releaseutil.SortManifests(map[string]string{"chart/templates/a.yaml": content}, nil, releaseutil.InstallOrder)
		if err != nil {
			return
		}
		origin := map[*hooks.Hook]*release.Hook{}
		var converted []*hooks.Hook
		for _, h := range recorded {
			hook, err := Convert(h, "ns")
			want, refused := built(h.Manifest)
			if refused != nil {
				continue // at the time at which it would be created
			}
			if err != nil {
				t.Fatalf("converting what Helm takes: %v:\n%s", err, h.Manifest)
			}
			var got []map[string]any
			for _, o := range hook.Objects {
				got = append(got, o.Object)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got the objects\n%#v\nwant\n%#v\nof\n%s", got, want, h.Manifest)
			}
			if hook.Name != h.Name || hook.Kind != h.Kind || hook.Path != h.Path || hook.Weight != h.Weight || hook.Namespace != "ns" ||
				len(hook.Events) != len(h.Events) || len(hook.DeletePolicies) != len(h.DeletePolicies) || len(hook.LogPolicies) != len(h.OutputLogPolicies) {
				t.Fatalf("got %+v, want %+v", hook, h)
			}
			origin[hook] = h
			converted = append(converted, hook)
		}
		for _, event := range eventsIn(&release.Release{Hooks: recorded}) {
			var want []*release.Hook
			for _, h := range converted {
				for _, e := range origin[h].Events {
					if e == event {
						want = append(want, origin[h])
					}
				}
			}
			sort.Stable(helmOrder(want))
			serial, err := hooks.NewPlan(hooks.Event(event), converted, hooks.PlanOptions{Parallelism: 1})
			if err != nil {
				t.Fatal(err)
			}
			if got := originals(serial, origin); !slices.Equal(got, want) {
				t.Fatalf("%s: the serial order is %v, want %v", event, got, want)
			}
			parallel, err := hooks.NewPlan(hooks.Event(event), converted, hooks.PlanOptions{Parallelism: parallelism})
			if err != nil {
				continue
			}
			if got := originals(parallel, origin); len(got) != len(want) {
				t.Fatalf("%s: %d hooks are planned, want %d", event, len(got), len(want))
			}
		}
	})
}

func originals(plan *hooks.Plan, origin map[*hooks.Hook]*release.Hook) []*release.Hook {
	var all []*release.Hook
	for _, h := range plan.Hooks() {
		all = append(all, origin[h])
	}
	return all
}

// plainCommand is a command of plain and quoted words alone.
var plainCommand = regexp.MustCompile(`^  (look further:|             ) kubectl( ([\w./:@=+-]|'[^']*'|\\')+)+$`)

// FuzzDetails: of what a chart, a container or the cluster says nothing reaches the
// terminal as more than text below an error, and no line but those of logs is added.
func FuzzDetails(f *testing.F) {
	for _, s := range []string{"a", "a\x1b[2J\u202e\u009b\xff", "a\nb", "\r\n\t", "$(id)", "a b;c|d", "'", ""} {
		f.Add("Job", s, s, s, s, false)
		f.Add(s, "a", "ns", "b", s, true)
	}
	f.Fuzz(func(t *testing.T, kind, name, namespace, message, line string, timedOut bool) {
		details := func(kind, name, namespace, message, line string) []string {
			o := &Operation{opts: Options{Parallelism: 2, LogTail: 1}}
			h := &hooks.Hook{Kind: kind, Name: name, Namespace: namespace}
			failure := &hooks.HookError{Event: "test", Hook: h, Op: hooks.OpWait, Err: errors.New(message), After: time.Second, Findings: []hooks.Finding{
				{Pod: name, Container: name, Reason: message, Message: message, Log: []string{line}},
				{Pod: name, Container: name, Reason: message, Message: "said", Ended: true},
			}}
			if timedOut {
				failure.Err = hooks.ErrTimeout
			}
			o.failures = []*hooks.RunError{{Event: "test", Failures: []*hooks.HookError{failure}}}
			var detailed *detailedError
			if !errors.As(o.withDetails(errors.New("failed")), &detailed) {
				t.Fatal("there are no details")
			}
			return strings.Split(detailed.details, "\n")
		}
		got, want := details(kind, name, namespace, message, line), details("Job", "a", "a", "a", "a")
		if len(got) != len(want) {
			t.Errorf("%d lines, want %d: %q", len(got), len(want), got)
		}
		for _, line := range got {
			if display.PrintableLine(line) != line {
				t.Errorf("control characters got through: %q", line)
			}
			if strings.Contains(line, " --namespace ") && !plainCommand.MatchString(line) {
				t.Errorf("a shell would do more than call kubectl: %s", line)
			}
		}
	})
}
