package lint

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// sarifSchema returns the standard's own schema.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat() // of URIs, above all
	if err := compiler.AddResource("sarif.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func sarifOf(t *testing.T, r *Report) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := r.WriteSARIF(&out, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSARIFIsValid(t *testing.T) {
	schema := sarifSchema(t)
	some := &Report{Chart: "shop", Version: "1", Findings: []Finding{
		{Rule: invalidWeight.ID, Severity: Error, Events: []string{"test"}, Chart: "shop", Template: "shop/templates/a.yaml", Hook: "Job/a", Annotation: "helm.sh/hook-weight", File: "../my charts/ü:%/a.yaml", Line: 3, Message: "m"},
		{Rule: noDeadline.ID, Severity: Note, Chart: "shop", Template: "shop/Chart.yaml", File: "/shop/Chart.yaml", Message: "\x00\x1b\xff<"},
		{Rule: sameObject.ID, Severity: Warning, Chart: "shop", Template: "shop/templates/a.yaml", Hook: "\x1b/\xff", File: "C:/shop/a.yaml", Message: "m"},
	}}
	for name, r := range map[string]*Report{"none": {Findings: []Finding{}}, "some": some} {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(sarifOf(t, r)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	golden, err := filepath.Glob("../../cmd/testdata/lint/*.sarif.txt")
	if err != nil || len(golden) == 0 {
		t.Fatal(golden, err)
	}
	for _, file := range golden {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "--- stdout\n")
		printed, _, _ := strings.Cut(rest, "--- stderr\n")
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(printed))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	// The schema is one that finds mistakes.
	broken := strings.Replace(string(sarifOf(t, some)), `"level": "note"`, `"level": "bad"`, 1)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(broken))
	if err != nil {
		t.Fatal(err)
	}
	if schema.Validate(document) == nil {
		t.Error("a level that SARIF doesn't know is valid")
	}
}

func TestSARIFRefersToRules(t *testing.T) {
	for i, rule := range Rules {
		var log sarifLog
		if err := json.Unmarshal(sarifOf(t, &Report{Findings: []Finding{{Rule: rule.ID, Severity: rule.Severity, File: "a"}}}), &log); err != nil {
			t.Fatal(err)
		}
		run := log.Runs[0]
		if result := run.Results[0]; result.RuleIndex != i || run.Tool.Driver.Rules[result.RuleIndex].ID != result.RuleID || result.Level != rule.Severity {
			t.Errorf("got result %+v of rule %+v", result, rule)
		}
	}
}

func TestFileURI(t *testing.T) {
	for file, want := range map[string]string{
		"shop/templates/a.yaml":     "shop/templates/a.yaml",
		"./shop/a.yaml":             "shop/a.yaml",
		"../shop/a.yaml":            "../shop/a.yaml",
		"/charts/shop/a.yaml":       "file:///charts/shop/a.yaml",
		"my shop/100%/ü.yaml":       "my%20shop/100%25/%C3%BC.yaml",
		"a:b/c.yaml":                "./a:b/c.yaml",
		"C:/charts/shop/a.yaml":     "file:///C:/charts/shop/a.yaml",
		"shop/templates/what?.yaml": "shop/templates/what%3F.yaml",
	} {
		if got := fileURI(file); got != want {
			t.Errorf("%s: got %s, want %s", file, got, want)
		}
	}
}

// TestFingerprints: a finding stays the same where lines come before it, and another is
// another.
func TestFingerprints(t *testing.T) {
	f := Finding{Rule: "r", Template: "t", Hook: "h", Annotation: "a", Message: "m", Line: 1, File: "f"}
	same, other := f, f
	same.Line, same.File = 2, "g"
	other.Hook = "i"
	if f.fingerprint() != same.fingerprint() || f.fingerprint() == other.fingerprint() {
		t.Errorf("got %s, %s and %s, want the first two to be the same", f.fingerprint(), same.fingerprint(), other.fingerprint())
	}
}
