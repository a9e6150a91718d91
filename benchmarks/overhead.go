package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/openai/openai-go/v3"

	"github.com/seawall-go/deepseek"
)

const (
	wholeRequest  = `{"messages":[{"role":"user","content":"Hi"}],"model":"deepseek-flash"}`
	streamRequest = `{"messages":[{"role":"user","content":"Hi"}],"model":"deepseek-flash","stream":true}`
	shortStream   = 50 // chunks
)

func wholeOverNothing() (*table, error) {
	return overNothing("Overhead: an answer in one piece, no network", wholeRequest, whole())
}

func streamOverNothing() (*table, error) {
	a, _ := streamed(shortStream)
	return overNothing(fmt.Sprintf("Overhead: a stream of %d chunks, no network", shortStream), streamRequest, a)
}

func wholeOverLoopback() (*table, error) {
	return overLoopback("Overhead: an answer in one piece, over loopback", wholeRequest, whole())
}

func streamOverLoopback() (*table, error) {
	a, _ := streamed(shortStream)
	return overLoopback(fmt.Sprintf("Overhead: a stream of %d chunks, over loopback", shortStream), streamRequest, a)
}

func overNothing(title, request string, a *answer) (*table, error) {
	t := &table{title: title}
	return t, t.overhead(request, a, deepseek.DefaultBaseURL, func() http.RoundTripper { return a })
}

func overLoopback(title, request string, a *answer) (*table, error) {
	t := &table{title: title}
	url, stop, err := a.serve()
	if err != nil {
		return nil, err
	}
	t.atEnd(stop)
	return t, t.overhead(request, a, url, func() http.RoundTripper {
		base := newBase()
		t.atEnd(base.CloseIdleConnections)
		return base
	})
}

// overhead adds everybody that can be put between a program and net/http. They
// send the same body and read the answer's bytes.
func (t *table) overhead(request string, a *answer, url string, base func() http.RoundTripper) error {
	ours, err := seawall(base(), url)
	if err != nil {
		return err
	}
	signing, err := seawall(base(), url)
	if err != nil {
		return err
	}
	beneath, err := seawall(base(), url)
	if err != nil {
		return err
	}
	plain := func(c *http.Client) func() error {
		return func() error { return post(c, url, request, "Bearer "+apiKey, len(a.body)) }
	}
	sdk := func(c *http.Client) func() error {
		client := newOpenAI(c, url)
		return func() error { return postWith(client, request, len(a.body)) }
	}
	t.add("net/http", plain(&http.Client{Transport: base()}))
	t.add("**Seawall**, the default chain", plain(ours))
	t.add("the same, with another key in the request", func() error { return post(signing, url, request, "Bearer unused", len(a.body)) })
	t.add("failsafe-go: retry, breaker, bulkhead", plain(failsafe(base())))
	t.add("go-retryablehttp: retry", plain(retryable(base())))
	t.add("openai-go: retry, no decoding", sdk(&http.Client{Transport: base()}))
	t.add("openai-go over **Seawall**", sdk(beneath))
	return nil
}

// post sends a request with plain net/http and reads the answer.
func post(client *http.Client, url, body, auth string, want int) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/chat/completions", bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", auth)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return drain(resp, want)
}

// postWith does it with openai-go, which gives its retries and headers but
// leaves the answer as it is.
func postWith(client openai.Client, body string, want int) error {
	var resp *http.Response
	if err := client.Post(context.Background(), "chat/completions", []byte(body), &resp); err != nil {
		return err
	}
	return drain(resp, want)
}

func drain(resp *http.Response, want int) error {
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return err
	}
	if int(n) != want {
		return fmt.Errorf("%d bytes, want %d", n, want)
	}
	return resp.Body.Close()
}
