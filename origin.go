package deepseek

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/seawall-go/deepseek/internal/loopback"
)

// DefaultBaseURL is where DeepSeek's API is.
const DefaultBaseURL = "https://api.deepseek.com"

// NewOrigin returns the layer that lets requests through to the origins (scheme,
// host and port) of base URLs only and refuses all others with an
// [*OriginError], redirects included: the layers below put a key into whatever
// they send. The Host header is always that of the URL. Plain HTTP is accepted
// for loopback addresses only. Several origins are for a layer made by
// [NewRoute] below it; keys need one of their own.
func NewOrigin(baseURL string, more ...string) (Middleware, error) {
	o := make(originLock, 0, 1+len(more))
	for _, s := range append([]string{baseURL}, more...) {
		u, err := parseBaseURL(s)
		if err != nil {
			return nil, err
		}
		o = append(o, newOrigin(u))
	}
	return layer(o.do), nil
}

// origin is where keys may be sent to.
type origin struct {
	scheme, host string // as configured: mostly the request has the very same
	origin       string
}

func newOrigin(u *url.URL) origin { return origin{scheme: u.Scheme, host: u.Host, origin: originOf(u)} }

// originLock lets some origins through.
type originLock []origin

func (l originLock) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if _, err := l.find(req.URL); err != nil {
		return nil, err
	}
	if req.Host != "" && req.Host != req.URL.Host {
		fresh := *req
		fresh.Host = ""
		req = &fresh
	}
	return c.pass(next, req)
}

// originsOf are the origins of endpoints.
func originsOf(endpoints []*endpoint) (l originLock) {
	for _, e := range endpoints {
		l = append(l, e.origin)
	}
	return l
}

// find returns a URL's origin, if it is one of these.
func (l originLock) find(u *url.URL) (string, error) {
	for i := range l {
		if o := &l[i]; u.Scheme == o.scheme && u.Host == o.host {
			return o.origin, nil
		}
	}
	got := originOf(u)
	var want []string
	for i := range l {
		if o := &l[i]; o.origin == got {
			return got, nil
		} else if !slices.Contains(want, o.origin) {
			want = append(want, o.origin)
		}
	}
	return "", &OriginError{Got: got, Want: strings.Join(want, " or ")}
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
	case u.Scheme == "http" && !loopback.IsHost(u.Hostname()):
		return bad("would send keys over plain HTTP; only loopback addresses may do that")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}
