package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"os"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/cli"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/klog/v2"
)

// hostileHelm fails with words of a chart's.
type hostileHelm struct{ plainHelm }

func (hostileHelm) Install(context.Context, *action.Install, *chart.Chart, map[string]any) (*release.Release, error) {
	log.Print("warning: \x1b[2J")
	return nil, errors.New("1 error occurred:\n\t* job \x1b[2J\u202e\x9b failed\r\n")
}

func TestErrorsAreEscapedButInHelmsOwnWay(t *testing.T) {
	const asIs = "Error: INSTALLATION FAILED: 1 error occurred:\n\t* job \x1b[2J\u202e\x9b failed\r\n\n"
	log.SetOutput(io.Discard)
	flags := log.Flags()
	log.SetFlags(0)
	t.Cleanup(func() {
		log.SetOutput(os.Stderr)
		log.SetFlags(flags)
	})
	const escaped = "warning: \\x1b[2J\nError: INSTALLATION FAILED: 1 error occurred:\n\t* job \\x1b[2J\\u202e\\x9b failed\n\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"install", "web", "testdata/charts/shop"}, asIs},
		{[]string{"install", "web", "testdata/charts/shop", "--hook-parallelism=1"}, asIs},
		{[]string{"install", "web", "testdata/charts/shop", "--hook-parallelism=2"}, escaped},
		{[]string{"timeline", "\x1b[2J"}, "Error: releaseContent: Release name is invalid: \\x1b[2J\n"},
		{[]string{"plan", "\x1b[2J", "testdata/charts/shop"}, "Error: release name is invalid: \\x1b[2J\n"},
	} {
		isolate(t)
		if got, _ := runWith(t, hostileHelm{}, test.args...); got.stderr != test.want || got.code != 1 {
			t.Errorf("%q: got %q, want %q", test.args, got.stderr, test.want)
		}
	}
}

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
