package deepseek

import (
	"errors"
	"net/http"
	"time"
)

// accountFailover is a call on its way from account to account.
type accountFailover struct {
	pool  *Pool
	model *modelPool
	c     *call
	next  http.RoundTripper
	req   *http.Request

	last       *http.Response // of an account or key that could not serve this call
	had        []*slot        // that said 429 or 402 to this call
	busy       *http.Response // the 429, if one did; of several, the one that asks for the shortest wait
	forbiddens int
	check      *balanceCheck // beside the call; nil: none
}

// end lets go of what the call was not answered with.
func (f *accountFailover) end(answer *http.Response) {
	f.check.end()
	if f.busy != nil && f.busy != answer {
		discard(f.busy)
	}
}

// run sends the call until one answers, or no other can.
func (f *accountFailover) run() (*http.Response, error) {
	for {
		permit, err := f.model.acquire(f.c, f.req.ContentLength, f.had)
		if err != nil {
			if f.last != nil {
				return f.elsewhere(err)
			}
			if !f.c.isHedge() && errors.Is(err, ErrInsufficientBalance) && f.pool.checkNow(f.c, f.next, f.req) {
				continue
			}
			return nil, err
		}
		if f.last != nil && !f.again() {
			permit.finish(f.c, verdict{outcome: refused})
			return f.last, nil
		}
		f.checkBalances()
		resp, err := through(f.next, f.req, f.c, permit)
		if err != nil {
			return nil, err
		}
		resp.Request = f.req // without the key: SDKs put it into their errors
		if !f.goesOn(permit, resp) {
			return f.last, nil
		}
	}
}

// again prepares the call for another account, or key. It reports whether there may
// be another attempt.
func (f *accountFailover) again() bool {
	if !f.c.mayTryAgain() {
		return false
	}
	f.c.used.Add(1)
	if f.c.again() != nil {
		return false
	}
	if f.last != f.busy {
		discard(f.last)
	}
	f.last = nil
	return true
}

// checkBalances has the balances looked at that are due, beside the call.
func (f *accountFailover) checkBalances() {
	if at := f.pool.checkAt.Load(); f.check == nil && !f.c.isHedge() && at != farFuture && time.Now().UnixNano() >= at {
		f.check = f.pool.checkBeside(f.c, f.next, f.req)
	}
}

// goesOn takes in a response, as the last one, and reports whether another account or
// key may do better; if not, it is the answer.
func (f *accountFailover) goesOn(p *permit, resp *http.Response) bool {
	f.last = resp
	switch judge(resp, nil).outcome {
	case forbidden:
		if f.forbiddens++; f.forbiddens > 1 {
			return false
		}
	case throttled:
		settle(resp) // before it may be thrown away: its slot learns from how it ends
		f.had = append(f.had, p.slot)
		if f.busy != nil && judge(f.busy, nil).wait < judge(resp, nil).wait {
			f.last, f.busy = f.busy, resp
		}
		discard(f.busy)
		f.busy = f.last
	case broke:
		f.had = append(f.had, p.slot) // which a free call might be given again
	case unauthorized:
	default:
		f.check.endWith(f.c, resp)
		return false
	}
	settle(f.last)
	return !f.c.beside()
}

// elsewhere is what the call comes to when no other account can take it now, because of
// err. If another one will have room, the call waits for that; after a 429 it does so
// only if that asks to wait, and for no longer.
func (f *accountFailover) elsewhere(err error) (*http.Response, error) {
	full, isFull := err.(*noRoom)
	room := isFull && !full.sure && f.c.mayTryAgain()
	switch {
	case f.busy == nil && !room:
		return f.last, nil
	case f.busy == nil: // a 401, say, which is no reason to give up
		discard(f.last)
		f.c.used.Add(1)
		return nil, full
	case f.last != f.busy: // nor is it more telling than the 429
		discard(f.last)
	}
	wait := judge(f.busy, nil).wait
	if !room || wait == 0 || !f.c.canWait || !f.model.hasOther(f.had) {
		return f.busy, nil
	}
	f.c.used.Add(1)
	return nil, full.or(backAt(wait))
}
