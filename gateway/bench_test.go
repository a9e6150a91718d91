package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/conformance"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/safebuffer"
)

// bench is a gateway in a bubble, between a client and a fake DeepSeek.
type bench struct {
	*testing.T
	srv    *deepseektest.Server
	g      *gateway.Gateway
	client *http.Client
	url    string
	logs   *logs
	start  time.Time
}

// setup is what differs from an ordinary bench.
type setup struct {
	settings gateway.Settings
	server   []deepseektest.Option
	opts     []deepseek.Option
	network  func(http.RoundTripper) http.RoundTripper
}

const (
	upstreamKey = "sk-upstream-0123456789"
	chatBody    = `{"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hi"}], "unknown": {"field": [1, 2, 3]}}`
	streamBody  = `{"model": "deepseek-flash", "stream": true, "messages": [{"role": "user", "content": "Hi"}], "unknown": 1}`
)

func (s setup) run(t *testing.T, do func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, logs: new(logs), start: time.Now()}
		b.srv = deepseektest.NewMemoryServer(append([]deepseektest.Option{
			deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{upstreamKey}}),
		}, s.server...)...)
		t.Cleanup(b.srv.Close)
		var base http.RoundTripper = b.srv.Transport()
		if s.network != nil {
			base = s.network(base)
		}
		if s.settings.Logger == nil {
			s.settings.Logger = slog.New(slog.NewJSONHandler(b.logs, nil))
		}
		var err error
		b.g, err = gateway.New(s.settings, append([]deepseek.Option{
			deepseek.WithBaseURL(b.srv.URL), deepseek.WithTransport(base),
			deepseek.WithAccounts(deepseek.Account{Name: "main", Keys: []string{upstreamKey}}),
		}, s.opts...)...)
		require.NoError(t, err)
		b.client, b.url = conformance.Serve(t, b.g)
		do(b)
		time.Sleep(5 * time.Second) // net/http's servers linger
	})
}

// elapsed is the time since the bench was set up.
func (b *bench) elapsed() time.Duration { return time.Since(b.start) }

// request makes a request of the client.
func (b *bench) request(method, path, body string) *http.Request {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(b, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// post sends a request and returns the response before its body has come.
func (b *bench) post(path, body string) *http.Response {
	b.Helper()
	resp, err := b.client.Do(b.request(http.MethodPost, path, body))
	require.NoError(b, err)
	return resp
}

// all reads a body to its end, however that comes.
func all(resp *http.Response) (string, error) {
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

// whole reads a body that must be complete.
func (b *bench) whole(resp *http.Response) string {
	b.Helper()
	text, err := all(resp)
	require.NoError(b, err)
	return text
}

// idle demands that nothing is held by anybody.
func (b *bench) idle() {
	b.Helper()
	synctest.Wait()
	require.Zero(b, b.srv.InFlight("main", ""), "in flight at the server")
	s := b.g.Transport().Stats()
	require.Zero(b, s.InFlight)
	for _, m := range s.Accounts[0].Models {
		require.Zero(b, m.InFlight, "permits out")
	}
}

// cancelAfter is a context that ends after d.
func (b *bench) cancelAfter(d time.Duration) context.Context {
	ctx, cancel := context.WithCancel(b.Context())
	time.AfterFunc(d, cancel)
	return ctx
}

// logs keeps what is logged.
type logs struct{ safebuffer.Buffer }

// lines returns the lines of this message.
func (l *logs) lines(t testing.TB, msg string) (list []map[string]any) {
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		if m["msg"] == msg {
			list = append(list, m)
		}
	}
	return list
}

// line reads a line of a body as it comes.
func line(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	text, err := r.ReadString('\n')
	require.NoError(t, err)
	return text
}
