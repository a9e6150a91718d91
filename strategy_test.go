package deepseek

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// answersOf has the pool take a call to its end, at once.
func answersOf(t *testing.T, m *modelPool, c *call) *slot {
	t.Helper()
	p, err := m.acquire(c, 0, nil)
	require.NoError(t, err)
	p.finish(c, verdict{outcome: answered})
	return p.slot
}

func TestStrategyOfTheCallersOwn(t *testing.T) {
	var seen [][]Candidate
	p, err := NewPool(StrategyFunc(func(cs []Candidate) int {
		seen = append(seen, append([]Candidate(nil), cs...))
		for i, c := range cs {
			if c.Account() == "b" {
				return i
			}
		}
		return 99 // stands for the first
	}), Account{Name: "a", Keys: []string{"1"}, MaxConcurrency: 4, Weight: 3}, account1("b", "2"), account1("c", "3"))
	require.NoError(t, err)
	m := p.model(ModelFlash)
	c := &call{Context: t.Context()}
	for range 4 {
		require.Equal(t, "b", answersOf(t, m, c).account.name)
	}
	require.Len(t, seen, 4)
	for _, cs := range seen {
		require.Len(t, cs, 3)
	}
	require.NotEqual(t, seen[0][0].Account(), seen[1][0].Account(), "the order goes on from call to call")
	for _, cand := range seen[0] {
		if cand.Account() == "a" {
			require.Equal(t, 4, cand.Limit())
			require.Equal(t, 3, cand.Weight())
			require.Zero(t, cand.InFlight())
			require.Zero(t, cand.Load())
			require.Zero(t, cand.Delay())
			require.False(t, cand.Home())
		}
	}
	require.NoError(t, p.Disable("b"))
	require.NotEqual(t, "b", answersOf(t, m, c).account.name, "what is put aside is no candidate")
}

func TestRoundRobinTakesTurns(t *testing.T) {
	p, err := NewPool(RoundRobin{}, account1("a", "1"), account1("b", "2"), account1("c", "3"))
	require.NoError(t, err)
	m := p.model(ModelFlash)
	c := &call{Context: t.Context(), conversation: conversationBy(7, false)}
	got := map[string]int{}
	for range 30 {
		got[answersOf(t, m, c).account.name]++
	}
	require.Equal(t, map[string]int{"a": 10, "b": 10, "c": 10}, got)
}

// An account that takes ten times as long for an answer gets only what the
// others have no room for; and is looked at again now and then.
func TestLeastLoadedLeavesASlowAccountTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accounts := []Account{
			{Name: "slow", Keys: []string{"1"}, MaxConcurrency: 10}, {Name: "b", Keys: []string{"2"}, MaxConcurrency: 10}, {Name: "c", Keys: []string{"3"}, MaxConcurrency: 10},
		}
		p, err := NewPool(LeastLoaded{}, accounts...)
		require.NoError(t, err)
		m := p.model(ModelFlash)
		c := &call{Context: t.Context(), stream: true}
		for _, s := range m.bench.Load().slots {
			took := time.Second
			if s.account.name == "slow" {
				took *= 10
			}
			s.speed.answered(took, took, 0, clock())
			m.pace.answered(s.speed.delay())
		}
		used := map[string]int{}
		var permits []*permit
		for len(permits) < 30 {
			permit, err := m.acquire(c, 0, nil)
			if len(permits) == 20 && err != nil {
				require.ErrorIs(t, err, ErrQueueFull, "the others will be free long before it has answered")
				require.Zero(t, used["slow"], "%v", used)
				for i := range uint64(1000) { // unless many wait for them
					m.lane.join(newWaiter(i+1), 0, false)
				}
				m.lane.trying = true
				c.baton = &m.lane
				continue
			}
			require.NoError(t, err)
			c.baton = &m.lane
			permits = append(permits, permit)
			used[permit.slot.account.name]++
		}
		require.Equal(t, map[string]int{"slow": 10, "b": 10, "c": 10}, used)
		for _, permit := range permits {
			permit.finish(c, verdict{outcome: rejected})
		}
		time.Sleep(tryAgainEvery)
		tries := 0
		for range 10 {
			c.baton = &m.lane
			permit, err := m.acquire(c, 0, nil)
			require.NoError(t, err)
			if permit.slot.account.name == "slow" {
				tries++
			}
		}
		require.Equal(t, 1, tries, "one call finds out whether it is still slow")
	})
}

// An account that fails at once has few calls in flight, and must not get more
// of them for that.
func TestLeastLoadedIsNotDrawnToWhatFailsQuickly(t *testing.T) {
	p, err := NewPool(LeastLoaded{}, account1("bad", "1"), account1("b", "2"), account1("c", "3"))
	require.NoError(t, err)
	m := p.model(ModelFlash)
	c := &call{Context: t.Context()}
	bad := 0
	var out []*permit
	for range 400 {
		permit, err := m.acquire(c, 0, nil)
		require.NoError(t, err)
		if permit.slot.account.name == "bad" {
			bad++
			permit.finish(c, verdict{outcome: fault})
			continue
		}
		out = append(out, permit)
		if len(out) > 50 {
			out[0].finish(c, verdict{outcome: answered})
			out = out[1:]
		}
	}
	require.LessOrEqual(t, bad, 2*failsAfter)
}

func TestSpeedCountsSuccessOnlyAndLengthsOfAnswers(t *testing.T) {
	var s speed
	now := clock()
	require.Zero(t, s.delay())
	s.failed(now)
	require.Zero(t, s.delay(), "a failure, however quick, says nothing of speed")
	for range 20 {
		s.answered(time.Second, 11*time.Second, 1000, now)
	}
	require.Equal(t, time.Second+ordinaryAnswer*10*time.Millisecond, s.delay())
	for range 40 { // no stream: the time to the first data is not known, and assumed as it was
		s.answered(0, 3*time.Second, 100, now)
	}
	require.InDelta(t, float64(time.Second+ordinaryAnswer*20*time.Millisecond), float64(s.delay()), float64(100*time.Millisecond))
	require.False(t, s.failing())
	for range 10 {
		s.failed(now)
	}
	require.True(t, s.failing())
	for range 10 {
		s.answered(0, time.Second, 1, now)
	}
	require.False(t, s.failing())
}
