package conformance

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// streamTests are section 5.5 of the contract, but for continuation.
func streamTests() (tests []test) {
	for _, group := range [][]test{clockTests(), endTests(), framingTests(), formatTests(), leavingTests()} {
		tests = append(tests, group...)
	}
	return tests
}

// leavingTests are about streams that are not read to their end.
func leavingTests() (tests []test) {
	one := deepseek.WithMaxConcurrency(1)
	slow := deepseektest.Paced(deepseektest.Pace{Token: time.Second})
	for name, pieces := range map[string]int{"at once": 0, "after one piece": 1, "after five": 5} {
		tests = append(tests, test{name: "leaving " + name + " gives all back", opts: []deepseek.Option{one}, do: func(x *bench) {
			x.srv.Enqueue(slow)
			s, _, err := x.open(bg, Prompt{})
			require.NoError(x, err)
			for range pieces {
				_, err := s.Next()
				require.NoError(x, err)
			}
			_ = s.Close()
			x.idle()
			assert.True(x, x.posts()[0].Left, "the server noticed")
			x.untouched()
			before := time.Now()
			x.whole(x.chat())
			assert.Equal(x, before, time.Now(), "the next call had to wait")
			_ = s.Close() // once more is harmless
		}})
	}
	return append(tests,
		test{name: "leaving while somebody waits for the next piece", opts: []deepseek.Option{one}, do: func(x *bench) {
			if x.door.Do == nil && x.door.URL == "" {
				x.Skip("an iterator is left by its loop")
			}
			x.srv.Enqueue(deepseektest.StallAfter(3))
			s, _, err := x.open(bg, Prompt{})
			require.NoError(x, err)
			var wg sync.WaitGroup
			wg.Go(func() {
				var res Result
				assert.Error(x, readAll(s, &res))
				assert.NotZero(x, res.Pieces)
			})
			time.Sleep(time.Second)
			_ = s.Close()
			wg.Wait()
			assert.Equal(x, time.Second, x.elapsed())
			x.untouched()
			x.whole(x.chat())
		}},
		test{name: "reading on after the end, and after Close", do: func(x *bench) {
			if x.door.Do == nil {
				x.Skip("the door reads by itself")
			}
			resp, err := x.door.Do(x.post("/chat/completions", chatStreamBody))
			require.NoError(x, err)
			_, err = io.ReadAll(resp.Body)
			require.NoError(x, err)
			for range 3 {
				n, err := resp.Body.Read(make([]byte, 10))
				assert.Zero(x, n)
				assert.Equal(x, io.EOF, err)
			}
			require.NoError(x, resp.Body.Close())
			_, err = resp.Body.Read(make([]byte, 10))
			assert.Error(x, err)
			assert.NoError(x, resp.Body.Close())
		}},
		test{name: "hundreds of streams left in the middle leave nothing behind", opts: []deepseek.Option{deepseek.WithMaxConcurrency(50)}, do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
			x.crowd(300, func(i int) {
				ctx, cancel := context.WithCancel(bg)
				defer cancel()
				s, _, err := x.open(ctx, Prompt{})
				if !assert.NoError(x, err) {
					return
				}
				for range i % 4 {
					if _, err := s.Next(); err != nil {
						assert.NoError(x, err)
						return
					}
				}
				if i%2 == 0 {
					_ = s.Close()
				}
			})
			x.untouched()
		}},
	)
}

// Requests that only a plain client can make.
const (
	chatStreamBody = `{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"Hi"}]}`
)

// post is a request for the door's Do.
func (x *bench) post(path, body string) *http.Request {
	x.Helper()
	req, err := http.NewRequestWithContext(bg, http.MethodPost, x.door.URL+path, strings.NewReader(body))
	require.NoError(x, err)
	req.Header.Set("Content-Type", "application/json")
	return req
}

// film is a network on which every request for an answer is shown the same
// stream: strings are sent, durations are pauses, an error is how it ends; after
// the last part it ends cleanly. It shows what the fake server does not do.
func film(shown *atomic.Int64, parts ...any) func(*deepseektest.Server) http.RoundTripper {
	return func(srv *deepseektest.Server) http.RoundTripper {
		real := srv.Transport()
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPost {
				return real.RoundTrip(req)
			}
			_ = req.Body.Close()
			shown.Add(1)
			r, w := io.Pipe()
			go func() { w.CloseWithError(project(req.Context(), w, parts)) }()
			return &http.Response{
				Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
				Header:        http.Header{"Content-Type": {"text/event-stream"}, "X-Ds-Trace-Id": {"film"}},
				Body:          &screen{r, context.AfterFunc(req.Context(), func() { _ = r.CloseWithError(context.Cause(req.Context())) })},
				ContentLength: -1, Request: req,
			}, nil
		})
	}
}

// project shows the parts and returns how they end.
func project(ctx context.Context, w io.Writer, parts []any) error {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			if _, err := io.WriteString(w, p); err != nil {
				return err
			}
		case time.Duration:
			select {
			case <-time.After(p):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case error:
			return p
		}
	}
	return io.EOF
}

// screen is the body of a film's response.
type screen struct {
	*io.PipeReader
	stop func() bool
}

func (s *screen) Close() error {
	s.stop()
	return s.PipeReader.Close()
}

// Parts of a film.
const (
	keepAlive   = ": keep-alive\n\n"
	filmRole    = `data: {"id":"u","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	filmHello   = `data: {"id":"u","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}` + "\n\n"
	filmWorld   = `data: {"id":"u","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":", world"},"finish_reason":null}]}` + "\n\n"
	filmStop    = `data: {"id":"u","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]}` + "\n\n"
	filmUsage   = `data: {"id":"u","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` + "\n\n"
	filmDone    = "data: [DONE]\n\n"
	helloWorld  = "Hello, world"
	filmForever = 24 * time.Hour
)

var errFilmReset = errors.New("read tcp 127.0.0.1:1->127.0.0.1:443: read: connection reset by peer")

// greeted demands the whole of what the films say.
func (x *bench) greeted(res Result, err error) {
	x.Helper()
	require.NoError(x, err)
	assert.Equal(x, helloWorld, res.Text)
	assert.Equal(x, "stop", res.Finish)
	assert.True(x, res.Clean, "clean end")
}

// settled demands that the film was shown once and nothing of it is left.
func (x *bench) settled(shown *atomic.Int64) {
	x.Helper()
	synctest.Wait()
	assert.EqualValues(x, 1, shown.Load(), "attempts")
	x.idle()
}
