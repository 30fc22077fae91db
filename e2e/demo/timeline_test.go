package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestChartOf(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	var out strings.Builder
	chartOf(&out, []*jobRun{
		{name: "first", event: "pre-install", start: at(0), end: at(9)},
		{name: "a-name-that-is-too-long-for-its-column", event: "pre-install", weight: "5", start: at(9), end: at(18), failed: true},
		{name: "last", start: at(35.9)},
	}, begin, 36*time.Second)
	want := `  pre-install, weight 0
    first                       |##########                          |   9.0 s
  pre-install, weight 5
    a-name-that-is-too-long-for~|         ##########                 |  failed
  no hook
    last                        |                                   #| not done
                                 0                             36.0 s
`
	if got := out.String(); got != want {
		t.Errorf("chartOf drew\n%s\nwant\n%s", got, want)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 79 {
			t.Errorf("%d columns are too many for a terminal: %q", n, line)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"install a --namespace b", "install a --namespace b"},
		{
			"parallel-hooks install shop testdata/charts/shop --hook-parallelism 8 --namespace demo",
			"parallel-hooks install shop testdata/charts/shop \\\n    --hook-parallelism 8 --namespace demo",
		},
	} {
		if got := wrap(strings.Fields(test.args)); got != test.want {
			t.Errorf("wrap(%q) = %q, want %q", test.args, got, test.want)
		}
	}
}
