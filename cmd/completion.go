package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/helmpath"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/repo"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Shells are offered what Helm offers them. The scripts are helm's own, which
// runs plugin.complete for what comes after the plugin's name, or, for the bare
// binary, those of the completion command.

// reachTimeout is how long somebody who pressed the tab key waits for a cluster
// that doesn't answer.
const reachTimeout = 3 * time.Second

// candidates are what may stand at a place of the command line, each with a
// description after a tab, and what the shell is to do with them.
type candidates = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// newHelmCompletionCmd returns the command that takes the place of the scripts
// where helm called, since they'd complete another command than users type.
func newHelmCompletionCmd() *cobra.Command {
	return &cobra.Command{
		Use:                "completion",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New(`helm's own scripts complete the commands of its plugins; see "helm completion --help"`)
		},
	}
}

// completeFlag says what the values of a flag are.
func completeFlag(cmd *cobra.Command, name string, values candidates) {
	if err := cmd.RegisterFlagCompletionFunc(name, values); err != nil {
		panic(err) // the flag isn't there, or done already
	}
}

// completeGlobalFlags says what the values of Helm's global flags are (Helm's
// cmd/helm/root.go).
func (p *program) completeGlobalFlags(root *cobra.Command) {
	completeFlag(root, "namespace", p.namespaces)
	completeFlag(root, "kube-context", p.kubeContexts)
}

// isCompletion reports whether a shell's script asks for candidates.
func isCompletion(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// hideGlobalFlags keeps Helm's global flags out of the candidates, to which helm
// adds them itself. Their values are still completed.
func hideGlobalFlags(root *cobra.Command) {
	globalFlags().VisitAll(func(flag *pflag.Flag) { hide(root.PersistentFlags(), flag.Name) })
}

// arguments of each command (Helm's cmd/helm, the file of that command).

func (p *program) installArguments(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) == installNames(cmd) {
		return p.charts(toComplete)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// installVersions are the versions of the chart that's to be installed.
func (p *program) installVersions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if n := installNames(cmd); len(args) == n+1 {
		return p.versions(args[n])
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// installNames is how many arguments come before the chart.
func installNames(cmd *cobra.Command) int {
	if generate, err := cmd.Flags().GetBool("generate-name"); err == nil && generate {
		return 0
	}
	return 1
}

func (p *program) upgradeArguments(_ *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return p.releases(nil)
	case 1:
		return p.charts(toComplete)
	}
	return noMoreArguments()
}

// upgradeVersions are the versions of the chart that's upgraded to.
func (p *program) upgradeVersions(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 2 {
		return p.versions(args[1])
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func (p *program) rollbackArguments(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return p.releases(nil)
	case 1:
		return p.revisions(args[0])
	}
	return noMoreArguments()
}

func (p *program) uninstallArguments(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return p.releases(args)
}

func (p *program) testArguments(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return p.releases(nil)
	}
	return noMoreArguments()
}

func (p *program) lintArguments(_ *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return p.charts(toComplete)
	}
	return noMoreArguments()
}

// lintVersions are the versions of the chart that's checked.
func (p *program) lintVersions(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return p.versions(args[0])
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func noMoreArguments() ([]string, cobra.ShellCompDirective) {
	return cobra.AppendActiveHelp(nil, "This command does not take any more arguments (but may accept flags)."), cobra.ShellCompDirectiveNoFileComp
}

// outputFormats are the values of --output.
func outputFormats(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	descriptions := output.FormatsWithDesc()
	var formats []string
	for _, name := range slices.Sorted(maps.Keys(descriptions)) {
		formats = append(formats, name+"\t"+descriptions[name])
	}
	return formats, cobra.ShellCompDirectiveNoFileComp
}

// cascades are the values of --cascade. Helm offers files.
var cascades = cobra.FixedCompletions([]string{
	"background\tdelete dependents after the object",
	"foreground\tdelete dependents before the object",
	"orphan\tleave dependents",
}, cobra.ShellCompDirectiveNoFileComp)

// reach prepares cfg for a cluster that someone waits for.
func (p *program) reach(cfg *action.Configuration) error {
	if flags, ok := p.settings.RESTClientGetter().(*genericclioptions.ConfigFlags); ok {
		wrap := flags.WrapConfigFn
		flags.WrapConfigFn = func(config *rest.Config) *rest.Config {
			config = wrap(config)
			config.Dial = (&net.Dialer{Timeout: reachTimeout}).DialContext
			return config
		}
	}
	return p.configure(cfg)
}

// releases are the releases of the namespace, whatever their status, without
// those that are on the command line already.
func (p *program) releases(without []string) ([]string, cobra.ShellCompDirective) {
	cfg := new(action.Configuration)
	if err := p.reach(cfg); err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	list := action.NewList(cfg)
	list.All = true
	list.Limit = 0
	list.SetStateMask()
	releases, err := list.Run()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	// Not filtered by what has been typed: zsh and fish match by more than
	// prefixes.
	var choices []string
	for _, rel := range releases {
		if !slices.Contains(without, rel.Name) {
			chart := metadata(rel)
			choices = append(choices, fmt.Sprintf("%s\t%s-%s -> %s", rel.Name, chart.Name, chart.Version, rel.Info.Status))
		}
	}
	return choices, cobra.ShellCompDirectiveNoFileComp
}

// revisions are those of a release.
func (p *program) revisions(name string) ([]string, cobra.ShellCompDirective) {
	cfg := new(action.Configuration)
	if err := p.reach(cfg); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	history, err := action.NewHistory(cfg).Run(name)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var choices []string
	for _, rel := range history {
		chart := metadata(rel)
		choices = append(choices, fmt.Sprintf("%d\tApp: %s, Chart: %s-%s", rel.Version, chart.AppVersion, chart.Name, chart.Version))
	}
	return choices, cobra.ShellCompDirectiveNoFileComp
}

// metadata returns what a release's record says of its chart, nothing if there
// isn't any.
func metadata(rel *release.Release) *chart.Metadata {
	if rel.Chart == nil || rel.Chart.Metadata == nil {
		return new(chart.Metadata)
	}
	return rel.Chart.Metadata
}

// namespaces are the cluster's.
func (p *program) namespaces(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	cfg := new(action.Configuration)
	if err := p.reach(cfg); err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	client, err := cfg.KubernetesClientSet()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(context.Background(), reachTimeout)
	defer cancel()
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	for _, namespace := range list.Items {
		names = append(names, namespace.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// kubeContexts are those of the kubeconfig files.
func (p *program) kubeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if p.settings.KubeConfig != "" {
		rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: p.settings.KubeConfig}
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(config.Contexts)) {
		names = append(names, name+"\t"+config.Contexts[name].Cluster)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// charts are the charts of a repository that has been added, once its name is
// there, and before that the names of such repositories, the beginnings of URLs
// and, once something has been typed, files (Helm's cmd/helm/search_repo.go,
// compListCharts).
func (p *program) charts(toComplete string) ([]string, cobra.ShellCompDirective) {
	var choices []string
	directive := cobra.ShellCompDirectiveDefault
	for _, r := range p.repositories() {
		if strings.HasPrefix(toComplete, r.Name+"/") {
			choices = append(choices, p.chartsOf(r.Name)...)
			directive = cobra.ShellCompDirectiveDefault
			break
		}
		if strings.HasPrefix(r.Name, toComplete) {
			choices = append(choices, r.Name+"/\t"+r.URL)
			directive = cobra.ShellCompDirectiveNoSpace
		}
	}
	for _, scheme := range []string{"oci://\tChart OCI prefix", "https://\tChart URL prefix", "http://\tChart URL prefix", "file://\tChart local URL prefix"} {
		if strings.HasPrefix(scheme, toComplete) {
			choices = append(choices, scheme)
			directive |= cobra.ShellCompDirectiveNoSpace
		}
	}
	if toComplete == "" {
		return append(choices, "./\tRelative path prefix to local chart", "/\tAbsolute path prefix to local chart"), directive
	}
	// The shell itself offers files where there is nothing else.
	if len(choices) == 0 {
		return nil, directive
	}
	files, err := os.ReadDir(".")
	if err != nil {
		return choices, directive
	}
	for _, file := range files {
		if strings.HasPrefix(file.Name(), toComplete) {
			choices = append(choices, file.Name())
		}
	}
	return choices, directive
}

// repositories are those that were added.
func (p *program) repositories() []*repo.Entry {
	file, err := repo.LoadFile(p.settings.RepositoryConfig)
	if err != nil {
		return nil
	}
	return file.Repositories
}

// chartsOf are the charts of a repository, from the list that helm keeps of them
// or, where there's none yet, from its index.
func (p *program) chartsOf(repository string) []string {
	var names []string
	content, err := os.ReadFile(filepath.Join(p.settings.RepositoryCache, helmpath.CacheChartsFile(repository)))
	if err == nil {
		names = strings.Fields(string(content))
	} else if index, err := p.index(repository); err == nil {
		names = slices.Sorted(maps.Keys(index.Entries))
	}
	for i, name := range names {
		names[i] = repository + "/" + name
	}
	return names
}

// index is what helm has fetched of a repository.
func (p *program) index(repository string) (*repo.IndexFile, error) {
	return repo.LoadIndexFile(filepath.Join(p.settings.RepositoryCache, helmpath.CacheIndexFile(repository)))
}

// versions are those of a chart in a repository that was added (Helm's
// cmd/helm/flags.go, compVersionFlag).
func (p *program) versions(ref string) ([]string, cobra.ShellCompDirective) {
	repository, name, ok := strings.Cut(ref, "/")
	if !ok || strings.Contains(name, "/") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	index, err := p.index(repository)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var choices []string
	for _, version := range index.Entries[name] {
		choice := version.Version + "\t"
		if version.AppVersion != "" {
			choice += "App: " + version.AppVersion + ", "
		}
		choice += "Created: " + version.Created.Format("January 2, 2006") + " "
		if version.Deprecated {
			choice += "(deprecated)"
		}
		choices = append(choices, choice)
	}
	return choices, cobra.ShellCompDirectiveNoFileComp
}
