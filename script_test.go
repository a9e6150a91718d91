package deepseek

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// script is a base that answers each request by its next step; the last step
// answers all further ones. It reads and closes the request's body, as
// http.Transport does, and keeps count of what it handed out.
type script struct {
	mu    sync.Mutex
	steps []step
	reqs  []arrival

	opened, closed, closedTwice atomic.Int64 // response bodies
}

type step func(req *http.Request) (*http.Response, error)

// arrival is a request as it arrived.
type arrival struct {
	req    *http.Request
	header http.Header
	body   string
	at     time.Time
}

func scripted(steps ...step) *script { return &script{steps: steps} }

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	seen := arrival{req: req, header: req.Header.Clone(), at: time.Now()}
	if req.Body != nil {
		data, err := io.ReadAll(req.Body)
		if err == nil {
			err = req.Body.Close()
		}
		if err != nil {
			return nil, err
		}
		seen.body = string(data)
	}
	s.mu.Lock()
	i := min(len(s.reqs), len(s.steps)-1)
	s.reqs = append(s.reqs, seen)
	next := s.steps[i]
	s.mu.Unlock()
	resp, err := next(req)
	if resp != nil {
		resp.Request = req
		if _, upgraded := resp.Body.(io.Writer); !upgraded && resp.Body != http.NoBody {
			s.opened.Add(1)
			resp.Body = &countedBody{ReadCloser: resp.Body, s: s}
		}
	}
	return resp, err
}

// sent returns what arrived so far.
func (s *script) sent() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.reqs...)
}

// allClosed fails unless every response body was closed exactly once.
func (s *script) allClosed(tb testing.TB) {
	tb.Helper()
	require.Equal(tb, s.opened.Load(), s.closed.Load(), "response bodies closed")
}

type countedBody struct {
	io.ReadCloser
	s      *script
	closed atomic.Bool
}

func (b *countedBody) Close() error {
	if b.closed.Swap(true) {
		b.s.closedTwice.Add(1)
		return nil
	}
	b.s.closed.Add(1)
	return b.ReadCloser.Close()
}

// feed is a response body that comes in parts: strings and byte slices are what
// a read returns at most, durations are pauses, an error is how it ends. After
// the last part it ends cleanly. It ends with the request's context, as the
// bodies of http.Transport do.
type feed struct {
	ctx   context.Context
	parts []any
	gone  chan struct{}
	once  sync.Once
}

func (f *feed) Read(p []byte) (int, error) {
	for {
		if f.ctx.Err() != nil {
			return 0, context.Cause(f.ctx)
		}
		select {
		case <-f.gone:
			return 0, http.ErrBodyReadAfterClose
		default:
		}
		if len(f.parts) == 0 {
			return 0, io.EOF
		}
		switch part := f.parts[0].(type) {
		case string:
			n := copy(p, part)
			if f.parts[0] = part[n:]; n == len(part) {
				f.parts = f.parts[1:]
			}
			if n > 0 {
				return n, nil
			}
			if len(p) == 0 {
				return 0, nil
			}
		case time.Duration:
			timer := time.NewTimer(part)
			select {
			case <-timer.C:
				f.parts = f.parts[1:]
			case <-f.ctx.Done():
			case <-f.gone:
			}
			timer.Stop()
		case error:
			return 0, part
		}
	}
}

func (f *feed) Close() error {
	f.once.Do(func() { close(f.gone) })
	return nil
}

// reply answers with a body that comes in parts. Headers are "Name: value".
func reply(status int, contentType string, headers []string, parts ...any) step {
	return func(req *http.Request) (*http.Response, error) {
		h := http.Header{}
		if contentType != "" {
			h.Set("Content-Type", contentType)
		}
		for _, line := range headers {
			name, value, _ := strings.Cut(line, ": ")
			h.Set(name, value)
		}
		return &http.Response{
			StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: h, ContentLength: -1,
			Body: &feed{ctx: req.Context(), parts: append([]any(nil), parts...), gone: make(chan struct{})},
		}, nil
	}
}

// status answers with an error of DeepSeek's shape.
func status(code int, headers ...string) step {
	return reply(code, "application/json", headers, `{"error":{"message":"status of the script","type":"t","param":null,"code":"c"}}`)
}

// jsonReply answers 200 with a JSON body.
func jsonReply(parts ...any) step { return reply(200, "application/json", nil, parts...) }

// streamReply answers 200 with an event stream.
func streamReply(parts ...any) step {
	return reply(200, "text/event-stream; charset=utf-8", nil, parts...)
}

// fails is an attempt that ends without a response.
func fails(err error) step {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// hangs never answers.
func hangs(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, context.Cause(req.Context())
}

var answers = jsonReply(wholeAnswer)

var errReset = errors.New("read tcp 10.0.0.1:443: connection reset by peer")

// Parts of a stream.
const (
	chunkRole  = `data: {"id":"u","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	chunkHello = `data: {"id":"u","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}` + "\n\n"
	chunkStop  = `data: {"id":"u","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` + "\n\n"
	chunkUsage = `data: {"id":"u","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` + "\n\n"
	eventDone  = "data: [DONE]\n\n"
	keepAlive  = ": keep-alive\n\n"
)

const wholeStream = chunkRole + chunkHello + chunkStop + eventDone

const testURL = "https://api.deepseek.com/chat/completions"

// chatRequest is a POST of a chat request; stream says which.
func chatRequest(ctx context.Context, stream bool) *http.Request {
	body := smallRequest
	if stream {
		body = `{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"Hi"}]}`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, testURL, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

// send makes a chat call, not streaming.
func send(ctx context.Context, rt http.RoundTripper) (*http.Response, error) {
	return rt.RoundTrip(chatRequest(ctx, false))
}

// sendStream makes a streaming chat call.
func sendStream(ctx context.Context, rt http.RoundTripper) (*http.Response, error) {
	return rt.RoundTrip(chatRequest(ctx, true))
}

// readBody reads a response to its end and closes it.
func readBody(resp *http.Response) (string, error) {
	data, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return string(data), err
}

// retrying is a retry layer over a base.
func retrying(tb testing.TB, r Retry, base http.RoundTripper) http.RoundTripper {
	tb.Helper()
	m, err := NewRetry(r)
	require.NoError(tb, err)
	return m(base)
}

// guarded is a guard layer over a base.
func guarded(t Timeouts, base http.RoundTripper) http.RoundTripper { return NewGuard(t, false)(base) }

// transportOver is a whole transport over a base, with one key.
func transportOver(tb testing.TB, base http.RoundTripper, opts ...Option) *Transport {
	tb.Helper()
	tr, err := NewTransport(append([]Option{WithTransport(base), WithBaseURL(DefaultBaseURL), WithAPIKeys(secretKey)}, opts...)...)
	require.NoError(tb, err)
	return tr
}

const secretKey = "sk-5ecre7-5ecre7-5ecre7"
