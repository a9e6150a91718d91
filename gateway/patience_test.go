package gateway_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/memnet"
)

// A client of HTTP/2 that opens no window is cut off, though nothing is written
// that a deadline of the connection could see. One that reads slowly is not, however
// long it takes in all; nor is one that waits for the server.
func TestClientsOfHTTP2ThatDoNotRead(t *testing.T) {
	const patience = 5 * time.Second
	for name, stream := range map[string]bool{"whole": false, "stream": true} {
		t.Run(name, func(t *testing.T) {
			s := setup{
				settings: gateway.Settings{WriteTimeout: patience},
				server:   []deepseektest.Option{deepseektest.WithAnswerLength(0, 100_000)},
			}
			s.run(t, func(b *bench) {
				l := memnet.Listen()
				var both http.Protocols
				both.SetUnencryptedHTTP2(true)
				srv := &http.Server{Handler: b.g, Protocols: &both}
				ended := make(chan struct{})
				go func() { _ = srv.Serve(l); close(ended) }()
				defer func() { _ = srv.Close(); <-ended }()
				tr := &http.Transport{
					DialContext: l.DialContext, Protocols: &both, DisableCompression: true,
					HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
				}
				defer tr.CloseIdleConnections()
				body := chatBody
				if stream {
					body = streamBody
				}
				post := func() *http.Response {
					req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+l.Addr().String()+"/chat/completions", strings.NewReader(body))
					require.NoError(b, err)
					resp, err := tr.RoundTrip(req)
					require.NoError(b, err)
					require.Equal(b, 2, resp.ProtoMajor)
					return resp
				}
				// One that reads now and then.
				slow := post()
				buf, size := make([]byte, 32<<10), 0
				for err := error(nil); err != io.EOF; {
					var n int
					n, err = io.ReadFull(slow.Body, buf)
					if err == io.ErrUnexpectedEOF {
						err = io.EOF
					}
					require.True(b, err == nil || err == io.EOF, "%v", err)
					if size += n; size < 512<<10 {
						time.Sleep(patience / 4)
					}
				}
				require.Greater(b, size, 250_000, "many windows")
				require.NoError(b, slow.Body.Close())
				// One that does not.
				stuck := post()
				time.Sleep(patience - time.Second)
				synctest.Wait()
				if stream {
					require.Equal(b, 1, b.srv.InFlight("main", ""))
				}
				time.Sleep(2 * time.Second)
				b.idle()
				_, err := io.ReadAll(stuck.Body)
				require.ErrorContains(b, err, "INTERNAL_ERROR")
				require.NoError(b, stuck.Body.Close())
			})
		})
	}
}
