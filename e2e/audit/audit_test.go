package audit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

const example = `{"verb":"create","userAgent":"Helm/3","objectRef":{"resource":"jobs","namespace":"a","apiGroup":"batch"},"responseStatus":{"code":201},"responseObject":{"kind":"Job","metadata":{"name":"two","uid":"2","resourceVersion":"12"},"status":{}}}
{"verb":"create","userAgent":"Helm/3","objectRef":{"resource":"jobs","namespace":"a","name":"one","apiGroup":"batch"},"responseStatus":{"code":201},"responseObject":{"kind":"Job","metadata":{"name":"one","uid":"1","resourceVersion":"11"},"status":{}}}
{"verb":"create","userAgent":"Helm/3","objectRef":{"resource":"jobs","namespace":"b","name":"other","apiGroup":"batch"},"responseStatus":{"code":201},"responseObject":{"kind":"Job","metadata":{"name":"other","uid":"9","resourceVersion":"13"},"status":{}}}
{"verb":"create","userAgent":"Helm/3","objectRef":{"resource":"jobs","namespace":"a","name":"one","apiGroup":"batch"},"responseStatus":{"code":409},"responseObject":{"kind":"Status","metadata":{},"status":"Failure"}}
{"verb":"create","userAgent":"kube-controller-manager/v1","objectRef":{"resource":"pods","namespace":"a","name":"one-x"},"responseStatus":{"code":201},"responseObject":{"kind":"Pod","metadata":{"name":"one-x","uid":"3","resourceVersion":"14","ownerReferences":[{"kind":"Job"}]},"status":{"phase":"Pending"}}}
{"verb":"patch","userAgent":"kwok/v0","objectRef":{"resource":"pods","namespace":"a","name":"one-x","subresource":"status"},"responseStatus":{"code":200},"responseObject":{"kind":"Pod","metadata":{"name":"one-x","uid":"3","resourceVersion":"15"},"status":{"phase":"Succeeded"}}}
{"verb":"update","userAgent":"kube-controller-manager/v1","objectRef":{"resource":"jobs","namespace":"a","name":"one","apiGroup":"batch","subresource":"status"},"responseStatus":{"code":200},"responseObject":{"kind":"Job","metadata":{"name":"one","uid":"1","resourceVersion":"16"},"status":{"conditions":[{"type":"SuccessCriteriaMet","status":"True"}]}}}
{"verb":"update","userAgent":"kube-controller-manager/v1","objectRef":{"resource":"jobs","namespace":"a","name":"one","apiGroup":"batch","subresource":"status"},"responseStatus":{"code":200},"responseObject":{"kind":"Job","metadata":{"name":"one","uid":"1","resourceVersion":"17"},"status":{"conditions":[{"type":"Complete","status":"True"}]}}}
{"verb":"create","userAgent":"Helm/3","objectRef":{"resource":"pods","namespace":"a","name":"bare"},"responseStatus":{"code":201},"responseObject":{"kind":"Pod","metadata":{"name":"bare","uid":"4","resourceVersion":"18"},"status":{"phase":"Pending"}}}
{"verb":"patch","userAgent":"kwok/v0","objectRef":{"resource":"pods","namespace":"a","name":"bare","subresource":"status"},"responseStatus":{"code":200},"responseObject":{"kind":"Pod","metadata":{"name":"bare","uid":"4","resourceVersion":"19"},"status":{"phase":"Failed"}}}
{"verb":"delete","userAgent":"Helm/3","objectRef":{"resource":"jobs","namespace":"a","name":"one","apiGroup":"batch"},"responseStatus":{"code":200},"responseObject":{"kind":"Status","metadata":{},"status":"Success"}}
`

func exampleTrail(t *testing.T) Trail {
	t.Helper()
	log := NewLog()
	// Pieces end anywhere.
	for piece := range slices.Chunk([]byte(example), 100) {
		if n, err := log.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", piece, n, err)
		}
	}
	if log.firstErr != nil {
		t.Fatal(log.firstErr)
	}
	return log.trails["a"]
}

func TestTrail(t *testing.T) {
	trail := exampleTrail(t)
	for _, test := range []struct {
		what  string
		trail Trail
		want  string
	}{
		{"Creates", trail.Creates(), "jobs/one jobs/two pods/one-x pods/bare"},
		{"Creates by Helm", trail.By("Helm/").Creates(), "jobs/one jobs/two pods/bare"},
		{"Creates of Pods", trail.Of("pods").Creates(), "pods/one-x pods/bare"},
		{"Deletes", trail.Deletes(), "jobs/one"},
	} {
		if got := strings.Join(test.trail.Objects(), " "); got != test.want {
			t.Errorf("%s = %s, want %s", test.what, got, test.want)
		}
	}
	if got, want := trail[2].String(), "create jobs/one: 409"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

func TestRuns(t *testing.T) {
	got := exampleTrail(t).Runs()
	want := []Run{
		{Resource: "jobs", Name: "one", Created: 11, Ended: 17, Succeeded: true},
		{Resource: "jobs", Name: "two", Created: 12},
		{Resource: "pods", Name: "bare", Created: 18, Ended: 19},
	}
	if !slices.Equal(got, want) {
		t.Errorf("Runs() = %+v, want %+v", got, want)
	}
	if got := MaxActive(got); got != 2 {
		t.Errorf("MaxActive() = %d, want 2", got)
	}
	if got := MaxActive(nil); got != 0 {
		t.Errorf("MaxActive(nil) = %d, want 0", got)
	}
}

func TestAwait(t *testing.T) {
	log := NewLog()
	found := make(chan error)
	go func() {
		_, err := log.Await(t.Context(), "a", func(r Request) bool { return r.Name == "bare" })
		found <- err
	}()
	if _, err := log.Write([]byte(example)); err != nil {
		t.Fatal(err)
	}
	if err := <-found; err != nil {
		t.Errorf("Await() = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Await(ctx, "a", func(Request) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("Await() after cancel = %v, want %v", err, context.Canceled)
	}
	log.Forget("a")
	if got := log.trails["a"]; got != nil {
		t.Errorf("after Forget the trail = %v, want none", got)
	}
}
