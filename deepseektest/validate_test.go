package deepseektest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidation(t *testing.T) {
	user := object{"role": "user", "content": "x"}
	tool := object{"type": "function", "function": object{"name": "look", "parameters": object{}}}
	calls := []object{{"id": "c1", "type": "function", "function": object{"name": "look", "arguments": "{}"}}}
	messages := func(list ...object) object { return object{"messages": list} }
	with := func(members ...object) object { return chatRequest(members...) }
	without := func(name string) object {
		b := chatRequest()
		delete(b, name)
		return b
	}
	disabled := object{"thinking": object{"type": "disabled"}}

	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, test := range []struct {
			name string
			body any
			want string // part of the error text; empty is a 200
		}{
			{"no JSON", "{", "Failed to parse the request body as JSON"},
			{"no model", without("model"), "missing field `model`"},
			{"no messages", without("messages"), "missing field `messages`"},
			{"empty messages", with(object{"messages": []object{}}), "Empty input messages"},
			{"retired model", with(object{"model": "deepseek-chat"}), "The supported API model names are deepseek-flash, deepseek-v4-pro, but you passed deepseek-chat."},
			{"release label", with(object{"model": "deepseek-v4.1-flash"}), "but you passed deepseek-v4.1-flash."},
			{"alias", with(object{"model": "deepseek-v4-flash"}), ""},
			{"unknown fields", with(object{"enable_thinking": false, "seed": "x"}), ""},
			{"null fields", with(object{"thinking": nil, "temperature": nil, "stop": nil, "tools": nil}), ""},
			{"boolean thinking", with(object{"thinking": true}), "Failed to deserialize the JSON body into the target type: thinking: invalid type: boolean `true`, expected struct ThinkingOptions at line 1 column "},
			{"adaptive thinking", with(object{"thinking": object{"type": "adaptive"}}), ""},
			{"unknown thinking", with(object{"thinking": object{"type": "maybe"}}), "unknown variant `maybe`"},
			{"thinking and effort in conflict", with(disabled, object{"reasoning_effort": "high"}), "thinking options type cannot be disabled when reasoning_effort is set"},
			{"unknown effort", with(object{"reasoning_effort": "some"}), "reasoning_effort: unknown variant `some`"},
			{"string temperature", with(object{"temperature": "warm"}), "temperature: invalid type: string \"warm\", expected f64"},
			{"high temperature", with(object{"temperature": 2.1}), "Invalid temperature value, the valid range of temperature is [0, 2]"},
			{"zero top_p", with(object{"top_p": 0}), "Invalid top_p value"},
			{"penalty", with(object{"presence_penalty": -3}), "[-2, 2]"},
			{"max_tokens zero", with(object{"max_tokens": 0}), "valid range of max_tokens is [1, 393216]"},
			{"max_tokens float", with(object{"max_tokens": 1.5}), "max_tokens: invalid type: floating point `1.5`, expected u32"},
			{"stream string", with(object{"stream": "yes"}), "stream: invalid type: string \"yes\", expected a boolean"},
			{"n", with(object{"n": 2}), "Invalid n value (currently only n = 1 is supported)"},
			{"n of 1", with(object{"n": 1}), ""},
			{"top_logprobs", with(object{"logprobs": true, "top_logprobs": 21}), "valid range of top_logprobs is [0, 20]"},
			{"top_logprobs alone", with(object{"top_logprobs": 2}), "logprobs must be set to true"},
			{"stream_options without stream", with(object{"stream_options": object{"include_usage": true}}), "stream_options should be set along with stream = true"},
			{"seventeen stops", with(object{"stop": strings.Split(strings.Repeat("a ", 16)+"a", " ")}), "at most 16"},
			{"number stop", with(object{"stop": 3}), "stop: invalid type: integer `3`"},
			{"json_schema", with(object{"response_format": object{"type": "json_schema"}}), "This response_format type is unavailable now"},
			{"json without the word", with(object{"response_format": object{"type": "json_object"}}), "Prompt must contain the word 'json'"},
			{"developer", with(messages(object{"role": "developer", "content": "x"})), "messages[0].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`, `latest_reminder`"},
			{"system as a list", with(messages(object{"role": "system", "content": []object{}})), "messages[0]: invalid type: sequence, expected a string"},
			{"user as a list", with(messages(object{"role": "user", "content": []object{{"type": "text", "text": "x"}}})), ""},
			{"content number", with(messages(object{"role": "user", "content": 5})), "messages[0]: invalid type: integer `5`"},
			{"image for pro", with(object{"model": "deepseek-v4-pro"}, messages(object{"role": "user", "content": []object{{"type": "image_url"}}})), "This model does not support image"},
			{"image for flash", with(messages(object{"role": "user", "content": []object{{"type": "image_url"}}})), ""},
			{"tools twice", with(object{"tools": []object{tool, tool}}), "unique"},
			{"tool name", with(object{"tools": []object{{"type": "function", "function": object{"name": "no blanks"}}}}), "does not match pattern"},
			{"tool type", with(object{"tools": []object{{"type": "magic"}}}), "unknown variant `magic`"},
			{"required while thinking", with(object{"tools": []object{tool}, "tool_choice": "required"}), "Thinking mode does not support this tool_choice"},
			{"named while thinking", with(object{"tools": []object{tool}, "tool_choice": object{"type": "function", "function": object{"name": "look"}}}), "Thinking mode does not support this tool_choice"},
			{"required", with(disabled, object{"tools": []object{tool}, "tool_choice": "required"}), ""},
			{"reasoning missing with tools", with(object{"tools": []object{tool}}, messages(user, object{"role": "assistant", "content": "y"}, user)), "The `reasoning_content` in the thinking mode must be passed back to the API."},
			{"reasoning empty with tools", with(object{"tools": []object{tool}}, messages(user, object{"role": "assistant", "content": "y", "reasoning_content": ""}, user)), ""},
			{"reasoning missing without tools", with(messages(user, object{"role": "assistant", "content": "y"}, user)), ""},
			{"insufficient tool messages", with(messages(user, object{"role": "assistant", "content": nil, "tool_calls": calls}, user)), "insufficient tool messages following tool_calls message"},
			{"sufficient tool messages", with(messages(user, object{"role": "assistant", "content": nil, "tool_calls": calls}, object{"role": "tool", "tool_call_id": "c1", "content": "z"})), ""},
			{"tool message alone", with(messages(user, object{"role": "tool", "tool_call_id": "c1", "content": "z"})), "must be a response to a preceding message"},
			{"prefix off beta", with(messages(user, object{"role": "assistant", "content": "y", "prefix": true})), `prefix is only available when using beta api (set base_url="https://api.deepseek.com/beta")`},
			{"long user_id", with(object{"user_id": strings.Repeat("a", 513)}), "user_id"},
		} {
			r := post(t, s, c, "/chat/completions", test.body)
			if test.want == "" {
				require.Equal(t, 200, r.StatusCode, "%s: %s", test.name, r.body)
				continue
			}
			require.Equal(t, 400, r.StatusCode, "%s: %s", test.name, r.body)
			require.Contains(t, r.errorText(t), test.want, test.name)
		}
		require.Zero(t, s.InFlight(testKey, ""))
	})
}

func TestContentTypesOfRefusals(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/chat/completions", chatRequest(object{"temperature": "warm"}))
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		r = post(t, s, c, "/chat/completions", chatRequest(object{"temperature": 3}))
		require.Equal(t, "application/octet-stream", r.Header.Get("Content-Type"))
		r = post(t, s, c, "/chat/completions", chatRequest(object{"thinking": object{"type": 1}}))
		require.Equal(t, 400, r.StatusCode)
		require.Equal(t, "text/plain; charset=utf-8", r.Header.Get("Content-Type"))
		require.NotContains(t, string(r.body), "{")
	})
}

func TestContextOverflow(t *testing.T) {
	small := DefaultModels()
	small[0].Context = 200
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/chat/completions", chatRequest(object{"max_tokens": 150}))
		require.Equal(t, 400, r.StatusCode)
		require.Regexp(t, `^This model's maximum context length is 200 tokens. However, you requested \d+ tokens \(\d+ in the messages, 150 in the completion\). Please reduce the length of the messages or completion.$`, r.errorText(t))
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest(object{"max_tokens": 10})).StatusCode)
	}, WithModels(small...))
}

// A client whose JSON has Go's names is refused here as well as in production.
func TestNamesMatchExactly(t *testing.T) {
	const messages = `"messages":[{"role":"user","content":"x"}]`
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, test := range []struct{ path, body, want string }{
			{"/chat/completions", `{"Model":"deepseek-flash",` + messages + `}`, "missing field `model`"},
			{"/chat/completions", `{"model":"deepseek-flash","MESSAGES":[]}`, "missing field `messages`"},
			{"/chat/completions", `{ "model" : "deepseek-flash" , "messages" : [ {"role":"user","content":"x"} , {"Role":"user","content":"x"} ] }`, "messages[1]: missing field `role` at line 1 column 107"},
			{"/chat/completions", `{"model":"deepseek-flash","messages":[{"role":"user","\u0043ontent":"x"}]}`, "messages[0]: missing field `content`"},
			{"/chat/completions", `{"model":"deepseek-flash","messages":[{"role":"user","content":[{"Type":"text","Text":"x"}]}]}`, "messages[0][0].type: unknown variant ``"},
			{"/chat/completions", `{"model":"deepseek-flash","tools":[{"type":"function","Function":{"name":"f"}}],` + messages + `}`, "tools[0]: missing field `function`"},
			{"/chat/completions", `{"model":"deepseek-flash","tools":[{"type":"function","function":{"Name":"f"}}],` + messages + `}`, "Invalid 'tools[0].function.name'"},
			{"/chat/completions", `{"model":"deepseek-flash","thinking":{"Type":"disabled"},` + messages + `}`, "thinking: missing field `type`"},
			{"/chat/completions", `{"Temperature":"x","model":"deepseek-flash","temperature":"warm",` + messages + `}`, "temperature: invalid type: string \"warm\""},
			{"/chat/completions", `{"Model":"deepseek-flash",` + messages, "Failed to parse the request body as JSON: unexpected end of JSON input at line 1 column 68"},
			{"/beta/completions", `{"model":"deepseek-flash","Prompt":"x"}`, "missing field `prompt`"},
			{"/responses", `{"model":"deepseek-flash","Input":"x"}`, "missing field `input`"},
			{"/anthropic/v1/messages", `{"model":"deepseek-flash","Max_Tokens":9,` + messages + `}`, "missing field `max_tokens`"},
		} {
			r := post(t, s, c, test.path, test.body)
			require.Equal(t, 400, r.StatusCode, "%s: %s", test.body, r.body)
			require.Contains(t, r.errorText(t), test.want, test.body)
		}
		require.Equal(t, 200, post(t, s, c, "/chat/completions", `{"\u006dodel":"deepseek-flash","model_":1,"Stream":true,`+messages+`}`).StatusCode)
		list := s.Requests()
		require.False(t, list[len(list)-1].Stream)

		// What is not DeepSeek's to name keeps its names.
		r := post(t, s, c, "/anthropic/v1/messages", `{"Max":1,"model":"deepseek-flash","max_tokens":9,"messages":[{"role":"assistant","content":[{"Name":"no","type":"tool_use","id":"1","name":"look","input":{"Type":"X","cityName":"Y"}}]}]}`)
		require.Equal(t, 200, r.StatusCode, "%s", r.body)
		list = s.Requests()
		require.Equal(t, []ToolCall{{ID: "1", Name: "look", Arguments: `{"Type":"X","cityName":"Y"}`}}, list[len(list)-1].Messages[0].ToolCalls)
		require.Contains(t, string(list[len(list)-1].Body), `{"Max":1,`)
	})
}
