package hooks

import (
	"context"
	"fmt"
	"io"
	"testing"
)

// benchHooks returns Jobs of one weight.
func benchHooks(b *testing.B, count int) []*Hook {
	b.Helper()
	all := make([]*Hook, count)
	for i := range all {
		name := fmt.Sprintf("migrate-%05d", i)
		objects, err := ParseObjects(fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata:
  name: %s
  annotations: {helm.sh/hook: pre-install, parallel-hooks/slots: "1"}
`, name))
		if err != nil {
			b.Fatal(err)
		}
		all[i] = &Hook{Name: name, Kind: "Job", Namespace: "default", Events: []Event{"pre-install"}, Objects: objects}
	}
	return all
}

// BenchmarkPlan plans hooks of one weight, so that one tier holds them all, and hooks that come after another one of that
// weight or of a lower one.
func BenchmarkPlan(b *testing.B) {
	for _, count := range []int{100, 10_000} {
		plain, chained := benchHooks(b, count), benchHooks(b, count)
		for i, h := range chained[1:] {
			h.Objects[0].SetAnnotations(map[string]string{AfterAnnotation: chained[i/2].Name})
		}
		early := benchHooks(b, count)
		for _, h := range early[1:] {
			h.Weight = 1
			h.Objects[0].SetAnnotations(map[string]string{AfterAnnotation: early[0].Name})
		}
		for _, test := range []struct {
			name string
			all  []*Hook
		}{{"", plain}, {"after/", chained}, {"after-lower/", early}} {
			b.Run(test.name+fmt.Sprint(count), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := NewPlan("pre-install", test.all, PlanOptions{Parallelism: 64}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRun runs hooks that take no time in a cluster that does nothing, so that an operation is what one hook costs
// the runner.
func BenchmarkRun(b *testing.B) {
	const count = 1000
	all := benchHooks(b, count)
	for _, parallelism := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("at=%d", parallelism), func(b *testing.B) {
			runner := Runner{Cluster: idleCluster{}, Observer: blindObserver{}}
			plans := map[int]*Plan{}
			for _, n := range []int{count, b.N % count} {
				plan, err := NewPlan("pre-install", all[:n], PlanOptions{Parallelism: parallelism})
				if err != nil {
					b.Fatal(err)
				}
				plans[n] = plan
			}
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; {
				n := min(count, left)
				if _, err := runner.Run(b.Context(), plans[n]); err != nil {
					b.Fatal(err)
				}
				left -= n
			}
		})
	}
}

// idleCluster is a cluster in which everything has happened already.
type idleCluster struct{}

func (idleCluster) Delete(context.Context, *Hook) error              { return nil }
func (idleCluster) Create(context.Context, *Hook) (Execution, error) { return idleCluster{}, nil }
func (idleCluster) Wait(context.Context) error                       { return nil }
func (idleCluster) Logs(context.Context, *Hook, io.Writer) error     { return nil }
func (idleCluster) Follow(context.Context, <-chan struct{}, Follower) error {
	return nil
}

func (idleCluster) Inspect(context.Context, *Hook, int) ([]Finding, error) {
	return nil, nil
}

type blindObserver struct{}

func (blindObserver) Observe(Notice) {}
