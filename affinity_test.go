package deepseek

import (
	"fmt"
	"testing"

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
	return &call{Context: t.Context(), conversation: mix(n) | 1}
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
		p := first.take(conversing(t, 99), 0, held[0].takenAt)
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
	m := poolOf(t, nil, 4, 20)
	perAccount := map[*slot]int{}
	for range 60 {
		p, err := m.acquire(conversing(t, 1), 0, nil)
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
