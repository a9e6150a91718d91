package deepseek

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// heldBase keeps every request until release is called; it notes their order.
type heldBase struct {
	mu      sync.Mutex
	order   []string
	waiting []chan error
}

func (b *heldBase) RoundTrip(req *http.Request) (*http.Response, error) {
	ch := make(chan error, 1)
	b.mu.Lock()
	b.order = append(b.order, req.URL.Path)
	b.waiting = append(b.waiting, ch)
	b.mu.Unlock()
	select {
	case err := <-ch:
		if err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func (b *heldBase) release(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 {
		b.waiting[0] <- err
		b.waiting = b.waiting[1:]
	}
}

func (b *heldBase) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.order...)
}

// do sends a GET for /name and reads the answer to its end.
func do(ctx context.Context, rt http.RoundTripper, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/"+name, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func limited(t *testing.T, n int, q Queue, base http.RoundTripper) (http.RoundTripper, *limit, *waitingRoom) {
	room, err := newWaitingRoom(q)
	require.NoError(t, err)
	l, err := newLimit(n)
	require.NoError(t, err)
	return Chain(layer(room.do), layer(l.do))(base), l, room
}

func TestQueueIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, l, room := limited(t, 1, Queue{}, base)
		var want []string
		for i := range 50 {
			name := fmt.Sprintf("call%02d", i)
			want = append(want, "/"+name)
			go func() { _ = do(t.Context(), rt, name) }()
			synctest.Wait()
		}
		require.EqualValues(t, 49, room.length.Load())
		for range 50 {
			base.release(nil)
			synctest.Wait()
		}
		require.Equal(t, want, base.seen())
		require.Zero(t, l.inFlight.Load())
		require.Zero(t, room.length.Load())
	})
}

func TestQueueNewcomersDoNotOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, _, _ := limited(t, 1, Queue{}, base)
		go func() { _ = do(t.Context(), rt, "holder") }()
		synctest.Wait()
		go func() { _ = do(t.Context(), rt, "waiter") }()
		synctest.Wait()
		// The holder leaves and a newcomer comes in the same instant.
		base.release(nil)
		go func() { _ = do(t.Context(), rt, "newcomer") }()
		synctest.Wait()
		require.Equal(t, []string{"/holder", "/waiter"}, base.seen())
		base.release(nil)
		synctest.Wait()
		require.Equal(t, []string{"/holder", "/waiter", "/newcomer"}, base.seen())
		base.release(nil)
		synctest.Wait()
	})
}

func TestQueueCancelledWaiterLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, l, room := limited(t, 1, Queue{}, base)
		go func() { _ = do(t.Context(), rt, "holder") }()
		synctest.Wait()
		why := errors.New("the user pressed stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		errs := make(chan error, 1)
		go func() { errs <- do(ctx, rt, "first") }()
		synctest.Wait()
		go func() { _ = do(t.Context(), rt, "second") }()
		synctest.Wait()
		cancel(why)
		err := <-errs
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, why)
		base.release(nil)
		synctest.Wait()
		require.Equal(t, []string{"/holder", "/second"}, base.seen())
		base.release(nil)
		synctest.Wait()
		require.Zero(t, l.inFlight.Load())
		require.Zero(t, room.length.Load())
	})
}

// A waiter that is cancelled in the very moment it is woken passes its turn on.
func TestQueueCancelRacingWithTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 200 {
			base := &heldBase{}
			rt, l, _ := limited(t, 1, Queue{}, base)
			go func() { _ = do(t.Context(), rt, "holder") }()
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			go func() { _ = do(ctx, rt, "cancelled") }()
			synctest.Wait()
			done := make(chan struct{})
			go func() { _ = do(t.Context(), rt, "last"); close(done) }()
			synctest.Wait()
			go cancel()
			go base.release(nil)
			synctest.Wait()
			for range 2 { // the cancelled one may have got as far as the base
				base.release(nil)
				synctest.Wait()
			}
			select {
			case <-done:
			default:
				t.Fatal("the last waiter was forgotten")
			}
			require.Zero(t, l.inFlight.Load())
		}
	})
}

func TestQueueBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, _, room := limited(t, 1, Queue{MaxLength: 1, MaxWait: time.Minute}, base)
		go func() { _ = do(t.Context(), rt, "holder") }()
		synctest.Wait()
		errs := make(chan error, 1)
		go func() { errs <- do(t.Context(), rt, "waiter") }()
		synctest.Wait()

		err := do(t.Context(), rt, "too many")
		require.ErrorIs(t, err, ErrQueueFull)
		require.ErrorContains(t, err, "1 of at most 1 calls in flight")

		start := time.Now()
		err = <-errs
		require.Equal(t, time.Minute, time.Since(start))
		require.ErrorIs(t, err, ErrQueueFull)
		require.ErrorContains(t, err, "waited too long after 60s")
		require.Zero(t, room.length.Load())
		base.release(nil)
		synctest.Wait()
	})
}

// However many attempts a call has, it waits no longer than MaxWait.
func TestQueueMaxWaitIsOverAllAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, _, room := limited(t, 1, Queue{MaxWait: time.Minute}, base)
		retry, err := NewRetry(Retry{MinInterval: 1, MaxInterval: 1})
		require.NoError(t, err)
		rt = retry(rt)
		ended := make(chan error, 2)
		for range 2 { // they take turns, 40 s each
			go func() { ended <- do(t.Context(), rt, "call") }()
		}
		for range 2 {
			time.Sleep(40 * time.Second)
			base.release(errors.New("down"))
			synctest.Wait()
		}
		start := time.Now()
		require.EqualError(t, <-ended, "down", "what the last attempt came to")
		require.Equal(t, 20*time.Second, time.Since(start).Truncate(time.Second), "which is a minute in the room")
		base.release(nil)
		require.NoError(t, <-ended)
		require.Zero(t, room.length.Load())
	})
}

func TestQueueNegativeLengthRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		rt, _, _ := limited(t, 1, Queue{MaxLength: -1}, base)
		go func() { _ = do(t.Context(), rt, "holder") }()
		synctest.Wait()
		require.ErrorIs(t, do(t.Context(), rt, "next"), ErrQueueFull)
		base.release(nil)
		synctest.Wait()
		go func() { _ = do(t.Context(), rt, "after") }()
		synctest.Wait()
		require.Equal(t, []string{"/holder", "/after"}, base.seen())
		base.release(nil)
		synctest.Wait()
	})
}

// Once the line's pace is known, a call that could not be served before its
// deadline is told so at once, and one that could is not.
func TestQueueRefusesHopelessDeadlineAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, _, _ := limited(t, 1, Queue{}, slowBase(time.Second))
		var wg sync.WaitGroup
		for range 40 { // a line that moves by one a second
			wg.Go(func() { _ = do(t.Context(), rt, "load") })
		}
		time.Sleep(20500 * time.Millisecond)
		// About 19 are in line now.
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := do(ctx, rt, "hopeless")
		require.ErrorIs(t, err, ErrQueueFull)
		require.ErrorContains(t, err, "deadline")
		require.Zero(t, time.Since(start))
		ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		require.NoError(t, do(ctx, rt, "fine"))
		wg.Wait()
	})
}

// slowBase answers everything after so long.
type slowBase time.Duration

func (b slowBase) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Duration(b)):
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func TestLimitAloneRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		m, err := NewLimit(2)
		require.NoError(t, err)
		rt := m(base)
		for range 2 {
			go func() { _ = do(t.Context(), rt, "x") }()
		}
		synctest.Wait()
		require.ErrorIs(t, do(t.Context(), rt, "third"), ErrQueueFull)
		base.release(nil)
		base.release(errors.New("reset"))
		synctest.Wait()
		go func() { _ = do(t.Context(), rt, "fourth") }()
		synctest.Wait()
		require.Len(t, base.seen(), 3)
		base.release(nil)
		synctest.Wait()
	})
}

func TestLimitPermitComesBackAfterPanic(t *testing.T) {
	l, err := newLimit(1)
	require.NoError(t, err)
	rt := layer(l.do)(roundTripper(func(*http.Request) (*http.Response, error) { panic("base") }))
	require.Panics(t, func() { _ = do(t.Context(), rt, "x") })
	require.Zero(t, l.inFlight.Load())
}

// A call whose turn comes to nothing keeps nobody else waiting: here because a layer
// panics, below because the body cannot be had again.
func TestQueueTurnThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		queue, err := NewQueue(Queue{})
		require.NoError(t, err)
		limit, err := NewLimit(1)
		require.NoError(t, err)
		tries := 0
		own := func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/second" {
					if tries++; tries == 2 {
						panic("layer")
					}
				}
				return next.RoundTrip(req)
			})
		}
		rt := Chain(queue, own, limit)(base)
		go func() { _ = do(t.Context(), rt, "first") }()
		synctest.Wait()
		go func() {
			defer func() { require.Equal(t, "layer", recover()) }()
			_ = do(t.Context(), rt, "second")
		}()
		synctest.Wait()
		go func() { _ = do(t.Context(), rt, "third") }()
		synctest.Wait()
		base.release(nil)
		synctest.Wait()
		require.Equal(t, []string{"/first", "/third"}, base.seen())
		base.release(nil)
		synctest.Wait()
	})
}

// Who is refused because another one tries, and joins when that is over, tries too:
// the other one may have left the room to him, or there may be more of it.
func TestLaneThatWasTriedInMeanwhile(t *testing.T) {
	for _, in := range []bool{false, true} {
		l := new(lane)
		first := newWaiter(1)
		l.join(first, l.seq.Load(), false)
		l.room()
		<-first.ready
		seq := l.seq.Load()
		require.False(t, l.admits(new(call)))
		l.pass(in)
		second := newWaiter(2)
		l.join(second, seq, false)
		select {
		case <-second.ready:
		default:
			t.Error("waits for nobody")
		}
	}
}

// Calls of several models under one limit, with little room for each: whatever gets
// in each other's way, as long as somebody waits somebody is on the way.
func TestQueueOfSeveralLanesNeverStandsStill(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			base := roundTripper(func(req *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return answers(req)
			})
			tr := transportOver(t, base, WithMaxConcurrency(3))
			require.NoError(t, tr.Pool().Remove("account-1"))
			require.NoError(t, tr.Pool().Add(Account{Keys: []string{"1"}, MaxConcurrency: 1}))
			start := time.Now()
			var wg sync.WaitGroup
			for i := range 60 {
				wg.Go(func() {
					body := fmt.Sprintf(`{"model":"m%d","messages":[]}`, i%3)
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testURL, strings.NewReader(body))
					require.NoError(t, err)
					_, err = tr.RoundTrip(req)
					require.NoError(t, err)
				})
			}
			wg.Wait()
			require.Equal(t, 20*time.Second, time.Since(start))
		})
	}
}

func TestQueueTurnWithoutABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue, err := NewQueue(Queue{})
		require.NoError(t, err)
		pool, err := NewPool(nil, Account{Name: "a", Keys: []string{"1"}, MaxConcurrency: 1}, Account{Name: "b", Keys: []string{"2"}, MaxConcurrency: 1})
		require.NoError(t, err)
		slow := func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answers(req)
		}
		rt := Chain(queue, pool.Middleware(), NewGuard(Timeouts{}, false))(scripted(slow, status(401), slow))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = send(t.Context(), rt) })
		synctest.Wait()
		wg.Go(func() { // the other account refuses it, and it waits for the first
			req := chatRequest(t.Context(), false)
			req.Body = struct{ io.ReadCloser }{req.Body} // which cannot be looked at
			get, copies := req.GetBody, 0
			req.GetBody = func() (io.ReadCloser, error) {
				if copies++; copies > 1 {
					return nil, errors.New("gone")
				}
				return get()
			}
			_, err := rt.RoundTrip(req)
			require.ErrorContains(t, err, "gone")
		})
		wg.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = send(ctx, rt)
		require.NoError(t, err)
	})
}

func TestRateLimitPacesAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		room, err := newWaitingRoom(Queue{})
		require.NoError(t, err)
		r, err := newRateLimit(2, 3)
		require.NoError(t, err)
		rt := Chain(layer(room.do), layer(r.do))(base)
		for i := range 9 {
			go func() { _ = do(t.Context(), rt, fmt.Sprint(i)) }()
			synctest.Wait()
		}
		require.Len(t, base.seen(), 3, "the burst")
		time.Sleep(1600 * time.Millisecond)
		require.Len(t, base.seen(), 6, "two a second")
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, []string{"/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"}, base.seen())
		for range 9 {
			base.release(nil)
		}
		synctest.Wait()
	})
}

// Below a pool that has room for all: calls that wait for the rate are not sent
// round in circles by one another, and stay in order.
func TestRateLimitBelowAPoolWaitsWithoutTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		tries := 0
		room, err := newWaitingRoom(Queue{})
		require.NoError(t, err)
		pool, err := NewPool(nil, Account{Name: "a", Keys: []string{"k"}})
		require.NoError(t, err)
		r, err := newRateLimit(2, 3)
		require.NoError(t, err)
		var mu sync.Mutex
		rt := Chain(layer(room.do), pool.Middleware(), layer(func(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
			mu.Lock()
			tries++
			mu.Unlock()
			return r.do(next, c, req)
		}))(base)
		for i := range 9 {
			go func() { _ = do(t.Context(), rt, fmt.Sprint(i)) }()
			synctest.Wait()
		}
		time.Sleep(3100 * time.Millisecond)
		require.Equal(t, []string{"/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"}, base.seen())
		require.LessOrEqual(t, tries, 3*9)
		for range 9 {
			base.release(nil)
		}
		synctest.Wait()
	})
}

func TestRateLimitRefusesHopelessDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, err := newWaitingRoom(Queue{})
		require.NoError(t, err)
		r, err := newRateLimit(0.1, 1)
		require.NoError(t, err)
		rt := Chain(layer(room.do), layer(r.do))(slowBase(0))
		require.NoError(t, do(t.Context(), rt, "first"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, do(ctx, rt, "second"), ErrQueueFull)
		require.Zero(t, time.Since(start))
	})
}

// The longest wait is that of those who are still there, however they leave.
func TestLongestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &heldBase{}
		tr, err := NewTransport(WithBaseURL("http://localhost"), WithAPIKeys("k"), WithTransport(base), WithMaxConcurrency(1), WithoutRetry())
		require.NoError(t, err)
		require.Zero(t, tr.Stats().LongestWait)
		ctx, giveUp := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		for i, ctx := range []context.Context{t.Context(), ctx, t.Context()} {
			calls.Go(func() {
				require.Equal(t, i == 1, errors.Is(do(ctx, tr, "models"), context.Canceled))
			})
			synctest.Wait()
			time.Sleep(10 * time.Second)
		}
		require.Equal(t, 20*time.Second, tr.Stats().LongestWait, "the second; the first was sent")
		giveUp()
		synctest.Wait()
		require.Equal(t, 10*time.Second, tr.Stats().LongestWait, "the third")
		base.release(nil)
		synctest.Wait()
		require.Zero(t, tr.Stats().LongestWait)
		base.release(nil)
		calls.Wait()
	})
}

// Who waited behind one that knew when its account comes back, and that gave up,
// is not forgotten there.
func TestTheNextInLineLooksWhenTheFirstHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			sent++
			time.Sleep(time.Second)
			if sent == 1 {
				return status(403)(req)
			}
			return answers(req)
		})
		tr, err := NewTransport(WithBaseURL("http://localhost"), WithTransport(base), WithoutRetry(),
			WithAccounts(Account{Name: "a", Keys: []string{"k"}, MaxConcurrency: 1}))
		require.NoError(t, err)
		ctx, giveUp := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		call := func(ctx context.Context) (err error) {
			resp, err := tr.RoundTrip(postAt(ctx, "http://localhost/chat/completions", smallRequest))
			if err == nil {
				_, err = readBody(resp)
			}
			return err
		}
		calls.Go(func() { _ = call(t.Context()) })
		synctest.Wait()
		calls.Go(func() { _ = call(ctx) })
		synctest.Wait()
		start := time.Now()
		calls.Go(func() {
			require.NoError(t, call(t.Context()))
			require.LessOrEqual(t, time.Since(start), 35*time.Second)
		})
		time.Sleep(5 * time.Second)
		giveUp()
		calls.Wait()
	})
}
