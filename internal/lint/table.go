package lint

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/display"
)

// WriteTable writes the report for a person: each finding with its message below it,
// since beside it there's no room.
func (r *Report) WriteTable(out io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Chart %s %s, %s: %s\n", display.Printable(r.Chart), display.Printable(r.Version), plural(r.Hooks, "hook"), r.Summary())
	if len(r.Findings) > 0 {
		var rows bytes.Buffer
		w := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SEVERITY\tRULE\tHOOK\tEVENTS\tWHERE")
		for _, f := range r.Findings {
			where := f.File
			if f.Line > 0 {
				where = fmt.Sprintf("%s:%d", where, f.Line)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Severity, f.Rule, orDash(display.Printable(f.Hook)), orDash(strings.Join(f.Events, ",")), display.Printable(where))
		}
		_ = w.Flush() // to a buffer
		head, rest, _ := strings.Cut(rows.String(), "\n")
		fmt.Fprintf(&b, "\n%s\n", head)
		for i, row := range strings.Split(strings.TrimSuffix(rest, "\n"), "\n") {
			fmt.Fprintf(&b, "%s\n          %s\n", row, display.Printable(r.Findings[i].Message))
		}
	}
	_, err := out.Write(b.Bytes())
	return err
}

// Summary says how many findings there are.
func (r *Report) Summary() string {
	var parts []string
	for _, count := range []struct {
		n    int
		name string
	}{{r.Errors, "error"}, {r.Warnings, "warning"}, {r.Notes, "note"}} {
		if count.n > 0 {
			parts = append(parts, plural(count.n, count.name))
		}
	}
	if len(parts) == 0 {
		return "nothing found"
	}
	return strings.Join(parts, ", ")
}

func plural(n int, name string) string {
	if n == 1 {
		return "1 " + name
	}
	return fmt.Sprintf("%d %ss", n, name)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
