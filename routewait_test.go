package deepseek

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/internal/racedetector"
)

// answering is a heldBase that answers as DeepSeek does.
type answering struct{ heldBase }

func (b *answering) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := b.heldBase.RoundTrip(req); err != nil {
		return nil, err
	}
	return answers(req)
}

// held are two endpoints with room for so many calls each, over bases that keep
// every request until it is released.
func held(t *testing.T, a, b int, opts ...Option) (tr *Transport, atMain, atSpare *answering) {
	atMain, atSpare = &answering{}, &answering{}
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == mainHost {
			return atMain.RoundTrip(req)
		}
		return atSpare.RoundTrip(req)
	})
	tr = routed(t, base, []Endpoint{
		{Name: "main", Accounts: []Account{{Name: "m", Keys: []string{"sk-m"}, MaxConcurrency: a}}},
		{Name: "spare", BaseURL: "https://spare.example", Priority: 1, Accounts: []Account{{Name: "s", Keys: []string{"sk-s"}, MaxConcurrency: b}}},
	}, opts...)
	return tr, atMain, atSpare
}

// caller starts calls and notes in which order they are let in.
type caller struct {
	t  *testing.T
	tr http.RoundTripper
	wg sync.WaitGroup
}

// call starts a call whose body names it; it ends when its request is released.
func (c *caller) call(ctx context.Context, name string) *result {
	r := new(result)
	c.wg.Go(func() {
		resp, err := c.tr.RoundTrip(postAt(ctx, testURL, `{"model":"deepseek-flash","name":"`+name+`"}`))
		if err == nil {
			_, err = readBody(resp)
			if err == nil && resp.StatusCode != 200 {
				err = errors.New(resp.Status)
			}
		}
		r.end(err)
	})
	synctest.Wait()
	return r
}

// result is what became of a call.
type result struct {
	mu    sync.Mutex
	ended bool
	err   error
}

func (r *result) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended, r.err = true, err
}

// of is a call's error; the call must have ended.
func (r *result) of(t *testing.T) error {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.True(t, r.ended, "the call has ended")
	return r.err
}

func idle(t *testing.T, tr *Transport) {
	t.Helper()
	synctest.Wait()
	s := tr.Stats()
	require.Zero(t, s.Waiting)
	for _, a := range s.Accounts {
		for _, m := range a.Models {
			require.Zero(t, m.InFlight, a.Name)
		}
	}
	if tr.limit != nil {
		require.Zero(t, tr.limit.inFlight.Load())
	}
	for _, e := range tr.endpoints {
		for _, m := range e.pool.models.all() {
			noneIn(t, &m.lane)
			noneIn(t, &m.back)
		}
		for _, k := range e.breaker.circuits.all() {
			noneIn(t, &k.lane)
		}
	}
}

// noneIn demands that nobody is left in a lane, with or without its baton.
func noneIn(t *testing.T, l *lane) {
	t.Helper()
	require.Empty(t, l.line)
	require.False(t, l.trying)
	require.False(t, l.busy.Load())
}

// An endpoint without room is passed over for one that has some, and a call
// waits only if no endpoint has any: for the first room anywhere.
func TestRouteWaitsForRoomAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, atMain, atSpare := held(t, 1, 1)
		c := &caller{t: t, tr: tr}
		for i := range 7 {
			c.call(t.Context(), fmt.Sprint(i))
		}
		require.Len(t, atMain.seen(), 1)
		require.Len(t, atSpare.seen(), 1, "no room at the first: the second takes it")
		require.EqualValues(t, 5, tr.Stats().Waiting)
		for i, b := range []*answering{atSpare, atSpare, atMain, atSpare, atMain} {
			b.release(nil)
			synctest.Wait()
			require.EqualValues(t, 4-i, tr.Stats().Waiting)
			require.Len(t, b.waiting, 1, "the next one is where the room is")
		}
		atMain.release(nil)
		atSpare.release(nil)
		c.wg.Wait()
		idle(t, tr)
	})
}

func TestRouteWaitingIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		release := map[string]chan struct{}{mainHost: make(chan struct{}), spareHost: make(chan struct{})}
		tr := routed(t, roundTripper(func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			order = append(order, req.Header.Get("X-Name"))
			mu.Unlock()
			<-release[req.URL.Host]
			return answers(req)
		}), []Endpoint{
			{Name: "main", Accounts: []Account{{Keys: []string{"sk-m"}, MaxConcurrency: 1}}},
			{Name: "spare", BaseURL: "https://spare.example", Accounts: []Account{{Keys: []string{"sk-s"}, MaxConcurrency: 1}}},
		})
		var want []string
		var wg sync.WaitGroup
		for i := range 100 {
			name := fmt.Sprintf("%03d", i)
			want = append(want, name)
			wg.Go(func() {
				req := postAt(t.Context(), testURL, smallRequest)
				req.Header.Set("X-Name", name)
				resp, err := tr.RoundTrip(req)
				if err == nil {
					_, _ = readBody(resp)
				}
			})
			synctest.Wait()
			if i >= 50 { // newcomers come at the very moment in which there is room
				go func() { release[[]string{mainHost, spareHost}[rand.IntN(2)]] <- struct{}{} }()
			}
		}
		synctest.Wait()
		for i := range 100 { // one by one: nobody knows in which order goroutines run
			select {
			case release[[]string{mainHost, spareHost}[i%2]] <- struct{}{}:
			default: // by one of those above
			}
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, want, order)
		idle(t, tr)
	})
}

// Calls that wait at one endpoint while another is down go there as soon as it
// is back, be the first as slow as it may.
func TestRouteWaitersGoToAnEndpointThatIsBack(t *testing.T) {
	t.Run("its breaker", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var up atomic.Bool
			atSpare := &answering{}
			tr := routed(t, roundTripper(func(req *http.Request) (*http.Response, error) {
				switch {
				case req.URL.Host != mainHost:
					return atSpare.RoundTrip(req)
				case up.Load():
					time.Sleep(10 * time.Millisecond)
					return answers(req)
				}
				return status(503)(req)
			}), []Endpoint{
				{Name: "main", Accounts: []Account{{Name: "m", Keys: []string{"sk-m"}, MaxConcurrency: 100}}},
				{Name: "spare", BaseURL: "https://spare.example", Priority: 1, Accounts: []Account{{Name: "s", Keys: []string{"sk-s"}, MaxConcurrency: 1}}},
			}, WithBreaker(Breaker{MinRequests: 1}), WithRetry(Retry{MaxAttempts: 3}))
			c := &caller{t: t, tr: tr}
			c.call(t.Context(), "opens the breaker, then keeps the spare busy for good")
			require.Len(t, atSpare.seen(), 1)
			var results []*result
			for i := range 200 {
				results = append(results, c.call(t.Context(), fmt.Sprint(i)))
			}
			require.EqualValues(t, 200, tr.Stats().Waiting)
			require.Zero(t, tr.Stats().Breakers[0].State == BreakerClosed)
			up.Store(true)
			time.Sleep(6 * time.Second)
			require.Zero(t, tr.Stats().Waiting)
			for _, r := range results {
				require.NoError(t, r.of(t))
			}
			require.Len(t, atSpare.seen(), 1)
			atSpare.release(nil)
			c.wg.Wait()
			idle(t, tr)
		})
	})
	t.Run("its accounts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr, atMain, atSpare := held(t, 3, 1)
			require.NoError(t, tr.Pool().Disable("m"))
			c := &caller{t: t, tr: tr}
			for i := range 6 {
				c.call(t.Context(), fmt.Sprint(i))
			}
			require.EqualValues(t, 5, tr.Stats().Waiting)
			require.NoError(t, tr.Pool().Enable("m"))
			synctest.Wait()
			require.EqualValues(t, 2, tr.Stats().Waiting)
			require.Len(t, atMain.seen(), 3)
			require.NoError(t, tr.PoolOf("spare").Disable("s"))
			require.NoError(t, tr.Pool().Disable("m"))
			for range 3 {
				atMain.release(nil)
			}
			atSpare.release(nil)
			synctest.Wait()
			require.NoError(t, tr.Pool().Enable("m"))
			synctest.Wait()
			atMain.release(nil)
			atMain.release(nil)
			c.wg.Wait()
			idle(t, tr)
		})
	})
	t.Run("its keys, after their time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			atSpare := &answering{}
			var n atomic.Int64
			tr := routed(t, roundTripper(func(req *http.Request) (*http.Response, error) {
				if req.URL.Host != mainHost {
					return atSpare.RoundTrip(req)
				}
				if n.Add(1) == 1 {
					return status(403)(req)
				}
				return answers(req)
			}), []Endpoint{
				{Name: "main", Accounts: []Account{{Name: "m", Keys: []string{"sk-m"}}}},
				{Name: "spare", BaseURL: "https://spare.example", Priority: 1, Accounts: []Account{{Name: "s", Keys: []string{"sk-s"}, MaxConcurrency: 1}}},
			})
			c := &caller{t: t, tr: tr}
			c.call(t.Context(), "gets the 403 and keeps the spare busy")
			err := c.call(t.Context(), "waits")
			require.EqualValues(t, 1, tr.Stats().Waiting)
			time.Sleep(keyCoolFor)
			synctest.Wait()
			require.Zero(t, tr.Stats().Waiting)
			require.NoError(t, err.of(t))
			atSpare.release(nil)
			c.wg.Wait()
			idle(t, tr)
		})
	})
}

// Where no endpoint can take a call, waiting for room in one that is down would
// be in vain.
func TestRouteDoesNotWaitForRoomWhereEverythingIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _, atSpare := held(t, 1, 1)
		require.NoError(t, tr.Pool().Disable("m"))
		c := &caller{t: t, tr: tr}
		c.call(t.Context(), "keeps the spare busy")
		waits := c.call(t.Context(), "waits")
		require.NoError(t, tr.PoolOf("spare").Disable("s"))
		atSpare.release(nil)
		synctest.Wait()
		require.ErrorIs(t, waits.of(t), ErrNoAccount)
		newcomer := c.call(t.Context(), "newcomer")
		require.ErrorIs(t, newcomer.of(t), ErrNoAccount)
		require.Zero(t, tr.Stats().Waiting)
		c.wg.Wait()
		idle(t, tr)
	})
}

// A global limit is one for all endpoints, and keeps none of them idle.
func TestRouteUnderAGlobalLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, atMain, atSpare := held(t, 1, 5, WithMaxConcurrency(3))
		c := &caller{t: t, tr: tr}
		for i := range 12 {
			c.call(t.Context(), fmt.Sprint(i))
		}
		require.Len(t, atMain.seen(), 1)
		require.Len(t, atSpare.seen(), 2)
		for i := range 6 {
			atSpare.release(nil)
			synctest.Wait()
			require.Len(t, atSpare.seen(), 3+i)
		}
		for range 6 {
			atMain.release(nil)
			atSpare.release(nil)
			synctest.Wait()
		}
		c.wg.Wait()
		idle(t, tr)
	})
}

func TestRouteQueueRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, atMain, atSpare := held(t, 1, 1, WithQueue(Queue{MaxLength: 1, MaxWait: time.Minute}))
		c := &caller{t: t, tr: tr}
		c.call(t.Context(), "a")
		c.call(t.Context(), "b")
		waits := c.call(t.Context(), "c")
		err := c.call(t.Context(), "d")
		require.ErrorIs(t, err.of(t), ErrQueueFull)
		require.EqualError(t, err.of(t), "deepseek: queue full (1 calls waiting), waiting for room: 1 of 1 calls in flight for deepseek-flash (1 account: active), "+
			"or 1 of 1 calls in flight for deepseek-flash (1 account: active)")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.ErrorContains(t, waits.of(t), "waited too long after 60s")
		atMain.release(nil)
		atSpare.release(nil)
		c.wg.Wait()
		idle(t, tr)
	})
}

// A call that is cancelled at the moment in which two lanes want it leaves the
// turn to others.
func TestRouteCancelRacingWithTurns(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			tr, atMain, atSpare := held(t, 1, 1)
			c := &caller{t: t, tr: tr}
			c.call(t.Context(), "a")
			c.call(t.Context(), "b")
			ctx, cancel := context.WithCancel(t.Context())
			c.call(ctx, "cancelled")
			first, second := c.call(t.Context(), "first"), c.call(t.Context(), "second")
			go cancel()
			go atMain.release(nil)
			go atSpare.release(nil)
			synctest.Wait()
			for range 2 { // the cancelled one may have got as far as a base
				atMain.release(nil)
				atSpare.release(nil)
				synctest.Wait()
			}
			c.wg.Wait()
			require.NoError(t, first.of(t))
			require.NoError(t, second.of(t))
			idle(t, tr)
		})
	}
}

// Whatever happens, every call ends, and nothing is left of it.
func TestRouteStress(t *testing.T) {
	calls := racedetector.Less(3000, 1000) // a hundred a second
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.URL.Path, "/user/balance") {
				return jsonReply(`{"is_available":true}`)(req)
			}
			mu.Lock()
			d, dice := time.Duration(random.IntN(400))*time.Millisecond, random.IntN(1000)
			mu.Unlock()
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-req.Context().Done():
				return nil, context.Cause(req.Context())
			}
			down := time.Now().Second()%20 < 5 && req.URL.Host == mainHost
			switch {
			case down, dice < 30:
				return status(503)(req)
			case dice < 60:
				return nil, errReset
			case dice < 90:
				return status(429)(req)
			case dice < 91:
				return status(402)(req)
			case dice < 100:
				return status(403)(req)
			case dice < 120:
				return jsonReply(wholeAnswer[:50])(req)
			}
			return answers(req)
		})
		account := func(name string, n, max int) (all []Account) {
			for i := range n {
				all = append(all, Account{Name: fmt.Sprint(name, i), Keys: []string{fmt.Sprint("sk-", name, i), fmt.Sprint("sk-", name, i, "-2")}, MaxConcurrency: max})
			}
			return all
		}
		tr := routed(t, base, []Endpoint{
			{Name: "main", Accounts: account("m", 2, 3)},
			{Name: "second", BaseURL: "https://eu.deepseek.com", Accounts: account("e", 3, 2)},
			{Name: "spare", BaseURL: "https://spare.example/v1", Priority: 1, Accounts: account("s", 1, 4), Models: map[string]string{"deepseek-flash": "host/flash"}},
		}, WithMaxConcurrency(14), WithRateLimit(200, 20), WithBreaker(Breaker{MinRequests: 10}), WithRetry(Retry{Budget: -1, MaxAttempts: 20}))
		var ok, cancelled, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range calls {
			mu.Lock()
			start, cancelIn := time.Duration(random.IntN(10*calls))*time.Millisecond, time.Duration(random.IntN(20000))*time.Millisecond
			cancels := random.IntN(5) == 0
			mu.Unlock()
			wg.Go(func() {
				time.Sleep(start)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if cancels {
					time.AfterFunc(cancelIn, cancel)
				}
				body := smallRequest
				if i%3 == 0 {
					body = strings.Replace(body, "deepseek-flash", "deepseek-v4-pro", 1)
				}
				resp, err := tr.RoundTrip(postAt(ctx, testURL, body))
				if err == nil {
					_, err = readBody(resp)
				}
				switch {
				case err != nil && ctx.Err() != nil:
					cancelled.Add(1)
				case err == nil && resp.StatusCode == 200:
					ok.Add(1)
				case errors.Is(err, ErrNoEndpoint), errors.Is(err, ErrCircuitOpen), errors.Is(err, ErrNoAccount):
					refused.Add(1)
				}
			})
		}
		start := time.Now()
		wg.Wait()
		t.Logf("%d answered, %d cancelled, %d refused of %d, in %v", ok.Load(), cancelled.Load(), refused.Load(), calls, time.Since(start))
		require.GreaterOrEqual(t, ok.Load()+cancelled.Load(), int64(calls-calls/60))
		require.GreaterOrEqual(t, ok.Load()+cancelled.Load()+refused.Load(), int64(calls-calls/300))
		require.Less(t, time.Since(start), 3*time.Minute)
		idle(t, tr)
	})
}

// With a rate over several endpoints, calls that wait do not wake each other in
// circles: a try that has no token takes no account's place, which it would have to
// give back.
func TestRateLimitOverSeveralEndpoints(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			var waits, sent atomic.Int64
			base := roundTripper(func(req *http.Request) (*http.Response, error) {
				if sent.Add(1)%5 == 0 {
					return status(429)(req)
				}
				return jsonReply(2*time.Second, wholeAnswer)(req)
			})
			endpoint := func(name, url string) Endpoint {
				return Endpoint{Name: name, BaseURL: url, Priority: rng.IntN(2), Accounts: []Account{{Name: name, Keys: []string{"sk-" + name}, MaxConcurrency: rng.IntN(2)}}}
			}
			tr, err := NewTransport(WithTransport(base), WithoutBreaker(), WithRateLimit(2+float64(rng.IntN(10)), 1+rng.IntN(3)),
				WithEndpoints(endpoint("one", DefaultBaseURL), endpoint("two", "https://two.example/v1")),
				WithObserver(Observer{Wait: func(WaitEvent) {
					if waits.Add(1) > 100_000 {
						panic("calls wake each other in circles")
					}
				}}))
			require.NoError(t, err)
			const calls = 40
			var all sync.WaitGroup
			for range calls {
				wait := time.Duration(rng.IntN(10_000)) * time.Millisecond
				all.Go(func() {
					time.Sleep(wait)
					if resp, err := send(t.Context(), tr); err == nil {
						_ = resp.Body.Close()
					}
				})
			}
			all.Wait()
			require.Less(t, waits.Load(), int64(100*calls), "seed %d", seed)
		})
	}
}
