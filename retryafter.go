package deepseek

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// forever stands for waits too long to count.
const forever = time.Duration(math.MaxInt64)

// retryAfter reads how long the server asks us to wait: retry-after-ms, else
// Retry-After in seconds or as any HTTP date (RFC 9110, section 10.2.3).
// What makes no sense (not a number, negative, in the past) is as if absent, which
// is 0; what overflows is forever.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if d, ok := positive(h.Get("Retry-After-Ms"), time.Millisecond); ok {
		return d
	}
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if d, ok := positive(v, time.Second); ok {
		return d
	}
	if t, err := http.ParseTime(strings.TrimSpace(v)); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

// positive reads v as a number of units greater than zero.
func positive(v string, unit time.Duration) (time.Duration, bool) {
	f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if math.IsInf(f, 1) && err != nil { // 1e999: out of range, but meant as a number
		return forever, true
	}
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f <= 0 {
		return 0, false
	}
	if f >= float64(forever)/float64(unit) {
		return forever, true
	}
	return time.Duration(f * float64(unit)), true
}
