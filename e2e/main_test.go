// Package e2e tests the plugin as its users run it: with the real helm, against a real control plane, judged by the
// API server's audit log. Scenarios that read as a shell session are in testdata/script.
package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/postgres"
)

// bed is what all tests share: a cluster, and both a Helm 3 and a Helm 4 that have the plugin.
var bed struct {
	root       string // of the repository
	temp       string // where temporary folders go that another user must be able to enter
	dir        string // temporary, and gone with the control plane
	kubeconfig string
	client     kubernetes.Interface
	audit      *audit.Log       // nil on a cluster that is not ours
	database   *postgres.Server // nil until a test asks for it
}

func TestMain(m *testing.M) {
	if ossignal.Ignored(syscall.SIGHUP) {
		// Under nohup; what is started would ignore it too, unless it is caught here.
		ossignal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = cmp.Or(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if bed.root, err = filepath.Abs(".."); err != nil {
		return 1, err
	}
	stop, err := findCluster(ctx)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	bed.temp = os.TempDir()
	// Whatever the tests leave on disk goes with the control plane, even if this process is killed.
	if err := os.Setenv("TMPDIR", bed.dir); err != nil {
		return 1, err
	}
	if err := installPlugin(ctx); err != nil {
		return 1, err
	}
	code = m.Run()
	if bed.database != nil {
		err = bed.database.Stop()
	}
	return code, err
}

// findCluster starts a control plane, unless E2E_KUBECONFIG names a cluster to use. It never looks at KUBECONFIG.
func findCluster(ctx context.Context) (stop func() error, err error) {
	if bed.kubeconfig = os.Getenv("E2E_KUBECONFIG"); bed.kubeconfig != "" {
		if bed.kubeconfig, err = filepath.Abs(bed.kubeconfig); err != nil {
			return nil, err
		}
		if bed.dir, err = os.MkdirTemp("", "parallel-hooks-"); err != nil {
			return nil, err
		}
		stop = func() error { return os.RemoveAll(bed.dir) }
	} else {
		bed.audit = audit.NewLog()
		plane, err := controlplane.Start(ctx, controlplane.Options{
			Binaries: filepath.Join(bed.root, ".cache", "bin"),
			Audit:    bed.audit,
		})
		if err != nil {
			return nil, err
		}
		bed.dir, bed.kubeconfig, stop = plane.Dir, plane.Kubeconfig, plane.Stop
	}
	config, err := clientcmd.BuildConfigFromFlags("", bed.kubeconfig)
	if err == nil {
		config.QPS = -1
		config.UserAgent = "parallel-hooks-test"
		bed.client, err = kubernetes.NewForConfig(config)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// installPlugin builds the plugin and has helm install it from a folder. That folder has the binary already, so that
// the tests run just this build; how the install script comes by a binary is for tests of its own. Helm 4 finds the
// plugin where Helm 3 has put it.
func installPlugin(ctx context.Context) error {
	folder, bin := filepath.Join(bed.dir, "plugin"), filepath.Join(bed.dir, "bin")
	for _, dir := range []string{filepath.Join(folder, "bin"), bin} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	binary := filepath.Join(folder, "bin", "helm-parallel-hooks")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	race := os.Getenv("E2E_RACE") != ""
	if race {
		args = append(args, "-race")
	}
	build := exec.CommandContext(ctx, "go", append(args, ".")...)
	build.Dir = bed.root
	build.Env = append(os.Environ(), "CGO_ENABLED="+map[bool]string{true: "1", false: "0"}[race])
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the plugin: %w\n%s", err, out)
	}
	for name, target := range map[string]string{
		"helm":                filepath.Join(bed.root, ".cache", "bin", "helm"),
		"helm4":               filepath.Join(bed.root, ".cache", "bin", "helm4"),
		"helm-parallel-hooks": binary,
	} {
		if _, err := os.Stat(target); err != nil {
			return fmt.Errorf("%w (build it with: make binaries)", err)
		}
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	if err := writeManifest(filepath.Join(folder, "plugin.yaml")); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(bed.root, "plugin.complete"), filepath.Join(folder, "plugin.complete")); err != nil {
		return err
	}
	install := exec.CommandContext(ctx, filepath.Join(bin, "helm"), "plugin", "install", folder)
	install.Env = environment(bed.dir)
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("installing the plugin: %w\n%s", err, out)
	}
	return nil
}

// writeManifest writes the plugin's manifest without the scripts that run on installation.
func writeManifest(path string) error {
	content, err := os.ReadFile(filepath.Join(bed.root, "plugin.yaml"))
	if err != nil {
		return err
	}
	var manifest map[string]any
	if err := yaml.Unmarshal(content, &manifest); err != nil {
		return fmt.Errorf("plugin.yaml: %w", err)
	}
	delete(manifest, "hooks")
	delete(manifest, "platformHooks")
	if content, err = yaml.Marshal(manifest); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// environment is all that commands get to see: the test's own tools and cluster, nothing of the user's Helm.
func environment(home string) []string {
	env := []string{
		"PATH=" + filepath.Join(bed.dir, "bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + home,
		"TMPDIR=" + bed.dir,
		"KUBECONFIG=" + bed.kubeconfig,
		"HELM_DATA_HOME=" + filepath.Join(bed.dir, "helm-data"),
		"HELM_CACHE_HOME=" + filepath.Join(home, "helm-cache"),
		"HELM_CONFIG_HOME=" + filepath.Join(home, "helm-config"),
		"CHARTS=" + filepath.Join(bed.root, "testdata", "charts"),
	}
	return env
}
