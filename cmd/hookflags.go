package cmd

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/helm3"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/report"
)

// parallelismEnv is the default of --hook-parallelism.
const parallelismEnv = "HELM_HOOK_PARALLELISM"

// hooksDesc is what the help of every command says about hooks.
const hooksDesc = `Besides, --hook-parallelism says how many hooks of equal weight may run at once. A
hook never starts before every hook of a lower weight has ended well, and a Job or
Pod not before the ServiceAccounts, ConfigMaps and other objects that are hooks of
its own weight exist.

When a hook fails, no further hook starts; those that run are waited for, so that
the release's record says truly what became of each. Ctrl-C does the same. To leave
at once, send a second signal: Ctrl-C again where this was not called by helm, else
kill with the process number that is shown.
`

// hookFlags are the flags that Helm's commands don't have.
type hookFlags struct {
	parallelism parallelism
	order       string // of report.Orders
	keepGoing   bool
	progress    string // of progressModes
	logs        string // of logModes; empty for the default
	report      string // a file; empty for none
}

// The values of --hook-progress and --hook-logs.
var (
	progressModes = []string{"auto", "live", "plain", "json", "none"}
	logModes      = []string{"none", "failed", "all"}
)

// addHookFlags declares how hooks are run, the same for every command that does.
// Before the command runs they're checked, and then cfg is made ready.
func (p *program) addHookFlags(cmd *cobra.Command, cfg *action.Configuration) *hookFlags {
	h := &hookFlags{parallelism: defaultParallelism(os.Getenv(parallelismEnv)), progress: "auto", order: report.ByName}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if h.parallelism.bad != nil {
			return h.parallelism.bad
		}
		if h.parallelism.n > 1 {
			p.escape()
		}
		if err := checkReportFile(h.report); err != nil {
			return err
		}
		p.retrier = hooks.NewRetrier()
		return p.configure(cfg)
	}
	f := cmd.Flags()
	f.Var(&h.parallelism, "hook-parallelism", "run up to this many hooks of equal weight at once. 0 and 1 run hooks one after another, as Helm does. $"+parallelismEnv+" sets the default")
	f.Var(choice{&h.order, report.Orders}, "hook-order", "in which order hooks that may run at once start: name, or longest-first by how long they took in up to five earlier revisions, those that are not known first. Of no matter where hooks run one after another")
	f.BoolVar(&h.keepGoing, "hook-keep-going", false, "if set, the other hooks of the same weight still run after a hook has failed. The operation fails all the same")
	f.Var(choice{&h.progress, progressModes}, "hook-progress", "how to show on stderr what hooks do: live (in place, on a terminal), plain (lines for a log), json (an object per line) or none. auto is none where hooks run one after another, else live on a terminal and plain elsewhere")
	f.Var(choice{&h.logs, logModes}, "hook-logs", "which logs of hooks to show on stderr: none, failed (with the error, the last lines of each failed container) or all (while hooks run). The default is failed where hooks run at once, else none. Besides, the annotation helm.sh/hook-output-log-policy is followed")
	f.StringVar(&h.report, "hook-report", "", "write to this file which hooks ran when, in the format of its ending: "+strings.Join(reportEndings(), ", "))
	completeFlag(cmd, "hook-parallelism", cobra.NoFileCompletions)
	completeFlag(cmd, "hook-order", cobra.FixedCompletions(report.Orders, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "hook-progress", cobra.FixedCompletions(progressModes, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "hook-logs", cobra.FixedCompletions(logModes, cobra.ShellCompDirectiveNoFileComp))
	return h
}

// logTail is how many last lines of a failed container's log an error holds.
const logTail = 20

// activityDelay is for how long a hook must run before a plain display asks what its
// pods do: a little less than until the line that says so.
const activityDelay = 25 * time.Second

// observe sets on the options how the user is told what hooks do, by the display
// that it returns.
func (h *hookFlags) observe(p *program, o *helm3.Options, leave string) display.Display {
	parallel := h.parallelism.n > 1
	switch {
	case h.logs == "all":
		o.StreamLogs = true
	case h.logs == "failed", h.logs == "" && parallel:
		o.LogTail = logTail
	}
	mode := h.progress
	if mode == "auto" && !parallel {
		mode = "none"
	}
	terminal := p.terminal()
	history := new(atomic.Pointer[report.History])
	duration := func(h *hooks.Hook) (time.Duration, bool) {
		if known := history.Load(); known != nil {
			return known.Duration(h)
		}
		return 0, false
	}
	readHistory := func(revisions []*release.Release) {
		known := report.NewHistory(revisions)
		history.Store(&known)
	}
	if parallel && h.order == report.LongestFirst {
		o.History, o.Duration = readHistory, duration
	}
	options := display.Options{
		Progress:  mode != "none",
		KeepGoing: h.keepGoing,
		Leave:     leave,
		Detached:  p.plugin != "",
		Color:     terminal != nil && os.Getenv("NO_COLOR") == "",
	}
	var d display.Display
	switch {
	case mode == "json":
		o.FollowPods = true
		d = display.NewJSON(p.displayOut(), options)
	case terminal != nil && (mode == "live" || mode == "auto"):
		o.FollowPods = true
		o.History, options.Duration = readHistory, duration
		d = display.NewLive(terminal, options)
	default:
		if options.Progress {
			o.FollowPods, o.FollowAfter = true, activityDelay
		}
		d = display.NewPlain(p.displayOut(), options)
	}
	o.Observer = hooks.Observers(o.Observer, d)
	o.Logs = d
	return d
}

// choice is the value of a flag that is one of several words.
type choice struct {
	value   *string
	allowed []string
}

// Set, String and Type implement [pflag.Value].
func (c choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("must be one of %s", strings.Join(c.allowed, ", "))
	}
	*c.value = s
	return nil
}

func (c choice) String() string {
	if c.value == nil {
		return "" // pflag asks a zero value
	}
	return *c.value
}

func (c choice) Type() string { return "string" }

var errParallelism = fmt.Errorf("must be a whole number from 0 to %d; 0 and 1 run hooks one after another", math.MaxInt32)

// parallelism is the value of --hook-parallelism.
type parallelism struct {
	n int
	// bad is what's wrong with the default. It's kept until the flags have
	// been parsed, since an explicit flag overrides a bad default.
	bad error
}

// defaultParallelism returns the value that the environment variable sets; the
// empty string sets 0.
func defaultParallelism(env string) parallelism {
	if env == "" {
		return parallelism{}
	}
	n, err := parseParallelism(env)
	if err != nil {
		return parallelism{bad: fmt.Errorf("invalid value %q of the environment variable %s: %w", env, parallelismEnv, err)}
	}
	return parallelism{n: n}
}

func parseParallelism(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0, errParallelism
	}
	return int(n), nil
}

// Set, String and Type implement [pflag.Value].
func (p *parallelism) Set(s string) error {
	n, err := parseParallelism(s)
	if err != nil {
		return err
	}
	*p = parallelism{n: n}
	return nil
}

func (p *parallelism) String() string { return strconv.Itoa(p.n) }
func (p *parallelism) Type() string   { return "int" }

var _ pflag.Value = (*parallelism)(nil)
