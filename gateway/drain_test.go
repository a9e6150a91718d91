package gateway_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// From Drain on /readyz sends others elsewhere, and what comes is served.
func TestDrain(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		require.Equal(b, http.StatusOK, b.ask("", "/readyz", "").StatusCode)
		b.srv.Enqueue(deepseektest.PauseAfter(3, 10*time.Second))
		open := b.ask("", "/chat/completions", streamBody)
		b.g.Drain()
		resp := b.ask("", "/readyz", "")
		require.Equal(b, http.StatusServiceUnavailable, resp.StatusCode)
		text, err := io.ReadAll(resp.Body)
		require.NoError(b, err)
		require.Equal(b, "shutting down\n", string(text))
		require.Equal(b, http.StatusOK, b.ask("", "/healthz", "").StatusCode)
		b.whole(b.ask("", "/chat/completions", chatBody))
		require.Contains(b, b.whole(open), "data: [DONE]")
	})
}

// What a running process cannot take over from its file is named.
func TestNeedsRestart(t *testing.T) {
	same := gateway.Config{Listen: "127.0.0.1:8080", TLS: gateway.TLS{Cert: "a.pem", Key: "a.key"}}
	for _, c := range []struct {
		want   []string
		change func(*gateway.Config)
	}{
		{nil, func(*gateway.Config) {}},
		{nil, func(c *gateway.Config) { c.TLS.Cert = "b.pem" }},
		{nil, func(c *gateway.Config) { c.Server.MaxRequest++ }},
		{nil, func(c *gateway.Config) {
			c.Retry.Off, c.Breaker.Off, c.Queue = true, true, deepseek.Queue{MaxLength: 1}
		}},
		{[]string{"listen"}, func(c *gateway.Config) { c.Listen = "127.0.0.1:8081" }},
		{[]string{"tls"}, func(c *gateway.Config) { c.TLS = gateway.TLS{} }},
		{[]string{"server", "log.format"}, func(c *gateway.Config) { c.Server.MaxConnections++; c.Log.Format = "text" }},
	} {
		other := same
		c.change(&other)
		require.Equal(t, c.want, same.NeedsRestart(&other))
		require.Equal(t, c.want, other.NeedsRestart(&same))
	}
}
