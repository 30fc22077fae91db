package cmd

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// parentInterval is how often the parent process is looked at. There is no
// portable way to be told of its end.
const parentInterval = 250 * time.Millisecond

// interrupts is where an operation learns that it should stop.
type interrupts struct {
	// signals brings SIGINT, SIGTERM and SIGHUP.
	signals <-chan os.Signal
	// orphaned is closed when the parent process has gone.
	orphaned <-chan struct{}
	// release gives the signals their default effect back. It may be called
	// more than once.
	release func()
	// close releases the signals and ends all watching.
	close func()
}

// watchInterrupts begins to catch signals, and to watch for the loss of the
// process parent unless that is 0. Close ends both.
//
// SIGHUP is left alone where it was ignored at the start: that's how nohup works.
func watchInterrupts(parent int) *interrupts {
	caught := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		caught = append(caught, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, caught...)
	release := func() { signal.Stop(signals) }

	ctx, cancel := context.WithCancel(context.Background())
	orphaned := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if parent != 0 && awaitParentLoss(ctx, parent, os.Getppid) {
			close(orphaned)
		}
	}()

	return &interrupts{
		signals:  signals,
		orphaned: orphaned,
		release:  release,
		close: func() {
			release()
			cancel()
			<-ended
		},
	}
}

// awaitParentLoss returns true once getppid no longer returns parent, false when
// ctx is cancelled.
//
// Neither Helm 3 nor Helm 4 tells a plugin that it was asked to end: both die at
// once. That the parent has changed is all there is to see of it.
func awaitParentLoss(ctx context.Context, parent int, getppid func() int) bool {
	ticker := time.NewTicker(parentInterval)
	defer ticker.Stop()
	for getppid() == parent {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}
