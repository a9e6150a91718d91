package deepseek_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// cutter is a network that breaks responses: of the n-th only cuts[n] bytes come.
type cutter struct {
	base http.RoundTripper
	how  func(ctx context.Context) error // how a body goes on that was cut

	mu   sync.Mutex
	cuts []int // -1: whole
}

func (c *cutter) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(req)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || len(c.cuts) == 0 {
		return resp, err
	}
	n := c.cuts[0]
	c.cuts = c.cuts[1:]
	if n >= 0 {
		resp.Body = &cutBody{ReadCloser: resp.Body, left: n, how: func() error { return c.how(req.Context()) }}
	}
	return resp, nil
}

func (c *cutter) cut(at ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts = at
}

type cutBody struct {
	io.ReadCloser
	left int
	how  func() error
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.how()
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func cleanly(context.Context) error     { return io.EOF }
func byReset(context.Context) error     { return errors.New("connection reset by peer") }
func byStall(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// told is what a stream's reader learned.
type told struct {
	text, reasoning, finish string
	roles, dones, usages    int
	heads                   map[string]bool // id, created, model and fingerprint, of every chunk
	usage                   map[string]any
	tools                   string
}

// hear reads a stream by the letter.
func hear(t *testing.T, data []byte) told {
	t.Helper()
	h := told{heads: map[string]bool{}}
	for _, event := range strings.SplitAfter(string(data), "\n\n") {
		line, ok := strings.CutPrefix(strings.TrimSuffix(event, "\n\n"), "data: ")
		switch {
		case event == "":
			continue
		case !ok || strings.Contains(line, "\n"):
			t.Fatalf("no event: %q", event)
		case line == "[DONE]":
			h.dones++
			continue
		}
		require.Zero(t, h.dones, "an event after [DONE]")
		var c struct {
			ID, Model   string
			Created     int64
			Fingerprint string `json:"system_fingerprint"`
			Choices     []struct {
				Delta struct {
					Role      string
					Content   string
					Reasoning string                                          `json:"reasoning_content"`
					Tools     []struct{ Function struct{ Arguments string } } `json:"tool_calls"`
				}
				Finish string `json:"finish_reason"`
			}
			Usage map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(line), &c), line)
		h.heads[fmt.Sprint(c.ID, c.Model, c.Created, c.Fingerprint)] = true
		for _, ch := range c.Choices {
			require.Empty(t, h.finish, "a chunk after the finish: %s", line)
			h.text += ch.Delta.Content
			h.reasoning += ch.Delta.Reasoning
			h.finish += ch.Finish
			for _, tool := range ch.Delta.Tools {
				h.tools += tool.Function.Arguments
			}
			if ch.Delta.Role != "" {
				h.roles++
			}
		}
		if c.Usage != nil {
			h.usages++
			h.usage = c.Usage
		}
	}
	return h
}

func chatBody(t *testing.T, url string, members map[string]any) *http.Request {
	t.Helper()
	body := map[string]any{"model": "deepseek-flash", "stream": true, "messages": []any{map[string]any{"role": "user", "content": "Hi"}}}
	for k, v := range members {
		body[k] = v
	}
	data, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/chat/completions", bytes.NewReader(data))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	return req
}

var shortAnswer = deepseektest.Answer{Reasoning: "\"ä\" 想", Content: "世🌊\n\"it\""}

// A stream that is cut anywhere, at any byte of it, in any way, reads as if it
// had not been.
func TestCutStreamReadsAsUncutAtEveryByte(t *testing.T) {
	for name, how := range map[string]func(context.Context) error{"clean end": cleanly, "reset": byReset, "stall": byStall} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := deepseektest.NewMemoryServer(deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer { return shortAnswer }),
					deepseektest.WithPace(deepseektest.Pace{TokenSize: 2}))
				base := srv.Transport()
				net := &cutter{base: base, how: how}
				client, err := deepseek.NewHTTPClient(deepseek.WithStreamResume(), deepseek.WithAPIKeys("sk-one"), deepseek.WithBaseURL(srv.URL),
					deepseek.WithTransport(net), deepseek.WithoutBreaker(), deepseek.WithRetry(deepseek.Retry{Budget: -1}))
				require.NoError(t, err)
				defer srv.Close()
				defer base.CloseIdleConnections()

				get := func() []byte {
					resp, err := client.Do(chatBody(t, srv.URL, nil))
					require.NoError(t, err)
					defer resp.Body.Close()
					data, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					return data
				}
				uncut := get()
				want := hear(t, uncut)
				require.Equal(t, shortAnswer.Content, want.text)
				prompt := int(want.usage["prompt_tokens"].(float64))
				completion := int(want.usage["completion_tokens"].(float64))
				finish := bytes.LastIndex(uncut, []byte("\n\ndata: [DONE]")) // it may end there
				for n := range uncut {
					net.cut(n)
					got := hear(t, get())
					require.Equal(t, want.text, got.text, "cut at %d", n)
					require.Equal(t, want.reasoning, got.reasoning, "cut at %d", n)
					require.Equal(t, "stop", got.finish, "cut at %d", n)
					require.Equal(t, [2]int{1, 1}, [2]int{got.roles, got.usages}, "cut at %d", n)
					if n < finish-1 {
						require.Equal(t, 1, got.dones, "cut at %d", n)
					}
					require.Len(t, got.heads, 1, "cut at %d", n)
					u, err := json.Marshal(got.usage)
					require.NoError(t, err)
					var usage deepseek.Usage
					require.NoError(t, json.Unmarshal(u, &usage))
					require.Equal(t, completion, usage.CompletionTokens, "cut at %d", n)
					require.Equal(t, usage.PromptTokens+usage.CompletionTokens, usage.TotalTokens)
					require.Equal(t, usage.PromptCacheHitTokens+usage.PromptCacheMissTokens, usage.PromptTokens)
					require.GreaterOrEqual(t, usage.PromptTokens, prompt)
				}
			})
		})
	}
}
