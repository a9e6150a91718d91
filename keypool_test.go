package deepseek

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func manyKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("sk-test-%05d", i)
	}
	return keys
}

// newTestPool has n accounts with a key each.
func newTestPool(tb testing.TB, n int) *Pool {
	accounts := make([]Account, n)
	for i, k := range manyKeys(n) {
		accounts[i] = Account{Keys: []string{k}}
	}
	p, err := NewPool(nil, accounts...)
	require.NoError(tb, err)
	return p
}

// keyBase answers by the key of the request.
type keyBase struct {
	mu     sync.Mutex
	answer map[string]string // key → status and, after a blank, body; default 200
	seen   []string          // keys in order, with the path for others than /
	header http.Header       // for answers that are not 200
}

func (b *keyBase) set(key, answer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answer == nil {
		b.answer = map[string]string{}
	}
	b.answer[key] = answer
}

func (b *keyBase) took() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.seen
	b.seen = nil
	return seen
}

func (b *keyBase) RoundTrip(req *http.Request) (*http.Response, error) {
	key := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	b.mu.Lock()
	defer b.mu.Unlock()
	name := key
	if req.URL.Path == "/user/balance" {
		name = "balance of " + key
	}
	b.seen = append(b.seen, name)
	status, body := 200, "{}"
	if a, ok := b.answer[name]; ok {
		var code string
		code, body, _ = strings.Cut(a, " ")
		_, _ = fmt.Sscan(code, &status)
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if status != 200 {
		for k, v := range b.header {
			h[k] = v
		}
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req}, nil
}

// pooled is the pool over a guard, and the status of one call through it.
func pooled(t *testing.T, base http.RoundTripper, accounts ...Account) (*Pool, func() (int, error)) {
	p, err := NewPool(LeastLoaded{}, accounts...)
	require.NoError(t, err)
	rt := Chain(p.Middleware(), NewGuard(Timeouts{}, false))(base)
	return p, func() (int, error) { return statusOf(t.Context(), rt) }
}

func statusOf(ctx context.Context, rt http.RoundTripper) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/chat/completions", strings.NewReader(smallRequest))
	if err != nil {
		return 0, err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Body.Close()
}

func account1(name string, keys ...string) Account { return Account{Name: name, Keys: keys} }

func TestPool401GoesToTheNextKeyAndPutsItAsideForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("bad", "401")
		p, call := pooled(t, base, account1("main", "bad", "good"))
		for range 5 {
			status, err := call()
			require.NoError(t, err)
			require.Equal(t, 200, status)
		}
		n := 0
		for _, k := range base.took() {
			if k == "bad" {
				n++
			}
		}
		require.Equal(t, 1, n, "asked once")
		require.Equal(t, StateUnauthorized, p.Stats()[0].Keys[0].State)
		require.Equal(t, StateActive, p.Stats()[0].State)
		time.Sleep(keyOffFor)
		base.set("bad", "200 {}")
		for range 4 {
			_, _ = call()
		}
		require.Contains(t, base.took(), "bad", "tried again after a long interval")
	})
}

// A key that was refused while another call with it was under way, and then is
// accepted, is taken again at once, for all models.
func TestPoolKeyThatIsAcceptedAfterAllIsTakenAgain(t *testing.T) {
	for _, refusal := range []int{401, 403} {
		synctest.Test(t, func(t *testing.T) {
			tr := transportOver(t, roundTripper(func(req *http.Request) (*http.Response, error) {
				switch req.URL.Query().Get("how") {
				case "slow":
					time.Sleep(10 * time.Second)
				case "refused":
					return status(refusal)(req)
				}
				return answers(req)
			}))
			call := func(model, how string) (*http.Response, error) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, testURL+"?how="+how, strings.NewReader(`{"model":"`+model+`","messages":[]}`))
				require.NoError(t, err)
				return tr.RoundTrip(req)
			}
			_, err := call(ModelPro, "")
			require.NoError(t, err)
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = call(ModelFlash, "slow") })
			synctest.Wait()
			resp, err := call(ModelFlash, "refused")
			require.NoError(t, err)
			require.Equal(t, refusal, resp.StatusCode)
			for _, model := range []string{ModelFlash, ModelPro} { // they find the key aside
				wg.Go(func() { _, _ = call(model, "") })
			}
			wg.Wait()
			for _, model := range []string{ModelFlash, ModelPro} {
				start := time.Now()
				_, err := call(model, "")
				require.NoError(t, err)
				require.Zero(t, time.Since(start))
			}
		})
	}
}

func TestPool401WithNoKeyLeftIsTheAnswer(t *testing.T) {
	base := &keyBase{}
	for _, k := range []string{"a", "b", "c"} {
		base.set(k, `401 {"error":{"message":"no"}}`)
	}
	_, call := pooled(t, base, account1("one", "a", "b"), account1("two", "c"))
	status, err := call()
	require.NoError(t, err)
	require.Equal(t, 401, status)
	require.ElementsMatch(t, []string{"a", "b", "c"}, base.took(), "every key once")
	_, err = call()
	require.ErrorIs(t, err, ErrNoAccount)
	require.ErrorIs(t, err, ErrAuthentication)
	require.ErrorContains(t, err, "2 accounts: 2 unauthorized")
	require.Empty(t, base.took(), "nothing was sent")
}

func TestPool402GoesToTheNextAccountNotTheNextKey(t *testing.T) {
	base := &keyBase{}
	base.set("a1", "402")
	base.set("a2", "402")
	p, call := pooled(t, base, account1("a", "a1", "a2"), account1("b", "b1"))
	for range 4 {
		status, err := call()
		require.NoError(t, err)
		require.Equal(t, 200, status)
	}
	n := 0
	for _, k := range base.took() {
		if k[0] == 'a' {
			n++
		}
	}
	require.Equal(t, 1, n)
	require.Equal(t, StateOutOfBalance, p.Stats()[0].State)
}

func TestPool402WithNothingLeftIsTheAnswerAndThenSaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("a", "402")
		_, call := pooled(t, base, account1("a", "a"))
		status, err := call()
		require.NoError(t, err)
		require.Equal(t, 402, status)
		_, err = call()
		require.ErrorIs(t, err, ErrNoAccount)
		require.ErrorIs(t, err, ErrInsufficientBalance)
		var none *NoAccountError
		require.ErrorAs(t, err, &none)
		require.Equal(t, accountOffFor, none.RetryIn)
		require.Equal(t, []string{"a"}, base.took())
	})
}

func TestPoolBrokeAccountComesBackWhenItsBalanceSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("a", "402")
		base.set("balance of a", `200 {"is_available":false}`)
		p, call := pooled(t, base, account1("a", "a"))
		_, _ = call()
		time.Sleep(balanceEvery)
		_, err := call()
		require.ErrorIs(t, err, ErrInsufficientBalance)
		_, err = call()
		require.ErrorIs(t, err, ErrInsufficientBalance)
		require.Equal(t, []string{"a", "balance of a"}, base.took(), "asked once each half minute")
		base.set("balance of a", `200 {"is_available":true}`)
		base.set("a", "200 {}")
		time.Sleep(balanceEvery)
		status, err := call()
		require.NoError(t, err)
		require.Equal(t, 200, status)
		require.Equal(t, []string{"balance of a", "a"}, base.took())
		require.Equal(t, StateActive, p.Stats()[0].State)
	})
}

// What costs nothing is answered without money, and tells nothing of it.
func TestPoolFreeCallsNeedNoMoney(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("a", "402")
		base.set("balance of a", `200 {"is_available":false}`)
		var told []CooldownEvent
		p, err := NewPool(nil, account1("a", "a"))
		require.NoError(t, err)
		rt := Chain(NewObserve(Observer{Cooldown: func(e CooldownEvent) { told = append(told, e) }}), p.Middleware())(base)
		balance := func() {
			req, err := http.NewRequest(http.MethodGet, "https://api.deepseek.com/user/balance", nil)
			require.NoError(t, err)
			resp, err := rt.RoundTrip(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 200, resp.StatusCode)
		}
		status, err := statusOf(t.Context(), rt)
		require.NoError(t, err)
		require.Equal(t, 402, status)
		balance()
		require.Equal(t, StateOutOfBalance, p.Stats()[0].State)
		time.Sleep(accountOffFor)
		require.Equal(t, StateOnTrial, p.Stats()[0].State)
		balance()
		require.Equal(t, StateOnTrial, p.Stats()[0].State)
		require.Len(t, told, 1)
		status, err = statusOf(t.Context(), rt)
		require.NoError(t, err)
		require.Equal(t, 402, status, "the trial")
		require.Equal(t, StateOutOfBalance, p.Stats()[0].State)
	})
}

// A free call that is refused for want of money all the same goes round once.
func TestPoolFreeCallsThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("balance of a", "402")
		base.set("balance of b", "402")
		p, err := NewPool(nil, account1("a", "a"), account1("b", "b"))
		require.NoError(t, err)
		req, err := http.NewRequest(http.MethodGet, "https://api.deepseek.com/user/balance", nil)
		require.NoError(t, err)
		resp, err := Chain(p.Middleware())(base).RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 402, resp.StatusCode)
		require.ElementsMatch(t, []string{"balance of a", "balance of b"}, base.took())
	})
}

func TestPoolBalanceIsAskedBesideCallsThatOthersServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("a", "402")
		base.set("balance of a", `200 {"is_available":true}`)
		p, call := pooled(t, base, account1("a", "a"), account1("b", "b"))
		for range 2 {
			_, _ = call()
		}
		require.Equal(t, StateOutOfBalance, p.Stats()[0].State)
		time.Sleep(balanceEvery)
		_, _ = call()
		synctest.Wait()
		if p.Stats()[0].State != StateActive { // the call may have been over first
			time.Sleep(balanceEvery)
			_, _ = call()
			synctest.Wait()
		}
		require.Contains(t, base.took(), "balance of a")
	})
}

func TestPoolBrokeAccountIsProbedByOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("a", "402")
		base.set("balance of a", "404") // a host that has no such thing
		p, err := NewPool(nil, account1("a", "a"))
		require.NoError(t, err)
		held := &heldBase{}
		broke := true
		rt := Chain(p.Middleware())(roundTripper(func(r *http.Request) (*http.Response, error) {
			if broke || r.URL.Path == "/user/balance" {
				return base.RoundTrip(r)
			}
			return held.RoundTrip(r)
		}))
		status, err := statusOf(t.Context(), rt)
		require.NoError(t, err)
		require.Equal(t, 402, status)
		broke = false
		time.Sleep(accountOffFor)
		require.Equal(t, StateOnTrial, p.Stats()[0].State)
		go func() { _, _ = statusOf(t.Context(), rt) }()
		synctest.Wait()
		_, err = statusOf(t.Context(), rt)
		require.ErrorIs(t, err, ErrQueueFull, "the others wait for the probe")
		require.Len(t, held.seen(), 1)
		held.release(nil)
		synctest.Wait()
		require.Equal(t, StateActive, p.Stats()[0].State)
	})
}

// Calls for other models that wait for the one call are told of the 402 that it
// brings.
func TestPoolTrialThatFailsIsKnownToAllModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transportOver(t, roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/user/balance" {
				return status(404)(req)
			}
			time.Sleep(2 * time.Second)
			return status(402)(req)
		}))
		call := func(model string) (*http.Response, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, strings.NewReader(`{"model":"`+model+`","messages":[]}`))
			require.NoError(t, err)
			return tr.RoundTrip(req)
		}
		_, _ = call(ModelFlash)
		time.Sleep(accountOffFor)
		go func() { _, _ = call(ModelFlash) }()
		synctest.Wait()
		start := time.Now()
		_, err := call(ModelPro)
		require.ErrorIs(t, err, ErrInsufficientBalance)
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

func TestPool403GoesToTheNextKeyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		for _, k := range []string{"a", "b", "c"} {
			base.set(k, "403")
		}
		_, call := pooled(t, base, account1("x", "a", "b", "c"))
		status, err := call()
		require.NoError(t, err)
		require.Equal(t, 403, status)
		require.Len(t, base.took(), 2)
		time.Sleep(keyCoolFor)
		base.set("a", "200 {}")
		base.set("b", "200 {}")
		base.set("c", "200 {}")
		status, err = call()
		require.NoError(t, err)
		require.Equal(t, 200, status)
	})
}

// A key that is rejected while all other accounts are busy: the call waits for
// them, where there is a waiting room, and gets no 401 of an account that it
// does not need.
func TestPool401WaitsForTheOthersToHaveRoom(t *testing.T) {
	for _, status := range []string{"401", "402", "403"} {
		synctest.Test(t, func(t *testing.T) {
			keys, held := &keyBase{}, &heldBase{}
			keys.set("b", status)
			base := roundTripper(func(req *http.Request) (*http.Response, error) {
				if body, err := io.ReadAll(req.Body); err != nil || string(body) != smallRequest {
					return nil, fmt.Errorf("body %q, %v", body, err)
				}
				if req.Header.Get("Authorization") == "Bearer b" {
					return keys.RoundTrip(req)
				}
				return held.RoundTrip(req)
			})
			p, err := NewPool(LeastLoaded{}, Account{Name: "a", Keys: []string{"a"}, MaxConcurrency: 1}, account1("b", "b"))
			require.NoError(t, err)
			room, err := NewQueue(Queue{})
			require.NoError(t, err)
			rt := Chain(room, p.Middleware())(base)

			require.NoError(t, p.Disable("b"))
			go func() { _, _ = statusOf(t.Context(), rt) }()
			synctest.Wait()
			require.NoError(t, p.Enable("b"))
			got := make(chan int, 1)
			go func() {
				code, err := statusOf(t.Context(), rt)
				require.NoError(t, err)
				got <- code
			}()
			synctest.Wait()
			require.Equal(t, []string{"b"}, keys.took(), "it was tried")
			require.Empty(t, got, "and waits")
			held.release(nil)
			synctest.Wait()
			held.release(nil)
			require.Equal(t, 200, <-got)
		})
	}
}

func TestPool429GoesToAnAccountWithRoomAtOnce(t *testing.T) {
	base := &keyBase{}
	base.set("a", `429 {"error":{"message":"… exceeds your concurrency limit of 25 based on your remaining balance."}}`)
	p, call := pooled(t, base, account1("a", "a"), account1("b", "b"))
	for range 4 {
		status, err := call()
		require.NoError(t, err)
		require.Equal(t, 200, status)
	}
	require.Equal(t, 24, p.Stats()[0].Models[0].Limit, "one below the number in the text")
	require.Equal(t, 2500, p.Stats()[1].Models[0].Limit, "the published number")
}

func TestPoolRetryAfterCoolsTheAccountForThatModelOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{header: http.Header{"Retry-After": {"20"}}}
		base.set("a", "429 busy")
		p, call := pooled(t, base, account1("a", "a"), account1("b", "b"))
		for range 10 {
			_, _ = call()
		}
		seen := strings.Join(base.took(), "")
		require.Equal(t, 1, strings.Count(seen, "a"))
		require.Equal(t, StateCooling, p.Stats()[0].Models[0].State)
		require.Equal(t, 20*time.Second, p.Stats()[0].Models[0].For)
		require.Equal(t, StateActive, p.Stats()[0].State)
		time.Sleep(20 * time.Second)
		base.set("a", "200 {}")
		for range 4 {
			_, _ = call()
		}
		require.Contains(t, base.took(), "a")
	})
}

func TestPoolLongerCooldownIsNotMadeShorter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 1)
		m := p.model("m")
		c := &call{Context: t.Context()}
		one, err := m.acquire(c, 0, nil)
		require.NoError(t, err)
		two, err := m.acquire(c, 0, nil)
		require.NoError(t, err)
		one.finish(c, verdict{outcome: throttled, wait: 60 * time.Second})
		two.finish(c, verdict{outcome: throttled, wait: 5 * time.Second})
		_, until := m.bench.Load().slots[0].state(time.Now())
		require.Equal(t, 60*time.Second, time.Until(time.Unix(0, until)))

		k := p.find("account-1").ring().keys[0]
		p.find("account-1").keyAside(c, k, unauthorized, time.Now())
		p.find("account-1").keyAside(c, k, forbidden, time.Now())
		require.Equal(t, time.Now().Add(keyOffFor).UnixNano(), k.until())
	})
}

func TestPool429NeverCountsTowardA401(t *testing.T) {
	base := &keyBase{}
	base.set("a", "429 busy")
	p, call := pooled(t, base, account1("a", "a"))
	for range 20 {
		_, _ = call()
	}
	require.Equal(t, StateActive, p.Stats()[0].Keys[0].State)
}

func TestPoolLeavesServerFaultsToOthers(t *testing.T) {
	for _, status := range []int{400, 404, 413, 422, 500, 503} {
		base := &keyBase{}
		base.set("a", fmt.Sprint(status))
		base.set("b", fmt.Sprint(status))
		p, call := pooled(t, base, account1("a", "a"), account1("b", "b"))
		got, err := call()
		require.NoError(t, err)
		require.Equal(t, status, got)
		require.Len(t, base.took(), 1)
		for _, a := range p.Stats() {
			require.Equal(t, StateActive, a.State)
		}
	}
}

func TestPoolSetsTheHeaderThePathWants(t *testing.T) {
	var got http.Header
	p, err := NewPool(nil, account1("a", "sk-real"))
	require.NoError(t, err)
	rt := p.Middleware()(roundTripper(func(r *http.Request) (*http.Response, error) {
		got = r.Header
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
	}))
	for path, want := range map[string]http.Header{
		"/v1/chat/completions":   {"Authorization": {"Bearer sk-real"}},
		"/anthropic/v1/messages": {"X-Api-Key": {"sk-real"}},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+path, nil)
		req.Header.Set("Authorization", "Bearer placeholder")
		req.Header.Set("X-Api-Key", "placeholder")
		_, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, want, got, path)
		require.Equal(t, "placeholder", req.Header.Get("X-Api-Key"), "the caller's request is unchanged")
	}
}

func TestPoolTakesKeysThatTheServerRepeatsOutOfErrors(t *testing.T) {
	base := &keyBase{}
	base.set("sk-very-secret", `401 {"error":{"message":"key sk-very-secret is invalid"}}`)
	p, err := NewPool(nil, account1("a", "sk-very-secret"))
	require.NoError(t, err)
	rt := Chain(p.Middleware(), NewGuard(Timeouts{}, false))(base)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/models", nil)
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	body, _ := io.ReadAll(resp.Body)
	require.NotContains(t, string(body), "sk-very-secret")
	require.Contains(t, string(body), "#"+fingerprint("sk-very-secret"))
}

func TestPoolSpreadsEvenlyAndByWeight(t *testing.T) {
	take := func(p *Pool, n int) map[string]int {
		m, got := p.model("m"), map[string]int{}
		for range n {
			c := &call{Context: t.Context()}
			_, err := m.acquire(c, 0, nil)
			require.NoError(t, err)
			got[c.to.account()]++
		}
		return got
	}
	even, err := NewPool(nil, account1("a", "1"), account1("b", "2"), account1("c", "3"))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 10, "b": 10, "c": 10}, take(even, 30))

	weighted, err := NewPool(nil, Account{Name: "a", Keys: []string{"1"}, Weight: 3}, account1("b", "2"))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 30, "b": 10}, take(weighted, 40))

	byLimit, err := NewPool(nil, Account{Name: "a", Keys: []string{"1"}, MaxConcurrency: 40}, Account{Name: "b", Keys: []string{"2"}, MaxConcurrency: 10})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 32, "b": 8}, take(byLimit, 40))
}

func TestPoolTurnsAmongEquals(t *testing.T) {
	p := newTestPool(t, 5)
	m, got := p.model("m"), map[string]int{}
	for range 100 { // one at a time: all are equal each time
		c := &call{Context: t.Context()}
		permit, err := m.acquire(c, 0, nil)
		require.NoError(t, err)
		permit.finish(c, verdict{outcome: answered})
		got[c.to.account()]++
	}
	for name, n := range got {
		require.Equal(t, 20, n, name)
	}
}

func TestPoolFailingAccountThatAnswersQuicklyAttractsNoLoad(t *testing.T) {
	base := &keyBase{}
	base.set("a", "402")
	_, call := pooled(t, base, account1("a", "a"), account1("b", "b"))
	for range 100 {
		_, err := call()
		require.NoError(t, err)
	}
	require.LessOrEqual(t, strings.Count(strings.Join(base.took(), ""), "a"), 2)
}

func TestPoolFindsTheOneWithRoomAmongMany(t *testing.T) {
	p := newTestPool(t, 10_000)
	m := p.model("m")
	for _, a := range *p.accounts.Load() {
		if a.name != "account-7777" {
			a.disabled.Store(true)
		}
	}
	c := &call{Context: t.Context()}
	for range 100 {
		permit, err := m.acquire(c, 0, nil)
		require.NoError(t, err)
		require.Equal(t, "account-7777", c.to.account())
		permit.finish(c, verdict{outcome: answered})
	}
}

func TestPoolChangesAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := &heldBase{}
		p, err := NewPool(nil, Account{Name: "a", Keys: []string{"sk-a"}, MaxConcurrency: 1})
		require.NoError(t, err)
		room, err := newWaitingRoom(Queue{})
		require.NoError(t, err)
		rt := Chain(layer(room.do), p.Middleware())(held)
		results := make(chan error, 10)
		send := func() {
			go func() { _, err := statusOf(t.Context(), rt); results <- err }()
			synctest.Wait()
		}
		send()
		send()
		require.Len(t, held.seen(), 1, "the second waits")
		require.NoError(t, p.Add(Account{Name: "b", Keys: []string{"sk-b"}, MaxConcurrency: 1}))
		synctest.Wait()
		require.Len(t, held.seen(), 2, "room at once")

		require.NoError(t, p.Remove("a"))
		send()
		require.Len(t, held.seen(), 2)
		held.release(nil) // the removed account's call ends normally
		require.NoError(t, <-results)
		require.Len(t, held.seen(), 2, "and its room is gone")
		held.release(nil)
		require.NoError(t, <-results)
		synctest.Wait()
		require.Len(t, held.seen(), 3)
		held.release(nil)
		require.NoError(t, <-results)

		require.NoError(t, p.Disable("b"))
		_, err = statusOf(t.Context(), rt)
		require.ErrorIs(t, err, ErrNoAccount)
		require.ErrorContains(t, err, "disabled")
		require.NoError(t, p.Enable("b"))
		send()
		held.release(nil)
		require.NoError(t, <-results)

		require.NoError(t, p.AddKey("b", "sk-b2"))
		require.NoError(t, p.RemoveKey("b", "sk-b"))
		require.Len(t, p.Stats()[0].Keys, 1)
		require.Equal(t, fingerprint("sk-b2"), p.Stats()[0].Keys[0].Fingerprint)
		require.NoError(t, p.RemoveKey("b", fingerprint("sk-b2")))
		_, err = statusOf(t.Context(), rt)
		require.ErrorIs(t, err, ErrNoAccount)
		require.NoError(t, p.Remove("b"))
		_, err = statusOf(t.Context(), rt)
		require.ErrorContains(t, err, "the pool is empty")
	})
}

func TestPoolRefusesBadAccounts(t *testing.T) {
	ok := account1("a", "sk-a")
	for name, accounts := range map[string][]Account{
		`Account "account-1".Keys`:            {{}},
		`Account "b".Keys[1]: is empty`:       {account1("b", "x", " ")},
		`position 2`:                          {account1("b", "sk key")},
		`Account "a".Name`:                    {ok, account1("a", "other")},
		`is in account "a" already`:           {ok, account1("b", "sk-a")},
		`Account "b".MaxConcurrency -1`:       {{Name: "b", Keys: []string{"x"}, MaxConcurrency: -1}},
		`Account "b".Weight -2`:               {{Name: "b", Keys: []string{"x"}, Weight: -2}},
		`Keys[1] #` + fingerprint("sk-twice"): {account1("b", "sk-twice", "sk-twice")},
	} {
		_, err := NewPool(nil, accounts...)
		var bad *ConfigError
		require.ErrorAs(t, err, &bad, name)
		require.ErrorContains(t, err, name)
		require.NotContains(t, err.Error(), "sk-twice")
	}
	p, err := NewPool(nil, ok)
	require.NoError(t, err)
	require.ErrorContains(t, p.Remove("nobody"), "nobody")
	require.ErrorContains(t, p.Enable("nobody"), "nobody")
	require.ErrorContains(t, p.Disable("nobody"), "nobody")
	require.ErrorContains(t, p.AddKey("nobody", "k"), "nobody")
	require.ErrorContains(t, p.RemoveKey("a", "other"), "not in account")
}

func TestPoolModelsOfUnknownNamesAreBounded(t *testing.T) {
	p := newTestPool(t, 1)
	for i := range 10 * maxModels {
		p.model(fmt.Sprint("model", i))
	}
	require.LessOrEqual(t, len(p.models.all()), maxModels+1)
	require.Same(t, p.model("one more"), p.model("and another"))
	require.NotSame(t, p.model("one more"), p.model(ModelPro), "those that are known have their own, whatever was asked for before")
	require.NotSame(t, p.model(ModelFlash), p.model(ModelPro))

	p = newTestPool(t, 1)
	require.Same(t, p.model(strings.Repeat("x", maxModelName+1)), p.model(strings.Repeat("y", 1<<20)))
	require.NotSame(t, p.model(strings.Repeat("x", maxModelName)), p.model(strings.Repeat("y", maxModelName)))
	require.Len(t, p.models.all(), 3, "what no model can be called is not kept")
}

func TestPoolConcurrentUse(t *testing.T) {
	p, err := NewPool(nil,
		Account{Name: "a", Keys: []string{"a1", "a2"}, MaxConcurrency: 3},
		Account{Name: "b", Keys: []string{"b1"}, MaxConcurrency: 2},
	)
	require.NoError(t, err)
	room, err := newWaitingRoom(Queue{})
	require.NoError(t, err)
	base := &keyBase{}
	base.set("a2", "401")
	rt := Chain(layer(room.do), p.Middleware(), NewGuard(Timeouts{}, false))(base)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 50 {
				status, err := statusOf(t.Context(), rt)
				if err != nil || status != 200 {
					t.Errorf("status %d, error %v", status, err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			name := fmt.Sprint("extra", i)
			if err := errors.Join(p.Add(account1(name, name)), p.Remove(name)); err != nil {
				t.Error(err)
			}
			_ = p.Stats()
		}
	})
	wg.Wait()
	for _, a := range p.Stats() {
		require.Zero(t, a.Models[0].InFlight)
	}
	require.Zero(t, room.length.Load())
}

// An account that is added while a model's accounts are being gathered for the
// first time is one of them.
func TestAccountAddedWhileAModelIsNew(t *testing.T) {
	accounts := make([]Account, 1000)
	for i := range accounts {
		accounts[i] = account1(fmt.Sprintf("account %d", i), fmt.Sprintf("sk-%d", i))
	}
	for i := range 40 {
		p, err := NewPool(nil, accounts...)
		require.NoError(t, err)
		made := make(chan *modelPool)
		go func() { made <- p.model("m") }()
		for range 10 * i {
			runtime.Gosched()
		}
		require.NoError(t, p.Add(account1("new", "sk-new")))
		m := <-made
		require.Len(t, m.bench.Load().slots, len(accounts)+1)
	}
}

// The question for the balance is over before the call is, whatever the base does.
func TestBalanceCheckEndsWithItsCall(t *testing.T) {
	for name, how := range map[string]func(ctx context.Context){
		"a base that takes its time": func(ctx context.Context) { <-ctx.Done(); time.Sleep(time.Second) },
		"a base that panics":         func(context.Context) { panic("balance") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &keyBase{}
				base.set("a", "402")
				var asked, over atomic.Int64
				p, err := NewPool(nil, account1("a", "a"), account1("b", "b"))
				require.NoError(t, err)
				rt := p.Middleware()(roundTripper(func(req *http.Request) (*http.Response, error) {
					if req.URL.Path != "/user/balance" {
						time.Sleep(time.Second)
						return base.RoundTrip(req)
					}
					asked.Add(1)
					defer over.Add(1)
					how(req.Context())
					return nil, req.Context().Err()
				}))
				for range 3 {
					_, err := statusOf(t.Context(), rt)
					require.NoError(t, err)
					require.Equal(t, asked.Load(), over.Load())
					time.Sleep(balanceEvery)
				}
				require.Positive(t, asked.Load())
				require.Equal(t, StateOutOfBalance, p.Stats()[0].State)
			})
		})
	}
}

// Of several accounts that say when to come back, the soonest is waited for; and none
// of them, where another will have room before.
func TestSoonestOfSeveral429s(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second string        // Retry-After, in seconds; empty: it answers
		busy          time.Duration // with another call, for so long
		took          time.Duration
		queue         Queue
	}{
		"the other in an hour":     {"5", "3600", 0, 5 * time.Second, Queue{}},
		"the other sooner":         {"3600", "5", 0, 5 * time.Second, Queue{}},
		"the other somewhat later": {"5", "40", 0, 5 * time.Second, Queue{}},
		"the other is full":        {"40", "", 3 * time.Second, 3 * time.Second, Queue{}},
		"an hour, the other full":  {"3600", "", 3 * time.Second, 3 * time.Second, Queue{}},
		"the other full for long":  {"2", "", time.Minute, 2 * time.Second, Queue{}},
		"nowhere to wait":          {"2", "", time.Minute, 2 * time.Second, Queue{MaxLength: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var second atomic.Int64
				said := map[string]int{}
				base := roundTripper(func(req *http.Request) (*http.Response, error) {
					key := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
					after := map[string]string{"one": tt.first, "two": tt.second}[key]
					if key == "two" {
						second.Add(1)
					}
					if said[key]++; key == "two" && after == "" && said[key] == 1 {
						return jsonReply(tt.busy, wholeAnswer)(req)
					}
					if after == "" || said[key] > 1 {
						return answers(req)
					}
					return status(429, "Retry-After: "+after)(req)
				})
				tr, err := NewTransport(WithTransport(base), WithBaseURL(DefaultBaseURL), WithStrategy(RoundRobin{}), WithQueue(tt.queue), WithRetry(Retry{MinInterval: time.Millisecond, MaxInterval: time.Millisecond}),
					WithAccounts(Account{Name: "one", Keys: []string{"one"}, MaxConcurrency: 9}, Account{Name: "two", Keys: []string{"two"}, MaxConcurrency: 1}))
				require.NoError(t, err)
				if tt.second == "" { // another call is there
					require.NoError(t, tr.Pool().Disable("one"))
					go func() { _, _ = send(t.Context(), tr) }()
					synctest.Wait()
					require.EqualValues(t, 1, second.Load())
					require.NoError(t, tr.Pool().Enable("one"))
				}
				start := time.Now()
				resp, err := send(t.Context(), tr)
				require.NoError(t, err)
				require.Equal(t, 200, resp.StatusCode)
				require.InDelta(t, tt.took.Seconds(), time.Since(start).Seconds(), 0.1)
			})
		})
	}
}

// Where no other account can serve a call, one that is asked to wait for longer than
// is accepted gets the 429, whoever else waits.
func TestLong429WithOthersInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			if time.Sleep(time.Second); first {
				first = false
				return status(429, "Retry-After: 300")(req)
			}
			return answers(req)
		})
		tr, err := NewTransport(WithTransport(base), WithBaseURL(DefaultBaseURL), WithAccounts(Account{Keys: []string{"sk-a"}, MaxConcurrency: 1}))
		require.NoError(t, err)
		go func() {
			time.Sleep(time.Millisecond)
			_, _ = send(t.Context(), tr)
		}()
		start := time.Now()
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		require.Equal(t, 429, resp.StatusCode)
		require.Equal(t, time.Second, time.Since(start))
		time.Sleep(time.Hour)
	})
}
