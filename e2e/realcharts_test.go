package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// realCharts have the hooks of charts that people use; testdata/charts/platform/README.md names these.
var realCharts = []struct {
	chart string
	// atOnce is how many Jobs are active at once if there are slots enough.
	atOnce int
	// needs is how many pairs there are of a Job and something that has to be there before it, in all events.
	needs int
	// failing is a Job of an upgrade, by the last part of its name. No other Job may run while it does: that one
	// would not be in Helm's record.
	failing string
}{
	{"platform/charts/ingress-nginx", 1, 24, "admission-create"},
	{"platform/charts/kube-prometheus-stack", 1, 24, "admission-patch"},
	{"platform/charts/airflow", 1, 0, "run-airflow-migrations"},
	{"platform/charts/sentry", 3, 0, "snuba-migrate"},
	{"platform/charts/argo-cd", 1, 6, "redis-secret-init"},
	{"platform", 3, 341, "snuba-migrate"},
}

// lives are what is done to a release, which has the name of its namespace: some objects of these charts have no
// namespace, and only the release in their names. RELEASE stands for that, CHART for the chart, and FAILING for the Job
// that fails. "!" says that the command fails. Nothing is random, and no Job goes by its time to live.
var lives = []struct {
	name        string
	commands    []string
	parallelism []int // 0 is Helm
}{
	{"good", []string{
		"install RELEASE CHART --set global.secret=known,global.ttlSecondsAfterFinished=3600",
		"upgrade RELEASE CHART --reuse-values --set global.text=second",
		"rollback RELEASE 1",
		"uninstall RELEASE",
	}, []int{0, 1, 4, 16}},
	{"with a failure", []string{
		"install RELEASE CHART --set global.secret=known,global.ttlSecondsAfterFinished=3600,global.backoffLimit=0",
		"! upgrade RELEASE CHART --reuse-values --set global.failing={FAILING}",
		"upgrade RELEASE CHART --reuse-values --set global.text=second",
		"uninstall RELEASE",
	}, []int{0, 16}},
}

// TestRealCharts: such a chart is installed, upgraded, rolled back and uninstalled by the plugin as by Helm, whose
// objects, records and changes are the same after each command, also after one that fails; and no Job is created before
// what it needs. The short test leaves out what isn't most parallel.
func TestRealCharts(t *testing.T) {
	t.Parallel()
	for _, test := range realCharts {
		for _, life := range lives {
			t.Run(path.Base(test.chart)+" "+life.name, func(t *testing.T) {
				t.Parallel()
				all := life.parallelism
				if testing.Short() {
					all = []int{0, 16}
				}
				outcomes := make([][]outcome, len(all))
				t.Run("by", func(t *testing.T) {
					for i, n := range all {
						name, program := fmt.Sprintf("%d at once", n), func(s *session, args ...string) result {
							return s.plugin(append(args, "--hook-parallelism", strconv.Itoa(n))...)
						}
						if n == 0 {
							name, program = "helm", (*session).helm
						}
						t.Run(name, func(t *testing.T) {
							t.Parallel()
							s := newSession(t)
							fill := strings.NewReplacer("RELEASE", s.namespace, "CHART", chartPath(test.chart), "FAILING", test.failing)
							outcomes[i] = s.outcomesOf(t, program, life.commands, fill)
							// After a failure, an object is created at other events than in a good life.
							if n > 1 && life.name == "good" {
								if got := s.checkOrder(); got != test.needs {
									t.Errorf("%d pairs of a Job and what it needs, want %d", got, test.needs)
								}
							}
							if got, want := audit.MaxActive(s.trail().Runs()), max(1, min(n, test.atOnce)); got != want {
								t.Errorf("%d Jobs were active at once, want %d", got, want)
							}
						})
					}
				})
				if t.Failed() {
					return
				}
				for i, n := range all[1:] {
					for step, want := range outcomes[0] {
						for _, complaint := range unlike(want, outcomes[i+1][step], n) {
							t.Errorf("%s, %d at once: %s", life.commands[step], n, complaint)
						}
					}
				}
			})
		}
	}
}

// unlike says which fields of the outcome with n hooks at once are not Helm's.
func unlike(want, got outcome, n int) (complaints []string) {
	done := changes
	if n > 1 {
		done = work
		got = maps.Clone(got)
		got[statuses] = containerReport.ReplaceAllString(got[statuses], "")
	}
	for _, field := range []string{codes, stdout, statuses, objects, done} {
		if got[field] != want[field] {
			complaints = append(complaints, fmt.Sprintf("%s is not Helm's:\n%s", field, diff.Diff("helm", []byte(want[field]), "plugin", []byte(got[field]))))
		}
	}
	return complaints
}

// outcomesOf has a program do one command after another, and returns what had come of all of them after each.
func (s *session) outcomesOf(t *testing.T, program func(*session, ...string) result, commands []string, fill *strings.Replacer) (all []outcome) {
	t.Helper()
	s.needsAudit()
	s.folder = t.TempDir()
	for _, command := range commands {
		line, fails := strings.CutPrefix(command, "! ")
		got := program(s, strings.Fields(fill.Replace(line))...)
		if (got.code != 0) != fails {
			t.Fatalf("want failure: %v; got: %v", fails, got)
		}
		o := s.outcomeOf(t)
		o[codes], o[stdout] = fmt.Sprintln(got.code), s.mask(got.stdout)
		all = append(all, o)
	}
	return all
}

// outcomeOf returns what has come of all commands in the session so far, but for what they said.
func (s *session) outcomeOf(t *testing.T) outcome {
	t.Helper()
	o := outcome{}
	kinds := map[schema.GroupVersionResource]bool{}
	for _, namespace := range []string{s.namespace, ""} {
		trail := s.ofMine(namespace)
		o.addChanges(trail.Creates(), trail, namespace != "", kinds)
	}
	releases, err := storedReleases(t.Context(), s.namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, rel := range releases {
		o[statuses] += statusText(rel)
	}
	o[objects] = objectsIn(t, s.namespace, kinds) + s.clusterObjects(t, kinds)
	for field, text := range o {
		o[field] = s.mask(text)
	}
	return o
}

// ofMine returns what helm or the plugin asked for in a namespace, or, if it is "", for objects of no namespace whose
// names have the session's in them.
func (s *session) ofMine(namespace string) audit.Trail {
	s.t.Helper()
	return s.trailOf(namespace).By(byHelm, byPlugin).Where(func(r audit.Request) bool {
		return namespace != "" || strings.Contains(r.Name, s.namespace)
	})
}

// clusterObjects is objectsIn for those objects that have no namespace, but the session's in their names.
func (s *session) clusterObjects(t *testing.T, kinds map[schema.GroupVersionResource]bool) string {
	s.t.Helper()
	client, err := dynamicClient()
	if err != nil {
		s.t.Fatal(err)
	}
	var texts []string
	for kind, namespaced := range kinds {
		if namespaced {
			continue
		}
		list, err := client.Resource(kind).List(s.t.Context(), metav1.ListOptions{})
		if err != nil {
			s.t.Fatalf("listing %s: %v", kind, err)
		}
		for _, object := range list.Items {
			if strings.Contains(object.GetName(), s.namespace) {
				texts = append(texts, objectText(t, object))
			}
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, "")
}

// hookOf returns the annotations of the object that a request created if it is a hook, else nil.
func hookOf(r audit.Request) map[string]string {
	var object metav1.PartialObjectMetadata
	if json.Unmarshal(r.RequestBody, &object) != nil || object.Annotations["helm.sh/hook"] == "" {
		return nil
	}
	return object.Annotations
}

// eventsOf are the events of a good life at which the charts have hooks.
var eventsOf = []string{"pre-install", "post-install", "pre-upgrade", "post-upgrade"}

// hookRun is one creation of a hook.
type hookRun struct {
	event, object string
	weight        int
	job           bool
	created       int64
	ended         int64           // of a Job
	there         map[string]bool // for a Job: the objects of its namespace at that time
}

// checkOrder fails the test if at any event a hook came before one that it has to come after, or if a Job was created
// when a hook that it needs had been deleted again. It returns how many hooks had to be there for the Jobs, in all.
func (s *session) checkOrder() (needs int) {
	s.t.Helper()
	runs := s.hookRuns()
	for _, before := range runs {
		for _, after := range runs {
			if before.event != after.event || before.weight > after.weight ||
				before.weight == after.weight && (before.job || !after.job) {
				continue
			}
			ready := before.created
			if before.job {
				ready = before.ended
			} else if after.job {
				needs++
				if there, namespaced := after.there[before.object]; namespaced && !there {
					s.t.Errorf("%s: %s was not there when %s was created", after.event, before.object, after.object)
				}
			}
			if ready == 0 || ready >= after.created {
				s.t.Errorf("%s: %s of weight %d was ready at %d, %s of weight %d created at %d",
					after.event, before.object, before.weight, ready, after.object, after.weight, after.created)
			}
		}
	}
	return needs
}

// hookRuns returns all creations of hooks, with and without a namespace.
func (s *session) hookRuns() (runs []hookRun) {
	s.t.Helper()
	ended := map[int64]int64{}
	for _, run := range s.trail().Runs() {
		ended[run.Created] = run.Ended
	}
	for _, namespace := range []string{s.namespace, ""} {
		times := map[string]int{}
		there := map[string]bool{}
		// What one program asks for is answered in the order in which it relies on it.
		for _, r := range s.ofMine(namespace) {
			switch {
			case r.Verb == "delete" && r.Code < 300:
				there[r.Object()] = false
			case r.Verb == "create" && r.Code == 201:
				there[r.Object()] = true
			}
			hook := hookOf(r)
			if hook == nil || !created(r.Object())(r) {
				continue
			}
			// An object that is a hook of several events is created at each of them.
			events := slices.DeleteFunc(slices.Clone(eventsOf), func(event string) bool {
				return !slices.Contains(strings.Split(hook["helm.sh/hook"], ","), event)
			})
			n := times[r.Object()]
			times[r.Object()]++
			if n >= len(events) {
				s.t.Errorf("%s, of %q, was created %d times", r.Object(), hook["helm.sh/hook"], n+1)
				continue
			}
			weight, _ := strconv.Atoi(hook["helm.sh/hook-weight"]) // none is 0, as for Helm
			runs = append(runs, hookRun{
				event: events[n], object: r.Object(), weight: weight, job: r.Resource == "jobs",
				created: r.ResourceVersion, ended: ended[r.ResourceVersion], there: maps.Clone(there),
			})
		}
	}
	return runs
}
