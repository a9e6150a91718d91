package otel

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seawall-go/deepseek"
)

// track is a call that is being told of. It is the call's context, so that all
// that is told of the call later finds it.
type track struct {
	context.Context // with the span in it, if there is one
	of              *Telemetry
	operation       operation
	span            trace.Span // never nil

	mu      sync.Mutex
	begun   int        // attempts
	plain   int        // of those that are told of, how many were neither hedges nor the like
	reading trace.Span // of the attempt whose answer is being read; nil if there is none
	over    bool
}

// trackKey finds the *track among a context's values. There may be one of each
// telemetry: a transport can have several.
type trackKey struct{ of *Telemetry }

func (k *track) Value(key any) any {
	if own, ok := key.(trackKey); ok && own.of == k.of {
		return k
	}
	return k.Context.Value(key)
}

func (t *Telemetry) trackOf(ctx context.Context) *track {
	k, _ := ctx.Value(trackKey{t}).(*track)
	return k
}

// attempt is the context of an attempt that has a span. Which span that is, it knows
// itself: the one that a context tells is anybody's.
type attempt struct {
	context.Context
	of   *Telemetry
	span trace.Span
}

// attemptKey finds the *attempt among a context's values, as trackKey does a track.
type attemptKey struct{ of *Telemetry }

func (a *attempt) Value(key any) any {
	if own, ok := key.(attemptKey); ok && own.of == a.of {
		return a
	}
	return a.Context.Value(key)
}

func (t *Telemetry) attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{t}).(*attempt)
	return a
}

func (t *Telemetry) callContext(e deepseek.CallStartEvent) context.Context {
	k := &track{Context: e.Context, of: t, operation: operationOf(e.Path), span: tracenoop.Span{}}
	if t.tracer == nil {
		return k
	}
	attrs := make([]attribute.KeyValue, 0, 4)
	attrs = append(attrs, semconv.GenAIOperationNameKey.String(string(k.operation)), provider)
	name := string(k.operation)
	if k.operation == unknown {
		name = e.Method
	}
	if e.Model != "" {
		attrs = append(attrs, semconv.GenAIRequestModel(shortened(e.Model)))
		if model := t.models.name(e.Model); model != other {
			name += " " + model // not what anybody may write: names of spans are to be few
		}
	}
	if e.Stream {
		attrs = append(attrs, semconv.GenAIRequestStream(true))
	}
	k.Context, k.span = t.tracer.Start(e.Context, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	return k
}

func (t *Telemetry) attemptContext(e deepseek.AttemptStartEvent) context.Context {
	t.serves(e.Endpoint, e.Host)
	k := t.trackOf(e.Context)
	// A call that others share goes on when its own caller has left, and its span is
	// over: it records no more, but says that it is kept.
	if k == nil || !k.span.IsRecording() && !k.span.SpanContext().IsSampled() {
		return nil
	}
	k.mu.Lock()
	if !e.Hedge {
		k.endReading()
	}
	resent := k.begun
	k.begun++
	k.mu.Unlock()

	attrs := make([]attribute.KeyValue, 0, 12)
	attrs = append(attrs, provider)
	attrs = appendServer(attrs, e.Host)
	if e.Endpoint != "" {
		attrs = append(attrs, endpointKey.String(e.Endpoint))
	}
	if e.Account != "" {
		attrs = append(attrs, accountKey.String(e.Account))
	}
	if e.Key != "" {
		attrs = append(attrs, keyKey.String(e.Key))
	}
	if e.Attempt.Model != "" {
		attrs = append(attrs, semconv.GenAIRequestModel(shortened(e.Attempt.Model)))
	}
	if resent > 0 {
		attrs = append(attrs, semconv.HTTPRequestResendCount(resent))
	}
	if e.Wait > 0 {
		attrs = append(attrs, waitKey.Float64(e.Wait.Seconds()))
	}
	ctx := e.Context
	if !trace.SpanContextFromContext(ctx).Equal(k.span.SpanContext()) { // but another's
		ctx = trace.ContextWithSpan(ctx, k.span)
	}
	a := &attempt{of: t}
	a.Context, a.span = t.tracer.Start(ctx, "attempt", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	return a
}

// attemptSpan completes the span of an attempt, or leaves it open if its answer is
// still to be read.
func (k *track) attemptSpan(e deepseek.AttemptEvent, kind, errType string) {
	a := k.of.attemptOf(e.Context)
	if a == nil {
		return
	}
	span := a.span
	span.SetAttributes(attemptKindKey.String(kind))
	if e.Status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(e.Status))
	}
	if e.TraceID != "" {
		span.SetAttributes(serverTraceKey.String(shortened(e.TraceID)))
	}
	fail(span, errType, e.Err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if errType == "" && e.Stream {
		span.AddEvent("first data")
		if !k.over {
			k.endReading()
			k.reading = span
			return
		}
	}
	span.End()
}

// endReading ends the span of the attempt whose answer was being read. k.mu is
// held.
func (k *track) endReading() {
	if k.reading != nil {
		k.reading.End()
		k.reading = nil
	}
}

// broke notes how the answer that was being read has ended.
func (k *track) broke(err error, cancelled bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failReading(err, cancelled)
}

// failReading is broke, with k.mu held.
func (k *track) failReading(err error, cancelled bool) {
	if k.reading != nil {
		fail(k.reading, errorType(0, err, cancelled), err)
		k.endReading()
	}
}

// fail notes why a span's work failed, if it did. That a caller gives up, or
// another attempt was quicker, is no failure.
func fail(span trace.Span, errType string, err error) {
	if errType == "" {
		return
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(errType))
	if errType == "cancelled" || errType == "lost" {
		return
	}
	text := ""
	if err != nil {
		text = textOf(err)
	}
	span.SetStatus(codes.Error, text)
}

// event is something that happened in the course of a call.
func (t *Telemetry) event(ctx context.Context, name string, attrs func() []attribute.KeyValue) {
	if k := t.trackOf(ctx); k != nil && k.span.IsRecording() {
		k.span.AddEvent(name, trace.WithAttributes(attrs()...))
	}
}

// callSpan completes the span of a call.
func (k *track) callSpan(e deepseek.CallEndEvent, errType string) {
	k.mu.Lock()
	k.failReading(e.Err, e.Cancelled)
	k.over = true // a further attempt's span, if others share the call, ends at its first data
	k.mu.Unlock()
	if !k.span.IsRecording() {
		return
	}
	attrs := make([]attribute.KeyValue, 0, 16)
	if e.Status != 0 {
		attrs = append(attrs, semconv.HTTPResponseStatusCode(e.Status))
	}
	if e.Stream && e.Err == nil && e.Status < 400 {
		attrs = append(attrs, semconv.GenAIResponseTimeToFirstChunk(e.FirstData.Seconds()))
	}
	if u := e.Usage; u != nil {
		attrs = append(attrs, semconv.GenAIUsageInputTokens(u.PromptTokens), semconv.GenAIUsageOutputTokens(u.CompletionTokens), semconv.GenAIUsageCacheReadInputTokens(u.PromptCacheHitTokens))
		if u.ReasoningTokens > 0 {
			attrs = append(attrs, semconv.GenAIUsageReasoningOutputTokens(u.ReasoningTokens))
		}
	}
	attrs = append(attrs, attemptsKey.Int(len(e.Attempts)))
	if e.Cache != "" {
		attrs = append(attrs, cacheKey.String(string(e.Cache)))
	}
	if e.Cost.Currency != "" {
		attrs = append(attrs, costKey.Float64(e.Cost.Amount.Float64()), currencyKey.String(e.Cost.Currency))
	}
	k.span.SetAttributes(attrs...)
	fail(k.span, errType, e.Err)
	k.span.End()
}
