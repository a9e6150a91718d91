package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// caller is a client with one connection that makes one call after another. It is
// simpler than net/http's, so that it leaves the machine to what is measured.
type caller struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	request bytes.Buffer
}

// serial numbers requests: no two are equal.
var serial atomic.Int64

var question = strings.Repeat("Why is the sea salt? ", 50)

// call makes a request, one of the kinds that the upstream server knows.
func (c *caller) call(kind string) (*http.Response, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return nil, err
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	body := fmt.Sprintf(`{"model":"deepseek-flash","stream":%t,"user_id":"%s","messages":[{"role":"user","content":"%012d %s"}]}`,
		kind != whole, kind, serial.Add(1), question)
	c.request.Reset()
	fmt.Fprintf(&c.request, "POST /chat/completions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"User-Agent: bench/1.0\r\nAccept: application/json\r\nContent-Length: %d\r\n\r\n%s", c.address, clientKey, len(body), body)
	if _, err := c.conn.Write(c.request.Bytes()); err != nil {
		c.close()
		return nil, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.close()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		c.close()
		return nil, fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return resp, nil
}

func (c *caller) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

const clientKey = "sk-seawall-bench-0123456789"

// tally is what came of a phase of load.
type tally struct {
	mu     sync.Mutex
	n      int             // requests, or chunks of streams
	times  []time.Duration // that requests took, or between two chunks
	broken int
	err    error // one of those that broke
}

func (t *tally) add(n int, times []time.Duration, broken int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n, t.times, t.broken = t.n+n, append(t.times, times...), t.broken+broken
	if err != nil {
		t.err = err
	}
}

// quantile sorts times and returns the one that the share q of them is not above.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(int(q*float64(len(times))), len(times)-1)]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// load has callers make calls for a while.
func load(ctx context.Context, address, kind string, callers int, length time.Duration) *tally {
	t := new(tally)
	until := time.Now().Add(length)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			c := &caller{address: address}
			defer c.close()
			// Not all at once.
			time.Sleep(thinking * time.Duration(i) / time.Duration(callers))
			for time.Now().Before(until) && ctx.Err() == nil {
				if kind == whole {
					t.once(c)
				} else {
					t.follow(c)
				}
			}
		})
	}
	wg.Wait()
	return t
}

// once makes a call for a whole answer.
func (t *tally) once(c *caller) {
	start := time.Now()
	resp, err := c.call(whole)
	if err != nil {
		t.add(0, nil, 1, err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	took := time.Since(start)
	if err != nil || !bytes.Equal(body, answer) {
		c.close()
		t.add(0, nil, 1, fmt.Errorf("%d bytes of %d: %w", len(body), len(answer), err))
		return
	}
	t.add(1, []time.Duration{took}, 0, nil)
}

// follow makes a call for a stream, and takes the time between its chunks.
func (t *tally) follow(c *caller) {
	resp, err := c.call(stream)
	if err != nil {
		t.add(0, nil, 1, err)
		return
	}
	times := make([]time.Duration, 0, chunks)
	buf := make([]byte, 16<<10)
	got, size := 0, 0
	var last time.Time
	for err == nil {
		var n int
		n, err = resp.Body.Read(buf)
		if now := time.Now(); n > 0 {
			if !last.IsZero() {
				times = append(times, now.Sub(last))
			}
			last = now
		}
		size += n
		got += bytes.Count(buf[:n], []byte("data: "))
	}
	if err != io.EOF || size != (chunks-1)*len(chunk)+len(lastChunk)+len(done) {
		c.close()
		t.add(got, times, 1, fmt.Errorf("a stream ended after %d bytes: %w", size, err))
		return
	}
	t.add(got, times, 0, nil)
}

// openStreams opens streams that the server holds.
func openStreams(address string, n int) ([]*caller, error) {
	open := make([]*caller, n)
	failed := make(chan error, n)
	var wg sync.WaitGroup
	for from := range 20 {
		wg.Go(func() {
			for i := from; i < n; i += 20 {
				open[i] = &caller{address: address}
				resp, err := open[i].call(hold)
				if err == nil {
					_, err = io.CopyN(io.Discard, resp.Body, int64(held*len(chunk)))
				}
				if err != nil {
					failed <- err
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return open, err
	default:
		return open, nil
	}
}
