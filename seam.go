package deepseek

import "github.com/seawall-go/deepseek/internal/jsonscan"

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
