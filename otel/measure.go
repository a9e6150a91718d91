package otel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seawall-go/deepseek"
)

// kindOf is why an attempt was made.
func (k *track) kindOf(a deepseek.Attempt) string {
	switch {
	case a.Hedge:
		return "hedge"
	case a.Continues:
		return "continuation"
	case a.Fallback:
		return "fallback"
	}
	if k == nil {
		return "first"
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.plain++; k.plain > 1 {
		return "retry"
	}
	return "first"
}

func (t *Telemetry) attempt(e deepseek.AttemptEvent) {
	k := t.trackOf(e.Context)
	kind, errType := k.kindOf(e.Attempt), errorTypeOf(e.Attempt)
	if k != nil && k.operation.generates() && errType == "" && e.Status < 300 {
		t.models.answered(e.Attempt.Model)
		if e.Stream {
			s := callSeries{operation: k.operation, model: t.models.name(e.Attempt.Model), host: t.server(e.Endpoint)}
			t.serverFirst.Record(e.Context, e.Duration.Seconds(), t.ofCalls.of(s).record...)
		}
	}
	s := attemptSeries{endpoint: e.Endpoint, account: e.Account, model: t.models.name(e.Attempt.Model), kind: kind, errType: errType}
	t.attempts.Add(e.Context, 1, t.ofAttempts.of(s).add...)
	if k != nil {
		k.attemptSpan(e, kind, errType)
	}
}

func (t *Telemetry) charge(e deepseek.ChargeEvent) {
	ctx := e.Context
	s := chargeSeries{endpoint: e.Endpoint, account: e.Account, model: t.models.name(e.Model)}
	if e.Unpriced {
		t.unpriced.Add(ctx, 1, t.ofCharges.of(s).add...)
	}
	tariff := "off_peak"
	if e.Peak {
		tariff = "peak"
	}
	client := t.client(ctx)
	for _, part := range [...]struct {
		kind   string
		tokens int
		amount deepseek.Money
	}{
		{"cache_hit", e.Usage.PromptCacheHitTokens, e.CacheHit},
		{"cache_miss", e.Usage.PromptCacheMissTokens, e.CacheMiss},
		{"output", e.Usage.CompletionTokens, e.Output},
	} {
		if part.tokens == 0 {
			continue
		}
		s.kind, s.tariff, s.currency = part.kind, "", ""
		priced := s
		priced.tariff, priced.currency = tariff, e.Currency
		t.accountTokens.Add(ctx, int64(part.tokens), t.ofCharges.of(s).add...)
		if !e.Unpriced {
			t.accountCost.Add(ctx, part.amount.Float64(), t.ofCharges.of(priced).add...)
		}
		if client == "" {
			continue
		}
		mine, minePriced := s, priced
		mine.endpoint, mine.account, mine.client = "", "", client
		minePriced.endpoint, minePriced.account, minePriced.client = "", "", client
		t.clientTokens.Add(ctx, int64(part.tokens), t.ofCharges.of(mine).add...)
		if !e.Unpriced {
			t.clientCost.Add(ctx, part.amount.Float64(), t.ofCharges.of(minePriced).add...)
		}
	}
	if e.Saved != 0 {
		s.kind, s.tariff, s.currency = "", "", e.Currency
		t.costSaved.Add(ctx, e.Saved.Float64(), t.ofCharges.of(s).add...)
	}
}

func (t *Telemetry) wait(e deepseek.WaitEvent) {
	t.waits.Record(e.Context, e.Wait.Seconds(), t.ofLabels.of(labels{
		{waitReasonKey, e.Reason}, {semconv.GenAIRequestModelKey, t.models.name(e.Model)},
	}).record...)
	t.event(e.Context, "wait", func() []attribute.KeyValue {
		return []attribute.KeyValue{waitReasonKey.String(e.Reason), waitKey.Float64(e.Wait.Seconds())}
	})
}

func (t *Telemetry) resume(e deepseek.ResumeEvent) {
	outcome := "continued"
	switch {
	case e.Refused != nil:
		outcome = "refused"
	case e.Kept == 0:
		outcome = "begun_anew"
	}
	t.resumes.Add(e.Context, 1, t.ofLabels.of(labels{
		{resumeKey, outcome}, {semconv.GenAIRequestModelKey, t.models.name(e.Model)},
	}).add...)
	t.event(e.Context, "resume", func() []attribute.KeyValue {
		attrs := []attribute.KeyValue{resumeKey.String(outcome), keptKey.Int(e.Kept), causeKey.String(textOf(e.Cause))}
		if e.Refused != nil {
			attrs = append(attrs, errorTextKey.String(textOf(e.Refused)))
		}
		return attrs
	})
	if k := t.trackOf(e.Context); k != nil {
		k.broke(e.Cause, false)
	}
}

func (t *Telemetry) fallback(e deepseek.FallbackEvent) {
	t.fallbacks.Add(e.Context, 1, t.ofLabels.of(labels{
		{semconv.GenAIRequestModelKey, t.models.name(e.From)}, {fallbackKey, t.models.name(e.To)}, {causeKey, e.Cause},
	}).add...)
	t.event(e.Context, "fallback", func() []attribute.KeyValue {
		return []attribute.KeyValue{fallbackKey.String(shortened(e.To)), causeKey.String(e.Cause)}
	})
}

func (t *Telemetry) cooldown(e deepseek.CooldownEvent) {
	t.cooldowns.Add(e.Context, 1, t.ofLabels.of(labels{
		{accountKey, e.Account}, {stateKey, string(e.State)}, {causeKey, e.Cause},
	}).add...)
	t.event(e.Context, "cooldown", func() []attribute.KeyValue {
		attrs := []attribute.KeyValue{accountKey.String(e.Account), stateKey.String(string(e.State)), causeKey.String(e.Cause), forKey.Float64(e.For.Seconds())}
		return appendName(attrs, keyKey, e.Key)
	})
}

func (t *Telemetry) limit(e deepseek.LimitEvent) {
	t.event(e.Context, "limit", func() []attribute.KeyValue {
		return []attribute.KeyValue{accountKey.String(e.Account), limitWasKey.Int(e.From), limitKey.Int(e.To)}
	})
}

func (t *Telemetry) breaker(e deepseek.BreakerEvent) {
	t.breakerChanges.Add(e.Context, 1, t.ofLabels.of(labels{
		{endpointKey, e.Endpoint}, {semconv.GenAIRequestModelKey, t.models.name(e.Model)}, {stateKey, string(e.To)},
	}).add...)
	t.event(e.Context, "breaker", func() []attribute.KeyValue {
		attrs := []attribute.KeyValue{stateWasKey.String(string(e.From)), stateKey.String(string(e.To)), forKey.Float64(e.OpenFor.Seconds())}
		return appendName(attrs, endpointKey, e.Endpoint)
	})
}

func (t *Telemetry) storeError(e deepseek.StoreErrorEvent) {
	t.storeErrors.Add(e.Context, 1, t.ofLabels.of(labels{{storeOpKey, e.Op}}).add...)
	t.event(e.Context, "cache store failed", func() []attribute.KeyValue {
		return []attribute.KeyValue{storeOpKey.String(e.Op), errorTextKey.String(textOf(e.Err))}
	})
}

func (t *Telemetry) callEnd(e deepseek.CallEndEvent) {
	ctx := e.Context
	k := t.trackOf(ctx)
	if k == nil { // it began where nobody was asked for a context
		k = &track{Context: ctx, of: t, operation: operationOf(e.Path), span: tracenoop.Span{}}
	}
	if e.Err == nil && e.Cancelled { // while its answer was read, or before: the context knows which
		e.Err = ctx.Err()
	}
	errType := errorType(e.Status, e.Err, e.Cancelled)
	if e.Cache != "" {
		t.cacheUses.Add(ctx, 1, t.ofLabels.of(labels{
			{cacheKey, string(e.Cache)}, {semconv.GenAIRequestModelKey, t.models.name(e.Model)},
		}).add...)
	}
	if e.Cost.Avoided != 0 {
		t.costAvoided.Add(ctx, e.Cost.Avoided.Float64(), t.ofLabels.of(labels{{currencyKey, e.Cost.Currency}}).add...)
	}
	if k.operation.generates() {
		t.generation(ctx, k.operation, e, errType)
	}
	k.callSpan(e, errType)
}

// generation measures a call whose answer a model writes.
func (t *Telemetry) generation(ctx context.Context, o operation, e deepseek.CallEndEvent, errType string) {
	if e.Status >= 200 && e.Status < 300 && e.Err == nil {
		t.models.answered(e.Model)
	}
	s := callSeries{operation: o, model: t.models.name(e.Model), cache: string(e.Cache)}
	continued := false
	for _, a := range e.Attempts {
		if !a.Lost {
			s.host = t.server(a.Endpoint)
		}
		continued = continued || a.Continues
	}
	whole := s
	whole.errType = errType
	t.duration.Record(ctx, e.Duration.Seconds(), t.ofCalls.of(whole).record...)
	if e.Stream && e.Status < 300 && e.Status != 0 {
		t.firstChunk.Record(ctx, e.FirstData.Seconds(), t.ofCalls.of(s).record...)
	}
	u := e.Usage
	if u == nil || e.Cache == deepseek.CacheHit {
		return
	}
	s.cache = ""
	record := func(n int, kind, hit string) {
		if n > 0 {
			t.tokenUsage.Record(ctx, int64(n), t.ofTokens.of(tokenSeries{s, kind, hit}).record...)
		}
	}
	record(u.PromptCacheHitTokens, "input", "hit")
	record(u.PromptCacheMissTokens, "input", "miss")
	record(u.CompletionTokens, "output", "")
	if e.Stream && errType == "" && u.CompletionTokens > 1 && e.Cache != deepseek.CacheShared && !continued {
		t.serverToken.Record(ctx, (e.Duration-e.FirstData).Seconds()/float64(u.CompletionTokens-1), t.ofCalls.of(s).record...)
	}
}
