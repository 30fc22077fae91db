//go:build race

package display

import "runtime"

// The race detector corrupts its own memory where two goroutines of one bubble of synctest read expired timers at
// once (https://go.dev/issue/78156); what it finds needs no second processor.
func init() { runtime.GOMAXPROCS(1) }
