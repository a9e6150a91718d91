package otel_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/otel"
)

// Prompts, answers and keys are in no span, metric or log, whatever happens to a
// call, and though the server repeats them in its errors.
func TestNothingSecretIsTold(t *testing.T) {
	const prompt, answer = "xyzzyprompt", "xyzzyanswer"
	var log bytes.Buffer
	logger := slog.New(otel.NewLogHandler(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	echo := `{"error":{"message":"you said ` + prompt + `","type":"invalid_request_error","code":"` + prompt + `","param":"` + prompt + `"}}`
	setup{
		transport: []deepseek.Option{
			deepseek.WithStreamResume(), deepseek.WithLogger(logger), deepseek.WithCache(deepseek.Cache{}), deepseek.WithRetry(deepseek.Retry{MaxAttempts: 3}),
			deepseek.WithTimeouts(deepseek.Timeouts{BetweenData: 20 * time.Second}), deepseek.WithBreaker(deepseek.Breaker{InARow: 2}),
		},
		server: []deepseektest.Option{deepseektest.WithAnswer(func(r *deepseektest.Request) deepseektest.Answer {
			return deepseektest.Answer{Reasoning: answer + " reason", Content: strings.Repeat(answer+" ", 20)}
		})},
		telemetry: otel.Options{Propagate: true},
	}.run(t, func(s *stand) {
		n := 0
		for _, replies := range [][]deepseektest.Reply{
			{},
			{deepseektest.ServiceUnavailable()},
			{deepseektest.Body(400, "application/json", echo)},
			{deepseektest.Body(503, "application/json", echo), deepseektest.Body(429, "application/json", echo), deepseektest.Body(503, "text/html", echo)},
			{deepseektest.Body(200, "application/json", echo), deepseektest.Body(200, "application/json", echo), deepseektest.Body(200, "application/json", echo)},
			{deepseektest.Body(200, "application/json", "no JSON but "+prompt), deepseektest.Body(200, "text/html", "<p>"+prompt), deepseektest.Body(200, "application/json", `{"x":"`+prompt)},
			{deepseektest.CutAfter(20)},
			{deepseektest.StallAfter(20), deepseektest.Body(400, "application/json", echo)},
			{deepseektest.ErrorInStream(5, prompt+" "+answer)},
			{deepseektest.ErrorInStream(0, prompt), deepseektest.ErrorInStream(0, prompt), deepseektest.ErrorInStream(0, prompt)},
			{deepseektest.FinishAfter(4, "insufficient_system_resource")},
			{deepseektest.JunkAfter(3, prompt)},
			{deepseektest.ResetBeforeHeaders(), deepseektest.ResetBeforeHeaders(), deepseektest.ResetBeforeHeaders()},
		} {
			for _, body := range []string{question, streamed} {
				var next atomic.Int64
				s.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
					if i := int(next.Add(1)) - 1; i < len(replies) {
						return &replies[i]
					}
					return nil
				})
				n++
				text := fmt.Sprint(prompt, " ", n)
				ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
				_, _, _ = s.ask(ctx, "/chat/completions", strings.Replace(body, "Why is the sea salt?", text, 1))
				if len(replies) == 0 {
					_, _, _ = s.ask(ctx, "/chat/completions", strings.Replace(body, "Why is the sea salt?", text, 1)) // from the cache
				}
				cancel()
				time.Sleep(2 * time.Minute) // the breaker closes
				time.Sleep(2 * time.Minute) // the breaker lets one pass
			}
		}
		s.srv.Handle(nil)
		s.srv.RevokeKey("sk-harbour-secret")
		s.answered("/chat/completions", question)
		s.answered("/chat/completions", strings.Replace(question, "Why", "How", 1))
		synctest.Wait()

		var all bytes.Buffer
		all.Write(log.Bytes())
		for _, span := range s.spans.Ended() {
			fmt.Fprintln(&all, span.Name(), span.Status(), span.Attributes(), span.Events(), span.Links(), span.Resource())
		}
		var data metricdata.ResourceMetrics
		require.NoError(s, s.reader.Collect(s.Context(), &data))
		require.NoError(s, json.NewEncoder(&all).Encode(data))

		told := all.String()
		for _, sign := range []string{"answer continued", "answer not continued", "attempt", "waiting", "seawall.account", "gen_ai.request.model", "breaker", "cooldown", "truncated"} {
			require.Contains(s, told, sign, "the test reaches that")
		}
		for _, secret := range []string{prompt, answer, "sk-harbour", "sk-lighthouse", "harbour-secret"} {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if i := strings.Index(told, form); i >= 0 {
					s.Fatalf("%q is told: …%s…", secret, told[max(0, i-300):min(len(told), i+200)])
				}
			}
		}
	})
}

// What is logged in the course of a call tells its trace.
func TestLogsTellTheTrace(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(otel.NewLogHandler(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))).With("service", "x").WithGroup("g")
	setup{transport: []deepseek.Option{deepseek.WithLogger(logger)}}.run(t, func(s *stand) {
		s.srv.Enqueue(deepseektest.ServiceUnavailable())
		s.answered("/chat/completions", question)
		call := s.calls()[0]
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.GreaterOrEqual(s, len(lines), 4)
		for i, line := range lines {
			var record struct {
				Msg, Service string
				G            struct {
					Trace string `json:"trace_id"`
					Span  string `json:"span_id"`
				}
			}
			require.NoError(s, json.Unmarshal([]byte(line), &record))
			require.Equal(s, "x", record.Service)
			require.Equal(s, call.SpanContext().TraceID().String(), record.G.Trace, "%d: %s", i, line)
			want := call
			if record.Msg == "attempt" {
				want = call.children[strings.Count(strings.Join(lines[:i], "\n"), `"msg":"attempt"`)]
			}
			require.Equal(s, want.SpanContext().SpanID().String(), record.G.Span, line)
		}
		logger.Info("outside")
		require.NotContains(s, log.String()[strings.LastIndex(log.String(), "outside"):], "trace_id")
	})
}
