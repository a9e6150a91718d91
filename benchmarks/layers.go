package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"

	"github.com/seawall-go/deepseek"
)

// empty answers with nothing, at once.
type empty struct{}

func (empty) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
}

// yielding is empty, but lets others run while a call is in flight.
type yielding struct{}

func (yielding) RoundTrip(req *http.Request) (*http.Response, error) {
	runtime.Gosched()
	return empty{}.RoundTrip(req)
}

// call makes calls straight through rt. A GET without a body, so that no layer
// has a body to look at.
func call(rt http.RoundTripper) func() error {
	req, err := http.NewRequest(http.MethodGet, deepseek.DefaultBaseURL+"/models", nil)
	return func() error {
		if err != nil {
			return err
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return err
		}
		if _, err := resp.Body.Read(nil); err != nil && err != io.EOF {
			return err
		}
		return resp.Body.Close()
	}
}

// origin is a layer that does next to nothing: what it costs is the call's own
// record, which the outermost layer makes, whichever it is.
func origin() (deepseek.Middleware, error) { return deepseek.NewOrigin(deepseek.DefaultBaseURL) }

// addLayer adds the origin layer alone and with layer beneath, to be compared.
func (t *table) addLayer(name string, base http.RoundTripper, layers ...deepseek.Middleware) error {
	o, err := origin()
	if err != nil {
		return err
	}
	t.add(name, call(deepseek.Chain(append([]deepseek.Middleware{o}, layers...)...)(base)))
	return nil
}

func breakers() (*table, error) {
	t := &table{title: "Breaker, closed: ask, send, tell"}
	ours, err := deepseek.NewBreaker("benchmark", deepseek.Breaker{})
	if err != nil {
		return nil, err
	}
	t.add("no breaker", call(empty{}))
	t.add("gobreaker v2, two-step, rolling window", call(newTwoStep(empty{})))
	return t, errors.Join(
		t.addLayer("Seawall: a call's record, no breaker", empty{}),
		t.addLayer("**Seawall**: a call's record and the breaker", empty{}, ours),
	)
}

// twoStep is gobreaker in the least RoundTripper that can be.
type twoStep struct {
	next    http.RoundTripper
	breaker *gobreaker.TwoStepCircuitBreaker[*http.Response]
}

func newTwoStep(next http.RoundTripper) *twoStep {
	return &twoStep{next, gobreaker.NewTwoStepCircuitBreaker[*http.Response](gobreaker.Settings{
		Name: "benchmark", MaxRequests: 2, Interval: 30 * time.Second, BucketPeriod: 3 * time.Second, Timeout: 5 * time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.Requests >= 20 && 2*c.TotalFailures >= c.Requests },
	})}
}

var errServer = errors.New("server at fault")

func (b *twoStep) RoundTrip(req *http.Request) (*http.Response, error) {
	done, err := b.breaker.Allow()
	if err != nil {
		return nil, err
	}
	resp, err := b.next.RoundTrip(req)
	switch {
	case err != nil:
		done(err)
	case resp.StatusCode >= 500:
		done(errServer)
	default:
		done(nil)
	}
	return resp, err
}

func pools() (*table, error) {
	t := &table{title: "Pool: choose an account, sign, send, give back"}
	err := t.addLayer("Seawall: a call's record, no pool", empty{})
	for _, n := range []int{1, 10, 10_000} {
		accounts := make([]deepseek.Account, n)
		for i := range accounts {
			accounts[i].Keys = []string{"sk-" + strconv.Itoa(i)}
		}
		pool, poolErr := deepseek.NewPool(nil, accounts...)
		if poolErr != nil {
			return nil, poolErr
		}
		err = errors.Join(err, t.addLayer(fmt.Sprintf("**Seawall**: and a pool of %d accounts", n), empty{}, pool.Middleware()))
	}
	return t, err
}

const room = 4 // calls in flight

func limits() (*table, error) {
	t := &table{title: "Limit, with room: take a place, send, give it back at the body's end"}
	ours, err := deepseek.NewLimit(room)
	if err != nil {
		return nil, err
	}
	t.add("no limit", call(empty{}))
	t.add("x/sync/semaphore", call(newWeighted(empty{})))
	return t, errors.Join(
		t.addLayer("Seawall: a call's record, no limit", empty{}),
		t.addLayer("**Seawall**: a call's record and the limit", empty{}, ours),
	)
}

func queues() (*table, error) {
	t := &table{title: fmt.Sprintf("Limit and queue, without room: 64 callers, %d places", room), callers: 64}
	limit, err := deepseek.NewLimit(room)
	if err != nil {
		return nil, err
	}
	queue, err := deepseek.NewQueue(deepseek.Queue{})
	if err != nil {
		return nil, err
	}
	t.add("no limit", call(yielding{}))
	t.add("x/sync/semaphore", call(newWeighted(yielding{})))
	return t, errors.Join(
		t.addLayer("Seawall: a call's record, no limit", yielding{}),
		t.addLayer("**Seawall**: a call's record, queue and limit", yielding{}, queue, limit),
	)
}

// weighted is x/sync/semaphore in the least RoundTripper that holds a place
// until the body has ended.
type weighted struct {
	next http.RoundTripper
	room *semaphore.Weighted
}

func newWeighted(next http.RoundTripper) *weighted {
	return &weighted{next, semaphore.NewWeighted(room)}
}

func (w *weighted) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := w.room.Acquire(req.Context(), 1); err != nil {
		return nil, err
	}
	resp, err := w.next.RoundTrip(req)
	if err != nil {
		w.room.Release(1)
		return nil, err
	}
	resp.Body = &heldBody{ReadCloser: resp.Body, room: w.room}
	return resp, nil
}

type heldBody struct {
	io.ReadCloser
	room *semaphore.Weighted
	done atomic.Bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.release()
	}
	return n, err
}

func (b *heldBody) Close() error {
	b.release()
	return b.ReadCloser.Close()
}

func (b *heldBody) release() {
	if !b.done.Swap(true) {
		b.room.Release(1)
	}
}
