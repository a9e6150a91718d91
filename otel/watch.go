package otel

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"

	"github.com/seawall-go/deepseek"
)

// Watch adds the metrics of what a transport is at the moment of a scrape: calls in
// flight and waiting, limits, the states of accounts and circuits. stats is mostly
// a [deepseek.Transport]'s method; a program that replaces its transport by a
// successor asks the one that there is. stop ends it.
func (t *Telemetry) Watch(stats func() deepseek.Stats) (stop func() error, err error) {
	var g gauges
	if err := g.make(t.meter); err != nil {
		return nil, err
	}
	r, err := t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		g.observe(o, stats(), t.models)
		return nil
	}, g.all...)
	if err != nil {
		return nil, err
	}
	return r.Unregister, nil
}

// gauges are what there is to be seen of a transport's statistics.
type gauges struct {
	all []metric.Observable

	calls, waiting                       metric.Int64ObservableGauge
	budget                               metric.Float64ObservableGauge
	inFlight, limit, keys, accountState  metric.Int64ObservableGauge
	circuit, endpointState               metric.Int64ObservableGauge
	cacheEntries, cacheBytes             metric.Int64ObservableGauge
	hedges, hedgesWon, resumed, requests metric.Int64ObservableCounter
}

func (g *gauges) make(m metric.Meter) error {
	var errs []error
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		i, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs, g.all = append(errs, err), append(g.all, i)
		return i
	}
	counter := func(name, unit, description string) metric.Int64ObservableCounter {
		i, err := m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs, g.all = append(errs, err), append(g.all, i)
		return i
	}
	g.requests = counter("seawall.calls", "{call}", "Calls that have entered the transport.")
	g.calls = gauge("seawall.calls.in_flight", "{call}", "Calls that have not got their response yet; a stream's first data counts as one.")
	g.waiting = gauge("seawall.queue.length", "{call}", "Calls that wait for room.")
	var err error
	g.budget, err = m.Float64ObservableGauge("seawall.retry.budget", metric.WithUnit("{retry}"), metric.WithDescription("Retries left beyond what success pays for."))
	errs, g.all = append(errs, err), append(g.all, g.budget)
	g.hedges = counter("seawall.hedges", "{attempt}", "Hedges that are over.")
	g.hedgesWon = counter("seawall.hedges.won", "{attempt}", "Hedges that answered first.")
	g.resumed = counter("seawall.resumed", "{call}", "Answers that went on after they broke.")
	g.inFlight = gauge("seawall.account.in_flight", "{request}", "Requests of an account and model that are under way.")
	g.limit = gauge("seawall.account.limit", "{request}", "How many requests of an account and model may be under way, as configured or learned.")
	g.accountState = gauge("seawall.account.state", "", "1 for the state that an account is in, 0 for the others.")
	g.keys = gauge("seawall.account.keys", "{key}", "Keys of an account, by state.")
	g.circuit = gauge("seawall.breaker.state", "", "1 for the state that an endpoint's circuit for a model is in, 0 for the others.")
	g.endpointState = gauge("seawall.endpoint.state", "", "1 for the state that an endpoint is in, 0 for the others.")
	g.cacheEntries = gauge("seawall.cache.entries", "{answer}", "Answers that the response cache keeps in memory.")
	g.cacheBytes = gauge("seawall.cache.size", "By", "What they take.")
	return errors.Join(errs...)
}

// The states that there are; of circuits the worse ones come first.
var (
	accountStates = []deepseek.State{
		deepseek.StateActive, deepseek.StateCooling, deepseek.StateOutOfBalance, deepseek.StateUnauthorized, deepseek.StateOnTrial, deepseek.StateDisabled,
	}
	breakerStates  = []deepseek.BreakerState{deepseek.BreakerOpen, deepseek.BreakerHalfOpen, deepseek.BreakerRecovering, deepseek.BreakerClosed}
	endpointStates = []deepseek.EndpointState{deepseek.EndpointUp, deepseek.EndpointImpaired, deepseek.EndpointDown}
)

func (g *gauges) observe(o metric.Observer, s deepseek.Stats, names *models) {
	o.ObserveInt64(g.requests, s.Calls)
	o.ObserveInt64(g.calls, s.InFlight)
	o.ObserveInt64(g.waiting, s.Waiting)
	if s.RetryBudget >= 0 {
		o.ObserveFloat64(g.budget, s.RetryBudget)
	}
	o.ObserveInt64(g.hedges, s.Hedges)
	o.ObserveInt64(g.hedgesWon, s.HedgesWon)
	o.ObserveInt64(g.resumed, s.Resumed)
	if s.Cache != (deepseek.CacheStats{}) {
		o.ObserveInt64(g.cacheEntries, int64(s.Cache.Entries))
		o.ObserveInt64(g.cacheBytes, s.Cache.Bytes)
	}
	for _, e := range s.Endpoints {
		endpoint := endpointKey.String(e.Name)
		for _, state := range endpointStates {
			o.ObserveInt64(g.endpointState, one(state == e.State), metric.WithAttributes(endpoint, stateKey.String(string(state))))
		}
		for _, a := range e.Accounts {
			g.account(o, a, names, endpoint, accountKey.String(a.Name))
		}
		g.breakers(o, e.Breakers, names, endpoint)
	}
}

func (g *gauges) account(o metric.Observer, a deepseek.AccountStats, names *models, attrs ...attribute.KeyValue) {
	with := func(more ...attribute.KeyValue) metric.ObserveOption {
		return metric.WithAttributes(append(slices.Clone(attrs), more...)...)
	}
	keys := map[deepseek.State]int64{}
	for _, k := range a.Keys {
		keys[k.State]++
	}
	for _, state := range accountStates {
		o.ObserveInt64(g.accountState, one(state == a.State), with(stateKey.String(string(state))))
		if n := keys[state]; n > 0 {
			o.ObserveInt64(g.keys, n, with(stateKey.String(string(state))))
		}
	}
	others := int64(-1)
	for _, m := range a.Models {
		model := names.name(m.Model)
		if model == other { // each has a limit of its own, which nobody wants to see
			others = max(others, 0) + int64(m.InFlight)
			continue
		}
		named := with(appendName(nil, semconv.GenAIRequestModelKey, model)...)
		o.ObserveInt64(g.inFlight, int64(m.InFlight), named)
		o.ObserveInt64(g.limit, int64(m.Limit), named)
	}
	if others >= 0 {
		o.ObserveInt64(g.inFlight, others, with(semconv.GenAIRequestModel(other)))
	}
}

// breakers tells the circuits of an endpoint; those of models without a name of
// their own as one, in the worst state of any.
func (g *gauges) breakers(o metric.Observer, all []deepseek.BreakerStats, names *models, endpoint attribute.KeyValue) {
	now := map[string]deepseek.BreakerState{}
	for _, b := range all {
		model := names.name(b.Model)
		if was, ok := now[model]; !ok || cmp.Less(slices.Index(breakerStates, b.State), slices.Index(breakerStates, was)) {
			now[model] = b.State
		}
	}
	for model, is := range now {
		for _, state := range breakerStates {
			o.ObserveInt64(g.circuit, one(state == is), metric.WithAttributes(appendName([]attribute.KeyValue{endpoint, stateKey.String(string(state))}, semconv.GenAIRequestModelKey, model)...))
		}
	}
}

func one(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
