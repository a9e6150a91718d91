package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seawall-go/deepseek"
)

// Client is somebody who may use the gateway. If there are any, a request needs
// the key of one of them. What a client has no limit of is limited by what the
// accounts can do.
type Client struct {
	// Name is what logs call it.
	Name string
	// Keys are the hashes of its keys, as HashKey makes them: two of them while
	// one is being replaced.
	Keys []string
	// Concurrency is how many requests it may have under way. Default: no limit.
	Concurrency int
	// RequestsPerMinute and TokensPerMinute are how many it may make and use in any
	// 60 seconds. Tokens are those of prompt and answer: guessed from the request's
	// size when it comes, and corrected when the answer tells. Default: no limit.
	RequestsPerMinute int
	TokensPerMinute   int
	// BudgetPerMonth is how much it may spend in a calendar month (UTC), in the
	// currency of the transport's prices. A request that begins within it is
	// served to its end. Default: no limit.
	BudgetPerMonth float64
	// Models are those that it may ask for, by the names that it uses or those
	// that they stand for. Default: all.
	Models []string
}

// client is a Client and what it has under way and has used. It lives as long as
// clients of its name do, whatever else of them changes.
type client struct {
	name string

	// Guarded by mu.
	mu       sync.Mutex
	limits   Client
	digests  []digest
	inFlight int
	requests window
	tokens   window
	answer   float64 // tokens of an answer, smoothed
}

// fault is what is wrong with a client by itself; no reason if nothing is.
func (c *Client) fault() (field, value, reason string) {
	switch {
	case c.Name == "":
		return "Name", "", "must not be empty"
	case !utf8.ValidString(c.Name):
		return "Name", strconv.Quote(c.Name), "must be UTF-8"
	case len(c.Keys) == 0:
		return "Keys", "", "must hold the hash of a key"
	case c.Concurrency < 0:
		return "Concurrency", strconv.Itoa(c.Concurrency), "must not be negative"
	case c.RequestsPerMinute < 0:
		return "RequestsPerMinute", strconv.Itoa(c.RequestsPerMinute), "must not be negative"
	case c.TokensPerMinute < 0:
		return "TokensPerMinute", strconv.Itoa(c.TokensPerMinute), "must not be negative"
	case !(c.BudgetPerMonth >= 0 && c.BudgetPerMonth < 1e9):
		return "BudgetPerMonth", fmt.Sprint(c.BudgetPerMonth), "must be between 0 and a billion"
	}
	return "", "", ""
}

// enrol makes the clients' roster. Those that old knows by name keep what they
// have used.
func enrol(clients []Client, old map[string]*client) (roster, map[string]*client, error) {
	bad := func(i int, field, value, reason string) error {
		return &deepseek.ConfigError{Field: fmt.Sprintf("Clients[%d].%s", i, field), Value: value, Reason: reason}
	}
	byKey, byName := roster{}, map[string]*client{}
	digests := make([][]digest, len(clients))
	for i, c := range clients {
		if field, value, reason := c.fault(); reason != "" {
			return nil, nil, bad(i, field, value, reason)
		}
		if byName[c.Name] != nil {
			return nil, nil, bad(i, "Name", strconv.Quote(c.Name), "is taken by another client")
		}
		known := old[c.Name]
		if known == nil {
			known = &client{name: c.Name}
		}
		byName[c.Name] = known
		for _, hash := range c.Keys {
			d, ok := parseHash(hash)
			if !ok {
				// It may be the key itself: do not repeat it.
				return nil, nil, bad(i, "Keys", "", "must hold hashes, sha256: and 64 hexadecimal digits; the command \"seawall key new\" makes one")
			}
			if byKey[d] != nil {
				return nil, nil, bad(i, "Keys", hash, "is there already")
			}
			byKey[d] = known
			digests[i] = append(digests[i], d)
		}
	}
	for i, c := range clients { // nothing is wrong: it may count
		known := byName[c.Name]
		known.mu.Lock()
		known.limits, known.digests = c, digests[i]
		known.mu.Unlock()
	}
	return byKey, byName, nil
}

// visit is one request of a client.
type visit struct {
	client *client
	booked int // tokens
	at     int64

	counted *counted // nil: by nobody but the client
}

// counted is what counters know of a visit.
type counted struct {
	Counters
	entered bool  // that it is under way
	takenAt int64 // of its tokens; 0: they were not taken there
}

// by is what is noted of the visit with counters.
func (v *visit) by(counters Counters) *counted {
	if v.counted == nil {
		v.counted = &counted{Counters: counters}
	}
	return v.counted
}

// share is one gateway's part of a limit, of which 0 is none.
func share(limit, among int) int {
	if limit == 0 {
		return 0
	}
	return max(1, limit/among)
}

// enter lets a request in, or says why not.
func (v *visit) enter(c *client, now time.Time, counters Counters) *problem {
	c.mu.Lock()
	concurrency, requests := c.limits.Concurrency, c.limits.RequestsPerMinute
	c.mu.Unlock()
	if counters == nil || concurrency == 0 && requests == 0 {
		if p := c.enter(now, concurrency, requests); p != nil {
			return p
		}
		v.client = c
		return nil
	}
	busy, wait, err := counters.Enter(c.name, concurrency, requests)
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case busy > 0:
			return c.tooBusy(busy)
		case wait > 0:
			return c.tooMany(requests, wait)
		}
		c.requests.advance(now)
		c.requests.add(now, 1)
		c.inFlight++
	} else if p := c.enter(now, share(concurrency, counters.Replicas()), share(requests, counters.Replicas())); p != nil {
		counters.Leave(c.name)
		return p
	} else if requests > 0 {
		counters.Late(c.name, 1, 0)
	}
	v.client, v.by(counters).entered = c, true
	return nil
}

// enter lets a request in by what this gateway has counted, or says why not.
func (c *client) enter(now time.Time, concurrency, requests int) *problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	if concurrency > 0 && c.inFlight >= concurrency {
		return c.tooBusy(c.inFlight)
	}
	if requests > 0 {
		if wait := c.requests.wait(now, 1, requests); wait > 0 {
			return c.tooMany(requests, wait)
		}
		c.requests.add(now, 1)
	}
	c.inFlight++
	return nil
}

func (c *client) tooBusy(busy int) *problem {
	return c.over("concurrency_exceeded", time.Second, "it has %d requests under way, as many as it may", busy)
}

func (c *client) tooMany(requests int, wait time.Duration) *problem {
	return c.over("requests_exceeded", wait, "it has made %d requests in a minute, as many as it may", requests)
}

// over says that the client has used up what it may.
func (c *client) over(code string, wait time.Duration, format string, args ...any) *problem {
	return &problem{
		status: http.StatusTooManyRequests, code: code, retryIn: wait,
		message: fmt.Sprintf("client %q: ", c.name) + fmt.Sprintf(format, args...),
	}
}

// bytesPerToken is what a token of a request comes to, until the answer tells.
const bytesPerToken = 4

// book takes the tokens that a request is thought to come to, or says when there
// will be enough.
func (v *visit) book(now time.Time, size int, counters Counters) *problem {
	c := v.client
	c.mu.Lock()
	defer c.mu.Unlock()
	most := c.limits.TokensPerMinute
	if most == 0 {
		return nil
	}
	thought := size/bytesPerToken + int(c.answer)
	tooMany := func(used int, wait time.Duration) *problem {
		return c.over("tokens_exceeded", wait, "it has used %d tokens of %d in a minute, and this request may come to %d", used, most, thought)
	}
	alone := counters == nil
	if !alone {
		c.mu.Unlock()
		at, used, wait, err := counters.Take(c.name, thought, most)
		c.mu.Lock()
		switch {
		case err != nil:
			alone, most = true, share(most, counters.Replicas())
		case wait > 0:
			return tooMany(used, wait)
		default:
			v.by(counters).takenAt = at
			c.tokens.advance(now)
		}
	}
	if alone {
		if wait := c.tokens.wait(now, thought, most); wait > 0 {
			return tooMany(c.tokens.total, wait)
		}
		if counters != nil {
			counters.Late(c.name, 0, thought)
		}
	}
	v.booked, v.at = thought, c.tokens.add(now, thought)
	return nil
}

// smoothing is how many answers the length of the next is guessed from.
const smoothing = 16

// leave ends the visit. call is what came of it.
func (v *visit) leave(now time.Time, call *deepseek.CallEndEvent) {
	c := v.client
	if k := v.counted; k != nil && k.entered {
		k.Leave(c.name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	if c.limits.TokensPerMinute == 0 {
		return
	}
	switch u := call.Usage; {
	case u != nil:
		c.answer += (float64(u.CompletionTokens) - c.answer) / smoothing
		more := u.PromptTokens + u.CompletionTokens - v.booked
		v.correct(more)
		if more > 0 {
			c.tokens.advance(now)
			c.tokens.add(now, more)
		} else if v.booked > 0 {
			c.tokens.giveBack(now, v.at, -more)
		}
	case call.Cancelled && len(call.Attempts) > 0: // what was thought stays: nobody knows better
	case v.booked > 0 && call.Cost.Amount == 0 && !call.Cost.Estimated: // nothing was used
		v.correct(-v.booked)
		c.tokens.giveBack(now, v.at, v.booked)
	}
}

// correct tells the counters what the tokens that they know of have come to.
func (v *visit) correct(more int) {
	if k := v.counted; k != nil && k.takenAt != 0 {
		k.Correct(v.client.name, k.takenAt, more)
	}
}

// mayAsk says why a client may not ask for a model, under either of its names.
func (c *client) mayAsk(names ...string) *problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	models := c.limits.Models
	if len(models) == 0 || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(models, name) }) {
		return nil
	}
	return &problem{
		status: http.StatusForbidden, code: "model_not_allowed",
		message: fmt.Sprintf("client %q may not ask for model %q; it may for %s", c.name, names[0], strings.Join(models, ", ")),
	}
}

// budget is how much it may spend in a month; 0 if there is no limit.
func (c *client) budget() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limits.BudgetPerMonth
}

// ClientStats is a client at one moment.
type ClientStats struct {
	Name     string         // see [Client]
	InFlight int            // requests that are not answered to their end; here, as is what follows, but for Spent
	Requests int            // in the last minute; counted where they are limited
	Tokens   int            // in the last minute; counted where they are limited
	Spent    deepseek.Money // in the calendar month
	Budget   float64        // for the calendar month; 0: no limit
}

func (c *client) stats(now time.Time) ClientStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests.advance(now)
	c.tokens.advance(now)
	return ClientStats{Name: c.name, InFlight: c.inFlight, Requests: c.requests.total, Tokens: c.tokens.total, Budget: c.limits.BudgetPerMonth}
}
