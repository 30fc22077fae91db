package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// jobRun is the life of a Job, by our own clock: Kubernetes' timestamps know no fractions of a second.
type jobRun struct {
	name, event, weight string
	start, end          time.Time // end is zero while the Job runs
	failed              bool
}

// jobWatch follows the Jobs of a namespace. Jobs that their delete policy removes are seen too.
type jobWatch struct {
	events watch.Interface
	idle   chan struct{} // receives whenever all Jobs seen so far have ended
	ended  chan struct{}
	runs   []*jobRun // after ended is closed
}

func watchJobs(ctx context.Context, client kubernetes.Interface, namespace string, out io.Writer) (*jobWatch, error) {
	events, err := client.BatchV1().Jobs(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("watching Jobs: %w", err)
	}
	w := &jobWatch{events: events, idle: make(chan struct{}, 1), ended: make(chan struct{})}
	go w.follow(out)
	return w, nil
}

func (w *jobWatch) follow(out io.Writer) {
	defer close(w.ended)
	begin := time.Now()
	byUID := map[types.UID]*jobRun{}
	running := 0
	progress := func() {
		if isTerminal(out) {
			fmt.Fprintf(out, "\r  %3.0f s: %d of %d Jobs have ended ", time.Since(begin).Seconds(), len(w.runs)-running, len(w.runs))
		}
	}
	for event := range w.events.ResultChan() {
		job, ok := event.Object.(*batchv1.Job)
		if !ok {
			continue // an error; the channel closes after it
		}
		run := byUID[job.UID]
		if run == nil {
			run = &jobRun{
				name: job.Name, start: time.Now(),
				event: job.Annotations["helm.sh/hook"], weight: job.Annotations["helm.sh/hook-weight"],
			}
			byUID[job.UID] = run
			w.runs = append(w.runs, run)
			running++
			progress()
		}
		if ended, failed := jobEnded(job, event.Type); ended && run.end.IsZero() {
			run.end, run.failed = time.Now(), failed
			running--
			progress()
			if running == 0 {
				select {
				case w.idle <- struct{}{}:
				default:
				}
			}
		} else if running > 0 {
			select {
			case <-w.idle: // no longer
			default:
			}
		}
	}
	if isTerminal(out) && len(w.runs) > 0 {
		fmt.Fprint(out, "\r\033[K")
	}
}

func jobEnded(job *batchv1.Job, event watch.EventType) (ended, failed bool) {
	for _, condition := range job.Status.Conditions {
		if condition.Status == corev1.ConditionTrue {
			switch condition.Type {
			case batchv1.JobComplete:
				return true, false
			case batchv1.JobFailed:
				return true, true
			}
		}
	}
	return event == watch.Deleted, true
}

// stop returns the Jobs in the order of their start. The watch may be a moment behind the command that has just
// ended, so it may take that moment to see the last Job end.
func (w *jobWatch) stop() []*jobRun {
	select {
	case <-w.idle:
	case <-w.ended:
	case <-time.After(2 * time.Second):
	}
	w.events.Stop()
	<-w.ended
	slices.SortStableFunc(w.runs, func(a, b *jobRun) int { return a.start.Compare(b.start) })
	return w.runs
}

// Together with the margins these make 78 columns.
const (
	nameWidth = 28
	barWidth  = 36
)

// chartOf draws the runs as bars over the time that the command took.
func chartOf(out io.Writer, runs []*jobRun, begin time.Time, took time.Duration) {
	block := "#"
	if speaksUTF8() {
		block = "█"
	}
	column := func(t time.Time) int {
		return min(max(int(float64(barWidth)*float64(t.Sub(begin))/float64(took)), 0), barWidth-1)
	}
	group := ""
	for _, run := range runs {
		if g := run.group(); g != group {
			group = g
			fmt.Fprintf(out, "  %s\n", group)
		}
		end, outcome := run.end, ""
		switch {
		case end.IsZero():
			end, outcome = begin.Add(took), " not done"
		case run.failed:
			outcome = "  failed"
		default:
			outcome = fmt.Sprintf("%6.1f s", end.Sub(run.start).Seconds())
		}
		from, to := column(run.start), column(end)
		bar := strings.Repeat(" ", from) + strings.Repeat(block, to-from+1) + strings.Repeat(" ", barWidth-to-1)
		fmt.Fprintf(out, "    %-*s|%s|%s\n", nameWidth, shorten(run.name, nameWidth), bar, outcome)
	}
	fmt.Fprintf(out, "    %-*s 0%*.1f s\n", nameWidth, "", barWidth-3, took.Seconds())
}

func (r *jobRun) group() string {
	if r.event == "" {
		return "no hook"
	}
	weight := r.weight
	if weight == "" {
		weight = "0"
	}
	return r.event + ", weight " + weight
}

func shorten(name string, width int) string {
	if len(name) <= width {
		return name
	}
	return name[:width-1] + "~"
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := os.Getenv(name); value != "" {
			return strings.Contains(strings.ToUpper(strings.ReplaceAll(value, "-", "")), "UTF8")
		}
	}
	return false
}
