package deepseek

import (
	"errors"
	"net/http"
	"time"
)

func (p *Pool) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	r := round{pool: p, model: p.model(c.hostModel()), c: c, next: next, req: req}
	if c.isHedge() {
		r.had = append(r.had, c.of.to.slot) // which cannot change while there is a hedge
	}
	resp, err := (*http.Response)(nil), error(nil)
	defer func() { r.end(resp) }()
	resp, err = r.run()
	return resp, err
}

// round is a call on its way from account to account.
type round struct {
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
func (r *round) end(answer *http.Response) {
	r.check.end()
	if r.busy != nil && r.busy != answer {
		discard(r.busy)
	}
}

func (r *round) run() (*http.Response, error) {
	for {
		permit, err := r.model.acquire(r.c, r.req.ContentLength, r.had)
		if err != nil {
			if r.last != nil {
				return r.model.elsewhere(r.c, err, r.last, r.busy, r.had)
			}
			if !r.c.isHedge() && errors.Is(err, ErrInsufficientBalance) && r.pool.checkNow(r.c, r.next, r.req) {
				continue
			}
			return nil, err
		}
		if r.last != nil && !r.again() {
			permit.finish(r.c, verdict{outcome: refused})
			return r.last, nil
		}
		r.checkBalances()
		resp, err := through(r.next, r.req, r.c, permit)
		if err != nil {
			return nil, err
		}
		resp.Request = r.req // without the key: SDKs put it into their errors
		if !r.goesOn(permit, resp) {
			return r.last, nil
		}
	}
}

// again prepares the call for another account, or key. It reports whether there may
// be another attempt.
func (r *round) again() bool {
	if !r.c.mayTryAgain() {
		return false
	}
	r.c.used.Add(1)
	if r.c.again() != nil {
		return false
	}
	if r.last != r.busy {
		discard(r.last)
	}
	r.last = nil
	return true
}

// checkBalances has the balances looked at that are due, beside the call.
func (r *round) checkBalances() {
	if at := r.pool.checkAt.Load(); r.check == nil && !r.c.isHedge() && at != farFuture && time.Now().UnixNano() >= at {
		r.check = r.pool.checkBeside(r.c, r.next, r.req)
	}
}

// goesOn takes in a response, as the last one, and reports whether another account or
// key may do better; if not, it is the answer.
func (r *round) goesOn(p *permit, resp *http.Response) bool {
	r.last = resp
	switch judge(resp, nil).outcome {
	case forbidden:
		if r.forbiddens++; r.forbiddens > 1 {
			return false
		}
	case throttled:
		settle(resp) // before it may be thrown away: its slot learns from how it ends
		r.had = append(r.had, p.slot)
		if r.busy != nil && judge(r.busy, nil).wait < judge(resp, nil).wait {
			r.last, r.busy = r.busy, resp
		}
		discard(r.busy)
		r.busy = r.last
	case broke:
		r.had = append(r.had, p.slot) // which a free call might be given again
	case unauthorized:
	default:
		r.check.endWith(r.c, resp)
		return false
	}
	settle(r.last)
	return !r.c.beside()
}
