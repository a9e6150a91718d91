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

// seam makes the events of a further stream look like those of the first.
type seam struct {
	id, created, model, fingerprint []byte // raw, of the first stream
	edits                           edits  // scratch
}

// learn takes down what is the same in all events of the first stream.
func (s *seam) learn(data []byte) {
	for m := jsonscan.Members(data); m.Next(); {
		if known := s.known(m.Key); known != nil {
			*known = append((*known)[:0], m.Value...)
		}
	}
}

// known is the member of that name that is the same in all events.
func (s *seam) known(key []byte) *[]byte {
	switch string(key) {
	case "id":
		return &s.id
	case "created":
		return &s.created
	case "model":
		return &s.model
	case "system_fingerprint":
		return &s.fingerprint
	}
	return nil
}

// changes are what is to be different in an event beyond that.
type changes struct {
	role   bool   // the role goes
	finish bool   // the finish_reason and usage become null
	usage  []byte // the usage becomes this
}

// join appends an event of a further stream as one of the first.
func (s *seam) join(dst, data []byte, ch changes) []byte {
	s.edits = s.edits[:0]
	for m := jsonscan.Members(data); m.Next(); {
		end := m.At + len(m.Value)
		if known := s.known(m.Key); known != nil {
			if *known != nil {
				s.edits.replace(m.At, end, *known)
			}
			continue
		}
		switch string(m.Key) {
		case "usage":
			switch {
			case ch.finish:
				s.edits.replace(m.At, end, rawNull)
			case ch.usage != nil:
				s.edits.replace(m.At, end, ch.usage)
			}
		case "choices":
			for e := jsonscan.Elements(m.Value); e.Next(); {
				s.choice(e.Value, m.At+e.Start, ch)
			}
		}
	}
	return s.edits.apply(dst, data)
}

var rawNull = []byte("null")

// choice notes the changes to a choice, which is at at.
func (s *seam) choice(data []byte, at int, ch changes) {
	for m := jsonscan.Members(data); m.Next(); {
		switch string(m.Key) {
		case "finish_reason":
			if ch.finish {
				s.edits.replace(at+m.At, at+m.At+len(m.Value), rawNull)
			}
		case "delta":
			if ch.role {
				if from, to := memberSpan(m.Value, "role"); to > 0 {
					s.edits.replace(at+m.At+from, at+m.At+to, nil)
				}
			}
		}
	}
}

// memberSpan is what to take out of an object so that a member is gone, its
// comma included; zero if there is none of that name.
func memberSpan(object []byte, name string) (from, to int) {
	end, first := 0, false
	for m := jsonscan.Members(object); m.Next(); {
		if first { // it was the first: all up to the second goes
			return from, m.Start
		}
		if string(m.Key) == name {
			from, to, first = end, m.At+len(m.Value), end == 0
			if !first {
				return from, to
			}
			from = m.Start
		}
		end = m.At + len(m.Value)
	}
	return from, to
}
