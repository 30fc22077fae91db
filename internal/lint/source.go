package lint

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
)

// Sources say what the files are of which a chart was made, by the path that Helm
// gives them, such as shop/charts/orders/templates/migrate.yaml.
type Sources map[string]Source

// Source is a file of a chart.
type Source struct {
	// File is where it is: as the user would name it, with slashes.
	File string
	// Text is what it holds, before it's rendered. It's empty where File isn't
	// itself that text, but an archive, say.
	Text string
}

// NewSources returns where the templates of a chart are that was loaded from ref, and
// their texts. Its dependencies may have been processed. If ref isn't a folder, all is
// where ref is, or nowhere if that isn't a file either.
func NewSources(chrt *chart.Chart, ref string) Sources {
	sources := Sources{}
	info, err := os.Stat(ref)
	switch {
	case err != nil:
		sources.addWhole(chrt, "")
	case !info.IsDir():
		sources.addWhole(chrt, filepath.ToSlash(ref))
	default:
		sources.addFolder(chrt, ref)
	}
	return sources
}

// addWhole adds a chart that's in one file, with its subcharts. If file is empty,
// there's none: then a template is where Helm says it is.
func (s Sources) addWhole(chrt *chart.Chart, file string) {
	for _, f := range filesOf(chrt) {
		name := path.Join(chrt.ChartFullPath(), f.Name)
		where := file
		if where == "" {
			where = name
		}
		s[name] = Source{File: where}
	}
	for _, part := range chrt.Dependencies() {
		s.addWhole(part, file)
	}
}

func (s Sources) addFolder(chrt *chart.Chart, folder string) {
	for _, f := range filesOf(chrt) {
		s[path.Join(chrt.ChartFullPath(), f.Name)] = Source{filepath.ToSlash(filepath.Join(folder, filepath.FromSlash(f.Name))), string(f.Data)}
	}
	for _, part := range chrt.Dependencies() {
		parts := filepath.Join(folder, "charts")
		if found := folderOf(part, parts); found != "" {
			s.addFolder(part, found)
		} else {
			// Helm stores it as an archive, whose name it's not worth to look for:
			// who mends that chart does so elsewhere.
			s.addWhole(part, filepath.ToSlash(filepath.Join(folder, "Chart.yaml")))
		}
	}
}

// filesOf returns the files of a chart that findings may be about.
func filesOf(chrt *chart.Chart) []*chart.File {
	files := chrt.Templates
	if f := chartFileOf(chrt); f != nil {
		files = append(files[:len(files):len(files)], f)
	}
	return files
}

func chartFileOf(chrt *chart.Chart) *chart.File {
	for _, f := range chrt.Raw {
		if f.Name == "Chart.yaml" {
			return f
		}
	}
	return nil
}

// folderOf returns the folder among the parts of a chart that one of its dependencies
// was loaded from; empty if there is none. An alias has changed the name by which the
// dependency goes, but not what its Chart.yaml says.
func folderOf(part *chart.Chart, parts string) string {
	file := chartFileOf(part)
	entries, err := os.ReadDir(parts)
	if err != nil || file == nil {
		return ""
	}
	for _, entry := range entries {
		folder := filepath.Join(parts, entry.Name())
		if text, err := os.ReadFile(filepath.Join(folder, "Chart.yaml")); err == nil && bytes.Equal(text, file.Data) {
			return folder
		}
	}
	return ""
}

// find returns where to look at what a finding is about. The line is that of its
// annotation, or else of the one by which the object is a hook; 0 if there may be
// another one that it is.
func (s Sources) find(a about) (file string, line int) {
	source, ok := s[a.template]
	if !ok {
		return a.template, 0
	}
	if a.annotation != "" {
		line = source.line(a.annotation, a.kind, a.name)
	}
	if line == 0 {
		line = source.line(release.HookAnnotation, a.kind, a.name)
	}
	return source.File, line
}

var (
	templateComment = regexp.MustCompile(`(?s)\{\{-?\s*/\*.*?\*/\s*-?\}\}`)
	yamlComment     = regexp.MustCompile(`(?m)^[ \t]*#.*$`)
	documentStart   = regexp.MustCompile(`(?m)^---`)
	templateBranch  = regexp.MustCompile(`\{\{-?\s*(if|else|with|range|end)\b`)
	templateAction  = regexp.MustCompile(`\{\{.*?\}\}`)
	kindLine        = regexp.MustCompile(`(?m)^kind:[ \t]*(.+?)[ \t\r]*$`)
	nameLine        = regexp.MustCompile(`(?m)^metadata:[ \t\r]*\n(?:[ \t]+.*\n)*?[ \t]+name:[ \t]*(.+?)[ \t\r]*$`)
	// anyObject is what may be rendered to an object that the template doesn't show.
	anyObject = regexp.MustCompile(`kind:|\b(include|template|tpl|toYaml|Files)\b`)
)

// line returns the line of an annotation of an object, which has neither kind nor name
// in a Chart.yaml. A template isn't the text that it's rendered to; so it's the line of
// the only document that can be the object, and the only one there that has the
// annotation, or else 0.
func (s Source) line(annotation, kind, name string) int {
	text := blank(blank(s.Text, templateComment), yamlComment)
	key := regexp.MustCompile(`(?m)(?:^|[\s{,"'])` + regexp.QuoteMeta(strings.ToValidUTF8(annotation, "")) + `["']?[ \t]*:`)
	found, candidates := 0, 0
	starts := append([]int{0}, beginnings(documentStart, text)...)
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		document := text[start:end]
		if !anyObject.MatchString(document) && kind != "" || !mayBe(kindLine, document, kind) || !mayBe(nameLine, document, name) {
			continue
		}
		candidates++
		if at := key.FindAllStringIndex(document, -1); len(at) == 1 {
			found = 1 + strings.Count(text[:start+at[0][1]], "\n")
		}
	}
	if candidates != 1 {
		return 0
	}
	return found
}

// blank replaces what matches by blanks and leaves the lines where they are.
func blank(text string, pattern *regexp.Regexp) string {
	return pattern.ReplaceAllStringFunc(text, func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return ' '
		}, s)
	})
}

func beginnings(pattern *regexp.Regexp, text string) []int {
	var all []int
	for _, at := range pattern.FindAllStringIndex(text, -1) {
		all = append(all, at[0])
	}
	return all
}

// mayBe reports whether the field that the pattern finds in a document of a template
// may be rendered to the value, which it may too if it isn't found.
func mayBe(field *regexp.Regexp, document, value string) bool {
	match := field.FindStringSubmatch(document)
	if match == nil || value == "" || templateBranch.MatchString(match[1]) {
		return true
	}
	written, _, _ := strings.Cut(match[1], " #")
	literals := templateAction.Split(strings.Trim(strings.TrimSpace(written), `"'`), -1)
	first, last := literals[0], literals[len(literals)-1]
	if len(literals) == 1 {
		return value == first
	}
	if !strings.HasPrefix(value, first) {
		return false
	}
	value = value[len(first):]
	for _, literal := range literals[1 : len(literals)-1] {
		_, after, found := strings.Cut(value, literal)
		if !found {
			return false
		}
		value = after
	}
	return strings.HasSuffix(value, last)
}
