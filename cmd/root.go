// Package cmd is the command line of helm-parallel-hooks: its commands, their
// flags, what they print and their exit codes. What hooks do and how they're run
// is not its business: see internal/helm3 and hooks.
package cmd

import (
	"flag"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
)

const rootDesc = `Run a chart's hooks in parallel.

The commands here do what Helm's commands of the same names do, and take the same
flags. With --hook-parallelism N, or HELM_HOOK_PARALLELISM=N, up to N hooks of equal
weight run at once; a hook never starts before every hook of a lower weight has
ended well. Without it hooks run one after another, as in Helm.
`

// Build is what the linker was told of the program. What it wasn't told is empty,
// and then what Go itself has recorded of the module and its commit is said.
type Build struct {
	// Version is that of plugin.yaml, with or without a v in front.
	Version string
	// Commit is the git commit that the program was built from.
	Commit string
	// Date is when that commit was made, by RFC 3339: when the program was built
	// would make two builds of one commit differ.
	Date string
}

// Run runs the command line args, without the program's name, and returns its
// error after printing it.
//
// Run reads the environment that Helm and its plugins know (HELM_NAMESPACE,
// KUBECONFIG, HELM_DRIVER, ...). Nothing is contacted before the flags have been
// parsed.
func Run(streams genericiooptions.IOStreams, args []string, build Build) error {
	p := newProgram(streams, build.Version)
	p.commit, p.date = build.Commit, build.Date
	return p.run(args)
}

func (p *program) run(args []string) error {
	root := newRootCmd(p)
	root.SetArgs(args)
	if p.plugin != "" && isCompletion(args) {
		hideGlobalFlags(root)
	}
	err := p.checkArguments(args)
	if err != nil {
		root.PrintErrln(root.ErrPrefix(), err.Error())
	} else {
		err = root.Execute()
	}
	if err != nil {
		p.debug("%+v", err)
	}
	return err
}

func newRootCmd(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:          "helm-parallel-hooks",
		Short:        "Run a chart's hooks in parallel.",
		Long:         rootDesc,
		Version:      p.programVersions(buildInfo()).String(),
		SilenceUsage: true,
		Annotations:  map[string]string{cobra.CommandDisplayNameAnnotation: p.name()},
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetIn(p.In)
	cmd.SetOut(p.Out)
	cmd.SetErr(p.ErrOut)

	f := cmd.PersistentFlags()
	p.settings.AddFlags(f)
	// Helm passes a token on in the environment, whence it becomes the flag's
	// default; help must not show it.
	f.Lookup("kube-token").DefValue = ""
	addKlogFlags(f)
	addHelm4GlobalFlags(f)
	p.completeGlobalFlags(cmd)

	cmd.AddCommand(
		newInstallCmd(p),
		newUpgradeCmd(p),
		newRollbackCmd(p),
		newUninstallCmd(p),
		newTestCmd(p),
		newRecoverCmd(p),
		newPlanCmd(p),
		newLintCmd(p),
		newTimelineCmd(p),
		newVersionCmd(p),
	)
	if p.plugin != "" {
		cmd.CompletionOptions.DisableDefaultCmd = true
		cmd.AddCommand(newHelmCompletionCmd())
	}
	return cmd
}

// addKlogFlags adds the flags of client-go's log, hidden and with hyphens, as
// Helm does (cmd/helm/flags.go).
func addKlogFlags(f *pflag.FlagSet) {
	local := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(local)
	local.VisitAll(func(fl *flag.Flag) {
		fl.Name = strings.ReplaceAll(fl.Name, "_", "-")
		added := pflag.PFlagFromGoFlag(fl)
		added.Hidden = true
		f.AddFlag(added)
	})
}
