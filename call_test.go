package deepseek

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Each layer works alone: over a base, without its neighbours, it hands on a
// whole answer and a stream, the caller's errors, and the caller's request as it
// was.
func TestEveryLayerWorksAlone(t *testing.T) {
	meter, err := NewMeter(Prices{})
	require.NoError(t, err)
	pool, err := NewPool(nil, Account{Keys: []string{secretKey}})
	require.NoError(t, err)
	made := func(m Middleware, err error) Middleware {
		require.NoError(t, err)
		return m
	}
	for name, m := range map[string]Middleware{
		"none":     Chain(),
		"origin":   made(NewOrigin(DefaultBaseURL)),
		"observe":  NewObserve(LogObserver(slog.New(slog.DiscardHandler))),
		"cache":    made(NewCache(Cache{})),
		"resume":   made(NewResume(Resume{})),
		"fallback": made(NewFallback(map[string][]string{ModelFlash: {ModelPro}})),
		"retry":    made(NewRetry(Retry{})),
		"hedge":    made(NewHedge(Hedging{}, meter)),
		"queue":    made(NewQueue(Queue{})),
		"route":    made(NewRoute([]Endpoint{{Accounts: []Account{{Keys: []string{secretKey}}}}}, func(Endpoint) (Middleware, error) { return Chain(), nil })),
		"breaker":  made(NewBreaker("host", Breaker{})),
		"limit":    made(NewLimit(1)),
		"pool":     pool.Middleware(),
		"rate":     made(NewRateLimit(1, 1)),
		"meter":    meter.Middleware(),
		"guard":    NewGuard(Timeouts{}, false),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(answers, streamReply(chunkRole, time.Second, chunkHello+chunkStop+eventDone), status(400, "X-Custom: kept"))
				rt := m(base)
				for i, want := range []string{wholeAnswer, wholeStream, "status of the script"} {
					time.Sleep(time.Second) // the rate's
					req := chatRequest(t.Context(), i == 1)
					header, u, body := req.Header.Clone(), *req.URL, req.Body
					resp, err := rt.RoundTrip(req)
					require.NoError(t, err)
					text, err := readBody(resp)
					require.NoError(t, err)
					require.Contains(t, text, want)
					require.Equal(t, header, req.Header)
					require.Equal(t, u, *req.URL)
					require.Equal(t, body, req.Body)
					synctest.Wait()
				}
				require.Len(t, base.sent(), 3)
				base.allClosed(t)
				time.Sleep(time.Second)
				broken := scripted(fails(errReset))
				_, err := m(broken).RoundTrip(chatRequest(t.Context(), true))
				if name != "cache" { // which has an answer
					require.ErrorIs(t, err, errReset)
				}
			})
		})
	}
}
