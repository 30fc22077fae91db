package helm3

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func limited(name string, annotations map[string]string, dependencies ...*chart.Chart) *chart.Chart {
	c := &chart.Chart{Metadata: &chart.Metadata{Name: name, Annotations: annotations}}
	c.AddDependency(dependencies...)
	return c
}

// TestLimitsOutliveTheRecord: a record holds no subcharts, and still says what they do.
func TestLimitsOutliveTheRecord(t *testing.T) {
	shop := limited("shop", map[string]string{hooks.MaxParallelAnnotation: "4", hooks.SubchartMaxParallelAnnotation: "cache=2"},
		limited("db", map[string]string{hooks.MaxParallelAnnotation: "2"}, limited("backup", map[string]string{hooks.MaxParallelAnnotation: "1"})),
		limited("cache", nil))
	limits, err := Limits(shop)
	if err != nil {
		t.Fatal(err)
	}
	rel := &release.Release{Chart: shop}
	recordLimits(rel, limits)
	if shop.Metadata.Annotations[hooks.SubchartMaxParallelAnnotation] != "cache=2" {
		t.Error("the chart that was given has changed")
	}
	text, err := json.Marshal(rel)
	if err != nil {
		t.Fatal(err)
	}
	var stored release.Release
	if err := json.Unmarshal(text, &stored); err != nil {
		t.Fatal(err)
	}
	again, err := Limits(stored.Chart)
	want := []hooks.Limit{{Chart: "shop", MaxParallel: 4}, {Chart: "shop/charts/cache", MaxParallel: 2}, {Chart: "shop/charts/db/charts/backup", MaxParallel: 1}, {Chart: "shop/charts/db", MaxParallel: 2}}
	if err != nil || !slices.Equal(again, want) {
		t.Errorf("the record says %v, %v, want %v", again, err, want)
	}
}

func TestRecordsWithoutLimitsStay(t *testing.T) {
	for _, c := range []*chart.Chart{nil, {}, limited("shop", nil, limited("db", nil)), limited("shop", map[string]string{hooks.MaxParallelAnnotation: "4"})} {
		rel := &release.Release{Chart: c}
		limits, err := Limits(c)
		if err != nil {
			t.Fatal(err)
		}
		if recordLimits(rel, limits); rel.Chart != c {
			t.Errorf("the record's chart is %v, want that which was given", rel.Chart.Metadata)
		}
	}
}

func TestBadLimitsAreAllNamed(t *testing.T) {
	_, err := Limits(limited("shop", map[string]string{hooks.MaxParallelAnnotation: "x"}, limited("db", map[string]string{"parallel-hooks/max": "1"})))
	var bad *hooks.AnnotationError
	const want = `chart shop (Chart.yaml): annotation parallel-hooks/max-parallel: "x": must be an integer of at least 1
chart shop/charts/db (Chart.yaml): annotation parallel-hooks/max: "1": unknown annotation; known: parallel-hooks/max-parallel, parallel-hooks/subchart-max-parallel`
	if !errors.As(err, &bad) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
