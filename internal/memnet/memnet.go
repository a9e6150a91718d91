// Package memnet is a network in memory, for servers and clients in a
// testing/synctest bubble: waiting for one of its connections is durably
// blocked, and takes no real time.
//
// It is buffered, which net.Pipe is not. A write there waits for the reader, and
// whoever writes may hold a lock of net/http's meanwhile; a bubble's clock stands
// still while anybody waits for a lock.
package memnet

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

// lastPort numbers the listeners of a process, so that each has an address of
// its own.
var lastPort atomic.Int64

// Listener is a net.Listener that hands the server ends of connections made by
// DialContext to Accept.
type Listener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Listen returns a listener with a loopback address.
func Listen() *Listener {
	port := int((lastPort.Add(1)-1)%65535) + 1
	return &Listener{
		addr:  &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
}

// Accept waits for a dial.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close refuses further dials. Connections live on.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is a loopback address that no other listener of the process has.
func (l *Listener) Addr() net.Addr { return l.addr }

// DialContext connects to the listener; network and address are ignored.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	up, down := newHalf(), newHalf()
	client := &Conn{in: down, out: up, addr: l.addr}
	server := &Conn{in: up, out: down, addr: l.addr}
	select {
	case <-l.done: // a closed listener refuses, even if Accept has not noticed
		return nil, Refused()
	default:
	}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, Refused()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Refused is the error of a dial that nobody accepts.
func Refused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

// Buffer is what one direction of a connection holds before its writer must
// wait, like the buffers of a socket.
const Buffer = 256 << 10

// Conn is one end of a full-duplex, buffered connection.
type Conn struct {
	in, out *half
	addr    net.Addr
}

func (c *Conn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *Conn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *Conn) LocalAddr() net.Addr                { return c.addr }
func (c *Conn) RemoteAddr() net.Addr               { return c.addr }
func (c *Conn) SetReadDeadline(t time.Time) error  { return c.in.deadline(&c.in.reader, t) }
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.out.deadline(&c.out.writer, t) }

// SetDeadline is both of the others.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// Close lets the peer read what is buffered, then io.EOF.
func (c *Conn) Close() error {
	c.in.shut(&c.in.reader, nil)
	c.out.shut(&c.out.writer, nil)
	return nil
}

// Reset lets the peer read what is buffered, then ECONNRESET, as a TCP reset
// does on a loopback connection.
func (c *Conn) Reset() {
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
		if room := Buffer - (len(h.buf) - h.off); room > 0 {
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
