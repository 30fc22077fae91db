package helm3

import (
	"errors"
	"maps"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"

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
	for _, sub := range c.Dependencies() {
		below, err := Limits(sub)
		limits, errs = append(limits, below...), append(errs, err)
	}
	return limits, errors.Join(errs...)
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
