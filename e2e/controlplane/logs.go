package controlplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// logInterval is how often the log of a running container grows.
const logInterval = 50 * time.Millisecond

// logServer is the part of a kubelet that answers requests for logs. kwok could serve files; this serves what the
// pod's own annotations say.
type logServer struct {
	client kubernetes.Interface
	port   int
	server *http.Server
	served chan error
}

func serveLogs(client kubernetes.Interface, files *credentials) (*logServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &logServer{client: client, port: listener.Addr().(*net.TCPAddr).Port, served: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.serve)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { s.served <- s.server.ServeTLS(listener, files.servingCert, files.servingKey) }()
	return s, nil
}

func (s *logServer) stop() error {
	err := s.server.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// logLine is a line of a log and when it was written.
type logLine struct {
	at   time.Time
	text string
}

func (s *logServer) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	since, _ := time.Parse(time.RFC3339, query.Get("sinceTime"))
	out := bufio.NewWriter(w)
	for sent := 0; ; {
		pod, err := s.client.CoreV1().Pods(r.PathValue("namespace")).Get(r.Context(), r.PathValue("pod"), metav1.GetOptions{})
		if err != nil {
			if sent == 0 {
				status := http.StatusInternalServerError
				if apierrors.IsNotFound(err) {
					status = http.StatusNotFound
				}
				http.Error(w, err.Error(), status)
			}
			return
		}
		lines, ended := logged(pod, r.PathValue("container"), time.Now())
		if tail, err := strconv.Atoi(query.Get("tailLines")); err == nil && sent == 0 {
			sent = max(0, len(lines)-tail)
		}
		for _, line := range lines[min(sent, len(lines)):] {
			if line.at.Before(since) {
				continue
			}
			if query.Get("timestamps") == "true" {
				fmt.Fprintf(out, "%s ", line.at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00"))
			}
			fmt.Fprintln(out, line.text)
		}
		sent = max(sent, len(lines))
		if out.Flush() != nil || ended || query.Get("follow") != "true" {
			return
		}
		w.(http.Flusher).Flush()
		if !wait(r.Context(), logInterval) {
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// logged returns what a container has logged until now, and whether it has ended.
func logged(pod *corev1.Pod, container string, now time.Time) (lines []logLine, ended bool) {
	var started time.Time
	for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		switch {
		case status.Name != container:
		case status.State.Running != nil:
			started = status.State.Running.StartedAt.Time
		case status.State.Terminated != nil:
			started, ended = status.State.Terminated.StartedAt.Time, true
		}
	}
	if rate, err := strconv.Atoi(pod.Annotations[LogRateAnnotation]); err == nil {
		runs, _ := time.ParseDuration(pod.Annotations[DurationAnnotation])
		ran := runs
		if !ended {
			ran = min(runs, now.Sub(started))
		}
		for i := range int(ran.Seconds() * float64(rate)) {
			at := started.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
			lines = append(lines, logLine{at, fmt.Sprintf("line %d", i)})
		}
		return lines, ended
	}
	text, ok := pod.Annotations[LogsAnnotation]
	if !ok {
		text = fmt.Sprintf("container %s ran", container)
	}
	if text == "" {
		return nil, ended
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		lines = append(lines, logLine{started.Add(time.Duration(i)), line})
	}
	return lines, ended
}
