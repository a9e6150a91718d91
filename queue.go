package deepseek

import (
	"context"
	"net/http"
	"strconv"
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
	// MaxWait is how long one call may wait in all. Default 10 minutes, which is
	// how long DeepSeek itself keeps a request in its own queue.
	MaxWait time.Duration
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
	return &waitingRoom{policy: q}, nil
}

type waitingRoom struct {
	policy  Queue
	length  atomic.Int64
	tickets atomic.Uint64
}

func (q *waitingRoom) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if c.of != nil { // a hedge is sent now or not at all
		return next.RoundTrip(req)
	}
	if c.ticket == 0 { // its place if it must wait, now or after a 429
		c.ticket = q.tickets.Add(1)
	}
	var waited time.Duration
	for {
		resp, err := next.RoundTrip(req)
		full, ok := err.(*noRoom)
		tried := c.baton // still ours: we did not get in
		c.baton = nil
		if tried != nil && (!ok || full.lane != tried) {
			tried.pass(false) // stopped by something else: let the next one see
		}
		if !ok {
			return resp, err
		}
		d, err := q.wait(req.Context(), c, full, waited, tried == full.lane)
		waited += d
		c.waited += d
		if err != nil {
			return nil, err
		}
		// It may have been sent already, to an account that could not serve it.
		if req, err = c.again(req); err != nil {
			return nil, err
		}
	}
}

// wait puts the call in line until its turn comes. hasBaton says that the call
// has just tried, in vain, on its turn in this lane.
func (q *waitingRoom) wait(ctx context.Context, c *call, full *noRoom, before time.Duration, hasBaton bool) (time.Duration, error) {
	refuse := func(waited, retryIn time.Duration, reason string) (time.Duration, error) {
		return waited, &QueueFullError{Reason: reason, For: full.what(), Waited: before + waited, RetryIn: retryIn}
	}
	start := time.Now()
	look := max(0, full.look.Sub(start))
	retryIn := time.Duration(0)
	if full.sure {
		retryIn = look
	}
	if n := q.length.Add(1); n > int64(max(q.policy.MaxLength, 0)) {
		q.length.Add(-1)
		if hasBaton {
			full.lane.pass(false)
		}
		if q.policy.MaxLength < 0 {
			return refuse(0, retryIn, "no room and no waiting room")
		}
		return refuse(0, retryIn, "queue full ("+strconv.Itoa(q.policy.MaxLength)+" calls waiting)")
	}
	defer q.length.Add(-1)
	w, guess := full.lane.join(c.ticket, full.seq, hasBaton)
	leave := func() {
		if !full.lane.leave(w) {
			full.lane.pass(false)
		}
	}
	guess = max(guess, retryIn)
	if deadline, ok := c.Deadline(); ok && guess > 0 && !start.Add(guess).Before(deadline) {
		leave()
		return refuse(0, guess, "the call's deadline would pass before its turn, in about "+seconds(guess))
	}
	patience := q.policy.MaxWait - before
	wake := patience
	if look > 0 {
		wake = min(wake, look)
	}
	timer := time.NewTimer(wake)
	defer timer.Stop()
	for {
		select {
		case <-w.ready:
			if ctx.Err() != nil { // both at once: do not send for nobody
				full.lane.pass(false)
				return time.Since(start), gaveUp(ctx)
			}
			c.baton = full.lane
			waited := time.Since(start)
			c.watch.wait(c, "room", waited)
			return waited, nil
		case <-ctx.Done():
			leave()
			return time.Since(start), gaveUp(ctx)
		case <-timer.C:
			waited := time.Since(start)
			if waited >= patience {
				leave()
				return refuse(waited, 0, "waited too long")
			}
			full.lane.room() // what we were told to wait for has come
			timer.Reset(patience - waited)
		}
	}
}
