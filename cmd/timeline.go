package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
	"helm.sh/helm/v3/cmd/helm/require"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/internal/report"
)

const timelineDesc = `Show which hooks of a revision ran when, from the release's record alone. It works
for releases that plain helm has deployed as well.

With --what-if it says how long the same hooks would have taken at other values of
--hook-parallelism, if each had taken as long as it did.

A record knows of each hook when it ran last. A hook of several events is shown at
the last one of the operation that made the revision.
`

const timelineExample = `  # A chart for the terminal
  %[1]s timeline shop

  # What would eight hooks at once have saved?
  %[1]s timeline shop --what-if 1,4,8

  # A page to look at or to pass on
  %[1]s timeline shop --revision 3 -o html > shop.html

  # For https://ui.perfetto.dev
  %[1]s timeline shop -o trace > shop.json`

func newTimelineCmd(p *program) *cobra.Command {
	cfg := new(action.Configuration)
	client := action.NewGet(cfg)
	format := "table"
	var whatIf counts

	cmd := &cobra.Command{
		Use:               "timeline [RELEASE]",
		Short:             "show which hooks of a release ran when",
		Long:              timelineDesc,
		Example:           fmt.Sprintf(timelineExample, p.name()),
		Args:              p.arguments(require.ExactArgs(1)),
		ValidArgsFunction: p.testArguments,
		PreRunE: func(*cobra.Command, []string) error {
			p.escape()
			if whatIf.bad != nil {
				return whatIf.bad
			}
			return p.configure(cfg)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			rel, err := client.Run(args[0])
			if errors.Is(err, driver.ErrReleaseNotFound) {
				return fmt.Errorf("%s: %w", revisionOf(args[0], p.settings.Namespace(), client.Version), err)
			}
			if err != nil {
				return err
			}
			t, err := report.NewTimeline(rel, whatIf.numbers...)
			if err != nil {
				return err
			}
			return writeTimeline(p.Out, t, format)
		},
	}

	f := cmd.Flags()
	f.IntVar(&client.Version, "revision", 0, "show this revision instead of the latest")
	f.Var(&whatIf, "what-if", "say how long the hooks would take if so many of equal weight ran at once (can specify multiple or separate values with commas)")
	formats := formatValue{choice{&format, []string{"table", "json", "yaml", "mermaid", "html", "trace"}}}
	f.VarP(formats, "output", "o", formats.usage())
	completeFlag(cmd, "output", cobra.FixedCompletions(formats.allowed, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "revision", cobra.NoFileCompletions)
	completeFlag(cmd, "what-if", cobra.NoFileCompletions)
	return cmd
}

// revisionOf names what was to be shown, where Helm's error doesn't.
func revisionOf(release, namespace string, revision int) string {
	text := fmt.Sprintf("release %q in namespace %q", release, namespace)
	if revision > 0 {
		text = fmt.Sprintf("revision %d of %s", revision, text)
	}
	return text
}

// counts is the value of --what-if. Several are added up, as by pflag's own lists.
type counts struct {
	numbers []int
	// bad is what's wrong with the first that isn't a number of hooks. It's kept until the
	// flags have been parsed, since pflag's error wouldn't say which of several it is.
	bad error
}

// Set, String and Type implement [pflag.Value].
func (c *counts) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(word)
		if (err != nil || n < 1) && c.bad == nil {
			c.bad = fmt.Errorf("invalid argument %q for --what-if: must be whole numbers of at least 1, separated by commas", word)
		}
		c.numbers = append(c.numbers, n)
	}
	return nil
}

func (c *counts) String() string { return strings.Trim(fmt.Sprint(c.numbers), "[]") }
func (c *counts) Type() string   { return "ints" }

var _ pflag.Value = (*counts)(nil)

// formatValue is the value of an --output that has formats of its own.
type formatValue struct{ choice }

// Set and Type implement [pflag.Value].
func (v formatValue) Set(s string) error {
	if v.choice.Set(s) != nil {
		return fmt.Errorf("invalid format type, must be one of %s", strings.Join(v.allowed, ", "))
	}
	return nil
}

func (v formatValue) Type() string { return "format" }

// usage returns the text that explains the flag, in Helm's words.
func (v formatValue) usage() string {
	return "prints the output in the specified format. Allowed values: " + strings.Join(v.allowed, ", ")
}

// columnsWithoutTerminal is how wide a table is that goes to a file or a pipe.
const columnsWithoutTerminal = 120

func writeTimeline(out io.Writer, t *report.Timeline, format string) error {
	columns := columnsWithoutTerminal
	if f, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			columns = width
		}
	}
	return writeAs(out, t, format, map[string]func(io.Writer) error{
		"table":   func(out io.Writer) error { return t.WriteTable(out, columns) },
		"mermaid": t.WriteMermaid,
		"html":    t.WriteHTML,
		"trace":   t.WriteTrace,
	})
}

// writeAs writes an object as JSON or YAML, as Helm does its own, or in one of the
// other formats that it has.
func writeAs(out io.Writer, object any, format string, others map[string]func(io.Writer) error) error {
	switch format {
	case "json":
		return output.EncodeJSON(out, object)
	case "yaml":
		return output.EncodeYAML(out, object)
	default:
		return others[format](out)
	}
}

// reportFormats are the formats of --hook-report, by the file's ending. The first
// that fits counts.
var reportFormats = []struct{ ending, format string }{
	{".html", "html"},
	{".trace.json", "trace"},
	{".json", "json"},
	{".yaml", "yaml"},
	{".yml", "yaml"},
	{".mmd", "mermaid"},
	{".txt", "table"},
}

func reportEndings() []string {
	var endings []string
	for _, f := range reportFormats {
		endings = append(endings, f.ending)
	}
	return endings
}

func reportFormat(file string) string {
	for _, f := range reportFormats {
		if strings.HasSuffix(strings.ToLower(file), f.ending) {
			return f.format
		}
	}
	return ""
}

// checkReportFile returns why the value of --hook-report can't be followed.
func checkReportFile(file string) error {
	if file == "" {
		return nil
	}
	if reportFormat(file) == "" {
		return fmt.Errorf("invalid argument %q for --hook-report: the file's name must end with one of %s", file, strings.Join(reportEndings(), ", "))
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		return fmt.Errorf("invalid argument %q for --hook-report: the folder %s does not exist", file, filepath.Dir(file))
	}
	return nil
}

// writeReport writes which hooks have run. That it can't be written is no failure of
// the operation.
func (p *program) writeReport(file string, t *report.Timeline) {
	var text bytes.Buffer
	err := writeTimeline(&text, t, reportFormat(file))
	if err == nil {
		err = os.WriteFile(file, text.Bytes(), 0o644)
	}
	if err != nil {
		p.warn(fmt.Sprintf("the report on hooks could not be written: %v", err))
	}
}
