package deepseek

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a type does not know survives decoding and encoding, in every type that
// the API sends, and what it knows comes out as it came in.
func TestEveryTypeSurvivesARoundTrip(t *testing.T) {
	const (
		logprob = `{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-9999,"bytes":null}]}`
		usage   = `{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_tokens_details":{"cached_tokens":256},"completion_tokens_details":{"reasoning_tokens":31},"prompt_cache_hit_tokens":256,"prompt_cache_miss_tokens":50,"x":1}`
		call    = `{"index":1,"id":"c","type":"function","function":{"name":"f","arguments":"{}","x":1},"x":1}`
		logs    = `{"content":[` + logprob + `],"reasoning_content":[` + logprob + `],"x":1}`
		delta   = `{"role":"assistant","content":"a","reasoning_content":"b","tool_calls":[` + call + `],"x":1}`
		chunk   = `{"index":0,"delta":` + delta + `,"logprobs":` + logs + `,"finish_reason":"stop","x":1}`
		choice  = `{"index":0,"message":` + delta + `,"logprobs":` + logs + `,"finish_reason":null,"x":1}`
		text    = `{"index":0,"text":"a","logprobs":{"tokens":["a"]},"finish_reason":"length","x":1}`
		money   = `{"currency":"CNY","total_balance":"110.00","granted_balance":"10.00","topped_up_balance":"100.00","x":1}`
	)
	for _, c := range []struct {
		v  any
		in string
	}{
		{new(Usage), usage},
		{new(Logprobs), logs},
		{new(ToolCall), call},
		{new(Delta), delta},
		{new(ChunkChoice), chunk},
		{new(ChatChunk), `{"id":"i","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"f","choices":[` + chunk + `],"usage":` + usage + `,"x":{"y":[1]}}`},
		{new(Choice), choice},
		{new(ChatResponse), `{"id":"i","object":"chat.completion","created":1,"model":"m","system_fingerprint":"f","choices":[` + choice + `],"usage":` + usage + `,"x":{"y":[1]}}`},
		{new(CompletionChoice), text},
		{new(CompletionResponse), `{"id":"i","object":"text_completion","created":1,"model":"m","system_fingerprint":"f","choices":[` + text + `],"usage":` + usage + `,"x":"y"}`},
		{new(Message), `{"role":"user","content":[{"type":"text","text":"a","x":1},{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"low"}}],"name":"n","x":1}`},
		{new(Message), `{"role":"tool","content":"sunny","tool_call_id":"c","x":1}`},
		{new(Part), `{"type":"text","text":"","x":1}`},
		{new(Part), `{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"high"},"x":1}`},
		{new(Part), `{"type":"file","file":{"file_id":"file-api-1"},"x":1}`},
		{new(Part), `{"type":"hologram","depth":3}`},
		{new(Model), `{"id":"m","object":"model","owned_by":"deepseek","name":"DeepSeek-V4.1-Flash","context_window":1048576,"max_output_tokens":393216,"input_modalities":["text","image"],"output_modalities":["text"],"x":1}`},
		{new(BalanceInfo), money},
		{new(Balance), `{"is_available":true,"balance_infos":[` + money + `],"x":1}`},
	} {
		require.NoError(t, json.Unmarshal([]byte(c.in), c.v), "%T", c.v)
		out, err := json.Marshal(c.v)
		require.NoError(t, err, "%T", c.v)
		require.JSONEq(t, c.in, string(out), "%T", c.v)
		require.Error(t, c.v.(json.Unmarshaler).UnmarshalJSON([]byte(`{"x":`)), "%T", c.v)
	}
	require.Equal(t, Part{Type: "file", FileID: "file-api-1"}, FilePart("file-api-1"))

	// What is asked is what is sent.
	out, err := json.Marshal(ChatRequest{Messages: []Message{User("Hi")}, ReasoningEffort: EffortMax})
	require.NoError(t, err)
	require.JSONEq(t, `{"model":"deepseek-flash","messages":[{"role":"user","content":"Hi"}],"reasoning_effort":"max"}`, string(out))
	out, err = json.Marshal(CompletionRequest{Prompt: "a", Suffix: "b", Logprobs: new(3)})
	require.NoError(t, err)
	require.JSONEq(t, `{"model":"deepseek-flash","prompt":"a","suffix":"b","logprobs":3}`, string(out))
}

func TestUsagesAddUp(t *testing.T) {
	u := Usage{PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3, PromptCacheHitTokens: 4, PromptCacheMissTokens: 5, CachedTokens: 6, ReasoningTokens: 7,
		Extra: Extra{"x": json.RawMessage("1")}}
	require.Equal(t, Usage{PromptTokens: 2, CompletionTokens: 4, TotalTokens: 6, PromptCacheHitTokens: 8, PromptCacheMissTokens: 10, CachedTokens: 12, ReasoningTokens: 14}, u.Plus(u))
}

// The names that go over the wire.
func TestNamesOnTheWire(t *testing.T) {
	for got, want := range map[any]string{
		RoleSystem: "system", RoleUser: "user", RoleAssistant: "assistant", RoleTool: "tool",
		FinishStop: "stop", FinishLength: "length", FinishToolCalls: "tool_calls", FinishContentFilter: "content_filter",
		FinishInsufficientResource: "insufficient_system_resource", FinishAborted: "aborted",
		EffortNone: "none", EffortLow: "low", EffortHigh: "high", EffortMax: "max",
		CacheHit: "hit", CacheMiss: "miss", CacheShared: "shared",
		ModelFlash: "deepseek-flash", ModelPro: "deepseek-v4-pro", DefaultBaseURL: "https://api.deepseek.com",
	} {
		require.Equal(t, want, fmt.Sprint(got))
	}
}

// What cannot be written is the request's fault, and told by its field.
func TestWhatCannotBeWritten(t *testing.T) {
	for field, r := range map[string]*ChatRequest{
		"tools[1].function.parameters":      {Messages: []Message{User("Hi")}, Tools: []Tool{FunctionTool("f", "", nil), FunctionTool("g", "", json.RawMessage(`{"a":`)), FunctionTool("h", "", make(chan int))}},
		"x":                                 {Messages: []Message{User("Hi")}, Extra: map[string]any{"x": make(chan int)}},
		"n":                                 {Messages: []Message{User("Hi")}, Extra: map[string]any{"n": make(chan int)}},
		`messages[1].Extra["y"]`:            {Messages: []Message{User("Hi"), {Role: "user", Content: "Hi", Extra: Extra{"y": json.RawMessage(`{`)}}}},
		`messages[0].content[1].Extra["y"]`: {Messages: []Message{UserParts(TextPart("a"), Part{Type: "text", Extra: Extra{"y": json.RawMessage(`{`)}})}},
		`messages[1].tool_calls[0].function.Extra["y"]`: {Messages: []Message{User("Hi"), {Role: "assistant", ToolCalls: []ToolCall{{ID: "a", Function: FunctionCall{Extra: Extra{"y": json.RawMessage(`{`)}}}}}, ToolResult("a", "")}},
	} {
		client, err := New(WithTransport(scripted(answers)), WithAPIKeys(secretKey), WithBaseURL(DefaultBaseURL))
		require.NoError(t, err)
		_, err = client.Chat(t.Context(), r)
		require.ErrorIs(t, err, ErrInvalidRequest, field)
		var bad *RequestError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, field, bad.Field)
	}
}

func TestUnknownMembersOfLogprobsStay(t *testing.T) {
	const in = `{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-9999,"bytes":null,"rank":2}],"new":5}],"refusal":[]}`
	var l Logprobs
	require.NoError(t, json.Unmarshal([]byte(in), &l))
	require.Equal(t, -9999.0, l.Content[0].TopLogprobs[0].Logprob)
	require.Equal(t, []int{97}, l.Content[0].Bytes)
	out, err := json.Marshal(l)
	require.NoError(t, err)
	require.JSONEq(t, in, string(out))
}
