package deepseek

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Transport is an [http.RoundTripper] that makes calls to DeepSeek survive. It
// is the whole chain of layers; package documentation tells their order and
// what each outcome leads to. Put it under any client that speaks HTTP, for any
// of DeepSeek's paths; it does not change what it does not know.
//
// A call ends with the server's response, or with a [*CallError] (an [*APIError] for
// an error in a 200) that tells what was tried. A response that took more than one
// attempt has the trail in its Seawall-Attempts header: names of accounts,
// fingerprints of keys, and what a server said in place of an answer, which may repeat
// a prompt.
//
// After a 402 it asks for the account's balance by itself: see [Pool].
//
// A Transport is safe for concurrent use. It starts no goroutine that outlives
// the call it belongs to. It is made by [NewTransport]; the zero value is of no use.
type Transport struct {
	chain    http.RoundTripper
	base     http.RoundTripper
	validate bool

	endpoints []*endpoint // at least one
	limit     *limit      // nil: none
	queue     *waitingRoom
	retrier   *retrier // nil: none
	hedger    *hedger  // nil: none
	meter     *Meter
	resumer   *resumer // nil: none
	cache     *cache   // nil: none

	errorResponses bool
	*counts

	options *config
}

// counts are of a transport and its successors.
type counts struct {
	calls, answered, failed, attempts atomic.Int64
	inFlight                          atomic.Int64

	resumes resumeCounts
	hedges  hedgeCounts
}

var _ http.RoundTripper = (*Transport)(nil)

// NewHTTPClient returns an [http.Client] over a new [Transport], to be given to
// openai-go, go-openai or any other client. It has no Timeout: that would cut
// healthy streams. Take the transport from it, for Stats, with
// client.Transport.(*deepseek.Transport).
func NewHTTPClient(opts ...Option) (*http.Client, error) {
	t, err := NewTransport(opts...)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

// NewTransport returns a transport. An impossible option is reported as a
// [*ConfigError].
func NewTransport(opts ...Option) (*Transport, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	t, err := newParts(c)
	if err != nil {
		return nil, err
	}
	if err := c.replica.claim(t.counts); err != nil {
		return nil, err
	}
	t.assemble()
	c.replica.join(t)
	return t, nil
}

// newParts makes what a transport consists of.
func newParts(c *config) (t *Transport, err error) {
	t = &Transport{base: c.base, errorResponses: c.errorResponses, validate: !c.noValidate, counts: new(counts), options: c}
	if t.endpoints, err = c.newEndpoints(); err != nil {
		return nil, err
	}
	if t.queue, err = newWaitingRoom(c.queue); err != nil {
		return nil, err
	}
	if t.meter, err = NewMeter(c.prices); err != nil {
		return nil, err
	}
	if t.base == nil {
		t.base = newBase(c.maxConcurrency)
	}
	if c.cache != nil {
		if t.cache, err = newCache(*c.cache, false, t.meter.Currency()); err != nil {
			return nil, err
		}
	}
	if c.resume != nil {
		if t.resumer, err = newResumer(*c.resume); err != nil {
			return nil, err
		}
		t.resumer.counts = &t.counts.resumes
	}
	if !c.noRetry {
		if t.retrier, err = newRetrier(c.retry); err != nil {
			return nil, err
		}
	}
	if c.hedging != nil {
		if t.hedger, err = newHedger(*c.hedging, t.meter); err != nil {
			return nil, err
		}
		t.hedger.counts = &t.counts.hedges
	}
	if c.maxConcurrency > 0 {
		if t.limit, err = newLimit(c.maxConcurrency); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// assemble puts the parts together, outermost first.
func (t *Transport) assemble() {
	c := t.options
	chain := []Middleware{layer(originsOf(t.endpoints).do)}
	if len(c.observers) > 0 {
		chain = append(chain, NewObserve(c.observers...))
	}
	chain = append(chain, c.middleware...)
	if t.cache != nil {
		chain = append(chain, layer(t.cache.do))
	}
	if t.resumer != nil {
		chain = append(chain, layer(t.resumer.do))
	}
	if c.fallback != nil {
		chain = append(chain, layer(c.fallback.do))
	}
	if t.retrier != nil {
		chain = append(chain, layer(t.retrier.do))
	}
	if t.hedger != nil {
		chain = append(chain, layer(t.hedger.do))
	}
	chain = append(chain, layer(t.queue.do))
	var limited []Middleware
	if t.limit != nil {
		limited = append(limited, layer(t.limit.do))
	}
	if e := t.endpoints[0]; len(t.endpoints) == 1 && e.plain() {
		chain = append(chain, t.below(e, limited...)...)
	} else {
		// The limit is for all endpoints: a call has its place in it once, whichever
		// of them it goes on to.
		chain = append(chain, limited...)
		below := make([]Middleware, len(t.endpoints))
		for i, e := range t.endpoints {
			below[i] = Chain(append([]Middleware{layer(originLock{e.origin}.do)}, t.below(e)...)...)
		}
		chain = append(chain, newRoute(t.endpoints, below))
	}
	t.chain = Chain(append(chain, c.attemptLayers...)...)(t.base)
}

// newEndpoints makes the endpoints, each with its accounts and breaker.
func (c *config) newEndpoints() ([]*endpoint, error) {
	configs, pool := c.endpoints, func(e Endpoint) (*Pool, error) { return e.NewPool(c.strategy) }
	if len(configs) == 0 {
		// Whatever the one host is, it gets what the caller sends.
		configs = []Endpoint{{BaseURL: c.baseURL, Accounts: c.accounts, Drop: []string{}}}
		pool = func(e Endpoint) (*Pool, error) { return NewPool(c.strategy, e.Accounts...) }
		if _, err := parseBaseURL(c.baseURL); err != nil { // by the name of its option
			return nil, err
		}
	}
	all, err := newEndpoints(configs)
	if err != nil {
		return nil, err
	}
	taken := map[string]*endpoint{}
	for i, e := range all {
		if e.pool, err = pool(configs[i]); err != nil {
			return nil, err
		}
		for name := range e.pool.byName {
			if other := taken[name]; other != nil {
				return nil, badConfig("Account "+strconv.Quote(name)+".Name", "", "is taken at two endpoints, "+other.name+" and "+e.name)
			}
			taken[name] = e
		}
		if !c.noBreaker {
			if e.breaker, err = newBreaker(e.name, c.breaker); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// below are the layers of one endpoint. Those in between belong under its
// breaker and over its accounts.
func (t *Transport) below(e *endpoint, between ...Middleware) (layers []Middleware) {
	if e.breaker != nil {
		layers = append(layers, layer(e.breaker.do))
	}
	layers = append(layers, between...)
	if t.options.rateLimit != nil {
		layers = append(layers, layer(t.options.rateLimit.gate))
	}
	layers = append(layers, layer(e.pool.do))
	if t.options.rateLimit != nil {
		layers = append(layers, layer(t.options.rateLimit.do))
	}
	return append(layers, layer(t.meter.do), NewGuard(t.options.timeouts, t.options.keepComments), layer(signing))
}

// NewBaseTransport returns a new transport as requests are sent with by default, to be
// changed and given to [WithTransport]: with a certificate authority of one's own, say,
// or a ResponseHeaderTimeout. It has HTTP/2 with a ping after 30 s of silence, 10 s to
// connect and 10 s for TLS, no limit on the wait for headers, as many as 512 idle
// connections to a host, for 90 s, the proxy that the environment names, and no
// compression.
func NewBaseTransport() *http.Transport { return newBase(0) }

// newBase returns what requests are sent with unless the caller says otherwise.
func newBase(concurrency int) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		// A ping finds out that a connection is dead long before the next byte
		// of a queued answer is due.
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		MaxIdleConnsPerHost: max(concurrency, 512),
		IdleConnTimeout:     90 * time.Second,
		// Compression gains nothing on short chunks and delays them.
		DisableCompression: true,
	}
}

// RoundTrip makes a call. The request is not changed, and its body is always
// closed. A body without GetBody is read into memory first, up to 48 MiB; a longer one
// is sent once, never retried.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req)
		return nil, errors.New("deepseek: nil Request.URL")
	}
	t.calls.Add(1)
	t.inFlight.Add(1)
	defer t.inFlight.Add(-1)
	if req.Body != nil && req.Body != http.NoBody && req.Header == nil {
		req = req.WithContext(req.Context())
		req.Header = http.Header{}
	}
	c, own, err := enter(separate(req))
	if err != nil {
		t.failed.Add(1)
		return nil, &CallError{Err: err}
	}
	defer c.leave()
	c.to = &t.endpoints[0].self
	resp, err := c.pass(t.chain, own)
	sent := c.sent()
	t.attempts.Add(int64(sent))
	if err != nil {
		t.failed.Add(1)
		if t.errorResponses {
			if resp := errorResponse(req, err); resp != nil {
				return resp, nil
			}
		}
		if api, ok := err.(*APIError); ok { // an error that came in a 200
			return nil, api.after(c.trail())
		}
		return nil, &CallError{Err: err, Attempts: c.trail()}
	}
	resp.Request = req
	if resp.StatusCode < 400 {
		t.answered.Add(1)
	} else {
		t.failed.Add(1)
	}
	if sent > 1 && resp.Header != nil {
		resp.Header.Set("Seawall-Attempts", c.trail().String())
	}
	return resp, nil
}

// separate keeps a request that is made in the course of another call (by a
// layer of the caller's, say, with that call's context) a call of its own.
func separate(req *http.Request) *http.Request {
	if c, _ := req.Context().Value(callKey{}).(*call); c == nil || !c.entered {
		return req
	}
	return req.WithContext(apart{req.Context()})
}

// apart is a context that belongs to no call.
type apart struct{ context.Context }

func (a apart) Value(key any) any {
	if _, ok := key.(callKey); ok {
		return nil
	}
	return a.Context.Value(key)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// CloseIdleConnections closes the base's idle connections, if it has any.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// String says where calls go, and nothing of keys.
func (t *Transport) String() string {
	names := make([]string, len(t.endpoints))
	for i, e := range t.endpoints {
		names[i] = e.name
	}
	return "transport to " + strings.Join(names, ", ")
}

// GoString is String, so that %#v tells no key either.
func (t *Transport) GoString() string { return t.String() }

// Pool returns the accounts of the first endpoint, mostly the only one, to add,
// remove, disable and enable them.
func (t *Transport) Pool() *Pool { return t.endpoints[0].pool }

// PoolOf returns the accounts of the endpoint of that name, or nil if there is no
// such endpoint.
func (t *Transport) PoolOf(endpoint string) *Pool {
	for _, e := range t.endpoints {
		if e.name == endpoint {
			return e.pool
		}
	}
	return nil
}

// BaseURL is where the API's paths begin at the first endpoint: its base URL; at
// DeepSeek without the part of the API that it may name, as the SDKs' settings
// do (/v1, /beta). A path brings its own. The URL is the caller's to change.
func (t *Transport) BaseURL() *url.URL {
	e := t.endpoints[0]
	return e.join(e.root, "")
}
