package jitter

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func draw(n int) []time.Duration {
	waits := make([]time.Duration, n)
	for i := range waits {
		waits[i] = UpTo(time.Second)
	}
	return waits
}

func TestUpTo(t *testing.T) {
	for range 100 {
		require.LessOrEqual(t, UpTo(3), time.Duration(3))
	}
	require.Zero(t, UpTo(0))
	require.NotEqual(t, draw(8), draw(8))
}

func TestSeed(t *testing.T) {
	restore := Seed(7)
	first := draw(8)
	for _, d := range first {
		require.LessOrEqual(t, d, time.Second)
	}
	require.Zero(t, UpTo(0))
	Seed(7)()
	require.NotEqual(t, first, draw(8), "the outer seed goes on")
	restore()
	require.Nil(t, seeded.Load())
	defer Seed(7)()
	require.Equal(t, first, draw(8))
}
