package apimodel

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var jobs = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}

// start returns a model whose objects have one fate, and a client of its Jobs.
func start(t *testing.T, config Config, fate Fate) (*Model, dynamic.ResourceInterface) {
	t.Helper()
	config.Fate = func(Key, string) Fate { return fate }
	m := New(config)
	client, err := dynamic.NewForConfig(&rest.Config{Host: Host, Transport: m, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return m, client.Resource(jobs).Namespace("ns")
}

func job(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": map[string]any{"name": name, "annotations": map[string]any{HookAnnotation: "7"}},
	}}
}

// read returns the events of a watch until its end, or for as long as given, as
// "+2s MODIFIED one Complete".
func read(t *testing.T, jobs dynamic.ResourceInterface, since string, wait time.Duration) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	begun := time.Now()
	events, err := jobs.Watch(ctx, metav1.ListOptions{ResourceVersion: since, AllowWatchBookmarks: true})
	if err != nil {
		return []string{string(apierrors.ReasonForError(err))}
	}
	var all []string
	for event := range events.ResultChan() {
		text := fmt.Sprintf("+%v %s", time.Since(begun).Truncate(time.Second), event.Type)
		if object, ok := event.Object.(*unstructured.Unstructured); ok && object.GetName() != "" {
			text += " " + object.GetName()
			conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
			for _, condition := range conditions {
				text += " " + condition.(map[string]any)["type"].(string)
			}
		}
		all = append(all, text)
	}
	return all
}

func TestLifeOfAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, jobs := start(t, Config{Skew: time.Hour}, Fate{Runs: 40 * time.Second, Fails: true, Expires: 10 * time.Second})
		created, err := jobs.Create(t.Context(), job("one"), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := created.GetCreationTimestamp(); !got.Equal(&metav1.Time{Time: time.Now().Add(time.Hour).Truncate(time.Second)}) {
			t.Errorf("created at %v, want the server's time", got)
		}
		if _, err := jobs.Create(t.Context(), job("one"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
			t.Errorf("a second creation: got %v, want AlreadyExists", err)
		}
		got := read(t, jobs, created.GetResourceVersion(), 2*time.Minute)
		for i, want := range []string{"MODIFIED one", "MODIFIED one FailureTarget", "MODIFIED one FailureTarget Failed", "DELETED one FailureTarget Failed", "BOOKMARK"} {
			got := slices.DeleteFunc(slices.Clone(got), func(text string) bool { return strings.Contains(text, "BOOKMARK") != (want == "BOOKMARK") })
			if i < len(got) && !strings.HasSuffix(got[i], " "+want) || len(got) == 0 {
				t.Errorf("event %d: got %q, want %s", i, got, want)
			}
		}
		if _, err := jobs.Get(t.Context(), "one", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("after its time to live: got %v, want NotFound", err)
		}
		life := m.Lives()[0]
		if life.Hook != "7" || !life.Failed || life.Ended.Sub(life.Created) != 40*time.Second || life.Removed.Sub(life.Ended) != 10*time.Second {
			t.Errorf("history: got %+v", life)
		}
	})
}

func TestDeletion(t *testing.T) {
	for _, test := range []struct {
		name    string
		fate    Fate
		answer  string
		removed time.Duration // -1: never
	}{
		{"at once", Fate{Runs: -1}, "", 0},
		{"with a finalizer", Fate{Runs: -1, Lingers: time.Minute}, "", time.Minute},
		{"for ever", Fate{Runs: -1, Lingers: -1}, "", -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, jobs := start(t, Config{}, test.fate)
				if _, err := jobs.Create(t.Context(), job("one"), metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				if err := jobs.Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				asked := time.Now()
				left, err := jobs.Get(t.Context(), "one", metav1.GetOptions{})
				if there := test.removed != 0; there != (err == nil) || there && left.GetDeletionTimestamp() == nil {
					t.Errorf("right after: got %v, %v", left, err)
				}
				<-time.After(time.Hour)
				life := m.Lives()[0]
				if test.removed < 0 != life.Removed.IsZero() || test.removed >= 0 && life.Removed.Sub(asked) > test.removed {
					t.Errorf("removed %v after the request, want %v", life.Removed.Sub(asked), test.removed)
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, jobs := start(t, Config{ForbidWatch: true}, Fate{Refused: 403})
		if _, err := jobs.Create(t.Context(), job("one"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("creation: got %v, want Forbidden", err)
		}
		if _, err := jobs.Watch(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("watch: got %v, want Forbidden", err)
		}
	})
}

// TestFaults: each fault is seen by the client, and the server has acted exactly where
// the fault says so.
func TestFaults(t *testing.T) {
	for _, fault := range RequestFaults {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, jobs := start(t, Config{Latency: time.Second, Faults: Faults{Rate: 1, Kinds: []Fault{fault}}}, Fate{Runs: -1})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := jobs.Create(ctx, job("one"), metav1.CreateOptions{}); err == nil {
					t.Error("the client has met no fault")
				}
				<-time.After(time.Minute)
				first := m.Requests()[0]
				acts := slices.Contains([]Fault{LostAnswer, LateRequest, CutAnswer}, fault) || strings.HasSuffix(string(fault), "after acting")
				if first.Fault != fault || !first.Acted.IsZero() != acts || acts && len(m.Lives()) != 1 {
					t.Errorf("got %+v and %d objects", first, len(m.Lives()))
				}
				if fault == LateRequest && !first.Acted.After(first.Answered) {
					t.Errorf("acted at %v, want that after the error at %v", first.Acted, first.Answered)
				}
				if (fault == TooMany) != (first.Seen == 429 && first.RetryAfter > 0) {
					t.Errorf("answer: got %d, to be asked again after %v", first.Seen, first.RetryAfter)
				}
			})
		})
	}
}

func TestFaultsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := Faults{Rate: 1, Kinds: []Fault{LostRequest}, End: time.Minute, Outages: []Outage{{2 * time.Minute, 3 * time.Minute}}}
		_, jobs := start(t, Config{Faults: faults}, Fate{Runs: -1})
		for i, fails := range []bool{true, false, true, false} {
			_, err := jobs.Create(t.Context(), job(fmt.Sprint(i)), metav1.CreateOptions{})
			if (err != nil) != fails {
				t.Errorf("after %d minutes: got %v, want an error: %v", i, err, fails)
			}
			<-time.After(time.Minute)
		}
	})
}

// TestWatchFaults: what a watch shows until it ends, of a Job that ends after a minute
// and a half.
func TestWatchFaults(t *testing.T) {
	const complete = "MODIFIED one SuccessCriteriaMet Complete"
	for _, test := range []struct {
		fault       Fault
		least, most time.Duration // when the watch ends
		complete    bool
	}{
		{None, 30 * time.Minute, time.Hour, true},
		{WatchClosed, 0, 40 * time.Second, false},
		{WatchReset, 0, 40 * time.Second, false},
		{WatchCut, 0, 40 * time.Second, false},
		{WatchPaused, 30 * time.Minute, time.Hour, true},
		{WatchDead, 45 * time.Second, 85 * time.Second, false},
		{WatchSilent, 30 * time.Minute, time.Hour, false},
	} {
		t.Run(string(test.fault), func(t *testing.T) {
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) {
					m, jobs := start(t, Config{Seed: seed, Lag: time.Second, Faults: Faults{WatchRate: 1, Kinds: []Fault{test.fault}}}, Fate{Runs: 90 * time.Second, Expires: -1})
					if _, err := jobs.Create(t.Context(), job("one"), metav1.CreateOptions{}); err != nil {
						t.Fatal(err)
					}
					begun := time.Now()
					got := read(t, jobs, "100", 2*time.Hour)
					if took := time.Since(begun); took < test.least || took > test.most+time.Second {
						t.Errorf("the watch ended after %v", took)
					}
					if seen := slices.ContainsFunc(got, func(text string) bool { return strings.HasSuffix(text, complete) }); seen != test.complete {
						t.Errorf("events: got %q, want the end of the Job among them: %v\n%s", got, test.complete, strings.Join(m.Trace(), "\n"))
					}
				})
			}
		})
	}
}

func TestHistoryIsForgotten(t *testing.T) {
	answers := map[string]bool{}
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			m, jobs := start(t, Config{Seed: seed, Faults: Faults{CompactEvery: time.Minute}}, Fate{Runs: time.Second, Fails: true, Expires: -1})
			created, err := jobs.Create(t.Context(), job("one"), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Minute)
			got := read(t, jobs, created.GetResourceVersion(), time.Minute)
			answers[fmt.Sprint(got)] = true
			if !m.Lives()[0].Unseen {
				t.Error("the client is not noted to have missed the failure")
			}
			list, err := jobs.List(t.Context(), metav1.ListOptions{Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, jobs, list.GetResourceVersion(), 10*time.Second); len(got) != 0 {
				t.Errorf("from the present on: got %q, want nothing", got)
			}
		})
	}
	if !answers["[Expired]"] || !answers["[+0s ERROR]"] {
		t.Errorf("got %v, want the refusal as an answer and as an event", answers)
	}
}

// TestSeed: the same seed gives the same world, whatever goroutine comes first.
func TestSeed(t *testing.T) {
	world := func(seed uint64, backwards bool) (trace []string) {
		synctest.Test(t, func(t *testing.T) {
			m, jobs := start(t, Config{Seed: seed, Latency: time.Second, Faults: Faults{Rate: 0.5, Kinds: RequestFaults}}, Fate{Runs: time.Second})
			names := []string{"a", "b", "c", "d"}
			if backwards {
				slices.Reverse(names)
			}
			for _, name := range names {
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					_, _ = jobs.Create(ctx, job(name), metav1.CreateOptions{})
				}()
				synctest.Wait()
			}
			<-time.After(time.Hour)
			for _, line := range m.Trace() {
				line, _, _ = strings.Cut(line, "(uid")
				trace = append(trace, line)
			}
			slices.Sort(trace)
		})
		return trace
	}
	one := world(1, false)
	if again := world(1, true); !slices.Equal(one, again) {
		t.Errorf("the same seed: got\n%s\nand\n%s", strings.Join(one, "\n"), strings.Join(again, "\n"))
	}
	if other := world(2, false); slices.Equal(one, other) {
		t.Error("another seed: got the same world")
	}
}
