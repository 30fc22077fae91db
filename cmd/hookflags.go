package cmd

import (
	"fmt"
	"math"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/action"
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
	keepGoing   bool
}

// addHookFlags declares how hooks are run, the same for every command that does.
// Before the command runs they're checked, and then cfg is made ready.
func (p *program) addHookFlags(cmd *cobra.Command, cfg *action.Configuration) *hookFlags {
	h := &hookFlags{parallelism: defaultParallelism(os.Getenv(parallelismEnv))}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if h.parallelism.bad != nil {
			return h.parallelism.bad
		}
		return p.configure(cfg)
	}
	f := cmd.Flags()
	f.Var(&h.parallelism, "hook-parallelism", "run up to this many hooks of equal weight at once. 0 and 1 run hooks one after another, as Helm does. $"+parallelismEnv+" sets the default")
	f.BoolVar(&h.keepGoing, "hook-keep-going", false, "if set, the other hooks of the same weight still run after a hook has failed. The operation fails all the same")
	completeFlag(cmd, "hook-parallelism", cobra.NoFileCompletions)
	return h
}

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
