package cmd

import (
	"bytes"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/cli"
	"k8s.io/klog/v2"
)

func TestEachLineOfKlogIsWrittenOnce(t *testing.T) {
	var out bytes.Buffer
	defer klog.CaptureState().Restore()
	redirectKlog(&out)
	klog.Warning("a warning")
	klog.Error("an error")
	if lines := out.String(); strings.Count(lines, "a warning") != 1 || strings.Count(lines, "an error") != 1 {
		t.Errorf("got\n%swant each line once", lines)
	}
}

func TestKubectl(t *testing.T) {
	for _, test := range []struct {
		name, plugin, variable string
		set                    func(*cli.EnvSettings)
		want                   string
	}{
		{"nothing said", "", "", func(*cli.EnvSettings) {}, "kubectl"},
		{"the variable, which the user's shell has", "", "/home/me/config", func(*cli.EnvSettings) {}, "kubectl"},
		{"the variable, which helm has set", "parallel-hooks", "/home/me/config", func(*cli.EnvSettings) {}, "kubectl --kubeconfig /home/me/config"},
		{"several files", "parallel-hooks", "/a:/b", func(*cli.EnvSettings) {}, "kubectl"},
		{"flags", "", "", func(s *cli.EnvSettings) {
			s.KubeConfig, s.KubeContext = "/my configs/kube", "it's; rm -rf $HOME\x1b[2J"
			s.KubeAPIServer, s.KubeToken, s.KubeAsUser, s.KubeAsGroups = "https://127.0.0.1:6443", "secret", "jane", []string{"dev", "ops"}
			s.KubeCaFile, s.KubeTLSServerName, s.KubeInsecureSkipTLSVerify = "ca.crt", "kube", true
		}, `kubectl --kubeconfig '/my configs/kube' --context 'it'\''s; rm -rf $HOME\x1b[2J' --server https://127.0.0.1:6443` +
			` --as jane --as-group dev --as-group ops --certificate-authority ca.crt --tls-server-name kube --insecure-skip-tls-verify`},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			t.Setenv("KUBECONFIG", test.variable)
			t.Setenv("HELM_PLUGIN_NAME", test.plugin)
			p := newProgram(discard(), "")
			test.set(p.settings)
			if got := p.kubectl(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
