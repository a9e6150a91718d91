package deepseek

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// longStream is a stream that ends as it should.
func longStream() []byte {
	return append(benchStream(), chunkStop+eventDone...)
}

// streamBase answers every request with the same stream.
func streamBase(stream []byte) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		return eventBase{bytes.NewReader(stream)}.RoundTrip(req)
	})
}

// resuming is a resume layer over a guard over a base.
func resuming(tb testing.TB, r Resume, base http.RoundTripper) http.RoundTripper {
	tb.Helper()
	m, err := NewResume(r)
	require.NoError(tb, err)
	return m(guarded(Timeouts{}, base))
}

// readEvents reads a stream the way the typed client does.
func readEvents(tb testing.TB, rt http.RoundTripper) {
	resp, err := sendStream(context.Background(), rt)
	if err != nil {
		tb.Fatal(err)
	}
	source := resp.Body.(eventSource)
	for {
		if _, err := source.nextEvent(); err == io.EOF {
			_ = resp.Body.Close()
			return
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}

// A stream that nothing happens to costs no allocation an event.
func TestResumeCostsNothingAnEvent(t *testing.T) {
	base := streamBase(longStream())
	without := testing.AllocsPerRun(20, func() { readEvents(t, guarded(Timeouts{}, base)) })
	with := testing.AllocsPerRun(20, func() { readEvents(t, resuming(t, Resume{}, base)) })
	t.Logf("1000 events: %.0f allocations, with resume %.0f", without, with)
	require.LessOrEqual(t, with-without, 40.0)
}

// BenchmarkResume is the cost of a streamed event, from the network's bytes to
// the event; an operation is a stream of 1000.
func BenchmarkResume(b *testing.B) {
	base := streamBase(longStream())
	for _, c := range []struct {
		name string
		rt   http.RoundTripper
	}{{"without", guarded(Timeouts{}, base)}, {"with", resuming(b, Resume{}, base)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				readEvents(b, c.rt)
			}
		})
	}
}

// stuck is a stream that breaks, and a continuation that does not come.
func stuck(reply step) *script { return scripted(streamReply(opening, errReset), reply) }

// A caller that gives up while an answer waits to be continued, or is about to
// be, is told so at once; and one that closes the stream is let go.
func TestGivingUpBetweenTwoParts(t *testing.T) {
	cause := errors.New("the user has left")
	for name, c := range map[string]struct {
		then step
		opts []Option
		sent int
	}{
		"while it waits":      {hangs, []Option{WithRetry(Retry{MinInterval: 10_000 * time.Hour, MaxInterval: 10_000 * time.Hour})}, 1},
		"before the headers":  {hangs, nil, 2},
		"in the queue":        {streamReply(30*time.Second, keepAlive, 30*time.Second), nil, 2},
		"while it is retried": {status(503, "Retry-After: 50"), nil, 2},
		"for want of room":    {status(429, "Retry-After: 50"), nil, 2},
	} {
		for _, how := range []string{"cancel", "close"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					base := stuck(c.then)
					var ends []CallEndEvent
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					call := resumeCall{ctx: ctx, opts: append(c.opts, WithObserver(Observer{CallEnd: func(e CallEndEvent) { ends = append(ends, e) }}))}
					resp, tr := call.open(t, base)
					time.AfterFunc(10*time.Second, func() {
						if how == "cancel" {
							cancel(cause)
						} else {
							_ = resp.Body.Close()
						}
					})
					start := time.Now()
					data, err := io.ReadAll(resp.Body)
					require.Equal(t, 10*time.Second, time.Since(start))
					require.Equal(t, opening, string(data))
					if how == "cancel" {
						require.ErrorIs(t, err, context.Canceled)
						require.ErrorIs(t, err, cause)
						require.ErrorIs(t, err, errReset)
					} else {
						require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
					}
					require.NoError(t, resp.Body.Close())
					synctest.Wait()
					require.Len(t, base.sent(), c.sent)
					require.Len(t, ends, 1)
					require.True(t, ends[0].Cancelled)
					require.Zero(t, tr.Stats().Accounts[0].Models[0].InFlight)
					require.Zero(t, tr.Stats().Waiting)
					base.allClosed(t)
				})
			})
		}
	}
}

// No wait goes beyond the deadline: the break is told at once.
func TestContinuationKeepsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		call := resumeCall{ctx: ctx, opts: []Option{WithRetry(Retry{MinInterval: time.Hour, MaxInterval: time.Hour, Budget: -1})}}
		start := time.Now()
		for time.Since(start) == 0 { // the jitter is from 0 up
			base := stuck(hangs)
			_, _, err := call.do(t, base)
			if errors.Is(err, context.DeadlineExceeded) {
				continue
			}
			checkNotContinued(t, err, "after the call's deadline")
			require.Len(t, base.sent(), 1)
			require.Less(t, time.Since(start), time.Minute)
			return
		}
	})
}

// Streams that always break cost no more attempts than the budget has.
func TestContinuationsCostTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(opening, errReset))
		tr := transportOver(t, base, WithStreamResume(), WithoutBreaker(), WithRetry(Retry{Budget: 20}))
		const calls = 50
		refused := 0
		for range calls {
			resp, err := tr.RoundTrip(resumeCall{}.request())
			require.NoError(t, err)
			_, err = readBody(resp)
			require.ErrorIs(t, err, ErrTruncated)
			if strings.Contains(err.Error(), "budget") {
				refused++
			}
		}
		// Each first data pays a tenth.
		require.LessOrEqual(t, len(base.sent()), calls+20+(calls+20)/10+2)
		require.Greater(t, refused, calls/2)
		require.EqualValues(t, len(base.sent()), tr.Stats().Attempts)
	})
}

// The part that broke is a fault of the server's to the breaker, and its place
// is free while the answer waits: for an open breaker too.
func TestBrokenPartIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(opening, errReset), streamReply(chunkWorld, chunkStop, eventDone))
		var tr *Transport
		free := 0
		call := resumeCall{opts: []Option{WithMaxConcurrency(1), WithBreaker(Breaker{MinRequests: 1, FailureRatio: 1}), WithObserver(Observer{
			Wait: func(WaitEvent) {
				require.Zero(t, tr.limit.inFlight.Load())
				require.Zero(t, tr.Stats().Accounts[0].Models[0].InFlight)
				require.Equal(t, BreakerOpen, tr.Stats().Breakers[0].State, "one break, and no answer")
				free++
			},
		})}}
		resp, opened := call.open(t, base)
		tr = opened
		start := time.Now()
		text, err := readBody(resp)
		require.NoError(t, err)
		require.Contains(t, text, " world")
		require.Greater(t, time.Since(start), 4*time.Second)
		require.Equal(t, 2, free)
		require.Len(t, base.sent(), 2)
	})
}

// A panic below reaches the reader, and leaves nothing behind.
func TestPanicWhileContinuing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		base := stuck(func(*http.Request) (*http.Response, error) { panic("base") })
		resp, tr := resumeCall{opts: []Option{WithObserver(Observer{CallEnd: func(CallEndEvent) { ended++ }})}}.open(t, base)
		require.PanicsWithValue(t, "base", func() { _, _ = io.ReadAll(resp.Body) })
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 1, ended)
		require.Zero(t, tr.Stats().Accounts[0].Models[0].InFlight)
	})
}

// Comments are handed on, where they are wanted, in all parts.
func TestCommentsOfAllParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(opening, keepAlive, errReset), streamReply(keepAlive, chunkWorld, keepAlive, chunkStop, eventDone))
		text, _, err := resumeCall{opts: []Option{WithStreamComments()}}.do(t, base)
		require.NoError(t, err)
		require.Equal(t, 2, strings.Count(text, ": keep-alive\n"))
	})
}

// A logger is told.
func TestContinuationIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		base := scripted(streamReply(opening, errReset), streamReply(chunkWorld, errReset), status(400))
		_, _, err := resumeCall{opts: []Option{WithLogger(log)}}.do(t, base)
		require.Error(t, err)
		require.Regexp(t, `level=INFO msg="answer continued" model=deepseek-flash cause=".*reset by peer" kept=5 attempt=2`, out.String())
		require.Regexp(t, `level=INFO msg="answer not continued" model=deepseek-flash cause=".*" kept=11 refused="deepseek: 400 Bad Request`, out.String())
		require.Regexp(t, `level=WARN msg="call failed" .*, continuing, then answer truncated`, out.String())
		require.NotContains(t, out.String(), "world")
	})
}

// The end of a call that is cancelled is told though nobody reads.
func TestCancelWithoutARead(t *testing.T) {
	for name, base := range map[string]step{"first part": streamReply(opening, time.Hour), "second part": streamReply(chunkWorld, time.Hour)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(streamReply(opening, errReset), base)
				if name == "first part" {
					base = scripted(base.steps[1])
				}
				var ends []CallEndEvent
				ctx, cancel := context.WithCancel(t.Context())
				resp, tr := resumeCall{ctx: ctx, opts: []Option{WithObserver(Observer{CallEnd: func(e CallEndEvent) { ends = append(ends, e) }})}}.open(t, base)
				text := make([]byte, 4096)
				for got := ""; !strings.Contains(got, "world") && (name != "first part" || !strings.Contains(got, "Hello")); {
					n, err := resp.Body.Read(text)
					require.NoError(t, err)
					got += string(text[:n])
				}
				require.Empty(t, ends)
				cancel()
				synctest.Wait()
				require.Len(t, ends, 1)
				require.True(t, ends[0].Cancelled)
				require.Equal(t, tr.Stats().Spend.Amount, ends[0].Cost.Amount)
				require.Zero(t, tr.Stats().Accounts[0].Models[0].InFlight)
				_, err := resp.Body.Read(text)
				require.ErrorIs(t, err, context.Canceled)
				require.NoError(t, resp.Body.Close())
				require.Len(t, ends, 1)
			})
		})
	}
}

// The role comes once, from whichever part brings it first.
func TestRoleComesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := strings.Replace(chunkRole, `"role":"assistant",`, "", 1)
		withText := strings.Replace(chunkWorld, `"content"`, `"role":"assistant","content"`, 1)
		for _, steps := range [][]step{
			{streamReply(silent), streamReply(wholeStream)},
			{streamReply(silent, errReset), streamReply(chunkRole), streamReply(wholeStream)},
			{streamReply(opening), streamReply(withText, chunkStop, eventDone)},
			{streamReply(chunkHello), streamReply(withText), streamReply(withText, chunkStop, eventDone)},
		} {
			text, _, err := resumeCall{}.do(t, scripted(steps...))
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(text, `"role":"assistant"`), text)
		}
	})
}
