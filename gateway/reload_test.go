package gateway_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// reload changes the bench's gateway.
func (b *bench) reload(s gateway.Settings, opts ...deepseek.Option) error {
	return b.g.Reload(s, append([]deepseek.Option{
		deepseek.WithBaseURL(b.srv.URL), deepseek.WithTransport(b.srv.Transport()),
		deepseek.WithAccounts(deepseek.Account{Name: "main", Keys: []string{upstreamKey}}),
	}, opts...)...)
}

func TestReload(t *testing.T) {
	setup{settings: guests(gateway.Client{RequestsPerMinute: 3})}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.RateLimited(20))
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		b.srv.Enqueue(deepseektest.PauseAfter(5, 10*time.Second))
		open := b.ask(aliceKey, "/chat/completions", streamBody)
		stats := b.g.Transport().Stats()
		require.Equal(b, 19, stats.Accounts[0].Models[0].Limit)

		// Alice is Carol's neighbour now, Bob is gone, and a model has another name.
		s := guests(gateway.Client{RequestsPerMinute: 3})
		const carolKey = "sk-seawall-carol-0123456789"
		s.Clients[1] = gateway.Client{Name: "carol", Keys: []string{gateway.HashKey(carolKey)}}
		s.Models = map[string]string{"gpt-4o": "deepseek-flash"}
		s.KeepAlive.Every = time.Second
		require.NoError(b, b.reload(s, deepseek.WithRetry(deepseek.Retry{MaxAttempts: 3})))
		after := b.g.Transport().Stats()
		require.Equal(b, stats.Accounts, after.Accounts, "what was learned, and what is in flight")
		require.Equal(b, stats.Calls, after.Calls)

		require.Equal(b, 1, b.g.Clients()[0].InFlight, "Alice's stream")
		require.Equal(b, 2, b.g.Clients()[0].Requests)
		b.whole(b.ask(carolKey, "/chat/completions", strings.Replace(chatBody, "deepseek-flash", "gpt-4o", 1)))
		require.Equal(b, http.StatusUnauthorized, b.ask(bobKey, "/models", "").StatusCode)
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		b.refused(b.ask(aliceKey, "/chat/completions", chatBody), 429, "requests_exceeded")
		require.Contains(b, b.whole(open), "data: [DONE]", "what was under way goes on")
		synctest.Wait()
		require.Zero(b, b.g.Clients()[0].InFlight)

		// The new time between signs of life is for new requests.
		b.srv.Enqueue(deepseektest.Delayed(3500 * time.Millisecond))
		resp := b.ask(carolKey, "/chat/completions", streamBody)
		body := bufio.NewReader(resp.Body)
		require.Equal(b, ": keep-alive\n", line(b, body))
		require.NoError(b, resp.Body.Close())
	})
}

// Whatever is wrong, nothing has changed.
func TestReloadThatCannotBe(t *testing.T) {
	setup{settings: guests(gateway.Client{})}.run(t, func(b *bench) {
		state := gateway.Settings{State: "elsewhere"}
		twice := guests(gateway.Client{})
		twice.Clients[1].Keys = twice.Clients[0].Keys
		for _, r := range []struct {
			s    gateway.Settings
			opts []deepseek.Option
		}{
			{s: state}, {s: twice}, {s: gateway.Settings{MaxRequest: -1}},
			{opts: []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: -1})}},
		} {
			var bad *deepseek.ConfigError
			require.ErrorAs(b, b.reload(r.s, r.opts...), &bad)
			require.Equal(b, http.StatusUnauthorized, b.ask("sk-nobody", "/models", "").StatusCode)
			b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		}
	})
}
