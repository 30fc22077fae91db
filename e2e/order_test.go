package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

func chartPath(name string) string { return filepath.Join(bed.root, "testdata", "charts", name) }

// install installs a chart by the plugin at a parallelism.
func (s *session) install(name, chart string, parallelism int, flags ...string) result {
	s.t.Helper()
	return s.plugin(append([]string{"install", name, chartPath(chart), "--hook-parallelism", strconv.Itoa(parallelism)}, flags...)...)
}

// TestSlots: at most N Jobs are active at any instant, and N are where there are enough.
func TestSlots(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			jobs := min(3*n, 16)
			s.must(s.install("slots", "tiers", n, "--set", fmt.Sprintf("tiers[0].jobs=%d", jobs)))
			runs := s.trail().Runs()
			if len(runs) != jobs {
				t.Fatalf("%d Jobs ran, want %d", len(runs), jobs)
			}
			if got := audit.MaxActive(runs); got != n {
				t.Errorf("%d Jobs were active at once, want %d", got, n)
			}
		})
	}
}

// TestWeightsAreBarriers: no object of a weight is created before every hook of the lower weights has ended.
func TestWeightsAreBarriers(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("barriers", "tiers", 8, "--set-json",
		`tiers=[{"weight":3,"jobs":2},{"weight":-5,"jobs":4,"durations":["2s","1s"]},{"weight":0,"jobs":3,"kind":"pod"},{"weight":7,"kind":"configmap","jobs":3}]`))
	tier := func(name string) string { return strings.Split(name, "-")[1] }
	trail := s.trail()
	last := map[string]int64{} // by tier: when its last hook had ended
	for _, run := range trail.Runs() {
		if run.Ended == 0 {
			t.Fatalf("%s never ended", run.Name)
		}
		last[tier(run.Name)] = max(last[tier(run.Name)], run.Ended)
	}
	order := []string{"1", "2", "0", "3"}
	hooksOf := trail.By(byPlugin).Of("jobs", "pods", "configmaps").Creates()
	if len(hooksOf) != 12 {
		t.Fatalf("hooks created: %v, want 12", hooksOf.Objects())
	}
	for _, created := range hooksOf {
		for _, before := range order[:slices.Index(order, tier(created.Name))] {
			if created.ResourceVersion <= last[before] {
				t.Errorf("%s was created at %d, before tier %s had ended at %d", created.Object(), created.ResourceVersion, before, last[before])
			}
		}
	}
}

// TestEveryCommandIsParallel: both events of a command run as many hooks at once as they may, before and after the
// resources are changed.
func TestEveryCommandIsParallel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pre, post string
		change    string // what the command does to the resource
		args      []string
	}{
		{"pre-install", "post-install", "create", []string{"upgrade", "--install", "new", chartPath("tiers")}},
		{"pre-upgrade", "post-upgrade", "patch", []string{"upgrade", "every", chartPath("tiers"), "--set", "prefix=old-"}},
		{"pre-rollback", "post-rollback", "patch", []string{"rollback", "every", "1"}},
		{"pre-delete", "post-delete", "delete", []string{"uninstall", "every"}},
		{"test", "", "", []string{"test", "every"}},
	} {
		t.Run(test.pre, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			tiers := fmt.Sprintf(`tiers=[{"jobs":5,"event":%q}]`, test.pre)
			if test.post != "" {
				tiers = fmt.Sprintf(`tiers=[{"jobs":5,"event":%q},{"jobs":5,"event":%q}]`, test.pre, test.post)
			}
			for _, command := range []string{"install", "upgrade"} {
				s.must(s.helm(command, "every", chartPath("tiers"), "--no-hooks", "--set-json", tiers, "--set", "prefix=old-"))
			}
			before := len(s.trail())
			args := append(test.args, "--hook-parallelism", "3")
			if slices.Contains(test.args, chartPath("tiers")) {
				args = append(args, "--set-json", tiers)
			}
			s.must(s.plugin(args...))
			trail := s.trail()[before:]
			runs := trail.Runs()
			want := 10
			if test.post == "" {
				want = 5
			}
			if len(runs) != want {
				t.Fatalf("hooks that ran: %q, want 5 of each event", namesOf(runs))
			}
			pre, post := runs[:5], runs[5:]
			if got := audit.MaxActive(pre); got != 3 {
				t.Errorf("%s: %d hooks at once, want 3", test.pre, got)
			}
			if test.post == "" {
				return
			}
			if got := audit.MaxActive(post); got != 3 {
				t.Errorf("%s: %d hooks at once, want 3", test.post, got)
			}
			changes := trail.By(byHelm).Of("configmaps").Where(func(r audit.Request) bool { return r.Verb == test.change })
			if len(changes) != 1 {
				t.Fatalf("changes of the manifest: %v, want one %s", changes, test.change)
			}
			at := changes[0].ResourceVersion
			if at == 0 {
				return // what deletes an object has none
			}
			for i, run := range runs {
				if i < 5 && run.Ended > at || i >= 5 && run.Created < at {
					t.Errorf("%s ran from %d to %d, the manifest was changed at %d", run.Name, run.Created, run.Ended, at)
				}
			}
		})
	}
}

// TestSetupBeforeWork: a Job whose name sorts before its ServiceAccount, Role, RoleBinding, ConfigMap and PVC, all hooks
// of its own weight, is created after them. And clean-up works although a claim can't go while a pod mounts it.
func TestSetupBeforeWork(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("setup", "setup", 8, "--set", "ownVolume=true"))
	created := s.trail().By(byPlugin).Creates().Where(func(r audit.Request) bool { return r.Resource != "secrets" }).Objects()
	want := []string{
		"serviceaccounts/z-runner", "configmaps/z-settings",
		"persistentvolumeclaims/z-workspace", "roles/z-reader", "rolebindings/z-runner-reads", "jobs/a-migrate",
	}
	if !slices.Equal(created, want) {
		t.Errorf("created in the order\n%q, want\n%q", created, want)
	}
	deleted := s.trail().By(byPlugin).Deletes().Objects()
	slices.Reverse(want)
	if !slices.Equal(deleted, want) {
		t.Errorf("deleted in the order\n%q, want\n%q", deleted, want)
	}
}

// TestCustomResourceOfTheSameTier: the definition comes first, and the resource waits until it's served.
func TestCustomResourceOfTheSameTier(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("crd", "crd", 8))
	t.Cleanup(func() { removeDefinition(t, "widgets."+s.namespace+".example.com") })
	if got := s.trail().Of("widgets").Creates().Objects(); !slices.Equal(got, []string{"widgets/a-widget"}) {
		t.Errorf("custom resources created: %q, want a-widget", got)
	}
	for _, h := range s.release("crd").Hooks {
		if h.LastRun.Phase != release.HookPhaseSucceeded {
			t.Errorf("hook %s/%s: phase = %q, want Succeeded", h.Kind, h.Name, h.LastRun.Phase)
		}
	}
}

// TestOneRendering: a random string that a hook and the manifest share is the same in both, and in the record.
func TestOneRendering(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("random", "random", 8))
	seed := map[string]string{}
	for _, name := range []string{"hook", "manifest"} {
		got, err := bed.client.CoreV1().ConfigMaps(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range got.Data {
			seed[name] += value
		}
	}
	if seed["hook"] == "" || seed["hook"] != seed["manifest"] {
		t.Errorf("hook has %q, manifest %q; want the same string in both", seed["hook"], seed["manifest"])
	}
	if !strings.Contains(s.release("random").Hooks[0].Manifest, seed["hook"]) {
		t.Error("the record holds another rendering than the cluster")
	}
}

// TestShapesOfCharts: charts without resources and charts without hooks, at parallelism 8.
func TestShapesOfCharts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		flags []string
		want  []string // objects created, by name
	}{
		{"hooks alone", []string{"--set", "manifest=false,tiers[0].jobs=2"}, []string{"jobs/job-0-00", "jobs/job-0-01"}},
		{"hooks alone, before and after", []string{"--set", "manifest=false,tiers[0].jobs=1,event={pre-install,post-install}"}, []string{"jobs/job-0-00", "jobs/job-0-00"}},
		{"resources alone", []string{"--set-json", "tiers=[]"}, []string{"configmaps/manifest"}},
		{"hooks disabled", []string{"--set", "tiers[0].jobs=2", "--no-hooks"}, []string{"configmaps/manifest"}},
		{"neither", []string{"--set-json", "tiers=[]", "--set", "manifest=false"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			s.must(s.install("shape", "tiers", 8, test.flags...))
			created := s.trail().By(byPlugin, byHelm).Creates().Where(func(r audit.Request) bool { return r.Resource != "secrets" }).Objects()
			slices.Sort(created)
			if !slices.Equal(created, test.want) {
				t.Errorf("created %q, want %q", created, test.want)
			}
			if got := s.release("shape").Info; got.Status != release.StatusDeployed || got.Description != "Install complete" {
				t.Errorf("status = %s, description = %q; want deployed, Install complete", got.Status, got.Description)
			}
		})
	}
}

// TestHookElsewhere: hooks in another namespace are created, watched and waited for there.
func TestHookElsewhere(t *testing.T) {
	t.Parallel()
	s, other := newSession(t), newSession(t)
	s.must(s.install("edges", "edges", 8, "--set", "otherNamespace="+other.namespace))
	runs := other.trail().Runs()
	if len(runs) != 1 || runs[0].Name != "elsewhere" || !runs[0].Succeeded {
		t.Fatalf("runs in the other namespace: %+v, want elsewhere, succeeded", runs)
	}
	// The manifest comes after the hook's end.
	manifest := s.trail().Of("configmaps").By(byHelm).Creates()
	if len(manifest) == 0 || manifest[0].ResourceVersion <= runs[0].Ended {
		t.Errorf("manifest %v was created before the hook had ended at %d", manifest, runs[0].Ended)
	}
}

// TestHookOfSeveralEvents runs at each of them, deleted in between.
func TestHookOfSeveralEvents(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("edges", "edges", 8, "--set", "severalEvents=true"))
	trail := s.trail()
	if runs := trail.Runs(); len(runs) != 2 || runs[0].Name != "often" || runs[1].Name != "often" || !runs[0].Succeeded || !runs[1].Succeeded {
		t.Errorf("runs: %+v, want two of Job often", runs)
	}
	if deleted := trail.By(byPlugin).Of("jobs").Deletes().Objects(); !slices.Equal(deleted, []string{"jobs/often"}) {
		t.Errorf("deleted: %q, want the first run's Job", deleted)
	}
}

// TestHooksThatAreOneObject run one after another, whatever the parallelism.
func TestHooksThatAreOneObject(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("edges", "edges", 8, "--set", "sameObject=true"))
	runs := s.trail().Runs()
	if len(runs) != 2 || !runs[0].Succeeded || !runs[1].Succeeded {
		t.Fatalf("runs: %+v, want two of Job same", runs)
	}
	if got := audit.MaxActive(runs); got != 1 {
		t.Errorf("%d of them were active at once, want 1", got)
	}
}

// TestUnknownFieldIsDropped: Helm lets the server drop a field that there is not, and so do we.
func TestUnknownFieldIsDropped(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("edges", "edges", 8, "--set", "unknownField=true"))
	s.must(s.helm("status", "edges"))
}

// TestSlotsAnnotation: a hook that asks for all slots runs alone in its tier.
func TestSlotsAnnotation(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("alone", "tiers", 8, "--set", "tiers[0].jobs=4", "--set-json", `annotations={"job-0-02":{"parallel-hooks/slots":"all"}}`))
	runs := s.trail().Runs()
	alone := slices.IndexFunc(runs, func(r audit.Run) bool { return r.Name == "job-0-02" })
	for i, run := range runs {
		if i != alone && run.Created < runs[alone].Ended && run.Ended > runs[alone].Created {
			t.Errorf("%s ran beside job-0-02, which takes all slots", run.Name)
		}
	}
}

// TestBadAnnotationIsRefused while the cluster is still as it was.
func TestBadAnnotationIsRefused(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	got := s.install("bad", "tiers", 8, "--set-json", `annotations={"job-0-00":{"parallel-hooks/slots":"many"}}`)
	if got.code != 1 || !strings.Contains(got.stderr, `hook Job/job-0-00 (tiers/templates/hooks.yaml): annotation parallel-hooks/slots: "many"`) {
		t.Errorf("want exit code 1 and an error that names hook, annotation and value; got: %v", got)
	}
	if created := s.trail().By(byPlugin, byHelm).Creates().Objects(); len(created) != 0 {
		t.Errorf("created %q, want nothing", created)
	}
}

// TestRecordOfSuccess: the record has a truthful last run of each hook, as the API server's clock bears out, and it was
// written a few times only.
func TestRecordOfSuccess(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("record", "tiers", 8, "--set-json", `tiers=[{"weight":-1,"jobs":3},{"weight":1,"jobs":8}]`))
	trail := s.trail()
	runs := map[string]audit.Run{}
	for _, run := range trail.Runs() {
		runs[run.Name] = run
	}
	// Our clock and the server's are the same here; a stored time has no fraction of a second less than that.
	const slack = 2 * time.Second
	for _, h := range s.release("record").Hooks {
		run, last := runs[h.Name], h.LastRun
		if last.Phase != release.HookPhaseSucceeded || last.StartedAt.Time.After(run.CreatedAt) || last.CompletedAt.Time.Before(run.EndedAt.Add(-slack)) {
			t.Errorf("hook %s: last run %+v, but the server created it at %v and saw it end at %v", h.Name, last, run.CreatedAt, run.EndedAt)
		}
	}
	// Create; before the first hook; after each of two tiers; deployed.
	writes := trail.Of("secrets").Where(func(r audit.Request) bool { return r.Verb == "create" || r.Verb == "update" })
	if len(writes) > 6 {
		t.Errorf("the record was written %d times for 11 hooks, want at most 6: %v", len(writes), writes)
	}
	s.must(s.helm("uninstall", "record"))
}

// TestFieldManager: objects of hooks have Helm's own field manager.
func TestFieldManager(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.must(s.install("manager", "tiers", 8, "--set", "tiers[0].jobs=1"))
	job, err := bed.client.BatchV1().Jobs(s.namespace).Get(t.Context(), "job-0-00", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := job.ManagedFields[0]; got.Manager != "helm" || got.Operation != metav1.ManagedFieldsOperationUpdate {
		t.Errorf("field manager = %s / %s, want helm / Update", got.Manager, got.Operation)
	}
}

// TestSameObjectsAsHelm: what is in the cluster after an install in parallel is what is there after Helm's.
func TestSameObjectsAsHelm(t *testing.T) {
	t.Parallel()
	flags := []string{"--set", "tiers[0].jobs=3,tiers[1].jobs=2,tiers[1].kind=configmap,event={pre-install,post-install}"}
	snapshot := func(install func(*session)) string {
		s := newSession(t)
		install(s)
		jobs, err := bed.client.BatchV1().Jobs(s.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		maps, err := bed.client.CoreV1().ConfigMaps(s.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=tiers"})
		if err != nil {
			t.Fatal(err)
		}
		var all []any
		for _, j := range jobs.Items {
			all = append(all, map[string]any{"name": j.Name, "labels": j.Labels, "annotations": j.Annotations, "backoffLimit": j.Spec.BackoffLimit})
		}
		for _, m := range maps.Items {
			all = append(all, map[string]any{"name": m.Name, "labels": m.Labels, "annotations": m.Annotations, "data": m.Data})
		}
		text, err := yaml.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), s.namespace, "NAMESPACE")
	}
	chart := chartPath("tiers")
	want := snapshot(func(s *session) { s.must(s.helm(append([]string{"install", "same", chart}, flags...)...)) })
	got := snapshot(func(s *session) { s.must(s.install("same", "tiers", 8, flags...)) })
	if got != want {
		t.Errorf("objects after a parallel install:\n%s\nafter Helm's:\n%s", got, want)
	}
}

// removeDefinition deletes a CustomResourceDefinition, which belongs to no namespace.
func removeDefinition(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	path := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + name
	if err := bed.client.Discovery().RESTClient().Delete().AbsPath(path).Do(ctx).Error(); err != nil {
		t.Errorf("deleting the definition: %v", err)
	}
}
