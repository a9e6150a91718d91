package redis

import (
	"encoding/json"
	"strconv"
	"time"
)

// batch is what the server is told at a time.
type batch struct {
	Me          string      `json:"me"`
	Lease       int64       `json:"lease"`
	Leave       bool        `json:"leave,omitempty"`
	Seq         int64       `json:"seq"`
	Counts      []countJSON `json:"counts,omitempty"`
	Corrections []moreJSON  `json:"corrections,omitempty"`
	Spends      []spendJSON `json:"spends,omitempty"`

	again   bool // it was sent before
	made    time.Time
	month   string
	clients []string // of the counts
	windows []string // keys
}

type countJSON struct {
	N     int    `json:"n"`
	Order uint64 `json:"order"`
}

type moreJSON struct {
	At   int64 `json:"at"`
	More int   `json:"more"`
}

type spendJSON struct {
	Client string `json:"client"`
	Floor  int64  `json:"floor"`
	Add    int64  `json:"add"`
}

// next is the batch to be sent. One of which it is not known whether it came is
// sent again as it was, but for the counts, which are as of now.
func (c *Counters) next(all, leave bool) *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.batch
	if b != nil {
		b.again = true
		if time.Since(b.made) >= time.Minute { // whether it came or not, it is of no minute any more
			b.Corrections, b.windows = nil, nil
		}
	} else {
		c.seq++
		b = &batch{Me: c.n.name, Lease: c.n.config.Lease.Milliseconds(), Seq: c.seq, made: time.Now()}
		c.batch = b
		for _, more := range c.corrections {
			times, amounts := c.window("tokens", more.client)
			b.windows = append(b.windows, times, amounts)
			b.Corrections = append(b.Corrections, moreJSON{more.at, more.more})
		}
		c.corrections = nil
		c.lates(b)
		c.spends(b, all)
	}
	b.Leave = leave
	b.Counts, b.clients = nil, nil
	for client, u := range c.clients {
		switch {
		case u.dirty, all && u.n > 0:
			c.order++
			n := u.n + u.entering
			if leave {
				n = 0
			}
			b.clients = append(b.clients, client)
			b.Counts = append(b.Counts, countJSON{n, c.order})
			u.order, u.dirty = c.order, false
		case all && u.n == 0 && u.asking == 0:
			delete(c.clients, client)
		}
	}
	return b
}

// flush tells the server, and reports whether it heard.
func (c *Counters) flush(all, leave bool) bool {
	b := c.next(all, leave)
	keys := []string{c.n.key("gateways"), c.n.key("anew"), c.n.key("batch", b.Me), c.n.key("spent", b.month)}
	for _, client := range b.clients {
		keys = append(keys, c.n.key("underway", escape(client)))
	}
	keys = append(keys, b.windows...)
	data, err := json.Marshal(b)
	if err == nil {
		ctx, cancel := c.timed()
		defer cancel()
		var reply []any
		if reply, err = flushScript.Run(ctx, c.n.client, keys, data).Slice(); err == nil {
			err = c.told(b, reply)
		}
	}
	if err != nil {
		c.down.Store(true)
		c.mu.Lock()
		for _, client := range b.clients {
			if u := c.clients[client]; u != nil {
				u.dirty = true
			}
		}
		c.mu.Unlock()
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down.Store(b.again && len(c.late) > 0) // the next one tells of those
	return true
}

// told takes in that a batch came.
func (c *Counters) told(b *batch, reply []any) error {
	if len(reply) != 2 {
		return errCounters
	}
	replicas, ok := reply[0].(int64)
	totals, listed := reply[1].([]any)
	if !ok || !listed || replicas < 0 || replicas > 1e6 || len(totals) != 2*len(b.Spends) {
		return errCounters
	}
	known := make([]int64, len(b.Spends))
	for i, s := range b.Spends {
		text, _ := totals[2*i+1].(string)
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || totals[2*i] != s.Client {
			return errCounters
		}
		known[i] = n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := max(1, int(replicas)); n != c.replicas {
		if n < c.replicas {
			c.were, c.wereUntil = c.replicas, time.Now().Add(c.n.config.Lease/5)
		}
		c.replicas = n
	}
	more := len(c.corrections) > 0 || len(c.late) > 0
	for i, s := range b.Spends {
		m := c.of(b.month, s.Client)
		m.known, m.told, m.heard = max(m.known, known[i]), 0, true
	}
	for month, clients := range c.months {
		if anyUntold(clients) {
			more = true
		} else if month < b.month { // it is over
			delete(c.months, month)
		}
	}
	c.batch = nil
	if more {
		c.wake()
	}
	return nil
}
