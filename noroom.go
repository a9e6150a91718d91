package deepseek

import (
	"errors"
	"time"
)

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

// refusal is the error of a call that cannot wait for room, or no longer.
func (e *noRoom) refusal(reason string, waited, retryIn time.Duration) error {
	return &QueueFullError{Reason: reason, For: e.describe(), Waited: waited, RetryIn: retryIn}
}

// outage is where the end of an outage is told by which a call was refused; nil
// if it was for another reason, or nobody knows when it may end.
func outage(err error) *noRoom {
	var end *noRoom
	var all *NoEndpointError
	if errors.As(err, &all) {
		for _, cause := range all.causes {
			end = end.or(outage(cause))
		}
	} else if one, _ := endOf(err); one != nil && !one.look.IsZero() {
		end = one
	}
	if end != nil {
		end.outage = err
	}
	return end
}

// surely is how long it is certain that there will be no room; 0 if it is not.
func (e *noRoom) surely(now time.Time) time.Duration {
	least := forever
	for r := e; r != nil; r = r.also {
		if !r.sure {
			return 0
		}
		least = min(least, max(0, r.look.Sub(now)))
	}
	return least
}

// nextLook is when one of the lanes is worth looking at again; end, if none is
// before that.
func (e *noRoom) nextLook(now, end time.Time) time.Time {
	for r := e; r != nil; r = r.also {
		if r.look.After(now) && r.look.Before(end) {
			end = r.look
		}
	}
	return end
}

// inherit takes in what others knew of the lanes.
func (e *noRoom) inherit(left []heirloom) {
	for _, h := range left {
		for r := e; r != nil; r = r.also {
			if r.lane == h.lane && (r.look.IsZero() || h.look.Before(r.look)) {
				r.look = h.look
			}
		}
	}
}

// lookAgain has the lanes tried again whose time has come.
func (e *noRoom) lookAgain(now time.Time) {
	for r := e; r != nil; r = r.also {
		if !r.look.IsZero() && !r.look.After(now) {
			r.look = time.Time{}
			r.lane.room()
		}
	}
}

// endOf returns where the end of a refusal is told, and whether it is for want
// of room.
func endOf(err error) (end *noRoom, full bool) {
	switch e := err.(type) {
	case *noRoom:
		return e, true
	case *CircuitOpenError:
		end = &e.end
	case *NoAccountError:
		end = &e.end
	}
	if end == nil || end.lane == nil { // not one of ours
		return nil, false
	}
	return end, false
}
