package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/watermark"
)

// redisServer starts a redis-server of the test's own, which keeps nothing. It
// returns its address.
func redisServer(t *testing.T) (string, *exec.Cmd) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed (Debian: apt-get install redis-server): gateways that share are not tested")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "redis-server answers", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return address, cmd
}

// crowded is a fake DeepSeek with one account, and what is in flight there,
// refused or not.
type crowded struct {
	*deepseektest.Server
	watermark.Mark
	url string
}

func newCrowded(t *testing.T, limit int) *crowded {
	u := &crowded{Server: deepseektest.NewHandler(
		deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{upstreamKey}, Balance: 1e9, Limits: map[string]int{deepseek.ModelFlash: limit}}),
		deepseektest.WithPace(deepseektest.Pace{FirstToken: 150 * time.Millisecond, Jitter: 0.3}),
		deepseektest.WithoutRecords(),
	)}
	srv := httptest.NewServer(u.Around(u.Server))
	u.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		u.Close()
	})
	return u
}

// over returns the most that were in flight at once during a time.
func (u *crowded) over(d time.Duration) int64 {
	u.Since()
	time.Sleep(d)
	return u.Since()
}

// customers are callers of one gateway.
type customers struct {
	answered, failed atomic.Int64
	stop             context.CancelFunc
	wg               sync.WaitGroup
}

func visit(t *testing.T, p *process, n int) *customers {
	ctx, stop := context.WithCancel(context.Background())
	c := &customers{stop: stop}
	tr := &http.Transport{MaxIdleConnsPerHost: n}
	for range n {
		c.wg.Go(func() {
			for ctx.Err() == nil {
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/chat/completions", strings.NewReader(chatBody))
				resp, err := tr.RoundTrip(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				switch {
				case ctx.Err() != nil:
				case err == nil && resp.StatusCode == http.StatusOK:
					c.answered.Add(1)
				default:
					c.failed.Add(1)
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	t.Cleanup(func() {
		stop()
		c.wg.Wait()
		tr.CloseIdleConnections()
	})
	return c
}

// Three processes, a real Redis and one account of 60 that falls to 15: never more
// in flight than the limit and one for each process; kill -9 of one gives its
// permits to the others; while Redis stands still no request fails, and afterwards
// they agree again. (Redis stands still for 4 leases of 1 s, and not for 30 s.)
func TestReplicas(t *testing.T) {
	address, redis := redisServer(t)
	u := newCrowded(t, 60)
	config := fmt.Sprintf("redis: {url: redis://%s, lease: 1s}\n", address)
	const lease = time.Second
	var processes []*process
	var crowds []*customers
	add := func() {
		p := serve(t, u.url, config)
		processes, crowds = append(processes, p), append(crowds, visit(t, p, 40))
		p.wait("sharing with other replicas")
	}
	for range 3 {
		add()
	}
	eventually(t, "60 are found", func() bool { return u.Now() >= 55 && u.Now() <= 63 })
	eventually(t, "and kept", func() bool { return u.over(lease/2) <= 63 })
	u.SetLimit("main", deepseek.ModelFlash, 15)
	eventually(t, "15 are found", func() bool { return u.over(lease/2) <= 18 })
	u.Keeps(t, 18, 2*lease, "three processes")

	before := [3]int64{crowds[0].answered.Load(), crowds[1].answered.Load(), crowds[2].answered.Load()}
	time.Sleep(lease)
	for i, c := range crowds {
		require.Greater(t, c.answered.Load(), before[i], "each has its part")
	}

	processes[2].signal(syscall.SIGKILL)
	require.Error(t, processes[2].ended())
	crowds[2].stop()
	time.Sleep(lease + lease/2)
	sum := int64(0)
	for range 50 {
		sum += u.Now()
		time.Sleep(10 * time.Millisecond)
	}
	require.Greater(t, sum/50, int64(11), "its permits are used by the others")
	u.Keeps(t, 17, lease, "two processes")

	require.NoError(t, redis.Process.Signal(syscall.SIGSTOP))
	for _, p := range processes[:2] {
		p.wait("shared state lost, going on with an equal share")
	}
	u.Keeps(t, 17, 3*lease, "without Redis")
	before[0], before[1] = crowds[0].answered.Load(), crowds[1].answered.Load()
	require.NoError(t, redis.Process.Signal(syscall.SIGCONT))
	add()
	u.Keeps(t, 18, 2*lease, "three processes again")
	for i, c := range crowds[:2] {
		require.Greater(t, c.answered.Load(), before[i])
		require.Zero(t, c.failed.Load(), "requests that failed")
	}
	require.Positive(t, crowds[3].answered.Load())
	require.Zero(t, crowds[3].failed.Load())
	processes[3].stop()
}

// What a client may do it may do at both of two processes together: requests in a
// minute to the last, and a budget that outlives them.
func TestReplicasCountClientsTogether(t *testing.T) {
	address, _ := redisServer(t)
	up := deepseektest.NewServer()
	t.Cleanup(up.Close)
	key := gateway.NewKey()
	// In peak hours everything would cost twice as much.
	config := fmt.Sprintf("redis: {url: redis://%s, lease: 1s}\nprices: {peak: []}\nclients:\n  - name: ci\n    keys: %s\n", address, gateway.HashKey(key))
	both := func(limits string) [2]*process {
		return [2]*process{serve(t, up.URL, config+limits), serve(t, up.URL, config+limits)}
	}
	c := client(t)
	ask := func(p *process) int {
		req, err := http.NewRequest(http.MethodPost, p.url+"/chat/completions", strings.NewReader(chatBody))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := c.Do(req)
		require.NoError(t, err)
		whole(t, resp)
		return resp.StatusCode
	}
	p := both("    requests_per_minute: 25\n")
	for i := range 25 {
		require.Equal(t, http.StatusOK, ask(p[i%2]), "request %d", i)
	}
	for i := range 4 {
		require.Equal(t, http.StatusTooManyRequests, ask(p[i%2]))
	}
	p[0].stop()
	p[1].stop()

	// What they were answered has cost 0.0015375 dollars, and each further one costs
	// 0.0000615.
	p = both("    budget_per_month: 0.0016\n")
	require.Equal(t, http.StatusOK, ask(p[0]))
	require.Equal(t, http.StatusOK, ask(p[0]))
	require.Equal(t, http.StatusPaymentRequired, ask(p[0]))
	eventually(t, "the other knows", func() bool { return ask(p[1]) == http.StatusPaymentRequired })
	p[0].stop()
	p[1].stop()
	p = both("    budget_per_month: 0.0016\n")
	eventually(t, "it is known after a restart", func() bool { return ask(p[0]) == http.StatusPaymentRequired })
}
