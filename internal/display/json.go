package display

import (
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/ptr"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// JSONVersion is that of the objects that [JSON] writes. It rises when a field is
// taken away or changes its meaning, not when one is added.
const JSONVersion = 1

// Record is an object that [JSON] writes; docs/reference.md describes the fields.
type Record struct {
	SchemaVersion int       `json:"schemaVersion"`
	Time          time.Time `json:"time"`
	// Type is what happened: event-started, tier-started, hook-started,
	// hook-progressed, hook-logged, hook-ended, hook-warned,
	// cluster-warned, stopping, tier-ended or event-ended.
	Type  string `json:"type"`
	Event string `json:"event,omitempty"`
	// Parallelism and Hooks belong to event-started.
	Parallelism int `json:"parallelism,omitempty"`
	Hooks       int `json:"hooks,omitempty"`
	// Tier, from 1, and Weight belong to tier-started and tier-ended.
	Tier   int         `json:"tier,omitempty"`
	Weight *int        `json:"weight,omitempty"`
	Hook   *RecordHook `json:"hook,omitempty"`
	// Activity belongs to hook-progressed.
	Activity string `json:"activity,omitempty"`
	// Pod, Container, Attempt and Line belong to hook-logged.
	Pod       string  `json:"pod,omitempty"`
	Container string  `json:"container,omitempty"`
	Attempt   int     `json:"attempt,omitempty"`
	Line      *string `json:"line,omitempty"`
	// Phase, Started, Completed and Seconds belong to hook-ended; Error to
	// that and to event-ended.
	Phase     string     `json:"phase,omitempty"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
	Seconds   *float64   `json:"seconds,omitempty"`
	Error     string     `json:"error,omitempty"`
	// Causes belong to a hook-ended that failed.
	Causes []string `json:"causes,omitempty"`
	// Ignored says of a hook-ended that its failure is of no matter, by the hook's
	// annotation.
	Ignored bool `json:"ignored,omitempty"`
	// Message belongs to hook-warned and cluster-warned, and to stopping where
	// hooks run.
	Message string `json:"message,omitempty"`
	// Running and Queued belong to stopping.
	Running []RecordHook `json:"running,omitempty"`
	Queued  int          `json:"queued,omitempty"`
	// Succeeded, Failed and NotStarted count hooks at event-ended. Failed includes
	// those whose failure is ignored.
	Succeeded  *int `json:"succeeded,omitempty"`
	Failed     *int `json:"failed,omitempty"`
	NotStarted *int `json:"notStarted,omitempty"`
}

// RecordHook names a hook.
type RecordHook struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Weight int    `json:"weight"`
	Path   string `json:"path,omitempty"`
}

// JSON writes an object per notice and per line of a log, one to a line.
type JSON struct {
	leave string

	mu     sync.Mutex
	out    io.Writer
	closed bool
	began  time.Time // of the event
}

// NewJSON returns a display that writes to out.
func NewJSON(out io.Writer, options Options) *JSON { return &JSON{out: out, leave: options.Leave} }

// Write implements [Display].
func (j *JSON) Write(text []byte) (int, error) { return j.out.Write(text) }

// Close implements [Display].
func (j *JSON) Close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
}

// Log implements [hooks.LogSink].
func (j *JSON) Log(source hooks.LogSource, text []byte) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		j.write(Record{
			Type: "hook-logged", Hook: ptr.To(recordHook(source.Hook)), Line: &line,
			Pod: source.Pod, Container: source.Container, Attempt: source.Attempt,
		})
	}
}

// Observe implements [hooks.Observer].
func (j *JSON) Observe(n hooks.Notice) {
	switch n := n.(type) {
	case hooks.EventStarted:
		j.began = time.Now()
		j.write(Record{Type: "event-started", Event: string(n.Plan.Event), Parallelism: max(1, n.Plan.Parallelism), Hooks: n.Plan.Len()})
	case hooks.TierStarted:
		j.write(Record{Type: "tier-started", Event: string(n.Event), Tier: n.Tier + 1, Weight: &n.Weight})
	case hooks.HookStarted:
		j.write(Record{Type: "hook-started", Event: string(n.Event), Hook: ptr.To(recordHook(n.Hook)), Started: &n.At})
	case hooks.HookProgressed:
		j.write(Record{Type: "hook-progressed", Event: string(n.Event), Hook: ptr.To(recordHook(n.Hook)), Activity: n.Activity})
	case hooks.HookEnded:
		j.write(ended(n))
	case hooks.HookWarned:
		j.write(Record{Type: "hook-warned", Event: string(n.Event), Hook: ptr.To(recordHook(n.Hook)), Message: n.Message})
	case hooks.ClusterWarned:
		j.write(Record{Type: "cluster-warned", Message: n.Message})
	case hooks.Stopping:
		r := Record{Type: "stopping", Event: string(n.Event), Queued: n.Queued}
		if len(n.Running) > 0 {
			r.Message = j.leave
		}
		for _, h := range n.Running {
			r.Running = append(r.Running, recordHook(h))
		}
		j.write(r)
	case hooks.TierEnded:
		j.write(Record{Type: "tier-ended", Event: string(n.Event), Tier: n.Tier + 1, Weight: &n.Weight})
	case hooks.EventEnded:
		succeeded, failed, notStarted := 0, 0, 0
		for _, result := range n.Results {
			switch result.Phase {
			case hooks.Succeeded:
				succeeded++
			case hooks.Failed:
				failed++
			case "":
				notStarted++
			}
		}
		r := Record{
			Type: "event-ended", Event: string(n.Event), Succeeded: &succeeded, Failed: &failed, NotStarted: &notStarted,
			Seconds: ptr.To(Seconds(time.Since(j.began))),
		}
		if n.Err != nil {
			r.Error = n.Err.Error()
		}
		j.write(r)
	}
}

func ended(n hooks.HookEnded) Record {
	result := n.Result
	r := Record{Type: "hook-ended", Event: string(n.Event), Hook: ptr.To(recordHook(result.Hook)), Phase: string(result.Phase), Ignored: result.Ignored}
	if !result.StartedAt.IsZero() {
		r.Started = &result.StartedAt
	}
	if !result.CompletedAt.IsZero() {
		r.Completed = &result.CompletedAt
		r.Seconds = ptr.To(Seconds(result.CompletedAt.Sub(result.StartedAt)))
	}
	if result.Err != nil {
		r.Error = result.Err.Problem()
		for _, f := range result.Err.Findings {
			r.Causes = append(r.Causes, f.String())
		}
	}
	return r
}

func recordHook(h *hooks.Hook) RecordHook {
	return RecordHook{Kind: h.Kind, Name: h.Name, Weight: h.Weight, Path: h.Path}
}

// Seconds leaves out what is beyond a millisecond.
func Seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

func (j *JSON) write(r Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	r.SchemaVersion, r.Time = JSONVersion, time.Now()
	text, err := json.Marshal(r)
	if err != nil {
		return // not with these types
	}
	_, _ = j.out.Write(append(printableJSON(text), '\n'))
}

var _ Display = (*JSON)(nil)
