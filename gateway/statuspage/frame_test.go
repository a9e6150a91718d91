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
