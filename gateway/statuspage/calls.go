package statuspage

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
)

// How many requests are kept: of those that went through trouble more, because
// it is them that are looked for.
const (
	callsKept   = 50
	trouble     = 100
	attemptsOut = 12 // of a request, at most
)

// callRow is a request as the page shows it.
type callRow struct {
	Number  int64        `json:"n"`
	ID      string       `json:"id"`
	At      int64        `json:"at"` // when it ended, in ms
	Client  string       `json:"client,omitempty"`
	Path    string       `json:"path"`
	Model   string       `json:"model,omitempty"`
	Stream  bool         `json:"stream,omitempty"`
	Status  int          `json:"status"`
	Outcome string       `json:"outcome"`
	Code    string       `json:"code,omitempty"`
	Error   string       `json:"error,omitempty"`
	First   int64        `json:"first,omitempty"` // ms until the first data
	Took    int64        `json:"took"`            // ms
	Hit     int          `json:"hit,omitempty"`
	Miss    int          `json:"miss,omitempty"`
	Output  int          `json:"output,omitempty"`
	Cost    float64      `json:"cost,omitempty"`
	Guess   bool         `json:"guess,omitempty"` // the cost is estimated
	Cache   string       `json:"cache,omitempty"` // what the response cache was for it
	Trail   []attemptRow `json:"trail,omitempty"`
	More    int          `json:"more,omitempty"` // attempts that are not in the trail
}

// attemptRow is an attempt as the page shows it.
type attemptRow struct {
	Kind     string `json:"kind"`
	Endpoint string `json:"endpoint,omitempty"`
	Account  string `json:"account,omitempty"`
	Key      string `json:"key,omitempty"`
	Model    string `json:"model,omitempty"` // if it is another
	Status   int    `json:"status,omitempty"`
	Error    string `json:"error,omitempty"`
	Wait     int64  `json:"wait,omitempty"` // ms
	Took     int64  `json:"took"`           // ms
	Trace    string `json:"trace,omitempty"`
	Note     string `json:"note,omitempty"` // "hedge", "continues"
}

// calls keeps the last requests. The zero value is ready; safe for concurrent use.
type calls struct {
	mu       sync.Mutex
	number   int64     // of the last one
	smooth   []callRow // oldest first; guarded by mu, as is the next
	troubled []callRow
}

// add keeps a request that has ended. It is read now, so that nothing of the
// call is held on to.
func (c *calls) add(e *gateway.RequestEnd, now time.Time) {
	row := newCallRow(e, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	row.Number = c.number
	if row.Outcome == string(gateway.Answered) && !wasRepaired(e.Call.Attempts) {
		c.smooth = push(c.smooth, row, callsKept)
	} else {
		c.troubled = push(c.troubled, row, trouble)
	}
}

// push appends to a list that keeps so many.
func push[E any](list []E, e E, most int) []E {
	if len(list) < most {
		return append(list, e)
	}
	copy(list, list[1:])
	list[most-1] = e
	return list
}

// all returns the requests that are kept, oldest first.
func (c *calls) all() []callRow {
	c.mu.Lock()
	list := slices.Concat(c.smooth, c.troubled)
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b callRow) int { return int(a.Number - b.Number) })
	return list
}

func newCallRow(e *gateway.RequestEnd, now time.Time) callRow {
	row := callRow{
		ID: e.ID, At: now.UnixMilli(), Client: short(e.Client), Path: short(e.Path), Model: short(e.Model), Stream: e.Stream,
		// After a sign of life it is DeepSeek's status that tells.
		Status: max(e.Status, e.Call.Status), Outcome: string(e.Outcome), Code: e.Code, Error: told(e.Err),
		First: e.Call.FirstData.Milliseconds(), Took: e.Duration.Milliseconds(),
		Cost: e.Call.Cost.Amount.Float64(), Guess: e.Call.Cost.Estimated, Cache: string(e.Call.Cache),
	}
	if u := e.Call.Usage; u != nil {
		row.Hit, row.Miss, row.Output = u.PromptCacheHitTokens, u.PromptCacheMissTokens, u.CompletionTokens
	}
	last := brokenLast(&e.Call)
	for i, a := range e.Call.Attempts {
		if i == attemptsOut {
			row.More = len(e.Call.Attempts) - i
			break
		}
		one := attemptRow{
			Kind: kindOf(a), Endpoint: short(a.Endpoint), Account: short(a.Account), Key: a.Key, Status: a.Status, Error: told(a.Err),
			Wait: a.Wait.Milliseconds(), Took: a.Duration.Milliseconds(), Trace: short(a.TraceID),
		}
		if a.Model != e.Model {
			one.Model = short(a.Model)
		}
		broke := a.Broke
		if i == last {
			one.Kind, broke = "fault", e.Call.Err
		}
		if broke != nil {
			one.Error = "broke off after its first data: " + told(broke)
		}
		switch {
		case a.Hedge:
			one.Note = "hedge"
		case a.Continues:
			one.Note = "continues"
		}
		row.Trail = append(row.Trail, one)
	}
	return row
}

// Bounds of what others may have made long.
const (
	shortest = 120 // names
	longest  = 240 // errors
)

func short(s string) string { return cut(s, shortest) }

// told is an error's text, as far as there is room for it, without what servers say:
// that may repeat a prompt.
func told(err error) string {
	if err == nil {
		return ""
	}
	return cut(strings.TrimPrefix(deepseek.LogText(err), "deepseek: "), longest)
}

// cut keeps the first most bytes of s, or up to three less.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

// isGivenUp reports whether an attempt ended because its caller did not want it
// any more.
func isGivenUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
