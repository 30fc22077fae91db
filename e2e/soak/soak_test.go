// Package soak tests what many hooks, many operations and many at once do to the plugin and what the plugin leaves
// behind. With -whole it is the size that a large installation has; without, a size for every day.
package soak

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/cmd"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
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

func TestMain(m *testing.M) {
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
	goroutines  int
	memory      uint64 // bytes in use
	connections int
}

func measure(t *testing.T) usage {
	t.Helper()
	// What ends by itself, such as connections that are being closed, is given its time.
	var u usage
	for range 3 {
		runtime.GC()
		debug.FreeOSMemory()
	}
	u.goroutines = runtime.NumGoroutine()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	u.memory = memory.HeapInuse
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", file.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			u.connections++
		}
	}
	return u
}

// TestManyOperations of one process, one after another: after the first ones it holds on to no more than before.
func TestManyOperations(t *testing.T) {
	namespace := newNamespace(t)
	operations, warmUp := size(200, 20), size(20, 5)
	var first usage
	begin := time.Now()
	for i := range operations {
		if i == warmUp {
			first = measure(t)
		}
		var output bytes.Buffer
		streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: &output}
		err := cmd.Run(streams, []string{
			"upgrade", "--install", "often", bed.chart, "--namespace", namespace, "--hook-parallelism", "4",
			"--set-json", `tiers=[{"jobs":3,"duration":"0s","event":["pre-install","pre-upgrade"]}]`,
		}, "")
		if err != nil {
			t.Fatalf("operation %d: %v\n%s", i+1, err, output.String())
		}
	}
	last := measure(t)
	t.Logf("%d operations in %.0f s: from %+v to %+v", operations, time.Since(begin).Seconds(), first, last)
	if last.goroutines > first.goroutines+5 {
		var stacks [1 << 20]byte
		t.Errorf("goroutines: %d after %d operations, %d after %d:\n%s", first.goroutines, warmUp, last.goroutines, operations, stacks[:runtime.Stack(stacks[:], true)])
	}
	if last.connections > first.connections+2 {
		t.Errorf("connections: %d after %d operations, %d after %d", first.connections, warmUp, last.connections, operations)
	}
	if last.memory > first.memory+first.memory/4 {
		t.Errorf("memory: %d bytes after %d operations, %d after %d", first.memory, warmUp, last.memory, operations)
	}
}
