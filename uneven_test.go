package deepseek_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// Accounts with limits of 2, 8 and 32 that nobody knows: within seconds all are
// found and filled evenly, by conversations that share a beginning as well as by
// calls that have none in common.
func TestUnevenUnknownLimitsAreFilledEvenly(t *testing.T) {
	for _, told := range []bool{true, false} {
		for _, strategy := range []deepseek.Strategy{deepseek.Affinity{}, deepseek.LeastLoaded{}, deepseek.RoundRobin{}} {
			t.Run(fmt.Sprintf("told %t %T", told, strategy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { fillEvenly(t, told, strategy) })
			})
		}
	}
}

func fillEvenly(t *testing.T, told bool, strategy deepseek.Strategy) {
	limits := map[string]int{"two": 2, "eight": 8, "many": 32}
	server := []deepseektest.Option{
		deepseektest.WithPace(deepseektest.Pace{Headers: 50 * time.Millisecond, FirstToken: time.Second, Token: 100 * time.Millisecond, Jitter: 0.3}),
		deepseektest.WithAnswerLength(0, 12),
	}
	var accounts []deepseek.Account
	for name, limit := range limits {
		server = append(server, deepseektest.WithAccount(deepseektest.Account{
			Name: name, Keys: []string{"sk-" + name}, Balance: 1e9, Limits: map[string]int{deepseek.ModelFlash: limit}, HideLimit: !told,
		}))
		accounts = append(accounts, deepseek.Account{Name: name, Keys: []string{"sk-" + name}})
	}
	srv := deepseektest.NewMemoryServer(server...)
	base := srv.Transport()
	client, err := deepseek.NewHTTPClient(deepseek.WithAccounts(accounts...), deepseek.WithStrategy(strategy),
		deepseek.WithBaseURL(srv.URL), deepseek.WithTransport(base))
	require.NoError(t, err)
	t.Cleanup(func() {
		base.CloseIdleConnections()
		srv.Close()
	})

	length := racedetector.Less(time.Minute, 20*time.Second)
	used := map[string]float64{}
	samples := 0.0
	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		time.Sleep(5 * time.Second)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				samples++
				for name := range limits {
					used[name] += float64(srv.InFlight(name, deepseek.ModelFlash))
				}
			}
		}
	})
	go func() {
		time.Sleep(length)
		close(stop)
	}()
	crowd := &crowd{callers: 200, stream: true, deadline: 5 * time.Minute}
	crowd.run(client, srv.URL, length)
	sampler.Wait()

	refused := 0
	for _, r := range srv.Requests() {
		if r.Status == 429 {
			refused++
		}
	}
	t.Logf("answered %d, 429s %d of %d", crowd.answered.Load(), refused, len(srv.Requests()))
	require.Equal(t, crowd.started.Load(), crowd.answered.Load(), "%v", crowd.failures)
	for name, limit := range limits {
		share := used[name] / samples / float64(limit)
		t.Logf("%s: %.3f of its limit in use", name, share)
		require.GreaterOrEqual(t, share, 0.9, name)
	}
}
