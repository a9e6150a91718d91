package redis

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
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

// money is what a client has spent in a month, in billionths: known to the server,
// and not told to it yet, of which some may be in a batch under way.
type money struct {
	known, told, untold int64

	heard bool // the server was asked
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
	reply, err := c.enter(client, mine, order, n, gateways, first)
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

const minuteMS = int64(time.Minute / time.Millisecond)

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
	} else {
		c.seq++
		b = &batch{Me: c.n.name, Lease: c.n.config.Lease.Milliseconds(), Seq: c.seq}
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
