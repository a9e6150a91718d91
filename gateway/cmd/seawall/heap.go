package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapLeast is how large the heap may always become before garbage is collected.
// By itself Go collects one of a few MiB, as a gateway has that waits for others
// all day, a dozen times a second under load.
const heapLeast = 16 << 20

// growHeap has garbage collected when the heap is twice what is in use, as ever,
// but not before it is heapLeast. GOGC, if it is set, counts instead.
func growHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent(0))
		afterGC(new(collected))
	}
}

// collected is found by each collection of garbage, and thrown away anew. It is
// large enough to be a piece of memory of its own.
type collected struct {
	percent int
	_       [3]int
}

func afterGC(c *collected) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	// Setting it stops the world for a moment: not for next to nothing.
	if p := gcPercent(sample[0].Value.Uint64()); p > c.percent+c.percent/8 || p < c.percent-c.percent/8 {
		debug.SetGCPercent(p)
		c.percent = p
	}
	runtime.SetFinalizer(c, afterGC)
}

// gcPercent is by how much the heap may grow beyond what is in use. Go makes 4 MiB
// for each hundred the least: beyond heapLeast of these nothing is to be gained.
func gcPercent(live uint64) int {
	const usual, most = 100, heapLeast / (4 << 20) * 100
	return int(min(max(heapLeast*100/max(live, 1), usual+100)-100, most))
}
