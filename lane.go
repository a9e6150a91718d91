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
	seq  atomic.Uint64 // counts the times that there may have been room
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

// waiter is a call's place in one lane or several.
type waiter struct {
	ticket uint64
	ready  chan struct{}
	by     atomic.Pointer[lane] // which lane woke it; nobody, if it has given up

	news chan struct{} // there is something in left
	mu   sync.Mutex
	left []heirloom // guarded by mu
}

func newWaiter(ticket uint64) *waiter {
	return &waiter{ticket: ticket, ready: make(chan struct{}), news: make(chan struct{}, 1)}
}

// heirloom is what a waiter knew that has left a lane: when that is worth looking at
// again. The one after it in line gets it.
type heirloom struct {
	lane *lane
	look time.Time
}

// inherit gives the waiter what one before it knew.
func (w *waiter) inherit(h heirloom) {
	w.mu.Lock()
	w.left = append(w.left, h)
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// inherited returns what there is, once.
func (w *waiter) inherited() []heirloom {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.left
	w.left = nil
	return all
}

// nobody is the lane of waiters that no lane may wake any more.
var nobody = new(lane)

// wake wakes the waiter, unless it was woken by another lane or has gone.
func (w *waiter) wake(l *lane) bool {
	if !w.by.CompareAndSwap(nil, l) {
		return false
	}
	close(w.ready)
	return true
}

// noRoom says that a call was not sent because there is no room for it now.
// It never leaves the chain that has a waiting room.
type noRoom struct {
	lane *lane
	seq  uint64        // of the lane, read before room was looked for
	what func() string // what there is no room in, for people
	look time.Time     // worth looking again then, whatever happens before; zero: not known
	sure bool          // nothing can happen before
	also *noRoom       // room there would do as well

	outage error // by which the call was refused, if it was not for want of room
}

func (e *noRoom) Error() string { return "deepseek: no room: " + e.describe() }

// describe says what the call waits for.
func (e *noRoom) describe() string {
	text := e.what()
	for r := e.also; r != nil; r = r.also {
		text += ", or " + r.what()
	}
	return text
}

// Is matches ErrQueueFull: without a waiting room, no room is the end.
func (e *noRoom) Is(target error) bool { return target == ErrQueueFull }

// backAt is the end of a wait that a server has asked for, as a place to wait for: a
// lane in which nobody else is.
func backAt(wait time.Duration) *noRoom {
	return &noRoom{lane: new(lane), what: func() string { return "the time that the server asked for" }, look: time.Now().Add(wait)}
}

// names reports whether l is one of the lanes.
func (e *noRoom) names(l *lane) bool {
	for r := e; r != nil; r = r.also {
		if r.lane == l {
			return true
		}
	}
	return false
}

// or adds the places that other names to e, and returns e. Both may be nil; other is
// not to be used any more.
func (e *noRoom) or(other *noRoom) *noRoom {
	if e == nil {
		return other
	}
	end := e
	for end.also != nil {
		end = end.also
	}
	for other != nil {
		next := other.also
		other.also = nil
		if !e.names(other.lane) {
			end.also = other
			end = other
		}
		other = next
	}
	return e
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
	l.busy.Store(l.trying || len(l.line) > 0)
	if len(l.line) > 0 && !look.IsZero() {
		l.line[0].inherit(heirloom{l, look})
	}
}

// join puts the call in every line that full names, first in the one whose
// baton it brings back. It returns a guess of how long it will wait; 0 if there
// is nothing to go by.
func (w *waiter) join(full *noRoom, baton *lane, now time.Time) time.Duration {
	least := forever
	enter := func(r *noRoom) {
		guess := r.lane.join(w, r.seq, r.lane == baton)
		if r.sure {
			guess = max(guess, r.look.Sub(now))
		}
		least = min(least, guess)
	}
	for r := full; r != nil; r = r.also {
		if r.lane == baton {
			enter(r)
		}
	}
	for r := full; r != nil; r = r.also {
		if r.lane != baton && w.by.Load() == nil {
			enter(r)
		}
	}
	return least
}

// leave takes the call out of all lines. If one of the lanes has woken it, that
// baton is returned.
func (w *waiter) leave(full *noRoom) *lane {
	w.by.CompareAndSwap(nil, nobody)
	by := w.by.Load()
	for r := full; r != nil; r = r.also {
		if r.lane != by {
			r.lane.leave(w, r.look)
		}
	}
	if by == nobody {
		return nil
	}
	return by
}

// giveUp is leave for a call that does not go on: a baton that it has got meanwhile
// goes to the next one.
func (w *waiter) giveUp(full *noRoom) {
	if by := w.leave(full); by != nil {
		by.pass(false)
	}
}
