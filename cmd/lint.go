package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/repo"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/lint"
)

const lintDesc = `Check the hooks of a chart, without a cluster. The chart is rendered as by helm
template, and hooks of all events are looked at, tests included.

What's looked for: weights, events and policies that Helm reads otherwise than they're
written; annotations of the plugin that can't be followed; Jobs and Pods that use an
object before it's there; hooks that are one object; Jobs that are left to Kubernetes'
defaults; weights that keep hooks apart for no visible reason. Every rule is explained in
docs/lint.md. Of the chart's other resources, helm lint says what it thinks.

The exit code is 0 if there are no errors, else 1. With --strict, warnings count as well.
`

const lintExample = `  # With the values that production has
  %[1]s lint ./shop -f production.yaml

  # For a code-scanning service
  %[1]s lint ./shop -o sarif > hooks.sarif

  # Fail on warnings, too
  %[1]s lint ./shop --strict`

// lintRun is one run of the lint command.
type lintRun struct {
	*program
	client      *action.Install
	values      values.Options
	kubeVersion string
	apiVersions []string
}

func newLintCmd(p *program) *cobra.Command {
	cfg := &action.Configuration{Log: p.debug}
	l := &lintRun{program: p, client: action.NewInstall(cfg)}
	var strict bool
	format := "table"

	cmd := &cobra.Command{
		Use:               "lint [CHART]",
		Short:             "check the hooks of a chart",
		Long:              lintDesc,
		Example:           fmt.Sprintf(lintExample, p.name()),
		Args:              p.arguments(require.ExactArgs(1)),
		ValidArgsFunction: p.lintArguments,
		RunE: func(_ *cobra.Command, args []string) error {
			p.escape()
			report, err := l.check(cfg, args[0])
			if err != nil {
				return err
			}
			err = writeAs(p.Out, report, format, map[string]func(io.Writer) error{
				"table": report.WriteTable,
				"sarif": func(out io.Writer) error {
					return report.WriteSARIF(out, pluginVersion(p.version, buildInfo()))
				},
			})
			if err != nil {
				return err
			}
			if report.Errors > 0 || strict && report.Warnings > 0 {
				return fmt.Errorf("hooks of chart %s: %s", report.Chart, report.Summary())
			}
			return nil
		},
	}

	f := cmd.Flags()
	f.BoolVar(&strict, "strict", false, "fail on lint warnings")
	f.BoolVar(&l.client.IsUpgrade, "is-upgrade", false, "set .Release.IsUpgrade instead of .Release.IsInstall")
	f.StringVar(&l.kubeVersion, "kube-version", "", "Kubernetes version used for Capabilities.KubeVersion")
	f.StringSliceVarP(&l.apiVersions, "api-versions", "a", []string{}, "Kubernetes api versions used for Capabilities.APIVersions")
	addValueFlags(f, &l.values)
	addChartPathFlags(f, &l.client.ChartPathOptions)
	formats := formatValue{choice{&format, []string{"table", "json", "sarif"}}}
	f.VarP(formats, "output", "o", formats.usage())
	completeFlag(cmd, "output", cobra.FixedCompletions(formats.allowed, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "version", p.lintVersions)
	return cmd
}

// check renders the chart and returns what's wrong with its hooks.
func (l *lintRun) check(cfg *action.Configuration, ref string) (*lint.Report, error) {
	rel, err := l.render(ref)
	if err != nil {
		return nil, err
	}
	templates, err := renderTemplates(rel, cfg.Capabilities, l.client.IsUpgrade)
	if err != nil {
		return nil, err
	}
	return lint.Check(rel, templates, lint.NewSources(rel.Chart, ref))
}

// render returns the release that helm template would render (Helm's
// cmd/helm/template.go).
func (l *lintRun) render(ref string) (*release.Release, error) {
	if l.kubeVersion != "" {
		version, err := chartutil.ParseKubeVersion(l.kubeVersion)
		if err != nil {
			return nil, fmt.Errorf("invalid kube version '%s': %w", l.kubeVersion, err)
		}
		l.client.KubeVersion = version
	}
	registryClient, err := l.registryClient(&l.client.ChartPathOptions)
	if err != nil {
		return nil, err
	}
	l.client.SetRegistryClient(registryClient)
	chrt, vals, err := l.loadChart(l.client, ref, &l.values)
	if err != nil && l.isNowhere(ref) {
		return nil, fmt.Errorf("there is no chart %q in this folder: %w", ref, err)
	}
	if err != nil {
		return nil, err
	}
	l.client.DryRun, l.client.DryRunOption, l.client.ClientOnly = true, "client", true
	l.client.Replace = true // or the name would be looked up
	l.client.ReleaseName = "release-name"
	l.client.Namespace = l.settings.Namespace()
	l.client.APIVersions = l.apiVersions
	return l.client.Run(chrt, vals)
}

// isNowhere reports whether ref can be meant for a file or folder alone, and there's none,
// which Helm doesn't say: it takes such for the name of a repository and its chart (pkg/action,
// LocateChart, and pkg/downloader, ResolveChartVersion).
func (l *lintRun) isNowhere(ref string) bool {
	ref = strings.TrimSpace(ref)
	if _, err := os.Stat(ref); err == nil || l.client.RepoURL != "" || strings.Contains(ref, "://") {
		return false
	}
	if filepath.IsAbs(ref) || strings.HasPrefix(ref, ".") {
		return false // of those it does
	}
	name, _, inside := strings.Cut(ref, "/")
	if !inside {
		return true
	}
	repositories, err := repo.LoadFile(l.settings.RepositoryConfig)
	return err != nil || !repositories.Has(name)
}

// renderTemplates returns what the templates of a release render to: some of that Helm
// leaves out, and doesn't say where it was. It's rendered once more, as it was for
// the release (pkg/action/install.go, RunWithContext).
func renderTemplates(rel *release.Release, capabilities *chartutil.Capabilities, isUpgrade bool) (map[string]string, error) {
	if capabilities == nil {
		return nil, errors.New("the chart was rendered without capabilities") // a bug
	}
	options := chartutil.ReleaseOptions{Name: rel.Name, Namespace: rel.Namespace, Revision: rel.Version, IsInstall: !isUpgrade, IsUpgrade: isUpgrade}
	vals, err := chartutil.ToRenderValuesWithSchemaValidation(rel.Chart, rel.Config, options, capabilities, true)
	if err != nil {
		return nil, err
	}
	return engine.Render(rel.Chart, vals)
}
