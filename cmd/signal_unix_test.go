//go:build unix

package cmd

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSignals sends real signals to a real process.
func TestSignals(t *testing.T) {
	// Under nohup what is started ignores a hang-up, unless it's caught here.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, test := range []struct {
		name    string
		mode    string
		signals []syscall.Signal
		want    int // -1: killed by a signal
	}{
		{"SIGINT", "waiting", []syscall.Signal{syscall.SIGINT}, 130},
		{"SIGTERM", "waiting", []syscall.Signal{syscall.SIGTERM}, 143},
		{"SIGHUP", "waiting", []syscall.Signal{syscall.SIGHUP}, 129},
		{"twice", "stubborn", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			helper, lines := startHelper(t, test.mode, os.Args[0], "install", "web", "testdata/charts/shop")
			expectLine(t, lines, "ready")
			for i, sig := range test.signals {
				if err := helper.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					expectLine(t, lines, "Release web has been cancelled.")
				}
			}
			expectLine(t, lines, fmt.Sprint("exit code ", test.want))
			_ = helper.Wait()
			if got := helper.ProcessState.ExitCode(); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}

// TestIgnoredHangUp starts the program as nohup does.
func TestIgnoredHangUp(t *testing.T) {
	isolate(t)
	helper, lines := startHelper(t, "waiting", "sh", "-c", `trap "" HUP; exec "$0" "$@"`, os.Args[0], "install", "web", "testdata/charts/shop")
	expectLine(t, lines, "ready")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := helper.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	expectLine(t, lines, "Release web has been cancelled.")
	expectLine(t, lines, "exit code 143")
	_ = helper.Wait()
}

// TestLossOfTheParent kills what called the program as a plugin, as a SIGTERM
// does to helm.
func TestLossOfTheParent(t *testing.T) {
	isolate(t)
	t.Setenv("HELM_PLUGIN_NAME", "parallel-hooks")
	parent, lines := startHelper(t, "waiting", "sh", "-c", `"$0" "$@" & wait`, os.Args[0], "install", "web", "testdata/charts/shop")
	expectLine(t, lines, "ready")
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	expectLine(t, lines, "Release web has been cancelled.")
	expectLine(t, lines, "exit code 143")
	_ = parent.Wait()
}

func startHelper(t *testing.T, mode, name string, args ...string) (*exec.Cmd, <-chan string) {
	t.Helper()
	t.Setenv(helperEnv, mode)
	if !filepath.IsAbs(os.Args[0]) {
		t.Fatalf("the test binary's path %s is relative", os.Args[0])
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	helper := exec.Command(name, args...)
	helper.Stdout, helper.Stderr = w, os.Stderr
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = helper.Process.Kill(); _ = r.Close() })
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return helper, lines
}

func expectLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	select {
	case got, ok := <-lines:
		if !ok || strings.TrimSpace(got) != want {
			t.Fatalf("the program printed %q (%v), want %q", got, ok, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the program did not print %q", want)
	}
}
