package deepseek

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A stall is told by its clock, at its time, whatever has come before.
func TestClocks(t *testing.T) {
	const ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n"
	beats := func(beat string, n int, every time.Duration) (parts []any) {
		for range n {
			parts = append(parts, every, beat)
		}
		return parts
	}
	after := func(first string, rest ...any) []any { return append([]any{first}, rest...) }
	const never = 24 * time.Hour
	for _, c := range []struct {
		name   string
		limits Timeouts
		base   step
		clock  string
		at     time.Duration
	}{
		{"no headers", Timeouts{}, hangs, "first data", 10 * time.Minute},
		{"no headers, silence is not yet asked for", Timeouts{Silence: time.Second}, hangs, "first data", 10 * time.Minute},
		{"headers alone", Timeouts{}, streamReply(never), "silence", time.Minute},
		{"comments alone", Timeouts{}, streamReply(beats(keepAlive, 100, 50*time.Second)...), "first data", 10 * time.Minute},
		{"pings alone", Timeouts{}, streamReply(beats(ping, 100, 50*time.Second)...), "first data", 10 * time.Minute},
		{"blank lines alone", Timeouts{}, jsonReply(beats("\n", 100, 50*time.Second)...), "first data", 10 * time.Minute},
		{"nothing after data", Timeouts{}, streamReply(chunkRole, never), "silence", time.Minute},
		{"comments after data", Timeouts{}, streamReply(after(chunkRole, beats(keepAlive, 100, 50*time.Second)...)...), "between data", 2 * time.Minute},
		{"pings after data", Timeouts{}, streamReply(after(chunkRole, beats(ping, 100, 50*time.Second)...)...), "between data", 2 * time.Minute},
		{"blank lines within an answer", Timeouts{}, jsonReply(after(`{"id":`, beats("\n", 100, 50*time.Second)...)...), "between data", 2 * time.Minute},
		{"half an answer", Timeouts{}, jsonReply(`{"id":`, never), "silence", time.Minute},
		{"a body that is not looked at", Timeouts{}, reply(200, "text/plain", nil, "x", never), "silence", time.Minute},
		{"data after a long queue", Timeouts{}, streamReply(append(beats(keepAlive, 11, 50*time.Second), chunkRole, never)...), "silence", 550*time.Second + time.Minute},
		{"silence off", Timeouts{Silence: -1}, streamReply(never), "first data", 10 * time.Minute},
		{"first data off", Timeouts{FirstData: -1}, streamReply(never), "silence", time.Minute},
		{"between data off", Timeouts{BetweenData: -1}, streamReply(after(chunkRole, append(beats(keepAlive, 100, 50*time.Second), never)...)...), "silence", 5000*time.Second + time.Minute},
		{"all but one off", Timeouts{FirstData: -1, Silence: -1, BetweenData: time.Hour}, streamReply(30*time.Minute, chunkRole, never), "between data", 90 * time.Minute},
		{"shorter than usual", Timeouts{FirstData: 3 * time.Second, BetweenData: 2 * time.Second, Silence: time.Second}, streamReply(chunkRole, 900*time.Millisecond, keepAlive, 900*time.Millisecond, keepAlive, never), "between data", 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				base := scripted(c.base)
				resp, err := sendStream(t.Context(), guarded(c.limits, base))
				if err == nil {
					_, err = readBody(resp)
				}
				var stall *StallError
				require.ErrorAs(t, err, &stall)
				require.Equal(t, c.clock, stall.Clock)
				require.InDelta(t, c.at, time.Since(start), float64(time.Microsecond))
				require.True(t, stall.Timeout())
				require.False(t, isContextError(err))
				base.allClosed(t)
			})
		})
	}
}

// The clocks say nothing on how long an answer may take in all, nor on how long
// its reader may.
func TestClocksLetGoOn(t *testing.T) {
	var long []any
	for range 1000 {
		long = append(long, 50*time.Second, chunkHello)
	}
	for _, c := range []struct {
		name  string
		parts []any
		pause time.Duration // of the reader
	}{
		{"a stream of hours", append(long, chunkStop+eventDone), 0},
		{"a reader that is away for an hour", []any{chunkRole, 30 * time.Second, chunkHello, chunkStop + eventDone}, time.Hour},
		{"silence after the finish_reason", []any{chunkRole, chunkStop, 24 * time.Hour}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				resp, err := sendStream(t.Context(), guarded(Timeouts{}, scripted(streamReply(c.parts...))))
				require.NoError(t, err)
				buf := make([]byte, len(chunkHello))
				for err == nil {
					time.Sleep(c.pause)
					_, err = resp.Body.Read(buf)
				}
				require.Equal(t, io.EOF, err)
				require.NoError(t, resp.Body.Close())
			})
		})
	}
}

// A timer may go off while it is still being set up.
func TestClockGoesOffAtOnce(t *testing.T) {
	for range 200 {
		_, err := sendStream(t.Context(), guarded(Timeouts{Silence: 1}, roundTripper(func(*http.Request) (*http.Response, error) {
			return nil, errReset
		})))
		require.ErrorIs(t, err, errReset)
	}
}
