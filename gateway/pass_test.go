package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// Every path, answered by two servers that are alike: what comes through the
// gateway is what comes without it, to the byte.
func TestPassesBytes(t *testing.T) {
	const tools = `{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"Weather?"}],"tools":[{"type":"function","function":{"name":"get_weather","parameters":{}}}],"x":{"y":"ü\u00fc"}}`
	requests := []struct{ method, path, body string }{
		{"POST", "/chat/completions", chatBody},
		{"POST", "/v1/chat/completions", chatBody},
		{"POST", "/beta/chat/completions", chatBody},
		{"POST", "/chat/completions", streamBody},
		{"POST", "/chat/completions?trace=a%20b;c", streamBody},
		{"POST", "/chat/completions", tools},
		{"POST", "/chat/completions", "\n " + chatBody + "\n"},
		{"POST", "/beta/completions", `{"model":"deepseek-flash","prompt":"def f(","suffix":")","stream":true}`},
		{"POST", "/responses", `{"model":"deepseek-flash","input":"Hi","unknown":1}`},
		{"POST", "/responses", `{"model":"deepseek-flash","input":"Hi","stream":true}`},
		{"POST", "/v1/responses", `{"model":"deepseek-flash","input":"Hi","stream":true}`},
		{"POST", "/anthropic/v1/messages", `{"model":"deepseek-flash","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}`},
		{"POST", "/anthropic/v1/messages?beta=true", `{"model":"claude-opus-4","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"Hi"}]}`},
		{"POST", "/chat/completions", `{"model":"no-such-model","messages":[{"role":"user","content":"Hi"}]}`},
		{"POST", "/chat/completions", `{"messages":"wrong"}`},
		{"GET", "/models", ""},
		{"GET", "/v1/models/deepseek-flash", ""},
		{"GET", "/user/balance", ""},
		{"POST", "/files", "--x\r\ncontent"},
		{"GET", "/files", ""},
		{"GET", "/files/file-api-0", ""},
		{"DELETE", "/files/file-api-0", ""},
	}
	setup{}.run(t, func(b *bench) {
		direct := deepseektest.NewMemoryServer(deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{upstreamKey}}))
		defer direct.Close()
		client := &http.Client{Transport: direct.Transport()}
		for _, r := range requests {
			want, err := http.NewRequestWithContext(b.Context(), r.method, direct.URL+r.path, strings.NewReader(r.body))
			require.NoError(b, err)
			want.Header.Set("Content-Type", "application/json")
			want.Header.Set("Authorization", "Bearer "+upstreamKey)
			want.Header.Set("X-Api-Key", upstreamKey)
			wanted, err := client.Do(want)
			require.NoError(b, err)
			wantBody, err := all(wanted)
			require.NoError(b, err)

			got, err := b.client.Do(b.request(r.method, r.path, r.body))
			require.NoError(b, err, r.path)
			assert.Equal(b, wantBody, b.whole(got), "%s %s", r.method, r.path)
			assert.Equal(b, wanted.StatusCode, got.StatusCode, "%s %s", r.method, r.path)
			for _, h := range []string{"Content-Type", "X-Ds-Trace-Id", "Content-Length"} {
				assert.Equal(b, wanted.Header.Get(h), got.Header.Get(h), "%s of %s", h, r.path)
			}
			assert.Len(b, got.Header.Get("X-Request-Id"), 16)

			seen := b.srv.Requests()
			last := seen[len(seen)-1]
			path, _, _ := strings.Cut(r.path, "?")
			assert.Equal(b, r.body, string(last.Body))
			assert.Equal(b, path, last.Path)
			assert.Equal(b, upstreamKey, last.Key)
		}
		assert.Len(b, b.srv.Requests(), len(requests))
	})
}

func TestHeaders(t *testing.T) {
	var query string
	setup{network: func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			query = req.URL.RawQuery
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Header.Set("Set-Cookie", "lb=1")
				resp.Header.Set("Strict-Transport-Security", "max-age=1")
				resp.Header.Set("Connection", "X-Hop")
				resp.Header.Set("X-Hop", "1")
				resp.Header.Set("X-Unknown", "kept")
			}
			return resp, err
		})
	}}.run(t, func(b *bench) {
		req := b.request(http.MethodPost, "/chat/completions?a=%0d%0aX-Evil:1", chatBody)
		secret, trace := "sk-of-the-client-0123456789", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		for name, value := range map[string]string{
			"Authorization": "Bearer " + secret, "X-Api-Key": secret, "Api-Key": secret, "Cookie": "session=" + secret,
			"X-Forwarded-For": "10.1.2.3", "X-Real-Ip": "10.1.2.3", "Forwarded": "for=10.1.2.3", "CF-Connecting-IP": "10.1.2.3", "True-Client-IP": "10.1.2.3",
			"X-Client-IP": "10.1.2.3", "Client-IP": "10.1.2.3", "X-Cluster-Client-IP": "10.1.2.3", "X-Original-Forwarded-For": "10.1.2.3", "X-Envoy-External-Address": "10.1.2.3",
			"Traceparent": trace, "Uber-Trace-Id": trace, "X-Amzn-Trace-Id": trace, "X-Cloud-Trace-Context": trace, "Sentry-Trace": trace, "X-Datadog-Trace-Id": trace, "X-B3-Traceid": trace,
			"Referer":    "https://intranet/page",
			"Connection": "X-Private", "X-Private": "1", "Te": "trailers", "Proxy-Authorization": secret,
			"Accept-Encoding": "br", "X-Stainless-Retry-Count": "1", "Anthropic-Version": "2023-06-01",
		} {
			req.Header.Set(name, value)
		}
		resp, err := b.client.Do(req)
		require.NoError(b, err)
		b.whole(resp)
		seen := b.srv.Requests()[0]
		for name, values := range seen.Header {
			for _, v := range values {
				assert.NotContains(b, v, secret, name)
				assert.NotContains(b, v, "10.1.2.3", name)
				assert.NotContains(b, v, trace, name)
				assert.NotContains(b, v, "intranet", name)
			}
		}
		assert.Empty(b, seen.Header.Get("X-Private"))
		assert.Equal(b, "1", seen.Header.Get("X-Stainless-Retry-Count"))
		assert.Equal(b, "2023-06-01", seen.Header.Get("Anthropic-Version"))
		assert.Equal(b, "a=%0d%0aX-Evil:1", query)

		assert.Equal(b, "kept", resp.Header.Get("X-Unknown"))
		for _, name := range []string{"Set-Cookie", "Strict-Transport-Security", "X-Hop"} {
			assert.Empty(b, resp.Header.Get(name), name)
		}
		assert.NotContains(b, b.logs.String(), secret)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// curl -d sends JSON and calls it a form.
func TestContentType(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		for _, sent := range []string{"application/x-www-form-urlencoded", ""} {
			req := b.request(http.MethodPost, "/chat/completions", streamBody)
			req.Header.Set("Content-Type", sent)
			resp, err := b.client.Do(req)
			require.NoError(b, err)
			require.Contains(b, b.whole(resp), "data: [DONE]")
			seen := b.srv.Requests()
			require.Equal(b, "application/json", seen[len(seen)-1].Header.Get("Content-Type"))
		}
	})
}

// Pieces of a stream come as they are written, not when a buffer is full.
func TestFlushesEachPiece(t *testing.T) {
	setup{server: []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: 3 * time.Second, Token: time.Second})}}.run(t, func(b *bench) {
		resp := b.post("/chat/completions", streamBody)
		defer resp.Body.Close()
		require.Equal(b, 3*time.Second, b.elapsed().Round(time.Second), "the head comes with the first data")
		body := bufio.NewReader(resp.Body)
		events, last := 0, b.elapsed()
		for {
			text, err := body.ReadString('\n')
			if err == io.EOF {
				break
			}
			require.NoError(b, err)
			if strings.HasPrefix(text, "data: {") {
				if events > 1 && !strings.Contains(text, `"finish_reason":"stop"`) {
					require.Equal(b, time.Second, b.elapsed()-last, "event %d", events)
				}
				events, last = events+1, b.elapsed()
			}
		}
		require.Greater(b, events, 20)
	})
}

// A client that goes away frees its place at once, wherever its call is.
func TestClientGone(t *testing.T) {
	cases := []struct {
		name  string
		reply deepseektest.Reply
	}{
		{"before headers", deepseektest.Hang()},
		{"in the queue", deepseektest.Queued(60, time.Second)},
		{"before data", deepseektest.StallAfter(0)},
		{"after data", deepseektest.StallAfter(5)},
		{"between attempts", deepseektest.ServiceUnavailable().And(deepseektest.WithRetryAfter("30"))},
	}
	for _, c := range cases {
		for _, body := range []string{chatBody, streamBody} {
			t.Run(c.name, func(t *testing.T) {
				setup{}.run(t, func(b *bench) {
					b.srv.Enqueue(c.reply)
					req := b.request(http.MethodPost, "/chat/completions", body).WithContext(b.cancelAfter(1500 * time.Millisecond))
					resp, err := b.client.Do(req)
					if err == nil {
						_, err = all(resp)
					}
					require.Error(b, err)
					require.Equal(b, 1500*time.Millisecond, b.elapsed())
					b.idle()
					require.Len(b, b.logs.lines(b, "client left"), 1, b.logs)
				})
			})
		}
	}
}

func TestLogLine(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.ServiceUnavailable())
		const private = "a secret question"
		resp := b.post("/chat/completions", strings.Replace(streamBody, "Hi", private, 1))
		b.whole(resp)
		synctest.Wait()
		lines := b.logs.lines(b, "answered")
		require.Len(b, lines, 1, b.logs)
		l := lines[0]
		require.Equal(b, resp.Header.Get("X-Request-Id"), l["id"])
		require.Equal(b, "/chat/completions", l["path"])
		require.Equal(b, "deepseek-flash", l["model"])
		require.EqualValues(b, 200, l["status"])
		require.Contains(b, l["trail"], "2 attempts: main#")
		require.Greater(b, l["completion_tokens"], 1.0)
		require.NotContains(b, b.logs.String(), private)
		require.NotContains(b, b.logs.String(), upstreamKey)

		b.srv.Enqueue(deepseektest.CutAfter(5))
		_, err := all(b.post("/chat/completions", streamBody))
		require.ErrorIs(b, err, io.ErrUnexpectedEOF)
		synctest.Wait()
		failed := b.logs.lines(b, "failed")
		require.Len(b, failed, 1, b.logs)
		require.Contains(b, failed[0]["error"], "truncated")
	})
}

// A fault of our own ends one request, gives everything back, and is told of.
func TestPanic(t *testing.T) {
	panics := true
	setup{network: func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if panics {
				panics = false
				panic("a fault")
			}
			return base.RoundTrip(req)
		})
	}, settings: guests(gateway.Client{Concurrency: 1})}.run(t, func(b *bench) {
		req := b.request(http.MethodPost, "/chat/completions", chatBody)
		req.Header.Set("X-Api-Key", aliceKey)
		_, err := b.client.Do(req)
		require.Error(b, err)
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		b.idle()
		lines := b.logs.lines(b, "panic")
		require.Len(b, lines, 1)
		require.Contains(b, lines[0]["stack"], "pass_test.go")
		require.Len(b, b.logs.lines(b, "failed"), 1)
	})
}

// What is no answer of a model is not kept alive: it may be no JSON.
func TestFilesAreNotKeptAlive(t *testing.T) {
	setup{network: func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Minute)
			return &http.Response{
				StatusCode: 200, Header: http.Header{"Content-Type": {"image/png"}, "X-Request-Id": {"theirs"}}, ContentLength: 3,
				Body: io.NopCloser(strings.NewReader("png")), Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			}, nil
		})
	}}.run(t, func(b *bench) {
		resp, err := b.client.Do(b.request(http.MethodGet, "/files/file-api-1/content", ""))
		require.NoError(b, err)
		require.Equal(b, "png", b.whole(resp))
		require.Equal(b, "image/png", resp.Header.Get("Content-Type"))
		require.NotEqual(b, "theirs", resp.Header.Get("X-Request-Id"), "that of our log")
	})
}

// A request whose last piece fills a MiB has come: its answer may take as long as it
// likes.
func TestTheLastPieceOfARequestSetsNoDeadline(t *testing.T) {
	setup{
		settings: gateway.Settings{BodyTimeout: time.Second},
		server:   []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Minute})},
	}.run(t, func(b *bench) {
		for _, size := range []int{1<<20 - 1, 1 << 20, 1<<20 + 1, 1<<20 + 2, 2 << 20, 2<<20 + 7} {
			head, tail := `{"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hi"}], "unknown": "`, `"}`
			body := head + strings.Repeat("x", size-len(head)-len(tail)) + tail
			resp := b.post("/chat/completions", body)
			require.Equal(b, http.StatusOK, resp.StatusCode)
			b.whole(resp)
		}
	})
}
