package deepseek

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// NewLimit returns the layer that keeps at most max calls in flight, from send
// to the last byte of the response. A call beyond that is refused with an error
// that matches [ErrQueueFull]; under a layer made by [NewQueue] it waits there
// instead, first come, first served.
func NewLimit(max int) (Middleware, error) {
	l, err := newLimit(max)
	if err != nil {
		return nil, err
	}
	return layer(l.do), nil
}

func newLimit(max int) (*limit, error) {
	if max < 1 {
		return nil, badConfig("MaxConcurrency", max, "must be at least 1")
	}
	l := new(limit)
	l.max.Store(int64(max))
	return l, nil
}

// limit is a semaphore whose waiting is done elsewhere.
type limit struct {
	max      atomic.Int64 // a transport's successor may change it
	inFlight atomic.Int64
	lane     lane
}

func (l *limit) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	seq := l.lane.seq.Load()
	if !l.lane.admits(c) || !l.acquire() {
		return nil, &noRoom{lane: &l.lane, seq: seq, what: l.describe}
	}
	l.lane.admitted(c)
	return through(next, req, c, l)
}

func (l *limit) describe() string {
	return strconv.FormatInt(l.inFlight.Load(), 10) + " of at most " + strconv.FormatInt(l.max.Load(), 10) + " calls in flight"
}

func (l *limit) acquire() bool {
	for {
		n := l.inFlight.Load()
		if n >= l.max.Load() {
			return false
		}
		if l.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (l *limit) finish(*call, verdict) {
	l.inFlight.Add(-1)
	l.lane.room()
}

// NewRateLimit returns the layer that starts at most perSecond requests a
// second, after a burst of at most burst. A request beyond that is refused with
// an error that matches [ErrQueueFull]; under a layer made by [NewQueue] it waits
// there. DeepSeek itself has no such limit; other hosts do.
func NewRateLimit(perSecond float64, burst int) (Middleware, error) {
	l, err := newRateLimit(perSecond, burst)
	if err != nil {
		return nil, err
	}
	return layer(l.do), nil
}

func newRateLimit(perSecond float64, burst int) (*rateLimit, error) {
	if !(perSecond > 0) || perSecond > 1e9 {
		return nil, badConfig("RateLimit.PerSecond", perSecond, "must be more than 0 and at most 1e9")
	}
	if burst < 1 {
		return nil, badConfig("RateLimit.Burst", burst, "must be at least 1")
	}
	return &rateLimit{
		lane:   lane{beyond: true},
		tokens: rate.NewLimiter(rate.Limit(perSecond), burst),
		every:  time.Duration(float64(time.Second) / perSecond),
	}, nil
}

type rateLimit struct {
	mu     sync.Mutex // makes the look and the taking one
	tokens *rate.Limiter
	every  time.Duration
	lane   lane
}

func (l *rateLimit) describe() string {
	return fmt.Sprintf("%g requests per second", float64(l.tokens.Limit()))
}

func (l *rateLimit) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if full := l.admit(c, l.take); full != nil {
		return nil, full
	}
	l.lane.admitted(c)
	return c.pass(next, req)
}

// gate is a layer above the accounts; do, where each attempt takes its token, is below
// them. It refuses early what do would refuse: a call that takes an account's place
// for nothing keeps others from it, and wakes them in vain when it gives it back.
func (l *rateLimit) gate(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if full := l.admit(c, l.missing); full != nil {
		return nil, full
	}
	return c.pass(next, req)
}

// admit lets a call in for which there is a token, as look tells, or says why not.
func (l *rateLimit) admit(c *call, look func(now time.Time) time.Duration) error {
	seq := l.lane.seq.Load()
	now := time.Now()
	if !l.lane.admits(c) {
		return &noRoom{lane: &l.lane, seq: seq, what: l.describe, look: now.Add(l.every)}
	}
	if in := look(now); in > 0 {
		return &noRoom{lane: &l.lane, seq: seq, what: l.describe, look: now.Add(in), sure: true}
	}
	return nil
}

// take takes a token, or says how long it is until there is one.
func (l *rateLimit) take(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens.AllowN(now, 1) {
		return 0
	}
	return max(l.missing(now), time.Nanosecond)
}

// missing says how long it is until there is a token; 0 if there is one.
func (l *rateLimit) missing(now time.Time) time.Duration {
	missing := 1 - l.tokens.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(time.Duration(missing*float64(l.every)), time.Nanosecond)
}
