package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
)

// What the gateway costs beside a plain httputil.ReverseProxy, over loopback.
// Client and server are in the same process, so "direct" is what is to be taken
// off before the others are compared. cpu-µs/op is the time of all threads.
//
//	go test -run '^$' -bench Overhead -benchtime 5s ./gateway
func BenchmarkOverhead(b *testing.B) {
	chunk := `data: {"id":"8f2a6c1e-7d40-4a7e-9a55-0b1c3d5e7f90","object":"chat.completion.chunk","created":1784697182,"model":"deepseek-flash","system_fingerprint":"fp_eaab8d114b_prod0820_fp8_kvcache","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":%s}],"usage":null}` + "\n\n"
	const chunks = 100
	mux := http.NewServeMux()
	mux.HandleFunc("/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"8f2a6c1e","object":"chat.completion","created":1784697182,"model":"deepseek-flash","choices":[{"index":0,"message":{"role":"assistant","content":"`+strings.Repeat("Hello there. ", 40)+`"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391}}`)
	})
	stream := func(w http.ResponseWriter, r *http.Request, gap time.Duration) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range chunks {
			time.Sleep(gap)
			finish := "null"
			if i == chunks-1 {
				finish = `"stop"`
			}
			_, _ = fmt.Fprintf(w, chunk, finish)
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}
	mux.HandleFunc("/beta/chat/completions", func(w http.ResponseWriter, r *http.Request) { stream(w, r, 0) })
	mux.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { stream(w, r, 10*time.Millisecond) })
	upstream := httptest.NewServer(mux)
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	require.NoError(b, err)

	newBase := func() *http.Transport {
		return &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	}
	g, err := gateway.New(gateway.Settings{}, deepseek.WithBaseURL(upstream.URL), deepseek.WithAPIKeys(upstreamKey), deepseek.WithTransport(newBase()))
	require.NoError(b, err)
	doors := []struct {
		name    string
		handler http.Handler
	}{
		{"direct", mux},
		{"ReverseProxy", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: newBase()}},
		{"gateway", g},
	}
	request := []byte(`{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("Why is the sea salt? ", 50) + `"}]}`)
	for _, shape := range []struct{ name, path string }{
		{"whole", "/chat/completions"}, {"burst", "/beta/chat/completions"}, {"stream", "/v1/chat/completions"},
	} {
		for _, d := range doors {
			body := request
			if shape.name == "whole" {
				body = bytes.Replace(request, []byte("true"), []byte("false"), 1)
			}
			b.Run(shape.name+"/"+d.name, func(b *testing.B) {
				front := httptest.NewServer(d.handler)
				defer front.Close()
				client := &http.Client{Transport: newBase()}
				defer client.CloseIdleConnections()
				b.ReportAllocs()
				var cut atomic.Int64
				start := cpuTime()
				b.SetParallelism(32)
				b.RunParallel(func(pb *testing.PB) {
					buf := make([]byte, 32<<10)
					for pb.Next() {
						resp, err := client.Post(front.URL+shape.path, "application/json", bytes.NewReader(body))
						if err != nil {
							b.Error(err)
							return
						}
						for {
							if _, err = resp.Body.Read(buf); err != nil {
								break
							}
						}
						_ = resp.Body.Close()
						if err != io.EOF { // the ReverseProxy cuts a stream now and then
							cut.Add(1)
						}
					}
				})
				b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N), "cpu-µs/op")
				b.ReportMetric(float64(cut.Load()), "cut")
				if cut.Load() > 0 && d.handler == g {
					b.Error("answers were cut")
				}
			})
		}
	}
}

// cpuTime is what the process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
