package redis_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
	"github.com/seawall-go/deepseek/internal/watermark"
	"github.com/seawall-go/deepseek/redis"
)

const model = "deepseek-flash"

// lease is such that an exchange, which has a tenth of it, is in time on a busy
// machine: who is not heard of for half a lease loses its part. An answer takes so
// long that what its caller spends on it does not matter, since a limit is found
// out by how many answers are on their way at once.
var (
	lease  = racedetector.Less(800*time.Millisecond, 1600*time.Millisecond)
	answer = racedetector.Less(200*time.Millisecond, 400*time.Millisecond)
)

// upstream is a fake DeepSeek, and what is in flight there: what it has
// not answered to the end yet, refused or not.
type upstream struct {
	*deepseektest.Server
	watermark.Mark
	url              string
	failed, answered atomic.Int64
}

func newUpstream(t *testing.T, limit int) *upstream {
	u := &upstream{Server: deepseektest.NewHandler(
		deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{"sk-main", "sk-main-2"}, Balance: 1e9, Limits: map[string]int{model: limit}}),
		deepseektest.WithPace(deepseektest.Pace{FirstToken: answer, Jitter: 0.3}),
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

// replica is one of several: a transport with a connection of its own.
type replica struct {
	*testing.T
	*deepseek.Transport
	up      *upstream
	part    *deepseek.Replica
	ctx     context.Context
	kill    context.CancelFunc
	callers sync.WaitGroup
}

func newReplica(t *testing.T, u *upstream, n *redis.Connection, opts ...deepseek.Option) *replica {
	t.Helper()
	r := &replica{T: t, up: u}
	r.ctx, r.kill = context.WithCancel(context.Background())
	var err error
	r.part, err = deepseek.NewReplica(deepseek.Sharing{State: n.State(), Lease: lease})
	require.NoError(t, err)
	base := &http.Transport{MaxIdleConnsPerHost: 100}
	r.Transport, err = deepseek.NewTransport(append([]deepseek.Option{
		deepseek.WithAccounts(deepseek.Account{Name: "main", Keys: []string{"sk-main", "sk-main-2"}}),
		deepseek.WithBaseURL(u.url), deepseek.WithTransport(base), deepseek.WithSharedState(r.part),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		r.kill()
		r.callers.Wait()
		_ = r.part.Close()
		base.CloseIdleConnections()
	})
	return r
}

func (r *replica) call(text string) int {
	body := `{"model":"` + model + `","messages":[{"role":"user","content":"` + text + `"}],"thinking":{"type":"disabled"}}`
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.up.url+"/chat/completions", strings.NewReader(body))
	require.NoError(r, err)
	resp, err := r.RoundTrip(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	switch {
	case r.ctx.Err() != nil:
		return 0
	case err != nil || resp.StatusCode != http.StatusOK:
		r.up.failed.Add(1)
		return -1
	}
	r.up.answered.Add(1)
	return resp.StatusCode
}

func (r *replica) work(callers int) {
	for range callers {
		r.callers.Go(func() {
			for r.ctx.Err() == nil {
				r.call("Hi")
			}
		})
	}
}

func (r *replica) permits() int {
	for _, s := range r.Stats().Accounts[0].Models {
		if s.Model == model {
			return s.Permits
		}
	}
	return 0
}

func permits(replicas ...*replica) (n int) {
	for _, r := range replicas {
		n += r.permits()
	}
	return n
}

// The same as TestReplicasShareALimit of package deepseek, where time is not
// real, with a real Redis: 60 that fall to 15; one that dies; Redis stopped and
// empty afterwards, and Redis that stands still. These last a few leases each, and
// not half a minute.
func TestReplicasShareALimit(t *testing.T) {
	s := newServer(t)
	u := newUpstream(t, 60)
	var all []*replica
	var connections []*redis.Connection
	for range 3 {
		// After pool_size failures in a row go-redis tries by itself, once a second and
		// no sooner: more than half a lease here, after which the other takes all.
		connections = append(connections, s.connect(func(c *redis.Config) { c.URL += "?pool_size=1000" }))
		all = append(all, newReplica(t, u, connections[len(connections)-1]))
		all[len(all)-1].work(50)
	}
	about := func(want, slack int, replicas ...*replica) func() bool {
		return func() bool {
			d := permits(replicas...) - want
			return d >= -slack && d <= slack
		}
	}
	s.eventually("60 are found", about(59, 2, all...))
	u.Keeps(t, 63, lease, "60")

	u.SetLimit("main", model, 15)
	s.eventually("15 are found", about(15, 1, all...))
	time.Sleep(lease / 2) // what is out at that moment must end
	u.Keeps(t, 18, 2*lease, "15")
	for _, r := range all {
		require.InDelta(t, 5, r.permits(), 2)
	}

	// A dead one says nothing any more: no last words.
	dead := all[2]
	require.NoError(t, connections[2].Close())
	began := time.Now()
	dead.kill()
	dead.callers.Wait()
	all = all[:2]
	s.eventually("its permits are the others'", about(15, 1, all...))
	require.Less(t, time.Since(began), 2*lease)
	u.Keeps(t, 17, lease, "two replicas")

	for _, how := range []struct {
		name      string
		stop, run func()
	}{
		{"killed, and started empty", s.kill, s.start},
		{"standing still", s.stall, s.resume},
	} {
		how.stop()
		s.eventually(how.name+": that is noticed", func() bool {
			return !all[0].Stats().Sharing.Connected && !all[1].Stats().Sharing.Connected
		})
		before := u.answered.Load()
		u.Keeps(t, 17, 3*lease, how.name)
		require.Greater(t, u.answered.Load()-before, int64(15*3*lease/time.Second), "calls go on: %s", how.name)
		for _, r := range all {
			require.Equal(t, 2, r.Stats().Sharing.Replicas)
			require.Error(t, r.Stats().Sharing.Err)
			require.InDelta(t, 7, r.permits(), 1, "half of what there is")
		}
		how.run()
		s.eventually(how.name+": they have it back", func() bool {
			return all[0].Stats().Sharing.Connected && all[1].Stats().Sharing.Connected
		})
		u.Keeps(t, 17, 2*lease, how.name+", and back")
		s.eventually(how.name+": they agree", about(15, 1, all...))
	}
	third := newReplica(t, u, s.connect())
	third.work(50)
	all = append(all, third)
	s.eventually("the third has its part", func() bool { return third.permits() >= 4 })
	u.Keeps(t, 18, lease, "three again")
	require.Zero(t, u.failed.Load(), "calls that failed")
}

// What one finds out about a key, all know; what one has been answered, all can
// answer from.
func TestReplicasShareKeysAndAnswers(t *testing.T) {
	s := newServer(t)
	u := newUpstream(t, 60)
	cached := func(n *redis.Connection) deepseek.Option { return deepseek.WithCache(deepseek.Cache{Store: n.Store()}) }
	n, m := s.connect(), s.connect()
	a, b := newReplica(t, u, n, cached(n)), newReplica(t, u, m, cached(m))
	require.Equal(t, http.StatusOK, a.call("the same"))
	s.eventually("the answer is kept", func() bool { return len(s.client.Keys(t.Context(), "seawall:cache:*").Val()) == 1 })
	require.Equal(t, http.StatusOK, b.call("the same"))
	require.Equal(t, int64(1), b.Stats().Cache.Hits)
	require.Equal(t, 1, u.Count(http.StatusOK))

	u.RevokeKey("sk-main")
	for i := 0; a.Stats().Accounts[0].Keys[0].State != deepseek.StateUnauthorized; i++ {
		require.Equal(t, http.StatusOK, a.call("other "+strings.Repeat("!", i)))
	}
	s.eventually("the other knows", func() bool { return b.Stats().Accounts[0].Keys[0].State == deepseek.StateUnauthorized })
	require.Equal(t, 1, u.Count(http.StatusUnauthorized))

	u.SetBalance("main", -1)
	require.Equal(t, -1, a.call("a third"))
	s.eventually("the other knows", func() bool { return b.Stats().Accounts[0].State == deepseek.StateOutOfBalance })
	u.SetBalance("main", 10)
	require.Equal(t, http.StatusOK, b.call("a fourth"), "it looks at the balance")
	s.eventually("the first knows", func() bool { return a.Stats().Accounts[0].State == deepseek.StateActive })

	u.Enqueue(deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("2")))
	a.callers.Go(func() { a.call("a fifth") })
	s.eventually("the other cools down", func() bool { return b.Stats().Accounts[0].Models[0].State == deepseek.StateCooling })
	a.callers.Wait()
}
