package deepseek

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

	"github.com/seawall-go/deepseek/internal/racedetector"
)

// whole is an answer that is no stream.
func whole(id, content, reasoning, finish, more string) step {
	return jsonReply(`{"id":"` + id + `","object":"chat.completion","created":1,"model":"deepseek-flash","choices":[{"index":0,"message":{"role":"assistant","content":` +
		content + `,"reasoning_content":` + reasoning + more + `},"logprobs":null,"finish_reason":"` + finish +
		`"}],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":2,"new":[1]},"system_fingerprint":"` + id + `"}`)
}

func TestHalfAnswerIsMadeWhole(t *testing.T) {
	const lack = "insufficient_system_resource"
	tools := `,"tools":[{"type":"function"}]`
	for _, c := range []struct {
		name    string
		call    resumeCall
		steps   []step
		content string
		reasons string
		finish  string
		usage   [2]int // prompt and completion
		bodies  []string
		tools   string
	}{
		{name: "broken off", steps: []step{whole("a", `"He"`, `"Hm"`, lack, ""), whole("b", `"llo\n"`, `""`, "stop", "")},
			content: "Hello\n", reasons: "Hm", finish: "stop", usage: [2]int{20, 8}, bodies: []string{`"content":"He","reasoning_content":"Hm","prefix":true}`}},
		{name: "in its thoughts, twice", steps: []step{whole("a", `""`, `"H"`, "aborted", ""), whole("b", `null`, `"m"`, lack, ""), whole("c", `"x"`, `"!"`, "stop", "")},
			content: "x", reasons: "Hm!", finish: "stop", usage: [2]int{30, 12}, bodies: []string{`"content":"","reasoning_content":"H"`, `"content":"","reasoning_content":"Hm"`}},
		{name: "without text", steps: []step{whole("a", `""`, `""`, lack, ""), whole("b", `"x"`, `"y"`, "stop", "")},
			content: "x", reasons: "y", finish: "stop", usage: [2]int{10, 4}, bodies: []string{`"Hi"}]}`}},
		{name: "max_tokens", call: resumeCall{members: `,"max_tokens":10`}, steps: []step{whole("a", `"He"`, `""`, lack, ""), whole("b", `"llo"`, `""`, "length", "")},
			content: "Hello", finish: "length", usage: [2]int{20, 8}, bodies: []string{`"max_tokens":6`}},
		{name: "length is an answer", steps: []step{whole("a", `"He"`, `""`, "length", "")}, content: "He", finish: "length", usage: [2]int{10, 4}},
		{name: "length asked for", call: resumeCall{policy: Resume{Length: true}},
			steps:   []step{whole("a", `"He"`, `""`, "length", ""), whole("b", `"ll"`, `""`, "length", ""), whole("c", `"o"`, `""`, "stop", "")},
			content: "Hello", finish: "stop", usage: [2]int{30, 12}, bodies: []string{`"He"`, `"Hell"`}},
		{name: "length of the caller's own", call: resumeCall{policy: Resume{Length: true}, members: `,"max_tokens":4`},
			steps: []step{whole("a", `"He"`, `""`, "length", "")}, content: "He", finish: "length", usage: [2]int{10, 4}},
		{name: "length, and then 400", call: resumeCall{policy: Resume{Length: true}}, steps: []step{whole("a", `"He"`, `""`, "length", ""), status(400)},
			content: "He", finish: "length", usage: [2]int{10, 4}, bodies: []string{`"He"`}},
		{name: "length, more, and then 400", call: resumeCall{policy: Resume{Length: true}},
			steps:   []step{whole("a", `"He"`, `""`, "length", ""), whole("b", `"ll"`, `""`, "length", ""), status(400)},
			content: "Hell", finish: "length", usage: [2]int{20, 8}, bodies: []string{`"He"`, `"Hell"`}},
		{name: "cannot be continued: once more", call: resumeCall{members: tools}, steps: []step{whole("a", `"He"`, `""`, lack, ""), whole("b", `"Hello"`, `""`, "stop", "")},
			content: "Hello", finish: "stop", usage: [2]int{10, 4}, bodies: []string{`"tools"`}},
		{name: "400: once more", steps: []step{whole("a", `"He"`, `""`, lack, ""), status(400), whole("b", `"Hello"`, `""`, "stop", "")},
			content: "Hello", finish: "stop", usage: [2]int{10, 4}, bodies: []string{`"prefix":true`, `"Hi"}]}`}},
		{name: "begins anew: once more", steps: []step{whole("a", `"Hello, you"`, `""`, lack, ""), whole("b", `"Hello, you there"`, `""`, "stop", ""), whole("c", `"Hi"`, `""`, "stop", "")},
			content: "Hi", finish: "stop", usage: [2]int{10, 4}, bodies: []string{`"prefix":true`, `"Hi"}]}`}},
		{name: "tool calls at its end", call: resumeCall{policy: Resume{Tools: true}, members: tools},
			steps:   []step{whole("a", `"He"`, `""`, lack, ""), whole("b", `null`, `null`, "tool_calls", `,"tool_calls":[{"id":"c"}]`)},
			content: "He", finish: "tool_calls", usage: [2]int{20, 8}, bodies: []string{`"reasoning_content":""`}, tools: `[{"id":"c"}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.call.plain = true
				var end CallEndEvent
				c.call.opts = append(c.call.opts, WithObserver(Observer{CallEnd: func(e CallEndEvent) { end = e }}))
				base := scripted(c.steps...)
				text, tr, err := c.call.do(t, base)
				require.NoError(t, err)
				var got ChatResponse
				require.NoError(t, json.Unmarshal([]byte(text), &got))
				require.Equal(t, c.content, got.Text())
				require.Equal(t, c.reasons, got.Reasoning())
				require.EqualValues(t, c.finish, got.FinishReason())
				require.Equal(t, c.usage[0], got.Usage.PromptTokens)
				require.Equal(t, c.usage[1], got.Usage.CompletionTokens)
				require.Equal(t, c.usage[0]+c.usage[1], got.Usage.TotalTokens)
				require.Equal(t, c.usage[0], got.Usage.PromptCacheHitTokens+got.Usage.PromptCacheMissTokens)
				require.JSONEq(t, "[1]", string(got.Usage.Extra["new"]))
				require.Equal(t, got.ID, got.SystemFingerprint, "all of one part")
				require.Equal(t, c.usage[1], end.Usage.CompletionTokens)
				if c.tools != "" {
					require.Len(t, got.ToolCalls(), 1)
				}
				sent := base.sent()
				require.Len(t, sent, 1+len(c.bodies))
				for i, want := range c.bodies {
					require.Contains(t, sent[i+1].body, want)
					require.Equal(t, strings.Contains(sent[i+1].body, `"prefix":true`), sent[i+1].req.URL.Path == "/beta/chat/completions")
				}
				require.EqualValues(t, len(sent), tr.Stats().Attempts)
				require.Len(t, end.Attempts, len(sent))
				base.allClosed(t)
			})
		})
	}
}

// Where nothing helps the caller gets what there is, as without this layer.
func TestHalfAnswerThatStaysHalf(t *testing.T) {
	half := whole("a", `"He"`, `""`, "aborted", "")
	for name, c := range map[string]struct {
		retry   Retry
		steps   []step
		content string
		sent    int
	}{
		"attempts used up": {Retry{MaxAttempts: 3}, []step{half, whole("b", `"ll"`, `""`, "aborted", "")}, "Hellll", 3},
		"only one":         {Retry{MaxAttempts: 1}, []step{half}, "He", 1},
		"then an outage":   {Retry{MaxAttempts: 4}, []step{half, status(503)}, "He", 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(c.steps...)
				text, _, err := resumeCall{plain: true, opts: []Option{WithRetry(c.retry)}}.do(t, base)
				require.NoError(t, err)
				var got ChatResponse
				require.NoError(t, json.Unmarshal([]byte(text), &got))
				require.Equal(t, c.content, got.Text())
				require.Equal(t, FinishAborted, got.FinishReason())
				require.Len(t, base.sent(), c.sent)
			})
		})
	}
}

func TestGivingUpOnAHalfAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		base := scripted(whole("a", `"He"`, `""`, "aborted", ""), hangs)
		_, err := transportOver(t, base, WithStreamResume()).RoundTrip(resumeCall{plain: true, ctx: ctx}.request())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrTruncated)
		var call *CallError
		require.ErrorAs(t, err, &call)
		require.Len(t, call.Attempts, 2)
		base.allClosed(t)
	})
}

// A whole answer is not read a second time.
func TestWholeAnswerCostsNothing(t *testing.T) {
	m, err := NewResume(Resume{})
	require.NoError(t, err)
	measure := func(layers ...Middleware) float64 {
		rt := Chain(append(layers, NewGuard(Timeouts{}, false))...)(&noopBase{body: []byte(wholeAnswer)})
		return testing.AllocsPerRun(200, func() {
			resp, err := send(context.Background(), rt)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
	}
	outer := layer(func(next http.RoundTripper, _ *call, req *http.Request) (*http.Response, error) {
		return next.RoundTrip(req)
	})
	without, with := measure(outer), measure(outer, m)
	if !racedetector.On { // which allocates at random
		require.Equal(t, without, with)
	}
}

func FuzzAnswerObject(f *testing.F) {
	f.Add([]byte(wholeAnswer), []byte(wholeAnswer))
	f.Add([]byte(`{"choices":[{"message":{},"finish_reason":"aborted"}]}`), []byte(`{"choices":[{"message":{"content":"x","tool_calls":[{}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		first, ok := readAnswerObject(one)
		if !ok || !json.Valid(one) || !json.Valid(two) {
			return
		}
		last, ok := readAnswerObject(two)
		if !ok {
			return
		}
		r, err := newResumer(Resume{})
		require.NoError(t, err)
		k := r.continuation(nil, &call{Context: context.Background()}, chatRequest(context.Background(), false), "")
		k.add(first)
		k.parts, k.now = append(k.parts, k.now), part{}
		k.add(last)
		resp := k.stitch(&http.Response{Header: http.Header{}}, first, last)
		data, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, json.Valid(data), "%s", data)
	})
}
