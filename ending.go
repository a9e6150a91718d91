package deepseek

import (
	"context"
	"io"
	"net/http"
	"sync"
)

// finisher is told once when an attempt's response has ended, however it did.
type finisher interface {
	finish(c *call, v verdict)
}

// responder is a finisher that looks at the response before anybody else does.
type responder interface {
	response(c *call, resp *http.Response, v verdict)
}

// ender is a response body that knows when the response has ended, which may
// be before it is closed.
type ender interface {
	onEnd(c *call, f finisher)
}

// through sends req to next and has f told, exactly once, when the response
// has ended: at its last byte, a read error, Close, the caller's giving up, or
// a panic below.
func through(next http.RoundTripper, req *http.Request, c *call, f finisher) (*http.Response, error) {
	returned := false
	defer func() {
		if !returned {
			f.finish(c, verdict{outcome: cancelled})
		}
	}()
	resp, err := c.pass(next, req)
	returned = true
	if err != nil {
		f.finish(c, judge(nil, err))
		return nil, err
	}
	if r, ok := f.(responder); ok {
		r.response(c, resp, judge(resp, nil))
	}
	atEnd(c, resp, f)
	return resp, nil
}

// atEnd has f told of the response's end.
func atEnd(c *call, resp *http.Response, f finisher) {
	if e, ok := resp.Body.(ender); ok {
		e.onEnd(c, f)
		return
	}
	resp.Body = endAtBodyEnd(c, resp.Body, judge(resp, nil), f)
}

// ending is the exactly-once end of a response: the part of a body that other
// layers tie themselves to.
type ending struct {
	verdict verdict // how it ended, or is to end if all goes well

	mu    sync.Mutex
	ended bool
	told  bool      // and all hooks have been told
	hooks *endHooks // nil: none
}

// endHooks has room for all the layers of a transport that hold something for a call.
type endHooks struct {
	all  []endHook
	room [6]endHook
}

type endHook struct {
	c *call
	f finisher
}

// onEnd has f told of the end, at once if it is already over.
func (e *ending) onEnd(c *call, f finisher) {
	e.mu.Lock()
	if e.told {
		v := e.verdict
		e.mu.Unlock()
		f.finish(c, v)
		return
	}
	if e.hooks == nil {
		e.hooks = new(endHooks)
		e.hooks.all = e.hooks.room[:0]
	}
	e.hooks.all = append(e.hooks.all, endHook{c, f})
	e.mu.Unlock()
}

// end ends the response; only the first call counts. Hooks run with no lock held.
func (e *ending) end(v verdict) {
	e.mu.Lock()
	if e.ended {
		e.mu.Unlock()
		return
	}
	e.ended, e.verdict = true, v
	for i := 0; e.hooks != nil && i < len(e.hooks.all); i++ { // in their order, those that come meanwhile too
		h := e.hooks.all[i]
		e.mu.Unlock()
		h.f.finish(h.c, v)
		e.mu.Lock()
	}
	e.told = true
	e.mu.Unlock()
}

// soFar is how the response ended, or stands so far.
func (e *ending) soFar() verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.verdict
}

// endAtBodyEnd ties f to the end of a body that does not know its own end, for
// layers that are used without the guard.
func endAtBodyEnd(c *call, rc io.ReadCloser, v verdict, f finisher) io.ReadCloser {
	b := &endingBody{ReadCloser: rc, ending: ending{verdict: v}}
	b.onEnd(c, f)
	b.stop = context.AfterFunc(c.Context, func() { b.end(verdict{outcome: cancelled}) })
	if w, ok := rc.(io.Writer); ok { // a switched protocol: 101
		return &endingPipe{endingBody: b, Writer: w}
	}
	return b
}

// endingBody is a body that tells when it has been read or closed.
type endingBody struct {
	io.ReadCloser
	ending
	stop func() bool
}

type endingPipe struct {
	*endingBody
	io.Writer
}

func (b *endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.stop()
		b.end(b.soFar())
	case err != nil:
		b.stop()
		b.end(judge(nil, err))
	}
	return n, err
}

func (b *endingBody) Close() error {
	b.stop()
	b.end(verdict{outcome: cancelled})
	return b.ReadCloser.Close()
}
