package deepseek

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// DefaultBaseURL is where DeepSeek's API is.
const DefaultBaseURL = "https://api.deepseek.com"

// NewOrigin returns the layer that lets requests through to one origin (scheme,
// host and port) only and refuses all others with an [*OriginError], redirects
// included: the layers below put a key into whatever they send. The Host header
// is always that of the URL. Plain HTTP is accepted for loopback addresses only.
func NewOrigin(baseURL string) (Middleware, error) {
	u, err := parseBaseURL(baseURL)
	if err != nil {
		return nil, err
	}
	o := &originLock{scheme: u.Scheme, host: u.Host, origin: originOf(u)}
	return layer(o.do), nil
}

// originLock lets one origin through.
type originLock struct {
	scheme, host string // as configured: mostly the request has the very same
	origin       string
}

func (o *originLock) do(next http.RoundTripper, _ *call, req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != o.scheme || req.URL.Host != o.host {
		if got := originOf(req.URL); got != o.origin {
			return nil, &OriginError{Got: got, Want: o.origin}
		}
	}
	if req.Host != "" && req.Host != req.URL.Host {
		fresh := *req
		fresh.Host = ""
		req = &fresh
	}
	return next.RoundTrip(req)
}

// originOf is a URL's scheme, host and port, written in one way.
func originOf(u *url.URL) string {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		switch scheme {
		case "http":
			port = "80"
		case "https":
			port = "443"
		}
	}
	return scheme + "://" + net.JoinHostPort(strings.TrimSuffix(host, "."), port)
}

// parseBaseURL accepts a base URL that a key may be sent to.
func parseBaseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, badConfig("BaseURL", fmt.Sprintf("%q", s[strings.LastIndexByte(s, '@')+1:]), "is not a URL")
	}
	bad := func(reason string) (*url.URL, error) {
		u.User, u.RawQuery, u.Fragment = nil, "", "" // may be secrets
		return nil, badConfig("BaseURL", fmt.Sprintf("%q", u), reason)
	}
	switch {
	case u.User != nil:
		return bad("must not hold user or password")
	case u.Scheme != "https" && u.Scheme != "http":
		return bad("must begin with https://")
	case u.Host == "":
		return bad("has no host")
	case u.RawQuery != "" || u.Fragment != "":
		return bad("must not have a query or fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return bad("would send keys over plain HTTP; only loopback addresses may do that")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// isDeepSeek reports whether a host is DeepSeek itself, or a stand-in on
// loopback, so that its rules hold.
func isDeepSeek(host string) bool {
	host = strings.ToLower(host)
	return isLoopback(host) || host == "deepseek.com" || strings.HasSuffix(host, ".deepseek.com")
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
