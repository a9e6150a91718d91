package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// bare is net/http with the keys by turns: one attempt, checked.
var bare = contender{
	name:  "net/http",
	about: "one attempt, keys by turns; the status, the JSON and the `finish_reason` are checked",
	open: func(s *site) (client, error) {
		return &bareClient{url: s.url, keys: s.keys(), hc: &http.Client{Transport: s.base, Timeout: attemptTimeout}}, nil
	},
}

type bareClient struct {
	url  string
	keys []string
	turn atomic.Uint64
	hc   *http.Client
}

func (b *bareClient) close() { b.hc.CloseIdleConnections() }

func (b *bareClient) do(ctx context.Context, q *question) (string, error) {
	key := b.keys[b.turn.Add(1)%uint64(len(b.keys))]
	return fetch(ctx, b.hc, b.url, key, q)
}

// fetch makes one attempt and reads the whole of its answer, the way a careful
// program does over HTTP.
func fetch(ctx context.Context, hc *http.Client, url, key string, q *question) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/chat/completions", bytes.NewReader(q.body()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := hc.Do(req)
	if err != nil {
		return "", err
	}
	return read(resp, q.stream)
}

// statusError is an answer that says no.
type statusError struct {
	status int
	body   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// errNotWhole is a 200 without an answer in it, or with half of one.
var errNotWhole = errors.New("the answer is not whole")

// read reads a response to its end and closes it.
func read(resp *http.Response, stream bool) (string, error) {
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return "", &statusError{resp.StatusCode, string(body)}
	}
	if stream {
		return readStream(resp.Body)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var c completion
	if err := json.Unmarshal(body, &c); err != nil {
		return "", fmt.Errorf("%w: %w", errNotWhole, err)
	}
	if len(c.Choices) == 0 || !c.Choices[0].finished() {
		return "", errNotWhole
	}
	return c.Choices[0].Message.Content, nil
}

// completion is an answer or a chunk of one.
type completion struct {
	Choices []choice `json:"choices"`
}

type choice struct {
	Message      message `json:"message"`
	Delta        message `json:"delta"`
	FinishReason string  `json:"finish_reason"`
}

func (c *choice) finished() bool { return c.FinishReason == "stop" }

// readStream reads events to the [DONE].
func readStream(r io.Reader) (string, error) {
	var text []byte
	finished := false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			break
		}
		var c completion
		if err := json.Unmarshal(data, &c); err != nil {
			return "", fmt.Errorf("%w: %w", errNotWhole, err)
		}
		if len(c.Choices) > 0 {
			text = append(text, c.Choices[0].Delta.Content...)
			finished = finished || c.Choices[0].finished()
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	if !finished {
		return "", errNotWhole
	}
	return string(text), nil
}

// body is the question as JSON.
func (q *question) body() []byte {
	body, err := json.Marshal(struct {
		Model    string         `json:"model"`
		Messages []message      `json:"messages"`
		Stream   bool           `json:"stream"`
		Thinking map[string]any `json:"thinking"`
	}{model, q.messages, q.stream, map[string]any{"type": "disabled"}})
	if err != nil {
		panic(err) // of strings and a bool: cannot be
	}
	return body
}

const model = "deepseek-flash"
