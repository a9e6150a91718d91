package deepseektest

import (
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek/internal/memnet"
)

// A Server is a fake DeepSeek API. It answers chat, prefix and FIM
// completions, Responses and Anthropic messages, counts the requests in
// flight of each account and model, keeps balances and a context cache, and
// misbehaves as it is told to.
//
// NewServer listens on a loopback port, NewMemoryServer on a listener in
// memory, NewHandler nowhere. Close must be called in all three cases.
//
// All methods are safe for simultaneous use by multiple goroutines.
type Server struct {
	// URL is the base URL, such as http://127.0.0.1:43210, without a slash
	// at its end. That of NewMemoryServer looks the same, but nothing listens
	// there: only Transport and Network reach it. It is empty for a Server made
	// by NewHandler.
	URL string

	cfg      config
	http     *http.Server
	listener net.Listener
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	closing  chan struct{}
	running  sync.WaitGroup // the accept loop, and the handlers of our own listener
	ids      atomic.Uint64

	mu         sync.Mutex
	closed     bool
	keys       map[string]*account
	names      map[string]*account
	revoked    map[string]bool
	open       bool // no account was configured: any key is an account
	queue      []Reply
	handle     func(*Request) *Reply
	phases     []phase
	timers     []*time.Timer
	rng        *rand.Rand
	records    []*Request
	seq        int
	statuses   map[int]int
	files      map[string]file
	transports []*http.Transport

	cache   cache
	scripts scripts
}

// NewServer starts a Server on a free port of 127.0.0.1. It panics if there
// is none.
func NewServer(opts ...Option) *Server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("deepseektest: cannot listen on 127.0.0.1: " + err.Error())
	}
	s := newServer(opts)
	s.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
	s.listen(l)
	return s
}

// NewMemoryServer starts a Server whose connections are buffers in memory.
// Reach it through Transport.
//
// Inside a testing/synctest bubble it takes no real time at all: all its
// delays run on the bubble's clock, and waiting on one of its connections
// counts as durably blocked. Create it and close it inside the bubble.
func NewMemoryServer(opts ...Option) *Server {
	s := newServer(opts)
	l := memnet.Listen()
	s.dial = l.DialContext
	s.listen(l)
	return s
}

// NewHandler returns a Server without a listener, for use as an http.Handler
// in a server of the caller's own. Replies that break a connection hijack it;
// where that is impossible (HTTP/2, httptest.ResponseRecorder) they panic
// with http.ErrAbortHandler.
func NewHandler(opts ...Option) *Server {
	return newServer(opts)
}

func newServer(opts []Option) *Server {
	s := &Server{
		cfg:      defaultConfig(),
		closing:  make(chan struct{}),
		keys:     make(map[string]*account),
		names:    make(map[string]*account),
		revoked:  make(map[string]bool),
		statuses: make(map[int]int),
		files:    make(map[string]file),
	}
	for _, o := range opts {
		o.apply(&s.cfg)
	}
	s.rng = rand.New(rand.NewPCG(s.cfg.seed, 0x5ea))
	s.open = len(s.cfg.accounts) == 0
	for _, a := range s.cfg.accounts {
		s.addAccount(a)
	}
	s.cache.init(s.cfg.cache)
	return s
}

func (s *Server) listen(l net.Listener) {
	s.listener = l
	s.URL = "http://" + l.Addr().String()
	s.http = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		_ = s.http.Serve(l)
	}()
}

// Close ends the listener, every connection and every request in flight, and
// returns when the handlers have ended. The idle connections of transports
// made by Transport are closed too. Closing twice is allowed.
//
// A Server made by NewHandler has no connections that it could close. Requests in
// flight end there too, but Close does not wait for their handlers, one of which may
// be writing to a client that does not read: close the caller's server after it.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.closing)
	for _, t := range s.timers {
		t.Stop()
	}
	transports := s.transports
	s.mu.Unlock()

	if s.http != nil {
		_ = s.http.Close()
		s.running.Wait()
	}
	for _, t := range transports {
		t.CloseIdleConnections()
	}
}

// Transport returns a new http.Transport that reaches this Server, whatever
// the host of the request. For a Server made by NewHandler its dials fail.
func (s *Server) Transport() *http.Transport {
	dial := s.dial
	if dial == nil {
		dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("deepseektest: a Server made by NewHandler has no listener")
		}
	}
	t := newTransport(dial)
	s.mu.Lock()
	s.transports = append(s.transports, t)
	s.mu.Unlock()
	return t
}

// Network returns a new http.Transport that reaches each of the servers by
// the host of its URL, and refuses every other host. It is what a client with
// several endpoints needs in a test.
func Network(servers ...*Server) *http.Transport {
	t := newTransport(func(ctx context.Context, network, addr string) (net.Conn, error) {
		for _, s := range servers {
			if s.dial != nil && s.listener.Addr().String() == addr {
				return s.dial(ctx, network, addr)
			}
		}
		return nil, memnet.Refused()
	})
	for _, s := range servers {
		s.mu.Lock()
		s.transports = append(s.transports, t)
		s.mu.Unlock()
	}
	return t
}

func newTransport(dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:         dial,
		MaxIdleConnsPerHost: 4096,
		IdleConnTimeout:     90 * time.Second,
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	if s.http != nil {
		s.running.Add(1)
		defer s.running.Done()
	}
	s.mu.Unlock()

	defer s.tell(r)
	x := exchange{s: s, w: w, r: r}
	x.serve()
}

// tell prints a panic of the functions that tests set (Handle, WithAnswer and
// others) as net/http does, and lets it go on. Our own http.Server is silent, for
// it would also print what is broken on purpose; that of a caller prints panics
// itself.
func (s *Server) tell(r *http.Request) {
	if s.http == nil {
		return
	}
	if err := recover(); err != nil {
		if err != http.ErrAbortHandler {
			log.Printf("deepseektest: panic serving %s %s: %v\n%s", r.Method, r.URL.Path, err, debug.Stack())
		}
		panic(err)
	}
}

// id returns two 64-bit words that no other call returns, the same for the
// same seed and order of requests.
func (s *Server) id() (uint64, uint64) {
	n := s.ids.Add(1)
	return mix(s.cfg.seed ^ n<<1), mix(s.cfg.seed + 0x9e3779b97f4a7c15*n)
}

// mix is the finalizer of splitmix64.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func hex32(a, b uint64) string {
	buf := make([]byte, 0, 32)
	buf = appendHex(buf, a)
	buf = appendHex(buf, b)
	return string(buf)
}

func appendHex(buf []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		buf = append(buf, digits[v>>shift&15])
	}
	return buf
}

// uuid lays two words out as a version 4 UUID, the form of DeepSeek's ids.
func uuid(a, b uint64) string {
	h := hex32(a&^0xf000|0x4000, b&^(3<<62)|1<<63)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func itoa(n int) string { return strconv.Itoa(n) }
