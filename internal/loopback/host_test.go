package loopback

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIsHost(t *testing.T) {
	for _, host := range []string{"localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"} {
		require.True(t, IsHost(host), host)
	}
	for _, host := range []string{"", "localhost.", "localhost.example", "127.0.0.1.example", "127.1", "0.0.0.0", "::", "10.0.0.1", "[::1]"} {
		require.False(t, IsHost(host), host)
	}
}
