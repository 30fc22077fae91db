package helm3

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

func limited(name string, annotations map[string]string, dependencies ...*chart.Chart) *chart.Chart {
	c := &chart.Chart{Metadata: &chart.Metadata{Name: name, Annotations: annotations}}
	c.AddDependency(dependencies...)
	return c
}

// TestRecordsKeepLimits: a record holds no subcharts, and still says what theirs are.
func TestRecordsKeepLimits(t *testing.T) {
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
	want := []hooks.Limit{{Charts: []string{"shop"}, MaxParallel: 4}, {Charts: []string{"shop/charts/cache"}, MaxParallel: 2}, {Charts: []string{"shop/charts/db/charts/backup"}, MaxParallel: 1}, {Charts: []string{"shop/charts/db"}, MaxParallel: 2}}
	if err != nil || !reflect.DeepEqual(again, want) {
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

// TestLimitsOfAliases: templates of an aliased chart's subcharts go by its own name, and are counted all the same, also
// by the record.
func TestLimitsOfAliases(t *testing.T) {
	raw := func(text string) []*chart.File {
		return []*chart.File{{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nversion: 1.0.0\n" + text)}}
	}
	backup := limited("backup", nil)
	db := limited("db", map[string]string{hooks.MaxParallelAnnotation: "1"}, backup)
	shop := limited("shop", map[string]string{hooks.SubchartMaxParallelAnnotation: "main+cache=3, main/backup=2"}, db, limited("cache", nil))
	shop.Metadata.Dependencies = []*chart.Dependency{{Name: "db", Version: "1.0.0", Alias: "main"}, {Name: "cache", Version: "1.0.0"}}
	shop.Raw = raw("name: shop\ndependencies: [{name: db, alias: main}, {name: cache}]\n")
	for _, c := range []*chart.Chart{shop, db, backup} {
		c.Metadata.APIVersion, c.Metadata.Version = "v2", "1.0.0"
	}
	if err := chartutil.ProcessDependencies(shop, nil); err != nil {
		t.Fatal(err)
	}
	limits, err := Limits(shop)
	if err != nil {
		t.Fatal(err)
	}
	rel := &release.Release{Chart: shop}
	recordLimits(rel, limits)
	recorded, err := Limits(&chart.Chart{Metadata: rel.Chart.Metadata})
	if err != nil {
		t.Fatal(err)
	}
	hook := &hooks.Hook{Path: "shop/charts/db/charts/backup/templates/job.yaml"} // as Helm renders it
	for what, all := range map[string][]hooks.Limit{"the chart": limits, "the record": recorded} {
		var bounds []int
		for _, limit := range all {
			if limit.Covers(hook) {
				bounds = append(bounds, limit.MaxParallel)
			}
		}
		if slices.Sort(bounds); !slices.Equal(bounds, []int{1, 2, 3}) {
			t.Errorf("%s bounds the subchart by %v, want all three limits: %v", what, bounds, all)
		}
	}
}

// TestSubchartsThatValuesLeaveOut have been declared, wherever that was, and a limit of theirs is no mistake.
func TestSubchartsThatValuesLeaveOut(t *testing.T) {
	const name = "name: shop\nversion: 1.0.0\n"
	for what, test := range map[string]struct {
		files map[string]string
		value string
		want  string
	}{
		"of the second version of the API":  {map[string]string{"Chart.yaml": name + "apiVersion: v2\ndependencies: [{name: db}]\n"}, "db=1", ""},
		"of the first":                      {map[string]string{"Chart.yaml": name + "apiVersion: v1\n", "requirements.yaml": "dependencies: [{name: db}]\n"}, "db=1", ""},
		"by its alias":                      {map[string]string{"Chart.yaml": name + "apiVersion: v2\ndependencies: [{name: db, alias: main}]\n"}, "main=1", ""},
		"by the name that isn't its alias":  {map[string]string{"Chart.yaml": name + "apiVersion: v2\ndependencies: [{name: db, alias: main}]\n"}, "db=1", `chart shop has no subchart "db"; it has cache, main`},
		"that nobody has declared":          {map[string]string{"Chart.yaml": name + "apiVersion: v2\n"}, "db=1", `chart shop has no subchart "db"; it has cache`},
		"of a chart that's there, likewise": {map[string]string{"Chart.yaml": name + "apiVersion: v2\n"}, "cache/db=1", `chart shop/charts/cache has no subchart "db"; it has none`},
	} {
		t.Run(what, func(t *testing.T) {
			cache := limited("cache", nil)
			cache.Raw = []*chart.File{{Name: "Chart.yaml", Data: []byte("name: cache\n")}}
			shop := limited("shop", map[string]string{hooks.SubchartMaxParallelAnnotation: test.value}, cache)
			for name, text := range test.files {
				shop.Raw = append(shop.Raw, &chart.File{Name: name, Data: []byte(text)})
			}
			_, err := Limits(shop)
			var bad *hooks.AnnotationError
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want none", err)
			case test.want != "" && (!errors.As(err, &bad) || bad.Problem != test.want):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
