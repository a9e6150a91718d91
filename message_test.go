package deepseek

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessagesReplayAsTheyCame(t *testing.T) {
	for _, in := range []string{
		`{"role":"assistant","content":"Hi"}`,
		`{"role":"assistant","content":""}`,
		`{"role":"assistant","content":"","reasoning_content":""}`,
		`{"role":"assistant","content":null,"reasoning_content":"We","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`,
		`{"role":"assistant","content":"","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`,
		`{"role":"assistant","content":"Hi","reasoning_content":null}`,
		`{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://x/y","detail":"low"}},{"type":"file","file":{"file_id":"f"}},{"type":"audio","audio":{"x":1}}],"name":"bob"}`,
		`{"role":"tool","content":"42","tool_call_id":"c"}`,
		`{"role":"assistant","content":"1, 2","prefix":true,"future":{"a":1}}`,
	} {
		var m Message
		require.NoError(t, json.Unmarshal([]byte(in), &m))
		out, err := json.Marshal(m)
		require.NoError(t, err)
		require.JSONEq(t, in, string(out))
	}
}

func TestMadeMessages(t *testing.T) {
	for want, m := range map[string]Message{
		`{"role":"system","content":"s"}`:                                                             System("s"),
		`{"role":"user","content":""}`:                                                                User(""),
		`{"role":"user","content":[{"type":"text","text":""}]}`:                                       UserParts(TextPart("")),
		`{"role":"assistant","content":"a"}`:                                                          Assistant("a"),
		`{"role":"assistant","content":"a","prefix":true}`:                                            AssistantPrefix("a"),
		`{"role":"tool","content":"r","tool_call_id":"i"}`:                                            ToolResult("i", "r"),
		`{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":""}}]}`: {Role: RoleAssistant, ToolCalls: []ToolCall{{Function: FunctionCall{Name: "f"}}}},
	} {
		out, err := json.Marshal(m)
		require.NoError(t, err)
		require.JSONEq(t, want, string(out))
	}
	require.Equal(t, "ab", UserParts(TextPart("a"), ImagePart("u"), TextPart("b")).Text())
	_, err := json.Marshal(Message{Extra: Extra{"x": []byte(`{`)}})
	require.ErrorContains(t, err, `Extra["x"]`)
}

func TestArgumentsDecode(t *testing.T) {
	call := ToolCall{Function: FunctionCall{Name: "f", Arguments: `{"city":"Beijing"}`}}
	var v struct{ City string }
	require.NoError(t, call.DecodeArguments(&v))
	require.Equal(t, "Beijing", v.City)
	call.Function.Arguments = ""
	require.NoError(t, call.DecodeArguments(&v))
	call.Function.Arguments = `{"city":`
	require.ErrorContains(t, call.DecodeArguments(&v), "arguments of f")
}
