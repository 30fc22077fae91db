package helm3

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"sigs.k8s.io/yaml"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// Limits returns how many hooks of a chart and of its subcharts may run at once, by the
// annotations of their Chart.yaml. The error joins one for each that can't be followed.
func Limits(c *chart.Chart) ([]hooks.Limit, error) {
	if c == nil || c.Metadata == nil {
		return nil, nil
	}
	limits, err := hooks.LimitsOf(c.ChartFullPath(), c.Metadata.Annotations)
	errs := []error{err}
	for _, limit := range limits {
		errs = append(errs, checkSubchart(c, limit))
	}
	for _, sub := range c.Dependencies() {
		below, err := Limits(sub)
		limits, errs = append(limits, below...), append(errs, err)
	}
	return limits, errors.Join(errs...)
}

// checkSubchart returns an error if the limit, which is the chart's own say, is of a
// subchart that it doesn't have, not even where its values leave that out. Of the chart in
// a record nobody knows.
func checkSubchart(c *chart.Chart, limit hooks.Limit) error {
	path, below := strings.CutPrefix(limit.Chart, c.ChartFullPath()+"/charts/")
	if !below {
		return nil
	}
	above := c
	for name := range strings.SplitSeq(path, "/charts/") {
		i := slices.IndexFunc(above.Dependencies(), func(sub *chart.Chart) bool { return sub.Name() == name })
		if i >= 0 {
			above = above.Dependencies()[i]
			continue
		}
		names, known := declared(above)
		if !known || slices.Contains(names, name) {
			return nil
		}
		return &hooks.AnnotationError{
			Chart: c.ChartFullPath(), Annotation: hooks.SubchartMaxParallelAnnotation,
			Value: c.Metadata.Annotations[hooks.SubchartMaxParallelAnnotation], Problem: fmt.Sprintf("chart %s has no subchart %q", above.ChartFullPath(), name),
		}
	}
	return nil
}

// declared returns the names of the subcharts in a chart's Chart.yaml as it was written:
// Helm drops from its metadata those that values leave out (pkg/chartutil,
// dependencies.go). known is false for the chart in a record, which has no files.
func declared(c *chart.Chart) (names []string, known bool) {
	for _, file := range c.Raw {
		var written chart.Metadata
		if file.Name != chartutil.ChartfileName || yaml.Unmarshal(file.Data, &written) != nil {
			continue
		}
		known = true
		for _, d := range written.Dependencies {
			names = append(names, cmp.Or(d.Alias, d.Name))
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
