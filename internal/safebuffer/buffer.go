// Package safebuffer is a bytes.Buffer that many may write to, for what a test has
// logged.
package safebuffer

import (
	"bytes"
	"sync"
)

// Buffer is a buffer. The zero value is empty; it is safe for concurrent use.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
