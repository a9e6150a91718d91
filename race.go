package deepseek

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// race is one attempt at a call and, should it be late, a hedge beside it. The
// attempt is made on the caller's goroutine, so that a call in time costs a timer
// and no more; the hedge on the timer's, which the call always waits for. A
// context that is cancelled makes it return at once.
//
// The race is decided in the record (call.go), when the guard has seen what an
// attempt came to. From the start of the hedge to its end no other attempt is
// begun: whichever fails waits for the other.
type race struct {
	hedger   *hedger
	lateness *lateness
	late     time.Duration // when a hedge is due, after the attempt was sent; 0: never
	next     http.RoundTripper
	c        *call                         // the call, whose record is the first attempt's
	req      *http.Request                 // as it came
	get      func() (io.ReadCloser, error) // a fresh copy of its body

	// Guarded by mu.
	mu            sync.Mutex
	timer         *time.Timer // nil before the attempt is sent
	over          bool        // too late for a hedge
	winner        *call       // whose outcome is the call's; nil: not decided
	first, second runner
	done          chan struct{} // closed when the hedge is over; nil: there is none

	// Of the hedge, set before done is closed.
	resp     *http.Response
	err      error
	panicked any
}

// runner is one of the two.
type runner struct {
	abort  context.CancelCauseFunc
	sentAt time.Time
	out    bool // sent, and not over
}

// errLost is what an attempt ends with when another has answered first. To
// everybody who judges by it, it is a cancellation.
var errLost error = lostError{}

type lostError struct{}

func (lostError) Error() string        { return "deepseek: lost to another attempt" }
func (lostError) Is(target error) bool { return target == context.Canceled }

// runner is that of c, and its rival. r.mu is held.
func (r *race) runner(c *call) (own, rival *runner) {
	if !c.isHedge() {
		return &r.first, &r.second
	}
	return &r.second, &r.first
}

// run makes the call's attempt, and sees to what becomes of its hedge.
func (r *race) run() (*http.Response, error) {
	c := r.c
	c.wonBy(nil) // a layer above may use the call for several answers
	c.race = r
	returned := false
	defer func() {
		c.race = nil
		if !returned {
			r.abandon()
		}
	}()
	resp, err := c.pass(r.next, r.req)
	returned = true
	return r.finish(resp, err)
}

// began notes that an attempt is being sent, and how to end it.
func (r *race) began(c *call, abort context.CancelCauseFunc) {
	if r == nil {
		return
	}
	r.mu.Lock()
	own, _ := r.runner(c)
	*own = runner{abort: abort, out: true, sentAt: time.Now()}
	lost := r.winner != nil
	if !c.isHedge() && r.late > 0 && c.to != nil && c.to.slot != nil {
		if r.timer == nil {
			r.timer = time.AfterFunc(r.late, r.hedge)
		} else { // on to another account: wait anew
			r.timer.Reset(r.late)
		}
	}
	r.mu.Unlock()
	if lost {
		abort(errLost)
	}
}

// ended takes in what an attempt came to, and reports whether it has lost.
func (r *race) ended(c *call, resp *http.Response, err error, took time.Duration) (lost bool) {
	if r == nil {
		return false
	}
	v := judge(resp, err)
	r.mu.Lock()
	own, _ := r.runner(c)
	own.out = false
	lost = r.winner != nil
	if !lost && v.outcome == answered {
		r.decide(c)
	}
	r.mu.Unlock()
	// Of an attempt that lost it is known that it would have taken longer still.
	// Hedges teach nothing: only those that were quick are ever seen to the end.
	if !c.isHedge() && (v.outcome == answered || err == errLost) {
		h := r.hedger.policy
		r.lateness.add(took, h.Percentile, h.MinSamples)
	}
	return lost
}

// decide ends the race: what c has come to is the call's outcome. r.mu is held.
func (r *race) decide(c *call) {
	r.winner, r.over = c, true
	if _, rival := r.runner(c); rival.out {
		rival.abort(errLost)
	}
}

// hedged reports whether a hedge was started.
func (r *race) hedged() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done != nil
}

// hedge is the timer's function: it makes the second attempt, if it may.
func (r *race) hedge() {
	h, c := r.hedger, r.c
	r.mu.Lock()
	if r.over || r.done != nil || !r.first.out || time.Since(r.first.sentAt) < r.late || !c.hasAttempt() {
		r.mu.Unlock()
		return
	}
	price, ok := h.take(c, r.req)
	if !ok {
		r.mu.Unlock()
		return
	}
	c.used.Add(1)
	second := c.hedge()
	r.done = make(chan struct{})
	r.mu.Unlock()

	r.err = errGone
	defer func() {
		r.panicked = recover()
		r.mu.Lock()
		if r.panicked != nil && r.winner == nil {
			r.decide(second) // so that the call sees it
		}
		sent := r.second.abort != nil
		r.mu.Unlock()
		if sent {
			h.counts.sent.Add(1)
		} else {
			h.giveBack(price)
			c.used.Add(-1)
		}
		close(r.done)
	}()
	r.resp, r.err = r.send(second)
}

// errGone is for a goroutine that a base ends by runtime.Goexit.
var errGone = errors.New("deepseek: the hedge's goroutine has ended")

// send makes the second attempt.
func (r *race) send(second *call) (*http.Response, error) {
	body, err := r.get()
	if err != nil {
		return nil, err
	}
	second.body.get = r.get
	second.body.send(body)
	defer second.leave()
	resp, err := second.pass(r.next, r.req)
	r.mu.Lock()
	lost := r.winner != nil && r.winner != second
	r.mu.Unlock()
	if resp != nil && lost {
		_ = resp.Body.Close()
		return nil, errLost
	}
	return resp, err
}

// finish ends the race with what the first attempt has come to, and returns
// what the call has.
func (r *race) finish(resp *http.Response, err error) (*http.Response, error) {
	c, v := r.c, judge(resp, err)
	r.mu.Lock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.winner == nil && (v.outcome == rejected || v.outcome == unsendable) {
		r.decide(c) // another account would say the same
	}
	done := r.done
	r.mu.Unlock()
	if done == nil {
		return resp, err
	}
	<-done
	if r.panicked != nil {
		if resp != nil {
			_ = resp.Body.Close()
		}
		panic(r.panicked)
	}
	switch r.winner {
	case c:
		return resp, err
	case nil:
		return r.moreTelling(resp, err)
	}
	if resp != nil {
		_ = resp.Body.Close()
	}
	c.wonBy(r.winner)
	r.hedger.counts.won.Add(1)
	return r.resp, r.err
}

// moreTelling chooses between the outcomes of two attempts that both failed.
func (r *race) moreTelling(resp *http.Response, err error) (*http.Response, error) {
	first, second := last{resp, err}, last{r.resp, r.err}
	a, b := judge(resp, err).outcome, judge(r.resp, r.err).outcome
	if tells[b] > tells[a] {
		first, second, a, b = second, first, b, a
	}
	if a == cancelled && b != cancelled && b != refused {
		first.err = &interrupted{err: first.err, last: second.error()}
	}
	discard(second.resp)
	return first.resp, first.err
}

// tells ranks outcomes by what they tell of the call. Others can do without an
// account that is at fault, so that is told last.
var tells = [...]int{
	refused: 0, unsendable: 1, unauthorized: 1, broke: 1, forbidden: 1, throttled: 2, fault: 3, rejected: 4, cancelled: 5,
}

// abandon ends the race after a panic in the first attempt.
func (r *race) abandon() {
	r.mu.Lock()
	r.over = true
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.winner == nil {
		r.decide(r.c)
	}
	done := r.done
	r.mu.Unlock()
	if done != nil {
		<-done
		discard(r.resp)
	}
}
