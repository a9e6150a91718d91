package deepseek

import (
	"context"
	"net/http"
	"strconv"
)

// NewFallback returns the layer that has another model answer where the one that was
// asked for cannot: after all attempts at it have failed (401, 402, 403, 408, 409,
// 429, 5xx, network, stalls), or if it was not even tried, because of an open breaker,
// no account or endpoint for it, or no room. models are the others by model, in the
// order in which they are tried; [FallBackTo] overrides them for a call. Put it above
// the layer of [NewRetry], whose attempts each model then has anew.
//
// A response of another model says so in its header Seawall-Fallback; the
// attempts tell it too. If no model answers, the outcome is that of the last
// one that was sent.
func NewFallback(models map[string][]string) (Middleware, error) {
	f, err := newFallback(models)
	if err != nil {
		return nil, err
	}
	return layer(f.do), nil
}

func newFallback(models map[string][]string) (*fallback, error) {
	for model, others := range models {
		for _, other := range others {
			if model == "" || other == "" || other == model {
				return nil, badConfig("FallbackModels", strconv.Quote(model)+": "+strconv.Quote(other), "must name two models")
			}
		}
	}
	return &fallback{models: models}, nil
}

type fallback struct{ models map[string][]string }

// fallbackKey finds what a call may fall back to.
type fallbackKey struct{}

// FallBackTo returns a context whose calls may be answered by these models, in
// this order, in place of the one that they ask for; by none if there are none.
// It overrides the map of [WithFallbackModels], and needs that option, even with an
// empty map.
func FallBackTo(ctx context.Context, models ...string) context.Context {
	return context.WithValue(ctx, fallbackKey{}, models)
}

func (f *fallback) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	others, ok := c.Value(fallbackKey{}).([]string)
	if !ok {
		others = f.models[c.model]
	}
	if c.model == "" || c.continues { // one answer is of one model
		others = nil
	}
	resp, err := c.pass(next, req)
	asked, fellBack := c.model, c.fellBack
	for _, model := range others {
		v := judge(resp, err)
		if !v.mayFallBack() {
			break
		}
		if c.again() != nil {
			break
		}
		own, kept, formed, err2 := c.body.form(req, form{model: model})
		if err2 != nil {
			break
		}
		c.model, c.to, c.fellBack = model, c.elsewhere(), true
		c.used.Store(0)
		if resp != nil {
			settle(resp)
			letGo(resp)
		}
		c.watch.fallback(c, asked, v)
		other, err2 := c.pass(next, own)
		outcome := judge(other, err2).outcome
		if formed {
			c.body.takeBack(kept, outcome)
		}
		if outcome == refused { // nothing was sent: what the server last said tells the caller more
			c.model, c.fellBack = asked, fellBack
			continue
		}
		discard(resp)
		resp, err = other, err2
		if resp != nil && resp.StatusCode/100 == 2 && resp.Header != nil { // half an answer may go on
			resp.Header.Set("Seawall-Fallback", model)
		}
	}
	return resp, err
}

// mayFallBack reports whether another model may answer in spite of this.
func (v verdict) mayFallBack() bool {
	switch v.outcome {
	case fault, throttled, refused, broke, unauthorized, forbidden:
		return true
	}
	return false
}
