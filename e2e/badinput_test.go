package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// oneHook is a chart with a Job as its only hook, a ConfigMap, and a schema for its values.
const oneHook = `
-- Chart.yaml --
apiVersion: v2
name: one
version: 1.0.0
-- values.yaml --
replicas: 1
-- values.schema.json --
{"properties": {"replicas": {"type": "integer", "minimum": 1}}}
-- templates/hook.yaml --
apiVersion: batch/v1
kind: Job
metadata:
  name: hook
  annotations:
    helm.sh/hook: pre-install
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
-- templates/manifest.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: manifest
data:
  replicas: {{ .Values.replicas | quote }}
`

// withFiles is oneHook with more files.
func withFiles(files string) func(*session) string {
	return func(s *session) string { return s.chart(oneHook + strings.TrimPrefix(files, "\n")) }
}

func testChart(name string) func(*session) string {
	return func(*session) string { return chartPath(name) }
}

// hooksChart is a chart with a ConfigMap as its only hook, and a file called noise.
func hooksChart(hook, noise string) func(*session) string {
	return func(s *session) string {
		return s.chart("-- Chart.yaml --\napiVersion: v2\nname: hooks\nversion: 1.0.0\n-- noise --\n" + noise +
			"\n-- templates/hook.yaml --\napiVersion: v1\nkind: ConfigMap\n" + hook + "\n")
	}
}

// noise returns text that can't be compressed much.
func noise(length int) string {
	raw := make([]byte, length)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range raw {
		raw[i] = byte(random.Uint32())
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// TestBadInput gives the plugin and helm the same input, each in a namespace of its own: one error, Helm's own, and
// just that left behind which helm leaves.
func TestBadInput(t *testing.T) {
	t.Parallel()
	var (
		records    = rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"*"}}
		configMaps = rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"*"}}
	)
	may := func(rules ...rbacv1.PolicyRule) func(*session) { return func(s *session) { s.become(rules...) } }
	jobs := func(verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: verbs}
	}
	for _, test := range []struct {
		name    string
		prepare func(*session)
		release string                // "bad" unless said otherwise
		chart   func(*session) string // oneHook unless said otherwise
		flags   []string
		want    string // part of the error
		record  bool   // whether helm leaves a record, of a failed release
		other   bool   // whether helm's own error is another one
	}{
		{name: "unreachable cluster", prepare: (*session).loseCluster, want: "Kubernetes cluster unreachable: Get \"https://127.0.0.1:1/version\""},
		{name: "no such context", flags: []string{"--kube-context=nowhere"}, want: `context "nowhere" does not exist`},
		{name: "no such namespace", flags: []string{"--namespace=no-such-namespace"}, want: `namespaces "no-such-namespace" not found`},
		{name: "no such chart", chart: func(*session) string { return "./nowhere" }, want: `path "./nowhere" not found`},
		{name: "no such repository", chart: func(*session) string { return "nowhere/chart" }, want: "repo nowhere not found"},
		{name: "no chart", chart: func(s *session) string { return s.chart("-- README.md --\n") }, want: "Chart.yaml file is missing"},
		{name: "library chart", chart: func(s *session) string {
			return s.chart("-- Chart.yaml --\napiVersion: v2\nname: library\nversion: 1.0.0\ntype: library\n")
		}, want: "library charts are not installable"},
		{name: "missing dependency", chart: func(s *session) string {
			return s.chart("-- Chart.yaml --\napiVersion: v2\nname: needy\nversion: 1.0.0\ndependencies: [{name: more, version: 1.0.0, repository: 'file://../more'}]\n")
		}, want: "found in Chart.yaml, but missing in charts/ directory: more"},
		{name: "bad name", release: "Not_A_Name", want: `invalid release name`},
		{name: "name in use", prepare: func(s *session) {
			s.must(s.helm("install", "used", s.chart("-- Chart.yaml --\napiVersion: v2\nname: used\nversion: 1.0.0\n")))
		}, release: "used", want: "cannot re-use a name that is still in use"},
		{name: "values against the schema", flags: []string{"--set=replicas=0"}, want: "values don't meet the specifications of the schema"},
		{name: "malformed --set", flags: []string{"--set=a[x=1"}, want: `failed parsing --set data`},
		{name: "malformed --set-json", flags: []string{"--set-json=a={"}, want: `failed parsing --set-json data`},
		{name: "missing values file", flags: []string{"--values=nowhere.yaml"}, want: "open nowhere.yaml: no such file or directory"},
		{name: "unknown flag", flags: []string{"--no-such-flag"}, want: "unknown flag: --no-such-flag"},
		{name: "template that fails", chart: withFiles("\n-- templates/fail.yaml --\n{{ fail \"not like this\" }}\n"), want: "not like this"},
		{name: "hook that is no YAML", chart: withFiles("\n-- templates/bad.yaml --\nkind: Job\nmetadata: {annotations: {helm.sh/hook: pre-install}\n"), want: "YAML parse error on one/templates/bad.yaml"},
		{name: "manifest of an unknown kind", chart: withFiles("\n-- templates/gadget.yaml --\napiVersion: nowhere.example.com/v1\nkind: Gadget\nmetadata: {name: gadget}\n"), want: `no matches for kind "Gadget"`},
		{name: "object of somebody else", prepare: func(s *session) {
			maps := bed.client.CoreV1().ConfigMaps(s.namespace)
			if _, err := maps.Create(s.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "manifest"}}, metav1.CreateOptions{}); err != nil {
				s.t.Fatal(err)
			}
		}, want: "invalid ownership metadata"},
		{name: "manifest that the server rejects", chart: testChart("edges"), flags: []string{"--set=rejectedManifest=true"}, want: `ConfigMap "rejected" is invalid`, record: true},
		{name: "hook that the server rejects", chart: testChart("edges"), flags: []string{"--set=rejectedHook=true"}, want: `Job.batch "rejected" is invalid`, record: true},
		{name: "hook without a name", chart: hooksChart("metadata: {annotations: {helm.sh/hook: pre-install}}", ""), want: "resource name may not be empty", record: true, other: true},
		{name: "hook that gets another name each time", chart: hooksChart("metadata: {generateName: a-, annotations: {helm.sh/hook: pre-install}}", ""), want: "resource name may not be empty", record: true, other: true},
		{name: "hook without a name, and none that deletes it", chart: hooksChart("metadata: {annotations: {helm.sh/hook: pre-install, helm.sh/hook-delete-policy: hook-failed}}", ""), want: "name or generateName is required", record: true},
		{name: "name that is too long", chart: hooksChart("metadata: {name: "+strings.Repeat("a", 254)+", annotations: {helm.sh/hook: pre-install}}", ""), want: "must be no more than 253 characters", record: true},
		{name: "hook that is too large", chart: hooksChart("metadata: {name: large, annotations: {helm.sh/hook: pre-install}}\ndata: {large: {{ repeat 5000000 \"x\" }}}", ""), want: "Request entity too large: limit is 3145728", record: true},
		{name: "hook that is too large for the record", chart: hooksChart("metadata: {name: large, annotations: {helm.sh/hook: pre-install}}\ndata: {large: {{ .Files.Get \"noise\" }}}", noise(900_000)), want: "Too long: may not be more than 1048576 bytes"},
		{name: "hook of an unknown kind", chart: testChart("edges"), flags: []string{"--set=unknownKind=true"}, want: `no matches for kind "Gadget" in version "nowhere.example.com/v1"`, record: true},
		{name: "no permission to have records", prepare: may(configMaps), want: `cannot create resource "secrets"`},
		{name: "no permission to write records", prepare: may(rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list"}}, configMaps), want: `cannot create resource "secrets"`},
		{name: "no permission to create hooks", prepare: may(records, configMaps, jobs("get", "list", "watch", "delete")), want: `cannot create resource "jobs"`, record: true},
		// Helm does not say for which hook.
		{name: "no permission to delete hooks", prepare: may(records, configMaps, jobs("get", "list", "watch", "create")), want: `jobs.batch "hook" is forbidden`, record: true, other: true},
		{name: "no permission to create the manifest", prepare: may(records, jobs("*"), rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}}), want: `cannot create resource "configmaps"`, record: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			type outcome struct {
				result
				error  string // from its first word on
				left   []string
				record string // status and description
			}
			run := func(install func(s *session, args ...string) result, flags ...string) outcome {
				t.Helper()
				s := newSession(t)
				if test.prepare != nil {
					test.prepare(s)
				}
				name, chart := "bad", ""
				if test.release != "" {
					name = test.release
				}
				if test.chart != nil {
					chart = test.chart(s)
				} else {
					chart = s.chart(oneHook)
				}
				got := outcome{result: install(s, slices.Concat([]string{"install", name, chart}, test.flags, flags)...)}
				neutral := strings.NewReplacer(s.namespace, "NAMESPACE")
				if filepath.IsAbs(chart) {
					neutral = strings.NewReplacer(s.namespace, "NAMESPACE", chart, "CHART")
				}
				if _, after, found := strings.Cut("\n"+got.stderr, "\nError: "); found {
					got.error = neutral.Replace(after)
				}
				got.left = leftBehind(s.trail())
				if stored, err := storedRelease(t.Context(), s.namespace, name); err == nil {
					got.record = neutral.Replace(fmt.Sprintf("%s: %s", stored.Info.Status, stored.Info.Description))
				}
				return got
			}
			got := run((*session).plugin, "--hook-parallelism=8")
			want := run((*session).helm)

			if got.code != 1 || want.code != 1 {
				t.Errorf("exit codes %d and, of helm, %d; want 1", got.code, want.code)
			}
			if got.stdout != "" || strings.Count("\n"+got.stderr, "\nError: ") != 1 || !strings.Contains(got.error, test.want) {
				t.Errorf("want one error, about %q, and nothing on stdout; got: %v", test.want, got.result)
			}
			if !test.other && got.error != want.error {
				t.Errorf("error = %q, helm's %q", got.error, want.error)
			}
			if !slices.Equal(got.left, want.left) {
				t.Errorf("left behind: %q, by helm %q", got.left, want.left)
			}
			if !test.other && got.record != want.record {
				t.Errorf("record = %q, helm's %q", got.record, want.record)
			}
			if failed := strings.HasPrefix(got.record, string(release.StatusFailed)+": "); test.record != failed {
				t.Errorf("record = %q; want one of a failed release: %v", got.record, test.record)
			}
		})
	}
}

// TestWithoutPermissionToWatch: Helm asks again and again until its timeout. What runs in parallel is read instead.
func TestWithoutPermissionToWatch(t *testing.T) {
	t.Parallel()
	for parallelism, want := range map[string]struct {
		code int
		text string
	}{
		"1": {1, `cannot watch resource "jobs"`},
		"8": {0, `WARNING: no permission to watch jobs in namespace "`},
	} {
		s := newSession(t)
		s.become(
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: []string{"*"}},
			rbacv1.PolicyRule{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get", "create", "delete"}},
		)
		got := s.plugin("install", "unwatched", s.chart(oneHook), "--hook-parallelism", parallelism)
		if got.code != want.code || !strings.Contains(got.stderr, want.text) {
			t.Errorf("parallelism %s: want exit code %d and %q; got: %v", parallelism, want.code, want.text, got)
		}
	}
}

// TestBadParallelism: from wherever it comes, a value that makes no sense is refused before the server hears of it.
func TestBadParallelism(t *testing.T) {
	t.Parallel()
	const flag, variable = "--hook-parallelism", "HELM_HOOK_PARALLELISM"
	for _, test := range []struct {
		name  string
		helm  bool
		flags []string
		env   string
		want  []string
	}{
		{"empty flag", false, []string{flag + "="}, "", []string{`invalid argument "" for "` + flag + `"`}},
		{"too large flag", false, []string{flag + "=2147483648"}, "", []string{flag, "2147483648"}},
		{"negative flag through helm", true, []string{flag, "-1"}, "", []string{flag, `"-1"`}},
		{"word as flag through helm", true, []string{flag + "=x"}, "", []string{flag, `"x"`}},
		{"fraction as flag through helm", true, []string{flag + "=1.5"}, "", []string{flag, `"1.5"`}},
		{"empty flag through helm", true, []string{flag + "="}, "", []string{flag, `""`}},
		{"flag without a value", false, []string{flag}, "", []string{"flag needs an argument: " + flag}},
		{"negative variable", false, nil, "-1", []string{variable, `"-1"`}},
		{"word as variable", false, nil, "x", []string{variable, `"x"`}},
		{"fraction as variable", false, nil, "1.5", []string{variable, `"1.5"`}},
		{"blank variable", false, nil, " ", []string{variable, `" "`}},
		{"word as variable through helm", true, nil, "x", []string{variable, `"x"`}},
		{"bad flag beside a good variable", false, []string{flag + "=x"}, "8", []string{flag, `"x"`}},
		// Of this one the server hears, so that its silence about the others means something.
		{"good flag", false, []string{flag + "=2"}, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			s.needsAudit()
			user := s.become()
			s.env = append(s.env, variable+"="+test.env)
			args := append([]string{"install", "refused", chartPath("tiers")}, test.flags...)
			var got result
			if test.helm {
				got = s.helm(append([]string{"parallel-hooks"}, args...)...)
			} else {
				got = s.plugin(args...)
			}
			if got.code != 1 || got.stdout != "" {
				t.Errorf("want exit code 1 and nothing on stdout; got: %v", got)
			}
			for _, part := range test.want {
				if !strings.Contains(got.stderr, part) {
					t.Errorf("the error does not contain %q: %v", part, got)
				}
			}
			asked := append(s.trail(), s.trailOf("")...).Where(func(r audit.Request) bool { return r.User == user })
			if refused := test.want != nil; refused == (len(asked) > 0) {
				t.Errorf("the server was asked: %v; want that only if the value is good", asked)
			}
		})
	}
}

// TestGoodParallelism: where flag and variable disagree the flag counts, even if the variable makes no sense.
func TestGoodParallelism(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, env string
		flags     []string
		want      int // Jobs at once
	}{
		{"empty variable", "", nil, 1},
		{"zero", "0", nil, 1},
		{"variable", "3", nil, 3},
		{"flag beside a variable", "8", []string{"--hook-parallelism=2"}, 2},
		{"flag beside a bad variable", "x", []string{"--hook-parallelism=2"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			s.env = append(s.env, "HELM_HOOK_PARALLELISM="+test.env)
			args := []string{"install", "good", chartPath("tiers"), "--set-json", `tiers=[{"jobs":4,"duration":"500ms"}]`}
			s.must(s.plugin(append(args, test.flags...)...))
			if got := audit.MaxActive(s.trail().Runs()); got != test.want {
				t.Errorf("%d Jobs were active at once, want %d", got, test.want)
			}
		})
	}
}

// loseCluster points the session's commands to a port on which nobody listens.
func (s *session) loseCluster() {
	s.useKubeconfig(func(config *clientcmdapi.Config) {
		for _, cluster := range config.Clusters {
			cluster.Server = "https://127.0.0.1:1"
		}
	})
}

// become makes the session's commands run as a user who may do nothing in its namespace but this. It returns the
// user's name.
func (s *session) become(rules ...rbacv1.PolicyRule) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	const name = "user"
	meta := metav1.ObjectMeta{Name: name}
	check := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	accounts, rbac := bed.client.CoreV1().ServiceAccounts(s.namespace), bed.client.RbacV1()
	_, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	check(err)
	token, err := accounts.CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	check(err)
	user := "system:serviceaccount:" + s.namespace + ":" + name
	if len(rules) > 0 {
		_, err = rbac.Roles(s.namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		check(err)
		_, err = rbac.RoleBindings(s.namespace).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: s.namespace}},
		}, metav1.CreateOptions{})
		check(err)
		// The server learns of a binding a moment after it has stored it.
		check(wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			review, err := bed.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
				Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: s.namespace, Group: rules[0].APIGroups[0], Resource: rules[0].Resources[0], Verb: rules[0].Verbs[0],
				}},
			}, metav1.CreateOptions{})
			return err == nil && review.Status.Allowed, err
		}))
	}
	s.useKubeconfig(func(config *clientcmdapi.Config) {
		for _, info := range config.AuthInfos {
			*info = clientcmdapi.AuthInfo{Token: token.Status.Token}
		}
	})
	return user
}

// useKubeconfig makes the session's commands use a changed copy of their kubeconfig.
func (s *session) useKubeconfig(change func(*clientcmdapi.Config)) {
	s.t.Helper()
	var current string
	for _, variable := range s.env {
		if path, ok := strings.CutPrefix(variable, "KUBECONFIG="); ok {
			current = path
		}
	}
	config, err := clientcmd.LoadFromFile(current)
	if err != nil {
		s.t.Fatal(err)
	}
	change(config)
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		s.t.Fatal(err)
	}
	// Of two values the last one counts.
	s.env = append(s.env, "KUBECONFIG="+path)
}
