package deepseek

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Queue says how calls wait while there is no room for them: in the global
// limit, in the accounts' limits, in the rate. There is one waiting room for
// all of these. A waiting call holds nothing. It is first come, first served,
// and a call that was answered 429 keeps its place.
//
// A call whose deadline is nearer than its likely turn is refused at once, as
// is one that comes when the room is full: with [ErrQueueFull].
//
// The zero value is the default.
type Queue struct {
	// MaxLength is how many calls may wait. Default 10,000; negative: none, so
	// that a call without room is refused at once.
	MaxLength int
	// MaxWait is how long one call may wait in all, over all its attempts. Default 10
	// minutes, which is how long DeepSeek itself keeps a request in its own queue.
	MaxWait time.Duration
	// Outages has calls wait as well while no server or no account is fit for use:
	// while the breaker is open, or until an account that is put aside is due to
	// come back. Their turn comes when it is time to find out; a call whose
	// deadline is nearer is refused at once, as all are by default, with
	// [ErrCircuitOpen] or [ErrNoAccount]. Those that find out may still end with what
	// they were answered: a 402, say, or a 503 after the last attempt. It is for work
	// that is not in a hurry.
	Outages bool
}

const (
	defaultQueueLength = 10_000
	defaultQueueWait   = 10 * time.Minute
)

func (q Queue) withDefaults() (Queue, error) {
	if q.MaxWait < 0 {
		return q, badConfig("Queue.MaxWait", q.MaxWait, "must not be negative")
	}
	if q.MaxLength == 0 {
		q.MaxLength = defaultQueueLength
	}
	if q.MaxWait == 0 {
		q.MaxWait = defaultQueueWait
	}
	return q, nil
}

// NewQueue returns the layer in which calls wait for room: it sends a call that
// was refused for want of room on again when its turn comes. Layers below that
// give room are those of [NewBreaker] (while recovering), [NewLimit],
// [NewRateLimit] and [Pool]; by themselves they refuse instead.
func NewQueue(q Queue) (Middleware, error) {
	room, err := newWaitingRoom(q)
	if err != nil {
		return nil, err
	}
	return layer(room.do), nil
}

func newWaitingRoom(q Queue) (*waitingRoom, error) {
	q, err := q.withDefaults()
	if err != nil {
		return nil, err
	}
	room := new(waitingRoom)
	room.policy.Store(&q)
	return room, nil
}

type waitingRoom struct {
	policy  atomic.Pointer[Queue] // a transport's successor may change it
	length  atomic.Int64
	tickets atomic.Uint64

	mu     sync.Mutex
	inside map[*waiter]time.Time // since when they wait, vain tries included; guarded by mu
}

// came and left keep who is in the room, for statistics.
func (q *waitingRoom) came(w *waiter, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inside == nil {
		q.inside = map[*waiter]time.Time{}
	}
	q.inside[w] = since
}

func (q *waitingRoom) left(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.inside, w)
}

// longest is how long the call has waited that has waited longest; 0 if none
// waits.
func (q *waitingRoom) longest(now time.Time) (most time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, since := range q.inside {
		most = max(most, now.Sub(since))
	}
	return most
}

func (q *waitingRoom) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if c.isHedge() {
		return c.pass(next, req)
	}
	defer func() { // a turn that came to nothing: after a panic, or without a body to send
		if unused := c.baton; unused != nil {
			c.baton = nil
			unused.pass(false)
		}
	}()
	if c.ticket == 0 { // its place if it must wait, now or after a 429
		c.ticket = q.tickets.Add(1)
	}
	for {
		c.canWait = q.length.Load() < int64(q.policy.Load().MaxLength)
		resp, err := c.pass(next, req)
		full, ok := err.(*noRoom)
		if !ok && err != nil && q.policy.Load().Outages {
			full = outage(err)
			ok = full != nil
		}
		tried := c.baton // still ours: we did not get in
		c.baton = nil
		if tried != nil && !full.names(tried) {
			tried.pass(false) // stopped by something else: let the next one see
			tried = nil
		}
		if !ok {
			return resp, err
		}
		d, no := q.wait(req.Context(), c, full, c.inRoom(0), tried)
		c.inRoom(d)
		c.waited += d
		switch {
		case no == nil:
		case full.outage == nil:
			return nil, no
		case isContextError(no):
			return nil, &interrupted{err: no, last: full.outage}
		default:
			return nil, full.outage
		}
		// It may have been sent already, to an account that could not serve it.
		if err := c.again(); err != nil {
			return nil, err
		}
	}
}

// wait puts the call in line until its turn comes. before is how long it has waited in
// earlier lines; baton is that of the lane in which the call has just tried, in vain,
// on its turn; nil if there is none.
func (q *waitingRoom) wait(ctx context.Context, c *call, full *noRoom, before time.Duration, baton *lane) (time.Duration, error) {
	start := time.Now()
	policy := q.policy.Load()
	if n := q.length.Add(1); n > int64(max(policy.MaxLength, 0)) {
		q.length.Add(-1)
		if baton != nil {
			baton.pass(false)
		}
		reason := "queue full (" + strconv.Itoa(policy.MaxLength) + " calls waiting)"
		if policy.MaxLength < 0 {
			reason = "no room and no waiting room"
		}
		return 0, full.refusal(reason, before, full.surely(start))
	}
	defer q.length.Add(-1)
	w := newWaiter(c.ticket)
	q.came(w, start.Add(-before))
	defer q.left(w)
	guess := w.join(full, baton, start)
	full.lookAgain(start) // a time that has passed since it was told
	if deadline, ok := c.Deadline(); ok && guess > 0 && !start.Add(guess).Before(deadline) {
		w.giveUp(full)
		return 0, full.refusal("the call's deadline would pass before its turn, in about "+seconds(guess), before, guess)
	}
	var err error
	c.baton, err = w.await(ctx, full, start, start.Add(policy.MaxWait-before))
	waited := time.Since(start)
	c.watch.wait(c, "room", waited)
	if err == errWaitedTooLong {
		err = full.refusal("waited too long", before+waited, 0)
	}
	return waited, err
}
