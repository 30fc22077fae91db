// Command helm-parallel-hooks is a Helm plugin that does what Helm's own
// commands of the same names do and runs a chart's hooks of equal weight in
// parallel.
package main

import (
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/kube"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubeconfig files name auth plugins

	"github.com/helm-parallel-hooks/helm-parallel-hooks/cmd"
)

// The linker sets version from plugin.yaml, the only place it's written, and commit
// and date from git.
var version, commit, date string

func main() {
	// A tenth of a short command's time went into collecting garbage, of which
	// there's little: parsing the server's OpenAPI documents takes most.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	// Objects must have the field manager of Helm's own binary (Helm's
	// cmd/helm/helm.go): with another one, a later upgrade by Helm would
	// find the fields owned by two.
	kube.ManagedFieldsManager = "helm"
	// Templates see it as .Capabilities.HelmVersion. The library knows its
	// minor version alone; Helm's own binary has the rest from its linker.
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "helm.sh/helm/v3" {
				chartutil.DefaultCapabilities.HelmVersion.Version = module.Version
			}
		}
	}
	// Helm's library logs some warnings by the standard logger; they should
	// look as they do in Helm.
	log.SetFlags(log.Lshortfile)
	// A reader that went away, a closed terminal or pager, must not kill an
	// operation half-way. Being notified turns the signal into a write error;
	// unlike ignoring it, it isn't inherited by a post-renderer.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	os.Exit(cmd.ExitCode(cmd.Run(streams, os.Args[1:], cmd.Build{Version: version, Commit: commit, Date: date})))
}
