package deepseek

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// NewRoute returns the layer that chooses an endpoint for each call and goes on
// to the next one when that cannot serve it. layers makes what is below it for
// an endpoint, whose defaults are filled in by then: a breaker, say, and the pool
// of [Endpoint.NewPool].
//
// A request is addressed to any of the endpoints, as if that were the only one;
// one for any other place is refused with an [*OriginError]. The layer puts the
// chosen endpoint's scheme, host and base path in place of those, its name for
// the model in place of the caller's, leaves out what it rejects, and changes
// nothing else. An endpoint gets only what it is known to serve: /chat/completions,
// all of DeepSeek's API or what its Paths say; what else there is (the balance,
// files, unknown paths) goes to the endpoint that it is addressed to.
//
// Endpoints are tried in the order of their priority. Among equals chance decides, by
// weight, by the time to the first data, against that of the fastest, and by the share
// of calls without a fault; a conversation stays with the one that it began at while
// that is so (see [ContextWithConversation]). On a fault, a 429, or if no account or
// key can be used (401, 402, 403), the next one is tried at once; an endpoint that is
// left alone by its breaker or has no room is passed over. If only room is wanting,
// the call waits for it in all of them, under a layer made by [NewQueue]. All this
// counts toward the attempts of the layer made by [NewRetry], and toward its budget
// too if the next endpoint fails mostly.
//
// With several endpoints a response tells in its header Seawall-Endpoint which
// one it is from. Its "model" is left as the endpoint wrote it.
func NewRoute(endpoints []Endpoint, layers func(Endpoint) (Middleware, error)) (Middleware, error) {
	if len(endpoints) == 0 {
		return nil, badConfig("Endpoints", "", "must hold at least one endpoint")
	}
	all, err := newEndpoints(endpoints)
	if err != nil {
		return nil, err
	}
	below := make([]Middleware, len(all))
	for i, config := range endpoints {
		if config, _, err = config.withDefaults(); err != nil {
			return nil, err
		}
		if below[i], err = layers(config); err != nil {
			return nil, err
		}
	}
	return newRoute(all, below), nil
}

// newRoute is the layer over endpoints, each with its layers.
func newRoute(endpoints []*endpoint, below []Middleware) Middleware {
	return func(next http.RoundTripper) http.RoundTripper {
		r := &route{endpoints: endpoints, origins: originsOf(endpoints)}
		for _, layers := range below {
			r.below = append(r.below, layers(next))
		}
		return layer(r.do)(nil)
	}
}

// route chooses endpoints.
type route struct {
	endpoints []*endpoint
	origins   originLock
	below     []http.RoundTripper // of each endpoint
}

// endpointKey finds the name of the endpoint that a call must go to.
type endpointKey struct{}

// OnEndpoint returns a context whose calls go to the endpoint of that name and to
// no other, under a [Transport] that has several; a name that it does not have
// is an error that matches [ErrNoEndpoint]. With it [Client.Balance] and
// [Client.Models] ask an endpoint other than the first.
func OnEndpoint(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, endpointKey{}, name)
}

// stop is an endpoint that a call may go to.
type stop struct {
	*endpoint
	below  http.RoundTripper
	health *health
	view   view
	model  string // its own name of it
	home   bool   // the call is addressed to it
	turn   float64
}

// declined is why an endpoint does not take a call.
type declined struct {
	endpoint *endpoint
	err      error  // nil: it does not serve such calls
	lacks    string // what of them, then
}

func (r *route) do(_ http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	home, rest, err := r.locate(req.URL)
	if err != nil {
		return nil, err
	}
	f := endpointFailover{c: c, req: req, rest: rest}
	var stops []stop
	stops, f.refusals = r.plan(c, home, rest)
	for i := range stops {
		if s := &stops[i]; f.setsOut(s) {
			if over, resp, err := f.visit(s); over {
				return resp, err
			}
		}
	}
	return f.end()
}

// betterThan reports whether, of two outcomes that were no answer, this is the
// one to go by: one that may end better next time, and sooner.
func (v verdict) betterThan(other verdict) bool {
	if v.retryable() != other.retryable() {
		return v.retryable()
	}
	return v.retryable() && v.wait <= other.wait
}

// locate finds the endpoint that a URL is addressed to, and what the path has
// after its base, escaped; "" if it is not below it.
func (r *route) locate(u *url.URL) (home *endpoint, rest string, err error) {
	origin, err := r.origins.find(u)
	if err != nil {
		return nil, "", err
	}
	path, longest := u.EscapedPath(), -1
	for _, e := range r.endpoints {
		if e.origin.origin != origin {
			continue
		}
		if home == nil {
			home = e
		}
		if after, length, ok := e.within(path); ok && length > longest {
			home, rest, longest = e, after, length
		}
	}
	return home, rest, nil
}

// plan puts the endpoints that may take a call in the order in which they are
// to be tried. The others are told with what they lack.
func (r *route) plan(c *call, home *endpoint, rest string) (stops []stop, lacking []declined) {
	now := time.Now()
	only, pinned := c.Value(endpointKey{}).(string)
	stops = make([]stop, 0, len(r.endpoints))
	awake := false
	for i, e := range r.endpoints {
		if pinned && e.name != only {
			continue
		}
		name, ok := e.called(c.model)
		if !ok {
			lacking = append(lacking, declined{endpoint: e, lacks: "the model"})
			continue
		}
		if e != home && !(rest != "" && (pinned || e.serves(rest) && (c.model != "" || strings.HasPrefix(rest, "/models")))) {
			lacking = append(lacking, declined{endpoint: e, lacks: "the path"})
			continue
		}
		s := stop{endpoint: e, below: r.below[i], model: name, home: e == home}
		s.health = e.health.get(name, func(string) *health { return new(health) })
		s.view = s.health.view(c.stream, now)
		awake = awake || !s.view.resting
		stops = append(stops, s)
	}
	if awake { // what asked to be left alone for a while is, if there is another
		stops = slices.DeleteFunc(stops, func(s stop) bool { return s.view.resting })
	}
	draw(stops, c.conversation.key())
	return stops, lacking
}

// draw orders stops by priority, and by chance those of the same: how likely one
// comes before another is by their shares. For a conversation chance is always
// the same (a weighted rendezvous hash): its context cache is where it was.
func draw(stops []stop, conversation uint64) {
	if len(stops) < 2 {
		return
	}
	for i := range stops {
		s, best := &stops[i], time.Duration(0)
		for j := range stops {
			if t := &stops[j]; t.priority == s.priority && t.view.first > 0 && (best == 0 || t.view.first < best) {
				best = t.view.first
			}
		}
		chance := rand.ExpFloat64()
		if conversation != 0 {
			// In (0, 1), and as likely to be in any part of it.
			chance = -math.Log((float64(mix(conversation^s.hash)>>11) + 0.5) / (1 << 53))
		}
		s.turn = chance / s.view.share(s.weight, best)
	}
	slices.SortStableFunc(stops, func(a, b stop) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.turn, b.turn))
	})
}

// send sends a call to the endpoint, in the form that it wants it in.
func (s *stop) send(c *call, req *http.Request, rest string) (*http.Response, error) {
	if err := c.again(); err != nil { // if it was sent before
		return nil, err
	}
	own := req
	if !s.home {
		own = s.readdress(own, rest)
	}
	c.to = &s.endpoint.self
	f := s.form
	if s.model != c.model {
		c.to, f = &target{endpoint: s.endpoint, model: s.model}, f.as(s.model)
	}
	var kept lent
	formed := false
	if c.model != "" && f.changes() {
		var err error
		if own, kept, formed, err = c.body.form(own, f); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	resp, err := c.pass(s.below, own)
	v := judge(resp, err)
	if formed {
		c.body.takeBack(kept, v.outcome)
	}
	s.health.learn(c.stream, v, time.Since(start))
	if resp != nil && resp.Header != nil && s.label != "" {
		resp.Header.Set("Seawall-Endpoint", s.label)
	}
	return resp, err
}

// readdress returns a request like req to this endpoint. What the caller sent to
// identify itself at another one does not go along; keys are put in further down.
func (e *endpoint) readdress(req *http.Request, rest string) *http.Request {
	own := *req
	own.URL, own.Host = e.at(req.URL, rest), ""
	own.Header = make(http.Header, len(req.Header))
	for name, values := range req.Header {
		if !isKeyHeader(name) && http.CanonicalHeaderKey(name) != "Cookie" {
			own.Header[name] = values
		}
	}
	return &own
}
