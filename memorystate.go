package deepseek

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// MemoryState is a [SharedState] for replicas in one process: several transports
// over the same accounts. Every other state must answer as it does. Safe for
// concurrent use.
type MemoryState struct {
	epoch string

	mu       sync.Mutex
	replicas map[string]memoryReplica
	slots    map[slotName]*memorySlot
	facts    map[factName]memoryFact
	last     int64 // the last fact's number
}

type memoryReplica struct {
	seq   uint64
	until time.Time
}

type slotName struct{ account, model string }

type memorySlot struct {
	limit SharedLimit
	rows  map[string]memoryRow
	born  time.Time // when nobody's permits were known
}

type memoryRow struct {
	held  int
	other SharedOther
	until time.Time
}

type memoryFact struct {
	number int64
	until  time.Time // zero: somebody has said that it is over
}

// NewMemoryState returns a state that nobody has told anything yet.
func NewMemoryState() *MemoryState {
	return &MemoryState{
		epoch: rand.Text(), replicas: map[string]memoryReplica{}, slots: map[slotName]*memorySlot{}, facts: map[factName]memoryFact{},
	}
}

var errLateReport = errors.New("deepseek: the report is older than one that was taken in")

// maxFacts is how many facts are told at a time.
const maxFacts = 256

// Exchange is as in [SharedState].
func (m *MemoryState) Exchange(_ context.Context, r *SharedReport) (*SharedView, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for name, other := range m.replicas {
		if !now.Before(other.until) {
			delete(m.replicas, name)
		}
	}
	if r.Seq <= m.replicas[r.Replica].seq {
		return nil, errLateReport
	}
	m.replicas[r.Replica] = memoryReplica{r.Seq, now.Add(r.Lease)}
	if r.Leave {
		delete(m.replicas, r.Replica)
	}
	v := &SharedView{Epoch: m.epoch, Replicas: max(1, len(m.replicas))}
	for i := range r.Slots {
		v.Slots = append(v.Slots, m.slot(r, &r.Slots[i], now))
	}
	for _, f := range r.News {
		m.note(f, now)
	}
	m.tell(r, v, now)
	return v, nil
}

// slot takes in a report of a slot. m.mu is held, as in what follows.
func (m *MemoryState) slot(r *SharedReport, report *SharedSlot, now time.Time) SharedSlotView {
	name := slotName{report.Account, report.Model}
	s := m.slots[name]
	if s == nil {
		s = &memorySlot{rows: map[string]memoryRow{}, born: now}
		m.slots[name] = s
	}
	if l := report.Limit; s.limit.Version == 0 || report.Learned && (l.Version == s.limit.Version || l.Limit < s.limit.Limit) {
		l.Version = s.limit.Version + 1
		s.limit = l
	}
	lost := false
	for name, row := range s.rows {
		if !now.Before(row.until) {
			delete(s.rows, name)
			lost = true
		}
	}
	if lost && len(s.rows) == 0 {
		s.born = now
	}
	delete(s.rows, r.Replica)
	v := SharedSlotView{Limit: s.limit}
	free := s.limit.Limit
	for _, row := range s.rows {
		free -= row.held
		v.Others = append(v.Others, row.other)
	}
	slices.SortFunc(v.Others, func(a, b SharedOther) int { return strings.Compare(a.Replica, b.Replica) })
	ask := report.Ask
	if now.Before(s.born.Add(r.Lease / 2)) {
		ask = min(ask, max(report.Held, s.limit.Limit/max(r.Replicas, len(m.replicas), 1)))
	}
	v.Share = min(ask, max(report.Held, free))
	if report.Held > 0 && !r.Leave {
		other := SharedOther{Replica: r.Replica, Want: report.Want, Peak: report.Peak}
		s.rows[r.Replica] = memoryRow{held: max(report.Held, v.Share), other: other, until: now.Add(r.Lease)}
	}
	return v
}

// note takes in a fact.
func (m *MemoryState) note(f SharedFact, now time.Time) {
	var until time.Time
	if f.For > 0 {
		until = now.Add(f.For)
	}
	if old, known := m.facts[f.name()]; known && f.For > 0 && !until.After(old.until) {
		return
	}
	m.last++
	m.facts[f.name()] = memoryFact{m.last, until}
}

// tell adds the facts that a replica does not know.
func (m *MemoryState) tell(r *SharedReport, v *SharedView, now time.Time) {
	after := r.After
	if r.Epoch != m.epoch {
		after = 0
	}
	type numbered struct {
		SharedFact
		number int64
	}
	var facts []numbered
	for n, f := range m.facts {
		if f.number > after && (f.until.IsZero() || now.Before(f.until)) {
			fact := SharedFact{Account: n.account, Key: n.key, Model: n.model, Cause: n.cause, For: max(0, f.until.Sub(now))}
			facts = append(facts, numbered{fact, f.number})
		}
	}
	slices.SortFunc(facts, func(a, b numbered) int { return int(a.number - b.number) })
	v.At = after
	for _, f := range facts[:min(len(facts), maxFacts)] {
		v.Facts, v.At = append(v.Facts, f.SharedFact), f.number
	}
}

var _ SharedState = (*MemoryState)(nil)
