package e2e

import (
	"cmp"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
)

// privilegedChart has at each event a hook of each sort: a ServiceAccount, which is set up, a Job and a Pod. With the
// value failing the Jobs fail.
const privilegedChart = `
-- Chart.yaml --
apiVersion: v2
name: privileged
version: 1.0.0
-- values.yaml --
events: [pre-install, pre-upgrade, pre-rollback, pre-delete, test]
failing: false
second: false
-- templates/settings.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-settings
data:
  revision: {{ .Release.Revision | quote }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-{{ .Values.second | ternary "second" "first" }}
-- templates/hooks.yaml --
{{- $annotations := dict "helm.sh/hook" (join "," .Values.events) "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" }}
{{- $duration := .Values.duration | default "0s" }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .Release.Name }}-runner
  annotations: {{ toJson $annotations }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-job
  annotations: {{ toJson $annotations }}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations:
        parallel-hooks.test/duration: {{ $duration }}
        parallel-hooks.test/exit-code: {{ .Values.failing | ternary "1" "0" | quote }}
        {{- with .Values.waiting }}
        parallel-hooks.test/waiting: {{ . }}
        {{- end }}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
---
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-pod
  annotations: {{ set $annotations "parallel-hooks.test/duration" $duration | toJson }}
spec:
  restartPolicy: Never
  containers: [{name: main, image: none}]
`

// useProxy makes the session's commands talk to the server through a proxy that tells the first watch on a resource,
// after each call of the function that's returned, that the server no longer has what came since its version.
func (s *session) useProxy() (loseWatches func()) {
	s.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", bed.kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		s.t.Fatal(err)
	}
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(config))
	if err != nil {
		s.t.Fatal(err)
	}
	var mu sync.Mutex
	lost := map[string]bool{}
	loseWatches = func() {
		mu.Lock()
		defer mu.Unlock()
		clear(lost)
	}
	loses := func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		resource := path.Base(r.URL.Path)
		first := r.URL.Query().Get("watch") == "true" && !lost[resource]
		if first {
			lost[resource] = true
		}
		return first
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(server) },
		Transport:     transport,
		FlushInterval: -1,
	}
	// A client doesn't send its token without TLS.
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if loses(r) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	s.t.Cleanup(front.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	s.useKubeconfig(func(config *clientcmdapi.Config) {
		for _, cluster := range config.Clusters {
			*cluster = clientcmdapi.Cluster{Server: front.URL, CertificateAuthorityData: authority}
		}
	})
	return loseWatches
}

// verbsOf returns which verbs a user has used on which resources.
func verbsOf(user string, trail audit.Trail) map[string][]string {
	used := map[string][]string{}
	for _, r := range trail {
		resource := r.Resource
		if r.Subresource != "" {
			resource += "/" + r.Subresource
		}
		if r.User == user && resource != "" && !slices.Contains(used[resource], r.Verb) {
			used[resource] = append(used[resource], r.Verb)
		}
	}
	for _, verbs := range used {
		slices.Sort(verbs)
	}
	return used
}

// section returns the part of the document on security from a heading to the next one.
func section(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(bed.root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("docs/security.md has no %q", heading)
	}
	before, _, _ := strings.Cut(after, "\n#")
	return before
}

// tableIn returns the cells of the table in a text, without its head.
func tableIn(text string) (rows [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows[1:]
}

// documentedRole returns the rules of the Role in the document on security.
func documentedRole(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()
	_, after, _ := strings.Cut(section(t, "### A Role that is enough"), "```yaml\n")
	text, _, _ := strings.Cut(after, "```")
	var role rbacv1.Role
	if err := yaml.UnmarshalStrict([]byte(text), &role); err != nil || role.Kind != "Role" || len(role.Rules) == 0 {
		t.Fatalf("%v in the Role %s", err, text)
	}
	return role.Rules
}

// prepareFor has the releases made that a command is about: app, and bad, whose Jobs fail. It returns the command's
// arguments for a release.
func (s *session) prepareFor(command, values string) (args func(release string) []string) {
	s.t.Helper()
	chart := s.chart(privilegedChart)
	flags := func(release string) []string {
		return []string{"--set", fmt.Sprintf("failing=%v,%s", release == "bad", values)}
	}
	for _, release := range []string{"app", "bad"} {
		if command != "install" {
			s.must(s.helm(append([]string{"install", release, chart, "--no-hooks"}, flags(release)...)...))
		}
		if command == "upgrade" || command == "rollback" {
			s.must(s.helm(append([]string{"upgrade", release, chart, "--no-hooks", "--set", "second=true"}, flags(release)...)...))
		}
	}
	if command == "recover" {
		for _, release := range []string{"app", "bad"} {
			c := s.start("helm-parallel-hooks", append(flags(release), "upgrade", release, chart, "--hook-parallelism", "4")...)
			s.awaitJob(release+"-job", func(*batchv1.Job) bool { return true })
			c.kill()
			s.expireLease(release)
		}
	}
	return func(release string) []string {
		args := []string{command, release}
		switch command {
		case "recover":
			return args
		case "upgrade":
			// One revision is too many then.
			args = append(append(args, chart, "--history-max", "2"), flags(release)...)
		case "install", "plan":
			args = append(append(args, chart), flags(release)...)
		case "rollback":
			args = append(args, "1", "--history-max", "2")
		}
		if command != "timeline" {
			args = append(args, "--hook-parallelism", "4", "--hook-progress", "json")
		}
		return args
	}
}

// TestRoleIsEnough: with the Role of the document on security each command works and is refused nothing, and what each
// asks for is what the document's table says.
func TestRoleIsEnough(t *testing.T) {
	t.Parallel()
	documented := tableIn(section(t, "## What it needs in the cluster"))
	rules := documentedRole(t)
	for column, command := range []string{"install", "upgrade", "rollback", "uninstall", "test", "plan", "timeline", "recover"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			args := s.prepareFor(command, "duration=3s") // a lost watch begins anew after a second
			user := s.become(rules...)
			loseWatches := s.useProxy()
			for release, logs := range map[string]string{"app": "all", "bad": "failed"} {
				loseWatches()
				line := args(release)
				if slices.Contains(line, "--hook-parallelism") {
					line = append(line, "--hook-logs", logs)
				}
				got := s.plugin(line...)
				fails := release == "bad" && !slices.Contains([]string{"plan", "timeline", "recover"}, command)
				if fails != (got.code != 0) {
					t.Errorf("want it to fail: %v; got: %v", fails, got)
				}
				for _, text := range []string{"container main: Error, exit code 1", "last lines of pod bad-job-"} {
					if fails && !strings.Contains(got.stderr, text) {
						t.Errorf("want %q; got: %v", text, got)
					}
				}
				if strings.Contains(got.stderr, "forbidden") || strings.Contains(got.stderr, "permission") {
					t.Errorf("want nothing to be refused; got: %v", got)
				}
			}
			trail := append(s.trail(), s.trailOf("")...)
			for _, r := range trail {
				if r.User == user && r.Code == http.StatusForbidden {
					t.Errorf("refused: %v", r)
				}
			}
			used := verbsOf(user, trail)
			for _, row := range documented {
				resource := strings.Split(row[0], "`")[1]
				if want := strings.Join(used[resource], ", "); row[1+column] != want {
					t.Errorf("docs/security.md says that %s needs %q on %s, but it has used %q", command, row[1+column], resource, want)
				}
				delete(used, resource)
			}
			if len(used) > 0 {
				t.Errorf("docs/security.md doesn't say that %s needs %v", command, used)
			}
		})
	}
}

// witness is a command that a right is needed for.
type witness struct {
	command string // "install" if it's empty
	release string // "app" if it's empty
	flags   []string
	values  string // of the chart
	prepare func(*session)
	// lost has the command lose its first watches.
	lost bool
	// says is what the error says if it isn't which right is missing.
	says string
	// degrades reports whether the command did its work and something was lost. Nil: it fails without the right, and
	// the error says which it is.
	degrades func(got result, requests audit.Trail) bool
}

// gets counts how often an object was read.
func gets(object string, requests audit.Trail) int {
	return len(requests.Where(func(r audit.Request) bool { return r.Verb == "get" && r.Subresource == "" && r.Object() == object }))
}

func isPolled(object string) func(result, audit.Trail) bool {
	return func(got result, requests audit.Trail) bool { return got.code == 0 && gets(object, requests) > 1 }
}

func lacks(text string) func(result, audit.Trail) bool {
	return func(got result, _ audit.Trail) bool { return !strings.Contains(got.stderr, text) }
}

// isWithoutLease says that no request with a verb on Leases was granted.
func isWithoutLease(verb string) func(result, audit.Trail) bool {
	return func(got result, requests audit.Trail) bool {
		return got.code == 0 && len(requests.Where(func(r audit.Request) bool {
			return r.Resource == "leases" && r.Verb == verb && r.Code < http.StatusMultipleChoices
		})) == 0
	}
}

// witnesses are for each right of the Role, as in "get secrets".
var witnesses = map[string]witness{
	"create secrets": {},
	// Helm's install and uninstall go on without.
	"list secrets":           {command: "upgrade"},
	"update secrets":         {command: "test"},
	"get secrets":            {command: "rollback"},
	"delete secrets":         {command: "uninstall"},
	"create configmaps":      {},
	"get configmaps":         {},
	"patch configmaps":       {command: "upgrade"},
	"delete configmaps":      {command: "uninstall", says: "failed to delete release: app"}, // Helm's words
	"create serviceaccounts": {}, "delete serviceaccounts": {},
	"get serviceaccounts": {command: "recover", degrades: func(got result, _ audit.Trail) bool {
		return got.code == 0 && strings.Contains(got.stdout, "no permission to look")
	}},
	"create jobs": {}, "delete jobs": {},
	"watch jobs":  {values: "duration=5s", degrades: isPolled("jobs/app-job")},
	"list jobs":   {values: "duration=5s", lost: true, degrades: isPolled("jobs/app-job")},
	"get jobs":    {release: "bad", degrades: lacks("container main: Error, exit code 1")},
	"create pods": {}, "delete pods": {},
	"get pods": {prepare: func(s *session) { // which takes a moment to go
		_, err := bed.client.CoreV1().Pods(s.namespace).Create(s.t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "app-pod", Annotations: map[string]string{controlplane.DurationAnnotation: "1h"}},
			Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "none"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		s.podOf("app-pod", 1)
	}},
	"list pods":    {release: "bad", degrades: lacks("container main: Error, exit code 1")},
	"watch pods":   {values: "duration=5s", degrades: isPolled("pods/app-pod")},
	"get pods/log": {release: "bad", degrades: lacks("last lines of pod bad-job-")},
	"list events":  {values: "waiting=ContainerCreating", flags: []string{"--timeout=8s"}, degrades: lacks(`Pulling image \"none\"`)},
	"watch events": {values: "waiting=ContainerCreating", flags: []string{"--timeout=8s"}, degrades: lacks(`Pulling image \"none\"`)},
	// Without an update a lease is given up again.
	"get leases":    {degrades: isWithoutLease("update")},
	"create leases": {degrades: isWithoutLease("update")},
	"update leases": {degrades: isWithoutLease("update")},
	"delete leases": {degrades: isWithoutLease("delete")},
}

// TestRoleIsMinimal: without any single right of the Role a command fails and says which one is missing, or does its
// work and loses what the document says is optional.
func TestRoleIsMinimal(t *testing.T) {
	t.Parallel()
	rules := documentedRole(t)
	run := func(t *testing.T, w witness, rules []rbacv1.PolicyRule) (result, audit.Trail) {
		s := newSession(t)
		s.needsAudit()
		command, release := cmp.Or(w.command, "install"), cmp.Or(w.release, "app")
		args := s.prepareFor(command, w.values)
		if w.prepare != nil {
			w.prepare(s)
		}
		user := s.become(rules...)
		if w.lost {
			s.useProxy()
		}
		got := s.plugin(append(args(release), w.flags...)...)
		return got, s.trail().Where(func(r audit.Request) bool { return r.User == user })
	}
	var optional []string
	for _, rule := range rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				right := verb + " " + resource
				w, known := witnesses[right]
				if !known {
					t.Errorf("no test says what happens without the right to %s", right)
					continue
				}
				if w.degrades != nil {
					optional = append(optional, fmt.Sprintf("`%s` on `%s`", verb, resource))
				}
				t.Run(right, func(t *testing.T) {
					t.Parallel()
					got, requests := run(t, w, without(rules, resource, verb))
					refusal := cmp.Or(w.says, fmt.Sprintf(`cannot %s resource "%s"`, verb, resource))
					switch {
					case w.degrades == nil:
						if got.code != 1 || !strings.Contains(got.stderr, refusal) {
							t.Errorf("want exit code 1 and %q; got: %v", refusal, got)
						}
					case !w.degrades(got, requests):
						t.Errorf("nothing was lost: %v\n%v", got, requests)
					}
				})
				if w.degrades != nil {
					t.Run(right+" with it", func(t *testing.T) {
						t.Parallel()
						if got, requests := run(t, w, rules); w.degrades(got, requests) {
							t.Errorf("something is lost, although nothing is missing: %v\n%v", got, requests)
						}
					})
				}
			}
		}
	}
	var documented []string
	for _, row := range tableIn(section(t, "### What is optional")) {
		documented = append(documented, row[0])
	}
	slices.Sort(documented)
	slices.Sort(optional)
	wantEqual(t, "optional by docs/security.md", documented, optional)
}

// without returns rules less a verb on a resource.
func without(rules []rbacv1.PolicyRule, resource, verb string) []rbacv1.PolicyRule {
	var left []rbacv1.PolicyRule
	for _, rule := range rules {
		rule := *rule.DeepCopy()
		if slices.Contains(rule.Resources, resource) {
			rule.Verbs = slices.DeleteFunc(rule.Verbs, func(v string) bool { return v == verb })
		}
		if len(rule.Verbs) > 0 {
			left = append(left, rule)
		}
	}
	return left
}
