package deepseek

import "net/http"

// endpointFailover is a call on its way from endpoint to endpoint.
type endpointFailover struct {
	c    *call
	req  *http.Request
	rest string // of the path, after a base

	last     last    // the outcome that the call has if no endpoint answers
	verdict  verdict // of that
	paid     bool    // the attempt under way was paid for, as a retry is
	room     *noRoom // where to wait
	wanting  bool    // only room is wanting somewhere
	refusals []declined
}

// setsOut reports whether the call may go to an endpoint, and takes what that costs.
func (f *endpointFailover) setsOut(s *stop) bool {
	ailing := s.view.ailing()
	if f.wanting && ailing {
		return false // room is worth waiting for; there it would be thrown away
	}
	f.paid = false
	if !f.last.any() {
		return true
	}
	if !f.c.mayTryAgain() || ailing && !f.c.pay() {
		return false
	}
	f.paid = ailing
	if f.last.resp != nil {
		letGo(f.last.resp)
	}
	f.c.used.Add(1)
	return true
}

// visit sends the call to an endpoint. It is over if that is the answer, and goes on
// to the next endpoint else.
func (f *endpointFailover) visit(s *stop) (over bool, _ *http.Response, _ error) {
	resp, err := s.send(f.c, f.req, f.rest)
	v := judge(resp, err)
	switch v.outcome {
	case answered, rejected:
		discard(f.last.resp)
		return true, resp, err
	case unsendable: // to this endpoint, or to any
		return !f.last.any(), resp, err
	case cancelled:
		if f.last.any() {
			return true, nil, &interrupted{err: err, last: f.last.error()}
		}
		return true, resp, err
	case refused:
		f.refused(s, err)
		return false, nil, nil
	}
	if resp != nil {
		settle(resp)
	}
	if f.last.any() && !v.betterThan(f.verdict) {
		discard(resp)
		return false, nil, nil
	}
	f.last.replace(resp, err)
	f.verdict = v
	return false, nil, nil
}

// refused takes in that nothing was sent to an endpoint.
func (f *endpointFailover) refused(s *stop, err error) {
	if f.last.any() {
		f.c.used.Add(-1)
	}
	if f.paid {
		f.c.unpay()
	}
	end, full := endOf(err)
	f.room, f.wanting = f.room.or(end), f.wanting || full
	f.refusals = append(f.refusals, declined{endpoint: s.endpoint, err: err})
}

// end is what becomes of a call that no endpoint has answered.
func (f *endpointFailover) end() (*http.Response, error) {
	tried := f.last.any()
	// Where room is wanting elsewhere, it may come sooner than what a 429 asks to wait.
	asked := f.verdict.outcome == throttled && f.verdict.wait > 0 && f.c.canWait
	if tried && (!f.wanting || f.verdict.retryable() && !asked || !f.c.mayTryAgain()) {
		return f.last.resp, f.last.err
	}
	if !f.wanting {
		return nil, noEndpoint(f.c.model, f.req.URL.Path, f.refusals)
	}
	if tried { // what it cannot be served by is spent
		discard(f.last.resp)
		f.c.used.Add(1)
	}
	if tried && asked {
		return nil, f.room.or(backAt(f.verdict.wait))
	}
	return nil, f.room
}
