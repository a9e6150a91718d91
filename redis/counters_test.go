package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/redis"
)

// settled waits until the server knows all that gateways have counted.
func (s *server) settled(counters ...*redis.Counters) {
	s.Helper()
	for _, c := range counters {
		s.eventually("the server knows", c.Settled)
	}
}

// Three gateways that ask as fast as they can let in exactly as many as one: in
// the minute that there is, by requests and by tokens.
func TestWindowsAreExactAcrossGateways(t *testing.T) {
	s := newServer(t)
	var gateways []*redis.Counters
	for range 3 {
		gateways = append(gateways, s.connect(patient).Counters())
	}
	const limit = 100
	var mu sync.Mutex
	in, waits := 0, []time.Duration(nil)
	tokens := 0
	began := time.Now()
	var wg sync.WaitGroup
	for i, g := range gateways {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for range 100 {
				busy, wait, err := g.Enter("ci", 0, limit)
				require.NoError(t, err)
				require.Zero(t, busy)
				amount := 1 + rng.IntN(60)
				_, used, later, err := g.Take("ci", amount, 1000)
				require.NoError(t, err)
				mu.Lock()
				if wait == 0 {
					in++
				} else {
					waits = append(waits, wait)
				}
				if later == 0 {
					tokens += amount
					require.LessOrEqual(t, used, 1000)
				} else {
					require.Greater(t, used+amount, 1000)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, limit, in)
	require.Len(t, waits, 200)
	for _, wait := range waits {
		require.Greater(t, wait, time.Minute-time.Since(began))
		require.LessOrEqual(t, wait, time.Minute+time.Millisecond)
	}
	require.Greater(t, tokens, 1000-60)
	require.LessOrEqual(t, tokens, 1000)
}

// patient waits for an answer for as long as a busy machine takes.
func patient(c *redis.Config) { c.Timeout = patience }

// What is a minute old is forgotten, and what waits is let in when it was told:
// the minute passes by the entries' being moved into the past.
func TestWindowMovesWithRedissClock(t *testing.T) {
	s := newServer(t)
	g := s.connect(patient).Counters()
	ctx := t.Context()
	for range 3 {
		at, used, wait, err := g.Take("ci", 300, 1000)
		require.NoError(t, err)
		require.Zero(t, wait)
		require.Positive(t, used)
		require.InDelta(t, time.Now().UnixMilli(), at, 5000)
		time.Sleep(2 * time.Millisecond)
	}
	_, used, wait, err := g.Take("ci", 300, 1000)
	require.NoError(t, err)
	require.Equal(t, 900, used)
	require.Greater(t, wait, 50*time.Second)

	// All of it 59.8 s ago, but the last.
	times, amounts := "{seawall}:tokens:ci:times", "{seawall}:tokens:ci:amounts"
	all := s.client.ZRange(ctx, times, 0, -1).Val()
	require.Len(t, all, 3)
	for _, at := range all[:2] {
		n, err := strconv.ParseInt(at, 10, 64)
		require.NoError(t, err)
		before := strconv.FormatInt(n-59_800, 10)
		amount := s.client.HGet(ctx, amounts, at).Val()
		s.do("zrem", times, at)
		s.do("hdel", amounts, at)
		s.do("zadd", times, before, before)
		s.do("hset", amounts, before, amount)
	}
	_, _, wait, err = g.Take("ci", 300, 1000)
	require.NoError(t, err)
	require.Positive(t, wait)
	require.LessOrEqual(t, wait, 200*time.Millisecond)
	time.Sleep(wait)
	_, used, wait, err = g.Take("ci", 300, 1000)
	require.NoError(t, err)
	require.Zero(t, wait, "as it was told")
	require.LessOrEqual(t, used, 900)

	// More than fits ever, alone.
	_, _, wait, err = g.Take("big", 5000, 1000)
	require.NoError(t, err)
	require.Zero(t, wait)
	_, _, wait, err = g.Take("big", 1, 1000)
	require.NoError(t, err)
	require.Positive(t, wait)
}

func TestCorrections(t *testing.T) {
	s := newServer(t)
	a, b := s.connect(patient).Counters(), s.connect(patient).Counters()
	take := func(c *redis.Counters, n int) (int64, int) {
		at, used, wait, err := c.Take("ci", n, 1000)
		require.NoError(t, err)
		require.Zero(t, wait)
		return at, used
	}
	at, _ := take(a, 600)
	a.Correct("ci", at, -500)
	a.Correct("ci", 12345, -500) // of another time: nothing
	s.settled(a)
	_, used := take(b, 0)
	require.Equal(t, 100, used)
	a.Correct("ci", at, 250)
	a.Correct("ci", at, -9999) // no more than was taken
	s.settled(a)
	_, used = take(b, 0)
	require.Equal(t, 250, used)
}

// Requests under way are counted together; those of a gateway that dies count
// until its lease is over.
func TestRequestsUnderWayAreCountedTogether(t *testing.T) {
	s := newServer(t)
	a := s.connect(patient).Counters()
	doomed := s.connect(patient)
	b := doomed.Counters()
	enter := func(c *redis.Counters) int {
		busy, wait, err := c.Enter("ci", 3, 0)
		require.NoError(t, err)
		require.Zero(t, wait)
		return busy
	}
	require.Zero(t, enter(a))
	require.Zero(t, enter(b))
	require.Zero(t, enter(b))
	require.Equal(t, 3, enter(a))
	require.Equal(t, 3, enter(b))
	a.Leave("ci")
	s.settled(a)
	require.Zero(t, enter(b))
	require.Equal(t, 3, enter(a))
	time.Sleep(1500 * time.Millisecond) // what goes on for longer than a lease
	require.Equal(t, 3, enter(a))

	// Its words do not arrive any more.
	s.do("client", "kill", "type", "normal", "skipme", "yes")
	require.NoError(t, doomed.Close())
	s.eventually("they are forgotten", func() bool {
		busy, _, err := a.Enter("ci", 3, 0)
		return err == nil && busy == 0
	})
}

func TestManyAtOnceOfOneClient(t *testing.T) {
	s := newServer(t)
	gateways := []*redis.Counters{s.connect(patient).Counters(), s.connect(patient).Counters()}
	var mu sync.Mutex
	now, most, in := 0, 0, 0
	var wg sync.WaitGroup
	for i := range 20 {
		g := gateways[i%2]
		wg.Go(func() {
			for range 20 {
				busy, _, err := g.Enter("ci", 5, 0)
				require.NoError(t, err)
				if busy > 0 {
					continue
				}
				mu.Lock()
				in++
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				now--
				mu.Unlock()
				g.Leave("ci")
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most, 5)
	require.Greater(t, in, 20)
}

// However many ask at once, the server is asked again when it has answered, for all
// of them.
func TestThoseWhoAskAtOnceAreAskedForTogether(t *testing.T) {
	s := newServer(t)
	g := s.connect(patient).Counters()
	_, _, err := g.Enter("ci", 100, 60)
	require.NoError(t, err)
	asked := func() int {
		var n int
		for line := range strings.Lines(s.client.Info(t.Context(), "commandstats").Val()) {
			_, _ = fmt.Sscanf(line, "cmdstat_evalsha:calls=%d,", &n)
		}
		return n
	}
	before := asked()
	s.stall()
	var wg sync.WaitGroup
	var in, busy, full atomic.Int64
	for range 200 {
		wg.Go(func() {
			b, wait, err := g.Enter("ci", 100, 60)
			switch {
			case err != nil:
				t.Error(err)
			case b > 0:
				busy.Add(1)
			case wait > 0:
				full.Add(1)
			default:
				in.Add(1)
			}
		})
	}
	time.Sleep(200 * time.Millisecond) // all are in line, or will be
	s.resume()
	wg.Wait()
	require.EqualValues(t, 59, in.Load(), "one had entered")
	require.EqualValues(t, 141, full.Load()+busy.Load())
	require.Less(t, asked()-before, 50, "background's own included")
}

// A hook of the caller's client that panics keeps nobody else waiting.
func TestAPanicKeepsNobodyInLine(t *testing.T) {
	s := newServer(t)
	client := goredis.NewClient(&goredis.Options{Addr: s.address, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer client.Close()
	var armed atomic.Bool
	client.AddHook(panicking{&armed})
	n, err := redis.New(redis.Config{Client: client, Timeout: patience})
	require.NoError(t, err)
	defer n.Close()
	g := n.Counters()
	_, _, err = g.Enter("ci", 100, 0)
	require.NoError(t, err)
	armed.Store(true)
	var wg sync.WaitGroup
	var panics atomic.Int64
	for range 5 {
		wg.Go(func() {
			defer func() {
				if recover() != nil {
					panics.Add(1)
				}
			}()
			_, _, _ = g.Enter("ci", 100, 0)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, panics.Load())
	_, _, err = g.Enter("ci", 100, 0)
	require.NoError(t, err)
}

// panicking is a hook that panics at the next script for a request.
type panicking struct{ armed *atomic.Bool }

func (panicking) DialHook(next goredis.DialHook) goredis.DialHook { return next }
func (p panicking) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if strings.Contains(fmt.Sprint(cmd.Args()...), ":underway:") && strings.Contains(fmt.Sprint(cmd.Args()...), ":anew") &&
			strings.Contains(fmt.Sprint(cmd.Args()...), ":requests:") && p.armed.Swap(false) {
			panic("of a hook")
		}
		return next(ctx, cmd)
	}
}
func (panicking) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// What gateways let in by themselves counts when the server hears of it.
func TestWhatWasLetInAloneCounts(t *testing.T) {
	s := newServer(t)
	g := s.connect().Counters()
	s.eventually("it is there", func() bool { _, _, _, err := g.Take("ci", 0, 1000); return err == nil })
	s.stall()
	s.eventually("it is not", func() bool { return !g.Connected() })
	g.Late("ci", 7, 300)
	g.Late("ci", 1, 0)
	g.Late("other", 0, 1)
	s.resume()
	s.eventually("it is back", g.Connected)
	_, wait, err := g.Enter("ci", 0, 9)
	require.NoError(t, err)
	require.Zero(t, wait)
	_, wait, err = g.Enter("ci", 0, 9)
	require.NoError(t, err)
	require.Positive(t, wait, "eight and one")
	_, used, _, err := g.Take("ci", 1, 1000)
	require.NoError(t, err)
	require.Equal(t, 301, used)
	s.settled(g)
}

// A server that has lost all lets nobody have more than an equal share, until each
// gateway has told what it has under way.
func TestRequestsUnderWayAtAServerThatForgets(t *testing.T) {
	s := newServer(t)
	slow := func(c *redis.Config) { c.Timeout, c.Lease = patience, 20*time.Second }
	a, b := s.connect(slow).Counters(), s.connect(slow).Counters()
	enter := func(c *redis.Counters, n int) (in int) {
		for range n {
			busy, _, err := c.Enter("ci", 10, 0)
			require.NoError(t, err)
			if busy == 0 {
				in++
			}
		}
		return in
	}
	s.eventually("they know each other", func() bool { return a.Replicas() == 2 && b.Replicas() == 2 })
	require.Equal(t, 3, enter(b, 3))
	s.do("flushall")
	require.Equal(t, 5, enter(a, 20), "half of 10, of which the other is to have the other half")
	s.eventually("both have told", func() bool { return s.client.ZCard(t.Context(), "{seawall}:gateways").Val() == 2 })
	s.eventually("it is as before", func() bool { return enter(a, 1) == 1 })
	require.Equal(t, 1, enter(a, 5))
}

// A gateway that ends has told the server all that it has spent.
func TestCloseTellsAllThatWasSpent(t *testing.T) {
	s := newServer(t)
	n := s.connect(func(c *redis.Config) { c.Lease = time.Minute })
	g := n.Counters()
	g.Spend("2026-11", "ci", 1)
	s.settled(g)
	s.stall()
	g.Spend("2026-11", "ci", 5)
	s.eventually("it is away", func() bool { return !g.Connected() })
	g.Spend("2026-11", "ci", 1000)
	g.Spend("2026-12", "ci", 7)
	s.resume()
	require.NoError(t, n.Close())
	require.Equal(t, "1006", s.client.HGet(t.Context(), "{seawall}:spent:2026-11", "ci").Val())
	require.Equal(t, "7", s.client.HGet(t.Context(), "{seawall}:spent:2026-12", "ci").Val())
}

// Money is added once, whatever happens on the way, and survives a server that
// forgets.
func TestSpendingIsAddedOnce(t *testing.T) {
	s := newServer(t)
	a, b := s.connect(patient).Counters(), s.connect(patient).Counters()
	const month = "2026-11"
	both := func(want int64) {
		t.Helper()
		for _, c := range []*redis.Counters{a, b} {
			c.Seed(month, "ci", 0) // of interest to both
			s.eventually("both know of "+strconv.FormatInt(want, 10), func() bool { return spent(c, month) == want && c.Settled() })
		}
	}
	a.Spend(month, "ci", 5)
	b.Spend(month, "ci", 7)
	a.Spend("2026-10", "ci", 1000)
	both(12)
	for i := range 200 {
		if i%50 == 10 {
			s.do("client", "kill", "type", "normal", "skipme", "yes") // the answer may be lost on the way
		}
		a.Spend(month, "ci", 1)
		b.Spend(month, "ci", 1_000_000_000)
	}
	both(12 + 200 + 200_000_000_000)

	s.kill()
	a.Spend(month, "ci", 3)
	b.Spend(month, "ci", 4)
	s.eventually("it is noticed", func() bool { return !a.Connected() && !b.Connected() })
	known, most := a.Spent(month, "ci")
	require.Equal(t, int64(12+200+200_000_000_000+3), known)
	require.Equal(t, known+3, most, "the other is believed to do the same")
	s.start()
	both(12 + 200 + 200_000_000_000 + 7)

	late := s.connect(patient).Counters()
	require.Equal(t, int64(200_000_000_219), spent(late, month), "a late one knows at once")
	late.Seed(month, "ci", 1)
	require.Equal(t, int64(200_000_000_219), spent(late, month))
	s.eventually("there are three", func() bool { return late.Replicas() == 3 })
}

func spent(c *redis.Counters, month string) int64 {
	known, _ := c.Spent(month, "ci")
	return known
}

// A server that does not answer delays the first requests only, by the timeout.
func TestCountersWithoutAServer(t *testing.T) {
	s := newServer(t)
	g := s.connect().Counters()
	visit := func(concurrency, requests int) bool { // what is let in for want of an answer counts as well
		busy, wait, err := g.Enter("ci", concurrency, requests)
		if err != nil || busy == 0 && wait == 0 {
			g.Leave("ci")
		}
		return err == nil && busy == 0
	}
	s.eventually("it is there", func() bool { return visit(10, 100) })
	s.stall()
	began := time.Now()
	_, _, err := g.Enter("ci", 10, 100)
	require.Error(t, err)
	for range 1000 {
		_, _, err = g.Enter("ci", 10, 100)
		require.Error(t, err)
		_, _, _, err = g.Take("ci", 10, 100)
		require.Error(t, err)
	}
	require.Less(t, time.Since(began), 2*time.Second)
	for range 1001 {
		g.Leave("ci")
	}
	s.resume()
	s.eventually("it is back, and knows", func() bool { return visit(1, 0) })
}

// Whatever is there in the place of what was counted, requests go on.
func TestCountersWithOtherPeoplesData(t *testing.T) {
	s := newServer(t)
	for _, spoil := range [][]any{
		{"hset", "{seawall}:underway:ci", "x", "junk", "y", "-1 5 5", "z", "9999999999999999 9999999999999999 1"},
		{"set", "{seawall}:underway:ci", "junk"},
		{"set", "{seawall}:requests:ci:times", "junk"},
		{"zadd", "{seawall}:requests:ci:times", "1", "junk"},
		{"zadd", "{seawall}:requests:ci:times", "9e15", "junk"},
		{"hset", "{seawall}:requests:ci:amounts", "total", "junk"},
		{"hset", "{seawall}:requests:ci:amounts", "total", "-99999999999999999999"},
		{"hset", "{seawall}:spent:2026-11", "ci", "junk"},
		{"set", "{seawall}:gateways", "junk"},
	} {
		s.do("flushall")
		n := s.connect(patient)
		g := n.Counters()
		_, _, err := g.Enter("ci", 10, 100)
		require.NoError(t, err)
		s.do("del", spoil[1])
		s.do(spoil...)
		g.Spend("2026-11", "ci", 5)
		for range 5 {
			_, wait, _ := g.Enter("ci", 10, 100)
			require.LessOrEqual(t, wait, 2*time.Minute)
		}
		require.GreaterOrEqual(t, spent(g, "2026-11"), int64(5))
		require.NoError(t, n.Close())
	}
}
