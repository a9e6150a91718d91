package deepseek

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// lateness learns how late the first data of an answer is at most, but for a given
// share of answers. It keeps counts by size, in steps of 9 %, in which what is
// long ago weighs less and less: little more than a kilobyte, whatever comes.
type lateness struct {
	late atomic.Int64 // nanoseconds after which an answer is late; 0: not known yet

	mu      sync.Mutex
	samples int
	weight  float64 // of the next sample
	total   float64
	counts  [lateSteps * lateOctaves]float64
}

// From a millisecond to twice the ten minutes after which DeepSeek gives up.
const (
	lateFrom    = time.Millisecond
	lateOctaves = 20
	lateSteps   = 8 // an octave
)

// lateTail is how many of the samples that count are beyond what is learned:
// fewer would make it a matter of chance, more would make it slow to follow.
const lateTail = 10

// add takes in a sample, for a delay that only 1-percentile of all exceed, to be
// known once there are that many samples.
func (l *lateness) add(d time.Duration, percentile float64, enough int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.samples == 0 {
		l.weight = 1
	}
	l.samples++
	l.counts[lateStep(d)] += l.weight
	l.total += l.weight
	l.weight *= 1 + (1-percentile)/lateTail
	if l.weight > 1e9 {
		for i := range l.counts {
			l.counts[i] /= l.weight
		}
		l.total /= l.weight
		l.weight = 1
	}
	if l.samples >= enough {
		l.late.Store(int64(l.percentile(percentile)))
	}
}

// percentile is the end of the step that it falls in, so that answers of one
// and the same size are not late by chance. l.mu is held.
func (l *lateness) percentile(q float64) time.Duration {
	beyond := 0.0
	for i := len(l.counts) - 1; i > 0; i-- {
		if beyond += l.counts[i]; beyond > (1-q)*l.total {
			return lateStepEnd(i)
		}
	}
	return lateStepEnd(0)
}

func lateStep(d time.Duration) int {
	if d <= lateFrom {
		return 0
	}
	return min(int(lateSteps*math.Log2(float64(d)/float64(lateFrom))), lateSteps*lateOctaves-1)
}

func lateStepEnd(step int) time.Duration {
	return time.Duration(float64(lateFrom) * math.Exp2(float64(step+1)/lateSteps))
}
