// Reverseproxy puts Seawall before programs that are not written in Go: point
// their base URL at it.
//
//	go run ./examples/reverseproxy
//	curl -N http://127.0.0.1:8088/chat/completions -H 'Content-Type: application/json' -d \
//	  '{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
//
// It asks its clients for no key: whoever reaches it spends your money. So it
// listens on this machine only. After more than one attempt they see, in the
// Seawall-Attempts header, the accounts' names, the keys' fingerprints, and what a
// server said in place of an answer, which may repeat a prompt. Without
// DEEPSEEK_API_KEY there is a fake DeepSeek with faults behind it.
package main

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

const address = "127.0.0.1:8088"

func main() {
	api := fake.Unless(os.Getenv)
	defer api.Close()
	proxy, err := newProxy(api.URL, api.Options...)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("http://" + address + " leads to " + api.URL)
	log.Fatal(http.ListenAndServe(address, proxy))
}

func newProxy(baseURL string, opts ...deepseek.Option) (http.Handler, error) {
	target, err := url.Parse(baseURL)
	if err != nil {
		return nil, err
	}
	// Refusals of the transport's own (queue full, breaker open) reach the client
	// as a 429 or 503 with Retry-After.
	opts = append(opts, deepseek.WithErrorResponses())
	transport, err := deepseek.NewTransport(opts...)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}, nil
}
