package hooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// apiServer answers requests as a test says. It's for what a real server can't be
// made to do at a given moment: to lose an answer, to forget its history.
type apiServer struct {
	answer func(call string, w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex
	calls []string
}

// ServeHTTP notes the request as a call, "GET one" or "WATCH since 5", and lets
// the test answer.
func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, name, _ := strings.Cut(r.URL.Path+"/", "/jobs/")
	call := strings.TrimSuffix(r.Method+" "+strings.Trim(name, "/"), " ")
	query := r.URL.Query()
	switch {
	case query.Get("watch") != "":
		call = "WATCH since " + query.Get("resourceVersion")
	case call == "GET":
		call = "LIST " + query.Get("limit")
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	s.answer(call, w, r)
}

func (s *apiServer) count(call string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

// startServer returns a client of a server that answers so.
func startServer(t *testing.T, answer func(call string, w http.ResponseWriter, r *http.Request)) (*Client, *apiServer) {
	t.Helper()
	s := &apiServer{answer: answer}
	server := httptest.NewServer(s)
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}, meta.RESTScopeNamespace)
	client, err := NewClient(&rest.Config{Host: server.URL, QPS: -1}, mapper, ClientOptions{Namespace: "ns", FieldManager: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.CloseClientConnections()
		server.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return client, s
}

func testJob(name string) *Hook {
	return newHook("Job", name, 0)
}

// job returns a Job as the server would. The fields are a condition's type and a
// deletion, if not empty.
func job(name, uid, version, condition, deleted string) string {
	metadata := map[string]any{"name": name, "namespace": "ns", "uid": uid, "resourceVersion": version, "creationTimestamp": time.Now().Format(time.RFC3339)}
	if deleted != "" {
		metadata["deletionTimestamp"] = deleted
	}
	object := map[string]any{"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
	if condition != "" {
		object["status"] = map[string]any{"conditions": []any{map[string]any{"type": condition, "status": "True", "reason": "BackoffLimitExceeded"}}}
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func status(w http.ResponseWriter, code int, reason string) {
	w.WriteHeader(code)
	fmt.Fprint(w, statusObject(code, reason))
}

func statusObject(code int, reason string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Status","status":"Failure","reason":%q,"code":%d,"message":%q}`, reason, code, reason)
}

// stream sends watch events and holds the connection open.
func stream(w http.ResponseWriter, r *http.Request, events ...string) {
	for _, event := range events {
		kind, object, _ := strings.Cut(event, " ")
		fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", kind, object)
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// hangUp closes the connection without an answer.
func hangUp(t *testing.T, w http.ResponseWriter) {
	connection, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		err = connection.Close()
	}
	if err != nil {
		t.Error(err)
	}
}

// execute creates a hook and waits for its end.
func execute(t *testing.T, c *Client, h *Hook) error {
	t.Helper()
	execution, err := c.Create(t.Context(), h)
	if err != nil {
		return err
	}
	return execution.Wait(t.Context())
}

// watchJobsSince begins the watch on Jobs for a hook that is of no further interest.
func watchJobsSince(t *testing.T, c *Client, version string) {
	t.Helper()
	jobs := watchKey{schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, "ns"}
	s := c.watch(jobs).subscribe("earlier")
	t.Cleanup(s.close)
	seen := testJob("earlier").Objects[0].DeepCopy()
	seen.SetResourceVersion(version)
	if err := c.begin(t.Context(), s, seen); err != nil {
		t.Fatal(err)
	}
}

func TestCreateWhoseAnswerIsLost(t *testing.T) {
	for _, acted := range []bool{true, false} {
		t.Run(fmt.Sprintf("acted=%v", acted), func(t *testing.T) {
			var mu sync.Mutex
			exists, posts := false, 0
			client, server := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				switch call {
				case "POST":
					posts++
					switch {
					case posts == 1:
						exists = acted
						hangUp(t, w)
						return
					case exists:
						status(w, http.StatusConflict, "AlreadyExists")
						return
					}
					fmt.Fprint(w, job("one", "uid", "5", "", ""))
				case "GET one":
					fmt.Fprint(w, job("one", "uid", "5", "", ""))
				case "DELETE one":
					status(w, http.StatusNotFound, "NotFound")
				case "WATCH since 5":
					stream(w, r, "MODIFIED "+job("one", "uid", "6", "Complete", ""))
				default:
					t.Errorf("unexpected request: %s", call)
				}
			})
			if err := client.Delete(t.Context(), testJob("one")); err != nil {
				t.Fatal(err)
			}
			if err := execute(t, client, testJob("one")); err != nil {
				t.Errorf("error: got %v, want none", err)
			}
			if got := server.count("POST"); got != 2 {
				t.Errorf("requests to create: got %d, want 2: an object of that name is created once", got)
			}
		})
	}
}

func TestLostAnswerIsNotTakenForSomebodyElsesObject(t *testing.T) {
	older := func() string {
		return strings.ReplaceAll(job("one", "uid", "5", "", ""), time.Now().Format("2006"), "2006")
	}
	other := func() string {
		return strings.ReplaceAll(job("one", "uid", "5", "", ""), `"name"`, `"labels":{"by":"somebody else"},"name"`)
	}
	for what, found := range map[string]func() string{"older": older, "with other labels": other} {
		t.Run(what, func(t *testing.T) {
			client, server := startServer(t, nil)
			server.answer = func(call string, w http.ResponseWriter, _ *http.Request) {
				switch {
				case call == "DELETE one":
					status(w, http.StatusNotFound, "NotFound")
				case call == "POST" && server.count("POST") == 1:
					hangUp(t, w)
				case call == "POST":
					status(w, http.StatusConflict, "AlreadyExists")
				default:
					fmt.Fprint(w, found())
				}
			}
			h := testJob("one")
			h.Objects[0].SetLabels(map[string]string{"by": "us"})
			if what == "older" {
				h.Objects[0].SetLabels(nil)
			}
			if err := client.Delete(t.Context(), h); err != nil { // from which the server's time is known
				t.Fatal(err)
			}
			_, err := client.Create(t.Context(), h)
			var unanswered *NoAnswerError
			unclear := errors.As(err, &unanswered) && unanswered.Acted && strings.Contains(err.Error(), "the answer to its creation was lost")
			if what == "older" && !apierrors.IsAlreadyExists(err) || what != "older" && !unclear {
				t.Errorf("got %v after %q, want an error that says what is known", err, server.calls)
			}
		})
	}
}

// TestJobIsNotRunAgainThatMayHaveGone: one whose answer was lost may have run and have been
// deleted by the time that it's looked for.
func TestJobIsNotRunAgainThatMayHaveGone(t *testing.T) {
	client, server := startServer(t, func(call string, w http.ResponseWriter, _ *http.Request) {
		if call == "POST" {
			hangUp(t, w)
			return
		}
		status(w, http.StatusNotFound, "NotFound")
	})
	h := testJob("one")
	h.Objects[0].Object["spec"] = map[string]any{"ttlSecondsAfterFinished": int64(0)}
	_, err := client.Create(t.Context(), h)
	if err == nil || !strings.Contains(err.Error(), "it may have run and been deleted since") || server.count("POST") != 1 {
		t.Errorf("got %v after %q, want an error that says why there's no second attempt", err, server.calls)
	}
}

func TestNamelessObjectIsNotCreatedAgain(t *testing.T) {
	client, server := startServer(t, func(call string, w http.ResponseWriter, _ *http.Request) { hangUp(t, w) })
	h := testJob("")
	h.Objects[0].SetGenerateName("one-")
	_, err := client.Create(t.Context(), h)
	if err == nil || !strings.Contains(err.Error(), "metadata.generateName") || server.count("POST") != 1 {
		t.Errorf("got %v after %q, want an error that says why there's no second attempt", err, server.calls)
	}
}

func TestCreateIsNotRepeatedAfterAnInternalError(t *testing.T) {
	client, server := startServer(t, func(call string, w http.ResponseWriter, _ *http.Request) {
		status(w, http.StatusInternalServerError, "InternalError")
	})
	if _, err := client.Create(t.Context(), testJob("one")); err == nil || server.count("POST") != 1 {
		t.Errorf("got %v after %q, want the error of the only attempt", err, server.calls)
	}
}

func TestWatchThatExpires(t *testing.T) {
	for _, refused := range []bool{true, false} {
		t.Run(fmt.Sprintf("refused=%v", refused), func(t *testing.T) {
			client, server := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
				switch call {
				case "POST":
					fmt.Fprint(w, job("one", "uid", "5", "", ""))
				case "WATCH since 5":
					if refused {
						status(w, http.StatusGone, "Expired")
						return
					}
					stream(w, r, "ERROR "+statusObject(http.StatusGone, "Expired"))
				case "LIST 1":
					fmt.Fprint(w, `{"apiVersion":"batch/v1","kind":"JobList","metadata":{"resourceVersion":"90"},"items":[]}`)
				case "GET one":
					fmt.Fprint(w, job("one", "uid", "80", "Failed", ""))
				case "WATCH since 90":
					stream(w, r)
				default:
					t.Errorf("unexpected request: %s", call)
				}
			})
			err := execute(t, client, testJob("one"))
			var bad *EndedBadly
			if !errors.As(err, &bad) || bad.Reason != "BackoffLimitExceeded" {
				t.Errorf("got %v after %q, want the failure that was read anew", err, server.calls)
			}
		})
	}
}

func TestObjectThatVanishedWhileTheWatchWasLost(t *testing.T) {
	client, _ := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
		switch call {
		case "POST":
			fmt.Fprint(w, job("one", "uid", "5", "", ""))
		case "WATCH since 5":
			stream(w, r, "ERROR "+statusObject(http.StatusGone, "Expired"))
		case "LIST 1":
			fmt.Fprint(w, `{"apiVersion":"batch/v1","kind":"JobList","metadata":{"resourceVersion":"90"},"items":[]}`)
		case "GET one":
			status(w, http.StatusNotFound, "NotFound")
		default:
			stream(w, r)
		}
	})
	if err := execute(t, client, testJob("one")); !errors.Is(err, ErrVanished) {
		t.Errorf("got %v, want ErrVanished", err)
	}
}

// TestObjectThatIsCreatedWhileItIsReadAnew: an answer that is older than the object must not make it vanish.
func TestObjectThatIsCreatedWhileItIsReadAnew(t *testing.T) {
	posted, read, created := make(chan struct{}), make(chan struct{}), make(chan struct{})
	client, _ := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
		switch call {
		case "WATCH since 7":
			<-posted
			stream(w, r, "ERROR "+statusObject(http.StatusGone, "Expired"))
		case "LIST 1":
			fmt.Fprint(w, `{"apiVersion":"batch/v1","kind":"JobList","metadata":{"resourceVersion":"90"},"items":[]}`)
		case "POST":
			close(posted)
			<-read
			fmt.Fprint(w, job("one", "uid", "95", "", ""))
		case "GET one":
			close(read)
			<-created
			status(w, http.StatusNotFound, "NotFound")
		case "GET earlier":
			status(w, http.StatusNotFound, "NotFound")
		case "WATCH since 90":
			stream(w, r, "ADDED "+job("one", "uid", "95", "", ""), "MODIFIED "+job("one", "uid", "99", "Complete", ""))
		default:
			t.Errorf("unexpected request: %s", call)
		}
	})
	watchJobsSince(t, client, "7")
	execution, err := client.Create(t.Context(), testJob("one"))
	if err != nil {
		t.Fatal(err)
	}
	close(created)
	if err := execution.Wait(t.Context()); err != nil {
		t.Errorf("got %v, want the end that came after", err)
	}
}

func TestWatchThatBeganAfterTheObject(t *testing.T) {
	client, server := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
		switch call {
		case "POST":
			// The second object's answer overtook that of the first.
			fmt.Fprint(w, job("late", "uid-late", "3", "", ""))
		case "GET late":
			fmt.Fprint(w, job("late", "uid-late", "4", "Complete", ""))
		case "WATCH since 7":
			stream(w, r)
		default:
			t.Errorf("unexpected request: %s", call)
		}
	})
	watchJobsSince(t, client, "7")
	if err := execute(t, client, testJob("late")); err != nil {
		t.Errorf("got %v after %q, want the end that the watch can't show", err, server.calls)
	}
}

// TestJobThatFailsAndIsDeletedAtOnce: with a time to live of zero, say, its end and
// its deletion may both be known before anybody looks.
func TestJobThatFailsAndIsDeletedAtOnce(t *testing.T) {
	release := make(chan struct{})
	client, _ := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
		switch call {
		case "POST":
			fmt.Fprint(w, job("one", "uid", "5", "", ""))
		case "WATCH since 5":
			close(release)
			stream(w, r, "MODIFIED "+job("one", "uid", "6", "Failed", ""), "DELETED "+job("one", "uid", "7", "Failed", ""))
		}
	})
	execution, err := client.Create(t.Context(), testJob("one"))
	if err != nil {
		t.Fatal(err)
	}
	<-release
	var bad *EndedBadly
	if err := execution.Wait(t.Context()); !errors.As(err, &bad) {
		t.Errorf("got %v, want the failure", err)
	}
}

// TestObjectThatVanishedExcusesNoOther: a List may hold a Job that somebody deletes
// and one that fails.
func TestObjectThatVanishedExcusesNoOther(t *testing.T) {
	w := newSharedWatch(nil, "jobs", nil)
	var e execution
	for _, name := range []string{"vanished", "failed"} {
		s := w.subscribe(name)
		object := testJob(name).Objects[0]
		if name == "failed" {
			object.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Failed", "status": "True"}}}
		}
		object.SetUID(types.UID(name))
		w.record(name, object.GetUID(), state{object: object, deleted: name == "vanished"})
		e.objects = append(e.objects, running{subscription: s, created: object})
	}
	var bad *EndedBadly
	if err := e.Wait(t.Context()); !errors.As(err, &bad) || errors.Is(err, ErrVanished) {
		t.Errorf("got %v, want the failure alone", err)
	}
}

// TestAllWhoWaitAreWoken: several custom resources may wait for one definition.
func TestAllWhoWaitAreWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSharedWatch(nil, "jobs", nil)
		s := w.subscribe("one")
		defer s.close()
		var waiters sync.WaitGroup
		for range 5 {
			waiters.Go(func() {
				if err := s.await(t.Context(), "uid", func(now state) (bool, error) { return now.deleted, nil }); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		object := testJob("one").Objects[0]
		w.record("one", "uid", state{object: object})
		w.record("one", "uid", state{deleted: true})
		waiters.Wait()
		if got := s.states["uid"]; got.object != object || !got.deleted {
			t.Errorf("state: got %+v, want the object as last seen, deleted", got)
		}
	})
}

func TestWatchThatIsForbidden(t *testing.T) {
	for _, readable := range []bool{true, false} {
		t.Run(fmt.Sprintf("readable=%v", readable), func(t *testing.T) {
			client, _ := startServer(t, func(call string, w http.ResponseWriter, _ *http.Request) {
				switch {
				case call == "POST":
					fmt.Fprint(w, job("one", "uid", "5", "", ""))
				case call == "GET one" && readable:
					fmt.Fprint(w, job("one", "uid", "6", "Complete", ""))
				default:
					status(w, http.StatusForbidden, "Forbidden")
				}
			})
			warnings := make(chan string, 10)
			client.options.Warn = func(message string) { warnings <- message }
			err := execute(t, client, testJob("one"))
			if readable && err != nil || !readable && (err == nil || !strings.Contains(err.Error(), `neither to watch nor to get jobs in namespace "ns"`)) {
				t.Errorf("error: got %v", err)
			}
			if warning := <-warnings; !strings.Contains(warning, `no permission to watch jobs in namespace "ns"`) {
				t.Errorf("warning: got %q, want what may not be watched", warning)
			}
		})
	}
}

// TestNameThatTheServerChose: events may overtake the answer that tells the name.
func TestNameThatTheServerChose(t *testing.T) {
	var mu sync.Mutex
	watched := make(chan struct{})
	client, server := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch call {
		case "POST":
			fmt.Fprint(w, job("one-x", "uid", "5", "", ""))
		case "GET one-x":
			fmt.Fprint(w, job("one-x", "uid", "6", "Complete", ""))
		case "WATCH since 3":
			mu.Unlock()
			defer mu.Lock()
			close(watched)
			stream(w, r, "ADDED "+job("one-x", "uid", "5", "", ""), "MODIFIED "+job("one-x", "uid", "6", "Complete", ""))
		default:
			t.Errorf("unexpected request: %s", call)
		}
	})
	watchJobsSince(t, client, "3")
	<-watched
	h := testJob("")
	h.Objects[0].SetGenerateName("one-")
	if err := execute(t, client, h); err != nil {
		t.Errorf("got %v after %q, want the end that was missed", err, server.calls)
	}
}

func TestReadingAnewIsTriedAgain(t *testing.T) {
	var mu sync.Mutex
	reads := 0
	client, _ := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
		switch call {
		case "POST":
			fmt.Fprint(w, job("late", "uid-late", "3", "", ""))
		case "GET late":
			mu.Lock()
			defer mu.Unlock()
			if reads++; reads == 1 {
				status(w, http.StatusServiceUnavailable, "ServiceUnavailable")
				return
			}
			fmt.Fprint(w, job("late", "uid-late", "4", "Complete", ""))
		default:
			stream(w, r)
		}
	})
	watchJobsSince(t, client, "7")
	if err := execute(t, client, testJob("late")); err != nil {
		t.Errorf("got %v, want none: the hook exists and must not count as not created", err)
	}
}

// TestVersionThatADefinitionDoesNotServe can't come by waiting.
func TestVersionThatADefinitionDoesNotServe(t *testing.T) {
	client, _ := startServer(t, func(string, http.ResponseWriter, *http.Request) {})
	definition := newHook("CustomResourceDefinition", "widgets.example.com", 0).Objects[0]
	definition.Object["spec"] = map[string]any{"versions": []any{map[string]any{"name": "v1", "served": true}}}
	definition.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": "True"}}}
	s := newSharedWatch(nil, "definitions", nil).subscribe(definition.GetName())
	s.watch.record(definition.GetName(), "uid", state{object: definition})
	client.crds[schema.GroupKind{Group: "example.com", Kind: "Widget"}] = &crd{s, "uid"}
	h := newHook("Widget", "w", 0)
	h.Objects[0].SetAPIVersion("example.com/v1alpha1")
	_, err := client.Create(t.Context(), h)
	var unmapped *MappingError
	if !errors.As(err, &unmapped) {
		t.Errorf("got %v, want an error at once", err)
	}
}

func TestDeleteReturnsWhenTheObjectIsGone(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer string
		want   []string
	}{
		{"at once", `{"apiVersion":"v1","kind":"Status","status":"Success"}`, []string{"DELETE one"}},
		{"at once, with the object", job("one", "uid", "5", "", ""), []string{"DELETE one"}},
		{"after its finalizers", job("one", "uid", "5", "", "2026-01-01T00:00:00Z"), []string{"DELETE one", "GET one", "WATCH since 6"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, server := startServer(t, func(call string, w http.ResponseWriter, r *http.Request) {
				switch call {
				case "DELETE one":
					fmt.Fprint(w, test.answer)
				case "GET one":
					fmt.Fprint(w, job("one", "uid", "6", "", "2026-01-01T00:00:00Z"))
				case "WATCH since 6":
					// One of the same name that came later doesn't count.
					stream(w, r, "DELETED "+job("one", "uid", "9", "", ""), "ADDED "+job("one", "uid-2", "10", "", ""))
				default:
					t.Errorf("unexpected request: %s", call)
				}
			})
			if err := client.Delete(t.Context(), testJob("one")); err != nil {
				t.Fatal(err)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if !slices.Equal(server.calls, test.want) {
				t.Errorf("requests: got %q, want %q", server.calls, test.want)
			}
		})
	}
}

func TestDeleteNeverDeletesACollection(t *testing.T) {
	client, server := startServer(t, func(string, http.ResponseWriter, *http.Request) {})
	nameless := testJob("")
	if err := client.Delete(t.Context(), nameless); err == nil || len(server.calls) != 0 {
		t.Errorf("got %v after %q, want an error and no request", err, server.calls)
	}
}

func TestUnknownKind(t *testing.T) {
	client, _ := startServer(t, func(string, http.ResponseWriter, *http.Request) {})
	h := newHook("Widget", "w", 0)
	h.Objects[0].SetAPIVersion("example.com/v1")
	_, err := client.Create(t.Context(), h)
	var unmapped *MappingError
	want := "resource mapping not found for name: \"w\" namespace: \"\" from \"\": no matches for kind \"Widget\" in version \"example.com/v1\"\nensure CRDs are installed first"
	if !errors.As(err, &unmapped) || err.Error() != want {
		t.Errorf("error:\ngot  %v\nwant %s", err, want)
	}
}
