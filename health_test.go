package deepseek

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// twins are two endpoints of the same priority.
func twins(weightA, weightB int) []Endpoint {
	return []Endpoint{
		{Name: "a", BaseURL: "https://a.example", Weight: weightA, Accounts: []Account{{Keys: []string{"sk-a"}}}},
		{Name: "b", BaseURL: "https://b.example", Weight: weightB, Accounts: []Account{{Keys: []string{"sk-b"}}}},
	}
}

// after answers after a time.
func after(d time.Duration, s step) step {
	return func(req *http.Request) (*http.Response, error) {
		time.Sleep(d)
		return s(req)
	}
}

// spread makes n calls, one after the other, of as many conversations, and
// returns how many requests each host got.
func spread(t *testing.T, tr *Transport, base hosts, n int) (a, b int) {
	t.Helper()
	a, b = len(base["a.example"].sent()), len(base["b.example"].sent())
	for i := range n {
		ctx := ContextWithConversation(t.Context(), fmt.Sprint(i))
		if i%2 == 0 {
			ctx = t.Context()
		}
		resp, err := tr.RoundTrip(postAt(ctx, "https://a.example/chat/completions", fmt.Sprintf(`{"model":"m","i":%d}`, i)))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		_, err = readBody(resp)
		require.NoError(t, err)
	}
	return len(base["a.example"].sent()) - a, len(base["b.example"].sent()) - b
}

func TestEndpointsOfOnePriorityShareByWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{"a.example": scripted(answers), "b.example": scripted(answers)}
		a, b := spread(t, routed(t, base, twins(1, 1)), base, 1000)
		require.InDelta(t, 500, a, 80)
		require.Equal(t, 1000, a+b)
		a, b = spread(t, routed(t, base, twins(3, 1)), base, 1000)
		require.InDelta(t, 750, a, 80)
		require.Equal(t, 1000, a+b)
	})
}

func TestSlowEndpointGetsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{"a.example": scripted(after(400*time.Millisecond, answers)), "b.example": scripted(after(100*time.Millisecond, answers))}
		tr := routed(t, base, twins(1, 1))
		spread(t, tr, base, 30)
		a, b := spread(t, tr, base, 1000)
		require.InDelta(t, 200, a, 60, "a quarter as fast: a quarter of the other's")
		require.Equal(t, 1000, a+b)
		stats := tr.Stats().Endpoints[0].Models
		require.Len(t, stats, 1)
		require.Equal(t, EndpointModelStats{Model: "m", WholeBody: 400 * time.Millisecond}, stats[0])
	})
}

// An endpoint that fails at once is the quickest to come back with a response.
func TestFailingEndpointDoesNotAttractLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{"a.example": scripted(status(503)), "b.example": scripted(after(time.Second, answers))}
		tr := routed(t, base, twins(1, 1), WithoutBreaker(), WithRetry(Retry{Budget: -1}))
		spread(t, tr, base, 40)
		a, b := spread(t, tr, base, 1000)
		require.Less(t, a, 400)
		require.Equal(t, 1000, b)
		// A burst does not give time to forget.
		before := len(base["a.example"].sent())
		for range 20 {
			tr.endpoints[0].health.get("m", nil).learn(false, verdict{outcome: fault}, 0)
		}
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Go(func() {
				resp, err := tr.RoundTrip(postAt(t.Context(), "https://a.example/chat/completions", fmt.Sprintf(`{"model":"m","i":%d}`, i)))
				if err == nil {
					_, _ = readBody(resp)
				}
			})
		}
		wg.Wait()
		require.Less(t, len(base["a.example"].sent())-before, 40)
	})
}

func TestFaultsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{}
		for range 20 {
			h.learn(true, verdict{outcome: fault}, 0)
		}
		require.True(t, h.view(true, time.Now()).ailing())
		time.Sleep(faultsHalfLife)
		require.False(t, h.view(true, time.Now()).ailing())
		require.InDelta(t, 0.47, h.view(true, time.Now()).faults, 0.02)
		for range 3 {
			h.learn(true, verdict{outcome: throttled}, time.Second)
			h.learn(true, verdict{outcome: broke}, time.Second)
			h.learn(true, verdict{outcome: cancelled}, time.Second)
			h.learn(true, verdict{outcome: refused}, time.Second)
		}
		require.Zero(t, h.view(true, time.Now()).first, "only answers tell how fast it is")
		h.learn(true, verdict{outcome: answered}, 2*time.Second)
		require.Equal(t, 2*time.Second, h.view(true, time.Now()).first)
		require.Zero(t, h.view(false, time.Now()).first, "streams and whole answers apart")
	})
}

// A conversation stays where its context cache is.
func TestConversationStaysAtItsEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{"a.example": scripted(after(90*time.Millisecond, answers)), "b.example": scripted(after(110*time.Millisecond, answers))}
		tr := routed(t, base, twins(1, 1))
		for i := range 40 {
			talk := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"talk %d"}`, i)
			var first string
			for turn := range 5 {
				resp, err := tr.RoundTrip(postAt(context.Background(), "https://a.example/chat/completions", talk+strings.Repeat(`,{"role":"assistant","content":"x"}`, turn)+`]}`))
				require.NoError(t, err)
				_, _ = readBody(resp)
				if turn == 0 {
					first = resp.Header.Get("Seawall-Endpoint")
				}
				require.Equal(t, first, resp.Header.Get("Seawall-Endpoint"))
			}
		}
		require.Greater(t, len(base["a.example"].sent()), 50)
		require.Greater(t, len(base["b.example"].sent()), 50)
	})
}
