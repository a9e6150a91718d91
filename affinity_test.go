package deepseek

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func poolOf(t testing.TB, s Strategy, n, limit int) *modelPool {
	accounts := make([]Account, n)
	for i := range accounts {
		accounts[i] = Account{Name: fmt.Sprint("account ", i), Keys: []string{fmt.Sprint("key", i)}, MaxConcurrency: limit}
	}
	p, err := NewPool(s, accounts...)
	require.NoError(t, err)
	return p.model(ModelFlash)
}

func conversing(t testing.TB, n uint64) *call {
	return &call{Context: t.Context(), conversation: conversationBy(mix(n), false)}
}

func TestAffinityKeepsAConversationOnItsAccount(t *testing.T) {
	m := poolOf(t, nil, 5, 100)
	used := map[*slot]int{}
	for n := range uint64(200) {
		first := answersOf(t, m, conversing(t, n))
		used[first]++
		for range 5 {
			require.Same(t, first, answersOf(t, m, conversing(t, n)))
		}
	}
	for s, n := range used {
		require.InDelta(t, 40, n, 25, "conversations of %s", s.account.name)
	}
}

// Another process, with the same accounts in another order, comes to the same
// accounts; and one with an account more to another only for its share.
func TestAffinityIsTheSameInEveryProcess(t *testing.T) {
	for _, n := range []int{5, 100} {
		a, b := make([]Account, n), make([]Account, n+1)
		for i := range a {
			a[i] = account1(fmt.Sprint("account ", i), fmt.Sprint("key", i))
			b[n-1-i] = a[i]
		}
		b[n] = account1("more", "key-of-more")
		p, err := NewPool(nil, a...)
		require.NoError(t, err)
		q, err := NewPool(nil, b[:n]...)
		require.NoError(t, err)
		r, err := NewPool(nil, b...)
		require.NoError(t, err)
		moved := 0
		for i := range uint64(1000) {
			here := answersOf(t, p.model(ModelFlash), conversing(t, i)).account.name
			require.Equal(t, here, answersOf(t, q.model(ModelFlash), conversing(t, i)).account.name)
			if answersOf(t, r.model(ModelFlash), conversing(t, i)).account.name != here {
				moved++
			}
		}
		require.LessOrEqual(t, moved, 3*1000/(n+1), "of 1000 conversations, with one account more than %d", n)
	}
}

func TestAffinityMovesOffAFullAccountAndStays(t *testing.T) {
	m := poolOf(t, nil, 3, 2)
	first := answersOf(t, m, conversing(t, 1))
	var held []*permit
	for range 2 {
		p, err := m.acquire(conversing(t, 1), 0, nil)
		require.NoError(t, err)
		if p.slot == first {
			held = append(held, p)
			continue
		}
		p.finish(conversing(t, 1), verdict{outcome: rejected})
	}
	require.NotEmpty(t, held)
	for first.inFlight.Load() < 2 { // fill it
		p := first.take(conversing(t, 99), 0, time.Now())
		held = append(held, p)
	}
	second := answersOf(t, m, conversing(t, 1))
	require.NotSame(t, first, second)
	for _, p := range held {
		p.finish(conversing(t, 1), verdict{outcome: answered})
	}
	require.Same(t, second, answersOf(t, m, conversing(t, 1)), "its cache is there now")
	require.NoError(t, m.pool.Remove(second.account.name))
	require.Same(t, first, answersOf(t, m, conversing(t, 1)), "or else where it began")
}

// One beginning that all share: its account is not filled up while the others
// have nothing to do.
func TestAffinityDoesNotDrownAnAccount(t *testing.T) {
	spreads(t, poolOf(t, nil, 4, 20), conversing)
}

// spreads demands that calls which begin alike fill four accounts of 20 evenly.
func spreads(t *testing.T, m *modelPool, alike func(testing.TB, uint64) *call) {
	t.Helper()
	perAccount := map[*slot]int{}
	for range 60 {
		p, err := m.acquire(alike(t, 1), 0, nil)
		require.NoError(t, err)
		perAccount[p.slot]++
	}
	require.Len(t, perAccount, 4)
	for s, n := range perAccount {
		require.LessOrEqual(t, n, 18, s.account.name)
	}
}

func TestAffinityElseIsForTheRest(t *testing.T) {
	m := poolOf(t, Affinity{Else: RoundRobin{}}, 3, 10)
	got := map[*slot]int{}
	for range 30 {
		got[answersOf(t, m, &call{Context: t.Context()})]++
	}
	for _, n := range got {
		require.Equal(t, 10, n)
	}
	require.Same(t, answersOf(t, m, conversing(t, 1)), answersOf(t, m, conversing(t, 1)))
}

func TestAffinityWithTenThousandAccountsAndConversations(t *testing.T) {
	m := poolOf(t, nil, 10_000, 10)
	used := map[*slot]int{}
	for n := range uint64(10_000) {
		s := answersOf(t, m, conversing(t, n))
		used[s]++
		require.Same(t, s, answersOf(t, m, conversing(t, n)))
	}
	require.Greater(t, len(used), 5_000, "spread")
	c := conversing(t, 5)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { answersOf(t, m, c) }), 1.0)
}

func TestMovesForgetWhatIsOld(t *testing.T) {
	var m moves
	require.Nil(t, m.get(1))
	s := new(slot)
	for i := range uint64(4 * movesKept) {
		m.note(i, nil, s)
		if i%100 == 0 {
			m.get(0) // what is asked for stays
		}
	}
	require.Same(t, s, m.get(0))
	require.Same(t, s, m.get(4*movesKept-1))
	require.Nil(t, m.get(movesKept))
	n := 0
	for i := range m.shards {
		n += len(m.shards[i].young) + len(m.shards[i].old)
	}
	require.LessOrEqual(t, n, movesKept)
	m.note(0, s, s)
	require.Nil(t, m.get(0))
}

func BenchmarkAffinity(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n, " accounts"), func(b *testing.B) {
			b.ReportAllocs()
			m := poolOf(b, nil, n, 100)
			c := conversing(b, 5)
			for b.Loop() {
				p, err := m.acquire(c, 0, nil)
				if err != nil {
					b.Fatal(err)
				}
				p.finish(c, verdict{outcome: answered})
			}
		})
	}
}

// gone is a call of a conversation that has gone on for a turn, in a chain with a
// waiting room.
func gone(t testing.TB, n uint64) *call {
	c := conversing(t, n)
	c.conversation, c.canWait = conversationBy(c.conversation.key(), true), true
	return c
}

// filled takes all of s's places but some.
func filled(t testing.TB, s *slot, but int) (free func()) {
	var held []*permit
	for range int(s.limit.Load()) - but {
		held = append(held, s.take(conversing(t, 0), 0, time.Now()))
	}
	return func() {
		held[0].finish(conversing(t, 0), verdict{outcome: answered})
		held = held[1:]
	}
}

// learnPace teaches that ordinary answers take a second.
func learnPace(m *modelPool) {
	for _, s := range m.bench.Load().slots {
		for range 10 {
			s.speed.answered(0, time.Second, ordinaryAnswer, clock())
			m.pace.answered(s.speed.delay())
		}
	}
}

func TestConversationWaitsForItsAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := poolOf(t, nil, 3, 10)
		learnPace(m)
		of, home := ofOneAccount(t, m, 3)
		free := filled(t, home, 0)

		late := gone(t, of[0])
		_, err := m.acquire(late, 0, nil)
		wait, ok := err.(*noRoom)
		require.True(t, ok, "%v", err)
		require.Same(t, &home.lane, wait.lane)
		require.InDelta(t, time.Second/4, time.Until(wait.look), float64(time.Millisecond))
		require.Contains(t, wait.Error(), home.account.name)
		time.Sleep(time.Second / 4)
		p, err := m.acquire(late, 0, nil)
		require.NoError(t, err, "its patience is over")
		require.NotSame(t, home, p.slot)

		p, err = m.acquire(conversing(t, of[1]), 0, nil)
		require.NoError(t, err, "one that only begins loses nothing elsewhere")
		require.NotSame(t, home, p.slot)
		here := gone(t, of[2])
		here.canWait = false
		p, err = m.acquire(here, 0, nil)
		require.NoError(t, err, "without a waiting room")
		require.NotSame(t, home, p.slot)

		free()
		require.NotSame(t, home, answersOf(t, m, gone(t, of[0])), "it has moved")
	})
}

// ofOneAccount returns conversations that begin on the same account.
func ofOneAccount(t testing.TB, m *modelPool, want int) (of []uint64, home *slot) {
	for n := uint64(0); len(of) < want; n++ {
		b := m.bench.Load()
		if s := b.slots[b.begins().first(gone(t, n).conversation.key())]; home == nil || s == home {
			home = s
			of = append(of, n)
		}
	}
	return of, home
}

// It gets the place that becomes free; nobody waits whose turn would come too late.
func TestConversationsWaitingForTheirAccountAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := poolOf(t, nil, 3, 10)
		learnPace(m)
		of, home := ofOneAccount(t, m, 6)
		free := filled(t, home, 0)
		room, err := newWaitingRoom(Queue{})
		require.NoError(t, err)
		var mu sync.Mutex
		var at []*slot
		rt := layer(room.do)(layer(func(_ http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
			c.conversation = conversationBy(mix(of[len(req.URL.Path)-2]), true)
			p, err := m.acquire(c, 0, nil)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			at = append(at, p.slot)
			mu.Unlock()
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})(nil))
		var served []string
		for i := range 4 {
			name := strings.Repeat("x", i+1)
			go func() {
				if err := do(t.Context(), rt, name); err != nil {
					t.Error(err)
				}
				mu.Lock()
				served = append(served, name)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		require.Equal(t, 2, home.lane.length(), "ten answers a second: three turns come within a quarter, less what is asked for at once")
		require.Len(t, served, 2, "the others went elsewhere at once")
		require.NotContains(t, at, home)
		free()
		synctest.Wait()
		free()
		synctest.Wait()
		require.Equal(t, []string{"x", "xx"}, served[2:])
		require.Equal(t, []*slot{home, home}, at[2:])
		require.Zero(t, home.lane.length())
	})
}

// A beginning that many calls share is no conversation, however much follows it.
func TestSharedBeginningIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := poolOf(t, nil, 4, 20)
		learnPace(m)
		spreads(t, m, gone)
	})
}

// A conversation of its own stays, though its account has more to do than the others.
func TestConversationStaysOnABusyAccount(t *testing.T) {
	m := poolOf(t, nil, 4, 10)
	home := answersOf(t, m, gone(t, 1))
	filled(t, home, 1)
	require.NotSame(t, home, answersOf(t, m, conversing(t, 1)))
	m.moved.note(gone(t, 1).conversation.key(), home, home)
	require.Same(t, home, answersOf(t, m, gone(t, 1)))
	for i := range m.crowd {
		require.Zero(t, m.crowd[i].Load())
	}
}
