package controlplane

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// TestFaults: what a test does to the control plane it can undo, and nothing that was stored gets lost.
func TestFaults(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	binaries, err := filepath.Abs("../../.cache/bin")
	if err != nil {
		t.Fatal(err)
	}
	var audit lockedBuffer
	c, err := Start(ctx, Options{Binaries: binaries, Audit: &audit, Uncached: []string{"jobs.batch"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("Stop() = %v", err)
		}
	})
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	createConfigMap := func(ctx context.Context, name string) error {
		_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}

	if err := createConfigMap(ctx, "before"); err != nil {
		t.Fatal(err)
	}
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := createConfigMap(ctx, "meanwhile"); err == nil {
		t.Error("a killed API server has created an object")
	}
	if err := c.Kill("kube-apiserver"); err == nil {
		t.Error("killing what isn't running: no error")
	}
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().ConfigMaps("default").Get(ctx, "before", metav1.GetOptions{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := createConfigMap(ctx, "after"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the audit log goes on", func() bool { return bytes.Contains(audit.bytes(), []byte(`"name":"after"`)) })

	if err := c.Kill("etcd"); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart("etcd"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server finds etcd again", func() bool {
		_, err := client.CoreV1().ConfigMaps("default").Get(ctx, "after", metav1.GetOptions{})
		return err == nil
	})

	if err := c.Pause("etcd"); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	if err := createConfigMap(short, "paused"); err == nil {
		t.Error("an object was created while etcd was stopped")
	}
	stop()
	if err := c.Resume("etcd"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "etcd goes on", func() bool { return createConfigMap(ctx, "resumed") == nil })

	job, err := client.BatchV1().Jobs("default").Create(ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "old"},
		Spec: batchv1.JobSpec{
			Suspend:  ptr.To(true),
			Template: corev1.PodTemplateSpec{Spec: podSpec(corev1.RestartPolicyNever)},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The revision of the compaction itself is kept, so that two have to follow for one to be lost.
	for _, name := range []string{"later", "last"} {
		if err := createConfigMap(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	events, err := client.BatchV1().Jobs("default").Watch(ctx, metav1.ListOptions{ResourceVersion: job.ResourceVersion})
	if err == nil {
		defer events.Stop()
		event := <-events.ResultChan()
		if event.Type != watch.Error {
			t.Fatalf("first event of a watch from before the compaction: %v %v, want an error", event.Type, event.Object)
		}
		err = apierrors.FromObject(event.Object)
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("a watch from before the compaction ended with %v, want 410 Gone", err)
	}
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(piece []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(piece)
}

func (b *lockedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buffer.Bytes())
}

// TestKilledChildComesBack: its end is no error, what it had begun to write is dropped, and its log goes on.
func TestKilledChildComesBack(t *testing.T) {
	group, err := newProcessGroup("/bin", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	script := "echo run >&2; echo whole; printf half; echo half >&2; exec sleep 600"
	if err := group.start("sh", &out, "-c", script); err != nil {
		t.Fatal(err)
	}
	log := group.children[0].log
	eventually(t, "it has begun a line", func() bool { return len(tail(log, 2)) == len("\trun\n\thalf\n") })
	eventually(t, "the whole line has come", func() bool { return string(out.bytes()) == "whole\n" })
	if err := group.kill("sh"); err != nil {
		t.Fatal(err)
	}
	if err := group.restart("sh"); err != nil {
		t.Fatal(err)
	}
	if err := group.restart("sh"); err == nil {
		t.Error("restarting what is running: no error")
	}
	eventually(t, "its log goes on", func() bool { return tail(log, 9) == "\trun\n\thalf\n\trun\n\thalf\n" })
	eventually(t, "its output goes on", func() bool { return string(out.bytes()) == "whole\nwhole\n" })
	if err := group.stop(); err != nil {
		t.Errorf("stop() = %v", err)
	}
}
