package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
)

// server is a gateway that listens.
type server struct {
	started *gateway.Config                // as it was then
	config  atomic.Pointer[gateway.Config] // as it is now
	gateway *gateway.Gateway
	exports *exports
	log     *slog.Logger
	lines   *batch // of the log
	level   *slog.LevelVar

	shared *shared // nil: nothing is

	http   *http.Server
	tcp    net.Listener
	status *statusPage // nil: there is none
	cert   atomic.Pointer[tls.Certificate]
	cancel context.CancelCauseFunc // ends all calls
}

// special is what a server has that no configuration can say.
type special struct {
	note    string                          // for the status page
	log     func(slog.Handler) slog.Handler // what of it; nil: all
	options []deepseek.Option
}

// newServer listens as the configuration says.
func newServer(c *gateway.Config, errs io.Writer, x special) (*server, error) {
	s := &server{started: c, level: new(slog.LevelVar), lines: &batch{to: errs}}
	s.config.Store(c)
	s.level.Set(c.Level())
	s.log = newLogger(c.Log.Format, s.level, s.lines)
	if x.log != nil {
		s.log = slog.New(x.log(s.log.Handler()))
	}
	var err error
	if s.exports, err = newExports(&c.Telemetry); err != nil {
		return nil, err
	}
	listening := false
	defer func() {
		if !listening {
			s.shared.close()
			_ = s.exports.end()
		}
	}()
	if s.shared, err = share(c, s.log); err != nil {
		return nil, err
	}
	s.status = newStatusPage(c, x.note, s.log)
	settings, opts := s.settings(c)
	if s.gateway, err = gateway.New(settings, append(opts, x.options...)...); err != nil {
		return nil, err
	}
	cert, err := readCertificate(c)
	if err != nil {
		return nil, err
	}
	s.cert.Store(cert)
	if err := s.gateway.Save(); err != nil { // rather than when the first client has spent something
		return nil, err
	}
	calls, cancel := context.WithCancelCause(context.Background())
	s.cancel = cancel
	s.http = s.newHTTP(calls, &c.Server)
	if s.tcp, err = net.Listen("tcp", c.Listen); err != nil {
		cancel(nil)
		return nil, err
	}
	if err := s.status.listen(c.Status.Listen, s.gateway); err != nil {
		cancel(nil)
		_ = s.tcp.Close()
		return nil, err
	}
	listening = true
	return s, nil
}

// newHTTP is what serves the gateway; calls is the context of all requests.
func (s *server) newHTTP(calls context.Context, c *gateway.Server) *http.Server {
	return &http.Server{
		Handler:           s.gateway,
		ReadHeaderTimeout: c.HeaderTimeout,
		ReadTimeout:       c.HeaderTimeout + c.BodyTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    int(c.MaxHeader),
		BaseContext:       func(net.Listener) context.Context { return calls },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

// settings are those of the gateway and the options of its transport, as a
// configuration has them, with what is shared.
func (s *server) settings(c *gateway.Config) (gateway.Settings, []deepseek.Option) {
	settings, opts := c.Settings(), c.Options()
	settings.Logger, settings.Providers = s.log, s.exports.providers
	if s.shared != nil {
		settings.Counters = s.shared.Counters()
		opts = append(opts, s.shared.options())
	}
	return s.status.settle(settings, opts)
}

func newLogger(format string, level slog.Leveler, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// readCertificate reads the certificate; nil if there is to be none.
func readCertificate(c *gateway.Config) (*tls.Certificate, error) {
	if c.TLS.Cert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err == nil {
		return &cert, nil
	}
	field := "TLS"
	switch e, ok := errors.AsType[*fs.PathError](err); {
	case ok && e.Path == c.TLS.Cert:
		field = "TLS.Cert"
	case ok:
		field = "TLS.Key"
	}
	return nil, c.Locate(&deepseek.ConfigError{Field: field, Reason: strings.TrimPrefix(err.Error(), "tls: ")})
}

// tlsConfig serves the certificate as it is by then.
func (s *server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert.Load(), nil },
	}
}

// serve serves until ctx is done, and then until calls have ended or had their
// time.
func (s *server) serve(ctx context.Context) error {
	defer func() { _ = s.lines.Flush() }()
	defer s.shared.close()
	l := newListener(s.tcp, s.started.Server.MaxConnections, s.started.Server.WriteTimeout)
	s.exports.start()
	defer func() {
		if err := s.exports.end(); err != nil {
			s.log.Warn("the last traces may not have been sent", slog.String("error", err.Error()))
		}
	}()
	failed := make(chan error, 1)
	go func() {
		if s.cert.Load() == nil {
			failed <- s.http.Serve(l)
			return
		}
		s.http.TLSConfig = s.tlsConfig()
		failed <- s.http.ServeTLS(l, "", "")
	}()
	stats := s.gateway.Transport().Stats()
	s.log.Info("serving", slog.String("version", version()), slog.String("address", s.tcp.Addr().String()), slog.Bool("tls", s.cert.Load() != nil),
		slog.String("upstream", s.gateway.Transport().BaseURL().String()), slog.Int("accounts", len(stats.Accounts)))
	if s.exports.tcp != nil {
		s.log.Info("serving metrics", slog.String("address", s.exports.tcp.Addr().String()), slog.String("path", s.started.Telemetry.Metrics.Path))
	}
	s.status.serve(s)
	defer s.status.end()
	if len(s.started.Clients) == 0 {
		s.log.Warn("there are no clients in the configuration: nobody needs a key, so it listens on loopback only")
	}
	select {
	case err := <-failed:
		s.cancel(nil)
		return err
	case <-ctx.Done():
	}
	return s.drain(failed)
}

// lastWords is how long calls have to tell their clients that they were ended.
const lastWords = 5 * time.Second

// drain ends the server: first whoever sends requests is told to send them
// elsewhere, then no more are taken, at last those under way are ended.
func (s *server) drain(failed <-chan error) error {
	how := s.config.Load().Shutdown
	s.gateway.Drain()
	s.log.Info("shutting down", slog.Duration("delay", how.Delay), slog.Duration("limit", how.Limit))
	time.Sleep(how.Delay)
	late := time.AfterFunc(how.Limit, func() {
		s.log.Warn("ending the calls that are still under way", slog.Duration("after", how.Limit))
		s.cancel(gateway.ErrShutdown)
	})
	defer late.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), how.Limit+lastWords)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	if end := <-failed; !errors.Is(end, http.ErrServerClosed) {
		return end
	}
	s.gateway.Transport().CloseIdleConnections()
	if err := s.gateway.Save(); err != nil {
		return err
	}
	s.log.Info("ended", slog.Bool("complete", err == nil))
	return nil
}

// serveFile serves what a file says.
func serveFile(ctx context.Context, path string, errs io.Writer) error {
	c, err := gateway.ReadConfig(path)
	if err != nil {
		return err
	}
	s, err := newServer(c, errs, special{})
	if err != nil {
		return err
	}
	// What the exporters have to tell: by default it goes to standard error as text.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		s.log.Warn("telemetry", slog.String("error", err.Error()))
	}))
	// SIGHUP is taken to the end: whom nobody listens for, it would kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done, followed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		s.follow(path, hup, done)
	}()
	stop := sync.OnceFunc(func() { close(done); <-followed })
	defer stop()
	context.AfterFunc(ctx, stop) // nothing changes while it shuts down
	return s.serve(ctx)
}
