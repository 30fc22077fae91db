package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	reviewv1 "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// TestInterruptedTwiceWhileCreating: Helm's library can't be interrupted while it creates resources. Where a webhook
// holds that up, the second signal leaves all the same, and the record doesn't stay pending.
func TestInterruptedTwiceWhileCreating(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	held := s.hold("CREATE", "configmaps", `request.name == "manifest"`)
	c := s.start("helm-parallel-hooks", "install", "stuck", chartPath("tiers"), "--hook-parallelism", "4",
		"--set-json", `tiers=[{"jobs":1,"duration":"0s"}]`)
	held.await(c)
	c.signal(syscall.SIGINT)
	c.signal(syscall.SIGTERM) // a second SIGINT might merge with the first
	got := c.wait()
	if got.code != 130 || !strings.Contains(got.stderr, `left while release "stuck" was still being changed`) {
		t.Errorf("want exit code 130 and an error that says so; got: %v", got)
	}
	rel := s.release("stuck")
	if rel.Info.Status != release.StatusFailed || rel.Info.Description != `Release "stuck" failed: context canceled: interrupted` {
		t.Errorf("status = %s, description = %q; want failed and why", rel.Info.Status, rel.Info.Description)
	}
	wantEqual(t, "phases", phasesOf(rel), []string{"job-0-00=Succeeded"})
}

// held is a webhook that the API server asks about certain requests, and that answers none until it's let go.
type held struct {
	reached <-chan struct{} // closed by the first request
	letGo   func()
}

// await returns when the first request is held. The command must be what makes it.
func (h *held) await(c *command) {
	c.t.Helper()
	select {
	case <-h.reached:
	case <-c.ended:
		c.t.Fatalf("ended before what was to be held up: %v", c.result)
	case <-time.After(time.Minute):
		c.t.Fatalf("%v: what was to be held up has not come", c.cmd)
	}
}

// hold holds up such operations on a resource in the session's namespace for which a CEL condition is true.
func (s *session) hold(operation admissionv1.OperationType, resource, condition string) *held {
	s.t.Helper()
	reached, gone := make(chan struct{}), make(chan struct{})
	reach, letGo := sync.OnceFunc(func() { close(reached) }), sync.OnceFunc(func() { close(gone) })
	s.admit(operation, resource, condition, func(ctx context.Context) (denied string) {
		reach()
		select {
		case <-gone:
		case <-ctx.Done():
		}
		return ""
	})
	s.t.Cleanup(letGo)
	return &held{reached, letGo}
}

// admit has a webhook of the API server asked about such operations on a resource of the core group in the session's
// namespace for which a CEL condition is true. decide returns why one is denied; empty: it isn't.
func (s *session) admit(operation admissionv1.OperationType, resource, condition string, decide func(context.Context) (denied string)) {
	s.t.Helper()
	var probed atomic.Bool
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review reviewv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &reviewv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if dry := review.Request.DryRun; dry != nil && *dry {
			probed.Store(true)
		} else if denied := decide(r.Context()); denied != "" {
			review.Response.Allowed, review.Response.Result = false, &metav1.Status{Message: denied}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review) // who asked may have gone
	}))

	webhooks := bed.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	none, seconds := admissionv1.SideEffectClassNone, int32(30)
	rule := func(operation admissionv1.OperationType, resource string) admissionv1.RuleWithOperations {
		return admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{operation},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
		}
	}
	configuration, err := webhooks.Create(s.t.Context(), &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "admission-"},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "admission.parallel-hooks.test",
			ClientConfig: admissionv1.WebhookClientConfig{
				URL:      &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.namespace}},
			SideEffects:             &none,
			TimeoutSeconds:          &seconds,
			AdmissionReviewVersions: []string{"v1"},
			MatchConditions: []admissionv1.MatchCondition{{
				Name: "asked-or-probe",
				Expression: fmt.Sprintf("(has(request.dryRun) && request.dryRun) || request.operation == %q && request.resource.resource == %q && (%s)",
					operation, resource, condition),
			}},
			Rules: []admissionv1.RuleWithOperations{rule(operation, resource), rule(admissionv1.Create, "configmaps")},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		server.Close()
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := webhooks.Delete(ctx, configuration.Name, metav1.DeleteOptions{}); err != nil {
			s.t.Errorf("deleting the webhook: %v", err)
		}
		server.Close()
	})

	// The server learns of a webhook a moment after it has stored it.
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
	err = wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := bed.client.CoreV1().ConfigMaps(s.namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return probed.Load(), err
	})
	if err != nil {
		s.t.Fatalf("waiting for the webhook to be asked: %v", err)
	}
}
