package deepseek

import (
	"net/http"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// ChatResponse is the answer to a chat request. Decoding is lenient: what is
// missing or null is the zero value, what is unknown is in Extra. A ChatResponse
// is plain data; it must not be changed while others read it.
type ChatResponse struct {
	ID                string   // such as "daca7221-40a7-4917-aefe-4528b88c1a45"
	Object            string   // "chat.completion"
	Created           int64    // seconds since 1970
	Model             string   // what answered; may be another name than the one asked for
	SystemFingerprint string   // opaque
	Choices           []Choice // one with DeepSeek; may be empty elsewhere
	Usage             *Usage   // nil if the server told none
	Extra             Extra    // what else the server sent

	// Header is the response's header, and Attempts how the call got here,
	// oldest first. They are not part of the JSON.
	Header   http.Header
	Attempts Attempts
}

// Text returns the text of the first choice, "" if there is none.
func (r *ChatResponse) Text() string { return r.Message().Content }

// Reasoning returns what the model thought before the first choice's text; "" if
// it did not think.
func (r *ChatResponse) Reasoning() string { return r.Message().ReasoningContent }

// ToolCalls returns the first choice's tool calls. Look at them only when the
// answer is whole, that is when the call returned no error.
func (r *ChatResponse) ToolCalls() []ToolCall { return r.Message().ToolCalls }

// FinishReason returns why the first choice ended; "" if there is none.
func (r *ChatResponse) FinishReason() FinishReason {
	if r == nil || len(r.Choices) == 0 {
		return ""
	}
	return r.Choices[0].FinishReason
}

// Message returns the first choice's message, to be appended whole to the
// history: DeepSeek wants reasoning and tool calls back as it sent them. Without
// a choice it is the zero Message.
func (r *ChatResponse) Message() Message {
	if r == nil || len(r.Choices) == 0 {
		return Message{}
	}
	return r.Choices[0].Message
}

// TraceID returns the x-ds-trace-id of the response, what DeepSeek's support
// asks for.
func (r *ChatResponse) TraceID() string { return r.Header.Get("X-Ds-Trace-Id") }

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (r *ChatResponse) UnmarshalJSON(data []byte) error { return unmarshal(data, r.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (r ChatResponse) MarshalJSON() ([]byte, error) { return marshal(r.encode) }

func (r *ChatResponse) decode(data []byte) error {
	return decodeObject(data, &r.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "id":
			return decodeString(value, &r.ID)
		case "object":
			return decodeShared(value, &r.Object, "chat.completion")
		case "created":
			return decodeInt64(value, &r.Created)
		case "model":
			return decodeString(value, &r.Model)
		case "system_fingerprint":
			return decodeString(value, &r.SystemFingerprint)
		case "choices":
			return decodeArray(value, &r.Choices, (*Choice).decode)
		case "usage":
			return decodeUsage(value, &r.Usage)
		}
		return false
	})
}

func (r *ChatResponse) encode(w *jsonWriter) {
	o := w.object(r.Extra)
	o.str("id", r.ID)
	o.str("object", r.Object)
	o.int("created", r.Created)
	o.str("model", r.Model)
	if o.member("choices") {
		elements(w, r.Choices, (*Choice).encode)
	}
	if r.Usage != nil && o.member("usage") {
		r.Usage.encode(w)
	}
	o.optional("system_fingerprint", r.SystemFingerprint)
	o.end()
}

// Choice is one answer of a [ChatResponse].
type Choice struct {
	Index        int          // its place among the answers
	Message      Message      // what the model says
	FinishReason FinishReason // why it ended
	Logprobs     *Logprobs    // nil unless asked for
	Extra        Extra        // what else the server sent
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (c *Choice) UnmarshalJSON(data []byte) error { return unmarshal(data, c.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (c Choice) MarshalJSON() ([]byte, error) { return marshal(c.encode) }

func (c *Choice) decode(data []byte) error {
	return decodeObject(data, &c.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "index":
			return decodeInt(value, &c.Index)
		case "message":
			c.Message = Message{}
			return jsonscan.IsNull(value) || c.Message.decode(value) == nil
		case "finish_reason":
			return c.FinishReason.decode(value)
		case "logprobs":
			return decodeLogprobs(value, &c.Logprobs)
		}
		return false
	})
}

func (c *Choice) encode(w *jsonWriter) {
	o := w.object(c.Extra)
	o.int("index", int64(c.Index))
	if o.member("message") {
		c.Message.encode(w, asReceived)
	}
	encodeLogprobs(o, c.Logprobs)
	c.FinishReason.encode(o)
	o.end()
}
