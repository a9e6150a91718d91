package deepseektest

import "strconv"

// chatEncoder writes chat completions.
type chatEncoder struct {
	t    *turn
	head string // up to the members of delta
	tail string // after delta
}

func newChatEncoder(t *turn) *chatEncoder {
	e := &chatEncoder{t: t}
	e.head = `data: {"id":"` + t.id + `","object":"chat.completion.chunk","created":` + strconv.FormatInt(t.created, 10) +
		`,"model":"` + t.ask.model.ID + `","system_fingerprint":"` + t.print + `","choices":[{"index":0,"delta":{`
	e.tail = `,"finish_reason":null}]`
	if t.ask.includeUsage {
		e.tail += `,"usage":null`
	}
	e.tail += "}\n\n"
	return e
}

func (e *chatEncoder) open(b []byte, _ *Usage) []byte {
	b = append(b, e.head...)
	if e.t.ask.thinking {
		b = append(b, `"role":"assistant","content":null,"reasoning_content":""`...)
	} else {
		b = append(b, `"role":"assistant","content":""`...)
	}
	b = append(b, `},"logprobs":null`...)
	return append(b, e.tail...)
}

func (e *chatEncoder) piece(b []byte, p *piece) []byte {
	b = append(b, e.head...)
	switch p.kind {
	case reasoningPiece:
		b = append(b, `"content":null,"reasoning_content":`...)
		b = appendString(b, p.text)
	case contentPiece:
		b = append(b, `"content":`...)
		b = appendString(b, p.text)
		if e.t.ask.thinking {
			b = append(b, `,"reasoning_content":null`...)
		}
	case toolPiece:
		c := &e.t.full.ToolCalls[p.tool]
		b = append(b, `"tool_calls":[{"index":`...)
		b = strconv.AppendInt(b, int64(p.tool), 10)
		b = append(b, `,"id":`...)
		b = appendString(b, c.ID)
		b = append(b, `,"type":"function","function":{"name":`...)
		b = appendString(b, c.Name)
		b = append(b, `,"arguments":""}}]`...)
	case argumentsPiece:
		b = append(b, `"tool_calls":[{"index":`...)
		b = strconv.AppendInt(b, int64(p.tool), 10)
		b = append(b, `,"function":{"arguments":`...)
		b = appendString(b, p.text)
		b = append(b, `}}]`...)
	}
	b = append(b, `},"logprobs":`...)
	if e.t.ask.logprobs {
		b = appendLogprobs(b, []piece{*p}, e.t.ask.topLogprobs)
	} else {
		b = append(b, "null"...)
	}
	return append(b, e.tail...)
}

func (e *chatEncoder) finish(b []byte, reason string, u *Usage, mode usageMode) []byte {
	b = append(b, e.head...)
	b = append(b, `"content":""`...)
	if e.t.ask.thinking {
		b = append(b, `,"reasoning_content":null`...)
	}
	b = append(b, `},"logprobs":null,"finish_reason":`...)
	b = appendString(b, reason)
	b = append(b, `}]`...)
	switch mode {
	case usageFinal:
		b = append(b, `,"usage":`...)
		b = appendUsage(b, u, e.t.ask.thinking)
		b = append(b, "}\n\n"...)
	case usageNone:
		b = append(b, "}\n\n"...)
	case usageSeparate:
		b = append(b, ",\"usage\":null}\n\n"...)
		b = append(b, e.head[:len(e.head)-len(`{"index":0,"delta":{`)]...)
		b = append(b, `],"usage":`...)
		b = appendUsage(b, u, e.t.ask.thinking)
		b = append(b, "}\n\n"...)
	}
	return b
}

func (e *chatEncoder) done(b []byte) []byte { return append(b, "data: [DONE]\n\n"...) }

func (e *chatEncoder) fail(b []byte, err *apiError) []byte {
	b = append(b, "data: "...)
	b = appendError(b, err, false)
	return append(b, "\n\n"...)
}

func (e *chatEncoder) whole(b []byte, out *Answer, reason string, u *Usage, mode usageMode) []byte {
	b = append(b, `{"id":"`+e.t.id+`","object":"chat.completion","created":`...)
	b = strconv.AppendInt(b, e.t.created, 10)
	b = append(b, `,"model":"`+e.t.ask.model.ID+`","choices":[{"index":0,"message":{"role":"assistant","content":`...)
	if out.Content == "" && len(out.ToolCalls) > 0 {
		b = append(b, "null"...)
	} else {
		b = appendString(b, out.Content)
	}
	if e.t.ask.thinking {
		b = append(b, `,"reasoning_content":`...)
		b = appendString(b, out.Reasoning)
	}
	for i := range out.ToolCalls {
		c := &out.ToolCalls[i]
		if i == 0 {
			b = append(b, `,"tool_calls":[{"index":`...)
		} else {
			b = append(b, `,{"index":`...)
		}
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, `,"id":`...)
		b = appendString(b, c.ID)
		b = append(b, `,"type":"function","function":{"name":`...)
		b = appendString(b, c.Name)
		b = append(b, `,"arguments":`...)
		b = appendString(b, c.Arguments)
		b = append(b, `}}`...)
	}
	if len(out.ToolCalls) > 0 {
		b = append(b, ']')
	}
	b = append(b, `},"logprobs":`...)
	if e.t.ask.logprobs {
		b = appendLogprobs(b, e.t.pieces, e.t.ask.topLogprobs)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"finish_reason":`...)
	b = appendString(b, reason)
	b = append(b, `}]`...)
	if mode != usageNone {
		b = append(b, `,"usage":`...)
		b = appendUsage(b, u, e.t.ask.thinking)
	}
	return append(b, `,"system_fingerprint":"`+e.t.print+`"}`...)
}

func appendUsage(b []byte, u *Usage, thinking bool) []byte {
	b = appendCount(b, `{"prompt_tokens":`, u.Prompt)
	b = appendCount(b, `,"completion_tokens":`, u.Completion)
	b = appendCount(b, `,"total_tokens":`, u.Prompt+u.Completion)
	b = appendCount(b, `,"prompt_tokens_details":{"cached_tokens":`, u.CacheHit)
	b = append(b, '}')
	if thinking {
		b = appendCount(b, `,"completion_tokens_details":{"reasoning_tokens":`, u.Reasoning)
		b = append(b, '}')
	}
	b = appendCount(b, `,"prompt_cache_hit_tokens":`, u.CacheHit)
	b = appendCount(b, `,"prompt_cache_miss_tokens":`, u.CacheMiss)
	return append(b, '}')
}

func appendCount(b []byte, name string, n int) []byte {
	return strconv.AppendInt(append(b, name...), int64(n), 10)
}
