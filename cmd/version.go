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
		Args:              require.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				info = new(debug.BuildInfo)
			}
			version := pluginVersion(p.version, info)
			if short {
				_, err := fmt.Fprintln(p.Out, version)
				return err
			}
			_, err := fmt.Fprintf(p.Out, "helm-parallel-hooks %s (Helm library %s, %s %s/%s)\n",
				version, moduleVersion(info, "helm.sh/helm/v3"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "print the version alone")
	return cmd
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
