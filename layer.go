package deepseek

import (
	"net/http"
	"slices"
)

// Middleware wraps a transport in a layer. Those that this package returns may wrap
// several, and these layers are safe for concurrent use if what they wrap is.
type Middleware func(http.RoundTripper) http.RoundTripper

// Chain makes one middleware of several, the first being the outermost.
func Chain(layers ...Middleware) Middleware {
	return func(next http.RoundTripper) http.RoundTripper {
		for _, m := range slices.Backward(layers) {
			next = m(next)
		}
		return next
	}
}

// stage is a layer in its place: what it does with a call, and what comes next.
type stage struct {
	do   func(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error)
	next http.RoundTripper
}

// layer turns what a layer does with a call into a Middleware.
func layer(do func(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error)) Middleware {
	return func(next http.RoundTripper) http.RoundTripper { return &stage{do, next} }
}

// RoundTrip takes in a request from somebody else: it begins a call and ends it,
// or goes on with one that has passed through somebody else's layer.
func (s *stage) RoundTrip(req *http.Request) (*http.Response, error) {
	c := callOf(req)
	if c == nil || !c.entered {
		c, own, err := enter(req)
		if err != nil {
			return nil, err
		}
		defer c.leave()
		return s.do(s.next, c, own)
	}
	if c.body.isOf(req) {
		return s.do(s.next, c, req)
	}
	// That layer has put in another body, which is to be sent as often as it takes,
	// but is unknown to the layers above it.
	kept := lent{c.body.get, c.body.current}
	own, err := c.body.take(req)
	if err != nil {
		c.body.get, c.body.current = kept.get, kept.current
		return nil, err
	}
	c.body.sniff(own, c)
	c.name()
	resp, err := s.do(s.next, c, own)
	c.body.abandon()
	c.body.takeBack(kept, judge(resp, err).outcome)
	return resp, err
}
