package statuspage

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
)

// seriesLength is how far back the plots go, in seconds.
const seriesLength = 300

// What is counted, second by second.
const (
	answered  = iota // requests answered by their first attempt, or from the response cache
	repaired         // answered by a later attempt
	failed           // failed
	refused          // refused by the gateway, or rejected by DeepSeek
	left             // that their clients left
	throttled        // attempts that were answered 429
	faults           // attempts that failed in other ways, at once or after their first data
	hit              // prompt tokens from the context cache
	miss             // other prompt tokens
	output           // tokens of answers
	kinds
)

// counts is what was counted in a second, or several.
type counts [kinds]int64

func (c *counts) requests() int64 {
	return c[answered] + c[repaired] + c[failed] + c[refused] + c[left]
}

// series counts what happens by the second, as far back as the plots go. The zero
// value is ready; safe for concurrent use. Nothing has to run for it: a second
// begins when something is counted in it.
type series struct {
	mu      sync.Mutex
	seconds [seriesLength]int64 // which second a place is of; guarded by mu
	points  [seriesLength]counts
}

// at returns the place of a second. s.mu is held.
func (s *series) at(second int64) *counts {
	i := second % seriesLength
	if s.seconds[i] != second {
		s.seconds[i], s.points[i] = second, counts{}
	}
	return &s.points[i]
}

// ended counts a request.
func (s *series) ended(now time.Time, e *gateway.RequestEnd) {
	kind := answered
	switch e.Outcome {
	case gateway.Failed:
		kind = failed
	case gateway.Refused, gateway.Rejected:
		kind = refused
	case gateway.Left:
		kind = left
	default:
		if wasRepaired(e.Call.Attempts) {
			kind = repaired
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.at(now.Unix())
	c[kind]++
	c[faults] += broken(&e.Call)
	if u := e.Call.Usage; u != nil {
		c[hit] += int64(u.PromptCacheHitTokens)
		c[miss] += int64(u.PromptCacheMissTokens)
		c[output] += int64(u.CompletionTokens)
	}
}

// wasRepaired reports whether the call met trouble on its way.
func wasRepaired(trail deepseek.Attempts) bool {
	for _, a := range trail {
		if k := kindOf(a); k != "ok" && k != "lost" && k != "left" {
			return true
		}
	}
	return false
}

// broken counts a call's attempts whose answers broke after their first data: when
// attempted was told of them, all was well. What a call shared with another is the
// other's.
func broken(c *deepseek.CallEndEvent) (n int64) {
	if c.Cache == deepseek.CacheShared {
		return 0
	}
	for _, a := range c.Attempts {
		if a.Broke != nil && (a.Err == nil || a.Lost) {
			n++
		}
	}
	if brokenLast(c) >= 0 {
		n++
	}
	return n
}

// brokenLast is the place in the trail of the attempt whose answer broke after its
// first data and was not continued; -1 if the call did not end that way.
func brokenLast(c *deepseek.CallEndEvent) int {
	if c.Err == nil || c.Cancelled || isGivenUp(c.Err) {
		return -1
	}
	for i, a := range slices.Backward(c.Attempts) {
		switch kindOf(a) {
		case "lost":
		case "ok":
			return i
		default:
			return -1
		}
	}
	return -1
}

// attempted counts an attempt, if it failed for the server's reasons or the
// account's. One that breaks later is counted by ended.
func (s *series) attempted(now time.Time, e deepseek.AttemptEvent) {
	kind := faults
	switch k := kindOf(e.Attempt); {
	case k == "limited":
		kind = throttled
	case k != "fault" && k != "key":
		return
	}
	s.mu.Lock()
	s.at(now.Unix())[kind]++
	s.mu.Unlock()
}

// between returns the counts from a second on, until before another.
func (s *series) between(from, until int64) []counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]counts, 0, max(until-from, 0))
	for second := from; second < until; second++ {
		i := second % seriesLength
		if s.seconds[i] == second {
			list = append(list, s.points[i])
		} else {
			list = append(list, counts{})
		}
	}
	return list
}

// kindOf tells the kinds of attempts apart that mean different things to an
// operator.
func kindOf(a deepseek.Attempt) string {
	switch {
	case a.Lost:
		return "lost"
	case a.Status == http.StatusTooManyRequests:
		return "limited"
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusPaymentRequired, a.Status == http.StatusForbidden:
		return "key"
	case a.Err != nil && isGivenUp(a.Err):
		return "left"
	case a.Err != nil, a.Broke != nil, a.Status >= 500, a.Status == http.StatusRequestTimeout, a.Status == http.StatusConflict:
		return "fault"
	case a.Status >= 400:
		return "rejected"
	}
	return "ok"
}
