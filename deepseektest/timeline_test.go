package deepseektest

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimelinePhases(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		time.Sleep(time.Hour) // phases count from the call
		s.Timeline(
			Phase{From: time.Minute, To: 2 * time.Minute, Reply: ServiceUnavailable()},
			Phase{From: 90 * time.Second, To: 3 * time.Minute, Reply: HTML(502)},
			Phase{From: 3 * time.Minute, Reply: Status(500), Match: func(r *Request) bool { return r.Stream }},
		)
		var codes []int
		for range 8 {
			codes = append(codes, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
			time.Sleep(30 * time.Second)
		}
		require.Equal(t, []int{200, 200, 503, 503, 502, 502, 200, 200}, codes)
		require.Equal(t, 500, post(t, s, c, "/chat/completions", chatRequest(streaming)).StatusCode)
		s.Enqueue(Normal())
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest(streaming)).StatusCode, "the queue goes first")
	})
}

func TestTimelineProbabilityIsSeeded(t *testing.T) {
	count := func(seed uint64) (n int) {
		bubble(t, func(t *testing.T, s *Server, c *http.Client) {
			s.Timeline(Phase{Reply: ServiceUnavailable(), Probability: 0.3})
			for range 200 {
				post(t, s, c, "/chat/completions", chatRequest())
			}
			n = s.Count(503)
		}, WithSeed(seed))
		return n
	}
	n := count(7)
	require.InDelta(t, 60, n, 25)
	require.Equal(t, n, count(7))
}
