package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

var (
	refusedConnection = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	lostConnection    = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
)

// transportFunc answers the nth request, from 1 on.
type transportFunc func(n int, r *http.Request) (*http.Response, error)

// counting returns a transport that counts its requests.
func counting(requests *[]string, answer transportFunc) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		*requests = append(*requests, r.Method+" "+r.URL.Path)
		response, err := answer(len(*requests), r)
		if response != nil {
			response.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		}
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// respond returns a response of the server.
func respond(code int, body string, header ...string) *http.Response {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

// until returns an answer that begins when so much time has passed.
func until(t time.Duration, bad, good func() (*http.Response, error)) transportFunc {
	begin := time.Now()
	return func(int, *http.Request) (*http.Response, error) {
		if time.Since(begin) < t {
			return bad()
		}
		return good()
	}
}

// always answers so whatever the request.
func (f transportFunc) always() (*http.Response, error) { return f(0, nil) }

func fails(err error) func() (*http.Response, error) {
	return func() (*http.Response, error) { return nil, err }
}

func answers(code int, header ...string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return respond(code, "{}", header...), nil }
}

// breaksOff is an answer within which the connection breaks.
func breaksOff() (*http.Response, error) {
	response := respond(200, "")
	response.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	return response, nil
}

const (
	secretPath = "/api/v1/namespaces/ns/secrets/one"
	configMap  = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"},"data":{"a":"b"}}`
)

func TestRetry(t *testing.T) {
	for name, test := range map[string]struct {
		method, path string
		options      RetryOptions
		answer       func() transportFunc

		code   int    // of the answer; 0: an error
		err    string // part of it
		took   [2]time.Duration
		warned []string // parts of what is told
	}{
		"the server comes back": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(20*time.Second, fails(refusedConnection), answers(200)) },
			code:    200, took: [2]time.Duration{20 * time.Second, 26 * time.Second},
			warned: []string{"doesn't answer (GET secrets/one: dial tcp: connection refused); trying again for up to", "answers again, after 2"},
		},
		"the server doesn't come back": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Hour, fails(lostConnection), answers(200)) },
			err:     "no answer from the API server for ", took: [2]time.Duration{50 * time.Second, time.Minute},
			warned: []string{"doesn't answer"},
		},
		"a short failure is not worth a word": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, fails(lostConnection), answers(200)) },
			code:    200, took: [2]time.Duration{time.Second, 3 * time.Second},
		},
		"Retry-After is obeyed": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, answers(429, "Retry-After", "17"), answers(200)) },
			code:    200, took: [2]time.Duration{17 * time.Second, 17 * time.Second},
		},
		"what client-go would begin anew is taken away at the end": {
			options: RetryOptions{Patience: 10 * time.Second},
			answer:  func() transportFunc { return until(time.Hour, answers(503, "Retry-After", "1"), answers(200)) },
			code:    503, took: [2]time.Duration{5 * time.Second, 10 * time.Second},
			warned: []string{"the server answered 503 Service Unavailable"},
		},
		"an internal error is final": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, answers(500), answers(200)) },
			code:    500,
		},
		"unless the server says when to ask again": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, answers(500, "Retry-After", "2"), answers(200)) },
			code:    200, took: [2]time.Duration{2 * time.Second, 2 * time.Second},
		},
		"unless it may pass": {
			options: RetryOptions{Patience: time.Minute, InternalErrors: 30 * time.Second},
			answer:  func() transportFunc { return until(time.Second, answers(500), answers(200)) },
			code:    200, took: [2]time.Duration{time.Second, 2 * time.Second},
		},
		"and after the server was away, too": {
			options: RetryOptions{Patience: 2 * time.Minute, InternalErrors: 30 * time.Second},
			answer: func() transportFunc {
				return until(40*time.Second, fails(refusedConnection), until(42*time.Second, answers(500), answers(200)).always)
			},
			code: 200, took: [2]time.Duration{42 * time.Second, 54 * time.Second},
			warned: []string{"for up to 1m5", "answers again"},
		},
		"and on both sides of an absence": {
			options: RetryOptions{Patience: 2 * time.Minute, InternalErrors: 30 * time.Second},
			answer: func() transportFunc {
				return until(time.Second, answers(500), until(40*time.Second, fails(refusedConnection), until(42*time.Second, answers(500), answers(200)).always).always)
			},
			code: 200, took: [2]time.Duration{42 * time.Second, 54 * time.Second},
			warned: []string{"for up to 1m", "answers again"},
		},
		"but not for ever": {
			options: RetryOptions{InternalErrors: 30 * time.Second},
			answer:  func() transportFunc { return until(time.Hour, answers(500), answers(200)) },
			code:    500, took: [2]time.Duration{20 * time.Second, 30 * time.Second},
			warned: []string{"for up to 2"},
		},
		"an extension may be gone for ever": {
			path:    "/apis/metrics.k8s.io/v1beta1",
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, answers(503), answers(200)) },
			code:    503,
		},
		"an answer of its own is not asked for again": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, answers(403), answers(200)) },
			code:    403,
		},
		"what has gone by a deletion whose answer was lost": {
			method:  http.MethodDelete,
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, fails(lostConnection), answers(404)) },
			code:    200, took: [2]time.Duration{time.Second, 2 * time.Second},
		},
		"what was not there": {
			method:  http.MethodDelete,
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, fails(refusedConnection), answers(404)) },
			code:    404, took: [2]time.Duration{time.Second, 2 * time.Second},
		},
		"an answer that breaks off": {
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, breaksOff, answers(200)) },
			code:    200, took: [2]time.Duration{time.Second, 2 * time.Second},
		},
		"a watch is for its maker to begin anew": {
			path:    "/api/v1/namespaces/ns/pods?watch=true",
			options: RetryOptions{Patience: time.Minute},
			answer:  func() transportFunc { return until(time.Second, fails(lostConnection), answers(200)) },
			err:     "connection reset",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var warned []string
				test.options.Warn = func(message string) { warned = append(warned, message) }
				retrier := NewRetrier()
				retrier.Start(t.Context(), test.options)
				var requests []string
				transport := retrier.Wrap(counting(&requests, test.answer()))
				if test.path == "" {
					test.path = secretPath
				}
				request, err := http.NewRequestWithContext(t.Context(), test.method, "https://server"+test.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				response, err := transport.RoundTrip(request)
				if test.code == 0 {
					if err == nil || !strings.Contains(err.Error(), test.err) {
						t.Errorf("got %v, want an error with %q", err, test.err)
					}
				} else if err != nil || response.StatusCode != test.code || response.Header.Get("Retry-After") != "" {
					t.Errorf("got %+v, %v; want status %d", response, err, test.code)
				}
				if took := time.Since(begin); took < test.took[0] || took > test.took[1] {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if len(warned) != len(test.warned) {
					t.Fatalf("told %q, want %q", warned, test.warned)
				}
				for i, want := range test.warned {
					if !strings.Contains(warned[i], want) {
						t.Errorf("told %q, want %q", warned[i], want)
					}
				}
			})
		})
	}
}

// TestRetryOfACreation: the answer says that the object was created, once, however many
// were lost.
func TestRetryOfACreation(t *testing.T) {
	const path = "/api/v1/namespaces/ns/configmaps"
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			sees string
			// early says that nothing was asked before.
			early bool
		}{{"ours", false}, {"another's data", false}, {"an older one", false}, {"ours", true}, {"an older one", true}} {
			sees := test.sees
			retrier := NewRetrier()
			retrier.Start(t.Context(), RetryOptions{Patience: time.Minute})
			var requests []string
			created := time.Now()
			transport := retrier.Wrap(counting(&requests, func(n int, r *http.Request) (*http.Response, error) {
				switch {
				case r.Method == http.MethodGet && r.URL.Path == path+"/other":
					return respond(404, "{}"), nil // from which the server's time is known
				case r.Method == http.MethodGet:
					found := strings.Replace(configMap, `"name"`, fmt.Sprintf(`"creationTimestamp":%q,"name"`, created.UTC().Format(time.RFC3339)), 1)
					if sees == "another's data" {
						found = strings.Replace(found, `"b"`, `"c"`, 1)
					}
					return respond(200, found), nil
				case n <= 3:
					return nil, lostConnection
				default:
					return respond(409, `{"kind":"Status","status":"Failure","reason":"AlreadyExists","message":"exists"}`), nil
				}
			}))
			if sees == "an older one" {
				time.Sleep(5 * time.Second)
			}
			send := func(method, path, body string) (*http.Response, error) {
				request, err := http.NewRequestWithContext(t.Context(), method, "https://server"+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				return transport.RoundTrip(request)
			}
			if !test.early {
				if _, err := send(http.MethodGet, path+"/other", ""); err != nil {
					t.Fatal(err)
				}
			}
			got, err := send(http.MethodPost, path, configMap)
			var unanswered *NoAnswerError
			switch want := map[string]int{"ours": 201, "an older one": 409}[sees]; {
			case want != 0:
				if err != nil || got.StatusCode != want {
					t.Errorf("%+v: got %+v, %v after %q; want %d", test, got, err, requests, want)
				}
			case !errors.As(err, &unanswered) || !unanswered.Acted || !strings.Contains(err.Error(), "the server answered 409 Conflict: exists; the answer to its creation was lost"):
				t.Errorf("%+v: got %+v, %v after %q; want an error that says that nobody can tell", test, got, err, requests)
			}
			if last := requests[len(requests)-1]; last != "GET "+path+"/one" {
				t.Errorf("%+v: last request: got %s, want the object", test, last)
			}
		}
	})
}

// TestRetryOfTypedClients: their requests hold objects in another form than ours.
func TestRetryOfTypedClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retrier := NewRetrier()
		retrier.Start(t.Context(), RetryOptions{Patience: time.Minute})
		begin := time.Now().UTC().Format(time.RFC3339)
		stored := map[string]string{
			"secrets": fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"one","creationTimestamp":%q},"data":{"a":"Yg=="}}`, begin),
			"leases":  `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"one","resourceVersion":"2"},"spec":{"holderIdentity":"us","leaseDurationSeconds":30}}`,
		}
		var requests []string
		lost := map[string]bool{}
		config := &rest.Config{Host: "https://server", Transport: retrier.Wrap(counting(&requests, func(_ int, r *http.Request) (*http.Response, error) {
			resource := "secrets"
			if strings.Contains(r.URL.Path, "leases") {
				resource = "leases"
			}
			switch {
			case strings.HasSuffix(r.URL.Path, "/one") && r.Method == http.MethodGet:
				return respond(200, stored[resource]), nil
			case r.Method == http.MethodGet:
				return respond(404, "{}"), nil // from which the server's time is known
			case !lost[resource]:
				lost[resource] = true
				return nil, lostConnection
			default:
				return respond(409, `{"kind":"Status","status":"Failure","reason":"Conflict","message":"no"}`), nil
			}
		}))}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = client.CoreV1().Secrets("ns").Get(t.Context(), "other", metav1.GetOptions{})
		if _, err := client.CoreV1().Secrets("ns").Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "one"}, Data: map[string][]byte{"a": []byte("b")},
		}, metav1.CreateOptions{}); err != nil {
			t.Errorf("a Secret whose creation was lost: got %v, want it", err)
		}
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "one", ResourceVersion: "1"}}
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = ptr.To("us"), ptr.To(int32(30))
		if updated, err := client.CoordinationV1().Leases("ns").Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil || updated.ResourceVersion != "2" {
			t.Errorf("a Lease whose update was lost: got %v, %v; want it as it is now", updated, err)
		}
		lost["leases"] = false
		lease.Spec.HolderIdentity = ptr.To("them")
		if _, err := client.CoordinationV1().Leases("ns").Update(t.Context(), lease, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("a Lease that somebody else has updated: got %v, want a conflict", err)
		}
	})
}

// TestRetryOfACreationThatIsRefused the second time: what comes before the server sees that the object exists may be at
// odds with itself, a quota that it has filled, say.
func TestRetryOfACreationThatIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		found   int // status by which the object is looked for
		code    int // of the answer; 0: an error
		refusal int
	}{
		"it exists":         {200, 201, 403},
		"it doesn't":        {404, 403, 403},
		"nobody can tell":   {401, 0, 401},
		"it may be invalid": {404, 422, 422},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				retrier := NewRetrier()
				retrier.Start(t.Context(), RetryOptions{Patience: time.Minute})
				begin := time.Now().UTC().Format(time.RFC3339)
				var requests []string
				transport := retrier.Wrap(counting(&requests, func(n int, r *http.Request) (*http.Response, error) {
					switch {
					case n == 1:
						return nil, lostConnection
					case r.Method == http.MethodGet:
						return respond(test.found, strings.Replace(configMap, `"name"`, fmt.Sprintf(`"creationTimestamp":%q,"name"`, begin), 1)), nil
					}
					return respond(test.refusal, "{}"), nil
				}))
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://server/api/v1/namespaces/ns/configmaps", strings.NewReader(configMap))
				if err != nil {
					t.Fatal(err)
				}
				response, err := transport.RoundTrip(request)
				var unanswered *NoAnswerError
				if test.code == 0 && !(errors.As(err, &unanswered) && unanswered.Acted) || test.code != 0 && (err != nil || response.StatusCode != test.code) {
					t.Errorf("got %+v, %v after %q; want %d", response, err, requests, test.code)
				}
			})
		})
	}
}

// TestRetryPatience is that of an operation rather than of each of its requests, and so is what is said.
func TestRetryPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retrier := NewRetrier()
		var warned []string
		retrier.Start(t.Context(), RetryOptions{Patience: time.Minute, Warn: func(message string) { warned = append(warned, message) }})
		away := true
		var requests []string
		transport := retrier.Wrap(counting(&requests, func(int, *http.Request) (*http.Response, error) {
			if away {
				return nil, refusedConnection
			}
			return respond(200, "{}"), nil
		}))
		ask := func(ctx context.Context) (took time.Duration, err error) {
			begin := time.Now()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://server"+secretPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = transport.RoundTrip(request)
			return time.Since(begin), err
		}
		for range 3 { // of somebody who has less patience, and comes again
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			if _, err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want that its time was over", err)
			}
			cancel()
		}
		if took, err := ask(t.Context()); err == nil || took > 36*time.Second {
			t.Errorf("got %v after %v, want an error when a minute is over since the first failure", err, took)
		}
		if took, err := ask(t.Context()); err == nil || took > leastPatience {
			t.Errorf("then: got %v after %v, want an error after the least that each has", err, took)
		}
		if len(warned) != 1 {
			t.Errorf("told %q, want one word of it", warned)
		}
		away = false
		if _, err := ask(t.Context()); err != nil || len(warned) != 2 || !strings.Contains(warned[1], "answers again") {
			t.Errorf("when it's back: %v, told %q", err, warned)
		}
		away = true
		if took, err := ask(t.Context()); err == nil || took < 50*time.Second {
			t.Errorf("the next time: got %v after %v, want it to be given its time", err, took)
		}
		time.Sleep(time.Hour) // in which nothing was asked
		if took, err := ask(t.Context()); err == nil || took < 50*time.Second {
			t.Errorf("after an hour: got %v after %v, want it to be given its time", err, took)
		}
	})
}

// TestRetryOfAJobWithATTL: it isn't created again once it may have run and been deleted, also
// where nobody can tell.
func TestRetryOfAJobWithATTL(t *testing.T) {
	const job = `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"one"},"spec":{"ttlSecondsAfterFinished":10}}`
	for name, test := range map[string]struct {
		found int // status by which the Job is looked for
		back  time.Duration
		err   string // "" if it's created
	}{
		"it can't have ended": {404, 5 * time.Second, ""},
		"it may have":         {404, time.Minute, "nobody can tell, and it isn't run again (no answer from the API server for 1m"},
		"it may not be read":  {403, time.Minute, "looking for it, the server answered 403 Forbidden"},
		"it can't be read":    {403, 5 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				retrier := NewRetrier()
				retrier.Start(t.Context(), RetryOptions{Patience: time.Hour})
				var requests []string
				back := time.Now().Add(test.back)
				transport := retrier.Wrap(counting(&requests, func(n int, r *http.Request) (*http.Response, error) {
					switch {
					case n == 1 || time.Now().Before(back):
						return nil, lostConnection
					case r.Method == http.MethodGet:
						return respond(test.found, "refused"), nil
					}
					return respond(201, job), nil
				}))
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://server/apis/batch/v1/namespaces/ns/jobs", strings.NewReader(job))
				if err != nil {
					t.Fatal(err)
				}
				response, err := transport.RoundTrip(request)
				if test.err == "" && (err != nil || response.StatusCode != 201) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
					t.Errorf("got %+v, %v after %q; want error %q", response, err, requests, test.err)
				}
			})
		})
	}
}

// TestRetryOfWhatHoldsStructures where others hold text.
func TestRetryOfWhatHoldsStructures(t *testing.T) {
	object := func(value any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{"a": map[string]any{"b": value}}}}
	}
	if !holds(object("c"), object("c")) || holds(object("c"), object("d")) {
		t.Error("objects with structures as data are not compared")
	}
}

// TestRetryGate: what changes something is held up, and what reads isn't.
func TestRetryGate(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		opens  time.Duration
		took   time.Duration
		err    string
	}{
		"a read":              {http.MethodGet, time.Hour, 0, ""},
		"a change":            {http.MethodDelete, 20 * time.Second, 20 * time.Second, ""},
		"a change, for ever":  {http.MethodDelete, time.Hour, time.Minute, "closed: no answer from the API server for 1m0s"},
		"a change, cancelled": {http.MethodPost, 2 * time.Hour, 30 * time.Second, "closed: " + ErrTimeout.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				operation, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.opens > time.Hour {
					defer time.AfterFunc(30*time.Second, func() { cancel(ErrTimeout) }).Stop()
				}
				retrier := NewRetrier()
				retrier.Start(operation, RetryOptions{Patience: time.Minute, Gate: func(ctx context.Context, _ *http.Request) error {
					select {
					case <-time.After(test.opens):
						return nil
					case <-ctx.Done():
						return fmt.Errorf("closed: %w", context.Cause(ctx))
					}
				}})
				var requests []string
				transport := retrier.Wrap(counting(&requests, func(int, *http.Request) (*http.Response, error) { return respond(200, "{}"), nil }))
				request, err := http.NewRequestWithContext(t.Context(), test.method, "https://server"+secretPath, nil)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				_, err = transport.RoundTrip(request)
				if took := time.Since(begin); took != test.took || len(requests) != map[bool]int{true: 1}[test.err == ""] {
					t.Errorf("%d requests after %v, want it after %v", len(requests), took, test.took)
				}
				if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
					t.Errorf("got %v, want %q", err, test.err)
				}
			})
		})
	}
}

// TestNoAnswerIsNotRecognised by client-go, which would begin anew with patience of its own.
func TestNoAnswerIsNotRecognised(t *testing.T) {
	for _, err := range []error{
		lostConnection,
		io.EOF,
		io.ErrUnexpectedEOF,
		net.ErrClosed,
		errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1"),
		errors.New("http2: client connection lost"),
		errors.New("http: can't write HTTP request on broken connection"),
	} {
		got := &url.Error{Op: "Get", URL: "https://server", Err: &NoAnswerError{After: time.Minute, err: err}}
		if utilnet.IsProbableEOF(got) || utilnet.IsConnectionReset(got) || utilnet.IsHTTP2ConnectionLost(got) || utilnet.IsConnectionRefused(got) {
			t.Errorf("%v is taken for something that passes", got)
		}
		if !errors.Is(got, err) {
			t.Errorf("%v: want it to be told from others", got)
		}
	}
}

// TestServerTime goes on between answers and, as the server says no fractions of a second,
// doesn't go back with each.
func TestServerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retrier := NewRetrier()
		if got := retrier.ServerTime(); !got.IsZero() {
			t.Errorf("before it has said: %v", got)
		}
		ahead := time.Hour // of the server's clock
		transport := retrier.Wrap(roundTripper(func(*http.Request) (*http.Response, error) {
			return respond(200, "{}", "Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat)), nil
		}))
		ask := func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://server"+secretPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := transport.RoundTrip(request); err != nil {
				t.Fatal(err)
			}
		}
		ask()
		last := retrier.ServerTime()
		for range 100 {
			time.Sleep(170 * time.Millisecond)
			ask()
			got, server := retrier.ServerTime(), time.Now().Add(ahead)
			if wrong := got.Sub(server).Abs(); !got.After(last) || wrong >= time.Second {
				t.Fatalf("got %v after %v, where the server has %v", got, last, server)
			}
			last = got
		}
		time.Sleep(time.Minute)
		if got := retrier.ServerTime(); got.Sub(last) != time.Minute {
			t.Errorf("after a minute without an answer: %v later", got.Sub(last))
		}
		ahead = 0 // was put right
		ask()
		if wrong := time.Until(retrier.ServerTime()).Abs(); wrong > time.Second {
			t.Errorf("wrong by %v", wrong)
		}
	})
}

func TestRetryEnds(t *testing.T) {
	for name, end := range map[string]func(*Retrier, context.CancelCauseFunc, context.CancelCauseFunc){
		"with the request":   func(_ *Retrier, request, _ context.CancelCauseFunc) { request(ErrTimeout) },
		"with the operation": func(_ *Retrier, _, operation context.CancelCauseFunc) { operation(ErrTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, cancelRequest := context.WithCancelCause(t.Context())
				operation, cancelOperation := context.WithCancelCause(t.Context())
				retrier := NewRetrier()
				retrier.Start(operation, RetryOptions{})
				var requests []string
				transport := retrier.Wrap(counting(&requests, until(time.Hour, fails(refusedConnection), answers(200))))
				request, err := http.NewRequestWithContext(asked, http.MethodGet, "https://server"+secretPath, nil)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(time.Minute, func() { end(retrier, cancelRequest, cancelOperation) })
				begin := time.Now()
				_, err = transport.RoundTrip(request)
				if !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "connection refused") || time.Since(begin) != time.Minute {
					t.Errorf("got %v after %v, want why it ended and the last error, after a minute", err, time.Since(begin))
				}
				if n := len(requests); n < 10 || n > 20 {
					t.Errorf("%d requests in a minute, want some with growing delays", n)
				}
			})
		})
	}
}

func TestNothingIsRetriedOutsideOfAnOperation(t *testing.T) {
	retrier := NewRetrier()
	var requests []string
	transport := retrier.Wrap(counting(&requests, func(int, *http.Request) (*http.Response, error) { return nil, refusedConnection }))
	request, err := http.NewRequest(http.MethodGet, "https://server"+secretPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := transport.RoundTrip(request); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want the error as it came", err)
		}
		retrier.Start(t.Context(), RetryOptions{})
		retrier.Stop()
	}
	if len(requests) != 2 {
		t.Errorf("got %q, want each request once", requests)
	}
}

// deafJobs is a resource whose watches bring nothing, nor end.
type deafJobs struct {
	dynamic.ResourceInterface
	watches []string
	current *unstructured.Unstructured
}

func (j *deafJobs) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	j.watches = append(j.watches, fmt.Sprintf("since %s for %ds", o.ResourceVersion, *o.TimeoutSeconds))
	events := watch.NewFake()
	context.AfterFunc(ctx, events.Stop)
	return events, nil
}

func (j *deafJobs) Get(context.Context, string, metav1.GetOptions, ...string) (*unstructured.Unstructured, error) {
	return j.current, nil
}

// testVersion returns the Job one as it was at a resource version, with a condition that is true if one is given.
func testVersion(version, condition string) *unstructured.Unstructured {
	job := testJob("one").Objects[0].DeepCopy()
	job.SetUID("uid")
	job.SetResourceVersion(version)
	if condition != "" {
		job.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": condition, "status": "True"}}}
	}
	return job
}

// awaitJob watches the Job one from version 5 on, and returns how long it took until done said so to a subscription, and
// what waiting came to. The watch has ended by then.
func awaitJob(ctx context.Context, t *testing.T, jobs dynamic.ResourceInterface, subscribe func(*sharedWatch, string) *subscription, done func(state) (bool, error)) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer synctest.Wait()
	defer cancel()
	w := newSharedWatch(jobs, "jobs", nil)
	s := subscribe(w, "one")
	if err := s.begin(ctx, testVersion("5", ""), func(since string) { go w.run(ctx, since) }); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	err := s.await(ctx, "uid", done)
	return time.Since(begin), err
}

// TestSilentWatch: what a dead connection doesn't tell is read.
func TestSilentWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs := &deafJobs{current: testVersion("6", "Complete")}
		took, err := awaitJob(t.Context(), t, jobs, (*sharedWatch).subscribe, endedWell)
		if err != nil || took != watchTimeout+watchGrace {
			t.Errorf("got %v after %v, want the end of the Job after %v", err, took, watchTimeout+watchGrace)
		}
		if want := []string{"since 5 for 30s"}; !slices.Equal(jobs.watches[:1], want) {
			t.Errorf("watches: got %q, want %q", jobs.watches, want)
		}
	})
}

// vanishedJobs is a resource whose object was removed while a watch brought nothing.
type vanishedJobs struct {
	deafJobs
	history []watch.Event // what the second watch brings
}

func (j *vanishedJobs) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	events, err := j.deafJobs.Watch(ctx, o)
	if len(j.watches) == 2 && j.history != nil {
		go func() {
			time.Sleep(3 * time.Second)
			for _, e := range j.history {
				events.(*watch.FakeWatcher).Action(e.Type, e.Object)
			}
		}()
	}
	return events, err
}

func (j *vanishedJobs) Get(context.Context, string, metav1.GetOptions, ...string) (*unstructured.Unstructured, error) {
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: "batch", Resource: "jobs"}, "one")
}

// TestMissingAfterSilentWatch: what is gone after a dead connection is not taken for deleted before the next connection
// could tell how it ended, unless that's no matter.
func TestMissingAfterSilentWatch(t *testing.T) {
	failed, removed := testVersion("6", "Failed"), testVersion("7", "Failed")
	for name, test := range map[string]struct {
		history   []watch.Event
		subscribe func(*sharedWatch, string) *subscription
		after     time.Duration
		failed    bool
	}{
		"told":          {[]watch.Event{{Type: watch.Modified, Object: failed}, {Type: watch.Deleted, Object: removed}}, (*sharedWatch).subscribe, 43 * time.Second, true},
		"never told":    {nil, (*sharedWatch).subscribe, 80 * time.Second, false},
		"to be deleted": {nil, (*sharedWatch).subscribeGone, 40 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, err := awaitJob(t.Context(), t, &vanishedJobs{history: test.history}, test.subscribe, func(s state) (bool, error) {
					done, err := ended(s.object)
					return done || s.deleted, err
				})
				if (err != nil) != test.failed || took != test.after {
					t.Errorf("got %v after %v, want failed: %t after %v", err, took, test.failed, test.after)
				}
			})
		})
	}
}

// endedWell waits for the end of a Job that is a good one.
func endedWell(s state) (bool, error) {
	done, err := ended(s.object)
	return done && err == nil, nil
}

// lostJobs is a resource that can't be watched any more.
type lostJobs struct {
	deafJobs
	lost time.Time // from then on
}

func (j *lostJobs) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	if !time.Now().Before(j.lost) {
		return nil, refusedConnection
	}
	return j.deafJobs.Watch(ctx, o)
}

// TestLostWatchIsSaid: a hook whose end nobody could see is told from one that is slow, also if the connection was lost
// after it was begun to be waited for.
func TestLostWatchIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, ErrTimeout)
		defer cancel()
		jobs := &lostJobs{deafJobs{current: testVersion("5", "")}, time.Now().Add(10 * time.Second)}
		_, err := awaitJob(ctx, t, jobs, (*sharedWatch).subscribe, endedWell)
		if !errors.Is(err, ErrTimeout) || err == nil || !strings.Contains(err.Error(), "no connection to watch jobs: dial tcp: connection refused") {
			t.Errorf("got %v, want that there was no connection", err)
		}
	})
}
