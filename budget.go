package deepseek

import (
	"sync"
	"sync/atomic"
)

// budget bounds how much retrying adds to the load of a server in trouble,
// over all calls of a transport. A retry costs a token; a call that succeeds
// gives back what its retries cost, and a call that needed none gives a tenth
// of a token. While some calls succeed the tokens last; in a full outage they
// are soon gone, and then every call has its one attempt.
//
// Successes may fill it to its size, or to twice the number of calls on their way
// if that is more: one broken connection can hit all of these at once.
type budget struct {
	calls atomic.Int64 // on their way

	mu     sync.Mutex
	tokens float64
	size   float64
}

// refundFirst is what a success at the first attempt is worth.
const refundFirst = 0.1

func newBudget(size int) *budget { return &budget{tokens: float64(size), size: float64(size)} }

// begin tells of a call, and end that it is over. Both may be asked of nil.
func (b *budget) begin() {
	if b != nil {
		b.calls.Add(1)
	}
}

func (b *budget) end() {
	if b != nil {
		b.calls.Add(-1)
	}
}

// take takes a token for a retry, if there is one.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// refund is for a call that succeeded after that many paid retries.
func (b *budget) refund(retries int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	back := float64(retries)
	if retries == 0 {
		back = refundFirst
	}
	b.tokens = max(b.tokens, min(b.tokens+back, max(b.size, 2*float64(b.calls.Load()))))
}

func (b *budget) left() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens
}
