package deepseek

import "github.com/seawall-go/deepseek/internal/jsonscan"

// ChatChunk is one piece of a streamed answer. It stays valid, and is nobody
// else's, after the next one came.
type ChatChunk struct {
	ID                string // the same in all chunks of an answer, as are the four below
	Object            string // "chat.completion.chunk"
	Created           int64  // seconds since 1970
	Model             string
	SystemFingerprint string
	Choices           []ChunkChoice // may be empty
	// Usage comes with the last chunk that has a choice, or after it in a chunk
	// that has none; it is nil in all others.
	Usage *Usage
	Extra Extra // what else the server sent
}

// ChunkChoice is what a chunk adds to one answer.
type ChunkChoice struct {
	Index        int          // which answer it adds to
	Delta        Delta        // what it adds to the message
	FinishReason FinishReason // empty but in the last
	Logprobs     *Logprobs    // of its tokens; nil unless asked for
	Extra        Extra        // what else the server sent
}

// Delta is what a chunk adds to a message.
type Delta struct {
	Role             Role       // in the first chunk only
	Content          string     // to be appended to the text
	ReasoningContent string     // to be appended to the reasoning
	ToolCalls        []ToolCall // fragments; those of equal Index belong together
	Extra            Extra      // what else the server sent

	content, reasoning presence
}

// Text returns the text that the chunk adds to the first choice.
func (c *ChatChunk) Text() string {
	if c == nil || len(c.Choices) == 0 {
		return ""
	}
	return c.Choices[0].Delta.Content
}

// Reasoning returns what the chunk adds to the first choice's reasoning.
func (c *ChatChunk) Reasoning() string {
	if c == nil || len(c.Choices) == 0 {
		return ""
	}
	return c.Choices[0].Delta.ReasoningContent
}

// FinishReason returns why the first choice ended; empty but in its last chunk.
func (c *ChatChunk) FinishReason() FinishReason {
	if c == nil || len(c.Choices) == 0 {
		return ""
	}
	return c.Choices[0].FinishReason
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (c *ChatChunk) UnmarshalJSON(data []byte) error {
	return unmarshal(data, func(data []byte) error { return c.decode(data, &ChatChunk{}) })
}

// MarshalJSON implements [encoding/json.Marshaler].
func (c ChatChunk) MarshalJSON() ([]byte, error) { return marshal(c.encode) }

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (c *ChunkChoice) UnmarshalJSON(data []byte) error { return unmarshal(data, c.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (c ChunkChoice) MarshalJSON() ([]byte, error) { return marshal(c.encode) }

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (d *Delta) UnmarshalJSON(data []byte) error { return unmarshal(data, d.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (d Delta) MarshalJSON() ([]byte, error) { return marshal(d.encode) }

// decodeChunk decodes a chunk that follows last in its stream. What is the same
// in both is shared, and the usual single choice is allocated with its chunk.
func decodeChunk(data []byte, last *ChatChunk) (*ChatChunk, error) {
	c := &struct {
		ChatChunk
		one [1]ChunkChoice
	}{}
	c.Choices = c.one[:0]
	if err := c.decode(data, last); err != nil {
		return nil, err
	}
	return &c.ChatChunk, nil
}

func (c *ChatChunk) decode(data []byte, last *ChatChunk) error {
	return decodeObject(data, &c.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "id":
			return decodeShared(value, &c.ID, last.ID)
		case "object":
			return decodeShared(value, &c.Object, "chat.completion.chunk")
		case "created":
			return decodeInt64(value, &c.Created)
		case "model":
			return decodeShared(value, &c.Model, last.Model)
		case "system_fingerprint":
			return decodeShared(value, &c.SystemFingerprint, last.SystemFingerprint)
		case "choices":
			return decodeArray(value, &c.Choices, (*ChunkChoice).decode)
		case "usage":
			return decodeUsage(value, &c.Usage)
		}
		return false
	})
}

func (c *ChunkChoice) decode(data []byte) error {
	return decodeObject(data, &c.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "index":
			return decodeInt(value, &c.Index)
		case "delta":
			c.Delta = Delta{}
			return jsonscan.IsNull(value) || c.Delta.decode(value) == nil
		case "finish_reason":
			return c.FinishReason.decode(value)
		case "logprobs":
			return decodeLogprobs(value, &c.Logprobs)
		}
		return false
	})
}

func (d *Delta) decode(data []byte) error {
	return decodeObject(data, &d.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "role":
			return d.Role.decode(value)
		case "content":
			d.content = presenceOf(value)
			return decodeString(value, &d.Content)
		case "reasoning_content":
			d.reasoning = presenceOf(value)
			return decodeString(value, &d.ReasoningContent)
		case "tool_calls":
			return decodeArray(value, &d.ToolCalls, (*ToolCall).decode)
		}
		return false
	})
}

func (c *ChatChunk) encode(w *jsonWriter) {
	o := w.object(c.Extra)
	o.str("id", c.ID)
	o.str("object", c.Object)
	o.int("created", c.Created)
	o.str("model", c.Model)
	o.optional("system_fingerprint", c.SystemFingerprint)
	if o.member("choices") {
		elements(w, c.Choices, (*ChunkChoice).encode)
	}
	if c.Usage != nil && o.member("usage") {
		c.Usage.encode(w)
	}
	o.end()
}

func (c *ChunkChoice) encode(w *jsonWriter) {
	o := w.object(c.Extra)
	o.int("index", int64(c.Index))
	if o.member("delta") {
		c.Delta.encode(w)
	}
	encodeLogprobs(o, c.Logprobs)
	c.FinishReason.encode(o)
	o.end()
}

func (d *Delta) encode(w *jsonWriter) {
	o := w.object(d.Extra)
	o.optional("role", string(d.Role))
	encodePresent(o, "content", d.Content, d.content)
	encodePresent(o, "reasoning_content", d.ReasoningContent, d.reasoning)
	if len(d.ToolCalls) > 0 && o.member("tool_calls") {
		encodeToolCalls(w, d.ToolCalls, asReceived)
	}
	o.end()
}

// encodePresent writes a string as it was present.
func encodePresent(o object, name, s string, p presence) {
	switch {
	case s != "" || p == empty:
		o.str(name, s)
	case p == null:
		o.null(name)
	}
}
