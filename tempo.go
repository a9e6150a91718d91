package deepseek

import (
	"sync/atomic"
	"time"
)

// tempoGaps is how many gaps between data make a tempo worth believing.
const tempoGaps = 16

// tempoMemory is over how many gaps a long one is forgotten, about.
const tempoMemory = 32

// tempo is how the data of an answer comes, over all the streams that it comes
// in. From it follows a limit between data that is shorter than the fixed one:
// a multiple of the longest of the recent gaps, within bounds. It holds only
// while the answer could be continued, for only then is a stall called too early
// a small loss; and each stall called by it doubles the lower bound, so that a
// stream that is slow but alive is soon let be.
type tempo struct {
	factor float64

	on    atomic.Bool  // the answer could be continued now
	limit atomic.Int64 // 0: too few samples

	// The reader's own.
	least   time.Duration
	samples int
	longest float64 // of the recent gaps: rises at once, falls slowly
}

// gap takes in the time from one piece of data to the next, what the reader
// took for itself not counted. Pieces that came together have none.
func (p *tempo) gap(d int64) {
	if d <= 0 {
		return
	}
	gap := float64(d)
	if p.samples++; gap > p.longest {
		p.longest = gap
	} else {
		p.longest += (gap - p.longest) / tempoMemory
	}
	p.judge()
}

// stalled takes in that a stall was called by the tempo.
func (p *tempo) stalled() {
	p.least *= 2
	p.judge()
}

func (p *tempo) judge() {
	if p.samples >= tempoGaps {
		p.limit.Store(max(int64(p.least), int64(p.factor*p.longest)))
	}
}

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
