package deepseek

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ofDeepSeek are the rules of DeepSeek itself.
var ofDeepSeek = rules{deepSeek: true, names: true, beta: true, prefix: true}

func TestWhatTheAPIRejectsIsRefusedBeforeSending(t *testing.T) {
	calls := Message{Role: RoleAssistant, ToolCalls: []ToolCall{{ID: "1"}, {ID: "2"}}}
	named := func(names ...string) (tools []Tool) {
		for _, n := range names {
			tools = append(tools, FunctionTool(n, "", nil))
		}
		return tools
	}
	strict := named("a", "b")
	strict[1].Function.Strict = true
	for _, c := range []struct {
		field  string
		change func(*ChatRequest)
	}{
		{"messages", func(r *ChatRequest) { r.Messages = nil }},
		{"stream_options", func(r *ChatRequest) { r.StreamOptions = &StreamOptions{} }},
		{"model", func(r *ChatRequest) { r.Model = "deepseek-chat" }},
		{"model", func(r *ChatRequest) { r.Model = "deepseek-reasoner" }},
		{"model", func(r *ChatRequest) { r.Model = "DeepSeek-V4-Flash-0731" }},
		{"model", func(r *ChatRequest) { r.Model = "deepseek-v4.1-flash" }},
		{"n", func(r *ChatRequest) { r.Extra = map[string]any{"n": 2} }},
		{"n", func(r *ChatRequest) { r.Extra = map[string]any{"n": json.RawMessage("2")} }},
		{"n", func(r *ChatRequest) { r.Extra = map[string]any{"n": "1"} }},
		{"thinking.type", func(r *ChatRequest) { r.Thinking = &Thinking{Type: "on"} }},
		{"reasoning_effort", func(r *ChatRequest) { r.Thinking, r.ReasoningEffort = ThinkingOff(), EffortLow }},
		{"reasoning_effort", func(r *ChatRequest) { r.Thinking, r.ReasoningEffort = ThinkingOn(), EffortNone }},
		{"tool_choice", func(r *ChatRequest) { r.Tools, r.ToolChoice = named("a"), ToolsRequired() }},
		{"tool_choice", func(r *ChatRequest) { r.Tools, r.ToolChoice = named("a"), ToolNamed("a") }},
		{"tool_choice.function.name", func(r *ChatRequest) { r.ToolChoice, r.Thinking = ToolNamed("a"), ThinkingOff() }},
		{"max_tokens", func(r *ChatRequest) { r.MaxTokens = 393_217 }},
		{"max_tokens", func(r *ChatRequest) { r.MaxTokens = -1 }},
		{"temperature", func(r *ChatRequest) { r.Temperature = new(2.1) }},
		{"temperature", func(r *ChatRequest) { r.Temperature = new(math.NaN()) }},
		{"top_p", func(r *ChatRequest) { r.TopP = new(0.0) }},
		{"frequency_penalty", func(r *ChatRequest) { r.FrequencyPenalty = new(-2.1) }},
		{"presence_penalty", func(r *ChatRequest) { r.PresencePenalty = new(3.0) }},
		{"stop", func(r *ChatRequest) { r.Stop = make([]string, 17) }},
		{"top_logprobs", func(r *ChatRequest) { r.Logprobs, r.TopLogprobs = true, 21 }},
		{"top_logprobs", func(r *ChatRequest) { r.TopLogprobs = 1 }},
		{"user_id", func(r *ChatRequest) { r.UserID = strings.Repeat("é", 300) }},
		{"response_format.type", func(r *ChatRequest) { r.ResponseFormat = JSONFormat() }},
		{"response_format.type", func(r *ChatRequest) { r.ResponseFormat = &ResponseFormat{Type: "json_schema"} }},
		{"response_format.type", func(r *ChatRequest) { r.ResponseFormat = &ResponseFormat{Type: "xml"} }},
		{"response_format.type", func(r *ChatRequest) {
			r.ResponseFormat, r.Messages = JSONFormat(), append(r.Messages, Assistant("json"), User("x"), AssistantPrefix("json"))
		}},
		{"tools[1].function.name", func(r *ChatRequest) { r.Tools = named("a", "a") }},
		{"tools[0].function.name", func(r *ChatRequest) { r.Tools = named("") }},
		{"tools[0].function.name", func(r *ChatRequest) { r.Tools = named("a b") }},
		{"tools[0].function.name", func(r *ChatRequest) { r.Tools = named(strings.Repeat("a", 129)) }},
		{"tools[0].type", func(r *ChatRequest) { r.Tools = []Tool{{Type: "web"}} }},
		{"tools[1].function.strict", func(r *ChatRequest) { r.Tools = strict }},
		{"messages[0].role", func(r *ChatRequest) { r.Messages = []Message{{Role: "developer"}} }},
		{"messages[0].role", func(r *ChatRequest) { r.Messages = []Message{{Role: "function"}} }},
		{"messages[0].role", func(r *ChatRequest) { r.Messages = []Message{{}} }},
		{"messages[0].content", func(r *ChatRequest) { r.Messages[0] = Message{Role: RoleSystem, Parts: []Part{ImagePart("x")}} }},
		{"messages[0].content", func(r *ChatRequest) { r.Model, r.Messages = ModelPro, []Message{UserParts(ImagePart("x"))} }},
		{"messages[0].prefix", func(r *ChatRequest) { r.Messages = []Message{AssistantPrefix("a"), User("b")} }},
		{"messages[0].prefix", func(r *ChatRequest) { r.Messages = []Message{{Role: RoleUser, Prefix: true}} }},
		{"messages[1].tool_calls", func(r *ChatRequest) { r.Messages = append(r.Messages, calls, ToolResult("1", "x")) }},
		{"messages[1].tool_calls", func(r *ChatRequest) {
			r.Messages = append(r.Messages, calls, ToolResult("1", "x"), User("y"), ToolResult("2", "x"))
		}},
		{"messages[1].tool_call_id", func(r *ChatRequest) { r.Messages = append(r.Messages, ToolResult("1", "x")) }},
		{"messages[3].tool_call_id", func(r *ChatRequest) {
			r.Messages = append(r.Messages, calls, ToolResult("1", "x"), ToolResult("1", "x"))
		}},
	} {
		r := ChatRequest{Messages: []Message{User("Hi")}}
		c.change(&r)
		var bad *RequestError
		require.ErrorAs(t, r.validate(false, ofDeepSeek), &bad, c.field)
		require.Equal(t, c.field, bad.Field)
		require.ErrorIs(t, bad, ErrInvalidRequest)
	}
}

func TestWhatTheAPIMayAcceptIsNotRefused(t *testing.T) {
	calls := Message{Role: RoleAssistant, ToolCalls: []ToolCall{{ID: "1"}, {ID: "2"}}}
	for _, r := range []ChatRequest{
		{Messages: []Message{User("x")}, Model: "somebody/else"},
		{Messages: []Message{User("x")}, Model: "deepseek-v4-flash"},
		{Messages: []Message{System("x"), User("x"), calls, ToolResult("2", ""), ToolResult("1", ""), Assistant("y"), User("z")}},
		{Messages: []Message{User("x"), AssistantPrefix("y")}},
		{Messages: []Message{UserParts(TextPart("Reply in Json"))}, ResponseFormat: JSONFormat()},
		{Messages: []Message{User("x")}, Tools: []Tool{FunctionTool("a", "", nil)}, ToolChoice: ToolsRequired(), ReasoningEffort: EffortNone},
		{Messages: []Message{User("x")}, Extra: map[string]any{"n": 1, "enable_thinking": false}},
		{Messages: []Message{User("x")}, Extra: map[string]any{"n": json.RawMessage("1")}},
		{Messages: []Message{User("x")}, Extra: map[string]any{"n": new(1)}},
		{Messages: []Message{System("answer in JSON"), User("x")}, ResponseFormat: JSONFormat()},
		{Messages: []Message{User("x")}, MaxTokens: 393_216, Temperature: new(2.0), TopP: new(1.0), UserID: "a.b"},
	} {
		require.NoError(t, r.validate(false, ofDeepSeek))
	}
	elsewhere := ChatRequest{Model: "deepseek-chat", Messages: []Message{{Role: "developer"}}, ResponseFormat: &ResponseFormat{Type: "json_schema"}}
	require.NoError(t, elsewhere.validate(false, rules{}), "another host has other rules")
	require.NoError(t, (&ChatRequest{Messages: []Message{User("x")}, StreamOptions: &StreamOptions{}}).validate(true, ofDeepSeek))
}

// A value that is refused is told as it would be sent.
func TestRefusedValuesCanBeRead(t *testing.T) {
	for want, n := range map[string]any{"2": new(2), `[1]`: json.RawMessage(" [ 1 ]"), `"1"`: "1"} {
		var bad *RequestError
		r := ChatRequest{Messages: []Message{User("x")}, Extra: map[string]any{"n": n}}
		require.ErrorAs(t, r.validate(false, ofDeepSeek), &bad)
		require.Equal(t, want, bad.Value)
	}
}

func TestCompletionRules(t *testing.T) {
	for field, r := range map[string]CompletionRequest{
		"max_tokens":     {MaxTokens: 4097},
		"echo":           {Echo: true, Suffix: "x"},
		"logprobs":       {Logprobs: new(21)},
		"stream_options": {StreamOptions: &StreamOptions{}},
		"model":          {Model: "deepseek-chat"},
	} {
		var bad *RequestError
		require.ErrorAs(t, r.validate(false, ofDeepSeek), &bad, field)
		require.Equal(t, field, bad.Field)
	}
	require.Error(t, (&CompletionRequest{Echo: true, Logprobs: new(0)}).validate(false, ofDeepSeek))
	require.NoError(t, (&CompletionRequest{Prompt: "a", Suffix: "b", Logprobs: new(0), MaxTokens: 4096}).validate(false, ofDeepSeek))
}
