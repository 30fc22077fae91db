package scenario

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/apimodel"
)

// hook is what the model's history says of one hook, beside what the engine says.
type hook struct {
	*hooks.Hook
	marker string
	result hooks.Result
	fate   apimodel.Fate
	posts  []apimodel.Request
	lives  []apimodel.Life
	key    apimodel.Key // of its object, if anything was asked about it
	slots  int
	stage  stage
	asked  asked
	// timeout is how long it may take.
	timeout time.Duration
	// sent is when its creation was first asked for; zero: never.
	sent time.Time
	// end is when it no longer took its slots.
	end time.Time
}

// Tally counts what the run was like and what became of it.
func (r *Run) Tally(counts map[string]int) {
	outcome := "succeeded"
	switch {
	case !r.left.IsZero():
		outcome = "left"
	case !r.stopped.IsZero():
		outcome = "stopped"
	case r.Err != nil:
		outcome = "failed"
	}
	counts[fmt.Sprintf("runs, %s: %s", r.Class, outcome)]++
	for _, result := range r.Results {
		counts["hooks: "+cmp.Or(string(result.Phase), "not started")]++
		if result.Ignored {
			counts["hooks: failed, and that is ignored"]++
		}
		if len(r.asked[result.Hook].after) > 0 {
			counts["hooks: after others"]++
		}
	}
	for _, request := range r.Model.Requests() {
		counts["requests: "+cmp.Or(string(request.Fault), "no fault")]++
		if request.Cut != apimodel.None {
			counts["watches: "+string(request.Cut)]++
		}
	}
	for excuse, n := range r.Excused {
		counts["excused: "+excuse] += n
	}
}

// stage says what runs before what: what is less.
type stage struct{ weight, kind, nth int }

func (a stage) compare(b stage) int {
	return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.kind, b.kind), cmp.Compare(a.nth, b.nth))
}

func works(h *hooks.Hook) bool { return h.Kind == "Job" || h.Kind == "Pod" }

func has(h *hooks.Hook, policy hooks.DeletePolicy) bool {
	if len(h.DeletePolicies) == 0 {
		return policy == hooks.DeleteBeforeCreation
	}
	return slices.Contains(h.DeletePolicies, policy)
}

func deletesBefore(h *hooks.Hook) bool { return has(h, hooks.DeleteBeforeCreation) }

// judge collects problems.
type judge struct {
	*Run
	hooks    []*hook
	byMarker map[string]*hook
	requests []apimodel.Request
	lives    map[string]apimodel.Life // by UID
	problems []string
}

func (j *judge) problem(format string, args ...any) {
	j.problems = append(j.problems, fmt.Sprintf(format, args...))
}

// newJudge returns one that has read the run's history.
func newJudge(r *Run) *judge {
	j := &judge{Run: r, byMarker: map[string]*hook{}, requests: r.Model.Requests(), lives: map[string]apimodel.Life{}}
	j.gather()
	return j
}

// Check returns the promises that the run has broken.
func (r *Run) Check() []string {
	j := newJudge(r)
	for _, h := range j.hooks {
		j.checkCreation(h)
		j.checkResult(h)
		j.checkTimes(h)
	}
	j.checkOrder()
	j.checkAfter()
	j.checkSlots()
	j.checkStop()
	j.checkReturn()
	j.checkDeletions()
	j.checkPatience()
	j.checkSuccess()
	return j.problems
}

// gather brings together what belongs to each hook. The order of hooks and their slots
// are found here anew.
func (j *judge) gather() {
	results := map[*hooks.Hook]hooks.Result{}
	for _, result := range j.Results {
		results[result.Hook] = result
	}
	if len(j.Results) != len(j.Hooks) || len(results) != len(j.Hooks) {
		j.problem("results: got %d of %d hooks", len(j.Results), len(j.Hooks))
	}
	byName := slices.Clone(j.Hooks)
	slices.SortStableFunc(byName, func(a, b *hooks.Hook) int { return cmp.Compare(a.Name, b.Name) })
	for nth, h := range byName {
		found := &hook{Hook: h, marker: marker(h), result: results[h], fate: j.fates[marker(h)], slots: 1, stage: stage{weight: h.Weight}, asked: j.asked[h]}
		found.timeout = cmp.Or(found.asked.timeout, j.Timeout)
		if j.Parallelism <= 1 {
			found.stage.nth = nth
		} else {
			switch wanted := h.Objects[0].GetAnnotations()[hooks.SlotsAnnotation]; wanted {
			case "all":
				found.slots = j.Parallelism
			case "":
			default:
				found.slots = min(j.Parallelism, int(wanted[0]-'0'))
			}
			found.stage.kind = j.kindOf(h)
		}
		j.hooks = append(j.hooks, found)
		j.byMarker[found.marker] = found
	}
	for _, life := range j.Model.Lives() {
		j.lives[life.UID] = life
		if h := j.byMarker[life.Hook]; h != nil {
			h.lives = append(h.lives, life)
		}
	}
	for _, request := range j.requests {
		if h := j.byMarker[request.Hook]; h != nil && request.Method == http.MethodPost {
			h.posts = append(h.posts, request)
			h.key = request.Key
		}
	}
	for _, h := range j.hooks {
		if len(h.posts) == 0 {
			continue
		}
		// The client has long lost its connection, and still the request arrives.
		var first string
		if len(h.lives) > 0 {
			first = h.lives[0].UID
		}
		h.lives = slices.DeleteFunc(h.lives, func(life apimodel.Life) bool {
			late := life.Created.After(j.ended[h.Hook]) && !j.ended[h.Hook].IsZero() ||
				life.UID != first && j.isLate(life.UID)
			if late {
				j.Excused["created by a request that was late"]++
			}
			return late
		})
		h.sent = h.posts[0].Sent
		h.end = h.posts[len(h.posts)-1].Answered
		if end := j.trueEnd(h); !end.IsZero() && end.After(h.end) {
			h.end = end
		}
		switch {
		case h.result.Phase == hooks.Failed && works(h.Hook) && j.failure(h) == nil:
			// Its slots are free once the engine has given it up.
			h.end = earlier(h.end, h.result.CompletedAt)
		case h.result.Phase == hooks.Unknown:
			h.end = earlier(h.end, j.Returned)
		}
	}
}

// kindOf returns the place of a hook's kind in its weight, or that of a later one which it is
// to come after.
func (j *judge) kindOf(h *hooks.Hook) int {
	kind := slices.Index(hooks.InstallOrder, h.Kind)
	if works(h) {
		kind = len(hooks.InstallOrder)
	}
	for _, before := range j.asked[h].after {
		kind = max(kind, j.kindOf(before))
	}
	return kind
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// never is later than all runs.
var never = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// trueEnd returns when what a hook has created was done; zero if nothing was created.
func (j *judge) trueEnd(h *hook) time.Time {
	if len(h.lives) == 0 {
		return time.Time{}
	}
	life := h.lives[len(h.lives)-1]
	switch {
	case !works(h.Hook):
		return life.Created
	case !life.Ended.IsZero():
		return life.Ended
	case !life.Removed.IsZero():
		return life.Removed
	}
	return never
}

// failure returns the reason for which the hook's failure is true, by the time that the
// engine gave it up; nil if there is none.
func (j *judge) failure(h *hook) error {
	at := j.ended[h.Hook]
	for _, life := range h.lives {
		if life.Failed && !life.Ended.After(at) {
			return errors.New("it has failed")
		}
	}
	for _, post := range h.posts {
		switch {
		case post.Acted.IsZero():
		case post.Code == http.StatusConflict && !deletesBefore(h.Hook) && j.lives[post.UID].Hook != h.marker:
			return errors.New("another object was in its way")
		case post.Code == http.StatusConflict && j.isLate(post.UID) && j.lives[post.UID].Hook != h.marker:
			j.Excused["created by a request that was late"]++
			return errors.New("an object that nobody waited for any more was in its way")
		case h.fate.Refused != 0 && post.Code == h.fate.Refused:
			return errors.New("its creation was refused")
		}
	}
	return nil
}

// isLate reports whether an object was created by a request that the client had given up.
func (j *judge) isLate(uid string) bool {
	return slices.ContainsFunc(j.requests, func(r apimodel.Request) bool {
		return r.UID == uid && r.Fault == apimodel.LateRequest && r.Code == http.StatusCreated
	})
}

// checkCreation: a hook is created as its manifest says, and not twice.
func (j *judge) checkCreation(h *hook) {
	for _, post := range h.posts {
		if !reflect.DeepEqual(asSent(h), post.Object) {
			j.problem("%s was to be created as %v, and its manifest is %v", h, post.Object, h.Objects[0].Object)
		}
	}
	for i, post := range h.posts[:max(0, len(h.posts)-1)] {
		if post.Seen == http.StatusCreated && post.Fault != apimodel.CutAnswer {
			j.problem("%s was to be created again %v after it had been created", h, h.posts[i+1].Sent.Sub(post.Answered))
		}
	}
	for _, life := range h.lives[:max(0, len(h.lives)-1)] {
		if life.By == apimodel.ByTTL {
			j.problem("%s was created again after it had ended and its time to live was over", h)
		}
		// The answer to its creation was lost, and somebody has deleted it before
		// anybody could look.
		j.Excused["created again after it had vanished unseen"]++
	}
}

// asSent returns a hook's object as it comes out of JSON.
func asSent(h *hook) (object map[string]any) {
	text, err := h.Objects[0].MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &object)
	}
	if err != nil {
		panic(err) // it was made of JSON
	}
	return object
}

// wrong returns why a phase of a hook isn't true at the time; empty if it is.
func (j *judge) wrong(h *hook, phase hooks.Phase, at time.Time) string {
	switch phase {
	case hooks.Succeeded:
		var life *apimodel.Life
		for i := range h.lives {
			if !h.lives[i].Created.After(at) {
				life = &h.lives[i]
			}
		}
		switch {
		case life == nil:
			return "it doesn't exist"
		case !works(h.Hook):
			return ""
		case !life.Ended.IsZero() && !life.Ended.After(at) && !life.Failed:
			return ""
		case !life.Removed.IsZero() && !life.Removed.After(at):
			switch {
			case life.Failed && !life.Unseen:
				return "it has failed before it was removed"
			case life.Failed:
				j.Excused["failed and removed while nobody could see it"]++
			}
			return ""
		case life.Failed && !life.Ended.After(at):
			return "it has failed"
		}
		return "it still runs"
	}
	return ""
}

// checkResult: what the engine says of a hook is true.
func (j *judge) checkResult(h *hook) {
	result := h.result
	if (result.Phase == "" || result.StartedAt.IsZero()) && len(h.posts) > 0 {
		j.problem("%s was created and has no start", h)
	}
	if (result.Err != nil) != (result.Phase == hooks.Failed || result.Phase == hooks.Unknown) {
		j.problem("%s is %s with error %v", h, result.Phase, result.Err)
	}
	if result.Ignored != (h.asked.ignore && result.Phase == hooks.Failed) {
		j.problem("%s is %s, and that is ignored: %v", h, result.Phase, result.Ignored)
	}
	switch result.Phase {
	case hooks.Succeeded:
		if wrong := j.wrong(h, hooks.Succeeded, result.CompletedAt); wrong != "" {
			j.problem("%s is told to have succeeded: %s", h, wrong)
		}
		vanished := works(h.Hook) && len(h.lives) > 0 && (h.lives[len(h.lives)-1].Ended.IsZero() || h.lives[len(h.lives)-1].Failed)
		if vanished && !slices.ContainsFunc(j.warned[h.Hook], func(text string) bool { return strings.Contains(text, "counts as succeeded") }) {
			j.problem("%s vanished without a warning", h)
		}
	case hooks.Failed:
		if j.failure(h) != nil || result.Err == nil {
			return
		}
		begun := result.StartedAt
		if result.Err.Op == hooks.OpDelete {
			begun = j.firstDelete(h)
		}
		switch {
		case errors.Is(result.Err, hooks.ErrTimeout):
			timeout := h.timeout
			if result.Err.Op == hooks.OpDelete {
				timeout = j.Timeout
			}
			if waited := j.ended[h.Hook].Sub(begun); waited < timeout {
				j.problem("%s has timed out after %v, with a timeout of %v", h, waited, timeout)
			}
		case j.excuse(h) != "":
			j.Excused[j.excuse(h)]++
		default:
			j.problem("%s is told to have failed while it had not: %v", h, result.Err)
		}
	case hooks.Unknown:
		if j.left.IsZero() && !unanswered(h) {
			j.problem("%s is Unknown, though nobody has told the run to leave, and its creation was answered: %v", h, result.Err)
		}
	}
}

// unanswered reports whether nobody can know if a hook was created.
func unanswered(h *hook) bool {
	var err *hooks.NoAnswerError
	return h.result.Err != nil && h.result.Err.Op == hooks.OpCreate && errors.As(h.result.Err, &err) && err.Acted &&
		slices.ContainsFunc(h.posts, func(post apimodel.Request) bool { return post.Fault != apimodel.None })
}

func (j *judge) firstDelete(h *hook) time.Time {
	for _, request := range j.requests {
		if request.Method == http.MethodDelete && request.Name == h.Name {
			return request.Sent
		}
	}
	return time.Time{}
}

// excuse returns why a fault may fail the hook; empty if none may.
func (j *judge) excuse(h *hook) string {
	for _, request := range j.requests {
		internal := request.Fault == apimodel.Internal || request.Fault == apimodel.InternalActed
		if internal && request.Name == h.Name && !j.Retrier {
			return "status 500 is final without a Retrier"
		}
	}
	all := func(apimodel.Request) bool { return true }
	own := func(r apimodel.Request) bool { return r.Name == h.Name }
	silence := max(j.silence(j.ended[h.Hook], all), j.silence(j.ended[h.Hook], own))
	var unanswered *hooks.NoAnswerError
	if h.result.Err != nil && errors.As(h.result.Err, &unanswered) {
		// An answer to a request may be none to the question, as that the object exists already.
		silence = max(silence, unanswered.After)
	}
	if j.Class != Faultless && silence >= j.Timeout-longestDelay {
		return "nothing was answered for as long as the timeout"
	}
	for _, post := range h.posts {
		if post.Fault != apimodel.None && h.fate.Expires >= 0 && j.ended[h.Hook].Sub(post.Sent) >= h.fate.Expires {
			return "a Job with a time to live may have run"
		}
	}
	for _, life := range h.lives {
		if len(h.posts) > 1 && !life.Removed.IsZero() {
			return "it was deleted before anybody could look whose it was"
		}
	}
	return ""
}

// longestDelay is the longest time between two attempts, by which the last one may come early.
const longestDelay = 6 * time.Second

// silence is for how long before a time such requests were made and none had an answer that
// was the server's own.
func (j *judge) silence(until time.Time, such func(apimodel.Request) bool) time.Duration {
	var since time.Time // the last answer, or the first request
	for _, request := range j.requests {
		if !such(request) || !request.Sent.Before(until) {
			continue
		}
		if since.IsZero() {
			since = request.Sent
		}
		if request.Fault == apimodel.None && request.Seen != 0 && request.Answered.After(since) && request.Answered.Before(until) {
			since = request.Answered
		}
	}
	if since.IsZero() {
		return 0
	}
	return until.Sub(since)
}

// checkTimes: a hook's times enclose what has happened.
func (j *judge) checkTimes(h *hook) {
	result := h.result
	if h.sent.IsZero() {
		return
	}
	if result.StartedAt.After(h.sent) {
		j.problem("%s is told to have started %v after it was to be created", h, result.StartedAt.Sub(h.sent))
	}
	if took := result.CompletedAt.Sub(result.StartedAt); !result.CompletedAt.IsZero() && took > h.timeout {
		j.problem("%s was given up after %v, with a timeout of %v", h, took, h.timeout)
	}
	if result.Phase != hooks.Succeeded {
		return
	}
	if end := j.trueEnd(h); result.CompletedAt.Before(end) && j.wrong(h, hooks.Succeeded, result.CompletedAt) == "" {
		j.problem("%s is told to have ended %v before it did", h, end.Sub(result.CompletedAt))
	}
	if late := result.CompletedAt.Sub(h.end); j.Class == Faultless && late > j.slack() {
		j.problem("%s is told to have ended %v after it did", h, late)
	}
}

// slack is how long it takes at most, where there are no faults, until the engine knows.
func (j *judge) slack() time.Duration {
	slack := j.model.Lag + 6*j.model.Latency
	if j.model.ForbidWatch {
		// All that is waited for is read in turn, every two seconds.
		slack += 2*time.Second + time.Duration(4*j.Parallelism)*j.model.Latency
	}
	return slack
}

// checkOrder: weights and setup are barriers, and no object runs beside itself.
func (j *judge) checkOrder() {
	for _, later := range j.hooks {
		if later.sent.IsZero() {
			continue
		}
		for _, before := range j.hooks {
			order := before.stage.compare(later.stage)
			if before == later || order > 0 {
				continue
			}
			if order == 0 {
				if before.key == later.key && before.sent.Before(later.sent) && before.end.After(later.sent) {
					j.problem("%s was created while it ran", later)
				}
				continue
			}
			switch {
			case j.KeepGoing && before.Weight == later.Weight:
				if before.end.After(later.sent) {
					j.problem("%s was created before %s had ended", later, before)
				}
			case j.unended(before, later.sent) != "":
				j.problem("%s was created although of %s, which is to be before: %s", later, before, j.unended(before, later.sent))
			}
		}
	}
}

// unended returns why a hook had not ended well at the time; empty if it had, or had failed
// where that is ignored.
func (j *judge) unended(h *hook, at time.Time) string {
	if h.result.Ignored && !j.ended[h.Hook].After(at) {
		return ""
	}
	return j.wrong(h, hooks.Succeeded, at)
}

// checkAfter: a hook starts after those that it names have ended well.
func (j *judge) checkAfter() {
	byHook := map[*hooks.Hook]*hook{}
	for _, h := range j.hooks {
		byHook[h.Hook] = h
	}
	for _, later := range j.hooks {
		for _, before := range later.asked.after {
			if later.sent.IsZero() {
				continue
			}
			if why := j.unended(byHook[before], later.sent); why != "" {
				j.problem("%s was created although of %s, which it's after: %s", later, before, why)
			}
		}
	}
}

// checkSlots: never more hooks at once than there are slots, nor than limits allow.
func (j *judge) checkSlots() {
	for _, h := range j.hooks {
		if h.sent.IsZero() {
			continue
		}
		taken, of := 0, make([]int, len(j.Limits))
		for _, other := range j.hooks {
			switch {
			case other.sent.IsZero() || other.sent.After(h.sent) || other != h && !other.end.After(h.sent):
			case other != h && other.result.Phase == hooks.Unknown && !j.ended[other.Hook].After(h.sent):
				j.Excused["may run on, nobody can know"]++
			default:
				taken += other.slots
				for i, limit := range j.Limits {
					if limit.Covers(other.Hook) {
						of[i]++
					}
				}
			}
		}
		if taken > j.Parallelism {
			j.problem("%d slots of %d were taken when %s was created", taken, j.Parallelism, h)
		}
		for i, limit := range j.Limits {
			if j.Parallelism > 1 && of[i] > limit.MaxParallel && limit.Covers(h.Hook) {
				j.problem("%d hooks of %v ran when %s was created, and %d may", of[i], limit.Charts, h, limit.MaxParallel)
			}
		}
	}
}

// checkStop: nothing starts after the run was told to stop, or after a failure.
func (j *judge) checkStop() {
	if !j.stopped.IsZero() {
		for _, h := range j.hooks {
			if h.sent.After(j.stopped) && h.result.StartedAt.After(j.stopped) {
				j.problem("%s was created %v after the run was told to stop", h, h.sent.Sub(j.stopped))
			}
		}
	}
	if j.Class != Faultless || j.KeepGoing {
		return
	}
	for _, failed := range j.hooks {
		if failed.result.Phase != hooks.Failed || failed.result.Ignored || failed.sent.IsZero() {
			continue
		}
		for _, h := range j.hooks {
			if h.sent.After(failed.end.Add(j.slack())) {
				j.problem("%s was created %v after %s had failed", h, h.sent.Sub(failed.end), failed)
			}
		}
	}
}

// checkReturn: the run returns in time, and nothing is asked after that.
func (j *judge) checkReturn() {
	if errors.Is(j.Err, errTooLong) {
		j.problem("the run did not return within %v", j.bound())
	}
	if !j.left.IsZero() && j.Returned.Sub(j.left) > time.Second {
		j.problem("the run returned %v after it was told to leave", j.Returned.Sub(j.left))
	}
	for _, request := range j.requests {
		if request.Sent.After(j.Returned) {
			j.problem("%s %s was asked for %v after the run had returned", request.Method, request.Key, request.Sent.Sub(j.Returned))
		}
	}
}

// checkDeletions: what policies ask to be deleted is, and nothing else.
func (j *judge) checkDeletions() {
	for _, request := range j.requests {
		if request.Method != http.MethodDelete {
			continue
		}
		allowed := false
		for _, h := range j.hooks {
			if h.Name != request.Name {
				continue
			}
			before := deletesBefore(h.Hook) && (h.sent.IsZero() || !request.Sent.After(h.sent))
			after := has(h.Hook, hooks.DeleteSucceeded) && h.result.Phase == hooks.Succeeded ||
				has(h.Hook, hooks.DeleteFailed) && h.result.Phase == hooks.Failed
			allowed = allowed || before || after
		}
		if !allowed {
			j.problem("%s was deleted, which no policy asks for", request.Key)
		}
		if h := j.byMarker[j.lives[request.UID].Hook]; h != nil && request.Code == http.StatusOK && request.Acted.Before(h.end) {
			if request.Fault == apimodel.LateRequest {
				j.Excused["deleted by a request that was late"]++
				continue
			}
			j.problem("%s was deleted by the client while it ran", h)
		}
	}

	if !j.left.IsZero() {
		return
	}
	for _, all := range j.warned {
		if slices.ContainsFunc(all, func(text string) bool { return strings.Contains(text, "error deleting the hook resource") }) {
			return
		}
	}
	var failure *hooks.RunError
	if errors.As(j.Err, &failure) && slices.ContainsFunc(failure.Failures, func(e *hooks.HookError) bool { return e.Op == hooks.OpCleanUp }) {
		return
	}
	refused := slices.ContainsFunc(j.hooks, func(h *hook) bool { return h.result.Phase == hooks.Failed && h.result.Err.Op != hooks.OpWait })
	if refused && j.Parallelism <= 1 {
		return // as Helm, which then leaves all as it is
	}
	for _, h := range j.hooks {
		due := has(h.Hook, hooks.DeleteSucceeded) && h.result.Phase == hooks.Succeeded ||
			has(h.Hook, hooks.DeleteFailed) && h.result.Phase == hooks.Failed && h.result.Err.Op == hooks.OpWait
		for _, life := range h.lives {
			if due && (life.Removed.IsZero() || life.Removed.After(j.Returned)) {
				j.problem("%s was not deleted, though it is %s and its policies are %v", h, h.result.Phase, h.DeletePolicies)
			}
		}
	}
}

// checkPatience: what was asked to be repeated later is.
func (j *judge) checkPatience() {
	for _, h := range j.hooks {
		for i, post := range h.posts[:max(0, len(h.posts)-1)] {
			if next := h.posts[i+1]; next.Sent.Sub(post.Answered) < post.RetryAfter {
				j.problem("the creation of %s was repeated after %v, and not after %v", h, next.Sent.Sub(post.Answered), post.RetryAfter)
			}
		}
	}
}

// checkSuccess: all is well in the end if the cluster is, and the run's error says so.
func (j *judge) checkSuccess() {
	succeeded := !slices.ContainsFunc(j.hooks, func(h *hook) bool { return h.result.Phase != hooks.Succeeded && !h.result.Ignored })
	if j.Err == nil {
		if !succeeded {
			j.problem("the run has no error, and not all hooks have succeeded")
		}
		return
	}
	if j.Class == Forever || !j.stopped.IsZero() || !j.left.IsZero() {
		return
	}
	for _, h := range j.hooks {
		old := j.old[h.marker]
		patient := j.Timeout >= 10*time.Minute && h.timeout >= 10*time.Minute
		if h.result.Ignored && h.fate.Lingers >= 0 {
			continue
		}
		if j.failure(h) != nil || h.fate.Runs < 0 || h.fate.Lingers < 0 || old.Lingers < 0 || !patient {
			return
		}
	}
	for _, h := range j.hooks {
		if excuse := j.excuse(h); excuse != "" {
			j.Excused[excuse]++
			return
		}
	}
	j.problem("the run should have succeeded: %v", j.Err)
}
