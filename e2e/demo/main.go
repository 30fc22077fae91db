// Demo installs a chart with many hooks twice, with plain helm and with helm parallel-hooks, on a Kubernetes control
// plane that it starts for that, and shows what ran when. It leaves nothing behind.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
)

const chart = "testdata/charts/shop"

// interrupted is what the demo returns after Ctrl-C and the like; what was under way then only failed because of it.
type interrupted struct{ os.Signal }

func (i interrupted) Error() string { return "stopped by signal: " + i.String() }

// leftover says what could not be cleaned up.
type leftover struct{ error }

func (l leftover) Unwrap() error { return l.error }

func main() {
	ctx, stop := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		stop(interrupted{<-signals})
		// Nobody reads further signals: cleaning up takes a second, and must not be cut short.
	}()
	err := demo(ctx, os.Stdout)
	var by interrupted
	var left leftover
	switch {
	case errors.As(context.Cause(ctx), &by):
		if errors.As(err, &left) {
			fmt.Fprintf(os.Stderr, "\ndemo: %v; cleaning up: %v\n", by, left)
		} else {
			fmt.Fprintf(os.Stderr, "\ndemo: %v; everything is cleaned up\n", by)
		}
		os.Exit(128 + int(by.Signal.(syscall.Signal)))
	case err != nil:
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, out io.Writer) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, chart)); err != nil {
		return fmt.Errorf("%w (start the demo with: make demo)", err)
	}
	s, err := newStage(ctx, root, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	if err := s.installPlugin(ctx); err != nil {
		return err
	}
	serial, err := s.install(ctx, "demo-serial", "install", "shop", chart)
	if err != nil {
		return err
	}
	parallel, err := s.install(ctx, "demo-parallel", "parallel-hooks", "install", "shop", chart, "--hook-parallelism", "8")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%-32s %6.1f s\n", "helm install", serial.Seconds())
	fmt.Fprintf(out, "%-32s %6.1f s   %.1f times as fast\n", "helm parallel-hooks install",
		parallel.Seconds(), serial.Seconds()/parallel.Seconds())
	return nil
}

// stage is where the demo takes place: a cluster, and a helm with settings of its own.
type stage struct {
	out    io.Writer
	root   string // of the repository
	dir    string // temporary
	env    []string
	client kubernetes.Interface
	plane  *controlplane.ControlPlane // nil on a cluster that was there before
	made   []string                   // namespaces
}

func newStage(ctx context.Context, root string, out io.Writer) (_ *stage, err error) {
	s := &stage{out: out, root: root}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	// KUBECONFIG and its default are never looked at: what they name may be somebody's production.
	kubeconfig := os.Getenv("DEMO_KUBECONFIG")
	if kubeconfig != "" {
		if kubeconfig, err = filepath.Abs(kubeconfig); err != nil {
			return nil, err
		}
		if s.dir, err = os.MkdirTemp("", "parallel-hooks-"); err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "Using the cluster of %s.\n", kubeconfig)
	} else {
		begin := time.Now()
		s.plane, err = controlplane.Start(ctx, controlplane.Options{Binaries: filepath.Join(root, ".cache", "bin")})
		if err != nil {
			return nil, err
		}
		s.dir, kubeconfig = s.plane.Dir, s.plane.Kubeconfig
		fmt.Fprintf(out, "Started a Kubernetes control plane on loopback in %.1f s.\n", time.Since(begin).Seconds())
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	if s.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	s.env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "HELM_") || strings.HasPrefix(variable, "KUBE")
	})
	s.env = append(s.env,
		"KUBECONFIG="+kubeconfig,
		"HELM_DATA_HOME="+filepath.Join(s.dir, "helm-data"),
		"HELM_CACHE_HOME="+filepath.Join(s.dir, "helm-cache"),
		"HELM_CONFIG_HOME="+filepath.Join(s.dir, "helm-config"),
	)
	return s, nil
}

// close undoes all that the stage did. It has no context: an interrupted demo cleans up as well.
func (s *stage) close() error {
	if err := s.undo(); err != nil {
		return leftover{err}
	}
	return nil
}

func (s *stage) undo() error {
	if s.plane != nil {
		return s.plane.Stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, namespace := range s.made {
		if err := s.client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil {
			errs = append(errs, fmt.Errorf("deleting namespace %s: %w", namespace, err))
		}
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// installPlugin installs the plugin as users do, from a git repository: this one.
func (s *stage) installPlugin(ctx context.Context) error {
	// If git fails here, it fails below again, with an error that says more.
	if changed, err := s.command(ctx, "git", "status", "--porcelain").Output(); err == nil && len(changed) > 0 {
		fmt.Fprintln(s.out, "NOTE: helm installs the last commit; what is not committed is not in it.")
	}
	url := "file://" + s.root
	fmt.Fprintf(s.out, "Installing the plugin, which builds it (several minutes the first time):\n  $ helm plugin install %s\n", url)
	begin := time.Now()
	if err := s.helm(ctx, "plugin", "install", url); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "  %.1f s\n", time.Since(begin).Seconds())
	return nil
}

// install runs one helm command in a new namespace, and shows the Jobs that ran meanwhile.
func (s *stage) install(ctx context.Context, namespace string, args ...string) (time.Duration, error) {
	// A namespace that is there already is somebody's; creating it fails then.
	if _, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
	}, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("creating namespace %s: %w", namespace, err)
	}
	s.made = append(s.made, namespace)

	args = append(args, "--namespace", namespace)
	fmt.Fprintf(s.out, "\n$ helm %s\n", wrap(args))
	jobs, err := watchJobs(ctx, s.client, namespace, s.out)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	err = s.helm(ctx, args...)
	took := time.Since(begin)
	runs := jobs.stop()
	if err != nil {
		return 0, err
	}
	chartOf(s.out, runs, begin, took)
	return took, nil
}

// wrap breaks a command line before its first flag if it is too long for a terminal.
func wrap(args []string) string {
	line := strings.Join(args, " ")
	if len(line) > 70 {
		line = strings.Replace(line, " --", " \\\n    --", 1)
	}
	return line
}

// helm runs helm, whose output is only of interest if it fails.
func (s *stage) helm(ctx context.Context, args ...string) error {
	cmd := s.command(ctx, filepath.Join(s.root, ".cache", "bin", "helm"), args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, output.Bytes())
	}
	return nil
}

// command makes a command that ends, with all its children, when the context does: by Ctrl-C first, so that it can
// leave a true record in a cluster that is not ours.
func (s *stage) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = s.root, s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if s.plane != nil {
			return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	}
	cmd.WaitDelay = 30 * time.Second
	return cmd
}
