package conformance

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/internal/memnet"
)

// Serve serves h in memory until the test ends, and returns a client of it and
// its URL.
func Serve(t *testing.T, h http.Handler) (*http.Client, string) {
	l := memnet.Listen()
	srv := &http.Server{Handler: h} //nolint:gosec // nobody is slow here
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	front := &http.Transport{DialContext: l.DialContext, DisableCompression: true}
	t.Cleanup(func() {
		front.CloseIdleConnections()
		_ = srv.Close()
		wg.Wait()
	})
	return &http.Client{Transport: front}, "http://" + l.Addr().String()
}

// Proxy is the door of a program behind an httputil.ReverseProxy with the
// transport t.
func Proxy(t *testing.T, tr *deepseek.Transport, target string) (Door, error) {
	u, err := url.Parse(target)
	if err != nil {
		return Door{}, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: tr,
		ErrorLog:  quiet,
	}
	client, front := Serve(t, proxy)
	d := HTTP(client, front)
	d.Transport, d.Remote = tr, true
	return d, nil
}
