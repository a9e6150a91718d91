package deepseek

import (
	"net/http"
	"sync"
)

// allowance bounds how many hedges there are and what they cost, without a
// clock: answers fill it.
type allowance struct {
	mu    sync.Mutex
	left  float64 // hedges that may be sent at once
	spent Money   // on hedges, as far as it was foreseen
}

// earn takes in an answered call.
func (h *hedger) earn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = min(h.left+h.policy.MaxShare, float64(h.policy.Burst))
}

// take takes what a hedge of the call needs, if there is that much.
func (h *hedger) take(c *call, req *http.Request) (price Money, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left < 1 {
		return 0, false
	}
	if h.meter != nil {
		price = h.meter.prompt(c.hostModel(), req.ContentLength)
		if float64(h.spent+price) > h.policy.MaxCost*float64(h.meter.Spend().Amount) {
			return 0, false
		}
	}
	h.left--
	h.spent += price
	return price, true
}

// giveBack is for a hedge that was not sent after all.
func (h *hedger) giveBack(price Money) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left++
	h.spent -= price
}
