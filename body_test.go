package deepseek

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/internal/racedetector"
)

// callersBody counts what is done to the body that a caller gave.
type callersBody struct {
	io.Reader
	reads  atomic.Int64
	closes atomic.Int64
}

func (b *callersBody) Read(p []byte) (int, error) {
	b.reads.Add(1)
	return b.Reader.Read(p)
}

func (b *callersBody) Close() error {
	b.closes.Add(1)
	return nil
}

// callersRequest is a POST with a body that counts; get says whether there is a GetBody.
func callersRequest(ctx context.Context, text string, get bool) (*http.Request, *callersBody, *atomic.Int64) {
	body := &callersBody{Reader: strings.NewReader(text)}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, testURL, body)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	copies := &atomic.Int64{}
	if get {
		req.ContentLength = int64(len(text))
		req.GetBody = func() (io.ReadCloser, error) {
			copies.Add(1)
			return io.NopCloser(strings.NewReader(text)), nil
		}
	}
	return req, body, copies
}

func TestCallersRequestUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), status(429), status(401), answers)
		tr := transportOver(t, base, WithAPIKeys("sk-second-second"))
		req, body, _ := callersRequest(t.Context(), smallRequest, true)
		req.Header.Set("Authorization", "Bearer placeholder")
		before, header := *req, req.Header.Clone()
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Len(t, base.sent(), 4)
		require.Equal(t, header, req.Header)
		require.Same(t, body, req.Body)
		require.Equal(t, before.URL, req.URL)
		require.Equal(t, before.Host, req.Host)
		require.Equal(t, before.ContentLength, req.ContentLength)
		require.Equal(t, before.Context(), req.Context())
		for _, s := range base.sent() {
			require.NotSame(t, req, s.req)
			require.Equal(t, smallRequest, s.body)
			require.Empty(t, s.header.Get("Accept-Encoding"), "what is compressed cannot be watched")
		}
	})
}

func TestBodyClosedExactlyOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []step
		opts  []Option
	}{
		{"at once", []step{answers}, nil},
		{"retried", []step{status(503), fails(errReset), answers}, nil},
		{"rejected", []step{status(400)}, nil},
		{"given up", []step{status(503)}, []Option{WithRetry(Retry{MaxAttempts: 2})}},
		{"refused before sending", []step{fails(&CircuitOpenError{})}, nil},
		{"other origin", []step{answers}, []Option{WithBaseURL("https://elsewhere.example")}},
	} {
		for _, get := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					req, body, _ := callersRequest(t.Context(), smallRequest, get)
					resp, err := transportOver(t, scripted(c.steps...), c.opts...).RoundTrip(req)
					if err == nil {
						_ = resp.Body.Close()
					}
					require.EqualValues(t, 1, body.closes.Load())
				})
			})
		}
	}
}

// A base that fails before it looks at the body leaves it to us.
func TestBodyClosedThoughBaseNeverTouchedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		untouched := roundTripper(func(*http.Request) (*http.Response, error) { n++; return nil, errReset })
		req, body, copies := callersRequest(t.Context(), smallRequest, true)
		_, err := transportOver(t, untouched, WithRetry(Retry{MaxAttempts: 3})).RoundTrip(req)
		require.ErrorIs(t, err, errReset)
		require.Equal(t, 3, n)
		require.EqualValues(t, 1, body.closes.Load())
		require.EqualValues(t, 1, copies.Load(), "read once, to find model and stream")
	})
}

func TestBodyClosedWhenBasePanics(t *testing.T) {
	req, body, _ := callersRequest(t.Context(), smallRequest, true)
	tr := transportOver(t, roundTripper(func(*http.Request) (*http.Response, error) { panic("base") }))
	require.Panics(t, func() { _, _ = tr.RoundTrip(req) })
	require.EqualValues(t, 1, body.closes.Load())
}

// The first attempt sends the caller's own body; GetBody serves later ones.
func TestFirstAttemptSendsCallersBodyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for attempts := 1; attempts <= 3; attempts++ {
			steps := []step{status(503), status(503), answers}[3-attempts:]
			req, body, copies := callersRequest(t.Context(), smallRequest, true)
			resp, err := retrying(t, Retry{}, scripted(steps...)).RoundTrip(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.NotZero(t, body.reads.Load())
			require.EqualValues(t, attempts, copies.Load(), "one to find model and stream, one for each further attempt")
		}
	})
}

// A transport may go on reading an attempt's body after it has returned: it is
// never one that another attempt reads, nor is its request.
func TestEarlierAttemptMayStillReadItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, get := range []bool{true, false} {
			var kept []*http.Request
			var bodies []io.ReadCloser
			late := roundTripper(func(req *http.Request) (*http.Response, error) {
				half := make([]byte, len(smallRequest)/2)
				_, err := io.ReadFull(req.Body, half)
				require.NoError(t, err)
				require.Equal(t, smallRequest[:len(half)], string(half))
				kept, bodies = append(kept, req), append(bodies, req.Body)
				if len(kept) < 3 {
					return status(503)(req)
				}
				return answers(req)
			})
			req, body, _ := callersRequest(t.Context(), smallRequest, get)
			resp, err := retrying(t, Retry{}, late).RoundTrip(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Len(t, kept, 3)
			for i, r := range kept {
				require.Same(t, bodies[i], r.Body, "the request of attempt %d was given another body", i+1)
				rest, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				require.Equal(t, smallRequest[len(smallRequest)/2:], string(rest), "attempt %d", i+1)
				require.NoError(t, r.Body.Close())
			}
			require.EqualValues(t, 1, body.closes.Load())
		}
	})
}

func TestBodyWithoutGetBodyIsBufferedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), status(503), answers)
		req, body, _ := callersRequest(t.Context(), smallRequest, false)
		req.Body = struct{ io.ReadCloser }{body} // its length unknown
		resp, err := transportOver(t, base).RoundTrip(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Len(t, base.sent(), 3)
		for _, s := range base.sent() {
			require.Equal(t, smallRequest, s.body)
			require.EqualValues(t, len(smallRequest), s.req.ContentLength)
		}
		require.EqualValues(t, 1, body.closes.Load())
	})
}

// endless is a body of n bytes that are not kept anywhere.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n := int(min(e.n, int64(len(p))))
	e.n -= int64(n)
	return n, nil
}

func TestBodyOverLimitIsSentOnce(t *testing.T) {
	if testing.Short() || racedetector.On {
		t.Skip("moves 100 MB")
	}
	for _, length := range []int64{-1, maxReplayBody + 1} {
		attempts, arrived := 0, int64(0)
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			attempts++
			arrived, _ = io.Copy(io.Discard, req.Body)
			_ = req.Body.Close()
			return status(503)(req)
		})
		body := &callersBody{Reader: &endless{maxReplayBody + 1}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, body)
		require.NoError(t, err)
		req.ContentLength = length
		resp, err := retrying(t, Retry{MinInterval: 1, MaxInterval: 1}, base).RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		text, err := readBody(resp)
		require.NoError(t, err)
		require.NotEmpty(t, text)
		require.Equal(t, 1, attempts)
		require.EqualValues(t, maxReplayBody+1, arrived, "nothing of it is lost")
		require.EqualValues(t, 1, body.closes.Load())
	}
}

func TestBodyThatCannotBeReadIsAnErrorBeforeSending(t *testing.T) {
	base := scripted(answers)
	broken := errors.New("disk on fire")
	for _, c := range []struct {
		r      io.Reader
		length int64
		want   string
	}{
		{iotest.ErrReader(broken), -1, "disk on fire"},
		{strings.NewReader("four"), 5, "has 4 bytes where Content-Length says 5"},
		{strings.NewReader("four"), 3, "has 4 bytes where Content-Length says 3"},
	} {
		body := &callersBody{Reader: c.r}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, body)
		require.NoError(t, err)
		req.ContentLength = c.length
		_, err = transportOver(t, base).RoundTrip(req)
		require.ErrorContains(t, err, c.want)
		require.EqualValues(t, 1, body.closes.Load())
		require.Empty(t, base.sent())
	}
}

func TestGetBodyErrorReturnsLastOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), answers)
		req, _, _ := callersRequest(t.Context(), smallRequest, true)
		req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("file gone") }
		resp, err := retrying(t, Retry{}, base).RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		require.Len(t, base.sent(), 1)
	})
}

func TestEmptyBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, body := range []io.ReadCloser{nil, http.NoBody, io.NopCloser(strings.NewReader(""))} {
			base := scripted(status(503), answers)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, nil)
			require.NoError(t, err)
			req.Body = body
			resp, err := transportOver(t, base).RoundTrip(req)
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Len(t, base.sent(), 2)
		}
	})
}

func TestSniffFindsModelAndStream(t *testing.T) {
	for _, c := range []struct {
		body, contentType, encoding string
		model                       string
		stream                      bool
	}{
		{`{"model":"deepseek-v4-pro","stream":true}`, "application/json", "", "deepseek-v4-pro", true},
		{` { "stream" : true , "messages":[{"model":"no"}], "model" : "a\u0062c" } `, "application/json; charset=utf-8", "", "abc", true},
		{`{"model":"x","stream":false}`, "", "", "x", false},
		{`{"model":"x","stream":"true"}`, "", "", "x", false},
		{`{"model":7}`, "", "", "", false},
		{`{"model":"x"`, "", "", "x", false},
		{`model=x`, "application/x-www-form-urlencoded", "", "", false},
		{`{"model":"x"}`, "multipart/form-data", "", "", false},
		{`{"model":"x"}`, "application/json", "gzip", "", false},
		{`[1]`, "application/json", "", "", false},
		{"\xff\x00", "", "", "", false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, strings.NewReader(c.body))
		require.NoError(t, err)
		if c.contentType != "" {
			req.Header.Set("Content-Type", c.contentType)
		}
		if c.encoding != "" {
			req.Header.Set("Content-Encoding", c.encoding)
		}
		call, _, err := enter(req)
		require.NoError(t, err)
		require.Equal(t, c.model, call.model, c.body)
		require.Equal(t, c.stream, call.stream, c.body)
		call.leave()
	}
}

// Without the guard a layer still learns of the end exactly once, however it comes.
func TestEndOfPlainBodyIsToldOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, cancel func(), resp *http.Response)
		want outcome
	}{
		{"read to its end", func(t *testing.T, _ func(), resp *http.Response) { _, _ = io.ReadAll(resp.Body) }, answered},
		{"read and closed", func(t *testing.T, _ func(), resp *http.Response) { _, _ = readBody(resp) }, answered},
		{"closed", func(t *testing.T, _ func(), resp *http.Response) { _ = resp.Body.Close(); _ = resp.Body.Close() }, cancelled},
		{"cancelled", func(t *testing.T, cancel func(), resp *http.Response) {
			cancel()
			synctest.Wait()
			_ = resp.Body.Close()
		}, cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				told := &ends{}
				rt := layer(func(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
					return through(next, req, c, told)
				})(scripted(reply(200, "text/plain", nil, "some ", "text")))
				resp, err := send(ctx, rt)
				require.NoError(t, err)
				require.Empty(t, told.all)
				c.end(t, cancel, resp)
				require.Equal(t, []outcome{c.want}, told.all)
			})
		})
	}
}

// ends notes how responses ended.
type ends struct{ all []outcome }

func (e *ends) finish(_ *call, v verdict) { e.all = append(e.all, v.outcome) }

func TestEndIsToldToAnyNumberOfLayers(t *testing.T) {
	var e ending
	told := &ends{}
	for range 10 {
		e.onEnd(nil, told)
	}
	e.end(verdict{outcome: fault})
	e.end(verdict{outcome: answered})
	require.Equal(t, bytes.Repeat([]byte{byte(fault)}, 10), outcomeBytes(told.all))
	e.onEnd(nil, told)
	require.Len(t, told.all, 11, "late ones at once")
	require.Equal(t, fault, told.all[10])
}

func outcomeBytes(os []outcome) []byte {
	b := make([]byte, len(os))
	for i, o := range os {
		b[i] = byte(o)
	}
	return b
}

// A request goes out in one write, header and body, and so does what is sent
// again.
func TestBodyIsSentWithTheHeader(t *testing.T) {
	var writes, failed atomic.Int64
	base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			req, err := http.ReadRequest(bufio.NewReader(server))
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			if string(body) != smallRequest || failed.Add(1) == 1 {
				_, _ = io.WriteString(server, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				return
			}
			_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(wholeAnswer))+"\r\n\r\n"+wholeAnswer)
		}()
		return countingConn{client, &writes}, nil
	}}
	defer base.CloseIdleConnections()
	tr := transportOver(t, base, WithBaseURL("http://127.0.0.1:1"), WithRetry(Retry{MinInterval: time.Nanosecond, MaxInterval: time.Nanosecond}))
	for _, body := range []io.Reader{bytes.NewReader([]byte(smallRequest)), strings.NewReader(smallRequest), bytes.NewBufferString(smallRequest), io.MultiReader(strings.NewReader(smallRequest))} {
		writes.Store(0)
		failed.Store(0)
		req, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:1/chat/completions", body)
		require.NoError(t, err)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		_ = resp.Body.Close()
		require.EqualValues(t, 2, writes.Load(), "%T: one for each attempt", body)
	}
}

// countingConn counts what is written to it.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A body that somebody else's layer puts in is sent in every attempt, and tells
// what the call is limited and guarded by. The one it was put in for is closed.
func TestBodyPutInByAMiddleware(t *testing.T) {
	const put = `{"model":"deepseek-v4-pro","messages":[{"role":"user","content":"Hello"}]}`
	for name, request := range map[string]func(*http.Request) *http.Request{
		"with GetBody": func(req *http.Request) *http.Request {
			own := req.Clone(req.Context())
			own.Body, own.ContentLength = io.NopCloser(strings.NewReader(put)), int64(len(put))
			own.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(put)), nil }
			return own
		},
		"to be read": func(req *http.Request) *http.Request {
			own := req.Clone(req.Context())
			own.Body, own.GetBody, own.ContentLength = io.NopCloser(strings.NewReader(put)), nil, -1
			return own
		},
	} {
		middleware := func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				own := request(req)
				defer req.Body.Close()
				return next.RoundTrip(own)
			})
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := scripted(status(503), status(401), answers)
				var ended CallEndEvent
				tr := transportOver(t, s, WithAPIKeys("sk-1", "sk-2"), WithMiddleware(middleware), WithObserver(Observer{CallEnd: func(e CallEndEvent) { ended = e }}))
				ctx := ContextWithConversation(t.Context(), "c-1")
				req, body, _ := callersRequest(ctx, smallRequest, true)
				resp, err := tr.RoundTrip(req)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Len(t, s.sent(), 3)
				require.Equal(t, conversation(0).named(ctx).key(), callOf(s.sent()[2].req).conversation.key())
				for _, r := range s.sent() {
					require.Equal(t, put, r.body)
				}
				require.EqualValues(t, 1, body.closes.Load())
				require.Equal(t, ModelPro, ended.Attempts[2].Model)
			})
		})
		t.Run(name+", once an attempt", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := scripted(status(503), answers)
				retry, err := NewRetry(Retry{})
				require.NoError(t, err)
				req, body, _ := callersRequest(t.Context(), smallRequest, true)
				resp, err := Chain(retry, middleware, NewGuard(Timeouts{}, false))(s).RoundTrip(req)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Len(t, s.sent(), 2)
				for _, r := range s.sent() {
					require.Equal(t, put, r.body)
				}
				require.EqualValues(t, 1, body.closes.Load())
			})
		})
	}
}

// Without a guard, a body may come to its end in the moment in which its caller
// gives up: it is over once, and the race detector has nothing to say.
func TestBodyEndsAsItsCallerGivesUp(t *testing.T) {
	p, err := NewPool(nil, account1("a", "sk-a"))
	require.NoError(t, err)
	rt := p.Middleware()(scripted(jsonReply(0, wholeAnswer)))
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := rt.RoundTrip(chatRequest(ctx, false))
		require.NoError(t, err)
		go cancel()
		_, _ = io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
	}
	require.Eventually(t, func() bool { return p.Stats()[0].Models[0].InFlight == 0 }, time.Minute, time.Millisecond)
}

// A body that has to be read first keeps what comes after it.
func TestTrailerOfABodyThatIsReadFirst(t *testing.T) {
	base := scripted(answers)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, struct{ io.Reader }{strings.NewReader(smallRequest)})
	require.NoError(t, err)
	req.Trailer = http.Header{"X-Sum": {"1"}}
	_, err = transportOver(t, base).RoundTrip(req)
	require.NoError(t, err)
	sent := base.sent()[0].req
	require.Equal(t, "1", sent.Trailer.Get("X-Sum"))
	require.EqualValues(t, -1, sent.ContentLength, "net/http has a trailer after chunks only")
}
