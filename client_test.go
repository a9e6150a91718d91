package deepseek_test

import (
	"context"
	"encoding/json"
	"errors"
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

// newClient returns a client of a new fake server.
func newClient(t *testing.T, opts ...deepseek.Option) (*deepseek.Client, *deepseektest.Server) {
	t.Helper()
	s := deepseektest.NewServer()
	t.Cleanup(s.Close)
	opts = append([]deepseek.Option{deepseek.WithBaseURL(s.URL), deepseek.WithAPIKeys("sk-test"),
		deepseek.WithTransport(s.Transport()), deepseek.WithoutRetry()}, opts...)
	c, err := deepseek.New(opts...)
	require.NoError(t, err)
	return c, s
}

// canned answers every call with this response, above the whole chain: the
// client alone must make sense of it.
func canned(status int, contentType, body string) deepseek.Option {
	return deepseek.WithMiddleware(func(http.RoundTripper) http.RoundTripper {
		return roundTripFunc(func(req *http.Request) (*http.Response, error) {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}, "X-Ds-Trace-Id": {"abc"}},
				Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: req}, nil
		})
	})
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func ask(messages ...deepseek.Message) *deepseek.ChatRequest {
	return &deepseek.ChatRequest{Messages: messages}
}

func TestChatAnswers(t *testing.T) {
	c, s := newClient(t)
	resp, err := c.Chat(t.Context(), ask(deepseek.User("Hi")))
	require.NoError(t, err)
	require.NotEmpty(t, resp.Text())
	require.NotEmpty(t, resp.Reasoning(), "thinking is the default")
	require.Equal(t, deepseek.FinishStop, resp.FinishReason())
	require.Equal(t, resp.Usage.TotalTokens, resp.Usage.PromptTokens+resp.Usage.CompletionTokens)
	require.Positive(t, resp.Usage.ReasoningTokens)
	require.NotEmpty(t, resp.TraceID())
	require.Len(t, resp.Attempts, 1)
	require.Empty(t, resp.Extra)
	require.Equal(t, deepseek.ModelFlash, s.Requests()[0].Model)
}

// The server refuses a history with tools that lacks reasoning_content.
func TestConversationWithToolsIsAccepted(t *testing.T) {
	c, s := newClient(t)
	req := ask(deepseek.User("Weather?"))
	req.Tools = []deepseek.Tool{deepseek.FunctionTool("get_weather", "tells the weather", map[string]any{"type": "object"})}
	s.Enqueue(deepseektest.Give(deepseektest.Answer{Reasoning: "I need it.", ToolCalls: []deepseektest.ToolCall{
		{Name: "get_weather", Arguments: `{"city":"Beijing"}`}, {Name: "get_weather", Arguments: `{"city":"Paris"}`}}}))
	resp, err := c.Chat(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, deepseek.FinishToolCalls, resp.FinishReason())
	require.Len(t, resp.ToolCalls(), 2)

	stored, err := json.Marshal(resp.Message())
	require.NoError(t, err)
	var replayed deepseek.Message
	require.NoError(t, json.Unmarshal(stored, &replayed))
	req.Messages = append(req.Messages, replayed)
	for _, call := range resp.ToolCalls() {
		var args struct{ City string }
		require.NoError(t, call.DecodeArguments(&args))
		req.Messages = append(req.Messages, deepseek.ToolResult(call.ID, "sunny in "+args.City))
	}
	resp, err = c.Chat(t.Context(), req)
	require.NoError(t, err)

	req.Messages = append(req.Messages, resp.Message(), deepseek.User("Thanks"), deepseek.Assistant("made up"), deepseek.User("And now?"))
	_, err = c.Chat(t.Context(), req)
	require.NoError(t, err)
}

func TestBetaIsUsedByItself(t *testing.T) {
	c, s := newClient(t)
	_, err := c.Chat(t.Context(), ask(deepseek.User("Count"), deepseek.AssistantPrefix("1, 2,")))
	require.NoError(t, err)
	req := ask(deepseek.User("x"))
	tool := deepseek.FunctionTool("f", "", map[string]any{"type": "object", "properties": map[string]any{}, "required": []string{}, "additionalProperties": false})
	tool.Function.Strict = true
	req.Tools = []deepseek.Tool{tool}
	_, err = c.Chat(t.Context(), req)
	require.NoError(t, err)
	for _, r := range s.Requests() {
		require.Equal(t, "/beta/chat/completions", r.Path)
	}
}

func TestErrorsOfTheServerAreTyped(t *testing.T) {
	c, s := newClient(t)
	for reply, class := range map[error]deepseektest.Reply{
		deepseek.ErrInvalidRequest: deepseektest.ContentRisk(),
		deepseek.ErrServer:         deepseektest.ErrorObject200("boom"),
	} {
		s.Enqueue(class, class)
		_, err := c.Chat(t.Context(), ask(deepseek.User("x")))
		var api *deepseek.APIError
		require.ErrorAs(t, err, &api)
		require.ErrorIs(t, err, reply)
		require.Len(t, api.Attempts, 1)
		_, err = c.ChatStream(t.Context(), ask(deepseek.User("x")))
		require.ErrorAs(t, err, &api)
	}
}

// What programs do something about is told apart from other invalid requests, and
// with how long to wait, if the server said so.
func TestErrorsThatProgramsBranchOn(t *testing.T) {
	c, s := newClient(t)
	s.Enqueue(deepseektest.ContentRisk())
	_, err := c.Chat(t.Context(), ask(deepseek.User("x")))
	require.ErrorIs(t, err, deepseek.ErrContentRisk)
	require.ErrorIs(t, err, deepseek.ErrInvalidRequest)
	require.NotErrorIs(t, err, deepseek.ErrContextLength)
	_, ok := deepseek.RetryAfter(err)
	require.False(t, ok)

	_, err = c.Chat(t.Context(), ask(deepseek.User(strings.Repeat("word ", 2<<20))))
	require.ErrorIs(t, err, deepseek.ErrContextLength)
	require.ErrorIs(t, err, deepseek.ErrInvalidRequest)
	require.NotErrorIs(t, err, deepseek.ErrContentRisk)

	s.Enqueue(deepseektest.ServiceUnavailable().And(deepseektest.WithRetryAfter("17")))
	_, err = c.Chat(t.Context(), ask(deepseek.User("x")))
	wait, ok := deepseek.RetryAfter(err)
	require.True(t, ok)
	require.Equal(t, 17*time.Second, wait)
}

func TestSuccessorOfAClientGoesOn(t *testing.T) {
	c, s := newClient(t)
	prefix := ask(deepseek.User("x"), deepseek.AssistantPrefix("y"))
	_, err := c.Chat(t.Context(), prefix)
	require.NoError(t, err)
	_, err = c.Successor(deepseek.WithBaseURL("nowhere"))
	var bad *deepseek.ConfigError
	require.ErrorAs(t, err, &bad)

	next, err := c.Successor(deepseek.WithBaseURL(s.URL), deepseek.WithAPIKeys("sk-other"), deepseek.WithTransport(s.Transport()), deepseek.WithoutRetry())
	require.NoError(t, err)
	_, err = next.Chat(t.Context(), prefix)
	require.NoError(t, err)
	require.Equal(t, "sk-other", s.Requests()[1].Key)
	require.EqualValues(t, 2, next.Transport().Stats().Calls, "counts are those of both")

	// What its requests must be follows from its own endpoints.
	next, err = next.Successor(deepseek.WithAPIKeys("sk-other"), deepseek.WithBaseURL("https://host.example/v1"), deepseek.WithTransport(s.Transport()))
	require.NoError(t, err)
	_, err = next.Chat(t.Context(), prefix)
	var refused *deepseek.RequestError
	require.ErrorAs(t, err, &refused)
}

func TestAnswerBrokenOffByTheServerIsTruncated(t *testing.T) {
	c, s := newClient(t)
	for _, reason := range []string{"insufficient_system_resource", "aborted"} {
		s.Enqueue(deepseektest.FinishAfter(30, reason))
		_, err := c.Chat(t.Context(), ask(deepseek.User("x")))
		var cut *deepseek.TruncatedError
		require.ErrorAs(t, err, &cut)
		require.ErrorContains(t, err, reason)
		require.NotNil(t, cut.Response)
		require.NotEmpty(t, cut.Response.Reasoning()+cut.Response.Text())
	}
	s.Enqueue(deepseektest.LengthEmpty(), deepseektest.FinishReason("brand_new"))
	resp, err := c.Chat(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err, "length is no error")
	require.Equal(t, deepseek.FinishLength, resp.FinishReason())
	resp, err = c.Chat(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	require.Equal(t, deepseek.FinishReason("brand_new"), resp.FinishReason())
}

func TestClientMakesSenseOfForeignAnswers(t *testing.T) {
	for _, c := range []struct {
		name, body string
		status     int
		want       error
	}{
		{"error object in a 200", `{"error":{"message":"Service is too busy","type":"service_unavailable_error"}}`, 200, deepseek.ErrServer},
		{"error", `{"error":{"message":"bad"}}`, 400, deepseek.ErrInvalidRequest},
		{"HTML", `<html>502</html>`, 200, deepseek.ErrServer},
		{"cut", `{"id":"x","choi`, 200, deepseek.ErrTruncated},
		{"blank lines", "\n\n\n", 200, deepseek.ErrTruncated},
		{"null", `null`, 200, deepseek.ErrServer},
		{"array", `[]`, 200, deepseek.ErrServer},
		{"string", `"x"`, 200, deepseek.ErrServer},
		{"number", ` 5 `, 200, deepseek.ErrServer},
		{"redirect", "", 302, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := newClient(t, canned(c.status, "application/octet-stream", c.body))
			_, err := client.Chat(t.Context(), ask(deepseek.User("x")))
			require.Error(t, err)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
		})
	}
	client, _ := newClient(t, canned(200, "text/plain", "\n\n "+`{"id":"x"}`))
	resp, err := client.Chat(t.Context(), ask(deepseek.User("x")))
	require.NoError(t, err)
	require.Equal(t, "", resp.Text()+resp.Reasoning()+string(resp.FinishReason()))
	require.Equal(t, deepseek.Message{}, resp.Message())
}

func TestNothingIsSentThatDeepSeekRejects(t *testing.T) {
	refuse := roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("was sent") })
	c, err := deepseek.New(deepseek.WithBaseURL(deepseek.DefaultBaseURL), deepseek.WithAPIKeys("sk-test"), deepseek.WithTransport(refuse), deepseek.WithoutRetry())
	require.NoError(t, err)
	req := ask(deepseek.User("x"))
	req.Model = "deepseek-chat"
	_, err = c.Chat(t.Context(), req)
	var bad *deepseek.RequestError
	require.ErrorAs(t, err, &bad)
	_, err = c.ChatStream(t.Context(), nil)
	require.ErrorAs(t, err, &bad)
	_, err = c.Complete(t.Context(), &deepseek.CompletionRequest{MaxTokens: 5000})
	require.ErrorAs(t, err, &bad)

	c, err = deepseek.New(deepseek.WithBaseURL(deepseek.DefaultBaseURL), deepseek.WithAPIKeys("sk-test"), deepseek.WithTransport(refuse), deepseek.WithoutRetry(), deepseek.WithoutValidation())
	require.NoError(t, err)
	_, err = c.Chat(t.Context(), req)
	require.ErrorContains(t, err, "was sent")
}

// Hosts are asked at addresses that they have, and DeepSeek's beta address is
// DeepSeek's.
func TestHostsAreAskedWhereTheyAnswer(t *testing.T) {
	strict := ask(deepseek.User("x"))
	strict.Model, strict.Tools = "DeepSeek-V4-Flash", []deepseek.Tool{deepseek.FunctionTool("f", "", nil)}
	strict.Tools[0].Function.Strict = true
	prefix := ask(deepseek.User("x"), deepseek.AssistantPrefix("y"))
	endpoint := func(name, base string, dialect deepseek.Dialect) deepseek.Endpoint {
		return deepseek.Endpoint{Name: name, BaseURL: base, Dialect: dialect, Accounts: []deepseek.Account{{Keys: []string{"sk-" + name}}}}
	}
	spare := endpoint("b", deepseek.DefaultBaseURL, "")
	spare.Priority = 1
	const refused = ""
	for _, c := range []struct {
		name                       string
		opts                       []deepseek.Option
		plain, strict, prefix, fim string // where requests go
	}{
		{"vLLM", []deepseek.Option{deepseek.WithAPIKeys("k"), deepseek.WithBaseURL("http://localhost:8000/v1")}, "http://localhost:8000/v1/chat/completions",
			"http://localhost:8000/beta/chat/completions", "http://localhost:8000/beta/chat/completions", "http://localhost:8000/beta/completions"},
		{"vLLM that is said to be no DeepSeek", []deepseek.Option{deepseek.WithEndpoints(endpoint("a", "http://localhost:8000/v1", deepseek.DialectOpenAI))},
			"http://localhost:8000/v1/chat/completions", "http://localhost:8000/v1/chat/completions", refused, refused},
		{"OpenRouter", []deepseek.Option{deepseek.WithAPIKeys("k"), deepseek.WithBaseURL("https://openrouter.ai/api/v1")},
			"https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions", refused, refused},
		{"OpenRouter, unchecked", []deepseek.Option{deepseek.WithAPIKeys("k"), deepseek.WithBaseURL("https://openrouter.ai/api/v1"), deepseek.WithoutValidation()},
			"https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1/completions"},
		{"OpenRouter, then DeepSeek", []deepseek.Option{deepseek.WithEndpoints(endpoint("a", "https://openrouter.ai/api/v1", ""), spare)},
			"https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions", "https://api.deepseek.com/beta/chat/completions", "https://api.deepseek.com/beta/completions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked string
			base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, req.Body)
				_ = req.Body.Close()
				asked = req.URL.String()
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
					Body: io.NopCloser(strings.NewReader(`{"id":"x","choices":[]}`))}, nil
			})
			opts := append([]deepseek.Option{deepseek.WithTransport(base), deepseek.WithoutRetry()}, c.opts...)
			client, err := deepseek.New(opts...)
			require.NoError(t, err)
			for _, call := range []struct {
				want, field string
				do          func() error
			}{
				{c.plain, "", func() error { _, err := client.Chat(t.Context(), ask(deepseek.User("x"))); return err }},
				{c.strict, "", func() error { _, err := client.Chat(t.Context(), strict); return err }},
				{c.prefix, "messages[1].prefix", func() error { _, err := client.Chat(t.Context(), prefix); return err }},
				{c.fim, "prompt", func() error {
					_, err := client.Complete(t.Context(), &deepseek.CompletionRequest{Prompt: "x"})
					return err
				}},
			} {
				asked = refused
				err := call.do()
				require.Equal(t, call.want, asked)
				if call.want != refused {
					require.NoError(t, err)
					continue
				}
				var bad *deepseek.RequestError
				require.ErrorAs(t, err, &bad)
				require.Equal(t, call.field, bad.Field)
			}
		})
	}
}

// What is no request, or cannot be written as JSON, is an error of every call,
// and no panic.
func TestNilAndUnwritableRequestsAreErrors(t *testing.T) {
	c, s := newClient(t)
	var bad *deepseek.RequestError
	_, err := c.Chat(t.Context(), nil)
	require.ErrorAs(t, err, &bad)
	_, err = c.ChatStream(t.Context(), nil)
	require.ErrorAs(t, err, &bad)
	_, err = c.Complete(t.Context(), nil)
	require.ErrorAs(t, err, &bad)
	_, err = c.CompleteStream(t.Context(), nil)
	require.ErrorAs(t, err, &bad)
	_, _, err = deepseek.ChatJSON[place](t.Context(), c, nil)
	require.ErrorAs(t, err, &bad)

	unwritable := func() {}
	for _, change := range []func(*deepseek.ChatRequest){
		func(r *deepseek.ChatRequest) { r.Extra = map[string]any{"f": unwritable} },
		func(r *deepseek.ChatRequest) { r.Tools = []deepseek.Tool{deepseek.FunctionTool("f", "", unwritable)} },
		func(r *deepseek.ChatRequest) { r.Messages[0].Extra = deepseek.Extra{"x": json.RawMessage("{")} },
	} {
		req := ask(deepseek.User("x"))
		change(req)
		_, err = c.Chat(t.Context(), req)
		require.Error(t, err)
		_, err = c.ChatStream(t.Context(), req)
		require.Error(t, err)
		_, err = json.Marshal(req)
		require.Error(t, err)
	}
	_, err = c.Complete(t.Context(), &deepseek.CompletionRequest{Extra: map[string]any{"f": unwritable}})
	require.Error(t, err)
	require.Empty(t, s.Requests())
}

func TestCancelledCallTellsTheContext(t *testing.T) {
	c, s := newClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Handle(func(*deepseektest.Request) *deepseektest.Reply {
		cancel()
		r := deepseektest.Hang()
		return &r
	})
	_, err := c.Chat(ctx, ask(deepseek.User("x")))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, deepseek.ErrTruncated)
}

func TestModelsAndBalance(t *testing.T) {
	c, _ := newClient(t)
	models, err := c.Models(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, models)
	m, err := c.Model(t.Context(), deepseek.ModelFlash)
	require.NoError(t, err)
	require.Equal(t, 1_048_576, m.ContextWindow)
	out, err := json.Marshal(m)
	require.NoError(t, err)
	require.Contains(t, string(out), `"effort"`, "unknown members survive")
	_, err = c.Model(t.Context(), "no/such")
	require.ErrorIs(t, err, deepseek.ErrInvalidRequest)
	m, err = c.Model(t.Context(), "")
	require.Nil(t, m)
	var bad *deepseek.RequestError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "id", bad.Field)

	b, err := c.Balance(t.Context())
	require.NoError(t, err)
	require.True(t, b.Available)
	require.NotEmpty(t, b.Infos[0].Total)
}

// An error that is among the attempts of a call does not tell of them itself: it
// would tell of itself without end.
func TestErrorOfAnInterruptedCallCanBePrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deepseektest.NewMemoryServer()
		base := srv.Transport()
		defer srv.Close()
		defer base.CloseIdleConnections()
		srv.Enqueue(deepseektest.Repeat(1000, deepseektest.ErrorObject200("not now"))...)
		client, err := deepseek.New(deepseek.WithTransport(base), deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-one"),
			deepseek.WithRetry(deepseek.Retry{MinInterval: time.Minute, MaxInterval: time.Minute, MaxAttempts: 50}), deepseek.WithoutBreaker())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Minute, cancel)
		_, err = client.Chat(ctx, &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("Hi")}})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, deepseek.ErrServer)
		var call *deepseek.CallError
		require.ErrorAs(t, err, &call)
		require.Greater(t, len(call.Attempts), 1)
		require.Less(t, len(err.Error()), 10_000)
	})
}
