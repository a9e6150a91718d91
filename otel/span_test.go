package otel_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/otel"
)

// A call that is retried twice and then streams: its span, under the caller's, and
// one below it for each attempt, with the times of what happened.
func TestSpansOfACall(t *testing.T) {
	pace := deepseektest.Pace{Headers: 10 * time.Millisecond, FirstToken: 500 * time.Millisecond, Token: 20 * time.Millisecond}
	setup{server: []deepseektest.Option{deepseektest.WithPace(pace)}}.run(t, func(s *stand) {
		ctx, parent := s.traces.Tracer("test").Start(s.Context(), "parent")
		s.srv.Enqueue(deepseektest.ServiceUnavailable(), deepseektest.RateLimited(19), deepseektest.ServiceUnavailable())
		_, _, err := s.ask(ctx, "/chat/completions", streamed)
		require.NoError(s, err)
		parent.End()

		calls := s.calls()
		require.Len(s, calls, 1)
		call := calls[0]
		require.Equal(s, parent.SpanContext().SpanID(), call.Parent().SpanID())
		require.Equal(s, parent.SpanContext().TraceID(), call.SpanContext().TraceID())
		require.Equal(s, "chat deepseek-flash", call.Name())
		require.Equal(s, trace.SpanKindClient, call.SpanKind())
		require.Equal(s, codes.Unset, call.Status().Code)
		for key, want := range map[string]string{
			"gen_ai.operation.name": "chat", "gen_ai.provider.name": "deepseek", "gen_ai.request.model": "deepseek-flash",
			"gen_ai.request.stream": "true", "http.response.status_code": "200", "seawall.attempts": "4", "seawall.currency": "USD",
		} {
			require.Equal(s, want, call.attrs[key], key)
		}
		for _, key := range []string{"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens",
			"gen_ai.usage.reasoning.output_tokens", "gen_ai.response.time_to_first_chunk", "seawall.cost"} {
			require.NotEmpty(s, call.attrs[key], key)
		}
		require.NotContains(s, call.attrs, "error.type")

		require.Len(s, call.children, 4)
		for i, want := range []struct{ status, errType, kind, resend string }{
			{"503", "503", "first", ""},
			{"429", "429", "retry", "1"},
			{"503", "503", "retry", "2"},
			{"200", "", "retry", "3"},
		} {
			a := call.children[i]
			require.Equal(s, "attempt", a.Name())
			require.Contains(s, []string{"harbour", "lighthouse"}, a.attrs["seawall.account"])
			require.Len(s, a.attrs["seawall.key"], 8)
			require.Equal(s, want.status, a.attrs["http.response.status_code"])
			require.Equal(s, want.errType, a.attrs["error.type"])
			require.Equal(s, want.kind, a.attrs["seawall.attempt.kind"])
			require.Equal(s, want.resend, a.attrs["http.request.resend_count"])
			require.NotEmpty(s, a.attrs["server.address"])
			require.NotEmpty(s, a.attrs["server.port"])
			require.Equal(s, want.errType != "", a.Status().Code == codes.Error)
			require.False(s, a.StartTime().Before(call.StartTime()))
			require.False(s, a.EndTime().After(call.EndTime()))
			if i > 0 {
				require.False(s, a.StartTime().Before(call.children[i-1].EndTime()), "one after the other")
			}
		}
		last := call.children[3]
		require.Equal(s, call.EndTime(), last.EndTime(), "an attempt lasts until its answer is read")
		require.Equal(s, []string{"first data"}, last.events)
		require.Equal(s, 510*time.Millisecond, last.Events()[0].Time.Sub(last.StartTime()))
		require.Positive(s, call.EndTime().Sub(last.Events()[0].Time))

		events := strings.Join(call.events, "\n")
		require.Contains(s, events, "wait seawall.wait.reason=retry after fault seawall.wait.duration=")
		require.Contains(s, events, "limit seawall.account="+call.children[1].attrs["seawall.account"]+" seawall.limit.previous=2500 seawall.limit=18")
	})
}

// What becomes of a call, in the attributes of its span.
func TestEndsOfCalls(t *testing.T) {
	pace := deepseektest.Pace{FirstToken: time.Second, Token: 100 * time.Millisecond}
	once := deepseek.WithoutRetry()
	for name, row := range map[string]struct {
		options []deepseek.Option
		reply   deepseektest.Reply
		ask     func(s *stand)
		errType string
		status  codes.Code
		attempt string // its error.type
	}{
		"answered":       {},
		"rejected":       {reply: deepseektest.Status(422), errType: "422", status: codes.Error, attempt: "422"},
		"a fault":        {options: []deepseek.Option{once}, reply: deepseektest.ServiceUnavailable(), errType: "503", status: codes.Error, attempt: "503"},
		"a reset":        {options: []deepseek.Option{once}, reply: deepseektest.ResetBeforeHeaders(), errType: "network", status: codes.Error, attempt: "network"},
		"cut after data": {reply: deepseektest.CutAfter(2), errType: "truncated", status: codes.Error, attempt: "truncated"},
		"stalled": {options: []deepseek.Option{deepseek.WithTimeouts(deepseek.Timeouts{BetweenData: 5 * time.Second})}, reply: deepseektest.StallAfter(2),
			errType: "stalled", status: codes.Error, attempt: "stalled"},
		"no account": {options: []deepseek.Option{once}, ask: func(s *stand) {
			for _, a := range twoAccounts {
				require.NoError(s, s.tr.Pool().Disable(a.Name))
			}
			_, _, err := s.ask(s.Context(), "/chat/completions", streamed)
			require.ErrorIs(s, err, deepseek.ErrNoAccount)
		}, errType: "no_account", status: codes.Error, attempt: "none"},
		"deadline": {ask: func(s *stand) {
			ctx, cancel := context.WithTimeout(s.Context(), 1200*time.Millisecond)
			defer cancel()
			_, _, err := s.ask(ctx, "/chat/completions", streamed)
			require.ErrorIs(s, err, context.DeadlineExceeded)
		}, errType: "deadline_exceeded", status: codes.Error, attempt: "deadline_exceeded"},
		"cancelled": {ask: func(s *stand) {
			ctx, cancel := context.WithCancel(s.Context())
			time.AfterFunc(500*time.Millisecond, cancel)
			_, _, err := s.ask(ctx, "/chat/completions", streamed)
			require.ErrorIs(s, err, context.Canceled)
		}, errType: "cancelled", status: codes.Unset, attempt: "cancelled"},
		"closed early": {ask: func(s *stand) {
			req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.srv.URL+"/chat/completions", strings.NewReader(streamed))
			require.NoError(s, err)
			resp, err := s.tr.RoundTrip(req)
			require.NoError(s, err)
			require.NoError(s, resp.Body.Close())
		}, errType: "cancelled", status: codes.Unset, attempt: "cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			setup{server: []deepseektest.Option{deepseektest.WithPace(pace)}, transport: row.options}.run(t, func(s *stand) {
				if row.ask == nil {
					if name != "answered" {
						s.srv.Enqueue(row.reply)
					}
					_, _, _ = s.ask(s.Context(), "/chat/completions", streamed)
				} else {
					row.ask(s)
				}
				calls := s.calls()
				require.Len(s, calls, 1)
				require.Equal(s, row.errType, calls[0].attrs["error.type"], calls[0])
				require.Equal(s, row.status, calls[0].Status().Code)
				if row.attempt == "none" {
					require.Empty(s, calls[0].children)
				} else {
					require.Len(s, calls[0].children, 1)
					require.Equal(s, row.attempt, calls[0].children[0].attrs["error.type"])
					require.Equal(s, row.status, calls[0].children[0].Status().Code)
				}
				p := s.metrics()["gen_ai.client.operation.duration"]
				require.Len(s, p, 1)
				require.Equal(s, row.errType != "", strings.Contains(p[0].attrs, "error.type="+row.errType))
			})
		})
	}
}

// An answer that breaks and goes on is two attempts of one call; the first ends
// when it breaks.
func TestSpansOfAResumedAnswer(t *testing.T) {
	pace := deepseektest.Pace{FirstToken: time.Second, Token: 100 * time.Millisecond}
	setup{server: []deepseektest.Option{deepseektest.WithPace(pace)}, transport: []deepseek.Option{deepseek.WithStreamResume()}}.run(t, func(s *stand) {
		s.srv.Enqueue(deepseektest.CutAfter(20))
		s.answered("/chat/completions", streamed)
		call := s.calls()[0]
		require.Equal(s, codes.Unset, call.Status().Code)
		require.Len(s, call.children, 2)
		broken, rest := call.children[0], call.children[1]
		require.Equal(s, "truncated", broken.attrs["error.type"])
		require.Equal(s, codes.Error, broken.Status().Code)
		require.Equal(s, "continuation", rest.attrs["seawall.attempt.kind"])
		require.NotContains(s, rest.attrs, "error.type")
		require.False(s, rest.StartTime().Before(broken.EndTime()))
		require.Greater(s, broken.took(), 2*time.Second)
		require.Contains(s, strings.Join(call.events, "\n"), "resume seawall.resume.outcome=continued seawall.resume.kept=")
		m := s.metrics()
		require.Equal(s, 1.0, s.only(m["seawall.resumes"], "seawall.resume.outcome=continued").value)
		require.Equal(s, 1.0, m["seawall.resumed"][0].value)
		require.Empty(s, m["gen_ai.server.time_per_output_token"], "an answer in two parts says nothing of that")
	})
}

// Of a hedge and the attempt beside it one wins and the other is nobody's fault.
func TestSpansOfAHedge(t *testing.T) {
	setup{
		server:    []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: 100 * time.Millisecond})},
		transport: []deepseek.Option{deepseek.WithHedging(deepseek.Hedging{MaxShare: 1, MaxCost: 1})},
	}.run(t, func(s *stand) {
		for range 100 {
			s.answered("/chat/completions", streamed)
		}
		s.srv.Enqueue(deepseektest.Paced(deepseektest.Pace{FirstToken: time.Minute}))
		s.answered("/chat/completions", streamed)
		calls := s.calls()
		call := calls[len(calls)-1]
		require.Len(s, call.children, 2)
		require.Equal(s, "lost", call.children[0].attrs["error.type"])
		require.Equal(s, codes.Unset, call.children[0].Status().Code)
		require.Equal(s, "hedge", call.children[1].attrs["seawall.attempt.kind"])
		require.NotContains(s, call.children[1].attrs, "error.type")
		m := s.metrics()
		require.Equal(s, 1.0, s.only(m["seawall.attempts"], "seawall.attempt.kind=hedge").value)
		require.Equal(s, 1.0, s.only(m["seawall.attempts"], "error.type=lost").value)
		require.Equal(s, 1.0, m["seawall.hedges.won"][0].value)
	})
}

// Callers that share an answer have a span each; the attempts are those of the
// first one, which may leave before they are over.
func TestSpansOfSharedCalls(t *testing.T) {
	pace := deepseektest.Pace{FirstToken: time.Second, Token: 100 * time.Millisecond}
	setup{server: []deepseektest.Option{deepseektest.WithPace(pace)}, transport: []deepseek.Option{deepseek.WithCache(deepseek.Cache{})}}.run(t, func(s *stand) {
		done := make(chan struct{})
		ctx, leave := context.WithTimeout(s.Context(), 1500*time.Millisecond)
		defer leave()
		go func() {
			defer close(done)
			_, _, err := s.ask(ctx, "/chat/completions", streamed)
			require.Error(s, err)
		}()
		time.Sleep(500 * time.Millisecond)
		s.answered("/chat/completions", streamed)
		<-done
		s.answered("/chat/completions", streamed)

		calls := s.calls()
		require.Len(s, calls, 3)
		require.Len(s, calls[0].children, 1)
		for i, use := range []string{"miss", "shared", "hit"} {
			require.Equal(s, use, calls[i].attrs["seawall.cache"])
			require.Equal(s, 1.0, s.only(s.metrics()["seawall.cache.requests"], "seawall.cache="+use).value)
		}
		require.Positive(s, s.metrics()["seawall.cache.cost.avoided"][0].value)
		require.Equal(s, 1.0, s.metrics()["seawall.attempts"][0].value)
	})
}

// An attempt of a shared call has a span too if it is made when the first caller has
// left, whose span is over.
func TestSpansOfASharedCallThatIsLeft(t *testing.T) {
	pace := deepseektest.Pace{Headers: time.Second, FirstToken: time.Second, Token: 100 * time.Millisecond}
	setup{server: []deepseektest.Option{deepseektest.WithPace(pace)}, transport: []deepseek.Option{deepseek.WithCache(deepseek.Cache{})}}.run(t, func(s *stand) {
		s.srv.Enqueue(deepseektest.ServiceUnavailable().And(deepseektest.Delayed(3 * time.Second)))
		ctx, leave := context.WithTimeout(s.Context(), time.Second)
		defer leave()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _, err := s.ask(ctx, "/chat/completions", streamed)
			require.Error(s, err)
		}()
		time.Sleep(500 * time.Millisecond)
		s.answered("/chat/completions", streamed)
		<-done

		calls := s.calls() // all are ended
		require.Len(s, calls, 2)
		first := calls[0]
		require.Len(s, first.children, 2)
		require.Equal(s, "503", first.children[0].attrs["error.type"])
		require.True(s, first.children[0].EndTime().After(first.EndTime()))
		last := first.children[1]
		require.Equal(s, "200", last.attrs["http.response.status_code"])
		require.Equal(s, "retry", last.attrs["seawall.attempt.kind"])
		require.True(s, last.StartTime().After(first.EndTime()))
		require.Equal(s, []string{"first data"}, last.events)
	})
}

// A transport can have two telemetries, each of which tells all, and for itself.
func TestTwoTelemetries(t *testing.T) {
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	second, err := otel.New(otel.Options{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	require.NoError(t, err)
	setup{telemetry: otel.Options{Propagate: true}, transport: []deepseek.Option{second.Option()}}.run(t, func(s *stand) {
		s.srv.Enqueue(deepseektest.ServiceUnavailable())
		s.answered("/chat/completions", streamed)
		other := *s
		other.spans, other.reader = spans, reader
		for _, one := range []*stand{s, &other} {
			calls := one.calls()
			require.Len(s, calls, 1)
			call := calls[0]
			require.Equal(s, "2", call.attrs["seawall.attempts"])
			require.Contains(s, strings.Join(call.events, "\n"), "wait seawall.wait.reason=retry after fault")
			require.Len(s, call.children, 2)
			for i, kind := range []string{"first", "retry"} {
				require.Equal(s, kind, call.children[i].attrs["seawall.attempt.kind"])
				require.Equal(s, 1.0, s.only(one.metrics()["seawall.attempts"], "seawall.attempt.kind="+kind).value)
			}
			require.Equal(s, "503", call.children[0].attrs["error.type"])
			require.Equal(s, []string{"first data"}, call.children[1].events)
			require.Equal(s, call.EndTime(), call.children[1].EndTime())
		}
		for i, r := range s.srv.Requests() { // of the one that is to propagate
			require.Contains(s, r.Header.Get("Traceparent"), s.calls()[0].children[i].SpanContext().SpanID().String())
		}
	})
}

// What a server sends for a trace id may be no UTF-8, and long: exporters would not
// send it, nor anything with it.
func TestTextsAreFit(t *testing.T) {
	for _, id := range []string{"caf\xe9", strings.Repeat("\xe9", 5000), strings.Repeat("é", 5000)} {
		wild := func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := next.RoundTrip(r)
				if err == nil {
					resp.Header.Set("X-Ds-Trace-Id", id)
				}
				return resp, err
			})
		}
		setup{transport: []deepseek.Option{deepseek.WithAttemptMiddleware(wild), deepseek.WithStreamResume(), deepseek.WithRetry(deepseek.Retry{MaxAttempts: 2})}}.run(t, func(s *stand) {
			object := deepseektest.Body(http.StatusOK, "application/json", `{"error":{"message":"x","type":"t"}}`)
			s.srv.Enqueue(object, object, deepseektest.CutAfter(20), object, object)
			_, _, err := s.ask(s.Context(), "/chat/completions", question)
			require.Error(s, err)
			_, _, err = s.ask(s.Context(), "/chat/completions", streamed)
			require.Error(s, err)
			texts := 0
			for _, span := range s.spans.Ended() {
				all := span.Attributes()
				for _, e := range span.Events() {
					all = append(all, e.Attributes...)
				}
				for _, kv := range append(all, attribute.String("status", span.Status().Description)) {
					if kv.Value.Type() == attribute.STRING {
						texts++
						require.True(s, utf8.ValidString(kv.Value.AsString()), "%s: %q", kv.Key, kv.Value.AsString())
						require.LessOrEqual(s, len(kv.Value.AsString()), 1024, kv.Key)
					}
				}
			}
			require.Greater(s, texts, 20)
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The trace's context goes upstream only where that is asked for, and then tells
// the attempt that the request is.
func TestPropagation(t *testing.T) {
	for _, on := range []bool{false, true} {
		setup{telemetry: otel.Options{Propagate: on}}.run(t, func(s *stand) {
			s.srv.Enqueue(deepseektest.ServiceUnavailable())
			s.answered("/chat/completions", question)
			call := s.calls()[0]
			require.Len(s, call.children, 2)
			requests := s.srv.Requests()
			require.Len(s, requests, 2)
			for i, r := range requests {
				want := ""
				if on {
					c := call.children[i].SpanContext()
					want = "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-01"
				}
				require.Equal(s, want, r.Header.Get("Traceparent"))
				require.Empty(s, r.Header.Get("Baggage"))
			}
		})
	}
}

// A trace that is not sampled costs no spans, and its identifier goes on.
func TestUnsampled(t *testing.T) {
	setup{telemetry: otel.Options{Propagate: true}}.run(t, func(s *stand) {
		remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
		_, _, err := s.ask(trace.ContextWithRemoteSpanContext(s.Context(), remote), "/chat/completions", question)
		require.NoError(s, err)
		require.Empty(s, s.spans.Ended())
		header := s.srv.Requests()[0].Header.Get("Traceparent")
		require.True(s, strings.HasPrefix(header, "00-01000000000000000000000000000000-") && strings.HasSuffix(header, "-00"), header)
		require.Len(s, s.metrics()["gen_ai.client.operation.duration"], 1, "metrics are of all calls")
	})
}
