package main

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deadlines is a connection that keeps what deadlines of writes were set.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (c *deadlines) Write(p []byte) (int, error)        { return len(p), nil }
func (c *deadlines) SetWriteDeadline(t time.Time) error { c.set = append(c.set, t); return nil }
func (c *deadlines) SetDeadline(t time.Time) error      { return c.SetWriteDeadline(t) }

// net/http takes a connection's deadline away after the TLS handshake, in which there
// were writes.
func TestDeadlineThatIsTakenAway(t *testing.T) {
	for name, takeAway := range map[string]func(net.Conn) error{
		"of writes": func(c net.Conn) error { return c.SetWriteDeadline(time.Time{}) },
		"of all":    func(c net.Conn) error { return c.SetDeadline(time.Time{}) },
	} {
		t.Run(name, func(t *testing.T) {
			under := new(deadlines)
			c := &conn{Conn: under, listener: &listener{patience: time.Minute}}
			write := func() {
				n, err := c.Write([]byte("x"))
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			write()
			write()
			require.Len(t, under.set, 1, "not for each write")
			require.NoError(t, takeAway(c))
			write()
			require.Len(t, under.set, 3)
			require.WithinDuration(t, time.Now().Add(time.Minute), under.set[2], 10*time.Second)
		})
	}
}
