package faults

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// releaseName is that of every release; each has a namespace of its own.
const releaseName = "r"

// parallelism is how many hooks may run at once.
const parallelism = 4

// longest is how long a command may take that no fault holds up for good: far more than any does.
const longest = 6 * time.Minute

// command is one of those that run hooks.
type command struct {
	name      string
	args      []string // what follows is the release's name
	chart     bool     // whether the chart's folder is an argument
	more      []string
	values    []string // flags that say the chart's values
	revisions int      // how many there are before
	phases    []string // the prefixes of the hooks that it runs
	status    string   // of its revision, if all goes well
	resources bool     // whether it changes any
}

var both = []string{"pre", "post"}

var commands = []command{
	{name: "install", args: []string{"install"}, chart: true, phases: both, status: "deployed", resources: true},
	{name: "upgrade", args: []string{"upgrade"}, chart: true, revisions: 1, phases: both, status: "deployed", resources: true},
	{name: "rollback", args: []string{"rollback"}, more: []string{"1"}, revisions: 2, phases: both, status: "deployed", resources: true},
	// The history is kept so that there is a record to judge.
	{name: "uninstall", args: []string{"uninstall"}, more: []string{"--keep-history"}, revisions: 1, phases: both, status: "uninstalled", resources: true},
	{name: "test", args: []string{"test"}, revisions: 1, phases: []string{"pre"}, status: "deployed"},
}

// cell is a command that meets a fault at a moment.
type cell struct {
	t         *testing.T
	fault     *fault
	command   command
	moment    string
	namespace string
	proxy     *proxy
	ended     chan struct{} // closed when the command has ended

	from, to     int64 // etcd's revisions before and after the command
	out          bytes.Buffer
	code         int
	took         time.Duration
	stillRunning bool // after longest
	problems     []string
}

// newCell prepares what the command needs: a namespace, a release and, as if from an earlier run, an object for each
// hook, so that there is something to delete before each hook is created.
func newCell(t *testing.T, f *fault, c command, moment string) *cell {
	t.Helper()
	created, err := bed.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "faults-"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cell := &cell{t: t, fault: f, command: c, moment: moment, namespace: created.Name, ended: make(chan struct{})}
	t.Cleanup(func() { bed.audit.Forget(cell.namespace) })
	if cell.proxy, err = newProxy(bed.plane.Config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cell.proxy.close)
	for range c.revisions {
		cell.helm(append([]string{"upgrade", "--install", releaseName, bed.chart, "--no-hooks", "--disable-openapi-validation"}, c.values...)...)
	}
	for _, h := range hooksOf(both) {
		cell.leftover(h)
	}
	return cell
}

// hook is one of the chart's.
type hook struct {
	phase, weight, name string
	job                 bool
	deleted             bool // once the event has succeeded
}

func (h hook) object() string {
	if h.job {
		return "jobs/" + h.name
	}
	return "configmaps/" + h.name
}

// hooksOf returns the hooks of these phases in the order in which their weights run, those first that set up.
func hooksOf(phases []string) []hook {
	var all []hook
	for _, phase := range phases {
		for _, weight := range []string{"0", "5"} {
			for i := range 2 {
				all = append(all, hook{phase, weight, fmt.Sprintf("%s-%s-settings-%d", phase, weight, i), false, i == 1})
			}
			for i := range 3 {
				all = append(all, hook{phase, weight, fmt.Sprintf("%s-%s-job-%d", phase, weight, i), true, i == 1})
			}
		}
	}
	return all
}

func (c *cell) leftover(h hook) {
	c.t.Helper()
	meta := metav1.ObjectMeta{Name: h.name}
	var err error
	if h.job {
		_, err = bed.client.BatchV1().Jobs(c.namespace).Create(c.t.Context(), &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
			Suspend: ptr.To(true),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "none"}},
			}},
		}}, metav1.CreateOptions{})
	} else {
		_, err = bed.client.CoreV1().ConfigMaps(c.namespace).Create(c.t.Context(), &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// environment is all that a command gets to see.
func (c *cell) environment(kubeconfig string) []string {
	home := c.t.TempDir()
	return []string{
		"PATH=" + bed.bin, "HOME=" + home, "TMPDIR=" + home, "KUBECONFIG=" + kubeconfig, "HELM_NAMESPACE=" + c.namespace,
		"HELM_DATA_HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home,
	}
}

// tryHelm runs the real helm, which knows of no proxy.
func (c *cell) tryHelm(args ...string) error {
	c.t.Helper()
	return c.try("helm", args...)
}

// try runs a program to whom nothing happens.
func (c *cell) try(program string, args ...string) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(bed.bin, program), args...)
	command.Env = c.environment(bed.plane.Kubeconfig)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
	}
	return nil
}

func (c *cell) helm(args ...string) {
	c.t.Helper()
	if err := c.tryHelm(args...); err != nil {
		c.t.Fatal(err)
	}
}

// run runs the command to its end, or to where it must have ended.
func (c *cell) run() {
	c.t.Helper()
	defer close(c.ended)
	kubeconfig := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err := c.proxy.writeKubeconfig(kubeconfig); err != nil {
		c.t.Fatal(err)
	}
	args := append(append([]string{}, c.command.args...), releaseName)
	if c.command.chart {
		args = append(append(args, bed.chart, "--disable-openapi-validation"), c.command.values...)
	}
	args = append(args, c.command.more...)
	timeout := c.fault.timeout
	if timeout == "" {
		timeout = "2m"
	}
	args = append(args, "--timeout", timeout, fmt.Sprintf("--hook-parallelism=%d", parallelism))

	c.from = c.revision()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(c.t.Context(), longest)
	defer cancel()
	plugin := exec.CommandContext(ctx, filepath.Join(bed.bin, "helm-parallel-hooks"), args...)
	plugin.Env = c.environment(kubeconfig)
	plugin.Stdout, plugin.Stderr = &c.out, &c.out
	plugin.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	plugin.Cancel = func() error { return plugin.Process.Signal(syscall.SIGQUIT) } // says where it hangs
	plugin.WaitDelay = 10 * time.Second
	_ = plugin.Run() // the process state says it all
	if plugin.ProcessState == nil {
		c.t.Fatalf("%v could not be started", plugin)
	}
	c.code, c.took, c.stillRunning = plugin.ProcessState.ExitCode(), time.Since(begin), ctx.Err() != nil
}

// revision returns etcd's revision.
func (c *cell) revision() int64 {
	c.t.Helper()
	revision, err := bed.etcd.now(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return revision
}

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

// after calls f in a while, unless the command has ended.
func (c *cell) after(d time.Duration, f func()) {
	go func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			f()
		case <-c.ended:
		}
	}()
}

// problem notes what is not as it should be.
func (c *cell) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// report fails the test if there are problems, with all that helps to understand them.
func (c *cell) report() {
	c.t.Helper()
	note(c)
	if len(c.problems) == 0 {
		return
	}
	for _, problem := range c.problems {
		c.t.Error(problem)
	}
	c.t.Logf("%s in namespace %s: exit code %d after %v\n%s", c.command.name, c.namespace, c.code, c.took, c.out.String())
	c.t.Logf("what passed the proxy:\n%s", c.proxy.log())
}
