package deepseek

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

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

var errWaitedTooLong = errors.New("deepseek: waited too long for room")

// await waits for one of the lanes to wake w, until end at most, and returns that
// lane, whose baton the call then has. On an error w has left all lines.
func (w *waiter) await(ctx context.Context, full *noRoom, now, end time.Time) (*lane, error) {
	timer := time.NewTimer(full.nextLook(now, end).Sub(now))
	defer timer.Stop()
	for {
		select {
		case <-w.ready:
			by := w.leave(full)
			if ctx.Err() != nil { // both at once: do not send for nobody
				by.pass(false)
				return nil, gaveUp(ctx)
			}
			return by, nil
		case <-ctx.Done():
			w.giveUp(full)
			return nil, gaveUp(ctx)
		case <-w.news:
			full.inherit(w.inherited())
			now = time.Now()
		case <-timer.C:
			if now = time.Now(); !now.Before(end) {
				w.giveUp(full)
				return nil, errWaitedTooLong
			}
		}
		full.lookAgain(now) // what we were told to wait for may have come
		timer.Reset(full.nextLook(now, end).Sub(now))
	}
}
