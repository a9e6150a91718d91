package deepseek

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// modelPool is the pool as it stands for one model.
type modelPool struct {
	pool   *Pool
	model  string
	bench  atomic.Pointer[bench]
	cursor atomic.Uint32
	thaw   atomic.Int64 // the next time at which a slot put aside is due to come back
	lane   lane
	back   lane // calls that no account can take, and that wait for another endpoint as well
	moved  moves
	crowd  crowd
	pace   pace
}

// returned says that an account may be usable again.
func (m *modelPool) returned() {
	m.lane.room()
	m.back.room()
}

// bench is the accounts' slots, and which of them are worth asking.
type bench struct {
	slots []*slot
	ready readySet

	// begins is the ring, made when first asked for: most pools never grow, and
	// one that does must not sort itself for each account.
	begins func() *ring
}

// newBench seats the accounts; those that sat on the old bench keep their slots.
func newBench(m *modelPool, old *bench, accounts []*account) *bench {
	b := &bench{slots: make([]*slot, len(accounts)), ready: newReadySet(len(accounts))}
	if old == nil {
		old = &bench{}
	}
	kept := make(map[*account]*slot, len(old.slots))
	for _, s := range old.slots {
		kept[s.account] = s
	}
	for i, a := range accounts {
		s := kept[a]
		if s == nil {
			s = newSlot(m, a)
		}
		b.slots[i] = s
		s.sit(b, i)
		b.ready.set(i)
	}
	b.begins = sync.OnceValue(func() *ring { return newRing(b.slots) })
	return b
}

// isReady reports whether s sits on this bench and is worth asking.
func (b *bench) isReady(s *slot) bool {
	i := int(s.place.Load())
	return i < len(b.slots) && b.slots[i] == s && b.ready.has(i)
}

// candidates is how many ready slots a choice looks at: all of a small pool,
// and enough of a large one to come close to the least loaded. The home of the
// call's conversation comes on top.
const (
	candidates     = 8
	candidatesMost = candidates + 1
	lookAt         = 64 // accounts, to judge how quickly there will be room
)

// acquire finds the call an account with room and takes the room.
func (m *modelPool) acquire(c *call, requestBytes int64, except []*slot) (*permit, error) {
	seq := m.lane.seq.Load()
	now := time.Now()
	if !m.lane.admits(c) {
		return nil, &noRoom{lane: &m.lane, seq: seq, what: m.describe, look: m.nextThaw(now)}
	}
	if now.UnixNano() >= m.thaw.Load() {
		m.thawDue(now)
	}
	b := m.bench.Load()
	key := c.conversation.key()
	var first, own *slot // where the call's conversation begins, and which has more of it; nil: no matter
	if m.pool.choosing.Load().homing && key != 0 && len(b.slots) > 1 {
		first = b.slots[b.begins().first(key)]
		if own = m.own(c, first); own != nil && !slices.Contains(except, own) {
			if wait := m.waitFor(own, c, now); wait != nil {
				return nil, wait
			}
		}
	}
	for range len(b.slots) + 1 {
		s := m.choose(c, b, first, own, except)
		if s == nil || m.betterToWait(b, s) {
			break
		}
		if p := s.take(c, requestBytes, now); p != nil {
			if c.baton != nil && !c.baton.beyond {
				c.letIn()
			}
			switch {
			case first == nil:
				return p, nil
			case !c.isHedge():
				m.moved.note(key, first, s)
			default:
				c.ifWon(&move{&m.moved, key, first, s})
			}
			p.conversation = key
			m.crowd.at(key).Add(1)
			return p, nil
		}
	}
	return nil, m.refusal(seq, now)
}

// betterToWait reports whether a call is answered sooner if it waits for a
// quicker account than s: the last in line would have its turn and its answer
// before s would have answered.
func (m *modelPool) betterToWait(b *bench, s *slot) bool {
	if c := (Candidate{slot: s}); !c.slow() || !c.lame() {
		return false
	}
	usual := m.pace.usual()
	// What the quicker accounts have out will be answered, one after the other.
	out := 0
	for _, other := range b.slots[:min(len(b.slots), lookAt)] {
		if c := (Candidate{slot: other}); !c.lame() && other.speed.heardOf() < slowBy*usual {
			out += c.InFlight()
		}
	}
	if out == 0 {
		return false
	}
	turn := usual * time.Duration(m.lane.length()+1) / time.Duration(out)
	return turn+usual < Candidate{slot: s}.Delay()
}

// choose has the strategy choose among ready slots; nil if there is none.
func (m *modelPool) choose(c *call, b *bench, first, own *slot, except []*slot) *slot {
	if len(b.slots) == 1 {
		if s := b.slots[0]; b.ready.has(0) && !slices.Contains(except, s) {
			return s
		}
		return nil
	}
	room := candidateRoom.Get().(*[candidatesMost]Candidate)
	defer func() {
		clear(room[:])
		candidateRoom.Put(room)
	}()
	list := m.ready(room[:0], b, except)
	if first != nil {
		if home := m.home(b, c.conversation.key(), first); home != nil && !slices.Contains(except, home) {
			list = withHome(list, Candidate{slot: home, home: true, own: home == own})
		}
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0].slot
	}
	i := m.pool.choosing.Load().strategy.Choose(list)
	if i < 0 || i >= len(list) {
		i = 0
	}
	return list[i].slot
}

// candidateRoom is room for what a choice is made among.
var candidateRoom = sync.Pool{New: func() any { return new([candidatesMost]Candidate) }}

// withHome marks the candidate that is the conversation's home, or adds it.
func withHome(list []Candidate, home Candidate) []Candidate {
	for i := range list {
		if list[i].slot == home.slot {
			list[i] = home
			return list
		}
	}
	return append(list, home)
}

// ready appends ready slots to list, from the one whose turn it is.
func (m *modelPool) ready(list []Candidate, b *bench, except []*slot) []Candidate {
	n := len(b.slots)
	if n == 0 {
		return list
	}
	start := int(m.cursor.Add(1)) % n
	for i := b.ready.next(start); i >= 0 && len(list) < candidates; {
		if s := b.slots[i]; !slices.Contains(except, s) {
			list = append(list, Candidate{slot: s})
		}
		// On to the next, until we are round.
		following := b.ready.next((i + 1) % n)
		if following < 0 || distance(start, following, n) <= distance(start, i, n) {
			break
		}
		i = following
	}
	return list
}

// distance is how far i comes after start, going round n places.
func distance(start, i, n int) int { return (i - start + n) % n }

// thawDue has every slot that was put aside looked at again.
func (m *modelPool) thawDue(now time.Time) {
	m.thaw.Store(farFuture)
	b := m.bench.Load()
	for i, s := range b.slots {
		if until := s.asideUntil(now); until > now.UnixNano() {
			if until != farFuture {
				lower(&m.thaw, until)
			}
			continue
		}
		b.ready.set(i)
	}
}

func (m *modelPool) nextThaw(now time.Time) time.Time {
	if t := m.thaw.Load(); t != farFuture {
		return time.Unix(0, max(t, now.UnixNano()+1))
	}
	return time.Time{}
}

// hasOther reports whether an account can be used that is not among had, once it has
// room.
func (m *modelPool) hasOther(had []*slot) bool {
	now := time.Now()
	slots := m.bench.Load().slots
	return slices.ContainsFunc(slots[:min(len(slots), lookAt)], func(s *slot) bool {
		return !slices.Contains(had, s) && s.asideUntil(now) == 0
	})
}

// refusal says why no account can take a call now.
func (m *modelPool) refusal(seq uint64, now time.Time) error {
	b := m.bench.Load()
	anyFull, anyCooling := false, false
	backSeq := m.back.seq.Load()
	soonest := farFuture // that one put aside comes back
	counts := map[State]int{}
	for _, s := range b.slots {
		state, until := s.state(now)
		counts[state]++
		switch state {
		case StateActive, StateOnTrial:
			anyFull = true
		case StateCooling:
			anyCooling = true
		}
		if until > now.UnixNano() {
			soonest = min(soonest, until)
		}
	}
	if anyFull || anyCooling {
		e := &noRoom{lane: &m.lane, seq: seq, what: m.describe, look: m.nextThaw(now)}
		if !anyFull && soonest != farFuture {
			e.look, e.sure = time.Unix(0, soonest), true
		}
		return e
	}
	e := &NoAccountError{Model: m.model, Reason: reasons(counts), causes: causes(counts)}
	e.end = noRoom{lane: &m.back, seq: backSeq, what: m.describe}
	if soonest != farFuture {
		e.RetryIn = time.Duration(soonest - now.UnixNano())
		e.end.look = time.Unix(0, soonest)
	}
	return e
}

// describe says what there is no room in.
func (m *modelPool) describe() string {
	b := m.bench.Load()
	now := time.Now()
	inFlight, limit := 0, 0
	counts := map[State]int{}
	for _, s := range b.slots {
		state, _ := s.state(now)
		counts[state]++
		n, max := s.load()
		inFlight += n
		if state == StateActive {
			limit += min(max, s.permits())
		}
	}
	text := fmt.Sprintf("%d of %d calls in flight", inFlight, limit)
	if m.model != "" {
		text += " for " + m.model
	}
	return text + " (" + reasons(counts) + ")"
}

// reasons counts the accounts by state: "2 accounts: 1 active, 1 out of balance".
func reasons(counts map[State]int) string {
	total := 0
	var parts []string
	for _, s := range []State{StateActive, StateOnTrial, StateCooling, StateOutOfBalance, StateUnauthorized, StateDisabled} {
		if n := counts[s]; n > 0 {
			total += n
			parts = append(parts, strconv.Itoa(n)+" "+string(s))
		}
	}
	switch total {
	case 0:
		return "the pool is empty"
	case 1:
		return "1 account: " + strings.TrimPrefix(parts[0], "1 ")
	}
	return strconv.Itoa(total) + " accounts: " + strings.Join(parts, ", ")
}

// causes are the errors that a lack of accounts stands for.
func causes(counts map[State]int) (errs []error) {
	if counts[StateOutOfBalance] > 0 {
		errs = append(errs, ErrInsufficientBalance)
	}
	if counts[StateUnauthorized] > 0 {
		errs = append(errs, ErrAuthentication)
	}
	return errs
}
