package deepseektest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "sk-one"

// bubble runs a test against a memory server, on the clock of a bubble.
func bubble(t *testing.T, test func(t *testing.T, s *Server, c *http.Client), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := NewMemoryServer(opts...)
		defer s.Close()
		test(t, s, &http.Client{Transport: s.Transport()})
	})
}

// object is JSON of any shape.
type object = map[string]any

// chatRequest is a valid body; members are merged into it.
func chatRequest(members ...object) object {
	body := object{
		"model":    "deepseek-flash",
		"messages": []object{{"role": "user", "content": "How is the wall?"}},
	}
	for _, m := range members {
		for k, v := range m {
			body[k] = v
		}
	}
	return body
}

var streaming = object{"stream": true}

func newRequest(t *testing.T, s *Server, path string, body any) *http.Request {
	t.Helper()
	data, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		require.NoError(t, err)
		data = string(b)
	}
	r, err := http.NewRequest(http.MethodPost, s.URL+path, strings.NewReader(data))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+testKey)
	r.Header.Set("Content-Type", "application/json")
	return r
}

// result is a response read to its end.
type result struct {
	*http.Response
	body []byte
	err  error // of the request or of reading its body
	took time.Duration
}

func send(c *http.Client, r *http.Request) result {
	start := time.Now()
	resp, err := c.Do(r)
	if err != nil {
		return result{err: err, took: time.Since(start)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return result{resp, body, err, time.Since(start)}
}

func post(t *testing.T, s *Server, c *http.Client, path string, body any) result {
	t.Helper()
	return send(c, newRequest(t, s, path, body))
}

func get(t *testing.T, s *Server, c *http.Client, path string) result {
	t.Helper()
	r := newRequest(t, s, path, "")
	r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
	return send(c, r)
}

// errorText returns the message of an error body.
func (r result) errorText(t *testing.T) string {
	t.Helper()
	var v struct{ Error struct{ Message string } }
	require.NoError(t, json.Unmarshal(r.body, &v), "%s", r.body)
	return v.Error.Message
}

type tokens struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	Hit        int `json:"prompt_cache_hit_tokens"`
	Miss       int `json:"prompt_cache_miss_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	OutputDetails *struct {
		Reasoning int `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

type wireMessage struct {
	Role      string
	Content   *string
	Reasoning *string `json:"reasoning_content"`
	ToolCalls []struct {
		Index    int
		ID       string
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

// wire is a chat completion or a chunk of one.
type wire struct {
	ID, Object, Model string
	Choices           []struct {
		Message, Delta wireMessage
		Text           string
		Finish         *string `json:"finish_reason"`
	}
	Usage *tokens
	Error *struct{ Message string }
}

// answered is what a stream or a whole response said.
type answered struct {
	reasoning, content, args, finish string
	usage                            *tokens
	done                             bool
	chunks                           []wire
	comments                         int
	failure                          string
}

func parseWhole(t *testing.T, body []byte) answered {
	t.Helper()
	var w wire
	require.NoError(t, json.Unmarshal(body, &w), "%s", body)
	require.Len(t, w.Choices, 1)
	m := w.Choices[0].Message
	a := answered{finish: *w.Choices[0].Finish, usage: w.Usage, chunks: []wire{w}}
	a.add(m)
	return a
}

func (a *answered) add(m wireMessage) {
	if m.Content != nil {
		a.content += *m.Content
	}
	if m.Reasoning != nil {
		a.reasoning += *m.Reasoning
	}
	for _, c := range m.ToolCalls {
		a.args += c.Function.Arguments
	}
}

// parseStream reads whole events; a last one without its end is left out, as a
// client must do.
func parseStream(t *testing.T, body []byte) answered {
	t.Helper()
	var a answered
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	body = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	sc := bufio.NewScanner(bytes.NewReader(body))
	sc.Buffer(nil, 1<<24)
	var data string
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, ":"):
			a.comments++
		case strings.HasPrefix(line, "data: "):
			data += line[6:]
		case line == "" && data == "[DONE]":
			a.done, data = true, ""
		case line == "" && data != "":
			var w wire
			require.NoError(t, json.Unmarshal([]byte(data), &w), "%s", data)
			data = ""
			a.chunks = append(a.chunks, w)
			if w.Error != nil {
				a.failure = w.Error.Message
			}
			if w.Usage != nil {
				a.usage = w.Usage
			}
			for _, c := range w.Choices {
				a.add(c.Delta)
				a.content += c.Text
				if c.Finish != nil {
					a.finish = *c.Finish
				}
			}
		}
	}
	return a
}
