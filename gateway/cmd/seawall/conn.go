package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// listener accepts connections that do not wait for ever for a client to take
// what it is sent, and so many at a time.
type listener struct {
	net.Listener
	patience time.Duration
	room     chan struct{}
	done     chan struct{}
	once     sync.Once
}

func newListener(l net.Listener, connections int, patience time.Duration) *listener {
	return &listener{Listener: l, patience: patience, room: make(chan struct{}, connections), done: make(chan struct{})}
}

// Accept waits for room first: what cannot be served stays in the kernel's queue.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &conn{Conn: c, listener: l}, nil
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// began is what times are told from: by the clock that nobody sets, or a stream would
// be cut because somebody has set the other one back.
var began = time.Now()

// conn is a connection whose writes must make progress. A time limit on the
// whole of a response, as http.Server's WriteTimeout is, would cut streams.
type conn struct {
	net.Conn
	listener *listener
	until    atomic.Int64 // the deadline of writes that is set, since began; 0: none
	closed   atomic.Bool
}

// pieceMost is how much must be taken within one deadline.
const pieceMost = 64 << 10

func (c *conn) Write(p []byte) (n int, err error) {
	for {
		// Set anew now and then only: a deadline that is up to a quarter shorter
		// does as well.
		now, patience := time.Now(), c.listener.patience
		if until := c.until.Load(); until == 0 || time.Duration(until)-now.Sub(began) < patience-patience/4 {
			if err := c.SetWriteDeadline(now.Add(patience)); err != nil {
				return n, err
			}
		}
		m, err := c.Conn.Write(p[:min(len(p), pieceMost)])
		n += m
		if p = p[m:]; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// SetDeadline and SetWriteDeadline know what is set: net/http takes the deadline
// away after a TLS handshake.
func (c *conn) SetDeadline(t time.Time) error {
	c.knows(t)
	return c.Conn.SetDeadline(t)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.knows(t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *conn) knows(t time.Time) {
	if t.IsZero() {
		c.until.Store(0)
	} else {
		c.until.Store(int64(t.Sub(began)))
	}
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		<-c.listener.room
	}
	return err
}
