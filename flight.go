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

// passenger is a call that shares a flight, and the body of its response.
type passenger struct {
	ending
	flight *flight
	c      *call
	first  bool
	stop   func() bool   // undoes the watch on the caller's context
	gone   chan struct{} // closed when it has left and all is settled

	// Guarded by flight.mu.
	at     int   // how far it has read
	left   bool  // it is no longer on the flight, or is leaving it
	closed error // what a read returns once it was closed
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

// answer waits for the response and makes the passenger's own of it.
func (p *passenger) answer(req *http.Request) (*http.Response, error) {
	f, c := p.flight, p.c
	if c.cacheUse = cacheMiss; !p.first { // unless it is found
		c.cacheUse = cacheShared
	}
	if err := p.await(); err != nil {
		return nil, err
	}
	if f.kept != nil {
		c.cacheUse = cacheHit
		f.cache.hits.Add(1)
	} else if !p.first {
		f.cache.shared.Add(1)
	}
	resp := new(http.Response)
	switch {
	case f.err != nil:
		p.leave()
		goOn(f.err)
		return nil, f.err
	case f.kept != nil:
		p.leave()
		c.spare(f.cache.spared(f.kept.prompt, f.kept.completion, f.kept.amount, f.kept.currency), f.cache.currency)
		resp = f.kept.response(req)
	case f.memory != nil:
		p.leave()
		*resp = *f.resp
		resp.Body = newMemBody(f.memory.data, f.memory.soFar())
	default:
		p.ride()
		*resp = *f.resp
		p.verdict = judgeStatus(f.resp)
		resp.Body = p
		if c.Context.Done() != nil {
			p.stop = context.AfterFunc(c.Context, func() { p.shut(gaveUp(c), verdict{outcome: cancelled}) })
		}
	}
	resp.Request = req
	if resp.Header = resp.Header.Clone(); resp.Header == nil {
		resp.Header = http.Header{}
	}
	resp.Header["Seawall-Cache"] = []string{string(c.cacheUse.public())}
	return resp, nil
}

// await waits for the response's head, unless the caller gives up first.
func (p *passenger) await() error {
	f, c := p.flight, p.c
	select {
	case <-f.head: // looked at first: what is there already is not for a caller to miss
		return nil
	default:
	}
	select {
	case <-f.head:
		return nil
	case <-c.Done():
		p.leave()
		if !p.first {
			f.cache.shared.Add(1)
		}
		return p.interrupted(gaveUp(c))
	}
}

// goOn panics if err is a panic of the flight's.
func goOn(err error) {
	if p, ok := err.(*flightPanic); ok {
		panic(p.value)
	}
}

// interrupted adds to the error of a caller that gave up what the last attempt
// had come to, if the flight has ended with it, between two attempts.
func (p *passenger) interrupted(err error) error {
	select {
	case <-p.flight.done:
		var last *interrupted
		if errors.As(p.flight.err, &last) {
			return &interrupted{err: err, last: last.last}
		}
	default:
	}
	return err
}

// Read returns whole events, if b has room for them.
func (p *passenger) Read(b []byte) (int, error) {
	f := p.flight
	f.mu.Lock()
	for {
		switch {
		case p.closed != nil:
			f.mu.Unlock()
			return 0, p.closed
		case p.at < f.dropped+len(f.log):
			end := f.dropped + len(f.log)
			if i, _ := slices.BinarySearch(f.ends, p.at+1); i < len(f.ends) {
				end = f.ends[i]
			}
			n := copy(b, f.log[p.at-f.dropped:end-f.dropped])
			p.at += n
			if p.at > f.furthest {
				f.furthest = p.at
				f.news.Broadcast()
			}
			last := f.end == io.EOF && p.at == f.dropped+len(f.log)
			v := f.verdict
			f.mu.Unlock()
			if last {
				p.over(v)
			}
			return n, nil
		case f.end != nil:
			err, v := f.end, f.verdict
			f.mu.Unlock()
			if err != io.EOF {
				p.c.noteBroken(err)
				v = judge(nil, err)
			}
			p.over(v)
			goOn(err)
			return 0, err
		case len(b) == 0:
			f.mu.Unlock()
			return 0, nil
		}
		f.news.Wait()
	}
}

// over notes that all has been read that there is.
func (p *passenger) over(v verdict) {
	if p.stop != nil {
		p.stop()
	}
	p.leave()
	p.end(v)
}

// Close may be called while a Read is under way, and more than once.
func (p *passenger) Close() error {
	how := verdict{outcome: cancelled}
	p.flight.mu.Lock()
	if p.flight.complete {
		how.outcome = answered // its end was all that was wanted
	}
	p.flight.mu.Unlock()
	if p.stop != nil {
		p.stop()
	}
	p.shut(http.ErrBodyReadAfterClose, how)
	return nil
}

// shut has reads fail with err from now on.
func (p *passenger) shut(err error, v verdict) {
	p.flight.mu.Lock()
	if p.closed == nil {
		p.closed = err
	}
	p.flight.news.Broadcast()
	p.flight.mu.Unlock()
	p.leave()
	p.end(v)
}

// leave takes the passenger off. The last one ends the call, unless all of its
// answer is there, and waits until it is over. When leave returns, all is settled,
// whoever called it first.
func (p *passenger) leave() {
	f := p.flight
	f.mu.Lock()
	if p.left {
		f.mu.Unlock()
		<-p.gone
		return
	}
	p.left = true
	defer close(p.gone)
	f.passengers = slices.DeleteFunc(f.passengers, func(q *passenger) bool { return p == q })
	last := len(f.passengers) == 0
	abort := last && !f.complete && f.end == nil
	f.closed = f.closed || abort
	f.news.Broadcast()
	f.mu.Unlock()
	if abort {
		f.cache.gone(f)
		f.cancel(errAllLeft)
	}
	if last {
		<-f.done
	}
	if f.call != nil {
		p.ride()
		p.pay()
	}
}

// ride makes the flight's attempts known to the caller. They count as those of
// the first one that has waited for what came of them.
func (p *passenger) ride() {
	f := p.flight
	f.mu.Lock()
	select {
	case <-f.head:
		if f.counted == nil {
			f.counted = p
		}
	default:
	}
	lent := f.counted != p
	f.mu.Unlock()
	p.c.ride(f.call, lent)
}

// pay has the caller bear what the flight has cost, if it is the first to leave
// when that is known. The others are spared it.
func (p *passenger) pay() {
	f := p.flight
	f.mu.Lock()
	landing := f.complete || f.end != nil
	f.mu.Unlock()
	if landing { // then it is a matter of moments
		select {
		case <-f.done:
		case <-p.c.Done():
		}
	}
	select {
	case <-f.done:
	default:
		return
	}
	f.mu.Lock()
	pays, spared := !f.paid, f.paid && f.complete
	f.paid = true
	f.mu.Unlock()
	switch {
	case pays:
		p.c.bear(f.call)
	case spared:
		prompt, completion := f.call.spentTokens()
		cost := f.call.costs()
		p.c.spare(f.cache.spared(prompt, completion, cost.Amount, cost.Currency), f.cache.currency)
	}
}

var (
	_ ender  = (*passenger)(nil)
	_ judged = (*passenger)(nil)
)
