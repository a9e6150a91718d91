package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// told is what a gateway has told monitoring.
type told struct {
	spans  *tracetest.SpanRecorder
	reader *sdkmetric.ManualReader
}

// tell has settings tell.
func tell(s gateway.Settings) (gateway.Settings, *told) {
	d := &told{tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()}
	s.Providers.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(d.spans))
	s.Providers.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(d.reader))
	return s, d
}

// attrs are a span's attributes.
func attrs(s sdktrace.ReadOnlySpan) map[string]string {
	m := map[string]string{}
	for _, kv := range s.Attributes() {
		m[string(kv.Key)] = kv.Value.String()
	}
	return m
}

// sums are the values of all counters and gauges, by name and attributes.
func (d *told) sums(t testing.TB) map[string]float64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, d.reader.Collect(context.Background(), &data))
	all := map[string]float64{}
	put := func(name string, set attribute.Set, value float64) {
		line := name
		for _, kv := range set.ToSlice() {
			line += " " + string(kv.Key) + "=" + kv.Value.String()
		}
		all[line] += value
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			put := func(set attribute.Set, value float64) { put(m.Name, set, value) }
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				values(d.DataPoints, put)
			case metricdata.Sum[float64]:
				values(d.DataPoints, put)
			case metricdata.Gauge[int64]:
				values(d.DataPoints, put)
			case metricdata.Gauge[float64]:
				values(d.DataPoints, put)
			case metricdata.Histogram[int64]:
				counts(d.DataPoints, put)
			case metricdata.Histogram[float64]:
				counts(d.DataPoints, put)
			}
		}
	}
	return all
}

func values[N int64 | float64](points []metricdata.DataPoint[N], put func(attribute.Set, float64)) {
	for _, p := range points {
		put(p.Attributes, float64(p.Value))
	}
}

func counts[N int64 | float64](points []metricdata.HistogramDataPoint[N], put func(attribute.Set, float64)) {
	for _, p := range points {
		put(p.Attributes, float64(p.Count))
	}
}

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
)

// A request with a traceparent is a span of that trace, its call one below it, and
// the attempts below that. The log tells the trace, the API's host nothing of it.
func TestTraces(t *testing.T) {
	settings, d := tell(guests(gateway.Client{}))
	setup{settings: settings, opts: []deepseek.Option{deepseek.WithStrategy(deepseek.RoundRobin{})}}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.ServiceUnavailable())
		req := b.request(http.MethodPost, "/v1/chat/completions", streamBody)
		req.Header.Set("Authorization", "Bearer "+aliceKey)
		req.Header.Set("Traceparent", "00-"+traceID+"-"+spanID+"-01")
		req.Header.Set("Tracestate", "vendor=1")
		req.Header.Set("Baggage", "user=somebody")
		req.Header.Set("B3", "0")
		req.Header.Set("X-B3-Traceid", traceID)
		resp, err := b.client.Do(req)
		require.NoError(b, err)
		b.whole(resp)
		time.Sleep(time.Second)

		byName := map[string]sdktrace.ReadOnlySpan{}
		attempts := 0
		for _, s := range d.spans.Ended() {
			require.Equal(b, traceID, s.SpanContext().TraceID().String(), s.Name())
			if s.Name() == "attempt" {
				attempts++
			}
			byName[s.Name()] = s
		}
		require.Equal(b, 2, attempts)
		server, call := byName["POST /v1/chat/completions"], byName["chat deepseek-flash"]
		require.Equal(b, spanID, server.Parent().SpanID().String())
		require.Equal(b, server.SpanContext().SpanID(), call.Parent().SpanID())
		require.Equal(b, call.SpanContext().SpanID(), byName["attempt"].Parent().SpanID())
		require.Equal(b, map[string]string{
			"http.request.method": "POST", "http.route": "/v1/chat/completions", "http.response.status_code": "200",
			"seawall.client": "alice", "seawall.request.id": resp.Header.Get("X-Request-Id"),
		}, attrs(server))

		for _, r := range b.srv.Requests() {
			for name := range r.Header {
				require.NotContains(b, []string{"Traceparent", "Tracestate", "Baggage", "B3", "X-B3-Traceid"}, name)
			}
		}
		lines := 0
		for line := range strings.Lines(b.logs.String()) {
			lines++
			require.Contains(b, line, `"trace_id":"`+traceID+`"`)
			require.Contains(b, line, `"id":"`+resp.Header.Get("X-Request-Id")+`"`)
		}
		require.GreaterOrEqual(b, lines, 2, b.logs)

		// Not sampled there, not sampled here.
		time.Sleep(time.Second)
		before := len(d.spans.Ended())
		req = b.request(http.MethodPost, "/chat/completions", chatBody)
		req.Header.Set("Authorization", "Bearer "+aliceKey)
		req.Header.Set("Traceparent", "00-"+traceID+"-"+spanID+"-00")
		resp, err = b.client.Do(req)
		require.NoError(b, err)
		b.whole(resp)
		time.Sleep(time.Second)
		require.Len(b, d.spans.Ended(), before)
		// Nonsense is nobody's trace.
		req = b.request(http.MethodPost, "/chat/completions", chatBody)
		req.Header.Set("Authorization", "Bearer "+aliceKey)
		req.Header.Set("Traceparent", "00-zz-yy-01")
		resp, err = b.client.Do(req)
		require.NoError(b, err)
		b.whole(resp)
		time.Sleep(time.Second) // the server's span ends after its response
		last := d.spans.Ended()[len(d.spans.Ended())-1]
		require.False(b, last.Parent().IsValid())
	})
}

// The log tells the client's trace where there are no spans.
func TestLogsTellTheTraceWithoutSpans(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		req := b.request(http.MethodPost, "/chat/completions", chatBody)
		req.Header.Set("Traceparent", "00-"+traceID+"-"+spanID+"-00")
		resp, err := b.client.Do(req)
		require.NoError(b, err)
		b.whole(resp)
		time.Sleep(time.Second)
		require.Contains(b, b.logs.String(), `"trace_id":"`+traceID+`"`)
		resp, err = b.client.Do(b.request(http.MethodPost, "/chat/completions", chatBody))
		require.NoError(b, err)
		b.whole(resp)
		time.Sleep(time.Second)
		require.Equal(b, 1, strings.Count(b.logs.String(), "trace_id"))
	})
}

// What clients have used and spent is told of each, and adds up.
func TestMetricsOfClients(t *testing.T) {
	settings, d := tell(guests(gateway.Client{RequestsPerMinute: 3, BudgetPerMonth: 5}))
	setup{settings: settings}.run(t, func(b *bench) {
		for range 4 {
			b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		}
		b.whole(b.ask(bobKey, "/chat/completions", streamBody))
		b.whole(b.ask("sk-wrong", "/chat/completions", chatBody))
		time.Sleep(time.Second)
		m := d.sums(b)
		require.Equal(b, 3.0, m["seawall.client.requests http.response.status_code=200 seawall.client=alice"])
		require.Equal(b, 1.0, m["seawall.client.requests error.type=requests_exceeded http.response.status_code=429 seawall.client=alice"])
		require.Equal(b, 1.0, m["seawall.client.requests http.response.status_code=200 seawall.client=bob"])
		require.Equal(b, 1.0, m["seawall.client.requests error.type=invalid_api_key http.response.status_code=401"])
		require.Equal(b, 5.0, m["seawall.client.budget seawall.client=alice seawall.currency=USD"])
		cost := map[string]float64{}
		var accounts, clients float64
		for line, value := range m {
			switch name, rest, _ := strings.Cut(line, " "); name {
			case "seawall.client.cost":
				clients += value
				for _, client := range []string{"alice", "bob"} {
					if strings.Contains(rest, "seawall.client="+client) {
						cost[client] += value
					}
				}
			case "seawall.account.cost":
				accounts += value
			}
		}
		for _, c := range b.g.Clients() {
			require.Positive(b, c.Spent)
			require.InDelta(b, c.Spent.Float64(), cost[c.Name], 1e-12)
			require.InDelta(b, c.Spent.Float64(), m["seawall.client.spent seawall.client="+c.Name+" seawall.currency=USD"], 1e-12)
		}
		require.InDelta(b, b.g.Transport().Stats().Spend.Amount.Float64(), accounts, 1e-12)
		require.InDelta(b, accounts, clients, 1e-12)

		// It goes on over a reload, whose transport is another.
		require.NoError(b, b.g.Reload(settings, deepseek.WithBaseURL(b.srv.URL), deepseek.WithTransport(b.srv.Transport()),
			deepseek.WithAccounts(deepseek.Account{Name: "main", Keys: []string{upstreamKey}})))
		b.whole(b.ask(bobKey, "/chat/completions", streamBody))
		time.Sleep(time.Second)
		require.Equal(b, 2.0, d.sums(b)["seawall.client.requests http.response.status_code=200 seawall.client=bob"])
		require.Equal(b, 6.0-1, d.sums(b)["seawall.calls"])
	})
}

// Nobody makes series by asking for anything that comes to mind.
func TestSeriesAreBounded(t *testing.T) {
	settings, d := tell(gateway.Settings{})
	setup{settings: settings}.run(t, func(b *bench) {
		send := func(method, path, body string) {
			req := b.request(method, path, body)
			resp, err := b.client.Do(req)
			require.NoError(b, err)
			b.whole(resp)
		}
		count := func() int { return len(d.sums(b)) }
		round := func(from int) {
			for i := from; i < from+40; i++ {
				send("POST", fmt.Sprintf("/nowhere/%d", i), chatBody)
				send("POST", fmt.Sprintf("/anthropic/v1/%d", i), chatBody)
				send("GET", fmt.Sprintf("/models/model-%d", i), "")
				send("GET", fmt.Sprintf("/v1/files/file-%d/content", i), "")
				send(fmt.Sprintf("M%d", i), "/chat/completions", "")
				send("POST", "/chat/completions", strings.Replace(chatBody, "deepseek-flash", fmt.Sprintf("model-%d", i), 1))
			}
		}
		round(0)
		before := count()
		round(1000)
		require.Equal(b, before, count())
		names := map[string]bool{}
		for _, s := range d.spans.Ended() {
			names[s.Name()] = true
		}
		require.Less(b, len(names), 12, "%v", names)
		require.True(b, names["GET /models/{id}"] && names["GET /v1/files/{id}/content"], "%v", names)
	})
}

// Whatever happens to a request, nothing of its prompt, its answer or any key is
// told to anybody but the client.
func TestNothingSecretIsTold(t *testing.T) {
	const prompt, answer = "xyzzyprompt", "xyzzyanswer"
	echo := `{"error":{"message":"you said ` + prompt + `","type":"invalid_request_error","code":"` + prompt + `"}}`
	settings, d := tell(guests(gateway.Client{}))
	setup{
		settings: settings,
		opts:     []deepseek.Option{deepseek.WithStreamResume(), deepseek.WithRetry(deepseek.Retry{MaxAttempts: 3}), deepseek.WithCache(deepseek.Cache{})},
		server: []deepseektest.Option{deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer {
			return deepseektest.Answer{Reasoning: answer, Content: strings.Repeat(answer+" ", 20)}
		})},
	}.run(t, func(b *bench) {
		replies := []deepseektest.Reply{
			{}, deepseektest.ServiceUnavailable(), deepseektest.Body(400, "application/json", echo), deepseektest.Body(503, "text/plain", echo),
			deepseektest.Body(200, "application/json", echo), deepseektest.Body(200, "text/html", prompt), deepseektest.CutAfter(10),
			deepseektest.ErrorInStream(4, prompt), deepseektest.JunkAfter(3, prompt), deepseektest.ResetBeforeHeaders(), deepseektest.HTML(502),
		}
		n := 0
		for _, reply := range replies {
			for _, always := range []bool{false, true} {
				b.srv.Handle(nil)
				if always {
					b.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &reply })
				} else {
					b.srv.Enqueue(reply)
				}
				for _, body := range []string{chatBody, streamBody} {
					n++
					resp := b.ask([]string{aliceKey, bobKey}[n%2], "/chat/completions", strings.Replace(body, `"Hi"`, fmt.Sprintf("%q", fmt.Sprint(prompt, n)), 1))
					_, _ = all(resp)
				}
				time.Sleep(2 * time.Minute)
			}
		}
		b.srv.Handle(nil)
		for _, bad := range []string{`{"model": "` + prompt, `"` + prompt + `"`, `{"model":1,"x":"` + prompt + `"}`} {
			_, _ = all(b.ask(aliceKey, "/chat/completions", bad))
		}
		b.srv.RevokeKey(upstreamKey)
		_, _ = all(b.ask(aliceKey, "/chat/completions", chatBody))
		_, _ = all(b.ask("sk-seawall-stranger-1", "/chat/completions", chatBody))
		time.Sleep(time.Minute)

		var data metricdata.ResourceMetrics
		require.NoError(b, d.reader.Collect(b.Context(), &data))
		metrics, err := json.Marshal(data)
		require.NoError(b, err)
		text := b.logs.String() + string(metrics)
		for _, s := range d.spans.Ended() {
			text += fmt.Sprintln(s.Name(), s.Status(), s.Attributes(), s.Events())
		}
		for _, sign := range []string{"answer continued", `"msg":"failed"`, `"msg":"refused"`, "seawall.client", "invalid_json", "401", "resume"} {
			require.Contains(b, text, sign, "the test reaches that")
		}
		for _, secret := range []string{prompt, answer, aliceKey, bobKey, upstreamKey, "stranger", gateway.HashKey(aliceKey)} {
			if i := strings.Index(text, secret); i >= 0 {
				b.Fatalf("%q is told: …%s…", secret, text[max(0, i-300):min(len(text), i+100)])
			}
		}
	})
}

// There are metrics without spans.
func TestMetricsWithoutSpans(t *testing.T) {
	settings, d := tell(gateway.Settings{})
	settings.Providers.TracerProvider = nil
	setup{settings: settings}.run(t, func(b *bench) {
		resp, err := b.client.Do(b.request(http.MethodPost, "/chat/completions", chatBody))
		require.NoError(b, err)
		b.whole(resp)
		time.Sleep(time.Second)
		require.Empty(b, d.spans.Started())
		require.True(b, slices.ContainsFunc(slices.Collect(maps.Keys(d.sums(b))), func(line string) bool {
			return strings.HasPrefix(line, "gen_ai.client.operation.duration")
		}))
	})
}
