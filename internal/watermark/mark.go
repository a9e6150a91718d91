// Package watermark tells how many requests a server of a test has in flight, and
// had at the most.
package watermark

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// Mark is what one handler has in flight: what it has not answered to the end yet,
// refused or not. The zero value is ready; it is safe for concurrent use.
type Mark struct{ now, most atomic.Int64 }

// Around returns h with its requests counted.
func (m *Mark) Around(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := m.now.Add(1)
		defer m.now.Add(-1)
		for most := m.most.Load(); n > most && !m.most.CompareAndSwap(most, n); most = m.most.Load() {
		}
		h.ServeHTTP(w, r)
	})
}

// Now is how many are in flight.
func (m *Mark) Now() int64 { return m.now.Load() }

// Since is the most that were at once since it was last asked for.
func (m *Mark) Since() int64 { return m.most.Swap(m.now.Load()) }

// Keeps fails the test unless there is a time of d, of five that follow each other,
// in which no more than most are in flight, and never more than a quarter beyond.
// A limit that is learned by trying one more now and then has been passed once
// where the machine was too busy to have as many there as callers had sent: that
// is found out by the next refusal, and is no fault.
func (m *Mark) Keeps(t testing.TB, most int64, d time.Duration, while string) {
	t.Helper()
	var seen []int64
	for range 5 {
		m.Since()
		time.Sleep(d)
		n := m.Since()
		if n <= most {
			return
		}
		seen = append(seen, n)
		if n > most+most/4 {
			break
		}
	}
	t.Fatalf("%s: %d in flight, and no more than %d were to be", while, seen, most)
}
