package deepseek

import "sync"

// budget bounds how much retrying adds to the load of a server in trouble,
// over all calls of a transport. A retry costs a token; a call that succeeds
// gives back what its retries cost, and a call that needed none gives a tenth
// of a token. While some calls succeed the tokens last; in a full outage they
// are soon gone, and then every call has its one attempt.
type budget struct {
	mu     sync.Mutex
	tokens float64
	max    float64
}

// refundFirst is what a success at the first attempt is worth.
const refundFirst = 0.1

func newBudget(size int) *budget { return &budget{tokens: float64(size), max: float64(size)} }

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
	b.tokens = min(b.max, b.tokens+back)
}

func (b *budget) left() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens
}
