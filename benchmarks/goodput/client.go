package main

import (
	"context"
	"net/http"
	"time"
)

// client makes calls, in whatever way it does.
type client interface {
	// do makes one call. The text is what it hands to its caller as the answer.
	do(ctx context.Context, q *question) (text string, err error)
	close()
}

// contender is a kind of client.
type contender struct {
	name  string
	about string
	open  func(*site) (client, error)
}

// site is what a client is set up with.
type site struct {
	url      string
	base     *http.Transport // reaches the server; the client's own
	accounts []siteAccount
	random   func(below time.Duration) time.Duration // for what clients leave to chance
}

// siteAccount is an account as its owner knows it.
type siteAccount struct {
	name string
	keys []string
	// limit is what a client is given that cannot find out itself: the true limit
	// at the start or, where accounts differ without anybody knowing, their
	// average.
	limit int
}

// keys are the keys of all accounts, by turns.
func (s *site) keys() (keys []string) {
	for i, more := 0, true; more; i++ {
		more = false
		for _, a := range s.accounts {
			if i < len(a.keys) {
				keys, more = append(keys, a.keys[i]), true
			}
		}
	}
	return keys
}

// What peers are set to where they have the choice, the same for all.
const (
	// attemptTimeout ends an attempt that hangs: half again what the slowest answer
	// of any scenario takes.
	attemptTimeout = 60 * time.Second
	waitMin        = 250 * time.Millisecond
	waitMax        = 4 * time.Second
)

// backoff is how long peers wait before they try again: it doubles, and half of
// it is random.
func (s *site) backoff(attempt int) time.Duration {
	d := min(waitMax, waitMin<<min(attempt, 10))
	return d/2 + s.random(d/2+1)
}

var contenders = []contender{
	seawall,
	bare,
	retryable,
	failsafeBulkhead,
	failsafeAdaptive,
	openAI,
}
