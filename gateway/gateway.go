package gateway

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek"
)

// Settings are what the gateway itself goes by; how calls are made is up to its
// transport's options. The zero value is the default.
type Settings struct {
	// MaxRequest is how large a request may be, in bytes. Default 48 MiB, the
	// limit of the API itself.
	MaxRequest int64
	// KeepAlive says how connections are kept alive while calls wait.
	KeepAlive KeepAlive
	// Logger gets one line for each request. Default nil: nothing is logged.
	Logger *slog.Logger
}

const defaultMaxRequest = 48 << 20

func (s Settings) withDefaults() (Settings, error) {
	if s.MaxRequest < 0 {
		return s, &deepseek.ConfigError{Field: "MaxRequest", Value: "negative", Reason: "must not be negative"}
	}
	if s.MaxRequest == 0 {
		s.MaxRequest = defaultMaxRequest
	}
	s.KeepAlive = s.KeepAlive.withDefaults()
	return s, nil
}

// Gateway is an [http.Handler] that serves DeepSeek's API through a
// [deepseek.Transport]. It is safe for concurrent use.
type Gateway struct {
	state atomic.Pointer[state]
}

// state is what an exchange goes by from its beginning to its end.
type state struct {
	transport  *deepseek.Transport
	base       *url.URL
	maxRequest int64
	keepAlive  KeepAlive
	logger     *slog.Logger
}

var _ http.Handler = (*Gateway)(nil)

// New returns a gateway whose calls go through a transport made with opts.
// Comments in streams are passed on.
func New(s Settings, opts ...deepseek.Option) (*Gateway, error) {
	s, err := s.withDefaults()
	if err != nil {
		return nil, err
	}
	t, err := deepseek.NewTransport(append(opts[:len(opts):len(opts)], deepseek.WithStreamComments(), deepseek.WithObserver(observer()))...)
	if err != nil {
		return nil, err
	}
	g := new(Gateway)
	g.state.Store(&state{
		transport: t, base: t.BaseURL(), maxRequest: s.MaxRequest, keepAlive: s.KeepAlive, logger: s.Logger,
	})
	return g, nil
}

// Transport is what calls go through now.
func (g *Gateway) Transport() *deepseek.Transport { return g.state.Load().transport }

// ServeHTTP answers a request. Where a response cannot be completed it panics
// with [http.ErrAbortHandler], which breaks the connection.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Context: r.Context(), state: g.state.Load(), id: newID(rand.Uint64()), r: r, start: time.Now()}
	x.relay.w, x.relay.rc = w, http.NewResponseController(w)
	x.parties.Store(1)
	w.Header()["X-Request-Id"] = []string{x.id}
	defer x.done()
	if x.err = x.serve(); x.err != nil {
		panic(http.ErrAbortHandler)
	}
}
