package redis

import "time"

// lateUse is what a client was let in for while the server did not answer, by the
// second, for a minute.
type lateUse struct{ seconds [60]used }

type used struct {
	second           int64 // since 1970
	requests, tokens int
}

// Late tells of requests, or tokens, that were let in after an error. They count in
// the window as used when the server hears of it; what is a minute old by then does
// not.
func (c *Counters) Late(client string, requests, tokens int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := c.late[client]
	if late == nil {
		late = new(lateUse)
		c.late[client] = late
	}
	now := time.Now().Unix()
	u := &late.seconds[now%60]
	if u.second != now {
		*u = used{second: now}
	}
	u.requests += requests
	u.tokens += tokens
}

// lates puts what was let in late into a batch. c.mu is held.
func (c *Counters) lates(b *batch) {
	now := time.Now().Unix()
	for client, late := range c.late {
		requests, tokens := 0, 0
		for _, u := range late.seconds {
			if now-u.second < 60 {
				requests += u.requests
				tokens += u.tokens
			}
		}
		for kind, n := range map[string]int{"requests": requests, "tokens": tokens} {
			if n > 0 {
				times, amounts := c.window(kind, client)
				b.windows = append(b.windows, times, amounts)
				b.Corrections = append(b.Corrections, moreJSON{More: n})
			}
		}
	}
	clear(c.late)
}
