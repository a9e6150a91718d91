package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

const failsafeAbout = "the whole call, reading and checking included, in a retry policy without end but the deadline (250 ms to 4 s, jitter; " +
	"at once after a 401, 402, 403 or a full place); a circuit breaker a key (half of 10 in 10 s, open 5 s), whose open ones are passed over; an account's keys share "

// failsafeBulkhead is failsafe-go as its documentation recommends to compose
// it, with a bulkhead for each account.
var failsafeBulkhead = contender{
	name:  "failsafe-go",
	about: failsafeAbout + "a bulkhead of the size of its true limit at the start (of the average, where limits are uneven and unknown), waited for up to 5 s",
	open: func(s *site) (client, error) {
		return newFailsafe(s, func(limit int) limiter {
			b := bulkhead.NewBuilder[string](uint(limit)).WithMaxWaitTime(roomWait).Build()
			return bulkheadLimiter{failsafe.With(b)}
		}), nil
	},
}

// failsafeAdaptive has failsafe-go's adaptive limiter in its place. Only
// answers count as samples of the time they take: a 429 comes fast, and is not
// to be taken for an account that is.
var failsafeAdaptive = contender{
	name:  "failsafe-go, adaptive",
	about: failsafeAbout + "an adaptive limiter that starts there, fed with the durations of answers only, waited for up to 5 s",
	open: func(s *site) (client, error) {
		return newFailsafe(s, func(limit int) limiter {
			return adaptiveLimiter{adaptivelimiter.NewBuilder[string]().WithLimits(1, 200, uint(limit)).WithMaxWaitTime(roomWait).Build()}
		}), nil
	},
}

const roomWait = 5 * time.Second

// limiter bounds what an account has in flight.
type limiter interface {
	run(ctx context.Context, f func(context.Context) (string, error)) (string, error)
}

type bulkheadLimiter struct{ room failsafe.Executor[string] }

func (l bulkheadLimiter) run(ctx context.Context, f func(context.Context) (string, error)) (string, error) {
	return l.room.WithContext(ctx).GetWithExecution(func(e failsafe.Execution[string]) (string, error) { return f(e.Context()) })
}

type adaptiveLimiter struct {
	limiter adaptivelimiter.AdaptiveLimiter[string]
}

func (l adaptiveLimiter) run(ctx context.Context, f func(context.Context) (string, error)) (string, error) {
	permit, err := l.limiter.AcquirePermitWithMaxWait(ctx, roomWait)
	if err != nil {
		return "", err
	}
	text, err := f(ctx)
	if err == nil {
		permit.Record()
	} else {
		permit.Drop()
	}
	return text, err
}

type failsafeClient struct {
	url   string
	hc    *http.Client
	retry failsafe.Executor[string]
	lanes []failsafeLane
	turn  atomic.Uint64
}

// failsafeLane is a key with its breaker and its account's limiter.
type failsafeLane struct {
	key     string
	breaker circuitbreaker.CircuitBreaker[string]
	guarded failsafe.Executor[string]
	room    limiter
}

func newFailsafe(s *site, newLimiter func(limit int) limiter) *failsafeClient {
	retry := retrypolicy.NewBuilder[string]().
		WithMaxRetries(-1).
		WithDelayFunc(func(e failsafe.ExecutionAttempt[string]) time.Duration {
			if err := e.LastError(); isFull(err) || otherKeyMayDo(statusOf(err)) && e.Attempts() < 8 {
				return 0
			}
			return s.backoff(e.Attempts() - 1)
		}).
		AbortIf(func(_ string, err error) bool {
			status := statusOf(err)
			return status != 0 && !worthRepeatingStatus(status)
		}).
		Build()
	f := &failsafeClient{url: s.url, hc: &http.Client{Transport: s.base, Timeout: attemptTimeout}, retry: failsafe.With(retry)}
	rooms := make(map[string]limiter)
	for _, a := range s.accounts {
		rooms[a.name] = newLimiter(a.limit)
	}
	for i, more := 0, true; more; i++ { // the accounts by turns
		more = false
		for _, a := range s.accounts {
			if i < len(a.keys) {
				more = true
				b := newFailsafeBreaker()
				f.lanes = append(f.lanes, failsafeLane{key: a.keys[i], breaker: b, guarded: failsafe.With(b), room: rooms[a.name]})
			}
		}
	}
	return f
}

func newFailsafeBreaker() circuitbreaker.CircuitBreaker[string] {
	return circuitbreaker.NewBuilder[string]().
		HandleIf(func(_ string, err error) bool {
			return err != nil && statusOf(err) != http.StatusTooManyRequests && !errors.Is(err, context.Canceled)
		}).
		WithFailureRateThreshold(0.5, 10, 10*time.Second).
		WithDelay(5 * time.Second).
		WithSuccessThreshold(2).
		Build()
}

func isFull(err error) bool {
	return errors.Is(err, bulkhead.ErrFull) || errors.Is(err, adaptivelimiter.ErrExceeded)
}

func (f *failsafeClient) close() { f.hc.CloseIdleConnections() }

func (f *failsafeClient) do(ctx context.Context, q *question) (string, error) {
	return f.retry.WithContext(ctx).GetWithExecution(func(e failsafe.Execution[string]) (string, error) {
		lane := f.next()
		return lane.room.run(e.Context(), func(ctx context.Context) (string, error) {
			return lane.guarded.WithContext(ctx).GetWithExecution(func(e failsafe.Execution[string]) (string, error) {
				return fetch(e.Context(), f.hc, f.url, lane.key, q)
			})
		})
	})
}

// next is the next key by turns, of those whose breaker is not open.
func (f *failsafeClient) next() *failsafeLane {
	n := uint64(len(f.lanes))
	var lane *failsafeLane
	for range n {
		lane = &f.lanes[f.turn.Add(1)%n]
		if !lane.breaker.IsOpen() || lane.breaker.RemainingDelay() <= 0 {
			break
		}
	}
	return lane
}
