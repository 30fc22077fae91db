package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/release"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/e2e/audit"
)

// outcome is all by which a user or a script could tell two installations apart.
type outcome struct {
	Code    int
	Stdout  string
	Error   string
	Release string   // as stored
	Changes []string // creates and deletes of everything but records, in order
	Left    []string
}

var (
	times   = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}`)
	oneTime = "TIME"
)

// observe runs an installation in a namespace of its own and returns what came of it, with times and the name of the
// namespace masked.
func observe(t *testing.T, run func(s *session) result) outcome {
	t.Helper()
	s := newSession(t)
	got := run(s)
	mask := func(text string) string {
		return times.ReplaceAllString(strings.ReplaceAll(text, s.namespace, "NAMESPACE"), oneTime)
	}
	seen := outcome{Code: got.code, Stdout: mask(got.stdout)}
	if at := strings.Index(got.stderr, "Error: "); at >= 0 {
		seen.Error = mask(got.stderr[at:])
	}
	if rel, err := storedRelease(t.Context(), s.namespace, "same"); err == nil {
		seen.Release = mask(recordText(t, rel))
	}
	left := map[string]bool{}
	for _, r := range s.trail().By(byHelm, byPlugin).Where(func(r audit.Request) bool {
		return r.Resource != "secrets" && (r.Verb == "create" && r.Code == 201 || r.Verb == "delete" && r.Code < 300)
	}) {
		seen.Changes = append(seen.Changes, r.Verb+" "+r.Object())
		left[r.Object()] = r.Verb == "create"
	}
	for object, is := range left {
		if is {
			seen.Left = append(seen.Left, object)
		}
	}
	slices.Sort(seen.Left)
	return seen
}

// recordText is a record as JSON, with times that depend on nothing but the clock left to be masked.
func recordText(t *testing.T, rel *release.Release) string {
	t.Helper()
	text, err := json.MarshalIndent(rel, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSerialIsHelms: without the flag, and at 0 and 1, nothing but the time tells us from Helm.
func TestSerialIsHelms(t *testing.T) {
	t.Parallel()
	const mixed = `tiers=[{"weight":-1,"jobs":2,"duration":"0s"},{"weight":2,"jobs":1,"kind":"configmap"},{"weight":2,"jobs":2,"kind":"pod","duration":"0s"}]`
	for _, test := range []struct {
		name, chart string
		flags       []string
	}{
		{"mixed", "tiers", []string{"--set-json", mixed}},
		{"before and after", "tiers", []string{"--set-json", `tiers=[{"jobs":2,"duration":"0s","event":["post-install","pre-install"]}]`}},
		{"deleted after success", "tiers", []string{"--set-json", mixed, "--set", "deletePolicy={hook-succeeded}"}},
		{"a failure", "tiers", []string{"--set-json", mixed, "--set", "failing={job-0-01}"}},
		{"a failure, deleted", "tiers", []string{"--set-json", mixed, "--set", "failing={pod-2-00},deletePolicy={hook-succeeded,hook-failed}"}},
		{"a failure after", "tiers", []string{"--set-json", `tiers=[{"jobs":2,"duration":"0s"}]`, "--set", "failing={job-0-00},event=post-install"}},
		{"a timeout", "tiers", []string{"--set-json", `tiers=[{"jobs":2,"duration":"1h"}]`, "--timeout", "3s"}},
		{"atomic", "tiers", []string{"--set-json", `tiers=[{"jobs":2,"duration":"0s"}]`, "--set", "failing={job-0-01},event=post-install", "--atomic"}},
		{"one object twice", "edges", []string{"--set", "sameObject=true,duration=0s"}},
		{"an unknown field", "edges", []string{"--set", "unknownField=true"}},
		{"an unknown kind", "edges", []string{"--set", "unknownKind=true"}},
		{"a refused hook", "edges", []string{"--set", "rejectedHook=true"}},
		{"annotations of ours", "tiers", []string{"--set-json", `tiers=[{"jobs":2,"duration":"0s"}]`, "--set-json", `annotations={"job-0-00":{"parallel-hooks/slots":"none"}}`}},
		{"no hooks", "tiers", []string{"--no-hooks"}},
		{"json", "tiers", []string{"--set-json", `tiers=[{"jobs":1,"duration":"0s"}]`, "-o", "json"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"install", "same", chartPath(test.chart)}, test.flags...)
			want := observe(t, func(s *session) result { return s.helm(args...) })
			for _, flag := range []string{"", "--hook-parallelism=0", "--hook-parallelism=1"} {
				got := observe(t, func(s *session) result {
					if flag == "" {
						return s.plugin(args...)
					}
					return s.plugin(append(args, flag)...)
				})
				for _, difference := range compare(want, got) {
					t.Errorf("with %q: %s", flag, difference)
				}
			}
		})
	}
}

func compare(want, got outcome) (differences []string) {
	for _, field := range []struct {
		name      string
		want, got any
	}{
		{"exit code", want.Code, got.Code},
		{"stdout", want.Stdout, got.Stdout},
		{"error", want.Error, got.Error},
		{"record", want.Release, got.Release},
		{"creates and deletes", strings.Join(want.Changes, "\n"), strings.Join(got.Changes, "\n")},
		{"objects left", strings.Join(want.Left, "\n"), strings.Join(got.Left, "\n")},
	} {
		if field.want != field.got {
			differences = append(differences, fmt.Sprintf("%s is not Helm's:\ngot:\n%v\nwant:\n%v", field.name, field.got, field.want))
		}
	}
	return differences
}
