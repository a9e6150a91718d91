package deepseek

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Affinity is the [Strategy] that keeps a conversation on one account, because
// DeepSeek's context cache belongs to the account and a prompt token out of the
// cache costs 1/30 to 1/50 of another. It is the default.
//
// A conversation is told by [ContextWithConversation], or else by the beginning
// of the request: user_id, instructions, and the messages up to and with the user's
// first. Nearly every chat has one. It begins on the account that a rendezvous hash
// of that gives, so that several processes agree without talking; on another if that
// one is more than half full and a quarter fuller than average. It moves, and then
// stays, when its account is put aside, fails, is much slower than the others, or has
// no room. For room a conversation that has gone on for a turn waits up to a quarter of
// the time that an answer takes, if it is likely to come by then. A strategy that wraps
// Affinity does not have it wait.
//
// A beginning that more than two calls have in flight is not one conversation's
// but shared: these are spread as new ones are, and do not drown an account.
//
// The zero value is ready to use.
type Affinity struct {
	// Else chooses for calls that have no conversation, or have to leave their
	// account. Default nil: [LeastLoaded].
	Else Strategy
}

const (
	strainedFrom = 0.5  // of its limit: below that no account is too full for its own
	strainedBy   = 1.25 // times the others' load
)

// Choose returns the conversation's own account, if it is up to it.
func (a Affinity) Choose(candidates []Candidate) int {
	for i, c := range candidates {
		if c.home && !c.lame() && (c.own || !c.strained(candidates)) {
			return i
		}
	}
	if a.Else == nil {
		return LeastLoaded{}.Choose(candidates)
	}
	return a.Else.Choose(candidates)
}

// strained reports whether c is too full to be preferred for a conversation that
// has nothing to lose.
func (c Candidate) strained(candidates []Candidate) bool {
	load := c.Load()
	if load <= strainedFrom {
		return false
	}
	sum := 0.0
	for _, other := range candidates {
		sum += other.Load()
	}
	return load*float64(len(candidates)) > strainedBy*sum
}

// windowSize is among how many accounts a conversation's first one is chosen.
// In a pool of more it is those that follow the conversation on a ring of all,
// so that the choice costs the same.
const windowSize = 16

// ring is a bench's accounts in the order of their hashes.
type ring struct {
	places   []ringPlace
	weighted bool // they differ in weight
}

type ringPlace struct {
	hash   uint64
	weight float64
	place  int // on the bench
}

func newRing(slots []*slot) *ring {
	r := &ring{places: make([]ringPlace, len(slots))}
	for i, s := range slots {
		a := s.account
		r.places[i] = ringPlace{a.hash, float64(a.weight), i}
		r.weighted = r.weighted || a.weight != slots[0].account.weight
	}
	slices.SortFunc(r.places, func(x, y ringPlace) int { return cmp.Compare(x.hash, y.hash) })
	return r
}

// first is the place of the account that a conversation begins on: the one with
// the highest score in the conversation's window (rendezvous hashing, by
// weight). When accounts come or go, only the conversations of these move.
func (r *ring) first(conversation uint64) int {
	n, at := len(r.places), 0
	if n > windowSize {
		at, _ = slices.BinarySearchFunc(r.places, conversation, func(p ringPlace, h uint64) int { return cmp.Compare(p.hash, h) })
	}
	best, bestScore := 0, math.Inf(-1)
	for range min(n, windowSize) {
		if at >= n {
			at = 0
		}
		p := &r.places[at]
		// In (0, 1), and as likely to be in any part of it.
		score := (float64(mix(conversation^p.hash)>>11) + 0.5) / (1 << 53)
		if r.weighted {
			score = -p.weight / math.Log(score)
		}
		if score > bestScore {
			best, bestScore = p.place, score
		}
		at++
	}
	return best
}

// mix spreads what is in x over all bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// home is the slot that a conversation was last served by, or else begins on;
// nil if that cannot be asked now.
func (m *modelPool) home(b *bench, conversation uint64, first *slot) *slot {
	if s := m.moved.get(conversation); s != nil && b.isReady(s) {
		return s
	}
	if b.isReady(first) {
		return first
	}
	return nil
}

// patient is the share of an answer's usual time that a conversation waits for
// room on its account.
const patient = 4

// own is the slot whose cache has more of the call's conversation than its
// beginning; nil if that is none.
func (m *modelPool) own(c *call, first *slot) *slot {
	if !c.conversation.goesOn() || m.crowd.of(c.conversation.key()) > sharedBy {
		return nil
	}
	if s := m.moved.get(c.conversation.key()); s != nil {
		return s
	}
	return first
}

// waitFor says that the call is to wait for room on the slot that has its
// conversation; nil if it had better not.
func (m *modelPool) waitFor(own *slot, c *call, now time.Time) *noRoom {
	seq := own.lane.seq.Load()
	if !m.pool.choosing.Load().patient || !c.canWait || own.lane.admits(c) && !own.full() ||
		own.asideUntil(now) != 0 || (Candidate{slot: own}).lame() {
		return nil
	}
	usual := m.pace.usual()
	until := c.patience(now, usual/patient)
	turn := usual * time.Duration(own.lane.length()+1) / time.Duration(max(1, own.inFlight.Load()))
	if now.UnixNano()+int64(turn) >= until {
		return nil
	}
	return &noRoom{lane: &own.lane, seq: seq, what: own.describe, look: time.Unix(0, until)}
}

func (s *slot) full() bool { return s.inFlight.Load() >= s.reach.Load() }

func (s *slot) describe() string {
	return "account " + strconv.Quote(s.account.name) + ", which has the conversation in its cache, has as many calls in flight as it may"
}

// sharedBy is how many calls one conversation may have in flight: they follow
// each other, but for a second attempt. More of them share a beginning.
const sharedBy = 2

// crowd counts the calls in flight of each conversation. Some count together,
// which costs a conversation its place at worst. The zero value is ready to use;
// safe for concurrent use.
type crowd [1 << 12]atomic.Int32

func (w *crowd) of(conversation uint64) int { return int(w.at(conversation).Load()) }

func (w *crowd) at(conversation uint64) *atomic.Int32 {
	return &w[conversation>>32%uint64(len(w))]
}

// moves remembers which conversations are not where they would begin. It holds
// the last movesKept of them or a few more; what it has forgotten costs a
// conversation some of its cache. The zero value is ready to use; safe for
// concurrent use.
type moves struct {
	any    atomic.Bool // so that nobody looks in vain
	shards [16]movesShard
}

const movesKept = 1 << 16

// movesShard is two generations: what is not asked for in a whole one is gone.
type movesShard struct {
	mu         sync.Mutex
	young, old map[uint64]*slot // guarded by mu
}

func (m *moves) shard(conversation uint64) *movesShard {
	return &m.shards[conversation%uint64(len(m.shards))]
}

func (m *moves) get(conversation uint64) *slot {
	if !m.any.Load() {
		return nil
	}
	sh := m.shard(conversation)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.young[conversation]; s != nil {
		return s
	}
	s := sh.old[conversation]
	if s != nil {
		sh.put(conversation, s)
	}
	return s
}

// note takes down which slot serves a conversation that begins on first.
func (m *moves) note(conversation uint64, first, serves *slot) {
	if serves == first && !m.any.Load() {
		return
	}
	m.any.Store(true)
	sh := m.shard(conversation)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if serves != first {
		sh.put(conversation, serves)
		return
	}
	delete(sh.young, conversation)
	delete(sh.old, conversation)
}

// move is what is to be taken down once it is sure; nil is nothing.
type move struct {
	in            *moves
	conversation  uint64
	first, serves *slot
}

func (m *move) note() {
	if m != nil {
		m.in.note(m.conversation, m.first, m.serves)
	}
}

// put makes an entry young. sh.mu is held.
func (sh *movesShard) put(conversation uint64, s *slot) {
	if len(sh.young) >= movesKept/16/2 {
		sh.old, sh.young = sh.young, nil
	}
	if sh.young == nil {
		sh.young = map[uint64]*slot{}
	}
	sh.young[conversation] = s
}
