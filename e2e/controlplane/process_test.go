package controlplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("CONTROLPLANE_TEST_ORPHAN"); dir != "" {
		startOrphan(dir)
	}
	os.Exit(m.Run())
}

// startOrphan is the process that TestChildrenEndWithTheirParent kills.
func startOrphan(dir string) {
	group, err := newProcessGroup("/bin", dir)
	if err == nil {
		err = group.start("sleep", nil, "600")
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(group.children[0].cmd.Process.Pid)
	select {}
}

func TestChildrenEndWithTheirParent(t *testing.T) {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CONTROLPLANE_TEST_ORPHAN="+dir)
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("parent said %q: %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	eventually(t, "the child ends", func() bool { return ended(pid) })
	eventually(t, "the folder vanishes", func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	})
}

// ended counts a zombie as ended: whether anybody reaps an orphan is up to the machine.
func ended(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// eventually asks again and again, for a process that is not ours cannot be waited for.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

func TestDeathOfAChildIsAnError(t *testing.T) {
	group, err := newProcessGroup("/bin", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := group.failWith(t.Context())
	die := func() *child {
		t.Helper()
		if err := group.start("sh", nil, "-c", "echo out of luck; exit 3"); err != nil {
			t.Fatal(err)
		}
		return group.children[len(group.children)-1]
	}
	die()
	<-ctx.Done()
	cancel()
	<-die().exited
	for who, err := range map[string]error{"failWith": context.Cause(ctx), "stop": group.stop()} {
		for _, want := range []string{"sh ended by itself", "exit status 3", "out of luck"} {
			if err == nil || strings.Count(err.Error(), want) != 1 {
				t.Errorf("%s: error = %v, want it to contain %q once", who, err, want)
			}
		}
	}
}
