package deepseek_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// collect ranges over a stream to its end.
func collect(s *deepseek.ChatStream) (text, reasoning string, err error) {
	var t, r strings.Builder
	for chunk, err := range s.Chunks() {
		if err != nil {
			return t.String(), r.String(), err
		}
		t.WriteString(chunk.Text())
		r.WriteString(chunk.Reasoning())
	}
	return t.String(), r.String(), nil
}

// hidden hides from the client that the transport could hand out events.
var hidden = deepseek.WithMiddleware(func(next http.RoundTripper) http.RoundTripper {
	return roundTripFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil {
			resp.Body = struct{ io.ReadCloser }{resp.Body}
		}
		return resp, err
	})
})

func TestStreamAddsUpToTheAnswer(t *testing.T) {
	for name, opts := range map[string][]deepseek.Option{"own transport": nil, "hidden transport": {hidden}, "with comments": {hidden, deepseek.WithStreamComments()}} {
		t.Run(name, func(t *testing.T) {
			c, s := newClient(t, opts...)
			req := ask(deepseek.User("Tell me of the sea"))
			want, err := c.Chat(t.Context(), req)
			require.NoError(t, err)

			for _, reply := range []deepseektest.Reply{{}, deepseektest.Queued(3, time.Millisecond), deepseektest.OpenAIUsageChunk(),
				deepseektest.NoDone(), deepseektest.NoFinish()} {
				s.Enqueue(reply)
				stream, err := c.ChatStream(t.Context(), req)
				require.NoError(t, err)
				text, reasoning, err := collect(stream)
				require.NoError(t, err)
				require.Equal(t, want.Text(), text)
				require.Equal(t, want.Reasoning(), reasoning)
				got := stream.Response()
				require.Equal(t, want.Text(), got.Text())
				require.Equal(t, want.Reasoning(), got.Reasoning())
				if got.FinishReason() != "" { // the usage comes with it
					require.Equal(t, want.Usage.CompletionTokens, got.Usage.CompletionTokens)
				}
				require.Equal(t, "chat.completion", got.Object)
				require.NotEmpty(t, got.TraceID())
				require.Empty(t, got.Extra)
				require.NoError(t, stream.Close())
				require.NoError(t, stream.Close())
			}
		})
	}
}

func TestStreamedLogprobsAddUp(t *testing.T) {
	c, _ := newClient(t)
	req := ask(deepseek.User("x"))
	req.Logprobs, req.TopLogprobs = true, 2
	want, err := c.Chat(t.Context(), req)
	require.NoError(t, err)
	stream, err := c.ChatStream(t.Context(), req)
	require.NoError(t, err)
	_, _, err = collect(stream)
	require.NoError(t, err)
	whole, joined := want.Choices[0].Logprobs, stream.Response().Choices[0].Logprobs
	require.NotEmpty(t, whole.Content)
	require.Equal(t, whole.Content, joined.Content)
	require.Equal(t, whole.ReasoningContent, joined.ReasoningContent)
	text := ""
	for _, token := range joined.Content {
		text += token.Token
		require.LessOrEqual(t, token.Logprob, 0.0)
	}
	require.Equal(t, want.Text(), text)
}

// What a chunk's logprobs have beside the tokens stays, whatever comes after.
func TestStreamedLogprobsKeepWhatIsUnknown(t *testing.T) {
	base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
		events := `data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[],"refusal":[1]}}]}` + "\n\n" +
			`data: {"id":"1","choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"content":[]}}]}` + "\n\n" +
			`data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(events)), Request: req}, nil
	})
	c, err := deepseek.New(deepseek.WithTransport(base), deepseek.WithAPIKeys("sk-one"), deepseek.WithBaseURL(deepseek.DefaultBaseURL))
	require.NoError(t, err)
	stream, err := c.ChatStream(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	_, _, err = collect(stream)
	require.NoError(t, err)
	require.JSONEq(t, `[1]`, string(stream.Response().Choices[0].Logprobs.Extra["refusal"]))
}

func TestStreamedToolCallsAreJoinedByIndex(t *testing.T) {
	c, s := newClient(t)
	calls := []deepseektest.ToolCall{{ID: "call_a", Name: "f", Arguments: `{"a":"é中","b":[1,2,3]}`}, {ID: "call_b", Name: "g", Arguments: `{}`}}
	s.Enqueue(deepseektest.Give(deepseektest.Answer{Reasoning: "r", ToolCalls: calls}))
	req := ask(deepseek.User("x"))
	req.Tools = []deepseek.Tool{deepseek.FunctionTool("f", "", nil), deepseek.FunctionTool("g", "", nil)}
	stream, err := c.ChatStream(t.Context(), req)
	require.NoError(t, err)
	_, _, err = collect(stream)
	require.NoError(t, err)
	got := stream.Response()
	require.Equal(t, deepseek.FinishToolCalls, got.FinishReason())
	require.Len(t, got.ToolCalls(), 2)
	for i, call := range got.ToolCalls() {
		require.Equal(t, calls[i].ID, call.ID)
		require.Equal(t, calls[i].Name, call.Function.Name)
		require.Equal(t, calls[i].Arguments, call.Function.Arguments)
		req.Messages = append(req.Messages[:1:1], got.Message(), deepseek.ToolResult("call_a", "1"), deepseek.ToolResult("call_b", "2"))
	}
	_, err = c.Chat(t.Context(), req)
	require.NoError(t, err, "the joined message is good as history")
}

// Whatever comes first, what was joined is in the order of the indices.
func TestStreamedPartsAreInTheOrderOfTheirIndex(t *testing.T) {
	events := func(all ...string) deepseek.Option {
		return canned(200, "text/event-stream", "data: "+strings.Join(all, "\n\ndata: ")+"\n\n")
	}
	c, _ := newClient(t, events(
		`{"id":"i","choices":[{"index":1,"delta":{"content":"second"}}]}`, `{"choices":[{"index":0,"delta":{"content":"first"}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"["}}]}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"]"}},{"index":0,"function":{"arguments":"}"}}]}}]}`,
		`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"},{"index":1,"delta":{},"finish_reason":"length"}]}`, "[DONE]"))
	chat, err := c.ChatStream(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	_, _, err = collect(chat)
	require.NoError(t, err)
	got := chat.Response()
	require.Equal(t, "first", got.Text())
	require.Equal(t, deepseek.FinishStop, got.FinishReason())
	require.Equal(t, "second", got.Choices[1].Message.Content)
	for i, want := range []deepseek.FunctionCall{{Name: "f", Arguments: "{}"}, {Name: "g", Arguments: "[]"}} {
		require.Equal(t, i, got.ToolCalls()[i].Index)
		require.Equal(t, want, got.ToolCalls()[i].Function)
	}

	c, _ = newClient(t, events(`{"id":"i","choices":[{"index":1,"text":"sec"}]}`, `{"choices":[{"index":0,"text":"first"},{"index":1,"text":"ond"}]}`, "[DONE]"))
	fim, err := c.CompleteStream(t.Context(), &deepseek.CompletionRequest{Prompt: "x"})
	require.NoError(t, err)
	for _, err := range fim.Chunks() {
		require.NoError(t, err)
	}
	require.Equal(t, "first", fim.Response().Text())
	require.Equal(t, "second", fim.Response().Choices[1].Text)
}

func TestBrokenStreamTellsWhatArrived(t *testing.T) {
	for name, reply := range map[string]deepseektest.Reply{
		"clean early end":          deepseektest.CutAfter(20),
		"end inside an event":      deepseektest.CutInsideEvent(20),
		"reset":                    deepseektest.ResetAfter(20),
		"reset inside a rune":      deepseektest.ResetInsideRune(20),
		"junk of a proxy":          deepseektest.JunkAfter(20, "upstream timed out"),
		"insufficient resources":   deepseektest.FinishAfter(20, "insufficient_system_resource"),
		"error of the server":      deepseektest.ErrorInStream(20, "overloaded"),
		"stall":                    deepseektest.StallAfter(20),
		"stall behind keep-alives": deepseektest.StallKeepAlive(20, 20*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			for _, opts := range [][]deepseek.Option{nil, {hidden}} {
				opts = append(opts, deepseek.WithTimeouts(deepseek.Timeouts{Silence: 150 * time.Millisecond, BetweenData: 250 * time.Millisecond}))
				c, s := newClient(t, opts...)
				s.Enqueue(reply)
				stream, err := c.ChatStream(t.Context(), ask(deepseek.User("x")))
				require.NoError(t, err)
				text, reasoning, err := collect(stream)
				var cut *deepseek.TruncatedError
				require.ErrorAs(t, err, &cut)
				require.NotEmpty(t, reasoning)
				require.Equal(t, reasoning, cut.Response.Reasoning())
				require.Equal(t, text, cut.Response.Text())
				require.Equal(t, reasoning, stream.Response().Reasoning())
				if strings.HasPrefix(name, "stall") {
					require.ErrorIs(t, err, deepseek.ErrStalled)
				}
				if strings.HasPrefix(name, "error") {
					var api *deepseek.APIError
					require.ErrorAs(t, err, &api)
					require.ErrorIs(t, err, deepseek.ErrServer)
					require.Equal(t, "overloaded", api.Message)
				}
			}
		})
	}
}

// A stream that broke tells how it came to that, and a log nothing of what servers said.
func TestBrokenStreamTellsItsAttempts(t *testing.T) {
	c, s := newClient(t, deepseek.WithRetry(deepseek.Retry{MaxInterval: time.Millisecond}))
	s.Enqueue(deepseektest.APIError(503, "the word"), deepseektest.ResetAfter(20), deepseektest.APIError(503, "the word"), deepseektest.ErrorInStream(2, "the word"))
	stream, err := c.ChatStream(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	_, _, first := collect(stream)
	stream, err = c.ChatStream(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	_, _, second := collect(stream)
	for _, err := range []error{first, second} {
		var cut *deepseek.TruncatedError
		require.ErrorAs(t, err, &cut)
		require.Len(t, cut.Attempts, 2)
		require.Contains(t, err.Error(), " after 2 attempts: ")
		require.Contains(t, deepseek.LogText(err), " after 2 attempts: ")
		require.NotContains(t, deepseek.LogText(err), "the word")
	}
}

func TestLeavingTheLoopClosesTheStream(t *testing.T) {
	c, s := newClient(t)
	s.Enqueue(deepseektest.StallAfter(5))
	stream, err := c.ChatStream(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	for range stream.Chunks() {
		break
	}
	require.Eventually(t, func() bool { return s.InFlight("sk-test", deepseek.ModelFlash) == 0 }, 2*time.Second, time.Millisecond)
	n := 0
	for _, err := range stream.Chunks() {
		require.Error(t, err, "once only")
		n++
	}
	require.Equal(t, 1, n)
	require.NoError(t, stream.Close())
}

func TestCloseEndsALoop(t *testing.T) {
	c, s := newClient(t)
	s.Enqueue(deepseektest.StallAfter(5))
	stream, err := c.ChatStream(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	time.AfterFunc(30*time.Millisecond, func() { _ = stream.Response(); _ = stream.Close() })
	_, _, err = collect(stream)
	require.ErrorContains(t, err, "was closed")
}

func TestCancelEndsAStream(t *testing.T) {
	c, s := newClient(t)
	s.Enqueue(deepseektest.StallAfter(5))
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := c.ChatStream(ctx, ask(deepseek.User("x")))
	require.NoError(t, err)
	time.AfterFunc(30*time.Millisecond, cancel)
	_, reasoning, err := collect(stream)
	require.ErrorIs(t, err, context.Canceled)
	require.NotEmpty(t, reasoning)
}

func TestForeignStreams(t *testing.T) {
	const one = `data: {"id":"i","choices":[{"index":0,"delta":{"content":"Hi"}}],"provider":"p"}` + "\n\n"
	const fin = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	for _, c := range []struct{ name, body, text, err string }{
		{"done", one + "data: [DONE]\n\n", "Hi", ""},
		{"finish only", one + fin, "Hi", ""},
		{"finish, then junk", one + fin + "data: {\"x", "Hi", ""},
		{"neither", one, "Hi", "without finish_reason"},
		{"nothing", "", "", "without finish_reason"},
		{"cut", one + `data: {"id"`, "Hi", "broke off"},
		{"no JSON", one + "data: oops\n\n", "Hi", "an event is not JSON"},
		{"error first", `data: {"error":{"message":"busy"}}` + "\n\n", "", "busy"},
		{"whole answer", "\n\n" + `{"id":"i","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}`, "Hi", ""},
		{"whole error", `{"error":{"message":"busy"}}`, "", "busy"},
		{"whole answer, cut", `{"id":"i","choices":[`, "", "cut short"},
		{"HTML", "<html>502</html>", "", "not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := newClient(t, canned(200, "text/event-stream", c.body))
			stream, err := client.ChatStream(t.Context(), ask(deepseek.User("x")))
			require.NoError(t, err)
			text, _, err := collect(stream)
			require.Equal(t, c.text, text)
			require.Equal(t, c.text, stream.Response().Text())
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
		})
	}
}

// What an event says that is no JSON is told to nobody, and that it came is told to
// all.
func TestEventThatIsNoJSONBreaksAStream(t *testing.T) {
	const secret = "the answer, word for word"
	for name, opts := range map[string][]deepseek.Option{"plain": nil, "resumed": {deepseek.WithStreamResume()}, "cached": {deepseek.WithCache(deepseek.Cache{})}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ends []deepseek.CallEndEvent
				opts := append([]deepseek.Option{deepseek.WithObserver(deepseek.Observer{CallEnd: func(e deepseek.CallEndEvent) { ends = append(ends, e) }}),
					deepseek.WithAPIKeys("sk-one"), deepseek.WithBaseURL(deepseek.DefaultBaseURL), deepseek.WithTransport(roundTripFunc(func(req *http.Request) (*http.Response, error) {
						events := `data: {"id":"1","choices":[{"index":0,"delta":{"content":"Hi"},"text":"Hi"}]}` + "\n\ndata: {" + secret + "\n\n" + strings.Repeat(": keep-alive\n\n", 10)
						return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(events)), Request: req}, nil
					}))}, opts...)
				c, err := deepseek.New(opts...)
				require.NoError(t, err)
				chat, err := c.ChatStream(t.Context(), ask(deepseek.User("x")))
				require.NoError(t, err)
				_, _, chatErr := collect(chat)
				fim, err := c.CompleteStream(t.Context(), &deepseek.CompletionRequest{Prompt: "x"})
				require.NoError(t, err)
				var fimErr error
				for _, fimErr = range fim.Chunks() {
				}
				for _, err := range []error{chatErr, fimErr} {
					require.ErrorIs(t, err, deepseek.ErrTruncated)
					require.ErrorContains(t, err, "an event is not JSON")
					require.NotContains(t, err.Error()+deepseek.LogText(err), secret)
				}
				require.Len(t, ends, 2)
				for _, e := range ends {
					require.ErrorIs(t, e.Err, deepseek.ErrTruncated)
					require.False(t, e.Cancelled)
				}
			})
		})
	}
}

func TestToolCallsWithoutIndexAreToldApartByID(t *testing.T) {
	const body = `data: {"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"}"}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"id":"b","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}

`
	client, _ := newClient(t, canned(200, "text/event-stream", body))
	stream, err := client.ChatStream(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	_, _, err = collect(stream)
	require.NoError(t, err)
	out, err := json.Marshal(stream.Response().ToolCalls())
	require.NoError(t, err)
	require.JSONEq(t, `[{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"name":"g","arguments":"{}"}}]`, string(out))
}

func TestCompletion(t *testing.T) {
	c, s := newClient(t)
	req := &deepseek.CompletionRequest{Prompt: "func add(", Suffix: "}", MaxTokens: 100}
	want, err := c.Complete(t.Context(), req)
	require.NoError(t, err)
	require.NotEmpty(t, want.Text())
	require.Equal(t, "/beta/completions", s.Requests()[0].Path)

	stream, err := c.CompleteStream(t.Context(), req)
	require.NoError(t, err)
	text := ""
	for chunk, err := range stream.Chunks() {
		require.NoError(t, err)
		text += chunk.Text()
	}
	require.Equal(t, want.Text(), text)
	require.Equal(t, want.Text(), stream.Response().Text())
	require.Equal(t, want.FinishReason(), stream.Response().FinishReason())
	require.NoError(t, stream.Close())

	s.Enqueue(deepseektest.CutAfter(3))
	stream, err = c.CompleteStream(t.Context(), req)
	require.NoError(t, err)
	var last error
	for _, err := range stream.Chunks() {
		last = err
	}
	var cut *deepseek.TruncatedError
	require.ErrorAs(t, last, &cut)
	require.Equal(t, stream.Response().Text(), cut.Response.Text())
}

// What a completion took is told as of a chat.
func TestCompletionTellsItsAttempts(t *testing.T) {
	s := deepseektest.NewMemoryServer()
	defer s.Close()
	s.Enqueue(deepseektest.Unauthorized(), deepseektest.Normal(), deepseektest.Unauthorized(), deepseektest.FinishReason("aborted"))
	req := &deepseek.CompletionRequest{Prompt: "func add(", Suffix: "}"}
	c, err := deepseek.New(deepseek.WithBaseURL(s.URL), deepseek.WithTransport(s.Transport()), deepseek.WithAPIKeys("sk-1", "sk-2", "sk-3"))
	require.NoError(t, err)

	answer, err := c.Complete(t.Context(), req)
	require.NoError(t, err)
	require.Len(t, answer.Attempts, 2)
	require.NotEmpty(t, answer.Header.Get("X-Ds-Trace-Id"))

	stream, err := c.CompleteStream(t.Context(), req)
	require.NoError(t, err)
	var cut *deepseek.TruncatedError
	for chunk, err := range stream.Chunks() {
		if err != nil {
			require.ErrorAs(t, err, &cut)
			continue
		}
		require.Nil(t, chunk.Attempts)
	}
	require.Len(t, cut.Response.Attempts, 2)
	require.Len(t, stream.Response().Attempts, 2)
	require.NotEmpty(t, stream.Response().Header.Get("X-Ds-Trace-Id"))
}
