package e2e

import (
	"testing"
	"time"
)

// BenchmarkTwentyJobs installs a chart with twenty one-second Jobs of one weight, by helm and by the plugin at
// parallelism 20, and reports how many times as long helm takes. The two run one right after the other, since only
// their ratio means anything on another machine.
func BenchmarkTwentyJobs(b *testing.B) {
	var serial, parallel time.Duration
	for b.Loop() {
		flags := []string{"--set", "tiers[0].jobs=20"}
		s := newSession(b)
		serial += s.must(s.helm(append([]string{"install", "bench", chartPath("tiers")}, flags...)...)).took
		s = newSession(b)
		parallel += s.must(s.install("bench", "tiers", 20, flags...)).took
	}
	b.ReportMetric(serial.Seconds()/float64(b.N), "s/helm")
	b.ReportMetric(parallel.Seconds()/float64(b.N), "s/parallel-hooks")
	b.ReportMetric(serial.Seconds()/parallel.Seconds(), "ratio")
}
