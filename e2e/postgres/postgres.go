// Package postgres runs a PostgreSQL server on loopback, in a folder of its own, for tests of what keeps its data in
// one.
package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/lib/pq"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/ports"
)

// debianFolders is where Debian keeps the server's programs, off the PATH, one folder a version.
const debianFolders = "/usr/lib/postgresql/*/bin"

// guardScript is the server's parent. It ends the server when its standard input ends, which happens also when this
// process is killed, and removes the server's folder. SIGQUIT makes the server leave at once and yet release its
// shared memory, which nobody else would.
const guardScript = `
folder=$1; shift
exec 3<&0
"$@" 3<&- &
server=$!
{ read -r _; kill -QUIT "$server"; } <&3 >/dev/null 2>&1 &
wait "$server"
status=$?
rm -rf -- "$folder"
exit "$status"`

// superuser is the role that owns the server and all databases.
const superuser = "helm"

// Server is a running PostgreSQL server.
type Server struct {
	folder, address, password string

	guard  *exec.Cmd
	input  io.Closer    // the guard's
	log    bytes.Buffer // read after exited is closed
	exited chan struct{}
	err    error // the guard's; read after exited is closed
}

// Start starts a server and returns when it can be asked. If ctx ends before that, Start cleans up and returns an
// error; after that, ctx has no effect, and the caller must call Stop.
//
// The server's folder is made in parent, or where temporary files go if that is "". PostgreSQL refuses to run as root,
// so for root it runs as another user, who must be able to enter parent.
func Start(ctx context.Context, parent string) (_ *Server, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("PostgreSQL: %w", err)
		}
	}()
	programs, err := findPrograms(debianFolders)
	if err != nil {
		return nil, err
	}
	attributes, err := unprivileged()
	if err != nil {
		return nil, err
	}
	free, err := ports.Free(1)
	if err != nil {
		return nil, err
	}
	port := free[0]
	s := &Server{
		address:  net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		password: rand.Text(),
		exited:   make(chan struct{}),
	}
	if s.folder, err = os.MkdirTemp(parent, "parallel-hooks-postgres-"); err != nil {
		return nil, err
	}
	if err := s.createCluster(ctx, programs, attributes); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.folder))
	}
	if err := s.start(programs, attributes, port); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.folder))
	}
	if err := s.waitReady(ctx); err != nil {
		stopped := s.Stop()
		return nil, fmt.Errorf("%w; the server's log:\n%s", errors.Join(err, stopped), &s.log)
	}
	return s, nil
}

// findPrograms returns the folder of the server's programs: that of the PATH, else of the highest version installed
// in a folder that matches the pattern.
func findPrograms(pattern string) (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		folder := filepath.Dir(path)
		if _, err := os.Stat(filepath.Join(folder, "postgres")); err == nil {
			return folder, nil
		}
	}
	found, err := filepath.Glob(filepath.Join(pattern, "initdb"))
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("no server to run: initdb and postgres are neither on the PATH nor in %s; install PostgreSQL (on Debian: apt-get install postgresql)", pattern)
	}
	version := func(path string) float64 {
		number, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64) // "9.6", or "15"
		return number
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int {
		return int(10 * (version(a) - version(b)))
	})), nil
}

// unprivileged is how a child runs: in a process group of its own, so that a Ctrl-C in the terminal doesn't reach it,
// and never as root.
func unprivileged() (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() != 0 {
		return attributes, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("it refuses to run as root, and there is neither a user postgres nor nobody: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, nil
}

// createCluster makes the server's data folder.
func (s *Server) createCluster(ctx context.Context, programs string, attributes *syscall.SysProcAttr) error {
	passwordFile := filepath.Join(s.folder, "password")
	if err := os.WriteFile(passwordFile, []byte(s.password), 0o600); err != nil {
		return err
	}
	if c := attributes.Credential; c != nil {
		for _, path := range []string{s.folder, passwordFile} {
			if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
				return err
			}
		}
	}
	initdb := exec.CommandContext(ctx, filepath.Join(programs, "initdb"),
		"--pgdata="+s.dataFolder(),
		"--username="+superuser, "--pwfile="+passwordFile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C",
		"--no-sync", // the data need not outlive the process
	)
	initdb.Dir, initdb.Env, initdb.SysProcAttr = s.folder, s.environment(), attributes
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("creating its data folder: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) dataFolder() string { return filepath.Join(s.folder, "data") }

// environment keeps the user's own settings, such as PGDATA, from the server.
func (s *Server) environment() []string {
	return []string{"HOME=" + s.folder, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + s.folder}
}

// start starts the server and its guard.
func (s *Server) start(programs string, attributes *syscall.SysProcAttr, port int) (err error) {
	s.guard = exec.Command("/bin/sh", "-c", guardScript, "guard", s.folder,
		filepath.Join(programs, "postgres"), "-D", s.dataFolder(), "-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off")
	s.guard.Dir, s.guard.Env, s.guard.SysProcAttr = s.folder, s.environment(), attributes
	s.guard.Stdout, s.guard.Stderr = &s.log, &s.log
	if s.input, err = s.guard.StdinPipe(); err != nil {
		return err
	}
	if err := s.guard.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.exited)
		s.err = s.guard.Wait()
	}()
	return nil
}

// waitReady asks until there is an answer: a server that isn't there yet can't tell when it will be.
func (s *Server) waitReady(ctx context.Context) error {
	db, err := sql.Open("postgres", s.URL("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		failed := db.PingContext(ctx)
		if failed == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return errors.New("the server ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("waiting for the server: %w (%w)", context.Cause(ctx), failed)
		}
	}
}

// URL is a connection string for a database of the server, with its owner's name and password in it.
func (s *Server) URL(database string) string {
	return (&url.URL{
		Scheme: "postgresql", User: url.UserPassword(superuser, s.password), Host: s.address, Path: database,
		RawQuery: "sslmode=disable",
	}).String()
}

// CreateDatabase makes an empty database and returns its URL.
func (s *Server) CreateDatabase(ctx context.Context, name string) (_ string, err error) {
	db, err := sql.Open("postgres", s.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+pq.QuoteIdentifier(name)); err != nil {
		return "", fmt.Errorf("PostgreSQL: creating database %q: %w", name, err)
	}
	return s.URL(name), nil
}

// Stop ends the server and removes its folder. It is an error if the server had ended before.
func (s *Server) Stop() error {
	var errs []error
	select {
	case <-s.exited:
		errs = append(errs, fmt.Errorf("PostgreSQL ended by itself: %v; its log:\n%s", s.err, &s.log))
	default:
		// The error that the guard's exit status makes says only that the server was told to quit.
		errs = append(errs, s.input.Close())
		select {
		case <-s.exited:
		case <-time.After(10 * time.Second):
			errs = append(errs, errors.New("PostgreSQL does not end"), syscall.Kill(-s.guard.Process.Pid, syscall.SIGKILL))
			<-s.exited
		}
	}
	// The guard has emptied the folder, but only where it may write to the parent is it gone.
	return errors.Join(append(errs, os.RemoveAll(s.folder))...)
}
