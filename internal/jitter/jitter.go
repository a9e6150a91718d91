// Package jitter is where random waits come from, so that a simulation of many
// calls can be repeated exactly.
package jitter

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// seeded replaces the global source, if it is set.
var seeded atomic.Pointer[source]

type source struct {
	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

// UpTo returns a random duration from 0 to d, both included. It may be called
// by several goroutines at once.
func UpTo(d time.Duration) time.Duration {
	if s := seeded.Load(); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return time.Duration(s.rng.Int64N(int64(d) + 1))
	}
	return rand.N(d + 1)
}

// Seed makes all random waits of the process follow from a number, until restore
// is called. It is for simulations in a testing/synctest bubble.
func Seed(seed uint64) (restore func()) {
	before := seeded.Swap(&source{rng: rand.New(rand.NewPCG(seed, 0x717e))})
	return func() { seeded.Store(before) }
}
