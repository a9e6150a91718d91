package gateway

import (
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/otel"
)

// Settings are what the gateway itself goes by; how calls are made is up to its
// transport's options. The zero value is the default.
type Settings struct {
	// MaxRequest is how large a request may be, in bytes. Default 48 MiB, the
	// limit of the API itself.
	MaxRequest int64
	// KeepAlive says how connections are kept alive while calls wait.
	KeepAlive KeepAlive
	// Models are other names that clients may use for models, such as "gpt-4o" for
	// "deepseek-flash". A request's model is all that is changed of it. Default:
	// none.
	Models map[string]string
	// FallbackModels are those of [deepseek.WithFallbackModels], in place of that
	// option. A client is answered only by models that it may ask for. Default: none.
	FallbackModels map[string][]string
	// Clients are those who may use the gateway, by their keys. Default: everybody
	// may, without a key.
	Clients []Client
	// State is a file that keeps what clients have spent this month over restarts,
	// written a second after a change. Default: none, and it is forgotten. Two
	// processes must not share it.
	State string
	// BodyTimeout is for how long each MiB of a request may take to come after the
	// first, which the server's ReadTimeout is for. Default 0: all of it has that
	// one time.
	BodyTimeout time.Duration
	// WriteTimeout is for how long a client of HTTP/2 may take nothing of what it is
	// sent, before its request is ended. (Over HTTP/1 that is up to the listener's
	// connections; the server's own WriteTimeout would cut streams.) Default 0: for
	// ever.
	WriteTimeout time.Duration
	// Counters count what clients use at several gateways together, which then have
	// their limits and budgets in common. Default: what is used here.
	Counters Counters
	// Logger gets one line for each request, and what else an operator should know.
	// Nothing of prompts or answers is ever in it, and no key. Default nil: nothing
	// is logged.
	Logger *slog.Logger
	// Providers are what OpenTelemetry is told through. Default: it is told nothing.
	Providers Providers
	// OnEnd is told of each request when it is over, with no lock held. It must be
	// quick, must not block, and must be safe for concurrent use. Default nil.
	OnEnd func(RequestEnd)
}

const defaultMaxRequest = 48 << 20

func (s Settings) withDefaults() (Settings, error) {
	if s.MaxRequest < 0 {
		return s, &deepseek.ConfigError{Field: "MaxRequest", Value: strconv.FormatInt(s.MaxRequest, 10), Reason: "must not be negative"}
	}
	if s.MaxRequest == 0 {
		s.MaxRequest = defaultMaxRequest
	}
	s.KeepAlive = s.KeepAlive.withDefaults()
	if s.Logger != nil {
		s.Logger = slog.New(otel.NewLogHandler(named{s.Logger.Handler()}))
	}
	return s, nil
}

// Gateway is an [http.Handler] that serves DeepSeek's API through a
// [deepseek.Transport]. It is safe for concurrent use.
type Gateway struct {
	state     atomic.Pointer[state]
	ledger    *ledger
	telemetry *telemetry
	draining  atomic.Bool

	mu      sync.Mutex         // while settings change
	clients map[string]*client // guarded by mu
}

// state is what an exchange goes by from its beginning to its end.
type state struct {
	Settings
	transport *deepseek.Transport
	base      *url.URL
	roster    roster
	ledger    *ledger
	currency  string
}

var _ http.Handler = (*Gateway)(nil)

// New returns a gateway whose calls go through a transport made with opts.
// Comments in streams are passed on.
func New(s Settings, opts ...deepseek.Option) (*Gateway, error) {
	s, err := s.withDefaults()
	if err != nil {
		return nil, err
	}
	g := new(Gateway)
	if g.telemetry, err = newTelemetry(s.Providers); err != nil {
		return nil, err
	}
	t, err := deepseek.NewTransport(g.options(s, opts))
	if err != nil {
		return nil, err
	}
	if g.ledger, err = openLedger(s.State, t.Stats().Currency, s.Counters, s.Logger); err != nil {
		return nil, err
	}
	if err := g.use(s, t); err != nil {
		return nil, err
	}
	return g, g.telemetry.watch(g, s.Providers.MeterProvider)
}

// Reload changes settings and options for requests that come from now on; those
// under way end as they began. Accounts that stay keep what was learned of them,
// clients that stay what they have used. If there is an error, nothing has
// changed. State and Counters must be as they were; Providers stay what they were. If
// the prices are in another currency than before, what clients have spent begins anew.
func (g *Gateway) Reload(s Settings, opts ...deepseek.Option) error {
	s, err := s.withDefaults()
	if err != nil {
		return err
	}
	if s.State != g.ledger.path {
		return &deepseek.ConfigError{Field: "State", Value: s.State, Reason: "cannot change while the gateway runs"}
	}
	if s.Counters != g.ledger.counters {
		return &deepseek.ConfigError{Field: "Counters", Reason: "cannot change while the gateway runs"}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, _, err := enrol(s.Clients, nil); err != nil {
		return err
	}
	t, err := g.Transport().Successor(g.options(s, opts))
	if err != nil {
		return err
	}
	g.ledger.anew(t.Stats().Currency)
	return g.use(s, t)
}

// options are those of the transport.
func (g *Gateway) options(s Settings, opts []deepseek.Option) deepseek.Option {
	all := append(slices.Clone(opts), deepseek.WithStreamComments(), g.telemetry.option(), logged(s.Logger), deepseek.WithObserver(observer()))
	if len(s.FallbackModels) > 0 {
		all = append(all, deepseek.WithFallbackModels(s.FallbackModels))
	}
	return deepseek.WithOptions(all...)
}

// use has requests go by settings and a transport from now on.
func (g *Gateway) use(s Settings, t *deepseek.Transport) error {
	roster, clients, err := enrol(s.Clients, g.clients)
	if err != nil {
		return err
	}
	g.clients = clients
	for name := range clients {
		g.ledger.of(name, time.Now()) // counters then know that it matters here
	}
	g.state.Store(&state{Settings: s, transport: t, base: t.BaseURL(), roster: roster, ledger: g.ledger, currency: t.Stats().Currency})
	return nil
}

// Transport is what calls go through now.
func (g *Gateway) Transport() *deepseek.Transport { return g.state.Load().transport }

// Clients are the clients as they are now, by name.
func (g *Gateway) Clients() []ClientStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	list := make([]ClientStats, 0, len(g.clients))
	for _, name := range slices.Sorted(maps.Keys(g.clients)) {
		s := g.clients[name].stats(now)
		s.Spent = g.ledger.of(name, now)
		list = append(list, s)
	}
	return list
}

// Save writes the file of [Settings.State] now.
func (g *Gateway) Save() error { return g.ledger.save() }

// Drain has /readyz say from now on that no more requests should be sent here.
// Those that come are served all the same.
func (g *Gateway) Drain() { g.draining.Store(true) }

// Draining reports whether Drain was called.
func (g *Gateway) Draining() bool { return g.draining.Load() }

// health answers those who ask how the gateway is: /healthz, whether it runs, and
// /readyz, whether it is to be sent requests. It is false for all other paths.
func (g *Gateway) health(w http.ResponseWriter, r *http.Request) bool {
	status, text := http.StatusOK, "ok\n"
	switch {
	case r.URL.Path != "/healthz" && r.URL.Path != "/readyz", r.Method != http.MethodGet && r.Method != http.MethodHead:
		return false
	case r.URL.Path == "/readyz" && g.draining.Load():
		status, text = http.StatusServiceUnavailable, "shutting down\n"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
	return true
}

// ServeHTTP answers a request. Where a response cannot be completed it panics
// with [http.ErrAbortHandler], which breaks the connection.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := g.state.Load()
	w, done := patiently(w, r, s.WriteTimeout)
	defer done()
	if g.health(w, r) {
		return
	}
	x := &exchange{Context: r.Context(), state: s, id: newID(rand.Uint64()), r: r, start: time.Now()}
	x.relay.w, x.relay.rc = w, http.NewResponseController(w)
	x.parties.Store(1)
	w.Header()["X-Request-Id"] = []string{x.id}
	x.telemetry = g.telemetry
	x.telemetry.begin(x)
	defer x.done()
	defer x.rescue()
	if x.err = x.serve(); x.err != nil {
		panic(http.ErrAbortHandler)
	}
}
