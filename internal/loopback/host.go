// Package loopback tells which hosts are this machine's own: what is sent to them, or
// listens there, nobody else sees.
package loopback

import (
	"net"
	"strings"
)

// IsHost reports whether a host, without a port, is this machine by a name or address
// that cannot lead elsewhere. Other names are not looked up.
func IsHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
