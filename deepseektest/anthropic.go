package deepseektest

import (
	"encoding/json"
	"fmt"
	"strings"
)

type anthropicBody struct {
	Model    *string            `json:"model"`
	Messages *[]json.RawMessage `json:"messages"`
	System   json.RawMessage    `json:"system"`
	Stream   *bool              `json:"stream"`
	Thinking *struct {
		Type *string `json:"type"`
	} `json:"thinking"`
	MaxTokens     *int64    `json:"max_tokens"`
	Temperature   *float64  `json:"temperature"`
	TopP          *float64  `json:"top_p"`
	StopSequences *[]string `json:"stop_sequences"`
	Metadata      *struct {
		UserID *string `json:"user_id"`
	} `json:"metadata"`
	Tools      *[]json.RawMessage `json:"tools"`
	ToolChoice *struct {
		Type *string `json:"type"`
		Name *string `json:"name"`
	} `json:"tool_choice"`
}

// decodeAnthropic reads a request in the Anthropic format.
func decodeAnthropic(c *config, body []byte, _ bool) *ask {
	a := &ask{format: anthropicFormat, thinking: true}
	a.err = a.anthropic(c, body)
	return a
}

// anthropicModel maps the names of this format: any that is not known silently
// becomes the first model, deepseek-flash.
func (c *config) anthropicModel(name string) *Model {
	if m := c.model(name); m != nil {
		return m
	}
	if strings.HasPrefix(name, "claude-opus") {
		if m := c.model("deepseek-v4-pro"); m != nil {
			return m
		}
	}
	return &c.models[0]
}

func (a *ask) anthropic(c *config, body []byte) *apiError {
	var in anthropicBody
	e := unmarshal(body, body, "", &in)
	a.stream = or(in.Stream, false)
	a.modelName = or(in.Model, "")
	a.model = c.anthropicModel(a.modelName)
	if in.Metadata != nil {
		a.user = or(in.Metadata.UserID, "")
	}
	switch {
	case e != nil:
		return e
	case in.Model == nil:
		return missing(body, "model")
	case in.Messages == nil:
		return missing(body, "messages")
	case in.MaxTokens == nil:
		return missing(body, "max_tokens")
	case len(*in.Messages) == 0:
		return errInvalid("Empty input messages")
	}
	if in.Thinking != nil && or(in.Thinking.Type, "") == "disabled" {
		a.thinking = false
	}
	if in.StopSequences != nil {
		a.stop = *in.StopSequences
	}
	system, _, e := text(body, in.System, "system", true)
	if e != nil {
		return e
	}
	if system != "" {
		a.messages = append(a.messages, Message{Role: "system", Content: system})
	}
	for i, raw := range *in.Messages {
		if e := a.anthropicMessage(body, raw, fmt.Sprintf("messages[%d]", i)); e != nil {
			return e
		}
	}
	if in.Tools != nil {
		if e := a.namedTools(body, *in.Tools); e != nil {
			return e
		}
	}
	if t := in.ToolChoice; t != nil && len(a.tools) > 0 {
		switch or(t.Type, "") {
		case "any":
			a.force = a.tools[0]
		case "tool":
			a.force = or(t.Name, "")
		}
		if a.force != "" && a.thinking {
			return errInvalid("Thinking mode does not support this tool_choice")
		}
	}
	if e := a.ranges(&chatBody{MaxTokens: in.MaxTokens, Temperature: in.Temperature, TopP: in.TopP}); e != nil {
		return e
	}
	return a.fits(int(*in.MaxTokens))
}

// anthropicMessage reads a message, whose content is a string or a list of
// blocks.
func (a *ask) anthropicMessage(body, raw []byte, name string) *apiError {
	var in struct {
		Role    *string         `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if e := unmarshal(body, raw, name, &in); e != nil {
		return e
	}
	role := or(in.Role, "")
	if role != "user" && role != "assistant" && role != "system" {
		return badVariant(body, raw, name+".role", role, "user", "assistant")
	}
	m := Message{Role: role, thinks: true}
	if isNull(in.Content) {
		return badValue(body, raw, name, "missing field `content`")
	}
	if in.Content[0] != '[' {
		s, _, e := text(body, in.Content, name, false)
		m.Content = s
		a.messages = append(a.messages, m)
		return e
	}
	return a.anthropicBlocks(body, in.Content, name, m)
}

// anthropicBlocks reads the blocks of a message, of which m has the rest. Those that
// are results of tools become messages of their own.
func (a *ask) anthropicBlocks(body, raw []byte, name string, m Message) *apiError {
	var blocks []struct {
		Type      *string         `json:"type"`
		Text      *string         `json:"text"`
		Thinking  *string         `json:"thinking"`
		ID        *string         `json:"id"`
		Name      *string         `json:"name"`
		Input     json.RawMessage `json:"input"`
		ToolUseID *string         `json:"tool_use_id"`
		Content   json.RawMessage `json:"content"`
	}
	if e := unmarshal(body, raw, name, &blocks); e != nil {
		return e
	}
	only := true // results of tools
	for _, b := range blocks {
		switch or(b.Type, "") {
		case "text":
			m.Content += or(b.Text, "")
			only = false
		case "thinking":
			m.ReasoningContent += or(b.Thinking, "")
			only = false
		case "tool_use":
			m.ToolCalls = append(m.ToolCalls, ToolCall{ID: or(b.ID, ""), Name: or(b.Name, ""), Arguments: string(b.Input)})
			only = false
		case "tool_result":
			s, _, e := text(body, b.Content, name, true)
			if e != nil {
				return e
			}
			a.messages = append(a.messages, Message{Role: "tool", Content: s, ToolCallID: or(b.ToolUseID, "")})
		case "image":
			if !a.model.Images {
				return errInvalid("This model does not support image")
			}
			only = false
		}
	}
	if !only || len(blocks) == 0 {
		a.messages = append(a.messages, m)
	}
	return nil
}

// anthropicEncoder writes messages. A stream goes from message_start to
// message_stop.
type anthropicEncoder struct {
	t     *turn
	block int // index of the open block, -1 if there is none
	kind  pieceKind
	tool  int
}

func newAnthropicEncoder(t *turn) *anthropicEncoder {
	return &anthropicEncoder{t: t, block: -1}
}

func anthropicEvent(b []byte, name string) []byte {
	return append(b, "event: "+name+"\ndata: {\"type\":\""+name+`"`...)
}

func (e *anthropicEncoder) open(b []byte, u *Usage) []byte {
	b = anthropicEvent(b, "message_start")
	b = append(b, `,"message":{"id":"`+e.t.id+`","type":"message","role":"assistant","model":"`+e.t.ask.model.ID+
		`","content":[],"stop_reason":null,"stop_sequence":null,"usage":`...)
	b = appendAnthropicUsage(b, u)
	return append(b, "}}\n\n"...)
}

func (e *anthropicEncoder) piece(b []byte, p *piece) []byte {
	kind := p.kind
	if kind == argumentsPiece {
		kind = toolPiece
	}
	if e.block < 0 || kind != e.kind || kind == toolPiece && p.tool != e.tool {
		b = e.close(b)
		e.block, e.kind, e.tool = e.block+1, kind, p.tool
		b = anthropicEvent(b, "content_block_start")
		b = appendCount(b, `,"index":`, e.block)
		switch kind {
		case reasoningPiece:
			b = append(b, `,"content_block":{"type":"thinking","thinking":"","signature":""}`...)
		case contentPiece:
			b = append(b, `,"content_block":{"type":"text","text":""}`...)
		default:
			c := &e.t.full.ToolCalls[p.tool]
			b = append(b, `,"content_block":{"type":"tool_use","id":`...)
			b = appendString(b, c.ID)
			b = append(b, `,"name":`...)
			b = appendString(b, c.Name)
			b = append(b, `,"input":{}}`...)
		}
		b = append(b, "}\n\n"...)
	}
	if p.kind == toolPiece {
		return b
	}
	b = anthropicEvent(b, "content_block_delta")
	b = appendCount(b, `,"index":`, e.block)
	switch p.kind {
	case reasoningPiece:
		b = append(b, `,"delta":{"type":"thinking_delta","thinking":`...)
	case contentPiece:
		b = append(b, `,"delta":{"type":"text_delta","text":`...)
	default:
		b = append(b, `,"delta":{"type":"input_json_delta","partial_json":`...)
	}
	b = appendString(b, p.text)
	return append(b, "}}\n\n"...)
}

func (e *anthropicEncoder) close(b []byte) []byte {
	if e.block < 0 {
		return b
	}
	b = anthropicEvent(b, "content_block_stop")
	b = appendCount(b, `,"index":`, e.block)
	return append(b, "}\n\n"...)
}

func (e *anthropicEncoder) finish(b []byte, reason string, u *Usage, mode usageMode) []byte {
	b = e.close(b)
	b = anthropicEvent(b, "message_delta")
	b = append(b, `,"delta":{"stop_reason":`...)
	b = appendString(b, stopReason(reason))
	b = append(b, `,"stop_sequence":null}`...)
	if mode != usageNone {
		b = append(b, `,"usage":`...)
		b = appendAnthropicUsage(b, u)
	}
	return append(b, "}\n\n"...)
}

func (e *anthropicEncoder) done(b []byte) []byte {
	return append(anthropicEvent(b, "message_stop"), "}\n\n"...)
}

func (e *anthropicEncoder) fail(b []byte, err *apiError) []byte {
	b = append(b, "event: error\ndata: "...)
	b = appendError(b, err, true)
	return append(b, "\n\n"...)
}

func (e *anthropicEncoder) whole(b []byte, out *Answer, reason string, u *Usage, mode usageMode) []byte {
	b = append(b, `{"id":"`+e.t.id+`","type":"message","role":"assistant","model":"`+e.t.ask.model.ID+`","content":[`...)
	start := len(b)
	next := func() {
		if len(b) > start {
			b = append(b, ',')
		}
	}
	if out.Reasoning != "" {
		b = append(b, `{"type":"thinking","thinking":`...)
		b = appendString(b, out.Reasoning)
		b = append(b, `,"signature":""}`...)
	}
	if out.Content != "" {
		next()
		b = append(b, `{"type":"text","text":`...)
		b = appendString(b, out.Content)
		b = append(b, '}')
	}
	for _, c := range out.ToolCalls {
		next()
		b = append(b, `{"type":"tool_use","id":`...)
		b = appendString(b, c.ID)
		b = append(b, `,"name":`...)
		b = appendString(b, c.Name)
		b = append(b, `,"input":`...)
		if json.Valid([]byte(c.Arguments)) {
			b = append(b, c.Arguments...)
		} else {
			b = append(b, `{}`...)
		}
		b = append(b, '}')
	}
	b = append(b, `],"stop_reason":`...)
	b = appendString(b, stopReason(reason))
	b = append(b, `,"stop_sequence":null`...)
	if mode != usageNone {
		b = append(b, `,"usage":`...)
		b = appendAnthropicUsage(b, u)
	}
	return append(b, '}')
}

// stopReason maps a finish_reason to this format.
func stopReason(reason string) string {
	switch reason {
	case "stop":
		return "end_turn"
	case "length":
		return "max_tokens"
	case "tool_calls":
		return "tool_use"
	case "content_filter":
		return "refusal"
	}
	return reason
}

func appendAnthropicUsage(b []byte, u *Usage) []byte {
	b = appendCount(b, `{"input_tokens":`, u.CacheMiss)
	b = append(b, `,"cache_creation_input_tokens":0`...)
	b = appendCount(b, `,"cache_read_input_tokens":`, u.CacheHit)
	b = appendCount(b, `,"output_tokens":`, u.Completion)
	return append(b, '}')
}
