package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// watchdogScript outlives this process by a moment: it collects the children's process groups from its standard input,
// and when that ends without a word, because this process was killed, it ends them and removes their folder.
const watchdogScript = `
while read -r group; do groups="$groups $group"; done
for group in $groups; do kill -KILL "-$group"; done
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }`

// processGroup is a set of child processes that end together.
type processGroup struct {
	binaries, dir string
	watchdog      *exec.Cmd
	tell          io.WriteCloser // the watchdog's standard input

	mu       sync.Mutex
	children []*child
	stopping bool
	fail     context.CancelCauseFunc
}

type child struct {
	name   string
	args   []string
	stdout io.Writer // nil if that goes to the log
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
	killed bool  // whether it was told to end while the others go on; guarded by the group's mu
	err    error // why it ended before it was told to, if failWith's context did not tell; read after exited is closed
}

func newProcessGroup(binaries, dir string) (*processGroup, error) {
	watchdog := exec.Command("/bin/sh", "-c", watchdogScript, "watchdog", dir)
	watchdog.SysProcAttr = ownGroup()
	tell, err := watchdog.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := watchdog.Start(); err != nil {
		return nil, err
	}
	return &processGroup{binaries: binaries, dir: dir, watchdog: watchdog, tell: tell}, nil
}

// ownGroup keeps a Ctrl-C in the terminal from reaching a child: it is for us to end it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// failWith returns a context that ends, with the reason as its cause, when a child exits by itself.
func (g *processGroup) failWith(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, fail := context.WithCancelCause(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = fail
	return ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.fail = nil
		fail(nil)
	}
}

// start runs a program of the binaries folder. Its output goes to a log file, but for standard output if stdout is
// not nil: that gets whole lines.
func (g *processGroup) start(name string, stdout io.Writer, args ...string) error {
	return g.run(name, stdout, args, os.O_TRUNC)
}

// run is start with what happens to a log file that is there.
func (g *processGroup) run(name string, stdout io.Writer, args []string, log int) error {
	p := &child{
		name:   name,
		args:   args,
		stdout: stdout,
		log:    filepath.Join(g.dir, name+".log"),
		cmd:    exec.Command(programPath(g.binaries, name), args...),
		exited: make(chan struct{}),
	}
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|log, 0o666)
	if err != nil {
		return err
	}
	defer file.Close()
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if stdout != nil {
		p.cmd.Stdout = &wholeLines{to: stdout}
	}
	p.cmd.Dir = g.dir
	// Nothing of the user's own settings may reach these programs.
	p.cmd.Env = []string{"HOME=" + g.dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + g.dir}
	p.cmd.SysProcAttr = ownGroup()
	if err := p.cmd.Start(); err != nil {
		return err
	}
	g.mu.Lock()
	g.children = append(g.children, p)
	g.mu.Unlock()
	go g.wait(p)
	if _, err := fmt.Fprintln(g.tell, p.cmd.Process.Pid); err != nil {
		return fmt.Errorf("telling the watchdog: %w", err)
	}
	return nil
}

// wait reaps p; stop waits for it through p.exited.
func (g *processGroup) wait(p *child) {
	defer close(p.exited)
	err := p.cmd.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping || p.killed {
		return
	}
	if err == nil {
		err = errors.New("exit status 0")
	}
	err = fmt.Errorf("%s ended by itself: %w; the end of its log:\n%s", p.name, err, tail(p.log, 15))
	if g.fail != nil {
		g.fail(err)
		return
	}
	p.err = err
}

// running returns the child of that name that runs, also where it has been paused.
func (g *processGroup) running(name string) (*child, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.children {
		if p.name == name && !p.killed {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no %s is running", name)
}

// signal signals a child, and those that it has started itself.
func (g *processGroup) signal(name string, signal syscall.Signal) error {
	p, err := g.running(name)
	if err == nil {
		err = syscall.Kill(-p.cmd.Process.Pid, signal)
	}
	if err != nil {
		return fmt.Errorf("sending %s to %s: %w", signal, name, err)
	}
	return nil
}

// kill ends a child and returns when it has ended. That it's gone is no error from now on.
func (g *processGroup) kill(name string) error {
	p, err := g.running(name)
	if err != nil {
		return err
	}
	g.mu.Lock()
	p.killed = true
	g.mu.Unlock()
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending %s: %w", name, err)
	}
	<-p.exited
	return p.err
}

// restart runs a child that was killed again, as it was run the last time. Its log goes on.
func (g *processGroup) restart(name string) error {
	g.mu.Lock()
	var last *child
	alive := false
	for _, p := range g.children {
		if p.name == name {
			last, alive = p, !p.killed
		}
	}
	g.mu.Unlock()
	switch {
	case last == nil:
		return fmt.Errorf("%s was never started", name)
	case alive:
		return fmt.Errorf("%s is running already", name)
	}
	return g.run(name, last.stdout, last.args, os.O_APPEND)
}

// wholeLines passes lines on once they are complete, so that a process which is killed doesn't leave half of one in
// front of the first line of the next.
type wholeLines struct {
	to   io.Writer
	rest []byte
}

func (w *wholeLines) Write(piece []byte) (int, error) {
	w.rest = append(w.rest, piece...)
	end := bytes.LastIndexByte(w.rest, '\n') + 1
	if end == 0 {
		return len(piece), nil
	}
	if _, err := w.to.Write(w.rest[:end]); err != nil {
		return 0, err
	}
	w.rest = append(w.rest[:0], w.rest[end:]...)
	return len(piece), nil
}

// stop ends all children and the watchdog, and waits for them. Nothing of theirs is worth a graceful end.
func (g *processGroup) stop() error {
	g.mu.Lock()
	g.stopping = true
	g.mu.Unlock()
	var errs []error
	for _, p := range g.children {
		select {
		case <-p.exited:
		default:
			if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("ending %s: %w", p.name, err))
				continue
			}
		}
		select {
		case <-p.exited:
			errs = append(errs, p.err)
		case <-time.After(10 * time.Second):
			errs = append(errs, fmt.Errorf("%s does not end", p.name))
		}
	}
	// The watchdog goes last, and without having seen the end of its input.
	if err := g.watchdog.Process.Kill(); err != nil {
		errs = append(errs, fmt.Errorf("ending the watchdog: %w", err))
	}
	_ = g.watchdog.Wait() // it was killed, and says so
	return errors.Join(errs...)
}

// tail returns the last lines of a log file, as far as they can be read.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	var b strings.Builder
	for _, line := range all[max(0, len(all)-lines):] {
		fmt.Fprintf(&b, "\t%s\n", line)
	}
	return b.String()
}
