package deepseek

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The contract's table of outcomes, as far as retry is concerned.
func TestRetryByOutcome(t *testing.T) {
	broken := `{"id":"u","choices":[{"index":0,"message":{"content":"He"},"finish_reason":"insufficient_system_resource"}]}`
	for _, c := range []struct {
		name    string
		first   step
		retried bool
	}{
		{"200", answers, false},
		{"302", reply(302, "", []string{"Location: /v1"}), false},
		{"304", reply(304, "", nil), false},
		{"400", status(400), false},
		{"401", status(401), false},
		{"402", status(402), false},
		{"403", status(403), false},
		{"404", status(404), false},
		{"405", status(405), false},
		{"413", status(413), false},
		{"422", status(422), false},
		{"501", status(501), false},
		{"505", status(505), false},
		{"408", status(408), true},
		{"409", status(409), true},
		{"429", status(429), true},
		{"500", status(500), true},
		{"502", reply(502, "text/html", nil, "<html>bad gateway"), true},
		{"503", status(503), true},
		{"504", status(504), true},
		{"520", status(520), true},
		{"524", status(524), true},
		{"529", status(529), true},
		{"reset", fails(errReset), true},
		{"dial failure", fails(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), true},
		{"unknown host", fails(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}), true},
		{"EOF", fails(io.EOF), true},
		{"unexpected EOF", fails(io.ErrUnexpectedEOF), true},
		{"TLS timeout", fails(errors.New("net/http: TLS handshake timeout")), true},
		{"no data in time", fails(&StallError{Clock: clockFirstData}), true},
		{"cut short", jsonReply(`{"id":"u","choi`), true},
		{"HTML", reply(200, "text/html", nil, "<html>"), true},
		{"null", jsonReply(`null`), true},
		{"an array", jsonReply(`[{"id":"u"}]`), true},
		{"a text", jsonReply(`"busy"`), true},
		{"insufficient_system_resource", jsonReply(broken), true},
		{"aborted", jsonReply(strings.ReplaceAll(broken, "insufficient_system_resource", "aborted")), true},
		{"certificate", fails(&tls.CertificateVerificationError{Err: errors.New("expired")}), false},
		{"plain HTTP server", fails(errors.New("http: server gave HTTP response to HTTPS client")), false},
		{"unsupported scheme", fails(errors.New(`unsupported protocol scheme "ftp"`)), false},
		{"other origin", fails(&OriginError{}), false},
		{"breaker open", fails(&CircuitOpenError{}), false},
		{"queue full", fails(&QueueFullError{}), false},
		{"no account", fails(&NoAccountError{}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(c.first, answers)
				resp, err := send(t.Context(), retrying(t, Retry{}, guarded(Timeouts{}, base)))
				if c.retried {
					require.NoError(t, err)
					body, err := readBody(resp)
					require.NoError(t, err)
					require.Equal(t, wholeAnswer, body)
					require.Len(t, base.sent(), 2)
				} else {
					require.Len(t, base.sent(), 1)
					require.NotEqual(t, resp == nil, err == nil)
					if resp != nil {
						_ = resp.Body.Close()
					}
				}
				base.allClosed(t)
			})
		})
	}
}

func TestRetryReturnsLastResponseReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(500), status(502), reply(503, "text/plain", []string{"X-Ds-Trace-Id: abc", "Retry-After: 1"}, "come ", "back"))
		resp, err := send(t.Context(), retrying(t, Retry{MaxAttempts: 3}, base))
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		require.Equal(t, "abc", resp.Header.Get("X-Ds-Trace-Id"))
		require.Equal(t, "1", resp.Header.Get("Retry-After"))
		require.Equal(t, "false", resp.Header.Get("X-Should-Retry"))
		body, err := readBody(resp)
		require.NoError(t, err)
		require.Equal(t, "come back", body)
		require.Len(t, base.sent(), 3)
		base.allClosed(t)
	})
}

// A last response larger than what is kept in memory is still all there.
func TestRetryReturnsLargeLastResponseWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := strings.Repeat("x", maxErrorBody+1000)
		for _, wrap := range []func(http.RoundTripper) http.RoundTripper{
			func(rt http.RoundTripper) http.RoundTripper { return rt },
			NewGuard(Timeouts{}, false),
		} {
			base := scripted(reply(500, "text/plain", nil, large))
			resp, err := send(t.Context(), retrying(t, Retry{MaxAttempts: 3}, wrap(base)))
			require.NoError(t, err)
			body, err := readBody(resp)
			require.NoError(t, err)
			require.Equal(t, large, body)
			base.allClosed(t)
		}
	})
}

func TestXShouldRetryKeptIfServerSetIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ server, want string }{{"", "false"}, {"true", "true"}, {"false", "false"}} {
			headers := []string(nil)
			if c.server != "" {
				headers = []string{"X-Should-Retry: " + c.server}
			}
			for _, code := range []int{400, 503} {
				resp, err := send(t.Context(), retrying(t, Retry{}, scripted(status(code, headers...))))
				require.NoError(t, err)
				require.Equal(t, c.want, resp.Header.Get("X-Should-Retry"))
			}
		}
		resp, err := send(t.Context(), retrying(t, Retry{}, scripted(answers)))
		require.NoError(t, err)
		require.Empty(t, resp.Header.Get("X-Should-Retry"), "nothing to stop")
		_ = resp.Body.Close()
	})
}

func TestRetryLastErrorIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), fails(errReset))
		_, err := send(t.Context(), retrying(t, Retry{MaxAttempts: 2}, base))
		require.Equal(t, errReset, err)
		require.Len(t, base.sent(), 2)
		base.allClosed(t)
	})
}

// Waits lie between 0 and a bound that doubles up to MaxInterval, jitter
// included, and use the room they have.
func TestRetryIntervalsAreFullJitterCappedAfterJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Retry{MaxAttempts: 8, MinInterval: time.Second, MaxInterval: 8 * time.Second, Budget: -1}
		var longest [7]time.Duration
		for range 300 {
			base := scripted(status(500))
			_, err := send(t.Context(), retrying(t, r, base))
			require.NoError(t, err)
			all := base.sent()
			require.Len(t, all, 8)
			for i := range longest {
				wait := all[i+1].at.Sub(all[i].at)
				require.LessOrEqual(t, wait, min(time.Second<<i, 8*time.Second))
				longest[i] = max(longest[i], wait)
			}
		}
		for i, d := range longest {
			require.Greater(t, d, min(time.Second<<i, 8*time.Second)*8/10, "wait %d never comes near its bound", i+1)
		}
	})
}

// A Retry-After in between does not make the waits short again.
func TestRetryAfterDoesNotStartTheIntervalsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var longest time.Duration
		for range 100 {
			base := scripted(status(500), status(500), status(503, "Retry-After: 1"), status(500), answers)
			resp, err := send(t.Context(), retrying(t, Retry{MinInterval: time.Second, MaxInterval: time.Minute}, base))
			require.NoError(t, err)
			_ = resp.Body.Close()
			all := base.sent()
			wait := all[4].at.Sub(all[3].at)
			require.LessOrEqual(t, wait, 8*time.Second)
			longest = max(longest, wait)
		}
		require.Greater(t, longest, 6*time.Second, "the fourth wait's bound is 8 s")
	})
}

func TestRetryIntervalsDoNotOverflow(t *testing.T) {
	rt, err := newRetrier(Retry{MaxAttempts: 1000, MinInterval: time.Hour, MaxInterval: 1 << 62, MaxRetryAfter: time.Hour})
	require.NoError(t, err)
	for waits := range 1000 {
		for range 20 {
			d, ok := rt.wait(verdict{outcome: fault}, waits)
			require.True(t, ok)
			require.GreaterOrEqual(t, d, time.Duration(0))
		}
	}
}

func TestRetryAfterIsAFloorThatJitterAddsTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		date := time.Now().Add(5 * time.Second).UTC().Format(http.TimeFormat)
		for _, c := range []struct {
			header string
			floor  time.Duration
		}{
			{"Retry-After: 2", 2 * time.Second},
			{"Retry-After: 0.25", 250 * time.Millisecond},
			{"Retry-After-Ms: 1500", 1500 * time.Millisecond},
			{"Retry-After: " + date, 0}, // see TestRetryAfterTable for its value; here the clock moves on
			{"Retry-After: 0", 0},
			{"Retry-After: -1", 0},
			{"Retry-After: NaN", 0},
			{"Retry-After: soon", 0},
		} {
			spread := map[time.Duration]bool{}
			for range 20 {
				base := scripted(status(429, c.header), answers)
				resp, err := send(t.Context(), retrying(t, Retry{MinInterval: 100 * time.Millisecond}, base))
				require.NoError(t, err)
				_ = resp.Body.Close()
				all := base.sent()
				require.Len(t, all, 2)
				wait := all[1].at.Sub(all[0].at)
				require.GreaterOrEqual(t, wait, c.floor, c.header)
				if !strings.Contains(c.header, "GMT") {
					require.LessOrEqual(t, wait, c.floor+100*time.Millisecond, c.header)
				}
				spread[wait] = true
			}
			require.Greater(t, len(spread), 5, "%s: all callers wake together", c.header)
		}
	})
}

func TestRetryAfterBeyondCapReturnsResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, value := range []string{"61", "3600", "99999999999", "1e300", "1e999", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)} {
			base := scripted(status(503, "Retry-After: "+value), answers)
			start := time.Now()
			resp, err := send(t.Context(), retrying(t, Retry{}, base))
			require.NoError(t, err)
			require.Equal(t, 503, resp.StatusCode, value)
			require.Equal(t, value, resp.Header.Get("Retry-After"))
			body, err := readBody(resp)
			require.NoError(t, err)
			require.Contains(t, body, "status of the script")
			require.Zero(t, time.Since(start), "neither waited nor hammered")
			require.Len(t, base.sent(), 1, value)
		}
		base := scripted(status(503, "Retry-After: 60"), answers)
		resp, err := send(t.Context(), retrying(t, Retry{}, base))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode, "the cap itself is accepted")
		_ = resp.Body.Close()
	})
}

func TestRetryNeverSleepsPastDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			step step
			want error
		}{{status(429, "Retry-After: 5"), nil}, {fails(errReset), errReset}} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			resp, err := send(ctx, retrying(t, Retry{MinInterval: 1 << 50, MaxInterval: 1 << 50}, scripted(c.step)))
			require.Zero(t, time.Since(start), "the last outcome is returned now")
			require.Equal(t, c.want, err)
			if err == nil {
				require.Equal(t, 429, resp.StatusCode)
				body, err := readBody(resp)
				require.NoError(t, err)
				require.NotEmpty(t, body)
			}
		}
	})
}

func TestContextEndingDuringSleepKeepsLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the user pressed stop")
		for _, first := range []step{status(503, "Retry-After: 30", "X-Ds-Trace-Id: abc"), fails(errReset)} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			base := scripted(first)
			start := time.Now()
			r := Retry{MinInterval: time.Hour, MaxInterval: time.Hour}
			_, err := send(ctx, retrying(t, r, base))
			require.Equal(t, time.Second, time.Since(start))
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, why)
			var api *APIError
			if errors.As(err, &api) {
				require.Equal(t, 503, api.StatusCode)
				require.Equal(t, "abc", api.TraceID)
			} else {
				require.ErrorIs(t, err, errReset)
			}
			base.allClosed(t)
		}
	})
}

func TestContextEndingDuringAttemptKeepsLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		base := scripted(fails(errReset), hangs)
		_, err := send(ctx, retrying(t, Retry{}, guarded(Timeouts{FirstData: -1}, base)))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errReset)
		require.Equal(t, cancelled, judge(nil, err).outcome)
	})
}

// Whatever the last attempt came to, a caller that gave up is no fault of the server's.
func TestCancelAfterStallIsJudgedCancelled(t *testing.T) {
	err := errors.Join(context.Canceled, &StallError{Clock: clockSilence})
	require.Equal(t, cancelled, judge(nil, err).outcome)
}

func TestCancelledCallIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		base := scripted(hangs)
		_, err := send(ctx, retrying(t, Retry{}, guarded(Timeouts{}, base)))
		require.ErrorIs(t, err, context.Canceled)
		require.Len(t, base.sent(), 1)
		require.NotErrorIs(t, err, ErrServer)
	})
}

// A refusal by a layer below, once the server has said something, is not what
// the caller needs to know.
func TestRefusalAfterFaultReturnsWhatServerSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), fails(&CircuitOpenError{Endpoint: "e"}))
		resp, err := send(t.Context(), retrying(t, Retry{}, base))
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		body, err := readBody(resp)
		require.NoError(t, err)
		require.Contains(t, body, "status of the script")
		base.allClosed(t)
	})
}

func TestRetryMaxAttemptsCountsTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for n := 1; n <= 4; n++ {
			base := scripted(status(500))
			start := time.Now()
			_, err := send(t.Context(), retrying(t, Retry{MaxAttempts: n}, base))
			require.NoError(t, err)
			all := base.sent()
			require.Len(t, all, n)
			require.Zero(t, time.Since(all[n-1].at), "slept after the last attempt")
			if n == 1 {
				require.Zero(t, time.Since(start))
			}
		}
	})
}

// The budget is asked before sleeping: a call that may not retry does not wait.
func TestRetryAsksBudgetBeforeSleeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(500))
		rt := retrying(t, Retry{Budget: 1, MaxAttempts: 2}, base)
		_, err := send(t.Context(), rt)
		require.NoError(t, err)
		start := time.Now()
		resp, err := send(t.Context(), rt)
		require.NoError(t, err)
		require.Equal(t, 500, resp.StatusCode)
		body, _ := readBody(resp)
		require.NotEmpty(t, body)
		require.Zero(t, time.Since(start))
		require.Len(t, base.sent(), 3)
	})
}

// For a discarded response left open the next attempt would wait for its
// connection for ever.
func TestDiscardedResponsesClosedWithMaxConnsPerHost1(t *testing.T) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch n.Add(1) {
		case 1: // short, of known length
			w.WriteHeader(503)
			_, _ = io.WriteString(w, `{"error":{}}`)
		case 2: // long, of unknown length
			w.WriteHeader(503)
			_, _ = io.WriteString(w, strings.Repeat("x", 200_000))
		case 3: // cut short
			_, _ = io.WriteString(w, `{"choices":`)
		case 4: // a page
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, `<html>`)
		default:
			_, _ = io.WriteString(w, wholeAnswer)
		}
	}))
	defer srv.Close()
	base := &http.Transport{MaxConnsPerHost: 1}
	defer base.CloseIdleConnections()
	rt := retrying(t, Retry{MinInterval: 1, MaxInterval: 1}, guarded(Timeouts{}, base))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/chat/completions", strings.NewReader(smallRequest))
	require.NoError(t, err)
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	body, err := readBody(resp)
	require.NoError(t, err)
	require.Equal(t, wholeAnswer, body)
	require.EqualValues(t, 5, n.Load())
}

// A discarded body that does not end must not keep the next attempt waiting
// without end, whether or not a guard's clocks watch over it.
func TestDiscardedBodyThatStallsHoldsNothingUp(t *testing.T) {
	long := strings.Repeat("x", maxErrorBody+1000)
	const never = 24 * time.Hour
	for _, c := range []struct {
		name  string
		first step
		want  time.Duration
	}{
		{"an event stream that stalls", reply(503, "text/event-stream", nil, keepAlive, never), settleFor},
		{"an error object that stalls", reply(503, "application/json", nil, `{"error":`, never), settleFor},
		{"a whole error that stalls", reply(503, "application/json", nil, `{"error":{"message":"busy"}}`, never), settleFor},
		{"a long page that stalls", reply(503, "text/html", nil, long, never), 0},
		{"a trickle", reply(503, "text/html", nil, "a", 4*time.Second, "b", 4*time.Second, "c", never), settleFor},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				alone, watched := scripted(c.first, answers), scripted(c.first, answers)
				for _, x := range []struct {
					base *script
					rt   http.RoundTripper
				}{{alone, alone}, {watched, guarded(Timeouts{}, watched)}} {
					start := time.Now()
					resp, err := send(t.Context(), retrying(t, Retry{MinInterval: 1, MaxInterval: 1}, x.rt))
					require.NoError(t, err)
					text, err := readBody(resp)
					require.NoError(t, err)
					require.Equal(t, wholeAnswer, text)
					require.InDelta(t, c.want, time.Since(start), float64(time.Millisecond))
					x.base.allClosed(t)
				}
				require.Zero(t, alone.closedTwice.Load()+watched.closedTwice.Load())
			})
		})
	}
}

// What of a last response has come in time is handed out.
func TestLastResponseThatStallsIsReturnedAsFarAsItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, wrap := range []func(http.RoundTripper) http.RoundTripper{
			func(rt http.RoundTripper) http.RoundTripper { return rt },
			NewGuard(Timeouts{}, false),
		} {
			base := scripted(reply(503, "text/plain", []string{"X-Ds-Trace-Id: abc"}, "come ", 24*time.Hour))
			resp, err := send(t.Context(), retrying(t, Retry{MaxAttempts: 1}, wrap(base)))
			require.NoError(t, err)
			require.Equal(t, 503, resp.StatusCode)
			require.Equal(t, "abc", resp.Header.Get("X-Ds-Trace-Id"))
			body, err := readBody(resp)
			require.NoError(t, err)
			require.Equal(t, "come ", body)
			base.allClosed(t)
		}
	})
}

// A response that nobody reads is drained only as far as that is sure to be short.
func TestDiscardDrainsWhatIsShortOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			media  string
			length int64
			parts  []any
			reads  bool
			most   time.Duration
		}{
			{"short", "application/json", 3, []any{"abc"}, true, 0},
			{"of unknown length", "application/json", -1, []any{"abc", 24 * time.Hour}, false, 0},
			{"long", "application/json", 1 << 20, []any{"abc", 24 * time.Hour}, false, 0},
			{"a stream", "text/event-stream", 3, []any{"abc"}, false, 0},
			{"short, and stalls", "application/json", 3, []any{"a", 24 * time.Hour}, true, drainFor},
		} {
			resp, err := reply(200, c.media, nil, c.parts...)(chatRequest(t.Context(), false))
			require.NoError(t, err)
			resp.ContentLength = c.length
			body := &callersBody{Reader: resp.Body}
			resp.Body = struct {
				io.Reader
				io.Closer
			}{body, closers{body, resp.Body}}
			start := time.Now()
			discard(resp)
			require.Equal(t, c.most, time.Since(start), c.name)
			require.Equal(t, c.reads, body.reads.Load() > 0, c.name)
			require.EqualValues(t, 1, body.closes.Load(), c.name)
		}
		discard(nil)
	})
}

// closers closes several things at once.
type closers []io.Closer

func (cs closers) Close() error {
	for _, c := range cs {
		_ = c.Close()
	}
	return nil
}

// An attempt's context ends with the attempt: with the failed one before the
// next begins, with the last one not before its answer has been read.
func TestAttemptsContextEndsWithItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), fails(errReset), streamReply(keepAlive), streamReply(chunkRole, time.Second, chunkHello, time.Second, chunkStop+eventDone))
		started := 0
		watching := roundTripper(func(req *http.Request) (*http.Response, error) {
			for i, earlier := range base.sent() {
				require.Error(t, earlier.req.Context().Err(), "attempt %d goes on beside the next", i+1)
			}
			started++
			return base.RoundTrip(req)
		})
		resp, err := sendStream(t.Context(), retrying(t, Retry{}, guarded(Timeouts{}, watching)))
		require.NoError(t, err)
		require.Equal(t, 4, started)
		last := base.sent()[3].req.Context()
		require.NoError(t, last.Err(), "the answer is still to come")
		text, err := readBody(resp)
		require.NoError(t, err)
		require.Equal(t, wholeStream, text)
		require.Error(t, last.Err(), "nothing is left of it")
		base.allClosed(t)
	})
}

func TestCertificateErrorIsNotRetried(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	dials := 0
	base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	defer base.CloseIdleConnections()
	tr := transportOver(t, base, WithBaseURL(srv.URL), WithRetry(Retry{MinInterval: 1, MaxInterval: 1}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/models", nil)
	require.NoError(t, err)
	_, err = tr.RoundTrip(req)
	var verify *tls.CertificateVerificationError
	require.ErrorAs(t, err, &verify)
	require.Equal(t, 1, dials)
}

func TestUnsupportedSchemeIsNotRetried(t *testing.T) {
	base := &http.Transport{}
	rt := retrying(t, Retry{}, guarded(Timeouts{}, base))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "ftp://localhost/models", nil)
	require.NoError(t, err)
	_, err = rt.RoundTrip(req)
	require.ErrorContains(t, err, "unsupported protocol scheme")
}

// The time limits of net and net/http call themselves context.DeadlineExceeded.
// They are the server's fault and not the end of the caller's time.
func TestTimeoutOfBaseIsAFaultAndNoContextError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		<-dial.Done()
		for _, timeout := range []error{
			&net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}, // stands for net's own type, which is the same to errors.Is
			fmt.Errorf("base: %w", dial.Err()),
		} {
			base := scripted(fails(timeout), answers)
			resp, err := send(t.Context(), retrying(t, Retry{}, guarded(Timeouts{}, base)))
			require.NoError(t, err)
			_ = resp.Body.Close()
			require.Len(t, base.sent(), 2)

			_, err = send(t.Context(), guarded(Timeouts{}, scripted(fails(timeout))))
			require.EqualError(t, err, timeout.Error())
			require.False(t, isContextError(err))
			require.Equal(t, fault, judge(nil, err).outcome)
			var timedOut net.Error
			require.Equal(t, errors.As(timeout, &timedOut), errors.As(err, &timedOut))
		}
	})
}

func TestResponseHeaderTimeoutOfBaseIsRetried(t *testing.T) {
	var n atomic.Int64
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			<-release
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"data":[]}`)
	}))
	defer srv.Close()
	defer close(release)
	base := &http.Transport{ResponseHeaderTimeout: 20 * time.Millisecond, DisableKeepAlives: true}
	rt := retrying(t, Retry{MinInterval: 1, MaxInterval: 1}, guarded(Timeouts{}, base))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/models", nil)
	require.NoError(t, err)
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	body, err := readBody(resp)
	require.NoError(t, err)
	require.Equal(t, `{"data":[]}`, body)
}
