package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// TestScript runs the scenarios of testdata/script. Each has a namespace of its own, $NS, which is the default of
// every command, and $CHARTS, the folder of the repository's test charts. The commands below are there besides
// testscript's own. With E2E_UPDATE=1 the expected output in the scenarios is replaced by what came out.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("E2E_UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			namespace, remove, err := createNamespace(context.Background())
			if err != nil {
				return err
			}
			env.Defer(remove)
			env.Vars = append(env.Vars, environment(env.WorkDir)...)
			env.Setenv("NS", namespace)
			env.Setenv("HELM_NAMESPACE", namespace)
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition == "audit" {
				return bed.audit != nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":   await,
			"creates": creates,
			"jobs":    jobs,
			"release": showRelease,
			"signal":  signal,
		},
	})
}

// timeout bounds what a command of a script waits for.
func timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

func usage(ts *testscript.TestScript, neg, ok bool, text string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", text)
	}
}

// await returns when an object has been created by the script's commands: await jobs/migrate
func await(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "await RESOURCE/NAME")
	ctx, cancel := timeout()
	defer cancel()
	_, err := bed.audit.Await(ctx, ts.Getenv("NS"), created(args[0]))
	ts.Check(err)
}

// creates prints, one a line and in order, the objects that helm and the plugin have created, but for release
// records: creates [RESOURCE...]
func creates(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, true, "creates [RESOURCE...]")
	ctx, cancel := timeout()
	defer cancel()
	trail, err := bed.audit.Trail(ctx, bed.client, ts.Getenv("NS"))
	ts.Check(err)
	if len(args) > 0 {
		trail = trail.Of(args...)
	}
	for _, r := range trail.By(byHelm, byPlugin).Creates().Where(notRecord) {
		fmt.Fprintln(ts.Stdout(), r.Object())
	}
}

func notRecord(r audit.Request) bool { return !strings.HasPrefix(r.Name, "sh.helm.release.") }

// jobs prints the namespace's Jobs by name, and whether each is Running, Complete or Failed: jobs
func jobs(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "jobs")
	ctx, cancel := timeout()
	defer cancel()
	list, err := bed.client.BatchV1().Jobs(ts.Getenv("NS")).List(ctx, metav1.ListOptions{})
	ts.Check(err)
	slices.SortFunc(list.Items, func(a, b batchv1.Job) int { return strings.Compare(a.Name, b.Name) })
	for _, job := range list.Items {
		state := "Running"
		for _, condition := range job.Status.Conditions {
			if condition.Status == corev1.ConditionTrue && (condition.Type == batchv1.JobComplete || condition.Type == batchv1.JobFailed) {
				state = string(condition.Type)
			}
		}
		fmt.Fprintln(ts.Stdout(), job.Name, state)
	}
}

// showRelease prints the stored record of a release's last revision: its status and description, and each hook with
// its phase: release NAME
func showRelease(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "release NAME")
	ctx, cancel := timeout()
	defer cancel()
	stored, err := storedRelease(ctx, ts.Getenv("NS"), args[0])
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "revision %d: %s: %s\n", stored.Version, stored.Info.Status, stored.Info.Description)
	for _, hook := range stored.Hooks {
		phase := "not run"
		if hook.LastRun.Phase != "" {
			phase = string(hook.LastRun.Phase)
		}
		fmt.Fprintf(ts.Stdout(), "hook %s %s: %s\n", hook.Kind, hook.Name, phase)
	}
}

// signal sends a signal to all commands that run in the background: signal INT|TERM|HUP|KILL
func signal(ts *testscript.TestScript, neg bool, args []string) {
	numbers := map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	}
	usage(ts, neg, len(args) == 1 && numbers[args[0]] != 0, "signal INT|TERM|HUP|KILL")
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(numbers[args[0]]))
	}
}
