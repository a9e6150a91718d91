package deepseek

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Parts of streams that break.
const (
	chunkThought = `data: {"id":"u","choices":[{"index":0,"delta":{"content":null,"reasoning_content":"Hm, "},"finish_reason":null}]}` + "\n\n"
	chunkWorld   = `data: {"id":"v","created":7,"choices":[{"index":0,"delta":{"content":" world"},"finish_reason":null}]}` + "\n\n"
	chunkTool    = `data: {"id":"u","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}` + "\n\n"
	chunkLack    = `data: {"id":"u","choices":[{"index":0,"delta":{"content":""},"finish_reason":"insufficient_system_resource"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}` + "\n\n"
	chunkLength  = `data: {"id":"u","choices":[{"index":0,"delta":{"content":""},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}` + "\n\n"
	opening      = chunkRole + chunkHello
)

// resumeCall is a call of a transport that continues answers.
type resumeCall struct {
	host    string // default DeepSeek's
	path    string // default /chat/completions
	members string // of the request, beyond model, stream and messages
	plain   bool   // no stream
	policy  Resume
	opts    []Option
	ctx     context.Context
}

func (rc resumeCall) request() *http.Request {
	members := rc.members
	if !strings.Contains(members, `"messages"`) {
		members += `,"messages":[{"role":"user","content":"Hi"}]`
	}
	stream := `"stream":true`
	if rc.plain {
		stream = `"stream":false`
	}
	ctx := rc.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	url := cmp.Or(rc.host, DefaultBaseURL) + cmp.Or(rc.path, "/chat/completions")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"model":"deepseek-flash",`+stream+members+`}`))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

// do makes the call and reads its response.
func (rc resumeCall) do(t *testing.T, base http.RoundTripper) (string, *Transport, error) {
	t.Helper()
	resp, tr := rc.open(t, base)
	text, err := readBody(resp)
	return text, tr, err
}

// open makes the call, whose response must be good.
func (rc resumeCall) open(t *testing.T, base http.RoundTripper) (*http.Response, *Transport) {
	t.Helper()
	opts := append([]Option{WithResume(rc.policy), WithBaseURL(cmp.Or(rc.host, DefaultBaseURL))}, rc.opts...)
	tr := transportOver(t, base, opts...)
	resp, err := tr.RoundTrip(rc.request())
	require.NoError(t, err)
	return resp, tr
}

func TestNotContinued(t *testing.T) {
	again := streamReply(chunkWorld, chunkStop, eventDone) // what would come, were it asked for
	prefixed := `,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Well","prefix":true}]`
	for _, c := range []struct {
		name  string
		call  resumeCall
		parts []any  // default: one that ends early
		then  step   // default: again
		why   string // empty: it is not even looked at
		sent  int    // default 1
	}{
		{name: "tools", call: resumeCall{members: `,"tools":[{"type":"function","function":{"name":"f"}}]`}, why: "offers tools"},
		{name: "tool call", parts: []any{opening, chunkTool}, why: "a tool call has begun"},
		{name: "tool call though tools may be", call: resumeCall{members: `,"tools":[{"type":"function"}]`, policy: Resume{Tools: true}},
			parts: []any{opening, chunkTool, chunkHello, errReset}, why: "a tool call has begun"},
		{name: "in the arguments of a tool call", parts: []any{opening, chunkTool, chunkTool[:80], errReset}, why: "a tool call has begun"},
		{name: "n", call: resumeCall{members: `,"n":2`}, why: "more than one answer was asked for"},
		{name: "two answers", parts: []any{opening, strings.Replace(chunkHello, `"index":0`, `"index":1`, 1)}, why: "more than one answer"},
		{name: "logprobs", call: resumeCall{members: `,"logprobs":true`}, why: "logprobs"},
		{name: "logprobs that nobody asked for", parts: []any{opening, strings.Replace(chunkHello, `"finish`, `"logprobs":{"content":[{}]},"finish`, 1)}, why: "more than text"},
		{name: "JSON mode", call: resumeCall{members: `,"response_format":{"type":"json_object"}`}, why: "response_format"},
		{name: "JSON schema", call: resumeCall{members: `,"response_format":{"type":"json_schema"}`}, why: "response_format"},
		{name: "no chunk", parts: []any{opening, "data: oops\n\n"}, why: "no chunk of a chat completion"},
		{name: "a refusal of the model's", parts: []any{opening, strings.Replace(chunkHello, `"content"`, `"refusal"`, 1)}, why: "more than text"},
		{name: "another host", call: resumeCall{host: "https://host.example/v1"}, why: "no prefix completion"},
		{name: "max_tokens is used up", call: resumeCall{members: `,"max_tokens":1`}, why: "nothing is left of the 1 tokens"},
		{name: "max_tokens, and tokens that cannot be counted", call: resumeCall{members: `,"max_tokens":100`},
			parts: []any{strings.Replace(opening, "Hello", "Hello, how are you today?", 1)}, why: "cannot be known"},
		{name: "half of a stop", call: resumeCall{members: `,"stop":["x","lo!"]`}, why: "beginning of a stop"},
		{name: "thinking about a prefix", call: resumeCall{members: prefixed}, parts: []any{chunkRole, chunkThought}, why: "still thinking"},
		{name: "the request is at fault", parts: []any{opening, `data: {"error":{"message":"bad","type":"invalid_request_error"}}` + "\n\n"}},
		{name: "too long an event", parts: []any{opening, "data: " + strings.Repeat("x", maxEvent+1)}},
		{name: "attempts used up", call: resumeCall{opts: []Option{WithRetry(Retry{MaxAttempts: 1})}}, why: "no attempt left"},
		{name: "continued often enough", call: resumeCall{policy: Resume{MaxContinuations: 1}}, then: streamReply(chunkWorld), why: "it was continued 1 times", sent: 2},
		{name: "400", then: status(400), why: "400 Bad Request (t): status of the script", sent: 2},
		{name: "404", then: status(404), why: "404 Not Found", sent: 2},
		{name: "503s", call: resumeCall{opts: []Option{WithRetry(Retry{MaxAttempts: 3})}}, then: status(503), why: "503 Service Unavailable", sent: 3},
		{name: "no connection", call: resumeCall{opts: []Option{WithRetry(Retry{MaxAttempts: 3})}}, then: fails(errReset), why: "connection reset", sent: 3},
		{name: "an answer that is no stream", then: jsonReply(wholeAnswer), why: "is no stream", sent: 2},
		{name: "begins anew", parts: []any{chunkRole, strings.Replace(chunkHello, "Hello", "Hello! How are you?", 1)},
			then: streamReply(chunkRole, strings.Replace(chunkHello, "Hello", "Hello! ", 1), strings.Replace(chunkHello, "Hello", "How are you? I am", 1), chunkStop, eventDone),
			why:  "began the answer anew", sent: 2},
		{name: "thinks anew", then: streamReply(chunkRole, chunkThought, chunkWorld, chunkStop, eventDone), why: "began the answer anew", sent: 2},
		{name: "/responses", call: resumeCall{path: "/responses"}},
		{name: "FIM", call: resumeCall{path: "/beta/completions"}},
		{name: "Anthropic", call: resumeCall{path: "/anthropic/v1/messages"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.parts == nil {
					c.parts = []any{opening}
				}
				if c.then == nil {
					c.then = again
				}
				base := scripted(streamReply(c.parts...), c.then)
				var event ResumeEvent
				c.call.opts = append(c.call.opts, WithObserver(Observer{Resume: func(e ResumeEvent) { event = e }}))
				text, tr, err := c.call.do(t, base)
				require.Contains(t, text, "data: ")
				require.NotContains(t, text, "[DONE]")
				require.NotContains(t, text, "How are you? I am")
				checkNotContinued(t, err, c.why)
				require.Len(t, base.sent(), max(c.sent, 1))
				if c.why != "" {
					require.ErrorContains(t, event.Refused, c.why)
					require.Zero(t, event.Attempt)
					require.Positive(t, event.Kept)
				} else {
					require.Zero(t, event)
				}
				require.EqualValues(t, max(c.sent, 1), tr.Stats().Attempts)
				require.Zero(t, tr.Stats().Accounts[0].Models[0].InFlight)
				base.allClosed(t)
			})
		})
	}
}

func checkNotContinued(t *testing.T, err error, why string) {
	t.Helper()
	require.Error(t, err)
	require.False(t, isContextError(err))
	var cut *TruncatedError
	if why == "" {
		if errors.As(err, &cut) {
			require.NoError(t, cut.Continuation)
		}
		return
	}
	require.ErrorAs(t, err, &cut)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, cut.Continuation, why)
	require.ErrorContains(t, err, "(not continued: ")
	require.ErrorContains(t, err, why)
}

// A continuation goes to the same base, keeps the request as it is, and joins
// what comes to what had come.
func TestContinuationRequestAndSeam(t *testing.T) {
	for _, path := range []string{"/chat/completions", "/v1/chat/completions", "/beta/chat/completions"} {
		synctest.Test(t, func(t *testing.T) {
			base := scripted(streamReply(chunkRole, chunkThought, chunkHello, errReset),
				streamReply(`data: {"id":"v","created":7,"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":""},"finish_reason":null}]}`+"\n\n",
					chunkWorld, strings.Replace(chunkStop, `"id":"u"`, `"id":"v"`, 1), eventDone))
			text, tr, err := resumeCall{path: path, members: `,"temperature" : 0.70,"max_tokens":20, "messages":[ {"role":"user","content":"H\u0069"} ],"x":[1]`}.do(t, base)
			require.NoError(t, err)
			require.Equal(t, chunkRole+chunkThought+chunkHello+strings.Replace(chunkWorld, `"id":"v"`, `"id":"u"`, 1)+
				`data: {"id":"u","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":4,"completion_tokens":4,"total_tokens":8,`+
				`"completion_tokens_details":{"reasoning_tokens":1},"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":4}}`+"\n\n"+eventDone, text)
			sent := base.sent()
			require.Len(t, sent, 2)
			require.Equal(t, "/beta/chat/completions", sent[1].req.URL.Path)
			require.Equal(t, sent[0].header, sent[1].header)
			require.Equal(t, `{"model":"deepseek-flash","stream":true,"temperature" : 0.70,"max_tokens":18, "messages":[ {"role":"user","content":"H\u0069"} `+
				`,{"role":"assistant","content":"Hello","reasoning_content":"Hm, ","prefix":true}],"x":[1]}`, sent[1].body)
			require.EqualValues(t, len(sent[1].body), sent[1].req.ContentLength)
			require.EqualValues(t, 1, tr.Stats().Resumed)
			require.EqualValues(t, 2, tr.Stats().Attempts)
			require.EqualValues(t, 1, tr.Stats().Calls)
		})
	}
}

// An answer of which no text has come begins anew, whatever it was that was
// asked for, and wherever.
func TestStreamWithoutTextBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, members := range []string{``, `,"n":2`, `,"response_format":{"type":"json_object"}`, `,"tools":[{}]`, `,"max_tokens":1`} {
			base := scripted(streamReply(chunkRole, errReset), streamReply(chunkRole), streamReply(wholeStream))
			text, _, err := resumeCall{members: members}.do(t, base)
			require.NoError(t, err)
			require.Equal(t, wholeStream, text)
			sent := base.sent()
			require.Len(t, sent, 3)
			for _, a := range sent {
				require.Equal(t, "/chat/completions", a.req.URL.Path)
				require.Equal(t, sent[0].body, a.body)
			}
		}
	})
}

// A continuation may break, and what fails on its way is retried.
func TestContinuationIsContinuedAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(opening, errReset), status(503), streamReply(chunkRole, chunkWorld, chunkLack), fails(errReset), status(429),
			streamReply(chunkRole, chunkHello, chunkStop, eventDone))
		var events []ResumeEvent
		var ends []CallEndEvent
		text, tr, err := resumeCall{opts: []Option{WithObserver(Observer{
			Resume: func(e ResumeEvent) { events = append(events, e) }, CallEnd: func(e CallEndEvent) { ends = append(ends, e) },
		})}}.do(t, base)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(text, `"role"`))
		require.Equal(t, 1, strings.Count(text, `"finish_reason":"`))
		require.Equal(t, 1, strings.Count(text, `"usage"`))
		require.NotContains(t, text, `"id":"v"`)
		require.Contains(t, base.sent()[5].body, `"content":"Hello world","prefix":true`)

		require.Len(t, events, 2)
		require.ErrorIs(t, events[0].Cause, errReset)
		require.Equal(t, 5, events[0].Kept)
		require.Equal(t, 2, events[0].Attempt)
		require.ErrorContains(t, events[1].Cause, "insufficient_system_resource")
		require.Equal(t, 11, events[1].Kept)
		require.Equal(t, 4, events[1].Attempt)
		require.NoError(t, events[1].Refused)

		require.Len(t, ends, 1)
		end := ends[0]
		require.NoError(t, end.Err)
		require.False(t, end.Cancelled)
		require.Len(t, end.Attempts, 6)
		trail := end.Attempts.String()
		require.Contains(t, trail, "200 in 0.00s, then answer truncated: stream broke off: "+errReset.Error())
		require.Contains(t, trail, "200 in 0.00s, continuing, then answer truncated: finish_reason insufficient_system_resource")
		require.True(t, strings.HasSuffix(trail, "200 in 0.00s, continuing"), trail)
		// Told: 3+1 by the second part, 3+2 by the third; the first brought a token
		// for a prompt one shorter than the second's.
		require.Equal(t, Usage{PromptTokens: 2 + 3 + 3, CompletionTokens: 1 + 1 + 2, TotalTokens: 3 + 4 + 5, PromptCacheMissTokens: 2 + 3 + 3}, *end.Usage)
		require.Contains(t, text, `"usage":{"prompt_tokens":8,"completion_tokens":4,"total_tokens":12`)
		require.EqualValues(t, 1, tr.Stats().Resumed)
		require.Equal(t, 100.0, tr.Stats().RetryBudget, "all is paid back")
		base.allClosed(t)
	})
}

// What the caller asked for as its own prefix is lengthened.
func TestCallersPrefixIsLengthened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(opening), streamReply(chunkWorld, chunkStop, eventDone))
		_, _, err := resumeCall{path: "/beta/chat/completions",
			members: `,"messages":[{"role":"assistant","content":"Well. ","prefix":true}]`}.do(t, base)
		require.NoError(t, err)
		require.Contains(t, base.sent()[1].body, `"messages":[{"role":"assistant","content":"Well. Hello","prefix":true}]`)
	})
}

// An error of the server's in the midst of a stream is a fault of the server's.
func TestStreamGoesOnAfterAnErrorInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := `data: {"error":{"message":"busy","type":"service_unavailable_error"}}` + "\n\n"
		base := scripted(streamReply(opening, busy), streamReply(chunkWorld, chunkStop, eventDone))
		text, _, err := resumeCall{}.do(t, base)
		require.NoError(t, err)
		require.NotContains(t, text, "busy")
		require.Contains(t, text, " world")

		base = scripted(streamReply(opening, busy), status(400))
		text, _, err = resumeCall{}.do(t, base)
		require.Equal(t, opening+busy, text)
		require.ErrorIs(t, err, ErrServer)
		require.ErrorIs(t, err, ErrTruncated)
		require.NotErrorIs(t, err, ErrInvalidRequest)
		require.ErrorContains(t, err, "not continued: 400")
	})
}

func TestLengthIsContinuedWhereAskedFor(t *testing.T) {
	separate := strings.Replace(chunkLength, `,"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}`, "", 1)
	for name, end := range map[string]string{"usage with the finish": chunkLength + eventDone, "usage after it": separate + chunkUsage + eventDone, "no end": chunkLength} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps := []step{streamReply(opening, end), streamReply(chunkRole, chunkWorld, chunkStop, eventDone)}
				base := scripted(steps...)
				text, _, err := resumeCall{}.do(t, base)
				require.NoError(t, err)
				require.Equal(t, opening+end, text, "by default it is an answer")

				base = scripted(steps...)
				start := time.Now()
				text, tr, err := resumeCall{policy: Resume{Length: true}}.do(t, base)
				require.NoError(t, err)
				require.NotContains(t, text, "length")
				require.Equal(t, 1, strings.Count(text, `"usage"`))
				require.Contains(t, text, `"finish_reason":"stop"}],"usage":{"prompt_tokens":6`)
				require.Equal(t, 1, strings.Count(text, eventDone))
				require.Contains(t, text, " world")
				require.Zero(t, time.Since(start), "nobody is at fault: no wait")
				require.Equal(t, 100.0, tr.Stats().RetryBudget)

				base = scripted(steps...)
				text, _, err = resumeCall{policy: Resume{Length: true}, members: `,"max_tokens":1`}.do(t, base)
				require.NoError(t, err)
				require.Equal(t, opening+end, text, "it was the caller's own bound")
				require.Len(t, base.sent(), 1)

				base = scripted(steps[0], status(400))
				text, _, err = resumeCall{policy: Resume{Length: true}}.do(t, base)
				require.NoError(t, err)
				require.Equal(t, opening+end, text, "it could not be continued")
			})
		})
	}
}

// The text that comes with the finish_reason is not lost.
func TestTextWithTheFinishReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, reason := range []string{"aborted", "length"} {
			last := strings.Replace(chunkHello, `"finish_reason":null`, `"finish_reason":"`+reason+`"`, 1)
			base := scripted(streamReply(opening, last, eventDone), streamReply(chunkWorld, chunkStop, eventDone))
			text, _, err := resumeCall{policy: Resume{Length: true}}.do(t, base)
			require.NoError(t, err)
			require.Equal(t, opening+chunkHello+strings.Replace(chunkWorld, `"id":"v"`, `"id":"u"`, 1), text[:strings.LastIndex(text, " world")+len(` world"},"finish_reason":null}]}`+"\n\n")])
			require.Contains(t, base.sent()[1].body, `"content":"HelloHello"`)
		}
	})
}

// What a continuation says is kept back until it is sure that it does not begin
// anew; nothing is lost, whatever comes of that.
func TestContinuationThatBeginsAlike(t *testing.T) {
	first := strings.Replace(chunkHello, "Hello", "Hello, hello, you there.", 1)
	alike := strings.Replace(chunkHello, "Hello", "Hello, ", 1)
	for name, c := range map[string]struct {
		steps []step
		text  string
	}{
		"goes on": {[]step{streamReply(alike, chunkWorld, chunkStop, eventDone)}, "Hello, hello, you there.Hello,  world"},
		"ends":    {[]step{streamReply(alike, chunkStop, eventDone)}, "Hello, hello, you there.Hello, "},
		"says nothing meanwhile": {[]step{streamReply(alike, chunkRole[:6]+strings.Replace(chunkRole[6:], `"role":"assistant",`, "", 1), chunkWorld, chunkStop, eventDone)},
			"Hello, hello, you there.Hello,  world"},
		"is too long, and is not longer": {[]step{streamReply(alike, chunkLength, eventDone), status(400)}, "Hello, hello, you there.Hello, "},
		"is too long":                    {[]step{streamReply(alike, chunkLength, eventDone), streamReply(chunkWorld, chunkStop, eventDone)}, "Hello, hello, you there. world"},
		"breaks": {[]step{streamReply(alike, errReset), streamReply(chunkWorld, chunkStop, eventDone)},
			"Hello, hello, you there. world"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(append([]step{streamReply(chunkRole, first)}, c.steps...)...)
				text, _, err := resumeCall{policy: Resume{Length: true}}.do(t, base)
				require.NoError(t, err)
				require.Equal(t, 1, strings.Count(text, `"finish_reason":"`))
				require.True(t, strings.HasSuffix(text, eventDone))
				got := ""
				for _, event := range strings.SplitAfter(text, "\n\n") {
					if _, rest, ok := strings.Cut(event, `"content":"`); ok {
						got += rest[:strings.IndexByte(rest, '"')]
					}
				}
				require.Equal(t, c.text, got)
			})
		})
	}
}

// A host that is said to have prefix completion is asked for it.
func TestAnyHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(opening), streamReply(chunkWorld, chunkStop, eventDone))
		text, _, err := resumeCall{host: "https://proxy.example/deepseek/v1", policy: Resume{AnyHost: true}}.do(t, base)
		require.NoError(t, err)
		require.Contains(t, text, " world")
		require.Equal(t, "https://proxy.example/deepseek/beta/chat/completions", base.sent()[1].req.URL.String())
	})
}

func TestResumeConfiguration(t *testing.T) {
	for field, r := range map[string]Resume{
		"Resume.MaxContinuations": {MaxContinuations: -1}, "Resume.StallFactor": {StallFactor: 0.5},
	} {
		_, err := NewTransport(WithAPIKeys(secretKey), WithResume(r))
		var bad *ConfigError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, field, bad.Field)
		_, err = NewResume(r)
		require.ErrorAs(t, err, &bad)
	}
	r, err := Resume{}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, Resume{MaxContinuations: 9, MinStall: 2 * time.Second, StallFactor: 8}, r)
}

// A body that cannot be sent again, or is no JSON, is not looked at.
func TestRequestThatCannotBeSentAgain(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"too long": func(req *http.Request) { req.GetBody, req.ContentLength = nil, maxReplayBody+1 },
		"encoded":  func(req *http.Request) { req.Header.Set("Content-Encoding", "gzip") },
		"no JSON":  func(req *http.Request) { req.Header.Set("Content-Type", "text/plain") },
	} {
		t.Run(name, func(t *testing.T) {
			base := scripted(streamReply(opening), streamReply(chunkWorld, chunkStop, eventDone))
			req := resumeCall{}.request()
			change(req)
			resp, err := transportOver(t, base, WithStreamResume()).RoundTrip(req)
			require.NoError(t, err)
			_, err = readBody(resp)
			checkNotContinued(t, err, "")
			require.Len(t, base.sent(), 1)
		})
	}
}

// Without any other layer below.
func TestResumeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, end := range [][]any{{opening}, {opening, errReset}, {opening, chunkHello[:40]}, {opening, chunkLack}, {opening, `data: {"error":{"message":"busy"}}` + "\n\n"}} {
			m, err := NewResume(Resume{})
			require.NoError(t, err)
			base := scripted(streamReply(end...), streamReply(chunkWorld, chunkStop, eventDone))
			resp, err := sendStream(t.Context(), m(base))
			require.NoError(t, err)
			text, err := readBody(resp)
			require.NoError(t, err)
			require.Contains(t, text, " world")
			require.Contains(t, base.sent()[1].body, `"content":"Hello","prefix":true`)
			base.allClosed(t)
		}
	})
}
