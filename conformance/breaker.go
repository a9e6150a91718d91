package conformance

import (
	"context"
	"sync"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// breakerTests are section 5.4 of the contract.
func breakerTests() (tests []test) {
	busy := deepseektest.ServiceUnavailable()
	quick := deepseek.Breaker{MinRequests: 4, FailureRatio: 0.5, Window: time.Minute, OpenFor: 10 * time.Second, MaxOpenFor: 40 * time.Second, Probes: 2}
	opts := []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: 1}), deepseek.WithBreaker(quick)}

	// fail has n calls fail at the server.
	fail := func(x *bench, n int) {
		x.Helper()
		x.srv.Enqueue(deepseektest.Repeat(n, busy)...)
		for range n {
			res, err := x.chat()
			require.Error(x, err)
			require.Equal(x, 503, res.Status)
		}
	}
	// refused demands that a call is refused without a request.
	refused := func(x *bench) *deepseek.CircuitOpenError {
		x.Helper()
		before := len(x.posts())
		ctx, cancel := context.WithTimeout(bg, time.Millisecond) // ends the retries of the door
		defer cancel()
		_, err := x.call(ctx, chat, Prompt{})
		require.Error(x, err)
		require.Len(x, x.posts(), before, "a request in spite of the open breaker")
		if x.door.Remote || x.door.Retries > 0 {
			return nil
		}
		require.ErrorIs(x, err, deepseek.ErrCircuitOpen)
		var open *deepseek.CircuitOpenError
		require.ErrorAs(x, err, &open)
		return open
	}
	add := func(name string, do func(x *bench)) {
		tests = append(tests, test{name: name, opts: opts, do: do})
	}

	add("opens at ratio and volume", func(x *bench) {
		fail(x, 3)
		x.breaker(deepseek.BreakerClosed)
		for range 5 {
			x.whole(x.chat())
		}
		fail(x, 1)
		x.breaker(deepseek.BreakerClosed) // 4 of 9
		fail(x, 1)
		x.breaker(deepseek.BreakerOpen) // 5 of 10
		refused(x)
	})
	add("the window rolls", func(x *bench) {
		fail(x, 3)
		time.Sleep(70 * time.Second)
		fail(x, 3)
		x.breaker(deepseek.BreakerClosed)
		fail(x, 1)
		x.breaker(deepseek.BreakerOpen)
	})
	add("open tells the time to the next probe", func(x *bench) {
		fail(x, 4)
		for range 4 {
			open := refused(x)
			time.Sleep(time.Second)
			if open == nil {
				continue
			}
			assert.Greater(x, open.RetryIn, time.Duration(0))
			assert.LessOrEqual(x, open.RetryIn, 10*time.Second)
			assert.Equal(x, deepseek.ModelFlash, open.Model)
		}
	})
	add("each model has its own", func(x *bench) {
		fail(x, 4)
		refused(x)
		x.whole(x.call(bg, chat, Prompt{Model: deepseek.ModelPro}))
	})
	add("open time grows, jittered", func(x *bench) {
		if x.door.Transport == nil {
			x.Skip("the door hides the breaker")
		}
		fail(x, 4)
		for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 40 * time.Second} {
			s, _ := x.stats()
			require.Len(x, s.Breakers, 1)
			b := s.Breakers[0]
			require.Equal(x, deepseek.BreakerOpen, b.State)
			assert.LessOrEqual(x, b.For, want)
			assert.GreaterOrEqual(x, b.For, want*85/100)
			time.Sleep(b.For + time.Millisecond)
			fail(x, 1) // the probe
		}
	})
	add("recovers step by step", func(x *bench) {
		fail(x, 4)
		time.Sleep(11 * time.Second)
		slow := deepseektest.Paced(deepseektest.Pace{FirstToken: time.Second})
		x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
		// A crowd arrives: few probes pass, the others are refused.
		var mu sync.Mutex
		passed := 0
		x.crowd(50, func(int) {
			ctx, cancel := context.WithTimeout(bg, 1100*time.Millisecond)
			defer cancel()
			if _, err := x.call(ctx, chat, Prompt{}); err == nil {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
		assert.LessOrEqual(x, max(x.srv.MaxInFlight("a", deepseek.ModelFlash), x.srv.MaxInFlight("b", deepseek.ModelFlash)), 2, "probes at once")
		assert.GreaterOrEqual(x, passed, 1)
		// Then more and more pass, none of them an error.
		x.srv.Reset()
		x.crowd(50, func(int) { x.whole(x.chat()) })
		assert.LessOrEqual(x, x.elapsed(), time.Minute)
		first := 0
		for _, p := range x.posts() {
			if p.Time.Sub(x.posts()[0].Time) < 500*time.Millisecond {
				first++
			}
		}
		assert.Less(x, first, 20, "calls let through at once")
		x.crowd(100, func(int) { x.whole(x.chat()) })
		x.breaker(deepseek.BreakerClosed)
	})
	add("a probe is judged at first data", func(x *bench) {
		fail(x, 4)
		time.Sleep(11 * time.Second)
		var open []Stream
		for range 2 {
			x.srv.Enqueue(deepseektest.PauseAfter(3, 30*time.Second))
			s, _, err := x.open(bg, Prompt{})
			require.NoError(x, err)
			open = append(open, s)
		}
		// Both probes are still on their way, and yet:
		x.whole(x.chat())
		for _, s := range open {
			var res Result
			require.NoError(x, readAll(s, &res))
		}
	})
	add("a break after first data counts", func(x *bench) {
		x.srv.Enqueue(deepseektest.Repeat(12, deepseektest.ResetAfter(5))...)
		for range 12 {
			if x.breakerState() == deepseek.BreakerOpen {
				break
			}
			_, err := x.stream()
			require.Error(x, err)
		}
		if x.door.Transport != nil {
			x.breaker(deepseek.BreakerOpen)
		}
	})
	for _, how := range []string{"cancelled", "closed", "429", "401"} {
		add("a probe that is "+how+" does not wedge it", func(x *bench) {
			for range 6 {
				if x.breakerState() == deepseek.BreakerClosed {
					fail(x, 4)
				}
				time.Sleep(time.Minute)
				switch how {
				case "cancelled":
					for range 3 {
						x.srv.Enqueue(deepseektest.Hang())
						ctx, cancel := context.WithTimeout(bg, time.Second)
						_, err := x.call(ctx, chat, Prompt{})
						cancel()
						require.Error(x, err)
					}
				case "closed":
					for range 3 {
						x.srv.Enqueue(deepseektest.StallAfter(2))
						s, _, err := x.open(bg, Prompt{})
						require.NoError(x, err)
						_ = s.Close()
					}
				case "429":
					x.srv.Enqueue(deepseektest.RateLimitedPlain())
					_, err := x.chat()
					_ = err
				case "401":
					x.srv.Enqueue(deepseektest.Unauthorized())
					_, err := x.chat()
					_ = err
				}
				synctest.Wait()
				require.Zero(x, x.srv.Pending(), "a probe was refused")
				for i := range 60 {
					if _, err := x.chat(); err != nil {
						x.Fatalf("call %d after the lost probes: %v", i, err)
					}
				}
				x.breaker(deepseek.BreakerClosed)
				time.Sleep(11 * time.Minute)
			}
		})
	}
	add("429s never open it", func(x *bench) {
		x.srv.Enqueue(deepseektest.Repeat(60, deepseektest.RateLimited(20))...)
		for x.srv.Pending() > 0 {
			_, _ = x.chat()
		}
		x.breaker(deepseek.BreakerClosed)
		x.whole(x.chat())
	})

	var states []string
	var mu sync.Mutex
	var transport *deepseek.Transport
	tests = append(tests, test{name: "hooks may ask for Stats", opts: with(opts, deepseek.WithObserver(deepseek.Observer{
		Breaker: func(e deepseek.BreakerEvent) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, string(e.To))
			if transport != nil {
				_ = transport.Stats()
			}
		},
		Attempt:  func(deepseek.AttemptEvent) { hookStats(&mu, &transport) },
		Cooldown: func(deepseek.CooldownEvent) { hookStats(&mu, &transport) },
		Limit:    func(deepseek.LimitEvent) { hookStats(&mu, &transport) },
		CallEnd:  func(deepseek.CallEndEvent) { hookStats(&mu, &transport) },
		Wait:     func(deepseek.WaitEvent) { hookStats(&mu, &transport) },
	})), do: func(x *bench) {
		mu.Lock()
		states, transport = nil, x.door.Transport
		mu.Unlock()
		x.srv.Enqueue(deepseektest.RateLimited(9), deepseektest.Unauthorized())
		_, _ = x.chat()
		for x.srv.Pending() > 0 {
			_, _ = x.chat()
		}
		x.srv.Enqueue(deepseektest.Repeat(10, busy)...)
		for x.srv.Pending() > 0 {
			_, err := x.chat()
			require.Error(x, err)
			if x.elapsed() > time.Hour {
				break
			}
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Minute)
		for range 60 {
			_, _ = x.chat()
		}
		mu.Lock()
		defer mu.Unlock()
		assert.Contains(x, states, "open")
		assert.Contains(x, states, "half-open")
		assert.Contains(x, states, "closed")
	}})
	return tests
}

func hookStats(mu *sync.Mutex, tr **deepseek.Transport) {
	mu.Lock()
	t := *tr
	mu.Unlock()
	if t != nil {
		_ = t.Stats()
	}
}
