package install

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// parsePage parses the script in a browser, by the same parser that editors use.
const parsePage = `<!doctype html><script src="tree-sitter.js"></script>`

const parseScript = `(async () => {
	await Parser.Parser.init({locateFile: name => new URL(name, location).href});
	const language = await Parser.Language.load(new URL("tree-sitter-powershell.wasm", location).href);
	const parser = new Parser.Parser();
	parser.setLanguage(language);
	const facts = source => {
		const found = {errors: [], functions: [], commands: []};
		const walk = node => {
			if (node.isError || node.isMissing) {
				found.errors.push("line " + (node.startPosition.row + 1) + ": " + node.text.slice(0, 80));
			}
			if (node.type === "function_name") found.functions.push(node.text);
			if (node.type === "command_name") found.commands.push(node.text);
			for (const child of node.children) walk(child);
		};
		walk(parser.parse(source).rootNode);
		return found;
	};
	const source = await (await fetch("script.ps1")).text();
	return {script: facts(source), broken: facts(source.replace("function Get-Release(", "function Get-Release)"))};
})()`

// parsed is what the parser has found in a script.
type parsed struct{ Errors, Functions, Commands []string }

// cmdlets are those of PowerShell's own that the script may use. All are in Windows PowerShell 5.1.
var cmdlets = []string{
	"Copy-Item", "ForEach-Object", "Get-ChildItem", "Get-Command", "Get-Content", "Get-FileHash", "Get-Location", "Join-Path", "New-Item",
	"Out-Null", "Pop-Location", "Push-Location", "Remove-Item", "Set-StrictMode", "Split-Path", "Start-Sleep",
	"Test-Path", "Where-Object", "Write-Host",
}

// TestPowerShellParses: there is no PowerShell to run the script for Windows with, so it's parsed at least, and calls
// nothing but its own functions and PowerShell's.
func TestPowerShellParses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(parsePage))
		case "/script.ps1":
			http.ServeFile(w, r, filepath.Join(root, "install-binary.ps1"))
		default:
			http.ServeFile(w, r, filepath.Join("testdata", "tree-sitter", filepath.Base(r.URL.Path)))
		}
	}))
	t.Cleanup(server.Close)

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	var found struct{ Script, Broken parsed }
	awaited := func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
	must(t, chromedp.Run(ctx, chromedp.Navigate(server.URL+"/"), chromedp.Evaluate(parseScript, &found, awaited)))

	for _, line := range found.Script.Errors {
		t.Errorf("install-binary.ps1: %s", line)
	}
	if len(found.Broken.Errors) == 0 {
		t.Error("the parser finds nothing wrong with a broken script either")
	}
	if len(found.Script.Functions) < 10 || len(found.Script.Commands) < 50 {
		text, err := json.Marshal(found.Script)
		must(t, err)
		t.Errorf("the parser has found too little: %s", text)
	}
	for _, name := range found.Script.Commands {
		// A program that is run has its name in a variable.
		if !slices.Contains(found.Script.Functions, name) && !slices.Contains(cmdlets, name) && !strings.HasPrefix(name, "$") {
			t.Errorf("%s is neither a function of the script nor known as one of PowerShell's", name)
		}
	}
	for _, name := range found.Script.Functions {
		if !slices.Contains(found.Script.Commands, name) {
			t.Errorf("the function %s is never called", name)
		}
	}
}

// TestScriptsAgree: both scripts have the same names for what the release has, and for what users set.
func TestScriptsAgree(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		return string(content)
	}
	posix, windows := read("install-binary.sh"), read("install-binary.ps1")

	constant := func(script, pattern string) string {
		t.Helper()
		match := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(script)
		if match == nil {
			t.Fatalf("nothing matches %s", pattern)
		}
		return match[1]
	}
	for _, names := range [][2]string{
		{"home", "pluginHome"}, {"checksums", "checksums"}, {"bundle", "bundle"}, {"signature", "signature"}, {"issuer", "issuer"},
	} {
		got, want := constant(windows, `^\$`+names[1]+` = '(.*)'$`), constant(posix, `^`+names[0]+`=(.*)$`)
		if got != want {
			t.Errorf("install-binary.ps1 has %s %q, install-binary.sh has %q", names[1], got, want)
		}
	}
	same := map[string][2]string{
		"archives":    {`asset=helm-parallel-hooks_\$\{version\}_\$\{os\}_\$arch(\S*)$`, `\$asset = "helm-parallel-hooks_\$\{version\}_\$platform(.*)"$`},
		"releases":    {`base=\$repository(/.*)$`, `\$base = "\$repository(/.*)"$`},
		"tags":        {`base=\$base(/v)\$version$`, `\.Base = "\$base(/v)\$version"$`},
		"workflow":    {`printf '%s(/\.github/.*)%s\\n' "\$signer" "\$version"$`, `return "\$signer(/\.github/.*)\$version"$`},
		"build flags": {`go build (.*) -ldflags`, `@\('build', '(.*)', '-ldflags'`},
		"go's flags":  {`GOFLAGS=(\S+)`, `\$env:GOFLAGS = '(.*)'`},
		"linker":      {`-ldflags "(.*)" -o`, `'-ldflags', "(.*)", '-o'`},
		"tries":       {`\[ "\$pause" -gt ([0-9]+) \]`, `\$pause -gt ([0-9]+)\)`},
		"old cosign":  {`case \$used in\s+\[0-2\]\.\* \| 3\.0\.\[0-4\]\)\s+fail "cosign is \$used here(.*)" \\$`, `Deny "cosign is \$used here(.*nothing was installed\.) Install`},
		"bad by gpg":  {`if gpg_says '(BADSIG.*)'; then`, `\] \((BADSIG.*)\)\( \|\$\)'`},
		"without gpg": {`tools=cosign\n +means='(.*)'`, `\$means = '(cosign [^,']*)'`},
		"with gpg":    {`means='(cosign .*,.*)'`, `\$means = '(cosign .*,.*)'`},
		"forks":       {`"(If that isn't how GitHub .*there\.)"`, `"(If that isn't how GitHub .*there\.) "`},
		"trusted":     {`if gpg_says '(TRUST_.*)'; then`, `\] \((TRUST_.*)\)\( \|\$\)'`},
		"anchors":     {`grep -Eq "(\^\S+) \(\$1\)\(`, `-cmatch '(\^\S+) GOODSIG\(`},
		"timeout":     {`HELM_PARALLEL_HOOKS_TIMEOUT:-([0-9]+)`, `^\$timeout = ([0-9]+)$`},
		"checksums":   {`grep -Eqv '(.*)' "`, `-cnotmatch '(\^\[0-9a-f\].*)' \}`},
	}
	for what, patterns := range same {
		want, got := constant(posix, patterns[0]), constant(windows, patterns[1])
		if got = strings.ReplaceAll(got, "', '", " "); got != want {
			t.Errorf("%s: install-binary.ps1 has %q, install-binary.sh has %q", what, got, want)
		}
	}

	settings := regexp.MustCompile(`HELM_PARALLEL_HOOKS_[A-Z_]+`)
	names := func(script string) []string {
		all := settings.FindAllString(script, -1)
		slices.Sort(all)
		return slices.Compact(all)
	}
	if got, want := names(windows), names(posix); !slices.Equal(got, want) {
		t.Errorf("install-binary.ps1 heeds %q, install-binary.sh %q", got, want)
	}
	for _, platform := range []string{"windows_amd64", "windows_arm64"} {
		if !strings.Contains(windows, platform) || !strings.Contains(posix, platform) {
			t.Errorf("%s is not in both scripts", platform)
		}
	}
}
