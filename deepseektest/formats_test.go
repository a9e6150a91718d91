package deepseektest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// events splits a stream of named events and checks each one's data.
func events(t *testing.T, body []byte) (names []string, data []object) {
	t.Helper()
	for _, e := range strings.Split(strings.TrimSpace(string(body)), "\n\n") {
		name, rest, ok := strings.Cut(e, "\ndata: ")
		require.True(t, ok, e)
		var v object
		require.NoError(t, json.Unmarshal([]byte(rest), &v), rest)
		names = append(names, strings.TrimPrefix(name, "event: "))
		data = append(data, v)
	}
	return names, data
}

func TestResponses(t *testing.T) {
	body := object{"model": "deepseek-flash", "input": "How is the wall?"}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/responses", body)
		require.Equal(t, 200, r.StatusCode, "%s", r.body)
		var whole object
		require.NoError(t, json.Unmarshal(r.body, &whole), "%s", r.body)
		require.Equal(t, "completed", whole["status"])

		body["stream"] = true
		r = post(t, s, c, "/v1/responses", body)
		names, data := events(t, r.body)
		require.Equal(t, "response.created", names[0])
		require.Equal(t, "response.completed", names[len(names)-1])
		require.NotContains(t, string(r.body), "[DONE]")
		var text string
		for i, n := range names {
			require.Equal(t, n, data[i]["type"])
			require.EqualValues(t, i, data[i]["sequence_number"])
			if n == "response.output_text.delta" {
				text += data[i]["delta"].(string)
			}
		}
		final := data[len(data)-1]["response"].(object)
		require.Equal(t, whole["output"].([]any)[1].(object)["content"], final["output"].([]any)[1].(object)["content"])
		require.Contains(t, text, "How is the wall?")

		s.Enqueue(FinishReason("length"), FinishReason("aborted"), ErrorInStream(0, "broken"), CutAfter(3),
			Give(Answer{ToolCalls: []ToolCall{{Name: "look", Arguments: `{"a":1}`}}}))
		for _, last := range []string{"response.incomplete", "response.failed", "error", "response.reasoning_text.delta", "response.completed"} {
			r = post(t, s, c, "/responses", body)
			names, _ = events(t, r.body)
			require.Equal(t, last, names[len(names)-1])
		}
		require.Contains(t, string(r.body), `"type":"function_call"`)
	})
}

func TestResponsesInputItems(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/responses", `{"model":"deepseek-flash","instructions":"Be brief.","input":[
			{"role":"user","content":[{"type":"input_text","text":"Hello"}]},
			{"type":"reasoning","summary":[]},
			{"type":"function_call","call_id":"c1","name":"look","arguments":"{}"},
			{"type":"function_call_output","call_id":"c1","output":"fine"}]}`)
		require.Equal(t, 200, r.StatusCode, "%s", r.body)
		m := s.Requests()[0].Messages
		require.Len(t, m, 4)
		require.Equal(t, "tool", m[3].Role)
		require.Equal(t, "fine", m[3].Content)
		require.Equal(t, 400, post(t, s, c, "/responses", `{"model":"x","input":"y"}`).StatusCode)
		require.Equal(t, 400, post(t, s, c, "/responses", `{"model":"deepseek-flash"}`).StatusCode)
	})
}

func TestAnthropic(t *testing.T) {
	body := object{"model": "claude-sonnet-5", "max_tokens": 4000, "messages": []object{{"role": "user", "content": "How is the wall?"}}}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		q := newRequest(t, s, "/anthropic/v1/messages", body)
		q.Header.Del("Authorization")
		q.Header.Set("x-api-key", testKey)
		r := send(c, q)
		require.Equal(t, 200, r.StatusCode, "%s", r.body)
		var whole object
		require.NoError(t, json.Unmarshal(r.body, &whole))
		require.Equal(t, "deepseek-flash", whole["model"])
		require.Equal(t, "end_turn", whole["stop_reason"])

		body["stream"] = true
		r = post(t, s, c, "/anthropic/v1/messages", body)
		names, data := events(t, r.body)
		require.Equal(t, "message_start", names[0])
		require.Equal(t, "message_stop", names[len(names)-1])
		var text string
		for _, d := range data {
			if delta, ok := d["delta"].(object); ok && delta["type"] == "text_delta" {
				text += delta["text"].(string)
			}
		}
		require.Equal(t, whole["content"].([]any)[1].(object)["text"], text)

		s.Enqueue(ErrorInStream(1, "Overloaded"), CutAfter(2), NoDone(), Status(503),
			Give(Answer{ToolCalls: []ToolCall{{Name: "look", Arguments: `{"a":1}`}}}))
		for _, last := range []string{"error", "content_block_delta", "message_delta"} {
			names, _ = events(t, post(t, s, c, "/anthropic/v1/messages", body).body)
			require.Equal(t, last, names[len(names)-1])
		}
		r = post(t, s, c, "/anthropic/v1/messages", body)
		require.Equal(t, 503, r.StatusCode)
		require.Contains(t, string(r.body), `{"type":"error"`)
		r = post(t, s, c, "/anthropic/v1/messages", body)
		require.Contains(t, string(r.body), `"stop_reason":"tool_use"`)
	})
}

func TestSplitDataOfTheOtherFormats(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for path, body := range map[string]object{
			"/responses":             {"model": "deepseek-flash", "stream": true, "input": "x"},
			"/anthropic/v1/messages": {"model": "deepseek-flash", "stream": true, "max_tokens": 100, "messages": []object{{"role": "user", "content": "x"}}},
		} {
			s.Enqueue(Say("hi"), Say("hi").And(Framed(Framing{SplitData: true})))
			names, _ := events(t, post(t, s, c, path, body).body)
			r := post(t, s, c, path, body)
			require.Contains(t, string(r.body), ",\ndata: ")
			split, _ := events(t, []byte(strings.ReplaceAll(string(r.body), ",\ndata: ", ",")))
			require.Equal(t, names, split)
		}
	})
}

func TestAnthropicModelNames(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for i, name := range []string{"claude-opus-5", "claude-haiku-5", "anything", "deepseek-v4-pro"} {
			r := post(t, s, c, "/anthropic/v1/messages", object{"model": name, "max_tokens": 10, "system": []object{{"type": "text", "text": "Hi"}},
				"metadata": object{"user_id": "anna"},
				"messages": []object{
					{"role": "user", "content": []object{{"type": "text", "text": "x"}}},
					{"role": "assistant", "content": []object{{"type": "thinking", "thinking": "t"}, {"type": "tool_use", "id": "1", "name": "look", "input": object{}}}},
					{"role": "user", "content": []object{{"type": "tool_result", "tool_use_id": "1", "content": "y"}}},
				}})
			require.Equal(t, 200, r.StatusCode, "%s", r.body)
			rec := s.Requests()[i]
			require.Equal(t, []string{"deepseek-v4-pro", "deepseek-flash", "deepseek-flash", "deepseek-v4-pro"}[i], rec.Model)
			require.Equal(t, "anna", rec.UserID)
			require.Len(t, rec.Messages, 4)
		}
	})
}

// A fault between two events leaves no trace in those that follow.
func TestFaultsBetweenEventsOfTheOtherFormats(t *testing.T) {
	answer := Give(Answer{Reasoning: "12341234", Content: "abcdefgh", ToolCalls: []ToolCall{{ID: "c1", Name: "look", Arguments: `{"a":1}`}}})
	for path, body := range map[string]object{
		"/responses":             {"model": "deepseek-flash", "stream": true, "input": "x"},
		"/anthropic/v1/messages": {"model": "deepseek-flash", "stream": true, "max_tokens": 100, "messages": []object{{"role": "user", "content": "x"}}},
	} {
		bubble(t, func(t *testing.T, s *Server, c *http.Client) {
			s.Enqueue(answer)
			r := post(t, s, c, path, body)
			names, data := events(t, r.body)
			for n := range 9 {
				s.Enqueue(answer.And(PauseAfter(n, time.Minute)))
				r := post(t, s, c, path, body)
				require.Equal(t, time.Minute, r.took)
				paused, pausedData := events(t, r.body)
				require.Equal(t, names, paused, "%s after %d", path, n)
				for i := range pausedData {
					require.Equal(t, data[i]["sequence_number"], pausedData[i]["sequence_number"])
					require.Equal(t, data[i]["index"], pausedData[i]["index"])
					require.Equal(t, data[i]["delta"], pausedData[i]["delta"])
				}
			}
			s.Enqueue(answer.And(ErrorInStream(3, "broken")))
			_, data = events(t, post(t, s, c, path, body).body)
			if path == "/responses" {
				require.EqualValues(t, len(data)-1, data[len(data)-1]["sequence_number"])
			}
		})
	}
}
