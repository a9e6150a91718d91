package deepseek

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type callMark struct{}
type attemptMark struct{}

// What an observer puts into the contexts of a call and its attempts reaches all
// that is told of them, and the requests.
func TestObserversPassContextsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type seen struct{ event, call, attempt string }
		var (
			mu   sync.Mutex
			list []seen
		)
		note := func(event string) func(context.Context) {
			return func(ctx context.Context) {
				call, _ := ctx.Value(callMark{}).(string)
				attempt, _ := ctx.Value(attemptMark{}).(string)
				mu.Lock()
				defer mu.Unlock()
				list = append(list, seen{event, call, attempt})
			}
		}
		first := Observer{
			CallContext: func(e CallStartEvent) context.Context {
				require.Equal(t, "caller's", e.Context.Value(callMark{}))
				return context.WithValue(e.Context, callMark{}, e.Model)
			},
			AttemptContext: func(e AttemptStartEvent) context.Context {
				require.Equal(t, "api.deepseek.com", e.Host)
				require.Zero(t, e.Status)
				require.NotEmpty(t, e.Key)
				return context.WithValue(e.Context, attemptMark{}, e.Account)
			},
		}
		second := Observer{
			CallContext:    func(e CallStartEvent) context.Context { note("second")(e.Context); return nil },
			AttemptContext: func(e AttemptStartEvent) context.Context { note("sending")(e.Context); return nil },
			CallStart:      func(e CallStartEvent) { note("start")(e.Context) },
			Attempt:        func(e AttemptEvent) { note("attempt")(e.Context); require.False(t, e.Stream) },
			Wait:           func(e WaitEvent) { note("wait")(e.Context) },
			Cooldown:       func(e CooldownEvent) { note("cooldown")(e.Context) },
			Limit:          func(e LimitEvent) { note("limit")(e.Context) },
			Breaker:        func(e BreakerEvent) { note("breaker")(e.Context) },
			Charge:         func(e ChargeEvent) { note("charge")(e.Context) },
			CallEnd:        func(e CallEndEvent) { note("end")(e.Context) },
		}
		var atBase []string
		base := scripted(
			reply(401, "application/json", nil, `{"error":{"message":"no"}}`),
			reply(429, "application/json", nil, `{"error":{"message":"your concurrency limit of 25"}}`),
			reply(503, "application/json", nil, "busy"),
			jsonReply(wholeAnswer),
		)
		tr, err := NewTransport(WithTransport(base), WithBaseURL(DefaultBaseURL),
			WithAccounts(Account{Name: "one", Keys: []string{"sk-1", "sk-2"}}, Account{Name: "two", Keys: []string{"sk-3"}}),
			WithStrategy(RoundRobin{}), WithBreaker(Breaker{MinRequests: 1, InARow: 1, OpenFor: time.Millisecond}),
			WithObserver(first), WithObserver(second),
			WithAttemptMiddleware(func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(req *http.Request) (*http.Response, error) {
					atBase = append(atBase, req.Context().Value(callMark{}).(string)+" "+req.Context().Value(attemptMark{}).(string)+" "+req.Header.Get("Authorization"))
					return next.RoundTrip(req)
				})
			}))
		require.NoError(t, err)
		resp, err := tr.RoundTrip(postTo(context.WithValue(t.Context(), callMark{}, "caller's"), "/chat/completions", smallRequest))
		require.NoError(t, err)
		_, err = readBody(resp)
		require.NoError(t, err)

		require.Len(t, atBase, 4)
		told := map[string]int{}
		for _, s := range list {
			told[s.event]++
			require.Equal(t, "deepseek-flash", s.call, s.event)
			inAttempt := s.event == "sending" || s.event == "attempt"
			require.Equal(t, inAttempt, s.attempt != "", s.event)
		}
		require.Equal(t, 4, told["sending"])
		require.Equal(t, 4, told["attempt"])
		for _, event := range []string{"second", "start", "wait", "cooldown", "limit", "breaker", "charge", "end"} {
			require.Positive(t, told[event], event)
		}
		for i, line := range atBase {
			require.True(t, strings.HasPrefix(line, "deepseek-flash "), line)
			require.Contains(t, line, "Bearer sk-", "attempt %d has its key", i)
		}
	})
}

// The charges add up to what was spent, and tell what it was spent on.
func TestChargesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01 there, a Saturday
		var all []ChargeEvent
		base := scripted(
			jsonReply(wholeAnswer),
			jsonReply(strings.Replace(wholeAnswer, "deepseek-flash", "mystery", 1)),
			streamReply(data(`{"choices":[{"index":0,"delta":{"content":"half"}}]}`)),
			jsonReply(wholeAnswer),
		)
		tr, err := NewTransport(WithTransport(base), WithBaseURL(DefaultBaseURL), WithoutRetry(),
			WithAccounts(Account{Name: "main", Keys: []string{"sk-1"}}),
			WithObserver(Observer{Charge: func(e ChargeEvent) { all = append(all, e) }}))
		require.NoError(t, err)
		ask := func(body string) {
			resp, err := tr.RoundTrip(postTo(t.Context(), "/chat/completions", body))
			require.NoError(t, err)
			_, _ = readBody(resp)
		}
		ask(smallRequest)
		ask(`{"model":"mystery"}`)
		ask(`{"model":"deepseek-flash","stream":true}`)
		// Into the peak hours of a day that is not a holiday.
		time.Sleep(time.Until(time.Date(2000, 1, 4, 2, 0, 0, 0, time.UTC)))
		ask(smallRequest)

		require.Len(t, all, 4)
		e := all[0]
		require.Equal(t, []Money{256 * 3, 50 * 150, 85 * 600, 256 * 147}, []Money{e.CacheHit, e.CacheMiss, e.Output, e.Saved})
		require.Equal(t, "main deepseek-flash USD", e.Account+" "+e.Model+" "+e.Currency)
		require.False(t, e.Peak || e.Estimated || e.Unpriced)
		require.Equal(t, 256, e.Usage.PromptCacheHitTokens)
		require.True(t, all[1].Unpriced)
		require.Equal(t, 85, all[1].Usage.CompletionTokens)
		require.True(t, all[2].Estimated)
		require.True(t, all[3].Peak)
		require.Equal(t, 2*e.Output, all[3].Output)
		var sum Spend
		for _, e := range all {
			require.NotNil(t, e.Context)
			sum.Amount += e.CacheHit + e.CacheMiss + e.Output
			sum.Saved += e.Saved
			sum.Attempts++
			sum.CacheHitTokens += int64(e.Usage.PromptCacheHitTokens)
			sum.CacheMissTokens += int64(e.Usage.PromptCacheMissTokens)
			sum.OutputTokens += int64(e.Usage.CompletionTokens)
			if e.Unpriced {
				sum.Unpriced++
			}
			if e.Estimated {
				sum.Estimated += e.CacheHit + e.CacheMiss + e.Output
			}
		}
		require.Equal(t, tr.Stats().Spend, sum)
	})
}

func TestAttemptMiddleware(t *testing.T) {
	_, err := NewTransport(WithAPIKeys("sk-1"), WithAttemptMiddleware(nil))
	var bad *ConfigError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "AttemptMiddleware", bad.Field)

	var order []string
	mark := func(name string) Middleware {
		return func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				order = append(order, name)
				return next.RoundTrip(req)
			})
		}
	}
	tr, err := NewTransport(WithAPIKeys("sk-1", "sk-2"), WithBaseURL(DefaultBaseURL), WithMiddleware(mark("call")),
		WithTransport(scripted(reply(401, "application/json", nil, "{}"), jsonReply(wholeAnswer))),
		WithAttemptMiddleware(mark("outer"), mark("inner")))
	require.NoError(t, err)
	resp, err := tr.RoundTrip(postTo(t.Context(), "/chat/completions", smallRequest))
	require.NoError(t, err)
	_, _ = readBody(resp)
	require.Equal(t, []string{"call", "outer", "inner", "outer", "inner"}, order)
}

// Nothing of what a server says in its errors is in a log, however deep it is in
// the error, and all else is.
func TestLogTextLeavesMessagesOut(t *testing.T) {
	const secret = "the prompt, word for word"
	api := &APIError{StatusCode: 400, Type: "invalid_request_error", Message: "what is " + secret + "?", TraceID: "0a1b"}
	odd := &APIError{StatusCode: 500, Type: secret, Message: secret}
	trail := Attempts{{Account: "main", Key: "1f3a", Status: 200, Err: api, Wait: time.Second}, {Account: "main", Broke: odd, Status: 200}}
	for want, err := range map[string]error{
		"deepseek: 400 Bad Request (invalid_request_error) [trace 0a1b]": api,
		"deepseek: 500 Internal Server Error":                            odd,
		"deepseek: 500 Internal Server Error after 2 attempts: waited 1.00s; main#1f3a 200 400 Bad Request (invalid_request_error) [trace 0a1b] in 0.00s; main 200 in 0.00s, then 500 Internal Server Error":                            odd.after(trail),
		"deepseek: 400 Bad Request (invalid_request_error) [trace 0a1b] after 2 attempts: waited 1.00s; main#1f3a 200 400 Bad Request (invalid_request_error) [trace 0a1b] in 0.00s; main 200 in 0.00s, then 500 Internal Server Error": &CallError{Err: api, Attempts: trail},
		"deepseek: answer truncated: cut: deepseek: 500 Internal Server Error (not continued: 400 Bad Request (invalid_request_error) [trace 0a1b])":                                                                                    &TruncatedError{Reason: "cut", Err: odd, Continuation: api},
		"context canceled (the last attempt: 500 Internal Server Error)": &interrupted{err: context.Canceled, last: odd},
		"unexpected EOF": io.ErrUnexpectedEOF,
		"one\ndeepseek: 400 Bad Request (invalid_request_error) [trace 0a1b]": errors.Join(errors.New("one"), api),
	} {
		require.Equal(t, want, LogText(err))
	}
	require.Empty(t, LogText(nil))
	var b strings.Builder
	l := slog.New(slog.NewJSONHandler(&b, nil))
	l.Info("call", slog.Any("trail", trail), slog.Any("attempt", trail[0]))
	require.NotContains(t, b.String(), secret)
	require.Contains(t, b.String(), "main#1f3a 200 400 Bad Request (invalid_request_error)")
	require.Contains(t, trail.String(), secret, "who made the call is told")
}

// All that the log's observer tells is free of it.
func TestLogsTellNoServerMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "xyzzy-plugh"
		failure := `{"error":{"message":"` + secret + `","type":"server_error"}}`
		var b strings.Builder
		base := scripted(jsonReply(failure), reply(503, "application/json", nil, failure), jsonReply(failure))
		tr, err := NewTransport(WithAPIKeys("sk-1"), WithBaseURL(DefaultBaseURL), WithTransport(base), WithRetry(Retry{MaxAttempts: 3}),
			WithLogger(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		require.NoError(t, err)
		_, err = tr.RoundTrip(postTo(t.Context(), "/chat/completions", smallRequest))
		require.ErrorContains(t, err, secret)
		require.NotContains(t, b.String(), secret)
		require.Equal(t, 3, strings.Count(b.String(), "msg=attempt"))
		require.True(t, slices.ContainsFunc(strings.Split(b.String(), "\n"), func(line string) bool {
			return strings.Contains(line, "call failed") && strings.Contains(line, "(server_error)") && strings.Contains(line, "503")
		}))
	})
}

// An attempt that ends in a panic has ended, for observers as well.
func TestObserversAreToldOfAPanic(t *testing.T) {
	var attempts []AttemptEvent
	var ends []CallEndEvent
	tr := transportOver(t, roundTripper(func(*http.Request) (*http.Response, error) { panic("of the base") }), WithObserver(Observer{
		Attempt: func(e AttemptEvent) { attempts = append(attempts, e) },
		CallEnd: func(e CallEndEvent) { ends = append(ends, e) },
	}))
	require.PanicsWithValue(t, "of the base", func() { _, _ = send(t.Context(), tr) })
	require.Len(t, attempts, 1)
	require.ErrorIs(t, attempts[0].Err, errPanicked)
	require.Error(t, attempts[0].Context.Err())
	require.Len(t, ends, 1)
	require.Len(t, ends[0].Attempts, 1)
}

// A wait for room is told of however it ends.
func TestObserversAreToldOfWaitsThatWereGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var waits []time.Duration
		tr := transportOver(t, never, WithMaxConcurrency(1), WithQueue(Queue{MaxWait: time.Minute}),
			WithObserver(Observer{Wait: func(e WaitEvent) {
				mu.Lock()
				defer mu.Unlock()
				require.Equal(t, "room", e.Reason)
				waits = append(waits, e.Wait)
			}}))
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = send(ctx, tr) })
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := send(impatient, tr)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = send(t.Context(), tr)
		require.ErrorIs(t, err, ErrQueueFull)
		require.Equal(t, []time.Duration{30 * time.Second, time.Minute}, waits)
		leave()
		wg.Wait()
	})
}

// What the cache was for a call is told also if it did not wait for the answer.
func TestObserversAreToldWhatTheCacheWasForCallsThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		uses := map[CacheUse]int{}
		tr := transportOver(t, never, WithCache(Cache{}), WithObserver(Observer{CallEnd: func(e CallEndEvent) {
			mu.Lock()
			defer mu.Unlock()
			uses[e.Cache]++
		}}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := tr.RoundTrip(chatRequest(ctx, false))
				require.ErrorIs(t, err, context.DeadlineExceeded)
			})
		}
		wg.Wait()
		require.Equal(t, map[CacheUse]int{CacheMiss: 1, CacheShared: 2}, uses)
		require.EqualValues(t, 1, tr.Stats().Cache.Misses)
		require.EqualValues(t, 2, tr.Stats().Cache.Shared)
	})
}

// never answers.
var never = roundTripper(func(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
})
