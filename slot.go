package deepseek

import (
	"bytes"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// publishedLimits are the concurrency limits of an account that DeepSeek
// publishes, by model (https://api-docs.deepseek.com/quick_start/rate_limit).
// The real ones follow the account's balance and may be far lower.
var publishedLimits = map[string]int{
	"deepseek-flash":    2500,
	"deepseek-v4-flash": 2500,
	"deepseek-v4-pro":   500,
}

const otherLimit = 500

// A limit that is not known is approached: at first few calls are let out at
// once, then twice as many each rampEvery, unless a 429 says where it is. So a
// start under full load costs dozens of 429s and not thousands.
const (
	rampStart = 64
	rampEvery = 500 * time.Millisecond
)

const (
	decrease    = 0.9 // of the limit, on a 429 that tells no number
	backOff     = 0.5 // the same, while the limit is only being approached
	maxPatience = 8   // how many times slower growth gets at a limit that was confirmed,
	tryEvery    = 40  // but not slower than once in so many successes
	strikeAfter = 8   // 429s in a row that come in spite of room, before the account is given a rest
	strikeFirst = 250 * time.Millisecond
	strikeMost  = 30 * time.Second
	strikeAlone = 2 * time.Second // the most, of a replica that has but one permit
)

// slot is what DeepSeek limits: an account for one model. It counts the calls
// in flight and learns how many there may be.
type slot struct {
	model   *modelPool
	account *account

	// For choices, without the lock: with the two above, in one line of the processor's
	// cache, as most of a large pool is in none.
	weight   int // the account's
	inFlight atomic.Int64
	limit    atomic.Int64
	reach    atomic.Int64 // the limit, or how far it was approached
	speed    speed
	place    atomic.Int32 // on the bench; written under mu

	ledger ledger
	lane   lane // calls that wait for this account, whose conversations it has in its cache

	// Guarded by mu.
	mu        sync.Mutex
	bench     *bench
	max       int   // configured limit; 0: learn
	ramp      int   // how many may be out while the limit is approached; 0: that is over
	rampedAt  int64 // when it last doubled
	rising    bool  // the limit was found to have moved up: it doubles as well
	peak      int   // most in flight since the last 429
	epoch     uint64
	wanted    bool          // somebody was turned away for want of room since the limit last changed
	successes int           // since then, while it was the bottleneck
	guessedIn atomic.Uint64 // the epoch that began when the limit was first guessed; 0: it was not
	proven    int           // of the calls that were out then, how many were answered
	refusedAt int           // the limit at the last 429
	tried     int           // what the limit was last raised to by one; 0: it was lowered since
	told      bool          // it follows from the text of the 429
	patience  int           // how many times slower to grow to it again
	strikes   int           // generations in a row with a 429 while there was room by our count
	coolUntil int64
	answers   int64
	refusals  int64
	shared    slotShare
}

func newSlot(m *modelPool, a *account) *slot {
	s := &slot{model: m, account: a, weight: a.weight, max: a.max, patience: 1}
	s.lane.unsteady = true // most calls never stand in it
	limit := a.max
	if limit == 0 {
		s.ramp = rampStart
		if limit = publishedLimits[m.model]; limit == 0 {
			limit = otherLimit
		}
	}
	s.limit.Store(int64(limit))
	a.mu.Lock()
	defer a.mu.Unlock()
	s.join(a.replica.Load())
	s.reached()
	a.slots = append(a.slots, s)
	return s
}

// sit gives the slot its place on a bench.
func (s *slot) sit(b *bench, i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bench = b
	s.place.Store(int32(i))
}

// worth says whether it is worth asking the slot for room. s.mu is held.
func (s *slot) worth(asking bool) {
	if i := int(s.place.Load()); asking {
		s.bench.ready.set(i)
	} else {
		s.bench.ready.clear(i)
	}
}

// reached tells choices how many calls may be out by now. s.mu is held.
func (s *slot) reached() {
	reach := s.limit.Load()
	if s.ramp > 0 {
		reach = min(reach, int64(s.ramp))
	}
	if reach = min(reach, int64(s.shared.permits)); reach != s.reach.Load() {
		s.reach.Store(reach)
	}
}

// load is how many calls are in flight of how many there may be, of all replicas
// together.
func (s *slot) load() (inFlight, limit int) { return int(s.inFlight.Load()), int(s.limit.Load()) }

// permits is how many calls there may be here.
func (s *slot) permits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(int(s.limit.Load()), s.shared.permits)
}

// permit is one call's place in a slot.
type permit struct {
	target
	epoch uint64
	told  int32 // the limit that a 429's text told; 0: none
	trial bool

	conversation uint64 // that counts in the crowd; 0: none

	takenAt   moment
	firstData time.Duration // of a stream
	tokens    int           // what the call was thought to come to, where that is capped
}

// take takes a place for the call. Without room it clears the slot's place in
// the set of those worth asking; what makes room sets it again.
func (s *slot) take(c *call, requestBytes int64, now time.Time) *permit {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account
	if until := s.asideUntilLocked(now); until > now.UnixNano() {
		s.turnAway(until)
		return nil
	}
	if !s.hasRoom(now) {
		s.turnAwayFull()
		return nil
	}
	k, until := a.pick(now)
	if k == nil {
		s.turnAway(until)
		return nil
	}
	tokens, until := a.quota.take(requestBytes, now)
	if until != 0 {
		s.turnAway(until)
		return nil
	}
	trial := !s.free() && a.trial.Load() != trialNone
	if trial && !a.trial.CompareAndSwap(trialDue, trialUnderWay) {
		a.quota.unsend(tokens, now)
		s.turnAway(farFuture) // the one that is under way will tell
		return nil
	}
	p := &c.permit
	if p.slot != nil { // an earlier attempt's: the trail points at it
		p = new(permit)
	}
	*p = permit{
		target: target{endpoint: c.to.place(), model: c.hostModel(), slot: s, key: k},
		epoch:  s.epoch, trial: trial, takenAt: momentOf(now), tokens: tokens,
	}
	n := int(s.inFlight.Add(1))
	s.peak = max(s.peak, s.out())
	if s.shared.replica != nil {
		s.shared.used(s, n)
	}
	c.to = &p.target
	return p
}

// turnAway has the slot not asked again before a time, farFuture if that is not known.
// s.mu is held.
func (s *slot) turnAway(until int64) {
	s.worth(false)
	lower(&s.model.thaw, until)
}

// turnAwayFull is turnAway for want of room. s.mu is held.
func (s *slot) turnAwayFull() {
	s.wanted = true
	s.worth(false)
	if s.shared.replica != nil {
		s.shared.starve(s)
	}
	if s.ramp > 0 && int(s.inFlight.Load()) < s.shared.permits {
		lower(&s.model.thaw, s.rampedAt+int64(rampEvery))
	}
}

// hasRoom reports whether one more call may be out. s.mu is held.
func (s *slot) hasRoom(now time.Time) bool {
	n := int(s.inFlight.Load())
	if n >= min(int(s.limit.Load()), s.shared.permits) {
		return false
	}
	if s.ramp == 0 || s.out() < s.ramp {
		return true
	}
	if s.rampedAt == 0 {
		s.rampedAt = now.UnixNano() // it starts to bind now
	}
	if now.UnixNano()-s.rampedAt < int64(rampEvery) {
		return false
	}
	s.rampedAt = now.UnixNano()
	if s.ramp *= 2; s.ramp >= int(s.limit.Load()) {
		s.ramp = 0
	}
	s.reached()
	return true
}

// asideUntil is when the slot may be used again; 0 if it may now.
func (s *slot) asideUntil(now time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asideUntilLocked(now)
}

func (s *slot) asideUntilLocked(now time.Time) int64 {
	a := s.account
	if a.disabled.Load() {
		return farFuture
	}
	until := max(s.coolUntil, a.quota.until(now))
	if !s.free() {
		until = max(until, a.brokeUntil.Load())
	}
	if until > now.UnixNano() {
		return until
	}
	return 0
}

// free reports whether the slot's calls cost nothing, so that they need no money and
// tell of none: those that name no model, such as for the balance.
func (s *slot) free() bool { return s.model.model == "" }

// state is what the slot is fit for.
func (s *slot) state(now time.Time) (State, int64) {
	state, until := s.account.state(now)
	if state != StateActive && state != StateOnTrial {
		return state, until
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := max(s.coolUntil, s.account.quota.until(now)); until > now.UnixNano() {
		return StateCooling, until
	}
	return state, 0
}

// offer has the slot looked at again.
func (s *slot) offer() {
	s.mu.Lock()
	s.worth(true)
	s.mu.Unlock()
	s.model.returned()
}

// warm ends a cooldown.
func (s *slot) warm() {
	s.mu.Lock()
	s.coolUntil, s.strikes = 0, 0
	s.worth(true)
	s.mu.Unlock()
	s.model.returned()
}

// response learns from a response before its place is free again, so that
// nobody takes that place in the old belief.
func (p *permit) response(c *call, resp *http.Response, v verdict) {
	a := p.slot.account
	if c.stream {
		p.firstData = p.takenAt.since()
	}
	if b, ok := resp.Body.(*memBody); ok && v.outcome == throttled {
		told, _ := toldLimit(b.data)
		p.told = int32(told)
	}
	switch v.outcome {
	case unauthorized, forbidden:
		a.keyAside(c, p.key, v.outcome, time.Now())
	case broke:
		a.ranOut(c, time.Now())
	case answered, rejected:
		if v.outcome == answered {
			p.slot.prove(p)
		}
		a.keyWorked(c, p.key)
		if p.trial {
			a.refilled(c.Context, c.watch, "trial")
		}
	}
}

// toldLimit finds the number in DeepSeek's 429: "… which exceeds your
// concurrency limit of 25 based on your remaining balance …". It appears
// nowhere else.
func toldLimit(body []byte) (int, bool) {
	const before = "concurrency limit of "
	i := bytes.Index(body, []byte(before))
	if i < 0 {
		return 0, false
	}
	n := 0
	for _, c := range body[i+len(before):] {
		if c < '0' || c > '9' || n > 1e8 {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n, n > 0
}

// finish gives the place back and lets the limit learn from how it went.
func (p *permit) finish(c *call, v verdict) {
	s := p.slot
	p.learn(c, v)
	s.mu.Lock()
	l := s.release(p, v)
	s.mu.Unlock()

	if p.trial && s.account.trial.CompareAndSwap(trialUnderWay, trialDue) { // however it ended, it settled nothing
		s.account.back()
	}
	if l.moved {
		for _, other := range s.model.bench.Load().slots {
			other.loosen()
		}
	}
	if l.to != l.from {
		c.watch.limit(c.Context, LimitEvent{Account: s.account.name, Model: s.model.model, From: l.from, To: l.to, InFlight: l.inFlight})
	}
	if l.cooled > 0 {
		if v.wait > 0 {
			s.account.tell(SharedFact{Model: s.model.model, Cause: cause429, For: l.cooled})
		}
		c.watch.cooldown(c.Context, CooldownEvent{Account: s.account.name, Model: s.model.model, State: StateCooling, Cause: cause429, For: l.cooled})
	}
	if p.conversation != 0 {
		s.model.crowd.at(p.conversation).Add(-1)
	}
	s.lane.room()
	s.model.lane.room()
}

// lesson is what a slot has learned from the end of a call.
type lesson struct {
	from, to int           // the limit, before and now
	inFlight int           // calls, by now
	moved    bool          // the limit was found to have moved up
	cooled   time.Duration // for how long the slot cools down now; 0: it does not
}

// release gives a place back and learns from how its call went. s.mu is held.
func (s *slot) release(p *permit, v verdict) (l lesson) {
	l.from = int(s.limit.Load())
	out := s.out()
	bottleneck := s.wanted && out >= l.from || s.model.lane.busy.Load() && (s.shared.replica == nil || out >= l.from)
	s.inFlight.Add(-1)
	switch v.outcome {
	case answered:
		s.answers++
		s.strikes = 0
		if bottleneck {
			was := s.rising
			s.grow(out)
			l.moved = s.rising && !was
		}
	case throttled:
		s.refusals++
		fresh := p.epoch == s.epoch // the first 429 of those that were out together
		if fresh {
			s.shrink(p)
		}
		l.cooled = s.strike(v, fresh)
		s.shared.refused(s)
	}
	if l.to = int(s.limit.Load()); l.to != l.from {
		s.shared.changed(s, l.from)
	}
	s.reached()
	s.worth(true)
	l.inFlight = int(s.inFlight.Load())
	return l
}

// prove corrects the first guess of a limit, made at the first 429: of the calls
// that were out together then, as many as are answered are allowed together.
func (s *slot) prove(p *permit) {
	if p.epoch+1 != s.guessedIn.Load() { // looked at first: it is for a moment in the slot's life
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.epoch+1 != s.guessedIn.Load() {
		return
	}
	if from := int(s.limit.Load()); s.proven+1 > from && s.epoch == p.epoch+1 {
		s.limit.Store(int64(s.proven + 1))
		s.shared.changed(s, from)
		s.reached()
	}
	s.proven++
}

// learn takes in how quick the account was and what of its quota was used.
func (p *permit) learn(c *call, v verdict) {
	at := v.when()
	prompt, answer := c.told()
	switch v.outcome {
	case answered:
		p.slot.speed.answered(p.firstData, at.sub(p.takenAt), answer, at)
		p.slot.model.pace.answered(p.slot.speed.delay())
	case fault:
		p.slot.speed.failed(at)
	}
	switch q := &p.slot.account.quota; {
	case !q.capped():
	case v.outcome == refused:
		q.unsend(p.tokens, time.Now())
	case prompt+answer > 0:
		q.settle(p.tokens, prompt, answer, time.Now())
	case v.outcome != answered && v.outcome != cancelled && v.outcome != fault: // it was not let in
		q.giveBack(p.tokens, time.Now())
	}
}

// grow raises the limit by one for a limit's worth of successes; more slowly
// where it was refused before. Once it was accepted there, the limit is known to
// have moved, nobody knows where to, and it is approached as it was at first.
// s.mu is held.
func (s *slot) grow(inFlight int) {
	limit := int(s.limit.Load())
	if s.max > 0 && limit >= s.max {
		return
	}
	s.successes++
	if s.rising {
		if inFlight >= limit && time.Now().UnixNano()-s.rampedAt >= int64(rampEvery) {
			s.raise(2 * limit)
		}
		return
	}
	needed := limit
	switch limit + 1 {
	case s.refusedAt - 1: // the number that the server itself told
		if s.told {
			needed = 1
		}
	case s.refusedAt:
		needed = max(limit, min(s.patience*limit, tryEvery))
	}
	if s.successes < needed {
		return
	}
	s.raise(limit + 1)
	s.tried = limit + 1
	if s.refusedAt > 0 && limit+1 > s.refusedAt {
		s.rising = true
		s.refusedAt, s.patience = 0, 1
	}
}

// raise sets a higher limit. s.mu is held.
func (s *slot) raise(to int) {
	if s.max > 0 {
		to = min(to, s.max)
	}
	s.successes, s.wanted = 0, false
	s.rampedAt = time.Now().UnixNano()
	s.limit.Store(int64(to))
}

// loosen has a limit that was confirmed tried again soon, because that of
// another account has moved.
func (s *slot) loosen() {
	s.mu.Lock()
	s.patience, s.successes = 1, int(s.limit.Load())
	s.mu.Unlock()
}

// shrink lowers the limit, once for all the calls that were out together.
// s.mu is held.
func (s *slot) shrink(p *permit) {
	s.epoch++
	s.successes = 0
	limit, ramp, peak := int(s.limit.Load()), s.ramp, s.peak
	if s.rising {
		ramp = limit
	}
	s.ramp, s.rising, s.peak = 0, false, s.out()
	next, refusedAt := int(p.told)-1, int(p.told)+1
	switch {
	case p.told > 0:
	case ramp > 0 && peak >= ramp/2:
		next, refusedAt = int(backOff*float64(peak)), peak
		s.guessedIn.Store(s.epoch)
		s.proven = 0
	case s.tried == limit && peak >= limit:
		next, refusedAt = limit-1, limit // one more was one too many
	case peak >= limit/2:
		refusedAt = min(peak, limit)
		next = min(refusedAt-1, int(decrease*float64(refusedAt)))
	default:
		// Far from any limit of ours, so this says little about it. Approach it
		// once more, from where we are.
		next, refusedAt = int(decrease*float64(limit)), 0
		s.ramp, s.rampedAt = max(1, s.peak), 0
	}
	s.told, s.tried = p.told > 0, 0
	next = max(1, min(next, limit))
	if refusedAt == s.refusedAt {
		s.patience = min(2*s.patience, maxPatience)
	} else {
		s.refusedAt, s.patience = refusedAt, 1
	}
	s.limit.Store(int64(next))
}

// strike has the slot cool down: for as long as the server asks, or, if it
// refused although by our count there was room (the account has other users),
// for a time that doubles. s.mu is held.
func (s *slot) strike(v verdict, fresh bool) time.Duration {
	d := min(v.wait, maxCooldown)
	switch {
	case d > 0:
	case s.shared.replica != nil && s.inFlight.Load() == 0:
		// Not even the one that every replica may have is let in.
		d = min(strikeFirst<<min(s.strikes, 8), strikeAlone)
		s.strikes++
	case !fresh || s.out() >= int(s.limit.Load()):
		return 0
	default:
		if s.strikes++; s.strikes <= strikeAfter {
			return 0
		}
		d = strikeMost
		if n := s.strikes - strikeAfter - 1; n < 16 {
			d = min(d, strikeFirst<<n)
		}
	}
	until := time.Now().Add(d).UnixNano()
	if until <= s.coolUntil { // a longer one is not made shorter
		return 0
	}
	s.coolUntil = until
	lower(&s.model.thaw, until)
	return d
}
