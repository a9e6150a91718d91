package deepseek_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// cable leads from one replica to the shared state, and can be cut, hang, or
// bring what makes no sense.
type cable struct {
	cut, hangs atomic.Bool

	mu    sync.Mutex
	state deepseek.SharedState       // guarded by mu
	spoil func(*deepseek.SharedView) // guarded by mu
}

// lead has the cable lead to another state.
func (c *cable) lead(to deepseek.SharedState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = to
}

// spoils has what comes through the cable changed.
func (c *cable) spoils(how func(*deepseek.SharedView)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoil = how
}

var errCut = errors.New("the cable is cut")

func (c *cable) Exchange(ctx context.Context, r *deepseek.SharedReport) (*deepseek.SharedView, error) {
	switch {
	case c.cut.Load():
		return nil, errCut
	case c.hangs.Load():
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c.mu.Lock()
	state, spoil := c.state, c.spoil
	c.mu.Unlock()
	v, err := state.Exchange(ctx, r)
	if err == nil && spoil != nil {
		spoil(v)
	}
	return v, err
}

// fleet is replicas over one fake server's account, which counts what is in
// flight, refused or not.
type fleet struct {
	*testing.T
	srv      *deepseektest.Server
	members  []*member
	inFlight atomic.Int64
	most     atomic.Int64 // since it was last asked for
	refused  atomic.Int64
	failed   atomic.Int64
}

type member struct {
	*fleet
	*deepseek.Replica
	cable     *cable
	transport *deepseek.Transport
	inFlight  atomic.Int64
	ctx       context.Context
	kill      context.CancelFunc
	callers   sync.WaitGroup

	mu     sync.Mutex
	events []deepseek.SharingEvent // guarded by mu
	cools  []deepseek.CooldownEvent
}

const fleetModel = "deepseek-flash"

func newFleet(t *testing.T, limit int, opts ...deepseektest.Option) *fleet {
	f := &fleet{T: t}
	f.srv = deepseektest.NewMemoryServer(append([]deepseektest.Option{
		deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{"sk-main", "sk-main-2"}, Balance: 1e9, Limits: map[string]int{fleetModel: limit}}),
		deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second, Jitter: 0.3}),
		deepseektest.WithoutRecords(),
	}, opts...)...)
	t.Cleanup(func() {
		for _, m := range f.members {
			m.kill()
			m.callers.Wait()
			require.NoError(t, m.Close())
		}
		f.srv.Close()
	})
	return f
}

// add starts a replica.
func (f *fleet) add(state deepseek.SharedState, sharing deepseek.Sharing, opts ...deepseek.Option) *member {
	f.Helper()
	m := &member{fleet: f, cable: &cable{state: state}}
	m.ctx, m.kill = context.WithCancel(context.Background())
	sharing.State = m.cable
	var err error
	m.Replica, err = deepseek.NewReplica(sharing)
	require.NoError(f, err)
	base := f.srv.Transport()
	f.Cleanup(base.CloseIdleConnections)
	m.transport, err = deepseek.NewTransport(append([]deepseek.Option{
		deepseek.WithAccounts(deepseek.Account{Name: "main", Keys: []string{"sk-main", "sk-main-2"}}),
		deepseek.WithBaseURL(f.srv.URL), deepseek.WithTransport(m.counted(base)), deepseek.WithSharedState(m.Replica),
		deepseek.WithObserver(deepseek.Observer{
			Sharing:  func(e deepseek.SharingEvent) { m.mu.Lock(); defer m.mu.Unlock(); m.events = append(m.events, e) },
			Cooldown: func(e deepseek.CooldownEvent) { m.mu.Lock(); defer m.mu.Unlock(); m.cools = append(m.cools, e) },
		}),
	}, opts...)...)
	require.NoError(f, err)
	f.members = append(f.members, m)
	return m
}

// settled starts replicas, each with that many callers, and waits until they know
// the limit and each other.
func (f *fleet) settled(state deepseek.SharedState, replicas, callers int) {
	f.Helper()
	for range replicas {
		f.add(state, deepseek.Sharing{}).work(callers)
	}
	time.Sleep(20 * time.Second)
}

// counted counts what is in flight: from sending to the end of the body.
func (m *member) counted(base http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		m.inFlight.Add(1)
		n := m.fleet.inFlight.Add(1)
		for most := m.most.Load(); n > most && !m.most.CompareAndSwap(most, n); most = m.most.Load() {
		}
		end := sync.OnceFunc(func() { m.inFlight.Add(-1); m.fleet.inFlight.Add(-1) })
		resp, err := base.RoundTrip(req)
		if err != nil {
			end()
			return nil, err
		}
		if resp.StatusCode == http.StatusTooManyRequests {
			m.refused.Add(1)
		}
		resp.Body = &endingBody{resp.Body, end}
		return resp, nil
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type endingBody struct {
	io.ReadCloser
	end func()
}

func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end()
	}
	return n, err
}

func (b *endingBody) Close() error {
	b.end()
	return b.ReadCloser.Close()
}

// call makes a call. It returns the status, or 0 if the member was killed.
func (m *member) call() int {
	body := `{"model":"` + fleetModel + `","messages":[{"role":"user","content":"Hi"}],"thinking":{"type":"disabled"}}`
	req, err := http.NewRequestWithContext(m.ctx, http.MethodPost, m.srv.URL+"/chat/completions", strings.NewReader(body))
	require.NoError(m, err)
	resp, err := m.transport.RoundTrip(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	switch {
	case m.ctx.Err() != nil:
		return 0
	case err != nil:
		m.Log(err)
		m.failed.Add(1)
		return -1
	case resp.StatusCode != http.StatusOK:
		m.failed.Add(1)
	}
	return resp.StatusCode
}

// work has so many callers call again and again, until the member is killed.
func (m *member) work(callers int) {
	for range callers {
		m.callers.Go(func() {
			for m.ctx.Err() == nil {
				if m.call() < 0 {
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
}

// since returns the most that were in flight at once since it was last asked.
func (f *fleet) since() int64 { return f.most.Swap(f.inFlight.Load()) }

func (m *member) slot() deepseek.SlotStats {
	for _, s := range m.transport.Stats().Accounts[0].Models {
		if s.Model == fleetModel {
			return s
		}
	}
	return deepseek.SlotStats{}
}

func (m *member) sharing() *deepseek.SharingStats { return m.transport.Stats().Sharing }

// permits is how many calls all replicas may have in flight.
func (f *fleet) permits() (n int) {
	for _, m := range f.members {
		if m.ctx.Err() == nil {
			n += m.slot().Permits
		}
	}
	return n
}

// Three replicas and an account of 60 that falls to 15: once that is learned no
// more is in flight than the limit and one for each replica, and the limit is
// used; one that dies leaves its permits to the others within the lease; with the
// state lost no call fails, and the limit is kept; when it is back they agree.
func TestReplicasShareALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60)
		state := deepseek.NewMemoryState()
		f.settled(state, 3, 100)
		f.since()
		time.Sleep(20 * time.Second)
		require.LessOrEqual(t, f.since(), int64(63))
		require.InDelta(t, 59, f.permits(), 2)
		for _, m := range f.members {
			require.InDelta(t, 20, m.slot().Permits, 1)
			require.Equal(t, 3, m.sharing().Replicas)
			require.True(t, m.sharing().Connected)
		}

		f.srv.SetLimit("main", fleetModel, 15)
		time.Sleep(5 * time.Second) // what is out at that moment must end
		f.since()
		refused := f.refused.Load()
		time.Sleep(60 * time.Second)
		require.LessOrEqual(t, f.since(), int64(18))
		require.InDelta(t, 15, f.permits(), 1)
		// Now and then one more is tried: once in forty answers at most.
		require.LessOrEqual(t, f.refused.Load()-refused, int64(60*15/tryEveryTwenty))

		dead := f.members[2]
		dead.cable.cut.Store(true) // before its last words
		dead.kill()
		dead.callers.Wait()
		time.Sleep(7 * time.Second) // the lease, and an interval or two
		require.InDelta(t, 15, f.permits(), 1, "of the two that are left")
		for _, m := range f.members[:2] {
			require.InDelta(t, 7, m.slot().Permits, 1)
			require.Equal(t, 2, m.sharing().Replicas)
		}
		f.since()

		for _, m := range f.members[:2] {
			m.cable.cut.Store(true)
		}
		for range 30 {
			time.Sleep(time.Second)
			require.LessOrEqual(t, f.since(), int64(17), "while the state is lost")
		}
		for _, m := range f.members[:2] {
			require.False(t, m.sharing().Connected)
			require.Equal(t, 2, m.sharing().Replicas)
			require.ErrorIs(t, m.sharing().Err, errCut)
			require.InDelta(t, 7, m.slot().Permits, 1)
			m.cable.cut.Store(false)
		}
		third := f.add(state, deepseek.Sharing{})
		third.work(100)
		time.Sleep(5 * time.Second)
		f.since()
		time.Sleep(20 * time.Second)
		require.LessOrEqual(t, f.since(), int64(18))
		require.InDelta(t, 15, f.permits(), 1)
		for _, m := range []*member{f.members[0], f.members[1], third} {
			require.True(t, m.sharing().Connected)
			require.Equal(t, 3, m.sharing().Replicas)
			require.InDelta(t, 5, m.slot().Permits, 1)
		}
		require.Zero(t, f.failed.Load(), "calls that failed")
		m := f.members[0]
		m.mu.Lock()
		defer m.mu.Unlock()
		lost := 0
		for _, e := range m.events {
			if !e.Connected {
				lost++
			}
		}
		require.Equal(t, 1, lost, "%v", m.events)
	})
}

const tryEveryTwenty = 20

// Permits follow the work: within a second of its coming, as answers that are out
// end.
func TestPermitsFollowTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60, deepseektest.WithPace(deepseektest.Pace{FirstToken: 200 * time.Millisecond, Jitter: 0.3}))
		state := deepseek.NewMemoryState()
		busy := f.add(state, deepseek.Sharing{})
		busy.work(200)
		time.Sleep(20 * time.Second)
		require.InDelta(t, 59, busy.inFlight.Load(), 2, "one alone has all of it")

		refused := f.refused.Load()
		late := f.add(state, deepseek.Sharing{})
		late.work(200)
		time.Sleep(1500 * time.Millisecond)
		require.InDelta(t, 30, late.slot().Permits, 1)
		require.InDelta(t, 30, busy.slot().Permits, 1)
		require.InDelta(t, 59, f.inFlight.Load(), 4)
		require.LessOrEqual(t, f.refused.Load()-refused, int64(8), "what was learned need not be learned again") // which costs 12 at least

		late.kill()
		late.callers.Wait()
		require.NoError(t, late.Close())
		time.Sleep(time.Second)
		require.InDelta(t, 59, busy.slot().Permits, 2, "one that is closed gives its permits back at once")
		require.Equal(t, 1, busy.sharing().Replicas)
		require.Zero(t, f.failed.Load())
	})
}

// A replica that has had nothing to do gives its permits up, and gets some as
// soon as it has.
func TestAnIdleReplicaNeedsNoPermits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60)
		state := deepseek.NewMemoryState()
		busy, idle := f.add(state, deepseek.Sharing{}), f.add(state, deepseek.Sharing{})
		require.Equal(t, http.StatusOK, idle.call())
		busy.work(200)
		time.Sleep(30 * time.Second)
		require.InDelta(t, 59, busy.slot().Permits, 2)
		require.Equal(t, 1, idle.slot().Permits)

		start := time.Now()
		idle.work(50)
		time.Sleep(3 * time.Second) // answers take up to 1.3 s
		require.InDelta(t, 30, idle.inFlight.Load(), 3)
		require.Less(t, time.Since(start), 4*time.Second)
	})
}

// No call waits for the shared state, and none fails for it.
func TestASharedStateThatHangsDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1000, deepseektest.WithPace(deepseektest.Pace{}))
		m := f.add(deepseek.NewMemoryState(), deepseek.Sharing{})
		for range 100 {
			require.Equal(t, http.StatusOK, m.call())
		}
		time.Sleep(time.Second)
		m.cable.hangs.Store(true)
		start := time.Now()
		for range 100 {
			require.Equal(t, http.StatusOK, m.call())
		}
		require.Zero(t, time.Since(start))
		time.Sleep(time.Minute)
		require.False(t, m.sharing().Connected)
		start = time.Now()
		for range 100 {
			require.Equal(t, http.StatusOK, m.call())
		}
		require.Zero(t, time.Since(start))
	})
}

// One that is started while the state cannot be reached has an equal share at
// once, and says what is the matter.
func TestReplicaThatStartsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60)
		state := &cable{state: deepseek.NewMemoryState()}
		state.cut.Store(true)
		m := f.add(state, deepseek.Sharing{Replicas: 4})
		m.work(100)
		time.Sleep(20 * time.Second)
		require.InDelta(t, 15, m.inFlight.Load(), 2, "a quarter of what it has learned")
		require.False(t, m.sharing().Connected)
		require.ErrorIs(t, m.sharing().Err, errCut)
		m.mu.Lock()
		require.Len(t, m.events, 1)
		require.Equal(t, deepseek.SharingEvent{Replicas: 4, Err: errCut}, m.events[0])
		m.mu.Unlock()

		state.cut.Store(false)
		time.Sleep(20 * time.Second)
		require.InDelta(t, 59, m.inFlight.Load(), 3)
		require.True(t, m.sharing().Connected)
	})
}

// One that is the first to come back to a state that has forgotten everything, and
// is there several times before the others are, takes nothing that these may hold.
func TestFirstBackAtAForgetfulState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 15)
		first := deepseek.NewMemoryState()
		f.settled(first, 3, 50)
		f.since()
		fresh := deepseek.NewMemoryState()
		for _, m := range f.members {
			m.cable.cut.Store(true)
			m.cable.lead(fresh)
		}
		for _, m := range f.members {
			m.cable.cut.Store(false)
			time.Sleep(1100 * time.Millisecond)
		}
		require.LessOrEqual(t, f.since(), int64(18))
		time.Sleep(10 * time.Second)
		require.InDelta(t, 15, f.permits(), 1)
		require.Zero(t, f.failed.Load())
	})
}

// A state that has forgotten everything in the midst of work costs no more than
// another that was lost: what is held is told again before more is given out.
func TestSharedStateThatForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 15)
		first := deepseek.NewMemoryState()
		f.settled(first, 3, 50)
		for range 5 {
			f.since()
			fresh := deepseek.NewMemoryState()
			for _, m := range f.members {
				m.cable.cut.Store(true)
			}
			synctest.Wait()
			for _, m := range f.members {
				m.cable.lead(fresh)
				m.cable.cut.Store(false)
			}
			time.Sleep(10 * time.Second)
			require.LessOrEqual(t, f.since(), int64(18))
			require.InDelta(t, 15, f.permits(), 1)
		}
		require.Zero(t, f.failed.Load())
	})
}

// What the state returns may be anything: calls go on.
func TestSharedStateThatMakesNoSense(t *testing.T) {
	huge := 1 << 30
	for name, spoil := range map[string]func(*deepseek.SharedView){
		"no epoch":         func(v *deepseek.SharedView) { v.Epoch = "" },
		"no replica":       func(v *deepseek.SharedView) { v.Replicas = 0 },
		"too many":         func(v *deepseek.SharedView) { v.Replicas = huge },
		"no slots":         func(v *deepseek.SharedView) { v.Slots = nil },
		"negative number":  func(v *deepseek.SharedView) { v.At = -1 },
		"share":            func(v *deepseek.SharedView) { v.Slots[0].Share = huge },
		"more than asked":  func(v *deepseek.SharedView) { v.Slots[0].Share = 2501 },
		"negative share":   func(v *deepseek.SharedView) { v.Slots[0].Share = -5 },
		"no limit":         func(v *deepseek.SharedView) { v.Slots[0].Limit.Limit = 0 },
		"huge limit":       func(v *deepseek.SharedView) { v.Slots[0].Limit.Limit = huge },
		"refused":          func(v *deepseek.SharedView) { v.Slots[0].Limit.RefusedAt = -1 },
		"version":          func(v *deepseek.SharedView) { v.Slots[0].Limit.Version = 0 },
		"others":           func(v *deepseek.SharedView) { v.Slots[0].Others = []deepseek.SharedOther{{Want: -1}} },
		"others in flight": func(v *deepseek.SharedView) { v.Slots[0].Others = []deepseek.SharedOther{{Peak: huge}} },
		"panic":            func(*deepseek.SharedView) { panic("in the state") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 60)
				m := f.add(deepseek.NewMemoryState(), deepseek.Sharing{})
				m.cable.spoils(func(v *deepseek.SharedView) {
					if len(v.Slots) > 0 {
						spoil(v)
					}
				})
				m.work(30)
				time.Sleep(racedetector.Less(20*time.Second, 8*time.Second))
				require.Equal(t, int64(30), m.inFlight.Load())
				require.Positive(t, m.sharing().Failures)
				require.Error(t, m.sharing().Err)
				require.Zero(t, f.failed.Load())
			})
		})
	}
	// What makes sense but is not true is no worse than an account with other users.
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60)
		m := f.add(deepseek.NewMemoryState(), deepseek.Sharing{})
		told := false
		m.cable.spoils(func(v *deepseek.SharedView) {
			for i := range v.Slots {
				v.Slots[i].Share, v.Slots[i].Limit.Limit = 0, 1
			}
			if told {
				return
			}
			told = true
			v.Facts = append(v.Facts,
				deepseek.SharedFact{Account: "main", Cause: "402", For: 1 << 62},
				deepseek.SharedFact{Account: "main", Cause: "418", For: 1 << 62},
				deepseek.SharedFact{Account: "nobody", Cause: "401", Key: "00000000", For: -5})
		})
		time.Sleep(time.Second)
		a := m.transport.Stats().Accounts[0]
		require.Equal(t, deepseek.StateOutOfBalance, a.State)
		require.LessOrEqual(t, a.For, 5*time.Minute)
		require.Equal(t, http.StatusOK, m.call(), "the balance says otherwise")
	})
}

// A key that is dead for one is dead for all, and so is an account without money;
// what is well again is so for all.
func TestReplicasShareWhatIsPutAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60, deepseektest.WithPace(deepseektest.Pace{}),
			deepseektest.WithAccount(deepseektest.Account{Name: "spare", Keys: []string{"sk-spare"}}))
		state := deepseek.NewMemoryState()
		spare := deepseek.WithOptions(deepseek.WithStrategy(deepseek.RoundRobin{}),
			deepseek.WithAccounts(deepseek.Account{Name: "spare", Keys: []string{"sk-spare"}}))
		a, b := f.add(state, deepseek.Sharing{}, spare), f.add(state, deepseek.Sharing{}, spare)
		f.srv.RevokeKey("sk-main")
		for range 8 {
			a.call()
		}
		time.Sleep(time.Second)
		find := func(m *member, i int) deepseek.KeyStats { return m.transport.Stats().Accounts[0].Keys[i] }
		require.Equal(t, deepseek.StateUnauthorized, find(a, 0).State)
		require.Equal(t, deepseek.StateUnauthorized, find(b, 0).State)
		require.InDelta(t, 10*time.Minute, find(b, 0).For, float64(2*time.Second))
		require.Equal(t, deepseek.StateActive, find(b, 1).State)
		b.mu.Lock()
		require.Equal(t, "401, told by another replica", b.cools[0].Cause)
		b.mu.Unlock()

		// One that comes later hears of it, and a state that has forgotten is told.
		fresh := deepseek.NewMemoryState()
		a.cable.lead(fresh)
		b.cable.lead(fresh)
		time.Sleep(2 * time.Second)
		c := f.add(fresh, deepseek.Sharing{}, spare)
		time.Sleep(time.Second)
		require.Equal(t, deepseek.StateUnauthorized, find(c, 0).State)

		require.NoError(t, b.transport.Pool().Enable("main"))
		time.Sleep(time.Second)
		for _, m := range f.members {
			require.Equal(t, deepseek.StateActive, find(m, 0).State, "back for all")
		}

		f.srv.SetBalance("main", -1)
		for range 8 {
			a.call()
		}
		time.Sleep(time.Second)
		account := func(m *member) deepseek.AccountStats { return m.transport.Stats().Accounts[0] }
		require.Equal(t, deepseek.StateOutOfBalance, account(b).State)
		before := f.srv.Count(http.StatusPaymentRequired)
		for range 20 {
			require.Equal(t, http.StatusOK, b.call())
		}
		require.Equal(t, before, f.srv.Count(http.StatusPaymentRequired), "nobody tries it again")
		f.srv.SetBalance("main", 10)
		time.Sleep(31 * time.Second) // when the balance is looked at
		for account(c).State != deepseek.StateActive {
			c.call()
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		for _, m := range f.members {
			require.Equal(t, deepseek.StateActive, account(m).State)
		}

		rest := deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("60"))
		f.srv.Enqueue(rest)
		require.Equal(t, http.StatusOK, a.call(), "on the other account")
		time.Sleep(time.Second)
		cooling := 0
		for i, account := range a.transport.Stats().Accounts {
			other := b.transport.Stats().Accounts[i].Models[0]
			require.Equal(t, account.Models[0].State, other.State)
			if other.State == deepseek.StateCooling {
				cooling++
				require.InDelta(t, time.Minute, other.For, float64(2*time.Second))
			}
		}
		require.Equal(t, 1, cooling)
		require.Zero(t, f.failed.Load())
	})
}

// What has ended by itself ends nothing: neither what others know that ends later, when
// one that was cut off comes back with it, nor a lack of money when a replica reloads.
func TestWhatHasEndedByItselfEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60, deepseektest.WithPace(deepseektest.Pace{}))
		state := deepseek.NewMemoryState()
		a, b := f.add(state, deepseek.Sharing{}), f.add(state, deepseek.Sharing{})
		for _, m := range f.members {
			require.Equal(t, http.StatusOK, m.call())
		}
		a.cable.cut.Store(true)
		f.srv.Enqueue(deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("2")))
		require.Equal(t, http.StatusOK, a.call(), "two seconds later")
		f.srv.Enqueue(deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("50")))
		b.callers.Go(func() { b.call() })
		time.Sleep(2 * time.Second)
		a.cable.cut.Store(false)
		time.Sleep(2 * time.Second)
		for _, m := range f.members {
			require.Equal(t, deepseek.StateCooling, m.slot().State)
			require.InDelta(t, 46*time.Second, m.slot().For, float64(time.Second))
		}
		b.callers.Wait()

		f.srv.SetBalance("main", -1)
		require.Equal(t, http.StatusPaymentRequired, a.call())
		time.Sleep(5*time.Minute + 2*time.Second)
		base := f.srv.Transport()
		defer base.CloseIdleConnections()
		next, err := b.transport.Successor(deepseek.WithAccounts(deepseek.Account{Name: "main", Keys: []string{"sk-main", "sk-main-2"}}),
			deepseek.WithBaseURL(f.srv.URL), deepseek.WithTransport(base), deepseek.WithSharedState(b.Replica))
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		require.Equal(t, deepseek.StateOnTrial, a.transport.Stats().Accounts[0].State)
		require.Equal(t, deepseek.StateOnTrial, next.Stats().Accounts[0].State)
	})
}

// What a replica has told comes back to it on the way by which it hears of others: it
// is not told of twice, and lasts no longer.
func TestAReplicaIsNoOtherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60, deepseektest.WithPace(deepseektest.Pace{}))
		m := f.add(deepseek.NewMemoryState(), deepseek.Sharing{})
		m.cable.spoils(func(*deepseek.SharedView) { time.Sleep(50 * time.Millisecond) })
		f.srv.Enqueue(deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("20")))
		m.callers.Go(func() { m.call() })
		time.Sleep(10 * time.Second)
		require.Equal(t, 10*time.Second, m.slot().For)
		m.mu.Lock()
		require.Len(t, m.cools, 1)
		require.Equal(t, "429", m.cools[0].Cause)
		m.mu.Unlock()
		m.callers.Wait()
	})
}
