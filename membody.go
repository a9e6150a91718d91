package deepseek

import (
	"io"
)

// memBody is a body that is in memory: for permits, it has ended.
type memBody struct {
	data    []byte
	off     int      // what was read of it
	verdict *verdict // nil: answered
}

func newMemBody(data []byte, v verdict) *memBody { return &memBody{data: data, verdict: &v} }

func (b *memBody) Read(p []byte) (int, error) {
	if b.off >= len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.off:])
	b.off += n
	return n, nil
}

// WriteTo hands out the rest in one piece.
func (b *memBody) WriteTo(w io.Writer) (int64, error) {
	if b.off >= len(b.data) {
		return 0, nil
	}
	n, err := w.Write(b.data[b.off:])
	b.off += n
	return int64(n), err
}

func (b *memBody) Close() error              { return nil }
func (b *memBody) onEnd(c *call, f finisher) { f.finish(c, b.soFar()) }

func (b *memBody) soFar() verdict {
	if b.verdict == nil {
		return verdict{}
	}
	return *b.verdict
}

// Len is how many bytes are still to be read.
func (b *memBody) Len() int { return len(b.data) - b.off }
