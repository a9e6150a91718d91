package gateway

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Against a plain list of all that was ever used: never more than the limit in
// any minute, and who waits as long as was told fits then and not before.
func TestWindowIsExact(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		limit := 1 + rng.IntN(200)
		var w window
		type use struct {
			at     time.Time
			amount int
		}
		var all []use
		// within is the sum of a minute's, up to now; slack is how much longer than
		// a minute is looked back.
		within := func(now time.Time, slack time.Duration) (sum int) {
			for _, u := range all {
				if now.Sub(u.at) < time.Minute+slack {
					sum += u.amount
				}
			}
			return sum
		}
		now := time.Unix(1e9, 0)
		for range 400 {
			now = now.Add(time.Duration(rng.Int64N(int64(3 * time.Second))))
			amount := 1 + rng.IntN(limit)
			wait := w.wait(now, amount, limit)
			if wait == 0 {
				require.LessOrEqual(t, within(now, 0)+amount, limit)
				w.add(now, amount)
				all = append(all, use{now, amount})
				continue
			}
			require.Greater(t, within(now, time.Millisecond)+amount, limit, "made to wait for nothing")
			require.LessOrEqual(t, wait, time.Minute+time.Millisecond)
			then := now.Add(wait)
			require.LessOrEqual(t, within(then, 0)+amount, limit, "at the time told")
			require.Greater(t, within(then.Add(-time.Millisecond), time.Millisecond)+amount, limit, "just before it")
			at := w
			at.entries = append([]entry(nil), w.entries...)
			require.Zero(t, at.wait(then, amount, limit))
		}
	}
}

func TestWindow(t *testing.T) {
	start := time.Unix(1e9, 0)
	after := func(d time.Duration) time.Time { return start.Add(d) }
	var w window
	require.Zero(t, w.wait(start, 500, 100), "more than fits ever, alone")
	w.add(start, 500)
	require.Equal(t, time.Minute, w.wait(start, 500, 100))
	require.Equal(t, 59*time.Second, w.wait(after(time.Second), 1, 100))
	require.Zero(t, w.wait(after(time.Minute), 1, 100))

	first := w.add(after(time.Minute), 60)
	second := w.add(after(61*time.Second), 40)
	require.Equal(t, 58*time.Second, w.wait(after(62*time.Second), 1, 100))
	w.giveBack(after(62*time.Second), first, 60)
	require.Zero(t, w.wait(after(62*time.Second), 60, 100))
	require.Positive(t, w.wait(after(62*time.Second), 61, 100))
	w.giveBack(after(10*time.Minute), second, 40)
	require.Zero(t, w.total)
}

// What was used before the clock was set back is a minute old a minute later.
func TestWindowOfAClockThatIsSetBack(t *testing.T) {
	var w window
	now := time.Unix(1e9, 0)
	w.add(now.Add(time.Hour-30*time.Second), 40)
	w.add(now.Add(time.Hour), 60)
	require.Equal(t, 30*time.Second, w.wait(now, 40, 100))
	require.Zero(t, w.wait(now.Add(30*time.Second), 40, 100))
	w.add(now.Add(30*time.Second), 40)
	require.Equal(t, 30*time.Second, w.wait(now.Add(30*time.Second), 60, 100))
	require.Equal(t, 30*time.Second, w.wait(now.Add(time.Minute), 61, 100))
	require.Zero(t, w.wait(now.Add(90*time.Second), 100, 100))

	// Who looked at the clock a little before changes nothing.
	w.add(now.Add(90*time.Second), 100)
	require.Equal(t, 62*time.Second, w.wait(now.Add(88*time.Second), 1, 100))
	require.Equal(t, time.Minute, w.wait(now.Add(90*time.Second), 1, 100))
}

// However many calls there are, what is remembered is bounded.
func TestWindowIsBounded(t *testing.T) {
	var w window
	now := time.Unix(1e9, 0)
	for range 500_000 {
		now = now.Add(200 * time.Microsecond)
		w.advance(now)
		w.add(now, 1)
	}
	require.LessOrEqual(t, w.n, 60_001)
	require.InDelta(t, 300_000, w.total, 10)
	w.advance(now.Add(2 * time.Minute))
	require.Nil(t, w.entries)
}
