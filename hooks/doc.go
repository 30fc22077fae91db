// Package hooks plans and runs the hooks of a release: hooks of the same weight
// at once, at most N of them, weights as barriers.
//
// It knows Kubernetes and nothing of Helm's library or of a terminal, so any
// program that has hooks, a cluster and an event to run can use it: [NewPlan] says
// what runs when, [NewClient] reaches the cluster, and [Runner.Run] runs the plan. A
// whole program is in the repository's folder examples/run-hooks.
//
// # Order
//
// A [Plan] is data, made by the pure function [NewPlan] before anything is
// changed. It has one [Tier] per weight, in ascending order; no hook of a tier
// starts before every hook of the tiers before it has ended well. A tier above
// parallelism 1 has stages: first the setup hooks, which are done once they
// exist (all kinds but Job and Pod), a stage per kind in Helm's install order;
// then the Jobs and Pods. So a Job never races its own ServiceAccount. At
// parallelism 1 a tier is a single stage in Helm's order of execution: by name.
//
// # Slots
//
// Each tier has one weighted semaphore of N slots. A hook takes the slots that
// its [SlotsAnnotation] asks for, one by default, and holds them from before its
// old object is deleted until it has ended. Hooks start in plan order, which is by name
// or, with [PlanOptions.Duration], longest first; one that needs more slots than are
// free holds back those after it, so it can't starve. A [Limit] bounds the hooks of one
// chart further; one that waits for that holds nobody back.
//
// # Failure and cancellation
//
// When a hook fails no further hook starts, and those that run are watched to
// their end: what is reported of them is true, and no half-done migration is
// killed. A hook with [FailureAnnotation] "ignore" fails without any of that, see
// [Result.Ignored]. [Runner.Stop] does the same on demand. Cancelling the context of
// [Runner.Run] leaves at once; hooks that ran then end as [Unknown]. Run returns
// only when every goroutine that it started has ended.
//
// # Notices
//
// The engine prints nothing. It tells one [Observer] what happens, as typed
// notices: [EventStarted], [TierStarted], [HookStarted], [HookEnded],
// [HookWarned], [Stopping], [TierEnded] and [EventEnded], and where
// [Runner.FollowPods] asks for it [HookProgressed]. Logs go to a [LogSink].
package hooks
