package redis

import (
	"context"
	_ "embed"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Counters count what the clients of several gateways use, all gateways together:
// requests under way, requests and tokens in the last 60 seconds, and money in a
// month. It is what the gateway's Settings.Counters wants.
//
// Windows are exact: no 60 seconds have more in them than the limit, however
// requests fall on gateways, and whatever their clocks say. The requests under way
// at a gateway that is not heard of count until its lease ends. Money is added
// once, however often the telling has to be repeated; who asks for it is told what
// was known a tenth of a lease ago at the latest.
//
// If the server does not answer in time, Enter and Take return an error, at once
// until it does again; the caller then counts by itself, with its share of the
// limits: see Replicas. Safe for concurrent use.
type Counters struct {
	n    *Connection
	down atomic.Bool
	asks chan struct{}
	stop context.CancelFunc
	done chan struct{}

	mu          sync.Mutex
	replicas    int
	order       uint64 // of what is said of requests under way
	clients     map[string]*underWay
	corrections []correction
	months      map[string]map[string]*money
	late        map[string]*lateUse

	// While fewer gateways are there than there were a moment ago, they may only be
	// late.
	were      int
	wereUntil time.Time

	batch *batch // under way, or not known to have come
	seq   int64
}

type correction struct {
	client string
	at     int64
	more   int
}

// mostCorrections bounds what is remembered while the server is away. What is
// forgotten counts as used, for a minute.
const mostCorrections = 10_000

//go:embed window.lua
var windowSource string

//go:embed enter.lua
var enterSource string

//go:embed take.lua
var takeSource string

//go:embed flush.lua
var flushSource string

var (
	enterScript = redis.NewScript(windowSource + enterSource)
	takeScript  = redis.NewScript(windowSource + takeSource)
	flushScript = redis.NewScript(windowSource + flushSource)
)

// Counters returns the counters, which tell the server in the background until
// the connection is closed. They are the same each time.
func (n *Connection) Counters() *Counters { return n.counters() }

func newCounters(n *Connection) *Counters {
	ctx, stop := context.WithCancel(context.Background())
	c := &Counters{
		n: n, asks: make(chan struct{}, 1), stop: stop, done: make(chan struct{}), replicas: 1,
		clients: map[string]*underWay{}, months: map[string]map[string]*money{}, late: map[string]*lateUse{},
	}
	go c.run(ctx)
	return c
}

var (
	errDown     = errors.New("redis: the server does not answer")
	errCounters = errors.New("redis: what is counted there is no number")
)

// timed is a context for one request's question.
func (c *Counters) timed() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.n.config.Timeout)
}

func (c *Counters) window(kind, client string) (times, amounts string) {
	client = escape(client)
	return c.n.key(kind, client, "times"), c.n.key(kind, client, "amounts")
}

const minuteMS = int64(time.Minute / time.Millisecond)

// Take takes tokens of the client's minute unless more than most would be in it;
// used is how many are. A number above most is let in when there is nothing else.
// It returns the time by which Correct finds them.
func (c *Counters) Take(client string, tokens, most int) (at int64, used int, wait time.Duration, err error) {
	if c.down.Load() {
		return 0, 0, 0, errDown
	}
	times, amounts := c.window("tokens", client)
	ctx, cancel := c.timed()
	defer cancel()
	reply, err := takeScript.Run(ctx, c.n.client, []string{times, amounts}, tokens, most).Int64Slice()
	if err == nil && (len(reply) != 3 || reply[0] < 0 || reply[1] < 0 || reply[2] < 0 || reply[2] > 2*minuteMS) {
		err = errCounters
	}
	if err != nil {
		c.down.Store(true)
		return 0, 0, 0, err
	}
	return reply[0], int(reply[1]), time.Duration(reply[2]) * time.Millisecond, nil
}

// Correct adds tokens to those taken at a time, which count as used now, or, if
// more is negative, gives some back.
func (c *Counters) Correct(client string, at int64, more int) {
	if more == 0 || at == 0 {
		return
	}
	c.mu.Lock()
	if len(c.corrections) < mostCorrections {
		c.corrections = append(c.corrections, correction{client, at, more})
	}
	c.mu.Unlock()
	c.wake()
}

// known is how many gateways there are, or may still be. c.mu is held.
func (c *Counters) known() int {
	if time.Now().Before(c.wereUntil) {
		return max(c.replicas, c.were)
	}
	return c.replicas
}

// Replicas is how many gateways there are, or were when last heard of.
func (c *Counters) Replicas() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replicas
}

// Connected reports whether the server answers.
func (c *Counters) Connected() bool { return !c.down.Load() }

// Settled reports whether the server knows all that was counted.
func (c *Counters) Settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.clients {
		if u.dirty {
			return false
		}
	}
	for _, clients := range c.months {
		if anyUntold(clients) {
			return false
		}
	}
	return len(c.corrections) == 0 && len(c.late) == 0 && c.batch == nil
}

func (c *Counters) wake() {
	select {
	case c.asks <- struct{}{}:
	default:
	}
}

// run tells the server: at once what it does not know, now and then all that
// must not be forgotten.
func (c *Counters) run(ctx context.Context) {
	defer close(c.done)
	tick := time.NewTicker(c.n.config.Lease / 10)
	defer tick.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			// What is not known to have come, what has come up since, and goodbye.
			for range 3 {
				if !c.flush(true, false) || c.Settled() {
					break
				}
			}
			c.flush(true, true)
			return
		case <-tick.C:
			all = true
		case <-c.asks:
			if c.down.Load() {
				continue // the tick will see whether it is back
			}
		}
		for c.flush(all, false) && c.down.Load() { // it is back, and to be told what it has missed
			all = false
		}
	}
}

func (c *Counters) close() {
	c.stop()
	<-c.done
}
