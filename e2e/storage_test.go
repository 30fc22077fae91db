package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/postgres"
)

// startDatabase starts the server that all tests share.
var startDatabase = sync.OnceValue(func() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	bed.database, err = postgres.Start(ctx, bed.temp)
	return err
})

// database returns the URL of an empty database of the session's own.
func (s *session) database() string {
	s.t.Helper()
	if err := startDatabase(); err != nil {
		s.t.Fatal(err)
	}
	url, err := bed.database.CreateDatabase(s.t.Context(), s.namespace)
	if err != nil {
		s.t.Fatal(err)
	}
	return url
}

// query returns the rows of a query that asks for one text.
func (s *session) query(database, query string) (rows []string) {
	s.t.Helper()
	db, err := sql.Open("postgres", database)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	found, err := db.QueryContext(s.t.Context(), query)
	if err != nil {
		s.t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var row string
		if err := found.Scan(&row); err != nil {
			s.t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := found.Err(); err != nil {
		s.t.Fatal(err)
	}
	return rows
}

// with is the session with more environment variables.
func (s *session) with(env ...string) *session {
	changed := *s
	changed.env = slices.Concat(s.env, env)
	return &changed
}

// status returns what helm status says of a release.
func (s *session) status(name string) *release.Release {
	s.t.Helper()
	out := s.must(s.helm("status", name, "-o", "json"))
	var rel release.Release
	if err := json.Unmarshal([]byte(out.stdout), &rel); err != nil {
		s.t.Fatalf("%v: %v", out, err)
	}
	return &rel
}

// TestStorageDrivers: wherever Helm is told to keep its records, the plugin keeps them there too, and helm goes on
// from what the plugin has stored, and the plugin from what helm has.
func TestStorageDrivers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ours, helms string // values of HELM_DRIVER that mean the same
		resource    string // where records are; "" for the database
	}{
		{"", "secret", "secrets"},
		{"configmap", "configmaps", "configmaps"},
		{"sql", "sql", ""},
	} {
		t.Run(test.helms, func(t *testing.T) {
			t.Parallel()
			s := newSession(t)
			if test.resource == "" {
				s = s.with("HELM_DRIVER_SQL_CONNECTION_STRING=" + s.database())
			}
			ours, helms := s.with("HELM_DRIVER="+test.ours), s.with("HELM_DRIVER="+test.helms)
			hooks := hooksRun{session: s}
			chart := s.chart(eventsChart)
			stored := func() []string {
				t.Helper()
				if test.resource != "" {
					return s.records(test.resource)
				}
				return s.query(bed.database.URL(s.namespace), "SELECT key FROM releases_v1 WHERE namespace = '"+s.namespace+"' ORDER BY version")
			}

			ours.must(ours.by(parallel, "install", "stored", chart, "--labels", "team=blue"))
			hooks.check("install", parallel, "pre-install", "post-install")
			checkPhases(t, "install", helms.status("stored"), "pre-install", "post-install")
			wantEqual(t, "install: objects", s.configMaps(), firstGeneration)
			wantEqual(t, "install: helm list", strings.Fields(helms.must(helms.helm("list", "--selector", "team=blue", "--short")).stdout), []string{"stored"})
			for _, part := range []string{"hooks", "all"} {
				got := helms.must(helms.helm("get", part, "stored"))
				if n := strings.Count(got.stdout, "\n  name: pre-install\n"); n != 1 {
					t.Errorf("%v: has the hook pre-install %d times, want it once", got, n)
				}
			}

			failed := ours.by(parallel, "upgrade", "stored", chart, "--set", "generation=2,failing=pre-upgrade")
			hooks.check("failed upgrade", parallel, "pre-upgrade")
			status := helms.status("stored")
			if failed.code != 1 || status.Version != 2 || status.Info.Status != release.StatusFailed {
				t.Errorf("%v: revision %d is %s, want revision 2 to have failed", failed, status.Version, status.Info.Status)
			}
			wantEqual(t, "failed upgrade: phases", slices.DeleteFunc(phasesOf(status), func(phase string) bool { return strings.HasSuffix(phase, "=") }),
				[]string{"pre-upgrade-settings=Succeeded", "pre-upgrade=Failed"})

			helms.must(helms.by(helm3, "upgrade", "stored", chart, "--set", "generation=2"))
			hooks.check("helm's upgrade", helm3, "pre-upgrade", "post-upgrade")
			ours.must(ours.by(parallel, "rollback", "stored", "1"))
			hooks.check("rollback", parallel, "pre-rollback", "post-rollback")
			checkPhases(t, "rollback", helms.status("stored"), "pre-install", "post-install", "pre-rollback", "post-rollback")
			wantEqual(t, "rollback: objects", s.configMaps(), firstGeneration)
			helms.must(helms.by(helm3, "rollback", "stored", "3"))
			hooks.check("helm's rollback", helm3, "pre-rollback", "post-rollback")
			ours.must(ours.by(parallel, "upgrade", "stored", chart, "--set", "generation=2", "--history-max", "5"))
			hooks.check("upgrade", parallel, "pre-upgrade", "post-upgrade")
			wantEqual(t, "upgrade: objects", s.configMaps(), secondGeneration)

			ours.must(ours.by(parallel, "test", "stored"))
			hooks.check("test", parallel, "test")
			checkPhases(t, "test", helms.status("stored"), "pre-upgrade", "post-upgrade", "test")
			helms.must(helms.by(helm3, "test", "stored"))
			hooks.check("helm's test", helm3, "test")

			want := []string{
				"2 failed: " + status.Info.Description,
				"3 superseded: Upgrade complete", "4 superseded: Rollback to 1", "5 superseded: Rollback to 3", "6 deployed: Upgrade complete",
			}
			wantEqual(t, "history", helms.readHistory("helm", "stored"), want)
			var records []string
			for version := 2; version <= 6; version++ {
				records = append(records, fmt.Sprintf("sh.helm.release.v1.stored.v%d", version))
			}
			wantEqual(t, "records", stored(), records)

			ours.must(ours.by(parallel, "uninstall", "stored", "--keep-history"))
			hooks.check("uninstall", parallel, "pre-delete", "post-delete")
			want[4] = "6 uninstalled: Uninstallation complete"
			wantEqual(t, "history that was kept", helms.readHistory("helm", "stored"), want)
			checkPhases(t, "uninstall", helms.status("stored"), "pre-upgrade", "post-upgrade", "test", "pre-delete", "post-delete")
			helms.must(helms.helm("uninstall", "stored"))
			helms.must(helms.helm("install", "stored", chart, "--no-hooks"))
			ours.must(ours.by(parallel, "uninstall", "stored", "--no-hooks"))
			hooks.check("the rest", parallel)
			wantEqual(t, "records left", stored(), nil)
			wantEqual(t, "left behind", s.leftovers(), nil)
		})
	}
}

// TestStorageDriverNames: a driver has two names, and secrets is what there is without one.
func TestStorageDriverNames(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := s.chart(eventsChart)
	for ours, helms := range map[string]string{"secret": "", "secrets": "secret", "configmaps": "configmap"} {
		name := "kept-in-" + ours
		install := s.with("HELM_DRIVER=" + ours)
		install.must(install.plugin("install", name, chart, "--no-hooks", "--take-ownership"))
		wantEqual(t, name, s.with("HELM_DRIVER="+helms).readHistory("helm", name), []string{"1 deployed: Install complete"})
	}
}

// TestConnectionIsCut: a database connection that is cut while hooks run, as a proxy does with one that is idle, costs
// no word of the record.
func TestConnectionIsCut(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s = s.with("HELM_DRIVER=sql", "HELM_DRIVER_SQL_CONNECTION_STRING="+s.database())
	plugin := s.start("helm-parallel-hooks", "install", "cut", chartPath("tiers"), "--hook-parallelism", "4",
		"--set-json", `tiers=[{"jobs":2,"duration":"2s"},{"jobs":2,"duration":"0s","weight":1}]`)
	s.await("the first hook", created("jobs/job-0-00"))
	cut := s.query(bed.database.URL("postgres"), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+s.namespace+"'")
	if len(cut) == 0 || slices.Contains(cut, "false") {
		t.Errorf("connections that were cut: %q, want at least one", cut)
	}
	s.must(plugin.wait())
	status := s.status("cut")
	if status.Info.Status != release.StatusDeployed {
		t.Errorf("status = %s, want deployed", status.Info.Status)
	}
	wantEqual(t, "phases", phasesOf(status), []string{"job-0-00=Succeeded", "job-0-01=Succeeded", "job-1-00=Succeeded", "job-1-01=Succeeded"})
}

// TestBadStorage: where records can't be kept nothing is changed, and the error says why, without giving away a
// password.
func TestBadStorage(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := s.chart(eventsChart)
	s.must(s.helm("install", "safe", chart))
	before := s.recordTexts("safe")
	wrong := strings.Replace(s.database(), "postgresql://helm:", "postgresql://helm:secret-word-", 1)
	seen := len(s.trail())
	for _, test := range []struct {
		name string
		env  []string
		want string // in the error, ours and Helm's
	}{
		{"unknown driver", []string{"HELM_DRIVER=paper"}, `unknown driver "paper"`},
		{"no server", []string{"HELM_DRIVER=sql", "HELM_DRIVER_SQL_CONNECTION_STRING=postgresql://helm:secret-word@127.0.0.1:1/helm?sslmode=disable"}, "127.0.0.1:1: connect: connection refused"},
		{"refused", []string{"HELM_DRIVER=sql", "HELM_DRIVER_SQL_CONNECTION_STRING=" + wrong}, "password authentication failed"},
		{"no data", []string{"HELM_DRIVER=memory"}, "no such file or directory"},
	} {
		s := s.with(test.env...)
		helm := s.helm("status", "safe") // whatever the command, it says the same
		if helm.code != 1 || !strings.Contains(helm.stderr, test.want) {
			t.Errorf("%s: %v, want helm to say %q", test.name, helm, test.want)
		}
		for _, args := range [][]string{
			{"install", "new", chart},
			{"upgrade", "safe", chart, "--set", "generation=2"},
			{"upgrade", "--install", "new", chart},
			{"rollback", "safe", "1"},
			{"uninstall", "safe"},
			{"test", "safe"},
		} {
			got := s.binary(append(args, "--hook-parallelism", "4")...) // Helm 4 ends before it calls a plugin
			if got.code != helm.code || got.stdout != helm.stdout {
				t.Errorf("%s: %v, want exit code and stdout as of %v", test.name, got, helm)
			}
			if strings.Count(got.stderr, "Error: ") != 1 || !strings.Contains(got.stderr, test.want) || !strings.Contains(got.stderr, "HELM_DRIVER=") {
				t.Errorf("%s: %v, want one error that says %q and names HELM_DRIVER", test.name, got, test.want)
			}
			if strings.Contains(got.stderr, "secret-word") {
				t.Errorf("%s: %v, want no password in it", test.name, got)
			}
		}
	}
	changes := s.trail()[seen:].By(byHelm, byPlugin).Where(func(r audit.Request) bool {
		return r.Verb != "get" && r.Verb != "list" && r.Verb != "watch"
	})
	if len(changes) > 0 {
		t.Errorf("changes in the cluster: %v, want none", changes)
	}
	wantEqual(t, "record", s.recordTexts("safe"), before)
	wantEqual(t, "objects", s.configMaps(), firstGeneration)
}

// recordTexts returns all stored revisions of a release to the letter.
func (s *session) recordTexts(name string) (texts []string) {
	s.t.Helper()
	for _, revision := range s.revisions(name) {
		text, err := json.Marshal(revision)
		if err != nil {
			s.t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// TestMemoryDriver: with the memory driver, which keeps nothing and for which Helm pretends to have a cluster, the
// plugin prints what helm prints.
func TestMemoryDriver(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	chart := s.chart(eventsChart)
	s = s.with("HELM_DRIVER=memory", "HELM_MEMORY_DRIVER_DATA="+strings.Join([]string{
		memoryData(s, "one", `
- name: kept
  version: 1
  namespace: NS
  info: {status: superseded, description: Install complete, first_deployed: "2026-01-02T03:04:05Z", last_deployed: "2026-01-02T03:04:05Z"}
  chart: {metadata: {apiVersion: v2, name: events, version: 0.1.0}}
  manifest: |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings}
  hooks: &hooks
  - name: before
    kind: Job
    path: events/templates/before.yaml
    events: [pre-install, pre-upgrade, pre-rollback, pre-delete]
    manifest: "apiVersion: batch/v1\nkind: Job\nmetadata: {name: before}\n"
  - name: smoke
    kind: Pod
    path: events/templates/tests/smoke.yaml
    events: [test]
    manifest: "apiVersion: v1\nkind: Pod\nmetadata: {name: smoke}\n"
- name: kept
  version: 2
  namespace: NS
  info: {status: deployed, description: Upgrade complete, notes: Thanks., first_deployed: "2026-01-02T03:04:05Z", last_deployed: "2026-02-02T03:04:05Z"}
  chart: {metadata: {apiVersion: v2, name: events, version: 0.2.0}}
  manifest: ""
  hooks: *hooks
`),
		memoryData(s, "two", `
- name: gone
  version: 1
  namespace: NS
  info: {status: uninstalled, description: Uninstallation complete, first_deployed: "2026-01-02T03:04:05Z", last_deployed: "2026-01-02T03:04:05Z"}
  chart: {metadata: {apiVersion: v2, name: events, version: 0.1.0}}
`)}, ":"))
	for _, args := range [][]string{
		{"install", "new", chart},
		{"install", "new", chart, "-o", "json"},
		{"install", "kept", chart},
		{"install", "gone", chart, "--replace"},
		{"upgrade", "kept", chart, "--set", "generation=2"},
		{"upgrade", "kept", chart, "-o", "yaml"},
		{"upgrade", "gone", chart, "--install"},
		{"rollback", "kept", "1"},
		{"rollback", "kept", "9"},
		{"uninstall", "kept"},
		{"uninstall", "kept", "--keep-history"},
		{"uninstall", "gone"},
		{"uninstall", "kept", "new"},
		{"test", "kept"},
		{"test", "gone"},
	} {
		want := s.helm(args...)
		got := s.plugin(append(args, "--hook-parallelism", "4")...)
		for _, r := range []*result{&want, &got} {
			r.stdout = times.ReplaceAllString(r.stdout, oneTime)
			r.stderr = times.ReplaceAllString(r.stderr, oneTime)
		}
		if got.code != want.code || got.stdout != want.stdout || got.stderr != want.stderr {
			t.Errorf("got: %v\nwant what helm does: %v", got, want)
		}
	}
	wantEqual(t, "in the cluster", s.leftovers(), nil)
}

// memoryData writes a file for HELM_MEMORY_DRIVER_DATA, with NS in the place of the session's namespace.
func memoryData(s *session, name, releases string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name+".yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(releases, "namespace: NS", "namespace: "+s.namespace)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}
