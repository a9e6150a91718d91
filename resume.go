package deepseek

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// Resume says how an answer goes on that broke after a part of it had come.
//
// A chat completion that breaks, stalls, or is broken off by the server
// (insufficient_system_resource, aborted) is continued by chat prefix
// completion: the request is sent again to the same base's /beta address, with
// what has come so far as the beginning of the answer, and what then comes is
// appended. The caller sees one stream, or one answer, as if nothing had been:
// the text without loss or repetition; id, created, model and fingerprint of the
// first part. An answer of which no text has come yet begins anew.
//
// The usage is the sum over the parts, as they are billed: the prompt, mostly
// from the cache, once for each. A part that broke without usage counts as one token
// per piece of text, and as the next part's prompt tokens minus these, all as cache
// misses.
//
// A continuation is an attempt like any other: it costs the retry budget, waits
// first, counts against Retry.MaxAttempts, and ends with the context. It may
// break and be continued as well.
//
// Not continued is what could come out wrong: requests with n above 1, logprobs, tools
// (see Tools) or a response_format other than text; answers in which a tool call
// has begun; max_tokens when it is not known how much of it is left; a text that
// ends in the beginning of one of the request's stops; a continuation that
// begins the answer anew; and hosts other than DeepSeek's (see AnyHost). Nor are
// FIM, /responses and the Anthropic paths. Then the call ends as it does without
// this layer, in a [*TruncatedError], which tells why under Continuation.
//
// The zero value is the default.
//
// Source: https://api-docs.deepseek.com/guides/chat_prefix_completion
type Resume struct {
	// MaxContinuations is how often one answer may be continued; Retry.MaxAttempts
	// bounds it too. Default 9.
	MaxContinuations int
	// Length has answers continued that end with finish_reason "length" although
	// the request sets no max_tokens: those that are longer than DeepSeek's own
	// bound (8K tokens, 64K with thinking, 128K at EffortMax). With
	// [ChatRequest.MaxTokens] "length" stays an answer. Default false: it always is.
	Length bool
	// Tools has answers to requests with tools continued, as long as no tool call
	// has begun. DeepSeek does not say what becomes of tools then. Default false.
	Tools bool
	// AnyHost says that the base URL has DeepSeek's prefix completion although it
	// is not DeepSeek's: a proxy's, say. Default false: continued at deepseek.com
	// and on loopback only.
	AnyHost bool

	// MinStall is the least time without data that counts as a stall. While a stream
	// could be continued, one is noticed earlier than Timeouts.BetweenData says, once
	// 16 gaps in this stream's data or 8 earlier streams of the model have told the
	// pace; see StallFactor. One noticed that way takes from the budget of [Retry],
	// and doubles MinStall for the rest of the answer. Default 2 s; negative: no
	// stall is noticed earlier. Timeouts.Silence applies in any case.
	MinStall time.Duration
	// StallFactor is how many times the longest of the recent gaps, in this stream
	// and the model's earlier ones, count as a stall. At least 1. Default 8.
	StallFactor float64
}

func (r Resume) withDefaults() (Resume, error) {
	switch {
	case r.MaxContinuations < 0:
		return r, badConfig("Resume.MaxContinuations", r.MaxContinuations, "must not be negative")
	case r.StallFactor != 0 && !(r.StallFactor >= 1 && r.StallFactor <= 1e6):
		return r, badConfig("Resume.StallFactor", r.StallFactor, "must be between 1 and 1e6")
	}
	if r.MaxContinuations == 0 {
		r.MaxContinuations = 9
	}
	if r.MinStall == 0 {
		r.MinStall = 2 * time.Second
	}
	if r.StallFactor == 0 {
		r.StallFactor = 8
	}
	return r, nil
}

// NewResume returns the layer that continues answers that broke. It belongs
// above the layers that make attempts. By itself, under no layer of [NewRetry],
// it waits as the zero [Retry] does. Answers that are no streams are looked at
// only if a layer of [NewGuard] is below. All that is below must have DeepSeek's
// prefix completion; Resume.AnyHost is ignored here.
func NewResume(r Resume) (Middleware, error) {
	rs, err := newResumer(r)
	if err != nil {
		return nil, err
	}
	return layer(rs.do), nil
}

func newResumer(r Resume) (*resumer, error) {
	r, err := r.withDefaults()
	if err != nil {
		return nil, err
	}
	retry, err := newRetrier(Retry{})
	return &resumer{policy: r, retry: retry, counts: new(resumeCounts)}, err
}

type resumer struct {
	policy Resume
	retry  *retrier // for calls that have none

	counts *resumeCounts

	habits byModel[*habit]
}

// resumeCounts are of a transport and its successors.
type resumeCounts struct {
	resumed atomic.Int64 // answers that were continued
	sent    atomic.Int64 // attempts after the first response
}

// ending is why a finish_reason is not the end of an answer; nil if it is.
func (r *resumer) ending(finish []byte) (verdict, error) {
	switch {
	case isFinishReasonFault(finish):
		reason, _ := jsonscan.String(finish)
		return verdict{outcome: fault}, &TruncatedError{Reason: "finish_reason " + reason}
	case r.policy.Length && jsonscan.Equal(finish, string(FinishLength)):
		return verdict{outcome: answered}, errLength
	}
	return verdict{}, nil
}

func (r *resumer) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if c.body.get == nil || req.Method != http.MethodPost || !isChatPath(req.URL.Path) || req.Header.Get("Content-Encoding") != "" {
		return c.pass(next, req)
	}
	if !c.stream {
		return r.whole(next, c, req)
	}
	s := &resumedStream{continuation: r.continuation(next, c, req, c.model)}
	if r.policy.MinStall > 0 {
		s.tempo.begin(&r.policy, r.habits.get(c.model, func(string) *habit { return new(habit) }))
		c.tempo = &s.tempo
	}
	resp, err := c.pass(next, req)
	if err == nil && resp.StatusCode == http.StatusOK {
		s.begin(resp)
	}
	return resp, err
}

func (r *resumer) continuation(next http.RoundTripper, c *call, req *http.Request, asked string) continuation {
	return continuation{by: r, next: next, call: c, req: req, get: c.body.get, length: req.ContentLength, model: asked}
}
