package deepseek_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// heir is a transport over a fake server, and those that follow it.
type heir struct {
	*testing.T
	*deepseek.Transport
	srv *deepseektest.Server
}

func newHeir(t *testing.T, opts ...deepseek.Option) *heir {
	h := &heir{T: t, srv: deepseektest.NewMemoryServer(
		deepseektest.WithAccount(deepseektest.Account{Name: "a", Keys: []string{"sk-a-1", "sk-a-2", "sk-a-3"}}),
		deepseektest.WithAccount(deepseektest.Account{Name: "b", Keys: []string{"sk-b"}}),
	)}
	t.Cleanup(h.srv.Close)
	var err error
	h.Transport, err = deepseek.NewTransport(h.options(opts)...)
	require.NoError(t, err)
	return h
}

func (h *heir) options(opts []deepseek.Option) []deepseek.Option {
	return append(opts, deepseek.WithBaseURL(h.srv.URL), deepseek.WithTransport(h.srv.Transport()))
}

// succeed puts a successor in the transport's place.
func (h *heir) succeed(opts ...deepseek.Option) {
	h.Helper()
	next, err := h.Successor(h.options(opts)...)
	require.NoError(h, err)
	h.Transport = next
}

func (h *heir) send(stream bool) *http.Response {
	h.Helper()
	body := `{"model":"deepseek-flash","messages":[{"role":"user","content":"Hi"}]}`
	if stream {
		body = `{"stream":true,` + body[1:]
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, h.srv.URL+"/chat/completions", strings.NewReader(body))
	require.NoError(h, err)
	resp, err := h.RoundTrip(req)
	require.NoError(h, err)
	return resp
}

func (h *heir) chat() {
	h.Helper()
	resp := h.send(false)
	_, err := io.ReadAll(resp.Body)
	require.NoError(h, err)
	require.Equal(h, http.StatusOK, resp.StatusCode)
}

func accountsOf(keys ...string) deepseek.Option {
	return deepseek.WithAccounts(deepseek.Account{Name: "a", Keys: keys})
}

var alsoB = deepseek.WithAccounts(deepseek.Account{Name: "b", Keys: []string{"sk-b"}})

func TestSuccessorKnowsWhatWasLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeir(t, accountsOf("sk-a-1", "sk-a-2"), alsoB)
		h.srv.RevokeKey("sk-a-1")
		for range 4 { // some of them with the revoked key
			h.chat()
		}
		h.srv.Enqueue(deepseektest.RateLimited(20).And(deepseektest.WithRetryAfter("30")))
		h.chat()
		before := h.Stats()
		require.Equal(t, deepseek.StateUnauthorized, before.Accounts[0].Keys[0].State)
		cooling := 0
		for i, a := range before.Accounts {
			if a.Models[0].State == deepseek.StateCooling {
				cooling = i
				require.Equal(t, 19, a.Models[0].Limit)
			}
		}

		// Other policies, b before a, and another key for a.
		h.succeed(alsoB, accountsOf("sk-a-3", "sk-a-1"), deepseek.WithQueue(deepseek.Queue{MaxLength: 5}), deepseek.WithTimeouts(deepseek.Timeouts{Silence: time.Second}))
		after := h.Stats()
		require.Equal(t, []string{"b", "a"}, []string{after.Accounts[0].Name, after.Accounts[1].Name})
		same := after.Accounts[1-cooling]
		assert.Equal(t, before.Accounts[cooling].Models, same.Models)
		keys := after.Accounts[1].Keys
		assert.Equal(t, before.Accounts[0].Keys[0], keys[1], "sk-a-1 is put aside as it was")
		assert.Equal(t, deepseek.StateActive, keys[0].State)
		assert.Equal(t, before.Calls, after.Calls)
		assert.Equal(t, before.Spend, after.Spend)
		h.chat()
		assert.Equal(t, before.Calls+1, h.Stats().Calls)
		assert.Greater(t, h.Stats().Spend.Amount, before.Spend.Amount)

		// An account that is not there any more gets nothing.
		h.succeed(accountsOf("sk-a-2"))
		seen := len(h.srv.Requests())
		time.Sleep(time.Minute)
		for range 5 {
			h.chat()
		}
		for _, r := range h.srv.Requests()[seen:] {
			assert.Equal(t, "sk-a-2", r.Key)
		}
		// What was counted stays counted, whatever is on now.
		h.succeed(accountsOf("sk-a-2"), deepseek.WithStreamResume())
		h.srv.Enqueue(deepseektest.CutAfter(20))
		resp := h.send(true)
		_, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		counted := h.Stats()
		assert.EqualValues(t, 1, counted.Resumed)
		h.succeed(accountsOf("sk-a-2"))
		assert.Equal(t, counted.Resumed, h.Stats().Resumed)
		assert.Equal(t, counted.Attempts, h.Stats().Attempts)

		// In another currency all amounts begin anew, also those of accounts that stay.
		h.succeed(accountsOf("sk-a-2"), deepseek.WithPrices(deepseek.PricesCNY()))
		inYuan := h.Stats()
		assert.Equal(t, "CNY", inYuan.Currency)
		assert.Zero(t, inYuan.Spend)
		assert.Zero(t, inYuan.Accounts[0].Spend)
		h.chat()
		inYuan = h.Stats()
		assert.Positive(t, inYuan.Spend.Amount)
		assert.Equal(t, inYuan.Spend, inYuan.Accounts[0].Spend)

		// One that has changed begins anew.
		h.succeed(deepseek.WithAccounts(deepseek.Account{Name: "a", Keys: []string{"sk-a-2"}, MaxConcurrency: 7}))
		h.chat()
		assert.Equal(t, 7, h.Stats().Accounts[0].Models[0].Limit)
	})
}

// Calls under way end as they began, and count for the limits of those that come.
func TestSuccessorAndCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeir(t, accountsOf("sk-a-1"), deepseek.WithMaxConcurrency(1))
		h.srv.Enqueue(deepseektest.PauseAfter(5, 10*time.Second))
		first := h.send(true)
		var waiting sync.WaitGroup
		waiting.Go(func() { h.chat() }) // in the old one's queue
		time.Sleep(time.Second)
		h.succeed(accountsOf("sk-a-1"), deepseek.WithMaxConcurrency(1))
		begin := time.Now()
		waiting.Go(func() { h.chat() })
		synctest.Wait()
		require.EqualValues(t, 2, h.Stats().Waiting)
		require.EqualValues(t, 2, h.Stats().InFlight, "calls that have not got their response yet")
		require.Equal(t, 1, h.Stats().Accounts[0].Models[0].InFlight)
		data, err := io.ReadAll(first.Body)
		require.NoError(t, err)
		require.Contains(t, string(data), "[DONE]")
		waiting.Wait()
		require.Equal(t, 9*time.Second, time.Since(begin))

		// With more room, those who wait get it at once.
		h.srv.Enqueue(deepseektest.PauseAfter(5, 10*time.Second))
		first = h.send(true)
		waiting.Go(func() { h.chat() })
		synctest.Wait()
		begin = time.Now()
		h.succeed(accountsOf("sk-a-1"), deepseek.WithMaxConcurrency(2))
		waiting.Wait()
		require.Zero(t, time.Since(begin))
		require.NoError(t, first.Body.Close())
		// Without its account it still ends normally.
		h.srv.Enqueue(deepseektest.PauseAfter(5, time.Second))
		first = h.send(true)
		h.succeed(alsoB)
		_, err = io.ReadAll(first.Body)
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, h.srv.InFlight("a", ""))
	})
}

func TestSuccessorKeepsTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaker := deepseek.WithBreaker(deepseek.Breaker{MinRequests: 2, OpenFor: time.Minute})
		h := newHeir(t, accountsOf("sk-a-1"), breaker, deepseek.WithoutRetry(), deepseek.WithErrorResponses())
		h.srv.Enqueue(deepseektest.Status(500), deepseektest.Status(500))
		for range 2 {
			require.Equal(t, 500, h.send(false).StatusCode)
		}
		h.succeed(accountsOf("sk-a-1"), breaker, deepseek.WithErrorResponses())
		require.Equal(t, 503, h.send(false).StatusCode)
		require.Equal(t, deepseek.BreakerOpen, h.Stats().Breakers[0].State)
		h.succeed(accountsOf("sk-a-1"), deepseek.WithBreaker(deepseek.Breaker{MinRequests: 3}))
		h.chat()
	})
}

// Another strategy chooses among accounts of which all is known.
func TestSuccessorWithAnotherStrategy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeir(t, accountsOf("sk-a-1"), alsoB, deepseek.WithStrategy(deepseek.RoundRobin{}))
		h.chat()
		before := h.Stats()
		asked := 0
		h.succeed(accountsOf("sk-a-1"), alsoB, deepseek.WithStrategy(deepseek.StrategyFunc(func(list []deepseek.Candidate) int {
			asked++
			return len(list) - 1
		})))
		require.Equal(t, before.Accounts, h.Stats().Accounts)
		require.Equal(t, before.Calls, h.Stats().Calls)
		h.chat()
		require.Equal(t, 1, asked)
	})
}

// Accounts without names are told by their keys, not by their numbers.
func TestSuccessorOfAccountsWithoutNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeir(t, deepseek.WithAPIKeys("sk-a-1", "sk-b"))
		h.srv.RevokeKey("sk-a-1")
		for range 4 {
			h.chat()
		}
		state := func() map[string]deepseek.State {
			states := map[string]deepseek.State{}
			for _, a := range h.Stats().Accounts {
				states[a.Name] = a.Keys[0].State
			}
			return states
		}
		require.Equal(t, map[string]deepseek.State{"account-1": deepseek.StateUnauthorized, "account-2": deepseek.StateActive}, state())
		h.succeed(deepseek.WithAPIKeys("sk-b", "sk-a-2"))
		require.Equal(t, map[string]deepseek.State{"account-2": deepseek.StateActive, "account-3": deepseek.StateActive}, state())
		for range 4 {
			h.chat()
		}
		h.succeed(deepseek.WithAPIKeys("sk-a-2", "sk-b"))
		require.Equal(t, map[string]deepseek.State{"account-2": deepseek.StateActive, "account-3": deepseek.StateActive}, state())
		require.Equal(t, "account-3", h.Stats().Accounts[0].Name)
		// A name that is given now is nobody else's.
		h.succeed(deepseek.WithAPIKeys("sk-b"), deepseek.WithAccounts(deepseek.Account{Name: "account-2", Keys: []string{"sk-a-2"}}))
		require.Equal(t, []string{"account-1", "account-2"}, []string{h.Stats().Accounts[0].Name, h.Stats().Accounts[1].Name})
		require.NoError(t, h.Pool().Disable("account-1"))
		require.NoError(t, h.Pool().Disable("account-2"))
	})
}

func TestSuccessorKnowsHowHostsServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := deepseektest.NewMemoryServer(deepseektest.WithAccount(deepseektest.Account{Name: "s", Keys: []string{"sk-s"}}),
			deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second}))
		defer slow.Close()
		h := newHeir(t, accountsOf("sk-a-1"))
		network := deepseektest.Network(h.srv, slow)
		defer network.CloseIdleConnections()
		options := func(url string) deepseek.Option {
			return deepseek.WithOptions(deepseek.WithTransport(network), deepseek.WithEndpoints(
				deepseek.Endpoint{Name: "fast", BaseURL: h.srv.URL, Accounts: []deepseek.Account{{Name: "a", Keys: []string{"sk-a-1"}}}},
				deepseek.Endpoint{Name: "slow", BaseURL: url, Accounts: []deepseek.Account{{Name: "s", Keys: []string{"sk-s"}}}},
			))
		}
		var err error
		h.Transport, err = deepseek.NewTransport(options(slow.URL))
		require.NoError(t, err)
		for range 20 {
			h.chat()
		}
		before := h.Stats().Endpoints
		require.GreaterOrEqual(t, before[0].Models[0].WholeBody+before[1].Models[0].WholeBody, time.Second)
		h.Transport, err = h.Successor(options(slow.URL))
		require.NoError(t, err)
		require.Equal(t, before, h.Stats().Endpoints)
		h.Transport, err = h.Successor(options("https://elsewhere.example"))
		require.NoError(t, err)
		require.Equal(t, before[0], h.Stats().Endpoints[0])
		require.Empty(t, h.Stats().Endpoints[1].Models, "another host of that name")
	})
}

func TestSuccessorThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeir(t, accountsOf("sk-a-1", "sk-a-2"))
		h.chat()
		before := h.Stats()
		for _, opts := range [][]deepseek.Option{
			{accountsOf("sk-b"), deepseek.WithAPIKeys("")},
			{accountsOf("sk-b"), deepseek.WithQueue(deepseek.Queue{MaxWait: -1})},
			{accountsOf("sk-b"), deepseek.WithBreaker(deepseek.Breaker{Probes: -1})},
			{accountsOf("sk-b"), accountsOf("sk-a-3")},
		} {
			_, err := h.Successor(h.options(opts)...)
			var bad *deepseek.ConfigError
			require.ErrorAs(t, err, &bad)
		}
		require.Equal(t, before, h.Stats())
		h.chat()
	})
}

func TestSuccessorsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeir(t, accountsOf("sk-a-1"), alsoB)
		first := *h
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				for range 50 {
					first.chat()
					time.Sleep(time.Millisecond)
				}
			})
		}
		for i := range 50 {
			keys := []string{"sk-a-1", "sk-a-2", "sk-a-3"}[:1+i%3]
			if i%2 == 0 {
				h.succeed(accountsOf(keys...), alsoB)
			} else {
				h.succeed(accountsOf(keys...))
			}
			h.chat()
			time.Sleep(time.Millisecond)
		}
		calls.Wait()
		synctest.Wait()
		for _, a := range h.Stats().Accounts {
			for _, m := range a.Models {
				require.Zero(t, m.InFlight)
			}
		}
		require.EqualValues(t, 1050, h.Stats().Answered)
	})
}
