package lint

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// ladderLength is from how many weights with one Job or Pod each on they look
// numbered rather than ordered. A chain such as schema, data, index is shorter.
const ladderLength = 4

// checkWeights looks for weights that keep Jobs and Pods apart for no reason that can
// be seen. Reasons that can't be seen are many, so it's content with two patterns.
func (c *check) checkWeights(event hooks.Event, tiers []tier) {
	var work []tier
	created, again := map[identity]bool{}, false
	for _, t := range tiers {
		for _, h := range t.hooks {
			for _, id := range identitiesOf(h) {
				again = again || created[id]
			}
		}
		for _, h := range t.hooks {
			for _, id := range identitiesOf(h) {
				created[id] = true
			}
		}
		t.hooks = slices.DeleteFunc(slices.Clone(t.hooks), func(h *hooks.Hook) bool { return !h.RunsToCompletion() })
		if len(t.hooks) > 0 {
			t.again, again = again, false
			work = append(work, t)
		}
	}
	for run := range runs(work, strangers) {
		if len(run) > 1 {
			c.add(separateWeights, aboutHook(run[1].hooks[0]).at(event), "the Jobs and Pods of weights %s are of different subcharts (%s): with one weight they'd run at once, if they don't need one another", weights(run), strings.Join(charts(run), ", "))
		}
	}
	for run := range runs(work, steps) {
		if len(run) >= ladderLength {
			c.add(separateWeights, aboutHook(run[1].hooks[0]).at(event), "weights %s have one Job or Pod each: with one weight they'd run at once, if they don't need one another", weights(run))
		}
	}
}

// numbered takes names apart that begin with a number, or have one between dashes, and
// go on after it.
var numbered = regexp.MustCompile(`^(|.*?[-.])([0-9]+)[-.](.+)$`)

// checkNames looks for Jobs and Pods of a weight whose names number different things, as
// in 01-schema and 02-data. With the same behind the number they're shards of one thing.
func (c *check) checkNames(event hooks.Event, tiers []tier) {
	type candidate struct {
		hook           *hooks.Hook
		number, behind string
	}
	for _, t := range tiers {
		// By chart and what comes before the number. Of those with the same behind it, the
		// first two numbers are enough: one of them is another than that of a later hook.
		before := map[string][]candidate{}
		for _, h := range t.hooks {
			parts := numbered.FindStringSubmatch(h.Name)
			if parts == nil || !h.RunsToCompletion() || c.oneAtATime(h) || saysAfter(h) {
				continue
			}
			key, number, behind := chartOf(h.Path)+"\x00"+parts[1], parts[2], parts[3]
			var first *hooks.Hook // that it seems to come after
			alike, known := 0, false
			for _, other := range before[key] {
				switch {
				case other.behind == behind:
					alike++
					known = known || other.number == number
				case first == nil && other.number != number:
					first = other.hook
				}
			}
			if first != nil {
				c.add(numberedNames, aboutHook(h).at(event), "is called as if it came after %s, which has the same weight: where hooks run in parallel, it doesn't; say so by %s or by weights", first, hooks.AfterAnnotation)
			}
			if alike < 2 && !known {
				before[key] = append(before[key], candidate{h, number, behind})
			}
		}
	}
}

// oneAtATime reports whether the hook's chart, or one above it, runs its hooks by name.
func (c *check) oneAtATime(h *hooks.Hook) bool {
	return slices.ContainsFunc(c.limits, func(l hooks.Limit) bool {
		return l.MaxParallel == 1 && l.Covers(h)
	})
}

// saysAfter reports whether a hook has an annotation that orders it, where that is read:
// not in a List of several objects.
func saysAfter(h *hooks.Hook) bool {
	return len(h.Objects) == 1 && h.Objects[0].GetAnnotations()[hooks.AfterAnnotation] != ""
}

// runs yields the longest runs of neighbouring tiers in which each fits those before, and
// creates nothing that's created before: that has to stay apart.
func runs(tiers []tier, fits func(before []tier, next tier) bool) func(yield func([]tier) bool) {
	return func(yield func([]tier) bool) {
		start := 0
		for i := 1; i <= len(tiers); i++ {
			if i < len(tiers) && !tiers[i].again && fits(tiers[start:i], tiers[i]) {
				continue
			}
			if !yield(tiers[start:i]) {
				return
			}
			start = i
		}
	}
}

// strangers reports whether no hook of the tier is of a chart that one before is of,
// or that contains it or is contained in it: a chart may order its own hooks, and
// those of its subcharts.
func strangers(before []tier, next tier) bool {
	for _, a := range charts(before) {
		for _, b := range charts([]tier{next}) {
			if strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/") {
				return false
			}
		}
	}
	return true
}

// steps reports whether the tiers have one hook each, all of one chart.
func steps(before []tier, next tier) bool {
	all := slices.Concat(before, []tier{next})
	one := func(t tier) bool { return len(t.hooks) == 1 }
	return one(before[0]) && one(next) && len(charts(all)) == 1
}

// charts returns the paths of the charts that the hooks are of.
func charts(tiers []tier) []string {
	var paths []string
	for _, t := range tiers {
		for _, h := range t.hooks {
			paths = append(paths, chartOf(h.Path))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func weights(tiers []tier) string {
	var all []string
	for _, t := range tiers {
		all = append(all, strconv.Itoa(t.weight))
	}
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + " and " + all[last]
}
