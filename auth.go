package deepseek

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Auth is how a key is sent. Whatever of these headers the caller has set is
// taken out first.
type Auth string

const (
	// AuthBearer is "Authorization: Bearer" and the key; on DeepSeek's Anthropic
	// paths it is as AuthXAPIKey.
	AuthBearer Auth = "bearer"
	// AuthXAPIKey is the key in the header x-api-key.
	AuthXAPIKey Auth = "x-api-key"
	// AuthAPIKey is the key in the header api-key, as Azure has it.
	AuthAPIKey Auth = "api-key"
)

// keyHeaders are the headers that carry keys.
var keyHeaders = [...]string{"Authorization", "X-Api-Key", "Api-Key"}

func isKeyHeader(name string) bool {
	switch len(name) {
	case len("Authorization"), len("X-Api-Key"), len("Api-Key"):
		return slices.Contains(keyHeaders[:], http.CanonicalHeaderKey(name))
	}
	return false
}

// sign returns req with the key in it, and with no other.
func (a Auth) sign(req *http.Request, k *apiKey) *http.Request {
	signed := *req
	signed.Header = a.header(req, k)
	return &signed
}

// header is that of req with the key in it, and with no other: req's own, if that
// is so already, because the caller has the same key.
func (a Auth) header(req *http.Request, k *apiKey) http.Header {
	own, value := "Authorization", k.bearer
	switch {
	case a == AuthAPIKey:
		own, value = "Api-Key", k.plain
	case a == AuthXAPIKey, strings.Contains(req.URL.Path, "/anthropic/"):
		own, value = "X-Api-Key", k.plain
	}
	others := false
	for name := range req.Header {
		others = others || name != own && isKeyHeader(name)
	}
	if has := req.Header[own]; !others && len(has) == 1 && equalSecrets(has[0], value[0]) {
		return req.Header
	}
	signed := maps.Clone(req.Header)
	if signed == nil {
		signed = http.Header{}
	}
	if others {
		maps.DeleteFunc(signed, func(name string, _ []string) bool { return isKeyHeader(name) })
	}
	signed[own] = value
	return signed
}

// equalSecrets compares in a time that tells nothing of where they differ.
func equalSecrets(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	// Eight at a time: the compiler makes one load of these.
	word := func(s string) uint64 {
		return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	}
	var differ uint64
	for ; len(a) >= 8; a, b = a[8:], b[8:] {
		differ |= word(a[:8]) ^ word(b[:8])
	}
	for i := range len(a) {
		differ |= uint64(a[i] ^ b[i])
	}
	return differ == 0
}

// signing is the layer that puts in the key that the pool has chosen. It is the
// last one but for the caller's own, so that no other ever sees a key.
func signing(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if c.to != nil && c.to.key != nil {
		auth := c.to.slot.account.pool.auth
		if req == c.fresh {
			req.Header = auth.header(req, c.to.key)
		} else {
			req = auth.sign(req, c.to.key)
		}
	}
	return c.pass(next, req)
}
