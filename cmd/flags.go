package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/postrender"
	"k8s.io/client-go/util/homedir"
)

// Names, shorthands, types, defaults and usage texts of the flags in this file
// are those of Helm 3 (cmd/helm/flags.go).

// addValueFlags declares the flags that set a chart's values.
func addValueFlags(f *pflag.FlagSet, o *values.Options) {
	f.StringSliceVarP(&o.ValueFiles, "values", "f", []string{}, "specify values in a YAML file or a URL (can specify multiple)")
	f.StringArrayVar(&o.Values, "set", []string{}, "set values on the command line (can specify multiple or separate values with commas: key1=val1,key2=val2)")
	f.StringArrayVar(&o.StringValues, "set-string", []string{}, "set STRING values on the command line (can specify multiple or separate values with commas: key1=val1,key2=val2)")
	f.StringArrayVar(&o.FileValues, "set-file", []string{}, "set values from respective files specified via the command line (can specify multiple or separate values with commas: key1=path1,key2=path2)")
	f.StringArrayVar(&o.JSONValues, "set-json", []string{}, "set JSON values on the command line (can specify multiple or separate values with commas: key1=jsonval1,key2=jsonval2)")
	f.StringArrayVar(&o.LiteralValues, "set-literal", []string{}, "set a literal STRING value on the command line")
}

// addChartPathFlags declares the flags that say where a chart comes from.
func addChartPathFlags(f *pflag.FlagSet, o *action.ChartPathOptions) {
	f.StringVar(&o.Version, "version", "", "specify a version constraint for the chart version to use. This constraint can be a specific tag (e.g. 1.1.1) or it may reference a valid range (e.g. ^2.0.0). If this is not specified, the latest version is used")
	f.BoolVar(&o.Verify, "verify", false, "verify the package before using it")
	f.StringVar(&o.Keyring, "keyring", defaultKeyring(), "location of public keys used for verification")
	f.StringVar(&o.RepoURL, "repo", "", "chart repository url where to locate the requested chart")
	f.StringVar(&o.Username, "username", "", "chart repository username where to locate the requested chart")
	f.StringVar(&o.Password, "password", "", "chart repository password where to locate the requested chart")
	f.StringVar(&o.CertFile, "cert-file", "", "identify HTTPS client using this SSL certificate file")
	f.StringVar(&o.KeyFile, "key-file", "", "identify HTTPS client using this SSL key file")
	f.BoolVar(&o.InsecureSkipTLSverify, "insecure-skip-tls-verify", false, "skip tls certificate checks for the chart download")
	f.BoolVar(&o.PlainHTTP, "plain-http", false, "use insecure HTTP connections for the chart download")
	f.StringVar(&o.CaFile, "ca-file", "", "verify certificates of HTTPS-enabled servers using this CA bundle")
	f.BoolVar(&o.PassCredentialsAll, "pass-credentials", false, "pass credentials to all domains")
}

// defaultKeyring is where gpg keeps public keys (Helm's dependency_build.go).
func defaultKeyring() string {
	if home, ok := os.LookupEnv("GNUPGHOME"); ok {
		return filepath.Join(home, "pubring.gpg")
	}
	return filepath.Join(homedir.HomeDir(), ".gnupg", "pubring.gpg")
}

func addTimeoutFlag(f *pflag.FlagSet, timeout *time.Duration) {
	f.DurationVar(timeout, "timeout", 300*time.Second, "time to wait for any individual Kubernetes operation (like Jobs for hooks)")
}

// addWaitFlags declares what is waited for after resources have been changed.
func addWaitFlags(f *pflag.FlagSet, resources, jobs *bool) {
	addWaitFlag(f, resources, "if set, will wait until all Pods, PVCs, Services, and minimum number of Pods of a Deployment, StatefulSet, or ReplicaSet are in a ready state before marking the release as successful. It will wait for as long as --timeout")
	f.BoolVar(jobs, "wait-for-jobs", false, "if set and --wait enabled, will wait until all Jobs have been completed before marking the release as successful. It will wait for as long as --timeout")
}

// addHistoryFlag declares how many revisions are kept.
func addHistoryFlag(f *pflag.FlagSet, revisions *int, byDefault int) {
	f.IntVar(revisions, "history-max", byDefault, "limit the maximum number of revisions saved per release. Use 0 for no limit")
}

// addOutputFlag declares --output, a table by default.
func addOutputFlag(f *pflag.FlagSet, format *output.Format) {
	*format = output.Table
	f.VarP((*outputValue)(format), "output", "o", "prints the output in the specified format. Allowed values: "+strings.Join(output.Formats(), ", "))
}

// outputValue is the value of --output.
type outputValue output.Format

// Set implements [pflag.Value].
func (o *outputValue) Set(s string) error {
	format, err := output.ParseFormat(s)
	if err != nil {
		return err
	}
	*o = outputValue(format)
	return nil
}

func (o *outputValue) String() string { return string(*o) }
func (o *outputValue) Type() string   { return "format" }

// addPostRendererFlags declares the flags that name an executable through which
// manifests go. renderer stays nil if they aren't used.
func addPostRendererFlags(f *pflag.FlagSet, renderer *postrender.PostRenderer) {
	p := &postRenderer{target: renderer}
	f.Var(postRendererPath{p}, "post-renderer", "the path to an executable to be used for post rendering. If it exists in $PATH, the binary will be used, otherwise it will try to look for the executable at the given path")
	f.Var(postRendererArg{p}, "post-renderer-args", "an argument to the post-renderer (can specify multiple)")
}

// postRenderer is what --post-renderer and --post-renderer-args, in any order,
// amount to.
type postRenderer struct {
	target *postrender.PostRenderer
	path   string
	args   []string
}

func (p *postRenderer) update() error {
	if p.path == "" {
		return nil
	}
	renderer, err := postrender.NewExec(p.path, p.args...)
	if err != nil {
		return err
	}
	*p.target = renderer
	return nil
}

// postRendererPath is the value of --post-renderer.
type postRendererPath struct{ *postRenderer }

// Set implements [pflag.Value]. As in Helm, the empty string changes nothing.
func (p postRendererPath) Set(s string) error {
	if s == "" {
		return nil
	}
	p.path = s
	return p.update()
}

func (p postRendererPath) String() string {
	if p.postRenderer == nil {
		return ""
	}
	return p.path
}
func (p postRendererPath) Type() string { return "postRendererString" }

// postRendererArg is the value of --post-renderer-args.
type postRendererArg struct{ *postRenderer }

// Set implements [pflag.Value].
func (p postRendererArg) Set(s string) error {
	p.args = append(p.args, s)
	return p.update()
}

func (p postRendererArg) String() string {
	if p.postRenderer == nil {
		return "[]"
	}
	return "[" + strings.Join(p.args, ",") + "]"
}
func (p postRendererArg) Type() string { return "postRendererArgsSlice" }

// addDryRunFlag declares --dry-run with Helm 3's values; without one it's
// client. See [checkDryRun].
func addDryRunFlag(f *pflag.FlagSet, option *string, usage string) {
	f.StringVar(option, "dry-run", "", usage)
	f.Lookup("dry-run").NoOptDefVal = "client"
}

// checkDryRun returns the value of --dry-run that the action package takes. An
// absent flag, and one given as the empty string, mean none.
func checkDryRun(option string) (string, error) {
	if option == "" {
		return "none", nil
	}
	allowed := []string{"false", "true", "none", "client", "server"}
	if !slices.Contains(allowed, option) {
		//lint:ignore ST1005 Helm's own words
		return "", fmt.Errorf("Invalid dry-run flag. Flag must one of the following: %s", strings.Join(allowed, ", "))
	}
	return option, nil
}

var (
	_ pflag.Value = (*outputValue)(nil)
	_ pflag.Value = postRendererPath{}
	_ pflag.Value = postRendererArg{}
)
