package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// TestArgumentsThroughHelm: both Helms misread some of what is written after a plugin's name. Whatever they make of it,
// the release that is meant changes, in the namespace that is meant, or nothing does and the error says why.
//
// In the lines, $one and $two are releases, $new is the name of none, and $other is a namespace that is called like
// the new release, so that a wrong namespace exists.
func TestArgumentsThroughHelm(t *testing.T) {
	t.Parallel()
	both := []string{"helm", "helm4"}
	const (
		here      = "$ns/$one v1 deployed, $ns/$two v1 deployed"
		installed = "$ns/$new v1 deployed, " + here
	)
	for _, test := range []struct {
		line  string
		helms []string // both unless said otherwise
		env   string   // added, "" for none
		// insecure says that the cluster's certificate can't be verified.
		insecure bool
		err      string // part of it, "" if the command ends well
		want     string // releases afterwards
	}{
		{line: "parallel-hooks install --kube-insecure-skip-tls-verify $new $chart", insecure: true, err: `helm did not pass on "$new"`, want: here},
		{line: "parallel-hooks uninstall --kube-insecure-skip-tls-verify $one $two", insecure: true, err: `helm did not pass on "$one"`, want: here},
		{line: "parallel-hooks rollback --kube-insecure-skip-tls-verify $one 1", insecure: true, err: `helm did not pass on "$one"`, want: here},
		// Here helm stops by itself.
		{line: "parallel-hooks upgrade $one $chart --kube-insecure-skip-tls-verify --dry-run", insecure: true, err: "unknown flag: --dry-run", want: here},
		{line: "--kube-insecure-skip-tls-verify parallel-hooks test uninstall $one", insecure: true, err: `helm did not pass on "test"`, want: here},
		{line: "parallel-hooks install $new $chart --kube-insecure-skip-tls-verify --kube-apiserver https://127.0.0.1:1 --kube-token t", err: `helm did not pass on "--kube-apiserver"`, want: here},
		{line: "parallel-hooks uninstall --kube-insecure-skip-tls-verify=true $one $two", insecure: true, want: ""},
		{line: "parallel-hooks uninstall $one --kube-insecure-skip-tls-verify", insecure: true, want: "$ns/$two v1 deployed"},
		{line: "parallel-hooks uninstall $one", insecure: true, env: "HELM_KUBEINSECURE_SKIP_TLS_VERIFY=true", want: "$ns/$two v1 deployed"},

		{line: "parallel-hooks install -ojson $new $chart", err: `helm took "$new" for the namespace: it reads "-ojson" letter by letter, up to the n, its own flag for a namespace. Write "-o json"`, want: here},
		{line: "parallel-hooks upgrade -ojson $new $chart --install", err: `Write "-o json"`, want: here},
		{line: "parallel-hooks install $new $chart -fprod-env.yaml", err: `helm took "v.yaml" for the namespace`, want: here},
		{line: "parallel-hooks install $new $chart -lname=x", err: `Write "-l name=x"`, want: here},
		{line: "parallel-hooks install -o json $new $chart -f $values", want: installed},
		{line: "parallel-hooks install $new $chart -ojson", want: installed},
		{line: "parallel-hooks install -ojson $new $chart -n $ns", env: "HELM_NAMESPACE=$other", want: installed},

		{line: "parallel-hooks install --description --debug $new $chart", err: `helm took "--debug", the value of --description, for a flag of its own`, want: here},
		{line: "parallel-hooks install $new $chart --description --debug", err: `helm took "--debug", the value of --description, for a flag of its own`, want: here},
		{line: "parallel-hooks install $new $chart --description=--debug", want: installed},
		{line: "parallel-hooks install $new $chart -n --debug", err: `helm took "--debug" for the value of --namespace`, want: here},
		{line: "parallel-hooks uninstall -- $one -n $other", err: "even after --", want: here},
		{line: "parallel-hooks uninstall _ $one $two", err: "helm drops an empty argument", want: here},
		{line: "parallel-hooks uninstall $one --description _ --debug --dry-run", err: "helm drops an empty argument", want: here},
		{line: "parallel-hooks rollback $one _", err: "helm drops an empty argument", want: here},
		{line: "parallel-hooks uninstall $one --kube-context _ --description=", want: "$ns/$two v1 deployed"},

		{line: "--qps 9 --burst-limit 20 parallel-hooks install $new $chart", want: installed},
		{line: "-n $ns parallel-hooks install $new $chart --debug=true", env: "HELM_NAMESPACE=$other", want: installed},
		{line: "parallel-hooks install $new $chart -n$ns", env: "HELM_NAMESPACE=$other", want: installed},
		{line: "parallel-hooks install -gn $other $chart --name-template $new", env: "HELM_NAMESPACE=$ns", want: here + ", $other/$new v1 deployed"},
		{line: "parallel-hooks upgrade -in $ns $new $chart", env: "HELM_NAMESPACE=$other", want: installed},
		{line: "parallel-hooks install $new $chart --kube-as-user me --kube-as-group system:masters --kube-as-group=more", want: installed},
		{line: "--color never parallel-hooks install $new $chart --content-cache $other", helms: []string{"helm4"}, want: installed},
		{line: "--content-cache $other parallel-hooks delete $one", helms: []string{"helm4"}, want: "$ns/$two v1 deployed"},
	} {
		helms := test.helms
		if helms == nil {
			helms = both
		}
		for _, helm := range helms {
			t.Run(helm+" "+test.line, func(t *testing.T) {
				t.Parallel()
				s := newSession(t)
				// Secrets of all namespaces are looked through, so names must be no other test's.
				one, two, new := "one-"+s.namespace, "two-"+s.namespace, "new-"+s.namespace
				s.createNamespaceCalled(new)
				folder := t.TempDir()
				values := filepath.Join(folder, "values.yaml")
				if err := os.WriteFile(values, nil, 0o644); err != nil {
					t.Fatal(err)
				}
				chart := s.chart(onlyConfigMap)
				fill := strings.NewReplacer("$ns", s.namespace, "$one", one, "$two", two, "$new", new, "$other", new, "$chart", chart, "$values", values)
				for _, name := range []string{one, two} {
					s.must(s.helm("install", name, chart))
				}
				if test.insecure {
					s.useKubeconfig(func(config *clientcmdapi.Config) {
						for _, cluster := range config.Clusters {
							cluster.CertificateAuthority, cluster.CertificateAuthorityData = "", nil
						}
					})
				}
				s.env = append(s.env, fill.Replace(test.env))

				got := s.start(helm, words(fill.Replace(test.line))...).wait()
				if failed := test.err != ""; failed != (got.code == 1) || !failed && got.code != 0 || !strings.Contains(got.stderr, fill.Replace(test.err)) {
					t.Errorf("want the error %q, if any: %v", fill.Replace(test.err), got)
				}
				if stored := strings.Join(s.stored(one, two, new), ", "); stored != fill.Replace(test.want) {
					t.Errorf("releases are %q, want %q: %v", stored, fill.Replace(test.want), got)
				}
			})
		}
	}
}

const onlyConfigMap = `
-- Chart.yaml --
apiVersion: v2
name: only
version: 1.0.0
-- templates/configmap.yaml --
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
`

// createNamespaceCalled creates another namespace, which goes with the session.
func (s *session) createNamespaceCalled(name string) {
	s.t.Helper()
	namespaces := bed.client.CoreV1().Namespaces()
	if _, err := namespaces.Create(s.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			s.t.Errorf("deleting a test's namespace: %v", err)
		}
	})
}

// stored returns what is stored of releases in all namespaces, one line for each revision.
func (s *session) stored(names ...string) []string {
	s.t.Helper()
	secrets, err := bed.client.CoreV1().Secrets("").List(s.t.Context(), metav1.ListOptions{
		LabelSelector: "owner=helm,name in (" + strings.Join(names, ",") + ")",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	for _, secret := range secrets.Items {
		labels := secret.Labels
		lines = append(lines, fmt.Sprintf("%s/%s v%s %s", secret.Namespace, labels["name"], labels["version"], labels["status"]))
	}
	slices.Sort(lines)
	return lines
}
