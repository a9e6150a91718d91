package conformance

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// limitTests are section 5.3 of the contract.
func limitTests() (tests []test) {
	one := deepseek.WithMaxConcurrency(1)
	slow := deepseektest.Paced(deepseektest.Pace{FirstToken: 10 * time.Second})

	// next demands that the one permit is free.
	next := func(x *bench) {
		x.Helper()
		x.idle()
		start := time.Now()
		x.whole(x.chat())
		assert.Zero(x, time.Since(start), "the next call had to wait")
	}
	lifetimes := []struct {
		name string
		do   func(x *bench)
	}{
		{"error response, never closed", func(x *bench) {
			x.srv.Enqueue(deepseektest.Repeat(10, deepseektest.Status(400))...)
			for range 5 {
				_, err := x.stream()
				require.Error(x, err)
				x.idle()
			}
			for x.srv.Pending() > 0 {
				_, _ = x.chat()
			}
		}},
		{"[DONE] seen, never closed", func(x *bench) {
			for range 3 {
				x.whole(x.stream())
				x.idle()
			}
		}},
		{"[DONE] seen, connection stays open", func(x *bench) {
			x.srv.Enqueue(deepseektest.StallAfterDone())
			x.whole(x.stream())
			assert.LessOrEqual(x, x.elapsed(), 250*time.Millisecond, "all that a connection worth keeping is waited for")
		}},
		{"EOF without [DONE]", func(x *bench) {
			x.srv.Enqueue(deepseektest.NoDone())
			x.whole(x.stream())
		}},
		{"read error", func(x *bench) {
			x.srv.Enqueue(deepseektest.ResetAfter(3))
			_, err := x.stream()
			require.Error(x, err)
		}},
		{"early Close", func(x *bench) {
			x.srv.Enqueue(deepseektest.StallAfter(5))
			s, _, err := x.open(bg, Prompt{})
			require.NoError(x, err)
			_, err = s.Next()
			require.NoError(x, err)
			_ = s.Close()
			x.idle()
			assert.True(x, x.posts()[0].Left, "the server noticed")
			x.untouched()
		}},
		{"Close before the first Next", func(x *bench) {
			x.srv.Enqueue(deepseektest.StallAfter(5))
			s, _, err := x.open(bg, Prompt{})
			require.NoError(x, err)
			_ = s.Close()
		}},
		{"context cancelled, never closed or read", func(x *bench) {
			x.srv.Enqueue(deepseektest.StallAfter(5))
			ctx, cancel := context.WithCancel(bg)
			s, _, err := x.open(ctx, Prompt{})
			require.NoError(x, err)
			_, err = s.Next()
			require.NoError(x, err)
			cancel()
			x.idle()
			x.untouched()
		}},
		{"deadline passes, never closed or read", func(x *bench) {
			x.srv.Enqueue(deepseektest.StallAfter(5))
			ctx, cancel := context.WithTimeout(bg, 3*time.Second)
			defer cancel()
			_, _, err := x.open(ctx, Prompt{})
			require.NoError(x, err)
			time.Sleep(4 * time.Second)
			x.idle()
		}},
	}
	for _, l := range lifetimes {
		tests = append(tests, test{name: "permit until " + l.name, opts: []deepseek.Option{one}, do: func(x *bench) {
			l.do(x)
			next(x)
		}})
	}

	tests = append(tests,
		test{name: "permit until a 429 that is never closed", single: true, opts: []deepseek.Option{one, deepseek.WithoutRetry()}, do: func(x *bench) {
			if x.door.Retries > 0 {
				x.Skip("the door retries by itself")
			}
			for range 5 {
				x.srv.Enqueue(deepseektest.RateLimitedPlain())
				res, err := x.stream()
				require.Error(x, err)
				assert.Equal(x, 429, res.Status)
				x.idle()
			}
			next(x)
		}},
		test{name: "permit until a panic in the base", opts: []deepseek.Option{one}, network: func(srv *deepseektest.Server) http.RoundTripper {
			var once atomic.Bool
			base := srv.Transport()
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if !once.Swap(true) {
					panic("base")
				}
				return base.RoundTrip(req)
			})
		}, do: func(x *bench) {
			if x.door.Remote {
				x.Skip("the server recovers it")
			}
			assert.Panics(x, func() { _, _ = x.chat() })
			next(x)
		}},
		test{name: "no permit during a wait between attempts", opts: []deepseek.Option{one}, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.ServiceUnavailable().And(deepseektest.WithRetryAfter("10")))
			var wg sync.WaitGroup
			wg.Go(func() { x.whole(x.chat()) })
			time.Sleep(time.Second)
			x.idleButCalls()
			start := time.Now()
			x.whole(x.stream())
			assert.Zero(x, time.Since(start))
			wg.Wait()
			assert.GreaterOrEqual(x, x.elapsed(), 10*time.Second)
		}},
		test{name: "global limit holds", opts: []deepseek.Option{deepseek.WithMaxConcurrency(3)}, server: []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{Token: 100 * time.Millisecond})}, do: func(x *bench) {
			var most atomic.Int64
			stop := make(chan struct{})
			var watch sync.WaitGroup
			watch.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
						most.Store(max(most.Load(), int64(x.srv.InFlight("a", "")+x.srv.InFlight("b", ""))))
					}
				}
			})
			x.crowd(20, func(i int) { x.whole(x.call(bg, mode(i%2 == 0), Prompt{})) })
			close(stop)
			watch.Wait()
			assert.EqualValues(x, 3, most.Load(), "calls in flight at once")
			x.requests(20)
		}},
		test{name: "waiting is first come, first served", opts: []deepseek.Option{one}, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.Repeat(15, deepseektest.Paced(deepseektest.Pace{FirstToken: time.Second}))...)
			var wg sync.WaitGroup
			for i := range 15 {
				wg.Go(func() { x.whole(x.call(bg, mode(i%2 == 0), Prompt{Text: fmt.Sprint("number ", i)})) })
				time.Sleep(time.Millisecond)
			}
			wg.Wait()
			for i, p := range x.posts() {
				assert.Equal(x, fmt.Sprint("number ", i), p.LastUser())
			}
			if s, ok := x.stats(); ok {
				assert.Zero(x, s.Waiting)
			}
		}},
		test{name: "waiting is cancellable, and its place is free again", opts: []deepseek.Option{one, deepseek.WithQueue(deepseek.Queue{MaxLength: 1})}, do: func(x *bench) {
			done := x.occupy(1)
			for range 3 {
				ctx, cancel := context.WithCancel(bg)
				time.AfterFunc(time.Second, cancel)
				start := time.Now()
				_, err := x.call(ctx, chat, Prompt{})
				require.Error(x, err)
				assert.ErrorIs(x, err, context.Canceled)
				assert.Equal(x, time.Second, time.Since(start))
				synctest.Wait() // through a network it takes a moment to be heard of
			}
			x.requests(1)
			time.AfterFunc(time.Second, done)
			x.whole(x.chat())
		}},
		test{name: "a full room refuses", opts: []deepseek.Option{one, deepseek.WithQueue(deepseek.Queue{MaxLength: 2})}, do: func(x *bench) {
			done := x.occupy(1)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { x.whole(x.chat()) })
			}
			synctest.Wait()
			if s, ok := x.stats(); ok {
				assert.EqualValues(x, 2, s.Waiting)
			}
			start := time.Now()
			_, err := x.stream()
			x.is(err, deepseek.ErrQueueFull)
			if !x.door.Remote {
				assert.Contains(x, err.Error(), "1 of")
			}
			if x.door.Retries == 0 {
				assert.Zero(x, time.Since(start))
			}
			done()
			wg.Wait()
			x.requests(3)
		}},
		test{name: "waiting has an end", opts: []deepseek.Option{one, deepseek.WithQueue(deepseek.Queue{MaxWait: 7 * time.Second})}, do: func(x *bench) {
			done := x.occupy(1)
			start := time.Now()
			_, err := x.chat()
			x.is(err, deepseek.ErrQueueFull)
			if x.door.Retries == 0 {
				assert.Equal(x, 7*time.Second, time.Since(start))
			}
			x.requests(1)
			done()
		}},
		test{name: "a deadline that the queue cannot meet is refused at once", opts: []deepseek.Option{one}, do: func(x *bench) {
			if x.door.Remote || x.door.Retries > 0 {
				x.Skip("not through this door")
			}
			// Teach it how long calls take.
			x.srv.Enqueue(deepseektest.Repeat(6, slow)...)
			x.crowd(6, func(int) { x.whole(x.chat()) })
			var wg sync.WaitGroup
			for range 4 {
				x.srv.Enqueue(slow)
				wg.Go(func() { x.whole(x.chat()) })
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(bg, 15*time.Second) // its turn is in 40 s
			defer cancel()
			start := time.Now()
			_, err := x.call(ctx, chat, Prompt{})
			require.Error(x, err)
			assert.ErrorIs(x, err, deepseek.ErrQueueFull)
			assert.Less(x, time.Since(start), 14*time.Second, "refused before the deadline")
			assert.Zero(x, time.Since(start), "refused at once")
			wg.Wait()
		}},
		test{name: "a deadline that the queue can meet waits", opts: []deepseek.Option{one}, do: func(x *bench) {
			for range 5 {
				x.srv.Enqueue(slow)
				x.whole(x.chat())
			}
			x.srv.Enqueue(slow)
			var wg sync.WaitGroup
			wg.Go(func() { x.whole(x.chat()) })
			synctest.Wait()
			ctx, cancel := context.WithTimeout(bg, time.Minute)
			defer cancel()
			x.whole(x.call(ctx, chat, Prompt{}))
			wg.Wait()
		}},
		test{name: "a cancel storm leaves limit and breaker untouched", do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
				re := deepseektest.Hang()
				return &re
			})
			x.crowd(200, func(i int) {
				ctx, cancel := context.WithTimeout(bg, time.Duration(i+1)*time.Millisecond)
				defer cancel()
				_, err := x.call(ctx, mode(i%2 == 0), Prompt{})
				assert.ErrorIs(x, err, context.DeadlineExceeded)
			})
			x.untouched()
			x.srv.Handle(nil)
			x.whole(x.chat())
		}},
		test{name: "a cancel storm in mid-stream", do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
				re := deepseektest.StallAfter(3)
				return &re
			})
			x.crowd(200, func(i int) {
				ctx, cancel := context.WithTimeout(bg, time.Duration(i+1)*time.Millisecond)
				defer cancel()
				_, err := x.call(ctx, stream, Prompt{})
				assert.ErrorIs(x, err, context.DeadlineExceeded)
			})
			x.untouched()
		}},
		test{name: "a cancel storm in the waiting room", opts: []deepseek.Option{one}, do: func(x *bench) {
			done := x.occupy(1)
			x.crowd(100, func(i int) {
				ctx, cancel := context.WithTimeout(bg, time.Duration(i+1)*time.Millisecond)
				defer cancel()
				_, err := x.call(ctx, stream, Prompt{})
				assert.Error(x, err)
			})
			x.requests(1)
			done()
			next(x)
		}},
	)
	tests = append(tests, learning()...)
	return append(tests, poolTests()...)
}

// idleButCalls demands that no permit is out while calls are under way.
func (x *bench) idleButCalls() {
	x.Helper()
	synctest.Wait()
	s, ok := x.stats()
	if !ok {
		return
	}
	for _, a := range s.Accounts {
		for _, m := range a.Models {
			assert.Zero(x, m.InFlight, "permits out, account %s", a.Name)
		}
	}
}

// crowd makes n calls at once and waits for them.
func (x *bench) crowd(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// learning is about the limit of an account and model.
func learning() (tests []test) {
	slow := deepseektest.Paced(deepseektest.Pace{FirstToken: time.Second})
	see := func(x *bench, name string) int {
		x.Helper()
		l, ok := x.limit(name)
		if !ok {
			x.Skip("the door hides the limits")
		}
		return l.Limit
	}
	return append(tests,
		test{name: "limit starts at the published number", single: true, do: func(x *bench) {
			x.whole(x.chat())
			assert.Equal(x, 2500, see(x, "solo"))
		}},
		test{name: "limit falls to one below the number in the text", single: true, do: func(x *bench) {
			for _, n := range []int{39, 20, 5, 2} {
				x.srv.Enqueue(deepseektest.RateLimited(n))
				x.whole(x.chat())
				assert.Equal(x, n-1, see(x, "solo"))
				if s, ok := x.limit("solo"); ok {
					assert.Equal(x, deepseek.StateActive, s.State)
				}
			}
		}},
		test{name: "limit never falls below 1", single: true, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.RateLimited(1))
			x.whole(x.chat())
			assert.Equal(x, 1, see(x, "solo"))
			x.srv.Enqueue(deepseektest.RateLimitedPlain(), deepseektest.RateLimitedPlain())
			x.whole(x.chat())
			assert.Equal(x, 1, see(x, "solo"))
			x.srv.Enqueue(deepseektest.RateLimited(0))
			x.whole(x.chat())
			assert.Equal(x, 1, see(x, "solo"))
		}},
		test{name: "limit falls by a factor, once per generation", single: true, opts: []deepseek.Option{deepseek.WithoutRetry()}, do: func(x *bench) {
			if x.door.Retries > 0 {
				x.Skip("the door retries by itself")
			}
			no := deepseektest.RateLimitedPlain().And(deepseektest.Delayed(time.Second))
			x.srv.Enqueue(deepseektest.Repeat(50, no)...)
			x.crowd(50, func(i int) {
				res, err := x.call(bg, mode(i%2 == 0), Prompt{})
				assert.Error(x, err)
				assert.Equal(x, 429, res.Status)
			})
			together := see(x, "solo")
			assert.Less(x, together, 2500)
			assert.GreaterOrEqual(x, together, 1, "one fall")
			if s, ok := x.limit("solo"); ok {
				assert.EqualValues(x, 50, s.Refused)
			}
			x.srv.Enqueue(no)
			_, err := x.chat()
			require.Error(x, err)
			assert.Less(x, see(x, "solo"), together, "a second generation")
		}},
		test{name: "limit is of one model", single: true, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.RateLimited(5))
			x.whole(x.chat())
			x.whole(x.call(bg, chat, Prompt{Model: deepseek.ModelPro}))
			assert.Equal(x, 4, see(x, "solo"))
			a, _ := x.account("solo")
			for _, m := range a.Models {
				if m.Model == deepseek.ModelPro {
					assert.Equal(x, 500, m.Limit)
				}
			}
		}},
		test{name: "limit is of the account, not the key", do: func(x *bench) {
			// The server refuses the first call on account a, whichever key it has.
			var refused atomic.Bool
			x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
				if r.Account == "a" && !refused.Swap(true) {
					re := deepseektest.RateLimited(3)
					return &re
				}
				return nil
			})
			for range 6 {
				x.whole(x.chat())
			}
			assert.Equal(x, 2, see(x, "a"))
		}},
		test{name: "limit grows while it is the bottleneck, and only then", single: true, do: func(x *bench) {
			x.srv.SetLimit("solo", deepseek.ModelFlash, 10)
			x.srv.Enqueue(deepseektest.RateLimited(3))
			x.whole(x.chat())
			start := see(x, "solo")
			assert.Equal(x, 2, start)
			for range 100 {
				x.whole(x.chat()) // one at a time: not the bottleneck
			}
			assert.LessOrEqual(x, see(x, "solo"), 2, "idle growth")
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
			x.crowd(60, func(int) { x.whole(x.chat()) })
			grown := see(x, "solo")
			assert.Greater(x, grown, 3, "after 60 successes at the limit")
			// 2+3+4+...+11 successes at least, if one for each limit's worth.
			assert.LessOrEqual(x, grown, 12)
			assert.LessOrEqual(x, x.srv.MaxInFlight("solo", deepseek.ModelFlash), 10)
		}},
		test{name: "a crowd on an account with a small limit is served", single: true,
			server: []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second, Token: 50 * time.Millisecond})}, do: func(x *bench) {
				x.srv.SetLimit("solo", deepseek.ModelFlash, 5)
				x.crowd(100, func(i int) { x.whole(x.call(bg, mode(i%2 == 0), Prompt{})) })
				assert.Equal(x, 5, x.srv.MaxInFlight("solo", deepseek.ModelFlash))
				x.breaker(deepseek.BreakerClosed)
				assert.Less(x, x.srv.Count(429), 250, "refusals for 100 calls")
				if s, ok := x.limit("solo"); ok {
					assert.LessOrEqual(x, s.Limit, 8)
				}
			}},
		test{name: "a 429 waits for room and keeps its place", single: true, do: func(x *bench) {
			x.srv.SetLimit("solo", deepseek.ModelFlash, 1)
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
			x.crowd(8, func(int) { x.whole(x.chat()) })
			assert.Equal(x, 1, x.srv.MaxInFlight("solo", deepseek.ModelFlash))
			for _, k := range func() []deepseek.KeyStats { a, _ := x.account("solo"); return a.Keys }() {
				assert.Equal(x, deepseek.StateActive, k.State, "a 429 is nothing against a key")
			}
		}},
		test{name: "configured limit", do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
			x.crowd(12, func(int) { x.whole(x.chat()) })
			for _, a := range []string{"a", "b"} {
				assert.LessOrEqual(x, x.srv.MaxInFlight(a, deepseek.ModelFlash), 4) // two that choose at once may choose the same
			}
		}, opts: []deepseek.Option{deepseek.WithMaxConcurrency(6), deepseek.WithStrategy(deepseek.LeastLoaded{})}},
	)
}

// poolTests are about accounts and keys.
func poolTests() []test {
	slow := deepseektest.Paced(deepseektest.Pace{FirstToken: time.Second})
	return []test{
		{name: "load is spread over accounts", do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
			x.crowd(40, func(i int) { x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)})) })
			for _, a := range x.accounts {
				assert.GreaterOrEqual(x, x.srv.MaxInFlight(a.Name, deepseek.ModelFlash), 5, "account %s", a.Name)
			}
		}},
		{name: "the keys of an account take turns", do: func(x *bench) {
			for i := range 40 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)}))
			}
			used := map[string]int{}
			for _, p := range x.posts() {
				used[p.Key]++
			}
			assert.Len(x, used, 3, "keys used")
		}},
		{name: "a conversation stays on its account", do: func(x *bench) {
			for i := range 20 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)}))
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)}))
			}
			p := x.posts()
			moved := 0
			for i := 0; i < len(p); i += 2 {
				if p[i].Account != p[i+1].Account {
					moved++
				}
			}
			assert.Zero(x, moved, "of 20 conversations, moved for no reason")
		}},
		{name: "a failing account that answers quickly attracts no load", do: func(x *bench) {
			x.srv.SetLimit("a", deepseek.ModelFlash, 0)
			x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
				if r.Account == "a" {
					re := deepseektest.RateLimitedPlain()
					return &re
				}
				return &slow
			})
			for range 20 {
				x.crowd(10, func(int) { x.whole(x.chat()) })
			}
			assert.Less(x, x.srv.Count(429), 100, "refused attempts for 200 calls")
			a, ok := x.account("a")
			if ok {
				for _, k := range a.Keys {
					assert.Equal(x, deepseek.StateActive, k.State, "a 429 is nothing against a key")
				}
			}
		}},
		{name: "a longer cooldown is not overwritten by a shorter one", single: true, opts: []deepseek.Option{deepseek.WithoutRetry()}, do: func(x *bench) {
			if x.door.Retries > 0 {
				x.Skip("the door retries by itself")
			}
			no := func(after string, d time.Duration) deepseektest.Reply {
				return deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter(after), deepseektest.Delayed(d))
			}
			x.srv.Enqueue(no("50", time.Second), no("5", 2*time.Second))
			x.crowd(2, func(int) {
				_, err := x.chat()
				assert.Error(x, err)
			})
			s, ok := x.limit("solo")
			a, _ := x.account("solo")
			if ok {
				assert.InDelta(x, 49, max(s.For, a.For).Seconds(), 2)
			}
		}},
		{name: "Retry-After of a 429 is waited for", single: true, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("20")))
			x.whole(x.chat())
			x.requests(2)
			assert.GreaterOrEqual(x, x.elapsed(), 20*time.Second)
			assert.LessOrEqual(x, x.elapsed(), 25*time.Second)
		}},
		{name: "a 429 with nothing left says so", single: true, opts: []deepseek.Option{deepseek.WithQueue(deepseek.Queue{MaxWait: 3 * time.Second})}, do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
				re := deepseektest.RateLimited(1)
				return &re
			})
			res, err := x.chat()
			require.Error(x, err)
			if res.Status == 0 {
				x.is(err, deepseek.ErrQueueFull)
				assert.Contains(x, err.Error(), "room")
			}
		}},
		{name: "a key that was rejected is tried again after ten minutes", do: func(x *bench) {
			x.srv.RevokeKey(x.accounts[0].Keys[0])
			for i := range 12 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			assert.Equal(x, 1, x.srv.Count(401), "tries of the bad key")
			x.srv.RestoreKey(x.accounts[0].Keys[0])
			x.srv.Reset()
			time.Sleep(9 * time.Minute)
			for i := range 12 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			for _, p := range x.posts() {
				assert.NotEqual(x, x.accounts[0].Keys[0], p.Key, "used too soon")
			}
			time.Sleep(2 * time.Minute)
			used := false
			for i := range 24 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			for _, p := range x.posts() {
				used = used || p.Key == x.accounts[0].Keys[0]
			}
			assert.True(x, used, "tried again")
		}},
		{name: "an account without money comes back with money", do: func(x *bench) {
			x.srv.SetBalance("a", -1)
			for i := range 12 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			assert.Equal(x, 1, x.srv.Count(402), "tries of the empty account")
			if a, ok := x.account("a"); ok {
				assert.Equal(x, deepseek.StateOutOfBalance, a.State)
			}
			x.srv.SetBalance("a", 50)
			x.srv.Reset()
			time.Sleep(6 * time.Minute)
			for i := range 24 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if a, ok := x.account("a"); ok {
				assert.Equal(x, deepseek.StateActive, a.State)
			}
			used := false
			for _, p := range x.posts() {
				used = used || p.Account == "a"
			}
			assert.True(x, used, "used again")
		}},
		{name: "an account without money is not hammered", do: func(x *bench) {
			x.srv.SetBalance("a", -1)
			for i := range 60 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
				time.Sleep(time.Minute)
			}
			synctest.Wait()
			// In an hour: the first, and at most one probe each 5 minutes.
			assert.LessOrEqual(x, x.srv.Count(402), 14)
		}},
		{name: "the last account without money comes back too", single: true, do: func(x *bench) {
			x.srv.SetBalance("solo", -1)
			res, err := x.chat()
			require.Error(x, err)
			assert.Equal(x, 402, res.Status)
			x.srv.SetBalance("solo", 10)
			time.Sleep(6 * time.Minute)
			var ok bool
			for range 5 {
				if res, err = x.chat(); err == nil {
					ok = true
					break
				}
				time.Sleep(time.Second)
			}
			assert.True(x, ok, "%v", err)
		}},
		{name: "accounts and keys come and go", do: func(x *bench) {
			if x.door.Transport == nil {
				x.Skip("the door hides the pool")
			}
			pool := x.door.Transport.Pool()
			// A call in flight on an account that is removed ends normally.
			x.srv.Enqueue(slow)
			var wg sync.WaitGroup
			wg.Go(func() { x.whole(x.stream()) })
			synctest.Wait()
			on := x.posts()[0].Account
			require.NoError(x, pool.Remove(on))
			wg.Wait()
			for i := range 10 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			for _, p := range x.posts()[1:] {
				assert.NotEqual(x, on, p.Account, "removed")
			}
			rest := map[string]string{"a": "b", "b": "a"}[on]
			require.NoError(x, pool.Disable(rest))
			_, err := x.chat()
			x.is(err, deepseek.ErrNoAccount)
			require.NoError(x, pool.Enable(rest))
			x.whole(x.chat())
			for _, a := range x.accounts {
				if a.Name == on {
					require.NoError(x, pool.Add(deepseek.Account{Name: on, Keys: a.Keys}))
				}
			}
			before := len(x.posts())
			for i := range 20 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("again ", i)}))
			}
			used := false
			for _, p := range x.posts()[before:] {
				used = used || p.Account == on
			}
			assert.True(x, used, "added again")
			err = pool.Add(deepseek.Account{Name: on, Keys: []string{secret + "-new"}})
			require.Error(x, err, "a name twice")
			x.noKeys(err)
			err = pool.RemoveKey(rest, secret+"-unknown")
			require.Error(x, err)
			x.noKeys(err)
		}},
		{name: "a waiting call takes an account that is added", single: true, do: func(x *bench) {
			if x.door.Transport == nil {
				x.Skip("the door hides the pool")
			}
			x.srv.SetLimit("solo", deepseek.ModelFlash, 1)
			x.srv.Enqueue(deepseektest.RateLimited(1))
			x.whole(x.chat())
			done := x.occupy(1)
			var wg sync.WaitGroup
			wg.Go(func() { x.whole(x.chat()) })
			time.Sleep(time.Second)
			s, _ := x.stats()
			assert.EqualValues(x, 1, s.Waiting)
			require.NoError(x, x.door.Transport.Pool().AddKey("solo", secret+"-second"))
			x.srv.Enqueue(deepseektest.Normal())
			require.NoError(x, x.door.Transport.Pool().Add(deepseek.Account{Name: "new", Keys: []string{x.extraKey()}}))
			wg.Wait()
			assert.Less(x, x.elapsed(), 30*time.Second)
			done()
		}, server: []deepseektest.Option{deepseektest.WithAccount(deepseektest.Account{Name: "new", Keys: []string{secret + "-new-44444444"}})}},
		{name: "rate limit", opts: []deepseek.Option{deepseek.WithRateLimit(2, 3)}, do: func(x *bench) {
			x.crowd(9, func(i int) { x.whole(x.call(bg, mode(i%2 == 0), Prompt{})) })
			assert.InDelta(x, 3, x.elapsed().Seconds(), 0.6, "9 calls at 2 a second after a burst of 3")
			x.requests(9)
		}},
	}
}

func (x *bench) extraKey() string { return secret + "-new-44444444" }
