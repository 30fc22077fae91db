package display

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable returns s with everything escaped, as in a Go string, that a
// terminal would not show as itself. Names and messages come from charts and
// clusters, which could otherwise move the cursor or forge lines.
func Printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == '\t' || strconv.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(s[i : i+size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

// oneLine returns the lines of s joined by spaces, and made printable.
func oneLine(s string) string {
	return Printable(strings.Join(strings.Fields(s), " "))
}
