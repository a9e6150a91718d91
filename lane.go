package deepseek

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lane is the line of calls that wait for one kind of room: the global limit,
// a model's accounts, a rate. Whoever gives the room keeps the lane and calls
// room when there may be some; the waiting room (queue.go) does the waiting.
//
// The first in line is woken and tries again while holding the lane's baton;
// no newcomer may pass meanwhile. It hands the baton on when it was let in,
// when it gives up, or when something else stops it. So the line is in order
// of arrival, room is never promised to a call that has gone, and there is at
// most one vain try for each time that the room runs out.
type lane struct {
	seq  atomic.Uint64 // counts the times that there may have been room
	busy atomic.Bool   // somebody waits or tries

	mu      sync.Mutex
	line    []*waiter // by ticket
	trying  bool      // the baton is out
	again   bool      // there was room while it was
	lastIn  time.Time // when the baton's holder was last let in
	pace    time.Duration
	samples int
}

// waiter is a call's place in a lane.
type waiter struct {
	ticket uint64
	ready  chan struct{}
}

// noRoom says that a call was not sent because there is no room for it now.
// It never leaves the chain that has a waiting room.
type noRoom struct {
	lane *lane
	seq  uint64        // of the lane, read before room was looked for
	what func() string // what there is no room in, for people
	look time.Time     // worth looking again then, whatever happens before; zero: not known
	sure bool          // nothing can happen before
}

func (e *noRoom) Error() string { return "deepseek: no room: " + e.what() }

// Is matches ErrQueueFull: without a waiting room, no room is the end.
func (e *noRoom) Is(target error) bool { return target == ErrQueueFull }

// admits reports whether c may look for room: nobody is before it.
func (l *lane) admits(c *call) bool { return c.baton == l || !l.busy.Load() }

// admitted says that c has got its room.
func (l *lane) admitted(c *call) {
	if c.baton != l {
		return
	}
	c.baton = nil
	l.pass(true)
}

// room says that there may be room now.
func (l *lane) room() {
	l.seq.Add(1)
	if !l.busy.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trying {
		l.again = true
		return
	}
	l.wakeFirst()
}

// wakeFirst gives the baton to the first in line. l.mu is held.
func (l *lane) wakeFirst() {
	l.again = false
	l.trying = len(l.line) > 0
	if l.trying {
		close(l.line[0].ready)
		l.line = slices.Delete(l.line, 0, 1)
	}
	l.busy.Store(l.trying)
}

// pass takes the baton back. in says that its holder was let in; then, and
// whenever there was room meanwhile, the next may try.
func (l *lane) pass(in bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in {
		l.measure(time.Now())
	}
	l.wakeFirst()
}

// length is how many wait.
func (l *lane) length() int {
	if !l.busy.Load() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.line)
}

// measure keeps the pace at which the line moves. l.mu is held.
func (l *lane) measure(now time.Time) {
	if !l.lastIn.IsZero() {
		gap := now.Sub(l.lastIn)
		if l.samples == 0 {
			l.pace = gap
		} else {
			l.pace += (gap - l.pace) / 16
		}
		l.samples++
	}
	l.lastIn = now
	if len(l.line) == 0 { // the next gap will not be one of waiting
		l.lastIn = time.Time{}
	}
}

// paceSamples is how many moves of the line make its pace worth believing.
const paceSamples = 4

// join puts a call in line. It returns its place and a guess of how long it
// will wait; 0 if there is nothing to go by.
func (l *lane) join(ticket, seq uint64, keepBaton bool) (*waiter, time.Duration) {
	w := &waiter{ticket: ticket, ready: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.line, ticket, func(w *waiter, t uint64) int {
		switch {
		case w.ticket < t:
			return -1
		case w.ticket > t:
			return 1
		}
		return 0
	})
	l.line = slices.Insert(l.line, i, w)
	l.busy.Store(true)
	if keepBaton { // it tried in vain: the baton comes back with it
		l.trying = false
	}
	switch {
	case l.trying:
	case l.again, l.seq.Load() != seq:
		l.wakeFirst()
	}
	var guess time.Duration
	if i > 0 && l.samples >= paceSamples { // the first always tries: the pace may be an old one
		guess = l.pace * time.Duration(i)
	}
	return w, guess
}

// leave takes a waiter out of the line. It is false if the waiter was woken
// already, and so has the baton.
func (l *lane) leave(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.line {
		if other == w {
			l.line = slices.Delete(l.line, i, i+1)
			l.busy.Store(l.trying || len(l.line) > 0)
			return true
		}
	}
	return false
}
