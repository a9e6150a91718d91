package deepseek

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// rider is a call in the background.
type rider struct {
	resp   *http.Response
	err    error
	text   strings.Builder
	began  time.Duration // when it had its response
	ended  time.Duration
	cancel context.CancelCauseFunc
	gone   chan struct{}
}

// ride begins a call, and reads its answer to the end.
func ride(tb testing.TB, rt http.RoundTripper, stream bool) *rider {
	ctx, cancel := context.WithCancelCause(tb.Context())
	return rideWith(rt, chatRequest(ctx, stream), cancel)
}

func rideWith(rt http.RoundTripper, req *http.Request, cancel context.CancelCauseFunc) *rider {
	r := &rider{cancel: cancel, gone: make(chan struct{})}
	start := time.Now()
	go func() {
		defer close(r.gone)
		defer cancel(nil)
		r.resp, r.err = rt.RoundTrip(req)
		r.began = time.Since(start)
		if r.err == nil {
			_, r.err = io.Copy(&r.text, r.resp.Body)
			_ = r.resp.Body.Close()
		}
		r.ended = time.Since(start)
	}()
	synctest.Wait()
	return r
}

func (r *rider) use() string { return r.resp.Header.Get("Seawall-Cache") }

// slowly is a stream of these events, one a second.
func slowly(events ...string) step {
	var parts []any
	for _, e := range events {
		parts = append(parts, time.Second, e)
	}
	return streamReply(parts...)
}

// manyChunks are n different events.
func manyChunks(n int) (events []string) {
	for i := range n {
		events = append(events, data(fmt.Sprintf(`{"id":"u","choices":[{"index":0,"delta":{"content":"%d "}}]}`, i)))
	}
	return append(events, chunkStop, eventDone)
}

func TestFollowersGetTheStreamFromItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := manyChunks(10)
		base := scripted(slowly(events...))
		tr := transportOver(t, base, WithCache(Cache{}))
		leader := ride(t, tr, true)
		time.Sleep(5500 * time.Millisecond)
		req := chatRequest(t.Context(), true)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		require.Same(t, req, resp.Request)
		require.Equal(t, "shared", resp.Header.Get("Seawall-Cache"))
		start := time.Now()
		p := make([]byte, 1000)
		for i, e := range events {
			n, err := resp.Body.Read(p)
			require.NoError(t, err)
			require.Equal(t, e, string(p[:n]), "each event is a read")
			// What has come is there at once, and what comes, as it does.
			require.Equal(t, max(0, time.Duration(i+1)*time.Second-5500*time.Millisecond), time.Since(start))
		}
		_, err = resp.Body.Read(p)
		require.Equal(t, io.EOF, err)
		<-leader.gone
		require.NoError(t, leader.err)
		require.Equal(t, "miss", leader.use())
		require.Equal(t, strings.Join(events, ""), leader.text.String())
		require.Len(t, base.sent(), 1)
		base.allClosed(t)

		stats := tr.Stats()
		require.EqualValues(t, 1, stats.Attempts)
		require.EqualValues(t, 2, stats.Answered)
		require.EqualValues(t, 3*150+2*600, stats.Spend.Amount)
		require.EqualValues(t, 1, stats.Cache.Misses)
		require.EqualValues(t, 1, stats.Cache.Shared)
		require.EqualValues(t, 3*150+2*600, stats.Cache.Saved)
	})
}

// Exactly one of the callers bears the cost, the usage and the attempts, whoever
// leaves when.
func TestSharedCallIsPaidOnce(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for leaves := range 4 { // 0: nobody, 1: the leader early, 2: a follower early, 3: all early
			t.Run(fmt.Sprintf("stream %t, %d", stream, leaves), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					step := jsonReply(10*time.Second, wholeAnswer)
					if stream {
						step = slowly(manyChunks(8)...)
					}
					var mu sync.Mutex
					var usages, attempts int
					var amount, avoided Money
					tr := transportOver(t, scripted(step), WithCache(Cache{}), WithObserver(Observer{CallEnd: func(e CallEndEvent) {
						mu.Lock()
						defer mu.Unlock()
						if e.Usage != nil {
							usages++
						}
						attempts += len(e.Attempts)
						amount += e.Cost.Amount
						avoided += e.Cost.Avoided
					}}))
					riders := []*rider{ride(t, tr, stream), ride(t, tr, stream), ride(t, tr, stream)}
					time.Sleep(3500 * time.Millisecond)
					switch leaves {
					case 1, 2:
						riders[leaves-1].cancel(nil)
						<-riders[leaves-1].gone
						require.ErrorIs(t, riders[leaves-1].err, context.Canceled)
					case 3:
						for _, r := range riders {
							r.cancel(nil)
							<-r.gone
						}
					}
					for _, r := range riders {
						<-r.gone
					}
					synctest.Wait() // some calls end on goroutines of their contexts
					mu.Lock()
					defer mu.Unlock()
					stats := tr.Stats()
					require.Equal(t, stats.Spend.Amount, amount)
					require.Positive(t, amount)
					require.EqualValues(t, 1, stats.Spend.Attempts)
					switch leaves {
					case 3:
						require.Equal(t, stats.Spend.Amount, stats.Spend.Estimated)
						require.Zero(t, usages)
						require.Zero(t, stats.Cache.Saved)
					case 0:
						require.Equal(t, 1, usages)
						require.Equal(t, 2*amount, avoided)
						require.Equal(t, avoided, stats.Cache.Saved)
					default:
						require.Equal(t, 1, usages)
						require.Equal(t, amount, avoided)
					}
					if leaves != 3 {
						require.EqualValues(t, 1, stats.Attempts)
						require.Equal(t, 1, stats.Cache.Entries)
					}
				})
			})
		}
	}
}

func TestOneCallersCancelHurtsNobodyElse(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for leaver := range 3 {
			t.Run(fmt.Sprintf("stream %t, caller %d", stream, leaver), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					step, want := jsonReply(10*time.Second, wholeAnswer), wholeAnswer
					if stream {
						events := manyChunks(8)
						step, want = slowly(events...), strings.Join(events, "")
					}
					base := scripted(step)
					tr := transportOver(t, base, WithCache(Cache{}))
					riders := []*rider{ride(t, tr, stream), ride(t, tr, stream), ride(t, tr, stream)}
					time.Sleep(3500 * time.Millisecond)
					start := time.Now()
					riders[leaver].cancel(errReset)
					<-riders[leaver].gone
					require.Equal(t, start, time.Now(), "at once")
					require.ErrorIs(t, riders[leaver].err, context.Canceled)
					require.ErrorIs(t, riders[leaver].err, errReset, "with its own cause")
					for i, r := range riders {
						<-r.gone
						if i != leaver {
							require.NoError(t, r.err)
							require.Equal(t, want, r.text.String())
							require.Equal(t, 10*time.Second, r.ended)
						}
					}
					require.Len(t, base.sent(), 1)
					base.allClosed(t)
				})
			})
		}
	}
}

func TestWhenAllHaveLeftTheCallIsEnded(t *testing.T) {
	for name, row := range map[string]struct {
		step   step
		stream bool
		at     time.Duration
	}{
		"before the headers":    {hangs, false, time.Second},
		"before the first data": {streamReply(keepAlive, time.Hour), true, time.Second},
		"in a body":             {jsonReply("\n", time.Hour), false, time.Second},
		"in a stream":           {slowly(manyChunks(100)...), true, 3500 * time.Millisecond},
		"between two attempts":  {status(503), false, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(row.step)
				tr := transportOver(t, base, WithCache(Cache{}), WithRetry(Retry{MinInterval: time.Hour, MaxInterval: time.Hour}))
				a, b := ride(t, tr, row.stream), ride(t, tr, row.stream)
				time.Sleep(row.at)
				synctest.Wait()
				a.cancel(nil)
				<-a.gone
				require.Equal(t, 1, tr.Stats().Accounts[0].Models[0].InFlight+b2i(name == "between two attempts"))
				start := time.Now()
				b.cancel(nil)
				<-b.gone
				synctest.Wait()
				require.Equal(t, start, time.Now())
				require.Zero(t, tr.Stats().Accounts[0].Models[0].InFlight)
				require.ErrorIs(t, b.err, context.Canceled)
				if name == "between two attempts" {
					require.ErrorIs(t, b.err, ErrServer, "the last one to leave knows what went wrong")
				}
				base.allClosed(t)
				// It left nothing behind: the next one begins anew.
				before := len(base.sent())
				c := ride(t, tr, row.stream)
				require.Len(t, base.sent(), before+1)
				c.cancel(nil)
				<-c.gone
			})
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A caller that stops at [DONE], as SDKs do, undoes nothing.
func TestLeavingAtTheEndKeepsTheAnswer(t *testing.T) {
	for _, lingers := range []bool{false, true} {
		t.Run(fmt.Sprintf("server lingers %t", lingers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parts := []any{chunkHello + chunkStop + eventDone}
				if lingers {
					parts = append(parts, time.Minute)
				}
				base := scripted(streamReply(parts...))
				tr, last := metered(t, base, WithCache(Cache{}))
				resp, err := tr.RoundTrip(chatRequest(t.Context(), true))
				require.NoError(t, err)
				_, err = io.ReadFull(resp.Body, make([]byte, len(chunkHello+chunkStop+eventDone)))
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.False(t, last.Cancelled)
				require.NotNil(t, last.Usage)
				_, err = resp.Body.Read(make([]byte, 1))
				require.Error(t, err)
				_, use := ask(t, tr, chatRequest(t.Context(), true))
				require.Equal(t, "hit", use)
				require.Zero(t, tr.Stats().Accounts[0].Models[0].InFlight)
				base.allClosed(t)
			})
		})
	}
}

func TestAllGetTheSameFailure(t *testing.T) {
	t.Run("error", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			base := scripted(func(req *http.Request) (*http.Response, error) { time.Sleep(time.Second); return nil, errReset })
			tr := transportOver(t, base, WithCache(Cache{}), WithoutRetry())
			a, b := ride(t, tr, false), ride(t, tr, false)
			<-a.gone
			<-b.gone
			for _, r := range []*rider{a, b} {
				require.ErrorIs(t, r.err, errReset)
				var call *CallError
				require.ErrorAs(t, r.err, &call)
				require.Len(t, call.Attempts, 1, "how it came to this")
			}
			require.EqualValues(t, 1, tr.Stats().Attempts)
			require.Len(t, base.sent(), 1)
		})
	})
	t.Run("response", func(t *testing.T) {
		for _, size := range []int{10, 100 << 10} {
			synctest.Test(t, func(t *testing.T) {
				body := strings.Repeat("x", size)
				base := scripted(reply(400, "text/plain", []string{"X-A: b"}, time.Second, body))
				tr := transportOver(t, base, WithCache(Cache{}))
				a, b := ride(t, tr, false), ride(t, tr, false)
				<-a.gone
				<-b.gone
				for _, r := range []*rider{a, b} {
					require.NoError(t, r.err)
					require.Equal(t, 400, r.resp.StatusCode)
					require.Equal(t, "b", r.resp.Header.Get("X-A"))
					require.Equal(t, "false", r.resp.Header.Get("X-Should-Retry"))
					require.Equal(t, body, r.text.String())
					r.resp.Header.Set("X-A", "mine")
				}
				require.Equal(t, "miss", a.use())
				require.Equal(t, "shared", b.use())
				require.Len(t, base.sent(), 1)
				base.allClosed(t)
			})
		}
	})
	t.Run("error in a 200", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			base := scripted(jsonReply(time.Second, `{"error":{"message":"x","type":"invalid_request_error"}}`))
			client, err := New(WithTransport(base), WithBaseURL(DefaultBaseURL), WithAPIKeys(secretKey), WithCache(Cache{}), WithoutRetry())
			require.NoError(t, err)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					_, err := client.Chat(t.Context(), &ChatRequest{Messages: []Message{User("Hi")}})
					var api *APIError
					require.ErrorAs(t, err, &api)
					require.Len(t, api.Attempts, 1)
				})
			}
			wg.Wait()
			require.Len(t, base.sent(), 1)
		})
	})
	t.Run("broken stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var told []error
			base := scripted(streamReply(chunkRole, time.Second, chunkHello, time.Second, errReset))
			tr := transportOver(t, base, WithCache(Cache{}), WithObserver(Observer{CallEnd: func(e CallEndEvent) {
				mu.Lock()
				told = append(told, e.Err)
				mu.Unlock()
			}}))
			a, b := ride(t, tr, true), ride(t, tr, true)
			<-a.gone
			<-b.gone
			for _, r := range []*rider{a, b} {
				require.ErrorIs(t, r.err, ErrTruncated)
				require.ErrorIs(t, r.err, errReset)
				require.Equal(t, chunkRole+chunkHello, r.text.String())
			}
			require.Len(t, told, 2)
			for _, err := range told {
				require.ErrorIs(t, err, ErrTruncated)
			}
			require.Len(t, base.sent(), 1)
			base.allClosed(t)
		})
	})
}

// A panic below goes on on the goroutines of those who called, and gives all
// back.
func TestPanicsReachTheCallers(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream %t", stream), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := roundTripper(func(req *http.Request) (*http.Response, error) {
					if !stream {
						time.Sleep(time.Second)
						panic("boom")
					}
					resp, err := streamReply(chunkHello, time.Second)(req)
					resp.Body = panicBody{resp.Body}
					return resp, err
				})
				tr := transportOver(t, base, WithCache(Cache{}))
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						require.PanicsWithValue(t, "boom", func() {
							resp, err := tr.RoundTrip(chatRequest(t.Context(), stream))
							require.NoError(t, err)
							defer resp.Body.Close()
							_, err = io.ReadAll(resp.Body)
							require.NoError(t, err)
						})
					})
				}
				wg.Wait()
				stats := tr.Stats()
				require.Zero(t, stats.InFlight)
				require.Zero(t, stats.Accounts[0].Models[0].InFlight)
			})
		})
	}
	t.Run("Goexit", func(t *testing.T) {
		tr := transportOver(t, roundTripper(func(*http.Request) (*http.Response, error) {
			runtime.Goexit()
			return nil, nil
		}), WithCache(Cache{}))
		_, err := send(t.Context(), tr)
		require.ErrorIs(t, err, errNoReturn)
	})
}

type panicBody struct{ io.ReadCloser }

func (b panicBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		panic("boom")
	}
	return n, err
}

// The shared call may take until the latest deadline of those that share it, and
// has the values of the first one's context.
func TestContextOfASharedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var ctx context.Context
		base := scripted(func(req *http.Request) (*http.Response, error) { ctx = req.Context(); return hangs(req) })
		tr := transportOver(t, base, WithCache(Cache{}))
		start := time.Now()
		until := func(d time.Duration, value string) *rider {
			parent, stop := context.WithTimeout(context.WithValue(t.Context(), key{}, value), d)
			context.AfterFunc(parent, stop)
			ctx, cancel := context.WithCancelCause(parent)
			return rideWith(tr, chatRequest(ctx, false), cancel)
		}
		deadline := func() time.Duration {
			d, ok := ctx.Deadline()
			if !ok {
				return 0
			}
			return d.Sub(start)
		}
		a := until(10*time.Second, "a")
		require.Equal(t, 10*time.Second, deadline())
		b := until(5*time.Second, "b")
		require.Equal(t, 10*time.Second, deadline())
		c := until(20*time.Second, "c")
		require.Equal(t, 20*time.Second, deadline())
		require.Equal(t, "a", ctx.Value(key{}))
		d := ride(t, tr, false)
		require.Zero(t, deadline(), "one has none")
		d.cancel(nil)
		<-d.gone
		require.Equal(t, 20*time.Second, deadline())
		<-b.gone
		require.ErrorIs(t, b.err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, b.ended)
		<-a.gone
		require.Equal(t, 10*time.Second, a.ended)
		require.NoError(t, ctx.Err())
		<-c.gone
		require.Equal(t, 20*time.Second, c.ended)
		require.Error(t, ctx.Err())
		require.Len(t, base.sent(), 1)
	})
}

// The caller's request may be changed as soon as its call has returned, though
// the shared call goes on with retries.
func TestSharedCallHasARequestOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), answers)
		tr := transportOver(t, base, WithCache(Cache{}), WithRetry(Retry{MinInterval: 10 * time.Second, MaxInterval: 10 * time.Second}))
		body := []byte(smallRequest)
		ctx, cancel := context.WithCancelCause(t.Context())
		req := postTo(ctx, "/chat/completions", "")
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(body))), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(body))
		leader := rideWith(tr, req, cancel)
		follower := ride(t, tr, false)
		leader.cancel(nil)
		<-leader.gone
		copy(body, strings.Repeat("garbage", 100))
		req.Header.Set("Content-Type", "text/plain")
		req.URL.Path = "/elsewhere"
		<-follower.gone
		require.NoError(t, follower.err)
		require.Equal(t, wholeAnswer, follower.text.String())
		sent := base.sent()
		require.Len(t, sent, 2)
		for _, s := range sent {
			require.Equal(t, smallRequest, s.body)
			require.Equal(t, "application/json", s.header.Get("Content-Type"))
			require.Equal(t, "/chat/completions", s.req.URL.Path)
		}
	})
}

// A stream is read ahead of its readers by a bounded amount, and one that is
// longer than what is kept is not held as a whole.
func TestLongStreamsAreNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxAnswer = 256 << 10
		event := data(`{"id":"u","choices":[{"index":0,"delta":{"content":"` + strings.Repeat("x", 900) + `"}}]}`)
		var events strings.Builder
		for events.Len() < 8*maxAnswer {
			events.WriteString(event)
		}
		events.WriteString(chunkStop + eventDone)
		var given atomic.Int64
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := streamReply()(req)
			resp.Body = io.NopCloser(io.TeeReader(strings.NewReader(events.String()), countWriter{&given}))
			return resp, err
		})
		k, err := newCache(Cache{MaxAnswer: maxAnswer}, false, "")
		require.NoError(t, err)
		rt := Chain(layer(k.do), NewGuard(Timeouts{}, false))(base)

		slow, err := rt.RoundTrip(chatRequest(t.Context(), true))
		require.NoError(t, err)
		synctest.Wait()
		require.Less(t, given.Load(), int64(readAhead+16<<10), "nobody reads")
		quick, err := rt.RoundTrip(chatRequest(t.Context(), true))
		require.NoError(t, err)
		require.Equal(t, "shared", quick.Header.Get("Seawall-Cache"))
		var f *flight
		for _, one := range k.flights {
			f = one
		}
		held := func() int {
			f.mu.Lock()
			defer f.mu.Unlock()
			return cap(f.log)
		}
		var texts [2]strings.Builder
		step := func(i int, body io.Reader, n int64) {
			_, err := io.CopyN(&texts[i], body, n)
			require.NoError(t, err)
			synctest.Wait()
		}
		step(1, quick.Body, maxAnswer) // both may read all, however far apart they are
		require.Empty(t, k.flights, "nobody else can join")
		third, err := rt.RoundTrip(chatRequest(t.Context(), true))
		require.NoError(t, err)
		require.Equal(t, "miss", third.Header.Get("Seawall-Cache"))
		require.NoError(t, third.Body.Close())
		step(1, quick.Body, maxAnswer)
		step(0, slow.Body, 2*maxAnswer)
		for range 50 {
			step(1, quick.Body, 16<<10)
			step(0, slow.Body, 16<<10)
			require.LessOrEqual(t, held(), 2*maxAnswer+readAhead)
		}
		require.Less(t, held(), 5*readAhead, "what both have read is gone")
		for i, body := range []io.Reader{slow.Body, quick.Body} {
			_, err := io.Copy(&texts[i], body)
			require.NoError(t, err)
			require.Equal(t, events.String(), texts[i].String())
		}
		require.Zero(t, k.stats().Entries)
	})
}

type countWriter struct{ n *atomic.Int64 }

func (w countWriter) Write(p []byte) (int, error) { w.n.Add(int64(len(p))); return len(p), nil }

// Close, cancel and read at the same time, on any goroutine.
func TestClosingASharedStreamAnyhow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(slowly(manyChunks(5)...))
		var cancelled, ended atomic.Int64
		tr := transportOver(t, base, WithCache(Cache{}), WithObserver(Observer{CallEnd: func(e CallEndEvent) {
			ended.Add(1)
			cancelled.Add(int64(b2i(e.Cancelled)))
		}}))
		stays := ride(t, tr, true)
		resp, err := tr.RoundTrip(chatRequest(t.Context(), true))
		require.NoError(t, err)
		read := make(chan error)
		go func() {
			_, err := io.ReadAll(resp.Body)
			read <- err
		}()
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		require.NoError(t, resp.Body.Close())
		require.ErrorIs(t, <-read, http.ErrBodyReadAfterClose)
		require.NoError(t, resp.Body.Close())
		require.EqualValues(t, 1, cancelled.Load())
		<-stays.gone
		require.NoError(t, stays.err)
		require.EqualValues(t, 1, cancelled.Load())
		require.EqualValues(t, 2, ended.Load())
		base.allClosed(t)
	})
}

// Hundreds of callers of a few requests, who cancel, close early, read slowly or
// bypass: everybody who stays gets a right answer, and nothing is left.
func TestSharingUnderStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const questions = 5
		texts := make([]string, questions)
		for i := range texts {
			texts[i] = strings.Join(append([]string{data(fmt.Sprintf(`{"id":"q%d","choices":[]}`, i))}, manyChunks(20+i)...), "")
		}
		var sent atomic.Int64
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			sent.Add(1)
			body, err := io.ReadAll(req.Body)
			_ = req.Body.Close()
			if err != nil {
				return nil, err
			}
			var q int
			_, err = fmt.Sscanf(string(body[strings.Index(string(body), "question"):]), "question %d", &q)
			if err != nil {
				return nil, err
			}
			switch rand.IntN(10) {
			case 0:
				return status(503)(req)
			case 1:
				return nil, errReset
			}
			var parts []any
			for _, e := range strings.SplitAfter(texts[q], "\n\n") {
				parts = append(parts, e, time.Duration(rand.IntN(100))*time.Millisecond)
			}
			return streamReply(parts...)(req)
		})
		tr := transportOver(t, base, WithCache(Cache{TTL: 2 * time.Second, MaxAnswer: 1900}), WithoutBreaker(), WithRetry(Retry{MinInterval: 100 * time.Millisecond}))
		var wg sync.WaitGroup
		var whole atomic.Int64
		for i := range 600 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 7))
				time.Sleep(time.Duration(r.IntN(20_000)) * time.Millisecond)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if r.IntN(4) == 0 {
					time.AfterFunc(time.Duration(r.IntN(2000))*time.Millisecond, cancel)
				}
				q := r.IntN(questions)
				req := postTo(ctx, "/chat/completions", fmt.Sprintf(`{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"question %d"}]}`, q))
				switch r.IntN(12) {
				case 0:
					req.Header.Set("Cache-Control", "no-store")
				case 1:
					req.Header.Set("Cache-Control", "no-cache")
				}
				resp, err := tr.RoundTrip(req)
				if err != nil {
					require.True(t, ctx.Err() != nil || errors.Is(err, ErrServer) || errors.Is(err, errReset), "%v", err)
					return
				}
				defer resp.Body.Close()
				if resp.StatusCode != 200 {
					return
				}
				var text strings.Builder
				p := make([]byte, 1+r.IntN(300))
				for stop := r.IntN(4 * len(texts[q])); text.Len() < stop; {
					n, err := resp.Body.Read(p)
					text.Write(p[:n])
					if err == io.EOF {
						require.Equal(t, texts[q], text.String())
						whole.Add(1)
						return
					}
					if err != nil {
						require.Error(t, ctx.Err(), "%v", err)
						break
					}
					if r.IntN(20) == 0 {
						time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
					}
				}
				require.True(t, strings.HasPrefix(texts[q], text.String()))
			})
		}
		wg.Wait()
		stats := tr.Stats()
		t.Logf("%d whole answers of %d requests: %+v", whole.Load(), sent.Load(), stats.Cache)
		require.Greater(t, whole.Load(), int64(200))
		require.Positive(t, stats.Cache.Hits)
		require.Positive(t, stats.Cache.Shared)
		require.Zero(t, stats.InFlight)
		require.Zero(t, stats.Accounts[0].Models[0].InFlight)
		require.Empty(t, tr.cache.flights)
	})
}

// The error of a shared call that came inside a 200 can be told, though the last of
// its attempts holds that very error.
func TestFlightErrorInsideA200(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := jsonReply(`{"error":{"message":"overloaded","type":"server_error"}}`)
		tr := transportOver(t, scripted(bad), WithCache(Cache{}), WithRetry(Retry{MaxAttempts: 3}))
		_, err := tr.RoundTrip(postTo(t.Context(), "/chat/completions", smallRequest))
		require.ErrorContains(t, err, "after 3 attempts")
	})
}
