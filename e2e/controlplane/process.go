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
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
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
// not nil.
func (g *processGroup) start(name string, stdout io.Writer, args ...string) error {
	p := &child{
		name:   name,
		log:    filepath.Join(g.dir, name+".log"),
		cmd:    exec.Command(filepath.Join(g.binaries, name), args...),
		exited: make(chan struct{}),
	}
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if stdout != nil {
		p.cmd.Stdout = stdout
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
	if g.stopping {
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
