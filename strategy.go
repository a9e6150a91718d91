package deepseek

import "time"

// Strategy chooses the account that serves a call. [Affinity], the default,
// [LeastLoaded] and [RoundRobin] are three; a caller's own may be given to
// [WithStrategy] and [NewPool].
type Strategy interface {
	// Choose returns the place in candidates of the account to use. The
	// candidates are accounts that have room for the call by what is known of
	// their limits, at least two and at most nine of them, in an order that goes
	// on by one account from call to call. An account that cannot be used at all
	// is not among them. They must not be kept. A place that does not exist
	// stands for the first.
	//
	// Choose is called at once by many goroutines, with no lock held.
	Choose(candidates []Candidate) int
}

// StrategyFunc is a function as a [Strategy].
type StrategyFunc func(candidates []Candidate) int

// Choose calls f.
func (f StrategyFunc) Choose(candidates []Candidate) int { return f(candidates) }

// choosing is how a pool chooses.
type choosing struct {
	strategy Strategy
	homing   bool // it may ask for a conversation's account
	patient  bool // and have a call wait for it
}

// chosenBy is how a pool chooses by s. Of a strategy that is not ours it is not known
// whether it asks for a conversation's account.
func chosenBy(s Strategy) *choosing {
	switch s.(type) {
	case Affinity, *Affinity:
		return &choosing{strategy: s, homing: true, patient: true}
	case RoundRobin, LeastLoaded:
		return &choosing{strategy: s}
	}
	return &choosing{strategy: s, homing: true}
}

// Candidate is an account that could serve a call, as it stands for the call's
// model.
type Candidate struct {
	slot *slot
	home bool
	own  bool // home, and the call would be the poorer elsewhere
}

// Account is the account's name.
func (c Candidate) Account() string { return c.slot.account.name }

// InFlight is how many calls the account has in flight.
func (c Candidate) InFlight() int { return int(c.slot.inFlight.Load()) }

// Limit is how many calls the account may have in flight, as configured or learned
// so far.
func (c Candidate) Limit() int { return int(c.slot.reach.Load()) }

// Weight is the account's configured weight.
func (c Candidate) Weight() int { return c.slot.weight }

// Home reports whether the call's conversation belongs to this account: it was
// there last, or is to begin there. What DeepSeek has of it in its context cache
// is there.
func (c Candidate) Home() bool { return c.home }

// Load is the share of the account's limit that is in use, divided by its weight.
func (c Candidate) Load() float64 {
	return float64(c.InFlight()) / float64(max(1, c.Limit())*c.Weight())
}

// Delay is how long an answer of ordinary length takes here, from the answers
// seen lately; 0 if there were none. Failures do not count, however quick.
func (c Candidate) Delay() time.Duration { return c.slot.speed.delay() }

// slowBy is how many times slower than usual an account is when it gets only
// what the others cannot take. Answers differ in length by far more, but what is
// compared is smoothed.
const slowBy = 3

// slow reports whether the account takes much longer for an answer than is
// usual for the model.
func (c Candidate) slow() bool {
	usual := c.slot.model.pace.usual()
	return usual > 0 && c.Delay() > slowBy*usual
}

// lame reports whether the account is slow or fails most of its calls, so that
// it should get only what the others cannot take. Now and then one call finds out
// whether that is still so.
func (c Candidate) lame() bool {
	return (c.slot.speed.failing() || c.slow()) && !c.slot.speed.worthATry(c.slot)
}
