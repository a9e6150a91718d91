package deepseek

import (
	"math"
	"time"
)

// noShare is the share of a slot that nobody else has a part of.
const noShare = math.MaxInt

// slotShare is what a slot has to do with other replicas. It is guarded by the
// slot's mu. Without a replica it has no effect.
type slotShare struct {
	replica *Replica // nil: there are no others
	permits int      // calls that may be in flight here; never less than one
	others  int      // most calls in flight elsewhere, when last heard of
	wants   []SharedOther
	version int64 // of the shared limit that ours came from

	among   int       // equal shares to go by because nobody can be asked; 0: those that were granted
	active  bool      // the replica reports it
	heard   bool      // and permits were granted since
	usedAt  time.Time // when there was last something in flight or waiting
	peak    int       // most in flight here since the last report
	learned bool      // the limit is news to the others
	changes uint64    // of our limit
	starved bool      // a call was turned away for want of our own permits
}

// join has the slot share with others; nil: with nobody any more. s.mu is held.
func (s *slot) join(r *Replica) {
	s.shared = slotShare{replica: r, permits: noShare, changes: s.shared.changes + 1}
	if r == nil {
		return
	}
	s.shared.permits = 1 // to find out with
	s.shared.withoutOthers(s)
}

// out is how many calls are in flight, here and elsewhere as far as is known: if
// nobody can be asked, the others are believed to do as we do. s.mu is held.
func (s *slot) out() int {
	n := int(s.inFlight.Load())
	if s.shared.among > 0 {
		return n * s.shared.among
	}
	return n + s.shared.others
}

// used notes that n calls are in flight now. s.mu is held.
func (h *slotShare) used(s *slot, n int) {
	h.peak = max(h.peak, n)
	h.enlist(s)
}

// enlist has the slot reported. s.mu is held.
func (h *slotShare) enlist(s *slot) {
	if h.active {
		return
	}
	h.active = true
	h.replica.enlist(s)
	h.withoutOthers(s)
}

// withoutOthers has a slot that nobody was asked about yet go by an equal share,
// if nobody can be asked. s.mu is held.
func (h *slotShare) withoutOthers(s *slot) {
	if among := h.replica.cannotAsk(); among > 0 && !h.heard {
		s.alone(among, true)
	}
}

// starve asks for more permits: a call was turned away. s.mu is held.
func (h *slotShare) starve(s *slot) {
	if h.starved {
		return
	}
	h.starved = true
	h.used(s, int(s.inFlight.Load()))
	h.replica.wake(false)
}

// changed has the others told of a new limit, and keeps our part of it. from is
// what it was. s.mu is held.
func (h *slotShare) changed(s *slot, from int) {
	if h.replica == nil {
		return
	}
	h.learned = true
	h.changes++
	to := int(s.limit.Load())
	if to < from {
		h.replica.wake(true)
		h.permits = max(1, min(h.permits, (h.permits*to+from-1)/from))
	}
	if h.among > 0 && (to < from || h.permits >= from/h.among) {
		h.permits = max(1, to/h.among)
	}
	h.enlist(s)
}

// refused keeps a place from being taken again at once that was one too many. s.mu
// is held, and the place given back.
func (h *slotShare) refused(s *slot) {
	if h.replica != nil {
		h.permits = max(1, min(h.permits, int(s.inFlight.Load())))
	}
}

// report says how the slot stands. done: it needs no permits any more but the one
// to find out with, and is not reported again. s.mu is not held.
func (s *slot) report(now time.Time, lease time.Duration) (r SharedSlot, changes uint64, done bool) {
	waiting := s.model.lane.length()
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.shared
	inFlight := int(s.inFlight.Load())
	if h.replica == nil { // no more
		r = SharedSlot{Account: s.account.id, Model: s.model.model, Limit: SharedLimit{Limit: int(s.limit.Load())}}
		return r, h.changes, true
	}
	h.peak = max(h.peak, inFlight)
	limit := int(s.limit.Load())
	want := min(h.peak+waiting, limit)
	if want > 0 || h.usedAt.IsZero() {
		h.usedAt = now
	}
	r = SharedSlot{
		Account: s.account.id, Model: s.model.model, Want: want, Peak: h.peak, Learned: h.learned,
		Limit: SharedLimit{Version: h.version, Limit: limit, RefusedAt: s.refusedAt, Told: s.told},
	}
	h.peak, h.starved = inFlight, false
	if now.Sub(h.usedAt) >= lease && !h.learned {
		h.permits = 1
		s.reached()
		return r, h.changes, true
	}
	r.Ask = divide(limit, h.replica.name, want, h.wants)
	if h.permits > r.Ask {
		// What others should have we stop using before we say so.
		h.permits = r.Ask
		s.reached()
		h.replica.wake(true)
	}
	r.Held = max(h.permits, inFlight)
	return r, h.changes, false
}

// left takes a slot out of those that are reported, unless it is in use again.
func (s *slot) left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.shared
	if h.replica != nil && (h.peak > 0 || s.inFlight.Load() > 0 || h.learned) {
		return false
	}
	h.active, h.heard, h.usedAt, h.wants, h.others = false, false, time.Time{}, nil, 0
	return true
}

// agree takes in how the slot stands with all. changes is what report returned.
// It returns the change of the limit, if there was one.
func (s *slot) agree(v *SharedSlotView, changes uint64) *LimitEvent {
	s.mu.Lock()
	h := &s.shared
	if h.replica == nil {
		s.mu.Unlock()
		return nil
	}
	from := int(s.limit.Load())
	h.version = v.Limit.Version
	share := v.Share
	if h.changes == changes {
		h.learned = false
		s.adopt(v.Limit)
	} else { // what was learned since is not yet in it
		share = min(share, h.permits)
	}
	h.among, h.heard = 0, true
	h.permits = max(1, share)
	h.wants = v.Others
	h.others = 0
	for _, o := range v.Others {
		h.others += o.Peak
	}
	s.reached()
	s.worth(true)
	to := int(s.limit.Load())
	e := &LimitEvent{Account: s.account.name, Model: s.model.model, From: from, To: to, InFlight: int(s.inFlight.Load())}
	s.mu.Unlock()
	s.model.lane.room()
	if to == from {
		return nil
	}
	return e
}

// adopt takes over a limit that another replica has learned. s.mu is held.
func (s *slot) adopt(l SharedLimit) {
	limit := int(s.limit.Load())
	to := max(1, l.Limit)
	if s.max > 0 {
		to = min(to, s.max)
	}
	if l.RefusedAt != s.refusedAt || l.Told != s.told {
		s.refusedAt, s.told, s.patience = l.RefusedAt, l.Told, 1
	}
	if l.RefusedAt > 0 {
		s.ramp, s.rising = 0, false
	}
	switch {
	case to < limit: // what is out now was let out in another belief
		s.epoch++
		s.successes, s.tried, s.peak, s.wanted = 0, 0, s.out(), false
	case to == limit:
		return
	}
	s.limit.Store(int64(to))
}

// alone has the slot go by an equal share, one of so many; grow: also if that is
// more than it has. s.mu is held.
func (s *slot) alone(among int, grow bool) {
	h := &s.shared
	h.among = among
	share := max(1, int(s.limit.Load())/among)
	if !grow {
		share = min(share, h.permits)
	}
	h.permits = share
	s.reached()
	if s.bench != nil {
		s.worth(true)
	}
}
