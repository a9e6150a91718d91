package deepseektest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var twoKeys = Account{Name: "one", Keys: []string{testKey, "sk-two"}, Limits: map[string]int{"deepseek-flash": 2}}

func withKey(r *http.Request, key string) *http.Request {
	r.Header.Set("Authorization", "Bearer "+key)
	return r
}

func TestUnknownAndRevokedKeys(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := send(c, withKey(newRequest(t, s, "/chat/completions", chatRequest()), "sk-wrong-abcd"))
		require.Equal(t, 401, r.StatusCode)
		require.JSONEq(t, `{"error":{"message":"Authentication Fails, Your api key: ****abcd is invalid","type":"authentication_error","param":null,"code":"invalid_request_error"}}`, string(r.body))
		s.RevokeKey(testKey)
		require.Equal(t, 401, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		require.Equal(t, 200, send(c, withKey(newRequest(t, s, "/chat/completions", chatRequest()), "sk-two")).StatusCode)
		s.RestoreKey(testKey)
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		rec := s.Requests()
		require.Empty(t, rec[0].Account)
		require.Equal(t, "sk-wrong-abcd", rec[0].Key)
		require.Equal(t, "one", rec[3].Account)
		require.Empty(t, rec[3].Header.Get("Authorization"))
	}, WithAccount(twoKeys))
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := newRequest(t, s, "/chat/completions", chatRequest())
		r.Header.Del("Authorization")
		require.Equal(t, 401, send(c, r).StatusCode)
	})
}

// occupy starts n streams that stall, and returns what ends them.
func occupy(t *testing.T, s *Server, c *http.Client, n int, members ...object) (end func()) {
	t.Helper()
	var open []io.Closer
	for range n {
		s.Enqueue(StallAfter(1))
		resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(append(members, streaming)...)))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		open = append(open, resp.Body)
	}
	return func() {
		for _, b := range open {
			b.Close()
		}
		synctest.Wait()
	}
}

func TestLimitByRequestsInFlight(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		end := occupy(t, s, c, 2)
		r := send(c, withKey(newRequest(t, s, "/chat/completions", chatRequest()), "sk-two"))
		require.Equal(t, 429, r.StatusCode, "keys share the limit of their account")
		require.Equal(t, "Too many requests. Your current concurrency is 3, which exceeds your concurrency limit of 2 based on your remaining balance. Please top up your balance to restore your concurrency.", r.errorText(t))
		require.Empty(t, r.Header.Get("Retry-After"))
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest(object{"model": "deepseek-v4-pro"})).StatusCode, "models do not")
		end()
		require.Zero(t, s.InFlight("one", ""))
		require.Equal(t, 2, s.MaxInFlight(testKey, "deepseek-v4-flash"))
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		require.Equal(t, 2, s.Requests()[1].InFlight)
	}, WithAccount(twoKeys))
}

func TestLimitWithoutTheBalanceClause(t *testing.T) {
	quiet := twoKeys
	quiet.HideLimit = true
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		end := occupy(t, s, c, 2)
		r := post(t, s, c, "/chat/completions", chatRequest())
		end()
		require.Equal(t, 429, r.StatusCode)
		require.NotRegexp(t, `\d`, r.errorText(t))
	}, WithAccount(quiet))
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(RateLimited(25), RateLimitedPlain())
		r := post(t, s, c, "/chat/completions", chatRequest())
		require.Contains(t, r.errorText(t), "Your current concurrency is 26, which exceeds your concurrency limit of 25 based on")
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.Equal(t, 429, r.StatusCode)
		require.NotContains(t, r.errorText(t), "balance")
	})
}

func TestScriptedRefusalsAreNotInFlight(t *testing.T) {
	one := Account{Keys: []string{testKey}, Limits: map[string]int{"deepseek-flash": 1}}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		end := occupy(t, s, c, 1)
		refusals := []Reply{RateLimited(1), RateLimitedPlain(), ContentRisk(), Unauthorized(), InsufficientBalance(), HTML(413), EmptyBody(404), APIError(422, "no")}
		for _, re := range refusals {
			s.Enqueue(re)
			require.GreaterOrEqual(t, post(t, s, c, "/chat/completions", chatRequest()).StatusCode, 400)
		}
		require.Equal(t, 1, s.MaxInFlight(testKey, "deepseek-flash"))
		for _, r := range s.Requests()[1:] {
			require.Zero(t, r.InFlight)
		}
		end()

		// What is no refusal takes a slot, as far as it takes time.
		s.Enqueue(ServiceUnavailable(), Status(503).And(Delayed(time.Minute)), ResetBeforeHeaders())
		for range 3 {
			post(t, s, c, "/chat/completions", chatRequest())
		}
		list := s.Requests()
		for _, r := range list[len(list)-3:] {
			require.Equal(t, 1, r.InFlight)
		}
		require.Zero(t, s.InFlight(testKey, ""))
	}, WithAccount(one))
}

func TestLimitFallsOverTime(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Timeline(
			Phase{From: time.Minute, Do: func(s *Server) { s.SetLimit("one", "deepseek-flash", 1) }},
			Phase{From: 2 * time.Minute, Do: func(s *Server) { s.SetBalance("one", 0) }},
		)
		end := occupy(t, s, c, 1)
		defer end()
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Contains(t, post(t, s, c, "/chat/completions", chatRequest()).errorText(t), "concurrency limit of 1 ")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 402, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
	}, WithAccount(twoKeys))

	byBalance := Account{Keys: []string{testKey}, Balance: 3, LimitFor: func(_ string, usd float64) int { return int(usd) }}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		end := occupy(t, s, c, 2)
		defer end()
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		s.SetBalance(testKey, 2.5)
		require.Equal(t, 429, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
	}, WithAccount(byBalance))
}

func TestLimitPerUserID(t *testing.T) {
	raised := Account{Keys: []string{testKey}, UserLimit: 1}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		end := occupy(t, s, c, 1, object{"user_id": "anna"})
		require.Equal(t, 429, post(t, s, c, "/chat/completions", chatRequest(object{"user_id": "anna"})).StatusCode)
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest(object{"user_id": "bert"})).StatusCode)
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		end()
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest(object{"user_id": "anna"})).StatusCode)
	}, WithAccount(raised))
}

func TestBalanceRunsOutMidway(t *testing.T) {
	poor := Account{Name: "poor", Keys: []string{testKey}, Balance: 0.00006}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		var codes []int
		for range 4 {
			codes = append(codes, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		}
		require.Equal(t, []int{200, 200, 402, 402}, codes)
		u := s.Requests()[0].Usage
		require.InDelta(t, (float64(u.Prompt)*0.15+float64(u.Completion)*0.60)/1e6*2, s.Spent("poor"), 1e-12)
		require.InDelta(t, 0.00006-s.Spent("poor"), s.Balance("poor"), 1e-12)
		require.Contains(t, string(get(t, s, c, "/user/balance").body), `"is_available":false`)
		s.SetBalance(testKey, 10)
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
	}, WithAccount(poor), WithAnswerLength(20, 30), WithCache(Cache{Disabled: true}))
}

func TestSlotIsFreeWhenTheClientHasSeenTheEnd(t *testing.T) {
	one := Account{Keys: []string{testKey}, Limits: map[string]int{"deepseek-flash": 1}}
	s := NewServer(WithAccount(one))
	defer s.Close()
	c := &http.Client{Transport: s.Transport()}
	for i := range 200 {
		r := post(t, s, c, "/chat/completions", chatRequest(object{"stream": i%2 == 0}))
		require.Equal(t, 200, r.StatusCode)
	}
}

func TestRecords(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := newRequest(t, s, "/chat/completions", chatRequest(streaming, object{"user_id": "anna"}))
		r.Header.Set("X-Mine", "1")
		send(c, r)
		get(t, s, c, "/models")
		list := s.Requests()
		require.Len(t, list, 2)
		a := list[0]
		require.Equal(t, 1, a.Seq)
		require.Equal(t, "deepseek-flash", a.Model)
		require.Equal(t, "anna", a.UserID)
		require.True(t, a.Stream)
		require.True(t, a.Thinking)
		require.Equal(t, "How is the wall?", a.LastUser())
		require.Equal(t, "1", a.Header.Get("X-Mine"))
		require.Equal(t, 200, a.Status)
		require.Positive(t, a.Usage.Completion)
		require.False(t, a.Done.IsZero())
		require.NotEmpty(t, a.Body)
		s.Reset()
		require.Empty(t, s.Requests())
		require.Zero(t, s.Count(200))
		require.Zero(t, s.MaxInFlight(testKey, "deepseek-flash"))
	})
}

func TestHandlerWithRecorder(t *testing.T) {
	s := NewHandler()
	defer s.Close()
	for i, want := range []int{200, 404} {
		path := []string{"/models", "/nothing"}[i]
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("X-Api-Key", testKey)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, want, w.Code)
	}
}

func TestNetworkReachesServersByHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := NewMemoryServer(), NewMemoryServer()
		defer a.Close()
		defer b.Close()
		c := &http.Client{Transport: Network(a, b)}
		require.NotEqual(t, a.URL, b.URL)
		get(t, a, c, "/models")
		get(t, b, c, "/models")
		get(t, b, c, "/models")
		require.Equal(t, 1, a.Count(200))
		require.Equal(t, 2, b.Count(200))
		_, err := c.Get("http://elsewhere.test/")
		require.ErrorContains(t, err, "refused")
	})
}

func TestUnknownAccountPanics(t *testing.T) {
	s := NewHandler(WithAccount(twoKeys))
	defer s.Close()
	require.PanicsWithValue(t, "deepseektest: no account has the key or name nobody", func() { s.SetLimit("nobody", "deepseek-flash", 1) })
	const noModel = `deepseektest: no model has the name "deepseek-flsh"; there are deepseek-flash, deepseek-v4-pro`
	require.PanicsWithValue(t, noModel, func() { s.SetLimit("one", "deepseek-flsh", 1) })
	require.PanicsWithValue(t, noModel, func() { s.InFlight("one", "deepseek-flsh") })
	require.PanicsWithValue(t, noModel, func() { s.MaxInFlight("one", "deepseek-flsh") })
	for _, key := range []string{"sk-none", "one", ""} {
		want := "deepseektest: no account has the key " + key
		require.PanicsWithValue(t, want, func() { s.RevokeKey(key) })
		require.PanicsWithValue(t, want, func() { s.RestoreKey(key) })
	}
	require.Equal(t, "****6789", maskKey("sk-123456789"))
	require.Equal(t, "0.00", money(-3))
	require.Equal(t, "12.34", money(12.34))
}

func TestAccountsThatCannotBeMeantPanic(t *testing.T) {
	for want, accounts := range map[string][]Account{
		`account "a" needs at least one key, and none that is empty`:               {{Name: "a"}},
		`account "" needs at least one key, and none that is empty`:                {{Keys: []string{""}}},
		`two accounts have the name "a"`:                                           {{Name: "a", Keys: []string{"1"}}, {Name: "a", Keys: []string{"2"}}},
		`accounts "a" and "b" have the same key 1`:                                 {{Name: "a", Keys: []string{"1"}}, {Name: "b", Keys: []string{"2", "1"}}},
		`no model has the name "flash"; there are deepseek-flash, deepseek-v4-pro`: {{Keys: []string{"1"}, Limits: map[string]int{"flash": 1}}},
		`account "1" has two limits for deepseek-flash, which has other names too`: {{Keys: []string{"1"}, Limits: map[string]int{"deepseek-flash": 1, "deepseek-v4-flash": 2}}},
	} {
		var opts []Option
		for _, a := range accounts {
			opts = append(opts, WithAccount(a))
		}
		require.PanicsWithValue(t, "deepseektest: "+want, func() { NewHandler(opts...) })
	}
}

func TestLimitByAnAlias(t *testing.T) {
	one := Account{Keys: []string{testKey}, Limits: map[string]int{"deepseek-v4-flash": 0}}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		require.Equal(t, 429, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		s.SetLimit(testKey, "deepseek-v4-flash", 1)
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
	}, WithAccount(one))
}

func TestPaceOfAnAccount(t *testing.T) {
	slow := twoKeys
	slow.Pace = &Pace{Headers: time.Minute}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		took := func(key string) time.Duration {
			start := time.Now()
			r := send(c, withKey(newRequest(t, s, "/chat/completions", chatRequest()), key))
			require.Equal(t, 200, r.StatusCode)
			return time.Since(start)
		}
		require.Equal(t, time.Minute, took(testKey))
		require.Equal(t, time.Second, took("sk-fast"))
		s.SetPace("one", nil)
		require.Equal(t, time.Second, took(testKey))
		s.SetPace("sk-fast", &Pace{Headers: time.Hour})
		require.Equal(t, time.Hour, took("sk-fast"))
	}, WithPace(Pace{Headers: time.Second}), WithAccount(slow), WithAccount(Account{Keys: []string{"sk-fast"}}))
}

func TestObserverIsToldOfEachRequestAtItsEnd(t *testing.T) {
	var mu sync.Mutex
	var told []Request
	var s *Server
	bubble(t, func(t *testing.T, server *Server, c *http.Client) {
		s = server
		s.Enqueue(ServiceUnavailable(), ResetAfter(1))
		_ = post(t, s, c, "/chat/completions", chatRequest())
		_ = send(c, newRequest(t, s, "/chat/completions", chatRequest(streaming)))
		synctest.Wait() // the client knows of a reset before the observer does
		_ = post(t, s, c, "/chat/completions", chatRequest())
		synctest.Wait()
		require.Empty(t, s.Requests(), "no records are kept")
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, told, 3)
		require.Equal(t, 503, told[0].Status)
		require.True(t, told[1].Cut)
		require.Equal(t, 200, told[2].Status)
		require.Positive(t, told[2].Usage.Completion)
		for _, r := range told {
			require.False(t, r.Done.IsZero())
		}
	}, WithoutRecords(), WithObserver(func(r Request) {
		_ = s.Count(200) // no lock is held
		mu.Lock()
		defer mu.Unlock()
		told = append(told, r)
	}))
}
