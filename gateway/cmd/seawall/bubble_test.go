package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/memnet"
	"github.com/seawall-go/deepseek/internal/safebuffer"
)

// bubble is a server in a bubble, where time is no matter of luck: what a
// process of its own could show on a quick machine only.
type bubble struct {
	*testing.T
	*server
	fake   *deepseektest.Server
	net    *memnet.Listener
	client *http.Client
	url    string
	logs   safebuffer.Buffer
	end    context.CancelFunc // as SIGTERM does
	ended  chan error
}

// inBubble serves with a configuration, before a fake DeepSeek.
func inBubble(t *testing.T, config string, do func(b *bubble), opts ...deepseektest.Option) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, net: memnet.Listen(), ended: make(chan error, 1)}
		b.fake = deepseektest.NewMemoryServer(append(opts, deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{upstreamKey}}))...)
		defer b.fake.Close()
		t.Setenv("DEEPSEEK_API_KEY", upstreamKey)
		file := filepath.Join(t.TempDir(), "seawall.yaml")
		require.NoError(t, os.WriteFile(file, []byte("listen: 127.0.0.1:0\nbase_url: "+b.fake.URL+"\n"+config), 0o600))
		c, err := gateway.ReadConfig(file)
		require.NoError(t, err)
		b.server, err = newServer(c, &b.logs, special{options: []deepseek.Option{deepseek.WithTransport(b.fake.Transport())}})
		require.NoError(t, err)
		require.NoError(t, b.tcp.Close())
		b.tcp = b.net
		tr := &http.Transport{DialContext: b.net.DialContext, DisableCompression: true}
		b.client, b.url = &http.Client{Transport: tr}, "http://"+b.net.Addr().String()
		defer tr.CloseIdleConnections()
		ctx, end := context.WithCancel(t.Context())
		b.end = end
		go func() { b.ended <- b.serve(ctx) }()
		do(b)
		end()
		select {
		case err := <-b.ended:
			require.NoError(t, err)
		case <-time.After(time.Hour):
			t.Error("the server does not end")
		}
		time.Sleep(5 * time.Second) // net/http's servers linger
	})
}

// dial opens a connection to the server.
func (b *bubble) dial() net.Conn {
	b.Helper()
	conn, err := b.net.DialContext(b.Context(), "", "")
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	require.NoError(b, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}
