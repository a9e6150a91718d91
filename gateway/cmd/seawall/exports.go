package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"

	"github.com/seawall-go/deepseek/gateway"
)

// exports are what a gateway tells monitoring through, and where that goes.
type exports struct {
	providers gateway.Providers
	metrics   *http.Server // nil: they are not served
	tcp       net.Listener

	shutdown []func(context.Context) error
}

// newExports makes what the configuration says.
func newExports(t *gateway.Telemetry) (*exports, error) {
	x := &exports{providers: gateway.Providers{Propagate: t.Traces.Propagate}}
	is := resource.NewWithAttributes(semconv.SchemaURL, semconv.ServiceName("seawall"), semconv.ServiceVersion(version()))
	if t.Metrics.Listen != "" {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
		if err != nil {
			return nil, err
		}
		// Series are as many as the configuration makes them. The SDK's own bound of 2000 an
		// instrument is reached with 334 accounts, six states each: the rest would be told
		// as one.
		meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(is), sdkmetric.WithCardinalityLimit(0))
		x.providers.MeterProvider = meters
		x.shutdown = append(x.shutdown, meters.Shutdown)
		mux := http.NewServeMux()
		mux.Handle("GET "+t.Metrics.Path, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		x.metrics = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10}
		if x.tcp, err = net.Listen("tcp", t.Metrics.Listen); err != nil {
			return nil, err
		}
	}
	if t.Traces.Endpoint != "" {
		u, err := url.Parse(t.Traces.Endpoint)
		if err != nil {
			return nil, err
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/traces"
		}
		headers := map[string]string{}
		for name, values := range t.Traces.Headers {
			headers[name] = values[0]
		}
		// It connects when there is something to send.
		exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithHeaders(headers))
		if err != nil {
			return nil, err
		}
		traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(is),
			sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(t.Traces.Ratio))))
		x.providers.TracerProvider = traces
		x.shutdown = append(x.shutdown, traces.Shutdown)
	}
	return x, nil
}

// start serves the metrics.
func (x *exports) start() {
	if x.metrics != nil {
		go func() { _ = x.metrics.Serve(x.tcp) }()
	}
}

// lastTraces is how long the last traces have to be sent.
const lastTraces = 5 * time.Second

// end sends what has not been sent, and stops.
func (x *exports) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastTraces)
	defer cancel()
	var errs []error
	for _, shutdown := range x.shutdown {
		errs = append(errs, shutdown(ctx))
	}
	if x.metrics != nil {
		errs = append(errs, x.metrics.Close())
		_ = x.tcp.Close() // if it was never served
	}
	return errors.Join(errs...)
}
