package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mit = `Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
`

// TestLicences: what is passed on of a module is its licence and notices, and those of the parts of it that are linked.
// A module without a licence of its own is an error.
func TestLicences(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  []string // names of files
		fails bool
	}{
		"at the top":               {map[string]string{"LICENSE": mit, "NOTICE.txt": "made by somebody", "license.go": mit, "README.md": "x"}, []string{"LICENSE", "NOTICE.txt"}, false},
		"of a part that is linked": {map[string]string{"COPYING": mit, "linked/third/LICENSE": mit}, []string{"COPYING", "linked/third/LICENSE"}, false},
		"of one that isn't":        {map[string]string{"Licence.md": mit, "other/LICENSE": mit}, []string{"Licence.md"}, false},
		"none":                     {map[string]string{"README.md": mit}, nil, true},
		"of a part alone":          {map[string]string{"linked/LICENSE": mit}, nil, true},
		"unknown":                  {map[string]string{"LICENSE": "Ask me."}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			linked := filepath.Join(top, "linked", "third")
			if err := os.MkdirAll(linked, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, content := range test.files {
				path := filepath.Join(top, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			of := part{path: "example.com/a", version: "v1.0.0"}
			err := of.read(&tree{top, []string{linked}})
			if test.fails {
				if err == nil || !strings.Contains(err.Error(), "example.com/a v1.0.0") {
					t.Errorf("got error %v, want one that names the module", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, file := range of.files {
				got = append(got, file.name)
			}
			if !slices.Equal(got, test.want) || !slices.Equal(of.licences, []string{"MIT"}) {
				t.Errorf("got %q under %q, want %q under MIT", got, of.licences, test.want)
			}
		})
	}
}

// TestNotices: modules are in order, each text is there once with all that have it, and each has its source's address.
func TestNotices(t *testing.T) {
	file := []legal{{"LICENSE", "the text\n"}}
	got := string(noticesOf([]part{
		{"std", "1.2.3", []string{"BSD-3-Clause"}, []legal{{"LICENSE", "another\n"}}},
		{"example.com/B", "v1.0.0", []string{"MIT"}, file},
		{"example.com/a", "v2.0.0", []string{"Apache-2.0", "MIT"}, file},
	}))
	if n := strings.Count(got, "the text\n"); n != 1 {
		t.Errorf("the text is there %d times", n)
	}
	last := 0
	for _, want := range []string{
		"example.com/B v1.0.0 (MIT)\n    https://pkg.go.dev/example.com/B@v1.0.0\n",
		"example.com/a v2.0.0 (Apache-2.0, MIT)\n    https://pkg.go.dev/example.com/a@v2.0.0\n",
		"std 1.2.3 (BSD-3-Clause)\n    https://go.dev/dl/go1.2.3.src.tar.gz\n",
		"=\nexample.com/B v1.0.0: LICENSE\nexample.com/a v2.0.0: LICENSE\n-",
		"=\nstd 1.2.3: LICENSE\n-",
	} {
		at := strings.Index(got, want)
		if at < last {
			t.Errorf("%q is missing or not in order in\n%s", want, got)
		}
		last = at
	}
}
