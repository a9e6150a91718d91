package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// answer is what the server says to every request.
type answer struct {
	contentType string
	body        []byte
}

// RoundTrip makes an answer the least transport there can be: it takes the body
// and answers at once.
func (a *answer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return &http.Response{
		Status: "200 OK", StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {a.contentType}, "X-Ds-Trace-Id": {"0123456789abcdef0123456789abcdef"}},
		Body:          io.NopCloser(bytes.NewReader(a.body)),
		ContentLength: int64(len(a.body)), Request: req,
	}, nil
}

// serve answers on the loopback interface, until stop is called.
func (a *answer) serve() (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	done := make(chan struct{})
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header()["Content-Type"] = []string{a.contentType}
		_, _ = w.Write(a.body)
	})}
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	return "http://" + l.Addr().String(), func() {
		_ = s.Close()
		<-done
	}, nil
}

// newBase is what requests are sent with over loopback, the same for all.
func newBase() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true}
}

// whole is an answer in one piece, as DeepSeek gives it.
func whole() *answer {
	return &answer{"application/json", []byte(`{"id":"` + id + `","object":"chat.completion","created":1784697182,"model":"deepseek-flash","choices":[{"index":0,"message":{"role":"assistant","content":"` + hello + `","reasoning_content":"The user says hi."},"logprobs":null,"finish_reason":"stop"}],"usage":` + usage + `,"system_fingerprint":"` + fingerprint + `"}`)}
}

const (
	id          = "8f2a6c1e-7d40-4a7e-9a55-0b1c3d5e7f90"
	fingerprint = "fp_eaab8d114b_prod0820_fp8_kvcache"
	hello       = "Hello there, how can I help you today?"
	usage       = `{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_tokens_details":{"cached_tokens":256},"completion_tokens_details":{"reasoning_tokens":31},"prompt_cache_hit_tokens":256,"prompt_cache_miss_tokens":50}`
)

// words are what a streamed answer is made of, one a chunk.
var words = strings.Fields("It's a truth universally acknowledged that servers in want of capacity must be in want of patience")

// streamed is an answer in n chunks of about 250 bytes. text is how many bytes
// of content they hold.
func streamed(n int) (a *answer, text int) {
	var b bytes.Buffer
	for i := range n {
		word := " " + words[i%len(words)]
		text += len(word)
		finish, total := "null", "null"
		if i == n-1 {
			finish, total = `"stop"`, usage
		}
		fmt.Fprintf(&b, `data: {"id":"%s","object":"chat.completion.chunk","created":1784697182,"model":"deepseek-flash","system_fingerprint":"%s","choices":[{"index":0,"delta":{"content":"%s"},"logprobs":null,"finish_reason":%s}],"usage":%s}`+"\n\n",
			id, fingerprint, word, finish, total)
	}
	b.WriteString("data: [DONE]\n\n")
	return &answer{"text/event-stream; charset=utf-8", b.Bytes()}, text
}
