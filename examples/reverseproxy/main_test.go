package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func TestProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" }, deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer {
			return deepseektest.Answer{Content: "It holds."}
		}))
		defer api.Close()
		proxy, err := newProxy(api.URL, api.Options...)
		require.NoError(t, err)

		for _, stream := range []string{"false", "true"} {
			body := `{"model": "deepseek-flash", "stream": ` + stream + `, "messages": [{"role": "user", "content": "Hello"}]}`
			req := httptest.NewRequest(http.MethodPost, "/chat/completions", strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer sk-of-the-client")
			rec := httptest.NewRecorder()
			proxy.ServeHTTP(rec, req)
			require.Equal(t, http.StatusOK, rec.Code, rec.Body)
			require.Contains(t, rec.Body.String(), "It h")
			require.Equal(t, stream == "true", bytes.Contains(rec.Body.Bytes(), []byte("data: [DONE]")))
		}
		for _, r := range api.Server.Requests() {
			require.Equal(t, "sk-fake", r.Key, "the client's key goes nowhere")
		}
	})
}

// Pieces of a stream must not wait in the proxy for its end.
func TestProxyFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" })
		defer api.Close()
		proxy, err := newProxy(api.URL, api.Options...)
		require.NoError(t, err)
		body := `{"model": "deepseek-flash", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}`
		rec := httptest.NewRecorder()
		proxy.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/chat/completions", strings.NewReader(body)))
		require.True(t, rec.Flushed)
		_, err = io.ReadAll(rec.Result().Body)
		require.NoError(t, err)
	})
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" })
		defer api.Close()
		api.Server.Enqueue() // the faults stay
		proxy, err := newProxy(api.URL, append(api.Options, deepseek.WithRateLimit(0.001, 1), deepseek.WithQueue(deepseek.Queue{MaxLength: -1}))...)
		require.NoError(t, err)
		for _, want := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests} {
			rec := httptest.NewRecorder()
			proxy.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/chat/completions", strings.NewReader(`{"model": "deepseek-flash", "messages": []}`)))
			require.Equal(t, want, rec.Code, rec.Body)
		}
	})
}

func TestBadConfiguration(t *testing.T) {
	_, err := newProxy("https://api.deepseek.com", deepseek.WithAPIKeys(""))
	var bad *deepseek.ConfigError
	require.ErrorAs(t, err, &bad)
}
