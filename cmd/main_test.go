package cmd

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(helperMain())
	}
	goleak.VerifyTestMain(m)
}

// plainHelm is an operation that does what Helm does.
type plainHelm struct{}

func (plainHelm) Install(ctx context.Context, client *action.Install, chrt *chart.Chart, vals map[string]any) (*release.Release, error) {
	return client.RunWithContext(ctx, chrt, vals)
}

func (plainHelm) Upgrade(ctx context.Context, client *action.Upgrade, name string, chrt *chart.Chart, vals map[string]any) (*release.Release, error) {
	return client.RunWithContext(ctx, name, chrt, vals)
}

func (plainHelm) Rollback(_ context.Context, client *action.Rollback, name, _ string) error {
	return client.Run(name)
}

func (plainHelm) Uninstall(_ context.Context, client *action.Uninstall, name string) (*release.UninstallReleaseResponse, error) {
	return client.Run(name)
}

func (plainHelm) Test(_ context.Context, client *action.ReleaseTesting, name string) (*release.Release, error) {
	return client.Run(name)
}

func (plainHelm) Ran() *release.Release { return nil }

func (plainHelm) Ignored() string { return "" }

func (plainHelm) Recover(context.Context, string, helm3.RecoverOptions) (*helm3.Recovery, error) {
	return nil, errors.New("not of Helm's")
}

func (plainHelm) Abandon() bool { return false }

func (plainHelm) GiveUp() error { return nil }

// isolate lets the test, and what it starts, see none of the user's Helm and
// cluster: releases are kept in memory and nothing is contacted.
func isolate(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	for name, value := range map[string]string{
		"HELM_CACHE_HOME":                   filepath.Join(home, "cache"),
		"HELM_CONFIG_HOME":                  filepath.Join(home, "config"),
		"HELM_DATA_HOME":                    filepath.Join(home, "data"),
		"HELM_DEBUG":                        "",
		"HELM_DRIVER":                       "memory",
		"HELM_KUBEINSECURE_SKIP_TLS_VERIFY": "",
		"HELM_MEMORY_DRIVER_DATA":           filepath.Join("testdata", "releases.yaml"),
		"HELM_NAMESPACE":                    "",
		"HELM_PLUGIN_NAME":                  "",
		"KUBECONFIG":                        filepath.Join(home, "kubeconfig"),
		parallelismEnv:                      "",
	} {
		t.Setenv(name, value)
	}
}

// fakeAPI serves what Helm asks a cluster for when nothing is created there:
// its version and its resources.
func fakeAPI(t *testing.T) string {
	t.Helper()
	answers := map[string]string{
		"/version": `{"major":"1","minor":"36","gitVersion":"v1.36.0"}`,
		"/api":     `{"kind":"APIVersions","versions":["v1"]}`,
		"/apis":    `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`,
		"/api/v1":  `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"configmaps","namespaced":true,"kind":"ConfigMap"}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server.URL
}

// outcome is what a command line comes to.
type outcome struct {
	stdout, stderr string
	code           int
}

// runWith runs a command line with op in place of the real operation, unless
// it's nil. It also returns the options that op was given, nil if there was none.
func runWith(t *testing.T, op operation, args ...string) (outcome, *helm3.Options) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := newProgram(genericiooptions.IOStreams{In: new(bytes.Buffer), Out: &stdout, ErrOut: &stderr}, "0.0.1")
	var made *helm3.Options
	if op != nil {
		p.newOperation = func(_ *action.Configuration, opts helm3.Options) operation {
			made = &opts
			return op
		}
	}
	code := ExitCode(p.run(args))
	return outcome{stdout.String(), stderr.String(), code}, made
}
