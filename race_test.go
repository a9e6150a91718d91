package deepseek

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// hedging is a transport that hedges over a base, with a number of accounts. It
// knows that answers take 100 ms, and returns what it takes for late.
func hedging(tb testing.TB, accounts int, base http.RoundTripper, opts ...Option) (*Transport, time.Duration) {
	tr := transportOver(tb, base, append([]Option{
		WithAPIKeys(manyKeys(accounts - 1)...), WithHedging(Hedging{MinSamples: 1, MaxShare: 1, MaxCost: 1, Burst: 1e6}),
	}, opts...)...)
	var late time.Duration
	for _, stream := range []bool{false, true} {
		p := tr.hedger.lateness(&call{model: ModelFlash, stream: stream})
		for range 100_000 { // so many that a test's own change nothing
			p.add(100*time.Millisecond, 0.95, 1)
		}
		late = time.Duration(p.late.Load())
	}
	tr.hedger.meter = nil // the answers here have no usage
	return tr, late
}

// Attempts and hedges that answer, fail, hang and are cancelled in all
// combinations, many in the very same instant: every call has one answer, from
// one attempt, and nothing is left of the others.
func TestRaceInAllItsTurns(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "whole", true: "stream"}[stream], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { raceAround(t, stream) })
		})
	}
}

func raceAround(t *testing.T, stream bool) {
	var (
		late time.Duration
		seq  atomic.Int64
		s    *script
	)
	s = scripted(func(req *http.Request) (*http.Response, error) {
		n := seq.Add(1)
		const usual = 100 * time.Millisecond
		waits := []time.Duration{usual, late, late + 1, late + usual - 1, late + usual, late + usual + 1, 3 * late, time.Hour}
		timer := time.NewTimer(waits[rand.IntN(len(waits))])
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
		switch rand.IntN(8) {
		case 0:
			return status(503)(req)
		case 1:
			return nil, errReset
		case 2:
			return reply(200, "text/event-stream", nil, keepAlive)(req) // and its end
		}
		if !stream {
			return jsonReply(fmt.Sprintf(`{"id":"%d","choices":[]}`, n))(req)
		}
		chunk := fmt.Sprintf(`data: {"id":"%d","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`+"\n\n", n)
		return streamReply(chunk, time.Millisecond, chunk, time.Millisecond, chunk, chunkStop, eventDone)(req)
	})
	tr, d := hedging(t, 6, s, WithRetry(Retry{Budget: -1}), WithoutBreaker())
	late = d
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(4000))*time.Millisecond)
				resp, err := tr.RoundTrip(chatRequest(ctx, stream))
				if err == nil && resp.StatusCode == 200 {
					var body string
					if body, err = readBody(resp); err == nil {
						ids := map[string]bool{}
						for part := range strings.SplitSeq(body, `"id":"`) {
							if id, _, ok := strings.Cut(part, `"`); ok && id != "data: {" && id != "{" && id != "u" {
								ids[id] = true
							}
						}
						require.Len(t, ids, 1, "parts of one answer: %s", body)
					}
				}
				if err != nil {
					require.NotErrorIs(t, err, errLost)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	synctest.Wait()
	s.allClosed(t)
	stats := tr.Stats()
	t.Logf("%d calls, %d answered, %d attempts, %d hedges, %d won", stats.Calls, stats.Answered, stats.Attempts, stats.Hedges, stats.HedgesWon)
	require.Positive(t, stats.HedgesWon)
	require.Greater(t, stats.Hedges, stats.HedgesWon)
	require.Equal(t, seq.Load(), stats.Attempts, "each that was sent is in a trail")
	for _, a := range stats.Accounts {
		for _, m := range a.Models {
			require.Zero(t, m.InFlight)
			require.Equal(t, 2500, m.Limit)
		}
	}
}

// A base that ends its goroutine, as a failing test does in its own transport:
// the hedge fails, and the call goes on.
func TestRaceWithABaseThatEndsItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scripted(jsonReply(wholeAnswer), answers)
		var n atomic.Int64
		tr, _ := hedging(t, 2, roundTripper(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == 2 {
				runtime.Goexit()
			}
			time.Sleep(time.Second)
			return s.RoundTrip(req)
		}))
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		_, err = readBody(resp)
		require.NoError(t, err)
		require.Equal(t, int64(2), n.Load())
		require.Zero(t, tr.Stats().HedgesWon)
	})
}

func TestHedgeNeedsABodyToSendAgain(t *testing.T) {
	for length, want := range map[int64]int{-1: 2, maxReplayBody + 1: 1} { // the latter is not read ahead
		synctest.Test(t, func(t *testing.T) {
			s := scripted(jsonReply(time.Second, wholeAnswer))
			tr, _ := hedging(t, 2, s)
			ctx, _ := newCall(t.Context(), ModelFlash, false, nil)
			req := chatRequest(ctx, false)
			req.GetBody, req.ContentLength = nil, length
			req.Body = io.NopCloser(struct{ io.Reader }{req.Body})
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			_, _ = readBody(resp)
			require.Len(t, s.sent(), want)
			for _, a := range s.sent() {
				require.Equal(t, smallRequest, a.body)
			}
		})
	}
}

// That the body cannot be had again is no outcome of the call's as long as its
// first attempt is on its way.
func TestHedgeWithoutACopyOfTheBodyIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scripted(jsonReply(time.Second, wholeAnswer))
		tr, _ := hedging(t, 2, s)
		req := chatRequest(t.Context(), false)
		n := 0
		req.GetBody = func() (io.ReadCloser, error) {
			n++
			return nil, errors.New("the file is gone")
		}
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		_, _ = readBody(resp)
		require.Len(t, s.sent(), 1)
		require.Equal(t, 1, n)
		require.Zero(t, tr.Stats().Hedges)
	})
}

// What names no model may be something that must not be done twice.
func TestHedgeNeedsAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := time.Second
		s := scripted(func(req *http.Request) (*http.Response, error) {
			wait *= 2
			return jsonReply(wait, `{}`)(req)
		})
		tr, _ := hedging(t, 2, s)
		for range 5 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.deepseek.com/files", strings.NewReader("a file"))
			require.NoError(t, err)
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			_, _ = readBody(resp)
		}
		require.Len(t, s.sent(), 5)
	})
}

// However a base tells that its context has ended: the loser is known for one,
// and teaches how late an answer may be.
func TestRaceLoserIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scripted(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, fmt.Errorf("base: %w", req.Context().Err())
		}, answers)
		var end CallEndEvent
		tr, late := hedging(t, 2, s, WithObserver(Observer{CallEnd: func(e CallEndEvent) { end = e }}))
		p := tr.hedger.lateness(&call{model: ModelFlash})
		before := p.samples
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		_, _ = readBody(resp)
		require.Equal(t, before+1, p.samples)
		require.True(t, end.Attempts[0].Lost)
		require.Equal(t, errLost, end.Attempts[0].Err)
		require.Equal(t, late, end.Attempts[0].Duration)
		require.False(t, end.Cancelled)
	})
}

// No certificate gets better on another account.
func TestRaceIsOverWhenNothingCanHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scripted(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return nil, &tls.CertificateVerificationError{Err: errors.New("expired")}
		}, hangs)
		tr, _ := hedging(t, 2, s)
		start := time.Now()
		_, err := send(t.Context(), tr)
		var bad *tls.CertificateVerificationError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, time.Second, time.Since(start))
		require.Len(t, s.sent(), 2)
	})
}

// The timer of an attempt that is over may go off when the next has begun.
func TestRaceTimerOfAnEarlierAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, late := hedging(t, 2, scripted(answers))
		r := &race{hedger: tr.hedger, c: &call{Context: t.Context()}, late: late}
		r.first = runner{out: true, sentAt: time.Now()}
		r.hedge()
		require.False(t, r.hedged())
	})
}

// The first attempt answers in the moment in which the hedge is about to be
// sent, or has its answer in hand.
func TestRaceIsDecidedAroundTheHedge(t *testing.T) {
	s := scripted(streamReply(wholeStream))
	c := &call{Context: t.Context()}
	own := chatRequest(c, true)
	own, err := c.body.take(own)
	require.NoError(t, err)
	r := &race{c: c, req: own, get: c.body.get, winner: c, next: s}
	c.race = r
	second := c.hedge()
	resp, err := r.send(second)
	require.Nil(t, resp)
	require.ErrorIs(t, err, errLost)
	require.Len(t, s.sent(), 1)
	s.allClosed(t)

	ctx, abort := context.WithCancelCause(t.Context())
	second.began(abort)
	require.Equal(t, errLost, context.Cause(ctx))
}

// A layer above may use the call for several answers.
func TestRaceTellsTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		again := func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := next.RoundTrip(req)
				require.NoError(t, err)
				_, err = readBody(resp)
				require.NoError(t, err)
				fresh := req.WithContext(req.Context())
				fresh.Body, err = req.GetBody()
				require.NoError(t, err)
				return next.RoundTrip(fresh)
			})
		}
		usage := func(tokens int) step {
			return jsonReply(fmt.Sprintf(`{"id":"u","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":1}}`, tokens))
		}
		var ends []CallEndEvent
		tr, _ := hedging(t, 2, scripted(hangs, usage(11), usage(22)), WithMiddleware(again),
			WithObserver(Observer{CallEnd: func(e CallEndEvent) { ends = append(ends, e) }}))
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		_, _ = readBody(resp)
		require.Len(t, ends, 1)
		require.Len(t, ends[0].Attempts, 3)
		require.True(t, ends[0].Attempts[0].Lost)
		require.Equal(t, 22, ends[0].Usage.PromptTokens)
	})
}

// Without the layers that it needs it lets calls pass.
func TestHedgeAloneLetsCallsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scripted(jsonReply(time.Second, wholeAnswer))
		h, err := NewHedge(Hedging{MinSamples: 1}, nil)
		require.NoError(t, err)
		for _, chain := range []Middleware{h, Chain(h, NewGuard(Timeouts{}, false))} {
			for range 100 {
				resp, err := send(t.Context(), chain(s))
				require.NoError(t, err)
				_, _ = readBody(resp)
			}
		}
		require.Len(t, s.sent(), 200)
	})
}

// What a breaker lets through while it is not closed is for calls.
func TestHedgeIsNoProbe(t *testing.T) {
	b, err := newBreaker("test", Breaker{})
	require.NoError(t, err)
	c := &call{Context: t.Context()}
	hedge := &call{Context: t.Context(), of: c}
	k := b.circuit("")
	for _, state := range []BreakerState{BreakerClosed, BreakerHalfOpen, BreakerRecovering} {
		k.state, k.window = state, 2
		_, err := k.allow(hedge, 0)
		if state == BreakerClosed {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrCircuitOpen, state)
		}
		_, err = k.allow(c, 0)
		require.NoError(t, err, state)
	}
}

func TestRaceTellsTheMoreTelling(t *testing.T) {
	answer := func(code int) *http.Response {
		if code == 0 {
			return nil
		}
		resp, err := status(code)(chatRequest(t.Context(), false))
		require.NoError(t, err)
		settle(resp)
		return resp
	}
	for _, c := range []struct {
		first, second int // 0: an error
		err           error
		want          int
	}{
		{503, 500, nil, 503},
		{503, 429, nil, 503},
		{429, 503, nil, 503},
		{401, 503, nil, 503},
		{402, 429, nil, 429},
		{503, 400, nil, 400},
		{403, 0, &noRoom{what: func() string { return "" }}, 403},
		{401, 0, errReset, 0},
		{503, 0, &OriginError{}, 503},
	} {
		r := &race{resp: answer(c.second)}
		if c.second == 0 {
			r.err = c.err
		}
		resp, err := r.moreTelling(answer(c.first), nil)
		if c.want == 0 {
			require.Equal(t, c.err, err, "%+v", c)
			continue
		}
		require.NoError(t, err, "%+v", c)
		require.Equal(t, c.want, resp.StatusCode, "%+v", c)
	}
}

// BenchmarkHedging is what a call in time costs with hedging, over one without:
// see BenchmarkOverhead.
func BenchmarkHedging(b *testing.B) {
	base := &noopBase{body: []byte(wholeAnswer)}
	for _, on := range []bool{false, true} {
		b.Run(map[bool]string{false: "off", true: "on"}[on], func(b *testing.B) {
			b.ReportAllocs()
			opts := []Option{WithAPIKeys("sk-one", "sk-two"), WithTransport(base), WithBaseURL(DefaultBaseURL)}
			if on {
				opts = append(opts, WithHedging(Hedging{}))
			}
			client, err := NewHTTPClient(opts...)
			require.NoError(b, err)
			for range 100 {
				post(b, client, DefaultBaseURL)
			}
			for b.Loop() {
				post(b, client, DefaultBaseURL)
			}
		})
	}
}
