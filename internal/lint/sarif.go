package lint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
)

// The parts of SARIF 2.1.0 that a report needs
// (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html). A library with
// all of it would make the program larger by more than a hundredth.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
		// ColumnKind is said although there are no columns: the standard asks for it.
		ColumnKind string `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string             `json:"id"`
		ShortDescription sarifMessage       `json:"shortDescription"`
		HelpURI          string             `json:"helpUri"`
		Configuration    sarifConfiguration `json:"defaultConfiguration"`
	}
	sarifConfiguration struct {
		Level Severity `json:"level"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        Severity          `json:"level"`
		Message      sarifMessage      `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name               string `json:"name,omitempty"`
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
)

// WriteSARIF writes the report for a code-scanning service. version is the program's.
func (r *Report) WriteSARIF(out io.Writer, version string) error {
	driver := sarifDriver{Name: "helm-parallel-hooks", Version: version, InformationURI: homepage}
	for _, rule := range Rules {
		driver.Rules = append(driver.Rules, sarifRule{rule.ID, sarifMessage{rule.Summary}, rule.HelpURI(), sarifConfiguration{rule.Severity}})
	}
	run := sarifRun{Tool: sarifTool{driver}, Results: []sarifResult{}, ColumnKind: "unicodeCodePoints"}
	for _, f := range r.Findings {
		run.Results = append(run.Results, f.sarif())
	}
	text, err := json.MarshalIndent(sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding as SARIF: %w", err)
	}
	_, err = out.Write(append(text, '\n'))
	return err
}

func (f *Finding) sarif() sarifResult {
	message := f.Message
	if f.Hook != "" {
		events := ""
		if len(f.Events) > 0 {
			events = " (" + strings.Join(f.Events, ", ") + ")"
		}
		message = f.Hook + events + ": " + message
	}
	location := sarifLocation{
		Physical: sarifPhysical{Artifact: sarifArtifact{fileURI(f.File)}},
		Logical:  []sarifLogical{{f.Hook, strings.TrimSuffix(f.Template+"/"+f.Hook, "/"), "resource"}},
	}
	if f.Line > 0 {
		location.Physical.Region = &sarifRegion{f.Line}
	}
	return sarifResult{
		RuleID:       f.Rule,
		RuleIndex:    slices.IndexFunc(Rules, func(r *Rule) bool { return r.ID == f.Rule }),
		Level:        f.Severity,
		Message:      sarifMessage{message},
		Locations:    []sarifLocation{location},
		Fingerprints: map[string]string{"finding/v1": f.fingerprint()},
	}
}

// fingerprint stays the same while the finding does, wherever in its file it's found.
func (f *Finding) fingerprint() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Rule, f.Template, f.Hook, f.Annotation, f.Message}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// fileURI returns the reference to a file: absolute if its path is.
func fileURI(file string) string {
	uri := url.URL{Path: path.Clean(file)}
	switch {
	case path.IsAbs(file):
		uri.Scheme = "file"
	case len(file) > 2 && file[1:3] == ":/": // a drive of Windows
		uri.Scheme, uri.Path = "file", "/"+uri.Path
	}
	return uri.String()
}
