package deepseek

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBudgetArithmetic(t *testing.T) {
	b := newBudget(2)
	require.True(t, b.take())
	require.True(t, b.take())
	require.False(t, b.take())
	b.refund(1) // succeeded after one retry
	require.True(t, b.take())
	for range 10 {
		require.False(t, b.take())
		b.refund(0) // succeeded at once
	}
	require.InDelta(t, 1, b.left(), 1e-9)
	b.refund(100)
	require.Equal(t, 2.0, b.left(), "never more than its size")
}

// One connection may carry many calls: each of them can have a second attempt.
func TestBudgetGrowsWithTheCallsOnTheirWay(t *testing.T) {
	b := newBudget(10)
	for range 100 {
		b.begin()
	}
	b.refund(50)
	require.Equal(t, 60.0, b.left())
	b.refund(500)
	require.Equal(t, 200.0, b.left(), "twice the calls")
	for range 100 {
		b.end()
	}
	b.refund(0)
	require.Equal(t, 200.0, b.left(), "what is there is not taken away")
	require.True(t, b.take())
	b.refund(0)
	require.Equal(t, 199.0, b.left(), "nor filled up, with no calls on their way")
	var none *budget
	none.begin()
	none.end()
}

func TestBudgetIsNeverOverdrawn(t *testing.T) {
	b := newBudget(50)
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := 0
	for range 200 {
		wg.Go(func() {
			if b.take() {
				mu.Lock()
				got++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, 50, got)
	require.Zero(t, b.left())
}

// A long full outage: attempts stay within 1.2 times the calls.
func TestBudgetBoundsAmplificationInFullOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, down := range []step{status(503), fails(errReset), streamReply(keepAlive), jsonReply("\n\n")} {
			base := scripted(down)
			rt := retrying(t, Retry{}, guarded(Timeouts{}, base))
			const calls = 1000
			for range calls {
				resp, err := send(t.Context(), rt)
				if err == nil {
					_ = resp.Body.Close()
				}
			}
			require.LessOrEqual(t, len(base.sent()), calls*12/10)
			base.allClosed(t)
		}
	})
}

// One fault in five does not exhaust the budget however long it lasts.
func TestBudgetLastsWhileMostCallsSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := retrying(t, Retry{Budget: 10}, everyFifthFails())
		for range 2000 {
			resp, err := send(t.Context(), rt)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
			_ = resp.Body.Close()
		}
	})
}

func everyFifthFails() roundTripper {
	n := 0
	return func(req *http.Request) (*http.Response, error) {
		if n++; n%5 == 0 {
			return status(503)(req)
		}
		return answers(req)
	}
}

// Retries after a 429 are paced by the learned limit and cost nothing.
func TestBudgetIsNotChargedFor429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(429), status(429), status(429), status(429), answers)
		rt := retrying(t, Retry{Budget: 1}, base)
		resp, err := send(t.Context(), rt)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		_ = resp.Body.Close()
		require.Len(t, base.sent(), 5)
	})
}

func TestBudgetNegativeIsUnbounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(500))
		rt := retrying(t, Retry{Budget: -1, MaxAttempts: 3, MaxInterval: time.Second}, base)
		for range 100 {
			_, err := send(t.Context(), rt)
			require.NoError(t, err)
		}
		require.Len(t, base.sent(), 300)
	})
}
