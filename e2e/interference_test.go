package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// disturbedChart has the hooks that the value hooks names: Jobs, or Pods where kind says so.
const disturbedChart = `
-- Chart.yaml --
apiVersion: v2
name: disturbed
version: 1.0.0
-- templates/hooks.yaml --
{{- range $name, $hook := .Values.hooks }}
{{- $pod := eq ($hook.kind | default "Job") "Pod" }}
apiVersion: {{ ternary "v1" "batch/v1" $pod }}
kind: {{ ternary "Pod" "Job" $pod }}
metadata:
  name: {{ $name }}
  annotations:
    helm.sh/hook: {{ $hook.event | default "pre-install" }}
    helm.sh/hook-weight: {{ $hook.weight | default 0 | quote }}
    {{- with $hook.policy }}
    helm.sh/hook-delete-policy: {{ . }}
    {{- end }}
    parallel-hooks.test/duration: {{ $hook.duration | default "0s" }}
spec:
  {{- if $pod }}
  restartPolicy: Never
  containers: [{name: main, image: none}]
  {{- else }}
  {{- merge ($hook.spec | default dict) (dict "backoffLimit" 0) | toYaml | nindent 2 }}
  template:
    metadata:
      annotations:
        parallel-hooks.test/duration: {{ $hook.duration | default "0s" }}
        parallel-hooks.test/exit-code: {{ $hook.exitCode | default 0 | quote }}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
  {{- end }}
---
{{- end }}
-- templates/settings.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
immutable: true
data:
  value: {{ .Values.value | default "first" }}
`

// disturb starts the installation of disturbedChart with these hooks, four at once.
func (s *session) disturb(hooks string, flags ...string) *command {
	s.t.Helper()
	return s.start("helm-parallel-hooks", append([]string{
		"install", "app", s.chart(disturbedChart), "--hook-parallelism", "4", "--set-json", "hooks=" + hooks,
	}, flags...)...)
}

// ran returns which Jobs and Pods were created as hooks, by name.
func (s *session) ran() []string {
	s.t.Helper()
	names := namesOf(s.trail().Runs())
	slices.Sort(names)
	return names
}

// wantError checks that a command has failed with an error in which all of these texts are.
func wantError(t *testing.T, got result, texts ...string) {
	t.Helper()
	if got.code != 1 || strings.Count("\n"+got.stderr, "\nError: ") != 1 {
		t.Errorf("want exit code 1 and one error; got: %v", got)
	}
	for _, text := range texts {
		if !strings.Contains(got.stderr, text) {
			t.Errorf("want %q in the error; got: %v", text, got)
		}
	}
}

// podOf returns the name of the nth pod of a Job, from 1, that the node has come to run.
func (s *session) podOf(job string, nth int) string {
	s.t.Helper()
	var pods []string
	return s.await(fmt.Sprintf("pod %d of %s to run", nth, job), func(r audit.Request) bool {
		if r.Verb == "patch" && r.Resource == "pods" && r.Subresource == "status" && r.Code == 200 &&
			(r.Name == job || strings.HasPrefix(r.Name, job+"-")) && !slices.Contains(pods, r.Name) {
			pods = append(pods, r.Name)
		}
		return len(pods) == nth
	}).Name
}

// setStatus changes the status of a pod, as its node or a controller would.
func (s *session) setStatus(pod string, status corev1.PodStatus) {
	s.t.Helper()
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		s.t.Fatal(err)
	}
	pods := bed.client.CoreV1().Pods(s.namespace)
	if _, err := pods.Patch(s.t.Context(), pod, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		s.t.Fatal(err)
	}
}

// TestHookIsDeletedWhileItRuns: whoever deletes a hook's Job answers for it. As in Helm it counts as succeeded; that
// is said, and what runs beside it isn't touched.
func TestHookIsDeletedWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	c := s.disturb(`{"gone":{"duration":"1h"},"stays":{"duration":"2s"},"then":{"weight":1}}`)
	s.podOf("gone", 1)
	if err := bed.client.BatchV1().Jobs(s.namespace).Delete(t.Context(), "gone", metav1.DeleteOptions{
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground),
	}); err != nil {
		t.Fatal(err)
	}
	got := s.must(c.wait())
	const warning = "WARNING: pre-install hook Job/gone: the object was deleted while it ran; it counts as succeeded, as in Helm\n"
	if strings.Count(got.stderr, warning) != 1 || strings.Count(got.stderr, "WARNING") != 1 {
		t.Errorf("want one warning, %q; got: %v", warning, got)
	}
	wantEqual(t, "created", s.ran(), []string{"gone", "stays", "then"})
	wantEqual(t, "phases", phasesOf(s.release("app")), []string{"gone=Succeeded", "stays=Succeeded", "then=Succeeded"})
}

// TestSuspendedHook: a Job that a queue, say, holds back is waited for until --timeout. It's said that it is suspended,
// while it runs and in the end.
func TestSuspendedHook(t *testing.T) {
	t.Parallel()
	const hooks = `{"held":{"spec":{"suspend":true}},"free":{}}`
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		got := s.disturb(hooks, "--timeout", "8s", "--hook-progress", "json").wait()
		wantError(t, got, "\t* job held: not done after 8s (--timeout), and not ended by that: "+
			"timed out waiting for the condition (no pod: Suspended: spec.suspend of the Job is true)\n")
		if activities := activitiesOf(t, got.stderr, "held"); !slices.Contains(activities, "Suspended") {
			t.Errorf("shown while it ran: %q, want that it's suspended", activities)
		}
		wantEqual(t, "phases", phasesOf(s.mustBeFailed("app")), []string{"free=Succeeded", "held=Failed"})
	})
	t.Run("for a while", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		c := s.disturb(hooks)
		s.await("the Job", created("jobs/held"))
		if _, err := bed.client.BatchV1().Jobs(s.namespace).Patch(t.Context(), "held", types.MergePatchType,
			[]byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		s.must(c.wait())
		wantEqual(t, "phases", phasesOf(s.release("app")), []string{"free=Succeeded", "held=Succeeded"})
	})
}

// TestEvictedPod: what the Job makes of it counts.
func TestEvictedPod(t *testing.T) {
	t.Parallel()
	evicted := corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}
	t.Run("and no other", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		c := s.disturb(`{"evicted":{"duration":"1h"},"stays":{"duration":"2s"}}`)
		pod := s.podOf("evicted", 1)
		s.setStatus(pod, evicted)
		wantError(t, c.wait(), "\t* job evicted failed: BackoffLimitExceeded (pod "+pod+": Evicted: The node was low on resource: memory.")
		wantEqual(t, "phases", phasesOf(s.mustBeFailed("app")), []string{"evicted=Failed", "stays=Succeeded"})
	})
	t.Run("and another", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		c := s.disturb(`{"evicted":{"duration":"1h","spec":{"backoffLimit":1}},"stays":{}}`)
		s.setStatus(s.podOf("evicted", 1), evicted)
		s.setStatus(s.podOf("evicted", 2), corev1.PodStatus{Phase: corev1.PodSucceeded})
		s.must(c.wait())
		wantEqual(t, "created", s.ran(), []string{"evicted", "stays"})
		wantEqual(t, "phases", phasesOf(s.release("app")), []string{"evicted=Succeeded", "stays=Succeeded"})
	})
}

// TestLostNode: of a pod whose node is lost nobody knows how it ended. Where the cluster replaces it the hook goes on;
// else the error says what it waited for.
func TestLostNode(t *testing.T) {
	t.Parallel()
	t.Run("the pod goes with it", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		c := s.disturb(`{"moved":{"duration":"1h","spec":{"backoffLimit":1}},"stays":{}}`)
		if err := bed.client.CoreV1().Pods(s.namespace).Delete(t.Context(), s.podOf("moved", 1), metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0),
		}); err != nil {
			t.Fatal(err)
		}
		s.setStatus(s.podOf("moved", 2), corev1.PodStatus{Phase: corev1.PodSucceeded})
		s.must(c.wait())
		wantEqual(t, "phases", phasesOf(s.release("app")), []string{"moved=Succeeded", "stays=Succeeded"})
	})
	for name, test := range map[string]struct {
		lose func(s *session, pod *corev1.Pod)
		want string
	}{
		"the pod's state is unknown": {func(s *session, pod *corev1.Pod) {
			s.setStatus(pod.Name, corev1.PodStatus{Phase: corev1.PodUnknown, Reason: "NodeLost", Message: "Node gone which was running pod lost is unresponsive"})
		}, "pod lost: NodeLost: Node gone which was running pod lost is unresponsive"},
		"the pod is not ready": {func(s *session, pod *corev1.Pod) {
			// As the controller that looks after nodes does.
			s.setStatus(pod.Name, corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}})
			_, err := bed.client.CoreV1().Events(s.namespace).Create(s.t.Context(), &corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{GenerateName: "lost-"},
				InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: s.namespace, Name: pod.Name, UID: pod.UID},
				Type:           corev1.EventTypeWarning, Reason: "NodeNotReady", Message: "Node is not ready",
			}, metav1.CreateOptions{})
			if err != nil {
				s.t.Fatal(err)
			}
		}, "pod lost: NodeNotReady: Node is not ready"},
		"the pod was deleted and can't go": {func(s *session, pod *corev1.Pod) {
			pods := bed.client.CoreV1().Pods(s.namespace)
			hold := func(finalizers string) {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				if _, err := pods.Patch(ctx, pod.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":`+finalizers+`}}`), metav1.PatchOptions{}); err != nil {
					s.t.Error(err)
				}
			}
			hold(`["parallel-hooks.test/node"]`)
			s.t.Cleanup(func() { hold("null") })
			if err := pods.Delete(s.t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
				s.t.Fatal(err)
			}
		}, "pod lost: Terminating: it was deleted, and its node has not said that it has ended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			c := s.disturb(`{"lost":{"kind":"Pod","duration":"1h"},"stays":{}}`, "--timeout", "15s")
			pod, err := bed.client.CoreV1().Pods(s.namespace).Get(t.Context(), s.podOf("lost", 1), metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			test.lose(s, pod)
			wantError(t, c.wait(), "\t* pod lost: not done after 15s (--timeout), and not ended by that: timed out waiting for the condition ("+test.want+")\n")
			wantEqual(t, "phases", phasesOf(s.mustBeFailed("app")), []string{"lost=Failed", "stays=Succeeded"})
		})
	}
}

// TestJobsThatExpireAtOnce: Jobs that are deleted as soon as they have ended are recorded as what they were.
func TestJobsThatExpireAtOnce(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	hooks := map[string]any{}
	var names, phases []string
	for i := range 24 {
		name, phase, code := fmt.Sprintf("job-%02d", i), "Succeeded", 0
		if i%6 == 5 {
			phase, code = "Failed", 1
		}
		hooks[name] = map[string]any{"exitCode": code, "spec": map[string]any{"ttlSecondsAfterFinished": 0}}
		names, phases = append(names, name), append(phases, name+"="+phase)
	}
	values, err := json.Marshal(hooks)
	if err != nil {
		t.Fatal(err)
	}
	got := s.disturb(string(values), "--hook-parallelism", "12", "--hook-keep-going").wait()
	wantError(t, got, "4 errors occurred:", "\t* job job-23 failed: BackoffLimitExceeded")
	if strings.Contains(got.stderr, "was deleted while it ran") {
		t.Errorf("Jobs that had ended are said to have vanished: %v", got)
	}
	wantEqual(t, "created", s.ran(), names)
	wantEqual(t, "phases", phasesOf(s.mustBeFailed("app")), phases)
	if deleted := s.trail().Of("jobs").Deletes(); len(deleted.By("kube-controller-manager/")) != len(names) {
		t.Errorf("deleted: %v; want each Job to be, by the cluster itself", deleted)
	}
}

// TestOldObjectIsHeld: an object of an earlier run that a finalizer holds keeps its hook from starting, and the error
// says what holds it.
func TestOldObjectIsHeld(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	maps := bed.client.CoreV1().ConfigMaps(s.namespace)
	if _, err := bed.client.CoreV1().Pods(s.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"parallel-hooks.test/one", "parallel-hooks.test/two"}},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := bed.client.CoreV1().Pods(s.namespace).Patch(ctx, "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	})
	got := s.disturb(`{"held":{"kind":"Pod"},"beside":{"duration":"1s"},"then":{"weight":1}}`, "--timeout", "6s").wait()
	wantError(t, got, "deleting Pod/held: not gone after 6s (--timeout): timed out waiting for the condition: "+
		"finalizers that hold it: parallel-hooks.test/one, parallel-hooks.test/two")
	wantEqual(t, "created by the plugin", s.trail().By(byPlugin).Of("jobs", "pods").Creates().Objects(), []string{"jobs/beside"})
	wantEqual(t, "phases", phasesOf(s.mustBeFailed("app")), []string{"beside=Succeeded", "held=", "then="})
	if _, err := maps.Get(t.Context(), "settings", metav1.GetOptions{}); err == nil {
		t.Error("the chart's resources were created after a pre-install hook had failed")
	}
}

// TestObjectInTheWay: without before-hook-creation the object of an earlier run stays, and the hook that it's in the
// way of is named.
func TestObjectInTheWay(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	hooks := `{"kept":{"policy":"hook-failed"},"beside":{"policy":"hook-succeeded","duration":"1s"}}`
	s.must(s.disturb(hooks).wait())
	s.must(s.helm("uninstall", "app"))
	got := s.disturb(hooks).wait()
	wantError(t, got, `warning: Hook pre-install disturbed/templates/hooks.yaml failed: 1 error occurred:`+"\n\t"+`* jobs.batch "kept" already exists`)
	wantEqual(t, "phases", phasesOf(s.mustBeFailed("app")), []string{"beside=Succeeded", "kept=Failed"})
	wantEqual(t, "created", s.ran(), []string{"beside", "beside", "kept"})
}

// TestImmutableResource: an upgrade that the server refuses ends after the pre-upgrade hooks, in Helm's words.
func TestImmutableResource(t *testing.T) {
	t.Parallel()
	const hooks = `{"pre-a":{"event":"pre-upgrade"},"pre-b":{"event":"pre-upgrade"},"post":{"event":"post-upgrade"}}`
	run := func(who tool) (result, *release.Release, []string) {
		s := newSession(t)
		chart := s.chart(disturbedChart)
		s.must(s.helm("install", "app", chart))
		got := s.by(who, "upgrade", "app", chart, "--set", "value=second", "--set-json", "hooks="+hooks)
		_, got.stderr, _ = strings.Cut(got.stderr, "Error: ")
		return got, s.mustBeFailed("app"), s.ran()
	}
	got, failed, ran := run(parallel)
	want, helms, _ := run(helm3)
	const words = `cannot patch "settings" with kind ConfigMap: ConfigMap "settings" is invalid: data: Forbidden: field is immutable`
	if got.code != want.code || got.stderr != want.stderr || !strings.HasPrefix(got.stderr, "UPGRADE FAILED: "+words) {
		t.Errorf("got: %v\nwant what helm says: %v", got, want)
	}
	if failed.Version != 2 || failed.Info.Description != helms.Info.Description {
		t.Errorf("revision %d: %q, want 2 and helm's %q", failed.Version, failed.Info.Description, helms.Info.Description)
	}
	wantEqual(t, "created", ran, []string{"pre-a", "pre-b"})
	wantEqual(t, "phases", phasesOf(failed), []string{"post=", "pre-a=Succeeded", "pre-b=Succeeded"})
}

// TestQuotaOnJobs: of the Jobs that start at once the quota refuses one. Those that run are watched to their end, and
// no other starts.
func TestQuotaOnJobs(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	quotas := bed.client.CoreV1().ResourceQuotas(s.namespace)
	if _, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("2")}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		quota, err := quotas.Get(ctx, "few", metav1.GetOptions{})
		return err == nil && len(quota.Status.Used) > 0, err
	}); err != nil {
		t.Fatal(err)
	}

	job := `{"duration":"2s"}`
	got := s.disturb(fmt.Sprintf(`{"a":%[1]s,"b":%[1]s,"c":%[1]s,"d":%[1]s,"e":%[1]s,"then":{"weight":1}}`, job), "--hook-parallelism", "3").wait()
	wantError(t, got, "is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: count/jobs.batch=2, limited: count/jobs.batch=2")
	runs := s.trail().Runs()
	want := map[string]string{"a": "Failed", "b": "Failed", "c": "Failed", "d": "", "e": "", "then": ""}
	for _, run := range runs {
		want[run.Name] = "Succeeded"
		if !run.Succeeded {
			t.Errorf("run %+v was not watched to its end", run)
		}
	}
	var phases []string
	for name, phase := range want {
		phases = append(phases, name+"="+phase)
	}
	slices.Sort(phases)
	wantEqual(t, "phases", phasesOf(s.mustBeFailed("app")), phases)
	if attempts := s.trail().By(byPlugin).Of("jobs").Where(func(r audit.Request) bool { return r.Verb == "create" }); len(runs) != 2 || len(attempts) != 3 {
		t.Errorf("%d Jobs ran, after the creations %v; want 2, and 3 attempts", len(runs), attempts)
	}
}

// TestTerminatingNamespace: nothing can be created in a namespace that is being deleted, and an operation there ends
// by itself.
func TestTerminatingNamespace(t *testing.T) {
	t.Parallel()
	terminate := func(s *session) {
		t := s.t
		maps := bed.client.CoreV1().ConfigMaps(s.namespace)
		// So that it doesn't go.
		if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: "holds", Finalizers: []string{"parallel-hooks.test/holds"},
		}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if _, err := maps.Patch(ctx, "holds", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
				t.Error(err)
			}
		})
		if err := bed.client.CoreV1().Namespaces().Delete(t.Context(), s.namespace, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	words := func(s *session) string {
		return "is forbidden: unable to create new content in namespace " + s.namespace + " because it is being terminated"
	}
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		terminate(s)
		wantError(t, s.disturb(`{"hook":{}}`).wait(), words(s))
		wantEqual(t, "created", s.ran(), nil)
		wantEqual(t, "records", s.records("secrets"), nil)
	})
	t.Run("while a hook runs", func(t *testing.T) {
		t.Parallel()
		s := newSession(t)
		c := s.disturb(`{"first":{"duration":"1h","spec":{"backoffLimit":6}},"then":{"weight":1}}`)
		s.podOf("first", 1)
		terminate(s)
		wantError(t, c.wait(), words(s))
		wantEqual(t, "created", s.ran(), []string{"first"})
		for _, left := range s.revisions("app") {
			if left.Info.Status.IsPending() {
				t.Errorf("revision %d is left %s", left.Version, left.Info.Status)
			}
		}
	})
}

// TestMayNotDelete: an account that may create hooks and not delete them is told so, before a hook and after it.
func TestMayNotDelete(t *testing.T) {
	t.Parallel()
	for policy, ran := range map[string][]string{"before-hook-creation": nil, "hook-succeeded": {"a", "b"}} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			user := s.become(
				rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: []string{"*"}},
				rbacv1.PolicyRule{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get", "list", "watch", "create"}},
			)
			hook := `{"policy":"` + policy + `"}`
			got := s.disturb(`{"a":` + hook + `,"b":` + hook + `}`).wait()
			for _, name := range []string{"a", "b"} {
				wantError(t, got, fmt.Sprintf(`deleting Job/%s: jobs.batch %[1]q is forbidden: User %[2]q cannot delete resource "jobs" in API group "batch"`, name, user))
			}
			wantEqual(t, "created", s.ran(), ran)
			s.mustBeFailed("app")
		})
	}
}
