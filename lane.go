package deepseek

import (
	"cmp"
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
//
// A call that could go to several places stands in the lines of all of them,
// in each by its time of arrival, and goes to whichever wakes it first.
type lane struct {
	seq  atomic.Uint64 // counts the times after which there may be room; read before busy
	busy atomic.Bool   // somebody waits or tries

	// unsteady says that how quickly the line has moved tells nothing of how it
	// will. Set before use.
	unsteady bool
	// beyond says that a call has been let in elsewhere before it comes here, and
	// keeps this lane's baton meanwhile. Set before use.
	beyond bool

	mu      sync.Mutex
	line    []*waiter // by ticket
	trying  bool      // the baton is out
	again   bool      // there was room while it was
	lastIn  time.Time // when the baton's holder was last let in
	pace    time.Duration
	samples int
}

// admits reports whether c may look for room: nobody is before it.
func (l *lane) admits(c *call) bool { return c.baton == l || !l.busy.Load() }

// admitted says that c has got its room.
func (l *lane) admitted(c *call) {
	if c.baton == l {
		c.letIn()
	}
}

// letIn hands on the baton of a call that has got room, be it in another place
// than the one whose lane woke it.
func (c *call) letIn() {
	if l := c.baton; l != nil {
		c.baton = nil
		l.pass(true)
	}
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

// wakeFirst gives the baton to the first in line whom no other lane has woken.
// l.mu is held.
func (l *lane) wakeFirst() {
	l.again, l.trying = false, false
	for len(l.line) > 0 && !l.trying {
		first := l.line[0]
		l.line = slices.Delete(l.line, 0, 1)
		l.trying = first.wake(l)
	}
	l.setBusy(l.trying)
}

// setBusy tells whether somebody waits or tries. Who was refused because somebody did,
// and joins when nobody does any more, has nobody to wait for: the older seq that he
// knows has him try. l.mu is held.
func (l *lane) setBusy(busy bool) {
	l.busy.Store(busy)
	if !busy {
		l.seq.Add(1)
	}
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

// join puts a waiter in line. It returns a guess of how long it will wait; 0 if
// there is nothing to go by.
func (l *lane) join(w *waiter, seq uint64, keepBaton bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.find(w.ticket)
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
	if i > 0 && l.samples >= paceSamples && !l.unsteady { // the first always tries: the pace may be an old one
		return l.pace * time.Duration(i)
	}
	return 0
}

// find returns the place in line of the first whose ticket is not before the
// given one. l.mu is held.
func (l *lane) find(ticket uint64) int {
	i, _ := slices.BinarySearchFunc(l.line, ticket, func(w *waiter, t uint64) int { return cmp.Compare(w.ticket, t) })
	return i
}

// leave takes a waiter that this lane did not wake out of the line. look is when
// it would have looked again; who comes after it may not know.
func (l *lane) leave(w *waiter, look time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := l.find(w.ticket); i < len(l.line) && l.line[i].ticket == w.ticket; i++ {
		if l.line[i] == w {
			l.line = slices.Delete(l.line, i, i+1)
			break
		}
	}
	l.setBusy(l.trying || len(l.line) > 0)
	if len(l.line) > 0 && !look.IsZero() {
		l.line[0].inherit(heirloom{l, look})
	}
}
