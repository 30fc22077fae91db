// Package soak tests what many hooks, many operations and many at once do to the plugin and what the plugin leaves
// behind. With -whole it is the size that a large installation has; without, a size for every day.
package soak

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

var whole = flag.Bool("whole", false, "run at the size of a large installation")

// bed is what all tests share.
var bed struct {
	plugin string
	chart  string
	plane  *controlplane.ControlPlane
	client kubernetes.Interface
	audit  *audit.Log
}

// operating as the first argument makes this program run operations rather than tests.
const operating = "operate-again-and-again"

func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == operating {
		if err := operateAgainAndAgain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
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
	root, err := filepath.Abs("../..")
	if err != nil {
		return 1, err
	}
	bed.audit = audit.NewLog()
	bed.plane, err = controlplane.Start(ctx, controlplane.Options{Binaries: filepath.Join(root, ".cache", "bin"), Audit: bed.audit})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, bed.plane.Stop()) }()
	if bed.client, err = kubernetes.NewForConfig(bed.plane.Config()); err != nil {
		return 1, err
	}
	for name, value := range map[string]string{
		"TMPDIR": bed.plane.Dir, "HOME": bed.plane.Dir, "KUBECONFIG": bed.plane.Kubeconfig,
		"HELM_CACHE_HOME": filepath.Join(bed.plane.Dir, "cache"), "HELM_CONFIG_HOME": filepath.Join(bed.plane.Dir, "config"),
	} {
		if err := os.Setenv(name, value); err != nil {
			return 1, err
		}
	}
	bed.chart = filepath.Join(root, "testdata", "charts", "tiers")
	bed.plugin = filepath.Join(bed.plane.Dir, "helm-parallel-hooks")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", bed.plugin, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("building the plugin: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// size returns one of two numbers.
func size(large, small int) int {
	if *whole {
		return large
	}
	return small
}

func newNamespace(t *testing.T) string {
	t.Helper()
	created, err := bed.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "soak-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created.Name
}

// operate runs the plugin and returns how much memory it took at most, in bytes.
func operate(t *testing.T, args ...string) int64 {
	t.Helper()
	command := exec.CommandContext(t.Context(), bed.plugin, args...)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		text := output.String()
		t.Fatalf("%q: %v\n%s", args, err, text[max(0, len(text)-5000):])
	}
	return command.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
}

// checkJobs checks that so many Jobs were created in a namespace, each once, and have succeeded.
func checkJobs(t *testing.T, namespace string, want int) {
	t.Helper()
	trail, err := bed.audit.Trail(t.Context(), bed.client, namespace)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, object := range trail.Of("jobs").Creates().Objects() {
		times[object]++
	}
	for object, n := range times {
		if n != 1 {
			t.Errorf("%s was created %d times", object, n)
		}
	}
	jobs, err := bed.client.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	succeeded := 0
	for _, job := range jobs.Items {
		for _, condition := range job.Status.Conditions {
			if condition.Type == batchv1.JobComplete && condition.Status == corev1.ConditionTrue {
				succeeded++
			}
		}
	}
	if len(times) != want || succeeded != want {
		t.Errorf("%d Jobs were created, %d have succeeded; want %d", len(times), succeeded, want)
	}
}

// TestManyHooks of one release.
func TestManyHooks(t *testing.T) {
	namespace := newNamespace(t)
	hooks, atOnce := size(2000, 100), size(200, 50)
	begin := time.Now()
	memory := operate(t, "install", "many", bed.chart, "--namespace", namespace, "--hook-parallelism", fmt.Sprint(atOnce), "--timeout", "20m",
		"--set-json", fmt.Sprintf(`tiers=[{"jobs":%d,"duration":"1s"}]`, hooks))
	t.Logf("%d hooks, %d at once: %.1f s, %d MB", hooks, atOnce, time.Since(begin).Seconds(), memory>>20)
	checkJobs(t, namespace, hooks)
	timeline, err := exec.CommandContext(t.Context(), bed.plugin, "timeline", "many", "--namespace", namespace).CombinedOutput()
	if err != nil || !strings.Contains(string(timeline), fmt.Sprintf("%d hooks in ", hooks)) {
		t.Errorf("timeline: %v\n%.500s", err, timeline)
	}
}

// TestManyReleases side by side.
func TestManyReleases(t *testing.T) {
	const hooks = 20
	releases := size(10, 3)
	begin := time.Now()
	t.Run("at once", func(t *testing.T) {
		for i := range releases {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				namespace := newNamespace(t)
				operate(t, "install", "one", bed.chart, "--namespace", namespace, "--hook-parallelism", "8", "--timeout", "20m",
					"--set-json", fmt.Sprintf(`tiers=[{"jobs":%d,"duration":"1s"}]`, hooks))
				checkJobs(t, namespace, hooks)
			})
		}
	})
	t.Logf("%d releases of %d hooks: %.1f s", releases, hooks, time.Since(begin).Seconds())
}

// usage is what a process holds on to.
type usage struct {
	Goroutines  int
	Memory      uint64 // bytes in use
	Connections int
}

func measure() (usage, error) {
	for range 3 {
		runtime.GC()
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	u := usage{Goroutines: runtime.NumGoroutine(), Memory: memory.HeapAlloc}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return u, err
	}
	for _, file := range files {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", file.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			u.Connections++
		}
	}
	return u, nil
}

// operateAgainAndAgain is the program that TestManyOperations runs: so many operations, one after another, in one
// process that does nothing else. It writes what the process holds on to after the first ones and after the last.
func operateAgainAndAgain(args []string) error {
	var count, warmUp int
	if _, err := fmt.Sscan(args[0]+" "+args[1], &count, &warmUp); err != nil {
		return err
	}
	chrt, err := loader.Load(args[2])
	if err != nil {
		return err
	}
	for i := 1; i <= count; i++ {
		if err := operation(chrt, args[3], i == 1); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
		if i != warmUp && i != count {
			continue
		}
		now, err := measure()
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(now); err != nil {
			return err
		}
	}
	return nil
}

// operation installs or upgrades a release as the plugin's commands do. These themselves hold on to what they have used
// until their process ends, by cobra's table of the completions of all flags that ever were.
func operation(chrt *chart.Chart, namespace string, first bool) error {
	retrier := hooks.NewRetrier()
	flags := genericclioptions.NewConfigFlags(false)
	flags.Namespace = &namespace
	flags.WithWrapConfigFn(func(config *rest.Config) *rest.Config {
		config.Wrap(retrier.Wrap)
		return config
	})
	cfg := new(action.Configuration)
	if err := cfg.Init(flags, namespace, "secret", func(string, ...any) {}); err != nil {
		return err
	}
	values := map[string]any{"tiers": []any{
		map[string]any{"jobs": 3, "duration": "0s", "event": []any{"pre-install", "pre-upgrade"}},
	}}
	operation := helm3.New(cfg, helm3.Options{Parallelism: 4, Retrier: retrier, FollowPods: true, LogTail: 10})
	if first {
		install := action.NewInstall(cfg)
		install.ReleaseName, install.Namespace, install.Timeout = "often", namespace, time.Minute
		_, err := operation.Install(context.Background(), install, chrt, values)
		return err
	}
	upgrade := action.NewUpgrade(cfg)
	upgrade.Namespace, upgrade.Timeout, upgrade.MaxHistory = namespace, time.Minute, 10
	_, err := operation.Upgrade(context.Background(), upgrade, "often", chrt, values)
	return err
}

// TestManyOperations of one process, one after another: after the first ones it holds on to no more than before.
func TestManyOperations(t *testing.T) {
	namespace := newNamespace(t)
	operations, warmUp := size(200, 20), size(20, 5)
	program := exec.CommandContext(t.Context(), os.Args[0], operating, fmt.Sprint(operations), fmt.Sprint(warmUp),
		bed.chart, namespace)
	var stderr bytes.Buffer
	program.Stderr = &stderr
	begin := time.Now()
	output, err := program.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var first, last usage
	written := json.NewDecoder(bytes.NewReader(output))
	if err := errors.Join(written.Decode(&first), written.Decode(&last)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations in %.0f s: from %+v after %d to %+v", operations, time.Since(begin).Seconds(), first, warmUp, last)
	if last.Goroutines > first.Goroutines+5 {
		t.Errorf("goroutines: %d after %d operations, %d after %d", first.Goroutines, warmUp, last.Goroutines, operations)
	}
	if last.Connections > first.Connections+2 {
		t.Errorf("connections: %d after %d operations, %d after %d", first.Connections, warmUp, last.Connections, operations)
	}
	if last.Memory > first.Memory+first.Memory/4 {
		t.Errorf("memory: %d bytes after %d operations, %d after %d", first.Memory, warmUp, last.Memory, operations)
	}
}
