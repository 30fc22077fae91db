package helm3

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// Limits returns how many hooks of a chart and of its subcharts may run at once, by the
// annotations of their Chart.yaml. The error joins one for each that can't be followed;
// the others are returned also along with it.
func Limits(c *chart.Chart) ([]hooks.Limit, error) {
	if c == nil || c.Metadata == nil {
		return nil, nil
	}
	limits, err := hooks.LimitsOf(c.ChartFullPath(), c.Metadata.Annotations)
	errs := []error{err}
	for i := range limits {
		for _, path := range slices.Clone(limits[i].Charts) {
			of, err := subchart(c, path)
			if of != nil {
				addPaths(&limits[i], of)
			}
			errs = append(errs, err)
		}
	}
	if len(limits) > 0 && strings.ContainsFunc(c.Name(), isSyntax) {
		errs = append(errs, &hooks.AnnotationError{
			Chart: c.ChartFullPath(), Annotation: hooks.MaxParallelAnnotation, Value: c.Metadata.Annotations[hooks.MaxParallelAnnotation],
			Problem: "a chart that has this needs a name without blanks and any of = , + /",
		})
	}
	for _, sub := range c.Dependencies() {
		below, err := Limits(sub)
		limits, errs = append(limits, below...), append(errs, err)
	}
	return limits, errors.Join(errs...)
}

// isSyntax reports whether a chart's name that has the character can't be told in
// [hooks.SubchartMaxParallelAnnotation].
func isSyntax(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("=,+/", r) }

// addPaths has the limit cover the templates of the chart and of its subcharts. Of an
// aliased chart those of subcharts go by its own name (pkg/chartutil, dependencies.go,
// getAliasDependency).
func addPaths(limit *hooks.Limit, c *chart.Chart) {
	path := c.ChartFullPath()
	if !slices.ContainsFunc(limit.Charts, func(above string) bool { return strings.HasPrefix(path+"/", above+"/") }) {
		limit.Charts = append(limit.Charts, path)
	}
	for _, sub := range c.Dependencies() {
		addPaths(limit, sub)
	}
}

// subchart returns the chart of the path, which is c or below it; nil if there's none. The
// error says that there can't be one, not even where c's values leave it out. Of the chart
// in a record nobody knows.
func subchart(c *chart.Chart, path string) (*chart.Chart, error) {
	path, below := strings.CutPrefix(path, c.ChartFullPath()+"/charts/")
	if !below {
		return c, nil
	}
	of := c
	for name := range strings.SplitSeq(path, "/charts/") {
		i := slices.IndexFunc(of.Dependencies(), func(sub *chart.Chart) bool { return sub.Name() == name })
		if i >= 0 {
			of = of.Dependencies()[i]
			continue
		}
		names, known := declared(of)
		if !known || slices.Contains(names, name) {
			return nil, nil
		}
		has := "it has none"
		if slices.Sort(names); len(names) > 0 {
			has = "it has " + strings.Join(names, ", ")
		}
		return nil, &hooks.AnnotationError{
			Chart: c.ChartFullPath(), Annotation: hooks.SubchartMaxParallelAnnotation,
			Value: c.Metadata.Annotations[hooks.SubchartMaxParallelAnnotation], Problem: fmt.Sprintf("chart %s has no subchart %q; %s", of.ChartFullPath(), name, has),
		}
	}
	return of, nil
}

// requirementsName is where charts of the first API version declare their subcharts, and those of the second may.
const requirementsName = "requirements.yaml"

// declared returns the names of the subcharts that a chart's files say it has, or that are in it unsaid: Helm drops from
// its metadata those that values leave out (pkg/chartutil, dependencies.go). known is false for the chart in a record,
// which has no files.
func declared(c *chart.Chart) (names []string, known bool) {
	for _, file := range c.Raw {
		if file.Name == chartutil.ChartfileName {
			known = true
		}
		// As in pkg/chart/loader, load.go.
		var written chart.Metadata
		if file.Name != chartutil.ChartfileName && file.Name != requirementsName || yaml.Unmarshal(file.Data, &written) != nil {
			continue
		}
		for _, d := range written.Dependencies {
			names = append(names, cmp.Or(d.Alias, d.Name))
		}
	}
	for _, sub := range c.Dependencies() {
		if !slices.Contains(names, sub.Name()) {
			names = append(names, sub.Name())
		}
	}
	return names, known
}

// recordLimits has the release's chart itself say how many hooks of its subcharts may run
// at once: a record holds no subcharts, and later operations run hooks of what it holds.
func recordLimits(rel *release.Release, limits []hooks.Limit) {
	if rel.Chart == nil || rel.Chart.Metadata == nil {
		return
	}
	value := hooks.SubchartLimits(rel.Chart.ChartFullPath(), limits)
	if value == "" || rel.Chart.Metadata.Annotations[hooks.SubchartMaxParallelAnnotation] == value {
		return
	}
	// Copies, since the chart is whoever's has loaded it.
	recorded, metadata := *rel.Chart, *rel.Chart.Metadata
	metadata.Annotations = maps.Clone(metadata.Annotations)
	if metadata.Annotations == nil {
		metadata.Annotations = map[string]string{}
	}
	metadata.Annotations[hooks.SubchartMaxParallelAnnotation] = value
	recorded.Metadata = &metadata
	rel.Chart = &recorded
}
