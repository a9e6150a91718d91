package deepseek

import (
	"reflect"
	"slices"
)

// Successor returns a transport with other options that goes on where t is. It is
// for programs that change their configuration while they run: what was learned
// would be learned anew at the price of 429s.
//
// It has t's connections, if neither has [WithTransport]; its counts, and its spend if
// the currency is the same; its waiting room, with those who wait in it; its retry
// budget, its cache and what hedging has learned, each if its policy is the same; for
// an endpoint of the same name and base URL, what was measured of it; and, if its
// authorization is the same too, its breaker, if its policy is the same, and its
// [Pool], in which now are the new options' accounts and strategy. Of these accounts,
// one that was there before keeps what is known of it and of the keys that it still
// has; one with other limits or weight than before begins anew. It is told by its
// name, or by its first key if it was given none. The rate limit begins anew.
//
// Calls under way in t end as they began, with whatever accounts there are by
// now. If there is an error, nothing has changed.
func (t *Transport) Successor(opts ...Option) (*Transport, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	next, err := newParts(c)
	if err != nil {
		return nil, err
	}
	if err := c.replica.claim(t.counts); err != nil {
		return nil, err
	}
	next.inherit(t)
	next.assemble()
	c.replica.join(next)
	if was := t.options.replica; was != c.replica {
		was.release()
	}
	return next, nil
}

// inherit takes over what old has that fits. Nothing in it can fail.
func (t *Transport) inherit(old *Transport) {
	t.counts = old.counts
	if t.options.base == nil && old.options.base == nil {
		t.base = old.base
	}
	for _, e := range t.endpoints {
		for _, was := range old.endpoints {
			if e.name == was.name {
				e.inherit(was)
			}
		}
	}
	old.queue.policy.Store(t.queue.policy.Load())
	t.queue = old.queue
	if t.limit != nil && old.limit != nil {
		old.limit.max.Store(t.limit.max.Load())
		t.limit = old.limit
		t.limit.lane.room()
	}
	if t.retrier != nil && old.retrier != nil && t.retrier.policy.Budget == old.retrier.policy.Budget {
		t.retrier.budget = old.retrier.budget
	}
	if t.hedger != nil {
		t.hedger.counts = &t.counts.hedges
		if old.hedger != nil {
			t.hedger.inherit(old.hedger)
		}
	}
	if t.cache != nil && old.cache != nil && reflect.DeepEqual(t.options.cache, old.options.cache) {
		t.cache = old.cache
	}
	if t.resumer != nil {
		t.resumer.counts = &t.counts.resumes
		if old.resumer != nil && *t.options.resume == *old.options.resume {
			t.resumer = old.resumer
		}
	}
	if t.meter.Currency() == old.meter.Currency() {
		t.meter.total = old.meter.total
		return
	}
	for _, e := range t.endpoints {
		e.pool.countAnew(t.meter.Currency())
	}
}

// countAnew has what the accounts spend counted anew, in another currency.
func (p *Pool) countAnew(currency string) {
	for _, a := range *p.accounts.Load() {
		a.mu.Lock()
		for _, s := range a.slots {
			s.ledger.anew(currency)
		}
		a.mu.Unlock()
	}
}

// inherit takes over what the endpoint of that name has that fits.
func (e *endpoint) inherit(old *endpoint) {
	if *e.base != *old.base {
		return
	}
	e.health.values.Store(old.health.values.Load()) // how fast and well it serves
	if e.pool.auth != old.pool.auth {
		return
	}
	old.pool.become(e.pool)
	e.pool = old.pool
	if e.breaker != nil && old.breaker != nil && e.breaker.policy == old.breaker.policy {
		e.breaker = old.breaker
	}
}

// become gives the pool the accounts of fresh, in their order, and its strategy.
// Those that it had before, alike in all but their keys, stay what they are.
func (p *Pool) become(fresh *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choosing.Store(fresh.choosing.Load())
	had := make(map[string]*account, len(p.byName)) // by what they are known by, which is no number
	for _, a := range p.byName {
		had[a.id] = a
	}
	p.byName, p.byKey = map[string]*account{}, map[string]*account{}
	accounts := slices.Clone(*fresh.accounts.Load())
	given := map[string]bool{} // names
	for _, a := range accounts {
		given[a.name] = given[a.name] || a.id == a.name
	}
	for i, a := range accounts {
		// One that has a number for its name, which another was given now, begins anew:
		// calls may be reading it.
		if old := had[a.id]; old != nil && old.sameButKeys(a) && (old.id == old.name || !given[old.name]) {
			old.setKeys(old.ring().keysOf(a.ring()))
			delete(had, a.id)
			accounts[i], p.byName[old.name] = old, old
		}
	}
	for _, gone := range had {
		gone.disabled.Store(true)
	}
	for _, a := range accounts {
		if p.byName[a.name] != a {
			a.pool = p
			for a.id != a.name && (p.byName[a.name] != nil || given[a.name]) { // another has its number
				a.name = p.nextName()
			}
			p.byName[a.name] = a
		}
		for _, k := range a.ring().keys {
			p.byKey[k.plain[0]] = a
		}
	}
	p.setAccounts(accounts)
}

// sameButKeys reports whether two accounts have the same limits and weight.
func (a *account) sameButKeys(b *account) bool {
	return a.max == b.max && a.weight == b.weight &&
		a.quota.requestsPerMinute == b.quota.requestsPerMinute && a.quota.tokensPerMinute == b.quota.tokensPerMinute
}
