package postgres

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// orphanEnv makes the test binary the process that TestServerEndsWithItsParent kills.
const orphanEnv = "POSTGRES_TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		startOrphan()
	}
	os.Exit(m.Run())
}

func startOrphan() {
	server, err := Start(context.Background(), "")
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(server.address, server.folder)
	select {}
}

func TestServer(t *testing.T) {
	server, err := Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			_ = server.Stop()
		}
	})

	// What one database holds the other doesn't know.
	for _, name := range []string{"one", `the "other"`} {
		url, err := server.CreateDatabase(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{"CREATE TABLE things (id int)", "INSERT INTO things VALUES (1)"} {
			if err := run(t, url, statement); err != nil {
				t.Errorf("database %s: %s: %v", name, statement, err)
			}
		}
	}
	wrong := strings.Replace(server.URL("one"), server.password, "guess", 1)
	if err := run(t, wrong, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("with a wrong password: error = %v, want a refusal", err)
	}

	stopped = true
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	wantGone(t, server.address, server.folder)
}

func TestDeathOfTheServerIsAnError(t *testing.T) {
	server, err := Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	content, err := os.ReadFile(filepath.Join(server.dataFolder(), "postmaster.pid"))
	if err == nil {
		_, err = fmt.Sscan(string(content), &pid)
	}
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGQUIT)
	}
	if err != nil {
		t.Fatal(errors.Join(err, server.Stop()))
	}
	<-server.exited
	if err := server.Stop(); err == nil || !strings.Contains(err.Error(), "ended by itself") || !strings.Contains(err.Error(), "immediate shutdown") {
		t.Errorf("error = %v, want it to say that the server ended by itself, with its log", err)
	}
	wantGone(t, server.address, server.folder)
}

func run(t *testing.T, url, statement string) error {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), statement)
	return err
}

func wantGone(t *testing.T, address, folder string) {
	t.Helper()
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Errorf("%s still answers", address)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the server's folder is still there: %v", err)
	}
}

func TestServerEndsWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), orphanEnv+"=yes")
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
	var address, folder string
	if _, err := fmt.Sscan(line, &address, &folder); err != nil {
		t.Fatalf("parent said %q: %v", line, err)
	}
	if conn, err := net.Dial("tcp", address); err != nil {
		t.Errorf("before the parent ends: %v", err)
	} else {
		conn.Close()
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	// The folder goes last. It can't be waited for but by looking.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("timed out waiting until the folder vanishes")
		}
	}
	wantGone(t, address, folder)
}

func TestStartIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("changed my mind")
	cancel(reason)
	parent := t.TempDir()
	if server, err := Start(ctx, parent); err == nil {
		t.Errorf("Start returned a server, want an error; stopping it: %v", server.Stop())
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFindPrograms(t *testing.T) {
	root := t.TempDir()
	install := func(folder string, programs ...string) string {
		t.Helper()
		folder = filepath.Join(root, folder)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, program := range programs {
			if err := os.WriteFile(filepath.Join(folder, program), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return folder
	}
	pattern := filepath.Join(root, "*", "bin")
	t.Setenv("PATH", install("clients", "psql"))
	_, err := findPrograms(pattern)
	if err == nil || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("without a server: error = %v, want it to say what to install", err)
	}

	install("9.6/bin", "initdb", "postgres")
	want := install("15/bin", "initdb", "postgres")
	if got, err := findPrograms(pattern); err != nil || got != want {
		t.Errorf("findPrograms = %q, %v, want %q, the highest version", got, err, want)
	}
	want = install("own", "initdb", "postgres")
	t.Setenv("PATH", want)
	if got, err := findPrograms(pattern); err != nil || got != want {
		t.Errorf("findPrograms = %q, %v, want %q, that of the PATH", got, err, want)
	}
}
