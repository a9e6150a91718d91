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
			done := x.occupy()
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
			done := x.occupy()
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
			done := x.occupy()
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
			done := x.occupy()
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
	tests = append(tests, learningTests()...)
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
