package otel

import (
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/genaiconv"
)

// instruments are what is measured when something happens; what there is at the
// moment of a scrape is in watch.go.
type instruments struct {
	duration, firstChunk, serverFirst, serverToken metric.Float64Histogram
	tokenUsage                                     metric.Int64Histogram
	waits                                          metric.Float64Histogram

	attempts, resumes, fallbacks, cacheUses, cooldowns, breakerChanges, storeErrors, unpriced metric.Int64Counter
	accountTokens, clientTokens                                                               metric.Int64Counter
	accountCost, clientCost, costSaved, costAvoided                                           metric.Float64Counter

	ofCalls    sets[callSeries]
	ofTokens   sets[tokenSeries]
	ofAttempts sets[attemptSeries]
	ofCharges  sets[chargeSeries]
	ofLabels   sets[labels]
}

// The bounds of histograms, as the conventions have them.
var (
	secondBounds   = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	tokenBounds    = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
	firstBounds    = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	perTokenBounds = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5}
)

func (n *instruments) make(m metric.Meter) error {
	var errs []error
	seconds := func(name, description string, bounds []float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	count := func(name, unit, description string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	money := func(name, description string) metric.Float64Counter {
		c, err := m.Float64Counter(name, metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	n.duration = seconds(genaiconv.ClientOperationDuration{}.Name(), genaiconv.ClientOperationDuration{}.Description(), secondBounds)
	n.firstChunk = seconds(genaiconv.ClientOperationTimeToFirstChunk{}.Name(), genaiconv.ClientOperationTimeToFirstChunk{}.Description(), secondBounds)
	n.serverFirst = seconds(genaiconv.ServerTimeToFirstToken{}.Name(), genaiconv.ServerTimeToFirstToken{}.Description(), firstBounds)
	n.serverToken = seconds(genaiconv.ServerTimePerOutputToken{}.Name(), genaiconv.ServerTimePerOutputToken{}.Description(), perTokenBounds)
	var err error
	n.tokenUsage, err = m.Int64Histogram(genaiconv.ClientTokenUsage{}.Name(), metric.WithUnit("{token}"),
		metric.WithDescription(genaiconv.ClientTokenUsage{}.Description()), metric.WithExplicitBucketBoundaries(tokenBounds...))
	errs = append(errs, err)

	n.waits = seconds("seawall.wait.duration", "Waits of calls: for room, before an attempt is made again.", secondBounds)
	n.attempts = count("seawall.attempts", "{attempt}", "Requests sent, by account and by what came of them.")
	n.resumes = count("seawall.resumes", "{resume}", "Answers that broke, and whether they were continued.")
	n.fallbacks = count("seawall.fallbacks", "{call}", "Calls that went on with another model.")
	n.cacheUses = count("seawall.cache.requests", "{call}", "Calls that the response cache was asked about.")
	n.storeErrors = count("seawall.cache.errors", "{error}", "Failures of the response cache's store.")
	n.cooldowns = count("seawall.cooldowns", "{event}", "Accounts and keys that were put aside, or came back.")
	n.breakerChanges = count("seawall.breaker.changes", "{event}", "Changes of a circuit's state.")
	n.accountTokens = count("seawall.account.tokens", "{token}", "Tokens used by all attempts, estimates included.")
	n.clientTokens = count("seawall.client.tokens", "{token}", "Tokens used for a client by all attempts, estimates included.")
	n.unpriced = count("seawall.account.unpriced", "{attempt}", "Attempts of a model whose price is not known, which no amount includes.")
	n.accountCost = money("seawall.account.cost", "Money spent on all attempts, estimates included.")
	n.clientCost = money("seawall.client.cost", "Money spent for a client on all attempts, estimates included.")
	n.costSaved = money("seawall.account.cost.saved", "What tokens from the context cache would have cost more without it.")
	n.costAvoided = money("seawall.cache.cost.avoided", "What answers would have cost that the response cache had.")

	n.ofCalls.attributes = callSeries.attributes
	n.ofTokens.attributes = tokenSeries.attributes
	n.ofAttempts.attributes = attemptSeries.attributes
	n.ofCharges.attributes = chargeSeries.attributes
	n.ofLabels.attributes = labels.attributes
	return errors.Join(errs...)
}

// sets keeps the attributes of series, so that measuring makes none. There are as
// many of them as there are series. Safe for concurrent use.
type sets[K comparable] struct {
	attributes func(K) []attribute.KeyValue
	mu         sync.RWMutex
	made       map[K]*measured // guarded by mu
}

// measured are the attributes of a series, as instruments want them.
type measured struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

func (s *sets[K]) of(key K) *measured {
	s.mu.RLock()
	m := s.made[key]
	s.mu.RUnlock()
	if m != nil {
		return m
	}
	set := metric.WithAttributeSet(attribute.NewSet(s.attributes(key)...))
	m = &measured{add: []metric.AddOption{set}, record: []metric.RecordOption{set}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil {
		s.made = map[K]*measured{}
	}
	s.made[key] = m
	return m
}

// callSeries are the attributes of a call, by the conventions.
type callSeries struct {
	operation            operation
	model, host, errType string
	cache                string // empty: there is none
}

func (s callSeries) attributes() []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 8)
	attrs = append(attrs, semconv.GenAIOperationNameKey.String(string(s.operation)), provider)
	attrs = appendName(attrs, semconv.GenAIRequestModelKey, s.model)
	attrs = appendServer(attrs, s.host)
	attrs = appendName(attrs, semconv.ErrorTypeKey, s.errType)
	return appendName(attrs, cacheKey, s.cache)
}

// tokenSeries are the attributes of some of a call's tokens, by the conventions.
type tokenSeries struct {
	callSeries
	kind string // input or output
	hit  string // whether input was in the context cache
}

func (s tokenSeries) attributes() []attribute.KeyValue {
	attrs := append(s.callSeries.attributes(), semconv.GenAITokenTypeKey.String(s.kind))
	return appendName(attrs, contextHitKey, s.hit)
}

type attemptSeries struct {
	endpoint, account, model, kind, errType string
}

func (s attemptSeries) attributes() []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 5)
	attrs = append(attrs, attemptKindKey.String(s.kind))
	attrs = appendName(attrs, endpointKey, s.endpoint)
	attrs = appendName(attrs, accountKey, s.account)
	attrs = appendName(attrs, semconv.GenAIRequestModelKey, s.model)
	return appendName(attrs, semconv.ErrorTypeKey, s.errType)
}

// chargeSeries are the attributes of what was spent by an account, or for a
// client.
type chargeSeries struct {
	endpoint, account, client, model string
	kind                             string // cache_hit, cache_miss or output; empty: all
	tariff                           string // peak or off_peak; empty for tokens
	currency                         string // empty for tokens
}

func (s chargeSeries) attributes() []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 6)
	attrs = appendName(attrs, endpointKey, s.endpoint)
	attrs = appendName(attrs, accountKey, s.account)
	attrs = appendName(attrs, clientKey, s.client)
	attrs = appendName(attrs, semconv.GenAIRequestModelKey, s.model)
	attrs = appendName(attrs, tokenKindKey, s.kind)
	attrs = appendName(attrs, tariffKey, s.tariff)
	return appendName(attrs, currencyKey, s.currency)
}

// labels are the attributes of what happens rarely: names with values, of which
// the empty ones are left out.
type labels [4]struct {
	key   attribute.Key
	value string
}

func (l labels) attributes() (attrs []attribute.KeyValue) {
	for _, one := range l {
		attrs = appendName(attrs, one.key, one.value)
	}
	return attrs
}
