package faults

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// slack is how much later than it is the record of a fault-free run may see the end of a Job, on a machine that has
// much else to do.
const slack = 20 * time.Second

// judge looks for problems in what a command has left behind.
func (c *cell) judge() {
	c.t.Helper()
	c.to = c.revision()
	changes, err := bed.etcd.between(c.t.Context(), c.namespace, c.from, c.to)
	if err != nil {
		c.t.Fatal(err)
	}
	seen := livesOf(changes)
	c.judgeEnd()
	c.judgeCreations(seen)
	c.judgeOrder(seen, changes)
	c.judgeRecord(seen)
	if c.code == 0 {
		c.judgeObjects()
	}
	c.judgeHelm()
}

// judgeEnd: the command ends by itself, well if the cluster has come back in time, else with an error that says what
// couldn't be reached.
func (c *cell) judgeEnd() {
	switch {
	case c.stillRunning:
		c.problem("the command didn't end by itself within %v", longest)
	case c.proxy.moment != nil && c.proxy.met == nil:
		c.problem("the fault never came")
	case c.fault.fails && c.code == 0:
		c.problem("the command ended well, although the cluster never came back")
	case c.fault.fails && !strings.Contains(c.out.String(), c.proxy.network.Listen):
		c.problem("the error doesn't say that %s couldn't be reached", c.proxy.network.Listen)
	case !c.fault.fails && c.code != 0:
		c.problem("exit code %d, although the cluster has come back within the timeout", c.code)
	}
	if c.fault.check != nil {
		c.fault.check(c)
	}
}

// life is what became of a hook's object while the command ran.
type life struct {
	created []int64 // each time
	ended   int64   // the revision by which the Job was first complete or failed; 0 if it wasn't
	job     *batchv1.Job
}

func livesOf(changes []change) map[string]*life {
	lives := map[string]*life{}
	for _, ch := range changes {
		l := lives[ch.object]
		if l == nil {
			l = &life{}
			lives[ch.object] = l
		}
		if ch.created {
			l.created = append(l.created, ch.revision)
			l.ended, l.job = 0, nil
		}
		if ch.job != nil && len(l.created) > 0 {
			l.job = ch.job
			if l.ended == 0 && conditionOf(ch.job) != nil {
				l.ended = ch.revision
			}
		}
	}
	return lives
}

// judgeCreations: every hook is created exactly once; not more than once where the command failed. The audit log can
// say less than etcd, since it has no creation whose client had gone, or whose server died, before the answer.
func (c *cell) judgeCreations(seen map[string]*life) {
	c.t.Helper()
	trail, err := bed.audit.Trail(c.t.Context(), bed.client, c.namespace)
	if err != nil {
		c.t.Fatal(err)
	}
	logged := map[string]int{}
	for _, object := range trail.By("helm-parallel-hooks/").Where(func(r audit.Request) bool { return r.ResourceVersion > c.from }).Creates().Objects() {
		logged[object]++
	}
	for _, h := range hooksOf(c.command.phases) {
		created := 0
		if l := seen[h.object()]; l != nil {
			created = len(l.created)
		}
		switch {
		case created > 1 || logged[h.object()] > 1:
			c.problem("%s was created %d times, %d of them by the audit log", h.object(), created, logged[h.object()])
		case created == 0 && c.code == 0:
			c.problem("%s was never created", h.object())
		}
	}
}

// judgeOrder: weights are barriers, what sets up comes before Jobs, the chart's resources change between the events,
// and never do more hooks run than may.
func (c *cell) judgeOrder(seen map[string]*life, changes []change) {
	var resources []int64
	for _, ch := range changes {
		if _, name, _ := strings.Cut(ch.object, "/"); strings.HasPrefix(name, "resource-") {
			resources = append(resources, ch.revision)
		}
	}
	var before int64 // what must have happened before the hooks of a tier
	why := ""
	for _, phase := range c.command.phases {
		if phase == "post" && len(resources) > 0 {
			before, why = slices.Max(resources), "the resources were changed"
		}
		for _, weight := range []string{"0", "5"} {
			start, whyStart := before, why
			for _, h := range hooksOf(c.command.phases) {
				l := seen[h.object()]
				if h.phase != phase || h.weight != weight || l == nil || len(l.created) == 0 {
					continue
				}
				at := l.created[0]
				if h.job {
					if at < before {
						c.problem("%s was created at %d, before %s at %d", h.object(), at, why, before)
					}
				} else {
					if at < start {
						c.problem("%s was created at %d, before %s at %d", h.object(), at, whyStart, start)
					}
					if at > before {
						before, why = at, h.object()+" was created"
					}
				}
			}
			for _, h := range hooksOf(c.command.phases) {
				l := seen[h.object()]
				if h.phase == phase && h.weight == weight && h.job && l != nil && l.ended > before {
					before, why = l.ended, h.object()+" had ended"
				}
			}
		}
		if phase == "pre" && len(resources) > 0 && slices.Min(resources) < before {
			c.problem("a resource was changed at %d, before %s at %d", slices.Min(resources), why, before)
		}
	}
	var runs []audit.Run
	for _, l := range seen {
		if l.job != nil {
			runs = append(runs, audit.Run{Created: l.created[0], Ended: l.ended})
		}
	}
	if most := audit.MaxActive(runs); most > parallelism && c.code == 0 {
		c.problem("%d Jobs ran at once, %d may", most, parallelism)
	}
}

// judgeRecord: the record says of each hook what the cluster says of its Job, and that the operation has ended.
func (c *cell) judgeRecord(seen map[string]*life) {
	c.t.Helper()
	// The storage driver itself gives the revisions, rather than Helm's storage, which speaks of them.
	revisions, err := driver.NewSecrets(bed.client.CoreV1().Secrets(c.namespace)).List(func(r *release.Release) bool { return r.Name == releaseName })
	if err != nil {
		c.problem("reading the record: %v", err)
		return
	}
	if len(revisions) == 0 {
		if c.code == 0 && !c.purges() {
			c.problem("there is no record")
		}
		return
	}
	releaseutil.SortByRevision(revisions)
	last := revisions[len(revisions)-1]
	switch {
	case c.stillRunning:
	case c.code == 0 && (string(last.Info.Status) != c.command.status || c.purges()):
		c.problem("status %s, want %s", last.Info.Status, c.wantStatus())
	case (last.Info.Status.IsPending() || last.Info.Status == release.StatusUninstalling) && !c.fault.fails:
		c.problem("status %s, although the command has ended", last.Info.Status)
	}
	if c.command.resources && c.command.status == "deployed" && last.Version != c.command.revisions+1 {
		if c.code == 0 {
			c.problem("revision %d, want %d", last.Version, c.command.revisions+1)
		}
		return // the command had no revision of its own yet
	}
	recorded := map[string]*release.Hook{}
	for _, h := range last.Hooks {
		recorded[h.Name] = h
	}
	for _, h := range hooksOf(c.command.phases) {
		c.judgeHook(h, recorded[h.name], seen[h.object()])
	}
}

func (c *cell) wantStatus() string {
	if c.purges() {
		return "no record"
	}
	return c.command.status
}

// purges tells whether the command is to remove the record.
func (c *cell) purges() bool {
	return c.command.status == "uninstalled" && !slices.Contains(c.command.more, "--keep-history")
}

// judgeHook compares what the record says of a hook with what became of its object.
func (c *cell) judgeHook(h hook, recorded *release.Hook, l *life) {
	if recorded == nil {
		c.problem("the record doesn't know hook %s", h.name)
		return
	}
	phase, created := recorded.LastRun.Phase, l != nil && len(l.created) > 0
	if c.code == 0 && phase != release.HookPhaseSucceeded {
		c.problem("hook %s: the record says %q, the command that all went well", h.name, phase)
	}
	if !created {
		if phase == release.HookPhaseSucceeded {
			c.problem("hook %s: the record says that it succeeded, but it was never created", h.name)
		}
		return
	}
	if phase == release.HookPhaseRunning && !c.stillRunning && !c.fault.fails {
		c.problem("hook %s: the record says that it's running, although the command has ended", h.name)
	}
	if !h.job || l.job == nil {
		return
	}
	started, completed := recorded.LastRun.StartedAt.Time, recorded.LastRun.CompletedAt.Time
	// The server's times are whole seconds.
	if !started.IsZero() && started.Truncate(time.Second).After(l.job.CreationTimestamp.Time) {
		c.problem("hook %s: started at %s by the record, its Job was created at %s", h.name, started, l.job.CreationTimestamp)
	}
	end := conditionOf(l.job)
	switch {
	case phase == release.HookPhaseSucceeded && (end == nil || end.Type != batchv1.JobComplete):
		c.problem("hook %s: the record says that it succeeded, its Job is not complete: %+v", h.name, l.job.Status)
	case phase == release.HookPhaseFailed && end != nil && end.Type == batchv1.JobComplete:
		c.problem("hook %s: the record says that it failed, its Job is complete", h.name)
	case phase == release.HookPhaseSucceeded:
		done := l.job.Status.CompletionTime.Time
		if completed.Before(done) {
			c.problem("hook %s: completed at %s by the record, its Job at %s", h.name, completed, done)
		}
		if late := completed.Sub(done); late > c.fault.lasts+slack {
			c.problem("hook %s: completed %v later by the record than its Job, which the fault doesn't explain", h.name, late)
		}
	}
}

// judgeObjects: after success the hooks are there that no policy deletes, and the resources are those of the revision.
func (c *cell) judgeObjects() {
	c.t.Helper()
	want := []string{}
	for _, h := range hooksOf(c.command.phases) {
		if !h.deleted {
			want = append(want, h.object())
		}
	}
	for _, h := range hooksOf(both) {
		if !slices.Contains(c.command.phases, h.phase) {
			want = append(want, h.object()) // left as they were
		}
	}
	revision := ""
	if c.command.status == "deployed" {
		revision = "1"
		if c.command.name == "upgrade" {
			revision = "2"
		}
		want = append(want, "configmaps/resource-0", "configmaps/resource-1", "configmaps/resource-2", "services/resource-service")
	}
	var got []string
	configMaps, err := bed.client.CoreV1().ConfigMaps(c.namespace).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, object := range configMaps.Items {
		if object.Name == "kube-root-ca.crt" {
			continue
		}
		got = append(got, "configmaps/"+object.Name)
		if strings.HasPrefix(object.Name, "resource-") && object.Data["revision"] != revision {
			c.problem("%s is that of revision %s, want %s", object.Name, object.Data["revision"], revision)
		}
	}
	jobs, err := bed.client.BatchV1().Jobs(c.namespace).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, object := range jobs.Items {
		got = append(got, "jobs/"+object.Name)
	}
	services, err := bed.client.CoreV1().Services(c.namespace).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, object := range services.Items {
		got = append(got, "services/"+object.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	for _, object := range got {
		if !slices.Contains(want, object) {
			c.problem("%s is left", object)
		}
	}
	for _, object := range want {
		if !slices.Contains(got, object) {
			c.problem("%s is missing", object)
		}
	}
}

// judgeHelm: the real helm goes on from what is left.
func (c *cell) judgeHelm() {
	c.t.Helper()
	upgrade := []string{"upgrade", releaseName, bed.chart, "--install", "--no-hooks", "--disable-openapi-validation"}
	if c.fault.fails {
		// A command that couldn't reach the cluster couldn't take back its claim on the release either.
		if err := c.try("helm-parallel-hooks", "recover", releaseName, "--wait", "2m"); err != nil && !strings.Contains(err.Error(), "release: not found") {
			c.problem("recover can't put it right: %v", err)
		}
	} else if c.code != 0 || !c.purges() {
		if err := c.tryHelm("status", releaseName); err != nil && c.command.revisions > 0 {
			c.problem("helm can't go on: %v", err)
		}
	}
	if err := c.tryHelm(upgrade...); err != nil {
		c.problem("helm can't go on: %v", err)
		return
	}
	secrets, err := bed.client.CoreV1().Secrets(c.namespace).List(c.t.Context(), metav1.ListOptions{
		LabelSelector: fmt.Sprintf("owner=helm,name=%s,status=deployed", releaseName),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if len(secrets.Items) != 1 {
		c.problem("after helm upgrade %d revisions are deployed", len(secrets.Items))
	}
}
