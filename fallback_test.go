package deepseek

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// proFails answers for the pro model by a step and for all others with the answer.
func proFails(s step) *script {
	return scripted(func(req *http.Request) (*http.Response, error) {
		body, _ := req.GetBody()
		text := make([]byte, req.ContentLength)
		_, _ = body.Read(text)
		if strings.Contains(string(text), "pro") {
			return s(req)
		}
		return answers(req)
	})
}

const proRequest = `{"messages":[{"role":"user","content":"Hi"}],"model":"deepseek-v4-pro", "user_id":"u"}`

var toFlash = WithFallbackModels(map[string][]string{ModelPro: {ModelFlash}})

func TestFallbackAnswersWhenAllAttemptsHaveFailed(t *testing.T) {
	for _, c := range []struct {
		name     string
		step     step
		attempts int
	}{
		{"503", status(503), 3}, {"reset", fails(errReset), 3}, {"429", status(429), 3}, {"garbage", jsonReply("<html>"), 3},
		{"400", status(400), 0}, {"404", status(404), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := proFails(c.step)
				var told []FallbackEvent
				tr := transportOver(t, base, toFlash, WithRetry(Retry{MaxAttempts: 3}), WithObserver(Observer{Fallback: func(e FallbackEvent) {
					told = append(told, e)
				}}))
				resp, err := tr.RoundTrip(postAt(t.Context(), testURL, proRequest))
				require.NoError(t, err)
				if c.attempts == 0 {
					require.GreaterOrEqual(t, resp.StatusCode, 400, "that model would not be answered either")
					require.Empty(t, resp.Header.Get("Seawall-Fallback"))
					require.Len(t, base.sent(), 1)
					_, _ = readBody(resp)
					return
				}
				require.Equal(t, 200, resp.StatusCode)
				require.Equal(t, "deepseek-flash", resp.Header.Get("Seawall-Fallback"))
				require.Regexp(t, `^4 attempts: .*; account-1#\w+ deepseek-flash 200 in 0.00s$`, resp.Header.Get("Seawall-Attempts"))
				_, err = readBody(resp)
				require.NoError(t, err)
				sent := base.sent()
				require.Len(t, sent, c.attempts+1)
				require.Equal(t, strings.Replace(proRequest, ModelPro, ModelFlash, 1), sent[c.attempts].body)
				for _, r := range sent[:c.attempts] {
					require.Equal(t, proRequest, r.body)
				}
				require.Len(t, told, 1)
				require.Equal(t, "deepseek-v4-pro to deepseek-flash", told[0].From+" to "+told[0].To)
				base.allClosed(t)
			})
		})
	}
}

func TestFallbackAnswersWhenNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := proFails(status(503))
		tr := transportOver(t, base, toFlash, WithRetry(Retry{MaxAttempts: 1}), WithBreaker(Breaker{MinRequests: 1}))
		for range 5 {
			resp, err := tr.RoundTrip(postAt(t.Context(), testURL, proRequest))
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode)
			_, _ = readBody(resp)
		}
		require.Len(t, base.sent(), 6, "the breaker of the one model is open")
	})
}

// If no model answers, the caller gets what the server last said.
func TestFallbackKeepsTheLastOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503), status(502))
		tr := transportOver(t, base, toFlash, WithRetry(Retry{MaxAttempts: 1}))
		resp, err := tr.RoundTrip(postAt(t.Context(), testURL, proRequest))
		require.NoError(t, err)
		require.Equal(t, 502, resp.StatusCode)
		require.Empty(t, resp.Header.Get("Seawall-Fallback"))
		require.Equal(t, "false", resp.Header.Get("X-Should-Retry"))
		_, _ = readBody(resp)
		base.allClosed(t)

		// One account, put aside for both models: the other one is not even asked.
		base = scripted(status(402))
		tr = transportOver(t, base, toFlash)
		resp, err = tr.RoundTrip(postAt(t.Context(), testURL, proRequest))
		require.NoError(t, err)
		require.Equal(t, 402, resp.StatusCode)
		_, _ = readBody(resp)
		require.Len(t, base.sent(), 1)
		base.allClosed(t)
	})
}

func TestFallBackToOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := proFails(status(503))
		once := WithRetry(Retry{MaxAttempts: 1})
		ask := func(tr *Transport, req *http.Request) int {
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			_, _ = readBody(resp)
			return resp.StatusCode
		}
		require.Equal(t, 503, ask(transportOver(t, base, once), postAt(t.Context(), testURL, proRequest)), "off by default")
		require.Equal(t, 503, ask(transportOver(t, base, once, toFlash), postAt(FallBackTo(t.Context()), testURL, proRequest)), "off for the call")
		require.Equal(t, 200, ask(transportOver(t, base, once, WithFallbackModels(nil)), postAt(FallBackTo(t.Context(), "other"), testURL, proRequest)))
		require.Equal(t, 200, ask(transportOver(t, base, once, toFlash), postAt(FallBackTo(t.Context(), "deepseek-v4-pro-2", "other"), testURL, proRequest)), "the second one")
		require.Contains(t, base.sent()[len(base.sent())-1].body, `"model":"other"`)
		require.Equal(t, 503, ask(transportOver(t, base, once, toFlash), postAt(FallBackTo(t.Context(), "other"), testURL, `not JSON: pro`)))
	})
}

// A caller that has gone away is not answered by another model.
func TestFallbackEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := proFails(hangs)
		tr := transportOver(t, base, toFlash)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tr.RoundTrip(postAt(ctx, testURL, proRequest))
		require.Error(t, err)
		require.Len(t, base.sent(), 1)
	})
}

// The other model may be at another endpoint, by another name.
func TestFallbackOverEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mainAndSpare()
		all[0].Models = map[string]string{ModelPro: ModelPro}
		all[1].Models = map[string]string{ModelFlash: "host/flash"}
		base := hosts{mainHost: scripted(status(402)), spareHost: scripted(answers)}
		client, err := New(WithTransport(base), WithEndpoints(all...), toFlash)
		require.NoError(t, err)
		for range 2 {
			answer, err := client.Chat(t.Context(), &ChatRequest{Model: ModelPro, Messages: []Message{User("Hi")}})
			require.NoError(t, err)
			require.Equal(t, ModelFlash, answer.Header.Get("Seawall-Fallback"))
			require.Equal(t, "spare", answer.Header.Get("Seawall-Endpoint"))
			last := answer.Attempts[len(answer.Attempts)-1]
			require.True(t, last.Fallback)
			require.Equal(t, "host/flash", last.Model)
			require.Equal(t, "spare", last.Endpoint)
		}
		require.Len(t, base[mainHost].sent(), 1)
		require.Contains(t, base[spareHost].sent()[1].body, `"model":"host/flash"`)
	})
}

func TestFallbackConfig(t *testing.T) {
	for _, m := range []map[string][]string{{"": {"a"}}, {"a": {""}}, {"a": {"b", "a"}}} {
		_, err := NewTransport(WithAPIKeys("sk-1"), WithFallbackModels(m))
		var bad *ConfigError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, "FallbackModels", bad.Field)
	}
}
