package gateway_test

import (
	"context"
	"errors"
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

// What is left in a buffer when all is written is flushed before net/http does it.
func TestRefusalsOverHTTP2AreNotWaitedForByAnybody(t *testing.T) {
	setup{settings: gateway.Settings{WriteTimeout: 5 * time.Second}}.run(t, func(b *bench) {
		for _, path := range []string{"/nowhere", "/healthz"} {
			w := &stuck{header: http.Header{}, end: make(chan struct{})}
			req := b.request(http.MethodGet, path, "")
			req.ProtoMajor, req.RequestURI = 2, path
			req.URL.Scheme, req.URL.Host = "", ""
			start := time.Now()
			b.g.ServeHTTP(w, req)
			require.Equal(b, 5*time.Second, time.Since(start), path)
			require.NotZero(b, w.status)
		}
	})
}

// stuck is a way back to a client of HTTP/2 that opens no window: what is written
// stays in a buffer, and whoever flushes it waits until the stream is ended.
type stuck struct {
	header http.Header
	status int
	end    chan struct{}
}

func (w *stuck) Header() http.Header         { return w.header }
func (w *stuck) WriteHeader(status int)      { w.status = status }
func (w *stuck) Write(p []byte) (int, error) { return len(p), nil }
func (w *stuck) FlushError() error {
	<-w.end
	return errors.New("stream is over")
}

func (w *stuck) SetWriteDeadline(time.Time) error {
	close(w.end)
	return nil
}

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
