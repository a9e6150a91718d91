package otel

import (
	"context"
	"sync"

	gootel "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seawall-go/deepseek"
)

// Options say how calls are told of. The zero value is the default.
type Options struct {
	// TracerProvider makes the spans. Default: the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Default: the global one.
	MeterProvider metric.MeterProvider

	// Models are names of models that metrics tell from the beginning. Default:
	// those that DeepSeek has prices for.
	Models []string
	// MaxModels bounds how many names of models metrics tell. Names come from
	// requests, where anybody may write anything. One that is not among Models gets
	// a series of its own when a server has first answered a request for it; until
	// then, and beyond MaxModels, it is told as "_OTHER". Spans tell the name as it
	// is, up to 128 bytes of it. Default 50.
	MaxModels int

	// Client tells on whose behalf the call of that context is made, for the metrics
	// of clients; empty: nobody's. There must not be many of them, and no secrets. It
	// is called by many calls at once, on their goroutines, and must not block.
	// Default nil: there are no such metrics.
	Client func(context.Context) string

	// Propagate sends the trace's context upstream with each attempt, in the headers
	// traceparent and tracestate; never baggage. It is for hosts of your own: DeepSeek
	// does nothing with it, and an identifier that your systems share is nobody
	// else's business. Default false.
	Propagate bool
}

// Telemetry tells of the calls of one transport, and of its successors. It is
// safe for concurrent use.
type Telemetry struct {
	options Options
	tracer  trace.Tracer // nil: there are no spans
	meter   metric.Meter
	models  *models
	instruments

	mu      sync.RWMutex
	servers map[string]string // host by endpoint; guarded by mu
}

const scope = "github.com/seawall-go/deepseek/otel"

// New returns a telemetry. It is told of calls once its Option is among those of
// a transport. The error is the meter provider's.
func New(o Options) (*Telemetry, error) {
	if o.TracerProvider == nil {
		o.TracerProvider = gootel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = gootel.GetMeterProvider()
	}
	if o.MaxModels < 0 {
		return nil, &deepseek.ConfigError{Field: "MaxModels", Value: "negative", Reason: "must not be negative"}
	}
	if o.MaxModels == 0 {
		o.MaxModels = 50
	}
	t := &Telemetry{options: o, models: newModels(o.Models, o.MaxModels), servers: map[string]string{}}
	if _, off := o.TracerProvider.(tracenoop.TracerProvider); !off {
		t.tracer = o.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	}
	t.meter = o.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	if err := t.instruments.make(t.meter); err != nil {
		return nil, err
	}
	return t, nil
}

// Option has a transport's calls told of.
func (t *Telemetry) Option() deepseek.Option {
	opts := []deepseek.Option{deepseek.WithObserver(t.Observer())}
	if t.options.Propagate {
		opts = append(opts, deepseek.WithAttemptMiddleware(t.propagate))
	}
	return deepseek.WithOptions(opts...)
}

// Observer is what Option adds to a transport, without the propagation, for those
// who assemble layers by themselves.
func (t *Telemetry) Observer() deepseek.Observer {
	return deepseek.Observer{
		CallContext:    t.callContext,
		AttemptContext: t.attemptContext,
		Attempt:        t.attempt,
		Charge:         t.charge,
		Wait:           t.wait,
		Resume:         t.resume,
		Fallback:       t.fallback,
		Cooldown:       t.cooldown,
		Limit:          t.limit,
		Breaker:        t.breaker,
		StoreError:     t.storeError,
		CallEnd:        t.callEnd,
	}
}

// client is on whose behalf a call is made.
func (t *Telemetry) client(ctx context.Context) string {
	if t.options.Client == nil {
		return ""
	}
	return t.options.Client(ctx)
}

// serves notes where an endpoint is.
func (t *Telemetry) serves(endpoint, host string) {
	if t.server(endpoint) == host {
		return
	}
	t.mu.Lock()
	t.servers[endpoint] = host
	t.mu.Unlock()
}

func (t *Telemetry) server(endpoint string) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.servers[endpoint]
}
