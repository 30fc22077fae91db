package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

// helperEnv makes the test binary a program whose operation waits until it's
// stopped or, if the value is "stubborn", until it's cancelled.
const helperEnv = "PARALLEL_HOOKS_TEST_HELPER"

type waitingOperation struct {
	operation
	stop     <-chan struct{}
	stubborn bool
}

func (o waitingOperation) Install(ctx context.Context, _ *action.Install, _ *chart.Chart, _ map[string]any) (*release.Release, error) {
	fmt.Println("ready")
	if o.stubborn {
		<-ctx.Done()
		return nil, errors.New("cancelled")
	}
	<-o.stop
	return nil, errors.New("stopped")
}

func (o waitingOperation) Abandon() bool { return false }

func (waitingOperation) GiveUp() error { return nil }

func (waitingOperation) Ignored() string { return "" }

func helperMain() int {
	p := newProgram(genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}, "")
	p.newOperation = func(_ *action.Configuration, opts helm3.Options) operation {
		return waitingOperation{stop: opts.Stop, stubborn: os.Getenv(helperEnv) == "stubborn"}
	}
	code := ExitCode(p.run(os.Args[1:]))
	fmt.Println("exit code", code)
	return code
}
