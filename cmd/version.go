package cmd

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
)

func newVersionCmd(p *program) *cobra.Command {
	var short bool
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "print the version of the plugin",
		Long:              "Print the version of the plugin, of the Helm library it's built on and of Go.",
		Example:           fmt.Sprintf("  # The version alone\n  %s version --short", p.name()),
		Args:              require.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			line := p.versionLine()
			if short {
				line = pluginVersion(p.version, buildInfo())
			}
			_, err := fmt.Fprintln(p.Out, line)
			return err
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "print the version alone")
	return cmd
}

// versionLine says the versions of all that makes up the program.
func (p *program) versionLine() string {
	info := buildInfo()
	return fmt.Sprintf("helm-parallel-hooks %s (Helm library %s, %s %s/%s)",
		pluginVersion(p.version, info), moduleVersion(info, "helm.sh/helm/v3"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildInfo is what the binary knows of its modules, empty if nothing.
func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return new(debug.BuildInfo)
}

// pluginVersion returns the version that the linker was given, or else that of
// the module, with a v in front.
func pluginVersion(linked string, info *debug.BuildInfo) string {
	switch {
	case linked != "":
		return "v" + strings.TrimPrefix(linked, "v")
	case info.Main.Version != "":
		return info.Main.Version
	default:
		return "(unknown)"
	}
}

// moduleVersion returns the version of a module that the program is built from.
func moduleVersion(info *debug.BuildInfo, path string) string {
	for _, module := range info.Deps {
		if module.Path == path {
			return module.Version
		}
	}
	return "(unknown)"
}
