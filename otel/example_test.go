package otel_test

import (
	"context"
	"fmt"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/otel"
)

func Example() {
	srv := deepseektest.NewServer()
	defer srv.Close()
	srv.Enqueue(deepseektest.ServiceUnavailable())

	spans := tracetest.NewInMemoryExporter() // where a program has its own exporter
	traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	tel, err := otel.New(otel.Options{TracerProvider: traces, MeterProvider: sdkmetric.NewMeterProvider()})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := deepseek.New(tel.Option(), deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	if _, err := client.Chat(context.Background(), &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("Hi")}}); err != nil {
		fmt.Println(err)
	}
	for _, s := range spans.GetSpans() {
		fmt.Println(s.Name, s.Status.Code)
	}
	// Output:
	// attempt Error
	// attempt Unset
	// chat deepseek-flash Unset
}
