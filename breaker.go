package deepseek

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/seawall-go/deepseek/internal/jitter"
)

// Breaker says when an endpoint is left alone for a while. There is one circuit
// a model, because DeepSeek's models fail apart. What counts are attempts, each one
// of a call that is retried.
//
// Only what is the server's fault counts: 5xx (but for 501 and 505), 408, 409,
// network errors, stalls and cut answers. A 429, trouble with a key or account, and
// what the caller cancelled do not count.
//
//	closed      attempts pass. It opens when, of at least MinRequests in the last
//	            Window, FailureRatio failed, or when InARow in a row failed and none let
//	            in since the first of these succeeded (see InARow): after many successes
//	            the ratio alone would be slow to tell.
//	open        attempts are refused with [ErrCircuitOpen], for up to OpenFor; twice as
//	            long each time in a row that it opens, up to MaxOpenFor. The time is
//	            shortened by up to a tenth at random, so that clients do not return
//	            in step.
//	half-open   Probes attempts pass; the rest are refused. One that fails: open. All
//	            succeed (a stream at its first data): recovering. One that is not
//	            heard of for OpenFor is replaced by another.
//	recovering  4·Probes attempts may be on their way, and two more for every success;
//	            the rest wait for room. A failure halves that. Soon all pass: closed.
//
// A stream is a success at its first data, and a failure if it breaks later. Where
// one breaks after the other, those that follow count at their end, for which a probe
// is waited MaxOpenFor: until one ends well, or the circuit was open and is closed.
//
// The zero value is the default.
type Breaker struct {
	// MinRequests is how many attempts the window must hold before it is judged.
	// Default 20.
	MinRequests int
	// FailureRatio is the share of failed attempts that opens. Default 0.5.
	FailureRatio float64
	// InARow is how many failures in a row, each within Window of the last, open it,
	// once nearly all that were let in since the first have failed, or none succeeded
	// in the time that an answer takes. Default 20; negative: no number does.
	InARow int
	// Window is how far back attempts count. Default 30 s.
	Window time.Duration
	// OpenFor is how long the breaker is open the first time. Default 5 s.
	OpenFor time.Duration
	// MaxOpenFor bounds the growth of OpenFor. Default 10 s, or OpenFor if that is
	// more: a few probes a minute harm nobody, and the end is found soon.
	MaxOpenFor time.Duration
	// Probes is how many attempts are let through at first after that. Default 2.
	Probes int
}

func (b Breaker) withDefaults() (Breaker, error) {
	switch {
	case b.MinRequests < 0:
		return b, badConfig("Breaker.MinRequests", b.MinRequests, "must not be negative")
	case !(b.FailureRatio >= 0 && b.FailureRatio <= 1):
		return b, badConfig("Breaker.FailureRatio", b.FailureRatio, "must be between 0 and 1")
	case b.Window < 0:
		return b, badConfig("Breaker.Window", b.Window, "must not be negative")
	case b.OpenFor < 0:
		return b, badConfig("Breaker.OpenFor", b.OpenFor, "must not be negative")
	case b.MaxOpenFor < 0:
		return b, badConfig("Breaker.MaxOpenFor", b.MaxOpenFor, "must not be negative")
	case b.Probes < 0:
		return b, badConfig("Breaker.Probes", b.Probes, "must not be negative")
	}
	if b.MinRequests == 0 {
		b.MinRequests = 20
	}
	if b.InARow == 0 {
		b.InARow = 20
	}
	if b.FailureRatio == 0 {
		b.FailureRatio = 0.5
	}
	if b.Window == 0 {
		b.Window = 30 * time.Second
	}
	if b.OpenFor == 0 {
		b.OpenFor = 5 * time.Second
	}
	if b.MaxOpenFor == 0 {
		b.MaxOpenFor = max(10*time.Second, b.OpenFor)
	}
	if b.MaxOpenFor < b.OpenFor {
		return b, badConfig("Breaker.MaxOpenFor", b.MaxOpenFor, "must not be less than OpenFor "+b.OpenFor.String())
	}
	if b.Probes == 0 {
		b.Probes = 2
	}
	return b, nil
}

// NewBreaker returns the layer that fails calls fast while the endpoint is
// down: with a [*CircuitOpenError], without touching the network. While it
// recovers, a call too many is refused with an error that matches
// [ErrQueueFull]; under a layer made by [NewQueue] it waits there.
// The name is for errors, logs and statistics.
func NewBreaker(name string, b Breaker) (Middleware, error) {
	br, err := newBreaker(name, b)
	if err != nil {
		return nil, err
	}
	return layer(br.do), nil
}

func newBreaker(name string, b Breaker) (*breaker, error) {
	b, err := b.withDefaults()
	if err != nil {
		return nil, err
	}
	return &breaker{name: name, policy: b}, nil
}

// breaker keeps one circuit a model.
type breaker struct {
	name     string
	policy   Breaker
	circuits byModel[*circuit]
}

func (b *breaker) circuit(model string) *circuit {
	return b.circuits.get(model, func(model string) *circuit {
		k := &circuit{breaker: b, model: model, state: BreakerClosed, slots: make([]sample, windowSlots)}
		k.lane.unsteady = true // closed, it has no line; open, the line stands still
		return k
	})
}

func (b *breaker) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	k := b.circuit(c.hostModel())
	seq := k.lane.seq.Load()
	t, err := k.allow(c, seq)
	if err != nil {
		return nil, err
	}
	k.lane.admitted(c)
	returned := false
	defer func() {
		if !returned {
			k.done(c, t, cancelled)
		}
	}()
	resp, err := c.pass(next, req)
	returned = true
	v := judge(resp, err)
	if v.outcome != answered || isWhole(resp) {
		k.done(c, t, v.outcome)
		return resp, err
	}
	// A stream is judged at its first data, unless those before it broke afterwards.
	s := &coming{circuit: k, ticket: t}
	if !k.waitsForEnds() {
		k.done(c, t, answered)
		s.judged = clock()
	}
	atEnd(c, resp, s)
	return resp, err
}

func isWhole(resp *http.Response) bool {
	_, ok := resp.Body.(*memBody)
	return ok
}

// coming is an answer on its way to its end.
type coming struct {
	circuit *circuit
	ticket  ticket
	judged  moment // when it was taken for a success; 0: it was not
}

func (s *coming) finish(c *call, v verdict) {
	if v.outcome == answered {
		s.circuit.endedWell()
	}
	switch {
	case s.judged == 0:
		s.circuit.done(c, s.ticket, v.outcome)
	case v.outcome == fault:
		s.circuit.broke(c, s.ticket, s.judged)
	}
}

// BreakerState is what a circuit does with calls.
type BreakerState string

// The states of a circuit, see [Breaker].
const (
	BreakerClosed     BreakerState = "closed"
	BreakerOpen       BreakerState = "open"
	BreakerHalfOpen   BreakerState = "half-open"
	BreakerRecovering BreakerState = "recovering"
)

// windowSlots is into how many parts the rolling window is divided.
const windowSlots = 10

// sample counts one part of the window.
type sample struct {
	part       int64 // which part of the program's time
	ok, failed int
}

// ticket is a call's admission: it counts only for the state that let it in.
type ticket struct {
	generation uint64
	number     uint64
	at         moment
}

// row is the failures that have come one after the other. A success of a call
// that was let in before them tells nothing of what came afterwards.
type row struct {
	failures int
	since    moment // of the first
	last     moment
	from     uint64 // how many calls had been let in by the first
	later    int    // failures of calls that were let in afterwards
}

// circuit is the breaker of one model.
type circuit struct {
	breaker *breaker
	model   string
	lane    lane // calls that wait while recovering; while open, those that wait for another endpoint as well

	// Guarded by mu.
	mu         sync.Mutex
	state      BreakerState
	generation uint64 // changes with the state
	slots      []sample
	row        row
	letIn      uint64    // calls so far
	takes      smooth    // nanoseconds from letting in to success
	succeeded  moment    // last
	opened     int       // times in a row
	until      time.Time // end of being open
	probes     []moment  // when the probes on their way were let through
	proven     int       // successes since half-open
	tried      uint64    // calls that had been let in when it last opened
	breaks     uint64    // calls that had been let in at the first break of a stream since one ended well; 0: none broke
	breaksAt   moment    // when that was
	late       bool      // streams break one after the other: those that follow are judged at their end
	onTheWay   int       // let in while recovering and not yet judged
	window     int       // how many may be
}

// windowClosed is the recovery window at which the circuit counts as healthy.
const windowClosed = 64

// allow lets the call pass or says why not.
func (k *circuit) allow(c *call, seq uint64) (t ticket, err error) {
	k.mu.Lock()
	now := clock()
	change, err := k.admit(c, seq, now)
	if err == nil {
		k.letIn++
		t = ticket{k.generation, k.letIn, now}
	}
	k.mu.Unlock()
	c.watch.breaker(c.Context, change)
	return t, err
}

// admit goes by the state. k.mu is held, as in the two that follow.
func (k *circuit) admit(c *call, seq uint64, now moment) (change *BreakerEvent, err error) {
	if c.isHedge() && k.state != BreakerClosed {
		return nil, k.openError(seq, 0) // what is let through now is for calls that have nothing else
	}
	if k.state == BreakerOpen {
		if in := time.Until(k.until); in > 0 {
			return nil, k.openError(seq, in)
		}
		change = k.to(BreakerHalfOpen)
		k.proven, k.probes = 0, k.probes[:0]
	}
	switch k.state {
	case BreakerHalfOpen:
		return change, k.admitProbe(seq, now)
	case BreakerRecovering:
		return nil, k.admitBack(c, seq)
	}
	return nil, nil
}

func (k *circuit) admitProbe(seq uint64, now moment) error {
	// A probe that nobody has heard of for so long no longer counts.
	patience := k.patience()
	for len(k.probes) > 0 && now.sub(k.probes[0]) >= patience {
		k.probes = k.probes[1:]
	}
	if len(k.probes)+k.proven >= k.breaker.policy.Probes {
		in := patience
		if len(k.probes) > 0 {
			in -= now.sub(k.probes[0])
		}
		return k.openError(seq, in)
	}
	k.probes = append(k.probes, now)
	return nil
}

func (k *circuit) admitBack(c *call, seq uint64) error {
	if !k.lane.admits(c) || k.onTheWay >= k.window {
		return &noRoom{lane: &k.lane, seq: seq, what: k.describe}
	}
	k.onTheWay++
	return nil
}

// patience is how long a probe is waited for.
func (k *circuit) patience() time.Duration {
	if k.late { // for its end
		return k.breaker.policy.MaxOpenFor
	}
	return k.breaker.policy.OpenFor
}

func (k *circuit) describe() string { return k.breaker.name + " is recovering from an outage" }

func (k *circuit) openError(seq uint64, in time.Duration) error {
	return &CircuitOpenError{Endpoint: k.breaker.name, Model: k.model, RetryIn: in,
		end: noRoom{lane: &k.lane, seq: seq, what: k.describe, look: time.Now().Add(in), sure: k.state == BreakerOpen}}
}

// done takes in what became of a call that was let pass.
func (k *circuit) done(c *call, t ticket, o outcome) {
	k.mu.Lock()
	stale := t.generation != k.generation
	var change *BreakerEvent
	switch {
	case k.state == BreakerOpen:
	case k.state == BreakerHalfOpen && !stale:
		if i := slices.Index(k.probes, t.at); i >= 0 {
			k.probes = slices.Delete(k.probes, i, i+1)
		}
		// That one failed which hung for so long that others took its place is no news.
		if !isFailure(o) || t.at.since() < k.patience() {
			change = k.probed(o)
		}
	case k.state == BreakerRecovering && !stale:
		k.onTheWay--
		change = k.recovered(o)
	case k.state == BreakerHalfOpen, k.state == BreakerRecovering: // let in before: says nothing of now
	default:
		change = k.count(o, t)
	}
	perhaps := k.state == BreakerHalfOpen || k.state == BreakerRecovering || change != nil
	k.mu.Unlock()
	if perhaps {
		k.lane.room()
	}
	c.watch.breaker(c.Context, change)
}

// waitsForEnds reports whether answers are judged at their end.
func (k *circuit) waitsForEnds() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.late
}

// endedWell takes in that a stream has come to its end.
func (k *circuit) endedWell() {
	k.mu.Lock()
	k.breaks = 0
	if k.state == BreakerClosed {
		k.late = false
	}
	k.mu.Unlock()
}

// brokeLate finds out whether streams break one after the other. Many that break at
// once do so because a server was restarted, which says nothing of those that follow.
// k.mu is held.
func (k *circuit) brokeLate(t ticket) {
	now := clock()
	if k.breaks == 0 {
		k.breaks, k.breaksAt = k.letIn, now
	}
	if t.number > k.breaks || now.sub(k.breaksAt) >= k.breaker.policy.Window {
		k.late = true
	}
}

// broke takes in that a stream broke that was judged a success at its first data.
func (k *circuit) broke(c *call, t ticket, judged moment) {
	k.mu.Lock()
	var change *BreakerEvent
	switch {
	case k.state == BreakerOpen:
	case k.state == BreakerHalfOpen || k.state == BreakerRecovering:
		if t.number <= k.tried { // let in before: says nothing of now
			break
		}
		k.brokeLate(t)
		if k.state == BreakerHalfOpen {
			change = k.probed(fault)
		} else {
			change = k.recovered(fault)
		}
	default:
		k.brokeLate(t)
		k.takeBack(judged)
		change = k.count(fault, ticket{number: t.number, at: clock()})
	}
	k.mu.Unlock()
	if change != nil {
		k.lane.room()
	}
	c.watch.breaker(c.Context, change)
}

// isSuccess and isFailure: the rest counts for nothing.
func isSuccess(o outcome) bool { return o == answered || o == rejected }
func isFailure(o outcome) bool { return o == fault }

// probed judges a probe. k.mu is held, as in all that follow.
func (k *circuit) probed(o outcome) *BreakerEvent {
	switch {
	case isFailure(o):
		return k.open()
	case isSuccess(o):
		if k.proven++; k.proven >= k.breaker.policy.Probes {
			k.window, k.onTheWay = 4*k.breaker.policy.Probes, 0
			return k.to(BreakerRecovering)
		}
	}
	return nil
}

// recovered widens or narrows the way back.
func (k *circuit) recovered(o outcome) *BreakerEvent {
	switch {
	case isFailure(o):
		if k.window /= 2; k.window < k.breaker.policy.Probes {
			return k.open()
		}
	case isSuccess(o):
		if k.window += 2; k.window >= windowClosed || !k.lane.busy.Load() && k.window >= windowClosed/4 {
			k.opened, k.late = 0, false
			clear(k.slots)
			return k.to(BreakerClosed)
		}
	}
	return nil
}

// count adds a sample to the window and opens when there are too many failures.
func (k *circuit) count(o outcome, t ticket) *BreakerEvent {
	good, bad := isSuccess(o), isFailure(o)
	if !good && !bad {
		return nil
	}
	p := &k.breaker.policy
	now := clock()
	part := k.part(now)
	s := &k.slots[uint64(part)%windowSlots]
	if s.part != part {
		*s = sample{part: part}
	}
	if good {
		s.ok++
		k.takes.add(float64(now.sub(t.at)), smoothing)
		k.succeeded = now
		if t.number > k.row.from {
			k.row = row{}
		}
		return nil
	}
	s.failed++
	if k.inARow(t, now) {
		return k.open()
	}
	var ok, failed int
	for _, s := range k.slots {
		if s.part > part-windowSlots {
			ok, failed = ok+s.ok, failed+s.failed
		}
	}
	if n := ok + failed; n < p.MinRequests || float64(failed) < p.FailureRatio*float64(n) {
		return nil
	}
	return k.open()
}

// part is the part of the window that a moment is in.
func (k *circuit) part(at moment) int64 {
	return int64(at) / max(int64(k.breaker.policy.Window)/windowSlots, 1)
}

// takeBack has the success not count any more that a stream was taken for, if it
// does still.
func (k *circuit) takeBack(judged moment) {
	part := k.part(judged)
	if s := &k.slots[uint64(part)%windowSlots]; s.part == part && s.ok > 0 {
		s.ok--
	}
}

// inARow takes in a failure and reports whether there have been so many that
// there would have been a success, if one were to be had.
func (k *circuit) inARow(t ticket, now moment) bool {
	p, r := &k.breaker.policy, &k.row
	if r.failures == 0 || now.sub(r.last) >= p.Window {
		*r = row{since: now, from: k.letIn}
	}
	r.failures++
	r.last = now
	if t.number > r.from {
		r.later++
	}
	if p.InARow < 0 || r.failures < p.InARow {
		return false
	}
	since, takes := int(k.letIn-r.from), time.Duration(k.takes.value)
	switch {
	case r.later >= p.InARow/4 && since-r.later <= since/5:
		return true // of the calls let in since, nearly all have failed
	case now.sub(r.since) >= takes:
		return true // they have had the time that a success takes
	default:
		// While this one hung, no other succeeded. Else many may fail together
		// because they shared a connection, and it is no sign of an outage.
		return now.sub(t.at) >= 2*takes && now.sub(k.succeeded) >= 2*takes
	}
}

// open opens, for longer each time in a row.
func (k *circuit) open() *BreakerEvent {
	p := k.breaker.policy
	d := p.MaxOpenFor
	if k.opened < 32 {
		if grown := p.OpenFor << k.opened; grown > 0 && grown < d {
			d = grown
		}
	}
	k.opened++
	k.tried = k.letIn
	d -= jitter.UpTo(d / 10)
	k.until = time.Now().Add(d)
	clear(k.slots)
	k.row = row{}
	e := k.to(BreakerOpen)
	e.OpenFor = d
	return e
}

// to changes the state and returns the event to tell once mu is free.
func (k *circuit) to(s BreakerState) *BreakerEvent {
	e := &BreakerEvent{Endpoint: k.breaker.name, Model: k.model, From: k.state, To: s}
	k.state = s
	k.generation++
	return e
}
