package hooks

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"pgregory.net/rapid"
)

func TestActivity(t *testing.T) {
	waiting := func(reason, message string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
	}
	runs := corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	pod := func(status corev1.PodStatus) *corev1.Pod {
		p := &corev1.Pod{Status: status}
		p.UID = "pod"
		p.Spec.InitContainers = make([]corev1.Container, len(status.InitContainerStatuses))
		return p
	}
	restarted := runs
	restarted.RestartCount = 2
	done := corev1.ContainerStatus{Name: "first", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}
	for _, test := range []struct {
		name string
		pods []*corev1.Pod
		said map[types.UID]string
		want string
	}{
		{"no pod", nil, nil, ""},
		{"no pod, and why", nil, map[types.UID]string{"job": "FailedCreate: exceeded quota"}, "FailedCreate: exceeded quota"},
		{"new", []*corev1.Pod{pod(corev1.PodStatus{Phase: corev1.PodPending})}, nil, "Pending"},
		{"unschedulable", []*corev1.Pod{pod(corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available"},
		}})}, nil, "Unschedulable: 0/3 nodes are available"},
		{"creating", []*corev1.Pod{pod(corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ContainerCreating", "")}})}, nil, "ContainerCreating"},
		{
			"pulling", []*corev1.Pod{pod(corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ContainerCreating", "")}})},
			map[types.UID]string{"pod": `Pulling image "x"`}, `Pulling image "x"`,
		},
		{
			"pulling in vain", []*corev1.Pod{pod(corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ImagePullBackOff", "Back-off")}})},
			map[types.UID]string{"pod": `Pulling image "x"`}, "ImagePullBackOff: Back-off",
		},
		{"init", []*corev1.Pod{pod(corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{done, {Name: "second", State: runs.State}},
			ContainerStatuses:     []corev1.ContainerStatus{waiting("PodInitializing", "")},
		})}, nil, "Init 2 of 2: second"},
		{"running", []*corev1.Pod{pod(corev1.PodStatus{
			Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{done}, ContainerStatuses: []corev1.ContainerStatus{runs},
		})}, nil, "Running"},
		{"restarted", []*corev1.Pod{pod(corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{restarted}})}, nil, "Running (attempt 3)"},
		{"a second pod", []*corev1.Pod{
			pod(corev1.PodStatus{Phase: corev1.PodFailed}),
			pod(corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{runs}}),
		}, nil, "Running (attempt 2)"},
		{"evicted", []*corev1.Pod{pod(corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"})}, nil, "Evicted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := activity(test.pods, "job", test.said); got != test.want {
				t.Errorf("activity = %q, want %q", got, test.want)
			}
		})
	}
}

// logServer serves the logs of one container, each run of it by its number.
type logServer struct {
	runs [][]string // lines with their timestamps
	// cut returns after how many bytes the connection breaks that answers a
	// request for a log that is followed; negative, or nil: never. It breaks as
	// if that were the end if clean says so.
	cut   func(length int) int
	clean bool

	mu       sync.Mutex
	requests []string
}

func (s *logServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	s.mu.Lock()
	s.requests = append(s.requests, r.URL.RawQuery)
	s.mu.Unlock()
	lines := s.runs[len(s.runs)-1]
	if query.Get("previous") == "true" {
		lines = s.runs[len(s.runs)-2]
	}
	since, _ := time.Parse(time.RFC3339, query.Get("sinceTime"))
	var text strings.Builder
	for _, line := range lines {
		stamp, _, _ := strings.Cut(line, " ")
		if at, _ := time.Parse(time.RFC3339Nano, stamp); !at.Before(since) {
			text.WriteString(line + "\n")
		}
	}
	answer := text.String()
	if query.Get("follow") == "true" && s.cut != nil {
		if n := s.cut(len(answer)); n >= 0 && n < len(answer) {
			_, _ = fmt.Fprint(w, answer[:n])
			w.(http.Flusher).Flush()
			if s.clean {
				return
			}
			panic(http.ErrAbortHandler)
		}
	}
	_, _ = fmt.Fprint(w, answer)
}

// reader returns a reader of the server's logs, and what it was told.
func (s *logServer) reader(t testing.TB) (*logReader, *toldLines) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	core, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	told := new(toldLines)
	return &logReader{core: core, log: told.log, hook: &Hook{Name: "a"}, begun: map[string]*containerLog{}}, told
}

type toldLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *toldLines) log(source LogSource, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%s#%d %s", source.Container, source.Attempt, strings.TrimSuffix(string(text), "\n")))
}

func podWith(statuses ...corev1.ContainerStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "a-x", Namespace: "default", UID: "uid"},
		Spec:       corev1.PodSpec{Containers: make([]corev1.Container, len(statuses))},
		Status:     corev1.PodStatus{ContainerStatuses: statuses},
	}
}

var terminatedState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}

// TestLogIsToldOnceWhereverConnectionsBreak draws timestamps, of which many are equal,
// and where connections break.
func TestLogIsToldOnceWhereverConnectionsBreak(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		var lines, want []string
		for i := range rapid.IntRange(0, 12).Draw(rt, "lines") {
			at = at.Add(rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 700 * time.Millisecond, 3 * time.Second}).Draw(rt, "pause"))
			lines = append(lines, fmt.Sprintf("%s line %d", at.Format(time.RFC3339Nano), i))
			want = append(want, fmt.Sprintf("main#1 line %d", i))
		}
		cuts := rapid.SliceOfN(rapid.Float64Range(0, 1), 0, 3).Draw(rt, "cuts")
		broken := 0
		s := &logServer{runs: [][]string{lines}, clean: rapid.Bool().Draw(rt, "clean"), cut: func(length int) int {
			broken++
			return int(cuts[broken-1] * float64(length))
		}}
		reader, told := s.reader(t)
		l := &containerLog{
			pods: reader.core.CoreV1().Pods("default"), log: reader.log,
			source: LogSource{Pod: "a-x", Container: "main", Attempt: 1},
		}
		for range cuts {
			_ = l.stream(t.Context(), corev1.PodLogOptions{Follow: true})
		}
		if err := l.stream(t.Context(), corev1.PodLogOptions{}); err != nil {
			rt.Fatal(err)
		}
		if !slices.Equal(told.lines, want) {
			rt.Errorf("told %q, want %q", told.lines, want)
		}
	})
}

// TestLogOfClockThatGoesBack: a log that's read in one go is told as it is.
func TestLogOfClockThatGoesBack(t *testing.T) {
	s := &logServer{runs: [][]string{{"2026-01-02T03:04:09Z first", "2026-01-02T03:04:05Z second", "2026-01-02T03:04:09Z third", "no timestamp"}}}
	reader, told := s.reader(t)
	reader.read(t.Context(), []*corev1.Pod{podWith(corev1.ContainerStatus{Name: "main", State: terminatedState})})
	if err := reader.finish(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"main#1 first", "main#1 second", "main#1 third", "main#1 no timestamp"}; !slices.Equal(told.lines, want) {
		t.Errorf("told %q, want %q", told.lines, want)
	}
}

// TestLongLineIsToldInPieces: no line makes a log cost more memory than so much.
func TestLongLineIsToldInPieces(t *testing.T) {
	long := strings.Repeat("x", longestLine+100)
	s := &logServer{runs: [][]string{{"2026-01-02T03:04:09Z " + long, "2026-01-02T03:04:10Z next"}}}
	reader, told := s.reader(t)
	reader.read(t.Context(), []*corev1.Pod{podWith(corev1.ContainerStatus{Name: "main", State: terminatedState})})
	if err := reader.finish(); err != nil {
		t.Fatal(err)
	}
	if len(told.lines) != 3 || told.lines[2] != "main#1 next" || len(told.lines[0])+len(told.lines[1]) != len(long)+2*len("main#1 ") {
		t.Errorf("told %d lines", len(told.lines))
	}
}

// TestFailuresBefore: what counts as an earlier attempt is a failed pod in the same place.
func TestFailuresBefore(t *testing.T) {
	pod := func(phase corev1.PodPhase, index string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"batch.kubernetes.io/job-completion-index": index}},
			Status:     corev1.PodStatus{Phase: phase},
		}
	}
	pods := []*corev1.Pod{
		pod(corev1.PodFailed, "0"), pod(corev1.PodRunning, "1"), pod(corev1.PodRunning, "0"), pod(corev1.PodRunning, "2"),
	}
	for i, want := range []int{0, 0, 1, 0} {
		if got := failuresBefore(pods, i); got != want {
			t.Errorf("failures before pod %d = %d, want %d", i, got, want)
		}
	}
}

// TestLogsOfRestartedContainer: the run before the present one is read as such.
func TestLogsOfRestartedContainer(t *testing.T) {
	s := &logServer{
		runs: [][]string{{"2026-01-02T03:04:05Z first"}, {"2026-01-02T03:04:06Z second"}},
		cut:  func(int) int { return -1 },
	}
	reader, told := s.reader(t)
	restarted := corev1.ContainerStatus{Name: "main", RestartCount: 1, State: terminatedState, LastTerminationState: terminatedState}
	for range 2 {
		reader.read(t.Context(), []*corev1.Pod{podWith(restarted)})
	}
	if err := reader.finish(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(told.lines)
	if want := []string{"main#1 first", "main#2 second"}; !slices.Equal(told.lines, want) {
		t.Errorf("told %q, want %q", told.lines, want)
	}
}

func TestLogThatCannotBeReadIsAnError(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	core, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	reader := &logReader{core: core, log: new(toldLines).log, hook: &Hook{}, begun: map[string]*containerLog{}}
	reader.read(t.Context(), []*corev1.Pod{podWith(corev1.ContainerStatus{Name: "main", State: terminatedState})})
	if err := reader.finish(); err == nil || !strings.Contains(err.Error(), "reading the log of pod a-x, container main") {
		t.Errorf("error = %v, want one that names the container", err)
	}
}
