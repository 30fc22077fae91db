package apimodel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// Request is one request and what came of it.
type Request struct {
	// Method is that of HTTP, or LIST or WATCH.
	Method string
	Key
	// Hook is the value of [HookAnnotation] of an object that is to be created.
	Hook string
	// Nth is 1 for the first such request.
	Nth int
	// Fault is what the request meets, and Cut what the watch does that it began.
	Fault, Cut Fault
	// Sent is when the client sent it, Acted when the server did what was asked
	// for, and Answered when the client had an answer, or an error. Times are zero
	// for what didn't happen.
	Sent, Acted, Answered time.Time
	// Code is what the server answers where it acts, whatever the client gets to
	// see, and Seen what that is; 0: an error.
	Code, Seen int
	// RetryAfter is what the client was asked to wait before it repeats this.
	RetryAfter time.Duration
	// Object is what is to be created, as the client sent it.
	Object map[string]any
	// UID is that of the object that was created or deleted, or that was in the way
	// of a creation.
	UID string

	body     []byte
	selector url.Values
}

func (r *Request) String() string {
	return fmt.Sprintf("%s %s #%d", r.Method, strings.TrimSuffix(r.Key.String(), "/"), r.Nth)
}

// what names all requests that ask for the same.
func (r *Request) what() string {
	return fmt.Sprintln(r.Method, r.Key, r.Hook, r.selector.Get("labelSelector"), r.selector.Get("fieldSelector"))
}

// answer is what the server says to a request, but for a watch that begins.
type answer struct {
	code       int
	body       []byte
	html       bool
	retryAfter int
}

func failure(code int, reason string, retryAfter int) answer {
	status := map[string]any{
		"apiVersion": "v1", "kind": "Status", "metadata": map[string]any{}, "status": "Failure",
		"code": code, "reason": reason, "message": "the model says " + reason,
	}
	if retryAfter > 0 {
		status["details"] = map[string]any{"retryAfterSeconds": retryAfter}
	}
	return answer{code: code, body: encode(status), retryAfter: retryAfter}
}

// RoundTrip implements [http.RoundTripper].
func (m *Model) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := request.Context().Err(); err != nil {
		return nil, err // as a real transport, which then sends nothing
	}
	r, err := m.accept(request)
	if err != nil {
		return nil, err
	}
	response, err := m.serve(request, r)
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Answered = time.Now()
	switch {
	case err != nil:
		m.note("%s: %v%s", r, err, r.Fault.remark())
	default:
		r.Seen = response.StatusCode
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		r.RetryAfter = time.Duration(seconds) * time.Second
		m.note("%s: answered %d%s", r, r.Seen, r.Fault.remark())
	}
	return response, err
}

func (f Fault) remark() string {
	if f == None {
		return ""
	}
	return fmt.Sprintf(" (%s)", string(f))
}

// accept reads a request.
func (m *Model) accept(request *http.Request) (*Request, error) {
	r := &Request{Method: request.Method, Sent: time.Now(), selector: request.URL.Query()}
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		_ = request.Body.Close()
		r.body = body
	}
	// api/v1/... or apis/GROUP/v1/..., then the resource with or without a namespace.
	path := strings.Split(strings.Trim(request.URL.Path, "/"), "/")
	if path[0] == "apis" {
		path = path[1:]
	}
	path = path[min(2, len(path)):]
	if len(path) >= 3 && path[0] == "namespaces" {
		r.Namespace, path = path[1], path[2:]
	}
	if len(path) == 0 || kindOf[path[0]].Kind == "" || len(path) > 2 {
		return nil, fmt.Errorf("the model does not serve %s", request.URL.Path)
	}
	r.Resource = path[0]
	if len(path) == 2 {
		r.Name = path[1]
	}
	switch {
	case r.Method == http.MethodPost:
		if err := json.Unmarshal(r.body, &r.Object); err != nil {
			return nil, fmt.Errorf("reading what is to be created: %w", err)
		}
		r.Name = nested(r.Object, "metadata", "name")
		r.Hook = nested(r.Object, "metadata", "annotations", HookAnnotation)
	case r.Method == http.MethodGet && r.selector.Get("watch") != "":
		r.Method = "WATCH"
	case r.Method == http.MethodGet && r.Name == "":
		r.Method = "LIST"
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[r.what()]++
	r.Nth = m.counts[r.what()]
	m.requests = append(m.requests, r)
	m.note("%s: sent", r)
	return r, nil
}

// serve carries a request to the server and the answer back, or what goes wrong on the
// way.
func (m *Model) serve(request *http.Request, r *Request) (*http.Response, error) {
	ctx := request.Context()
	draw := m.rand("request", r.what(), r.Nth)
	there, back := Between(draw, m.config.Latency/100, m.config.Latency), Between(draw, m.config.Latency/100, m.config.Latency)
	r.Fault = m.config.Faults.draw(draw, time.Since(m.begun), m.config.Faults.Rate, RequestFaults)

	if err := sleep(ctx, there); err != nil {
		if draw.IntN(2) == 0 { // it was on its way
			m.later(time.Second, r)
		}
		return nil, err
	}
	if m.config.Faults.away(time.Since(m.begun)) {
		r.Fault = Refused
	}
	switch r.Fault {
	case Refused:
		return nil, errRefused
	case LostRequest:
		return nil, pick(draw, lost)
	case LateRequest:
		m.later(Between(draw, time.Millisecond, 3*time.Second), r)
		return nil, pick(draw, lost)
	}

	var says answer
	var stream io.ReadCloser
	if r.Fault.acts() {
		says, stream = m.act(ctx, r)
	}
	if fault, ok := r.Fault.status(draw); ok {
		says, stream = fault, nil
	}
	if r.Fault == Hang || r.Fault == HangActed {
		back = deadAfter
	}
	if err := sleep(ctx, back); err != nil {
		return nil, err
	}
	switch r.Fault {
	case LostAnswer:
		return nil, pick(draw, lost)
	case Hang, HangActed:
		return nil, errDead
	}

	response := &http.Response{
		Status:     fmt.Sprintf("%d %s", says.code, http.StatusText(says.code)),
		StatusCode: says.code,
		Proto:      "HTTP/2.0", ProtoMajor: 2,
		Header: http.Header{
			"Content-Type": {"application/json"},
			"Date":         {time.Now().Add(m.config.Skew).UTC().Format(http.TimeFormat)},
		},
		Body:          io.NopCloser(bytes.NewReader(says.body)),
		ContentLength: int64(len(says.body)),
		Request:       request,
	}
	if says.html {
		response.Header.Set("Content-Type", "text/html")
	}
	if says.retryAfter > 0 {
		response.Header.Set("Retry-After", fmt.Sprint(says.retryAfter))
	}
	switch {
	case stream != nil:
		response.Body, response.ContentLength = stream, -1
	case r.Fault == CutAnswer:
		response.Body = &broken{bytes.NewReader(says.body[:draw.IntN(len(says.body))]), pick(draw, cut)}
	}
	return response, nil
}

// broken is an answer that breaks off.
type broken struct {
	io.Reader
	err error
}

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

func (b *broken) Close() error { return nil }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// later has the server act although nobody waits for the answer.
func (m *Model) later(delay time.Duration, r *Request) {
	if r.Method != http.MethodPost && r.Method != http.MethodDelete {
		return
	}
	time.AfterFunc(delay, func() { m.act(context.Background(), r) })
}

// act does what a request asks for. Of a watch that begins it returns the stream.
func (m *Model) act(ctx context.Context, r *Request) (answer, io.ReadCloser) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Acted = time.Now()
	var says answer
	var stream io.ReadCloser
	switch r.Method {
	case http.MethodPost:
		says = m.post(r)
	case http.MethodGet:
		says = failure(http.StatusNotFound, "NotFound", 0)
		if o := m.objects[r.Key]; o != nil {
			says = answer{code: http.StatusOK, body: encode(o.content)}
		}
	case http.MethodDelete:
		says = m.delete(r)
	case "LIST":
		says = m.list(r)
	case "WATCH":
		says, stream = m.watch(ctx, r)
	default:
		says = failure(http.StatusMethodNotAllowed, "MethodNotAllowed", 0)
	}
	r.Code = says.code
	m.note("%s: the server does %d%s", r, says.code, r.Fault.remark())
	return says, stream
}

func (m *Model) post(r *Request) answer {
	fate := m.config.Fate(r.Key, r.Hook)
	switch {
	case fate.Refused == http.StatusForbidden:
		return failure(fate.Refused, "Forbidden", 0)
	case fate.Refused != 0:
		return failure(fate.Refused, "Invalid", 0)
	case m.objects[r.Key] != nil:
		r.UID = m.objects[r.Key].life.UID
		return failure(http.StatusConflict, "AlreadyExists", 0)
	}
	content := runtime.DeepCopyJSON(r.Object)
	// Where they are missing the real server takes them from the path, too.
	content["apiVersion"], content["kind"] = kindOf[r.Resource].GroupVersion().String(), kindOf[r.Resource].Kind
	o := m.create(r.Key, content, r.Hook, fate)
	r.UID = o.life.UID
	return answer{code: http.StatusCreated, body: encode(o.content)}
}

func (m *Model) delete(r *Request) answer {
	o := m.objects[r.Key]
	if o == nil {
		return failure(http.StatusNotFound, "NotFound", 0)
	}
	var options struct {
		Preconditions struct{ UID string } `json:"preconditions"`
	}
	if err := json.Unmarshal(r.body, &options); len(r.body) > 0 && err != nil {
		return failure(http.StatusBadRequest, "BadRequest", 0)
	}
	if uid := options.Preconditions.UID; uid != "" && uid != o.life.UID {
		return failure(http.StatusConflict, "Conflict", 0)
	}
	r.UID = o.life.UID
	if !m.remove(o, ByClient) {
		return answer{code: http.StatusOK, body: encode(o.content)}
	}
	if o.life.Fate.Returned {
		content := maps.Clone(o.content)
		metadata := maps.Clone(content["metadata"].(map[string]any))
		metadata["deletionTimestamp"] = m.stamp()
		content["metadata"] = metadata
		return answer{code: http.StatusOK, body: encode(content)}
	}
	return answer{code: http.StatusOK, body: encode(map[string]any{
		"apiVersion": "v1", "kind": "Status", "metadata": map[string]any{}, "status": "Success",
		"details": map[string]any{"name": r.Name, "kind": r.Resource, "uid": o.life.UID},
	})}
}

// selects reports whether a list or a watch is about an object.
func (r *Request) selects(key Key, labels map[string]any) bool {
	if key.Resource != r.Resource || r.Namespace != "" && key.Namespace != r.Namespace || r.Name != "" && r.Name != key.Name {
		return false
	}
	for term := range strings.SplitSeq(r.selector.Get("fieldSelector"), ",") {
		field, value, _ := strings.Cut(term, "=")
		if field == "metadata.name" && value != key.Name {
			return false
		}
	}
	for term := range strings.SplitSeq(r.selector.Get("labelSelector"), ",") {
		label, value, equals := strings.Cut(term, "=")
		if have, ok := labels[label]; label != "" && (!ok || equals && have != value) {
			return false
		}
	}
	return true
}

func (m *Model) selected(r *Request) []*object {
	var some []*object
	for _, o := range m.objects {
		labels, _ := o.content["metadata"].(map[string]any)["labels"].(map[string]any)
		if r.selects(o.life.Key, labels) {
			some = append(some, o)
		}
	}
	slices.SortFunc(some, func(a, b *object) int { return strings.Compare(a.life.Name, b.life.Name) })
	return some
}

func (m *Model) list(r *Request) answer {
	items := []any{}
	metadata := map[string]any{"resourceVersion": fmt.Sprint(m.version)}
	limit, _ := strconv.Atoi(r.selector.Get("limit"))
	for _, o := range m.selected(r) {
		if limit > 0 && len(items) == limit {
			metadata["continue"] = "more"
			break
		}
		items = append(items, o.content)
	}
	kind := kindOf[r.Resource]
	return answer{code: http.StatusOK, body: encode(map[string]any{
		"apiVersion": kind.GroupVersion().String(), "kind": kind.Kind + "List", "metadata": metadata, "items": items,
	})}
}
