package deepseektest

import "time"

// A Phase is a stretch of time in which a Server behaves in a special way.
type Phase struct {
	// From and To bound the phase, counted from the call of Timeline. A zero
	// To never ends.
	From, To time.Duration
	// Reply is what requests for an answer get in the phase. The zero Reply
	// leaves them alone.
	Reply Reply
	// Probability, if between 0 and 1, applies Reply to that share of the
	// requests only, drawn from the Server's seed. Zero means all of them.
	Probability float64
	// Match, if set, applies Reply only to requests for which it is true. It
	// is called by many requests at once.
	Match func(*Request) bool
	// Do, if set, is called once at From, for example to lower a limit. It
	// runs on a goroutine of its own, beside requests and those of other phases.
	Do func(*Server)
}

type phase struct {
	Phase
	start time.Time
}

// Timeline lets the Server run through phases, starting now. Where phases
// overlap, the first one that applies is taken. Enqueue and Handle go before
// Timeline. Calling it again adds phases.
func (s *Server) Timeline(phases ...Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	now := time.Now()
	for _, p := range phases {
		s.phases = append(s.phases, phase{Phase: p, start: now})
		if p.Do != nil {
			s.timers = append(s.timers, time.AfterFunc(p.From, func() { p.Do(s) }))
		}
	}
}

// phaseReply returns the reply of the phase that applies now, nil if none.
func (s *Server) phaseReply(r *Request) *Reply {
	s.mu.Lock()
	phases := s.phases // only ever appended to
	s.mu.Unlock()
	if len(phases) == 0 {
		return nil
	}
	now := time.Now()
	for i := range phases {
		p := &phases[i]
		at := now.Sub(p.start)
		if at < p.From || p.To > 0 && at >= p.To || len(p.Reply.steps) == 0 {
			continue
		}
		if p.Match != nil && !p.Match(r) {
			continue
		}
		if p.Probability > 0 && p.Probability < 1 && s.random() >= p.Probability {
			continue
		}
		return &p.Reply
	}
	return nil
}

func (s *Server) random() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64()
}
