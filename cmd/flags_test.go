package cmd

import (
	"strings"
	"testing"
)

func TestHookParallelism(t *testing.T) {
	const valid = "must be a whole number from 0 to 2147483647; 0 and 1 run hooks one after another"
	for _, test := range []struct {
		env  string
		args string
		want int
		err  string
	}{
		{"", "", 0, ""},
		{"", "--hook-parallelism 0", 0, ""},
		{"", "--hook-parallelism=1", 1, ""},
		{"", "--hook-parallelism 8", 8, ""},
		{"", "--hook-parallelism 2147483647", 2147483647, ""},
		{"", "--hook-parallelism 3 --hook-parallelism 5", 5, ""},
		{"4", "", 4, ""},
		{"4", "--hook-parallelism 0", 0, ""},
		{"x", "--hook-parallelism 2", 2, ""},
		{"", "--hook-parallelism -1", 0, `invalid argument "-1" for "--hook-parallelism" flag: ` + valid},
		{"", "--hook-parallelism x", 0, `invalid argument "x" for "--hook-parallelism" flag: ` + valid},
		{"", "--hook-parallelism 1.5", 0, `invalid argument "1.5" for "--hook-parallelism" flag: ` + valid},
		{"", "--hook-parallelism=", 0, `invalid argument "" for "--hook-parallelism" flag: ` + valid},
		{"", "--hook-parallelism 2147483648", 0, `invalid argument "2147483648" for "--hook-parallelism" flag: ` + valid},
		{"", "--hook-parallelism 99999999999999999999", 0, `invalid argument "99999999999999999999" for "--hook-parallelism" flag: ` + valid},
		{"", "--hook-parallelism 0x10", 0, `invalid argument "0x10" for "--hook-parallelism" flag: ` + valid},
		{"3", "--hook-parallelism x", 0, `invalid argument "x" for "--hook-parallelism" flag: ` + valid},
		{"-1", "", 0, `invalid value "-1" of the environment variable HELM_HOOK_PARALLELISM: ` + valid},
		{" 8", "", 0, `invalid value " 8" of the environment variable HELM_HOOK_PARALLELISM: ` + valid},
	} {
		t.Run(test.env+" "+test.args, func(t *testing.T) {
			isolate(t)
			t.Setenv(parallelismEnv, test.env)
			if test.err == "" {
				t.Setenv("HELM_KUBEAPISERVER", fakeAPI(t))
			} else {
				// What would fail next must not come first.
				t.Setenv("HELM_DRIVER", "none")
			}
			got, opts := runWith(t, plainHelm{}, strings.Fields("install web testdata/charts/shop "+test.args)...)
			if test.err != "" {
				if want := (outcome{"", "Error: " + test.err + "\n", 1}); got != want || opts != nil {
					t.Errorf("got %+v (operation made: %v), want %+v", got, opts != nil, want)
				}
				return
			}
			if got.code != 0 || opts.Parallelism != test.want || opts.KeepGoing {
				t.Errorf("got %+v with %+v, want parallelism %d", got, opts, test.want)
			}
		})
	}
}

func TestHookKeepGoing(t *testing.T) {
	isolate(t)
	t.Setenv("HELM_KUBEAPISERVER", fakeAPI(t))
	got, opts := runWith(t, plainHelm{}, "install", "web", "testdata/charts/shop", "--hook-keep-going")
	if got.code != 0 || !opts.KeepGoing {
		t.Errorf("got %+v with %+v, want to keep going", got, opts)
	}
}

func TestHelm4Flags(t *testing.T) {
	type set struct{ wait, atomic, force bool }
	const serverSide = "Helm 3's engine, which runs here, applies on the client's side; leave the flag out or use --server-side=false"
	for _, test := range []struct {
		args string
		want set
		err  string
	}{
		{"", set{}, ""},
		{"--wait", set{wait: true}, ""},
		{"--wait=true", set{wait: true}, ""},
		{"--wait=watcher", set{wait: true}, ""},
		{"--wait=legacy", set{wait: true}, ""},
		{"--wait=hookOnly", set{}, ""},
		{"--wait=false", set{}, ""},
		{"--wait --wait=hookOnly", set{}, ""},
		{"--wait=soon", set{}, `invalid argument "soon" for "--wait" flag: must be true or false, or one of Helm 4's watcher, legacy (both wait) and hookOnly (doesn't)`},
		{"--atomic", set{atomic: true}, ""},
		{"--rollback-on-failure", set{atomic: true}, ""},
		{"--force", set{force: true}, ""},
		{"--force-replace", set{force: true}, ""},
		{"--force-conflicts=false", set{}, ""},
		{"--force-conflicts", set{}, `invalid argument "true" for "--force-conflicts" flag: there are conflicts only with server-side apply, which Helm 3's engine doesn't do; leave the flag out`},
		{"--server-side=false", set{}, ""},
		{"--server-side", set{}, `invalid argument "true" for "--server-side" flag: ` + serverSide},
		{"--server-side=true", set{}, `invalid argument "true" for "--server-side" flag: ` + serverSide},
		{"--server-side=auto", set{}, `invalid argument "auto" for "--server-side" flag: must be true or false`},
		{"--color never --colour=auto --content-cache /tmp", set{}, ""},
	} {
		t.Run(test.args, func(t *testing.T) {
			isolate(t)
			p := newProgram(discard(), "")
			root := newRootCmd(p)
			args := strings.Fields(test.args)
			cmd, rest, err := root.Find(append([]string{"install"}, args...))
			if err != nil {
				t.Fatal(err)
			}
			err = cmd.ParseFlags(rest)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Errorf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			f := cmd.Flags()
			on := func(names ...string) bool {
				for _, name := range names {
					if f.Lookup(name).Value.String() == "true" {
						return true
					}
				}
				return false
			}
			got := set{on("wait"), on("atomic"), on("force")}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestHelm4FlagsOfEveryCommand: a flag that a command has in Helm 4 sets the flag
// that it has in Helm 3, has no effect, or is refused for a reason.
func TestHelm4FlagsOfEveryCommand(t *testing.T) {
	const (
		serverSide = `"--server-side" flag: Helm 3's engine, which runs here, applies on the client's side; leave the flag out or use --server-side=false`
		conflicts  = `"--force-conflicts" flag: there are conflicts only with server-side apply, which Helm 3's engine doesn't do; leave the flag out`
		waits      = `"--wait" flag: must be true or false, or one of Helm 4's watcher, legacy (both wait) and hookOnly (doesn't)`
	)
	for _, test := range []struct {
		line string
		want string // the value of a flag, or part of the error
	}{
		{"upgrade --wait=watcher", "wait=true"},
		{"upgrade --wait=legacy", "wait=true"},
		{"upgrade --wait=hookOnly", "wait=false"},
		{"upgrade --wait=soon", waits},
		{"upgrade --rollback-on-failure", "atomic=true"},
		{"upgrade --force-replace", "force=true"},
		{"upgrade --force-conflicts", conflicts},
		{"upgrade --force-conflicts=false", "force=false"},
		{"upgrade --server-side=auto", "force=false"},
		{"upgrade --server-side=false", "force=false"},
		{"upgrade --server-side=true", serverSide},
		{"upgrade --server-side", serverSide},
		{"upgrade --dry-run=server", "dry-run=server"},
		{"rollback --wait=watcher", "wait=true"},
		{"rollback --wait=legacy", "wait=true"},
		{"rollback --wait=hookOnly", "wait=false"},
		{"rollback --force-replace", "force=true"},
		{"rollback --force-conflicts", conflicts},
		{"rollback --server-side=auto", "force=false"},
		{"rollback --server-side=false", "force=false"},
		{"rollback --server-side=true", serverSide},
		{"rollback --dry-run=client", "dry-run=true"},
		{"rollback --dry-run=server", "dry-run=true"},
		{"rollback --dry-run=none", "dry-run=false"},
		{"rollback --dry-run=false", "dry-run=false"},
		{"rollback --dry-run", "dry-run=true"},
		{"rollback --dry-run=perhaps", `"--dry-run" flag: must be true or false, or one of Helm 4's client, server (both simulate) and none (doesn't)`},
		{"rollback --description why", "description=why"},
		{"uninstall --wait=watcher", "wait=true"},
		{"uninstall --wait=legacy", "wait=true"},
		{"uninstall --wait=hookOnly", "wait=false"},
		{"uninstall --wait=soon", waits},
		{"--color never test --colour=auto", "colour=auto"},
		{"--content-cache /tmp uninstall", "content-cache=/tmp"},
	} {
		t.Run(test.line, func(t *testing.T) {
			isolate(t)
			root := newRootCmd(newProgram(discard(), ""))
			cmd, rest, err := root.Find(strings.Fields(test.line))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := cmd.ParseFlags(rest); err != nil {
				got = err.Error()
			} else if name, _, ok := strings.Cut(test.want, "="); ok && cmd.Flags().Lookup(name) != nil {
				got = name + "=" + cmd.Flags().Lookup(name).Value.String()
			}
			if !strings.HasSuffix(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestHelpShowsNoHelm4FlagsAndNoToken(t *testing.T) {
	isolate(t)
	t.Setenv("HELM_KUBETOKEN", "planted")
	got, _ := runWith(t, plainHelm{}, "install", "--help")
	for _, hidden := range []string{"rollback-on-failure", "force-replace", "force-conflicts", "server-side", "color", "content-cache", "logtostderr", "planted"} {
		if strings.Contains(got.stdout, hidden) {
			t.Errorf("help shows %s", hidden)
		}
	}
	for _, shown := range []string{"--atomic ", "--wait  ", "--hook-parallelism int", "--hook-keep-going"} {
		if !strings.Contains(got.stdout, shown) {
			t.Errorf("help doesn't show %s", shown)
		}
	}
}
