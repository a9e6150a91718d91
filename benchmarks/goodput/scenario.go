package main

import (
	"math/rand/v2"
	"time"

	"github.com/seawall-go/deepseek/deepseektest"
)

// scenario is the script of one run: what the server can do and when it fails,
// who calls and how, and what Seawall is to reach in it. Nothing in it depends
// on the client.
type scenario struct {
	name     string
	about    string
	accounts []account
	uneven   bool // clients that must be given a limit know only the average of the accounts'
	pace     deepseektest.Pace
	faults   []fault
	outages  []outage
	load     load
	lasts    time.Duration
	cached   bool // hits of the context cache are measured
	plotted  bool // README.md shows it over time
	target   target
}

// span is a stretch of the run.
type span struct{ from, to time.Duration }

func (s span) has(t time.Duration) bool { return t >= s.from && t < s.to }

// account is what the server holds of an account, over time.
type account struct {
	name    string
	keys    int // 0: one
	limits  []step
	hidden  bool // its 429 does not tell the limit
	broke   span // out of money
	revoked span // its first key is invalid
	slow    span
	times   float64 // slower, in that span
}

// step is a limit from some time on.
type step struct {
	at    time.Duration
	limit int
}

// limit is how many requests the account may have in flight; 0 while it has no
// money or no valid key.
func (a *account) limit(t time.Duration) int {
	if a.broke.has(t) || a.revoked.has(t) && a.keys <= 1 {
		return 0
	}
	n := 0
	for _, s := range a.limits {
		if t >= s.at {
			n = s.limit
		}
	}
	return n
}

// slower is by how much its answers take longer.
func (a *account) slower(t time.Duration) float64 {
	if a.slow.has(t) {
		return a.times
	}
	return 1
}

// changes are the times at which something of the account changes.
func (a *account) changes() (at []time.Duration) {
	for _, s := range a.limits {
		at = append(at, s.at)
	}
	return append(at, a.broke.from, a.broke.to, a.revoked.from, a.revoked.to, a.slow.from, a.slow.to)
}

// fault strikes single requests at random. Which ones depends on the question
// and on how often it was asked, so that all clients meet the same ones.
type fault struct {
	span     // zero: always
	share    float64
	kinds    []faultKind // one of them, at random
	streamed bool        // streams only
}

// faultKind is a way in which a request fails.
type faultKind struct {
	reply func(rng *rand.Rand) deepseektest.Reply
	// What it costs a client that knows everything, which tries again or goes
	// on at once: the time until it has failed, or for a stream that breaks, what
	// continuing it takes beyond the answer itself.
	takes func(answer time.Duration, p deepseektest.Pace) time.Duration
}

// refusal is how long the server takes to say no.
const refusal = 50 * time.Millisecond

func quickly(r deepseektest.Reply) faultKind {
	return faultKind{
		reply: func(*rand.Rand) deepseektest.Reply { return r.And(deepseektest.Delayed(refusal)) },
		takes: func(time.Duration, deepseektest.Pace) time.Duration { return refusal },
	}
}

// midway breaks a stream after 1 to most tokens. The rest of it is asked for in
// a further request, which has its own time to the first token.
func midway(most int, broken func(tokens int) deepseektest.Reply) faultKind {
	return faultKind{
		reply: func(rng *rand.Rand) deepseektest.Reply { return broken(1 + rng.IntN(most)) },
		takes: func(_ time.Duration, p deepseektest.Pace) time.Duration { return p.Headers + p.FirstToken },
	}
}

var (
	unavailable = quickly(deepseektest.ServiceUnavailable())
	html        = quickly(deepseektest.HTML200())
	// A queue that ends in nothing, and half an answer.
	blank = faultKind{
		reply: func(*rand.Rand) deepseektest.Reply { return deepseektest.QueueTimeout(2, time.Second) },
		takes: func(_ time.Duration, p deepseektest.Pace) time.Duration { return p.Headers + 2*time.Second },
	}
	halfJSON = faultKind{
		reply: func(*rand.Rand) deepseektest.Reply { return deepseektest.TruncatedJSON() },
		takes: func(answer time.Duration, _ deepseektest.Pace) time.Duration { return answer },
	}
	cutCleanly = midway(shortest-1, deepseektest.CutAfter)
	cutByReset = midway(shortest-1, deepseektest.ResetAfter)
	cutInEvent = midway(shortest-1, deepseektest.CutInsideEvent)
	stall      = midway(shortest-1, deepseektest.StallAfter)
)

// outage is a time in which no request is answered. Those in flight go on.
type outage struct {
	span
	reply deepseektest.Reply
}

// load is who calls: a crowd of callers, each with one call at a time.
type load struct {
	callers  int
	think    time.Duration // between an answer and the next call, on average
	deadline time.Duration // of a call
	streams  float64       // share of the calls that are streamed
	turns    int           // of a conversation; 0: every call is a question of its own
	system   int           // tokens of the system prompt that all share
	said     int           // tokens of what the user says each time
}

// pause is how long a caller waits after a call that failed.
const pause = time.Second

// wait draws how long a caller thinks.
func (l *load) wait(rng *rand.Rand) time.Duration {
	return time.Duration(float64(l.think) * (0.5 + rng.Float64()))
}

// shorter is the same script in a fraction of the time.
func (s scenario) shorter(by time.Duration) scenario {
	s.lasts /= by
	cut := func(p span) span { return span{p.from / by, p.to / by} }
	accounts := make([]account, len(s.accounts))
	for i, a := range s.accounts {
		steps := make([]step, len(a.limits))
		for j, l := range a.limits {
			steps[j] = step{l.at / by, l.limit}
		}
		a.limits, a.broke, a.revoked, a.slow = steps, cut(a.broke), cut(a.revoked), cut(a.slow)
		accounts[i] = a
	}
	faults := make([]fault, len(s.faults))
	for i, f := range s.faults {
		f.span = cut(f.span)
		faults[i] = f
	}
	outages := make([]outage, len(s.outages))
	for i, o := range s.outages {
		o.span = cut(o.span)
		outages[i] = o
	}
	s.accounts, s.faults, s.outages = accounts, faults, outages
	return s
}

// answerable reports whether a call that starts then can be answered at all: it
// has the time for an answer while the server answers.
func (s *scenario) answerable(start time.Duration) bool {
	end := start + s.load.deadline
	need := s.longest()
	for _, o := range s.outages {
		if start >= o.from && start < o.to {
			start = o.to
		}
	}
	return end-start >= need
}

// longest is how long an answer may take.
func (s *scenario) longest() time.Duration {
	return time.Duration(float64(s.pace.Headers+s.pace.FirstToken+longest*s.pace.Token) * (1 + s.pace.Jitter))
}

// down reports whether the server answers nobody.
func (s *scenario) down(t time.Duration) bool {
	for _, o := range s.outages {
		if o.has(t) {
			return true
		}
	}
	return false
}
