package cmd

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/cli/output"
)

const versionExample = `  # The version alone
  %[1]s version --short

  # What a bug report should say
  %[1]s version -o json`

func newVersionCmd(p *program) *cobra.Command {
	var short bool
	format := output.Table
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "print the version of the plugin",
		Long:              "Print the version of the plugin, of the libraries it's built on and of Go, and the commit it was built from.",
		Example:           fmt.Sprintf(versionExample, p.name()),
		Args:              require.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			v := p.programVersions(buildInfo())
			if short {
				_, err := fmt.Fprintln(p.Out, v.Version)
				return err
			}
			return format.Write(p.Out, v)
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "print the version alone")
	addOutputFlag(cmd.Flags(), &format)
	completeFlag(cmd, "output", outputFormats)
	cmd.MarkFlagsMutuallyExclusive("short", "output")
	return cmd
}

// programVersions are the versions of all that makes up the program. It's an [output.Writer].
type programVersions struct {
	Version          string `json:"version"`
	Commit           string `json:"commit,omitempty"`
	Date             string `json:"date,omitempty"`
	GoVersion        string `json:"goVersion"`
	Platform         string `json:"platform"`
	HelmLibrary      string `json:"helmLibrary"`
	KubernetesClient string `json:"kubernetesClient"`
}

// programVersions returns what is known of the program from the linker, or else from what Go
// has recorded in the binary.
func (p *program) programVersions(info *debug.BuildInfo) programVersions {
	return programVersions{
		Version:          pluginVersion(p.version, info),
		Commit:           cmp.Or(p.commit, buildSetting(info, "vcs.revision")),
		Date:             cmp.Or(p.date, buildSetting(info, "vcs.time")),
		GoVersion:        runtime.Version(),
		Platform:         runtime.GOOS + "/" + runtime.GOARCH,
		HelmLibrary:      moduleVersion(info, "helm.sh/helm/v3"),
		KubernetesClient: moduleVersion(info, "k8s.io/client-go"),
	}
}

// String is a line for people. It leaves out what only a program would want whole.
func (v programVersions) String() string {
	commit := ""
	if v.Commit != "" {
		commit = fmt.Sprintf(", commit %.12s", v.Commit)
		if day, _, ok := strings.Cut(v.Date, "T"); ok {
			commit += " of " + day
		}
	}
	return fmt.Sprintf("helm-parallel-hooks %s (Helm library %s, %s %s%s)", v.Version, v.HelmLibrary, v.GoVersion, v.Platform, commit)
}

// WriteTable writes the line for people.
func (v programVersions) WriteTable(out io.Writer) error {
	_, err := fmt.Fprintln(out, v)
	return err
}

// WriteJSON writes all that is known.
func (v programVersions) WriteJSON(out io.Writer) error { return output.EncodeJSON(out, v) }

// WriteYAML writes all that is known.
func (v programVersions) WriteYAML(out io.Writer) error { return output.EncodeYAML(out, v) }

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

// buildSetting returns how Go was told to build the program, or what it saw of the
// commit; empty if there was nothing.
func buildSetting(info *debug.BuildInfo, key string) string {
	for _, setting := range info.Settings {
		if setting.Key == key {
			return setting.Value
		}
	}
	return ""
}
