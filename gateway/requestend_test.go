package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// Each request is told of once, when the last of it is over, whatever became of it.
func TestOnEnd(t *testing.T) {
	var (
		mu   sync.Mutex
		ends []gateway.RequestEnd
	)
	s := guests(gateway.Client{Models: []string{"deepseek-flash"}})
	s.Models = map[string]string{"gpt-4o": "deepseek-flash"}
	s.OnEnd = func(e gateway.RequestEnd) {
		mu.Lock()
		defer mu.Unlock()
		ends = append(ends, e)
	}
	setup{settings: s}.run(t, func(b *bench) {
		last := func() gateway.RequestEnd {
			b.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			require.NotEmpty(b, ends)
			return ends[len(ends)-1]
		}
		b.srv.Enqueue(deepseektest.ServiceUnavailable(), deepseektest.PauseAfter(3, time.Minute))
		resp := b.ask(aliceKey, "/v1/chat/completions", `{"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}`)
		time.Sleep(time.Second)
		require.Empty(b, ends, "it is under way")
		b.whole(resp)
		e := last()
		require.Equal(b, gateway.Answered, e.Outcome)
		require.Equal(b, "alice", e.Client)
		require.Equal(b, "deepseek-flash", e.Model)
		require.Equal(b, "/v1/chat/completions", e.Path)
		require.True(b, e.Stream)
		require.Equal(b, http.StatusOK, e.Status)
		require.Equal(b, resp.Header.Get("X-Request-Id"), e.ID)
		require.Len(b, e.Call.Attempts, 2)
		require.Positive(b, e.Call.Usage.TotalTokens)
		require.GreaterOrEqual(b, e.Duration, time.Minute)
		require.NoError(b, e.Err)

		b.refused(b.ask(aliceKey, "/chat/completions", `{"model": "deepseek-v4-pro", "messages": []}`), 403, "model_not_allowed")
		e = last()
		require.Equal(b, gateway.Refused, e.Outcome)
		require.Equal(b, "model_not_allowed", e.Code)
		require.Empty(b, e.Call.Attempts)

		b.whole(b.ask(bobKey, "/chat/completions", `{"messages": "wrong"}`))
		require.Equal(b, gateway.Rejected, last().Outcome)

		b.srv.Enqueue(deepseektest.CutAfter(3))
		_, err := all(b.ask(bobKey, "/chat/completions", streamBody))
		require.Error(b, err)
		e = last()
		require.Equal(b, gateway.Failed, e.Outcome)
		require.ErrorContains(b, e.Err, "truncated")

		b.srv.Enqueue(deepseektest.StallAfter(3))
		resp = b.ask(bobKey, "/chat/completions", streamBody)
		require.NoError(b, resp.Body.Close())
		require.Equal(b, gateway.Left, last().Outcome)
		require.Len(b, ends, 5)
	})
}

// What is told after a sign of life has sent the status is no less an error.
func TestOnEndOfLateErrors(t *testing.T) {
	for name, row := range map[string]struct {
		reply   deepseektest.Reply
		opts    []deepseek.Option
		outcome gateway.Outcome
		errType string
		span    codes.Code
	}{
		"an answer":   {reply: deepseektest.Normal(), outcome: gateway.Answered},
		"a fault":     {reply: deepseektest.Status(500), outcome: gateway.Failed, errType: "server_error", span: codes.Error},
		"a rejection": {reply: deepseektest.Status(400), outcome: gateway.Rejected, errType: "400"},
		"no balance":  {reply: deepseektest.Status(402), outcome: gateway.Rejected, errType: "402"},
		"a stall": {reply: deepseektest.Hang(), opts: []deepseek.Option{deepseek.WithTimeouts(deepseek.Timeouts{FirstData: 5 * time.Second})},
			outcome: gateway.Failed, errType: "server_error", span: codes.Error},
		"a compressed answer": {reply: deepseektest.Body(200, "application/json", "compressed").And(deepseektest.WithHeader("Content-Encoding", "gzip")),
			outcome: gateway.Failed, errType: "server_error", span: codes.Error},
		"a stream that was not asked for": {reply: deepseektest.Body(200, "text/event-stream", "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"),
			outcome: gateway.Failed, errType: "server_error", span: codes.Error},
	} {
		t.Run(name, func(t *testing.T) {
			var ends []gateway.RequestEnd
			s, d := tell(guests(gateway.Client{}))
			s.KeepAlive = gateway.KeepAlive{Every: time.Second, WholeAfter: time.Second}
			s.OnEnd = func(e gateway.RequestEnd) { ends = append(ends, e) }
			setup{settings: s, opts: append(row.opts, deepseek.WithoutRetry())}.run(t, func(b *bench) {
				b.srv.Enqueue(row.reply.And(deepseektest.Delayed(5 * time.Second)))
				resp := b.ask(aliceKey, "/chat/completions", chatBody)
				require.Equal(b, http.StatusOK, resp.StatusCode)
				require.Equal(b, row.outcome != gateway.Answered, strings.Contains(b.whole(resp), `"error":`))
				synctest.Wait()
				require.Len(b, ends, 1)
				require.Equal(b, row.outcome, ends[0].Outcome)
				require.Equal(b, http.StatusOK, ends[0].Status, "it is what was sent")
				require.Len(b, b.logs.lines(b, string(row.outcome)), 1)

				line, server := "seawall.client.requests", map[string]string{}
				for _, span := range d.spans.Ended() {
					if span.SpanKind() == trace.SpanKindServer {
						server = attrs(span)
						require.Equal(b, row.span, span.Status().Code)
					}
				}
				require.Equal(b, row.errType, server["error.type"])
				if row.errType != "" {
					line += " error.type=" + row.errType
				}
				require.Equal(b, 1.0, d.sums(b)[line+" http.response.status_code=200 seawall.client=alice"])
			})
		})
	}
}
