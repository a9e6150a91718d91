package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 4 << 20: 300, 6 << 20: 166, 8 << 20: 100, 20 << 20: 100, 1 << 40: 100} {
		require.Equal(t, want, gcPercent(live), "%d MiB", live>>20)
	}
}

func TestGrowHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	goal := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	growHeap() // for the rest of the tests, too
	held := make([]byte, 40<<20)
	eventually(t, "twice of what is in use", func() bool { runtime.GC(); return goal() > 80<<20 && goal() < 100<<20 })
	runtime.KeepAlive(held)
	held = nil
	eventually(t, "at least so much", func() bool {
		runtime.GC()
		time.Sleep(time.Millisecond)
		return goal() > heapLeast*3/4 && goal() < 2*heapLeast
	})
}
