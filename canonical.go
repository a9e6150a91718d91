package deepseek

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
	"sync"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// canonical writes a request in the one form that all texts of the same meaning
// share, into a hash. The same means: however the members of objects are
// ordered, wherever there are blanks, and however strings are escaped. Numbers
// are compared as they are written, so that 1 and 1.0, of which nobody knows what
// a server makes, are two things.
//
// The form is unambiguous: strings begin with their length, what is neither
// string, object nor array ends with a comma.
type canonical struct {
	sum     hash.Hash
	b       []byte // not yet in sum
	members []member
	digest  [sha256.Size]byte
}

type member struct{ key, value []byte }

const (
	// keyPrefix is whose keys they are, and by which form.
	keyPrefix = "seawall:1:"

	// maxCanonicalDepth is how deep a request may be nested: enough for any
	// schema of a tool. Each level costs a pass over what is in it.
	maxCanonicalDepth = 64
	canonicalBuffer   = 32 << 10
)

var canonicals = sync.Pool{New: func() any { return &canonical{sum: sha256.New()} }}

// requestKey names a request of that body, apart from those to other places. ok
// is false if the body is not one JSON object of one meaning: no JSON, two
// members of one name, or half a character.
func requestKey(body []byte, place ...string) (key string, ok bool) {
	w := canonicals.Get().(*canonical)
	defer canonicals.Put(w)
	w.sum.Reset()
	w.b, w.members = w.b[:0], w.members[:0]
	for _, s := range place {
		from := w.begin()
		w.b = append(w.b, s...)
		w.end(from)
	}
	ok = w.whole(body)
	clear(w.members[:cap(w.members)]) // they keep the body alive
	if cap(w.b) > maxSniffer {
		defer func() { w.b = nil }()
	}
	if !ok {
		return "", false
	}
	w.flush()
	w.b = hex.AppendEncode(append(w.b, keyPrefix...), w.sum.Sum(w.digest[:0]))
	return string(w.b), true
}

// whole writes a body, which must be one object.
func (w *canonical) whole(body []byte) bool {
	rest, ok := w.object(body, 1)
	return ok && len(bytes.TrimLeft(rest, " \t\r\n")) == 0
}

func (w *canonical) flush() {
	_, _ = w.sum.Write(w.b)
	w.b = w.b[:0]
}

// value writes any value.
func (w *canonical) value(raw []byte, depth int) (ok bool) {
	if len(w.b) > canonicalBuffer {
		w.flush()
	}
	if depth > maxCanonicalDepth {
		return false
	}
	switch raw[0] {
	case '{':
		_, ok = w.object(raw, depth)
		return ok
	case '[':
		w.b = append(w.b, '[')
		e := jsonscan.Elements(raw)
		for e.Next() {
			if !w.value(e.Value, depth+1) {
				return false
			}
		}
		w.b = append(w.b, ']')
		return e.Err() == nil
	case '"':
		return w.str(raw)
	}
	w.b = append(append(w.b, raw...), ',')
	return true
}

// object writes an object, its members in the order of their names, and
// returns what comes after it.
func (w *canonical) object(raw []byte, depth int) (rest []byte, ok bool) {
	first := len(w.members)
	m := jsonscan.Members(raw)
	for m.Next() {
		key := m.Key
		if bytes.IndexByte(key, '\\') >= 0 {
			if key, ok = jsonscan.AppendExact(nil, jsonscan.Quoted(key)); !ok {
				return nil, false
			}
		} else if hasControl(key) {
			return nil, false
		}
		w.members = append(w.members, member{key, m.Value})
	}
	if m.Err() != nil {
		return nil, false
	}
	// What is in the members comes after these in w.members.
	end := len(w.members)
	slices.SortFunc(w.members[first:], func(a, b member) int { return bytes.Compare(a.key, b.key) })
	w.b = append(w.b, '{')
	for i := first; i < end; i++ {
		one := w.members[i]
		if i > first && bytes.Equal(one.key, w.members[i-1].key) {
			return nil, false
		}
		from := w.begin()
		w.b = append(w.b, one.key...)
		w.end(from)
		if !w.value(one.value, depth+1) {
			return nil, false
		}
	}
	w.b = append(w.b, '}')
	w.members = w.members[:first]
	return m.Rest(), true
}

func hasControl(s []byte) bool {
	return slices.ContainsFunc(s, func(c byte) bool { return c < ' ' })
}

// str writes a raw JSON string.
func (w *canonical) str(raw []byte) (ok bool) {
	from := w.begin()
	if w.b, ok = jsonscan.AppendExact(w.b, raw); ok {
		w.end(from)
	}
	return ok
}

// begin leaves room for the length of a string.
func (w *canonical) begin() int {
	w.b = append(w.b, '"', 0, 0, 0, 0)
	return len(w.b)
}

func (w *canonical) end(from int) {
	binary.BigEndian.PutUint32(w.b[from-4:], uint32(len(w.b)-from)) // a body has less than 4 GiB
}
