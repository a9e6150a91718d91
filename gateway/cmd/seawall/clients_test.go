package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// needs finds a program, and skips the test where it is missing. CI has them all.
func needs(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return path
}

// output runs a program to its end and returns what it says.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%s\n%s", cmd, errs.String())
	return out.String()
}

// said is what a program that calls the gateway tells of one call.
type said struct {
	Name, Text, Finish string
	Tokens, Count      int
	Error              struct {
		Kind, Code, Message string
		Status              int
	}
}

// javascript has the official OpenAI client for JavaScript make calls.
func javascript(t testing.TB, url, key string, calls ...string) map[string]said {
	t.Helper()
	node := needs(t, "node")
	dir := filepath.Join("testdata", "javascript")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "openai")); err != nil {
		t.Skip("the OpenAI client for JavaScript is not installed: run npm ci in gateway/cmd/seawall/testdata/javascript")
	}
	cmd := exec.CommandContext(t.Context(), node, append([]string{"client.mjs", url, key, "deepseek-flash"}, calls...)...)
	cmd.Dir = dir
	// None of the developer's own, proxies and keys.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	all := map[string]said{}
	require.NoError(t, json.Unmarshal([]byte(output(t, cmd)), &all))
	return all
}

var everyCall = []string{"chat", "stream", "helper", "tool", "toolStream", "responses", "responsesStream", "models"}

func TestJavaScript(t *testing.T) {
	t.Parallel()
	srv := fake(t, deepseektest.WithAnswer(func(r *deepseektest.Request) deepseektest.Answer {
		if len(r.Tools) > 0 {
			return deepseektest.Answer{ToolCalls: []deepseektest.ToolCall{{Name: r.Tools[0], Arguments: `{"query":"北京"}`}}}
		}
		return deepseektest.Answer{Reasoning: "Who asks?", Content: "It holds, " + r.LastUser() + "."}
	}))
	key := gateway.NewKey()
	p := serve(t, srv.URL, "clients:\n  - {name: js, keys: "+gateway.HashKey(key)+"}\n")
	srv.Enqueue(deepseektest.ServiceUnavailable(), deepseektest.ResetBeforeHeaders()) // which nobody notices
	all := javascript(t, p.url+"/v1", key, everyCall...)
	for name, want := range map[string]said{
		"stream": {Text: "It holds, JavaScript.", Finish: "stop"}, "helper": {Text: "It holds, JavaScript.", Finish: "stop"},
		"tool": {Name: "get_weather", Text: "北京"}, "toolStream": {Name: "get_weather", Text: "北京"},
		"responses": {Text: "It holds, JavaScript."}, "responsesStream": {Text: "It holds, JavaScript.", Finish: "response.completed"},
	} {
		assert.Equal(t, want, all[name], name)
	}
	assert.Equal(t, "It holds, JavaScript.", all["chat"].Text)
	assert.Positive(t, all["chat"].Tokens)
	assert.Positive(t, all["models"].Count)

	// Half an answer is an error, in each way that a client has to read one.
	srv.Enqueue(deepseektest.CutAfter(2), deepseektest.CutAfter(2), deepseektest.CutAfter(2))
	for name, got := range javascript(t, p.url+"/v1", key, "stream", "helper", "responsesStream") {
		assert.Contains(t, got.Error.Message, "truncated", name)
	}
	got := javascript(t, p.url+"/v1", "sk-wrong", "chat")["chat"].Error
	assert.Equal(t, "AuthenticationError", got.Kind)
	assert.Equal(t, 401, got.Status)
	assert.Equal(t, "invalid_api_key", got.Code)
	p.stop()
	require.Zero(t, strings.Count(p.log(), key))
}

func TestCurl(t *testing.T) {
	t.Parallel()
	curl := needs(t, "curl")
	srv := fake(t)
	p := serve(t, srv.URL, "")
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), curl, append([]string{"--silent", "--show-error", "--fail-with-body", "--noproxy", "*"}, args...)...)
		return output(t, cmd)
	}
	// -d says that it is a form, and asks first for a large one.
	require.Contains(t, run(p.url+"/chat/completions", "-d", chatBody), `"choices"`)
	require.Contains(t, run("-N", p.url+"/v1/chat/completions", "-d", streamBody), "data: [DONE]")
	tool := `{"model": "deepseek-flash", "thinking": {"type": "disabled"}, "tools": [{"type": "function", "function": {"name": "get_weather"}}],
		"tool_choice": "required", "messages": [{"role": "user", "content": "Hi"}]`
	require.Contains(t, run(p.url+"/chat/completions", "-d", tool+"}"), `"get_weather"`)
	require.Contains(t, run("-N", p.url+"/chat/completions", "-d", tool+`, "stream": true}`), `"tool_calls"`)
	large := filepath.Join(t.TempDir(), "large.json")
	require.NoError(t, os.WriteFile(large, []byte(strings.Replace(chatBody, "Hi", strings.Repeat("Hi ", 1<<20), 1)), 0o600))
	require.Contains(t, run(p.url+"/chat/completions", "-d", "@"+large), `"choices"`)
	require.Contains(t, run(p.url+"/models", "-H", "Authorization: Bearer any"), `"deepseek-flash"`)
	require.Contains(t, run(p.url+"/anthropic/v1/messages", "-H", "x-api-key: any", "-d",
		`{"model": "deepseek-flash", "max_tokens": 1000, "messages": [{"role": "user", "content": "Hi"}]}`), `"end_turn"`)
	p.stop()
}

// The demo needs nothing; every call to it is answered, those of the line that it
// prints and of unmodified clients, with streams and tools.
func TestDemo(t *testing.T) {
	t.Parallel()
	p := &process{TB: t, cmd: command(t, "--demo", "--listen", "127.0.0.1:0"), done: make(chan error, 1), more: make(chan struct{}, 1)}
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.start()
	var text strings.Builder
	for lines := bufio.NewReader(out); !strings.Contains(text.String(), "Ctrl-C"); {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		text.WriteString(line)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	_, line, _ := strings.Cut(text.String(), "curl -N ")
	line, _, _ = strings.Cut(line, "\n\n")
	url, _, _ := strings.Cut(line, " ")
	base := strings.TrimSuffix(url, "/chat/completions")

	// Several of each at once: there are faults, and small limits.
	t.Run("clients", func(t *testing.T) {
		t.Run("curl", func(t *testing.T) {
			t.Parallel()
			needs(t, "curl")
			cmd := exec.CommandContext(t.Context(), "sh", "-c", "curl --silent --show-error --noproxy '*' -N "+line)
			require.Contains(t, output(t, cmd), "data: [DONE]")
		})
		t.Run("JavaScript", func(t *testing.T) {
			t.Parallel()
			for name, got := range javascript(t, base+"/v1", "any", "chat", "stream", "tool", "toolStream") {
				assert.Empty(t, got.Error, name)
				assert.Contains(t, got.Text, "JavaScript", name)
			}
		})
		t.Run("openai-go", func(t *testing.T) {
			t.Parallel()
			sdk := openai.NewClient(option.WithBaseURL(base+"/v1"), option.WithAPIKey("any"), option.WithHTTPClient(client(t)), option.WithMaxRetries(0))
			params := openai.ChatCompletionNewParams{
				Model: "deepseek-flash", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("openai-go")},
				Tools:      []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "get_weather"})},
				ToolChoice: openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "get_weather"}),
			}
			params.SetExtraFields(map[string]any{"thinking": map[string]string{"type": "disabled"}})
			answer, err := sdk.Chat.Completions.New(t.Context(), params)
			require.NoError(t, err)
			require.Equal(t, "get_weather", answer.Choices[0].Message.ToolCalls[0].Function.Name)
			var all openai.ChatCompletionAccumulator
			stream := sdk.Chat.Completions.NewStreaming(t.Context(), params)
			for stream.Next() {
				all.AddChunk(stream.Current())
			}
			require.NoError(t, stream.Err())
			require.Contains(t, all.Choices[0].Message.ToolCalls[0].Function.Arguments, "openai-go")
		})
		t.Run("others", func(t *testing.T) {
			t.Parallel()
			c := client(t)
			var calls sync.WaitGroup
			for range 4 {
				calls.Go(func() { assert.Contains(t, whole(t, post(t, c, url, chatBody)), `"choices"`) })
				calls.Go(func() { assert.Contains(t, whole(t, post(t, c, url, streamBody)), "data: [DONE]") })
			}
			calls.Wait()
		})
	})
	p.stop()
	require.Contains(t, p.log(), "msg=answered")

	said, err := command(t, "--demo", "--listen", "0.0.0.0:0").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(said), "loopback only")
}
