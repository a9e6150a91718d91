package deepseek

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// oneSlot is a pool's only slot, and calls to take and give its places with.
func oneSlot(t *testing.T, max int) (*slot, func() *permit, *call) {
	p, err := NewPool(nil, Account{Keys: []string{"k"}, MaxConcurrency: max})
	require.NoError(t, err)
	m := p.model("deepseek-flash")
	c := &call{Context: t.Context()}
	return m.bench.Load().slots[0], func() *permit {
		p, err := m.acquire(c, 0, nil)
		if err != nil {
			return nil
		}
		return p
	}, c
}

func (s *slot) setLimit(n int) {
	s.limit.Store(int64(n))
	s.ramp = 0
}

func TestLearnedLimitFallsOncePerGeneration(t *testing.T) {
	s, take, c := oneSlot(t, 0)
	s.setLimit(10)
	var out []*permit
	for p := take(); p != nil; p = take() {
		out = append(out, p)
	}
	require.Len(t, out, 10)
	for _, p := range out {
		p.finish(c, verdict{outcome: throttled})
	}
	_, limit := s.load()
	require.Equal(t, 9, limit, "ten 429s of one generation are one")
}

func TestLearnedLimitFallsToOneBelowTheTextsNumber(t *testing.T) {
	for told, want := range map[int]int{25: 24, 2: 1, 1: 1} {
		s, take, c := oneSlot(t, 0)
		p := take()
		p.told = int32(told)
		p.finish(c, verdict{outcome: throttled})
		_, limit := s.load()
		require.Equal(t, want, limit)
	}
	s, take, c := oneSlot(t, 8)
	p := take()
	p.told = 25
	p.finish(c, verdict{outcome: throttled})
	_, limit := s.load()
	require.Equal(t, 8, limit, "a number above the limit does not raise it")
}

func TestLearnedLimitNeverBelowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, take, c := oneSlot(t, 0)
		s.setLimit(20)
		for range 50 {
			p := take()
			require.NotNil(t, p)
			p.finish(c, verdict{outcome: throttled})
			time.Sleep(time.Minute)
		}
		_, limit := s.load()
		require.Equal(t, 1, limit)
	})
}

func TestLearnedLimitGrowsByOneForALimitsWorthWhileItIsTheBottleneck(t *testing.T) {
	s, take, c := oneSlot(t, 0)
	s.setLimit(4)
	idle := func(n int) { // one at a time: there is room to spare
		for range n {
			take().finish(c, verdict{outcome: answered})
		}
	}
	idle(100)
	_, limit := s.load()
	require.Equal(t, 4, limit, "no drift while idle")
	var out []*permit
	for range 4 {
		out = append(out, take())
	}
	require.Nil(t, take(), "somebody is turned away")
	for i := range 4 { // full each time one ends
		out[0].finish(c, verdict{outcome: answered})
		out = append(out[1:], take())
		_, limit = s.load()
		require.Equal(t, map[bool]int{true: 5, false: 4}[i == 3], limit, "after %d", i+1)
	}
}

func TestLearnedLimitStopsAtTheConfiguredOne(t *testing.T) {
	s, take, c := oneSlot(t, 2)
	out := []*permit{take(), take()}
	require.Nil(t, take())
	for range 100 {
		out[0].finish(c, verdict{outcome: answered})
		out = append(out[1:], take())
	}
	_, limit := s.load()
	require.Equal(t, 2, limit)
}

func TestLearnedLimitIgnoresCancelledCallsAndFaults(t *testing.T) {
	s, take, c := oneSlot(t, 0)
	s.setLimit(4)
	for _, o := range []outcome{cancelled, fault, rejected, unsendable} {
		for range 20 {
			out := []*permit{take(), take(), take(), take()}
			for _, p := range out {
				p.finish(c, verdict{outcome: o})
			}
		}
		inFlight, limit := s.load()
		require.Equal(t, 4, limit, o.String())
		require.Zero(t, inFlight)
	}
}

// How long answers take says nothing of the load: their lengths differ by a
// hundred times. Only a 429 lowers the limit.
func TestLearnedLimitIgnoresHowLongAnswersTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, take, c := oneSlot(t, 0)
		s.setLimit(4)
		for _, d := range []time.Duration{time.Second, 10 * time.Minute, time.Second, time.Hour} {
			for range 20 {
				out := []*permit{take(), take()} // of four: not the bottleneck
				time.Sleep(d)
				for _, p := range out {
					p.finish(c, verdict{outcome: answered})
				}
			}
			_, limit := s.load()
			require.Equal(t, 4, limit, "answers that take %s", d)
		}
	})
}

// A limit that is confirmed again and again is tried more and more rarely.
func TestLearnedLimitIsPatientWhereItWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const real = 6
		s, take, c := oneSlot(t, 0)
		s.setLimit(real)
		var out []*permit
		successes, refused := 0, []int{}
		for successes < 2000 {
			for p := take(); p != nil; p = take() {
				if len(out) >= real {
					p.told = real
					p.finish(c, verdict{outcome: throttled})
					refused = append(refused, successes)
					continue
				}
				out = append(out, p)
			}
			out[0].finish(c, verdict{outcome: answered})
			out = out[1:]
			successes++
			time.Sleep(time.Second)
		}
		first, last := refused[1]-refused[0], refused[len(refused)-1]-refused[len(refused)-2]
		require.Less(t, first, 3*real)
		require.Greater(t, last, tryEvery)
		require.Less(t, float64(len(refused))/float64(successes), 0.03)
	})
}

func TestUnknownLimitIsApproachedInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, take, _ := oneSlot(t, 0)
		count := func() (n int) {
			for take() != nil {
				n++
			}
			return n
		}
		require.Equal(t, rampStart, count())
		total := rampStart
		for range 8 {
			time.Sleep(rampEvery)
			total += count()
		}
		require.Equal(t, 2500, total, "all of the published limit within seconds")
	})
}

// Refused although there is room by our own count: others use the account too.
func TestSharedAccountIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, take, c := oneSlot(t, 0)
		sent := 0
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if p := take(); p != nil {
				sent++
				p.finish(c, verdict{outcome: throttled})
			}
		}
		require.Less(t, sent, 12+strikeAfter)
		take2 := func() *permit { time.Sleep(strikeMost); return take() }
		take2().finish(c, verdict{outcome: answered})
		require.Zero(t, s.strikes, "a success ends it")
	})
}

func TestToldLimit(t *testing.T) {
	for text, want := range map[string]int{
		`{"error":{"message":"Too many requests. Your current concurrency is 26, which exceeds your concurrency limit of 25 based on your remaining balance."}}`: 25,
		"concurrency limit of 1":     1,
		"concurrency limit of 2500.": 2500,
		"concurrency limit of many":  0,
		"concurrency limit of 0":     0,
		"concurrency limit of -5":    0,
		"Rate limit reached":         0,
		"":                           0,
		"concurrency limit of ":      0,
		"concurrency limit of " + strings.Repeat("9", 100): 999999999,
	} {
		got, ok := toldLimit([]byte(text))
		require.Equal(t, want, got, text)
		require.Equal(t, want > 0, ok)
	}
}

func FuzzToldLimit(f *testing.F) {
	f.Add([]byte("which exceeds your concurrency limit of 25 based on"))
	f.Fuzz(func(t *testing.T, body []byte) {
		n, ok := toldLimit(body)
		if ok != (n > 0) || n < 0 {
			t.Fatal(n, ok)
		}
	})
}

func TestReadySet(t *testing.T) {
	for _, n := range []int{1, 63, 64, 65, 200, 10_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newReadySet(n)
			require.Equal(t, -1, r.next(0))
			for _, i := range []int{0, n / 2, n - 1} {
				r.set(i)
				for from := 0; from < n; from += max(1, n/7) {
					require.Equal(t, i, r.next(from))
				}
				r.clear(i)
			}
			r.set(0)
			r.set(n - 1)
			require.Equal(t, n-1, r.next(n-1))
			require.Equal(t, 0, r.next(0))
		})
	}
	empty := newReadySet(0)
	require.Equal(t, -1, empty.next(0))
}
