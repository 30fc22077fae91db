package display

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable returns s with everything escaped, as in a Go string, that a
// terminal would not show as itself. Names and messages come from charts and
// clusters, which could otherwise move the cursor or forge lines and columns.
func Printable(s string) string { return printable(s, "") }

// PrintableLine is [Printable] for a line of text, whose tabs stay as they are.
func PrintableLine(s string) string { return printable(s, "\t") }

// PrintableLines is [PrintableLine] for each line of a text.
func PrintableLines(text []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		rest, ended := bytes.CutSuffix(line, []byte("\n"))
		out.WriteString(PrintableLine(string(bytes.TrimSuffix(rest, []byte("\r")))))
		if ended {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

func printable(s, allowed string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if strings.ContainsRune(allowed, r) || strconv.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(s[i : i+size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

// printableJSON returns JSON that means the same with everything escaped that a
// terminal would not show as itself, of which the encoder lets some through.
func printableJSON(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		switch {
		case strconv.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

var plainWord = regexp.MustCompile(`^[\w./:@=+-]+$`)

// ShellWord returns a word for a shell to read, and for a terminal to show.
func ShellWord(word string) string {
	word = Printable(word)
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// oneLine returns the lines of s joined by spaces, and made printable.
func oneLine(s string) string {
	return Printable(strings.Join(strings.Fields(s), " "))
}
