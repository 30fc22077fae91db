// Package controlplane runs a real Kubernetes control plane on loopback, without containers: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler as child processes, and kwok in the place of a node. What a pod does
// (how long it runs, how it ends, what it logs) is said by its annotations; see [DurationAnnotation],
// [ExitCodeAnnotation], [WaitingAnnotation], [LogsAnnotation] and
// [LogRateAnnotation].
package controlplane

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/ports"
)

// The annotations by which a pod tells the simulated node what to do. A Job passes them on through its pod template.
const (
	// DurationAnnotation is how long the containers run, as a Go duration; without it they end at once. It counts
	// for pods that are meant to end (restartPolicy Never or OnFailure); all others become ready and stay so.
	DurationAnnotation = "parallel-hooks.test/duration"
	// ExitCodeAnnotation is what the containers exit with, 0 without it. Anything else makes the pod Failed, also
	// under restartPolicy OnFailure: nothing is restarted here.
	ExitCodeAnnotation = "parallel-hooks.test/exit-code"
	// WaitingAnnotation has the containers never start but wait, for this reason.
	WaitingAnnotation = "parallel-hooks.test/waiting"
	// LogsAnnotation is what each container has logged. Without it that is one line that names the container.
	LogsAnnotation = "parallel-hooks.test/logs"
	// LogRateAnnotation is how many lines a second each container logs while it runs, instead: "line 0", "line 1", ...
	// as many as it runs by DurationAnnotation.
	LogRateAnnotation = "parallel-hooks.test/log-rate"
)

// The names of the binaries that Start expects in Options.Binaries.
var Binaries = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"}

var (
	//go:embed audit-policy.yaml
	auditPolicy []byte
	//go:embed scheduler.yaml
	schedulerConfig []byte
	//go:embed kwok.yaml
	kwokConfig []byte
)

// Options says what to start.
type Options struct {
	// Binaries is the folder that holds the programs named by [Binaries]. Kubernetes' own are taken from the folder
	// that the environment variable E2E_KUBERNETES names, if it does, so that any test can run on another version.
	Binaries string
	// Audit receives the API server's audit events, one JSON object a line, while the control plane runs. Writes
	// come from one goroutine, whole lines each. Nil turns auditing off.
	Audit io.Writer
	// Uncached are resources, as in "jobs.batch", that the API server doesn't keep in its watch cache, so that a watch
	// on them can go back in time as far as etcd can; see [ControlPlane.Compact].
	Uncached []string
}

func programPath(binaries, name string) string {
	if other := os.Getenv("E2E_KUBERNETES"); other != "" && strings.HasPrefix(name, "kube-") {
		return filepath.Join(other, name)
	}
	return filepath.Join(binaries, name)
}

// ControlPlane is a running control plane. Its user is a cluster admin.
type ControlPlane struct {
	// Dir is a folder for this control plane alone. It vanishes with the control plane, also when this process is
	// killed, so it is a good place for whatever else a test run leaves on disk.
	Dir string
	// Kubeconfig is the path of a kubeconfig file for it.
	Kubeconfig string
	// Etcd is the URL at which etcd serves, without credentials.
	Etcd string

	config    *rest.Config
	processes *processGroup
	logs      *logServer
}

// Start starts a control plane and returns when pods can be run on it. If ctx ends before that, Start cleans up and
// returns an error; after that, ctx has no effect, and the caller must call Stop.
func Start(ctx context.Context, options Options) (_ *ControlPlane, err error) {
	for _, name := range Binaries {
		if _, err := os.Stat(programPath(options.Binaries, name)); err != nil {
			return nil, fmt.Errorf("control plane: %w (build it with: make binaries)", err)
		}
	}
	dir, err := os.MkdirTemp("", "parallel-hooks-")
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	c := &ControlPlane{Dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("control plane: %w", err), c.Stop())
		}
	}()
	if c.processes, err = newProcessGroup(options.Binaries, dir); err != nil {
		return nil, err
	}
	ctx, cancel := c.processes.failWith(ctx)
	defer cancel()
	if err := c.start(ctx, options); err != nil {
		// Whichever process died is the better explanation of a call that failed.
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context, options Options) error {
	free, err := ports.Free(2)
	if err != nil {
		return err
	}
	etcdPort, apiPort := free[0], free[1]
	files, err := writeCredentials(c.Dir, apiPort)
	if err != nil {
		return err
	}
	c.Kubeconfig = files.kubeconfig
	c.Etcd = fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	for name, content := range map[string][]byte{
		"audit-policy.yaml": auditPolicy,
		"kwok.yaml":         kwokConfig,
		"scheduler.yaml":    fmt.Appendf(nil, string(schedulerConfig), files.kubeconfig),
	} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), content, 0o600); err != nil {
			return err
		}
	}
	c.config, err = restConfig(files.kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return err
	}
	if c.logs, err = serveLogs(client, files); err != nil {
		return err
	}

	// The API server waits for etcd by itself, so both start at once.
	if err := c.processes.start("etcd", nil, c.etcdArgs()...); err != nil {
		return err
	}
	if err := c.processes.start("kube-apiserver", options.Audit, c.apiServerArgs(files, apiPort, options)...); err != nil {
		return err
	}
	if err := c.waitForAPIServer(ctx); err != nil {
		return err
	}
	for name, args := range map[string][]string{
		"kube-controller-manager": controllerManagerArgs(files),
		"kube-scheduler":          {"--config=" + filepath.Join(c.Dir, "scheduler.yaml"), "--secure-port=0"},
		"kwok": {
			"--config=" + filepath.Join(c.Dir, "kwok.yaml"),
			"--kubeconfig=" + files.kubeconfig,
			"--manage-all-nodes",
			"--node-ip=127.0.0.1",
			fmt.Sprintf("--node-port=%d", c.logs.port),
			// Without an address kwok would listen on the node port, on every interface.
			"--server-address=127.0.0.1:0",
		},
	} {
		if err := c.processes.start(name, nil, args...); err != nil {
			return err
		}
	}
	return prepareCluster(ctx, client)
}

func (c *ControlPlane) etcdArgs() []string {
	return []string{
		"--data-dir=" + filepath.Join(c.Dir, "etcd"),
		"--listen-client-urls=" + c.Etcd,
		"--advertise-client-urls=" + c.Etcd,
		"--listen-peer-urls=http://127.0.0.1:0",
		// The data need not outlive the process.
		"--unsafe-no-fsync",
	}
}

func (c *ControlPlane) apiServerArgs(files *credentials, port int, options Options) []string {
	args := []string{
		"--etcd-servers=" + c.Etcd,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--cert-dir=" + c.Dir,
		"--tls-cert-file=" + files.servingCert,
		"--tls-private-key-file=" + files.servingKey,
		"--client-ca-file=" + files.ca,
		"--kubelet-certificate-authority=" + files.ca,
		"--kubelet-client-certificate=" + files.adminCert,
		"--kubelet-client-key=" + files.adminKey,
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + files.serviceAccountPublicKey,
		"--service-account-signing-key-file=" + files.serviceAccountKey,
		"--service-cluster-ip-range=10.0.0.0/16",
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		// A loopback address cannot be an endpoint of the service "kubernetes", and nothing here asks for it.
		"--endpoint-reconciler-type=none",
		// The one node is ready whatever happens; see also the controllers left out of the controller manager.
		"--disable-admission-plugins=TaintNodesByCondition",
	}
	for _, resource := range options.Uncached {
		args = append(args, "--watch-cache-sizes="+resource+"#0")
	}
	if options.Audit != nil {
		args = append(args,
			"--audit-policy-file="+filepath.Join(c.Dir, "audit-policy.yaml"),
			// Standard output is a pipe to us, so nobody has to watch a file grow.
			"--audit-log-path=-",
			"--audit-log-mode=blocking",
		)
	}
	return args
}

func controllerManagerArgs(files *credentials) []string {
	return []string{
		"--kubeconfig=" + files.kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--root-ca-file=" + files.ca,
		"--service-account-private-key-file=" + files.serviceAccountKey,
		// Each controller shows up in the audit log under its own name.
		"--use-service-account-credentials=true",
		// A node whose heartbeat is late on a busy machine must not lose its pods.
		"--controllers=*,-node-lifecycle-controller,-horizontal-pod-autoscaler-controller",
		// The defaults, 20 requests a second, would make hundreds of Jobs wait for the client's limiter.
		"--kube-api-qps=2000",
		"--kube-api-burst=4000",
		"--concurrent-job-syncs=50",
		"--concurrent-namespace-syncs=50",
	}
}

// waitForAPIServer asks until the answer is yes: there is nothing to watch before the server serves.
func (c *ControlPlane) waitForAPIServer(ctx context.Context) error {
	client, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.config.Host+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for kube-apiserver: %w", context.Cause(ctx))
		}
	}
}

// Config returns a client configuration without a client-side rate limit.
func (c *ControlPlane) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Stop ends all processes and removes Dir. The error says which of them had died before.
func (c *ControlPlane) Stop() error {
	var errs []error
	if c.logs != nil {
		errs = append(errs, c.logs.stop())
	}
	if c.processes != nil {
		errs = append(errs, c.processes.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(c.Dir))...)
}
