package gateway

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
)

// away are counters that do not answer.
type away struct {
	Counters
	requests, tokens, left int
}

func (c *away) Enter(string, int, int) (int, time.Duration, error) { return 0, 0, errors.New("away") }
func (c *away) Take(string, int, int) (int64, int, time.Duration, error) {
	return 0, 0, 0, errors.New("away")
}
func (c *away) Leave(string)  { c.left++ }
func (c *away) Replicas() int { return 2 }
func (c *away) Late(_ string, requests, tokens int) {
	c.requests += requests
	c.tokens += tokens
}

// While counters are away a client has this gateway's share of its limits, and they
// are told of what it was let in for.
func TestClientWithoutCounters(t *testing.T) {
	c := &client{name: "ci", limits: Client{RequestsPerMinute: 10, TokensPerMinute: 1000}}
	counters, now, in := &away{}, time.Now(), 0
	for range 20 {
		v := new(visit)
		if v.enter(c, now, counters) != nil {
			continue
		}
		if in++; in <= 2 {
			require.Nil(t, v.book(now, 800, counters), "200 tokens")
		}
		v.leave(now, &deepseek.CallEndEvent{Cost: deepseek.Cost{Estimated: true}})
	}
	require.Equal(t, 5, in)
	require.Equal(t, 5, counters.requests)
	require.Equal(t, 400, counters.tokens, "of half of 1000")
	require.Equal(t, 20, counters.left)
}
