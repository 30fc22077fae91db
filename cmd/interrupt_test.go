package cmd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// abandonable is an operation that can, or can't, be abandoned.
type abandonable bool

func (a abandonable) Abandon() bool { return bool(a) }
func (abandonable) GiveUp() error   { return nil }

// supervised is an operation under supervision in a test's bubble.
type supervised struct {
	signals  chan os.Signal
	orphaned chan struct{}
	stop     chan struct{}
	released bool
	told     stopNotice
	stdout   bytes.Buffer
	stderr   bytes.Buffer
	ended    chan error
}

func superviseInTest(op abandonable, work func(ctx context.Context, stop <-chan struct{}) error) *supervised {
	return superviseOperation(op, work)
}

func superviseOperation(op ending, work func(ctx context.Context, stop <-chan struct{}) error) *supervised {
	s := &supervised{
		signals:  make(chan os.Signal, 8),
		orphaned: make(chan struct{}),
		stop:     make(chan struct{}),
		ended:    make(chan error, 1),
	}
	sup := supervisor{
		interrupts: &interrupts{
			signals:  s.signals,
			orphaned: s.orphaned,
			release:  func() { s.released = true },
		},
		out: &s.stdout, errOut: &s.stderr, name: "web", cancelled: cancelled, leave: "Press again.", told: &s.told, stop: s.stop,
	}
	go func() {
		s.ended <- sup.supervise(op, func(ctx context.Context) error { return work(ctx, s.stop) })
	}()
	return s
}

// running reports whether the operation goes on once nothing moves any more.
func (s *supervised) running() bool {
	synctest.Wait()
	return len(s.ended) == 0
}

func (s *supervised) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

const cancelled = "Release web has been cancelled.\n"

var errWork = errors.New("failed pre-install: stopped")

// untilStopped ends a while after it was told to stop, as if hooks ran on.
func untilStopped(_ context.Context, stop <-chan struct{}) error {
	<-stop
	<-time.After(time.Minute)
	return errWork
}

// untilCancelled ends when it's told to leave at once.
func untilCancelled(ctx context.Context, _ <-chan struct{}) error {
	<-ctx.Done()
	return errWork
}

func TestUninterruptedOperationReturnsItsOwnError(t *testing.T) {
	for _, want := range []error{nil, errWork} {
		synctest.Test(t, func(t *testing.T) {
			s := superviseInTest(false, func(context.Context, <-chan struct{}) error {
				<-time.After(time.Hour)
				return want
			})
			if got := <-s.ended; got != want {
				t.Errorf("supervise() = %v, want %v", got, want)
			}
			if s.stopped() || s.stdout.Len()+s.stderr.Len() > 0 {
				t.Errorf("stopped %v, printed %q and %q; want nothing of it", s.stopped(), &s.stdout, &s.stderr)
			}
		})
	}
}

func TestFirstInterruptionWaitsForTheWork(t *testing.T) {
	for _, test := range []struct {
		name string
		send func(*supervised)
		code int
	}{
		{"SIGINT", func(s *supervised) { s.signals <- syscall.SIGINT }, 130},
		{"SIGTERM", func(s *supervised) { s.signals <- syscall.SIGTERM }, 143},
		{"SIGHUP", func(s *supervised) { s.signals <- syscall.SIGHUP }, 129},
		{"SIGHUP twice", func(s *supervised) { s.signals <- syscall.SIGHUP; s.signals <- syscall.SIGHUP }, 129},
		{"SIGHUP and SIGTERM", func(s *supervised) { s.signals <- syscall.SIGHUP; s.signals <- syscall.SIGTERM }, 129},
		{"parent", func(s *supervised) { close(s.orphaned) }, 143},
		{"parent before SIGINT", func(s *supervised) { close(s.orphaned); synctest.Wait(); s.signals <- syscall.SIGINT }, 130},
		{"SIGINT before parent", func(s *supervised) { s.signals <- syscall.SIGINT; synctest.Wait(); close(s.orphaned) }, 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := superviseInTest(false, untilStopped)
				if !s.running() || s.stopped() {
					t.Fatal("the operation did not begin undisturbed")
				}
				start := time.Now()
				test.send(s)
				if !s.running() || !s.stopped() {
					t.Fatal("the operation was not stopped, or not waited for")
				}
				err := <-s.ended
				if !errors.Is(err, errWork) || ExitCode(err) != test.code || completed(err) {
					t.Errorf("supervise() = %v, exit code %d; want %v, %d", err, ExitCode(err), errWork, test.code)
				}
				if waited := time.Since(start); waited != time.Minute {
					t.Errorf("waited %v for the work, want 1m", waited)
				}
				if s.stdout.String() != cancelled || s.released {
					t.Errorf("printed %q, released %v; want %q, false", &s.stdout, s.released, cancelled)
				}
			})
		})
	}
}

// TestWaitingIsSaid by the hooks' display or, if no hook runs, by the supervisor,
// unless the operation ends at once.
func TestWaitingIsSaid(t *testing.T) {
	for _, test := range []struct {
		name  string
		told  bool
		takes time.Duration
		want  string
	}{
		{"resources", false, time.Minute, "Interrupted: waiting until release \"web\" is no longer being changed. Press again.\n"},
		{"hooks", true, time.Minute, ""},
		{"ends at once", false, patience / 2, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s *supervised
				s = superviseInTest(false, func(_ context.Context, stop <-chan struct{}) error {
					<-stop
					if test.told {
						s.told.Observe(hooks.Stopping{})
					}
					<-time.After(test.takes)
					return errWork
				})
				s.signals <- syscall.SIGINT
				<-s.ended
				if got := s.stderr.String(); got != test.want {
					t.Errorf("stderr = %q, want %q", got, test.want)
				}
			})
		})
	}
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	for _, test := range []struct {
		signals []os.Signal
		code    int
	}{
		{[]os.Signal{syscall.SIGINT, syscall.SIGINT}, 130},
		{[]os.Signal{syscall.SIGTERM, syscall.SIGINT}, 143},
		{[]os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM}, 129},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := superviseInTest(false, untilCancelled)
			for _, sig := range test.signals {
				if !s.running() {
					t.Fatal("left before the second request")
				}
				s.signals <- sig
			}
			start := time.Now()
			err := <-s.ended
			if !errors.Is(err, errWork) || ExitCode(err) != test.code {
				t.Errorf("supervise() = %v, exit code %d; want %v, %d", err, ExitCode(err), errWork, test.code)
			}
			if waited := time.Since(start); waited != 0 {
				t.Errorf("left after %v, want at once", waited)
			}
			if !s.released || s.stdout.String() != cancelled || !strings.Contains(s.stderr.String(), "Leaving at once") {
				t.Errorf("released %v, printed %q and %q", s.released, &s.stdout, &s.stderr)
			}
		})
	}
}

func TestLossOfTheParentIsNeverASecondSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := superviseInTest(false, untilCancelled)
		s.signals <- syscall.SIGINT
		synctest.Wait()
		close(s.orphaned)
		if !s.running() {
			t.Fatal("left at once")
		}
		s.signals <- syscall.SIGINT
		<-s.ended
	})
}

// TestOneSignalMakesAnOrphanLeave: who has lost the terminal can't press Ctrl-C.
func TestOneSignalMakesAnOrphanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := superviseInTest(false, untilCancelled)
		close(s.orphaned)
		<-time.After(orphanTimeout + time.Second)
		if !s.running() || !s.stopped() {
			t.Fatal("an orphan was not stopped, or not waited for")
		}
		s.signals <- syscall.SIGTERM
		if err := <-s.ended; !errors.Is(err, errWork) || ExitCode(err) != 143 {
			t.Errorf("supervise() = %v, exit code %d; want %v, 143", err, ExitCode(err), errWork)
		}
	})
}

// TestLeavingIsBounded: work that can't be interrupted is given up, and if even
// that takes too long the process leaves all the same.
func TestLeavingIsBounded(t *testing.T) {
	for _, test := range []struct {
		name     string
		hangs    bool
		want     time.Duration
		wantText string
	}{
		{"given up", false, settleTimeout, "still being changed"},
		{"storage hangs", true, settleTimeout + leaveTimeout, "still being written"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				unblock := make(chan struct{})
				giveUpHangs := make(chan struct{})
				if !test.hangs {
					close(giveUpHangs)
				}
				s := superviseOperation(stuckOperation{giveUpHangs}, func(context.Context, <-chan struct{}) error {
					<-unblock
					return nil
				})
				start := time.Now()
				s.signals <- syscall.SIGTERM
				s.signals <- syscall.SIGTERM
				err := <-s.ended
				if waited := time.Since(start); waited != test.want {
					t.Errorf("left after %v, want %v", waited, test.want)
				}
				if ExitCode(err) != 143 || completed(err) || !strings.Contains(err.Error(), test.wantText) {
					t.Errorf("supervise() = %v, exit code %d; want %q and 143", err, ExitCode(err), test.wantText)
				}
				close(unblock)
				if test.hangs {
					close(giveUpHangs)
				}
			})
		})
	}
}

// stuckOperation takes until its channel is closed to be given up.
type stuckOperation struct{ until chan struct{} }

func (stuckOperation) Abandon() bool { return false }

func (o stuckOperation) GiveUp() error {
	<-o.until
	return nil
}

func TestAbandonedOperationIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		s := superviseInTest(true, func(context.Context, <-chan struct{}) error {
			<-unblock
			return nil
		})
		start := time.Now()
		s.signals <- syscall.SIGINT
		err := <-s.ended
		if time.Since(start) != 0 || !errors.Is(err, context.Canceled) || ExitCode(err) != 130 {
			t.Errorf("supervise() = %v after %v, exit code %d; want context.Canceled at once, 130", err, time.Since(start), ExitCode(err))
		}
		if s.stdout.String() != cancelled {
			t.Errorf("printed %q, want %q", &s.stdout, cancelled)
		}
		close(unblock)
	})
}

func TestInterruptedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := superviseInTest(false, func(_ context.Context, stop <-chan struct{}) error {
			<-stop
			return nil
		})
		s.signals <- syscall.SIGINT
		err := <-s.ended
		if !completed(err) || ExitCode(err) != 130 {
			t.Errorf("supervise() = %v, completed %v, exit code %d; want a completed operation, 130", err, completed(err), ExitCode(err))
		}
	})
}

// TestInterruptionAtTheEndIsNotLost: the signal is there, but the operation has
// ended and nobody listens any more.
func TestInterruptionAtTheEndIsNotLost(t *testing.T) {
	lost := make(chan struct{})
	close(lost)
	for _, test := range []struct {
		name     string
		signal   os.Signal
		orphaned chan struct{}
		err      error
		code     int
	}{
		{"nothing", nil, nil, nil, 0},
		{"nothing, failed", nil, nil, errWork, 1},
		{"SIGINT", syscall.SIGINT, nil, nil, 130},
		{"SIGINT, failed", syscall.SIGINT, nil, errWork, 130},
		{"parent", nil, lost, nil, 143},
		{"noticed before", syscall.SIGTERM, lost, &interruptedError{errWork, 130, false}, 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			signals := make(chan os.Signal, 1)
			if test.signal != nil {
				signals <- test.signal
			}
			s := supervisor{interrupts: &interrupts{signals: signals, orphaned: test.orphaned}}
			err := s.overlooked(test.err)
			if ExitCode(err) != test.code || test.err != nil && !errors.Is(err, errWork) || completed(err) != (test.err == nil) {
				t.Errorf("overlooked(%v) = %v, exit code %d, completed %v; want %d", test.err, err, ExitCode(err), completed(err), test.code)
			}
		})
	}
}

func TestAwaitParentLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		getppid := func() int {
			if time.Since(start) < 10*time.Second {
				return 42
			}
			return 1
		}
		if !awaitParentLoss(t.Context(), 42, getppid) {
			t.Error("awaitParentLoss() = false, want true")
		}
		if took := time.Since(start) - 10*time.Second; took > parentInterval {
			t.Errorf("noticed after %v, want at most %v", took, parentInterval)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if awaitParentLoss(ctx, 7, func() int { return 7 }) {
			t.Error("awaitParentLoss() of a parent that lives = true, want false")
		}
	})
}
