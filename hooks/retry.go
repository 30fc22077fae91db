package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
)

// RetryOptions say for how long requests are made again.
type RetryOptions struct {
	// Patience is for how long a request is made again, counted from when requests
	// began to fail of which none was answered since. 0: for as long as its
	// context lasts.
	Patience time.Duration
	// InternalErrors is the same for answers with status 500, which may pass (a
	// webhook is being replaced, etcd elects a leader) or not. 0: they are
	// final.
	InternalErrors time.Duration
	// Gate is asked before each attempt at a request that may change something, and
	// returns when it may, or why it may not, at the latest when ctx is done, which
	// is so after Patience. It's called from many goroutines. Nil: always.
	Gate func(ctx context.Context, request *http.Request) error
	// Warn is told, in words for a person, when a request has failed for some
	// seconds, and when it got through. It's called from many goroutines. May be
	// nil.
	Warn func(message string)
}

// Retrier has requests to an API server made again where no answer came, where the
// server was too busy (429, and after Retry-After if it says so), and where it, or a
// proxy before it, could not answer (500, 502, 503, 504). Delays grow from
// a fifth of a second to five seconds.
//
// A request to create an object may have been carried out although its answer was
// lost. Then the object is looked up, and taken for the answer if it was created since
// the request was first sent and has the labels, annotations and data that were
// sent: no object is created twice, and none of somebody else's is taken over. A Job
// that ttlSecondsAfterFinished may have deleted meanwhile isn't created again.
//
// Watches and the reading of logs are left to those who make them. A Retrier is safe
// for concurrent use and may serve many clients.
type Retrier struct {
	mu     sync.Mutex
	active *retrying // nil: requests are made once
	date   time.Time // the server's, at its last answer, without fractions of a second
	dated  time.Time // when that came, by our clock
	// fraction is what's taken to be missing in date, for ServerTime not to go back.
	fraction time.Duration
}

// retrying is the time between a Start and the Stop.
type retrying struct {
	RetryOptions
	ctx context.Context

	mu sync.Mutex
	// silent is since when requests have failed and none was answered; zero if the
	// last one was.
	silent time.Time
	// unanswered is how many requests have failed so far and may be made again, and
	// idle since when there are none.
	unanswered int
	idle       time.Time
	// failing is how many requests have failed for longer than [warnAfter].
	failing int
	// told is since when they have, once that was told and until they don't.
	told time.Time
}

// warnAfter is how long a request fails before that's worth a word.
const warnAfter = 3 * time.Second

// NewRetrier returns a Retrier that leaves requests alone until Start.
func NewRetrier() *Retrier { return new(Retrier) }

// Start has failed requests made again until ctx is done or Stop is called.
func (r *Retrier) Start(ctx context.Context, options RetryOptions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active = &retrying{RetryOptions: options, ctx: ctx}
}

// Stop has requests made once from now on.
func (r *Retrier) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active = nil
}

// Wrap returns base with failed requests made again. It has the form that
// rest.Config.Wrap takes.
func (r *Retrier) Wrap(base http.RoundTripper) http.RoundTripper {
	return &retryingTransport{retrier: r, base: base}
}

func (r *Retrier) current() *retrying {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active
}

// ServerTime returns the server's time, by what it last said and less than a second wrong;
// zero if it has never said.
func (r *Retrier) ServerTime() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.earliest().Add(r.fraction)
}

// earliest returns the least that the server's time may be; zero if it has never said. The
// caller holds mu.
func (r *Retrier) earliest() time.Time {
	if r.date.IsZero() {
		return r.date
	}
	// One of the clocks stands still while the machine sleeps.
	return r.date.Add(max(time.Since(r.dated), time.Now().Round(0).Sub(r.dated.Round(0))))
}

func (r *Retrier) noteTime(response *http.Response) {
	date, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	passed := r.earliest().Add(r.fraction).Sub(date)
	r.fraction = min(max(passed, 0), time.Second-1)
	r.date, r.dated = date, time.Now()
}

// retryingTransport is an [http.RoundTripper]; see [Retrier].
type retryingTransport struct {
	retrier *Retrier
	base    http.RoundTripper
}

// WrappedRoundTripper lets client-go find the transport below
// (k8s.io/apimachinery/pkg/util/net, RoundTripperWrapper).
func (t *retryingTransport) WrappedRoundTripper() http.RoundTripper { return t.base }

// outcome is what is known after an attempt.
type outcome int

const (
	answered outcome = iota
	// refused: the server has not done what it was asked for.
	refused
	// lost: it may have.
	lost
)

// RoundTrip implements [http.RoundTripper].
func (t *retryingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		defer func() { _ = request.Body.Close() }() // attempts read copies
	}
	active := t.retrier.current()
	if active == nil || request.Method == http.MethodGet && isStream(request.URL) || request.Body != nil && request.GetBody == nil {
		response, err := t.base.RoundTrip(request)
		if err == nil {
			t.retrier.noteTime(response)
		}
		return response, err
	}
	a := &attempts{retryingTransport: t, retrying: active, request: request}
	response, err := a.make()
	// Of an extension that is gone the server says so, too, where its own storage is.
	active.ended(a, err == nil && a.outcome == answered && response.StatusCode < http.StatusInternalServerError)
	return response, err
}

// isStream reports whether the answer to a request has no end of its own.
func isStream(u *url.URL) bool {
	if watch, _ := strconv.ParseBool(u.Query().Get("watch")); watch {
		return true
	}
	return strings.Contains(u.Path, "/pods/") && strings.HasSuffix(u.Path, "/log")
}

// attempts are those for one request.
type attempts struct {
	*retryingTransport
	*retrying
	request *http.Request

	failed    time.Time // when the first attempt did; zero if none has
	internal  time.Time // since when all have ended with status 500; zero if the last one hasn't
	notBefore time.Time // the server's time before the first one that may have been carried out
	lost      time.Time // when that one was made; zero: there was none
	outcome   outcome   // of the last one
	last      error     // why the last one that failed did
	counted   bool      // among the unanswered
	warned    bool
}

func (a *attempts) make() (*http.Response, error) {
	delays := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: 5 * time.Second}
	for {
		if err := a.gate(); err != nil && !a.lost.IsZero() {
			return nil, a.ended(err)
		} else if err != nil {
			return nil, err
		}
		a.retrier.mu.Lock()
		began, date := time.Now(), a.retrier.earliest()
		a.retrier.mu.Unlock()
		response, err := a.attempt(a.request)
		var patience time.Duration
		a.outcome, patience = a.judge(response, err)
		if a.outcome == answered && err == nil {
			return a.settle(response)
		}
		if a.outcome == lost && a.lost.IsZero() {
			a.lost, a.notBefore = began, date
		}
		if over := a.request.Context().Err(); over != nil && err != nil {
			if a.last == nil && !(a.changes() && a.outcome == lost) {
				return nil, err
			}
			if a.last == nil {
				a.failed, a.last = began, errNotYet
			}
			return nil, a.ended(context.Cause(a.request.Context()))
		}
		silence := a.noteFailure(began)
		a.last = err
		if response != nil {
			a.last = fmt.Errorf("the server answered %s", saidBy(response))
		}
		delay := delays.Step()
		if response != nil {
			if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
				delay = max(delay, time.Duration(seconds)*time.Second)
			}
		}
		left := a.left(response, patience, silence)
		if patience > 0 && left < delay {
			return a.giveUp(response, err)
		}
		discard(response)
		a.warn(patience > 0, left)
		if done := a.pause(delay); done != nil {
			return nil, a.ended(done)
		}
		if answer, err := a.guard(); answer != nil || err != nil {
			return answer, err
		}
	}
}

// gate returns when the request may be made, or why it may not.
func (a *attempts) gate() error {
	if a.Gate == nil || !a.changes() {
		return nil
	}
	ctx, cancel := context.WithCancelCause(a.request.Context())
	defer cancel(nil)
	defer context.AfterFunc(a.ctx, func() { cancel(context.Cause(a.ctx)) })()
	if a.Patience > 0 {
		begin := time.Now()
		defer time.AfterFunc(a.Patience, func() { cancel(&NoAnswerError{After: time.Since(begin), err: errGate}) }).Stop()
	}
	return a.Gate(ctx, a.request)
}

var (
	// errGate is why a request was never made.
	errGate = errors.New("nothing could be changed meanwhile")
	// errNotYet is why a request has failed whose time was over first.
	errNotYet = errors.New("it had not answered yet")
)

// changes reports whether the request may change something.
func (a *attempts) changes() bool {
	return a.request.Method != http.MethodGet && a.request.Method != http.MethodHead
}

// left returns for how much longer a request is made again that would be for as long as
// given, after a time without an answer to any: of status 500 from when the server began
// to answer with it, since before nothing could pass.
func (a *attempts) left(response *http.Response, patience, silence time.Duration) time.Duration {
	failing := time.Since(a.failed)
	if response != nil && response.StatusCode == http.StatusInternalServerError {
		if a.internal.IsZero() {
			a.internal = time.Now()
		}
		failing = time.Since(a.internal)
	} else {
		a.internal = time.Time{}
	}
	left := patience - failing
	if a.Patience > 0 {
		// A server that comes back a moment late shouldn't meet requests that
		// have no time at all.
		left = min(left, max(a.Patience-silence, leastPatience-failing))
	}
	return left
}

const (
	// leastPatience is what each request has, though others have failed for long.
	leastPatience = 10 * time.Second
	// silenceGap is after how long in which nothing was asked a failure is a new one.
	silenceGap = time.Minute
)

// noteFailure notes that an attempt has failed which began at a time, and returns for
// how long nothing was answered.
func (a *attempts) noteFailure(began time.Time) (silence time.Duration) {
	a.retrying.mu.Lock()
	defer a.retrying.mu.Unlock()
	if a.silent.IsZero() || a.unanswered == 0 && began.Sub(a.idle) > silenceGap {
		a.silent = time.Now()
	}
	if a.failed.IsZero() {
		a.failed = time.Now()
		a.unanswered++
		a.counted = true
	}
	return time.Since(a.silent)
}

// attempt makes a request once, and reads the answer to its end: a connection may
// break within it.
func (a *attempts) attempt(request *http.Request) (*http.Response, error) {
	attempt := request.Clone(request.Context())
	if request.Body != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		attempt.Body = body
	}
	response, err := a.base.RoundTrip(attempt)
	if err != nil {
		return nil, err
	}
	a.retrier.noteTime(response)
	content, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("reading the answer %s: %w", response.Status, err)
	}
	response.Body = io.NopCloser(bytes.NewReader(content))
	return response, nil
}

// judge says how an attempt has gone and for how long such a request is made again.
func (a *attempts) judge(response *http.Response, err error) (outcome, time.Duration) {
	if err != nil {
		var dialling *net.OpError
		if errors.As(err, &dialling) && dialling.Op == "dial" {
			return refused, a.Patience
		}
		return lost, a.Patience
	}
	if isDiscovery(a.request.URL) {
		// An extension whose server is gone may be so for ever, and Helm does
		// without.
		return answered, 0
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		return refused, a.Patience
	case http.StatusInternalServerError:
		if response.Header.Get("Retry-After") != "" {
			// Its storage can't be reached, say (k8s.io/apimachinery/pkg/api/errors,
			// NewServerTimeout). If we didn't ask again, client-go would.
			return lost, a.Patience
		}
		if a.InternalErrors == 0 {
			return answered, 0
		}
		if a.Patience == 0 {
			return lost, a.InternalErrors
		}
		return lost, min(a.InternalErrors, a.Patience)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return lost, a.Patience
	}
	return answered, 0
}

// isDiscovery reports whether it's asked what the server serves, as against objects.
func isDiscovery(u *url.URL) bool {
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	for i, segment := range segments {
		switch segment { // a proxy's own path may come before
		case "api":
			return len(segments)-i <= 2
		case "apis":
			return len(segments)-i <= 3
		}
	}
	return true
}

// pause waits before the next attempt. It returns why there should be none.
func (a *attempts) pause(delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-a.request.Context().Done():
		return context.Cause(a.request.Context())
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// ended returns the error of a request for which there's no time any more.
func (a *attempts) ended(why error) error {
	return fmt.Errorf("%w: %w", why, a.noAnswer(a.last))
}

func (a *attempts) noAnswer(err error) *NoAnswerError {
	a.retrying.mu.Lock()
	defer a.retrying.mu.Unlock()
	since := a.failed
	if !a.silent.IsZero() && a.silent.Before(since) {
		since = a.silent
	}
	return &NoAnswerError{After: time.Since(since), Acted: a.changes() && !a.lost.IsZero(), err: err}
}

// giveUp returns what the last attempt brought.
func (a *attempts) giveUp(response *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, a.noAnswer(err)
	}
	if a.creates() && !a.lost.IsZero() {
		return a.lookUp(response)
	}
	response.Header.Del("Retry-After") // by which client-go would begin anew
	return response, nil
}

func discard(response *http.Response) {
	if response != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)) // so that its connection is used again
		_ = response.Body.Close()
	}
}

// NoAnswerError says that the API server could not be reached.
type NoAnswerError struct {
	// After is for how long it, and what was asked before, was tried.
	After time.Duration
	// Acted says that the server may have changed what it was asked to.
	Acted bool
	err   error
}

// Error names the last error, but in no words by which client-go would recognise it and
// begin anew (k8s.io/apimachinery/pkg/util/net, IsProbableEOF).
func (e *NoAnswerError) Error() string {
	return fmt.Sprintf("no answer from the API server for %v: %s", e.After.Round(time.Second), ourWords.Replace(e.err.Error()))
}

var ourWords = strings.NewReplacer(
	"connection reset by peer", "the server reset the connection",
	"use of closed network connection", "the connection was closed",
	"http2: server sent GOAWAY and closed the connection", "the server closed the connection (GOAWAY)",
	"http2: client connection lost", "the connection was lost",
	"http: can't write HTTP request on broken connection", "the connection broke",
)

// Is reports whether the last error is target. The error is not unwrapped otherwise:
// client-go would recognise it, and begin anew.
func (e *NoAnswerError) Is(target error) bool { return errors.Is(e.err, target) }

// settle returns the answer to a request that an earlier attempt may have carried
// out.
func (a *attempts) settle(response *http.Response) (*http.Response, error) {
	if a.lost.IsZero() {
		return response, nil
	}
	switch {
	case a.request.Method == http.MethodDelete && response.StatusCode == http.StatusNotFound:
		discard(response)
		return a.answer(response, http.StatusOK, &metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   metav1.StatusSuccess,
		})
	case response.StatusCode == http.StatusConflict && a.request.Method == http.MethodPut:
		found, whose, err := a.find()
		if err == nil && whose == ours {
			discard(response)
			return found, nil
		}
		discard(found)
	case response.StatusCode >= http.StatusBadRequest && a.creates():
		// Not only if it exists: quotas, webhooks and what makes a value unique
		// come before the server sees that, and may be at odds with themselves.
		return a.lookUp(response)
	}
	return response, nil
}

// creates reports whether the request is to create an object with a name.
func (a *attempts) creates() bool {
	return a.request.Method == http.MethodPost && a.sent().GetName() != ""
}

// lookUp looks for the object that an earlier attempt may have created, and returns it as
// the answer, or the refusal of a later one if there's none.
func (a *attempts) lookUp(refusal *http.Response) (*http.Response, error) {
	found, whose, err := a.find()
	if err == nil && whose == ours {
		discard(refusal)
		return found, nil
	}
	discard(found)
	said := fmt.Sprintf("the server answered %s", saidBy(refusal))
	switch {
	case err != nil:
		said = fmt.Sprintf("%s; %v", said, err)
	case whose == unclear:
	default:
		refusal.Header.Del("Retry-After")
		return refusal, nil
	}
	discard(refusal)
	return nil, a.noAnswer(fmt.Errorf("%s; the answer to its creation was lost, and whether it's the one that was to be created nobody can tell", said))
}

// saidBy returns the status of a response, with its message, which can still be read.
func saidBy(response *http.Response) string {
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	status := &metav1.Status{}
	if err != nil || json.Unmarshal(body, status) != nil || status.Message == "" {
		return response.Status
	}
	return fmt.Sprintf("%s: %s", response.Status, status.Message)
}

// answer returns a response with another status and content.
func (a *attempts) answer(response *http.Response, code int, content any) (*http.Response, error) {
	body, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	made := *response
	made.StatusCode, made.Status = code, fmt.Sprintf("%d %s", code, http.StatusText(code))
	made.Header = http.Header{"Content-Type": {runtime.ContentTypeJSON}}
	made.Body, made.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return &made, nil
}

func readInto(response *http.Response, content any) error {
	defer discard(response)
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, content)
}

// guard looks before a creation is asked for again, where that could create an object
// for the second time. It returns the answer if there is one already.
func (a *attempts) guard() (*http.Response, error) {
	if a.request.Method != http.MethodPost || a.lost.IsZero() {
		return nil, nil
	}
	sent := a.sent()
	switch {
	case sent.GetName() == "" && sent.GetGenerateName() != "":
		return nil, fmt.Errorf("the answer to the creation of %s %s... was lost, and since the server chooses its name (metadata.generateName) nobody can tell whether it exists: give it a name (%w)", sent.GetKind(), sent.GetGenerateName(), a.noAnswer(a.last))
	case sent.GetName() == "":
		return nil, nil // a question rather than an object: a review of access, say
	}
	ttl, set, _ := unstructured.NestedFieldNoCopy(sent.Object, "spec", "ttlSecondsAfterFinished")
	seconds, isNumber := ttl.(float64)
	if !set || !isNumber || sent.GetKind() != "Job" {
		return nil, nil
	}
	found, whose, err := a.find()
	if err == nil && whose == ours {
		return found, nil
	}
	exists := found != nil
	discard(found)
	if exists || time.Since(a.lost) < time.Duration(seconds*float64(time.Second)) {
		return nil, nil // the server refuses to create it if it exists
	}
	if err == nil {
		err = a.last
	}
	return nil, fmt.Errorf("the answer to the creation of Job %s was lost, and it may have run and been deleted since (ttlSecondsAfterFinished: %v): nobody can tell, and it isn't run again (%w)", sent.GetName(), seconds, a.noAnswer(err))
}

// sent returns the object in the request; an empty one if it holds none.
func (a *attempts) sent() *unstructured.Unstructured {
	none := &unstructured.Unstructured{Object: map[string]any{}}
	if a.request.GetBody == nil {
		return none
	}
	stream, err := a.request.GetBody()
	if err != nil {
		return none
	}
	defer func() { _ = stream.Close() }()
	body, err := io.ReadAll(stream)
	if err != nil {
		return none
	}
	// As typed clients send the kinds of Kubernetes, such as Secrets.
	if strings.HasPrefix(a.request.Header.Get("Content-Type"), runtime.ContentTypeProtobuf) {
		typed, kind, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return none
		}
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
		if err != nil {
			return none
		}
		sent := &unstructured.Unstructured{Object: object}
		sent.SetGroupVersionKind(*kind)
		return sent
	}
	sent := &unstructured.Unstructured{}
	if json.Unmarshal(body, &sent.Object) != nil || sent.Object == nil {
		return none
	}
	return sent
}

// owner says who has created or changed an object last.
type owner int

const (
	others owner = iota
	ours
	unclear
)

// find reads the object that the request was to create or to change, as the answer to
// it, and says whose it is. The answer is nil if there is none, and so is the error if
// that's certain.
func (a *attempts) find() (answer *http.Response, whose owner, err error) {
	sent := a.sent()
	request := a.request.Clone(a.request.Context())
	request.Method, request.Body, request.GetBody, request.ContentLength = http.MethodGet, nil, nil, 0
	request.Header.Del("Content-Type")
	request.Header.Set("Accept", runtime.ContentTypeJSON)
	request.URL.RawQuery = ""
	if a.request.Method == http.MethodPost {
		request.URL = request.URL.JoinPath(sent.GetName())
	}
	response, err := a.RoundTrip(request)
	if err != nil {
		return nil, others, err
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		discard(response)
		return nil, others, nil
	default:
		discard(response)
		return nil, others, fmt.Errorf("looking for it, the server answered %s", response.Status)
	}
	stored := &unstructured.Unstructured{}
	if err := readInto(response, &stored.Object); err != nil {
		return nil, others, err
	}
	code := http.StatusOK
	if a.request.Method == http.MethodPost {
		code = http.StatusCreated
		notBefore := a.notBefore
		if date, err := http.ParseTime(response.Header.Get("Date")); err == nil && notBefore.IsZero() {
			notBefore = date.Add(-time.Since(a.lost)) // the server had not said its time by then
		}
		// The server's times are to the second.
		recent := !notBefore.IsZero() && !stored.GetCreationTimestamp().Time.Before(notBefore.Add(-time.Second))
		switch {
		case recent && holds(stored, sent):
			whose = ours
		case recent:
			whose = unclear // a webhook may have changed it
		}
	} else if sameSpec(sent, stored) && holds(stored, sent) {
		whose = ours
	}
	answer, err = a.answer(response, code, stored.Object)
	return answer, whose, err
}

// holds reports whether an object has the labels, annotations and data of another.
func holds(stored, sent *unstructured.Unstructured) bool {
	for _, path := range [][]string{{"metadata", "labels"}, {"metadata", "annotations"}, {"data"}, {"binaryData"}} {
		want, _, _ := unstructured.NestedFieldNoCopy(sent.Object, path...)
		got, _, _ := unstructured.NestedFieldNoCopy(stored.Object, path...)
		wanted, _ := want.(map[string]any)
		had, _ := got.(map[string]any)
		for key, value := range wanted {
			if !reflect.DeepEqual(had[key], value) {
				return false
			}
		}
	}
	return true
}

// sameSpec reports whether both have the same spec.
func sameSpec(a, b *unstructured.Unstructured) bool {
	one, err := json.Marshal(a.Object["spec"])
	if err != nil {
		return false
	}
	other, err := json.Marshal(b.Object["spec"])
	return err == nil && bytes.Equal(one, other)
}

// warn says that a request has been failing, once it has for some time.
func (a *attempts) warn(ends bool, left time.Duration) {
	if a.warned || time.Since(a.failed) < warnAfter {
		return
	}
	a.warned = true
	a.retrying.mu.Lock()
	a.failing++
	tell := a.told.IsZero() && a.Warn != nil
	if tell {
		a.told = a.failed
	}
	a.retrying.mu.Unlock()
	if !tell {
		return
	}
	until := "until it does"
	if ends {
		until = fmt.Sprintf("for up to %v more", left.Round(time.Second))
	}
	a.Warn(fmt.Sprintf("the API server doesn't answer (%s %s: %v); trying again %s", a.request.Method, resourceOf(a.request.URL), a.last, until))
}

// resourceOf returns what a request is about, as in "secrets/name".
func resourceOf(u *url.URL) string {
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	if i := slices.Index(segments, "namespaces"); i >= 0 && len(segments) > i+2 {
		return strings.Join(segments[i+2:], "/")
	}
	return u.Path
}

// ended notes that a request has, and whether it was answered.
func (r *retrying) ended(a *attempts, answered bool) {
	r.mu.Lock()
	if a.warned {
		r.failing--
	}
	if a.counted {
		if r.unanswered--; r.unanswered == 0 {
			r.idle = time.Now()
		}
	}
	var told time.Time
	if answered {
		r.silent = time.Time{}
		if r.failing == 0 {
			told, r.told = r.told, time.Time{}
		}
	}
	r.mu.Unlock()
	if !told.IsZero() {
		r.Warn(fmt.Sprintf("the API server answers again, after %v", time.Since(told).Round(time.Second)))
	}
}
