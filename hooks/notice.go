package hooks

import "time"

// Observer is told what happens in a run.
//
// Observe is called with one notice at a time, from the goroutine that does the
// work: a hook is created only after Observe has returned from its
// [HookStarted]. So it may hold the run back, to store a record first say, and
// must not call back into the run.
type Observer interface {
	Observe(Notice)
}

// Observers returns an observer that passes each notice to all of the given
// ones, in their order. Those that are nil are left out.
func Observers(all ...Observer) Observer {
	var some observers
	for _, o := range all {
		if o != nil {
			some = append(some, o)
		}
	}
	return some
}

type observers []Observer

func (all observers) Observe(n Notice) {
	for _, o := range all {
		o.Observe(n)
	}
}

// Notice is one of the types below.
type Notice interface{ notice() }

// EventStarted opens a run.
type EventStarted struct{ Plan *Plan }

// TierStarted says that the hooks of the next weight may start.
type TierStarted struct {
	Event Event
	// Tier is an index of [Plan.Tiers].
	Tier   int
	Weight int
}

// HookStarted says that a hook is about to be created.
type HookStarted struct {
	Event Event
	Hook  *Hook
	At    time.Time
}

// HookEnded says what became of a hook. A hook whose old object could not be
// deleted ends without having started.
type HookEnded struct {
	Event  Event
	Result Result
}

// HookProgressed says what the pods of a running hook do, in words for a person;
// see [Follower].
type HookProgressed struct {
	Event    Event
	Hook     *Hook
	Activity string
}

// HookWarned says something about a hook that a person should know and that
// doesn't change its result.
type HookWarned struct {
	Event   Event
	Hook    *Hook
	Message string
}

// ClusterWarned says what makes it harder to see how hooks go, in words for a person: that
// the API server doesn't answer, that it does again, that something may not be
// watched. It may come at any time of an operation.
type ClusterWarned struct{ Message string }

// Stopping says that no further hook starts, because of [Runner.Stop].
type Stopping struct {
	Event Event
	// Running are the hooks that are waited for.
	Running []*Hook
	// Queued is how many hooks won't start.
	Queued int
}

// TierEnded says that all hooks of a tier which started have ended.
type TierEnded struct {
	Event  Event
	Tier   int
	Weight int
}

// EventEnded closes a run, after hooks were deleted by policy.
type EventEnded struct {
	Event Event
	// Results are those that [Runner.Run] returns.
	Results []Result
	// Err is the one that [Runner.Run] returns.
	Err error
}

func (EventStarted) notice()   {}
func (TierStarted) notice()    {}
func (HookStarted) notice()    {}
func (HookEnded) notice()      {}
func (HookProgressed) notice() {}
func (HookWarned) notice()     {}
func (ClusterWarned) notice()  {}
func (Stopping) notice()       {}
func (TierEnded) notice()      {}
func (EventEnded) notice()     {}
