package e2e

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// A user agent tells the two commands that are compared from everything else in the cluster.
const (
	byHelm   = "Helm/"
	byPlugin = "helm-parallel-hooks/"
)

// session is a user at a shell: a namespace, a home, and commands that were run.
type session struct {
	t         testing.TB
	namespace string
	env       []string
	folder    string // where commands run; empty for the repository's root
}

// newSession gives the test a namespace of its own, which is its default namespace in every command.
func newSession(t testing.TB) *session {
	t.Helper()
	namespace, remove, err := createNamespace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	return &session{
		t: t, namespace: namespace,
		env: append(environment(t.TempDir()), "NS="+namespace, "HELM_NAMESPACE="+namespace),
	}
}

// createNamespace also returns what to call when it isn't needed any more: on a cluster that isn't ours that deletes
// it, without waiting until it is gone. A control plane of ours is gone soon, and would be kept busy by that.
func createNamespace(ctx context.Context) (name string, remove func(), err error) {
	namespaces := bed.client.CoreV1().Namespaces()
	created, err := namespaces.Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", nil, err
	}
	return created.Name, func() {
		if bed.audit != nil {
			bed.audit.Forget(created.Name)
			return
		}
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := namespaces.Delete(ctx, created.Name, metav1.DeleteOptions{}); err != nil {
			fmt.Println("deleting a test's namespace:", err)
		}
	}, nil
}

// result is what a command left behind.
type result struct {
	line           string
	stdout, stderr string
	code           int // as a shell has it: 128 and the number of a signal that ended it
	took           time.Duration
}

// String is what a test shows of a result that it did not expect.
func (r result) String() string {
	return fmt.Sprintf("%s\nexit code %d after %v\nstdout:\n%s\nstderr:\n%s", r.line, r.code, r.took, r.stdout, r.stderr)
}

// helm runs the real helm.
func (s *session) helm(args ...string) result { s.t.Helper(); return s.start("helm", args...).wait() }

// through is the program that calls the plugin, "helm" or "helm4"; empty if tests call its binary themselves.
var through = os.Getenv("E2E_THROUGH")

// pluginName is what the plugin calls itself.
func pluginName() string {
	if through == "" {
		return "helm-parallel-hooks"
	}
	return "helm parallel-hooks"
}

// binary runs the plugin's binary, also where the plugin is called through helm, for what it says of itself.
func (s *session) binary(args ...string) result {
	s.t.Helper()
	return s.start("helm-parallel-hooks", args...).wait()
}

// plugin runs the plugin.
func (s *session) plugin(args ...string) result {
	s.t.Helper()
	if through == "" {
		return s.binary(args...)
	}
	r := s.start(through, append([]string{"parallel-hooks"}, args...)...).wait()
	// helm says of every plugin that failed that it did.
	r.stderr = strings.TrimSuffix(r.stderr, "Error: plugin \"parallel-hooks\" exited with error\n")
	return r
}

// must fails the test unless the command ended well.
func (s *session) must(r result) result {
	s.t.Helper()
	if r.code != 0 {
		s.t.Fatalf("command failed: %v", r)
	}
	return r
}

// command is a command that may still be running.
type command struct {
	t      testing.TB
	cmd    *exec.Cmd
	begin  time.Time
	ended  chan struct{}
	result result // after ended is closed
}

// start runs a command in the background, in a process group of its own, as a shell does. It is killed at the end of
// the test.
func (s *session) start(name string, args ...string) *command {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	return s.startOn(&stdout, &stderr, name, args...)
}

// startOn is [session.start] with the command's output going elsewhere. What the result holds of it is what can be
// read from there as a string.
func (s *session) startOn(stdout, stderr io.Writer, name string, args ...string) *command {
	s.t.Helper()
	c := &command{
		t:     s.t,
		cmd:   exec.Command(filepath.Join(bed.dir, "bin", name), args...),
		begin: time.Now(),
		ended: make(chan struct{}),
	}
	c.cmd.Env = s.env
	c.cmd.Dir = cmp.Or(s.folder, bed.root)
	c.cmd.Stdout, c.cmd.Stderr = stdout, stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait() // the process state says it all
		c.result = result{
			line:   strings.Join(append([]string{name}, args...), " "),
			stdout: written(stdout), stderr: written(stderr),
			code: exitCode(c.cmd), took: time.Since(c.begin),
		}
	}()
	s.t.Cleanup(func() {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // most often it has long gone
		<-c.ended
	})
	return c
}

func written(w io.Writer) string {
	if text, ok := w.(fmt.Stringer); ok {
		return text.String()
	}
	return ""
}

func exitCode(cmd *exec.Cmd) int {
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// wait returns when the command has ended, and all processes that hold its output.
func (c *command) wait() result {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-c.t.Context().Done():
		c.t.Fatalf("%v: still running at the end of the test", c.cmd)
	}
	return c.result
}

// signal signals the process alone, as kill does.
func (c *command) signal(sig syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(c.cmd.Process.Pid, sig); err != nil {
		c.t.Fatalf("%v: %v", c.cmd, err)
	}
}

// signalGroup signals the process and its children, as a terminal does on Ctrl-C.
func (c *command) signalGroup(sig syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(-c.cmd.Process.Pid, sig); err != nil {
		c.t.Fatalf("%v: %v", c.cmd, err)
	}
}

// chart writes a chart that is given as a txtar archive, and returns its folder.
func (s *session) chart(archive string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	if err := txtar.Write(txtar.Parse([]byte(archive)), dir); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// trail returns the requests in the session's namespace so far. On a cluster whose audit log we cannot read the test
// is skipped.
func (s *session) trail() audit.Trail { s.t.Helper(); return s.trailOf(s.namespace) }

// trailOf returns the requests in another namespace so far, or those without a namespace if it is "".
func (s *session) trailOf(namespace string) audit.Trail {
	s.t.Helper()
	s.needsAudit()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	trail, err := bed.audit.Trail(ctx, bed.client, namespace)
	if err != nil {
		s.t.Fatal(err)
	}
	return trail
}

// await returns when there has been a request like that in the session's namespace.
func (s *session) await(what string, wanted func(audit.Request) bool) audit.Request {
	s.t.Helper()
	s.needsAudit()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	request, err := bed.audit.Await(ctx, s.namespace, wanted)
	if err != nil {
		s.t.Fatalf("waiting for %s: %v", what, err)
	}
	return request
}

func (s *session) needsAudit() {
	s.t.Helper()
	if bed.audit == nil {
		s.t.Skip("needs the audit log of a control plane of its own; unset E2E_KUBECONFIG")
	}
}

// created tells whether a request created this object, as in "jobs/migrate".
func created(object string) func(audit.Request) bool {
	return func(r audit.Request) bool {
		return r.Verb == "create" && r.Subresource == "" && r.Code == 201 && r.Object() == object
	}
}

// release returns the last revision of a release, as it is stored.
func (s *session) release(name string) *release.Release {
	s.t.Helper()
	stored, err := storedRelease(s.t.Context(), s.namespace, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return stored
}

// storedRelease reads the last revision of a release.
func storedRelease(ctx context.Context, namespace, name string) (*release.Release, error) {
	revisions, err := storedReleases(ctx, namespace, "name="+name)
	if err != nil {
		return nil, err
	}
	if len(revisions) == 0 {
		return nil, fmt.Errorf("no release %q is stored in %s", name, namespace)
	}
	return revisions[len(revisions)-1], nil
}

// storedReleases reads what Helm's storage driver wrote, without going through it: all revisions of the releases that
// the selector selects, with their labels, by name and revision.
func storedReleases(ctx context.Context, namespace string, selector ...string) ([]*release.Release, error) {
	secrets, err := bed.client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: strings.Join(append(selector, "owner=helm"), ","),
	})
	if err != nil {
		return nil, err
	}
	var all []*release.Release
	for _, secret := range secrets.Items {
		rel, err := decodeRelease(secret.Data["release"])
		if err != nil {
			return nil, fmt.Errorf("decoding secret %s: %w", secret.Name, err)
		}
		rel.Labels = secret.Labels
		all = append(all, rel)
	}
	slices.SortFunc(all, func(a, b *release.Release) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return all, nil
}

func decodeRelease(data []byte) (*release.Release, error) {
	var decoded release.Release
	return &decoded, decodeRecord(data, &decoded)
}

// decodeRecord undoes base64, gzip and JSON. The base64 that the API puts around a secret's data is gone already.
func decodeRecord(data []byte, record any) (err error) {
	zipped, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(data)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, zipped.Close()) }()
	return json.NewDecoder(zipped).Decode(record)
}

// encodeRelease undoes decodeRelease.
func encodeRelease(rel *release.Release) ([]byte, error) {
	var encoded bytes.Buffer
	text := base64.NewEncoder(base64.StdEncoding, &encoded)
	zipped := gzip.NewWriter(text)
	err := errors.Join(json.NewEncoder(zipped).Encode(rel), zipped.Close(), text.Close())
	return encoded.Bytes(), err
}
