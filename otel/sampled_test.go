package otel_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/otel"
)

// A trace that began elsewhere and is kept there, in a program that makes none itself.
func TestSampledParentWithoutATracer(t *testing.T) {
	srv := deepseektest.NewServer()
	defer srv.Close()
	tel, err := otel.New(otel.Options{})
	require.NoError(t, err)
	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-1"), tel.Option())
	require.NoError(t, err)
	defer client.Transport().CloseIdleConnections()
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
	_, err = client.Chat(ctx, &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("Hi")}})
	require.NoError(t, err)
}
