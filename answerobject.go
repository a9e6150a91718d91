package deepseek

import (
	"net/http"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// answerObject is an answer that is no stream, read for where it must change to
// become a longer one.
type answerObject struct {
	data               []byte
	content, reasoning []byte // raw; nil: none, or null
	tools              []byte // raw
	finish, usage      []byte // raw; nil: none, or null

	contentAt, reasoningAt, toolsAt, finishAt, usageAt span // zero: it has none
	messageEnd, end                                    int  // of the message, of all: the closing braces
	no                                                 refusal
}

// readAnswerObject reads an answer; ok is whether it is one.
func readAnswerObject(data []byte) (a *answerObject, ok bool) {
	a = &answerObject{data: data}
	choices := 0
	m := jsonscan.Members(data)
	for m.Next() {
		switch string(m.Key) {
		case "usage":
			a.usage, a.usageAt = notNull(m.Value), span{m.At, m.At + len(m.Value)}
		case "choices":
			for e := jsonscan.Elements(m.Value); e.Next(); choices++ {
				a.choice(e.Value, m.At+e.Start)
			}
		}
	}
	a.end = len(data) - len(m.Rest()) - 1
	if choices > 1 {
		a.no = "it is more than one answer"
	}
	return a, m.Err() == nil && choices > 0 && a.messageEnd > 0 && a.finish != nil
}

func (a *answerObject) choice(data []byte, at int) {
	for m := jsonscan.Members(data); m.Next(); {
		switch string(m.Key) {
		case "index":
		case "finish_reason":
			a.finish, a.finishAt = notNull(m.Value), span{at + m.At, at + m.At + len(m.Value)}
		case "message":
			a.message(m.Value, at+m.At)
		default: // logprobs, for one
			if !isVoid(m.Value) {
				a.no = "it is more than text"
			}
		}
	}
}

func (a *answerObject) message(data []byte, at int) {
	for m := jsonscan.Members(data); m.Next(); {
		where := span{at + m.At, at + m.At + len(m.Value)}
		a.messageEnd = at + len(data) - 1 // of one that has a member
		switch string(m.Key) {
		case "role":
		case "content":
			a.content, a.contentAt = notNull(m.Value), where
		case "reasoning_content":
			a.reasoning, a.reasoningAt = notNull(m.Value), where
		case "tool_calls":
			a.toolsAt = where
			if !isVoid(m.Value) {
				a.tools = m.Value
			}
		default:
			if !isVoid(m.Value) {
				a.no = "it is more than text"
			}
		}
	}
}

// answerOf is a response's answer, if it has one in memory.
func answerOf(resp *http.Response) (*answerObject, error) {
	if b, ok := resp.Body.(*memBody); ok {
		if a, ok := readAnswerObject(b.data); ok {
			return a, nil
		}
	}
	return nil, refusal("what came is no answer")
}
