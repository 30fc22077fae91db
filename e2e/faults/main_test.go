// Package faults tests what the plugin makes of an API server that can't be reached, loses answers, refuses requests
// or dies, and of a network that is cut, slow or silent. Each cell of the matrix is a command that meets a fault at a
// chosen moment, between the plugin and a real API server, and is judged by what etcd has stored, the API server's
// audit log and the release's record, never by what the plugin says.
package faults

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/client-go/kubernetes"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/controlplane"
)

var (
	whole = flag.Bool("whole", false, "run the whole matrix rather than a cell of each fault")
	write = flag.Bool("write", false, "write docs/reliability.md anew")
)

// atOnce is how many cells run side by side, whatever -parallel says: they do little but wait.
const atOnce = 30

//go:embed chart.txtar
var chartArchive []byte

// bed is what all cells share.
var bed struct {
	root   string // of the repository
	bin    string // of the plugin and helm
	chart  string
	plane  *controlplane.ControlPlane
	client kubernetes.Interface
	audit  *audit.Log
	etcd   *history
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = cmp.Or(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if bed.root, err = filepath.Abs("../.."); err != nil {
		return 1, err
	}
	binaries := filepath.Join(bed.root, ".cache", "bin")
	bed.audit = audit.NewLog()
	// A watch on Jobs goes back as far as etcd can, so that to compact etcd is to end it by 410 Gone.
	bed.plane, err = controlplane.Start(ctx, controlplane.Options{
		Binaries: binaries, Audit: bed.audit, Uncached: []string{"jobs.batch"},
	})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, bed.plane.Stop()) }()
	// Whatever the tests leave on disk goes with the control plane, even if this process is killed.
	if err := os.Setenv("TMPDIR", bed.plane.Dir); err != nil {
		return 1, err
	}
	if bed.client, err = kubernetes.NewForConfig(bed.plane.Config()); err != nil {
		return 1, err
	}
	if bed.etcd, err = watchEtcd(bed.plane); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, bed.etcd.close()) }()
	bed.chart = filepath.Join(bed.plane.Dir, "chart")
	if err := txtar.Write(txtar.Parse(chartArchive), bed.chart); err != nil {
		return 1, err
	}
	bed.bin = filepath.Join(bed.plane.Dir, "bin")
	if err := buildPlugin(ctx); err != nil {
		return 1, err
	}
	if err := os.Symlink(filepath.Join(binaries, "helm"), filepath.Join(bed.bin, "helm")); err != nil {
		return 1, err
	}
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		return 1, err
	}
	code = m.Run()
	if *write {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the first one was for the start
		defer cancel()
		err = writeReport(ctx)
	}
	return code, err
}

func buildPlugin(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", filepath.Join(bed.bin, "helm-parallel-hooks"), ".")
	build.Dir = bed.root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the plugin: %w\n%s", err, out)
	}
	return nil
}
