package deepseektest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWholeAndStreamAgree(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		w := post(t, s, c, "/chat/completions", chatRequest())
		require.NoError(t, w.err)
		require.Equal(t, 200, w.StatusCode)
		require.Equal(t, "application/json", w.Header.Get("Content-Type"))
		require.Len(t, w.Header.Get("X-Ds-Trace-Id"), 32)
		for k := range w.Header {
			require.NotContains(t, strings.ToLower(k), "ratelimit")
		}
		whole := parseWhole(t, w.body)
		require.Equal(t, "stop", whole.finish)
		require.Contains(t, whole.content, "How is the wall?")
		require.NotEmpty(t, whole.reasoning)
		require.Len(t, whole.chunks[0].ID, 36)

		st := post(t, s, c, "/v1/chat/completions", chatRequest(streaming))
		require.NoError(t, st.err)
		require.Equal(t, "text/event-stream; charset=utf-8", st.Header.Get("Content-Type"))
		stream := parseStream(t, st.body)
		require.True(t, stream.done)
		require.Equal(t, whole.content, stream.content)
		require.Equal(t, whole.reasoning, stream.reasoning)
		require.Equal(t, "stop", stream.finish)
		require.Equal(t, whole.usage.Completion, stream.usage.Completion)
		require.NotContains(t, string(st.body), `"usage":null`)

		last := stream.chunks[len(stream.chunks)-1]
		require.Len(t, last.Choices, 1, "usage rides the chunk with the finish_reason")
		require.NotNil(t, last.Usage)
		require.Equal(t, last.Usage.Prompt, last.Usage.Hit+last.Usage.Miss)
		require.Equal(t, len(stream.chunks)-2, last.Usage.Completion, "one token a chunk")
		require.Positive(t, last.Usage.OutputDetails.Reasoning)
	})
}

func TestIncludeUsageAddsNull(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/chat/completions", chatRequest(streaming, object{"stream_options": object{"include_usage": true}}))
		a := parseStream(t, r.body)
		require.Equal(t, len(a.chunks)-1, strings.Count(string(r.body), `"usage":null`))
		require.NotNil(t, a.usage)
	})
}

func TestThinkingDisabled(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, off := range []object{{"thinking": object{"type": "disabled"}}, {"reasoning_effort": "none"}} {
			for _, stream := range []bool{false, true} {
				r := post(t, s, c, "/chat/completions", chatRequest(off, object{"stream": stream}))
				require.Equal(t, 200, r.StatusCode, "%s", r.body)
				require.NotContains(t, string(r.body), "reasoning_content")
				require.NotContains(t, string(r.body), "completion_tokens_details")
			}
		}
	})
}

func TestContinuationIsByteExactAtEveryToken(t *testing.T) {
	for name, script := range map[string]Reply{
		"default answer": Normal(),
		"scripted":       Give(Answer{Reasoning: "So let me think. 让我想想", Content: "Ünder the wall — 海堤, 1, 2, 3.", FinishReason: "length"}),
	} {
		t.Run(name, func(t *testing.T) { continueAtEveryToken(t, script) })
	}
}

func continueAtEveryToken(t *testing.T, script Reply) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(script)
		full := parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		n := full.usage.Completion
		for i := 1; i <= n; i++ {
			s.Enqueue(Say("an earlier answer"), script.And(CutAfter(i)))
			post(t, s, c, "/chat/completions", chatRequest(streaming))
			cut := parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
			require.False(t, cut.done)
			require.Empty(t, cut.finish)
			body := chatRequest(streaming)
			body["messages"] = append(body["messages"].([]object), object{
				"role": "assistant", "content": cut.content, "reasoning_content": cut.reasoning, "prefix": true,
			})
			rest := parseStream(t, post(t, s, c, "/beta/chat/completions", body).body)
			require.True(t, rest.done)
			require.Equal(t, full.reasoning, cut.reasoning+rest.reasoning, "cut after %d", i)
			require.Equal(t, full.content, cut.content+rest.content, "cut after %d", i)
			require.Equal(t, n-i, rest.usage.Completion)
			require.Equal(t, full.finish, rest.finish)
		}
	}, WithPace(Pace{TokenSize: 3}))
}

func TestMaxTokensAndStop(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		a := parseWhole(t, post(t, s, c, "/chat/completions", chatRequest(object{"max_tokens": 5})).body)
		require.Equal(t, "length", a.finish)
		require.Empty(t, a.content, "thinking took the budget")
		require.Equal(t, 5, a.usage.Completion)

		s.Enqueue(Say("one two three"))
		a = parseWhole(t, post(t, s, c, "/chat/completions", chatRequest(object{"stop": []string{"nine", "three"}})).body)
		require.Equal(t, "one two ", a.content)
	})
}

// The documented use of a prefix: it opens a block that stop closes.
func TestStopIsNotLookedForInThePrefix(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		body := chatRequest(object{"stop": "```"})
		body["messages"] = append(body["messages"].([]object), object{"role": "assistant", "content": "```python\n", "prefix": true})
		s.Enqueue(Say("```python\ndef f(): pass\n```\nThat is all."))
		for range 2 { // as it was scripted, and as it is remembered
			a := parseWhole(t, post(t, s, c, "/beta/chat/completions", body).body)
			require.Equal(t, "def f(): pass\n", a.content)
			require.Equal(t, "stop", a.finish)
		}
	})
}

func TestToolCalls(t *testing.T) {
	tools := object{
		"tools":    []object{{"type": "function", "function": object{"name": "look", "parameters": object{}}}},
		"thinking": object{"type": "disabled"},
	}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/chat/completions", chatRequest(tools, streaming, object{"tool_choice": "required"}))
		a := parseStream(t, r.body)
		require.Equal(t, "tool_calls", a.finish)
		require.JSONEq(t, `{"query":"How is the wall?"}`, a.args)
		require.Equal(t, 1, strings.Count(string(r.body), `"name":"look"`))

		s.Enqueue(Give(Answer{ToolCalls: []ToolCall{{ID: "call_1", Name: "look", Arguments: `{"a":1}`}, {Name: "look", Arguments: `{}`}}}))
		a = parseWhole(t, post(t, s, c, "/chat/completions", chatRequest(tools)).body)
		require.Equal(t, "tool_calls", a.finish)
		calls := a.chunks[0].Choices[0].Message.ToolCalls
		require.Len(t, calls, 2)
		require.Equal(t, "call_1", calls[0].ID)
		require.NotEmpty(t, calls[1].ID)
		require.Nil(t, a.chunks[0].Choices[0].Message.Content)
	})
}

// A tool call that max_tokens cuts is lost, but was written and is paid for.
func TestALostToolCallCounts(t *testing.T) {
	tools := object{"tools": []object{{"type": "function", "function": object{"name": "look", "parameters": object{}}}}}
	call := Give(Answer{Reasoning: "12341234", ToolCalls: []ToolCall{{Name: "look", Arguments: `{"a":"` + strings.Repeat("a", 400) + `"}`}}})
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, stream := range []bool{false, true} {
			for _, want := range []int{50, 20, 1} {
				re := call
				if want < 50 {
					re = call.And(FinishAfter(want, "aborted"))
				}
				s.Enqueue(re)
				r := post(t, s, c, "/chat/completions", chatRequest(tools, object{"max_tokens": 50, "stream": stream}))
				parse := parseWhole
				if stream {
					parse = parseStream
				}
				a := parse(t, r.body)
				require.Empty(t, a.args)
				require.Equal(t, want, a.usage.Completion)
				require.Equal(t, min(2, want), a.usage.OutputDetails.Reasoning)
				list := s.Requests()
				require.Equal(t, want, list[len(list)-1].Usage.Completion)
			}
		}
		s.Enqueue(call.And(Paced(Pace{Token: time.Second})), call.And(Paced(Pace{Token: time.Second})))
		require.Equal(t, 50*time.Second, post(t, s, c, "/chat/completions", chatRequest(tools, object{"max_tokens": 50})).took)
		require.Equal(t, 49*time.Second, post(t, s, c, "/chat/completions", chatRequest(tools, streaming, object{"max_tokens": 50})).took)
	})
}

func TestJSONModeAnswersJSON(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		body := chatRequest(object{"response_format": object{"type": "json_object"}})
		body["messages"] = []object{{"role": "user", "content": "Answer in JSON."}}
		a := parseWhole(t, post(t, s, c, "/chat/completions", body).body)
		require.True(t, json.Valid([]byte(a.content)), a.content)
	})
}

func TestPaceRunsOnTheVirtualClock(t *testing.T) {
	pace := Pace{Headers: time.Second, FirstToken: 2 * time.Second, Token: time.Second}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Say("1234567890")) // three tokens
		r := post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.Equal(t, 5*time.Second, r.took)
		s.Enqueue(Say("1234567890"))
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.Equal(t, 6*time.Second, r.took)
		s.Enqueue(Say("1234567890").And(Paced(Pace{Token: time.Minute})))
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.Equal(t, 3*time.Minute, r.took)
		require.Equal(t, strings.Repeat("\n", 17), string(r.body[:17]), "a blank line every ten seconds")
		require.Equal(t, "{", string(r.body[17]))
	}, WithPace(pace))
}

func TestAnswerFunctionAndLength(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		a := parseWhole(t, post(t, s, c, "/chat/completions", chatRequest()).body)
		require.Equal(t, "echo: How is the wall?", a.content)
	}, WithAnswer(func(r *Request) Answer { return Answer{Content: "echo: " + r.LastUser()} }))
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		a := parseWhole(t, post(t, s, c, "/chat/completions", chatRequest()).body)
		require.Equal(t, 500, a.usage.Completion)
		require.Equal(t, 200, a.usage.OutputDetails.Reasoning)
	}, WithAnswerLength(200, 300))
}

func TestFIM(t *testing.T) {
	body := object{"model": "deepseek-flash", "prompt": "func main() {", "suffix": "}"}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/completions", body)
		require.Equal(t, 400, r.StatusCode)
		require.Equal(t, `completions api is only available when using beta api (set base_url="https://api.deepseek.com/beta")`, r.errorText(t))
		r = post(t, s, c, "/beta/completions", body)
		require.Equal(t, 200, r.StatusCode)
		var w wire
		require.NoError(t, json.Unmarshal(r.body, &w), "%s", r.body)
		require.Equal(t, "text_completion", w.Object)
		body["stream"] = true
		a := parseStream(t, post(t, s, c, "/beta/completions", body).body)
		require.True(t, a.done)
		require.Equal(t, w.Choices[0].Text, a.content)
		require.Equal(t, w.Usage.Completion, a.usage.Completion)
	})
}

func TestSuffixIsPartOfThePrompt(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		prompt := func(suffix string) int {
			r := post(t, s, c, "/beta/completions", object{"model": "deepseek-flash", "prompt": "func main() {", "suffix": suffix})
			var w wire
			require.NoError(t, json.Unmarshal(r.body, &w), "%s", r.body)
			return w.Usage.Prompt
		}
		require.Equal(t, 100, prompt(strings.Repeat("x", 400))-prompt(""))
	})
}

func TestModelsBalanceFilesAndUnknownPaths(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, path := range []string{"/models", "/v1/models", "/models/deepseek-v4-flash", "/user/balance", "/files"} {
			r := get(t, s, c, path)
			require.Equal(t, 200, r.StatusCode, path)
			require.True(t, json.Valid(r.body), "%s", r.body)
			require.NotEmpty(t, r.Header.Get("X-Ds-Trace-Id"))
		}
		require.Contains(t, string(get(t, s, c, "/user/balance").body), `"total_balance":"100.00"`)
		require.Contains(t, string(get(t, s, c, "/models").body), `"context_window":1048576`)
		for _, path := range []string{"/models/nope", "/embeddings", "/files/x"} {
			require.Equal(t, 404, get(t, s, c, path).StatusCode, path)
		}
		r := post(t, s, c, "/files", "content")
		var f struct{ ID string }
		require.NoError(t, json.Unmarshal(r.body, &f))
		require.True(t, strings.HasPrefix(f.ID, "file-api-"))
		require.Equal(t, 200, get(t, s, c, "/files/"+f.ID).StatusCode)
	})
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		require.Equal(t, 404, post(t, s, c, "/beta/chat/completions", chatRequest()).StatusCode)
	}, WithoutBeta())
}
