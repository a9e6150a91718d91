package conformance

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/seawall-go/deepseek"
)

// Listener is a net.Listener whose connections are buffers in memory, for
// servers in a testing/synctest bubble. (net.Pipe will not do: a write that waits
// for the reader holds net/http/httputil's locks, and a bubble's clock stands
// still while anybody waits for a lock.)
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewListener returns a Listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
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

// Close refuses further dials.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is a loopback address.
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// Dial connects to the listener whatever the address.
func (l *Listener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	up, down := newHalf(), newHalf()
	client, server := net.Conn(&conn{in: down, out: up, addr: l.Addr()}), net.Conn(&conn{in: up, out: down, addr: l.Addr()})
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// conn is one end of a connection: two buffers without bound.
type conn struct {
	in, out *half
	addr    net.Addr
}

func (c *conn) Read(p []byte) (int, error)       { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error)      { return c.out.write(p) }
func (c *conn) Close() error                     { c.in.close(net.ErrClosed); c.out.close(io.EOF); return nil }
func (c *conn) LocalAddr() net.Addr              { return c.addr }
func (c *conn) RemoteAddr() net.Addr             { return c.addr }
func (c *conn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline serves net/http, which sets one in the past to end a read.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.expired = !t.IsZero() && !t.After(time.Now())
	c.in.change.Broadcast()
	return nil
}

// half is one direction of a connection.
type half struct {
	mu     sync.Mutex
	change sync.Cond

	// Guarded by mu.
	buf     []byte
	err     error
	expired bool
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
		case h.expired:
			return 0, os.ErrDeadlineExceeded
		case h.err == net.ErrClosed:
			return 0, h.err
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			return n, nil
		case h.err != nil:
			return 0, h.err
		}
		h.change.Wait()
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, net.ErrClosed
	}
	h.buf = append(h.buf, p...)
	h.change.Broadcast()
	return len(p), nil
}

func (h *half) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
	}
	h.change.Broadcast()
}

// Serve serves h in memory until the test ends, and returns a client of it and
// its URL.
func Serve(t *testing.T, h http.Handler) (*http.Client, string) {
	l := NewListener()
	srv := &http.Server{Handler: h} //nolint:gosec // nobody is slow here
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	front := &http.Transport{DialContext: l.Dial, DisableCompression: true}
	t.Cleanup(func() {
		front.CloseIdleConnections()
		_ = srv.Close()
		wg.Wait()
	})
	return &http.Client{Transport: front}, "http://127.0.0.1"
}

// Proxy is the door of a program behind an httputil.ReverseProxy with the
// transport t.
func Proxy(t *testing.T, tr *deepseek.Transport, target string) (Door, error) {
	u, err := url.Parse(target)
	if err != nil {
		return Door{}, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: tr,
		ErrorLog:  quiet,
	}
	client, front := Serve(t, proxy)
	d := HTTP(client, front)
	d.Transport, d.Remote = tr, true
	return d, nil
}
