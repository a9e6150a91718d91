package deepseek

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// flight is one call upstream, or one look into the store, for all the equal
// calls that are made meanwhile: its passengers. The upstream call runs on a
// goroutine of its own, because any of its passengers may leave at any time. That
// goroutine is gone before the last passenger is.
type flight struct {
	cache *cache
	key   string // of the answer
	name  string // of the flight: who may share it

	call    *call // the upstream call's own; nil if the store had the answer
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when the goroutine is gone, or was never there
	settled chan struct{} // closed when all below know how the answer has ended

	// What came of it, set before head is closed. If nothing else is, the answer's
	// body is in log as it comes.
	head   chan struct{}
	kept   *keptAnswer    // the store had it
	resp   *http.Response // without its body
	memory *memBody       // the whole body
	err    error

	// Guarded by mu.
	mu         sync.Mutex
	news       sync.Cond // of all that follows; its lock is mu
	passengers []*passenger
	closed     bool // nobody can board any more
	complete   bool // all of the answer has come
	verdict    verdict
	counted    *passenger // whose attempts the flight's count as
	paid       bool       // somebody bears the cost

	// The body as it comes. Offsets are of the whole, of which the beginning may
	// have been dropped already, if nobody can board any more.
	log      []byte
	dropped  int
	ends     []int // offsets between events, where a read may end
	furthest int   // where the quickest reader is
	end      error // what comes after log; nil: more of it
}

const (
	readAhead  = 64 << 10 // of the quickest reader
	startOfLog = 8 << 10
)

func newFlight(k *cache, key, name string) *flight {
	f := &flight{cache: k, key: key, name: name, head: make(chan struct{}), done: make(chan struct{}), settled: make(chan struct{})}
	f.news.L = &f.mu
	return f
}

// board takes a call on; nil if it is too late.
func (f *flight) board(c *call, first bool) *passenger {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	p := &passenger{flight: f, c: c, first: first, gone: make(chan struct{})}
	f.passengers = append(f.passengers, p)
	return p
}

// flightContext is the context of a shared call: the values of the caller that
// began it, and the latest deadline of those that share it. Nothing of theirs
// ends it before all have left.
type flightContext struct {
	context.Context
	flight *flight
}

func (x flightContext) Deadline() (latest time.Time, ok bool) {
	x.flight.mu.Lock()
	defer x.flight.mu.Unlock()
	for _, p := range x.flight.passengers {
		deadline, has := p.c.Context.Deadline()
		if !has {
			return time.Time{}, false
		}
		if deadline.After(latest) {
			latest, ok = deadline, true
		}
	}
	return latest, ok
}

var errAllLeft = errors.New("deepseek: all callers that shared the call have given up")

// start makes the call. The body is the flight's own.
func (f *flight) start(next http.RoundTripper, c *call, req *http.Request, body []byte) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.Context))
	f.cancel = cancel
	f.call = &call{
		Context: flightContext{ctx, f}, model: c.model, stream: c.stream, choices: c.choices, known: true,
		conversation: c.conversation, watch: c.watch,
	}
	// Nothing of the caller's request may be used once that caller has left.
	own := req.WithContext(f.call)
	url := *req.URL
	own.URL, own.Header = &url, req.Header.Clone()
	own.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	own.Body, _ = own.GetBody()
	own.ContentLength, own.TransferEncoding = int64(len(body)), nil
	go f.fly(next, own)
}

// flightPanic is a panic on the flight's goroutine, which is to go on on those of
// its passengers.
type flightPanic struct{ value any }

func (e *flightPanic) Error() string { return errPanicked.Error() }

var errNoReturn = errors.New("deepseek: a transport ended its goroutine")

// fly is the goroutine of the upstream call.
func (f *flight) fly(next http.RoundTripper, req *http.Request) {
	returned := false
	defer func() {
		var why error
		if !returned {
			why = errNoReturn
			if value := recover(); value != nil {
				why = &flightPanic{value}
			}
		}
		f.land(why)
	}()
	f.roundTrip(next, req)
	returned = true
}

// land ends the flight. why is nil if it ended as it should.
func (f *flight) land(why error) {
	f.mu.Lock()
	f.closed = true
	if f.end == nil {
		f.end = io.EOF
		if why != nil {
			f.end = why
		}
	}
	f.mu.Unlock()
	f.cache.gone(f)
	select {
	case <-f.head:
	default:
		if why != nil {
			f.err = why
		}
		close(f.head)
	}
	if f.cancel != nil {
		f.cancel(nil)
	}
	close(f.done)
	f.news.Broadcast()
}

func (f *flight) roundTrip(next http.RoundTripper, req *http.Request) {
	resp, err := next.RoundTrip(req)
	if err != nil {
		f.err = err
		return
	}
	f.resp = resp
	if memory, ok := resp.Body.(*memBody); ok {
		f.memory = memory
		if memory.soFar().outcome == answered {
			f.keep(&keptAnswer{body: memory.data})
		}
		f.finish(f.call, memory.soFar())
		return
	}
	_, judged := resp.Body.(ender)
	defer func() { // also when a read panics
		_ = resp.Body.Close()
		<-f.settled // the end may have come on another goroutine: what it cost is then known
	}()
	atEnd(f.call, resp, f)
	close(f.head)
	if whole := f.read(resp.Body); whole && judged && isEventStream(resp.Header) {
		kept := &keptAnswer{stream: true}
		if kept.events(f.log) {
			f.keep(kept)
		}
	}
}

// finish is told how the response has ended: at [DONE], which may be before
// its last byte.
func (f *flight) finish(_ *call, v verdict) {
	f.mu.Lock()
	f.verdict, f.complete = v, v.outcome == answered
	f.mu.Unlock()
	close(f.settled)
}

// keep puts the answer into the store, if it is fit for that: one of another model
// than was asked for is not, because next time that one may be there again.
func (f *flight) keep(a *keptAnswer) {
	k, c, h := f.cache, f.call, f.resp.Header
	if k.policy.TTL < 0 || c.fellBack || len(a.body) > k.policy.MaxAnswer || f.resp.StatusCode != http.StatusOK ||
		h.Get("Content-Encoding") != "" || !a.stream && tellsFailure(a.body) {
		return
	}
	a.at, a.contentType, a.trace = time.Now(), h.Get("Content-Type"), h.Get("X-Ds-Trace-Id")
	a.prompt, a.completion = c.spentTokens()
	cost := c.costs()
	a.amount, a.currency = cost.Amount, cost.Currency
	k.keep(c, f.key, a)
}

// read reads the body into the log, and reports whether all of an answer is in
// it now.
func (f *flight) read(body io.Reader) (whole bool) {
	for {
		space := f.space()
		if space == nil {
			return false
		}
		n, err := body.Read(space)
		full, more := f.arrived(n, len(space), err)
		if full {
			f.cache.gone(f)
		}
		if !more {
			f.mu.Lock()
			defer f.mu.Unlock()
			return err == io.EOF && f.complete && !f.closed
		}
	}
}

// space returns room for more of the body once somebody wants it; nil if nobody
// is left.
func (f *flight) space() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.complete && len(f.passengers) > 0 && f.dropped+len(f.log)-f.furthest >= readAhead {
		f.news.Wait()
	}
	if !f.complete && len(f.passengers) == 0 {
		return nil
	}
	if f.closed {
		f.drop()
	}
	if cap(f.log)-len(f.log) < startOfLog/2 {
		f.log = slices.Grow(f.log, max(startOfLog, len(f.log)))
	}
	return f.log[len(f.log):cap(f.log)]
}

// drop forgets what all passengers have read, now that there will be no others.
// f.mu is held.
func (f *flight) drop() {
	least := f.dropped + len(f.log)
	for _, p := range f.passengers {
		least = min(least, p.at)
	}
	if n := least - f.dropped; n < readAhead || n < len(f.log)/2 {
		return // not worth the copy
	}
	f.log = slices.Clone(f.log[least-f.dropped:])
	f.dropped = least
	i, _ := slices.BinarySearch(f.ends, least+1)
	f.ends = slices.Clone(f.ends[i:])
}

// arrived takes in what a read of the body returned. full reports that nobody
// can board any more, because the answer is longer than what is kept.
func (f *flight) arrived(n, space int, err error) (full, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = f.log[:len(f.log)+n]
	// A guard's body returns whole events.
	if n > 0 && (n < space || isEventEnd(f.log)) {
		f.ends = append(f.ends, f.dropped+len(f.log))
	}
	if err != nil && err != io.EOF { // that is not told before the answer is kept
		f.end = err
	}
	if !f.closed && len(f.log) > f.cache.policy.MaxAnswer {
		f.closed, full = true, true
	}
	f.news.Broadcast()
	return full, err == nil
}

// isEventEnd reports whether b ends with a blank line.
func isEventEnd(b []byte) bool {
	return bytes.HasSuffix(b, []byte("\n\n")) || bytes.HasSuffix(b, []byte("\r\r")) || bytes.HasSuffix(b, []byte("\n\r\n"))
}
