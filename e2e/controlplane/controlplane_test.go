package controlplane

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// TestControlPlane starts one control plane and checks on it, side by side, everything that the suites rely on.
func TestControlPlane(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	binaries, err := filepath.Abs("../../.cache/bin")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	c, err := Start(ctx, Options{Binaries: binaries, Audit: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %v", time.Since(begin).Round(10*time.Millisecond))
	t.Cleanup(func() {
		begin := time.Now()
		if err := c.Stop(); err != nil {
			t.Errorf("Stop() = %v", err)
		}
		if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
			t.Errorf("after Stop, Stat(Dir) = %v, want: does not exist", err)
		}
		t.Logf("stopped in %v", time.Since(begin).Round(10*time.Millisecond))
	})
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}

	t.Run("group", func(t *testing.T) {
		t.Run("job succeeds", func(t *testing.T) {
			t.Parallel()
			job := runJob(ctx, t, client, "good", map[string]string{DurationAnnotation: "2s"})
			if got := job.Status.Succeeded; got != 1 {
				t.Errorf("succeeded pods = %d, want 1", got)
			}
			took := job.Status.CompletionTime.Sub(job.Status.StartTime.Time)
			if took < 2*time.Second {
				t.Errorf("a Job of 2s took %v", took)
			}
		})
		t.Run("job fails", func(t *testing.T) {
			t.Parallel()
			job := runJob(ctx, t, client, "bad", map[string]string{ExitCodeAnnotation: "3"})
			if got := job.Status.Failed; got != 1 {
				t.Errorf("failed pods = %d, want 1", got)
			}
			pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "job-name=bad"})
			if err != nil || len(pods.Items) != 1 {
				t.Fatalf("pods of the Job = %v, %v", pods, err)
			}
			end := pods.Items[0].Status.ContainerStatuses[0].State.Terminated
			if end == nil || end.ExitCode != 3 || end.Reason != "Error" {
				t.Errorf("container ended with %v, want exit code 3 and reason Error", end)
			}
		})
		t.Run("logs", func(t *testing.T) {
			t.Parallel()
			runJob(ctx, t, client, "chatty", map[string]string{LogsAnnotation: "one\ntwo\nthree"})
			pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "job-name=chatty"})
			if err != nil || len(pods.Items) != 1 {
				t.Fatalf("pods of the Job = %v, %v", pods, err)
			}
			lines := int64(2)
			for _, test := range []struct {
				options corev1.PodLogOptions
				want    string
			}{
				{corev1.PodLogOptions{}, "one\ntwo\nthree\n"},
				{corev1.PodLogOptions{TailLines: &lines}, "two\nthree\n"},
				{corev1.PodLogOptions{Follow: true}, "one\ntwo\nthree\n"},
			} {
				got, err := client.CoreV1().Pods("default").GetLogs(pods.Items[0].Name, &test.options).DoRaw(ctx)
				if err != nil || string(got) != test.want {
					t.Errorf("logs with %v = %q, %v; want %q", test.options, got, err, test.want)
				}
			}
		})
		t.Run("pod without a Job", func(t *testing.T) {
			t.Parallel()
			pods := client.CoreV1().Pods("default")
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "alone"}, Spec: podSpec(corev1.RestartPolicyNever)}
			if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			waitForPod(ctx, t, client, "alone", func(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded })
		})
		t.Run("deletion is immediate", func(t *testing.T) {
			t.Parallel()
			pods := client.CoreV1().Pods("default")
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "server"}, Spec: podSpec(corev1.RestartPolicyAlways)}
			if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			waitForPod(ctx, t, client, "server", func(pod *corev1.Pod) bool {
				return pod.Status.Phase == corev1.PodRunning
			})
			gone, err := pods.Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: "server"}))
			if err != nil {
				t.Fatal(err)
			}
			defer gone.Stop()
			begin := time.Now()
			if err := pods.Delete(ctx, "server", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			for event := range gone.ResultChan() {
				if event.Type == watch.Deleted {
					break
				}
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("a deleted pod took %v to vanish", took)
			}
		})
		t.Run("claim is bound and its volume vanishes", func(t *testing.T) {
			t.Parallel()
			claims := client.CoreV1().PersistentVolumeClaims("default")
			_, err := claims.Create(ctx, &corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
					},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var volume string
			bound := func(object runtime.Object) bool {
				claim := object.(*corev1.PersistentVolumeClaim)
				volume = claim.Spec.VolumeName
				return claim.Status.Phase == corev1.ClaimBound
			}
			err = waitFor(ctx, client.CoreV1().RESTClient(), "persistentvolumeclaims", "default", "data", &corev1.PersistentVolumeClaim{}, bound)
			if err != nil {
				t.Fatal(err)
			}
			gone, err := client.CoreV1().PersistentVolumes().Watch(ctx, metav1.ListOptions{
				FieldSelector: fields.OneTermEqualSelector("metadata.name", volume).String(),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer gone.Stop()
			if err := claims.Delete(ctx, "data", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			for event := range gone.ResultChan() {
				if event.Type == watch.Deleted {
					return
				}
			}
			t.Errorf("the watch ended before volume %s was gone", volume)
		})
	})
}

func podSpec(restart corev1.RestartPolicy) corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy: restart,
		Containers:    []corev1.Container{{Name: "main", Image: "none"}},
	}
}

// runJob runs a Job whose pod has these annotations to its end.
func runJob(ctx context.Context, t *testing.T, client kubernetes.Interface, name string, annotations map[string]string) *batchv1.Job {
	t.Helper()
	jobs := client.BatchV1().Jobs("default")
	_, err := jobs.Create(ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{
			BackoffLimit: new(int32),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Annotations: annotations},
				Spec:       podSpec(corev1.RestartPolicyNever),
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ended *batchv1.Job
	err = waitFor(ctx, client.BatchV1().RESTClient(), "jobs", "default", name, &batchv1.Job{}, func(object runtime.Object) bool {
		ended = object.(*batchv1.Job)
		for _, condition := range ended.Status.Conditions {
			if condition.Type == batchv1.JobComplete || condition.Type == batchv1.JobFailed {
				return condition.Status == corev1.ConditionTrue
			}
		}
		return false
	})
	if err != nil {
		t.Fatalf("waiting for Job %s: %v; last seen: %+v", name, err, ended.Status)
	}
	return ended
}

func waitForPod(ctx context.Context, t *testing.T, client kubernetes.Interface, name string, ready func(*corev1.Pod) bool) {
	t.Helper()
	err := waitFor(ctx, client.CoreV1().RESTClient(), "pods", "default", name, &corev1.Pod{}, func(object runtime.Object) bool {
		return ready(object.(*corev1.Pod))
	})
	if err != nil {
		t.Fatalf("waiting for pod %s: %v", name, err)
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	_, err := Start(t.Context(), Options{Binaries: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "make binaries") {
		t.Errorf("Start without binaries = %v, want an error that names make binaries", err)
	}
}
