package deepseek_test

import (
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// Three of a hundred requests take ten times as long as the others, on whatever
// account. What hedging makes of that, and at what price.
func TestHedgingShortensASlowTail(t *testing.T) {
	calls := racedetector.Less(4000, 1000)
	inBoth(t, func(t *testing.T, stream bool) {
		run := func(opts ...deepseek.Option) (p50, p99 time.Duration, perCall float64) {
			x := prepareHedged(t, 4, stream)
			slow := rand.New(rand.NewPCG(1, 2))
			var mu sync.Mutex
			x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
				mu.Lock()
				defer mu.Unlock()
				d := time.Duration(float64(500*time.Millisecond) * (0.7 + 0.6*slow.Float64()))
				if slow.Float64() < 0.03 {
					d *= 10
				}
				re := slowly(d)
				return &re
			})
			client, err := deepseek.NewHTTPClient(append(opts,
				deepseek.WithAccounts(x.accounts...), deepseek.WithBaseURL(x.srv.URL), deepseek.WithTransport(x.base))...)
			require.NoError(t, err)
			x.client = client
			took := make([]time.Duration, 0, calls)
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for range calls / 20 {
						start := time.Now()
						resp, err := client.Do(x.request(t.Context(), "Hi"))
						require.NoError(t, err)
						mu.Lock()
						took = append(took, time.Since(start))
						mu.Unlock()
						_, err = io.ReadAll(resp.Body)
						require.NoError(t, err)
						require.NoError(t, resp.Body.Close())
					}
				})
			}
			wg.Wait()
			slices.Sort(took)
			return took[len(took)/2], took[len(took)*99/100], float64(len(x.srv.Requests())) / float64(len(took))
		}
		p50, p99, perCall := run()
		h50, h99, hedgedPerCall := run(deepseek.WithHedging(deepseek.Hedging{}))
		t.Logf("median %s, hedged %s; p99 %s, hedged %s; attempts a call %.3f, hedged %.3f", p50, h50, p99, h99, perCall, hedgedPerCall)
		require.Less(t, h99, p99/2)
		require.LessOrEqual(t, hedgedPerCall, 1.05+10/float64(calls))
	})
}
