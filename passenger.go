package deepseek

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
)

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
