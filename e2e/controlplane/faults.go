package controlplane

import (
	"context"
	"fmt"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Kill ends a process, one of [Binaries], without any notice, as a lack of memory does. Stop doesn't complain of it.
func (c *ControlPlane) Kill(name string) error { return c.processes.kill(name) }

// Restart runs a process that was killed again: at its ports, with its data and, for the API server, writing to the
// same audit log. It doesn't wait until it serves.
func (c *ControlPlane) Restart(name string) error { return c.processes.restart(name) }

// Pause stops a process as SIGSTOP does: it holds its connections, and answers nobody.
func (c *ControlPlane) Pause(name string) error { return c.processes.signal(name, syscall.SIGSTOP) }

// Resume has a paused process go on.
func (c *ControlPlane) Resume(name string) error { return c.processes.signal(name, syscall.SIGCONT) }

// KillAPIServer is Kill of the API server.
func (c *ControlPlane) KillAPIServer() error { return c.Kill("kube-apiserver") }

// StartAPIServer restarts the API server and returns when it's ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	if err := c.Restart("kube-apiserver"); err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

// WaitReady returns when the API server says that it's ready.
func (c *ControlPlane) WaitReady(ctx context.Context) error { return c.waitForAPIServer(ctx) }

// EtcdClient returns a client of the control plane's etcd, to be closed.
func (c *ControlPlane) EtcdClient() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{c.Etcd}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
}

// Compact makes etcd forget what objects were before now, and returns the revision that is now. A watch on a resource
// of [Options.Uncached] that would have to tell of what is forgotten is answered by 410 Gone.
func (c *ControlPlane) Compact(ctx context.Context) (revision int64, err error) {
	client, err := c.EtcdClient()
	if err != nil {
		return 0, fmt.Errorf("compacting etcd: %w", err)
	}
	defer client.Close()
	current, err := client.Get(ctx, "none", clientv3.WithCountOnly())
	if err == nil {
		_, err = client.Compact(ctx, current.Header.Revision)
	}
	if err != nil {
		return 0, fmt.Errorf("compacting etcd: %w", err)
	}
	return current.Header.Revision, nil
}
