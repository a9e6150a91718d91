package deepseek

import (
	"context"
	"slices"
	"time"
)

// fromAfar is the cause of what another replica has told.
const fromAfar = ", told by another replica"

// learn takes in what others have told of accounts and keys.
func (r *Replica) learn(facts []SharedFact, w watchers) {
	if len(facts) == 0 {
		return
	}
	r.mu.Lock()
	pools := r.pools
	facts = slices.DeleteFunc(slices.Clone(facts), func(f SharedFact) bool {
		_, newer := r.news[f.name()] // our own
		return newer
	})
	r.mu.Unlock()
	byID := map[string]*account{}
	for _, p := range pools {
		for _, a := range *p.accounts.Load() {
			byID[a.id] = a
		}
	}
	now := time.Now()
	for _, f := range facts {
		f.For = max(0, min(f.For, lasts(f.Cause)))
		if a := byID[f.Account]; a != nil {
			a.learn(f, w, now, r.policy.Interval)
		}
	}
}

// learn takes in what another replica has found out about the account. wayBack is how
// much later what was told from here may come back.
func (a *account) learn(f SharedFact, w watchers, now time.Time, wayBack time.Duration) {
	switch {
	case f.Cause == cause402 && f.For > 0:
		a.broke(context.Background(), w, f.Cause+fromAfar, f.For, now) // its balance may be looked at at once
	case f.Cause == cause402:
		a.restore(context.Background(), w, "money"+fromAfar)
	case f.Cause == cause401, f.Cause == cause403:
		a.learnKey(f, w, now)
	case f.Cause == cause429:
		a.mu.Lock()
		i := slices.IndexFunc(a.slots, func(s *slot) bool { return s.model.model == f.Model })
		var s *slot
		if i >= 0 {
			s = a.slots[i]
		}
		a.mu.Unlock()
		if s != nil {
			s.learn(f, w, now, wayBack)
		}
	}
}

func (a *account) learnKey(f SharedFact, w watchers, now time.Time) {
	for _, k := range a.ring().keys {
		if k.fingerprint != f.Key {
			continue
		}
		e := CooldownEvent{Account: a.name, Key: f.Key, State: StateActive, Cause: "success" + fromAfar, For: f.For}
		until := &k.unauthorizedUntil
		if f.Cause == cause403 {
			until = &k.forbiddenUntil
		}
		was, _ := k.state(now)
		if f.For > 0 {
			e.Cause = f.Cause + fromAfar
			later(until, now.Add(f.For).UnixNano())
		} else {
			until.Store(0)
		}
		if e.State, _ = k.state(now); e.State == was {
			return
		}
		if e.State == StateActive {
			a.keyBack(k)
		}
		w.cooldown(context.Background(), e)
		return
	}
}

// learn takes in that the slot is to cool down, or no longer.
func (s *slot) learn(f SharedFact, w watchers, now time.Time, wayBack time.Duration) {
	if f.For == 0 {
		s.warm()
		return
	}
	until := now.Add(f.For).UnixNano()
	s.mu.Lock()
	// What was told from here comes back, later by the way there and back.
	longer := until > s.coolUntil+int64(wayBack)
	if longer {
		s.coolUntil = until
	}
	s.mu.Unlock()
	if longer {
		w.cooldown(context.Background(), CooldownEvent{Account: s.account.name, Model: f.Model, State: StateCooling, Cause: f.Cause + fromAfar, For: f.For})
	}
}

// tellAll tells what is known of all accounts: to a state that knows nothing.
func (r *Replica) tellAll() {
	r.mu.Lock()
	pools := r.pools
	r.mu.Unlock()
	now := time.Now()
	for _, p := range pools {
		for _, a := range *p.accounts.Load() {
			if facts := a.facts(now); len(facts) > 0 {
				a.tell(facts...)
			}
		}
	}
}

// facts are what the account, its keys and its models are put aside for.
func (a *account) facts(now time.Time) (facts []SharedFact) {
	add := func(f SharedFact, until int64) {
		if f.For = time.Duration(until - now.UnixNano()); until > now.UnixNano() && f.For <= lasts(f.Cause) {
			facts = append(facts, f)
		}
	}
	add(SharedFact{Cause: cause402}, a.brokeUntil.Load())
	for _, k := range a.ring().keys {
		add(SharedFact{Key: k.fingerprint, Cause: cause401}, k.unauthorizedUntil.Load())
		add(SharedFact{Key: k.fingerprint, Cause: cause403}, k.forbiddenUntil.Load())
	}
	a.mu.Lock()
	slots := slices.Clone(a.slots)
	a.mu.Unlock()
	for _, s := range slots {
		s.mu.Lock()
		until := s.coolUntil
		s.mu.Unlock()
		add(SharedFact{Model: s.model.model, Cause: cause429}, until)
	}
	return facts
}
