package e2e

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// eventsChart has two hooks for every event, gone once the event has succeeded: a ConfigMap, and what runs, a Job or,
// where no Job is needed to tell, a Pod, which takes a second less. The Job of the event failing fails. What is deployed
// depends on the value generation: a key and an object that stay, and of each kind one that only the first generation
// has and one that only later ones have.
const eventsChart = `
-- Chart.yaml --
apiVersion: v2
name: events
version: 1.0.0
-- values.yaml --
generation: 1
failing: none
-- templates/resources.yaml --
{{- $first := eq (int .Values.generation) 1 }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  kept: same
  changed: generation-{{ .Values.generation }}
  {{ ternary "removed" "added" $first }}: here
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ ternary "old" "new" $first }}
data:
  kept: same
-- templates/hooks.yaml --
{{- range $event := list "pre-install" "post-install" "pre-upgrade" "post-upgrade" "pre-rollback" "post-rollback" "pre-delete" "post-delete" "test" }}
{{- $job := hasPrefix "pre-" $event }}
apiVersion: {{ ternary "batch/v1" "v1" $job }}
kind: {{ ternary "Job" "Pod" $job }}
metadata:
  name: {{ $event }}
  annotations:
    helm.sh/hook: {{ $event }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- if $job }}
  backoffLimit: 0
  template:
    metadata:
      annotations:
        parallel-hooks.test/exit-code: {{ ternary "1" "0" (eq $event $.Values.failing) | quote }}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
  {{- else }}
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: none}]
  {{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $event }}-settings
  annotations:
    helm.sh/hook: {{ $event }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
---
{{- end }}
`

// What the two generations of eventsChart deploy.
var (
	firstGeneration = []string{
		"old: map[kept:same]",
		"settings: map[changed:generation-1 kept:same removed:here]",
	}
	secondGeneration = []string{
		"new: map[kept:same]",
		"settings: map[added:here changed:generation-2 kept:same]",
	}
)

// tool is a program that can change releases.
type tool struct {
	name    string
	agent   string // the beginning of the user agent that creates hooks
	command []string
	flags   []string
}

var (
	helm3    = tool{name: "helm 3", agent: "Helm/3.", command: []string{"helm"}}
	helm4    = tool{name: "helm 4", agent: "Helm/4.", command: []string{"helm4"}}
	serial   = tool{name: "plugin", agent: byPlugin, command: []string{"helm-parallel-hooks"}}
	parallel = tool{name: "parallel plugin", agent: byPlugin, command: serial.command, flags: []string{"--hook-parallelism", "4"}}
)

// by runs a command by a tool.
func (s *session) by(who tool, args ...string) result {
	s.t.Helper()
	all := slices.Concat(who.command[1:], args, who.flags)
	return s.start(who.command[0], all...).wait()
}

// revisions returns all stored revisions of a release, the oldest first.
func (s *session) revisions(name string) []*release.Release {
	s.t.Helper()
	revisions, err := storedReleases(s.t.Context(), s.namespace, "name="+name)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, revision := range revisions {
		if got, want := revision.Labels["status"], revision.Info.Status.String(); got != want {
			s.t.Errorf("revision %d: the label says %s, the record %s", revision.Version, got, want)
		}
	}
	return revisions
}

// historyOf is what helm history says of revisions, a line each.
func historyOf(revisions []*release.Release) []string {
	var lines []string
	for _, r := range revisions {
		lines = append(lines, fmt.Sprintf("%d %s: %s", r.Version, r.Info.Status, r.Info.Description))
	}
	return lines
}

// readHistory has a program read the history of a release.
func (s *session) readHistory(program, name string) []string {
	s.t.Helper()
	out := s.must(s.start(program, "history", name, "-o", "json").wait())
	var entries []struct {
		Revision            int
		Status, Description string
	}
	if err := json.Unmarshal([]byte(out.stdout), &entries); err != nil {
		s.t.Fatalf("%v: %v", out, err)
	}
	var lines []string
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%d %s: %s", e.Revision, e.Status, e.Description))
	}
	return lines
}

// configMaps returns the namespace's ConfigMaps with their data, but for what the cluster itself puts there.
func (s *session) configMaps() []string {
	s.t.Helper()
	list, err := bed.client.CoreV1().ConfigMaps(s.namespace).List(s.t.Context(), metav1.ListOptions{LabelSelector: "owner!=helm"})
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	for _, item := range list.Items {
		if item.Name != "kube-root-ca.crt" {
			lines = append(lines, fmt.Sprintf("%s: %v", item.Name, item.Data))
		}
	}
	return lines
}

// leftovers returns what there still is in the namespace of all that a release and its hooks can be made of.
func (s *session) leftovers() []string {
	s.t.Helper()
	ctx := s.t.Context()
	left := s.configMaps()
	jobs, err := bed.client.BatchV1().Jobs(s.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, job := range jobs.Items {
		left = append(left, "job "+job.Name)
	}
	pods, err := bed.client.CoreV1().Pods(s.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if len(pod.OwnerReferences) == 0 { // else it goes with its Job, some time
			left = append(left, "pod "+pod.Name)
		}
	}
	return slices.Concat(left, s.records("secrets"), s.records("configmaps"))
}

// records returns the names of the release records that are kept in "secrets" or in "configmaps".
func (s *session) records(resource string) (names []string) {
	s.t.Helper()
	answer, err := bed.client.CoreV1().RESTClient().Get().Namespace(s.namespace).Resource(resource).
		Param("labelSelector", "owner=helm").SetHeader("Accept", "application/json").DoRaw(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(answer, &list); err != nil {
		s.t.Fatal(err)
	}
	for _, item := range list.Items {
		names = append(names, item.Name)
	}
	return names
}

// hooksRun follows which hooks of [eventsChart] ran, step by step.
type hooksRun struct {
	*session
	seen int // requests that belong to earlier steps
}

// check checks that since the last call the Jobs and Pods of these events and no others were created, each once and in
// this order, by this tool, and that each came with its ConfigMap.
func (h *hooksRun) check(step string, who tool, events ...string) {
	h.t.Helper()
	trail := h.trail()
	news := trail[h.seen:]
	h.seen = len(trail)
	// Helm 4 creates by server-side apply.
	created := news.Where(func(r audit.Request) bool {
		return (r.Verb == "create" || r.Verb == "patch") && r.Subresource == "" && r.Code == 201
	})
	slices.SortStableFunc(created, func(a, b audit.Request) int { return cmp.Compare(a.ResourceVersion, b.ResourceVersion) })
	var ran []string
	settings := map[string]int{}
	for _, r := range created {
		event, isSettings := strings.CutSuffix(r.Name, "-settings")
		switch {
		case r.Resource == "jobs", r.Resource == "pods" && len(r.Owners) == 0:
			ran = append(ran, r.Name)
		case r.Resource == "configmaps" && isSettings:
			settings[event]++
		default:
			continue
		}
		if !strings.HasPrefix(r.UserAgent, who.agent) {
			h.t.Errorf("%s: %s was created by %s, want it to be by %s", step, r.Object(), r.UserAgent, who.agent)
		}
	}
	if !slices.Equal(ran, events) {
		h.t.Errorf("%s: Jobs and Pods were created for the events %q, want %q", step, ran, events)
	}
	want := map[string]int{}
	for _, event := range events {
		want[event] = 1
	}
	if !maps.Equal(settings, want) {
		h.t.Errorf("%s: ConfigMaps were created for the events %v, want %v", step, settings, want)
	}
}

// checkPhases checks that of a revision's hooks those of these events have succeeded and no other has run.
func checkPhases(t *testing.T, step string, revision *release.Release, events ...string) {
	t.Helper()
	for _, h := range revision.Hooks {
		want := release.HookPhase("")
		if slices.Contains(events, h.Events[0].String()) {
			want = release.HookPhaseSucceeded
		}
		if h.LastRun.Phase != want {
			t.Errorf("%s: the phase of %s %s in revision %d is %q, want %q", step, h.Kind, h.Name, revision.Version, h.LastRun.Phase, want)
		}
	}
}

// TestReleasesAreShared: a release made by Helm 3, Helm 4 or the plugin can be upgraded, rolled back, tested and
// uninstalled by each of them, and each time the hooks run once.
func TestReleasesAreShared(t *testing.T) {
	t.Parallel()
	for _, maker := range []tool{helm3, helm4, parallel} {
		for _, changer := range []tool{helm3, helm4, serial, parallel} {
			t.Run(maker.name+", "+changer.name, func(t *testing.T) {
				t.Parallel()
				s := newSession(t)
				hooks := hooksRun{session: s}
				chart := s.chart(eventsChart)
				check := func(step string, want, objects []string) []*release.Release {
					t.Helper()
					revisions := s.revisions("shared")
					wantEqual(t, step+": records", historyOf(revisions), want)
					wantEqual(t, step+": objects", s.configMaps(), objects)
					if len(revisions) != len(want) {
						t.FailNow()
					}
					return revisions
				}

				s.must(s.by(maker, "install", "shared", chart))
				hooks.check("install", maker, "pre-install", "post-install")
				revisions := check("install", []string{"1 deployed: Install complete"}, firstGeneration)
				checkPhases(t, "install", revisions[0], "pre-install", "post-install")

				s.must(s.by(changer, "upgrade", "shared", chart, "--set", "generation=2"))
				hooks.check("upgrade", changer, "pre-upgrade", "post-upgrade")
				revisions = check("upgrade", []string{
					"1 superseded: Install complete", "2 deployed: Upgrade complete",
				}, secondGeneration)
				checkPhases(t, "upgrade", revisions[1], "pre-upgrade", "post-upgrade")

				s.must(s.by(changer, "rollback", "shared", "1"))
				hooks.check("rollback", changer, "pre-rollback", "post-rollback")
				history := []string{
					"1 superseded: Install complete", "2 superseded: Upgrade complete", "3 deployed: Rollback to 1",
				}
				revisions = check("rollback", history, firstGeneration)
				// A rollback takes over the hooks of its target with what they have done.
				checkPhases(t, "rollback", revisions[2], "pre-install", "post-install", "pre-rollback", "post-rollback")

				s.must(s.by(changer, "test", "shared"))
				hooks.check("test", changer, "test")
				revisions = check("test", history, firstGeneration)
				checkPhases(t, "test", revisions[2], "pre-install", "post-install", "pre-rollback", "post-rollback", "test")

				wantEqual(t, "history by helm 4", s.readHistory("helm4", "shared"), history)

				s.must(s.by(changer, "uninstall", "shared"))
				hooks.check("uninstall", changer, "pre-delete", "post-delete")
				wantEqual(t, "left behind", s.leftovers(), nil)
			})
		}
	}
}

// TestHelm4Calls: Helm 4 runs each command of the plugin, with its own flags wherever their users put them. What the
// flags mean here is shown by the namespace, which no other setting names.
func TestHelm4Calls(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	hooks := hooksRun{session: s}
	s.env = append(s.env, "HELM_NAMESPACE="+s.namespace+"-is-not-meant")
	chart := s.chart(eventsChart)
	run := func(before []string, args ...string) result {
		t.Helper()
		return s.must(s.start("helm4", slices.Concat(before, []string{"parallel-hooks"}, args)...).wait())
	}

	installed := run([]string{"--namespace", s.namespace},
		"install", "called", chart, "--hook-parallelism", "4", "--wait=watcher", "--rollback-on-failure", "-o", "json")
	hooks.check("install", serial, "pre-install", "post-install")
	var shown struct{ Name, Namespace string }
	if err := json.Unmarshal([]byte(installed.stdout), &shown); err != nil || shown.Name != "called" || shown.Namespace != s.namespace {
		t.Errorf("install: %v, want the release as JSON (%v)", installed, err)
	}
	run(nil,
		"-n", s.namespace, "--qps", "50", "upgrade", "called", chart, "--burst-limit=100", "--hook-parallelism=4", "--set", "generation=2", "--server-side=false")
	hooks.check("upgrade", serial, "pre-upgrade", "post-upgrade")
	wantEqual(t, "upgrade: objects", s.configMaps(), secondGeneration)
	run([]string{"--color", "never", "--qps", "50", "-n", s.namespace},
		"rollback", "called", "1", "--hook-parallelism", "4")
	hooks.check("rollback", serial, "pre-rollback", "post-rollback")
	wantEqual(t, "rollback: objects", s.configMaps(), firstGeneration)
	tested := run([]string{"--content-cache", t.TempDir()},
		"test", "--hook-parallelism", "4", "called", "--namespace", s.namespace)
	hooks.check("test", serial, "test")
	if !strings.Contains(tested.stdout, "\nTEST SUITE:     test\n") {
		t.Errorf("test: %v, want its suite to be shown", tested)
	}
	wantEqual(t, "records", historyOf(s.revisions("called")), []string{
		"1 superseded: Install complete", "2 superseded: Upgrade complete", "3 deployed: Rollback to 1",
	})
	run([]string{"--debug"},
		"uninstall", "called", "--namespace="+s.namespace, "--hook-parallelism", "4")
	hooks.check("uninstall", serial, "pre-delete", "post-delete")
	wantEqual(t, "left behind", s.leftovers(), nil)

	refused := s.start("helm4", "--namespace", s.namespace, "parallel-hooks", "upgrade", "called", chart, "--hook-parallelism", "4").wait()
	if refused.code != 1 || !strings.Contains(refused.stderr, `Error: UPGRADE FAILED: "called" has no deployed releases`) {
		t.Errorf("upgrade of a release that is gone: %v, want it to fail", refused)
	}
}

// TestBackToServerSideApply: an upgrade by the plugin takes a release of Helm 4 to client-side apply, as one by Helm 3
// does. Helm 4 can take it back without a conflict, since all three write as one field manager.
func TestBackToServerSideApply(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := s.chart(eventsChart)
	s.must(s.by(helm4, "install", "sides", chart, "--no-hooks"))
	wantEqual(t, "managers after Helm 4", s.managersOf("settings"), []string{"helm Apply"})
	s.must(s.by(parallel, "upgrade", "sides", chart, "--set", "generation=2", "--no-hooks"))
	wantEqual(t, "managers after the plugin", s.managersOf("settings"), []string{"helm Apply", "helm Update"})
	wantEqual(t, "objects after the plugin", s.configMaps(), secondGeneration)
	s.must(s.by(helm4, "upgrade", "sides", chart, "--set", "generation=3", "--no-hooks", "--server-side=true"))
	wantEqual(t, "managers after Helm 4 again", s.managersOf("settings"), []string{"helm Apply"})
	wantEqual(t, "objects after Helm 4 again", s.configMaps(), []string{
		"new: map[kept:same]", "settings: map[added:here changed:generation-3 kept:same]",
	})
}

// managersOf returns who owns fields of a ConfigMap, and by which kind of request.
func (s *session) managersOf(name string) []string {
	s.t.Helper()
	object, err := bed.client.CoreV1().ConfigMaps(s.namespace).Get(s.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	var managers []string
	for _, entry := range object.ManagedFields {
		managers = append(managers, entry.Manager+" "+string(entry.Operation))
	}
	slices.Sort(managers)
	return managers
}

// TestHelm4FieldsStay: what Helm 4 wrote into a record and Helm 3 has no name for is there after the plugin has written
// the record again, so that Helm 4 still rolls back to that revision by server-side apply.
func TestHelm4FieldsStay(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"secrets", "configmaps"} {
		for _, who := range []tool{serial, parallel} {
			t.Run(storage+", "+who.name, func(t *testing.T) {
				t.Parallel()
				s := newSession(t)
				s.env = append(s.env, "HELM_DRIVER="+storage)
				chart := s.chart(eventsChart)
				// read returns a revision's record, what every operation changes in it apart.
				read := func(revision int) (record map[string]any, hooks []any) {
					t.Helper()
					record = s.rawRecord(storage, fmt.Sprintf("sh.helm.release.v1.kept.v%d", revision))
					info := record["info"].(map[string]any)
					delete(info, "status")
					delete(info, "deleted") // Helm 3 writes it where it's empty, too
					hooks, _ = record["hooks"].([]any)
					delete(record, "hooks")
					return record, hooks
				}
				s.must(s.by(helm4, "install", "kept", chart, "--no-hooks"))
				s.must(s.by(helm4, "upgrade", "kept", chart, "--no-hooks", "--set", "generation=2"))
				s.must(s.by(helm4, "rollback", "kept", "1", "--no-hooks"))
				before, _ := read(3)
				if before["apply_method"] != "ssa" || before["info"].(map[string]any)["rollback_revision"] == nil {
					t.Fatalf("Helm 4 wrote no fields of its own, so there is nothing to keep: %v", before)
				}

				s.must(s.by(who, "test", "kept"))
				after, hooks := read(3)
				if !reflect.DeepEqual(after, before) {
					t.Errorf("the record after a test is %v, want %v", after, before)
				}
				if !strings.Contains(fmt.Sprint(hooks), "phase:Succeeded") {
					t.Errorf("the record was not written again: no test has succeeded in %v", hooks)
				}
				s.must(s.by(who, "upgrade", "kept", chart, "--set", "generation=2"))
				if after, _ := read(3); !reflect.DeepEqual(after, before) {
					t.Errorf("the record after an upgrade is %v, want %v", after, before)
				}
				if got := s.rawRecord(storage, "sh.helm.release.v1.kept.v4")["apply_method"]; got != nil {
					t.Errorf("the plugin's own revision has apply_method %v, but it applied as Helm 3 does", got)
				}

				s.must(s.by(helm4, "rollback", "kept", "3", "--no-hooks"))
				if got := s.rawRecord(storage, "sh.helm.release.v1.kept.v5")["apply_method"]; got != "ssa" {
					t.Errorf("Helm 4 rolled back by %v, want ssa, as the revision was applied", got)
				}
			})
		}
	}
}

// rawRecord returns a release record without the types of any version of Helm.
func (s *session) rawRecord(resource, name string) (record map[string]any) {
	s.t.Helper()
	object, err := bed.client.CoreV1().RESTClient().Get().Namespace(s.namespace).Resource(resource).Name(name).
		SetHeader("Accept", "application/json").DoRaw(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var stored struct{ Data struct{ Release string } }
	if err := json.Unmarshal(object, &stored); err != nil {
		s.t.Fatal(err)
	}
	data := []byte(stored.Data.Release)
	if resource == "secrets" {
		if data, err = base64.StdEncoding.DecodeString(stored.Data.Release); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := decodeRecord(data, &record); err != nil {
		s.t.Fatal(err)
	}
	return record
}
