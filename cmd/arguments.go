package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/cli"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// Both Helms tell a plugin's arguments from their own without knowing the
// plugin's flags, so that some command lines arrive with an argument or a
// namespace that nobody wrote. What's in this file refuses them before anything
// is contacted.

const insecureFlag = "--kube-insecure-skip-tls-verify"

// takenFlags are the flags that helm takes out of a plugin's arguments, each
// with the argument after it; besides, it takes --debug (Helm 3's
// cmd/helm/load_plugins.go, manuallyProcessArgs).
var takenFlags = []string{
	"--kube-context", "--namespace", "-n", "--kubeconfig", "--kube-apiserver", "--kube-token", "--kube-as-user",
	"--kube-as-group", "--kube-ca-file", "--registry-config", "--repository-cache", "--repository-config",
	insecureFlag, "--kube-tls-server-name",
}

// checkArguments refuses a command line that helm understood otherwise than it's
// written. It needs the command line of the helm that called; where that can't
// be had, only what shows in the arguments and the environment is refused.
func (p *program) checkArguments(args []string) error {
	if p.plugin == "" || isCompletion(args) {
		return nil
	}
	written, ok := writtenArguments(commandLine(os.Getppid()), os.Getenv("HELM_BIN"), p.plugin, args)
	check := p.checkNamespace
	if ok {
		check = func(args []string) error { return p.compareArguments(written, args) }
	}
	if err := check(args); err != nil {
		return err
	}
	if path := readByHelm(written)["kubeconfig"]; path != "" {
		// In $KUBECONFIG, where helm has put it, a file that is missing is
		// no error, and the next cluster that can be found is taken.
		p.settings.KubeConfig = path
	}
	return checkValues()
}

// commandLine returns the program's name and the arguments of a process, nil
// where the system doesn't tell as Linux does.
func commandLine(pid int) []string {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(content) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(content, []byte{0})), "\x00")
}

// writtenArguments returns what the user wrote after helm, without the plugin's
// name: it's in the caller's command line, if that is the helm that passed args
// on. Something else may stand between helm and us, and pass what it likes.
func writtenArguments(caller []string, bin, plugin string, args []string) ([]string, bool) {
	if bin == "" || len(caller) == 0 || caller[0] != bin {
		return nil, false
	}
	for i := 1; i < len(caller); i++ {
		if caller[i] != plugin {
			continue
		}
		written := slices.Concat(caller[1:i], caller[i+1:])
		if _, passed := divide(written); slices.Equal(passed, args) {
			return written, true
		}
	}
	return nil, false
}

// divide divides a plugin's arguments as helm does, into those that it takes and
// those that it passes on. It takes an empty argument for a flag with a value.
func divide(args []string) (taken, passed []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case slices.Contains(takenFlags, args[i]) || args[i] == "":
			taken = append(taken, args[i])
			if i++; i < len(args) {
				taken = append(taken, args[i])
			}
		case isTaken(args[i]):
			taken = append(taken, args[i])
		default:
			passed = append(passed, args[i])
		}
	}
	return taken, passed
}

// isTaken reports whether helm takes the argument for itself wherever it stands.
func isTaken(arg string) bool {
	name, _, valued := strings.Cut(arg, "=")
	return slices.Contains(takenFlags, name) || name == "--debug" && !valued
}

// reading is what a command line says.
type reading struct {
	cmd     *cobra.Command
	command string
	args    []string
	flags   []string          // the command's own, in order and each with its value
	global  map[string]string // Helm's global flags that are set
	err     string
}

// commands returns the commands as they are before any argument is read.
func (p *program) commands() *cobra.Command {
	none := genericiooptions.IOStreams{In: new(bytes.Buffer), Out: io.Discard, ErrOut: io.Discard}
	root := newRootCmd(newProgram(none, p.version))
	root.InitDefaultHelpCmd()
	return root
}

// read reads a command line as the program does, and does nothing else.
func (p *program) read(args []string) reading {
	cmd, rest, err := p.commands().Find(args)
	if err != nil {
		return reading{err: err.Error()}
	}
	r := reading{cmd: cmd, command: cmd.CommandPath()}
	if cmd.DisableFlagParsing {
		r.args = rest
		return r
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	cmd.InheritedFlags() // adds the global flags to the command's
	global := globalFlags()
	err = cmd.Flags().ParseAll(rest, func(flag *pflag.Flag, value string) error {
		if global.Lookup(flag.Name) == nil {
			r.flags = append(r.flags, flag.Name+"="+value)
			return nil
		}
		return global.Set(flag.Name, value)
	})
	if err != nil {
		r.err = err.Error()
	}
	r.args = cmd.Flags().Args()
	r.global = setFlags(global)
	return r
}

// takesValue reports whether arg is a flag of the command that takes the argument
// after it for its value.
func (r reading) takesValue(arg string) bool {
	if r.cmd == nil {
		return false
	}
	var flag *pflag.Flag
	if name, long := strings.CutPrefix(arg, "--"); long {
		flag = r.cmd.Flags().Lookup(name)
	} else if name, short := strings.CutPrefix(arg, "-"); short && len(name) == 1 {
		flag = r.cmd.Flags().ShorthandLookup(name)
	}
	return flag != nil && flag.NoOptDefVal == ""
}

// spaced returns short flags with a space in front of their value, "-o json" for
// "-ojson".
func (r reading) spaced(arg string) string {
	for i := 1; i < len(arg); i++ {
		if r.takesValue("-" + arg[i:i+1]) {
			return arg[:i+1] + " " + arg[i+1:]
		}
	}
	return arg[:2] + " " + arg[2:]
}

// globalFlags returns Helm's global flags; what the environment sets are their
// defaults.
func globalFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet("helm", pflag.ContinueOnError)
	cli.New().AddFlags(f)
	return f
}

func setFlags(f *pflag.FlagSet) map[string]string {
	set := map[string]string{}
	f.Visit(func(flag *pflag.Flag) { set[flag.Name] = flag.Value.String() })
	return set
}

// readByHelm returns the global flags that helm sees in a plugin's arguments. It
// reads them twice: all, skipping what it doesn't know, which goes wrong with
// "-ojson", and then those that it takes (Helm 3's cmd/helm/root.go, newRootCmd,
// and load_plugins.go, processParent).
func readByHelm(written []string) map[string]string {
	set := map[string]string{}
	taken, _ := divide(written)
	for _, args := range [][]string{written, taken} {
		f := globalFlags()
		addKlogFlags(f)
		addHelm4GlobalFlags(f)
		f.ParseErrorsAllowlist.UnknownFlags = true
		f.Usage = func() {}
		f.SetOutput(io.Discard)
		_ = f.Parse(args) // helm goes on as well
		maps.Copy(set, setFlags(f))
	}
	global := globalFlags()
	maps.DeleteFunc(set, func(name, _ string) bool { return global.Lookup(name) == nil })
	return set
}

// compareArguments compares what the user wrote with what came of it: the
// arguments that helm passed on, and the global flags that it passed on in the
// environment. If they differ, the error names the cause.
func (p *program) compareArguments(written, args []string) error {
	meant, got := p.read(written), p.read(args)
	if meant.err != "" && meant.err == got.err {
		return nil // the command itself reports it
	}
	byHelm := readByHelm(written)
	global := maps.Clone(byHelm)
	maps.Copy(global, got.global)
	if meant.err == got.err && meant.command == got.command && slices.Equal(meant.args, got.args) &&
		slices.Equal(meant.flags, got.flags) && maps.Equal(meant.global, global) {
		return nil
	}

	for i := 0; i < len(written); i++ {
		if slices.Contains(takenFlags, written[i]) {
			i++
		} else if written[i] == "" {
			return errors.New("helm drops an empty argument, and the one after it, when it calls a plugin. Write an empty value after an =, as in --description=, and leave empty arguments out")
		}
	}
	for i, next := range written {
		if i == 0 {
			continue
		}
		flag := written[i-1]
		if flag == insecureFlag {
			return fmt.Errorf("helm did not pass on %s: when it calls a plugin it takes what follows %s for that flag's value. Write %[2]s=true", masked(next), insecureFlag)
		}
		if isTaken(next) && !isTaken(flag) && meant.takesValue(flag) {
			return fmt.Errorf("helm took %s, the value of %s, for a flag of its own. Write %[2]s=VALUE or, if no value was meant, leave %[2]s out", masked(next), flag)
		}
	}
	if namespace, ok := byHelm["namespace"]; ok && meant.global["namespace"] != namespace {
		if err := meant.misreadNamespace(written, namespace); err != nil {
			return err
		}
	}
	return errors.New("helm passed its plugin other arguments than were written: it takes its global flags out of them wherever they stand, even after --. Write a value that looks like such a flag after an =, as in --description=--debug")
}

// misreadNamespace returns the error about the argument in which helm found that
// namespace although nobody wrote it, nil if there is none.
func (r reading) misreadNamespace(args []string, namespace string) error {
	for i, arg := range args {
		if len(arg) < 3 || arg[0] != '-' || arg[1] == '-' || readByHelm(args[i:min(i+2, len(args))])["namespace"] != namespace {
			continue
		}
		if i > 0 && r.takesValue(args[i-1]) {
			return fmt.Errorf("helm took %q for the namespace: it reads the value of %s letter by letter, up to the n, its own flag for a namespace. Write %[2]s=VALUE", namespace, args[i-1])
		}
		return fmt.Errorf("helm took %q for the namespace: it reads %q letter by letter, up to the n, its own flag for a namespace. Write %q", namespace, arg, r.spaced(arg))
	}
	return nil
}

// checkNamespace refuses arguments in which helm likely found a namespace that
// nobody wrote. It's wrong only where somebody wrote that very one as well.
func (p *program) checkNamespace(args []string) error {
	namespace, ok := readByHelm(args)["namespace"]
	if !ok || namespace != os.Getenv("HELM_NAMESPACE") {
		return nil
	}
	r := p.read(args)
	if _, written := r.global["namespace"]; written {
		return nil
	}
	return r.misreadNamespace(args, namespace)
}

// checkValues refuses global flags whose value is a flag itself: one of the two
// came to helm in a way that it misreads, or a value is missing.
func checkValues() error {
	f := globalFlags()
	values := map[string][]string{"kubeconfig": {os.Getenv("KUBECONFIG")}}
	f.VisitAll(func(flag *pflag.Flag) {
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values[flag.Name] = list.GetSlice()
		} else if flag.Value.Type() == "string" && flag.DefValue != "" {
			values[flag.Name] = []string{flag.DefValue}
		}
	})
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[name] {
			// A token may begin with a hyphen.
			if !strings.HasPrefix(value, "-") || name == "kube-token" && !strings.HasPrefix(value, "--") {
				continue
			}
			return fmt.Errorf("helm took %s for the value of --%s. Give --%[2]s a value, and if %s is among the flags, write it as %[3]s=true", masked(value), name, insecureFlag)
		}
	}
	return nil
}

// masked is how an argument is shown: a flag without its value, which may be a
// secret.
func masked(arg string) string {
	if strings.HasPrefix(arg, "-") {
		arg, _, _ = strings.Cut(arg, "=")
	}
	return strconv.Quote(arg)
}

// arguments returns check with a hint added to its error where the plugin was
// likely given other arguments than the user wrote.
func (p *program) arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return p.explainArguments(check(cmd, args))
	}
}

// explainArguments adds to an error about the number of arguments what may have
// caused it, for systems where [program.checkArguments] can't tell.
func (p *program) explainArguments(err error) error {
	if err == nil || p.plugin == "" || !p.settings.KubeInsecureSkipTLSVerify {
		return err
	}
	return fmt.Errorf("%w\n\nIf %s was given: helm drops the argument after it when it calls a plugin. Write %[2]s=true instead", err, insecureFlag)
}
