package deepseek

import (
	"sync"
)

// Cost is what a call has cost, over all its attempts.
type Cost struct {
	Amount   Money  // estimates included
	Currency string // of all amounts; empty if nothing was priced
	// Saved is what the tokens read from the context cache would have cost more
	// as misses.
	Saved Money
	// Avoided is what the answer had cost that the response cache had, or that
	// was shared with another call.
	Avoided Money
	// Estimated: at least one attempt ended without telling its usage, though it
	// may have been billed. See [Meter].
	Estimated bool
	// Unpriced: at least one attempt was of a model whose price is not known. It
	// is not in Amount.
	Unpriced bool
}

// String is the amount and its currency, such as "0.0153 USD", with a mark if it
// is estimated or not all of it.
func (c Cost) String() string {
	s := c.Amount.String()
	if c.Currency != "" {
		s += " " + c.Currency
	}
	if c.Estimated {
		s = "~" + s
	}
	if c.Unpriced {
		s += "+?"
	}
	return s
}

func (c Cost) plus(d Cost) Cost {
	c.Amount += d.Amount
	c.Saved += d.Saved
	c.Avoided += d.Avoided
	c.Estimated = c.Estimated || d.Estimated
	c.Unpriced = c.Unpriced || d.Unpriced
	if c.Currency == "" {
		c.Currency = d.Currency
	}
	return c
}

// Spend is a sum of what was spent, on tokens and in money.
type Spend struct {
	Amount    Money // estimates included
	Estimated Money // how much of Amount is estimated
	Saved     Money // by the context cache: see [Cost]

	Attempts int64 // that cost something, or may have
	Unpriced int64 // of those, how many were of a model without a price, and are in no amount

	// Tokens, estimates included.
	CacheHitTokens  int64
	CacheMissTokens int64
	OutputTokens    int64
}

func (s *Spend) add(t Spend) {
	s.Amount += t.Amount
	s.Estimated += t.Estimated
	s.Saved += t.Saved
	s.Attempts += t.Attempts
	s.Unpriced += t.Unpriced
	s.CacheHitTokens += t.CacheHitTokens
	s.CacheMissTokens += t.CacheMissTokens
	s.OutputTokens += t.OutputTokens
}

// ledger is a running sum in one currency. The zero value is ready; safe for
// concurrent use.
type ledger struct {
	mu       sync.Mutex
	sum      Spend  // guarded by mu
	currency string // empty: that of the first; guarded by mu
}

// add leaves out what is in another currency: of a call that began before that was
// changed.
func (l *ledger) add(s Spend, currency string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.currency == "" {
		l.currency = currency
	}
	if l.currency == currency {
		l.sum.add(s)
	}
}

// anew begins anew in another currency.
func (l *ledger) anew(currency string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum, l.currency = Spend{}, currency
}

func (l *ledger) spend() Spend {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sum
}
