package deepseek

import (
	"math/bits"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

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

// progress is how far the choices of an answer are: a bit for each, by its index.
type progress struct{ begun, finished uint64 }

// add takes in what an event says.
func (p *progress) add(more progress) {
	p.begun |= more.begun
	p.finished |= more.finished
}

// complete reports whether all choices that have begun are finished, and as many as
// were asked for.
func (p *progress) complete(asked uint8) bool {
	return p.begun != 0 && p.begun == p.finished && bits.OnesCount64(p.finished) >= int(asked)
}

// finishReasons reads the choices of an answer or of an event: how far they are, and
// the raw finish_reason that is a fault; nil: there is no such. An empty one, which
// some hosts write in each event, is none.
func finishReasons(c *jsonscan.Cursor) (p progress, fault []byte) {
	if !c.Array() {
		c.Skip()
		return p, nil
	}
	for c.Element() {
		if !c.Object() {
			c.Skip()
			continue
		}
		index, finished := int64(0), false
		for c.Key() {
			switch string(c.Name) {
			case "index":
				index, _ = c.Int()
			case "finish_reason":
				switch reason := notNull(c.Value()); {
				case len(reason) <= len(`""`), fault != nil:
				case isFinishReasonFault(reason):
					fault = reason
				default:
					finished = true
				}
			default:
				c.Skip()
			}
		}
		bit := uint64(1) << min(uint64(index), 63)
		p.begun |= bit
		if finished {
			p.finished |= bit
		}
	}
	return p, fault
}
