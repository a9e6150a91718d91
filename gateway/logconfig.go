package gateway

import (
	"fmt"
	"slices"
)

// Log is what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error; default info
	Format string // json or text; default json
}

func (l Log) check(fail func(path, reason string)) {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		fail("log.level", fmt.Sprintf("%q is none of debug, info, warn, error", l.Level))
	}
	if l.Format != "json" && l.Format != "text" {
		fail("log.format", fmt.Sprintf("%q is neither json nor text", l.Format))
	}
}
