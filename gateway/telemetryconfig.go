package gateway

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strings"
)

// Telemetry is what is told to monitoring, beside the log.
type Telemetry struct {
	Metrics Metrics
	Traces  Traces
}

// Metrics are for Prometheus to scrape. They tell of all clients and accounts, so
// they are never served where clients are.
type Metrics struct {
	// Listen is the address to serve them on, such as 127.0.0.1:9464. Whoever reaches
	// it needs no key. Default: they are not served.
	Listen string
	// Path is where they are. Default /metrics.
	Path string
}

// Traces are sent to a collector.
type Traces struct {
	// Endpoint is its URL for OTLP over HTTP, such as http://127.0.0.1:4318; the path
	// is /v1/traces unless the URL has one. Default: no traces are made.
	Endpoint string
	// Headers are sent with them, such as an authorization. Their values are secrets,
	// so they are not in the file: env:NAME or file:PATH.
	Headers map[string]Secrets
	// Ratio is the share of traces that are sent, of those that do not come with a
	// client's own decision. Default 1.
	Ratio float64
	// Propagate sends the trace's context on to the API's host. Default false: what
	// identifies a request here is nobody else's business.
	Propagate bool
}

// check looks at what no single value can tell.
func (t *Telemetry) check(listen string, fail func(field, reason string)) {
	if m := t.Metrics; m.Listen != "" {
		switch _, port, ok := splitAddress(m.Listen); {
		case !ok:
			fail("telemetry.metrics.listen", fmt.Sprintf("%q is no address, such as 127.0.0.1:9464 or :9464", m.Listen))
		case m.Listen == listen && port != 0:
			fail("telemetry.metrics.listen", "must not be where clients are served: metrics tell of all of them")
		}
	}
	if p := t.Metrics.Path; !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "{} ?#") || path.Clean(p) != p {
		fail("telemetry.metrics.path", fmt.Sprintf("%q is no path, such as /metrics", p))
	}
	if e := t.Traces.Endpoint; e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
			fail("telemetry.traces.endpoint", "must be a URL such as http://127.0.0.1:4318, without user or query")
		}
	}
	if r := t.Traces.Ratio; !(r > 0 && r <= 1) {
		fail("telemetry.traces.ratio", fmt.Sprintf("%v is not more than 0 and at most 1", r))
	}
	for _, name := range slices.Sorted(maps.Keys(t.Traces.Headers)) {
		at := "telemetry.traces.headers." + name
		switch values := t.Traces.Headers[name]; {
		case !isToken(name):
			fail(at, "is no name of a header")
		case len(values) != 1:
			fail(at, "must be one value")
		case strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			fail(at, "has a control character, which no header may have")
		}
	}
}

// isToken reports whether s can be the name of a header.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != ""
}

// same reports whether nothing has changed.
func (t *Telemetry) same(other *Telemetry) bool { return reflect.DeepEqual(t, other) }
