package deepseek

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/seawall-go/deepseek/internal/jitter"
)

// Retry says when and how often a call is attempted again.
//
// Attempted again are 408, 409, 429 and 5xx (but for 501 and 505), network
// errors, stalls, and answers that are cut short before the caller has seen any
// of it. The wait before the n-th retry is random between 0 and
// min(MaxInterval, MinInterval·2ⁿ⁻¹) ("full jitter"); a Retry-After or
// retry-after-ms of the server is a floor that the random wait is added to. No
// wait goes beyond the call's deadline: if it would, the last outcome is returned
// at once.
//
// The zero value is the default.
type Retry struct {
	// MaxAttempts is how many attempts a call may have, the first one and those
	// that fail over to other keys and accounts included; with [WithFallbackModels]
	// each model has as many anew. Default 10, which with the default intervals spans
	// about 25 seconds.
	MaxAttempts int
	// MinInterval is the bound of the first wait, before jitter. Default 500 ms.
	MinInterval time.Duration
	// MaxInterval is the bound of any wait. Default 8 s, or MinInterval if that is more.
	MaxInterval time.Duration
	// MaxRetryAfter is the longest wait accepted from the server. A response
	// that asks for more is returned as it is. Default 60 s.
	MaxRetryAfter time.Duration
	// Budget is how many retries all calls together may have beyond what success
	// pays for: a retry costs 1, a call that then succeeds gives back what it
	// took, one that needed none gives 0.1, until there is this much or twice the
	// number of calls on their way. It keeps a full outage from being answered
	// with a multiple of the load. A retry after a 429 is free: it is paced by the
	// learned limit. Default 100; negative: no bound.
	Budget int
}

func (r Retry) withDefaults() (Retry, error) {
	switch {
	case r.MaxAttempts < 0:
		return r, badConfig("Retry.MaxAttempts", r.MaxAttempts, "must not be negative")
	case r.MinInterval < 0:
		return r, badConfig("Retry.MinInterval", r.MinInterval, "must not be negative")
	case r.MaxInterval < 0:
		return r, badConfig("Retry.MaxInterval", r.MaxInterval, "must not be negative")
	case r.MaxRetryAfter < 0:
		return r, badConfig("Retry.MaxRetryAfter", r.MaxRetryAfter, "must not be negative")
	}
	if r.MaxAttempts == 0 {
		r.MaxAttempts = 10
	}
	if r.MinInterval == 0 {
		r.MinInterval = 500 * time.Millisecond
		if r.MaxInterval > 0 {
			r.MinInterval = min(r.MinInterval, r.MaxInterval)
		}
	}
	if r.MaxInterval == 0 {
		r.MaxInterval = max(8*time.Second, r.MinInterval)
	}
	if r.MaxRetryAfter == 0 {
		r.MaxRetryAfter = time.Minute
	}
	if r.Budget == 0 {
		r.Budget = 100
	}
	if r.MaxInterval < r.MinInterval {
		return r, badConfig("Retry.MaxInterval", r.MaxInterval, "must not be less than MinInterval "+r.MinInterval.String())
	}
	return r, nil
}

// NewRetry returns the layer that attempts a call again when the server is at
// fault. After the last attempt the caller gets the real last response,
// readable and with its headers, plus "X-Should-Retry: false" unless the server
// set that header, so that an SDK above does not multiply the attempts.
func NewRetry(r Retry) (Middleware, error) {
	rt, err := newRetrier(r)
	if err != nil {
		return nil, err
	}
	return layer(rt.do), nil
}

func newRetrier(r Retry) (*retrier, error) {
	r, err := r.withDefaults()
	if err != nil {
		return nil, err
	}
	rt := &retrier{policy: r}
	if r.Budget > 0 {
		rt.budget = newBudget(r.Budget)
	}
	return rt, nil
}

type retrier struct {
	policy Retry
	budget *budget // nil: no bound
}

// last is an attempt's outcome, kept while another is made.
type last struct {
	resp *http.Response
	err  error
}

func (l *last) any() bool { return l.resp != nil || l.err != nil }

func (l *last) replace(resp *http.Response, err error) {
	discard(l.resp)
	l.resp, l.err = resp, err
}

// error is the outcome as an error.
func (l *last) error() error {
	if l.err != nil {
		return l.err
	}
	return errorFromResponse(l.resp, nil)
}

func (rt *retrier) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	c.maxAttempts, c.retry, c.paid = int32(min(rt.policy.MaxAttempts, math.MaxInt32)), rt, 0
	rt.budget.begin()
	defer rt.budget.end()
	var (
		last last
		err  error
	)
	for waits := 0; ; waits++ {
		c.used.Add(1)
		resp, rtErr := c.pass(next, req)
		v := judge(resp, rtErr)
		switch {
		case v.outcome == refused && last.any():
			// Nothing was sent: what the server last said tells the caller more.
			return rt.final(last.resp, last.err)
		case v.outcome == fault && c.wantsHalf && resp != nil && resp.StatusCode < 300:
			discard(last.resp)
			return resp, nil
		case v.outcome == cancelled && last.any():
			return nil, &interrupted{err: rtErr, last: last.error()}
		case !v.retryable():
			discard(last.resp)
			if v.outcome == answered && rt.budget != nil {
				rt.budget.refund(int(c.paid))
			}
			return rt.final(resp, rtErr)
		}
		last.replace(resp, rtErr)
		if resp != nil {
			settle(resp)
		}
		wait, cost, no := rt.grant(c, v, waits)
		if no != nil {
			return rt.final(last.resp, last.err)
		}
		c.paid += int32(cost)
		if last.resp != nil {
			letGo(last.resp)
		}
		c.watch.wait(c, "retry after "+v.outcome.String(), wait)
		if err := sleep(req.Context(), wait); err != nil {
			return nil, &interrupted{err: err, last: last.error()}
		}
		c.waited += wait
		if err = c.again(); err != nil {
			return rt.final(last.resp, last.err)
		}
	}
}

// Why a call may not have another attempt.
var (
	errAskedToWait = errors.New("the server asks for a longer wait than is accepted")
	errNoAttempts  = errors.New("the call has no attempt left")
	errTooLate     = errors.New("the wait would end after the call's deadline")
	errNoBudget    = errors.New("the retry budget is used up")
)

// grant says how long to wait before the attempt that follows one that came to
// v, and what that costs the budget; or why there is to be none.
func (rt *retrier) grant(c *call, v verdict, waits int) (wait time.Duration, cost int, no error) {
	wait, ok := rt.wait(v, waits)
	switch {
	case !ok:
		return 0, 0, errAskedToWait
	case !c.mayTryAgain():
		return 0, 0, errNoAttempts
	case tooLate(c, wait):
		return 0, 0, errTooLate
	case v.outcome != fault || rt.budget == nil: // free: paced by the learned limit, or not sent
		return wait, 0, nil
	case !rt.budget.take():
		return 0, 0, errNoBudget
	}
	return wait, 1, nil
}

// interrupted is a call that its caller ended between two attempts: the
// context's error and the last attempt's at once.
type interrupted struct{ err, last error }

func (e *interrupted) Error() string {
	return e.err.Error() + " (the last attempt: " + strings.TrimPrefix(e.last.Error(), "deepseek: ") + ")"
}

func (e *interrupted) Unwrap() []error { return []error{e.err, e.last} }

// wait is how long to wait before the next attempt; false if the server asks
// for more than we are willing to.
func (rt *retrier) wait(v verdict, waits int) (time.Duration, bool) {
	if v.wait > rt.policy.MaxRetryAfter {
		return 0, false
	}
	bound := rt.policy.MaxInterval
	if waits < 32 {
		if d := rt.policy.MinInterval << waits; d > 0 && d>>waits == rt.policy.MinInterval {
			bound = min(bound, d)
		}
	}
	return v.wait + jitter.UpTo(bound), true
}

// tooLate reports whether the call's deadline comes before the wait is over.
func tooLate(c *call, wait time.Duration) bool {
	deadline, ok := c.Deadline()
	return ok && !time.Now().Add(wait).Before(deadline)
}

// final tells an SDK above that all the retrying worth doing has been done.
func (rt *retrier) final(resp *http.Response, err error) (*http.Response, error) {
	if resp != nil && resp.StatusCode >= 400 && resp.Header != nil && resp.Header.Get("X-Should-Retry") == "" {
		resp.Header.Set("X-Should-Retry", "false")
	}
	return resp, err
}
