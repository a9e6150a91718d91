package deepseek

import (
	"sync"
	"sync/atomic"
	"time"
)

// speed is how quickly an account answers for a model, and how often it fails,
// smoothed over the last calls. The zero value knows nothing.
type speed struct {
	// For choices, without the lock.
	typical  atomic.Int64 // of an ordinary answer, in nanoseconds; 0: unknown
	fails    atomic.Bool
	judgedAt atomic.Int64 // when the last call ended, as a moment; 0: none has

	mu     sync.Mutex
	first  smooth // nanoseconds to the first data of a stream
	token  smooth // nanoseconds a token
	faults smooth // 1: a fault, 0: an answer
}

const (
	smoothing      = 8                // calls, about
	ordinaryAnswer = 200              // tokens
	failsFrom      = 0.5              // of its calls, and
	failsAfter     = 4                // calls at least
	tryAgainEvery  = 10 * time.Second // that nothing was heard of an account
)

// smooth is an exponentially smoothed average; its first values count more.
type smooth struct {
	value float64
	n     int
}

func (s *smooth) add(v float64, over int) {
	s.n++
	s.value += (v - s.value) / float64(min(s.n, over))
}

// answered takes in a complete answer. firstData is 0 for one that was no
// stream; tokens is 0 if it is not known how long it was.
func (s *speed) answered(firstData, took time.Duration, tokens int, at moment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.add(0, smoothing)
	if firstData > 0 {
		s.first.add(float64(firstData), smoothing)
		took -= firstData
	} else {
		took -= time.Duration(s.first.value)
	}
	if tokens > 0 {
		s.token.add(max(0, float64(took)/float64(tokens)), smoothing)
	}
	s.typical.Store(int64(s.first.value + ordinaryAnswer*s.token.value))
	s.judged(at)
}

// failed takes in a fault of the server's.
func (s *speed) failed(at moment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.add(1, smoothing)
	s.judged(at)
}

// judged makes what was learned known. s.mu is held.
func (s *speed) judged(at moment) {
	if fails := s.faults.n >= failsAfter && s.faults.value > failsFrom; fails != s.fails.Load() {
		s.fails.Store(fails)
	}
	s.judgedAt.Store(int64(at))
}

// pace is how quickly a model is answered, over all accounts: the average of
// their speeds, which follows those that answer most.
type pace struct {
	typical atomic.Int64 // nanoseconds; 0: unknown

	mu   sync.Mutex
	rate smooth // answers a nanosecond
}

// answered takes in that an account has answered that takes so long.
func (p *pace) answered(delay time.Duration) {
	if delay <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate.add(1/float64(delay), 8*smoothing)
	p.typical.Store(int64(1 / p.rate.value))
}

// usual is how long an answer of ordinary length takes; 0: not known.
func (p *pace) usual() time.Duration { return time.Duration(p.typical.Load()) }

func (s *speed) delay() time.Duration { return time.Duration(s.typical.Load()) }
func (s *speed) failing() bool        { return s.fails.Load() }

// heardOf is how long ago the last call ended.
func (s *speed) heardOf() time.Duration {
	at := moment(s.judgedAt.Load())
	if at == 0 {
		return forever
	}
	return at.since()
}

// worthATry reports whether a lame account should get a call all the same,
// because nothing was heard of it for long and nobody is finding out.
func (s *speed) worthATry(of *slot) bool {
	return of.inFlight.Load() == 0 && s.heardOf() >= tryAgainEvery
}
