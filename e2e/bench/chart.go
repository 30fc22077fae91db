package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
)

// workload is what a row's contestants have to run, whether as hooks of a chart or without Helm: objects of one kind
// and, as hooks, of one weight.
type workload struct {
	kind     string // Job, Pod or ConfigMap
	count    int
	duration time.Duration // of a Job or Pod
	last     time.Duration // of the last of them; zero: as the others
	event    string        // as in the annotation helm.sh/hook
	ballast  int           // bytes in the chart that can't be compressed
	idle     bool          // Jobs are suspended, Pods wait for a scheduler that doesn't exist
}

// object returns the nth object.
func (w workload) object(release string, n int) runtime.Object {
	meta := metav1.ObjectMeta{Name: fmt.Sprintf("%s-%04d", release, n)}
	duration := w.duration
	if n == w.count-1 {
		duration = cmp.Or(w.last, duration)
	}
	run := map[string]string{controlplane.DurationAnnotation: duration.String()}
	pod := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{
			Name:    "hook",
			Image:   "busybox:1.37",
			Command: []string{"sleep", fmt.Sprint(duration.Seconds())},
		}},
	}
	if w.idle {
		pod.SchedulerName = "nobody"
	}
	switch w.kind {
	case "Job":
		return &batchv1.Job{
			TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: w.kind},
			ObjectMeta: meta,
			Spec: batchv1.JobSpec{
				BackoffLimit: ptr.To(int32(0)),
				Suspend:      ptr.To(w.idle),
				Template:     corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: run}, Spec: pod},
			},
		}
	case "Pod":
		meta.Annotations = run
		return &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: w.kind}, ObjectMeta: meta, Spec: pod}
	case "ConfigMap":
		return &corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: w.kind},
			ObjectMeta: meta,
			Data:       map[string]string{"name": meta.Name},
		}
	default:
		panic("no such kind of workload: " + w.kind)
	}
}

// writeChart writes a chart with the workload as hooks, and one more resource that differs from revision to revision.
func (w workload) writeChart(dir string) error {
	templates := filepath.Join(dir, "templates")
	if err := os.MkdirAll(templates, 0o755); err != nil {
		return err
	}
	var hooks []byte
	for n := range w.count {
		hook, err := manifest(w.object("{{ .Release.Name }}", n), map[string]any{"helm.sh/hook": w.event})
		if err != nil {
			return err
		}
		hooks = append(append(hooks, "---\n"...), hook...)
	}
	files := map[string][]byte{
		"Chart.yaml":           []byte("apiVersion: v2\nname: bench\nversion: 1.0.0\n"),
		"templates/hooks.yaml": hooks,
		"templates/resource.yaml": []byte(`apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  revision: {{ .Release.Revision | quote }}
`),
	}
	if w.ballast > 0 {
		files["ballast"] = make([]byte, w.ballast)
		_, _ = rand.NewChaCha8([32]byte{}).Read(files["ballast"]) // never fails
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manifest returns an object as a chart's author would write it, with more annotations.
func manifest(object runtime.Object, annotations map[string]any) ([]byte, error) {
	encoded, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var content map[string]any
	if err := json.Unmarshal(encoded, &content); err != nil {
		return nil, err
	}
	delete(content, "status")
	metadata := content["metadata"].(map[string]any)
	delete(metadata, "creationTimestamp")
	if own, ok := metadata["annotations"].(map[string]any); ok {
		for key, value := range own {
			annotations[key] = value
		}
	}
	metadata["annotations"] = annotations
	return yaml.Marshal(content)
}
