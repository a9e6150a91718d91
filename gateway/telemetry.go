package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/httpconv"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/otel"
)

// Providers are what a gateway tells OpenTelemetry through of its requests and
// their calls. The zero value tells nothing.
type Providers struct {
	// TracerProvider makes a span of each request, with that of its call below it. A
	// request that comes with a traceparent header belongs to that trace, sampled as
	// the header says. Default nil: none.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Default nil: none.
	MeterProvider metric.MeterProvider
	// Propagate is as in [otel.Options].
	Propagate bool
}

// telemetry tells of requests. A nil one tells nothing.
type telemetry struct {
	calls    *otel.Telemetry
	tracer   trace.Tracer // nil: there are no spans
	duration metric.Float64Histogram
	requests metric.Int64Counter
}

const scope = "github.com/seawall-go/deepseek/gateway"

func newTelemetry(o Providers) (*telemetry, error) {
	if o.TracerProvider == nil && o.MeterProvider == nil {
		return nil, nil
	}
	t := new(telemetry)
	if o.TracerProvider == nil {
		o.TracerProvider = tracenoop.NewTracerProvider()
	} else {
		t.tracer = o.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	}
	if o.MeterProvider == nil {
		o.MeterProvider = metricnoop.NewMeterProvider()
	}
	var err error
	if t.calls, err = otel.New(otel.Options{
		TracerProvider: o.TracerProvider, MeterProvider: o.MeterProvider, Propagate: o.Propagate,
		Client: func(ctx context.Context) string {
			if x := exchangeOf(ctx); x != nil {
				return x.who
			}
			return ""
		},
	}); err != nil {
		return nil, err
	}
	meter := o.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	if t.duration, err = meter.Float64Histogram(httpconv.ServerRequestDuration{}.Name(), metric.WithUnit("s"),
		metric.WithDescription(httpconv.ServerRequestDuration{}.Description()),
		metric.WithExplicitBucketBoundaries(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)); err != nil {
		return nil, err
	}
	t.requests, err = meter.Int64Counter("seawall.client.requests", metric.WithUnit("{request}"), metric.WithDescription("Requests, by client and by what came of them."))
	return t, err
}

// option has a transport's calls told of.
func (t *telemetry) option() deepseek.Option {
	if t == nil {
		return nil
	}
	return t.calls.Option()
}

// watch adds what there is at the moment of a scrape.
func (t *telemetry) watch(g *Gateway, m metric.MeterProvider) error {
	if t == nil || m == nil {
		return nil
	}
	if _, err := t.calls.Watch(func() deepseek.Stats { return g.Transport().Stats() }); err != nil {
		return err
	}
	meter := m.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	inFlight, err := meter.Int64ObservableGauge("seawall.client.in_flight", metric.WithUnit("{request}"), metric.WithDescription("Requests of a client that are under way."))
	if err != nil {
		return err
	}
	spent, err := meter.Float64ObservableGauge("seawall.client.spent", metric.WithDescription("What a client has spent in this calendar month."))
	if err != nil {
		return err
	}
	budget, err := meter.Float64ObservableGauge("seawall.client.budget", metric.WithDescription("What a client may spend in a calendar month, if that is limited."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		currency := attribute.String("seawall.currency", g.state.Load().currency)
		for _, c := range g.Clients() {
			client := attribute.String("seawall.client", c.Name)
			o.ObserveInt64(inFlight, int64(c.InFlight), metric.WithAttributes(client))
			o.ObserveFloat64(spent, c.Spent.Float64(), metric.WithAttributes(client, currency))
			if c.Budget > 0 {
				o.ObserveFloat64(budget, c.Budget, metric.WithAttributes(client, currency))
			}
		}
		return nil
	}, inFlight, spent, budget)
	return err
}

// begin makes an exchange part of its client's trace, and gives it a span. The
// client's trace is known to the log even if there are no spans.
func (t *telemetry) begin(x *exchange) {
	if len(x.r.Header["Traceparent"]) > 0 {
		x.Context = propagation.TraceContext{}.Extract(x.Context, propagation.HeaderCarrier(x.r.Header))
	}
	if t == nil || t.tracer == nil {
		return
	}
	// Its name is told once there is one.
	x.Context, x.span = t.tracer.Start(x.Context, method(x.r), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(x.start),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method(x.r)), attribute.String("seawall.request.id", x.id)))
}

// end tells what became of an exchange.
func (t *telemetry) end(x *exchange) {
	if t == nil {
		return
	}
	route, errType := x.pattern(), x.errorType()
	came := make([]attribute.KeyValue, 0, 3) // of it
	if x.relay.status != 0 {
		came = append(came, semconv.HTTPResponseStatusCode(x.relay.status))
	}
	if errType != "" {
		came = append(came, semconv.ErrorTypeKey.String(errType))
	}
	attrs := append(make([]attribute.KeyValue, 0, 5), semconv.HTTPRequestMethodKey.String(method(x.r)))
	if route != "" {
		attrs = append(attrs, semconv.HTTPRoute(route))
	}
	attrs = append(attrs, came...)
	t.duration.Record(x, time.Since(x.start).Seconds(), metric.WithAttributes(attrs...))
	if x.who != "" {
		who := attribute.String("seawall.client", x.who)
		came, attrs = append(came, who), append(attrs, who)
	}
	t.requests.Add(x, 1, metric.WithAttributes(came...))
	if x.span == nil || !x.span.IsRecording() {
		return
	}
	if route != "" {
		x.span.SetName(method(x.r) + " " + route)
	}
	x.span.SetAttributes(attrs...)
	if x.relay.status >= 500 || errType == "broken" || errType == "server_error" { // what a client does wrong is no failure of the server's
		x.span.SetStatus(codes.Error, "")
	}
	x.span.End()
}

// errorType is the class of what the exchange came to, one of few; empty if it
// succeeded, or if the status that the client was sent says it.
func (x *exchange) errorType() string {
	switch {
	case x.err != nil && (x.gone() || x.relay.lost):
		return "cancelled"
	case x.problem != nil:
		return x.problem.code
	case x.err != nil:
		return "broken"
	case x.relay.status >= 500:
		return "server_error"
	case x.relay.status >= 400:
		return ""
	case x.call.Err != nil || x.status() >= 500: // after a sign of life had sent a 200
		return "server_error"
	case x.status() >= 400:
		return strconv.Itoa(x.status())
	}
	return ""
}

// method is the request's, of those that there are.
func method(r *http.Request) string {
	switch r.Method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return r.Method
	}
	return "_OTHER"
}

// pattern is the path without what differs from one request to the next; empty if
// there is no such path.
func (x *exchange) pattern() string {
	path := x.r.URL.Path
	if _, known := pathRoute(path); !known || x.r.URL.RawPath != "" {
		return ""
	}
	for _, collection := range [...]string{"/models/", "/files/"} {
		if i := strings.Index(path, collection); i >= 0 {
			pattern := path[:i+len(collection)] + "{id}"
			if collection == "/files/" && strings.HasSuffix(path, "/content") {
				pattern += "/content"
			}
			return pattern
		}
	}
	return path
}
