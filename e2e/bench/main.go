// Bench compares the plugin with Helm 3, Helm 4, the naive way to run hooks in parallel, and the floor: a plain
// client-go program that runs the same objects without Helm. Contestants run one right after the other on the same
// cluster, and what counts is their ratio.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	b := &bench{log: os.Stderr}
	flag.StringVar(&b.out, "out", "docs", "the folder for benchmarks.md, benchmarks.json and the plots")
	flag.IntVar(&b.repeat, "repeat", 3, "how often each row is repeated")
	selected := flag.String("rows", "", "run only the rows whose names match this regular expression, and keep the results of the others")
	most := flag.Int("hooks", math.MaxInt, "run no more than so many hooks, for a quick look whether all rows work; nothing is written then")
	list := flag.Bool("list", false, "list the rows and do nothing")
	flag.Parse()
	b.quick = *most != math.MaxInt
	b.rows = limit(*most).rows()
	pattern, err := regexp.Compile(*selected)
	if err != nil || flag.NArg() > 0 || b.repeat < 1 || *most < 1 {
		flag.Usage()
		os.Exit(2)
	}
	b.selected = pattern.MatchString
	if *list {
		for _, r := range b.rows {
			fmt.Printf("%-18s %s\n", r.name, r.title)
		}
		return
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err = b.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of this program.
type bench struct {
	out      string
	repeat   int
	rows     []row
	selected func(name string) bool
	quick    bool
	log      *os.File

	root     string // of the repository
	dir      string // temporary
	plugins  string // a folder of Helm's with the plugin in it
	binaries map[string]string
	versions map[string]string

	foreign string   // kubeconfig of a cluster that was there before; empty: there is none
	current *cluster // nil: none was needed yet

	afterRow []string // namespaces that the contestants of a row share
	releases int      // how many were made in them
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.root, err = os.Getwd(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "parallel-hooks-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.foreign = os.Getenv("BENCH_KUBECONFIG")
	if err := b.build(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stopCluster()) }()

	var measured results
	var names []string
	for _, r := range b.rows {
		names = append(names, r.name)
	}
	for _, r := range b.rows {
		if !b.selected(r.name) {
			continue
		}
		result, err := b.measure(ctx, r)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		measured.Rows = append(measured.Rows, result)
		printResult(os.Stdout, result)
		if b.quick {
			continue
		}
		// A run takes long: what is there must not be lost with what comes.
		measured.Environment = b.environment()
		old, err := readResults(filepath.Join(b.out, "benchmarks.json"))
		if err != nil {
			return err
		}
		if err := b.report(merge(old, measured, names), names); err != nil {
			return err
		}
	}
	if len(measured.Rows) == 0 {
		return errors.New("no such row; -list names them")
	}
	return nil
}

// build builds what is compared, and finds out the versions.
func (b *bench) build(ctx context.Context) error {
	bin := filepath.Join(b.root, ".cache", "bin")
	b.plugins = filepath.Join(b.dir, "plugins")
	b.binaries = map[string]string{
		helm3:  filepath.Join(bin, "helm"),
		helm4:  filepath.Join(bin, "helm4"),
		naive:  filepath.Join(b.dir, "naive"),
		plugin: filepath.Join(b.plugins, "parallel-hooks", "bin", "helm-parallel-hooks"),
	}
	for name, target := range map[string]struct{ dir, pkg string }{
		naive:  {filepath.Join(b.root, "e2e"), "./bench/naive"},
		plugin: {b.root, "."},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", b.binaries[name], target.pkg)
		cmd.Dir = target.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", target.pkg, err, out)
		}
	}
	manifest, err := os.ReadFile(filepath.Join(b.root, "plugin.yaml"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.plugins, "parallel-hooks", "plugin.yaml"), manifest, 0o644); err != nil {
		return err
	}
	b.versions = map[string]string{}
	for _, name := range []string{helm3, helm4} {
		if _, err := os.Stat(b.binaries[name]); err != nil && name == helm4 {
			fmt.Fprintln(b.log, "There is no Helm 4 in", bin+"; its figures are left out.")
			continue
		}
		out, err := exec.CommandContext(ctx, b.binaries[name], "version", "--template", "{{.Version}}").Output()
		if err != nil {
			return fmt.Errorf("%s: %w (build it with: make binaries)", b.binaries[name], err)
		}
		b.versions[name] = strings.TrimPrefix(string(out), "v")
	}
	return nil
}

// measure runs a row.
func (b *bench) measure(ctx context.Context, r row) (rowResult, error) {
	result := rowResult{Name: r.name, Title: r.title, NotMeasured: r.leftOut}
	if r.audited && b.foreign != "" {
		result.NotMeasured = "needs the audit log of a control plane of its own"
	}
	if result.NotMeasured != "" {
		return result, nil
	}
	if err := b.useCluster(ctx, r.audited); err != nil {
		return result, err
	}
	b.afterRow, b.releases = nil, 0
	fmt.Fprintf(b.log, "%s:\n", r.name)
	err := b.repeatAll(ctx, r, &result)
	if err := errors.Join(err, b.cleanUp(ctx, err, b.afterRow)); err != nil {
		return result, err
	}
	result.Date = time.Now().UTC().Format(time.DateOnly)
	result.Figures = r.evaluate(result.Repetitions)
	return result, nil
}

func (b *bench) repeatAll(ctx context.Context, r row, result *rowResult) error {
	for n := range r.repetitions(b.repeat) {
		done, err := b.repeatRow(ctx, r, n)
		if err != nil {
			return err
		}
		result.Repetitions = append(result.Repetitions, done)
	}
	return nil
}

// cleanUp removes namespaces, also after Ctrl-C. Those of a control plane of our own go with it if the row has failed.
func (b *bench) cleanUp(ctx context.Context, failed error, namespaces []string) error {
	if failed != nil && b.foreign == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancel()
	return b.current.remove(ctx, namespaces)
}

// repeatRow gives each contestant of a row its turn, in an order that is drawn anew for each repetition, the same in
// every run of the bench, lest one always profit from what another has left behind.
func (b *bench) repeatRow(ctx context.Context, r row, n int) (_ repetition, err error) {
	var namespaces []string
	defer func() { err = errors.Join(err, b.cleanUp(ctx, err, namespaces)) }()
	done := repetition{}
	fmt.Fprintf(b.log, "  %d/%d", n+1, r.repetitions(b.repeat))
	defer fmt.Fprintln(b.log)
	for _, i := range rand.New(rand.NewPCG(uint64(n), 0)).Perm(len(r.contestants)) {
		c := r.contestants[i]
		if c.once && n > 0 || c.slow && n >= b.repeat || c.name == helm4 && b.versions[helm4] == "" {
			continue
		}
		if err := settle(ctx); err != nil {
			return nil, err
		}
		measured, err := c.run(ctx, &trial{bench: b, cluster: b.current, namespaces: &namespaces})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		done[c.name] = measured.rounded()
		fmt.Fprintf(b.log, "  %s %.2f s", c.name, cmp.Or(measured[hooksTime], measured[wholeTime]))
	}
	return done, nil
}

// useCluster makes sure that there is a cluster, with an audit log or without.
func (b *bench) useCluster(ctx context.Context, audited bool) (err error) {
	switch {
	case b.foreign != "":
		if b.current == nil {
			b.current, err = foreignCluster(b.foreign)
		}
		return err
	case b.current != nil && (b.current.audit != nil) == audited:
		return nil
	}
	if err := b.stopCluster(); err != nil {
		return err
	}
	b.current, err = startCluster(ctx, filepath.Join(b.root, ".cache", "bin"), audited)
	return err
}

func (b *bench) stopCluster() error {
	if b.current == nil {
		return nil
	}
	stopped := b.current
	b.current = nil
	return stopped.stop()
}

// environment names no machine: a ratio should hold on all of the kind.
func (b *bench) environment() environment {
	return environment{
		Cores:      runtime.NumCPU(),
		System:     runtime.GOOS + "/" + runtime.GOARCH,
		Kubernetes: b.current.version,
		OwnCluster: b.foreign == "",
		Helm3:      b.versions[helm3],
		Helm4:      b.versions[helm4],
		Go:         runtime.Version(),
	}
}
