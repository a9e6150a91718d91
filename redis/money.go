package redis

import (
	"errors"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"
)

// money is what a client has spent in a month, in billionths: known to the server,
// and not told to it yet, of which some may be in a batch under way.
type money struct {
	known, told, untold int64

	heard bool // the server was asked
}

// of is a client's money in a month. c.mu is held.
func (c *Counters) of(month, client string) *money {
	clients := c.months[month]
	if clients == nil {
		clients = map[string]*money{}
		c.months[month] = clients
	}
	m := clients[client]
	if m == nil {
		m = new(money)
		clients[client] = m
	}
	return m
}

// Seed tells what a client is known to have spent in a month: a server that knows
// of less, because it has lost it, is told.
func (c *Counters) Seed(month, client string, amount int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.of(month, client)
	m.known = max(m.known, amount)
}

// Spend adds what a client has spent.
func (c *Counters) Spend(month, client string, amount int64) {
	c.mu.Lock()
	c.of(month, client).untold += amount
	c.mu.Unlock()
	c.wake()
}

// Spent is what all gateways together have spent for the client in a month, as
// far as is known, and at most: while the server is away, the others are believed
// to spend as this one does. The first time it asks the server, for as long as a
// request may wait for that.
func (c *Counters) Spent(month, client string) (known, most int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.of(month, client)
	if !m.heard && !c.down.Load() {
		c.mu.Unlock()
		total, err := c.total(month, client)
		c.mu.Lock()
		m.heard = err == nil
		m.known = max(m.known, total-m.told) // as if what is on its way had come
	}
	own := m.told + m.untold
	known = m.known + own
	if c.down.Load() {
		return known, m.known + own*int64(c.replicas)
	}
	return known, known
}

// total is what the server knows to be spent.
func (c *Counters) total(month, client string) (int64, error) {
	ctx, cancel := c.timed()
	defer cancel()
	n, err := c.n.client.HGet(ctx, c.n.key("spent", month), client).Int64()
	switch {
	case errors.Is(err, redis.Nil):
		return 0, nil
	case err != nil:
		c.down.Store(true)
		return 0, err
	}
	return max(n, 0), nil
}

// spends puts the money of one month into a batch: of the earliest with some to
// tell, else the last; of all clients, if all is to be asked for. c.mu is held.
func (c *Counters) spends(b *batch, all bool) {
	for _, month := range slices.Sorted(maps.Keys(c.months)) {
		b.month = month
		if anyUntold(c.months[month]) {
			break
		}
	}
	for client, m := range c.months[b.month] {
		if m.untold != 0 || all {
			b.Spends = append(b.Spends, spendJSON{client, m.known, m.untold})
			m.told, m.untold = m.untold, 0
		}
	}
}

func anyUntold(clients map[string]*money) bool {
	for _, m := range clients {
		if m.untold != 0 {
			return true
		}
	}
	return false
}
