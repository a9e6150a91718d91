package deepseek

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryAfterTable(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, after, ms string
		want            time.Duration
	}{
		{name: "absent"},
		{name: "seconds", after: "5", want: 5 * time.Second},
		{name: "blanks", after: "  5 ", want: 5 * time.Second},
		{name: "fraction", after: "0.5", want: 500 * time.Millisecond},
		{name: "zero", after: "0"},
		{name: "minus zero", after: "-0"},
		{name: "negative", after: "-1"},
		{name: "negative overflow", after: "-1e999"},
		{name: "NaN", after: "NaN"},
		{name: "Inf", after: "Inf"},
		{name: "minus Inf", after: "-Inf"},
		{name: "words", after: "in a while"},
		{name: "overflow", after: "99999999999", want: forever},
		{name: "huge", after: "1e300", want: forever},
		{name: "no float64", after: "1e999", want: forever},
		{name: "just not overflowing", after: "9223372036", want: 9223372036 * time.Second},
		{name: "tiny", after: "1e-300", want: 0},
		{name: "IMF date", after: "Sun, 01 Mar 2026 12:00:07 GMT", want: 7 * time.Second},
		{name: "RFC 850 date", after: "Sunday, 01-Mar-26 12:00:08 GMT", want: 8 * time.Second},
		{name: "asctime date", after: "Sun Mar  1 12:00:09 2026", want: 9 * time.Second},
		{name: "past date", after: "Sun, 01 Mar 2026 11:59:59 GMT"},
		{name: "present date", after: "Sun, 01 Mar 2026 12:00:00 GMT"},
		{name: "far date", after: "Fri, 01 Mar 9999 12:00:00 GMT", want: forever},
		{name: "no date", after: "Sun, 32 Mar 2026 12:00:00 GMT"},
		{name: "milliseconds", ms: "1500", want: 1500 * time.Millisecond},
		{name: "milliseconds first", ms: "1500", after: "7", want: 1500 * time.Millisecond},
		{name: "bad milliseconds", ms: "x", after: "7", want: 7 * time.Second},
		{name: "negative milliseconds", ms: "-5", after: "7", want: 7 * time.Second},
		{name: "zero milliseconds", ms: "0"},
		{name: "milliseconds overflow", ms: "1e300", want: forever},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			if c.after != "" {
				h.Set("Retry-After", c.after)
			}
			if c.ms != "" {
				h.Set("Retry-After-Ms", c.ms)
			}
			require.Equal(t, c.want, retryAfter(h, now))
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "-1", "1e300", "1e999", "NaN", "Inf", "0x1p70", "60", "Sun, 01 Mar 2026 12:00:07 GMT", "1_0"} {
		f.Add(s, s)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, after, ms string) {
		h := http.Header{"Retry-After": {after}, "Retry-After-Ms": {ms}}
		d := retryAfter(h, now)
		if d < 0 {
			t.Fatalf("Retry-After %q, ms %q: %v", after, ms, d)
		}
		// No wait of a retry goes beyond the cap and the jitter.
		rt, err := newRetrier(Retry{})
		if err != nil {
			t.Fatal(err)
		}
		if wait, ok := rt.wait(verdict{outcome: fault, wait: d}, 3); ok && (wait < d || wait > 68*time.Second) {
			t.Fatalf("Retry-After %q, ms %q: wait %v", after, ms, wait)
		}
	})
}
