package statuspage

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// A clock that goes back a little is somebody who comes late; one that was set back
// does not stop the page.
func TestClock(t *testing.T) {
	p := New(Settings{})
	now := time.Unix(1_800_000_000, 0)
	first := p.frame(now)
	require.Equal(t, first.full(), first.since(0))
	second := p.frame(now.Add(time.Second))
	require.Equal(t, second.change, second.since(first.second))
	require.Equal(t, second.full(), second.since(first.second-1), "it missed one")
	require.Same(t, second, p.frame(now.Add(time.Second-time.Nanosecond)))
	back := p.frame(now.Add(-time.Hour))
	require.Equal(t, now.Unix()-3600, back.second)
	require.Equal(t, back.full(), back.since(second.second))
	next := p.frame(now.Add(-time.Hour + time.Second))
	require.Equal(t, next.change, next.since(back.second))
	ahead := p.frame(now.Add(time.Hour))
	require.Contains(t, string(ahead.since(next.second)), `"from":`)
}

// What a second costs with a thousand accounts that have all been called, however
// many watch.
func BenchmarkFrame(b *testing.B) {
	srv := deepseektest.NewMemoryServer(deepseektest.WithoutRecords())
	defer srv.Close()
	p := New(Settings{})
	opts := []deepseek.Option{deepseek.WithBaseURL(srv.URL), deepseek.WithTransport(srv.Transport()), deepseek.WithStrategy(deepseek.RoundRobin{}), deepseek.WithObserver(p.Observer())}
	for i := range 1000 {
		opts = append(opts, deepseek.WithAccounts(deepseek.Account{Name: fmt.Sprint("account ", i), Keys: []string{fmt.Sprint("sk-", i)}}))
	}
	g, err := gateway.New(gateway.Settings{OnEnd: p.OnEnd}, opts...)
	require.NoError(b, err)
	p.Watch(g)
	for range 1000 {
		r := httptest.NewRequest(http.MethodPost, "/chat/completions", strings.NewReader(`{"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hi"}]}`))
		g.ServeHTTP(httptest.NewRecorder(), r)
	}
	now := time.Now()
	size := len(p.frame(now).full())
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		f := p.frame(now)
		require.NotNil(b, f.change)
	}
	b.ReportMetric(float64(size), "bytes-at-first")
	b.ReportMetric(float64(len(p.feed.last.change)), "bytes-a-second")
}
