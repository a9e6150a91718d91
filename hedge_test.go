package deepseek_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// usual is how long the first token of the server takes, lateAfter when that has
// been learned to be late: at the end of its step.
const (
	usual     = 100 * time.Millisecond
	lateAfter = 107634 * time.Microsecond // and something
)

// slowly is a reply whose first token comes after d.
func slowly(d time.Duration) deepseektest.Reply {
	return deepseektest.Paced(deepseektest.Pace{FirstToken: d})
}

// generous hedges whatever is late.
var generous = deepseek.Hedging{MinSamples: 20, MaxShare: 1, MaxCost: 1}

// hedged is a client that hedges, over a server in memory.
type hedged struct {
	*testing.T
	srv      *deepseektest.Server
	accounts []deepseek.Account
	base     http.RoundTripper
	stream   bool

	client *http.Client
	tr     *deepseek.Transport
	start  time.Time // when the script begins

	mu     sync.Mutex
	events []deepseek.AttemptEvent
	ends   []deepseek.CallEndEvent
}

func prepareHedged(t *testing.T, accounts int, stream bool) *hedged {
	x := &hedged{T: t, stream: stream}
	server := []deepseektest.Option{
		deepseektest.WithPace(deepseektest.Pace{FirstToken: usual}),
		deepseektest.WithAnswerLength(0, 12),
	}
	for i := range accounts {
		name := string(rune('a' + i))
		keys := []string{"sk-" + name + "1", "sk-" + name + "2"}
		server = append(server, deepseektest.WithAccount(deepseektest.Account{Name: name, Keys: keys}))
		x.accounts = append(x.accounts, deepseek.Account{Name: name, Keys: keys})
	}
	x.srv = deepseektest.NewMemoryServer(server...)
	base := x.srv.Transport()
	x.base = base
	t.Cleanup(func() {
		base.CloseIdleConnections()
		x.srv.Close()
	})
	return x
}

// connect makes the client.
func (x *hedged) connect(h deepseek.Hedging, opts ...deepseek.Option) *hedged {
	var err error
	x.client, err = deepseek.NewHTTPClient(append([]deepseek.Option{
		deepseek.WithAccounts(x.accounts...), deepseek.WithBaseURL(x.srv.URL), deepseek.WithTransport(x.base), deepseek.WithHedging(h),
		deepseek.WithObserver(deepseek.Observer{
			Attempt: func(e deepseek.AttemptEvent) { x.mu.Lock(); x.events = append(x.events, e); x.mu.Unlock() },
			CallEnd: func(e deepseek.CallEndEvent) { x.mu.Lock(); x.ends = append(x.ends, e); x.mu.Unlock() },
		}),
	}, opts...)...)
	require.NoError(x, err)
	x.tr = x.client.Transport.(*deepseek.Transport)
	return x
}

// newHedged is a client that hedges whatever is later than the usual.
func newHedged(t *testing.T, accounts int, stream bool, opts ...deepseek.Option) *hedged {
	x := prepareHedged(t, accounts, stream).connect(generous, opts...)
	x.learned(20)
	return x
}

// learned makes n ordinary calls, and forgets them.
func (x *hedged) learned(n int) {
	x.Helper()
	x.calm(n)
	require.Zero(x, x.tr.Stats().Hedges)
	x.srv.Reset()
	x.mu.Lock()
	x.events, x.ends, x.start = nil, nil, time.Now()
	x.mu.Unlock()
}

// calm makes n ordinary calls more.
func (x *hedged) calm(n int) {
	x.Helper()
	for range n {
		_, err := x.call(x.Context(), "Hi")
		require.NoError(x, err)
	}
}

func (x *hedged) request(ctx context.Context, text string) *http.Request {
	body := fmt.Sprintf(`{"model":"deepseek-flash","messages":[{"role":"user","content":%q}],"thinking":{"type":"disabled"},"stream":%t}`, text, x.stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.srv.URL+"/chat/completions", strings.NewReader(body))
	require.NoError(x, err)
	req.Header.Set("Content-Type", "application/json")
	return req
}

// call makes a call and reads the whole answer.
func (x *hedged) call(ctx context.Context, text string) (string, error) {
	resp, err := x.client.Do(x.request(ctx, text))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(data), err
}

// requests are those that the server saw.
func (x *hedged) requests(n int) []deepseektest.Request {
	x.Helper()
	list := x.srv.Requests()
	require.Len(x, list, n)
	return list
}

// trail is that of the last call.
func (x *hedged) trail() deepseek.Attempts {
	x.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	require.NotEmpty(x, x.ends)
	return x.ends[len(x.ends)-1].Attempts
}

// untouched demands that nothing is out and nobody was blamed.
func (x *hedged) untouched() {
	x.Helper()
	synctest.Wait()
	s := x.tr.Stats()
	require.Zero(x, s.InFlight)
	require.Zero(x, s.Waiting)
	for _, a := range s.Accounts {
		require.Equal(x, deepseek.StateActive, a.State, a.Name)
		for _, k := range a.Keys {
			require.Equal(x, deepseek.StateActive, k.State, a.Name)
		}
		for _, m := range a.Models {
			require.Zero(x, m.InFlight, a.Name)
			require.Equal(x, 2500, m.Limit, a.Name)
		}
	}
	for _, b := range s.Breakers {
		require.Equal(x, deepseek.BreakerClosed, b.State)
	}
}

// inBoth runs a test for whole answers and for streams.
func inBoth(t *testing.T, test func(t *testing.T, stream bool)) {
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "whole", true: "stream"}[stream], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, stream) })
		})
	}
}

func TestHedgeWinsOverALateAttempt(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		x := newHedged(t, 2, stream)

		x.srv.Enqueue(deepseektest.Hang())
		resp, err := x.client.Do(x.request(t.Context(), "Hi"))
		require.NoError(t, err)
		require.WithinDuration(t, x.start.Add(lateAfter+usual), time.Now(), time.Millisecond)
		synctest.Wait()
		reqs := x.requests(2)
		require.NotEqual(t, reqs[0].Account, reqs[1].Account)
		require.True(t, reqs[0].Left, "the server saw the first attempt cancelled")
		for _, a := range x.tr.Stats().Accounts {
			if a.Name == reqs[0].Account {
				require.Zero(t, a.Models[0].InFlight, "its permit is back at once")
			}
		}
		require.Contains(t, resp.Header.Get("Seawall-Attempts"), "lost to another attempt")
		require.Contains(t, resp.Header.Get("Seawall-Attempts"), "hedge on "+reqs[1].Account)
		data, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Contains(t, string(data), `"finish_reason":"stop"`)

		x.untouched()
		trail := x.trail()
		require.Len(t, trail, 2)
		require.True(t, trail[0].Lost)
		require.False(t, trail[0].Hedge)
		require.Error(t, trail[0].Err)
		require.True(t, trail[1].Hedge)
		require.False(t, trail[1].Lost)
		require.NoError(t, trail[1].Err)
		require.Equal(t, http.StatusOK, trail[1].Status)
		require.Equal(t, reqs[1].Account, trail[1].Account)
		s := x.tr.Stats()
		require.Equal(t, int64(1), s.Hedges)
		require.Equal(t, int64(1), s.HedgesWon)
		require.Equal(t, int64(22), s.Attempts)
		require.Equal(t, 100.0, s.RetryBudget, "hedges have their own")
		require.Len(t, x.events, 2)
		require.Equal(t, 12, x.ends[0].Usage.CompletionTokens, "the usage is the winner's")
		require.Positive(t, x.ends[0].Cost.Amount)
	})
}

func TestHedgeLosesToAnAttemptThatComesJustAfterIt(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		x := newHedged(t, 2, stream)

		x.srv.Enqueue(slowly(lateAfter + 10*time.Millisecond))
		resp, err := x.client.Do(x.request(t.Context(), "Hi"))
		require.NoError(t, err)
		require.WithinDuration(t, x.start.Add(lateAfter+10*time.Millisecond), time.Now(), time.Millisecond)
		synctest.Wait()
		reqs := x.requests(2)
		require.True(t, reqs[1].Left, "the server saw the hedge cancelled")
		for _, a := range x.tr.Stats().Accounts {
			if a.Name == reqs[1].Account {
				require.Zero(t, a.Models[0].InFlight, "its permit is back at once")
			}
		}
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		x.untouched()
		trail := x.trail()
		require.Len(t, trail, 2)
		require.False(t, trail[0].Lost)
		require.True(t, trail[1].Hedge)
		require.True(t, trail[1].Lost)
		s := x.tr.Stats()
		require.Equal(t, int64(1), s.Hedges)
		require.Zero(t, s.HedgesWon)
	})
}

// One attempt fails while the other is on its way: the call waits for that.
func TestHedgeAndAttemptCoverForEachOther(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		for name, replies := range map[string][]deepseektest.Reply{
			"the attempt fails":         {deepseektest.ServiceUnavailable().And(deepseektest.Delayed(lateAfter + 10*time.Millisecond)), slowly(usual)},
			"the hedge fails":           {slowly(time.Second), deepseektest.ServiceUnavailable()},
			"the hedge is cut":          {slowly(time.Second), deepseektest.CutAfter(0)},
			"the hedge's key":           {slowly(time.Second), deepseektest.Unauthorized()},
			"the hedge's money":         {slowly(time.Second), deepseektest.InsufficientBalance()},
			"the hedge is one too many": {slowly(time.Second), deepseektest.RateLimitedPlain()},
		} {
			x := newHedged(t, 3, stream)
			x.srv.Enqueue(replies...)
			_, err := x.call(t.Context(), "Hi")
			require.NoError(t, err, name)
			x.requests(2)
			require.Len(t, x.trail(), 2, name)
			require.False(t, x.trail()[0].Lost || x.trail()[1].Lost, name)
			synctest.Wait()
			require.Zero(t, x.tr.Stats().Accounts[0].Models[0].InFlight, name)
		}
	})
}

func TestHedgeBothFail(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		x := newHedged(t, 2, stream)
		x.srv.Enqueue(deepseektest.ServiceUnavailable().And(deepseektest.Delayed(time.Second)), deepseektest.Status(500))
		_, err := x.call(t.Context(), "Hi")
		require.NoError(t, err)
		x.requests(3)
		trail := x.trail()
		require.Len(t, trail, 3, "and then the retry layer's turn")
		require.Positive(t, trail[2].Wait)
		x.untouched()
	})
}

func TestHedgeCountsForTheCapOnAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHedged(t, 2, false, deepseek.WithRetry(deepseek.Retry{MaxAttempts: 2}))
		x.srv.Enqueue(deepseektest.Repeat(9, deepseektest.ServiceUnavailable().And(deepseektest.Delayed(time.Second)))...)
		_, err := x.call(t.Context(), "Hi")
		require.EqualError(t, err, "status 503")
		x.requests(2)
		x.srv.Reset()

		// One that was not sent does not count.
		x = newHedged(t, 2, false, deepseek.WithRetry(deepseek.Retry{MaxAttempts: 2}))
		require.NoError(t, x.tr.Pool().Disable("a"))
		x.srv.Enqueue(deepseektest.ServiceUnavailable().And(deepseektest.Delayed(time.Second)))
		_, err = x.call(t.Context(), "Hi")
		require.NoError(t, err)
		x.requests(2)

		x = newHedged(t, 2, false, deepseek.WithRetry(deepseek.Retry{MaxAttempts: 1}))
		x.srv.Enqueue(slowly(time.Second))
		_, err = x.call(t.Context(), "Hi")
		require.NoError(t, err)
		x.requests(1)
	})
}

// A request that is wrong is wrong everywhere: its 400 does not wait.
func TestHedgeIsNotWaitedForWhenTheRequestIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHedged(t, 2, false)
		x.srv.Enqueue(deepseektest.Status(400).And(deepseektest.Delayed(150*time.Millisecond)), deepseektest.Hang())
		_, err := x.call(t.Context(), "Hi")
		require.EqualError(t, err, "status 400")
		require.Equal(t, 150*time.Millisecond, time.Since(x.start))
		synctest.Wait()
		require.True(t, x.requests(2)[1].Left)
		x.untouched()

		// The hedge's own is not believed as long as the other may do better.
		x.srv.Reset()
		x.srv.Enqueue(slowly(time.Second), deepseektest.Status(404))
		_, err = x.call(t.Context(), "Hi")
		require.NoError(t, err)
		x.requests(2)
	})
}

// An attempt whose account fails it while its hedge is out goes nowhere else
// before that is over, so that there are never three; and then it does.
func TestHedgeAndFailover(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		broke := deepseektest.InsufficientBalance()
		for name, c := range map[string]struct {
			script   []deepseektest.Reply
			requests int
			took     time.Duration
		}{
			"the hedge answers": {[]deepseektest.Reply{broke.And(deepseektest.Delayed(150 * time.Millisecond)), slowly(time.Second)}, 2, lateAfter + time.Second},
			"so does its account": {[]deepseektest.Reply{
				broke.And(deepseektest.Delayed(150 * time.Millisecond)), broke.And(deepseektest.Delayed(300 * time.Millisecond)),
			}, 3, lateAfter + 300*time.Millisecond + usual},
		} {
			x := newHedged(t, 3, stream)
			x.srv.Enqueue(c.script...)
			_, err := x.call(t.Context(), "Hi")
			require.NoError(t, err, name)
			seen := map[string]int{}
			for _, r := range x.requests(c.requests) {
				seen[r.Account]++
			}
			require.Len(t, seen, c.requests, "%s: each on an account of its own: %v", name, seen)
			took := x.ends[0].FirstData
			require.InDelta(t, c.took, took, float64(time.Millisecond), name)
		}

		// It was told so before there was a hedge: that is due later then.
		x := newHedged(t, 3, stream)
		x.srv.Enqueue(broke.And(deepseektest.Delayed(50*time.Millisecond)), deepseektest.Hang())
		_, err := x.call(t.Context(), "Hi")
		require.NoError(t, err)
		require.InDelta(t, 50*time.Millisecond+lateAfter+usual, x.ends[0].FirstData, float64(time.Millisecond))

		// No account is left: the 402 it is.
		x = newHedged(t, 2, stream)
		x.srv.Enqueue(broke.And(deepseektest.Delayed(150*time.Millisecond)), broke.And(deepseektest.Delayed(300*time.Millisecond)))
		_, err = x.call(t.Context(), "Hi")
		require.EqualError(t, err, "status 402")
	})
}

// A hedge that its account fails chooses no other.
func TestHedgeIsOneAttempt(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		var among []int
		x := newHedged(t, 4, stream, deepseek.WithStrategy(deepseek.StrategyFunc(func(cs []deepseek.Candidate) int {
			among = append(among, len(cs))
			return 0
		})))
		among = nil
		x.srv.Enqueue(slowly(time.Second), deepseektest.RateLimitedPlain())
		_, err := x.call(t.Context(), "Hi")
		require.NoError(t, err)
		x.requests(2)
		require.Equal(t, []int{4, 3}, among)
	})
}

func TestHedgeNeedsAnotherAccount(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		x := newHedged(t, 1, stream)
		x.srv.Enqueue(slowly(time.Second))
		_, err := x.call(t.Context(), "Hi")
		require.NoError(t, err)
		x.requests(1)

		x = prepareHedged(t, 2, stream).connect(deepseek.Hedging{MinSamples: 20, Burst: 1, MaxShare: 1e-6, MaxCost: 1})
		x.learned(20)
		require.NoError(t, x.tr.Pool().Disable("b"))
		x.srv.Enqueue(slowly(time.Second))
		_, err = x.call(t.Context(), "Hi")
		require.NoError(t, err)
		require.Len(t, x.trail(), 1)
		require.Zero(t, x.tr.Stats().Hedges)
		x.requests(1)

		// Nothing was taken off for hedges that were not sent.
		require.NoError(t, x.tr.Pool().Enable("b"))
		x.calm(40)
		x.srv.Enqueue(slowly(time.Second))
		_, err = x.call(t.Context(), "Hi")
		require.NoError(t, err)
		require.Equal(t, int64(1), x.tr.Stats().HedgesWon)
	})
}

// With others waiting, room is theirs.
func TestHedgeTakesNoRoomFromWaitingCalls(t *testing.T) {
	length := racedetector.Less(time.Minute, 20*time.Second)
	for _, global := range []bool{false, true} {
		t.Run(map[bool]string{false: "of accounts", true: "global"}[global], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := prepareHedged(t, 2, true)
				var opts []deepseek.Option
				if global {
					opts = append(opts, deepseek.WithMaxConcurrency(8))
				} else {
					x.accounts[0].MaxConcurrency, x.accounts[1].MaxConcurrency = 4, 4
				}
				x.connect(generous, opts...)
				x.learned(20)
				x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
					if r.Seq%10 != 0 {
						return nil
					}
					re := slowly(time.Second)
					return &re
				})
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for time.Since(x.start) < length {
							_, err := x.call(t.Context(), "Hi")
							require.NoError(t, err)
						}
					})
				}
				time.Sleep(length - time.Millisecond)
				require.Positive(t, x.tr.Stats().Waiting)
				require.Zero(t, x.tr.Stats().Hedges)
				wg.Wait()
			})
		})
	}
}

func TestHedgeLeavesWithItsCaller(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
			"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(500*time.Millisecond, cancel)
				return ctx, cancel
			},
			"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 500*time.Millisecond)
			},
		} {
			x := newHedged(t, 2, stream)
			x.srv.Enqueue(deepseektest.Hang(), deepseektest.Hang())
			ctx, cancel := end(t.Context())
			_, err := x.call(ctx, "Hi")
			cancel()
			require.ErrorIs(t, err, ctx.Err(), name)
			require.Equal(t, 500*time.Millisecond, time.Since(x.start), name)
			synctest.Wait()
			for _, r := range x.requests(2) {
				require.True(t, r.Left, name)
			}
			x.untouched()
			for _, a := range x.trail() {
				require.False(t, a.Lost, "nobody has won")
			}
			require.True(t, x.ends[0].Cancelled)

			// One of the two had failed already: the error tells of that as well.
			x.srv.Reset()
			x.srv.Enqueue(deepseektest.ServiceUnavailable().And(deepseektest.Delayed(200*time.Millisecond)), deepseektest.Hang())
			ctx, cancel = end(t.Context())
			_, err = x.call(ctx, "Hi")
			cancel()
			require.ErrorIs(t, err, ctx.Err(), name)
			require.ErrorIs(t, err, deepseek.ErrServer, name)
			x.requests(2)
			x.untouched()
		}
	})
}

// panicky is a base that panics on the given requests.
type panicky struct {
	base http.RoundTripper
	mu   sync.Mutex
	n    int
	on   func(n int) bool
}

func (p *panicky) RoundTrip(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.n++
	n := p.n
	p.mu.Unlock()
	if p.on(n) {
		panic(fmt.Sprint("request ", n))
	}
	return p.base.RoundTrip(req)
}

func TestHedgePanicReachesTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := prepareHedged(t, 2, false)
		x.base = &panicky{base: x.base, on: func(n int) bool { return n == 22 }}
		x.connect(generous)
		x.learned(20)
		x.srv.Enqueue(deepseektest.Hang())
		require.PanicsWithValue(t, "request 22", func() { _, _ = x.call(t.Context(), "Hi") })
		x.untouched()
		require.True(t, x.requests(1)[0].Left)
		_, err := x.call(t.Context(), "Hi")
		require.NoError(t, err)
	})
}

func TestHedgeEndsWithAPanicOfTheFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := prepareHedged(t, 2, false)
		x.base = &panicky{base: x.base, on: func(n int) bool {
			if n == 21 {
				time.Sleep(time.Second)
			}
			return n == 21
		}}
		x.connect(generous)
		x.learned(20)
		x.srv.Enqueue(deepseektest.Hang()) // the hedge
		require.PanicsWithValue(t, "request 21", func() { _, _ = x.call(t.Context(), "Hi") })
		require.Equal(t, time.Second, time.Since(x.start))
		x.untouched()
		require.True(t, x.requests(1)[0].Left)
	})
}

// Attempts that lose to their hedges are late answers for all that: were they
// forgotten, what counts as late would be ever less.
func TestHedgesTeachNothingWrong(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		calls := racedetector.Less(2000, 1000)
		for every, want := range map[int]struct{ min, max int }{
			50: {calls/50 - 2, calls/50 + 2}, // 2 % are late: they are hedged
			5:  {0, 40},                      // 20 % are: that is usual here, and after a while nothing is late
		} {
			x := newHedged(t, 3, stream)
			n := 0
			x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
				if n++; n%every != 0 {
					return nil
				}
				n++ // nor is the hedge
				re := slowly(3 * usual)
				return &re
			})
			x.calm(calls)
			got := int(x.tr.Stats().Hedges)
			t.Logf("%d hedges of %d calls, one in %d late", got, calls, every)
			require.GreaterOrEqual(t, got, want.min)
			require.LessOrEqual(t, got, want.max)
		}
	})
}

// A conversation moves to where a hedge of it has won, and only then.
func TestHedgeMovesTheConversationOnlyIfItWins(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		x := newHedged(t, 3, stream)
		x.srv.Enqueue(slowly(lateAfter + 10*time.Millisecond))
		for range 3 {
			_, err := x.call(t.Context(), "Hi")
			require.NoError(t, err)
		}
		reqs := x.requests(4)
		home, hedge := reqs[0].Account, reqs[1].Account
		require.NotEqual(t, home, hedge)
		require.Equal(t, home, reqs[2].Account)
		require.Equal(t, home, reqs[3].Account)

		x.srv.Reset()
		x.srv.Enqueue(deepseektest.Hang())
		for range 3 {
			_, err := x.call(t.Context(), "Hi")
			require.NoError(t, err)
		}
		reqs = x.requests(4)
		require.Equal(t, home, reqs[0].Account)
		require.NotEqual(t, home, reqs[1].Account)
		require.Equal(t, reqs[1].Account, reqs[2].Account, "its cache is there now")
		require.Equal(t, reqs[1].Account, reqs[3].Account)
	})
}

func TestHedgeIsForQuestionsToAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHedged(t, 2, false)
		for range 30 {
			resp, err := x.client.Get(x.srv.URL + "/models")
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}
		x.srv.Enqueue(deepseektest.Delayed(time.Second))
		resp, err := x.client.Get(x.srv.URL + "/models")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Zero(t, x.tr.Stats().Hedges)
	})
}

func TestHedgeIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		x := newHedged(t, 2, true, deepseek.WithLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		x.srv.Enqueue(deepseektest.Hang())
		out.Reset()
		_, err := x.call(t.Context(), "Hi")
		require.NoError(t, err)
		require.Contains(t, out.String(), `level=INFO msg="call answered after hedging"`)
		require.Contains(t, out.String(), "level=DEBUG msg=attempt model=deepseek-flash outcome=\"hedge on ")
		require.Regexp(t, `level=DEBUG msg=attempt .* lost to another attempt in 0.21s`, out.String())
		require.NotContains(t, out.String(), "WARN")
		require.NotContains(t, out.String(), "sk-")
	})
}

func TestHedgingIsOffByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := prepareHedged(t, 2, false)
		client, err := deepseek.NewHTTPClient(deepseek.WithAccounts(x.accounts...), deepseek.WithBaseURL(x.srv.URL), deepseek.WithTransport(x.base))
		require.NoError(t, err)
		x.client, x.tr = client, client.Transport.(*deepseek.Transport)
		x.learned(200)
		x.srv.Enqueue(slowly(time.Minute))
		_, err = x.call(t.Context(), "Hi")
		require.NoError(t, err)
		x.requests(1)
	})
}

func TestHedgingRefusesBadConfiguration(t *testing.T) {
	nan := 0.0
	nan /= nan
	for field, h := range map[string]deepseek.Hedging{
		"Hedging.Percentile": {Percentile: 1},
		"Hedging.MinSamples": {MinSamples: -1},
		"Hedging.MaxShare":   {MaxShare: nan},
		"Hedging.Burst":      {Burst: -1},
		"Hedging.MaxCost":    {MaxCost: 1.5},
	} {
		_, err := deepseek.NewTransport(deepseek.WithAPIKeys("sk-one"), deepseek.WithHedging(h))
		var bad *deepseek.ConfigError
		require.ErrorAs(t, err, &bad, field)
		require.Equal(t, field, bad.Field)
		_, err = deepseek.NewHedge(h, nil)
		require.ErrorAs(t, err, &bad, field)
	}
}

// A hedge's request is put into the form of the endpoint that it is sent to, as
// the first attempt's is.
func TestHedgeToAnEndpointWithNamesOfItsOwn(t *testing.T) {
	for name, priced := range map[string]bool{"with prices": true, "without prices": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var late atomic.Bool
				base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
					body, err := io.ReadAll(req.Body)
					require.NoError(t, err)
					require.Contains(t, string(body), `"vendor/flash"`)
					wait := usual
					if late.Swap(false) {
						wait = time.Minute
					}
					select {
					case <-time.After(wait):
					case <-req.Context().Done():
						return nil, req.Context().Err()
					}
					answer := `{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],` +
						`"usage":{"prompt_tokens":5,"completion_tokens":100,"total_tokens":105}}`
					return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: req}, nil
				})
				prices := deepseek.PricesUSD()
				if priced {
					prices.Models["vendor/flash"] = prices.Models[deepseek.ModelFlash]
				}
				client, err := deepseek.New(deepseek.WithTransport(base), deepseek.WithHedging(generous), deepseek.WithPrices(prices),
					deepseek.WithEndpoints(deepseek.Endpoint{
						Name: "vendor", BaseURL: "https://vendor.example/v1", Models: map[string]string{deepseek.ModelFlash: "vendor/flash"},
						Accounts: []deepseek.Account{{Keys: []string{"sk-one"}}, {Keys: []string{"sk-two"}}},
					}))
				require.NoError(t, err)
				for i := range 30 {
					late.Store(i == 29)
					answer, err := client.Chat(t.Context(), &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("Hi")}})
					require.NoError(t, err)
					require.Equal(t, "Hello", answer.Text())
				}
				s := client.Transport().Stats()
				require.EqualValues(t, 1, s.Hedges)
				require.EqualValues(t, 1, s.HedgesWon)
			})
		})
	}
}

// What the response cache saves by an answer that a hedge has got is what that
// answer used.
func TestHedgedAnswerFromTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := prepareHedged(t, 2, false).connect(generous, deepseek.WithCache(deepseek.Cache{}))
		for i := range 20 {
			_, err := x.call(t.Context(), fmt.Sprint(i))
			require.NoError(t, err)
		}
		x.srv.Enqueue(slowly(time.Minute))
		for range 2 {
			_, err := x.call(t.Context(), "Why is the sea salt?")
			require.NoError(t, err)
		}
		s := x.tr.Stats()
		require.EqualValues(t, 1, s.HedgesWon)
		x.mu.Lock()
		used := x.ends[20].Usage
		x.mu.Unlock()
		require.EqualValues(t, used.PromptTokens, s.Cache.SavedPromptTokens)
		require.EqualValues(t, used.CompletionTokens, s.Cache.SavedOutputTokens)
	})
}

// A successor knows what is late, and has the counts.
func TestSuccessorGoesOnHedging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHedged(t, 2, false)
		x.srv.Enqueue(slowly(time.Minute))
		_, err := x.call(t.Context(), "Hi")
		require.NoError(t, err)
		succeed := func(h deepseek.Hedging) {
			next, err := x.tr.Successor(deepseek.WithAccounts(x.accounts...), deepseek.WithBaseURL(x.srv.URL), deepseek.WithTransport(x.base), deepseek.WithHedging(h))
			require.NoError(t, err)
			require.Equal(t, x.tr.Stats().HedgesWon, next.Stats().HedgesWon)
			x.tr, x.client = next, &http.Client{Transport: next}
			x.srv.Enqueue(slowly(time.Minute))
			_, err = x.call(t.Context(), "Hi")
			require.NoError(t, err)
		}
		succeed(generous)
		require.EqualValues(t, 2, x.tr.Stats().Hedges)
		succeed(deepseek.Hedging{MinSamples: 1e6, MaxShare: 1, MaxCost: 1})
		require.EqualValues(t, 2, x.tr.Stats().Hedges, "another policy has all to learn")
	})
}
