package gateway

import (
	"fmt"

	"github.com/seawall-go/deepseek/internal/loopback"
)

// Status is where the status page is, and who may see it. It has an address of
// its own, so that a firewall can tell it from what programs use.
type Status struct {
	// Listen is its address, such as 127.0.0.1:8081. With a certificate for the
	// gateway it is served over HTTPS too. Default: there is no page.
	Listen string
	// Keys are hashes, as HashKey makes them, of the keys that let somebody see it.
	// Without any it must listen on a loopback address.
	Keys []string
}

// check looks at what no single value can tell.
func (s Status) check(main string, fail func(path, reason string)) {
	for i, hash := range s.Keys {
		if _, ok := parseHash(hash); !ok { // it may be the key itself: do not repeat it
			fail(fmt.Sprintf("status.keys[%d]", i), `must be a hash, sha256: and 64 hexadecimal digits; the command "seawall key new" makes one`)
		}
	}
	if s.Listen == "" {
		if len(s.Keys) > 0 {
			fail("status", "needs an address to listen on, such as \"listen: 127.0.0.1:8081\"")
		}
		return
	}
	host, port, ok := splitAddress(s.Listen)
	switch {
	case !ok:
		fail("status.listen", fmt.Sprintf("%q is no address, such as 127.0.0.1:8081 or :8081", s.Listen))
	case s.Listen == main && port != 0:
		fail("status.listen", "must be another address than that of the gateway")
	case len(s.Keys) == 0 && !loopback.IsHost(host):
		fail("status.listen", "without keys the status page listens on loopback only, such as 127.0.0.1:8081")
	}
}
