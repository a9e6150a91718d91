package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// What the upstream server does, by a word in the request.
const (
	whole  = "whole"  // an answer in one piece
	stream = "stream" // one in chunks, each chunkEvery
	hold   = "hold"   // a stream that does not end
)

const (
	thinking   = 10 * time.Millisecond // before the first byte
	chunkEvery = 10 * time.Millisecond
	chunks     = 100
	held       = 20 // chunks of a stream that is held open, at once
	heldEvery  = 500 * time.Millisecond
)

var (
	answer = []byte(`{"id":"8f2a6c1e-7d40-4a7e-9a55-0b1c3d5e7f90","object":"chat.completion","created":1784697182,"model":"deepseek-flash","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("Hello there. ", 40) + `"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391}}`)
	chunk     = newChunk(`{"content":" word"}`, "null")
	lastChunk = newChunk(`{}`, `"stop"`)
	done      = []byte("data: [DONE]\n\n")
)

func newChunk(delta, finish string) []byte {
	return []byte(`data: {"id":"8f2a6c1e-7d40-4a7e-9a55-0b1c3d5e7f90","object":"chat.completion.chunk","created":1784697182,"model":"deepseek-flash","system_fingerprint":"fp_eaab8d114b_prod0820_fp8_kvcache","choices":[{"index":0,"delta":` +
		delta + `,"logprobs":null,"finish_reason":` + finish + `}],"usage":null}` + "\n\n")
}

// newUpstream is a server that answers as DeepSeek does, and costs little.
func newUpstream() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		time.Sleep(thinking)
		if bytes.Contains(body, []byte(whole)) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		flush := w.(http.Flusher).Flush
		if bytes.Contains(body, []byte(hold)) {
			for range held {
				_, _ = w.Write(chunk)
				flush()
			}
			// Now and then another, or it would be taken for one that has stalled.
			tick := time.NewTicker(heldEvery)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					_, _ = w.Write(chunk)
					flush()
				case <-r.Context().Done():
					return
				}
			}
		}
		tick := time.NewTicker(chunkEvery)
		defer tick.Stop()
		for range chunks - 1 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			flush()
			<-tick.C
		}
		_, _ = w.Write(lastChunk)
		_, _ = w.Write(done)
	})
}

// newReverseProxy is what many have in the place of a gateway.
func newReverseProxy(target string) http.Handler {
	to := &url.URL{Scheme: "http", Host: target}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 1000 // else it dials for almost every request
	transport.MaxIdleConns = 0
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Set("Authorization", "Bearer "+upstreamKey)
		},
	}
}

func listenAndServe(ctx context.Context, address string, h http.Handler) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	// Short, so that whoever counts files does not have to wait for connections that
	// nobody uses, or ever has.
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
