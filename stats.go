package deepseek

import (
	"cmp"
	"slices"
	"time"
)

// Stats is a transport at one moment.
type Stats struct {
	Calls    int64 // calls entered
	InFlight int64 // calls that have not got their response yet; a stream's first data counts as one
	Waiting  int64 // of those, how many wait for room
	Answered int64 // calls that got a response below 400
	Failed   int64 // calls that got another response, or an error
	Attempts int64 // requests sent for calls that have ended, hedges included
	Resumed  int64 // answers that were continued, or begun anew, after they broke

	// LongestWait is the longest that any call now waiting for room has waited; 0 if
	// none waits.
	LongestWait time.Duration

	Hedges    int64 // hedges that are over
	HedgesWon int64 // of those, how many answered first

	RetryBudget float64 // retries left; -1 without a bound

	Spend    Spend  // what all attempts have cost that are over
	Currency string // of all amounts

	Cache CacheStats // zero without one

	Sharing *SharingStats // nil without other replicas

	Accounts  []AccountStats  // of all endpoints
	Breakers  []BreakerStats  // of all endpoints
	Endpoints []EndpointStats // in the order they were given
}

// EndpointStats is an endpoint at one moment.
type EndpointStats struct {
	Name     string         // see Endpoint.Name
	Priority int            // see Endpoint.Priority
	State    EndpointState  // how much of it is in use
	Accounts []AccountStats // in the order they were added
	Breakers []BreakerStats // by model; only of those that were called so far
	// Models tells how it has lately served them, by its own names; empty if it is
	// the only endpoint, to which requests go as they are.
	Models []EndpointModelStats
}

// EndpointState is how much of an endpoint is in use.
type EndpointState string

// The states of an endpoint.
const (
	EndpointUp       EndpointState = "up"
	EndpointImpaired EndpointState = "impaired" // a model's circuit is not closed, or an account is put aside
	EndpointDown     EndpointState = "down"     // the circuits of all its models are open, or all its accounts put aside
)

// EndpointModelStats is how an endpoint has lately served a model: averages over
// the last eight or so calls.
type EndpointModelStats struct {
	Model      string        // by the endpoint's own name for it
	FirstData  time.Duration // of streams, until their first data; 0: not known
	WholeBody  time.Duration // of answers that are no streams, until their end; 0: not known
	FaultShare float64       // of the calls, from 0 to 1
	Resting    time.Duration // how much longer the server asked not to be bothered
}

// AccountStats is an account at one moment.
type AccountStats struct {
	Name   string        // see Account.Name
	State  State         // what it is fit for
	For    time.Duration // how much longer, if the state ends by itself
	Spend  Spend         // over its models
	Keys   []KeyStats    // in the order they were added
	Models []SlotStats   // the models that were called so far, by name
}

// KeyStats is a key at one moment.
type KeyStats struct {
	Fingerprint string        // never the key
	State       State         // what it is fit for
	For         time.Duration // how much longer, if the state ends by itself
}

// SlotStats is an account's model at one moment.
type SlotStats struct {
	Model    string        // by the endpoint's own name for it
	InFlight int           // requests from send to the end of the response
	Limit    int           // configured or learned; of all replicas together
	Permits  int           // how much of it is for this one
	State    State         // what the account is fit for with this model
	For      time.Duration // how much longer, if the state ends by itself
	Answered int64         // complete answers
	Refused  int64         // 429s
	Spend    Spend         // what its attempts have cost that are over
}

// BreakerStats is a circuit at one moment.
type BreakerStats struct {
	Endpoint string        // its name
	Model    string        // by the endpoint's own name for it
	State    BreakerState  // what it does with calls
	For      time.Duration // until the next probe, if open
}

// Stats returns the transport as it is now. It is cheap enough for a scrape,
// not for every call.
func (t *Transport) Stats() Stats {
	s := Stats{
		Calls: t.calls.Load(), InFlight: t.inFlight.Load(), Waiting: t.queue.length.Load(),
		Answered: t.answered.Load(), Failed: t.failed.Load(), Attempts: t.attempts.Load(),
		LongestWait: t.queue.longest(time.Now()),
		RetryBudget: -1,
		Spend:       t.meter.Spend(), Currency: t.meter.Currency(),
	}
	for _, e := range t.endpoints {
		es := e.stats()
		s.Endpoints = append(s.Endpoints, es)
		s.Accounts = append(s.Accounts, es.Accounts...)
		s.Breakers = append(s.Breakers, es.Breakers...)
	}
	if t.retrier != nil && t.retrier.budget != nil {
		s.RetryBudget = t.retrier.budget.left()
	}
	s.Resumed = t.resumes.resumed.Load()
	s.Attempts += t.resumes.sent.Load()
	s.Hedges, s.HedgesWon = t.hedges.sent.Load(), t.hedges.won.Load()
	if t.cache != nil {
		s.Cache = t.cache.stats()
	}
	if r := t.options.replica; r != nil {
		s.Sharing = r.stats()
	}
	return s
}

func (e *endpoint) stats() EndpointStats {
	s := EndpointStats{Name: e.name, Priority: e.priority, State: EndpointUp, Accounts: e.pool.Stats()}
	if e.breaker != nil {
		s.Breakers = e.breaker.stats()
	}
	open, closed, fit := 0, 0, 0
	for _, b := range s.Breakers {
		switch b.State {
		case BreakerOpen:
			open++
		case BreakerClosed:
			closed++
		}
	}
	for _, a := range s.Accounts {
		if a.State == StateActive {
			fit++
		}
	}
	switch {
	case fit == 0 || open > 0 && open == len(s.Breakers):
		s.State = EndpointDown
	case fit < len(s.Accounts) || closed < len(s.Breakers):
		s.State = EndpointImpaired
	}
	now := time.Now()
	for model, h := range e.health.all() {
		s.Models = append(s.Models, h.stats(model, now))
	}
	slices.SortFunc(s.Models, func(a, b EndpointModelStats) int { return cmp.Compare(a.Model, b.Model) })
	return s
}

func (h *health) stats(model string, now time.Time) EndpointModelStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return EndpointModelStats{
		Model: model, FirstData: h.first[kind(true)], WholeBody: h.first[kind(false)],
		FaultShare: h.faultsAt(now), Resting: max(0, h.rest.Sub(now)),
	}
}

// Stats returns the accounts as they are now, in the order they were added.
func (p *Pool) Stats() []AccountStats {
	now := time.Now()
	accounts := *p.accounts.Load()
	stats := make([]AccountStats, len(accounts))
	for i, a := range accounts {
		s := &stats[i]
		s.Name = a.name
		var until int64
		s.State, until = a.state(now)
		s.For = left(now, until)
		for _, k := range a.ring().keys {
			state, until := k.state(now)
			s.Keys = append(s.Keys, KeyStats{Fingerprint: k.fingerprint, State: state, For: left(now, until)})
		}
		a.mu.Lock()
		slots := slices.Clone(a.slots)
		a.mu.Unlock()
		for _, sl := range slots {
			one := sl.stats(now)
			s.Spend.add(one.Spend)
			s.Models = append(s.Models, one)
		}
		slices.SortFunc(s.Models, func(a, b SlotStats) int { return cmp.Compare(a.Model, b.Model) })
	}
	return stats
}

func (s *slot) stats(now time.Time) SlotStats {
	state, until := s.state(now)
	inFlight, limit := s.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return SlotStats{
		Model: s.model.model, InFlight: inFlight, Limit: limit, Permits: min(limit, s.shared.permits), State: state, For: left(now, until),
		Answered: s.answers, Refused: s.refusals, Spend: s.ledger.spend(),
	}
}

func (b *breaker) stats() (all []BreakerStats) {
	now := time.Now()
	for model, k := range b.circuits.all() {
		k.mu.Lock()
		s := BreakerStats{Endpoint: b.name, Model: model, State: k.state}
		if k.state == BreakerOpen {
			s.For = max(0, k.until.Sub(now))
		}
		k.mu.Unlock()
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b BreakerStats) int { return cmp.Compare(a.Model, b.Model) })
	return all
}

// left is how long it is until a time; 0 for times past, unknown or never.
func left(now time.Time, until int64) time.Duration {
	if until == farFuture {
		return 0
	}
	return max(0, time.Duration(until-now.UnixNano()))
}
