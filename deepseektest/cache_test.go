package deepseektest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// conversation sends messages of these texts and returns the usage.
func conversation(t *testing.T, s *Server, c *http.Client, user string, texts ...string) (*tokens, string) {
	t.Helper()
	roles := []string{"system", "user", "assistant"}
	var messages []object
	for i, text := range texts {
		role := roles[0]
		if i > 0 {
			role = roles[1+(i-1)%2]
		}
		messages = append(messages, object{"role": role, "content": text})
	}
	r := post(t, s, c, "/chat/completions", chatRequest(object{"messages": messages, "user_id": user}))
	require.Equal(t, 200, r.StatusCode, "%s", r.body)
	a := parseWhole(t, r.body)
	require.Equal(t, a.usage.Prompt, a.usage.Hit+a.usage.Miss)
	require.Equal(t, a.usage.Hit, a.usage.Details.Cached)
	return a.usage, a.content
}

func TestCachePrefixUnits(t *testing.T) {
	a := strings.Repeat("The common part of all prompts. ", 200)
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		u, _ := conversation(t, s, c, "", a, strings.Repeat("B", 3000))
		require.Zero(t, u.Hit)
		u, _ = conversation(t, s, c, "", a, strings.Repeat("C", 3000))
		require.Zero(t, u.Hit, "A+B then A+C misses")
		u, _ = conversation(t, s, c, "", a, strings.Repeat("D", 3000))
		require.Positive(t, u.Hit, "but A is kept, and A+D hits it")
		require.Zero(t, u.Hit%256)
		require.InDelta(t, len(a)/4+80, u.Hit, 256)
		u, _ = conversation(t, s, c, "anna", a, strings.Repeat("D", 3000))
		require.Zero(t, u.Hit, "user_id has a cache of its own")
	})
}

func TestCacheNextTurnHitsTheTurnBefore(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		system, first := strings.Repeat("Be kind. ", 40), strings.Repeat("Tell me more. ", 40)
		u, answer := conversation(t, s, c, "", system, first)
		require.Zero(t, u.Hit)
		u, _ = conversation(t, s, c, "", system, first, answer, "And then?")
		require.GreaterOrEqual(t, u.Hit, u.Prompt-len("<|user|>And then?<|assistant|>")/4-16-1)

		s.Enqueue(CutAfter(3))
		post(t, s, c, "/chat/completions", chatRequest())
	}, WithCache(Cache{Granularity: 16}))
}

func TestCacheDisabledAndInterval(t *testing.T) {
	a := strings.Repeat("The common part of all prompts. ", 200)
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for range 3 {
			u, _ := conversation(t, s, c, "", a)
			require.Zero(t, u.Hit)
		}
	}, WithCache(Cache{Disabled: true}))
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		conversation(t, s, c, "", a, strings.Repeat("B", 3000))
		u, _ := conversation(t, s, c, "", a, strings.Repeat("C", 3000))
		require.Equal(t, 1536, u.Hit, "units at fixed intervals hit at once")
	}, WithCache(Cache{Interval: 512}))
}
