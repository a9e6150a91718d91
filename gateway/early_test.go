package gateway_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// A server that answers before it has read the request, on a busy machine, has
// the plain httputil.ReverseProxy cut a few streams in a hundred: its server
// closes the request's body while its transport still reads from it
// (https://go.dev/issue/40747). Here none is.
func TestEarlyAnswers(t *testing.T) {
	calls := 10_000
	if testing.Short() || racedetector.On {
		calls = 1000
	}
	answer := []byte(strings.Repeat(`data: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}`+"\n\n", 20) +
		`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n")
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write(answer)
	}))
	defer upstream.Close()
	base := &http.Transport{MaxIdleConnsPerHost: 64}
	defer base.CloseIdleConnections()
	g, err := gateway.New(gateway.Settings{}, deepseek.WithBaseURL(upstream.URL), deepseek.WithTransport(base),
		deepseek.WithAPIKeys(upstreamKey), deepseek.WithoutRetry(), deepseek.WithoutBreaker())
	require.NoError(t, err)
	front := httptest.NewServer(g)
	defer front.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	defer client.CloseIdleConnections()

	// Large enough to be under way when the answer comes.
	body := []byte(`{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("x", 8<<10) + `"}]}`)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for next.Add(1) <= int64(calls) && !t.Failed() {
				resp, err := client.Post(front.URL+"/chat/completions", "application/json", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || !bytes.Equal(got, answer) {
					t.Errorf("status %d, %d of %d bytes, %v: %s", resp.StatusCode, len(got), len(answer), err, got[:min(len(got), 300)])
				}
			}
		})
	}
	wg.Wait()
}
