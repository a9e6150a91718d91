package jsonscan

// MemberIter walks over the members of an object:
//
//	for m := jsonscan.Members(data); m.Next(); {
//		switch string(m.Key) { … m.Value … }
//	}
//
// Key and Value are slices of the input; the member is input[Start:End], and its
// value starts At. Err tells afterwards whether the walk came to the object's
// closing bracket.
type MemberIter struct {
	Key   []byte // raw, without its quotes; escapes, which nobody uses in keys, are left as they are
	Value []byte // raw, without blanks around it
	At    int
	walk
}

// Members starts a walk over data, which should hold one object. What follows
// the object is not looked at.
func Members(data []byte) MemberIter { return MemberIter{walk: open(data, '{')} }

// Next goes to the next member and reports whether there is one.
func (m *MemberIter) Next() bool {
	if !m.more {
		return false
	}
	key, value, err := skipKey(m.data, m.pos)
	if err != nil {
		return m.fail(err)
	}
	m.Key = m.data[m.pos+1 : key-1 : key-1]
	m.Start, m.At = m.pos, value
	m.Value, err = m.next(value, '}')
	return err == nil
}

// ElementIter walks over the elements of an array, as [MemberIter] over an
// object; the element is input[Start:End].
type ElementIter struct {
	Value []byte // raw, without blanks around it
	walk
}

// Elements starts a walk over data, which should hold one array. What follows
// the array is not looked at.
func Elements(data []byte) ElementIter { return ElementIter{walk: open(data, '[')} }

// Next goes to the next element and reports whether there is one.
func (e *ElementIter) Next() bool {
	if !e.more {
		return false
	}
	var err error
	e.Start = e.pos
	e.Value, err = e.next(e.pos, ']')
	return err == nil
}

// walk is what the two iterators share.
type walk struct {
	Start, End int // of the member or element in the input

	data []byte
	pos  int  // where the next member or element starts
	more bool // there is one
	err  error
}

// Rest is what follows the closing bracket, once the walk has come to it.
func (w *walk) Rest() []byte { return w.data[w.pos:] }

// Err is why the walk ended before the closing bracket, or nil.
func (w *walk) Err() error { return w.err }

func (w *walk) fail(err error) bool {
	w.err, w.more = err, false
	return false
}

func open(d []byte, bracket byte) walk {
	w := walk{data: d}
	switch i := blank(d, 0); {
	case i >= len(d):
		w.err = ErrEnd
	case d[i] != bracket:
		w.err = ErrSyntax
	default:
		if w.pos = blank(d, i+1); w.pos >= len(d) {
			w.err = ErrEnd
		} else {
			w.more = d[w.pos] != bracket+2 // ']' and '}' are two after '[' and '{'
			if !w.more {
				w.pos++
			}
		}
	}
	return w
}

// next returns the value at i and prepares for the one after it. What is wrong
// after this value shows only at the following call.
func (w *walk) next(i int, closing byte) ([]byte, error) {
	d := w.data
	end, err := skip(d, i)
	if err != nil {
		w.fail(err)
		return nil, err
	}
	w.End = end
	value := d[i:end:end]
	switch i = blank(d, end); {
	case i >= len(d):
		w.fail(ErrEnd)
	case d[i] == ',':
		if w.pos = blank(d, i+1); w.pos >= len(d) {
			w.fail(ErrEnd)
		}
	case d[i] == closing:
		w.more = false
		w.pos = i + 1
	default:
		w.fail(ErrSyntax)
	}
	return value, nil
}

// Object calls visit for every member of the object in data until visit returns
// false. It returns what is wrong with the object as far as it was walked.
func Object(data []byte, visit func(key, value []byte) bool) error {
	m := Members(data)
	for m.Next() {
		if !visit(m.Key, m.Value) {
			return nil
		}
	}
	return m.Err()
}

// Get returns the raw value that keys lead to through nested objects. Of equal
// keys the first counts. What comes after the value is not looked at.
func Get(data []byte, keys ...string) (value []byte, ok bool) {
	value = data
	for _, key := range keys {
		ok = false
		for m := Members(value); m.Next(); {
			if string(m.Key) == key {
				value, ok = m.Value, true
				break
			}
		}
		if !ok {
			return nil, false
		}
	}
	return value, ok
}
