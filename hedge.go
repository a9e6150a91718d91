package deepseek

import (
	"net/http"
	"sync/atomic"
	"time"
)

// Hedging says when a call gets a second attempt, on another account, beside
// one whose first data is late. The first answer counts: a stream's first data,
// any other answer's end. The other attempt is cancelled at once, and nobody is
// blamed for it; the call waits for its base to notice, which takes no time worth
// counting with a base that heeds the request's context. If one fails, the call waits
// for the other; if both do, [Retry] goes by the more telling outcome.
//
// Late is later than Percentile of the recent answers for the model, as far as
// it is known what an attempt would have taken. Streams and whole answers are
// learned apart, because a whole answer has no first data before its end.
//
// A hedge is never sent to an account that the call has an attempt on, nor
// where other calls wait for room, nor while the breaker is not closed, nor for
// a request that names no model or cannot be sent again. It is one attempt: it
// does not wait, and does not go on to another key. It shares the call's
// deadline, and counts for Retry.MaxAttempts. It is not paid for by the budget
// of Retry, but by its own, which only answers fill: in an outage there are soon
// no more hedges.
//
// DeepSeek does not document whether it bills an attempt that was cancelled; here
// it is assumed that it does.
//
// The zero value is the default.
type Hedging struct {
	// Percentile is the share of answers that are not late. Default 0.95.
	Percentile float64
	// MinSamples is how many answers must have been seen before any is late.
	// Default 100.
	MinSamples int
	// MaxShare is how many hedges there may be for each answered call. Default
	// 0.05.
	MaxShare float64
	// Burst is how many hedges there may be beyond that at a time. Default 10.
	Burst int
	// MaxCost is how much hedges may cost, as a share of what everything costs so
	// far. A hedge is put down at the price of its prompt, all of it missed by the
	// other account's context cache: 1 token for 4 bytes of the request. Of a model
	// without a price nothing is put down. Default 0.05.
	MaxCost float64
}

func (h Hedging) withDefaults() (Hedging, error) {
	switch {
	case !(h.Percentile >= 0 && h.Percentile < 1):
		return h, badConfig("Hedging.Percentile", h.Percentile, "must be at least 0 and less than 1")
	case h.MinSamples < 0:
		return h, badConfig("Hedging.MinSamples", h.MinSamples, "must not be negative")
	case !(h.MaxShare >= 0 && h.MaxShare <= 1):
		return h, badConfig("Hedging.MaxShare", h.MaxShare, "must be between 0 and 1")
	case h.Burst < 0:
		return h, badConfig("Hedging.Burst", h.Burst, "must not be negative")
	case !(h.MaxCost >= 0 && h.MaxCost <= 1):
		return h, badConfig("Hedging.MaxCost", h.MaxCost, "must be between 0 and 1")
	}
	if h.Percentile == 0 {
		h.Percentile = 0.95
	}
	if h.MinSamples == 0 {
		h.MinSamples = 100
	}
	if h.MaxShare == 0 {
		h.MaxShare = 0.05
	}
	if h.Burst == 0 {
		h.Burst = 10
	}
	if h.MaxCost == 0 {
		h.MaxCost = 0.05
	}
	return h, nil
}

// NewHedge returns the layer that makes a second attempt beside one that is
// late. It needs layers below it: that of [NewGuard], which tells when an
// attempt is sent and when its first data comes, and that of a [Pool], which has
// the other account. Without them it lets calls pass as they are. m knows what
// calls cost; nil: MaxCost does not hold.
func NewHedge(h Hedging, m *Meter) (Middleware, error) {
	hg, err := newHedger(h, m)
	if err != nil {
		return nil, err
	}
	return layer(hg.do), nil
}

func newHedger(h Hedging, m *Meter) (*hedger, error) {
	h, err := h.withDefaults()
	if err != nil {
		return nil, err
	}
	return &hedger{policy: h, meter: m, counts: new(hedgeCounts), experience: &experience{allowance: allowance{left: float64(h.Burst)}}}, nil
}

type hedger struct {
	policy Hedging
	meter  *Meter // nil: none
	counts *hedgeCounts
	*experience
}

// hedgeCounts are of a transport and its successors.
type hedgeCounts struct{ sent, won atomic.Int64 }

// experience is what a policy goes by.
type experience struct {
	allowance
	streams byModel[*lateness]
	wholes  byModel[*lateness]
}

// inherit takes over what old has that fits.
func (h *hedger) inherit(old *hedger) {
	if h.policy == old.policy {
		h.experience = old.experience
	}
}

// lateness is what is known of answers to calls like c.
func (h *hedger) lateness(c *call) *lateness {
	kind := &h.wholes
	if c.stream {
		kind = &h.streams
	}
	return kind.get(c.model, func(string) *lateness { return new(lateness) })
}

func (h *hedger) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	// What names no model is no question to a model, and may not be safe to send
	// twice: an upload, say.
	if c.model == "" || c.body.get == nil {
		return c.pass(next, req)
	}
	p := h.lateness(c)
	r := &race{hedger: h, lateness: p, late: time.Duration(p.late.Load()), next: next, c: c, req: req, get: c.body.get}
	resp, err := r.run()
	o := judge(resp, err).outcome
	switch {
	case o == answered:
		h.earn()
	case r.done != nil && (o == unauthorized || o == broke || o == forbidden) && c.mayTryAgain():
		// As long as there was a hedge the pool could not go on to other accounts.
		// Now it can.
		if c.again() != nil {
			return resp, err
		}
		c.used.Add(1)
		other, otherErr := c.pass(next, req)
		if judge(other, otherErr).outcome == refused {
			return resp, err
		}
		discard(resp)
		return other, otherErr
	}
	return resp, err
}
