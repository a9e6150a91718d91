package jsonscan

// Cursor reads a value from front to back, going into the objects and arrays that
// matter and over the rest, so that no byte is looked at twice:
//
//	c := jsonscan.NewCursor(data)
//	if c.Object() {
//		for c.Key() {
//			switch string(c.Name) {
//			case "usage":
//				usage(&c) // goes into it likewise
//			case "model":
//				model = c.Value()
//			default:
//				c.Skip()
//			}
//		}
//	}
//
// Each member and element must be taken by exactly one of Object, Array, Value,
// Int and Skip. After an error nothing more is found, and Err tells it.
type Cursor struct {
	Name []byte // of the member that Key has come to; see [MemberIter]

	data []byte
	pos  int
	open bool // a bracket has just opened: no comma is due
	err  error
}

// NewCursor returns a cursor at the value in data. What follows it is not looked
// at.
func NewCursor(data []byte) Cursor {
	c := Cursor{data: data, pos: blank(data, 0)}
	if c.pos >= len(data) {
		c.err = ErrEnd
	}
	return c
}

// Err is why the reading ended, or nil.
func (c *Cursor) Err() error { return c.err }

// Rest is what follows the value, once it was read.
func (c *Cursor) Rest() []byte { return c.data[c.pos:] }

// Object goes into the value if it is an object. If not, the cursor stays.
func (c *Cursor) Object() bool { return c.enter('{') }

// Array goes into the value if it is an array. If not, the cursor stays.
func (c *Cursor) Array() bool { return c.enter('[') }

func (c *Cursor) enter(bracket byte) bool {
	if c.err != nil || c.data[c.pos] != bracket {
		return false
	}
	c.pos++
	c.open = true
	return true
}

// Key goes to the next member's value, and out of the object if there is none.
func (c *Cursor) Key() bool {
	if c.nearKey() {
		return true
	}
	i, ok := c.following('}')
	if !ok {
		return false
	}
	key, value, err := skipKey(c.data, i)
	if err != nil {
		return c.fail(err)
	}
	c.Name, c.pos = c.data[i+1:key-1:key-1], value
	return true
}

// nearKey is Key where there is another member and not a blank or a backslash on
// the way to its value.
func (c *Cursor) nearKey() bool {
	d, i := c.data, c.pos
	if !c.open && i < len(d) && d[i] == ',' {
		i++
	} else if !c.open {
		return false
	}
	if i >= len(d) || d[i] != '"' {
		return false
	}
	name := i + 1
	i, ok := nearQuote(d, name)
	if !ok || i+2 >= len(d) || d[i+1] != ':' || d[i+2] <= ' ' {
		return false
	}
	c.Name, c.pos, c.open = d[name:i:i], i+2, false
	return true
}

// Element goes to the next element, and out of the array if there is none.
func (c *Cursor) Element() bool {
	i, ok := c.following(']')
	c.pos = i
	return ok
}

// following returns where the next member or element begins.
func (c *Cursor) following(closing byte) (int, bool) {
	if c.err != nil {
		return c.pos, false
	}
	first := c.open
	c.open = false
	i := blank(c.data, c.pos)
	switch {
	case i >= len(c.data):
		return len(c.data), c.fail(ErrEnd)
	case c.data[i] == closing:
		c.pos = i + 1
		return c.pos, false
	case first:
		return i, true
	case c.data[i] != ',':
		return i, c.fail(ErrSyntax)
	}
	if i = blank(c.data, i+1); i >= len(c.data) {
		return i, c.fail(ErrEnd)
	}
	return i, true
}

// Value takes the value raw, without blanks around it; nil if it is not whole.
func (c *Cursor) Value() []byte {
	from := c.pos
	c.Skip()
	if c.err != nil {
		return nil
	}
	return c.data[from:c.pos:c.pos]
}

// Skip goes over the value.
func (c *Cursor) Skip() {
	if c.err != nil {
		return
	}
	end, err := skip(c.data, c.pos)
	if err != nil {
		c.fail(err)
		return
	}
	c.pos = end
}

// Int takes the value as a number, as [Int] does. One that is none is gone over.
func (c *Cursor) Int() (n int64, ok bool) {
	if c.err != nil {
		return 0, false
	}
	i := c.pos
	for ; i < len(c.data) && i < c.pos+18 && c.data[i]-'0' <= 9; i++ {
		n = n*10 + int64(c.data[i]-'0')
	}
	if i == c.pos || i == len(c.data) || c.data[c.pos] == '0' && i > c.pos+1 || numeric(c.data[i]) {
		return Int(c.Value())
	}
	c.pos = i
	return n, true
}

// numeric reports whether a number that came to b goes on.
func numeric(b byte) bool { return b == '.' || b|0x20 == 'e' || b-'0' <= 9 }

func (c *Cursor) fail(err error) bool {
	c.err, c.pos, c.open = err, len(c.data), false
	return false
}
