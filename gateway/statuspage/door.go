package statuspage

import (
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/loopback"
)

// admit lets in who may see the page, and tells others why they may not.
func (p *Page) admit(w http.ResponseWriter, r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); r.URL.Path == "/events" && (site == "cross-site" || site == "same-site") {
		// Another site cannot read the stream, but could take the viewers' places.
		http.Error(w, "the stream is for the status page only", http.StatusForbidden)
		return false
	}
	keys := *p.keys.Load()
	if len(keys) == 0 {
		if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) {
			// By name as well: else any site that a browser here visits could have its
			// own name lead to this address, and read the page.
			http.Error(w, "without keys the status page is for this machine alone, at localhost or 127.0.0.1", http.StatusForbidden)
			return false
		}
		return true
	}
	if hash := gateway.HashKey(presented(r)); !known(keys, hash) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Seawall status: any name, and the key as password", charset="UTF-8"`)
		http.Error(w, "the status page needs a key", http.StatusUnauthorized)
		return false
	}
	return true
}

// presented is the key that a request comes with; empty if there is none.
func presented(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return key
	}
	return ""
}

// known looks at all keys, whichever of them it is.
func known(keys []string, hash string) bool {
	found := 0
	for _, k := range keys {
		found |= subtle.ConstantTimeCompare([]byte(strings.ToLower(k)), []byte(hash))
	}
	return found == 1
}

// isLoopback reports whether an address, with or without a port, is this
// machine's own.
func isLoopback(address string) bool {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	return loopback.IsHost(strings.Trim(host, "[]"))
}
