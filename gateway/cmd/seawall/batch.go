package main

import (
	"io"
	"sync"
	"time"
)

// batch writes lines, those that come thick and fast together: a write each costs
// a gateway under load more than making them. A line after a pause is written at
// once. It is safe for concurrent use.
type batch struct {
	to io.Writer

	mu      sync.Mutex
	lines   []byte
	written time.Time   // when it last was
	timer   *time.Timer // nil: the lines are not waiting for it
}

const (
	batchFor  = 20 * time.Millisecond // that a line waits for others, at most
	batchMost = 64 << 10              // bytes that wait
)

func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, p...)
	switch now := time.Now(); {
	case len(b.lines) >= batchMost, b.timer == nil && now.Sub(b.written) >= batchFor:
		return len(p), b.write(now)
	case b.timer == nil:
		b.timer = time.AfterFunc(batchFor, func() { _ = b.Flush() })
	}
	return len(p), nil
}

// write writes what waits. b.mu is held.
func (b *batch) write(now time.Time) error {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if len(b.lines) == 0 {
		return nil
	}
	_, err := b.to.Write(b.lines)
	b.lines, b.written = b.lines[:0], now
	return err
}

// Flush writes what waits.
func (b *batch) Flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.write(time.Now())
}
