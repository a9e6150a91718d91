package redis

import (
	"slices"
	"time"
)

// underWay is a client's requests at this gateway. While the server is asked for
// some, others stand in line: they are asked for together.
type underWay struct {
	n        int
	asking   int    // who wants to enter
	entering int    // of these, whom the server may have let in
	order    uint64 // of what it was told last
	dirty    bool   // it was told something else
	line     []*asker
	led      bool // somebody asks, or is about to
}

// asker is a request that wants to enter.
type asker struct {
	concurrency, requests int
	turn                  chan struct{} // it was answered, or is to ask for those in line

	answered bool
	busy     int
	wait     time.Duration
	err      error
}

// Enter lets a request in unless there are as many under way as concurrency says,
// which are then busy, or the minute has as many as requests says, for which there
// is to wait. A limit of 0 is none. After an error it counts as let in: the caller
// has to decide by itself. Of what is let in, Leave must tell the end.
func (c *Counters) Enter(client string, concurrency, requests int) (busy int, wait time.Duration, err error) {
	a := &asker{concurrency: concurrency, requests: requests, turn: make(chan struct{}, 1)}
	c.mu.Lock()
	u := c.clients[client]
	if u == nil {
		u = new(underWay)
		c.clients[client] = u
	}
	u.asking++
	u.line = append(u.line, a)
	leads := !u.led
	u.led = true
	c.mu.Unlock()
	if !leads {
		<-a.turn
	}
	if !a.answered {
		c.ask(client, u)
	}
	return a.busy, a.wait, a.err
}

// mostAtOnce is how many requests the server is asked for in one question.
const mostAtOnce = 1000

// ask asks the server for those in line whose limits are those of the first, who is
// the caller, and has the next one go on.
func (c *Counters) ask(client string, u *underWay) {
	c.mu.Lock()
	first, n := u.line[0], 1
	for n < min(len(u.line), mostAtOnce) && u.line[n].concurrency == first.concurrency && u.line[n].requests == first.requests {
		n++
	}
	these := slices.Clone(u.line[:n])
	u.line = slices.Delete(u.line, 0, n)
	u.entering += n
	c.order++
	u.order = c.order
	mine, order, gateways := u.n, u.order, c.known()
	c.mu.Unlock()
	var reply []int64
	err := errCounters // should it panic
	defer func() { c.answer(u, these, order, reply, err) }()
	reply, err = c.enter(client, mine, order, n, gateways, first)
}

// answer tells those who were asked for, and has the next one go on.
func (c *Counters) answer(u *underWay, these []*asker, order uint64, reply []int64, err error) {
	n := len(these)
	c.mu.Lock()
	defer c.mu.Unlock()
	u.asking -= n
	u.entering -= n
	for i, a := range these {
		a.answered, a.err = true, err
		if err != nil || int64(i) < reply[0] {
			u.n++
		} else {
			a.busy, a.wait = int(reply[1]), time.Duration(reply[2])*time.Millisecond
		}
		a.turn <- struct{}{}
	}
	switch {
	case err != nil:
		u.dirty = true
	case reply[0] < int64(n) && u.order != order: // told of in between, as if let in
		u.dirty = true
		c.wake()
	}
	if u.led = len(u.line) > 0; u.led {
		u.line[0].turn <- struct{}{}
	}
}

func (c *Counters) enter(client string, mine int, order uint64, n, gateways int, limits *asker) ([]int64, error) {
	if c.down.Load() {
		return nil, errDown
	}
	times, amounts := c.window("requests", client)
	ctx, cancel := c.timed()
	defer cancel()
	keys := []string{c.n.key("underway", escape(client)), times, amounts, c.n.key("gateways"), c.n.key("anew")}
	reply, err := enterScript.Run(ctx, c.n.client, keys,
		c.n.name, c.n.config.Lease.Milliseconds(), mine, order, limits.concurrency, limits.requests, n, gateways).Int64Slice()
	if err == nil && (len(reply) != 3 || reply[0] < 0 || reply[0] > int64(n) || reply[1] < 0 || reply[2] < 0 || reply[2] > 2*minuteMS) {
		err = errCounters
	}
	if err != nil {
		c.down.Store(true)
	}
	return reply, err
}

// Leave ends a request that was let in.
func (c *Counters) Leave(client string) {
	c.mu.Lock()
	if u := c.clients[client]; u != nil {
		u.n--
		u.dirty = true
	}
	c.mu.Unlock()
	c.wake()
}
