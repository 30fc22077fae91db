package hooks

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/agext/levenshtein"
)

// AnnotationPrefix begins the name of every annotation by which a chart's author
// has a say in how hooks run in parallel. Plain Helm ignores them all.
const AnnotationPrefix = "parallel-hooks/"

// The annotations of a hook. A serial plan heeds none of them.
const (
	// SlotsAnnotation says how many slots a hook takes: an integer of at least 1,
	// or "all" for a hook that runs alone in its tier. More than there are count
	// as all.
	SlotsAnnotation = AnnotationPrefix + "slots"
	// AfterAnnotation names, separated by commas, hooks of the same event and
	// weight that must have ended well before a hook starts: by name, which means
	// every such hook of that name, or as Kind/name.
	AfterAnnotation = AnnotationPrefix + "after"
	// TimeoutAnnotation bounds the waiting for a hook's end instead of
	// [Runner.Timeout]: a duration above zero, as in [time.ParseDuration].
	TimeoutAnnotation = AnnotationPrefix + "timeout"
	// FailureAnnotation says what the failure of a hook means: "abort", which is
	// the default, fails the event; "ignore" doesn't.
	FailureAnnotation = AnnotationPrefix + "failure"
)

// The annotations in the Chart.yaml of a chart or subchart, see [LimitsOf].
const (
	// MaxParallelAnnotation says how many hooks of the chart and its subcharts run at
	// once at most: an integer of at least 1.
	MaxParallelAnnotation = AnnotationPrefix + "max-parallel"
	// SubchartMaxParallelAnnotation says the same of subcharts, which as a rule are
	// somebody else's: "db=1, cache=2", "db/backup=1" for one of db's, and
	// "db+cache=2" for both together.
	SubchartMaxParallelAnnotation = AnnotationPrefix + "subchart-max-parallel"
)

var (
	hookAnnotations  = []string{SlotsAnnotation, AfterAnnotation, TimeoutAnnotation, FailureAnnotation}
	chartAnnotations = []string{MaxParallelAnnotation, SubchartMaxParallelAnnotation}
)

// AnnotationError says that an annotation of a hook or of a chart can't be followed.
type AnnotationError struct {
	// Hook is nil if the annotation is in a Chart.yaml.
	Hook *Hook
	// Chart is the path of a chart, see [Limit]; empty if the annotation is a hook's.
	Chart      string
	Annotation string
	Value      string
	// Problem says what would be valid.
	Problem string
}

func (e *AnnotationError) Error() string {
	if e.Hook == nil {
		return fmt.Sprintf("chart %s (Chart.yaml): annotation %s: %q: %s", e.Chart, e.Annotation, e.Value, e.Problem)
	}
	return fmt.Sprintf("hook %s (%s): annotation %s: %q: %s", e.Hook, e.Hook.Path, e.Annotation, e.Value, e.Problem)
}

type annotationErrors []error

func (e annotationErrors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "; ")
}

func (e annotationErrors) Unwrap() []error { return e }

// directives are what the annotations of a hook ask for.
type directives struct {
	slots         int
	after         []string // names of hooks, some as Kind/name
	timeout       time.Duration
	ignoreFailure bool
}

// directivesOf reads a hook's annotations. The errors are of type [*AnnotationError], by
// the name of the annotation.
func directivesOf(h *Hook, parallelism int) (directives, []error) {
	d := directives{slots: 1}
	var bad []error
	for key, content := range h.annotations() {
		if !strings.HasPrefix(key, AnnotationPrefix) {
			continue
		}
		value, isString := content.(string)
		problem := ""
		if isString {
			problem = d.read(key, value, parallelism)
		} else {
			value, problem = fmt.Sprint(content), "is no string; put the value in quotes"
		}
		if problem != "" {
			bad = append(bad, &AnnotationError{Hook: h, Annotation: key, Value: value, Problem: problem})
		}
	}
	slices.SortFunc(bad, func(a, b error) int {
		return strings.Compare(a.(*AnnotationError).Annotation, b.(*AnnotationError).Annotation)
	})
	return d, bad
}

// read takes over the value of an annotation, or returns what would be valid.
func (d *directives) read(key, value string, parallelism int) string {
	switch key {
	case SlotsAnnotation:
		n, err := strconv.Atoi(value)
		switch {
		case value == "all":
			d.slots = parallelism
		case err != nil || n < 1:
			return `must be an integer of at least 1, or "all"`
		default:
			d.slots = min(n, parallelism)
		}
	case AfterAnnotation:
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name == "" {
				return "must be names of hooks, separated by commas"
			}
			d.after = append(d.after, name)
		}
	case TimeoutAnnotation:
		timeout, err := time.ParseDuration(value)
		if err != nil || timeout <= 0 {
			return `must be a duration above zero, such as "90s" or "1h30m"`
		}
		d.timeout = timeout
	case FailureAnnotation:
		if value != "abort" && value != "ignore" {
			return `must be "abort" or "ignore"`
		}
		d.ignoreFailure = value == "ignore"
	case MaxParallelAnnotation, SubchartMaxParallelAnnotation:
		return "is an annotation of a chart, in its Chart.yaml; a hook may have " + strings.Join(hookAnnotations, ", ")
	default:
		return unknownAnnotation(key, hookAnnotations)
	}
	return ""
}

// unknownAnnotation says what may have been meant.
func unknownAnnotation(key string, known []string) string {
	nearest := slices.MinFunc(known, func(a, b string) int {
		return cmp.Compare(levenshtein.Distance(key, a, nil), levenshtein.Distance(key, b, nil))
	})
	text := "unknown annotation; "
	// A third of the name wrong is a slip, more is another name.
	if levenshtein.Distance(key, nearest, nil) <= (len(nearest)-len(AnnotationPrefix)+2)/3 {
		text += "did you mean " + nearest + "? "
	}
	return text + "known: " + strings.Join(known, ", ")
}

// Limit bounds how many hooks of charts run at once, of all of them together.
type Limit struct {
	// Charts are the paths of the charts, as templates' names begin: "shop" for the
	// chart of a release itself, "shop/charts/db" for a subchart.
	Charts []string
	// MaxParallel is how many hooks of the charts and their subcharts run at once at
	// most, at least 1. With 1 they run in the order of their names, beside those of
	// other charts.
	MaxParallel int
}

// Covers reports whether a hook is one of the charts or their subcharts.
func (l Limit) Covers(h *Hook) bool {
	return slices.ContainsFunc(l.Charts, func(chart string) bool { return strings.HasPrefix(h.Path, chart+"/") })
}

// LimitsOf reads the annotations of a Chart.yaml; chart is its path, see [Limit].
//
// The error joins an [*AnnotationError] for each annotation with our prefix that can't be
// followed. The limits are those that can be, also where there is an error.
// [SubchartLimits] writes what is read here.
func LimitsOf(chart string, annotations map[string]string) ([]Limit, error) {
	var limits []Limit
	var bad annotationErrors
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, AnnotationPrefix) {
			continue
		}
		value, problem := annotations[key], ""
		switch {
		case key == MaxParallelAnnotation:
			n, ok := parseLimit(value)
			if !ok {
				problem = "must be an integer of at least 1"
			}
			limits = append(limits, Limit{[]string{chart}, n})
		case key == SubchartMaxParallelAnnotation:
			for entry := range strings.SplitSeq(value, ",") {
				names, number, _ := strings.Cut(entry, "=")
				n, ok := parseLimit(strings.TrimSpace(number))
				var charts []string
				for name := range strings.SplitSeq(strings.TrimSpace(names), "+") {
					path := strings.Split(name, "/")
					ok = ok && !slices.ContainsFunc(path, func(part string) bool { return part == "" || strings.ContainsFunc(part, unicode.IsSpace) })
					charts = append(charts, strings.Join(append([]string{chart}, path...), subcharts))
				}
				if !ok {
					problem = `must be names of subcharts with integers of at least 1, such as "db=1, cache/backup=2"`
				}
				limits = append(limits, Limit{charts, n})
			}
		case slices.Contains(hookAnnotations, key):
			problem = "is an annotation of a hook; a chart may have " + strings.Join(chartAnnotations, ", ")
		default:
			problem = unknownAnnotation(key, chartAnnotations)
		}
		if problem != "" {
			bad = append(bad, &AnnotationError{Chart: chart, Annotation: key, Value: value, Problem: problem})
		}
	}
	limits = slices.DeleteFunc(limits, func(l Limit) bool { return l.MaxParallel < 1 })
	if len(bad) > 0 {
		return limits, bad
	}
	return limits, nil
}

// subcharts is the folder in the path of a chart that its subcharts are in.
const subcharts = "/charts/"

func parseLimit(value string) (int, bool) {
	n, err := strconv.Atoi(value)
	return n, err == nil && n >= 1
}

// SubchartLimits returns the value of [SubchartMaxParallelAnnotation] by which the chart
// has those of the limits that are its subcharts'; empty if none are.
func SubchartLimits(chart string, limits []Limit) string {
	var entries []string
	for _, l := range limits {
		var names []string
		for _, limited := range l.Charts {
			if path, below := strings.CutPrefix(limited, chart+subcharts); below {
				names = append(names, strings.ReplaceAll(path, subcharts, "/"))
			}
		}
		if len(names) > 0 {
			entries = append(entries, fmt.Sprintf("%s=%d", strings.Join(names, "+"), l.MaxParallel))
		}
	}
	slices.Sort(entries)
	return strings.Join(slices.Compact(entries), ", ")
}
