package deepseek_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// Every call is late, but only a share of them is hedged.
func TestHedgesAreAShareOfCalls(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		const burst, share = 5, 0.05
		x := prepareHedged(t, 3, stream).connect(deepseek.Hedging{MinSamples: 20, Burst: burst, MaxShare: share, MaxCost: 1})
		x.learned(20)
		late := 200 * time.Millisecond
		x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
			late += late / 50 // slower and slower, so that no learning helps
			re := slowly(late)
			return &re
		})
		for range 200 {
			_, err := x.call(t.Context(), "Hi")
			require.NoError(t, err)
		}
		n := x.tr.Stats().Hedges
		require.GreaterOrEqual(t, n, int64(burst+share*200-2))
		require.LessOrEqual(t, n, int64(burst+share*220))
	})
}

// In an outage nothing pays for hedges any more.
func TestHedgesEndWithTheAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newHedged(t, 3, false, deepseek.WithoutBreaker(), deepseek.WithRetry(deepseek.Retry{Budget: 1}))
		x.srv.Timeline(deepseektest.Phase{To: time.Hour, Reply: deepseektest.ServiceUnavailable().And(deepseektest.Delayed(10 * time.Second))})
		for range 100 {
			_, err := x.call(t.Context(), "Hi")
			require.Error(t, err)
		}
		require.Equal(t, int64(10), x.tr.Stats().Hedges, "the burst")
		require.LessOrEqual(t, len(x.srv.Requests()), 100+2+10)
	})
}

// A hedge of a prompt that costs more than hedges may is not sent.
func TestHedgesAreAShareOfCost(t *testing.T) {
	inBoth(t, func(t *testing.T, stream bool) {
		x := prepareHedged(t, 2, stream).connect(deepseek.Hedging{MinSamples: 20, MaxShare: 1, MaxCost: 0.1})
		x.learned(40)
		// hedges makes a late call whose prompt costs that share of all so far.
		hedges := func(share float64) int64 {
			x.calm(40)
			before := x.tr.Stats()
			tokens := share * before.Spend.Amount.Float64() * 1e6 / deepseek.PricesUSD().Models[deepseek.ModelFlash].OffPeak.CacheMiss
			x.srv.Enqueue(slowly(3 * usual / 2))
			_, err := x.call(t.Context(), strings.Repeat("long", int(tokens)-30)) // 30 are around it
			require.NoError(t, err)
			return x.tr.Stats().Hedges - before.Hedges
		}
		require.Zero(t, hedges(0.13))
		require.Equal(t, int64(1), hedges(0.07))
		require.Zero(t, hedges(0.07), "0.1 would be passed")
		x.calm(200)
		require.Equal(t, int64(1), hedges(0.02))
	})
}
