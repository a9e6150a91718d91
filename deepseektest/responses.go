package deepseektest

import (
	"encoding/json"
	"fmt"
	"strconv"
)

type responsesBody struct {
	Model        *string         `json:"model"`
	Input        json.RawMessage `json:"input"`
	Instructions *string         `json:"instructions"`
	Stream       *bool           `json:"stream"`
	MaxOutput    *int64          `json:"max_output_tokens"`
	UserID       *string         `json:"user_id"`
	Reasoning    *struct {
		Effort *string `json:"effort"`
	} `json:"reasoning"`
	Temperature *float64           `json:"temperature"`
	TopP        *float64           `json:"top_p"`
	Tools       *[]json.RawMessage `json:"tools"`
	Text        *struct {
		Format *struct {
			Type *string `json:"type"`
		} `json:"format"`
	} `json:"text"`
}

// decodeResponses reads a request in the Responses format. What the server does
// not support (store, previous_response_id, conversation) is ignored.
func decodeResponses(c *config, body []byte, _ bool) *ask {
	a := &ask{format: responsesFormat, thinking: true}
	a.err = a.responses(c, body)
	return a
}

func (a *ask) responses(c *config, body []byte) *apiError {
	var in responsesBody
	e := unmarshal(body, body, "", &in)
	a.stream = or(in.Stream, false)
	a.user = or(in.UserID, "")
	named := a.named(c, or(in.Model, ""))
	switch {
	case e != nil:
		return e
	case in.Model == nil:
		return missing(body, "model")
	case isNull(in.Input):
		return missing(body, "input")
	}
	var effort *string
	if in.Reasoning != nil {
		effort = in.Reasoning.Effort
	}
	if e := a.options(body, nil, effort); e != nil {
		return e
	}
	if s := or(in.Instructions, ""); s != "" {
		a.messages = append(a.messages, Message{Role: "system", Content: s})
	}
	if e := a.readInput(body, in.Input); e != nil {
		return e
	}
	if in.Tools != nil {
		if e := a.namedTools(body, *in.Tools); e != nil {
			return e
		}
	}
	if in.Text != nil && in.Text.Format != nil {
		t := or(in.Text.Format.Type, "")
		a.asJSON = t == "json_object" || t == "json_schema"
	}
	if named != nil {
		return named
	}
	if len(a.messages) == 0 {
		return errInvalid("Empty input messages")
	}
	if e := a.ranges(&chatBody{MaxTokens: in.MaxOutput, Temperature: in.Temperature, TopP: in.TopP}); e != nil {
		return e
	}
	return a.fits(int(or(in.MaxOutput, 0)))
}

// readInput turns the input, a string or a list of items, into messages.
func (a *ask) readInput(body []byte, raw json.RawMessage) *apiError {
	if raw[0] == '"' {
		var s string
		if e := unmarshal(body, raw, "input", &s); e != nil {
			return e
		}
		a.messages = append(a.messages, Message{Role: "user", Content: s})
		return nil
	}
	var items []json.RawMessage
	if e := unmarshal(body, raw, "input", &items); e != nil {
		return e
	}
	for i, raw := range items {
		name := fmt.Sprintf("input[%d]", i)
		var in struct {
			Type      *string         `json:"type"`
			Role      *string         `json:"role"`
			Content   json.RawMessage `json:"content"`
			CallID    *string         `json:"call_id"`
			Name      *string         `json:"name"`
			Arguments *string         `json:"arguments"`
			Output    json.RawMessage `json:"output"`
		}
		if e := unmarshal(body, raw, name, &in); e != nil {
			return e
		}
		m := Message{Role: or(in.Role, "user")}
		part := in.Content
		switch or(in.Type, "message") {
		case "message":
			if m.Role == "developer" {
				m.Role = "system"
			}
		case "function_call":
			m.Role = "assistant"
			m.ToolCalls = []ToolCall{{ID: or(in.CallID, ""), Name: or(in.Name, ""), Arguments: or(in.Arguments, "")}}
		case "function_call_output":
			m.Role, m.ToolCallID, part = "tool", or(in.CallID, ""), in.Output
		default:
			continue // reasoning and what is not supported
		}
		s, images, e := text(body, part, name, true)
		if e != nil {
			return e
		}
		if images && a.model != nil && !a.model.Images {
			return errInvalid("This model does not support image")
		}
		m.Content = s
		a.messages = append(a.messages, m)
	}
	return nil
}

// responsesEncoder writes responses. A stream is a series of named events, the
// last one response.completed, response.incomplete or response.failed.
type responsesEncoder struct {
	t    *turn
	seq  int
	item int // output_index of the open item, -1 if there is none
	kind pieceKind
	tool int
	out  []piece // sent so far
}

func newResponsesEncoder(t *turn) *responsesEncoder {
	return &responsesEncoder{t: t, item: -1}
}

// event appends the part of an event that all have; the caller closes it.
func (e *responsesEncoder) event(b []byte, name string) []byte {
	b = append(b, "event: "...)
	b = append(b, name...)
	b = append(b, "\ndata: {\"type\":\""...)
	b = append(b, name...)
	b = append(b, `","sequence_number":`...)
	b = strconv.AppendInt(b, int64(e.seq), 10)
	e.seq++
	return b
}

func (e *responsesEncoder) open(b []byte, _ *Usage) []byte {
	for _, name := range []string{"response.created", "response.in_progress"} {
		b = e.event(b, name)
		b = append(b, `,"response":`...)
		b = e.response(b, "in_progress", "", nil, nil)
		b = append(b, "}\n\n"...)
	}
	return b
}

func (e *responsesEncoder) piece(b []byte, p *piece) []byte {
	kind := p.kind
	if kind == argumentsPiece {
		kind = toolPiece
	}
	if e.item < 0 || kind != e.kind || kind == toolPiece && p.tool != e.tool {
		b = e.close(b)
		e.item, e.kind, e.tool = e.item+1, kind, p.tool
		b = e.event(b, "response.output_item.added")
		b = appendCount(b, `,"output_index":`, e.item)
		b = append(b, `,"item":`...)
		b = e.outputItem(b, e.item, kind, p.tool, "", "in_progress")
		b = append(b, "}\n\n"...)
	}
	e.out = append(e.out, *p)
	if p.kind == toolPiece {
		return b
	}
	b = e.event(b, deltaEvents[kind]+".delta")
	b = e.place(b)
	b = append(b, `,"delta":`...)
	b = appendString(b, p.text)
	return append(b, "}\n\n"...)
}

var deltaEvents = [...]string{
	reasoningPiece: "response.reasoning_text",
	contentPiece:   "response.output_text",
	toolPiece:      "response.function_call_arguments",
}

func (e *responsesEncoder) place(b []byte) []byte {
	b = append(b, `,"item_id":"`+e.itemID(e.item)...)
	b = appendCount(b, `","output_index":`, e.item)
	if e.kind != toolPiece {
		b = append(b, `,"content_index":0`...)
	}
	return b
}

func (e *responsesEncoder) itemID(i int) string { return "item_" + e.t.id[:8] + "_" + itoa(i) }

// close ends the open item.
func (e *responsesEncoder) close(b []byte) []byte {
	if e.item < 0 {
		return b
	}
	var text []byte
	for i := range e.out {
		p := &e.out[i]
		if p.kind == e.kind && e.kind != toolPiece || p.kind == argumentsPiece && e.kind == toolPiece && p.tool == e.tool {
			text = append(text, p.text...)
		}
	}
	b = e.event(b, deltaEvents[e.kind]+".done")
	b = e.place(b)
	if e.kind == toolPiece {
		b = append(b, `,"arguments":`...)
	} else {
		b = append(b, `,"text":`...)
	}
	b = appendString(b, string(text))
	b = append(b, "}\n\n"...)
	b = e.event(b, "response.output_item.done")
	b = appendCount(b, `,"output_index":`, e.item)
	b = append(b, `,"item":`...)
	b = e.outputItem(b, e.item, e.kind, e.tool, string(text), "completed")
	return append(b, "}\n\n"...)
}

func (e *responsesEncoder) finish(b []byte, reason string, u *Usage, mode usageMode) []byte {
	b = e.close(b)
	out := join(e.out, &e.t.full)
	status := responseStatus(reason)
	b = e.event(b, "response."+status)
	b = append(b, `,"response":`...)
	if mode == usageNone {
		u = nil
	}
	b = e.response(b, status, reason, &out, u)
	return append(b, "}\n\n"...)
}

func (e *responsesEncoder) done(b []byte) []byte { return b }

func (e *responsesEncoder) fail(b []byte, err *apiError) []byte {
	b = e.event(b, "error")
	b = append(b, `,"code":`...)
	b = appendString(b, err.code)
	b = append(b, `,"message":`...)
	b = appendString(b, err.message)
	return append(b, ",\"param\":null}\n\n"...)
}

func (e *responsesEncoder) whole(b []byte, out *Answer, reason string, u *Usage, mode usageMode) []byte {
	if mode == usageNone {
		u = nil
	}
	return e.response(b, responseStatus(reason), reason, out, u)
}

// responseStatus maps a finish_reason to the status of a response.
func responseStatus(reason string) string {
	switch reason {
	case "stop", "tool_calls":
		return "completed"
	case "length", "content_filter":
		return "incomplete"
	}
	return "failed"
}

// response appends a response object; out is nil while it is in progress.
func (e *responsesEncoder) response(b []byte, status, reason string, out *Answer, u *Usage) []byte {
	b = append(b, `{"id":"`+e.t.id+`","object":"response","created_at":`...)
	b = strconv.AppendInt(b, e.t.created, 10)
	b = append(b, `,"status":"`+status+`","model":"`+e.t.ask.model.ID+`","error":`...)
	if status == "failed" {
		b = append(b, `{"code":`...)
		b = appendString(b, reason)
		b = append(b, `,"message":"The response was not completed."}`...)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"incomplete_details":`...)
	switch {
	case status != "incomplete":
		b = append(b, "null"...)
	case reason == "length":
		b = append(b, `{"reason":"max_output_tokens"}`...)
	default:
		b = append(b, `{"reason":`...)
		b = appendString(b, reason)
		b = append(b, '}')
	}
	b = append(b, `,"output":[`...)
	if out != nil {
		n := 0
		item := func(kind pieceKind, tool int, text string) {
			if n > 0 {
				b = append(b, ',')
			}
			b = e.outputItem(b, n, kind, tool, text, "completed")
			n++
		}
		if out.Reasoning != "" {
			item(reasoningPiece, 0, out.Reasoning)
		}
		if out.Content != "" {
			item(contentPiece, 0, out.Content)
		}
		for i, c := range out.ToolCalls {
			item(toolPiece, i, c.Arguments)
		}
	}
	b = append(b, `],"usage":`...)
	if u == nil {
		return append(b, "null}"...)
	}
	b = appendCount(b, `{"input_tokens":`, u.Prompt)
	b = appendCount(b, `,"input_tokens_details":{"cached_tokens":`, u.CacheHit)
	b = appendCount(b, `},"output_tokens":`, u.Completion)
	b = appendCount(b, `,"output_tokens_details":{"reasoning_tokens":`, u.Reasoning)
	b = appendCount(b, `},"total_tokens":`, u.Prompt+u.Completion)
	return append(b, "}}"...)
}

// outputItem appends one item of the output.
func (e *responsesEncoder) outputItem(b []byte, i int, kind pieceKind, tool int, text, status string) []byte {
	b = append(b, `{"id":"`+e.itemID(i)+`","status":"`+status+`","type":`...)
	switch kind {
	case reasoningPiece:
		b = append(b, `"reasoning","summary":[],"content":[{"type":"reasoning_text","text":`...)
		b = appendString(b, text)
		return append(b, `}]}`...)
	case contentPiece:
		b = append(b, `"message","role":"assistant","content":[`...)
		if status == "completed" {
			b = append(b, `{"type":"output_text","annotations":[],"text":`...)
			b = appendString(b, text)
			b = append(b, '}')
		}
		return append(b, `]}`...)
	}
	c := &e.t.full.ToolCalls[tool]
	b = append(b, `"function_call","call_id":`...)
	b = appendString(b, c.ID)
	b = append(b, `,"name":`...)
	b = appendString(b, c.Name)
	b = append(b, `,"arguments":`...)
	b = appendString(b, text)
	return append(b, '}')
}

// namedTools reads tools that have their name at the top, as those of /responses
// and of the Anthropic format do.
func (a *ask) namedTools(body []byte, tools []json.RawMessage) *apiError {
	for i, raw := range tools {
		var t struct {
			Name *string `json:"name"`
		}
		if e := unmarshal(body, raw, fmt.Sprintf("tools[%d]", i), &t); e != nil {
			return e
		}
		a.tools = append(a.tools, or(t.Name, ""))
		a.toolText = append(a.toolText, raw...)
	}
	return nil
}
