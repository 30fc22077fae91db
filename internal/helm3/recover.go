package helm3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// RecoverOptions says how a release is recovered.
type RecoverOptions struct {
	// Force says that the user has made sure that no operation on the release is
	// alive, where that can't be seen.
	Force bool
	// Wait is for how long hooks are waited for that still run.
	Wait time.Duration
	// Tell takes what a person should know meanwhile.
	Tell func(format string, args ...any)
}

// Recovery is what was found and done when a release was recovered.
type Recovery struct {
	Release  string `json:"release"`
	Revision int    `json:"revision"`
	// Was and Status are the revision's status before and after; they are the same
	// if no operation had left it unfinished.
	Was         release.Status `json:"was"`
	Status      release.Status `json:"status"`
	Description string         `json:"description"`
	// Hooks are those of which the record didn't say what became of them.
	Hooks []RecoveredHook `json:"hooks"`
}

// RecoveredHook is a hook of which the record didn't say what became of it.
type RecoveredHook struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Was and Phase are what the record said and says; Was is empty if it said
	// nothing.
	Was   release.HookPhase `json:"was"`
	Phase release.HookPhase `json:"phase"`
	// Found says what is in the cluster.
	Found string `json:"found"`
	// MayRun says that it still runs, or may.
	MayRun bool `json:"mayRun"`
}

// Recovered reports whether there was anything to do.
func (r *Recovery) Recovered() bool {
	return r.Was != r.Status || slices.ContainsFunc(r.Hooks, func(h RecoveredHook) bool { return h.Was != h.Phase })
}

// Running names the hooks that still run, or may.
func (r *Recovery) Running() []string {
	var names []string
	for _, h := range r.Hooks {
		if h.MayRun {
			names = append(names, h.Kind+"/"+h.Name)
		}
	}
	return names
}

// recoverPatience is how long the API server may be out of reach while a release is
// recovered.
const recoverPatience = time.Minute

// Recover brings the record of a release's last revision in line with the cluster after
// the operation on it has died: hooks are recorded as they are found, and a revision that
// was left unfinished as failed, from where Helm can upgrade, roll back and uninstall.
//
// It fails, and changes nothing, while the operation is alive, which its lease says; if
// there is no lease to say so, unless that is forced. It waits until a lease expires.
func (o *Operation) Recover(ctx context.Context, name string, opts RecoverOptions) (*Recovery, error) {
	detach, ok := o.attach(ctx, "recover")
	if !ok {
		return nil, errors.New("there is nothing to recover in memory")
	}
	defer detach()
	if err := chartutil.ValidateReleaseName(name); err != nil {
		return nil, fmt.Errorf("release name is invalid: %s", name)
	}
	if err := o.cfg.KubeClient.IsReachable(); err != nil {
		return nil, err
	}
	if o.opts.Retrier != nil {
		o.opts.Retrier.Start(o.ctx, hooks.RetryOptions{Patience: recoverPatience, InternalErrors: internalErrorPatience, Gate: o.gate, Warn: o.warn})
	}
	rel, err := o.cfg.Releases.Last(name)
	if err != nil {
		return nil, err
	}
	tested, err := o.tested(rel)
	if err != nil {
		return nil, err
	}
	suspects := suspectsOf(rel, tested)
	recovery := &Recovery{Release: name, Revision: rel.Version, Was: rel.Info.Status, Status: rel.Info.Status, Description: rel.Info.Description, Hooks: []RecoveredHook{}}
	if failedBecause[rel.Info.Status] == "" && !suspects.any {
		return recovery, nil
	}
	dead, began, err := o.awaitDeath(rel, suspects, opts)
	if err != nil {
		return nil, err
	}
	if err := o.takeLease(rel, dead); err != nil {
		return nil, err
	}
	recovered := false
	defer func() {
		if !recovered && dead != nil {
			o.currentLease().handBack()
		}
	}()
	// It may have ended in good order meanwhile.
	if rel, err = o.cfg.Releases.Get(name, rel.Version); err != nil {
		return nil, err
	}
	suspects = suspectsOf(rel, tested)
	recovery.Was, recovery.Status, recovery.Description = rel.Info.Status, rel.Info.Status, rel.Info.Description
	if failedBecause[rel.Info.Status] == "" && !suspects.any {
		recovered = true
		return recovery, nil
	}
	was := rel.Info.Description
	if failedBecause[rel.Info.Status] == "" {
		// helm knows no lease, and may supersede it meanwhile.
		o.records.merge = func(current, found *release.Release) *release.Release {
			merged := mergeRuns(current, found)
			if merged.Info.Description == was {
				info := *merged.Info
				info.Description = found.Info.Description
				merged.Info = &info
			}
			return merged
		}
	}
	if recovery.Hooks, err = o.inspect(rel, suspects, began, opts); err != nil {
		return nil, err
	}
	if failedBecause[rel.Info.Status] != "" {
		fail(rel, errors.New("its operation ended without recording it; "+summary(rel, suspects.began)))
	} else if recovery.Recovered() && rel.Info.Status == release.StatusFailed && tested.IsZero() {
		rel.Info.Description = withoutRunning(was) + "; found since: " + counted(recovery.Hooks)
	}
	recovery.Status, recovery.Description = rel.Info.Status, rel.Info.Description
	if recovery.Recovered() {
		if err := o.records.update(rel); err != nil {
			return nil, fmt.Errorf("recording what was found: %w", err)
		}
	}
	recovered = true
	return recovery, nil
}

// withoutRunning returns a description without the hooks of which nobody knew how they'd end.
func withoutRunning(description string) string {
	if before, after, found := strings.Cut(description, stillRunning); found {
		rest := ""
		if end := strings.IndexAny(after, ";\n"); end >= 0 {
			rest = after[end:]
		}
		description = before + rest
	}
	return strings.TrimRight(description, "\n")
}

// summary counts what became of the hooks of an operation, for the description of its
// revision.
func summary(rel *release.Release, began time.Time) string {
	var phases []release.HookPhase
	for _, h := range rel.Hooks {
		if since(h.LastRun, began) {
			phases = append(phases, h.LastRun.Phase)
		}
	}
	if len(phases) == 0 {
		return "recovered; no hook had run"
	}
	return "recovered; its hooks: " + inPhases(phases)
}

// counted counts what was found of hooks.
func counted(found []RecoveredHook) string {
	var phases []release.HookPhase
	for _, h := range found {
		if h.Phase != h.Was {
			phases = append(phases, h.Phase)
		}
	}
	return inPhases(phases)
}

// inPhases says how many of the phases of hooks are the same.
func inPhases(phases []release.HookPhase) string {
	count := map[release.HookPhase]int{}
	for _, phase := range phases {
		count[phase]++
	}
	var counted []string
	for _, phase := range []release.HookPhase{release.HookPhaseSucceeded, release.HookPhaseFailed, release.HookPhaseUnknown} {
		if n := count[phase]; n > 0 {
			counted = append(counted, fmt.Sprintf("%d %s", n, phase))
		}
	}
	return strings.Join(counted, ", ")
}

// suspects are the hooks of which a record may not say what became of them.
type suspects struct {
	hooks []*release.Hook
	// any says that there is one of which it says so, and running that it says that
	// one runs.
	any, running bool
	// began is when the operation did: by the clock of its machine, or by the
	// server's where a lease says so.
	began time.Time
}

// tested returns when tests of a release began of which its status tells nothing: their
// lease is left. It's zero if none is.
func (o *Operation) tested(rel *release.Release) (time.Time, error) {
	client, err := o.leases(rel.Namespace)
	if err != nil {
		return time.Time{}, err
	}
	left, err := client.Get(o.ctx, leaseName(rel.Name), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("reading the lease of release %s: %w", rel.Name, err)
	case !covers(left, rel, "test") || left.Spec.AcquireTime == nil:
		return time.Time{}, nil
	}
	return left.Spec.AcquireTime.Time, nil
}

// suspectsOf returns the hooks that the dead operation on a release may have run: of the
// operation that its status tells of, or of tests that began when tested says, those that
// have not ended since it began, else those that the record says to run, or to be unknown,
// and those beside them.
func suspectsOf(rel *release.Release, tested time.Time) suspects {
	var s suspects
	var of []release.HookEvent
	for _, h := range rel.Hooks {
		switch h.LastRun.Phase {
		case release.HookPhaseRunning:
			s.running = true
		case release.HookPhaseUnknown:
		default:
			continue
		}
		if h.LastRun.StartedAt.IsZero() {
			continue // Helm's word for a hook that has never run
		}
		s.any = true
		of = append(of, h.Events...)
		if s.began.IsZero() || h.LastRun.StartedAt.Time.Before(s.began) {
			s.began = h.LastRun.StartedAt.Time
		}
	}
	switch pending, ok := eventsOf[rel.Info.Status]; {
	case ok:
		of, s.began = []release.HookEvent{pending.pre, pending.post}, rel.Info.LastDeployed.Time
	case rel.Info.Status == release.StatusUninstalling:
		of, s.began = []release.HookEvent{release.HookPreDelete, release.HookPostDelete}, rel.Info.Deleted.Time
	}
	if !tested.IsZero() {
		s.any, of = true, append(of, release.HookTest)
		if s.began.IsZero() || tested.Before(s.began) {
			s.began = tested
		}
	}
	for _, h := range rel.Hooks {
		times := 0
		for _, event := range h.Events {
			if slices.Contains(of, event) {
				times++
			}
		}
		// What is to run twice may have begun anew after what is recorded.
		if times > 1 || times == 1 && !(hasEnded(h.LastRun) && since(h.LastRun, s.began)) {
			s.hooks = append(s.hooks, h)
		}
	}
	return s
}

func hasEnded(last release.HookExecution) bool {
	return last.Phase == release.HookPhaseSucceeded || last.Phase == release.HookPhaseFailed
}

// since reports whether a hook ran at or after a time; to the second, as the server counts
// in what was found in the cluster.
func since(last release.HookExecution, began time.Time) bool {
	return !last.StartedAt.IsZero() && !last.StartedAt.Time.Truncate(time.Second).Before(began.Truncate(time.Second))
}

// awaitDeath returns when no operation on the release is alive: with the lease of the one
// that has died, if it has left one, and with the time when that began, by the server's
// clock if the lease says so.
func (o *Operation) awaitDeath(rel *release.Release, found suspects, opts RecoverOptions) (dead *coordinationv1.Lease, began time.Time, err error) {
	unknown := func(why string) (*coordinationv1.Lease, time.Time, error) {
		unfinished := failedBecause[rel.Info.Status] != "" || found.running
		if unfinished && !opts.Force {
			return nil, time.Time{}, fmt.Errorf("nobody can tell whether the operation that left revision %d of release %q %s is still alive, %s: make sure that it isn't, then: %s --force", rel.Version, rel.Name, rel.Info.Status, why, howToRecover(rel.Name, rel.Namespace))
		}
		return nil, found.began, nil
	}
	client, err := o.leases(rel.Namespace)
	if err != nil {
		return nil, time.Time{}, err
	}
	var renewed *metav1.MicroTime // as first seen; nil before
	for {
		lease, err := client.Get(o.ctx, leaseName(rel.Name), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && renewed != nil:
			// It has ended in good order if its record says so.
			current, err := o.cfg.Releases.Get(rel.Name, rel.Version)
			if err != nil {
				return nil, time.Time{}, err
			}
			if failedBecause[current.Info.Status] != "" || suspectsOf(current, time.Time{}).running {
				return unknown("since its lease was deleted meanwhile")
			}
			return nil, found.began, nil
		case apierrors.IsNotFound(err):
			return unknown("since it held no lease, as helm itself and what runs hooks one after another do not")
		case apierrors.IsForbidden(err):
			return unknown("since you have no permission to get its lease")
		case err != nil:
			return nil, time.Time{}, fmt.Errorf("reading the lease of release %s: %w", rel.Name, err)
		}
		left := remaining(lease, o.now())
		switch {
		case left <= 0 && (!covers(lease, rel, operationsOf[rel.Info.Status]...) || lease.Spec.AcquireTime == nil):
			return unknown("since the lease that is left of an operation is another one's")
		case left <= 0:
			return lease, lease.Spec.AcquireTime.Time, nil
		case renewed == nil:
			renewed = lease.Spec.RenewTime
			opts.Tell("Release %q: waiting for up to %v whether its operation gives a sign of life: %s", rel.Name, left.Round(time.Second), holderOf(lease))
		case !renewed.Equal(lease.Spec.RenewTime):
			return nil, time.Time{}, errPending(holderOf(lease))
		}
		if err := o.pause(readyInterval); err != nil {
			return nil, time.Time{}, err
		}
	}
}

// operationsOf are those that leave a release with a status: an upgrade that is atomic rolls
// back, an installation uninstalls.
var operationsOf = map[release.Status][]string{
	release.StatusPendingInstall:  {"install"},
	release.StatusPendingUpgrade:  {"upgrade"},
	release.StatusPendingRollback: {"rollback", "upgrade"},
	release.StatusUninstalling:    {"uninstall", "install"},
}

// pause waits for so long, or until the operation is to end.
func (o *Operation) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-o.ctx.Done():
		return context.Cause(o.ctx)
	}
}

// inspect looks for hooks that were created since began, sets what became of them, and
// returns what the record hadn't said. Those that run are waited for as asked.
func (o *Operation) inspect(rel *release.Release, suspects suspects, began time.Time, opts RecoverOptions) ([]RecoveredHook, error) {
	all, err := o.hooksOf(rel)
	if err != nil {
		return nil, err
	}
	cluster, err := o.newCluster(rel.Namespace)
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	patience := time.Now().Add(opts.Wait)
	found := map[*release.Hook]finding{}
	for told := false; ; told = true {
		runs := 0
		for _, h := range all.hooks {
			origin := all.origin[h]
			if !slices.Contains(suspects.hooks, origin) {
				continue
			}
			what, err := cluster.Find(o.ctx, h, began)
			denied := apierrors.IsForbidden(err)
			if err != nil && !denied && !isUnmapped(err) {
				return nil, fmt.Errorf("looking for hook %s: %w", h, err)
			}
			found[origin] = finding{what, denied}
			if what != nil && !what.Unnamed && what.EndedAt.IsZero() {
				runs++
			}
		}
		if runs == 0 || !time.Now().Before(patience) {
			break
		}
		if !told {
			opts.Tell("Release %q: waiting for up to %v for hooks that still run: %d", rel.Name, opts.Wait, runs)
		}
		if err := o.pause(readyInterval); err != nil {
			return nil, err
		}
	}
	recovered := []RecoveredHook{}
	for _, h := range suspects.hooks {
		if r := settle(h, found[h], suspects.began); r != nil {
			recovered = append(recovered, *r)
		}
	}
	return recovered, nil
}

// finding is what was found of a hook.
type finding struct {
	*hooks.Found      // nil if there's none of the operation in the cluster, or denied
	denied       bool // it may not be looked at
}

// phase returns the phase that a finding stands for, and the words for it.
func (f finding) phase() (release.HookPhase, string) {
	switch {
	case f.denied:
		return release.HookPhaseUnknown, "no permission to look"
	case f.Found != nil && f.Unnamed:
		return release.HookPhaseUnknown, "named by the server, and not to be told from others"
	case f.Found != nil && f.Incomplete && !f.EndedAt.IsZero() && f.Err == nil:
		return release.HookPhaseUnknown, "done, but for objects that aren't there"
	case f.Found == nil:
		return release.HookPhaseUnknown, "none of this operation"
	case f.EndedAt.IsZero():
		return release.HookPhaseUnknown, "still running"
	case f.Err != nil:
		return release.HookPhaseFailed, f.Err.Error()
	default:
		return release.HookPhaseSucceeded, "done"
	}
}

// settle sets what became of a hook that an operation may have run since began, given
// what was found of it. It returns nil if it has not, or if the record says so already.
func settle(h *release.Hook, found finding, began time.Time) *RecoveredHook {
	last := &h.LastRun
	recorded := since(*last, began)
	phase, text := found.phase()
	switch {
	case !recorded && (found.Found == nil || found.Unnamed):
		return nil
	case recorded && hasEnded(*last) && (found.Found == nil || last.Phase == phase):
		return nil
	}
	r := &RecoveredHook{Kind: h.Kind, Name: h.Name, Phase: phase, Found: text}
	runs := h.Kind == "Job" || h.Kind == "Pod" || h.Kind == "List"
	r.MayRun = found.Found != nil && !found.Unnamed && found.EndedAt.IsZero() || runs && (found.denied || found.Found != nil && found.Unnamed)
	if recorded {
		r.Was = last.Phase
	}
	if !recorded || hasEnded(*last) { // it ran, or ran once more, without a record
		*last = release.HookExecution{StartedAt: helmtime.Time{Time: found.CreatedAt}}
	}
	last.Phase = phase
	if found.Found != nil && phase != release.HookPhaseUnknown {
		last.CompletedAt = helmtime.Time{Time: found.EndedAt}
	}
	return r
}
