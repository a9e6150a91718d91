package deepseektest

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A thousand calls over ten minutes, with queues, pauses, cuts and a limit.
func TestManyCallsInABubble(t *testing.T) {
	start := time.Now()
	pro := Account{Keys: []string{testKey}, Limits: map[string]int{"deepseek-flash": 400}}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Timeline(Phase{From: 4 * time.Minute, To: 5 * time.Minute, Reply: ServiceUnavailable(), Probability: 0.5})
		rng := rand.New(rand.NewPCG(1, 2))
		var wg sync.WaitGroup
		for range 1000 {
			at := time.Duration(rng.Int64N(int64(9 * time.Minute)))
			wg.Go(func() {
				time.Sleep(at)
				r := post(t, s, c, "/chat/completions", chatRequest(streaming))
				require.NoError(t, r.err)
			})
		}
		began := time.Now()
		wg.Wait()
		require.Greater(t, time.Since(began), 9*time.Minute)
		require.Equal(t, 1000, s.Count(200)+s.Count(429)+s.Count(503))
		require.Greater(t, s.Count(200), 900)
		require.Greater(t, s.MaxInFlight(testKey, "deepseek-flash"), 20)
		require.Zero(t, s.InFlight(testKey, ""))
	}, WithAccount(pro), WithAnswerLength(20, 40),
		WithPace(Pace{Headers: 100 * time.Millisecond, Queue: 10 * time.Second, KeepAlive: 5 * time.Second, FirstToken: time.Second, Token: 200 * time.Millisecond, Jitter: 0.3}))
	t.Logf("took %v", time.Since(start))
}
