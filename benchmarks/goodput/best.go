package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// best is what a client that knows the script reaches with the same load: the
// limits at every moment, which request will fail and when a stream breaks. The
// server's dice fall as they fall, but it loses nothing beyond what they take:
//
//   - A call starts the moment an account has room, first come, first served. So
//     the rate is the lesser of the sum of the limits over the time an answer
//     takes, and the callers over the time that an answer and a thought take.
//   - While nobody can be served nothing is sent, and all wait.
//   - A request that fails is sent again at once, on the same place. A stream that
//     breaks or stalls is continued at once from where it broke.
//   - A slow account is used only where that gives more answers in all.
//
// It is played rather than computed because the ends of a run count: what is
// under way at the last second is no answer yet, for anybody.
type best struct {
	total     int       // valid answers within the run
	perSecond []float64 // and when
	lost      int       // calls that even so end without an answer
}

// rounds of dice that are averaged.
const bestRounds = 8

// best plays it with and without the slow accounts and returns the better one.
func (s *scenario) best(seed uint64) best {
	with := s.knowing(seed, true)
	if !slices.ContainsFunc(s.accounts, func(a account) bool { return a.slow.to > 0 }) {
		return with
	}
	if without := s.knowing(seed, false); without.total > with.total {
		return without
	}
	return with
}

func (s *scenario) knowing(seed uint64, useSlow bool) best {
	sum := best{perSecond: make([]float64, int(s.lasts/time.Second)+1)}
	for i := range uint64(bestRounds) {
		p := &play{s: s, useSlow: useSlow, rng: rand.New(rand.NewPCG(seed, 0xbe57+i)), used: make([]int, len(s.accounts))}
		p.run(&sum)
	}
	sum.total /= bestRounds
	sum.lost /= bestRounds
	return sum
}

// play is one round: a simulation by events, without requests.
type play struct {
	s       *scenario
	useSlow bool
	rng     *rand.Rand
	events  events
	waiting []time.Duration // since when, in order
	used    []int           // places of each account
}

type event struct {
	at   time.Duration
	what eventKind
	acct int
}

type eventKind uint8

const (
	asks    eventKind = iota // a caller comes with a call
	answers                  // an account has answered
	changes                  // something of the script changes
)

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

func (p *play) at(t time.Duration, what eventKind, acct int) {
	heap.Push(&p.events, event{t, what, acct})
}

func (p *play) run(sum *best) {
	s := p.s
	for range s.load.callers {
		p.at(s.load.start(p.rng), asks, 0)
	}
	for i := range s.accounts {
		for _, t := range s.accounts[i].changes() {
			p.at(t, changes, 0)
		}
	}
	for _, o := range s.outages {
		p.at(o.to, changes, 0)
	}
	for len(p.events) > 0 {
		e := heap.Pop(&p.events).(event)
		if e.at >= s.lasts {
			return
		}
		switch e.what {
		case asks:
			p.waiting = append(p.waiting, e.at)
		case answers:
			p.used[e.acct]--
			sum.total++
			sum.perSecond[e.at/time.Second] += 1.0 / bestRounds
			p.at(e.at+s.load.wait(p.rng), asks, 0)
		}
		p.serve(e.at, sum)
	}
}

// serve starts the calls that there is room for.
func (p *play) serve(now time.Duration, sum *best) {
	for len(p.waiting) > 0 && !p.s.down(now) {
		acct := p.free(now)
		if acct < 0 {
			return
		}
		since := p.waiting[0]
		p.waiting = p.waiting[1:]
		took := p.s.takes(p.rng, now, acct)
		if now-since+took > p.s.load.deadline {
			sum.lost++
			p.at(now+pause, asks, 0)
			continue
		}
		p.used[acct]++
		p.at(now+took, answers, acct)
	}
}

// free is an account with room, a fast one if there is one; -1: none.
func (p *play) free(now time.Duration) int {
	found := -1
	for i := range p.s.accounts {
		a := &p.s.accounts[i]
		if p.used[i] >= a.limit(now) {
			continue
		}
		if a.slower(now) == 1 {
			return i
		}
		if p.useSlow {
			found = i
		}
	}
	return found
}

// takes draws how long a call keeps a place until it is answered.
func (s *scenario) takes(rng *rand.Rand, now time.Duration, acct int) time.Duration {
	tokens := shortest + rng.IntN(longest-shortest+1)
	p := s.pace
	factor := s.accounts[acct].slower(now) * (1 + p.Jitter*(2*rng.Float64()-1))
	stream := rng.Float64() < s.load.streams
	if stream {
		tokens-- // the first comes at once when it is due
	}
	answer := time.Duration(factor * float64(p.Headers+p.FirstToken+time.Duration(tokens)*p.Token))
	total := answer
	for range 20 {
		k := s.strikes(rng, now, stream)
		if k == nil {
			break
		}
		total += k.takes(answer, p)
	}
	return total
}

// strikes draws the fault of one request; nil: none.
func (s *scenario) strikes(rng *rand.Rand, now time.Duration, stream bool) *faultKind {
	for i := range s.faults {
		f := &s.faults[i]
		if f.span != (span{}) && !f.has(now) || f.streamed && !stream {
			continue
		}
		if rng.Float64() < f.share {
			return &f.kinds[rng.IntN(len(f.kinds))]
		}
	}
	return nil
}
