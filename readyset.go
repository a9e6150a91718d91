package deepseek

import (
	"math/bits"
	"sync/atomic"
)

// readySet is a set of small numbers in which the next one is found in no time
// worth counting: 64 at a step. It is a hint: what is in it is worth asking.
type readySet struct {
	n     int
	words []atomic.Uint64
}

func newReadySet(n int) readySet {
	return readySet{n: n, words: make([]atomic.Uint64, (n+63)/64)}
}

func (r *readySet) set(i int) {
	if !r.has(i) { // looking is cheaper
		r.words[i/64].Or(1 << (i % 64))
	}
}

func (r *readySet) clear(i int) { r.words[i/64].And(^(uint64(1) << (i % 64))) }

func (r *readySet) has(i int) bool { return r.words[i/64].Load()&(1<<(i%64)) != 0 }

// next returns the first member from i on, going round; -1 if there is none.
func (r *readySet) next(i int) int {
	if r.n == 0 {
		return -1
	}
	first := i / 64
	if w := r.words[first].Load() >> (i % 64); w != 0 {
		return i + bits.TrailingZeros64(w)
	}
	for step := 1; step <= len(r.words); step++ {
		k := (first + step) % len(r.words)
		if w := r.words[k].Load(); w != 0 {
			return k*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}
