package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// stuckChart has a Job beside one that can't get its pod, each in a way of its own.
const stuckChart = `
-- Chart.yaml --
apiVersion: v2
name: stuck
version: 1.0.0
-- templates/hooks.yaml --
apiVersion: batch/v1
kind: Job
metadata:
  name: fine
  annotations: {helm.sh/hook: pre-install}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
---
apiVersion: batch/v1
kind: Job
metadata:
  name: stuck
  annotations: {helm.sh/hook: pre-install}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations: {{ .Values.annotations | default dict | toJson }}
    spec:
      restartPolicy: Never
      {{- with .Values.nodeSelector }}
      nodeSelector: {{ toJson . }}
      {{- end }}
      {{- with .Values.serviceAccount }}
      serviceAccountName: {{ . }}
      {{- end }}
      containers:
        - name: main
          image: none
          {{- with .Values.resources }}
          resources: {{ toJson . }}
          {{- end }}
`

// TestFailureNamesItsCause: what a hook waited for in vain is in the error and in the record's description.
func TestFailureNamesItsCause(t *testing.T) {
	t.Parallel()
	// What the cluster says in events comes late when it's busy.
	const timeout = "job stuck: not done after 30s (--timeout), and not ended by that: "
	for name, test := range map[string]struct {
		values string
		prefix string
		want   string
		// activity is what was shown while the hook ran.
		activity string
	}{
		"unschedulable":   {`nodeSelector={"disk":"golden"}`, timeout, ": Unschedulable: 0/", "Unschedulable: 0/"},
		"image":           {`annotations={"parallel-hooks.test/waiting":"ImagePullBackOff"}`, timeout, ", container main: ImagePullBackOff: image none", "ImagePullBackOff: image none"},
		"pulling":         {`annotations={"parallel-hooks.test/waiting":"ContainerCreating"}`, timeout, ", container main: ContainerCreating", `Pulling image "none"`},
		"quota":           {`resources={"requests":{"cpu":"2"}}`, timeout, "no pod: FailedCreate: ", "FailedCreate: "},
		"service account": {`serviceAccount="nobody"`, timeout, `serviceaccount "nobody" not found`, `serviceaccount "nobody" not found`},
		"webhook":         {`x=1`, timeout, "denied the request: no pods on Sundays", "denied the request: no pods on Sundays"},
		"crash":           {`annotations={"parallel-hooks.test/exit-code":"137"}`, "job stuck failed: BackoffLimitExceeded ", ", container main: Error, exit code 137", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			switch name {
			case "webhook":
				s.admit(admissionv1.Create, "pods", `request.namespace != "" && object.metadata.generateName == "stuck-"`, func(context.Context) string {
					return "no pods on Sundays"
				})
			case "quota":
				_, err := bed.client.CoreV1().ResourceQuotas(s.namespace).Create(t.Context(), &corev1.ResourceQuota{
					ObjectMeta: metav1.ObjectMeta{Name: "small"},
					Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"requests.cpu": resource.MustParse("1")}},
				}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
			}
			got := s.plugin("install", "app", s.chart(stuckChart), "--hook-parallelism", "4", "--timeout", "30s", "--hook-progress", "json", "--set-json", test.values)
			description := s.mustBeFailed("app").Info.Description
			for where, text := range map[string]string{"the error": got.stderr, "the description": description} {
				if !strings.Contains(text, test.prefix) || !strings.Contains(text, test.want) {
					t.Errorf("want %q and %q in %s; got: %s", test.prefix, test.want, where, text)
				}
			}
			if !slices.ContainsFunc(activitiesOf(t, got.stderr, "stuck"), func(a string) bool { return strings.Contains(a, test.activity) }) && test.activity != "" {
				t.Errorf("want %q shown while it ran; got: %v", test.activity, got)
			}
			command := "kubectl --namespace " + s.namespace + " describe job/stuck\n"
			if through != "" {
				// Where helm calls, the kubeconfig may be one that helm was told of.
				command = strings.Replace(command, "kubectl", "kubectl --kubeconfig "+bed.kubeconfig, 1)
			}
			if !strings.Contains(got.stderr, command) || strings.Contains(description, "kubectl") {
				t.Errorf("want %q in the error and not in the record; got: %v", command, got)
			}
		})
	}
}

// activitiesOf returns what JSON progress said that a hook's pods did.
func activitiesOf(t *testing.T, progress, hook string) (activities []string) {
	t.Helper()
	for line := range strings.Lines(progress) {
		if !strings.HasPrefix(line, "{") {
			continue // the error at the end
		}
		var object struct {
			Hook     struct{ Name string }
			Activity string
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if object.Hook.Name == hook && object.Activity != "" {
			activities = append(activities, object.Activity)
		}
	}
	return activities
}

// timeline is what the tests read of a timeline in JSON.
type timeline struct {
	Revision int
	Events   []struct {
		Event   string
		AtOnce  int
		Seconds float64
		Hooks   []struct{ Name, Kind, Phase string }
	}
	Forecasts []struct {
		Parallelism     int
		Seconds, Faster float64
	}
}

func (s *session) timeline(args ...string) timeline {
	s.t.Helper()
	got := s.must(s.plugin(append([]string{"timeline"}, args...)...))
	var read timeline
	if err := json.Unmarshal([]byte(got.stdout), &read); err != nil {
		s.t.Fatalf("%v in %s", err, got.stdout)
	}
	return read
}

// TestTimelineOfARelease: what ran when is known from the record alone, also of what helm has deployed.
func TestTimelineOfARelease(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	values := []string{"--set", "tiers[0].jobs=6"}
	s.must(s.helm(append([]string{"install", "app", chartPath("tiers")}, values...)...))
	s.must(s.plugin(append([]string{"upgrade", "app", chartPath("tiers"), "--hook-parallelism", "3", "--set", "event=pre-upgrade"}, values...)...))

	byHelm := s.timeline("app", "--revision", "1", "-o", "json", "--what-if", "1,3,100")
	if len(byHelm.Events) != 1 || byHelm.Events[0].Event != "pre-install" || byHelm.Events[0].AtOnce != 1 || len(byHelm.Events[0].Hooks) != 6 {
		t.Fatalf("of helm's revision: got %+v, want 6 hooks of pre-install, one after another", byHelm)
	}
	if f := byHelm.Forecasts; len(f) != 3 || f[0].Faster != 1 || f[1].Faster < 2 || f[2].Faster < f[1].Faster {
		t.Errorf("forecasts: got %+v", f)
	}
	byPlugin := s.timeline("app", "-o", "json")
	if byPlugin.Revision != 2 || len(byPlugin.Events) != 1 || byPlugin.Events[0].Event != "pre-upgrade" || byPlugin.Events[0].AtOnce != 3 {
		t.Errorf("of the plugin's revision: got %+v, want 3 at once", byPlugin)
	}

	page := s.must(s.plugin("timeline", "app", "-o", "html"))
	if _, err := html.Parse(strings.NewReader(page.stdout)); err != nil || !strings.Contains(page.stdout, "Job/job-0-05") {
		t.Errorf("page: %v\n%s", err, page.stdout)
	}
	if got := s.plugin("timeline", "nowhere"); got.code != 1 || !strings.Contains(got.stderr, "release: not found") {
		t.Errorf("want exit code 1 and Helm's words; got: %v", got)
	}
}

// TestPlanChangesNothing: a plan is made from what the cluster and the chart say, without a single write.
func TestPlanChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.needsAudit()
	args := []string{"app", chartPath("tiers"), "--hook-parallelism", "2", "--set", "tiers[0].jobs=4", "--set", "tiers[1].jobs=1"}
	type plan struct {
		Operation              string
		Seconds, SerialSeconds float64
		Unknown                int
		Events                 []struct {
			Event string
			Tiers []struct{ Weight int }
		}
	}
	read := func(flags ...string) (p plan) {
		t.Helper()
		got := s.must(s.plugin(slices.Concat([]string{"plan"}, args, []string{"-o", "json"}, flags)...))
		if err := json.NewDecoder(bytes.NewReader([]byte(got.stdout))).Decode(&p); err != nil {
			t.Fatalf("%v in %s", err, got.stdout)
		}
		return p
	}
	writes := func() audit.Trail {
		return s.trail().Where(func(r audit.Request) bool {
			return !slices.Contains([]string{"get", "list", "watch"}, r.Verb) && !strings.HasPrefix(r.UserAgent, "kube-controller-manager/")
		})
	}
	before := len(writes())

	first := read("--dry-run=none", "--create-namespace", "--atomic")
	if first.Operation != "install" || first.Unknown != 5 || len(first.Events) != 1 || len(first.Events[0].Tiers) != 2 {
		t.Errorf("before the installation: got %+v", first)
	}
	if without := read("--no-hooks"); len(without.Events) != 0 {
		t.Errorf("without hooks: got %+v", without)
	}
	if after := writes(); len(after) != before {
		t.Fatalf("a plan has written: %v", after[before:])
	}

	s.must(s.plugin(append([]string{"install"}, args...)...))
	before = len(writes())
	args = append(args, "--set", "event=pre-upgrade")
	second := read()
	if second.Operation != "upgrade" || second.Unknown != 0 || len(second.Events) != 1 || second.Events[0].Event != "pre-upgrade" {
		t.Errorf("before the upgrade: got %+v", second)
	}
	// The forecast is arithmetic: two pairs and one alone.
	if math.Abs(second.SerialSeconds-second.Seconds) < 1 || second.Seconds <= 0 {
		t.Errorf("want times from the record, and what two at once save; got %+v", second)
	}
	if after := writes(); len(after) != before {
		t.Errorf("a plan has written: %v", fmt.Sprint(after[before:]))
	}
}
