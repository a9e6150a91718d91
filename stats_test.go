package deepseek

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The states of accounts, keys, circuits and endpoints, as Stats tells them.
func TestStatsTellWhatIsFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(401), answers)
		tr, err := NewTransport(WithTransport(base), WithRetry(Retry{MaxAttempts: 1}), WithBreaker(Breaker{MinRequests: 1}),
			WithEndpoints(
				Endpoint{Name: "main", Dialect: DialectDeepSeek, Auth: AuthBearer, Accounts: []Account{{Name: "a", Keys: []string{"sk-a-1", "sk-a-2"}}, {Name: "b", Keys: []string{"sk-b-1"}}}},
				Endpoint{Name: "spare", BaseURL: "https://example.com", Dialect: DialectOpenAI, Priority: 1, Accounts: []Account{{Name: "c", Keys: []string{"sk-c-1"}}}},
			))
		require.NoError(t, err)
		call := func(base *script) {
			resp, err := send(t.Context(), tr)
			if err == nil {
				_, _ = readBody(resp)
			}
			synctest.Wait()
		}
		states := func() (main, spare EndpointState) {
			s := tr.Stats()
			require.Len(t, s.Endpoints, 2)
			require.Equal(t, 0, s.Endpoints[0].Priority)
			require.Equal(t, 1, s.Endpoints[1].Priority)
			require.Len(t, s.Accounts, 3)
			return s.Endpoints[0].State, s.Endpoints[1].State
		}
		main, spare := states()
		require.Equal(t, []EndpointState{EndpointUp, EndpointUp}, []EndpointState{main, spare})

		call(base) // one key is wrong, the other answers
		off := 0
		for _, a := range tr.Stats().Accounts {
			for _, k := range a.Keys {
				if k.State == StateUnauthorized {
					off++
					require.Equal(t, keyOffFor, k.For)
				}
			}
			for _, m := range a.Models {
				require.Equal(t, ModelFlash, m.Model)
				require.Equal(t, 2500, m.Limit)
			}
		}
		require.Equal(t, 1, off)

		require.NoError(t, tr.PoolOf("main").Disable("a"))
		require.NoError(t, tr.PoolOf("main").Enable("b"))
		main, spare = states()
		require.Equal(t, []EndpointState{EndpointImpaired, EndpointUp}, []EndpointState{main, spare})
		require.Equal(t, StateDisabled, tr.Stats().Accounts[0].State)
		require.NoError(t, tr.PoolOf("main").Disable("b"))
		main, spare = states()
		require.Equal(t, []EndpointState{EndpointDown, EndpointUp}, []EndpointState{main, spare})
		require.Nil(t, tr.PoolOf("elsewhere"))

		base.steps = []step{status(503), answers}
		base.reqs = nil
		call(base) // the spare fails, and its breaker opens
		main, spare = states()
		require.Equal(t, []EndpointState{EndpointDown, EndpointDown}, []EndpointState{main, spare})
		s := tr.Stats().Endpoints[1]
		require.Len(t, s.Breakers, 1)
		require.Equal(t, BreakerOpen, s.Breakers[0].State)
		require.Positive(t, s.Breakers[0].For)
		require.Len(t, s.Models, 1)
		require.Positive(t, s.Models[0].FaultShare)
		time.Sleep(time.Minute)
		call(base)
		_, spare = states()
		require.Equal(t, EndpointImpaired, spare, "not closed yet")

		text := fmt.Sprintf("%v %+v %#v", tr.Stats(), tr.Stats(), tr.Stats())
		require.NotContains(t, text, "sk-")
	})
}

// What is printed of an account, however it is, tells none of its keys.
func TestAccountsPrintNoKeys(t *testing.T) {
	a := Account{Name: "main", Keys: []string{secretKey, "sk-other-other"}}
	want := "main[#" + fingerprint(secretKey) + " #" + fingerprint("sk-other-other") + "]"
	require.Equal(t, want, a.LogValue().String())
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.Equal(t, want, fmt.Sprintf(format, a), format)
	}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", []Account{a}, struct{ A *Account }{&a}, Endpoint{Accounts: []Account{a}}), "sk-")
}

// A key that was refused and is accepted again is told of, once.
func TestKeyThatWorksAgainIsTold(t *testing.T) {
	for _, code := range []int{401, 403} {
		synctest.Test(t, func(t *testing.T) {
			var told []CooldownEvent
			tr := transportOver(t, scripted(status(code), streamReply(wholeStream)), WithoutRetry(), WithObserver(Observer{
				Cooldown: func(e CooldownEvent) { told = append(told, e) },
			}))
			ask := func() {
				resp, err := sendStream(t.Context(), tr)
				require.NoError(t, err)
				_, err = readBody(resp)
				require.NoError(t, err)
			}
			ask()
			require.Len(t, told, 1)
			require.NotEqual(t, StateActive, told[0].State)
			time.Sleep(told[0].For)
			require.Len(t, told, 1)
			ask()
			ask()
			require.Len(t, told, 2)
			require.Equal(t, CooldownEvent{Context: t.Context(), Account: told[0].Account, Key: told[0].Key, State: StateActive, Cause: "success"}, told[1])
		})
	}
}

// The start of a call is told with what is known of it then.
func TestCallStartIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started []CallStartEvent
		var cooled []CooldownEvent
		tr := transportOver(t, scripted(status(401), streamReply(wholeStream)), WithAPIKeys("sk-other-other"), WithObserver(Observer{
			CallStart: func(e CallStartEvent) { started = append(started, e) },
			Cooldown:  func(e CooldownEvent) { cooled = append(cooled, e) },
		}))
		resp, err := sendStream(t.Context(), tr)
		require.NoError(t, err)
		_, err = readBody(resp)
		require.NoError(t, err)
		require.Equal(t, []CallStartEvent{{Context: t.Context(), Method: "POST", Path: "/chat/completions", Model: ModelFlash, Stream: true}}, started)
		require.Len(t, cooled, 1)
		require.Equal(t, StateUnauthorized, cooled[0].State)
		require.Equal(t, "401", cooled[0].Cause)
		require.Equal(t, keyOffFor, cooled[0].For)
	})
}
