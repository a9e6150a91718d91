package deepseek

import (
	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// Role is who says a message.
type Role string

const (
	RoleSystem    Role = "system"    // says how to answer
	RoleUser      Role = "user"      // asks
	RoleAssistant Role = "assistant" // the model
	RoleTool      Role = "tool"      // brings a call's result
)

func (r *Role) decode(value []byte) bool {
	return decodeShared(value, (*string)(r), string(RoleAssistant), string(RoleUser), string(RoleSystem), string(RoleTool))
}

// Message is one message of a conversation, in a request or an answer. Make it
// with [System], [User], [UserParts], [Assistant], [AssistantPrefix] and
// [ToolResult], or take an answer's with [ChatResponse.Message] and append it
// whole: it replays with the keys it came with, so that history stored as JSON
// stays acceptable too.
//
// Source: https://api-docs.deepseek.com/api/create-chat-completion
type Message struct {
	Role    Role   // must be set
	Content string // the text
	// Parts is the content of a user or tool message that is more than text. With
	// it, Content is ignored.
	Parts []Part
	// ReasoningContent is what the model thought. In a request with tools every
	// assistant message must have it, if only empty; the client sees to that.
	ReasoningContent string
	ToolCalls        []ToolCall // of an assistant message; the messages after it must answer each
	ToolCallID       string     // of a tool message: the call that it answers
	Name             string     // who of several users or assistants speaks; rarely needed
	// Prefix, on the last message of a request, has the model continue this
	// assistant message. The answer is the continuation only. The client then
	// uses DeepSeek's beta address.
	Prefix bool
	Extra  Extra // what else the server sent, or is to be sent

	content, reasoning presence // of keys without a text
}

// presence is how a key without a text stood in the JSON.
type presence uint8

const (
	absent presence = iota
	null
	empty
)

// presenceOf is for values of the right type.
func presenceOf(value []byte) presence {
	if jsonscan.IsNull(value) {
		return null
	}
	return empty
}

// System returns a system message: instructions for the model.
func System(text string) Message { return Message{Role: RoleSystem, Content: text} }

// User returns a user message.
func User(text string) Message { return Message{Role: RoleUser, Content: text} }

// UserParts returns a user message of texts, images and files.
func UserParts(parts ...Part) Message { return Message{Role: RoleUser, Parts: parts} }

// Assistant returns an assistant message, for a history that was not had with
// this client. Else use [ChatResponse.Message].
func Assistant(text string) Message { return Message{Role: RoleAssistant, Content: text} }

// AssistantPrefix returns the beginning of an assistant message, for the model
// to continue. It must be the last message of its request.
func AssistantPrefix(text string) Message {
	return Message{Role: RoleAssistant, Content: text, Prefix: true}
}

// ToolResult returns the result of the tool call with this id.
func ToolResult(id, text string) Message {
	return Message{Role: RoleTool, ToolCallID: id, Content: text}
}

// Text returns the message's text: Content, or the texts of Parts joined.
func (m Message) Text() string {
	if m.Parts == nil {
		return m.Content
	}
	text := ""
	for _, p := range m.Parts {
		text += p.Text
	}
	return text
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (m *Message) UnmarshalJSON(data []byte) error { return unmarshal(data, m.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (m Message) MarshalJSON() ([]byte, error) {
	return marshal(func(w *jsonWriter) { m.encode(w, asReceived) })
}

func (m *Message) decode(data []byte) error {
	return decodeObject(data, &m.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "role":
			return m.Role.decode(value)
		case "content":
			m.content, m.Parts = presenceOf(value), nil
			if len(value) > 0 && value[0] == '[' {
				m.Content = ""
				taken := decodeArray(value, &m.Parts, (*Part).decode)
				if taken && m.Parts == nil {
					m.Parts = []Part{} // none is not the same as text
				}
				return taken
			}
			return decodeString(value, &m.Content)
		case "reasoning_content":
			m.reasoning = presenceOf(value)
			return decodeString(value, &m.ReasoningContent)
		case "tool_calls":
			return decodeArray(value, &m.ToolCalls, (*ToolCall).decode)
		case "tool_call_id":
			return decodeString(value, &m.ToolCallID)
		case "name":
			return decodeString(value, &m.Name)
		case "prefix":
			return decodeBool(value, &m.Prefix)
		}
		return false
	})
}

// purpose is what a message is encoded for.
type purpose uint8

const (
	asReceived    purpose = iota // faithfully
	asRequest                    // without what only answers have
	withReasoning                // as asRequest, and assistant messages have a reasoning_content
)

func (m *Message) encode(w *jsonWriter, why purpose) {
	o := w.object(m.Extra)
	o.str("role", string(m.Role))
	switch {
	case m.Parts != nil:
		if o.member("content") {
			elements(w, m.Parts, (*Part).encode)
		}
	case m.Content == "" && (m.content == null || m.content == absent && len(m.ToolCalls) > 0):
		o.null("content")
	default:
		o.str("content", m.Content)
	}
	switch {
	case m.ReasoningContent != "" || m.reasoning == empty || why == withReasoning && m.Role == RoleAssistant:
		o.str("reasoning_content", m.ReasoningContent)
	case m.reasoning == null && why == asReceived:
		o.null("reasoning_content")
	}
	if len(m.ToolCalls) > 0 && o.member("tool_calls") {
		encodeToolCalls(w, m.ToolCalls, why)
	}
	o.optional("tool_call_id", m.ToolCallID)
	o.optional("name", m.Name)
	if m.Prefix {
		o.bool("prefix", true)
	}
	o.end()
}
