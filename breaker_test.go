package deepseek

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// statusBase answers with whatever status says now.
type statusBase struct {
	status atomic.Int64
	hits   atomic.Int64
}

func (b *statusBase) RoundTrip(req *http.Request) (*http.Response, error) {
	b.hits.Add(1)
	s := int(b.status.Load())
	if s == 0 {
		return nil, errors.New("connection reset by peer")
	}
	return &http.Response{StatusCode: s, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func newTestBreaker(t *testing.T, p Breaker, base http.RoundTripper) (http.RoundTripper, *circuit) {
	b, err := newBreaker("host", p)
	require.NoError(t, err)
	return layer(b.do)(base), b.circuit("")
}

func times(n int, f func()) {
	for range n {
		f()
	}
}

func TestBreakerCountsOnlyTheServersFaults(t *testing.T) {
	for _, row := range []struct {
		status int
		opens  bool
	}{
		{0, true}, {500, true}, {502, true}, {503, true}, {504, true}, {520, true}, {524, true}, {529, true}, {408, true}, {409, true},
		{200, false}, {400, false}, {401, false}, {402, false}, {403, false}, {404, false}, {413, false}, {422, false}, {429, false}, {501, false},
	} {
		base := &statusBase{}
		base.status.Store(int64(row.status))
		rt, k := newTestBreaker(t, Breaker{MinRequests: 5}, base)
		times(20, func() { _ = do(t.Context(), rt, "x") })
		require.Equal(t, row.opens, k.state == BreakerOpen, "status %d", row.status)
	}
}

func TestBreakerNeedsVolumeAndRatio(t *testing.T) {
	base := &statusBase{}
	rt, k := newTestBreaker(t, Breaker{MinRequests: 10, FailureRatio: 0.5}, base)
	base.status.Store(503)
	times(9, func() { _ = do(t.Context(), rt, "x") })
	require.NotEqual(t, BreakerOpen, k.state, "9 of 10 needed")
	base.status.Store(200)
	times(20, func() { _ = do(t.Context(), rt, "x") })
	base.status.Store(503)
	times(10, func() { _ = do(t.Context(), rt, "x") })
	require.NotEqual(t, BreakerOpen, k.state, "19 of 39")
	times(1, func() { _ = do(t.Context(), rt, "x") })
	require.Equal(t, BreakerOpen, k.state, "20 of 40")
}

func TestBreakerWindowRolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &statusBase{}
		base.status.Store(503)
		rt, k := newTestBreaker(t, Breaker{MinRequests: 10, Window: 10 * time.Second}, base)
		times(9, func() { _ = do(t.Context(), rt, "x") })
		time.Sleep(11 * time.Second)
		times(9, func() { _ = do(t.Context(), rt, "x") })
		require.NotEqual(t, BreakerOpen, k.state, "the first nine are too old")
		times(1, func() { _ = do(t.Context(), rt, "x") })
		require.Equal(t, BreakerOpen, k.state)
	})
}

// After thousands of successes a window's ratio would take as many failures; in
// an outage that would be half a minute of it.
func TestBreakerOpensOnFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &statusBase{}
		rt, k := newTestBreaker(t, Breaker{}, base)
		send := func(n int, status int64) {
			base.status.Store(status)
			times(n, func() { _ = do(t.Context(), rt, "x") })
		}
		send(5000, 200)
		send(19, 503)
		require.NotEqual(t, BreakerOpen, k.state)
		send(1, 200)
		send(19, 503)
		require.NotEqual(t, BreakerOpen, k.state, "a success in between")
		time.Sleep(30 * time.Second)
		send(19, 503)
		require.NotEqual(t, BreakerOpen, k.state, "those long ago do not count")
		send(1, 503)
		require.Equal(t, BreakerOpen, k.state)

		rt, k = newTestBreaker(t, Breaker{InARow: -1}, base)
		send(5000, 200)
		send(100, 503)
		require.NotEqual(t, BreakerOpen, k.state)
	})
}

func TestBreakerOpenRefusesWithoutTouchingTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &statusBase{}
		base.status.Store(503)
		rt, _ := newTestBreaker(t, Breaker{MinRequests: 1, OpenFor: 10 * time.Second}, base)
		require.NoError(t, do(t.Context(), rt, "x"))
		time.Sleep(2 * time.Second)
		err := do(t.Context(), rt, "x")
		require.ErrorIs(t, err, ErrCircuitOpen)
		var open *CircuitOpenError
		require.ErrorAs(t, err, &open)
		require.Equal(t, "host", open.Endpoint)
		require.LessOrEqual(t, open.RetryIn, 8*time.Second)
		require.GreaterOrEqual(t, open.RetryIn, 7*time.Second, "at most a tenth is taken off")
		require.EqualValues(t, 1, base.hits.Load())
	})
}

func TestBreakerOpensForLongerEachTimeInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &statusBase{}
		base.status.Store(503)
		rt, k := newTestBreaker(t, Breaker{MinRequests: 1, OpenFor: time.Second, MaxOpenFor: 10 * time.Second, Probes: 1}, base)
		_ = do(t.Context(), rt, "x")
		for i, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
			want *= time.Second
			open := time.Until(k.until)
			require.LessOrEqual(t, open, want, "time %d", i)
			require.GreaterOrEqual(t, open, want*9/10, "time %d", i)
			time.Sleep(open)
			before := base.hits.Load()
			_ = do(t.Context(), rt, "probe")
			require.ErrorIs(t, do(t.Context(), rt, "x"), ErrCircuitOpen)
			require.Equal(t, before+1, base.hits.Load())
		}
	})
}

func TestBreakerHalfOpenAdmitsFewThenRecoversGradually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		b, err := newBreaker("host", Breaker{MinRequests: 1, OpenFor: time.Second, Probes: 2})
		require.NoError(t, err)
		room, err := newWaitingRoom(Queue{})
		require.NoError(t, err)
		rt := Chain(layer(room.do), layer(b.do))(base)
		k := b.circuit("")
		go func() { _ = do(t.Context(), rt, "x") }()
		synctest.Wait()
		base.release(errors.New("reset"))
		time.Sleep(time.Second)

		var refused atomic.Int64
		burst := func(n int) {
			for range n {
				go func() {
					if err := do(t.Context(), rt, "x"); errors.Is(err, ErrCircuitOpen) {
						refused.Add(1)
					}
				}()
			}
			synctest.Wait()
		}
		burst(100)
		require.Len(t, base.seen(), 1+2, "two probes")
		require.EqualValues(t, 98, refused.Load(), "the rest fail fast")
		base.release(nil)
		base.release(nil)
		synctest.Wait()
		require.Equal(t, BreakerRecovering, k.state)
		burst(100)
		onTheWay := len(base.seen()) - 3
		require.Equal(t, 8, onTheWay)
		require.EqualValues(t, 92, room.length.Load(), "the rest wait")
		for round, most := 0, 24; k.state == BreakerRecovering && round < 10; round, most = round+1, most*3 {
			times(onTheWay, func() { base.release(nil) })
			synctest.Wait()
			base.mu.Lock()
			onTheWay = len(base.waiting)
			base.mu.Unlock()
			require.LessOrEqual(t, onTheWay, most, "no second spike")
		}
		for room.length.Load() > 0 {
			base.release(nil)
			synctest.Wait()
		}
		times(100, func() { base.release(nil) })
		synctest.Wait()
		require.EqualValues(t, 98, refused.Load())
		require.Equal(t, BreakerClosed, k.state)
	})
}

func TestBreakerProbeThatNobodyHearsOfCannotWedgeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, k := newTestBreaker(t, Breaker{MinRequests: 1, OpenFor: time.Second, Probes: 1}, base)
		go func() { _ = do(t.Context(), rt, "x") }()
		synctest.Wait()
		base.release(errors.New("reset"))
		time.Sleep(time.Second)
		go func() { _ = do(t.Context(), rt, "lost probe") }()
		synctest.Wait()
		require.ErrorIs(t, do(t.Context(), rt, "x"), ErrCircuitOpen)
		time.Sleep(time.Second)
		go func() { _ = do(t.Context(), rt, "second probe") }()
		synctest.Wait()
		require.Len(t, base.seen(), 3)
		base.release(nil)
		base.release(nil)
		synctest.Wait()
		require.Equal(t, BreakerRecovering, k.state)
	})
}

func TestBreakerCancelledCallsCountForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, k := newTestBreaker(t, Breaker{MinRequests: 1, OpenFor: time.Second, Probes: 1}, base)
		var wg sync.WaitGroup
		for range 100 { // a storm of users who give up
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() { _ = do(ctx, rt, "x") })
			synctest.Wait()
			cancel()
		}
		wg.Wait()
		require.Equal(t, BreakerClosed, k.state)

		base.mu.Lock()
		base.waiting = nil
		base.mu.Unlock()
		go func() { _ = do(t.Context(), rt, "x") }()
		synctest.Wait()
		base.release(errors.New("reset"))
		time.Sleep(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { _ = do(ctx, rt, "probe") })
		synctest.Wait()
		cancel()
		wg.Wait()
		base.mu.Lock()
		base.waiting = nil
		base.mu.Unlock()
		require.Equal(t, BreakerHalfOpen, k.state)
		go func() { _ = do(t.Context(), rt, "the probe's place was given back") }()
		synctest.Wait()
		base.release(nil)
		synctest.Wait()
		require.Equal(t, BreakerRecovering, k.state)
	})
}

// A stream that breaks long after its first data is a failure, and was no success.
func TestBreakerLateStreamFailureCounts(t *testing.T) {
	streams := roundTripper(func(req *http.Request) (*http.Response, error) {
		r, w := io.Pipe()
		go w.CloseWithError(errors.New("reset"))
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: r, Request: req}, nil
	})
	rt, k := newTestBreaker(t, Breaker{MinRequests: 10, FailureRatio: 0.5}, streams)
	for range 10 {
		require.NotEqual(t, BreakerOpen, k.state)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/", nil)
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		require.Error(t, err)
	}
	require.Equal(t, BreakerOpen, k.state, "10 breaks")
}

// The break of a stream counts when it comes, however long ago the call was let
// in: after the window that saw its beginning, and after the circuit was open
// and closed again.
func TestBreakerCountsBreaksOfStreamsLongerThanItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := make(chan struct{})
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			switch req.URL.Path {
			case "/stream":
				r, w := io.Pipe()
				go func() {
					<-fails
					_ = w.CloseWithError(errors.New("reset"))
				}()
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: r, Request: req}, nil
			case "/fails":
				return nil, errors.New("reset")
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		})
		rt, k := newTestBreaker(t, Breaker{MinRequests: 5, Window: 30 * time.Second, OpenFor: time.Second, Probes: 1}, base)
		var wg sync.WaitGroup
		for range 5 {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/stream", nil)
			resp, err := rt.RoundTrip(req)
			require.NoError(t, err)
			wg.Go(func() {
				_, err := io.ReadAll(resp.Body)
				require.Error(t, err)
			})
		}
		times(5, func() { _ = do(t.Context(), rt, "fails") })
		require.Equal(t, BreakerOpen, k.state)
		time.Sleep(time.Second)
		times(100, func() { _ = do(t.Context(), rt, "x") })
		require.Equal(t, BreakerClosed, k.state)
		time.Sleep(10 * time.Minute)
		close(fails)
		wg.Wait()
		require.Equal(t, BreakerOpen, k.state, "five breaks, and nothing else in the window")
	})
}

// An outage is no key's: what fails with one counts for all.
func TestBreakerIsOfTheEndpointNotOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503))
		tr := transportOver(t, base, WithAPIKeys(manyKeys(20)...), WithStrategy(RoundRobin{}), WithRetry(Retry{MaxAttempts: 1}), WithBreaker(Breaker{MinRequests: 10}))
		used := map[string]bool{}
		for range 10 {
			_, err := send(t.Context(), tr)
			require.NoError(t, err)
		}
		for _, a := range base.sent() {
			used[a.header.Get("Authorization")] = true
		}
		require.Greater(t, len(used), 5, "keys used")
		_, err := send(t.Context(), tr)
		require.ErrorIs(t, err, ErrCircuitOpen)
		require.Len(t, base.sent(), 10)
	})
}

// The breaker hands on what the server said, also what opens it.
func TestBreakerHandsOnWhatTheServerSaid(t *testing.T) {
	m, err := NewBreaker("host", Breaker{MinRequests: 1})
	require.NoError(t, err)
	base := scripted(status(503, "X-Custom: kept"))
	resp, err := send(t.Context(), m(base))
	require.NoError(t, err)
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "kept", resp.Header.Get("X-Custom"))
	text, err := readBody(resp)
	require.NoError(t, err)
	require.Contains(t, text, "status of the script")
	_, err = send(t.Context(), m(base))
	var open *CircuitOpenError
	require.ErrorAs(t, err, &open)
	require.Equal(t, "deepseek-flash", open.Model)
	require.Contains(t, err.Error(), "host deepseek-flash, next probe in ")
}

func TestBreakerHooksRunWithoutLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &statusBase{}
		base.status.Store(503)
		b, err := newBreaker("host", Breaker{MinRequests: 1, OpenFor: time.Second, Probes: 1})
		require.NoError(t, err)
		var changes []BreakerEvent
		rt := Chain(NewObserve(Observer{Breaker: func(e BreakerEvent) {
			_ = b.stats() // takes every lock there is
			changes = append(changes, e)
		}}), layer(b.do))(base)
		_ = do(t.Context(), rt, "x")
		time.Sleep(time.Second)
		base.status.Store(200)
		times(30, func() { _ = do(t.Context(), rt, "x") })
		var states []BreakerState
		for _, e := range changes {
			states = append(states, e.To)
		}
		require.Equal(t, []BreakerState{BreakerOpen, BreakerHalfOpen, BreakerRecovering, BreakerClosed}, states)
		require.Equal(t, BreakerClosed, changes[0].From)
		require.Positive(t, changes[0].OpenFor)
	})
}

func TestBreakerModelsFailApart(t *testing.T) {
	b, err := newBreaker("host", Breaker{MinRequests: 1})
	require.NoError(t, err)
	base := &statusBase{}
	base.status.Store(503)
	rt := layer(b.do)(base)
	send := func(model string) error {
		ctx, _ := newCall(t.Context(), model, false, nil)
		return do(ctx, rt, "x")
	}
	require.NoError(t, send("deepseek-flash"))
	require.ErrorIs(t, send("deepseek-flash"), ErrCircuitOpen)
	require.NoError(t, send("deepseek-v4-pro"))
}

// Many calls of one connection fail together when it breaks, and the others go
// on: no sign of an outage. Once the later ones fail as well, it is.
func TestBreakerTellsABrokenConnectionFromAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, k := newTestBreaker(t, Breaker{MinRequests: 1000}, base)
		call := func() { go func() { _ = do(t.Context(), rt, "x") }() }
		base.answersEachSecond(call)
		times(100, call)
		synctest.Wait()
		times(100, func() { base.release(errors.New("reset")) })
		synctest.Wait()
		require.Equal(t, BreakerClosed, k.state, "all at once")
		times(30, call)
		synctest.Wait()
		times(30, func() { base.release(errors.New("reset")) })
		synctest.Wait()
		require.Equal(t, BreakerOpen, k.state, "those that came later too")
	})
}

// answersEachSecond makes ten calls, one after the other.
func (b *heldBase) answersEachSecond(call func()) {
	for range 10 {
		call()
		synctest.Wait()
		time.Sleep(time.Second)
		b.release(nil)
		synctest.Wait()
	}
}

// Calls that hang while nothing succeeds open it as soon as there are enough.
func TestBreakerOpensOnHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, k := newTestBreaker(t, Breaker{MinRequests: 1000}, base)
		call := func() { go func() { _ = do(t.Context(), rt, "x") }() }
		base.answersEachSecond(call)
		times(100, call)
		time.Sleep(10 * time.Second)
		times(19, func() { base.release(errors.New("timeout")) })
		synctest.Wait()
		require.Equal(t, BreakerClosed, k.state)
		base.release(errors.New("timeout"))
		synctest.Wait()
		require.Equal(t, BreakerOpen, k.state)
	})
}

// A probe that hangs is replaced, and its end is no news then.
func TestBreakerProbeThatHangsIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, k := newTestBreaker(t, Breaker{MinRequests: 1, OpenFor: time.Second, Probes: 1}, base)
		call := func() { go func() { _ = do(t.Context(), rt, "x") }() }
		call()
		synctest.Wait()
		base.release(errors.New("reset"))
		time.Sleep(time.Second)
		call()
		time.Sleep(time.Second)
		call()
		synctest.Wait()
		require.Len(t, base.seen(), 3)
		base.release(errors.New("timeout")) // the first probe
		synctest.Wait()
		require.Equal(t, BreakerHalfOpen, k.state)
		base.release(nil)
		synctest.Wait()
		require.Equal(t, BreakerRecovering, k.state)
	})
}
