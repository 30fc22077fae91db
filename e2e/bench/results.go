package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
)

// results is what benchmarks.json holds.
type results struct {
	Environment environment `json:"environment"`
	Rows        []rowResult `json:"rows"`
}

// environment says on what kind of machine and with which versions something was measured. Results from different
// environments don't belong into one table.
type environment struct {
	Cores      int    `json:"cores"`
	System     string `json:"system"`
	Kubernetes string `json:"kubernetes"`
	OwnCluster bool   `json:"ownCluster"`
	Helm3      string `json:"helm3"`
	Helm4      string `json:"helm4,omitempty"`
	Go         string `json:"go"`
}

// rowResult is what was measured in a row, or why nothing was.
type rowResult struct {
	Name        string       `json:"name"`
	Title       string       `json:"title"`
	Date        string       `json:"date,omitempty"`
	NotMeasured string       `json:"notMeasured,omitempty"`
	Figures     []figureLine `json:"figures,omitempty"`
	Repetitions []repetition `json:"repetitions,omitempty"`
}

// figureLine is a line of the table: a metric with its median for each contestant.
type figureLine struct {
	Title   string             `json:"title"`
	Unit    string             `json:"unit,omitempty"`
	Medians map[string]float64 `json:"medians"`
	// Least and Most are the plugin's figures that are furthest from its median.
	Least float64 `json:"least,omitempty"`
	Most  float64 `json:"most,omitempty"`
	// Runs is how many repetitions there are of a contestant's figure.
	Runs    map[string]int `json:"runs"`
	Target  float64        `json:"target,omitempty"`
	AtLeast bool           `json:"atLeast,omitempty"`
	Met     *bool          `json:"met,omitempty"`
}

// evaluate works out the row's figures.
func (r row) evaluate(repetitions []repetition) []figureLine {
	var lines []figureLine
	for _, m := range r.metrics {
		line := figureLine{
			Title: m.title, Unit: m.unit, Target: m.target, AtLeast: m.atLeast,
			Medians: map[string]float64{}, Runs: map[string]int{},
		}
		for _, c := range r.contestants {
			var values []float64
			for _, repetition := range repetitions {
				// Both sides of a ratio come from one repetition, so that what changes on the machine from one to
				// the next changes both.
				if value, ok := m.of(repetition, c.name); ok {
					values = append(values, value)
				}
			}
			if len(values) > 0 {
				line.Medians[c.name], line.Runs[c.name] = median(values), len(values)
				if c.name == plugin && len(values) > 1 {
					line.Least, line.Most = slices.Min(values), slices.Max(values)
				}
			}
		}
		if value, ok := line.Medians[plugin]; ok && m.target != 0 {
			met := value <= m.target
			if m.atLeast {
				met = value >= m.target
			}
			line.Met = &met
		}
		lines = append(lines, line)
	}
	return lines
}

// rounded returns the sample without digits that mean nothing.
func (s sample) rounded() sample {
	rounded := make(sample, len(s))
	for q, value := range s {
		rounded[q] = math.Round(value*1e4) / 1e4
	}
	return rounded
}

// medianOf returns the median of a contestant's quantity; false: it was never measured.
func (r rowResult) medianOf(contestant string, q quantity) (float64, bool) {
	values := r.values(contestant, q)
	if len(values) == 0 {
		return 0, false
	}
	return median(values), true
}

func (r rowResult) values(contestant string, q quantity) []float64 {
	var values []float64
	for _, repetition := range r.Repetitions {
		if value, ok := repetition[contestant][q]; ok {
			values = append(values, value)
		}
	}
	return values
}

// median returns the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// merge puts new results in the place of old ones, in the order of names. Old results of another environment are
// dropped.
func merge(old, measured results, names []string) results {
	merged := results{Environment: measured.Environment}
	if old.Environment != measured.Environment {
		old.Rows = nil
	}
	for _, name := range names {
		named := func(r rowResult) bool { return r.Name == name }
		for _, rows := range [][]rowResult{measured.Rows, old.Rows} {
			if i := slices.IndexFunc(rows, named); i >= 0 {
				merged.Rows = append(merged.Rows, rows[i])
				break
			}
		}
	}
	return merged
}

func (r results) find(name string) (rowResult, bool) {
	i := slices.IndexFunc(r.Rows, func(row rowResult) bool { return row.Name == name })
	if i < 0 {
		return rowResult{}, false
	}
	return r.Rows[i], true
}

// readResults returns earlier results; none if there is no such file.
func readResults(path string) (results, error) {
	var old results
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return old, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &old)
	}
	if err != nil {
		return old, fmt.Errorf("reading earlier results: %w", err)
	}
	return old, nil
}

func (r results) write(path string) error {
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}
