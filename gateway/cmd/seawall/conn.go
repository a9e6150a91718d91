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

// conn is a connection whose writes must make progress. A time limit on the
// whole of a response, as http.Server's WriteTimeout is, would cut streams.
type conn struct {
	net.Conn
	listener *listener
	until    time.Time // the deadline that is set
	closed   atomic.Bool
}

// pieceMost is how much must be taken within one deadline.
const pieceMost = 64 << 10

func (c *conn) Write(p []byte) (n int, err error) {
	for {
		// Set anew now and then only: a deadline that is up to a quarter shorter
		// does as well.
		if now, patience := time.Now(), c.listener.patience; c.until.Sub(now) < patience-patience/4 {
			c.until = now.Add(patience)
			if err := c.SetWriteDeadline(c.until); err != nil {
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

func (c *conn) Close() error {
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		<-c.listener.room
	}
	return err
}
