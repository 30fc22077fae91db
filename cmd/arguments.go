package cmd

import (
	"fmt"

	"github.com/spf13/cobra"
)

// arguments returns check with a hint added to its error where the plugin was
// likely given other arguments than the user wrote.
func (p *program) arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return p.explainArguments(check(cmd, args))
	}
}

// explainArguments adds to an error about the number of arguments what may have
// caused it. Both Helms take --kube-insecure-skip-tls-verify, a bool, for a flag
// with a value when they pass arguments to a plugin (Helm 3's
// cmd/helm/load_plugins.go, manuallyProcessArgs), so that the next argument
// never arrives.
func (p *program) explainArguments(err error) error {
	if err == nil || p.plugin == "" || !p.settings.KubeInsecureSkipTLSVerify {
		return err
	}
	return fmt.Errorf("%w\n\nIf --kube-insecure-skip-tls-verify was given: helm drops the argument after it when it calls a plugin. Write --kube-insecure-skip-tls-verify=true instead", err)
}
