package cmd

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli/output"
	"helm.sh/helm/v3/pkg/release"
)

// status is what Helm prints about a release after it has changed it, to the
// byte (cmd/helm/status.go, statusPrinter). It's an [output.Writer].
type status struct {
	release *release.Release
	// debug adds values, hooks and manifest.
	debug     bool
	hideNotes bool
}

// WriteJSON writes the whole release.
func (s status) WriteJSON(out io.Writer) error { return output.EncodeJSON(out, s.release) }

// WriteYAML writes the whole release.
func (s status) WriteYAML(out io.Writer) error { return output.EncodeYAML(out, s.release) }

// WriteTable writes what a person wants to know of the release.
func (s status) WriteTable(out io.Writer) error {
	rel := s.release
	if rel == nil {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "NAME: %s\n", rel.Name)
	if !rel.Info.LastDeployed.IsZero() {
		fmt.Fprintf(&b, "LAST DEPLOYED: %s\n", rel.Info.LastDeployed.Format(time.ANSIC))
	}
	fmt.Fprintf(&b, "NAMESPACE: %s\n", rel.Namespace)
	fmt.Fprintf(&b, "STATUS: %s\n", rel.Info.Status)
	fmt.Fprintf(&b, "REVISION: %d\n", rel.Version)
	writeTests(&b, rel.Hooks)
	if s.debug {
		if err := writeValues(&b, rel); err != nil {
			return err
		}
	}
	if s.debug || strings.EqualFold(rel.Info.Description, "Dry run complete") {
		writeManifests(&b, rel)
	}
	if !s.hideNotes && rel.Info.Notes != "" {
		fmt.Fprintf(&b, "NOTES:\n%s\n", strings.TrimSpace(rel.Info.Notes))
	}
	// As in Helm, a reader that went away doesn't make a success a failure.
	_, _ = out.Write(b.Bytes())
	return nil
}

// writeTests writes how the test hooks that have run went. None is written only
// where there are no test hooks at all.
func writeTests(b *bytes.Buffer, all []*release.Hook) {
	none := true
	for _, h := range all {
		for _, event := range h.Events {
			if event != release.HookTest {
				continue
			}
			none = false
			if h.LastRun.StartedAt.IsZero() {
				continue
			}
			fmt.Fprintf(b, "TEST SUITE:     %s\n", h.Name)
			fmt.Fprintf(b, "Last Started:   %s\n", h.LastRun.StartedAt.Format(time.ANSIC))
			fmt.Fprintf(b, "Last Completed: %s\n", h.LastRun.CompletedAt.Format(time.ANSIC))
			fmt.Fprintf(b, "Phase:          %s\n", h.LastRun.Phase)
		}
	}
	if none {
		b.WriteString("TEST SUITE: None\n")
	}
}

// writeValues writes the values that the user gave and all those that the chart
// was rendered with.
func writeValues(b *bytes.Buffer, rel *release.Release) error {
	b.WriteString("USER-SUPPLIED VALUES:\n")
	if err := output.EncodeYAML(b, rel.Config); err != nil {
		return err
	}
	computed, err := chartutil.CoalesceValues(rel.Chart, rel.Config)
	if err != nil {
		return fmt.Errorf("computing the values: %w", err)
	}
	b.WriteString("\nCOMPUTED VALUES:\n")
	if err := output.EncodeYAML(b, computed.AsMap()); err != nil {
		return err
	}
	b.WriteString("\n")
	return nil
}

func writeManifests(b *bytes.Buffer, rel *release.Release) {
	b.WriteString("HOOKS:\n")
	for _, h := range rel.Hooks {
		fmt.Fprintf(b, "---\n# Source: %s\n%s\n", h.Path, h.Manifest)
	}
	fmt.Fprintf(b, "MANIFEST:\n%s\n", rel.Manifest)
}

var _ output.Writer = status{}
