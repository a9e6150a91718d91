// Package jsonscan walks over JSON that is already in memory without decoding
// it: no reflection, no allocation, values handed out as slices of the input.
//
// It checks structure, not every rule of the grammar: brackets, commas, colons,
// literals and numbers must be right and strings must end, but what is inside a
// string is looked at only when it is asked for with [String]. Everything that
// encoding/json accepts is accepted; a value that was cut short never is.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
)

// MaxDepth is how deep arrays and objects may be nested, as in encoding/json.
const MaxDepth = 10_000

var (
	// ErrEnd: the input ends inside a value.
	ErrEnd = errors.New("json: unexpected end")
	// ErrSyntax: the input is no JSON, or not of the kind asked for.
	ErrSyntax = errors.New("json: syntax error")
	// ErrDepth: nested deeper than MaxDepth.
	ErrDepth = errors.New("json: nested too deep")
)

// Whole reports whether data is exactly one complete JSON value, with nothing
// but blanks before and after it. No strict prefix of an object, array or
// string is whole.
func Whole(data []byte) bool {
	end, err := skip(data, blank(data, 0))
	return err == nil && blank(data, end) == len(data)
}

// Skip returns how many bytes of data its first value takes, blanks before it
// included.
func Skip(data []byte) (int, error) { return skip(data, blank(data, 0)) }

// blank returns the index of the first byte from i on that is no white space.
func blank(d []byte, i int) int {
	if i < len(d) && d[i] > ' ' { // nearly always
		return i
	}
	return skipBlank(d, i)
}

func skipBlank(d []byte, i int) int {
	for i < len(d) {
		switch d[i] {
		case ' ', '\n', '\t', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// skip returns the index after the value that starts at i.
func skip(d []byte, i int) (int, error) {
	if i >= len(d) {
		return i, ErrEnd
	}
	switch d[i] {
	case '"':
		return skipString(d, i)
	case '{', '[':
		return skipNested(d, i)
	default:
		return skipScalar(d, i)
	}
}

// Eight bytes at a time: the highest bit of each byte of x that is zero, and of
// none before the first of these.
const (
	ones   = 0x0101010101010101
	highs  = ones << 7
	quotes = ones * '"'
)

func zeros(x uint64) uint64 { return (x - ones) &^ x & highs }

// shortString is how far a string is walked by eights. For more than that,
// IndexByte is quicker, which costs more to begin.
const shortString = 32

// skipString returns the index after the string whose opening quote is at i.
func skipString(d []byte, i int) (int, error) {
	from := i + 1
	if i, ok := nearQuote(d, from); ok {
		return i + 1, nil
	}
	return skipLong(d, from)
}

// nearQuote returns where the string ends whose first byte is at i, if that is
// near and there is no backslash before it.
func nearQuote(d []byte, i int) (int, bool) {
	for end := i + shortString; i < end && i+8 <= len(d); i += 8 {
		if m := zeros(binary.LittleEndian.Uint64(d[i:]) ^ quotes); m != 0 {
			i += bits.TrailingZeros64(m) / 8
			return i, d[i-1] != '\\' // else it may be a part of the string
		}
	}
	return i, false
}

// skipLong is skipString from the string's first byte on.
func skipLong(d []byte, from int) (int, error) {
	for from < len(d) {
		n := bytes.IndexByte(d[from:], '"')
		if n < 0 {
			break
		}
		quote := from + n
		slashes := 0
		for b := quote - 1; b >= from && d[b] == '\\'; b-- {
			slashes++
		}
		if slashes&1 == 0 {
			return quote + 1, nil
		}
		from = quote + 1
	}
	return len(d), ErrEnd
}

// skipScalar returns the index after the literal or number that starts at i.
func skipScalar(d []byte, i int) (int, error) {
	switch d[i] {
	case 't':
		return skipWord(d, i, "true")
	case 'f':
		return skipWord(d, i, "false")
	case 'n':
		return skipWord(d, i, "null")
	default:
		return skipNumber(d, i)
	}
}

func skipWord(d []byte, i int, word string) (int, error) {
	have := d[i:min(len(d), i+len(word))]
	if string(have) == word {
		return i + len(word), nil
	}
	if string(have) == word[:len(have)] {
		return len(d), ErrEnd
	}
	return i, ErrSyntax
}

func skipNumber(d []byte, i int) (int, error) {
	if d[i] == '-' {
		i++
	}
	var err error
	if i < len(d) && d[i] == '0' {
		i++
	} else if i, err = skipDigits(d, i); err != nil {
		return i, err
	}
	if i < len(d) && d[i] == '.' {
		if i, err = skipDigits(d, i+1); err != nil {
			return i, err
		}
	}
	if i < len(d) && d[i]|0x20 == 'e' {
		if i++; i < len(d) && (d[i] == '+' || d[i] == '-') {
			i++
		}
		return skipDigits(d, i)
	}
	return i, nil
}

// skipDigits wants at least one digit.
func skipDigits(d []byte, i int) (int, error) {
	start := i
	for i < len(d) && d[i]-'0' <= 9 {
		i++
	}
	switch {
	case i > start:
		return i, nil
	case i == len(d):
		return i, ErrEnd
	}
	return i, ErrSyntax
}

// levels remembers for every open bracket whether it is an object's. The
// innermost 64 are bits of a word, so that ordinary nesting costs nothing.
type levels struct {
	word  uint64 // bit 0: the innermost is an object
	outer []uint64
	depth int
}

func (l *levels) push(object uint64) bool {
	if l.depth == MaxDepth {
		return false
	}
	if l.depth&63 == 0 && l.depth > 0 {
		l.outer = append(l.outer, l.word)
	}
	l.word = l.word<<1 | object
	l.depth++
	return true
}

func (l *levels) pop() {
	l.depth--
	l.word >>= 1
	if l.depth&63 == 0 && l.depth > 0 {
		last := len(l.outer) - 1
		l.word, l.outer = l.outer[last], l.outer[:last]
	}
}

// skipNested returns the index after the object or array that opens at i. It is
// a loop with a stack of bits: hostile nesting costs no goroutine stack.
func skipNested(d []byte, i int) (int, error) {
	var open levels
	var err error
	for {
		// A value starts at i.
		switch c := d[i]; c {
		case '"':
			if i, err = skipString(d, i); err != nil {
				return i, err
			}
		case '{', '[':
			var object uint64
			if c == '{' {
				object = 1
			}
			if !open.push(object) {
				return i, ErrDepth
			}
			if i = blank(d, i+1); i >= len(d) {
				return i, ErrEnd
			}
			if d[i] == c+2 { // ']' and '}' are two after '[' and '{'
				i++
				open.pop()
				break
			}
			if object == 1 {
				if _, i, err = skipKey(d, i); err != nil {
					return i, err
				}
			}
			continue
		default:
			if i, err = skipScalar(d, i); err != nil {
				return i, err
			}
		}
		// A value ended before i: close what closes here.
		for {
			if open.depth == 0 {
				return i, nil
			}
			if i = blank(d, i); i >= len(d) {
				return i, ErrEnd
			}
			c := d[i]
			i++
			if c == ',' {
				break
			}
			if c != ']'+byte(open.word&1)<<5 { // '}' is 32 after ']'
				return i, ErrSyntax
			}
			open.pop()
		}
		if i = blank(d, i); i >= len(d) {
			return i, ErrEnd
		}
		if open.word&1 == 1 {
			if _, i, err = skipKey(d, i); err != nil {
				return i, err
			}
		}
	}
}

// skipKey passes a member's key and colon. It returns where the key ends, its
// quote included, and where the value starts, which is before the end of d.
func skipKey(d []byte, i int) (key, value int, err error) {
	if d[i] != '"' {
		return i, i, ErrSyntax
	}
	if key, err = skipString(d, i); err != nil {
		return key, key, err
	}
	if key+1 < len(d) && d[key] == ':' && d[key+1] > ' ' { // nearly always
		return key, key + 1, nil
	}
	if i = blank(d, key); i >= len(d) {
		return key, i, ErrEnd
	}
	if d[i] != ':' {
		return key, i, ErrSyntax
	}
	if i = blank(d, i+1); i >= len(d) {
		return key, i, ErrEnd
	}
	return key, i, nil
}
