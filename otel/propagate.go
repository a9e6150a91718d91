package otel

import (
	"net/http"

	"go.opentelemetry.io/otel/propagation"
)

// propagate sends the context of each attempt's span with its request.
func propagate(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		own := req.WithContext(req.Context())
		if own.Header = req.Header.Clone(); own.Header == nil {
			own.Header = http.Header{}
		}
		propagation.TraceContext{}.Inject(req.Context(), propagation.HeaderCarrier(own.Header))
		return next.RoundTrip(own)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
