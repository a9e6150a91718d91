package deepseek

import (
	"math"
	"sync"
	"time"
)

// health is how an endpoint has lately served a model. An average follows the
// last eight or so calls.
//
// The time to the first data counts of answers only: an endpoint that fails
// quickly is not a fast one. Its failures count apart, and are forgotten while
// nothing is heard of it, so that it is tried again.
type health struct {
	mu     sync.Mutex
	first  [2]time.Duration // until the first data; of whole answers, of streams; 0: not known
	faults float64          // share of the calls
	heard  time.Time        // when that was
	rest   time.Time        // the server asked not to be bothered until then
}

const (
	healthWeight   = 1. / 8
	faultsHalfLife = 10 * time.Second
)

func kind(stream bool) int {
	if stream {
		return 1
	}
	return 0
}

// learn takes in how a call went. Only answers and faults tell of the endpoint.
func (h *health) learn(stream bool, v verdict, took time.Duration) {
	if v.outcome != answered && v.outcome != rejected && v.outcome != fault {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	fault := v.outcome == fault
	h.faults = h.faultsAt(now) * (1 - healthWeight)
	h.heard = now
	switch {
	case fault:
		h.faults += healthWeight
		if until := now.Add(min(v.wait, maxCooldown)); v.wait > 0 && until.After(h.rest) {
			h.rest = until
		}
	case v.outcome == answered:
		d := &h.first[kind(stream)]
		if *d == 0 {
			*d = took
		}
		*d += time.Duration(float64(took-*d) * healthWeight)
	}
}

// faultsAt is the share of faults as it counts now. h.mu is held.
func (h *health) faultsAt(now time.Time) float64 {
	if h.faults == 0 {
		return 0
	}
	return h.faults * math.Exp2(-float64(now.Sub(h.heard))/float64(faultsHalfLife))
}

// view is an endpoint's health for one call.
type view struct {
	first   time.Duration
	faults  float64
	resting bool
}

func (h *health) view(stream bool, now time.Time) view {
	h.mu.Lock()
	defer h.mu.Unlock()
	return view{first: h.first[kind(stream)], faults: h.faultsAt(now), resting: now.Before(h.rest)}
}

// ailing reports whether most of the endpoint's calls fail.
func (v view) ailing() bool { return v.faults > 0.5 }

// leastShare is what is left of an endpoint's share at least, to find out
// whether it is better again.
const leastShare = 0.01

// share is how much of the calls an endpoint should get by its weight, against
// one that takes best to the first data: the half of it if it is twice as slow,
// or if every second call fails. It changes in steps of two, so that what varies
// a little from call to call moves no conversation from one endpoint to another.
func (v view) share(weight float64, best time.Duration) float64 {
	fit := 1 - v.faults
	if v.first > 0 && best > 0 {
		fit *= min(1, float64(best)/float64(v.first))
	}
	return weight * math.Exp2(math.Round(math.Log2(max(leastShare, fit))))
}
