package otel

import (
	"net/http"

	"go.opentelemetry.io/otel/propagation"
)

// propagate sends the context of each attempt's span with its request.
func (t *Telemetry) propagate(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		ctx := req.Context()
		if a := t.attemptOf(ctx); a != nil {
			ctx = a.Context
		} else if k := t.trackOf(ctx); k != nil {
			ctx = k.Context
		}
		own := req.WithContext(req.Context())
		if own.Header = req.Header.Clone(); own.Header == nil {
			own.Header = http.Header{}
		}
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(own.Header))
		return next.RoundTrip(own)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
