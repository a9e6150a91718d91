package deepseek

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tempoGaps   = 16  // gaps between data that make an answer's own tempo worth believing
	tempoMemory = 256 // gaps over which a long one is forgotten, about
	habitFrom   = 8   // answers that make a model's habit worth believing
	habitMemory = 32  // answers over which a long gap is forgotten, about
)

// tempo is how the data of an answer comes, over all the streams that it comes
// in. From it follows a limit between data that is shorter than the fixed one: a
// multiple of the longest recent gap, in this answer and in others of its model,
// within bounds. It holds only while the answer could be continued, for only then
// is a stall called too early a small loss; a stall is called by it only if the
// retry budget pays for going on; and each doubles the lower bound, so that a
// stream that is slow but alive is soon let be.
type tempo struct {
	factor float64
	habit  *habit

	on     atomic.Bool  // the answer could be continued now
	budget *budget      // what pays for that; nil: nothing need; set before on
	called atomic.Bool  // a stall was called by it
	limit  atomic.Int64 // 0: too little is known

	// The reader's own.
	least   time.Duration
	gaps    int
	longest float64 // of the recent gaps: rises at once, falls slowly
	most    float64 // the longest of all
}

// begin starts with what is usual.
func (p *tempo) begin(policy *Resume, h *habit) {
	p.least, p.factor, p.habit = policy.MinStall, policy.StallFactor, h
	p.judge()
}

// gap takes in the time from one piece of data to the next, what the reader
// took for itself not counted. Pieces that came together have none.
func (p *tempo) gap(d int64) {
	if d <= 0 {
		return
	}
	gap := float64(d)
	p.gaps++
	p.longest = peak(p.longest, gap, tempoMemory)
	p.most = max(p.most, gap)
	p.judge()
}

// stalled takes in that a stall was called by the tempo.
func (p *tempo) stalled() {
	p.least *= 2
	p.judge()
}

func (p *tempo) judge() {
	usual := p.habit.usual()
	if p.gaps < tempoGaps && usual == 0 {
		return
	}
	p.limit.Store(max(int64(p.least), int64(min(p.factor*max(p.longest, usual), math.MaxInt64/2))))
}

// call has a stall paid for that is about to be called by the tempo. If it cannot
// be, none is called by it from now on.
func (p *tempo) call() bool {
	ok := p.budget == nil || p.budget.take()
	p.called.Store(ok)
	p.on.Store(ok)
	return ok
}

// peak is a maximum that forgets, over about so many values.
func peak(longest, gap, memory float64) float64 {
	if gap > longest {
		return gap
	}
	return longest + (gap-longest)/memory
}

// habit is how the data of a model's answers comes. Safe for concurrent use.
type habit struct {
	longest atomic.Uint64 // of the answers' longest gaps, as a float's bits; 0: too little is known

	mu      sync.Mutex
	recent  float64
	answers int
}

// learn takes in a whole answer.
func (h *habit) learn(p *tempo) {
	if p.gaps == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent = peak(h.recent, p.most, habitMemory)
	if h.answers++; h.answers >= habitFrom {
		h.longest.Store(math.Float64bits(h.recent))
	}
}

// usual is about the longest gap to expect; 0 if too little is known.
func (h *habit) usual() float64 { return math.Float64frombits(h.longest.Load()) }

// between is the limit between data, where most is the fixed one.
func (p *tempo) between(most time.Duration) time.Duration {
	if p == nil || most == forever || !p.on.Load() {
		return most
	}
	if limit := p.limit.Load(); limit > 0 {
		return min(time.Duration(limit), most)
	}
	return most
}
