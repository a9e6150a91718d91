package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// retryTests are section 5.2 of the contract.
func retryTests() (tests []test) {
	unbound := deepseek.WithRetry(deepseek.Retry{MaxAttempts: 5, MinInterval: time.Second, MaxInterval: 3 * time.Second, Budget: -1})
	busy := deepseektest.ServiceUnavailable()

	tests = append(tests, test{name: "full jitter, capped", opts: []deepseek.Option{unbound, deepseek.WithoutBreaker()}, do: func(x *bench) {
		const calls = 60
		gaps := make([][]time.Duration, 4)
		for range calls {
			x.srv.Reset()
			x.srv.Enqueue(deepseektest.Repeat(5, busy)...)
			res, err := x.chat()
			require.Error(x, err)
			require.Equal(x, 503, res.Status)
			p := x.posts()
			require.Len(x, p, 5)
			for i := range gaps {
				gaps[i] = append(gaps[i], p[i+1].Time.Sub(p[i].Time))
			}
		}
		for i, bound := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
			var low, high int
			for _, g := range gaps[i] {
				require.LessOrEqual(x, g, bound, "gap %d", i+1)
				require.GreaterOrEqual(x, g, time.Duration(0))
				if g < bound/4 {
					low++
				}
				if g > 3*bound/4 {
					high++
				}
			}
			// A quarter of 60 each; fewer than 3 has a chance below 1e-5.
			assert.Greater(x, low, 2, "waits below a quarter of %s", bound)
			assert.Greater(x, high, 2, "waits above three quarters of %s", bound)
		}
	}})

	// Retry-After: what it makes of the wait before the second attempt.
	after := []struct {
		name     string
		header   string // default Retry-After
		value    func() string
		low      time.Duration
		high     time.Duration
		returned bool // the real response, at once
		either   bool // or a wait; but no haste
	}{
		{name: "seconds", value: is("7"), low: 7 * time.Second, high: 8 * time.Second},
		{name: "fraction of seconds", value: is("1.5"), low: 0, high: 2500 * time.Millisecond},
		{name: "milliseconds", header: "Retry-After-Ms", value: is("2500"), low: 2500 * time.Millisecond, high: 3500 * time.Millisecond},
		{name: "RFC1123 date", value: date(http.TimeFormat, 9*time.Second), low: 8 * time.Second, high: 10 * time.Second},
		{name: "RFC850 date", value: date(time.RFC850, 9*time.Second), low: 8 * time.Second, high: 10 * time.Second},
		{name: "ANSI C date", value: date(time.ANSIC, 9*time.Second), low: 8 * time.Second, high: 10 * time.Second},
		{name: "zero", value: is("0"), high: time.Second},
		{name: "negative", value: is("-5"), high: time.Second},
		{name: "past date", value: date(http.TimeFormat, -time.Hour), high: time.Second},
		{name: "NaN", value: is("NaN"), high: time.Second},
		{name: "words", value: is("soon"), high: time.Second},
		{name: "empty", value: is(""), high: time.Second},
		{name: "at the cap", value: is("60"), low: time.Minute, high: 61 * time.Second},
		{name: "beyond the cap", value: is("61"), returned: true},
		{name: "date beyond the cap", value: date(http.TimeFormat, 2*time.Hour), returned: true},
		{name: "milliseconds beyond the cap", header: "Retry-After-Ms", value: is("3600000"), returned: true},
		{name: "overflow", value: is("99999999999"), returned: true},
		{name: "huge", value: is("1e300"), returned: true, either: true},
		{name: "infinite", value: is("Inf"), returned: true, either: true},
		{name: "more digits than fit", value: is(strings.Repeat("9", 400)), returned: true, either: true},
	}
	for _, a := range after {
		tests = append(tests, test{name: "Retry-After " + a.name, opts: []deepseek.Option{unbound}, do: func(x *bench) {
			header := a.header
			if header == "" {
				header = "Retry-After"
			}
			x.srv.Enqueue(busy.And(deepseektest.WithHeader(header, a.value())))
			res, err := x.chat()
			p := x.posts()
			switch {
			case a.returned && !(a.either && err == nil):
				require.Error(x, err)
				assert.Equal(x, 503, res.Status)
				assert.Zero(x, x.elapsed(), "virtual time")
				x.requests(1)
				if !x.door.HidesHeader {
					assert.Equal(x, a.value(), res.Header.Get(header), "the server's header")
					assert.Equal(x, "false", res.Header.Get("X-Should-Retry"))
				}
			case a.returned:
				x.whole(res, err)
			default:
				x.whole(res, err)
				x.requests(2)
				gap := p[1].Time.Sub(p[0].Time)
				assert.GreaterOrEqual(x, gap, a.low)
				assert.LessOrEqual(x, gap, a.high)
			}
		}})
	}

	tests = append(tests,
		test{name: "jitter on Retry-After only adds, and differs", opts: []deepseek.Option{unbound, deepseek.WithoutBreaker()}, do: func(x *bench) {
			seen := map[time.Duration]bool{}
			for range 20 {
				x.srv.Reset()
				x.srv.Enqueue(busy.And(deepseektest.WithRetryAfter("5")))
				x.whole(x.chat())
				p := x.posts()
				gap := p[1].Time.Sub(p[0].Time)
				require.GreaterOrEqual(x, gap, 5*time.Second)
				seen[gap] = true
			}
			assert.Greater(x, len(seen), 10, "callers wake at different times")
		}},
		test{name: "beyond the deadline returns now", opts: []deepseek.Option{unbound}, do: func(x *bench) {
			if x.door.Remote {
				x.Skip("deadlines do not cross the network")
			}
			x.srv.Enqueue(deepseektest.Repeat(10, busy.And(deepseektest.WithRetryAfter("5")))...)
			ctx, cancel := context.WithTimeout(bg, 2*time.Second)
			defer cancel()
			res, err := x.call(ctx, chat, Prompt{})
			require.Error(x, err)
			assert.Equal(x, 503, res.Status, "the last outcome: %v", err)
			assert.Zero(x, x.elapsed(), "virtual time")
			x.requests(1)
		}},
		test{name: "deadline in a row of failures", opts: []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: 100, Budget: -1}), deepseek.WithoutBreaker()}, do: func(x *bench) {
			if x.door.Remote {
				x.Skip("deadlines do not cross the network")
			}
			x.srv.Enqueue(deepseektest.Repeat(200, busy)...)
			ctx, cancel := context.WithTimeout(bg, 10*time.Second)
			defer cancel()
			res, err := x.call(ctx, stream, Prompt{})
			require.Error(x, err)
			assert.Equal(x, 503, res.Status, "the last outcome: %v", err)
			assert.Less(x, x.elapsed(), 10*time.Second)
		}},
		test{name: "network failures up to the deadline", network: func(*deepseektest.Server) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				_ = req.Body.Close()
				return nil, io.ErrUnexpectedEOF
			})
		}, opts: []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: 100, Budget: -1}), deepseek.WithoutBreaker()}, do: func(x *bench) {
			if x.door.Remote || x.door.Retries > 0 {
				x.Skip("not through this door")
			}
			ctx, cancel := context.WithTimeout(bg, 10*time.Second)
			defer cancel()
			_, err := x.call(ctx, stream, Prompt{})
			assert.ErrorIs(x, err, io.ErrUnexpectedEOF)
			assert.Less(x, x.elapsed(), 10*time.Second)
		}},
		test{name: "context ends during the wait", opts: []deepseek.Option{unbound}, do: func(x *bench) {
			x.srv.Enqueue(busy.And(deepseektest.WithRetryAfter("30")))
			cause := errors.New("the user has left")
			ctx, cancel := context.WithCancelCause(bg)
			time.AfterFunc(1500*time.Millisecond, func() { cancel(cause) })
			_, err := x.call(ctx, chat, Prompt{})
			require.Error(x, err)
			assert.Equal(x, 1500*time.Millisecond, x.elapsed())
			x.requests(1)
			x.idle()
			if x.door.Remote {
				return
			}
			assert.ErrorIs(x, err, context.Canceled)
			if !x.door.HidesCause {
				assert.ErrorIs(x, err, cause)
				assert.ErrorIs(x, err, deepseek.ErrServer, "the last attempt's error")
				var api *deepseek.APIError
				if assert.ErrorAs(x, err, &api) {
					assert.Equal(x, 503, api.StatusCode)
				}
			}
		}},
		test{name: "context ends during a plain wait", opts: []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MinInterval: 8 * time.Second})}, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.ResetBeforeHeaders())
			ctx, cancel := context.WithCancel(bg)
			time.AfterFunc(time.Millisecond, cancel)
			_, err := x.call(ctx, chat, Prompt{})
			require.Error(x, err)
			assert.Equal(x, time.Millisecond, x.elapsed())
			if !x.door.Remote && !x.door.HidesCause {
				assert.ErrorIs(x, err, context.Canceled)
				assert.Contains(x, err.Error(), "reset")
			}
		}},
		test{name: "budget in a long outage", opts: []deepseek.Option{deepseek.WithoutBreaker()}, do: func(x *bench) {
			x.outage(1000)
		}},
		test{name: "budget and breaker in a long outage", do: func(x *bench) {
			x.outage(1000)
		}},
		test{name: "budget comes back with success", opts: []deepseek.Option{deepseek.WithoutBreaker(), deepseek.WithRetry(deepseek.Retry{Budget: 5})}, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.Repeat(200, busy)...)
			for range 20 {
				_, err := x.chat()
				require.Error(x, err)
			}
			seen := len(x.posts())
			assert.Less(x, seen, 20+10, "attempts for 20 calls with a budget of 5")
			for x.srv.Pending() > 0 { // run the queue dry
				_, err := x.chat()
				require.Error(x, err)
			}
			for range 50 {
				x.whole(x.chat())
			}
			x.srv.Enqueue(busy, busy)
			x.whole(x.chat())
		}},
		test{name: "real last response", opts: []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: 3})}, do: func(x *bench) {
			for i := range 9 {
				x.srv.Enqueue(deepseektest.APIError(503, fmt.Sprintf("busy %d", i+1)).And(deepseektest.WithHeader("X-Custom", fmt.Sprint(i+1))))
			}
			res, err := x.chat()
			require.Error(x, err)
			assert.Equal(x, 503, res.Status)
			assert.Contains(x, res.Body, "busy 3")
			if !x.door.HidesHeader {
				assert.Equal(x, "3", res.Header.Get("X-Custom"))
				assert.Equal(x, "false", res.Header.Get("X-Should-Retry"))
			}
			if !x.door.Remote && x.door.Do == nil && x.door.URL == "" {
				assert.ErrorIs(x, err, deepseek.ErrServer)
			}
			x.requests(3)
		}},
		test{name: "X-Should-Retry of the server stays", opts: []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: 2})}, do: func(x *bench) {
			if x.door.Retries > 0 || x.door.HidesHeader {
				x.Skip("not through this door")
			}
			x.srv.Enqueue(deepseektest.Repeat(2, busy.And(deepseektest.WithHeader("X-Should-Retry", "true")))...)
			res, err := x.chat()
			require.Error(x, err)
			assert.Equal(x, "true", res.Header.Get("X-Should-Retry"))
		}},
		test{name: "first 503 of many accounts is waited for", do: func(x *bench) {
			x.srv.Enqueue(busy, busy, busy)
			x.whole(x.stream())
			x.requests(4)
		}},
	)

	for _, m := range bothModes {
		tests = append(tests, test{name: "without retry " + m.String(), opts: []deepseek.Option{deepseek.WithoutRetry()}, do: func(x *bench) {
			x.srv.Enqueue(busy)
			res, err := x.call(bg, m, Prompt{})
			if x.door.Retries > 0 {
				x.Skip("the door retries by itself")
			}
			require.Error(x, err)
			assert.Equal(x, 503, res.Status)
			x.requests(1)
		}})
	}
	tests = append(tests, refusals()...)
	return append(tests, rawTests()...)
}

func is(s string) func() string { return func() string { return s } }

func date(layout string, d time.Duration) func() string {
	return func() string { return time.Now().Add(d).UTC().Format(strings.Replace(layout, "MST", "GMT", 1)) }
}

// outage has n calls come in a total outage, ten at a time.
func (x *bench) outage(n int) {
	x.Helper()
	x.srv.Timeline(deepseektest.Phase{Reply: deepseektest.ServiceUnavailable()})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range n / 10 {
				_, err := x.chat()
				assert.Error(x, err)
				time.Sleep(time.Second)
			}
		})
	}
	wg.Wait()
	calls := n
	if s, ok := x.stats(); ok {
		calls = int(s.Calls)
		assert.EqualValues(x, len(x.posts()), s.Attempts, "Stats.Attempts")
	}
	assert.LessOrEqual(x, len(x.posts()), calls*12/10, "attempts for %d calls", calls)
}

// refusals are calls that this side refuses.
func refusals() (tests []test) {
	full := []deepseek.Option{deepseek.WithMaxConcurrency(1), deepseek.WithQueue(deepseek.Queue{MaxLength: -1})}
	open := []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: 1}),
		deepseek.WithBreaker(deepseek.Breaker{MinRequests: 2, OpenFor: 30 * time.Second})}
	cases := []struct {
		name    string
		opts    []deepseek.Option
		prepare func(x *bench) (done func())
		err     error
		status  int
		for_    string
	}{
		{"breaker open", open, func(x *bench) func() {
			x.srv.Enqueue(deepseektest.Repeat(2, deepseektest.Status(500))...)
			for range 2 {
				_, err := x.chat()
				require.Error(x, err)
			}
			x.breaker(deepseek.BreakerOpen)
			return func() { x.breaker(deepseek.BreakerOpen) }
		}, deepseek.ErrCircuitOpen, 503, "probe"},
		{"queue full", full, func(x *bench) func() {
			return x.occupy()
		}, deepseek.ErrQueueFull, 429, "in flight"},
		{"no money", nil, func(x *bench) func() {
			for _, a := range x.accounts {
				x.srv.SetBalance(a.Name, -1)
			}
			_, err := x.chat()
			require.Error(x, err)
			return func() {}
		}, deepseek.ErrNoAccount, 503, "balance"},
		{"no key", nil, func(x *bench) func() {
			for _, a := range x.accounts {
				for _, k := range a.Keys {
					x.srv.RevokeKey(k)
				}
			}
			_, err := x.chat()
			require.Error(x, err)
			return func() {}
		}, deepseek.ErrNoAccount, 503, "unauthorized"},
	}
	for _, c := range cases {
		for _, m := range bothModes {
			tests = append(tests,
				test{name: c.name + " is an error " + m.String(), opts: c.opts, do: func(x *bench) {
					done := c.prepare(x)
					before, start := len(x.posts()), time.Now()
					res, err := x.call(bg, m, Prompt{})
					require.Error(x, err)
					x.is(err, c.err)
					if x.door.Remote { // a proxy that knows nothing of it, or one that does
						assert.Contains(x, []int{502, c.status}, res.Status)
					} else {
						assert.Contains(x, err.Error(), c.for_)
					}
					switch c.name {
					case "no money":
						x.is(err, deepseek.ErrInsufficientBalance)
					case "no key":
						x.is(err, deepseek.ErrAuthentication)
					}
					if x.door.Retries == 0 {
						assert.Zero(x, time.Since(start), "virtual time")
					}
					assert.Len(x, x.posts(), before, "nothing was sent")
					done()
				}},
				test{name: c.name + " is a response " + m.String(), opts: with(c.opts, deepseek.WithErrorResponses()), do: func(x *bench) {
					done := c.prepare(x)
					before, start := len(x.posts()), time.Now()
					res, err := x.call(bg, m, Prompt{})
					require.Error(x, err)
					assert.Equal(x, c.status, res.Status, "%v", err)
					assert.Zero(x, time.Since(start), "virtual time")
					assert.Len(x, x.posts(), before, "nothing was sent")
					assert.NotEmpty(x, res.Body)
					assert.False(x, hasKey(res.Body), "a key in %s", res.Body)
					if !x.door.HidesHeader {
						assert.Equal(x, "false", res.Header.Get("X-Should-Retry"))
						assert.Regexp(x, `^[1-9]\d*$`, res.Header.Get("Retry-After"))
					}
					done()
				}},
			)
		}
	}
	return tests
}

// occupy starts a stream that stays open until the function it returns is called.
func (x *bench) occupy() (done func()) {
	x.Helper()
	ctx, cancel := context.WithCancel(bg)
	x.srv.Enqueue(deepseektest.StallAfter(3))
	s, _, err := x.open(ctx, Prompt{Text: "occupy"})
	require.NoError(x, err)
	return func() {
		cancel()
		_ = s.Close()
	}
}

// rawTests are about requests that only a plain client can make.
func rawTests() (tests []test) {
	raw := func(name string, do func(x *bench), more ...deepseek.Option) {
		tests = append(tests, test{name: name, opts: more, do: func(x *bench) {
			if x.door.Do == nil {
				x.Skip("the door makes its own requests")
			}
			do(x)
		}})
	}
	const body = `{"model":"deepseek-flash","messages":[{"role":"user","content":"Hi"}],"unknown":{"field":[1,2,3]}}`
	post := func(x *bench, path string, r io.Reader) *http.Request {
		req, err := http.NewRequestWithContext(bg, http.MethodPost, x.door.URL+path, r)
		require.NoError(x, err)
		req.Header.Set("Content-Type", "application/json")
		return req
	}
	finish := func(x *bench, resp *http.Response, err error) string {
		x.Helper()
		x.noKeys(err)
		require.NoError(x, err)
		data, err := io.ReadAll(resp.Body)
		require.NoError(x, err)
		require.NoError(x, resp.Body.Close())
		return string(data)
	}
	raw("body is sent again", func(x *bench) {
		x.srv.Enqueue(deepseektest.Status(500), deepseektest.ResetBeforeHeaders())
		resp, err := x.door.Do(post(x, "/chat/completions", strings.NewReader(body)))
		finish(x, resp, err)
		assert.Equal(x, 200, resp.StatusCode)
		x.requests(3)
		for _, p := range x.posts() {
			assert.Equal(x, body, string(p.Body))
		}
	})
	for _, l := range []struct {
		name   string
		length int64
	}{{"its length", int64(len(body))}, {"unknown length", -1}, {"length 0, which means unknown", 0}} {
		raw("body without GetBody, of "+l.name+", is sent again, and closed", func(x *bench) {
			x.srv.Enqueue(deepseektest.Status(500), deepseektest.Status(500))
			b := &closer{Reader: strings.NewReader(body)}
			req := post(x, "/chat/completions", b)
			req.ContentLength = l.length
			resp, err := x.door.Do(req)
			finish(x, resp, err)
			assert.Equal(x, 200, resp.StatusCode)
			x.requests(3)
			for _, p := range x.posts() {
				assert.Equal(x, body, string(p.Body))
			}
			assert.True(x, b.closed, "the caller's body is closed")
		})
	}
	raw("the request is not changed", func(x *bench) {
		x.srv.Enqueue(deepseektest.Status(500))
		req := post(x, "/chat/completions", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+notTheKey)
		b, header, u := req.Body, req.Header.Clone(), *req.URL
		resp, err := x.door.Do(req)
		finish(x, resp, err)
		assert.Equal(x, header, req.Header)
		assert.Equal(x, u, *req.URL)
		assert.True(x, b == req.Body, "Body")
		for _, p := range x.posts() {
			assert.True(x, hasKey(p.Key), "the transport's key, not the caller's")
		}
	})
	raw("the body is closed when nothing is sent", func(x *bench) {
		b := &closer{Reader: strings.NewReader(body)}
		done := x.occupy()
		req := post(x, "/chat/completions", b)
		req.ContentLength = int64(len(body))
		resp, err := x.door.Do(req)
		if !x.door.Remote {
			require.ErrorIs(x, err, deepseek.ErrQueueFull)
		} else {
			assert.GreaterOrEqual(x, resp.StatusCode, 400)
			finish(x, resp, err)
		}
		done()
		assert.True(x, b.closed)
	}, deepseek.WithMaxConcurrency(1), deepseek.WithQueue(deepseek.Queue{MaxLength: -1}))
	raw("a body beyond 48 MiB is sent once", func(x *bench) {
		if x.door.Remote || racedetector.On {
			x.Skip("once is enough")
		}
		x.srv.Enqueue(deepseektest.Repeat(5, deepseektest.Status(500))...)
		req := post(x, "/chat/completions", io.LimitReader(blanks{}, 49<<20))
		req.ContentLength = -1
		resp, err := x.door.Do(req)
		if err == nil {
			finish(x, resp, err)
			assert.GreaterOrEqual(x, resp.StatusCode, 400)
		}
		x.requests(1)
	})
	raw("paths and unknown fields pass", func(x *bench) {
		for _, path := range []string{"/chat/completions", "/beta/chat/completions", "/v1/chat/completions", "/responses", "/anthropic/v1/messages"} {
			b := body
			switch path {
			case "/responses":
				b = `{"model":"deepseek-flash","input":"Hi","unknown":1}`
			case "/anthropic/v1/messages":
				b = `{"model":"deepseek-flash","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}`
			}
			resp, err := x.door.Do(post(x, path, strings.NewReader(b)))
			data := finish(x, resp, err)
			assert.Equal(x, 200, resp.StatusCode, "%s: %s", path, data)
			p := x.posts()
			assert.Equal(x, b, string(p[len(p)-1].Body))
			assert.Equal(x, path, p[len(p)-1].Path)
		}
		for _, path := range []string{"/models", "/models/deepseek-flash", "/user/balance"} {
			req, err := http.NewRequestWithContext(bg, http.MethodGet, x.door.URL+path, nil)
			require.NoError(x, err)
			resp, err := x.door.Do(req)
			data := finish(x, resp, err)
			assert.Equal(x, 200, resp.StatusCode, "%s: %s", path, data)
		}
	})
	raw("a GET is retried", func(x *bench) {
		n := 0
		x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
			if n++; n == 1 {
				re := deepseektest.Status(503)
				return &re
			}
			return nil
		})
		req, err := http.NewRequestWithContext(bg, http.MethodGet, x.door.URL+"/models", nil)
		require.NoError(x, err)
		resp, err := x.door.Do(req)
		finish(x, resp, err)
		assert.Equal(x, 200, resp.StatusCode)
		assert.Equal(x, 2, n)
	})
	raw("foreign origins are refused", func(x *bench) {
		if x.door.Remote {
			x.Skip("a proxy has one target")
		}
		for _, url := range []string{"http://evil.example/chat/completions", "https://api.deepseek.com/chat/completions",
			strings.Replace(x.door.URL, "http:", "https:", 1) + "/models", "http://127.0.0.1:2/models", "ftp://127.0.0.1/x"} {
			b := &closer{Reader: strings.NewReader(body)}
			req, err := http.NewRequestWithContext(bg, http.MethodPost, url, b)
			require.NoError(x, err)
			req.ContentLength = -1
			_, err = x.door.Do(req)
			require.Error(x, err, url)
			x.noKeys(err)
			var o *deepseek.OriginError
			if assert.ErrorAs(x, err, &o, url) {
				assert.Contains(x, err.Error(), x.door.URL)
				assert.Contains(x, err.Error(), req.URL.Scheme+"://"+req.URL.Hostname())
			}
			assert.True(x, b.closed, "the body is closed")
		}
		x.requests(0)
		x.breaker(deepseek.BreakerClosed)
	})
	raw("the Host header is the URL's", func(x *bench) {
		if x.door.Remote {
			x.Skip("the proxy sets it")
		}
		req := post(x, "/chat/completions", strings.NewReader(body))
		req.Host = "evil.example"
		resp, err := x.door.Do(req)
		if err == nil {
			finish(x, resp, err)
			assert.NotEqual(x, "evil.example", x.posts()[0].Header.Get("Host"))
		}
	})

	// A redirect must not carry the key away, through any door.
	evil := new(deepseektest.Server)
	tests = append(tests, test{name: "redirect to a foreign origin", network: func(srv *deepseektest.Server) http.RoundTripper {
		evil = deepseektest.NewMemoryServer()
		return deepseektest.Network(srv, evil)
	}, do: func(x *bench) {
		defer evil.Close()
		x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
			re := deepseektest.Body(http.StatusTemporaryRedirect, "text/plain", "moved").And(deepseektest.WithHeader("Location", evil.URL+r.Path))
			return &re
		})
		if x.door.Remote {
			x.Skip("the client in front follows it by itself, without a key")
		}
		res, err := x.chat()
		require.Error(x, err)
		if x.door.URL != "" && x.door.Do != nil {
			assert.ErrorAs(x, err, new(*deepseek.OriginError))
			assert.Contains(x, err.Error(), evil.URL)
			assert.Contains(x, err.Error(), x.srv.URL)
		}
		assert.NotEqual(x, "stop", res.Finish)
		assert.Empty(x, evil.Requests(), "the foreign server saw something")
		// The connections to both servers are ours to close.
		x.door.Transport.CloseIdleConnections()
	}})
	return tests
}

type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{' '}, len(p)))
	return len(p), nil
}
