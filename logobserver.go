package deepseek

import (
	"context"
	"log/slog"
)

// LogObserver returns the observer of [WithLogger], for those who want some of
// it only: what an operator must act on or know at Warn, what the layers do about
// faults at Info, the rest at Debug.
func LogObserver(l *slog.Logger) Observer {
	log := eventLog{l}
	return Observer{
		CallEnd:    log.callEnd,
		Wait:       log.wait,
		Attempt:    log.attempt,
		Resume:     log.resume,
		Fallback:   log.fallback,
		Cooldown:   log.cooldown,
		Limit:      log.limit,
		Breaker:    log.breaker,
		StoreError: log.storeError,
		Sharing:    log.sharing,
	}
}

// eventLog writes events as log lines.
type eventLog struct{ *slog.Logger }

func (l eventLog) callEnd(e CallEndEvent) {
	level, msg := slog.LevelDebug, "call answered"
	switch {
	case e.Cancelled:
		msg = "call cancelled"
	case e.Err != nil || e.Status >= 400:
		level, msg = slog.LevelWarn, "call failed"
	case e.Attempts.hedged():
		level, msg = slog.LevelInfo, "call answered after hedging"
	case len(e.Attempts) > 1:
		level, msg = slog.LevelInfo, "call answered after retrying"
	}
	if !l.Enabled(e.Context, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("path", e.Path), slog.String("model", e.Model), slog.Int("status", e.Status),
		slog.Duration("first_data", e.FirstData), slog.Duration("duration", e.Duration),
		slog.Any("trail", e.Attempts),
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", LogText(e.Err)))
	}
	if e.Cache != "" {
		attrs = append(attrs, slog.String("cache", string(e.Cache)))
	}
	if u := e.Usage; u != nil {
		attrs = append(attrs, slog.Int("prompt_tokens", u.PromptTokens), slog.Int("completion_tokens", u.CompletionTokens),
			slog.Int("cache_hit_tokens", u.PromptCacheHitTokens))
	}
	if e.Cost.Currency != "" {
		attrs = append(attrs, slog.String("cost", e.Cost.String()))
	}
	l.LogAttrs(e.Context, level, msg, attrs...)
}

func (l eventLog) wait(e WaitEvent) {
	l.LogAttrs(e.Context, slog.LevelDebug, "waiting", slog.String("reason", e.Reason),
		slog.String("model", e.Model), slog.Duration("wait", e.Wait))
}

func (l eventLog) attempt(e AttemptEvent) {
	level := slog.LevelDebug
	if e.Err != nil && !e.Lost || e.Status >= 400 {
		level = slog.LevelInfo
	}
	if l.Enabled(e.Context, level) {
		l.LogAttrs(e.Context, level, "attempt", slog.String("model", e.Model), slog.Any("outcome", e.Attempt),
			slog.String("ds_trace_id", e.TraceID))
	}
}

func (l eventLog) resume(e ResumeEvent) {
	level, msg := slog.LevelInfo, "answer continued"
	if e.Refused != nil {
		msg = "answer not continued"
	}
	if !l.Enabled(e.Context, level) {
		return
	}
	attrs := []slog.Attr{slog.String("model", e.Model), slog.String("cause", LogText(e.Cause)), slog.Int("kept", e.Kept)}
	if e.Refused != nil {
		attrs = append(attrs, slog.String("refused", LogText(e.Refused)))
	} else {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	l.LogAttrs(e.Context, level, msg, attrs...)
}

func (l eventLog) fallback(e FallbackEvent) {
	l.LogAttrs(e.Context, slog.LevelWarn, "falling back to another model", slog.String("from", e.From),
		slog.String("to", e.To), slog.String("cause", e.Cause))
}

func (l eventLog) cooldown(e CooldownEvent) {
	level := slog.LevelWarn
	if e.State == StateActive {
		level = slog.LevelInfo
	}
	l.LogAttrs(e.Context, level, "account state", slog.String("account", e.Account), slog.String("key", e.Key),
		slog.String("model", e.Model), slog.String("state", string(e.State)), slog.String("cause", e.Cause), slog.Duration("for", e.For))
}

func (l eventLog) limit(e LimitEvent) {
	level := slog.LevelDebug
	if e.To < e.From {
		level = slog.LevelInfo
	}
	l.LogAttrs(e.Context, level, "learned limit", slog.String("account", e.Account), slog.String("model", e.Model),
		slog.Int("from", e.From), slog.Int("to", e.To), slog.Int("in_flight", e.InFlight))
}

func (l eventLog) breaker(e BreakerEvent) {
	level := slog.LevelInfo
	if e.To == BreakerOpen {
		level = slog.LevelWarn
	}
	l.LogAttrs(e.Context, level, "breaker", slog.String("endpoint", e.Endpoint), slog.String("model", e.Model),
		slog.String("from", string(e.From)), slog.String("to", string(e.To)), slog.Duration("open_for", e.OpenFor))
}

func (l eventLog) storeError(e StoreErrorEvent) {
	l.LogAttrs(e.Context, slog.LevelWarn, "response cache's store failed", slog.String("op", e.Op), slog.String("error", LogText(e.Err)))
}

func (l eventLog) sharing(e SharingEvent) {
	if e.Connected {
		l.LogAttrs(context.Background(), slog.LevelInfo, "sharing with other replicas", slog.Int("replicas", e.Replicas))
		return
	}
	l.LogAttrs(context.Background(), slog.LevelWarn, "shared state lost, going on with an equal share",
		slog.Int("replicas", e.Replicas), slog.String("error", e.Err.Error()))
}
