package gateway

import "time"

// window counts what was used in the last minute, whichever minute that is: no
// 60 seconds have more in them, however the calls fall. It counts by the
// millisecond, in favour of the limit. The zero value is empty.
type window struct {
	entries []entry // a ring; the oldest is the first
	first   int
	n       int
	total   int
}

// entry is what was used up to a millisecond (since 1970).
type entry struct {
	at     int64
	amount int
}

// minute is the length of a window, in its milliseconds.
const minute = int64(time.Minute / time.Millisecond)

func (w *window) entry(i int) *entry { return &w.entries[(w.first+i)%len(w.entries)] }

// setBack is by how many milliseconds a clock must be behind to have been set back.
// By less, somebody has looked at it before another did, and comes later.
const setBack = 5_000

// advance forgets what is a minute old.
func (w *window) advance(now time.Time) {
	if w.n > 0 {
		// What is ahead of a clock that was set back would stay until that comes, with
		// all that is used until then.
		if ahead := w.entry(w.n-1).at - now.UnixMilli(); ahead > setBack {
			for i := range w.n {
				w.entry(i).at -= ahead
			}
		}
	}
	for over := now.UnixMilli() - minute; w.n > 0 && w.entry(0).at <= over; w.n-- {
		w.total -= w.entry(0).amount
		w.first = (w.first + 1) % len(w.entries)
	}
	if w.n == 0 && len(w.entries) > 64 { // a burst is over
		w.entries, w.first = nil, 0
	}
}

// wait is how long it is until amount fits below limit; 0 if it does now. An
// amount above the limit fits when there is nothing else.
func (w *window) wait(now time.Time, amount, limit int) time.Duration {
	w.advance(now)
	left, until := w.total, now
	for i := 0; i < w.n && left+amount > limit; i++ {
		left -= w.entry(i).amount
		until = time.UnixMilli(w.entry(i).at + minute)
	}
	return until.Sub(now)
}

// add notes that amount was used. It returns the time by which giveBack finds it.
func (w *window) add(now time.Time, amount int) (at int64) {
	at = now.Add(time.Millisecond - time.Nanosecond).UnixMilli()
	w.total += amount
	if w.n > 0 {
		if last := w.entry(w.n - 1); last.at >= at {
			last.amount += amount
			return last.at
		}
	}
	if w.n == len(w.entries) {
		grown := make([]entry, max(16, 2*w.n))
		for i := range w.n {
			grown[i] = *w.entry(i)
		}
		w.entries, w.first = grown, 0
	}
	w.n++
	*w.entry(w.n - 1) = entry{at, amount}
	return at
}

// giveBack takes off what was added at a time and was not used after all. What is
// a minute old is forgotten already.
func (w *window) giveBack(now time.Time, at int64, amount int) {
	w.advance(now)
	for i := w.n - 1; i >= 0; i-- {
		if e := w.entry(i); e.at <= at {
			if e.at == at {
				e.amount -= amount
				w.total -= amount
			}
			return
		}
	}
}
