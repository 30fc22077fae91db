package cmd

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/cli"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
)

// program is what the commands of one run share.
type program struct {
	genericiooptions.IOStreams
	// version, commit and date are those of the [Build].
	version, commit, date string
	// plugin is the name by which Helm called us, empty for the bare binary.
	plugin   string
	settings *cli.EnvSettings
	logger   *log.Logger
	// retrier is below all clients of the cluster. Until an operation starts it
	// requests are made once, as Helm does.
	retrier *hooks.Retrier

	// newOperation and interrupts are what tests put something else for.
	newOperation func(*action.Configuration, helm3.Options) operation
	interrupts   func() *interrupts
}

// newProgram reads the environment: Helm's settings, and whether Helm called us.
func newProgram(streams genericiooptions.IOStreams, version string) *program {
	streams.ErrOut = &lockedWriter{w: streams.ErrOut}
	p := &program{
		IOStreams: streams,
		version:   version,
		plugin:    os.Getenv("HELM_PLUGIN_NAME"),
		settings:  cli.New(),
		logger:    log.New(streams.ErrOut, "", log.Lshortfile),
		newOperation: func(cfg *action.Configuration, opts helm3.Options) operation {
			return helm3.New(cfg, opts)
		},
	}
	parent := 0
	if p.plugin != "" {
		// Taken now, since the parent may be gone by the time it's watched.
		parent = os.Getppid()
	}
	p.interrupts = func() *interrupts { return watchInterrupts(parent) }
	return p
}

// name is what the user typed to get here.
func (p *program) name() string {
	if p.plugin != "" {
		return "helm " + p.plugin
	}
	return "helm-parallel-hooks"
}

// terminal returns the terminal that stderr is, nil if it's none on which something
// can be drawn.
func (p *program) terminal() *os.File {
	locked, ok := p.ErrOut.(*lockedWriter)
	if !ok {
		return nil
	}
	file, ok := locked.w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return file
}

// through passes what is written to stderr through the display, until restore is
// called, which closes the display. One that writes to stderr itself is only closed.
// out is stdout, through the display if both are terminals.
func (p *program) through(d display.Display) (out io.Writer, restore func()) {
	live, ok := d.(*display.Live)
	if !ok {
		return p.Out, d.Close
	}
	out = p.Out
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		out = live
	}
	locked := p.ErrOut.(*lockedWriter)
	terminal := locked.redirect(live)
	redirectKlog(p.ErrOut)
	return out, func() {
		d.Close()
		locked.redirect(terminal)
	}
}

// redirectKlog has client-go's log, by which the API server's warnings come, written
// to out and nowhere else, each line once: klog would write severe ones to stderr as
// well, and again as each lesser severity.
func redirectKlog(out io.Writer) {
	var f flag.FlagSet
	klog.InitFlags(&f)
	_ = f.Set("logtostderr", "false")
	_ = f.Set("stderrthreshold", "FATAL")
	_ = f.Set("one_output", "true")
	klog.SetOutput(out)
}

// kubectl is how to call kubectl, in a shell, as whom and for the cluster that the
// settings name. A token is left out.
func (p *program) kubectl() string {
	call := "kubectl"
	add := func(flag, value string) {
		if value != "" {
			call += " " + flag + " " + display.ShellWord(value)
		}
	}
	// Helm passes its flag on in the variable, which the user's shell doesn't have.
	file := p.settings.KubeConfig
	if file == "" && p.plugin != "" {
		file = os.Getenv("KUBECONFIG")
	}
	if !strings.ContainsRune(file, filepath.ListSeparator) {
		add("--kubeconfig", file)
	}
	add("--context", p.settings.KubeContext)
	add("--server", p.settings.KubeAPIServer)
	add("--as", p.settings.KubeAsUser)
	for _, group := range p.settings.KubeAsGroups {
		add("--as-group", group)
	}
	add("--certificate-authority", p.settings.KubeCaFile)
	add("--tls-server-name", p.settings.KubeTLSServerName)
	if p.settings.KubeInsecureSkipTLSVerify {
		call += " --insecure-skip-tls-verify"
	}
	return call
}

// debug logs to stderr if --debug was given, as Helm does (cmd/helm/helm.go).
func (p *program) debug(format string, args ...any) {
	if p.settings.Debug {
		p.logger.Output(2, fmt.Sprintf("%s [debug] %s\n", time.Now(), fmt.Sprintf(format, args...)))
	}
}

// warn tells the user something on stderr, in Helm's form.
func (p *program) warn(message string) {
	fmt.Fprintf(p.ErrOut, "WARNING: %s\n", message)
}

// escape has what is written to stderr from now on escaped where a terminal would not
// show it as text: names in errors and warnings are a chart's or the cluster's. What a
// display writes is its own matter. Where hooks run one after another, and nothing but
// Helm's is shown, it stays as in Helm.
func (p *program) escape() {
	p.ErrOut.(*lockedWriter).escape()
	log.SetOutput(p.ErrOut) // by which Helm's library tells of values, say
}

// displayOut is stderr for a display.
func (p *program) displayOut() io.Writer { return unescaped{p.ErrOut.(*lockedWriter)} }

// lockedWriter lets goroutines share a writer. Each call of Write is one of the
// underlying writer's, so lines that are written whole stay whole.
type lockedWriter struct {
	mu       sync.Mutex
	w        io.Writer
	escaping bool
}

func (l *lockedWriter) escape() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.escaping = true
}

// redirect has further writes go to another writer and returns the one so far.
func (l *lockedWriter) redirect(to io.Writer) io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.w
	l.w = to
	return w
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.escaping {
		return l.w.Write(b)
	}
	if _, err := l.w.Write(display.PrintableLines(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// unescaped is a writer that shares the lock.
type unescaped struct{ *lockedWriter }

func (u unescaped) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.w.Write(b)
}
