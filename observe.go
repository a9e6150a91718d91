package deepseek

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"
)

// Observer is told what happens to calls. Every field may be nil. The functions are
// called with no lock held, on the goroutine of the call they speak of (the end of a
// stream: on whichever goroutine ended it; what happens to a hedge, to a call of
// [WithCache] on its way to the server, or in a look at an account's balance: on its
// own), so they must be quick, must not block, and must be safe for concurrent use.
// They may call Stats.
type Observer struct {
	// CallContext returns the context that a call goes on in, which its later events
	// and its requests carry: the event's own, with values added, such as a trace's
	// span. It is asked before CallStart is told. Nil stands for the event's own.
	CallContext func(CallStartEvent) context.Context
	// AttemptContext returns the context of one attempt, which its request and its
	// AttemptEvent carry, as CallContext does that of the call. It is asked when the
	// attempt is about to be sent.
	AttemptContext func(AttemptStartEvent) context.Context
	// CallStart: a call enters the transport.
	CallStart func(CallStartEvent)
	// CallEnd: a call is over; for a stream when it was read to its end, broke,
	// or was closed.
	CallEnd func(CallEndEvent)
	// Attempt: an attempt has brought its first data, its whole answer, or failed.
	Attempt func(AttemptEvent)
	// Charge: what an attempt has cost is known, some of it perhaps by estimate. An
	// attempt that cost nothing has none.
	Charge func(ChargeEvent)
	// Wait: a call waits before its next attempt, or has waited for room.
	Wait func(WaitEvent)
	// Resume: an answer that broke is about to be continued, or is not.
	Resume func(ResumeEvent)
	// Fallback: a call goes on with another model than the one asked for.
	Fallback func(FallbackEvent)
	// Cooldown: an account or key is put aside, or is back: an account from a 402, a
	// key once it was accepted again, either by another replica's word. Not told: that
	// the time of a 401, 403 or 429 is over, and what [Pool]'s methods do.
	Cooldown func(CooldownEvent)
	// Limit: the learned limit of an account and model has changed.
	Limit func(LimitEvent)
	// Breaker: a circuit has changed its state.
	Breaker func(BreakerEvent)
	// StoreError: the response cache's store has failed; the call goes on.
	StoreError func(StoreErrorEvent)
	// Sharing: the state shared with other replicas was reached or lost, or
	// their number has changed. It is called in the background, as are Cooldown and
	// Limit for what others have told.
	Sharing func(SharingEvent)
}

// CallStartEvent is the beginning of a call.
type CallStartEvent struct {
	Context context.Context // the caller's, or what an observer has made of it
	Method  string          // of the request, such as "POST"
	Path    string          // of the request's URL
	Model   string          // empty if the body names none
	Stream  bool            // the body asks for a stream
}

// CallEndEvent is the end of a call.
type CallEndEvent struct {
	CallStartEvent
	Status    int           // of the response that the caller got; 0 if it got none, or a refusal
	Err       error         // why there was none, or why it is not complete
	Attempts  Attempts      // all that were made, oldest first
	Usage     *Usage        // without its Extra; nil if the answer told none, or another call has paid for it
	Cost      Cost          // zero without a [Meter]
	Cache     CacheUse      // what the response cache was for it; empty: nothing
	FirstData time.Duration // until the caller got the response, at its first data if it is a stream
	Duration  time.Duration // until the end of the answer, or the error
	Cancelled bool          // the caller gave up, or closed a stream before its end
}

// AttemptStartEvent is the beginning of an attempt.
type AttemptStartEvent struct {
	Context context.Context // of the attempt so far: the call's, and it ends with the attempt
	Model   string          // of the call, by the caller's name for it
	Host    string          // where it is sent to, with the port if the URL names one
	Attempt                 // without what comes of it
}

// AttemptEvent is one attempt of a call.
type AttemptEvent struct {
	Context context.Context // the attempt's, with what an observer has put into it; it may have ended
	Model   string          // of the call, by the caller's name for it
	Stream  bool            // the request asks for a stream
	Attempt
}

// ChargeEvent is what an attempt has cost. The sum of all is [Stats.Spend].
type ChargeEvent struct {
	Context  context.Context // the call's
	Endpoint string          // as in [Attempt]
	Account  string          // its name
	Model    string          // by the endpoint's own name, as in [Attempt]
	// Usage is what the answer told, without its Extra, or what it is thought to have
	// been.
	Usage     Usage
	Estimated bool // some of it
	// Peak: the price was that of the peak hours. Unpriced: it is not known, and the
	// amounts are 0.
	Peak, Unpriced bool
	// The amounts are for the prompt's tokens that were in the context cache, for the
	// others, and for the answer's. Saved is what the first of these would have cost
	// more as the second.
	CacheHit, CacheMiss, Output, Saved Money
	Currency                           string // of the amounts
}

// WaitEvent is a wait of a call.
type WaitEvent struct {
	Context context.Context // the call's
	Model   string          // of the call
	Reason  string          // such as "retry after fault", "continue after fault" or "room"
	Wait    time.Duration   // before an attempt: to come; for room: over
}

// ResumeEvent is the end of a part of an answer, with [WithStreamResume].
type ResumeEvent struct {
	Context context.Context // the call's
	Model   string          // of the call
	Cause   error           // how the part ended
	Kept    int             // characters of content and reasoning that had come; 0: the answer begins anew
	Attempt int             // which of the call's attempts is to bring the rest; 0: none
	Refused error           // why the answer is not continued, or what came of trying
}

// FallbackEvent is a call that goes on with another model.
type FallbackEvent struct {
	Context  context.Context // the call's
	From, To string          // models
	Cause    string          // such as "fault" or "refused"
}

// CooldownEvent is an account or key that is put aside or comes back.
type CooldownEvent struct {
	Context context.Context // of the call in whose course it happened
	Account string          // its name
	Key     string          // fingerprint; empty if it is the whole account
	Model   string          // empty if it is all models
	State   State           // what it is now
	Cause   string          // such as "401", "429", "balance", "trial", "success"
	For     time.Duration   // how long at most; 0 if it is not known, or it is back
}

// LimitEvent is a change of a learned limit.
type LimitEvent struct {
	Context  context.Context // as that of CooldownEvent
	Account  string          // its name
	Model    string          // by the endpoint's own name for it
	From, To int             // requests in flight that there may be
	InFlight int             // those that there are
}

// BreakerEvent is a change of a circuit's state.
type BreakerEvent struct {
	Context  context.Context // as that of CooldownEvent
	Endpoint string          // its name
	Model    string          // by the endpoint's own name for it
	From, To BreakerState    // never the same
	OpenFor  time.Duration   // when To is open
}

// StoreErrorEvent is a failure of the response cache's store.
type StoreErrorEvent struct {
	Context context.Context // the call's
	Model   string          // of the call
	Op      string          // "get" or "set"
	Err     error           // what the store returned
}

// SharingEvent is a change of what is known of other replicas.
type SharingEvent struct {
	Connected bool  // false: this one goes on by itself
	Replicas  int   // that there are, or were when last heard of
	Err       error // why it is not connected
}

// NewObserve returns the layer that tells observers of calls. What the layers
// below it have to tell reaches them through it. It belongs above those that make
// attempts.
func NewObserve(observers ...Observer) Middleware {
	w := watchers(observers)
	return layer(func(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
		return w.do(next, c, req)
	})
}

// watchers are the observers of a call. A nil one costs nothing.
type watchers []Observer

func (w watchers) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if len(w) == 0 {
		return c.pass(next, req)
	}
	outermost := c.watch == nil
	if outermost {
		c.watch = slices.Clip(w)
	} else {
		c.watch = append(c.watch, w...)
	}
	began := time.Now()
	start := CallStartEvent{Context: c.Context, Method: req.Method, Path: req.URL.Path, Model: c.model, Stream: c.stream}
	if outermost { // below, attempts may be using it already
		for i := range w {
			if w[i].CallContext != nil {
				start.Context = cmp.Or(w[i].CallContext(start), start.Context)
			}
		}
		c.Context = start.Context
	}
	for i := range w {
		if w[i].CallStart != nil {
			w[i].CallStart(start)
		}
	}
	o := &observation{watchers: w, began: began, event: CallEndEvent{CallStartEvent: start}}
	returned := false
	defer func() {
		if !returned {
			o.finish(c, verdict{outcome: cancelled})
		}
	}()
	resp, err := c.pass(next, req)
	returned = true
	o.event.FirstData = time.Since(o.began)
	if err != nil {
		o.event.Err = err
		o.finish(c, judge(nil, err))
		return nil, err
	}
	o.event.Status = resp.StatusCode
	atEnd(c, resp, o)
	return resp, nil
}

// observation is a call that CallEnd has yet to tell of.
type observation struct {
	watchers watchers
	began    time.Time
	event    CallEndEvent
}

func (o *observation) finish(c *call, v verdict) {
	e := o.event
	e.Attempts = c.trail()
	e.Duration = time.Since(o.began)
	e.Cancelled = v.outcome == cancelled
	e.Usage = c.spent()
	e.Cache = c.cacheUse.public()
	if e.Err == nil {
		e.Err = c.answer().broken()
	}
	c.mu.Lock()
	e.Cost = c.cost
	c.mu.Unlock()
	for i := range o.watchers {
		if o.watchers[i].CallEnd != nil {
			o.watchers[i].CallEnd(e)
		}
	}
}

// attemptContext is the context that an attempt is made in, of which ctx is the
// beginning.
func (w watchers) attemptContext(ctx context.Context, c *call, host string, place int) context.Context {
	for i := range w {
		if w[i].AttemptContext != nil {
			e := AttemptStartEvent{Context: ctx, Model: c.model, Host: host, Attempt: c.owner().attempt(place)}
			ctx = cmp.Or(w[i].AttemptContext(e), ctx)
		}
	}
	return ctx
}

func (w watchers) attempt(ctx context.Context, c *call, place int) {
	for i := range w {
		if w[i].Attempt != nil {
			w[i].Attempt(AttemptEvent{Context: ctx, Model: c.model, Stream: c.stream, Attempt: c.owner().attempt(place)})
		}
	}
}

// wantCharges reports whether anybody is to be told of charges.
func (w watchers) wantCharges() bool {
	return slices.ContainsFunc(w, func(o Observer) bool { return o.Charge != nil })
}

func (w watchers) charge(e ChargeEvent) {
	for i := range w {
		if w[i].Charge != nil {
			w[i].Charge(e)
		}
	}
}

func (w watchers) wait(c *call, reason string, d time.Duration) {
	for i := range w {
		if w[i].Wait != nil {
			w[i].Wait(WaitEvent{Context: c.Context, Model: c.model, Reason: reason, Wait: d})
		}
	}
}

func (w watchers) resume(e ResumeEvent) {
	for i := range w {
		if w[i].Resume != nil {
			w[i].Resume(e)
		}
	}
}

func (w watchers) fallback(c *call, from string, v verdict) {
	for i := range w {
		if w[i].Fallback != nil {
			w[i].Fallback(FallbackEvent{Context: c.Context, From: from, To: c.model, Cause: v.outcome.String()})
		}
	}
}

func (w watchers) cooldown(ctx context.Context, e CooldownEvent) {
	e.Context = ctx
	for i := range w {
		if w[i].Cooldown != nil {
			w[i].Cooldown(e)
		}
	}
}

func (w watchers) limit(ctx context.Context, e LimitEvent) {
	e.Context = ctx
	for i := range w {
		if w[i].Limit != nil {
			w[i].Limit(e)
		}
	}
}

func (w watchers) breaker(ctx context.Context, e *BreakerEvent) {
	if e == nil {
		return
	}
	e.Context = ctx
	for i := range w {
		if w[i].Breaker != nil {
			w[i].Breaker(*e)
		}
	}
}

func (w watchers) sharing(e SharingEvent) {
	for i := range w {
		if w[i].Sharing != nil {
			w[i].Sharing(e)
		}
	}
}

func (w watchers) store(e StoreErrorEvent) {
	for i := range w {
		if w[i].StoreError != nil {
			w[i].StoreError(e)
		}
	}
}
