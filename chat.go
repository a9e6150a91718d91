package deepseek

import (
	"cmp"
	"encoding/json"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// The models there are (https://api-docs.deepseek.com/quick_start/pricing, as
// of November 2026). Other hosts have other names for them.
const (
	ModelFlash = "deepseek-flash"
	ModelPro   = "deepseek-v4-pro"
)

// ChatRequest asks for the next message of a conversation. Only Messages must be
// set. The client does not change a request, so one may serve many calls, also
// at once.
//
// Source: https://api-docs.deepseek.com/api/create-chat-completion
type ChatRequest struct {
	Model    string    // empty means ModelFlash
	Messages []Message // at least one

	// Thinking switches reasoning before the answer; nil means that the server
	// decides, which is on. ReasoningEffort says how much of it; empty means the
	// server's default, high. Do not set both in contradiction.
	Thinking        *Thinking
	ReasoningEffort ReasoningEffort

	// MaxTokens bounds the answer, reasoning included: 1 to 393216. 0 means the
	// server's default: 8K without thinking, 64K with it, 128K at EffortMax.
	MaxTokens int
	// Temperature is from 0 to 2, TopP above 0 up to 1; nil means 1. Set them with
	// new(0.7). Thinking ignores Temperature.
	Temperature *float64
	TopP        *float64
	// FrequencyPenalty and PresencePenalty, -2 to 2, are for other hosts: DeepSeek
	// accepts and ignores them.
	FrequencyPenalty *float64
	PresencePenalty  *float64
	Stop             []string // at most 16 texts that end the answer

	// ResponseFormat may ask for JSON; nil is text. See also [ChatJSON].
	ResponseFormat *ResponseFormat
	Tools          []Tool      // what the model may ask to have called
	ToolChoice     *ToolChoice // nil means auto if there are tools

	Logprobs    bool // tell the probabilities of the tokens
	TopLogprobs int  // and those of as many others, up to 20; needs Logprobs

	// UserID, at most 512 bytes, isolates cache and scheduling of your users from
	// each other. Use letters, digits, - and _, and nothing personal.
	UserID string
	// StreamOptions is for ChatStream only. DeepSeek tells the usage without it.
	StreamOptions *StreamOptions

	// Extra is sent along at the top level: fields that this type does not know, of
	// other hosts for example. A field that it does know is refused.
	Extra map[string]any
}

// Thinking switches reasoning on or off. Make it with [ThinkingOn] or
// [ThinkingOff].
type Thinking struct {
	Type string `json:"type"` // "enabled" or "disabled"
}

// ThinkingOn has the model reason before it answers, which is the default.
func ThinkingOn() *Thinking { return &Thinking{Type: "enabled"} }

// ThinkingOff has the model answer at once.
func ThinkingOff() *Thinking { return &Thinking{Type: "disabled"} }

// ReasoningEffort is how much the model reasons. A value that is not listed here
// is passed on.
type ReasoningEffort string

const (
	EffortNone ReasoningEffort = "none" // as ThinkingOff
	EffortLow  ReasoningEffort = "low"  // less
	EffortHigh ReasoningEffort = "high" // the default
	EffortMax  ReasoningEffort = "max"  // the most
)

// ResponseFormat asks for a form of answer. Make it with [JSONFormat].
type ResponseFormat struct {
	Type       string          `json:"type"`                  // "text" or "json_object"; "json_schema" on other hosts only
	JSONSchema json.RawMessage `json:"json_schema,omitempty"` // for "json_schema"
}

// JSONFormat asks for a JSON object. The word "json" must occur in a system or user
// message, and an example of the object should.
func JSONFormat() *ResponseFormat { return &ResponseFormat{Type: formatJSON} }

const formatJSON = "json_object"

// StreamOptions are options of a streamed answer.
type StreamOptions struct {
	IncludeUsage bool `json:"include_usage"` // for other hosts: DeepSeek tells the usage anyway
}

// MarshalJSON implements [encoding/json.Marshaler]: the body of a call of Chat.
func (r ChatRequest) MarshalJSON() ([]byte, error) { return r.body(false) }

// UnmarshalJSON implements [encoding/json.Unmarshaler]. It replaces the whole
// request. Members that the request has no field for go to Extra, each as a
// [json.RawMessage], but for "stream", which is for the call to say; a member that its
// field cannot hold all of is a [*RequestError].
func (r *ChatRequest) UnmarshalJSON(data []byte) error { return unmarshal(data, r.decode) }

func (r *ChatRequest) decode(data []byte) error {
	var fresh ChatRequest
	var rest Extra
	err := decodeObject(data, &rest, func(key, value []byte) bool {
		switch string(key) {
		case "model":
			return decodeString(value, &fresh.Model)
		case "messages":
			return decodeArray(value, &fresh.Messages, (*Message).decode)
		case "thinking":
			return decodeWhole(value, &fresh.Thinking)
		case "reasoning_effort":
			return decodeString(value, (*string)(&fresh.ReasoningEffort))
		case "max_tokens":
			return decodeInt(value, &fresh.MaxTokens)
		case "temperature":
			return decodeAny(value, &fresh.Temperature)
		case "top_p":
			return decodeAny(value, &fresh.TopP)
		case "frequency_penalty":
			return decodeAny(value, &fresh.FrequencyPenalty)
		case "presence_penalty":
			return decodeAny(value, &fresh.PresencePenalty)
		case "stop":
			return decodeStop(value, &fresh.Stop)
		case "response_format":
			return decodeWhole(value, &fresh.ResponseFormat)
		case "tools":
			return decodeWhole(value, &fresh.Tools)
		case "tool_choice":
			return decodeAny(value, &fresh.ToolChoice)
		case "logprobs":
			return decodeBool(value, &fresh.Logprobs)
		case "top_logprobs":
			return decodeInt(value, &fresh.TopLogprobs)
		case "user_id":
			return decodeString(value, &fresh.UserID)
		case "stream":
			return true
		case "stream_options":
			return decodeWhole(value, &fresh.StreamOptions)
		}
		return false
	})
	if err == nil {
		fresh.Extra, err = rest.ofRequest(chatFields)
	}
	if err == nil {
		*r = fresh
	}
	return err
}

// decodeStop decodes the one text that may end an answer, or several.
func decodeStop(value []byte, dst *[]string) bool {
	if jsonscan.IsString(value) {
		*dst = make([]string, 1)
		return decodeString(value, &(*dst)[0])
	}
	return decodeAny(value, dst)
}

// thinks reports whether the model will think, as far as the request tells. It
// does by default.
func (r *ChatRequest) thinks() bool {
	if r.Thinking != nil {
		return r.Thinking.Type != "disabled"
	}
	return r.ReasoningEffort != EffortNone
}

// path is where the request must go: prefix completion and strict tools are
// beta, where there is that.
func (r *ChatRequest) path(at rules) string {
	if at.prefix && len(r.Messages) > 0 && r.Messages[len(r.Messages)-1].Prefix {
		return betaChatPath
	}
	for i := range r.Tools {
		if at.beta && r.Tools[i].Function.Strict {
			return betaChatPath
		}
	}
	return chatPath
}

const betaChatPath = "/beta" + chatPath

// chatFields are the members that ChatRequest writes itself.
var chatFields = []string{"model", "messages", "thinking", "reasoning_effort", "max_tokens", "temperature", "top_p",
	"frequency_penalty", "presence_penalty", "stop", "response_format", "tools", "tool_choice", "logprobs", "top_logprobs",
	"user_id", "stream", "stream_options"}

// body is the request as JSON. The order of its members is fixed, so that equal
// beginnings stay equal for the context cache.
func (r *ChatRequest) body(stream bool) ([]byte, error) {
	size := 1 << 10
	for i := range r.Messages {
		m := &r.Messages[i]
		size += len(m.Content) + len(m.ReasoningContent) + 128
	}
	w := jsonWriter{b: make([]byte, 0, size+size/16)}
	o := w.object(nil)
	o.str("model", cmp.Or(r.Model, ModelFlash))
	if o.member("messages") {
		why := asRequest
		if len(r.Tools) > 0 && r.thinks() {
			why = withReasoning
		}
		elements(&w, r.Messages, func(m *Message, w *jsonWriter) { m.encode(w, why) })
	}
	if r.Thinking != nil && o.member("thinking") {
		t := w.object(nil)
		t.str("type", r.Thinking.Type)
		t.end()
	}
	o.optional("reasoning_effort", string(r.ReasoningEffort))
	if r.MaxTokens != 0 {
		o.int("max_tokens", int64(r.MaxTokens))
	}
	o.float("temperature", r.Temperature)
	o.float("top_p", r.TopP)
	o.float("frequency_penalty", r.FrequencyPenalty)
	o.float("presence_penalty", r.PresencePenalty)
	o.strings("stop", r.Stop)
	if f := r.ResponseFormat; f != nil && o.member("response_format") {
		format := w.object(nil)
		format.str("type", f.Type)
		if f.JSONSchema != nil {
			format.any("json_schema", f.JSONSchema)
		}
		format.end()
	}
	if len(r.Tools) > 0 && o.member("tools") {
		elements(&w, r.Tools, (*Tool).encode)
	}
	if r.ToolChoice != nil {
		o.any("tool_choice", r.ToolChoice)
	}
	if r.Logprobs {
		o.bool("logprobs", true)
	}
	if r.TopLogprobs != 0 {
		o.int("top_logprobs", int64(r.TopLogprobs))
	}
	o.optional("user_id", r.UserID)
	o.stream(stream, r.StreamOptions)
	o.more(r.Extra, chatFields)
	o.end()
	return w.b, w.err
}
