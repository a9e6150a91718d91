package gateway

import "time"

// Counters count what clients use at several gateways together. Those of module
// github.com/seawall-go/deepseek/redis are ones. While they fail, each gateway
// counts by itself, with its share of each client's limits: the limit divided by
// their number. All methods are called by many goroutines at once, and must
// return soon.
type Counters interface {
	// Enter lets a request in, unless as many are under way as concurrency says,
	// which are then busy, or the minute has as many as requests says, for which
	// there is to wait; 0 is no limit. After an error it counts as let in. Leave
	// tells the end of each that is.
	Enter(client string, concurrency, requests int) (busy int, wait time.Duration, err error)
	Leave(client string)
	// Take takes tokens of the minute, unless more than most would be in it; used is
	// how many are. Correct finds what was taken at a time, and adds to it or, if
	// more is negative, gives some back.
	Take(client string, tokens, most int) (at int64, used int, wait time.Duration, err error)
	Correct(client string, at int64, more int)
	// Late tells of requests, or tokens, that were let in after an error.
	Late(client string, requests, tokens int)
	// Spend adds what a client has spent in a month ("2026-11"), in billionths. Seed
	// tells what it is known to have spent at least. Spent is what it has, as far
	// as is known, and what it may have at most, as far as can be guessed.
	Spend(month, client string, amount int64)
	Seed(month, client string, amount int64)
	Spent(month, client string) (known, most int64)
	// Replicas is how many gateways there are.
	Replicas() int
}
