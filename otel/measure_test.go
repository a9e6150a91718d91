package otel_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/otel"
)

// The conventions' metrics of a stream and of a whole answer, to the millisecond
// and to the token.
func TestGenAIMetrics(t *testing.T) {
	pace := deepseektest.Pace{Headers: 100 * time.Millisecond, FirstToken: 400 * time.Millisecond, Token: 20 * time.Millisecond}
	setup{server: []deepseektest.Option{deepseektest.WithPace(pace), deepseektest.WithAnswerLength(0, 50)}}.run(t, func(s *stand) {
		began := time.Now()
		s.answered("/chat/completions", streamed)
		took := time.Since(began).Seconds()
		s.answered("/beta/completions", `{"model":"deepseek-flash","prompt":"def f():"}`)
		s.answered("/anthropic/v1/messages", `{"model":"deepseek-flash","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}`)
		m := s.metrics()

		const model = "gen_ai.request.model=deepseek-flash"
		require.InDelta(s, 0.5, s.only(m["gen_ai.client.operation.time_to_first_chunk"]).value, 1e-9, "for streams only")
		require.Equal(s, uint64(2), s.only(m["gen_ai.client.operation.duration"], "gen_ai.operation.name=chat", model).count)
		require.Equal(s, uint64(1), s.only(m["gen_ai.client.operation.duration"], "gen_ai.operation.name=text_completion", model).count)
		require.InDelta(s, 0.5, s.only(m["gen_ai.server.time_to_first_token"]).value, 1e-9)
		require.Positive(s, took)

		sum := s.tr.Stats().Spend
		var input, output float64
		for _, p := range m["gen_ai.client.token.usage"] {
			switch {
			case strings.Contains(p.attrs, "gen_ai.token.type=input"):
				require.Contains(s, p.attrs, "seawall.context_cache=")
				input += p.value
			case strings.Contains(p.attrs, "gen_ai.token.type=output"):
				output += p.value
			}
		}
		require.Equal(s, float64(sum.CacheHitTokens+sum.CacheMissTokens), input)
		require.Equal(s, float64(sum.OutputTokens), output)

		perToken := s.only(m["gen_ai.server.time_per_output_token"])
		require.Equal(s, uint64(1), perToken.count)
		require.InDelta(s, 0.02, perToken.value, 0.002, "the pace of the server")
	})
}

// The bounds are those of the conventions.
func TestBounds(t *testing.T) {
	setup{}.run(t, func(s *stand) {
		s.answered("/chat/completions", streamed)
		var data metricdata.ResourceMetrics
		require.NoError(s, s.reader.Collect(s.Context(), &data))
		bounds := map[string][]float64{}
		for _, m := range data.ScopeMetrics[0].Metrics {
			switch d := m.Data.(type) {
			case metricdata.Histogram[float64]:
				bounds[m.Name] = d.DataPoints[0].Bounds
			case metricdata.Histogram[int64]:
				bounds[m.Name] = d.DataPoints[0].Bounds
			}
		}
		require.Equal(s, []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}, bounds["gen_ai.client.operation.duration"])
		require.Equal(s, []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}, bounds["gen_ai.server.time_to_first_token"])
		require.Equal(s, float64(67108864), bounds["gen_ai.client.token.usage"][13])
	})
}

type clientKey struct{}

func onBehalf(ctx context.Context, client string) context.Context {
	return context.WithValue(ctx, clientKey{}, client)
}

// Money and tokens of accounts and clients add up to what the transport says that
// was spent, at both prices.
func TestMoneyAddsUp(t *testing.T) {
	setup{
		server:    []deepseektest.Option{deepseektest.WithCache(deepseektest.Cache{Granularity: 16})},
		telemetry: otel.Options{Client: func(ctx context.Context) string { c, _ := ctx.Value(clientKey{}).(string); return c }},
	}.run(t, func(s *stand) {
		long := strings.Replace(question, "salt?", strings.Repeat("salt? ", 200), 1)
		for _, at := range []time.Time{
			time.Date(2000, 1, 3, 5, 0, 0, 0, time.UTC), // a Monday, between the peaks
			time.Date(2000, 1, 4, 2, 0, 0, 0, time.UTC), // a Tuesday, amid one
		} {
			time.Sleep(time.Until(at))
			for i := range 6 {
				ctx := onBehalf(s.Context(), []string{"ci", "web", ""}[i%3])
				_, _, err := s.ask(ctx, "/chat/completions", long)
				require.NoError(s, err)
				_, _, err = s.ask(ctx, "/chat/completions", streamed)
				require.NoError(s, err)
			}
		}
		m := s.metrics()
		sum := func(points []point) (total float64) {
			for _, p := range points {
				total += p.value
			}
			return total
		}
		stats := s.tr.Stats()
		require.InDelta(s, stats.Spend.Amount.Float64(), sum(m["seawall.account.cost"]), 1e-12)
		require.InDelta(s, stats.Spend.Saved.Float64(), sum(m["seawall.account.cost.saved"]), 1e-12)
		for _, a := range stats.Accounts {
			require.Positive(s, a.Spend.Amount)
			require.InDelta(s, a.Spend.Amount.Float64(), sum(of(m["seawall.account.cost"], "seawall.account="+a.Name)), 1e-12)
			for kind, n := range map[string]int64{"cache_hit": a.Spend.CacheHitTokens, "cache_miss": a.Spend.CacheMissTokens, "output": a.Spend.OutputTokens} {
				require.Positive(s, n, kind)
				require.Equal(s, float64(n), sum(of(m["seawall.account.tokens"], "seawall.account="+a.Name, "seawall.token.kind="+kind)), kind)
			}
		}
		peak, offPeak := sum(of(m["seawall.account.cost"], "seawall.tariff=peak")), sum(of(m["seawall.account.cost"], "seawall.tariff=off_peak"))
		require.InDelta(s, 2, sum(of(m["seawall.account.cost"], "seawall.tariff=peak", "seawall.token.kind=output"))/
			sum(of(m["seawall.account.cost"], "seawall.tariff=off_peak", "seawall.token.kind=output")), 0.01, "the same answers, at double the price")
		require.InDelta(s, stats.Spend.Amount.Float64(), peak+offPeak, 1e-12)
		ci, web := sum(of(m["seawall.client.cost"], "seawall.client=ci")), sum(of(m["seawall.client.cost"], "seawall.client=web"))
		require.Positive(s, ci)
		require.Positive(s, web)
		require.Less(s, ci+web, stats.Spend.Amount.Float64(), "what is nobody's is no client's")
		require.InDelta(s, ci+web, sum(m["seawall.client.cost"]), 1e-12)
		require.Contains(s, m["seawall.client.cost"][0].attrs, "seawall.currency=USD")
		require.NotContains(s, m["seawall.client.cost"][0].attrs, "seawall.account=")
	})
}

// A model without a price is counted, and in no amount.
func TestUnpriced(t *testing.T) {
	setup{transport: []deepseek.Option{deepseek.WithPrices(deepseek.Prices{Currency: "USD", Models: map[string]deepseek.ModelPrice{"other": {}}})}}.run(t, func(s *stand) {
		s.answered("/chat/completions", question)
		m := s.metrics()
		require.Equal(s, 1.0, s.only(m["seawall.account.unpriced"]).value)
		require.NotEmpty(s, m["seawall.account.tokens"])
		require.Empty(s, m["seawall.account.cost"])
	})
}

// What layers do is counted by few words.
func TestCountsOfEvents(t *testing.T) {
	setup{
		transport: []deepseek.Option{
			deepseek.WithMaxConcurrency(1), deepseek.WithBreaker(deepseek.Breaker{InARow: 2, OpenFor: time.Second}),
			deepseek.WithFallbackModels(map[string][]string{"deepseek-v4-pro": {"deepseek-flash"}}),
		},
		server: []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second})},
	}.run(t, func(s *stand) {
		s.srv.RevokeKey("sk-harbour-secret")
		done := make(chan struct{})
		for range 3 {
			go func() {
				s.answered("/chat/completions", streamed)
				done <- struct{}{}
			}()
		}
		time.Sleep(500 * time.Millisecond)
		m := s.metrics()
		require.Equal(s, 2.0, m["seawall.queue.length"][0].value)
		require.Equal(s, 3.0, m["seawall.calls.in_flight"][0].value)
		require.Equal(s, 1.0, s.only(m["seawall.account.in_flight"], "seawall.account=lighthouse", "gen_ai.request.model=deepseek-flash").value)
		require.Equal(s, 2500.0, s.only(m["seawall.account.limit"], "seawall.account=lighthouse", "gen_ai.request.model=deepseek-flash").value)
		for range 3 {
			<-done
		}
		m = s.metrics()
		room := s.only(m["seawall.wait.duration"], "seawall.wait.reason=room")
		require.GreaterOrEqual(s, room.count, uint64(2))
		require.Greater(s, room.value, 2.0)
		require.Equal(s, 1.0, s.only(m["seawall.cooldowns"], "seawall.account=harbour", "seawall.cause=401", "seawall.state=unauthorized").value)
		require.Equal(s, 1.0, s.only(m["seawall.account.state"], "seawall.account=harbour", "seawall.state=unauthorized").value)
		require.Equal(s, 0.0, s.only(m["seawall.account.state"], "seawall.account=harbour", "seawall.state=active").value)
		require.Equal(s, 1.0, s.only(m["seawall.account.keys"], "seawall.account=harbour", "seawall.state=unauthorized").value)
		require.Equal(s, 1.0, s.only(m["seawall.attempts"], "error.type=401").value)

		s.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
			if r.Model == "deepseek-v4-pro" {
				busy := deepseektest.ServiceUnavailable()
				return &busy
			}
			return nil
		})
		resp, _, err := s.ask(s.Context(), "/chat/completions", strings.Replace(question, "deepseek-flash", "deepseek-v4-pro", 1))
		require.NoError(s, err)
		require.Equal(s, 200, resp.StatusCode)
		m = s.metrics()
		require.Equal(s, 1.0, s.only(m["seawall.fallbacks"], "gen_ai.request.model=deepseek-v4-pro", "seawall.fallback.model=deepseek-flash").value)
		require.Positive(s, s.only(m["seawall.attempts"], "seawall.attempt.kind=fallback").value)
		require.Positive(s, s.only(m["seawall.breaker.changes"], "gen_ai.request.model=deepseek-v4-pro", "seawall.state=open").value)
		require.Equal(s, 1.0, s.only(m["seawall.breaker.state"], "gen_ai.request.model=deepseek-v4-pro", "seawall.state=open").value)
		require.Equal(s, 1.0, s.only(m["seawall.breaker.state"], "gen_ai.request.model=deepseek-flash", "seawall.state=closed").value)
		require.Equal(s, 1.0, s.only(m["seawall.endpoint.state"], "seawall.state=impaired").value)
		require.Less(s, m["seawall.retry.budget"][0].value, 100.0)
	})
}

// A call that waited in vain has waited too.
func TestWaitsInVainAreMeasured(t *testing.T) {
	setup{
		transport: []deepseek.Option{deepseek.WithMaxConcurrency(1), deepseek.WithQueue(deepseek.Queue{MaxWait: 2 * time.Second})},
		server:    []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Minute})},
	}.run(t, func(s *stand) {
		done := make(chan struct{})
		go func() { defer close(done); s.answered("/chat/completions", streamed) }()
		time.Sleep(time.Second)
		_, _, err := s.ask(s.Context(), "/chat/completions", streamed)
		require.ErrorIs(s, err, deepseek.ErrQueueFull)
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		_, _, err = s.ask(ctx, "/chat/completions", streamed)
		require.ErrorIs(s, err, context.DeadlineExceeded)
		<-done
		require.InDelta(s, 3, s.only(s.metrics()["seawall.wait.duration"], "seawall.wait.reason=room").value, 1e-9)
		require.Equal(s, uint64(1), s.only(s.metrics()["gen_ai.client.operation.duration"], "error.type=queue_full").count)
	})
}

// Nobody can make series by asking for models that there are not, nor more than
// there may be by asking a host that answers to any name.
func TestModelsAreBounded(t *testing.T) {
	const most = 5
	// Names that are no text cannot be told by any exporter.
	odd := []string{strings.Repeat("x", 500), "a\\u0000b", "\\ud800"}
	setup{telemetry: otel.Options{Models: []string{"deepseek-flash"}, MaxModels: most}}.run(t, func(s *stand) {
		ask := func(model string) {
			_, _, err := s.ask(s.Context(), "/chat/completions", `{"model":"`+model+`","stream":true,"messages":[{"role":"user","content":"Hi"}]}`)
			require.NoError(s, err)
		}
		for i := range 300 {
			ask(fmt.Sprintf("no-such-model-%d", i))
		}
		m := s.metrics()
		for name, points := range m {
			require.Less(s, len(points), 30, name)
			for _, p := range points {
				require.NotContains(s, p.attrs, "no-such-model")
			}
		}
		require.Equal(s, uint64(300), s.only(m["gen_ai.client.operation.duration"], "gen_ai.request.model=_OTHER", "error.type=400").count)
		require.Empty(s, of(m["seawall.account.limit"], "gen_ai.request.model=_OTHER"))
		require.NotEmpty(s, of(m["seawall.account.in_flight"], "gen_ai.request.model=_OTHER"))
		for _, call := range s.calls() {
			require.Equal(s, "chat", call.Name(), "names of spans are few as well")
			require.Contains(s, call.attrs["gen_ai.request.model"], "no-such-model", "but spans tell")
		}

		s.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
			r := deepseektest.Body(200, "text/event-stream", "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n")
			return &r
		})
		for i := range 300 {
			ask(fmt.Sprintf("some-model-%d", i))
		}
		for _, name := range odd {
			ask(name)
		}
		names := map[string]bool{}
		for name, points := range s.metrics() {
			for _, p := range points {
				for part := range strings.SplitSeq(p.attrs, " ") {
					if model, ok := strings.CutPrefix(part, "gen_ai.request.model="); ok {
						names[model] = true
						require.LessOrEqual(s, len(model), 128, name)
					}
				}
			}
		}
		require.Len(s, names, most, "those that were answered first, beside deepseek-flash, and all the others as one: %v", names)
		require.True(s, names["_OTHER"] && names["some-model-0"])
		for _, call := range s.calls() {
			require.LessOrEqual(s, len(call.attrs["gen_ai.request.model"]), 128)
		}
	})
}

// With a model told of beforehand it has its series from the first call on, even
// one that fails.
func TestModelsToldBeforehand(t *testing.T) {
	setup{telemetry: otel.Options{Models: []string{"mine"}}}.run(t, func(s *stand) {
		_, _, err := s.ask(s.Context(), "/chat/completions", `{"model":"mine","messages":[]}`)
		require.NoError(s, err)
		require.Len(s, of(s.metrics()["gen_ai.client.operation.duration"], "gen_ai.request.model=mine"), 1)
		s.answered("/chat/completions", question)
		require.Len(s, of(s.metrics()["gen_ai.client.operation.duration"], "gen_ai.request.model=deepseek-flash"), 1)
	})
}

// Paths that no model answers have spans, and none of the metrics of models.
func TestOtherPaths(t *testing.T) {
	setup{}.run(t, func(s *stand) {
		client, err := deepseek.New(deepseek.WithBaseURL(s.srv.URL), deepseek.WithAPIKeys("sk-harbour-secret"), deepseek.WithTransport(s.tr))
		require.NoError(s, err)
		_, err = client.Models(s.Context())
		require.NoError(s, err)
		_, err = client.Balance(s.Context())
		require.NoError(s, err)
		synctest.Wait()
		var names []string
		for _, call := range s.calls() {
			names = append(names, call.Name())
		}
		require.Equal(s, []string{"list_models", "user_balance"}, names)
		m := s.metrics()
		for name := range m {
			require.False(s, strings.HasPrefix(name, "gen_ai."), name)
		}
		require.NotEmpty(s, m["seawall.attempts"])
	})
}

func TestNewChecks(t *testing.T) {
	_, err := otel.New(otel.Options{MaxModels: -1})
	var bad *deepseek.ConfigError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "MaxModels", bad.Field)
	_, err = otel.New(otel.Options{TracerProvider: tracenoop.NewTracerProvider(), MeterProvider: metricnoop.NewMeterProvider()})
	require.NoError(t, err, "nothing at all")
	_, err = otel.New(otel.Options{})
	require.NoError(t, err, "the global providers")
}

// Watch can be ended.
func TestWatchEnds(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	tel, err := otel.New(otel.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	require.NoError(t, err)
	calls := 0
	stop, err := tel.Watch(func() deepseek.Stats { calls++; return deepseek.Stats{Calls: 7, RetryBudget: -1} })
	require.NoError(t, err)
	m := collect(t, reader)
	require.Equal(t, 7.0, m["seawall.calls"][0].value)
	require.NotContains(t, m, "seawall.retry.budget", "without a bound")
	require.NoError(t, stop())
	require.NotContains(t, collect(t, reader), "seawall.calls")
	require.Equal(t, 1, calls)
}
