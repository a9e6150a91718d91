package gateway

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// hopByHop reports whether a header, in canonical form, belongs to a connection
// and not to what is sent over it (RFC 9110, section 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return false
}

// notForServer reports whether a request's header is not the server's business: what
// lets the client in here, who and where it is, what trace it belongs to, how its
// body was sent.
func notForServer(name string) bool {
	switch name {
	case "Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Cookie",
		"Forwarded", "Via", "Origin", "Referer", "X-Azure-Clientip",
		"Traceparent", "Tracestate", "Baggage", "B3", "Uber-Trace-Id", "Sentry-Trace", "X-Cloud-Trace-Context",
		"Host", "Content-Length", "Expect", "Accept-Encoding":
		return true
	}
	return strings.HasSuffix(name, "-Ip") || slices.ContainsFunc(hops, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// hops begin what proxies and tracers put into requests on their way.
var hops = []string{"X-Forwarded-", "X-Original-", "X-Envoy-", "X-B3-", "X-Datadog-", "X-Amzn-", "Uberctx-", "Cf-"}

// notForClient reports whether a response's header speaks of the server's host, which
// the client does not know of, or says what the gateway's own does.
func notForClient(name string) bool {
	switch name {
	case "Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "X-Request-Id":
		return true
	}
	return false
}

// passOn puts what is to be passed on of from into to.
func passOn(to, from http.Header, not func(name string) bool) {
	listed := from["Connection"]
	for name, values := range from {
		if hopByHop(name) || not(name) || len(listed) > 0 && isListed(listed, name) {
			continue
		}
		to[name] = values
	}
}

// isListed reports whether a Connection header makes name hop-by-hop too.
func isListed(connection []string, name string) bool {
	for _, line := range connection {
		for field := range strings.SplitSeq(line, ",") {
			if textproto.CanonicalMIMEHeaderKey(textproto.TrimString(field)) == name {
				return true
			}
		}
	}
	return false
}
