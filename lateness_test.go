package deepseek

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// spread is a time to first data such as a server has it, about 1 s.
func scattered(r *rand.Rand) time.Duration {
	return time.Duration(float64(time.Second) * (0.5 + r.ExpFloat64()/2))
}

func TestLatenessLearnsThePercentile(t *testing.T) {
	for _, q := range []float64{0.5, 0.9, 0.95, 0.99} {
		r := rand.New(rand.NewPCG(1, 2))
		all := make([]time.Duration, 100_000)
		for i := range all {
			all[i] = scattered(r)
		}
		slices.Sort(all)
		want := all[int(q*float64(len(all)))]

		var p lateness
		beyond, n := 0, 0
		for i := range 20_000 {
			d := scattered(r)
			if late := time.Duration(p.late.Load()); i > 5000 {
				n++
				if d > late {
					beyond++
				}
			}
			p.add(d, q, 100)
		}
		share := float64(beyond) / float64(n)
		t.Logf("%g: %s, true %s; %.4f of all were later", q, time.Duration(p.late.Load()), want, share)
		require.InEpsilon(t, 1-q, share, 0.25)
		require.LessOrEqual(t, share, 1.05*(1-q))
	}
}

func TestLatenessNeedsSamples(t *testing.T) {
	var p lateness
	for range 99 {
		p.add(time.Second, 0.95, 100)
		require.Zero(t, p.late.Load())
	}
	p.add(time.Second, 0.95, 100)
	require.NotZero(t, p.late.Load())
}

// One and the same time is never late, wherever its step ends.
func TestLatenessOfEqualTimesIsNotLate(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Millisecond, 1234567, 100 * time.Millisecond, time.Second, time.Minute, 17 * time.Minute} {
		var p lateness
		for range 100 {
			p.add(d, 0.95, 100)
		}
		late := time.Duration(p.late.Load())
		require.Greater(t, late, d)
		require.LessOrEqual(t, late, max(d*110/100, 2*time.Millisecond), "by a step at most")
	}
	var p lateness
	p.add(1<<62, 0.95, 1) // beyond the last step
	require.NotZero(t, p.late.Load())
}

// A server that becomes three times slower, and later as quick as before.
func TestLatenessFollowsAChangeOfSpeed(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var p lateness
	steady := func(n int, factor float64) {
		for range n {
			p.add(time.Duration(factor*float64(scattered(r))), 0.95, 100)
		}
	}
	late := func() float64 { return time.Duration(p.late.Load()).Seconds() }
	steady(2000, 1)
	before := late()
	require.InEpsilon(t, 2.0, before, 0.2)
	steady(100, 3)
	require.Greater(t, late(), 2*before, "after 100 answers")
	steady(500, 3)
	require.InEpsilon(t, 3*before, late(), 0.25, "after 600")
	steady(800, 1)
	require.InEpsilon(t, before, late(), 0.25, "and back")
}

func TestLatenessWeighsForever(t *testing.T) {
	var p lateness
	for range 200_000 { // so many that the weights have to be brought down again and again
		p.add(time.Second, 0.5, 1)
	}
	require.LessOrEqual(t, p.weight, 1e9)
	require.InDelta(t, 1, time.Duration(p.late.Load()).Seconds(), 0.09)
}
