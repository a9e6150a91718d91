package conformance

import (
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// learningTests are about the limit of an account and model.
func learningTests() (tests []test) {
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
		test{name: "configured limit is used evenly", do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
			x.crowd(12, func(i int) {
				time.Sleep(time.Duration(i) * time.Millisecond) // those that choose at once may choose the same
				x.whole(x.chat())
			})
			for _, a := range []string{"a", "b"} {
				assert.Equal(x, 3, x.srv.MaxInFlight(a, deepseek.ModelFlash))
			}
		}, opts: []deepseek.Option{deepseek.WithMaxConcurrency(6), deepseek.WithStrategy(deepseek.LeastLoaded{})}},
	)
}
