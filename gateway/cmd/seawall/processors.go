package main

import (
	"context"
	"os"
	"runtime"
	"time"
)

// processors keeps GOMAXPROCS at what the load takes.
//
// Whenever a packet comes, Go wakes an idle processor to look whether there is work
// for it as well. In a gateway, which mostly waits, the one that is awake has done
// that work by then, and so a fifth of all CPU time goes. As long as one processor
// is used by less than half, the second is not missed either.
type processors struct {
	used func() time.Duration // the program's CPU time so far
	most func() int           // how many there may be; it sets that many
	set  func(int)

	n      int
	before time.Duration // what was used at the last look
	limit  int
	asked  time.Time // when the limit was
	calm   int       // looks in a row that found less needed
	needed int       // at most, in these
}

const (
	measureEvery = 100 * time.Millisecond
	roomFor      = 0.5              // of a processor: if more is used of those there are, there is one more
	calmLooks    = 50               // 5 s, before there are fewer
	limitHolds   = 30 * time.Second // what the machine or the container gives may change
)

// fit follows the load until ctx ends. It does nothing if the environment says how
// many processors to use.
func fit(ctx context.Context) {
	if _, ok := cpuTime(); !ok || os.Getenv("GOMAXPROCS") != "" {
		return
	}
	p := &processors{
		used: func() time.Duration { d, _ := cpuTime(); return d },
		most: func() int {
			runtime.SetDefaultGOMAXPROCS()
			return runtime.GOMAXPROCS(0)
		},
		set: func(n int) { runtime.GOMAXPROCS(n) },
	}
	last := time.Now()
	p.begin(last)
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			p.look(now, now.Sub(last))
			last = now
		}
	}
}

// begin starts with all there are.
func (p *processors) begin(now time.Time) {
	p.n = p.most()
	p.limit, p.asked, p.before = p.n, now, p.used()
}

// look takes in what was used in the time since the last look.
func (p *processors) look(now time.Time, passed time.Duration) {
	used := p.used()
	need := 1 + int(float64(used-p.before)/(roomFor*float64(max(passed, time.Millisecond))))
	p.before = used
	if (need > p.limit || p.n == p.limit) && now.Sub(p.asked) >= limitHolds {
		p.limit, p.asked = p.most(), now
		p.n = min(p.n, p.limit)
		p.set(p.n) // which asking has changed
	}
	need = min(need, p.limit)
	if need >= p.n {
		p.change(need)
		return
	}
	p.needed = max(p.needed, need)
	if p.calm++; p.calm >= calmLooks {
		p.change(p.needed)
	}
}

func (p *processors) change(n int) {
	p.calm, p.needed = 0, 0
	if n != p.n {
		p.n = n
		p.set(n)
	}
}
