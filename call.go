package deepseek

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// call is the record that travels with one call through the layers: beside the
// request among ours, and as the request's context through the caller's own. The
// outermost layer makes it. What only one layer needs stays in that layer.
type call struct {
	context.Context // the caller's

	model        string // "model" of the body, or what the call fell back to; empty if none was found
	conversation conversation
	body         body
	watch        watchers // who is told what happens; nil: nobody

	// What the attempt under way is sent to, or the last one was: the endpoint as
	// the transport or the route says, the slot and the key as the pool does.
	to *target

	stream    bool // the body asks for a stream
	known     bool // model and stream are set: the body need not be read for them
	entered   bool
	fellBack  bool     // model is not the one that was asked for
	canWait   bool     // set by the waiting room: a call that finds no room would be kept
	wantsHalf bool     // set by the layer that continues answers: one that is no stream and was broken off goes up as it is
	continues bool     // the attempt under way continues an answer
	cacheUse  cacheUse // what the response cache was for it

	// The request that the guard has made to be sent, as long as nobody else knows it:
	// whoever is in between may change it. Nil at all other times.
	fresh *http.Request

	tempo *tempo // whose clock between data to go by; nil: nobody's

	// The cap on attempts that retry, failover and hedge share.
	maxAttempts int32 // 0: none
	used        atomic.Int32

	paid    int32    // attempts that the budget of retry has paid for
	lent    bool     // the attempts are counted as another call's; guarded by mu
	choices uint8    // that the body asks for, by "n"; 0: it does not say
	retry   *retrier // set by retry, for others that make further attempts; nil: there is none

	race *race // of the attempt under way with its hedge; nil: it can have none
	of   *call // the call that this is the hedge of, whose trail is shared; nil: it is none

	tally atomic.Pointer[tally] // of the attempt under way, or the last one

	// Room for the one that most calls have.
	bill   bill
	permit permit

	waited time.Duration // since the last attempt
	ticket uint64        // place in the waiting room, kept over all waits
	baton  *lane         // the lane whose turn this call has

	// Guarded by mu: a stream ends on another goroutine than it began on.
	mu       sync.Mutex
	attempts []attempt
	first    [1]attempt // room for the one that most calls have
	cost     Cost       // of the attempts that are over
	seldom   *seldom    // nil: nothing of it
}

// seldom is what few calls need of the record: it is allocated for those only.
type seldom struct {
	before *Usage // of the attempts whose answers it continues
	winner *call  // the hedge whose answer the call got; nil: the answer is its own
	broke  error  // how a stream broke after its first data
	move   *move  // what is noted of the conversation if this hedge wins; nil: nothing

	patience int64         // until when it waits for the account that has its conversation; 0: not asked yet
	inRoom   time.Duration // in the waiting room, over all attempts
}

// rare is c.seldom, to be changed. c.mu is held.
func (c *call) rare() *seldom {
	if c.seldom == nil {
		c.seldom = new(seldom)
	}
	return c.seldom
}

// had is c.seldom, to be read. c.mu is held.
func (c *call) had() seldom {
	if c.seldom == nil {
		return seldom{}
	}
	return *c.seldom
}

// callKey finds the *call among a context's values.
type callKey struct{}

// Value makes the call the context of its own request.
func (c *call) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return c
	}
	return c.Context.Value(key)
}

// newCall starts the record of a call of the typed client, which tells what is in its
// body: no layer has to read that again.
func newCall(ctx context.Context, model string, stream bool, body []byte) (context.Context, *call) {
	c := &call{Context: ctx, known: true}
	c.read(body)
	c.model, c.stream = model, stream
	return c, c
}

// callOf is the call that a request belongs to; nil if there is none yet.
func callOf(req *http.Request) *call {
	c, _ := req.Context().Value(callKey{}).(*call)
	return c
}

// enter begins the call that req is. What has to be different in the request is
// so in own; both are the same otherwise, and not to be changed. The one who calls
// it must call leave when the call is over.
func enter(req *http.Request) (c *call, own *http.Request, err error) {
	if c = callOf(req); c == nil {
		c = &call{Context: req.Context()}
	}
	c.entered = true
	if own, err = c.body.take(req); err != nil {
		return nil, nil, err
	}
	if !c.known {
		c.body.sniff(own, c)
	}
	c.name()
	return c, own, nil
}

// name has the conversation that the context names come before the body's.
func (c *call) name() {
	c.conversation = c.conversation.named(c.Context)
}

// pass hands a request on to the next layer. Among ours it goes with the record
// beside it, and is not copied; anybody else gets one of their own that has the
// record as its context and the body of the attempt to come.
func (c *call) pass(next http.RoundTripper, req *http.Request) (*http.Response, error) {
	if s, ok := next.(*stage); ok {
		return s.do(s.next, c, req)
	}
	if req == c.fresh {
		c.fresh = nil
	} else if known := callOf(req) == c; !known || !c.body.isOf(req) {
		var ctx context.Context = c
		if known {
			ctx = req.Context()
		}
		req = req.WithContext(ctx)
		if c.body.current != nil {
			req.Body = c.body.current
		}
	}
	resp, err := next.RoundTrip(req)
	switch {
	case err != nil:
	case resp == nil:
		err = errNothing
	case resp.Body == nil: // net/http's own never do that
		resp.Body = http.NoBody
	}
	return resp, err
}

var errNothing = errors.New("deepseek: a transport returned neither a response nor an error")

// context is what an attempt with req goes by: its request's context, if that
// knows of the call.
func (c *call) context(req *http.Request) context.Context {
	if callOf(req) == c {
		return req.Context()
	}
	return c
}

// leave closes the caller's body if nothing below has.
func (c *call) leave() { c.body.abandon() }

// hedge returns the record of a second attempt beside the one that is on its
// way. What belongs to one attempt it has of its own.
func (c *call) hedge() *call {
	return &call{
		Context: c.Context, model: c.model, stream: c.stream, choices: c.choices, known: true, conversation: c.conversation, entered: true,
		watch: c.watch, maxAttempts: c.maxAttempts, race: c.race, of: c,
		retry: c.retry, to: c.elsewhere(), fellBack: c.fellBack, continues: c.continues,
	}
}

// wonBy makes the answer that a hedge has got the call's; nil takes that back.
func (c *call) wonBy(h *call) {
	c.mu.Lock()
	c.rare().winner = h
	c.mu.Unlock()
	if h != nil {
		c.to = h.to
		h.mu.Lock()
		move := h.had().move
		h.mu.Unlock()
		move.note()
	}
}

// ifWon has m noted if this hedge wins.
func (c *call) ifWon(m *move) {
	c.mu.Lock()
	c.rare().move = m
	c.mu.Unlock()
}

// patience is until when the call waits for the account that has its
// conversation: for d from when that is first asked.
func (c *call) patience(now time.Time, d time.Duration) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rare()
	if r.patience == 0 {
		r.patience = now.UnixNano() + int64(d)
	}
	return r.patience
}

// inRoom adds to the time that the call has spent in the waiting room, and returns
// the sum.
func (c *call) inRoom(more time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rare()
	r.inRoom += more
	return r.inRoom
}

// owner is the record that the trail is in.
func (c *call) owner() *call {
	if c.of != nil {
		return c.of
	}
	return c
}

// answer is the record of the attempt that the call's answer is from.
func (c *call) answer() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.had().winner; w != nil {
		return w
	}
	return c
}

// mayTryAgain reports whether the call has an attempt left and a body to send,
// and no other attempt on its way.
func (c *call) mayTryAgain() bool {
	return c.hasAttempt() && !c.beside() && c.body.replayable()
}

func (c *call) hasAttempt() bool {
	return c.maxAttempts == 0 || c.used.Load() < c.maxAttempts
}

// isHedge reports whether it is a second attempt beside a call's first. That one
// is made now or not at all: it waits for nothing and does not go on elsewhere.
func (c *call) isHedge() bool { return c.of != nil }

// beside reports whether another attempt of the call may be on its way, so that
// this one is not to go on elsewhere if it fails.
func (c *call) beside() bool { return c.isHedge() || c.race.hedged() }

// hostModel is the model by the name that the endpoint under way has for it.
func (c *call) hostModel() string {
	if c.to != nil && c.to.model != "" {
		return c.to.model
	}
	return c.model
}

// target is what the attempt under way is sent to, with the model's name.
func (c *call) target() *target {
	model := c.hostModel()
	switch {
	case c.to == nil:
		return &target{model: model}
	case c.to.model == model:
		return c.to
	}
	t := *c.to
	t.model = model
	return &t
}

// elsewhere is the endpoint under way, of which nothing has been chosen yet.
func (c *call) elsewhere() *target {
	if c.to.place() == nil {
		return nil
	}
	return &c.to.endpoint.self
}

// budget is what pays for further attempts; nil: no bound.
func (c *call) budget() *budget {
	if c.retry == nil {
		return nil
	}
	return c.retry.budget
}

// pay takes the price of one more attempt from the budget, if it has that much.
func (c *call) pay() bool {
	if budget := c.budget(); budget != nil {
		if !budget.take() {
			return false
		}
		c.paid++
	}
	return true
}

// unpay gives the price of an attempt back that was not made after all.
func (c *call) unpay() {
	if budget := c.budget(); budget != nil {
		budget.refund(1)
		c.paid--
	}
}

// again makes the body ready for the next attempt.
func (c *call) again() error { return c.body.rewind() }

// began notes that an attempt is being sent and returns its place in the trail.
// abort ends it, should another attempt of the call answer first.
func (c *call) began(abort context.CancelCauseFunc) int {
	c.letIn()
	a := attempt{target: c.target(), wait: c.waited, fallback: c.fellBack, hedge: c.isHedge(), continues: c.continues}
	place := c.owner().enlist(a)
	c.waited = 0
	c.race.began(c, abort)
	return place
}

// enlist adds an attempt to the trail.
func (c *call) enlist(a attempt) (place int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attempts == nil {
		c.attempts = c.first[:0]
	}
	c.attempts = append(c.attempts, a)
	return len(c.attempts) - 1
}

// ended completes the attempt at place i, which was made in ctx, and tells the
// observers of it.
func (c *call) ended(ctx context.Context, i int, resp *http.Response, err error, took time.Duration) {
	lost := c.race.ended(c, resp, err, took)
	if lost && err == nil {
		err = errLost
	}
	w := c.owner()
	w.mu.Lock()
	a := &w.attempts[i]
	a.err, a.duration, a.lost = err, took, lost
	if resp != nil {
		a.status, a.traceID = int32(resp.StatusCode), header(resp.Header, "X-Ds-Trace-Id")
	}
	w.mu.Unlock()
	c.watch.attempt(ctx, c, i)
}

// attempt is the attempt at place i as it is now.
func (c *call) attempt(i int) Attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attempts[i].public()
}

// sent is how many attempts were begun so far for this call.
func (c *call) sent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lent {
		return 0
	}
	return len(c.attempts)
}

// told is what the attempt's answer said of its tokens; 0 if it has not, or not yet.
func (c *call) told() (prompt, answer int) {
	t := c.counted()
	if t == nil {
		return 0, 0
	}
	u, _ := t.usage()
	return u.PromptTokens, u.CompletionTokens
}

// brokeOff notes that the last attempt's answer broke and is to be continued:
// what it came to is no longer what the call comes to. before is what the
// attempts that brought something of the answer told to have used, if they did.
func (c *call) brokeOff(cause error, before *Usage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.attempts); n > 0 {
		i := n - 1
		for ; i > 0 && (c.attempts[i].lost || c.attempts[i].err != nil); i-- { // a hedge that did not answer
		}
		c.attempts[i].broke = cause
	}
	c.tally.Store(nil)
	r := c.rare()
	r.winner, r.broke, r.before = nil, nil, before
}

// spent is the usage of the answer, over all attempts that it took part by part;
// nil if none was told.
func (c *call) spent() *Usage {
	var now *Usage
	if t := c.answer().counted(); t != nil {
		if u, told := t.usage(); told {
			now = &u
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.had().before
	switch {
	case before == nil:
		return now
	case now == nil:
		return before
	}
	sum := before.Plus(*now)
	return &sum
}

// spentTokens are those of the answer, over all attempts; 0 if none was told.
func (c *call) spentTokens() (prompt, answer int) {
	u := c.spent()
	if u == nil {
		return 0, 0
	}
	return u.PromptTokens, u.CompletionTokens
}

// trail returns the attempts so far.
func (c *call) trail() Attempts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.attempts) == 0 {
		return nil
	}
	all := make(Attempts, len(c.attempts))
	for i := range c.attempts {
		all[i] = c.attempts[i].public()
	}
	return all
}

// counted is where the attempt under way, or the last one, is counted; nil
// without a guard.
func (c *call) counted() *tally { return c.tally.Load() }

// charge adds what an attempt has cost.
func (c *call) charge(cost Cost) {
	c = c.owner()
	c.mu.Lock()
	c.cost = c.cost.plus(cost)
	c.mu.Unlock()
}

// costs is what the attempts have cost that are over.
func (c *call) costs() Cost {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cost
}

// ride gives c the trail of the call that it shares. lent is whether the attempts are
// counted as another caller's.
func (c *call) ride(shared *call, lent bool) {
	shared.mu.Lock()
	trail := slices.Clone(shared.attempts)
	shared.mu.Unlock()
	c.mu.Lock()
	c.attempts, c.lent = trail, lent
	c.mu.Unlock()
}

// bear charges c with what a shared call has used and cost.
func (c *call) bear(shared *call) {
	t, cost := shared.answer().counted(), shared.costs()
	shared.mu.Lock()
	before := shared.had().before
	shared.mu.Unlock()
	c.tally.Store(t)
	c.mu.Lock()
	c.cost = c.cost.plus(cost)
	if before != nil {
		c.rare().before = before
	}
	c.mu.Unlock()
}

// spare notes what c did not have to pay.
func (c *call) spare(amount Money, currency string) {
	c.mu.Lock()
	c.cost = c.cost.plus(Cost{Avoided: amount, Currency: currency})
	c.mu.Unlock()
}

// broken is why the call's stream broke after its first data.
func (c *call) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.had().broke
}

// noteBroken notes why a stream broke after its first data.
func (c *call) noteBroken(err error) {
	c.mu.Lock()
	c.rare().broke = err
	c.mu.Unlock()
}

// sleep waits for d, or until ctx ends: the caller has given up.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return gaveUp(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return gaveUp(ctx)
	}
}

// gaveUp is the caller's reason for ending the call: the context's error and,
// where one was given, its cause.
func gaveUp(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || cause == err {
		return err
	}
	return &causeError{err: err, cause: cause}
}

// causeError is a context's error told by its cause.
type causeError struct{ err, cause error }

func (e *causeError) Error() string   { return e.cause.Error() }
func (e *causeError) Unwrap() []error { return []error{e.cause, e.err} }
