package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// The contestants, by their names in the results.
const (
	floor  = "floor"
	helm3  = "helm3"
	helm4  = "helm4"
	naive  = "naive"
	plugin = "plugin"
	// called is the plugin as users call it, through Helm 3.
	called = "plugin, called through helm"
)

// quantity is something that is measured of a contestant. Its name has the unit.
type quantity string

const (
	hooksTime   quantity = "hooks s" // from the first hook's beginning to the last one's end
	wholeTime   quantity = "whole s" // of the command
	firstTime   quantity = "hooks s, first install"
	aloneTime   quantity = "hooks s, empty namespace"
	silentTime  quantity = "hooks s, nothing shown"
	throughHelm quantity = "whole s, through helm"
	peakMemory  quantity = "peak MB"
	aloneMem    quantity = "peak MB, empty namespace"
	requests    quantity = "requests"
	records     quantity = "records"
	recordSize  quantity = "records MB"
	initTime    quantity = "init ms"
	initMem     quantity = "init kB"
	perHook     quantity = "ns"
	perHookMem  quantity = "B"
)

// sample is what was measured of one contestant in one repetition.
type sample map[quantity]float64

// contestant takes part in a row.
type contestant struct {
	name string
	// once says that it's too slow to be repeated.
	once bool
	// slow says that it's not repeated more often in a brief row than in others.
	slow bool
	// run takes part once, in a cluster that has come to rest.
	run func(context.Context, *trial) (sample, error)
}

// trial is one contestant's turn.
type trial struct {
	*bench
	*cluster
	namespaces *[]string // to be removed when all contestants have had their turn
}

func (t *trial) namespace(ctx context.Context) (string, error) {
	name, err := t.cluster.namespace(ctx)
	if name != "" {
		*t.namespaces = append(*t.namespaces, name)
	}
	return name, err
}

const releaseName = "bench"

// onFloor runs the workload without Helm.
func onFloor(w workload, parallelism int) contestant {
	return contestant{name: floor, run: func(ctx context.Context, t *trial) (sample, error) {
		namespace, err := t.namespace(ctx)
		if err != nil {
			return nil, err
		}
		return t.onFloor(ctx, floorRun{namespace: namespace, workload: w, parallelism: parallelism})
	}}
}

func (t *trial) onFloor(ctx context.Context, run floorRun) (sample, error) {
	run.client = t.floor
	if run.release == "" {
		run.release = releaseName
	}
	if run.ended == nil && run.workload.kind != "ConfigMap" {
		run.ended = succeeded
	}
	took, err := run.run(ctx)
	if err != nil {
		return nil, err
	}
	return sample{hooksTime: took.Seconds(), wholeTime: took.Seconds()}, nil
}

// installs has a contestant install a chart in a new namespace.
func installs(name string, w workload, parallelism int, flags ...string) contestant {
	return contestant{name: name, run: func(ctx context.Context, t *trial) (sample, error) {
		namespace, err := t.namespace(ctx)
		if err != nil {
			return nil, err
		}
		return t.install(ctx, name, namespace, releaseName, w, parallelism, flags...)
	}}
}

func (t *trial) install(
	ctx context.Context, contestant, namespace, release string, w workload, parallelism int, flags ...string,
) (sample, error) {
	chart, err := t.chart(w)
	if err != nil {
		return nil, err
	}
	args := []string{"install", release, chart}
	if contestant == naive {
		args = []string{release, chart}
	}
	c := command{binary: contestant, namespace: namespace, release: release, args: append(args, flags...)}
	if !slices.Contains(flags, "--no-hooks") {
		c.expect(w, parallelism)
	}
	return t.command(ctx, c)
}

// then runs another command on an installed release, once the cluster has come to rest.
func (t *trial) then(
	ctx context.Context, contestant, namespace string, w workload, parallelism int, args ...string,
) (sample, error) {
	c := command{binary: contestant, namespace: namespace, release: releaseName, args: args}
	c.expect(w, parallelism)
	if err := settle(ctx); err != nil {
		return nil, err
	}
	return t.command(ctx, c)
}

// settle lets the cluster come to rest: what the controllers still do for Jobs that have just ended must be no part of
// what is measured next.
func settle(ctx context.Context) error {
	select {
	case <-time.After(3 * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// command is a command of a contestant.
type command struct {
	binary             string
	namespace, release string
	args               []string
	// stdout is where that goes; nil: only errors show it.
	stdout io.Writer
	// terminal has the command see a terminal.
	terminal bool
	// workload is the hooks that it runs, of which no more than parallelism at once; none: no matter.
	workload    workload
	parallelism int
}

// expect says which hooks have to run, and how many at once.
func (c *command) expect(w workload, parallelism int) {
	c.workload, c.parallelism = w, parallelism
	if c.binary == helm3 || c.binary == helm4 {
		c.parallelism = 1
	}
	args := []string{"--timeout", "1h"}
	if c.binary == plugin || c.binary == called || c.binary == naive {
		args = append(args, "--hook-parallelism", strconv.Itoa(parallelism))
	}
	if c.binary == naive {
		c.args = append(args, c.args...) // package flag wants them first
	} else {
		c.args = append(c.args, args...)
	}
}

// command runs a command, and returns what can be measured of it here.
func (t *trial) command(ctx context.Context, c command) (sample, error) {
	measured, begin, err := t.execute(ctx, c)
	if err != nil || c.workload.count == 0 {
		return measured, err
	}
	first, last, err := t.recorded(ctx, c, begin)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.binary, strings.Join(c.args, " "), err)
	}
	if t.audit != nil {
		trail, err := t.cluster.requests(ctx, c.namespace)
		if err != nil {
			return nil, err
		}
		trail = trail.Where(func(r audit.Request) bool { return r.ReceivedAt.After(begin) })
		written := trail.Of("secrets").Where(func(r audit.Request) bool {
			return (r.Verb == "create" || r.Verb == "update" || r.Verb == "patch") && r.Code < 300
		})
		bytes := 0
		for _, r := range written {
			bytes += len(r.RequestBody)
		}
		measured[requests] = float64(len(trail))
		measured[records] = float64(len(written))
		measured[recordSize] = float64(bytes) / 1e6
		// The record knows only when a hook was created. The log has what was deleted for it before, too.
		for _, r := range trail.Of("jobs", "pods") {
			if r.ReceivedAt.Before(first) {
				first = r.ReceivedAt
			}
		}
	}
	measured[hooksTime] = last.Sub(first).Seconds()
	return measured, nil
}

// execute runs a command with settings of its own: its first requests to a cluster are as many as on a machine that
// has never seen the cluster.
func (t *trial) execute(ctx context.Context, c command) (_ sample, begin time.Time, err error) {
	home, err := os.MkdirTemp(t.dir, "home-")
	if err != nil {
		return nil, begin, err
	}
	defer func() { _ = os.RemoveAll(home) }()
	binary, args := c.binary, c.args
	if binary == called {
		binary, args = helm3, append([]string{"parallel-hooks"}, args...)
	}
	cmd := exec.CommandContext(ctx, t.binaries[binary], args...)
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + t.dir,
		"HELM_NAMESPACE=" + c.namespace, "HELM_PLUGINS=" + t.plugins,
	}
	if t.cluster != nil {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+t.kubeconfig)
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	seen := func() {}
	if c.terminal {
		if seen, err = onTerminal(cmd, &output); err != nil {
			return nil, begin, err
		}
	}
	begin = time.Now()
	peak := 0.0
	if err = cmd.Start(); err == nil {
		stop := watchMemory(cmd.Process.Pid)
		err = cmd.Wait()
		peak = stop()
	}
	seen()
	took := time.Since(begin)
	if err != nil {
		return nil, begin, fmt.Errorf("%s %s: %w\n%s", c.binary, strings.Join(c.args, " "), err, output.Bytes())
	}
	return sample{wholeTime: took.Seconds(), peakMemory: peak}, begin, nil
}

// onTerminal gives a command that is about to start a terminal, of which output takes what it shows. The function that
// it returns takes the terminal away.
func onTerminal(cmd *exec.Cmd, output io.Writer) (remove func(), err error) {
	ours, theirs, err := pty.Open()
	if err != nil {
		return nil, err
	}
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 50, Cols: 160}); err != nil {
		return nil, errors.Join(err, ours.Close(), theirs.Close())
	}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	var shown sync.WaitGroup
	shown.Go(func() { _, _ = io.Copy(output, ours) }) // ends with an error when the other side is closed
	return func() {
		_ = theirs.Close()
		shown.Wait()
		_ = ours.Close()
	}, nil
}

// watchMemory reads from time to time what a process's memory was at most, until the function that it returns is called,
// which returns the last figure in MB. What wait(2) says of a child's memory is no less than the bench's own, which it
// was before it became the child.
func watchMemory(pid int) (stop func() float64) {
	done, peak := make(chan struct{}), make(chan float64)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		last := 0.0
		for {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			for line := range strings.Lines(string(status)) {
				var kib float64
				if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil && n == 1 {
					last = kib * 1024 / 1e6
				}
			}
			select {
			case <-ticker.C:
			case <-done:
				peak <- last
				return
			}
		}
	}()
	return func() float64 {
		close(done)
		return <-peak
	}
}

// recorded returns when the first hook began and the last one ended, by the record of a release. It fails unless all
// hooks have run since begin, and well, no more of them at once than may, and the cluster bears the record out: what was
// not done takes no time.
func (t *trial) recorded(ctx context.Context, c command, begin time.Time) (first, last time.Time, err error) {
	stored, err := storage.Init(driver.NewSecrets(t.client.CoreV1().Secrets(c.namespace))).Last(c.release)
	if err != nil {
		return first, last, err
	}
	ran := map[string]bool{}
	var runs []audit.Run
	for _, h := range stored.Hooks {
		if !slices.ContainsFunc(h.Events, func(e release.HookEvent) bool {
			return slices.Contains(strings.Split(c.workload.event, ","), e.String())
		}) {
			continue
		}
		run := h.LastRun
		if run.Phase != release.HookPhaseSucceeded || run.StartedAt.Time.Before(begin) {
			return first, last, fmt.Errorf("the record says of hook %s: %s, started at %v", h.Name, run.Phase, run.StartedAt)
		}
		ran[h.Name] = true
		runs = append(runs, audit.Run{Created: run.StartedAt.UnixNano(), Ended: run.CompletedAt.UnixNano()})
		if first.IsZero() || run.StartedAt.Time.Before(first) {
			first = run.StartedAt.Time
		}
		if run.CompletedAt.Time.After(last) {
			last = run.CompletedAt.Time
		}
	}
	if len(ran) != c.workload.count {
		return first, last, fmt.Errorf("the record has %d hooks, want %d", len(ran), c.workload.count)
	}
	if most := audit.MaxActive(runs); most > c.parallelism {
		return first, last, fmt.Errorf("%d hooks ran at once, and no more than %d may", most, c.parallelism)
	}
	return first, last, t.cluster.bearsOut(ctx, c, ran, begin, last)
}

// bearsOut returns an error unless all objects of these names were created after begin and have ended well before end, as
// the cluster itself says. Its times are in whole seconds, rounded down.
func (c *cluster) bearsOut(ctx context.Context, cmd command, names map[string]bool, begin, end time.Time) error {
	var objects []metav1.Object
	ended := map[string]time.Time{}
	all := metav1.ListOptions{}
	switch cmd.workload.kind {
	case "Job":
		jobs, err := c.client.BatchV1().Jobs(cmd.namespace).List(ctx, all)
		if err != nil {
			return err
		}
		for i := range jobs.Items {
			job := &jobs.Items[i]
			objects = append(objects, job)
			if done, err := succeeded(job); done && err == nil && job.Status.CompletionTime != nil {
				ended[job.Name] = job.Status.CompletionTime.Time
			}
		}
	case "Pod":
		pods, err := c.client.CoreV1().Pods(cmd.namespace).List(ctx, all)
		if err != nil {
			return err
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			objects = append(objects, pod)
			if done, err := succeeded(pod); done && err == nil {
				ended[pod.Name] = end // a pod says when its containers ended, not when it was known
			}
		}
	case "ConfigMap":
		maps, err := c.client.CoreV1().ConfigMaps(cmd.namespace).List(ctx, all)
		if err != nil {
			return err
		}
		for i := range maps.Items {
			objects = append(objects, &maps.Items[i])
			ended[maps.Items[i].Name] = end
		}
	}
	found := 0
	for _, object := range objects {
		if !names[object.GetName()] {
			continue
		}
		found++
		at, ok := ended[object.GetName()]
		if created := object.GetCreationTimestamp().Time; !ok || created.Before(begin.Truncate(time.Second)) || at.After(end) {
			return fmt.Errorf("the cluster doesn't bear out the record of %s %s: created at %v, ended at %v", cmd.workload.kind, object.GetName(), created, at)
		}
	}
	if found != len(names) {
		return fmt.Errorf("the cluster has %d of the %d objects that the record says were created", found, len(names))
	}
	return nil
}

// chart returns the folder of a chart with the workload.
func (b *bench) chart(w workload) (string, error) {
	dir := filepath.Join(b.dir, "charts", fmt.Sprintf("%s-%d-%s-%s-%d", w.kind, w.count, w.duration, w.event, w.ballast))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, w.writeChart(dir)
}
