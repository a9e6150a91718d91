package deepseek

import "github.com/seawall-go/deepseek/internal/jsonscan"

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
