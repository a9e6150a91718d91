package deepseektest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// memoryPort numbers the memory servers of a process, so that each has a URL
// of its own and Network can tell them apart.
var memoryPort atomic.Int64

// memoryListener hands the server ends of in-memory connections to Accept.
type memoryListener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemoryListener() *memoryListener {
	port := int((memoryPort.Add(1)-1)%65535) + 1
	return &memoryListener{
		addr:  &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

// DialContext connects to the listener; network and addr are ignored.
func (l *memoryListener) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	up, down := newHalf(), newHalf()
	client := &memoryConn{in: down, out: up, addr: l.addr}
	server := &memoryConn{in: up, out: down, addr: l.addr}
	select {
	case <-l.done: // a closed listener refuses, even if Accept has not noticed
		return nil, refused(addr)
	default:
	}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, refused(addr)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func refused(string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

// memoryBuffer is what one direction of a connection holds before its writer
// must wait, like the buffers of a socket.
const memoryBuffer = 256 << 10

// memoryConn is one end of a full-duplex, buffered connection in memory.
type memoryConn struct {
	in, out *half
	addr    net.Addr
}

func (c *memoryConn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *memoryConn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *memoryConn) LocalAddr() net.Addr                { return c.addr }
func (c *memoryConn) RemoteAddr() net.Addr               { return c.addr }
func (c *memoryConn) SetReadDeadline(t time.Time) error  { return c.in.deadline(&c.in.reader, t) }
func (c *memoryConn) SetWriteDeadline(t time.Time) error { return c.out.deadline(&c.out.writer, t) }

func (c *memoryConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// Close lets the peer read what is buffered, then io.EOF.
func (c *memoryConn) Close() error {
	c.in.shut(&c.in.reader, nil)
	c.out.shut(&c.out.writer, nil)
	return nil
}

// reset lets the peer read what is buffered, then ECONNRESET, as a TCP reset
// does on a loopback connection.
func (c *memoryConn) reset() {
	c.in.shut(&c.in.reader, syscall.ECONNRESET)
	c.out.shut(&c.out.writer, syscall.ECONNRESET)
}

// half is one direction of a connection.
type half struct {
	mu     sync.Mutex
	change sync.Cond

	// Guarded by mu.
	buf    []byte
	off    int
	cause  error // why the writer closed; nil is a clean end
	reader end
	writer end
}

// end is what one side has done to a half: closed it, or set a deadline.
type end struct {
	closed  bool
	expired bool
	timer   *time.Timer
	set     int // counts deadlines, so that an old timer cannot expire a new one
}

func newHalf() *half {
	h := new(half)
	h.change.L = &h.mu
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.reader.closed:
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
		case h.reader.expired:
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
		case h.off < len(h.buf):
			n := copy(p, h.buf[h.off:])
			h.off += n
			if h.off == len(h.buf) {
				h.buf, h.off = h.buf[:0], 0
			}
			h.change.Broadcast()
			return n, nil
		case len(p) == 0:
			return 0, nil
		case h.writer.closed && h.cause != nil:
			return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", h.cause)}
		case h.writer.closed:
			return 0, io.EOF
		}
		h.change.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.writer.closed:
			return n, &net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed}
		case h.writer.expired:
			return n, &net.OpError{Op: "write", Net: "tcp", Err: os.ErrDeadlineExceeded}
		case h.reader.closed && h.cause != nil:
			return n, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", h.cause)}
		case h.reader.closed:
			return n, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
		case len(p) == 0:
			return n, nil
		}
		if room := memoryBuffer - (len(h.buf) - h.off); room > 0 {
			if h.off > 0 && len(h.buf)+len(p) > cap(h.buf) {
				h.buf = h.buf[:copy(h.buf, h.buf[h.off:])]
				h.off = 0
			}
			k := min(room, len(p))
			h.buf = append(h.buf, p[:k]...)
			n += k
			p = p[k:]
			h.change.Broadcast()
			continue
		}
		h.change.Wait()
	}
}

// shut closes the half for one of its two ends.
func (h *half) shut(e *end, cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	e.set++
	if e.timer != nil {
		e.timer.Stop()
	}
	if h.cause == nil {
		h.cause = cause
	}
	h.change.Broadcast()
}

func (h *half) deadline(e *end, t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.set++
	e.expired = false
	if t.IsZero() {
		return nil
	}
	wait := time.Until(t)
	if wait <= 0 {
		e.expired = true
		h.change.Broadcast()
		return nil
	}
	set := e.set
	e.timer = time.AfterFunc(wait, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if e.set == set {
			e.expired = true
			h.change.Broadcast()
		}
	})
	return nil
}
