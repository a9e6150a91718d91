package gateway

import "time"

// Counters count what clients use at several gateways together. Module
// github.com/seawall-go/deepseek/redis has them in Redis. While they fail, each gateway
// counts by itself, with its share of each client's limits: the limit divided by
// their number. All methods are called by many goroutines at once, and must
// return soon.
type Counters interface {
	// Enter lets a request in, unless concurrency of them are under way (busy is then
	// their number) or the last minute had requests (wait is then the time to room); 0
	// is no limit. After an error it counts as let in.
	Enter(client string, concurrency, requests int) (busy int, wait time.Duration, err error)
	// Leave tells the end of a request that was let in.
	Leave(client string)
	// Take takes tokens of the minute, unless it would then have more than most (used
	// is how many it has, and wait the time to room). Correct finds them by at.
	Take(client string, tokens, most int) (at int64, used int, wait time.Duration, err error)
	// Correct adds more to what was taken at a time; less than 0 gives some back.
	Correct(client string, at int64, more int)
	// Late tells of requests, or tokens, that were let in after an error.
	Late(client string, requests, tokens int)
	// Spend adds what a client has spent in a month ("2026-11"), in billionths.
	Spend(month, client string, amount int64)
	// Seed tells what a client has spent in a month at least, should that be lost.
	Seed(month, client string, amount int64)
	// Spent is what a client has spent in a month, as far as is known, and the most
	// that it may be, as far as can be guessed.
	Spent(month, client string) (known, most int64)
	// Replicas is how many gateways there are.
	Replicas() int
}
