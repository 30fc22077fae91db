package cmd

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// The flags below are Helm 4's. A Helm 4 that calls the plugin passes them on,
// and its users write them, so they're accepted with the meaning that they have
// on Helm 3's engine. They're hidden: help shows Helm 3's flags.

// addHelm4GlobalFlags declares the global flags that Helm 4 doesn't keep for
// itself when it calls a plugin. They have no effect here.
func addHelm4GlobalFlags(f *pflag.FlagSet) {
	f.String("color", "auto", "accepted for Helm 4; has no effect")
	f.String("colour", "auto", "accepted for Helm 4; has no effect")
	f.String("content-cache", "", "accepted for Helm 4; has no effect")
	hide(f, "color", "colour", "content-cache")
}

// addRollbackOnFailureFlag declares Helm 4's name of --atomic.
func addRollbackOnFailureFlag(f *pflag.FlagSet, atomic *bool) {
	f.BoolVar(atomic, "rollback-on-failure", false, "Helm 4's name of --atomic")
	hide(f, "rollback-on-failure")
}

// addForceReplaceFlag declares Helm 4's name of --force, and refuses the flag
// that it offers beside it.
func addForceReplaceFlag(f *pflag.FlagSet, force *bool) {
	f.BoolVar(force, "force-replace", false, "Helm 4's name of --force")
	f.Var(&refusedBool{"there are conflicts only with server-side apply, which Helm 3's engine doesn't do; leave the flag out"}, "force-conflicts", "refused: Helm 3's engine doesn't use server-side apply")
	f.Lookup("force-conflicts").NoOptDefVal = "true"
	hide(f, "force-replace", "force-conflicts")
}

// addServerSideFlag declares Helm 4's choice of how objects are written, of
// which Helm 3's engine has one. auto says whether the flag takes that too: it
// leaves the choice to Helm.
func addServerSideFlag(f *pflag.FlagSet, auto bool) {
	var value pflag.Value = &refusedBool{"Helm 3's engine, which runs here, applies on the client's side; leave the flag out or use --server-side=false"}
	if auto {
		value = orAuto{value}
	}
	f.Var(value, "server-side", "only false is accepted: Helm 3's engine doesn't use server-side apply")
	f.Lookup("server-side").NoOptDefVal = "true"
	hide(f, "server-side")
}

// addDescriptionFlag declares what Helm 4 lets a rollback's record say.
func addDescriptionFlag(f *pflag.FlagSet, description *string) {
	f.StringVar(description, "description", "", "Helm 4's custom description of the rollback")
	hide(f, "description")
}

// addRollbackDryRunFlag declares --dry-run: a bool, as in Helm 3, that also takes
// Helm 4's values. A rollback renders nothing, so that they come to the same.
func addRollbackDryRunFlag(f *pflag.FlagSet, dryRun *bool, usage string) {
	f.Var((*dryRunValue)(dryRun), "dry-run", usage)
	f.Lookup("dry-run").NoOptDefVal = "true"
}

// addWaitFlag declares --wait: a bool, as in Helm 3, that also takes the names
// of Helm 4's ways to wait.
func addWaitFlag(f *pflag.FlagSet, wait *bool, usage string) {
	f.Var((*waitValue)(wait), "wait", usage)
	f.Lookup("wait").NoOptDefVal = "true"
}

// hide keeps flags that have been declared out of the help.
func hide(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f.Lookup(name).Hidden = true
	}
}

// waitValue is the value of --wait.
type waitValue bool

// Set implements [pflag.Value]. Helm 4's watcher and legacy both wait for
// resources, its hookOnly doesn't.
func (w *waitValue) Set(s string) error {
	switch s {
	case "watcher", "legacy":
		*w = true
		return nil
	case "hookOnly":
		*w = false
		return nil
	}
	on, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("must be true or false, or one of Helm 4's watcher, legacy (both wait) and hookOnly (doesn't)")
	}
	*w = waitValue(on)
	return nil
}

func (w *waitValue) String() string { return strconv.FormatBool(bool(*w)) }
func (w *waitValue) Type() string   { return "bool" }

// dryRunValue is the value of a rollback's --dry-run.
type dryRunValue bool

// Set implements [pflag.Value].
func (d *dryRunValue) Set(s string) error {
	switch s {
	case "client", "server":
		*d = true
		return nil
	case "none":
		*d = false
		return nil
	}
	on, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("must be true or false, or one of Helm 4's client, server (both simulate) and none (doesn't)")
	}
	*d = dryRunValue(on)
	return nil
}

func (d *dryRunValue) String() string { return strconv.FormatBool(bool(*d)) }
func (d *dryRunValue) Type() string   { return "bool" }

// orAuto is the value of a flag that takes auto besides what another takes.
type orAuto struct{ pflag.Value }

// Set implements [pflag.Value].
func (o orAuto) Set(s string) error {
	if s == "auto" {
		return nil
	}
	return o.Value.Set(s)
}

// refusedBool is the value of a flag that can't be turned on here.
type refusedBool struct{ why string }

// Set implements [pflag.Value].
func (r *refusedBool) Set(s string) error {
	on, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("must be true or false")
	}
	if on {
		return errors.New(r.why)
	}
	return nil
}

func (r *refusedBool) String() string { return "false" }
func (r *refusedBool) Type() string   { return "bool" }

var (
	_ pflag.Value = (*waitValue)(nil)
	_ pflag.Value = (*dryRunValue)(nil)
	_ pflag.Value = orAuto{}
	_ pflag.Value = (*refusedBool)(nil)
)
