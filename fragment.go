package deepseek

import "github.com/seawall-go/deepseek/internal/jsonscan"

// fragment is what one event of a chat stream adds to its answer: raw values, of
// the first choice. What is empty or null is nil.
type fragment struct {
	content, reasoning []byte
	finish             []byte
	usage              []byte

	role   bool // it begins the message
	thinks bool // it has a reasoning_content, if an empty one
	tools  bool // a piece of a tool call
	others bool // something of another choice
	more   bool // something else that is not known here
	failed bool // it is an error

	at int // where the last of its texts is in the event
}

// shape is the form of an event that adds a text and nothing else. Nearly all
// events of a stream have the same, and are told by it for a fraction of what
// reading them costs.
type shape struct {
	head, tail []byte // before and after the text; nil: none is known
	reasoning  bool   // the text is reasoning
}

// scan reads the data of an event into f, and reports whether it is a chunk.
func (s *shape) scan(f *fragment, data []byte) bool {
	if s.fits(f, data) {
		return true
	}
	if !f.scan(data) {
		return false
	}
	s.reasoning = f.reasoning != nil
	text := f.content
	if s.reasoning {
		text = f.reasoning
	}
	if text != nil && (f.content == nil || f.reasoning == nil) && f.finish == nil && f.usage == nil &&
		!f.role && !f.tools && !f.others && !f.more && !f.failed {
		s.head = append(s.head[:0], data[:f.at]...)
		s.tail = append(s.tail[:0], data[f.at+len(text):]...)
	}
	return true
}

// fits reports whether data has the shape, and then sets f.
func (s *shape) fits(f *fragment, data []byte) bool {
	from, to := len(s.head), len(data)-len(s.tail)
	if from == 0 || to-from <= 2 || string(data[:from]) != string(s.head) || string(data[to:]) != string(s.tail) {
		return false
	}
	text := data[from:to]
	if n, err := jsonscan.Skip(text); text[0] != '"' || err != nil || n != len(text) {
		return false
	}
	*f = fragment{thinks: s.reasoning}
	if s.reasoning {
		f.reasoning = text
	} else {
		f.content = text
	}
	return true
}

// scan reads the data of an event, and reports whether it is a chunk.
func (f *fragment) scan(data []byte) bool {
	*f = fragment{}
	m := jsonscan.Members(data)
	for m.Next() {
		switch string(m.Key) {
		case "choices":
			e := jsonscan.Elements(m.Value)
			for e.Next() {
				if !f.choice(e.Value, m.At+e.Start) {
					return false
				}
			}
		case "usage":
			if !jsonscan.IsNull(m.Value) {
				f.usage = m.Value
			}
		case "error":
			f.failed = f.failed || !jsonscan.IsNull(m.Value)
		}
	}
	return m.Err() == nil
}

// choice reads a choice, which is at at in the event.
func (f *fragment) choice(data []byte, at int) bool {
	var one fragment
	first := true
	m := jsonscan.Members(data)
	for m.Next() {
		switch string(m.Key) {
		case "index":
			first = string(m.Value) == "0"
		case "delta":
			if !jsonscan.IsNull(m.Value) && !one.delta(m.Value, at+m.At) {
				return false
			}
		case "finish_reason":
			if !jsonscan.IsNull(m.Value) {
				one.finish = m.Value
			}
		default: // logprobs, for one
			one.more = one.more || !isVoid(m.Value)
		}
	}
	if !first || f.says() {
		f.role = f.role || one.role
		f.others = f.others || one.says() || one.finish != nil
		return m.Err() == nil
	}
	usage, failed, others := f.usage, f.failed, f.others
	*f = one
	f.usage, f.failed, f.others = usage, failed, others
	return m.Err() == nil
}

func (f *fragment) delta(data []byte, at int) bool {
	m := jsonscan.Members(data)
	for m.Next() {
		switch string(m.Key) {
		case "role":
			f.role = !jsonscan.IsNull(m.Value)
		case "content":
			if !isVoid(m.Value) {
				f.content, f.at = m.Value, at+m.At
			}
		case "reasoning_content":
			f.thinks = jsonscan.IsString(m.Value)
			if !isVoid(m.Value) {
				f.reasoning, f.at = m.Value, at+m.At
			}
		case "tool_calls":
			f.tools = !isVoid(m.Value)
		default:
			f.more = f.more || !isVoid(m.Value)
		}
	}
	return m.Err() == nil
}

// says reports whether the event adds anything to the answer.
func (f *fragment) says() bool {
	return f.content != nil || f.reasoning != nil || f.tools || f.more || f.others
}

// isVoid reports whether a raw value stands for nothing.
func isVoid(value []byte) bool {
	switch string(value) {
	case "null", `""`, "[]", "{}", "false":
		return true
	}
	return false
}

var rawNull = []byte("null")
