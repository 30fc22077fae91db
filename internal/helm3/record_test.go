package helm3

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store notes each write of a record as the phases of its hooks.
type store struct {
	mu     sync.Mutex
	writes []string
	fails  int // how many of the next writes fail
	takes  time.Duration
}

func (s *store) update(snapshot *release.Release) error {
	<-time.After(s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails > 0 {
		s.fails--
		return errors.New("the server is away")
	}
	text := ""
	for _, h := range snapshot.Hooks {
		text += fmt.Sprintf("%s=%s ", h.Name, h.LastRun.Phase)
	}
	s.writes = append(s.writes, text)
	return nil
}

func (s *store) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// recording returns a recorder of a release with the hooks of these names.
func recording(s *store, names ...string) (*recorder, *release.Release, []*hooks.Hook) {
	rel := &release.Release{Name: "shop", Info: &release.Info{}}
	origin := map[*hooks.Hook]*release.Hook{}
	var all []*hooks.Hook
	for _, name := range names {
		h := &release.Hook{Name: name, Kind: "Job"}
		hook := &hooks.Hook{Name: name, Kind: "Job"}
		rel.Hooks = append(rel.Hooks, h)
		origin[hook] = h
		all = append(all, hook)
	}
	return newRecorder(rel, origin, s.update, func(string, ...any) {}), rel, all
}

func started(h *hooks.Hook) hooks.Notice { return hooks.HookStarted{Hook: h, At: time.Now()} }

func ended(h *hooks.Hook, phase hooks.Phase) hooks.Notice {
	return hooks.HookEnded{Result: hooks.Result{Hook: h, Phase: phase, StartedAt: time.Now(), CompletedAt: time.Now()}}
}

func TestRecordIsWrittenAtBarriersAndFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		r, rel, all := recording(s, "a", "b", "c")
		r.Observe(started(all[0]))
		if want := []string{"a=Running b= c= "}; !slices.Equal(s.all(), want) {
			t.Errorf("before the first hook is created: got %q, want %q", s.all(), want)
		}
		r.Observe(started(all[1]))
		r.Observe(ended(all[0], hooks.Succeeded))
		if len(s.all()) != 1 {
			t.Errorf("within a tier: got %q, want no further write yet", s.all())
		}
		<-time.After(recordInterval + time.Second)
		synctest.Wait()
		r.Observe(ended(all[1], hooks.Failed))
		r.Observe(hooks.TierEnded{})
		r.Observe(hooks.TierEnded{}) // nothing new
		r.finish()
		want := []string{"a=Running b= c= ", "a=Succeeded b=Running c= ", "a=Succeeded b=Failed c= "}
		if !slices.Equal(s.all(), want) {
			t.Errorf("writes: got %q, want %q", s.all(), want)
		}
		if rel.Hooks[0].LastRun.Phase != release.HookPhaseSucceeded || rel.Hooks[1].LastRun.Phase != release.HookPhaseFailed || !rel.Hooks[2].LastRun.StartedAt.IsZero() {
			t.Errorf("the release itself: got %v, %v, %v", rel.Hooks[0].LastRun, rel.Hooks[1].LastRun, rel.Hooks[2].LastRun)
		}
		if got := rel.Hooks[0].DeletePolicies; !slices.Equal(got, defaultDeletePolicies) {
			t.Errorf("delete policies of a hook that ran: got %v, want Helm's default", got)
		}
		if got := rel.Hooks[2].DeletePolicies; len(got) != 0 {
			t.Errorf("delete policies of a hook that was not reached: got %v, want none", got)
		}
	})
}

func TestSlowWritesAreFurtherApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{takes: 2 * time.Second}
		r, _, all := recording(s, "a", "b", "c")
		r.Observe(started(all[0]))
		r.Observe(started(all[1]))
		<-time.After(recordInterval + 3*time.Second) // and the write that began then
		r.Observe(started(all[2]))
		<-time.After(recordShare * time.Second)
		if got := len(s.all()); got != 2 {
			t.Errorf("half as long after a write as the next one is away: got %d writes, want 2", got)
		}
		<-time.After((recordShare + 3) * time.Second)
		if got := len(s.all()); got != 3 {
			t.Errorf("later: got %d writes, want 3", got)
		}
		r.finish()
	})
}

func TestRecordThatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{fails: 2}
		r, _, all := recording(s, "a")
		r.Observe(started(all[0]))
		r.Observe(hooks.TierEnded{})
		r.finish()
		if want := []string{"a=Running "}; !slices.Equal(s.all(), want) {
			t.Errorf("writes: got %q, want %q", s.all(), want)
		}
	})
}

func TestHookThatNeverStartedKeepsItsLastRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		r, rel, all := recording(s, "a")
		r.Observe(hooks.HookEnded{Result: hooks.Result{Hook: all[0], Phase: hooks.Failed}})
		r.finish()
		if len(s.all()) != 0 || rel.Hooks[0].LastRun.Phase != "" {
			t.Errorf("got writes %q and phase %q, want none, as in Helm", s.all(), rel.Hooks[0].LastRun.Phase)
		}
	})
}
