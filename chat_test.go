package deepseek

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func bodyOf(t *testing.T, r ChatRequest, stream bool) string {
	t.Helper()
	b, err := r.body(stream)
	require.NoError(t, err)
	require.True(t, json.Valid(b), "%s", b)
	return string(b)
}

func TestRequestBody(t *testing.T) {
	require.Equal(t, `{"model":"deepseek-flash","messages":[{"role":"user","content":"<Hi> & \"bye\"\n"}]}`,
		bodyOf(t, ChatRequest{Messages: []Message{User("<Hi> & \"bye\"\n")}}, false))

	full := ChatRequest{
		Model: ModelPro, Messages: []Message{User("json")}, Thinking: ThinkingOff(), ReasoningEffort: EffortLow, MaxTokens: 9,
		Temperature: new(0.0), TopP: new(0.5), FrequencyPenalty: new(1.0), PresencePenalty: new(-1.0), Stop: []string{"x"},
		ResponseFormat: JSONFormat(), Tools: []Tool{FunctionTool("f", "d", json.RawMessage(`{"type":"object"}`))},
		ToolChoice: ToolNamed("f"), Logprobs: true, TopLogprobs: 2, UserID: "u", StreamOptions: &StreamOptions{IncludeUsage: true},
		Extra: map[string]any{"seed": 1, "a": "<b>"},
	}
	require.Equal(t, `{"model":"deepseek-v4-pro","messages":[{"role":"user","content":"json"}],"thinking":{"type":"disabled"},"reasoning_effort":"low",`+
		`"max_tokens":9,"temperature":0,"top_p":0.5,"frequency_penalty":1,"presence_penalty":-1,"stop":["x"],"response_format":{"type":"json_object"},`+
		`"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],`+
		`"tool_choice":{"type":"function","function":{"name":"f"}},"logprobs":true,"top_logprobs":2,"user_id":"u","stream":true,`+
		`"stream_options":{"include_usage":true},"a":"<b>","seed":1}`, bodyOf(t, full, true))
}

// sameAgain demands that what a request is written as is read as the same request.
func sameAgain[R any](t *testing.T, request R) {
	t.Helper()
	out, err := json.Marshal(request)
	require.NoError(t, err)
	var back R
	require.NoError(t, json.Unmarshal(out, &back), "%s", out)
	again, err := json.Marshal(back)
	require.NoError(t, err)
	require.Equal(t, string(out), string(again))
}

func TestRequestsSurviveARoundTrip(t *testing.T) {
	for _, r := range []ChatRequest{
		{},
		{Messages: []Message{System("s"), UserParts(TextPart("a"), ImagePart("https://x"), FilePart("f")), {Role: RoleUser, Parts: []Part{}},
			{Role: RoleAssistant, ToolCalls: []ToolCall{{Index: 3, ID: "c", Function: FunctionCall{Name: "f", Arguments: "{"}}}}, ToolResult("c", ""), AssistantPrefix("<p>")},
			Model: ModelPro, Thinking: ThinkingOff(), ReasoningEffort: EffortLow, MaxTokens: 9, Temperature: new(0.0), TopP: new(0.5), FrequencyPenalty: new(1.0),
			PresencePenalty: new(-1.0), Stop: []string{"x", ""}, ResponseFormat: &ResponseFormat{Type: "json_schema", JSONSchema: json.RawMessage(`{"b":1,"a":12345678901234567890}`)},
			ToolChoice: ToolNamed("f"), Logprobs: true, TopLogprobs: 2, UserID: "u", StreamOptions: &StreamOptions{IncludeUsage: true},
			Extra: map[string]any{"seed": int64(12345678901234567), "a": map[string]any{"b": []any{nil, "<x>"}}}},
		{Messages: []Message{Assistant("b")}, Tools: []Tool{FunctionTool("f", "d", json.RawMessage(`{"b":1,"a":12345678901234567890}`)),
			FunctionTool("g", "", nil), {Function: Function{Name: "h", Strict: true, Parameters: json.RawMessage("null")}}}, ToolChoice: ToolsAuto()},
	} {
		sameAgain(t, r)
	}
	for _, r := range []CompletionRequest{
		{},
		{Model: ModelPro, Prompt: "a", Suffix: "b", Echo: true, Logprobs: new(0), MaxTokens: 5, Stop: []string{"x"}, Temperature: new(0.1), TopP: new(1.0),
			StreamOptions: &StreamOptions{}, Extra: map[string]any{"seed": 1}},
	} {
		sameAgain(t, r)
	}
	var r ChatRequest
	require.NoError(t, json.Unmarshal([]byte(`{"stop":"x","stream":true,"temperature":null,"seed":1}`), &r))
	require.Equal(t, ChatRequest{Stop: []string{"x"}, Extra: map[string]any{"seed": json.RawMessage("1")}}, r)
	require.NoError(t, json.Unmarshal([]byte(`{"tools":[{"type":"function","function":{"name":"f","description":"","strict":false,"parameters":{"x":null}}}],"thinking":null}`), new(ChatRequest)))
	for in, field := range map[string]string{`{"max_tokens":"7"}`: "max_tokens", `{"messages":[5]}`: "messages", `{"tools":[{"type":1}]}`: "tools",
		`{"stop":[1]}`: "stop", `{"tool_choice":{"type":"allowed_tools"}}`: "tool_choice",
		`{"thinking":{"type":"enabled","budget_tokens":10}}`: "thinking", `{"tools":[{"type":"web_search","web_search":{"k":1}}]}`: "tools", `{"tools":[null]}`: "tools",
		`{"tools":[{"type":"function","function":{"name":"f","x":1}}]}`: "tools", `{"stream_options":{"include_usage":true,"x":0}}`: "stream_options"} {
		var bad *RequestError
		require.ErrorAs(t, json.Unmarshal([]byte(in), &r), &bad)
		require.Equal(t, field, bad.Field)
		require.Equal(t, []string{"x"}, r.Stop, "nothing has changed")
	}
	require.Error(t, json.Unmarshal([]byte(`[]`), &r))
	require.Error(t, json.Unmarshal([]byte(`{"prompt":1}`), new(CompletionRequest)))
}

func FuzzRequestsSurviveARoundTrip(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","messages":[{"role":"user","content":[]},{"role":"assistant","content":null,"tool_calls":[null],"x":1}],"thinking":{"type":"disabled"},"tools":[{"function":{"name":"f","parameters":null}}],"tool_choice":"none","stop":"x","seed":1}`,
		`{"prompt":"a","suffix":"\ud800","logprobs":0,"stream":true,"stream_options":{"include_usage":true},"a\u0062":[1e400]}`,
		`{"messages":[{"role":5,"content":6,"reasoning_content":7,"prefix":true}],"temperature":1e3,"response_format":{"type":"json_schema","json_schema":null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var chat ChatRequest
		if json.Unmarshal(data, &chat) == nil {
			sameAgain(t, chat)
		}
		var fim CompletionRequest
		if json.Unmarshal(data, &fim) == nil {
			sameAgain(t, fim)
		}
	})
}

func TestToolChoiceForms(t *testing.T) {
	for want, c := range map[string]*ToolChoice{`"none"`: ToolsNone(), `"auto"`: ToolsAuto(), `"required"`: ToolsRequired(),
		`{"type":"function","function":{"name":"f"}}`: ToolNamed("f")} {
		out, err := json.Marshal(c)
		require.NoError(t, err)
		require.Equal(t, want, string(out))
		var back ToolChoice
		require.NoError(t, json.Unmarshal(out, &back))
		require.Equal(t, *c, back)
	}
}

func TestExtraDoesNotHideAField(t *testing.T) {
	r := ChatRequest{Messages: []Message{User("x")}, Extra: map[string]any{"temperature": 3}}
	_, err := r.body(false)
	var bad *RequestError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "temperature", bad.Value)
	r.Extra = map[string]any{"f": func() {}}
	_, err = r.body(false)
	require.Error(t, err)
}

// DeepSeek answers 400 when a request with tools, while thinking, has an
// assistant message without the key.
func TestReasoningIsAlwaysPassedBackWithTools(t *testing.T) {
	r := ChatRequest{Messages: []Message{User("a"), Assistant("b"), User("c")}, Tools: []Tool{FunctionTool("f", "", nil)}}
	require.Contains(t, bodyOf(t, r, false), `{"role":"assistant","content":"b","reasoning_content":""}`)
	r.Thinking = ThinkingOff()
	require.NotContains(t, bodyOf(t, r, false), `reasoning_content`)
	r.Thinking, r.Tools = nil, nil
	require.NotContains(t, bodyOf(t, r, false), `reasoning_content`)
}

func TestToolCallsAreSentWithoutWhatOnlyAnswersHave(t *testing.T) {
	var m Message
	require.NoError(t, json.Unmarshal([]byte(`{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`), &m))
	require.Contains(t, bodyOf(t, ChatRequest{Messages: []Message{m}}, false),
		`{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`)
}

func TestBetaPath(t *testing.T) {
	tool := FunctionTool("f", "", nil)
	strict := tool
	strict.Function.Strict = true
	require.Equal(t, "/chat/completions", (&ChatRequest{Messages: []Message{User("a")}, Tools: []Tool{tool}}).path(ofDeepSeek))
	require.Equal(t, "/beta/chat/completions", (&ChatRequest{Messages: []Message{User("a")}, Tools: []Tool{strict}}).path(ofDeepSeek))
	require.Equal(t, "/beta/chat/completions", (&ChatRequest{Messages: []Message{User("a"), AssistantPrefix("b")}}).path(ofDeepSeek))
	require.Equal(t, "/chat/completions", (&ChatRequest{Messages: []Message{User("a")}, Tools: []Tool{strict}}).path(rules{}))
	require.Equal(t, "/chat/completions", (&ChatRequest{Messages: []Message{User("a")}, Tools: []Tool{strict}}).path(rules{prefix: true}))
	require.Equal(t, "/beta/chat/completions", (&ChatRequest{Messages: []Message{User("a"), AssistantPrefix("b")}, Tools: []Tool{strict}}).path(rules{prefix: true}))
	require.Equal(t, "/chat/completions", (&ChatRequest{Messages: []Message{User("a"), AssistantPrefix("b")}}).path(rules{}))
}

func TestContainsFold(t *testing.T) {
	for s, want := range map[string]bool{"": false, "json": true, "a JSON b": true, "jjson": true, "jso": false, "jsxjsOn": true, "Jso n": false} {
		require.Equal(t, want, containsFold(s, "json"), s)
	}
}
