package deepseek

import "github.com/seawall-go/deepseek/internal/jsonscan"

// FinishReason is why a choice ended. A value that is not listed here is passed
// on as the server sent it. Empty means that it has not ended.
//
// Source: https://api-docs.deepseek.com/api/create-chat-completion
type FinishReason string

const (
	FinishStop          FinishReason = "stop"           // the model was done, or met a stop sequence
	FinishLength        FinishReason = "length"         // max_tokens is used up, reasoning included, or the context is full
	FinishToolCalls     FinishReason = "tool_calls"     // the model wants tools called
	FinishContentFilter FinishReason = "content_filter" // left out by moderation

	// The server broke off. The client returns these as a [*TruncatedError].
	FinishInsufficientResource FinishReason = "insufficient_system_resource" // it is overloaded
	FinishAborted              FinishReason = "aborted"                      // for another reason
)

// decode shares the strings of the known reasons.
func (f *FinishReason) decode(value []byte) bool {
	return decodeShared(value, (*string)(f), string(FinishStop), string(FinishToolCalls), string(FinishLength))
}

func (f FinishReason) encode(o object) {
	if f == "" {
		o.null("finish_reason")
	} else {
		o.str("finish_reason", string(f))
	}
}

// finishReasonFault reports whether a finish_reason is one by which DeepSeek
// says, inside a 200, that it broke off
// (https://api-docs.deepseek.com/api/create-chat-completion).
func finishReasonFault(reason string) bool {
	return reason == string(FinishInsufficientResource) || reason == string(FinishAborted)
}

// isFinishReasonFault is finishReasonFault of a raw JSON value.
func isFinishReasonFault(raw []byte) bool {
	return len(raw) > 2 && finishReasonFault(string(raw[1:len(raw)-1]))
}

// finishReasons reads the choices of an answer or of an event: whether one has its
// finish_reason, and the raw one that is a fault, after which none counts; nil: there
// is no such.
func finishReasons(c *jsonscan.Cursor) (finished bool, fault []byte) {
	if !c.Array() {
		c.Skip()
		return false, nil
	}
	for c.Element() {
		if !c.Object() {
			c.Skip()
			continue
		}
		for c.Key() {
			if string(c.Name) != "finish_reason" {
				c.Skip()
				continue
			}
			switch reason := notNull(c.Value()); {
			case reason == nil, fault != nil:
			case isFinishReasonFault(reason):
				fault = reason
			default:
				finished = true
			}
		}
	}
	return finished, fault
}
