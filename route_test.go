package deepseek

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// hosts is a base with a script for each host.
type hosts map[string]*script

func (h hosts) RoundTrip(req *http.Request) (*http.Response, error) {
	s := h[req.URL.Host]
	if s == nil {
		return nil, fmt.Errorf("no such host: %s", req.URL.Host)
	}
	return s.RoundTrip(req)
}

// main and spare are two endpoints, the second for when the first cannot.
func mainAndSpare() []Endpoint {
	return []Endpoint{
		{Name: "main", Accounts: []Account{{Name: "m", Keys: []string{secretKey + "-main"}}}},
		{Name: "spare", BaseURL: "https://spare.example/api/v3", Priority: 1, Accounts: []Account{{Name: "s", Keys: []string{secretKey + "-spare"}}},
			Models: map[string]string{"deepseek-flash": "host/flash", "deepseek-v4-pro": "host/pro"}},
	}
}

const (
	mainHost  = "api.deepseek.com"
	spareHost = "spare.example"
)

func routed(tb testing.TB, base http.RoundTripper, endpoints []Endpoint, opts ...Option) *Transport {
	tb.Helper()
	tr, err := NewTransport(append([]Option{WithTransport(base), WithEndpoints(endpoints...)}, opts...)...)
	require.NoError(tb, err)
	return tr
}

// postAt makes a request with a JSON body.
func postAt(ctx context.Context, url, body string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

func TestRouteFailsOverAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		step step
		took time.Duration
	}{
		{"503", status(503), 0}, {"500", status(500), 0}, {"408", status(408), 0}, {"reset", fails(errReset), 0},
		{"HTML", reply(200, "text/html", nil, "<html>"), 0}, {"cut", jsonReply(wholeAnswer[:90]), 0},
		{"blank", jsonReply("\n\n\n"), 0}, {"error object", jsonReply(`{"error":{"message":"x"}}`), 0},
		{"aborted", jsonReply(strings.ReplaceAll(wholeAnswer, `"stop"`, `"aborted"`)), 0},
		{"no first data", hangs, 10 * time.Minute}, {"429", status(429), 0}, {"401", status(401), 0}, {"402", status(402), 0}, {"403", status(403), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := hosts{mainHost: scripted(c.step), spareHost: scripted(answers)}
				start := time.Now()
				resp, err := send(t.Context(), routed(t, base, mainAndSpare()))
				require.NoError(t, err)
				require.Equal(t, c.took, time.Since(start), "no wait before the other endpoint")
				body, err := readBody(resp)
				require.NoError(t, err)
				require.Equal(t, wholeAnswer, body)
				require.Equal(t, "spare", resp.Header.Get("Seawall-Endpoint"))
				require.Regexp(t, `^2 attempts: main m#\w+ .*; spare s#\w+ 200 in 0.00s$`, resp.Header.Get("Seawall-Attempts"))
				require.Len(t, base[mainHost].sent(), 1)
				require.Len(t, base[spareHost].sent(), 1)
				base[mainHost].allClosed(t)
				base[spareHost].allClosed(t)
			})
		})
	}
}

func TestRouteLeavesWhatIsTheCallersToTheCaller(t *testing.T) {
	for _, code := range []int{400, 404, 413, 422} {
		base := hosts{mainHost: scripted(status(code)), spareHost: scripted(answers)}
		resp, err := send(t.Context(), routed(t, base, mainAndSpare()))
		require.NoError(t, err)
		require.Equal(t, code, resp.StatusCode)
		require.Equal(t, "main", resp.Header.Get("Seawall-Endpoint"))
		_, _ = readBody(resp)
		require.Empty(t, base[spareHost].sent())
	}
}

func TestRouteWaitsWhenAllHaveFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{mainHost: scripted(status(503), status(503), answers), spareHost: scripted(status(500), fails(errReset))}
		start := time.Now()
		resp, err := send(t.Context(), routed(t, base, mainAndSpare(), WithRetry(Retry{MinInterval: time.Second, MaxInterval: time.Second})))
		require.NoError(t, err)
		_, err = readBody(resp)
		require.NoError(t, err)
		require.Len(t, base[mainHost].sent(), 3)
		require.Len(t, base[spareHost].sent(), 2)
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		sent := base[mainHost].sent()
		require.Equal(t, base[spareHost].sent()[0].at, sent[0].at)
		require.Equal(t, base[spareHost].sent()[1].at, sent[1].at)
		for _, r := range sent {
			require.Equal(t, smallRequest, r.body, "to the first endpoint nothing is changed")
		}
	})
}

// All endpoints share one cap, and the caller gets a real response in the end.
func TestRouteSharesTheCapOnAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for attempts := 1; attempts <= 5; attempts++ {
			base := hosts{mainHost: scripted(status(503)), spareHost: scripted(status(502))}
			resp, err := send(t.Context(), routed(t, base, mainAndSpare(), WithRetry(Retry{MaxAttempts: attempts})))
			require.NoError(t, err)
			require.Equal(t, []int{503, 502}[(attempts+1)%2], resp.StatusCode)
			require.Equal(t, "false", resp.Header.Get("X-Should-Retry"))
			_, err = readBody(resp)
			require.NoError(t, err)
			require.Equal(t, attempts, len(base[mainHost].sent())+len(base[spareHost].sent()))
			base[mainHost].allClosed(t)
			base[spareHost].allClosed(t)
		}
	})
}

// In a full outage the budget holds over all endpoints, without any breaker.
func TestRouteSharesTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{mainHost: scripted(status(503)), spareHost: scripted(status(503))}
		tr := routed(t, base, mainAndSpare(), WithoutBreaker())
		const calls = 2000
		for range calls {
			resp, err := send(t.Context(), tr)
			require.NoError(t, err)
			_, _ = readBody(resp)
		}
		require.LessOrEqual(t, len(base[mainHost].sent())+len(base[spareHost].sent()), calls*12/10)
	})
}

// While only one endpoint is down, going on to the other costs the budget
// nothing: all of a burst that fails at once is answered.
func TestRouteFailoverToAHealthyEndpointIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{mainHost: scripted(func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return nil, errReset
		}), spareHost: scripted(answers)}
		tr := routed(t, base, []Endpoint{
			{Name: "main", Accounts: []Account{{Keys: []string{"sk-m"}, MaxConcurrency: 1000}}},
			{Name: "spare", BaseURL: "https://spare.example", Priority: 1, Accounts: []Account{{Keys: []string{"sk-s"}, MaxConcurrency: 1000}}},
		})
		var answered atomic.Int64
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				if resp, err := send(t.Context(), tr); err == nil && resp.StatusCode == 200 {
					_, _ = readBody(resp)
					answered.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 500, answered.Load())
		require.GreaterOrEqual(t, tr.Stats().RetryBudget, 100.0)
	})
}

func TestRoutePassesOverAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := false
		base := hosts{mainHost: scripted(func(req *http.Request) (*http.Response, error) {
			if up {
				return answers(req)
			}
			return status(503)(req)
		}), spareHost: scripted(answers)}
		tr := routed(t, base, mainAndSpare())
		for range 100 {
			resp, err := send(t.Context(), tr)
			require.NoError(t, err)
			_, _ = readBody(resp)
			require.Equal(t, 200, resp.StatusCode)
		}
		require.Len(t, base[mainHost].sent(), 20, "until the breaker opened")
		stats := tr.Stats()
		require.Equal(t, EndpointDown, stats.Endpoints[0].State)
		require.Equal(t, EndpointUp, stats.Endpoints[1].State)
		up = true
		time.Sleep(5 * time.Second)
		for range 100 {
			resp, err := send(t.Context(), tr)
			require.NoError(t, err)
			_, _ = readBody(resp)
		}
		require.Len(t, base[mainHost].sent(), 120, "back to the first endpoint")
		require.Equal(t, EndpointUp, tr.Stats().Endpoints[0].State)
	})
}

// Nothing is left of an endpoint whose accounts are all put aside; the call
// does not even spend an attempt there.
func TestRoutePassesOverAnEndpointWithoutAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{mainHost: scripted(status(401)), spareHost: scripted(answers)}
		tr := routed(t, base, mainAndSpare())
		for range 3 {
			resp, err := send(t.Context(), tr)
			require.NoError(t, err)
			_, _ = readBody(resp)
			require.Equal(t, 200, resp.StatusCode)
		}
		require.Len(t, base[mainHost].sent(), 1)
		require.Equal(t, EndpointDown, tr.Stats().Endpoints[0].State)
		require.NoError(t, tr.Pool().Enable("m"))
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		_, _ = readBody(resp)
		require.Len(t, base[mainHost].sent(), 2)
		require.Nil(t, tr.PoolOf("nowhere"))
		require.NoError(t, tr.PoolOf("spare").Disable("s"))
		_, err = send(t.Context(), tr)
		var none *NoEndpointError
		require.ErrorAs(t, err, &none)
		require.ErrorIs(t, err, ErrNoEndpoint)
		require.ErrorIs(t, err, ErrNoAccount)
		require.ErrorIs(t, err, ErrAuthentication)
		require.NotErrorIs(t, err, ErrInvalidRequest)
		require.Equal(t, 10*time.Minute, none.RetryIn)
		require.ErrorContains(t, err, "deepseek: no endpoint takes deepseek-flash: main: no usable account for deepseek-flash: 1 account: unauthorized")
		require.ErrorContains(t, err, "; spare: no usable account for host/flash: 1 account: disabled")
	})
}

func TestRouteWritesTheRequestAnew(t *testing.T) {
	body := `{ "model" : "deepseek-flash", "user_id":"u-1",  "messages":[{"role":"user","content":"é 世 <&>"},{"role":"assistant","content":"","reasoning_content":"hm"}], "thinking":{"type":"disabled"}, "temperature" : 0.70}`
	same := strings.Replace(body, ` "user_id":"u-1", `, "", 1)
	same = strings.Replace(same, `"deepseek-flash"`, `"host/flash"`, 1)
	for _, c := range []struct {
		name    string
		base    string
		change  func(*Endpoint)
		url     string
		wantURL string
		body    string
		header  string
	}{
		{name: "another host", base: "https://spare.example/api/v3", wantURL: "https://spare.example/api/v3/chat/completions?a=b", body: same, header: "Authorization"},
		{name: "addressed with /v1", base: "https://spare.example/v1/", url: "https://api.deepseek.com/v1/chat/completions", wantURL: "https://spare.example/v1/chat/completions", body: same, header: "Authorization"},
		{name: "DeepSeek itself", base: "https://eu.deepseek.com", wantURL: "https://eu.deepseek.com/chat/completions?a=b", body: strings.Replace(body, `"deepseek-flash"`, `"host/flash"`, 1), header: "Authorization"},
		{name: "beta of DeepSeek", base: "https://eu.deepseek.com/v1", url: "https://api.deepseek.com/beta/chat/completions", wantURL: "https://eu.deepseek.com/beta/chat/completions", body: strings.Replace(body, `"deepseek-flash"`, `"host/flash"`, 1), header: "Authorization"},
		{name: "Anthropic format", base: "https://eu.deepseek.com/v1", url: "https://api.deepseek.com/anthropic/v1/messages", wantURL: "https://eu.deepseek.com/anthropic/v1/messages", body: strings.Replace(body, `"deepseek-flash"`, `"host/flash"`, 1), header: "X-Api-Key"},
		{name: "api-key", base: "https://spare.example", change: func(e *Endpoint) { e.Auth = AuthAPIKey }, wantURL: "https://spare.example/chat/completions?a=b", body: same, header: "Api-Key"},
		{name: "x-api-key", base: "https://spare.example", change: func(e *Endpoint) { e.Auth = AuthXAPIKey }, wantURL: "https://spare.example/chat/completions?a=b", body: same, header: "X-Api-Key"},
		{name: "nothing dropped", base: "https://spare.example", change: func(e *Endpoint) { e.Drop = []string{} }, wantURL: "https://spare.example/chat/completions?a=b", body: strings.Replace(body, `"deepseek-flash"`, `"host/flash"`, 1), header: "Authorization"},
		{name: "reasoning dropped", base: "https://spare.example", change: func(e *Endpoint) { e.Drop = []string{"messages.reasoning_content", "user_id"} }, wantURL: "https://spare.example/chat/completions?a=b", body: strings.Replace(same, `,"reasoning_content":"hm"`, "", 1), header: "Authorization"},
		{name: "Azure", base: "https://r.services.ai.azure.com/openai/v1", wantURL: "https://r.services.ai.azure.com/openai/v1/chat/completions?a=b", body: strings.Replace(same, ` "thinking":{"type":"disabled"},`, "", 1), header: "Authorization"},
		{name: "Mistral", base: "https://api.mistral.ai/v1", wantURL: "https://api.mistral.ai/v1/chat/completions?a=b",
			body: strings.NewReplacer(` "thinking":{"type":"disabled"},`, "", `,"reasoning_content":"hm"`, "").Replace(same), header: "Authorization"},
		{name: "other paths", base: "https://spare.example/v9", change: func(e *Endpoint) { e.Paths = []string{"/responses"} }, url: "https://api.deepseek.com/responses", wantURL: "https://spare.example/v9/responses", body: same, header: "Authorization"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := mainAndSpare()
			all[1].BaseURL = c.base
			if c.change != nil {
				c.change(&all[1])
			}
			host, err := url.Parse(c.base)
			require.NoError(t, err)
			base := hosts{mainHost: scripted(status(503)), host.Host: scripted(answers)}
			req := postAt(t.Context(), cmp.Or(c.url, "https://api.deepseek.com/chat/completions?a=b"), body)
			req.Host = "evil.example"
			for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key", "Cookie", "X-Mine"} {
				req.Header.Set(name, "mine")
			}
			req.Header["authorization"] = []string{"mine too"}
			resp, err := routed(t, base, all).RoundTrip(req)
			require.NoError(t, err)
			_, err = readBody(resp)
			require.NoError(t, err)
			require.Same(t, req, resp.Request)
			got := base[host.Host].sent()
			require.Len(t, got, 1)
			require.Equal(t, c.wantURL, got[0].req.URL.String())
			require.Empty(t, got[0].req.Host)
			require.Equal(t, c.body, got[0].body)
			require.EqualValues(t, len(c.body), got[0].req.ContentLength)
			again, err := got[0].req.GetBody()
			require.NoError(t, err)
			data, err := io.ReadAll(again)
			require.NoError(t, err)
			require.Equal(t, c.body, string(data))
			key := secretKey + "-spare"
			if c.header == "Authorization" {
				key = "Bearer " + key
			}
			require.Equal(t, http.Header{c.header: {key}, "Content-Type": {"application/json"}, "X-Mine": {"mine"}}, got[0].header)
		})
	}
}

func TestRouteSendsOnlyWhatAnEndpointServes(t *testing.T) {
	deepSeek := Endpoint{Name: "two", BaseURL: "https://eu.deepseek.com/v1", Priority: 1, Accounts: []Account{{Name: "2", Keys: []string{"sk-2"}}}}
	other := mainAndSpare()[1]
	for _, c := range []struct {
		method, path  string
		body          string
		also, atOther bool // served by another of DeepSeek's, by another host
	}{
		{"POST", "/chat/completions", smallRequest, true, true},
		{"POST", "/v1/chat/completions", smallRequest, true, true},
		{"POST", "/beta/chat/completions", smallRequest, true, false},
		{"POST", "/beta/completions", smallRequest, true, false},
		{"POST", "/responses", smallRequest, true, false},
		{"POST", "/anthropic/v1/messages", smallRequest, true, false},
		{"GET", "/models", "", true, false},
		{"GET", "/models/deepseek-flash", "", true, false},
		{"GET", "/user/balance", "", false, false},
		{"POST", "/files", "not JSON", false, false},
		{"POST", "/embeddings", smallRequest, false, false},
		{"POST", "/chat/completions", `{"messages":[]}`, false, false},
		{"POST", "/chat/completions", `not JSON`, false, false},
		{"POST", "/chat/completions/", smallRequest, false, false},
		{"POST", "/", smallRequest, false, false},
	} {
		for _, second := range []Endpoint{deepSeek, other} {
			u, _ := url.Parse(second.BaseURL)
			base := hosts{mainHost: scripted(status(500)), u.Host: scripted(answers)}
			req := postAt(t.Context(), DefaultBaseURL+c.path, c.body)
			if c.method == "GET" {
				req, _ = http.NewRequestWithContext(t.Context(), "GET", DefaultBaseURL+c.path, nil)
			}
			resp, err := routed(t, base, []Endpoint{mainAndSpare()[0], second}, WithoutRetry()).RoundTrip(req)
			require.NoError(t, err)
			_, _ = readBody(resp)
			want := c.also
			if second.Name == other.Name {
				want = c.atOther
			}
			require.Equal(t, want, resp.StatusCode == 200, "%s %s %q to %s", c.method, c.path, c.body, second.Name)
			require.Len(t, base[mainHost].sent(), 1)
			require.Equal(t, DefaultBaseURL+c.path, base[mainHost].sent()[0].req.URL.String(), "as it was addressed")
		}
	}
}

// A request may be written for any of the endpoints.
func TestRouteAcceptsEveryEndpointsAddress(t *testing.T) {
	base := hosts{mainHost: scripted(answers), spareHost: scripted(answers)}
	tr := routed(t, base, mainAndSpare())
	for _, from := range []string{
		"https://spare.example/api/v3/chat/completions", "https://SPARE.example:443/api/v3/chat/completions", "https://api.deepseek.com/v1/chat/completions",
	} {
		resp, err := tr.RoundTrip(postAt(t.Context(), from, smallRequest))
		require.NoError(t, err, from)
		_, _ = readBody(resp)
	}
	sent := base[mainHost].sent()
	require.Len(t, sent, 3, "the first endpoint comes first, whoever is addressed")
	require.Equal(t, "https://api.deepseek.com/chat/completions", sent[0].req.URL.String())
	require.Equal(t, "https://api.deepseek.com/chat/completions", sent[1].req.URL.String())
	require.Equal(t, "https://api.deepseek.com/v1/chat/completions", sent[2].req.URL.String())

	// What is not below a base goes to the host that it is for.
	resp, err := tr.RoundTrip(postAt(t.Context(), "https://spare.example/elsewhere", smallRequest))
	require.NoError(t, err)
	_, _ = readBody(resp)
	require.Equal(t, "https://spare.example/elsewhere", base[spareHost].sent()[0].req.URL.String())
	require.Equal(t, "Bearer "+secretKey+"-spare", base[spareHost].sent()[0].header.Get("Authorization"))
	for _, elsewhere := range []string{"http://api.deepseek.com/chat/completions", "https://spare.example:8443/api/v3/chat/completions", "https://evil.example/chat/completions"} {
		_, err := tr.RoundTrip(postAt(t.Context(), elsewhere, smallRequest))
		var oe *OriginError
		require.ErrorAs(t, err, &oe)
		require.Equal(t, "https://api.deepseek.com:443 or https://spare.example:443", oe.Want)
	}
}

func TestRouteModels(t *testing.T) {
	base := hosts{mainHost: scripted(answers), spareHost: scripted(answers)}
	all := mainAndSpare()
	all[0].Models = map[string]string{"deepseek-flash": "deepseek-flash"}
	tr := routed(t, base, all)
	ask := func(model string) (*http.Response, error) {
		return tr.RoundTrip(postAt(t.Context(), testURL, `{"model":"`+model+`"}`))
	}
	resp, err := ask("deepseek-v4-pro") // not at the first
	require.NoError(t, err)
	_, _ = readBody(resp)
	require.Equal(t, `{"model":"host/pro"}`, base[spareHost].sent()[0].body)
	require.Empty(t, base[mainHost].sent())

	_, err = ask("gpt-9")
	require.ErrorIs(t, err, ErrNoEndpoint)
	require.ErrorIs(t, err, ErrInvalidRequest)
	require.EqualError(t, err, "deepseek: no endpoint takes gpt-9: main: does not have the model; spare: does not have the model")

	// One endpoint's own error says it all where there is no choice.
	require.NoError(t, tr.PoolOf("spare").Disable("s"))
	_, err = ask("deepseek-v4-pro")
	var none *NoAccountError
	require.ErrorAs(t, err, &none)
	require.NotErrorIs(t, err, ErrNoEndpoint)

	tr = routed(t, base, all, WithErrorResponses())
	resp, err = ask("gpt-9")
	require.NoError(t, err)
	require.Equal(t, 400, resp.StatusCode)
	body, _ := readBody(resp)
	require.Contains(t, body, "does not have the model")
}

// One endpoint may have models of its own, too.
func TestRouteOfOneEndpoint(t *testing.T) {
	base := hosts{spareHost: scripted(status(503), answers)}
	synctest.Test(t, func(t *testing.T) {
		tr := routed(t, base, mainAndSpare()[1:])
		resp, err := tr.RoundTrip(postAt(t.Context(), "https://spare.example/api/v3/chat/completions", `{"user_id":"u","model":"deepseek-flash"}`))
		require.NoError(t, err)
		_, _ = readBody(resp)
		for _, r := range base[spareHost].sent() {
			require.Equal(t, `{"model":"host/flash"}`, r.body)
		}
		require.Empty(t, resp.Header.Get("Seawall-Endpoint"))
		require.NotContains(t, resp.Header.Get("Seawall-Attempts"), "spare s#")
	})
}

func TestOnEndpoint(t *testing.T) {
	base := hosts{mainHost: scripted(answers), spareHost: scripted(answers)}
	tr := routed(t, base, mainAndSpare())
	for _, path := range []string{"/chat/completions", "/user/balance", "/models"} {
		resp, err := tr.RoundTrip(postAt(OnEndpoint(t.Context(), "spare"), DefaultBaseURL+path, smallRequest))
		require.NoError(t, err)
		_, _ = readBody(resp)
		sent := base[spareHost].sent()
		require.Equal(t, "https://spare.example/api/v3"+path, sent[len(sent)-1].req.URL.String())
	}
	require.Empty(t, base[mainHost].sent())
	_, err := tr.RoundTrip(postAt(OnEndpoint(t.Context(), "nowhere"), testURL, smallRequest))
	require.ErrorIs(t, err, ErrNoEndpoint)
	require.ErrorIs(t, err, ErrInvalidRequest)
}

// What one endpoint has answered is no answer of another that a call is pinned to.
func TestOnEndpointUnderACache(t *testing.T) {
	base := hosts{mainHost: scripted(answers), spareHost: scripted(answers)}
	tr := routed(t, base, mainAndSpare(), WithCache(Cache{}))
	for _, want := range []struct{ endpoint, use string }{
		{"main", "miss"}, {"spare", "miss"}, {"main", "hit"}, {"spare", "hit"},
	} {
		_, use := ask(t, tr, postAt(OnEndpoint(t.Context(), want.endpoint), testURL, smallRequest))
		require.Equal(t, want.use, use, want.endpoint)
	}
	_, err := tr.RoundTrip(postAt(OnEndpoint(t.Context(), "nowhere"), testURL, smallRequest))
	require.ErrorIs(t, err, ErrNoEndpoint)
}

// A body that cannot be read twice goes to where it need not be changed.
func TestRouteBodies(t *testing.T) {
	t.Run("closed once, whatever happens", func(t *testing.T) {
		for _, steps := range [][2]step{
			{answers, answers}, {status(503), answers}, {status(503), status(503)}, {fails(errReset), fails(&CircuitOpenError{})}, {fails(&CircuitOpenError{}), answers},
		} {
			base := hosts{mainHost: scripted(steps[0]), spareHost: scripted(steps[1])}
			for _, withGetBody := range []bool{true, false} {
				body := &closeCounter{Reader: strings.NewReader(smallRequest)}
				req := postAt(t.Context(), testURL, smallRequest)
				req.Body = body
				if !withGetBody {
					req.GetBody = nil
				}
				for _, all := range [][]Endpoint{mainAndSpare(), {mainAndSpare()[1], mainAndSpare()[0]}} {
					all[0].Priority, all[1].Priority = 0, 1
					body.closed.Store(0)
					body.Reader = strings.NewReader(smallRequest)
					resp, err := routed(t, base, all, WithoutRetry()).RoundTrip(req)
					if err == nil {
						_, _ = readBody(resp)
					}
					require.EqualValues(t, 1, body.closed.Load())
				}
			}
		}
	})
}

type closeCounter struct {
	io.Reader
	closed atomic.Int64
}

func (c *closeCounter) Close() error { c.closed.Add(1); return nil }

func TestRouteLeavesAnEndpointAloneThatAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := hosts{mainHost: scripted(status(503, "Retry-After: 30"), answers), spareHost: scripted(answers)}
		tr := routed(t, base, mainAndSpare())
		for i := range 31 {
			resp, err := send(t.Context(), tr)
			require.NoError(t, err)
			_, _ = readBody(resp)
			if i == 0 {
				require.Equal(t, 30*time.Second, tr.Stats().Endpoints[0].Models[0].Resting)
			}
			time.Sleep(time.Second)
		}
		require.Len(t, base[mainHost].sent(), 2)
		require.Len(t, base[spareHost].sent(), 30)
	})
}

// Never another host's key, in whatever header or body, whatever goes wrong.
func TestRouteKeepsKeysToTheirHosts(t *testing.T) {
	const keyA, keyB, callers = "sk-key-of-host-a-1234", "sk-key-of-host-b-5678", "sk-of-the-caller-9999"
	var a, b *httptest.Server
	var mu sync.Mutex
	seen := map[string][]string{}
	handler := func(name string, location func() string) http.HandlerFunc {
		n := 0
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var text strings.Builder
			_ = r.Header.Write(&text)
			mu.Lock()
			seen[name] = append(seen[name], r.Host+" "+r.URL.String()+"\n"+text.String()+"\n"+string(body))
			n++
			i := n
			mu.Unlock()
			switch i % 6 {
			case 0:
				http.Redirect(w, r, location(), http.StatusTemporaryRedirect)
			case 1:
				w.WriteHeader(503)
			case 2:
				w.WriteHeader(402)
			case 3:
				w.WriteHeader(429)
			case 4:
				conn, _, _ := w.(http.Hijacker).Hijack()
				_ = conn.Close()
			default:
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, wholeAnswer)
			}
		}
	}
	a = httptest.NewServer(handler("a", func() string { return b.URL + "/b/chat/completions" }))
	defer a.Close()
	b = httptest.NewServer(handler("b", func() string { return a.URL + "/chat/completions" }))
	defer b.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := routed(t, base, []Endpoint{
		{Name: "a", BaseURL: a.URL, Accounts: []Account{{Name: "a", Keys: []string{keyA}}}},
		{Name: "b", BaseURL: b.URL + "/b", Accounts: []Account{{Name: "b", Keys: []string{keyB}}}, Auth: AuthAPIKey, Models: map[string]string{"deepseek-flash": "b-flash"}},
	}, WithRetry(Retry{MinInterval: time.Microsecond, MaxInterval: time.Microsecond}), WithoutBreaker())
	client := &http.Client{Transport: tr}
	for i := range 60 {
		req := postAt(t.Context(), []string{a.URL + "/chat/completions", b.URL + "/b/chat/completions", a.URL + "/user/balance"}[i%3], smallRequest)
		for _, h := range keyHeaders {
			req.Header.Set(h, callers)
		}
		req.Header.Set("Cookie", "c="+callers)
		if resp, err := client.Do(req); err == nil {
			_, _ = readBody(resp)
		}
		require.NoError(t, tr.Pool().Enable("a"))
		require.NoError(t, tr.PoolOf("b").Enable("b"))
	}
	for _, c := range []struct{ name, host, key, foreign string }{{"a", a.URL, keyA, keyB}, {"b", b.URL, keyB, keyA}} {
		require.Greater(t, len(seen[c.name]), 20, c.name)
		for _, request := range seen[c.name] {
			require.True(t, strings.HasPrefix(request, strings.TrimPrefix(c.host, "http://")+" "), request)
			require.Contains(t, request, c.key)
			require.NotContains(t, request, c.foreign)
			require.NotContains(t, strings.ReplaceAll(request, "Cookie: c="+callers, ""), callers)
		}
	}
}

// The balance is asked for where the account is, and only where there is one to
// be told.
func TestRouteAsksForTheBalanceAtTheRightHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := func(name string) *script {
			n := 0
			return scripted(func(req *http.Request) (*http.Response, error) {
				if strings.HasSuffix(req.URL.Path, "/user/balance") {
					return jsonReply(`{"is_available":true}`)(req)
				}
				if n++; n == 1 {
					return status(402)(req)
				}
				return answers(req)
			})
		}
		base := hosts{mainHost: script("main"), spareHost: script("spare"), "eu.deepseek.com": script("eu")}
		tr := routed(t, base, []Endpoint{
			mainAndSpare()[1],
			{Name: "main", Priority: 2, Accounts: []Account{{Name: "m", Keys: []string{secretKey + "-main"}}}},
			{Name: "eu", Priority: 3, BaseURL: "https://eu.deepseek.com/v1", Auth: AuthXAPIKey, Accounts: []Account{{Name: "e", Keys: []string{secretKey + "-eu"}}}},
		}, WithRetry(Retry{MaxAttempts: 3}))
		resp, err := tr.RoundTrip(postAt(t.Context(), "https://spare.example/api/v3/chat/completions", smallRequest))
		require.NoError(t, err)
		_, _ = readBody(resp)
		require.Equal(t, 402, resp.StatusCode, "all three are out of money")
		time.Sleep(31 * time.Second)
		resp, err = tr.RoundTrip(postAt(t.Context(), "https://spare.example/api/v3/chat/completions", smallRequest))
		require.NoError(t, err)
		_, _ = readBody(resp)
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "main", resp.Header.Get("Seawall-Endpoint"))
		require.Len(t, base[spareHost].sent(), 1, "no balance there")
		asked := base[mainHost].sent()[1]
		require.Equal(t, "https://api.deepseek.com/user/balance", asked.req.URL.String())
		require.Equal(t, http.Header{"Authorization": {"Bearer " + secretKey + "-main"}, "Accept": {"application/json"}}, asked.header)

		require.NoError(t, tr.PoolOf("main").Disable("m"))
		resp, err = tr.RoundTrip(postAt(t.Context(), "https://spare.example/api/v3/chat/completions", smallRequest))
		require.NoError(t, err)
		_, _ = readBody(resp)
		asked = base["eu.deepseek.com"].sent()[1]
		require.Equal(t, "https://eu.deepseek.com/user/balance", asked.req.URL.String())
		require.Equal(t, http.Header{"X-Api-Key": {secretKey + "-eu"}, "Accept": {"application/json"}}, asked.header)
	})
}
