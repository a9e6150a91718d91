package deepseek

import "time"

// moment is a reading of the monotonic clock, for what is measured in every call:
// a third of a [time.Time] in size, and half of the time to read.
type moment int64 // nanoseconds since this program began

// began is when this program began.
var began = time.Now()

func clock() moment { return moment(time.Since(began)) }

func momentOf(t time.Time) moment { return moment(t.Sub(began)) }

// since is how long ago it was.
func (m moment) since() time.Duration { return clock().sub(m) }

func (m moment) sub(earlier moment) time.Duration { return time.Duration(m - earlier) }
