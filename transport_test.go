package deepseek

import (
	"context"
	"errors"
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

// A Timeout would cut healthy streams, and cost a goroutine a call.
func TestHTTPClientHasNoTimeout(t *testing.T) {
	client, err := NewHTTPClient(WithAPIKeys(secretKey), WithBaseURL(DefaultBaseURL))
	require.NoError(t, err)
	require.Zero(t, client.Timeout)
	tr := client.Transport.(*Transport)
	base := tr.base.(*http.Transport)
	require.Zero(t, base.ResponseHeaderTimeout, "the server may queue a request for ten minutes")
	require.NotNil(t, base.Proxy)
	require.True(t, base.ForceAttemptHTTP2)
	require.True(t, base.DisableCompression)
	require.GreaterOrEqual(t, base.MaxIdleConnsPerHost, 512)
	require.GreaterOrEqual(t, newBase(3000).MaxIdleConnsPerHost, 3000, "enough for all that may be in flight")
}

// A base of one's own, such as one with a certificate authority, is no worse than the
// default.
func TestBaseTransportCanBeChanged(t *testing.T) {
	base := NewBaseTransport()
	base.ResponseHeaderTimeout = time.Minute
	require.True(t, base.ForceAttemptHTTP2)
	require.Equal(t, 512, base.MaxIdleConnsPerHost)
	require.NotSame(t, base, NewBaseTransport())
	client, err := NewHTTPClient(WithAPIKeys(secretKey), WithTransport(base))
	require.NoError(t, err)
	require.Same(t, base, client.Transport.(*Transport).base)
}

// idleBase counts how often its idle connections are closed.
type idleBase struct {
	http.RoundTripper
	closed atomic.Int64
}

func (b *idleBase) CloseIdleConnections() { b.closed.Add(1) }

// The idle connections are shared by all callers: no fault of one call, nor its
// cancellation, is a reason to close them.
func TestIdleConnectionsAreClosedForTheCallerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &idleBase{RoundTripper: scripted(fails(errReset), status(503), status(401), status(402), streamReply(chunkRole), hangs)}
		client := &http.Client{Transport: transportOver(t, base, WithAPIKeys("sk-second-second", "sk-third-third"))}
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			resp, err := client.Do(chatRequest(ctx, true))
			if err == nil {
				_, _ = readBody(resp)
			}
			cancel()
		}
		require.Zero(t, base.closed.Load())
		client.CloseIdleConnections()
		require.EqualValues(t, 1, base.closed.Load(), "reaches the base")
		transportOver(t, scripted(answers)).CloseIdleConnections() // a base that has none
	})
}

// SDKs keep the response's request, in their errors for one, and read it later.
func TestResponsesRequestIsTheCallersAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transportOver(t, scripted(status(503), status(400), answers), WithoutBreaker())
		req := chatRequest(t.Context(), false)
		req.Header.Set("X-Mine", "first")
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 400, resp.StatusCode)
		_, err = readBody(resp)
		require.NoError(t, err)
		for range 10 {
			other := chatRequest(t.Context(), true)
			other.Header.Set("X-Mine", "other")
			next, err := tr.RoundTrip(other)
			require.NoError(t, err)
			_, err = readBody(next)
			require.NoError(t, err)
		}
		require.Same(t, req, resp.Request)
		require.Equal(t, "first", resp.Request.Header.Get("X-Mine"))
		require.Equal(t, testURL, resp.Request.URL.String())
		require.Empty(t, resp.Request.Header.Get("Authorization"), "the key is not in it")
	})
}

// pipe is the body of a switched protocol.
type pipe struct {
	io.Reader
	written strings.Builder
	closed  bool
}

func (p *pipe) Write(b []byte) (int, error) { return p.written.Write(b) }
func (p *pipe) Close() error                { p.closed = true; return nil }

// A body that can be written to, after status 101, still can, and holds its
// permit until it is closed. No clock runs on it.
func TestSwitchedProtocolCanBeWrittenTo(t *testing.T) {
	for name, wrap := range map[string]func(base http.RoundTripper) http.RoundTripper{
		"whole chain": func(base http.RoundTripper) http.RoundTripper {
			return transportOver(t, base, WithMaxConcurrency(1), WithQueue(Queue{MaxLength: -1}))
		},
		"a layer alone": func(base http.RoundTripper) http.RoundTripper {
			m, err := NewLimit(1)
			require.NoError(t, err)
			return m(base)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pipe{Reader: strings.NewReader("from the server")}
				rt := wrap(scripted(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: http.Header{"Upgrade": {"x"}}, Body: p}, nil
				}, answers))
				resp, err := send(t.Context(), rt)
				require.NoError(t, err)
				time.Sleep(24 * time.Hour)
				w, ok := resp.Body.(io.ReadWriteCloser)
				require.True(t, ok, "%T", resp.Body)
				_, err = io.WriteString(w, "from the client")
				require.NoError(t, err)
				require.Equal(t, "from the client", p.written.String())
				_, err = send(t.Context(), rt)
				require.ErrorIs(t, err, ErrQueueFull, "the permit is still out")
				require.NoError(t, w.Close())
				require.True(t, p.closed)
				resp, err = send(t.Context(), rt)
				require.NoError(t, err)
				_ = resp.Body.Close()
			})
		})
	}
}

// Nothing of a call runs in the background: a stream under way is a timer and a
// watch on its context.
func TestStreamsUnderWayNeedNoGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tr := transportOver(t, scripted(streamReply(chunkRole, time.Hour)), WithObserver(Observer{}))
		before := runtime.NumGoroutine()
		var open []*http.Response
		for range 50 {
			resp, err := sendStream(ctx, tr)
			require.NoError(t, err)
			open = append(open, resp)
		}
		require.Less(t, runtime.NumGoroutine(), before+10)
		for _, resp := range open {
			_ = resp.Body.Close()
		}
	})
}

// A wait in the queue is told apart from the time that the attempt took, to
// observers and in the trail.
func TestWaitForRoomIsToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var waits []WaitEvent
		var ends []CallEndEvent
		tr := transportOver(t, scripted(jsonReply(3*time.Second, wholeAnswer)), WithMaxConcurrency(1), WithObserver(Observer{
			Wait:    func(e WaitEvent) { mu.Lock(); defer mu.Unlock(); waits = append(waits, e) },
			CallEnd: func(e CallEndEvent) { mu.Lock(); defer mu.Unlock(); ends = append(ends, e) },
		}))
		call := func() {
			resp, err := send(t.Context(), tr)
			if err == nil {
				_, _ = readBody(resp)
			}
		}
		go call()
		synctest.Wait()
		time.Sleep(time.Second)
		call()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, waits, 1)
		require.Equal(t, 2*time.Second, waits[0].Wait)
		require.True(t, strings.HasPrefix(waits[0].Reason, "room"), waits[0].Reason)
		require.Len(t, ends, 2)
		second := ends[1].Attempts[0]
		require.Equal(t, 2*time.Second, second.Wait)
		require.Equal(t, 3*time.Second, second.Duration)
		require.Equal(t, 5*time.Second, ends[1].Duration)
		require.Contains(t, ends[1].Attempts.String(), "waited 2.00s; ")
	})
}

// A layer of the caller's that makes a call of its own, with the context of the
// call that it is in, makes another call.
func TestCallInTheCourseOfACallIsOneOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), answers, answers)
		var tr *Transport
		asks := func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if req.Header.Get("X-Inner") == "" {
					inner := chatRequest(req.Context(), false)
					inner.Header.Set("X-Inner", "yes")
					resp, err := tr.RoundTrip(inner)
					if err != nil {
						return nil, err
					}
					if _, err := readBody(resp); err != nil {
						return nil, err
					}
				}
				return next.RoundTrip(req)
			})
		}
		var ends []CallEndEvent
		tr = transportOver(t, base, WithMiddleware(asks), WithObserver(Observer{CallEnd: func(e CallEndEvent) { ends = append(ends, e) }}))
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		_, err = readBody(resp)
		require.NoError(t, err)
		require.Len(t, ends, 2)
		require.Len(t, ends[0].Attempts, 2, "the inner call's")
		require.Len(t, ends[1].Attempts, 1)
	})
}

func TestRequestWithoutURLIsAnError(t *testing.T) {
	body := &callersBody{Reader: strings.NewReader("x")}
	_, err := transportOver(t, scripted(answers)).RoundTrip(&http.Request{Method: http.MethodPost, Body: body})
	require.ErrorContains(t, err, "nil Request.URL")
	require.EqualValues(t, 1, body.closes.Load())
}

// What a call ends with is one of this package's errors, and tells its attempts.
func TestCallErrorTellsTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := send(t.Context(), transportOver(t, scripted(fails(errReset)), WithRetry(Retry{MaxAttempts: 3})))
		var call *CallError
		require.ErrorAs(t, err, &call)
		require.ErrorIs(t, err, errReset)
		require.Len(t, call.Attempts, 3)
		require.Contains(t, err.Error(), "3 attempts: ")
		require.False(t, call.Timeout())
		require.True(t, (&CallError{Err: &StallError{}}).Timeout())
		require.Equal(t, "deepseek: oops", (&CallError{Err: errors.New("oops")}).Error())
	})
}
