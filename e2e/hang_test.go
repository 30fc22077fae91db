package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestInterruptedTwiceWhileCreating: Helm's library can't be interrupted while it creates resources. Where a webhook
// holds that up, the second signal leaves all the same, and the record doesn't stay pending.
func TestInterruptedTwiceWhileCreating(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	called := s.silentWebhook("configmaps", "manifest")
	c := s.start("helm-parallel-hooks", "install", "stuck", chartPath("tiers"), "--hook-parallelism", "4",
		"--set-json", `tiers=[{"jobs":1,"duration":"0s"}]`)
	select {
	case <-called:
	case <-c.ended:
		t.Fatalf("the webhook was never called: %v", c.result)
	}
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

// silentWebhook makes the API server ask a webhook, which answers nothing, before it creates this object in the
// session's namespace. The channel is closed when it's first asked.
func (s *session) silentWebhook(resource, name string) <-chan struct{} {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	called := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for first := true; ; first = false {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			defer func() { _ = connection.Close() }()
			if first {
				close(called)
			}
		}
	}()
	webhooks := bed.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	url := fmt.Sprintf("https://%s/", listener.Addr())
	none := admissionv1.SideEffectClassNone
	seconds := int32(30)
	configuration, err := webhooks.Create(s.t.Context(), &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "silent-"},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name:                    "silent.parallel-hooks.test",
			ClientConfig:            admissionv1.WebhookClientConfig{URL: &url},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.namespace}},
			SideEffects:             &none,
			TimeoutSeconds:          &seconds,
			AdmissionReviewVersions: []string{"v1"},
			MatchConditions: []admissionv1.MatchCondition{{
				Name: "name", Expression: fmt.Sprintf("object.metadata.name == %q", name),
			}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := webhooks.Delete(ctx, configuration.Name, metav1.DeleteOptions{}); err != nil {
			s.t.Errorf("deleting the webhook: %v", err)
		}
		_ = listener.Close()
		<-ended
	})
	return called
}
