package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/report"
)

// settleTimeout is how long an operation may take to end in good order after it
// was told to leave at once. Helm's library can't be interrupted while it creates
// resources; then the record is written past it.
const settleTimeout = 700 * time.Millisecond

// patience is how long an interrupted operation may take to end before it's said
// what is waited for.
const patience = 300 * time.Millisecond

// orphanTimeout is how long after the loss of the parent a signal may still be the
// one that ended the parent.
const orphanTimeout = time.Second

// leaveTimeout bounds how long giving up may take.
const leaveTimeout = 5 * time.Second

// operation is what the commands need of a [helm3.Operation].
type operation interface {
	Install(context.Context, *action.Install, *chart.Chart, map[string]any) (*release.Release, error)
	Upgrade(ctx context.Context, client *action.Upgrade, name string, chrt *chart.Chart, values map[string]any) (*release.Release, error)
	Rollback(ctx context.Context, client *action.Rollback, name, description string) error
	Uninstall(ctx context.Context, client *action.Uninstall, name string) (*release.UninstallReleaseResponse, error)
	Test(ctx context.Context, client *action.ReleaseTesting, name string) (*release.Release, error)
	Recover(ctx context.Context, name string, opts helm3.RecoverOptions) (*helm3.Recovery, error)
	Ran() *release.Release
	Ignored() string
	ending
}

// ending is how an operation is ended before its time; see [helm3.Operation].
type ending interface {
	Abandon() bool
	GiveUp() error
}

// operate makes an operation with the hooks' flags and runs work on it in a
// goroutine of its own, so that signals are answered whatever it is doing. name is
// the release's. cancelled is what Helm prints on stdout when the operation is
// interrupted, empty if that's nothing.
//
// The error is work's own, or says that the operation was interrupted; see
// [completed] for one that was interrupted too late.
func (p *program) operate(cfg *action.Configuration, flags *hookFlags, name, cancelled string, work func(context.Context, operation) error) error {
	stop := make(chan struct{})
	told := new(stopNotice)
	leave := p.howToLeave()
	opts := helm3.Options{
		Parallelism: flags.parallelism.n,
		KeepGoing:   flags.keepGoing,
		Stop:        stop,
		UserAgent:   p.userAgent(),
		Namespace:   p.settings.Namespace(),
		Kubectl:     p.kubectl(),
	}
	if opts.Parallelism > 1 {
		opts.Retrier = p.retrier
	}
	ran := new(report.Collector)
	opts.Observer = hooks.Observers(told, ran)
	d := flags.observe(p, &opts, leave)
	out, restore := p.through(d)
	defer restore()
	op := p.newOperation(cfg, opts)
	in := p.interrupts()
	s := supervisor{interrupts: in, out: out, errOut: p.ErrOut, name: name, cancelled: cancelled, leave: leave, told: told, stop: stop}
	err := s.supervise(op, func(ctx context.Context) error {
		err := work(ctx, op)
		if flags.progress != "json" { // which has said so of each hook
			fmt.Fprint(p.ErrOut, op.Ignored())
		}
		if flags.report != "" {
			p.writeReport(flags.report, ran.Timeline(name, p.settings.Namespace(), op.Ran()))
		}
		return err
	})
	in.close()
	return s.overlooked(err)
}

// userAgent tells the API server's log which requests are the hooks'.
func (p *program) userAgent() string {
	return "helm-parallel-hooks/" + pluginVersion(p.version, buildInfo())
}

// cancelledLine is what helm install and helm upgrade print when they're
// interrupted, also where stdout should be JSON (cmd/helm/install.go). The other
// commands die in silence.
func cancelledLine(name string) string { return fmt.Sprintf("Release %s has been cancelled.\n", name) }

// howToLeave says what makes a second signal. Helm ends at the first Ctrl-C, and
// the shell then sends further ones to itself.
func (p *program) howToLeave() string {
	if p.plugin != "" {
		return fmt.Sprintf("To leave at once: kill %d", os.Getpid())
	}
	return "Press Ctrl-C again to leave at once."
}

// stopNotice is an observer that notes whether the display was told that hooks are
// stopped.
type stopNotice struct{ atomic.Bool }

// Observe implements [hooks.Observer].
func (s *stopNotice) Observe(n hooks.Notice) {
	if _, ok := n.(hooks.Stopping); ok {
		s.Store(true)
	}
}

// supervisor stands between an operation and what may interrupt it.
type supervisor struct {
	*interrupts
	out, errOut io.Writer
	name        string
	cancelled   string
	leave       string
	// told is whether the hooks' display has said what is waited for.
	told *stopNotice
	// stop is closed at the first interruption.
	stop chan struct{}
}

// supervise runs work in a goroutine and answers interruptions meanwhile.
//
// The first one, whatever its kind, closes stop; work then ends by itself when
// the hooks that run have ended, unless op can be abandoned, which returns at
// once. What is waited for is said by the hooks' display or, where no hook can be
// kept from starting, by supervise after some patience. The second SIGINT or
// SIGTERM cancels work's context and releases the signals, so that a third one
// kills. Work that hasn't ended after settleTimeout is given up, which may take
// leaveTimeout. A hang-up and the loss of the parent never count as second: they
// come along with a Ctrl-C or with each other, and nobody asked twice. Once
// orphanTimeout has passed, the loss of the parent counts as first, so that one
// signal to a process that has lost it is the second.
//
// When supervise returns before work has, the process is expected to end.
func (s supervisor) supervise(op ending, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()

	var (
		orphaned    = s.orphaned
		interrupted bool
		code        int // of the first signal
		asked       int // how often a person or a supervisor asked
		slow        <-chan time.Time
		alone       <-chan time.Time
		settled     <-chan time.Time
		gaveUp      chan error
		late        <-chan time.Time
	)
	for {
		select {
		case err := <-done:
			if !interrupted {
				return err
			}
			return s.ended(code, err)
		case <-slow:
			if asked < 2 && !s.told.Load() {
				fmt.Fprintf(s.errOut, "Interrupted: waiting until release %q is no longer being changed. %s\n", s.name, s.leave)
			}
			continue
		case <-settled:
			gaveUp = make(chan error, 1)
			late = time.After(leaveTimeout)
			go func() { gaveUp <- op.GiveUp() }()
			continue
		case err := <-gaveUp:
			if err != nil {
				return s.interrupt(code, false, fmt.Errorf("the record of release %q could not be written, see helm status: %w", s.name, err))
			}
			return s.interrupt(code, false, fmt.Errorf("left while release %q was still being changed: %w", s.name, context.Canceled))
		case <-late:
			return s.interrupt(code, false, fmt.Errorf("left while the record of release %q was still being written; see helm status", s.name))
		case <-orphaned:
			orphaned = nil
			alone = time.After(orphanTimeout)
		case <-alone:
			asked = max(asked, 1)
			continue
		case sig := <-s.signals:
			if code == 0 {
				code = signalCode(sig)
			}
			if sig != syscall.SIGHUP {
				asked++
			}
		}

		if !interrupted {
			interrupted = true
			close(s.stop)
			fmt.Fprint(s.out, s.cancelled)
			if op.Abandon() {
				return s.interrupt(code, false, fmt.Errorf("interrupted before the release was changed: %w", context.Canceled))
			}
			slow = time.After(patience)
		}
		if asked > 1 && settled == nil {
			s.release()
			cancel()
			settled = time.After(settleTimeout)
			fmt.Fprintln(s.errOut, "Leaving at once; hooks that run go on in the cluster.")
		}
	}
}

// overlooked returns the error of an operation that ended with err, of which an
// interruption may have come at the same moment. It must not get lost: further
// operations may be about to begin. The interrupts must be closed.
func (s supervisor) overlooked(err error) error {
	if interrupted(err) {
		return err
	}
	select {
	case sig := <-s.signals:
		return s.ended(signalCode(sig), err)
	default:
	}
	select {
	case <-s.orphaned:
		return s.ended(0, err)
	default:
		return err
	}
}

// ended returns the error of an interrupted operation that ended by itself with
// err; about code see [supervisor.interrupt].
func (s supervisor) ended(code int, err error) error {
	if err == nil {
		return s.interrupt(code, true, errors.New("interrupted too late: the operation was already complete"))
	}
	return s.interrupt(code, false, err)
}

// interrupt returns the error with which an interrupted operation ends. A
// code of 0 stands for the loss of the parent: what ended it was most likely a
// SIGTERM, which a plugin isn't told of.
func (s supervisor) interrupt(code int, completed bool, err error) error {
	if code == 0 {
		code = signalCode(os.Signal(syscall.SIGTERM))
	}
	return &interruptedError{err: err, code: code, completed: completed}
}
