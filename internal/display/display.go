// Package display shows a person, or a program, how an operation goes. Its displays
// are observers of the engine's notices and write to stderr; stdout belongs to what
// Helm prints.
package display

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"time"

	"github.com/acarl005/stripansi"

	"github.com/helm-parallel-hooks/helm-parallel-hooks/hooks"
)

// Display shows how the hooks of an operation go, and what they log.
//
// Observe is called as for every observer; the other methods are safe for
// concurrent use with it and with each other. Errors of the output are dropped: a
// display that fails must not fail the operation.
type Display interface {
	hooks.Observer
	hooks.LogSink
	// Write writes text of others, in whole lines, where it doesn't disturb.
	io.Writer
	// Close ends the display, also what an operation that was left at once has
	// not ended. Nothing may be written to it afterwards.
	Close()
}

// Options says what a display shows.
type Options struct {
	// Progress shows each weight, and each hook's start and end. Otherwise
	// only what went wrong or needs patience is shown.
	Progress bool
	// KeepGoing says that further hooks of a weight start after a failure.
	KeepGoing bool
	// Leave says how to leave at once after a first signal.
	Leave string
	// Detached says that nobody waits for the operation after a first signal,
	// so that the terminal is somebody else's.
	Detached bool
	// Color allows colours.
	Color bool
	// Duration returns how long a hook is expected to take, false if that's not
	// known; nil: it isn't for any hook.
	Duration func(*hooks.Hook) (time.Duration, bool)
}

// logLines returns the lines of a log for a person: each with the hook's name, and
// what a terminal would not show as text escaped, but colours, which are left out.
// A serial run's logs stay as Helm shows them.
func logLines(serial bool, color bool, source hooks.LogSource, text []byte) []byte {
	if serial {
		return text
	}
	name := source.Hook.Name
	if source.Container != "" && !source.Alone {
		name += "/" + source.Container
	}
	if source.Attempt > 1 {
		name += fmt.Sprintf("#%d", source.Attempt)
	}
	prefix := "[" + Printable(name) + "] "
	if color {
		prefix = colored(nameColor(source.Hook.Name), prefix)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		out.WriteString(prefix)
		out.WriteString(PrintableLine(stripansi.Strip(string(bytes.TrimRight(line, "\r\n")))))
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// The colours that a terminal has eight of (ECMA-48, select graphic rendition).
const (
	red    = 31
	green  = 32
	yellow = 33
	faint  = 2
)

func colored(color int, text string) string { return fmt.Sprintf("\x1b[%dm%s\x1b[0m", color, text) }

// nameColor returns a hook's own colour, the same in each run.
func nameColor(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	own := []int{36, 33, 35, 34, 32, 96, 93, 95, 94, 92}
	return own[h.Sum32()%uint32(len(own))]
}
