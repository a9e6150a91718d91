package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/gateway/statuspage"
)

// statusConnections is how many there may be to the status page: viewers keep one
// each, and fetch the page's files.
const statusConnections = 128

// statusPage is the status page where it listens.
type statusPage struct {
	page   *statuspage.Page
	http   *http.Server
	tcp    net.Listener
	failed chan error
}

// newStatusPage makes the page; without an address it is not listened on and
// costs nothing.
func newStatusPage(c *gateway.Config, note string, log *slog.Logger) *statusPage {
	if c.Status.Listen == "" {
		return nil
	}
	page := statuspage.New(statuspage.Settings{Keys: c.Status.Keys, Note: note, Version: version()})
	return &statusPage{page: page, failed: make(chan error, 1), http: &http.Server{
		Handler:           page,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// settle has the page told of what a gateway with these settings does. It is a
// part of them, and of the options, at each reload.
func (p *statusPage) settle(s gateway.Settings, opts []deepseek.Option) (gateway.Settings, []deepseek.Option) {
	if p != nil {
		s.OnEnd = p.page.OnEnd
		opts = append(opts, deepseek.WithObserver(p.page.Observer()))
	}
	return s, opts
}

// follow takes over what a reload can change.
func (p *statusPage) follow(c *gateway.Config) {
	if p != nil {
		p.page.SetKeys(c.Status.Keys)
	}
}

// listen has the page show g, and listens.
func (p *statusPage) listen(address string, g *gateway.Gateway) (err error) {
	if p == nil {
		return nil
	}
	p.page.Watch(g)
	p.tcp, err = net.Listen("tcp", address)
	return err
}

// url is where the page is.
func (p *statusPage) url(tls bool) string {
	if tls {
		return "https://" + p.tcp.Addr().String() + "/"
	}
	return "http://" + p.tcp.Addr().String() + "/"
}

// serve serves the page until end.
func (p *statusPage) serve(s *server) {
	if p == nil {
		return
	}
	secure := s.cert.Load() != nil
	s.log.Info("status page", slog.String("url", p.url(secure)), slog.Int("keys", len(s.started.Status.Keys)))
	l := newListener(p.tcp, statusConnections, 10*time.Second)
	go func() {
		if !secure {
			p.failed <- p.http.Serve(l)
			return
		}
		p.http.TLSConfig = s.tlsConfig()
		p.failed <- p.http.ServeTLS(l, "", "")
	}()
}

// end ends the page after all else: until then it tells how the rest ends.
func (p *statusPage) end() {
	if p == nil {
		return
	}
	p.page.Close()
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if p.http.Shutdown(ctx) != nil {
		_ = p.http.Close()
	}
	<-p.failed
}
