package jsonscan

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// IsNull reports whether a raw value is null.
func IsNull(value []byte) bool { return string(value) == "null" }

// IsTrue reports whether a raw value is true.
func IsTrue(value []byte) bool { return string(value) == "true" }

// IsString reports whether a raw value is a string.
func IsString(value []byte) bool { return len(value) >= 2 && value[0] == '"' }

// String decodes a raw string value. What is no UTF-8 becomes U+FFFD, as in
// encoding/json.
func String(value []byte) (string, error) {
	if body, ok := plain(value); ok {
		return string(body), nil
	}
	b, err := AppendString(nil, value)
	return string(b), err
}

// Equal reports whether value is the string s. Only values without escapes
// compare equal.
func Equal(value []byte, s string) bool {
	return len(value) == len(s)+2 && value[0] == '"' && value[len(value)-1] == '"' && string(value[1:len(value)-1]) == s
}

// plain returns the inside of a string value that means what it says: no
// escapes, valid UTF-8.
func plain(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return nil, false
	}
	body := value[1 : len(value)-1]
	if len(body) > 16 {
		return body, bytes.IndexByte(body, '\\') < 0 && bytes.IndexByte(body, '"') < 0 && utf8.Valid(body)
	}
	for _, c := range body {
		if c == '\\' || c == '"' {
			return nil, false
		}
		if c >= utf8.RuneSelf {
			return body, bytes.IndexByte(body, '\\') < 0 && bytes.IndexByte(body, '"') < 0 && utf8.Valid(body)
		}
	}
	return body, true
}

// AppendString appends what a raw string value means to dst.
func AppendString(dst, value []byte) ([]byte, error) {
	if body, ok := plain(value); ok {
		return append(dst, body...), nil
	}
	switch {
	case len(value) == 0:
		return dst, ErrEnd
	case value[0] != '"':
		return dst, ErrSyntax
	case len(value) < 2 || value[len(value)-1] != '"':
		return dst, ErrEnd
	}
	s := value[1 : len(value)-1]
	for len(s) > 0 {
		switch c := s[0]; {
		case c == '\\':
			var n int
			if dst, n = appendEscape(dst, s); n == 0 {
				return dst, ErrSyntax
			}
			s = s[n:]
		case c == '"':
			return dst, ErrSyntax
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			s = s[1:]
		default:
			r, n := utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
			s = s[n:]
		}
	}
	return dst, nil
}

// Name is what a member's raw name means, as [Members] and [Cursor] tell it: without
// the quotes around it.
func Name(raw []byte) ([]byte, error) { return AppendString(nil, Quoted(raw)) }

// Quoted is a member's raw name as it stands in the object: with its quotes.
func Quoted(raw []byte) []byte { return append(append([]byte{'"'}, raw...), '"') }

// AppendExact appends what a raw string value means to dst, byte for byte: what
// is no UTF-8 stays as it is. It is not ok if the value is not strictly a JSON
// string: with a control character in it, an escape that is none, or half of a
// surrogate pair, which readers take for different things.
func AppendExact(dst, value []byte) (_ []byte, ok bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return dst, false
	}
	s := value[1 : len(value)-1]
	from := 0
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c < ' ' || c == '"':
			return dst, false
		case c != '\\':
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		if r := hex4(s[i:]); utf16.IsSurrogate(r) && utf16.DecodeRune(r, hex4(s[i+6:])) == utf8.RuneError {
			return dst, false
		}
		var n int
		if dst, n = appendEscape(dst, s[i:]); n == 0 {
			return dst, false
		}
		i += n
		from = i
	}
	return append(dst, s[from:]...), true
}

// appendEscape decodes the escape that s begins with and returns its length, 0
// if it is none.
func appendEscape(dst, s []byte) ([]byte, int) {
	if len(s) < 2 {
		return dst, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return append(dst, s[1]), 2
	case 'b':
		return append(dst, '\b'), 2
	case 'f':
		return append(dst, '\f'), 2
	case 'n':
		return append(dst, '\n'), 2
	case 'r':
		return append(dst, '\r'), 2
	case 't':
		return append(dst, '\t'), 2
	case 'u':
		r := hex4(s)
		if r < 0 {
			return dst, 0
		}
		if utf16.IsSurrogate(r) {
			// A lone half becomes U+FFFD, and what follows it stands for itself.
			pair := utf16.DecodeRune(r, hex4(s[6:]))
			if pair != utf8.RuneError {
				return utf8.AppendRune(dst, pair), 12
			}
			r = utf8.RuneError
		}
		return utf8.AppendRune(dst, r), 6
	}
	return dst, 0
}

// hex4 decodes the \uXXXX that s begins with, or returns -1.
func hex4(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range s[2:6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20-'a' <= 5:
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// Int decodes a raw number. A fraction is cut off; what does not fit, or is no
// number, is not ok.
func Int(value []byte) (n int64, ok bool) {
	if len(value) > 0 && len(value) < 19 && value[0]-'0' <= 9 {
		for _, c := range value {
			if c -= '0'; c > 9 {
				return slowInt(value)
			}
			n = n*10 + int64(c)
		}
		return n, true
	}
	return slowInt(value)
}

func slowInt(value []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return n, true
	}
	f, ok := Float(value)
	if !ok || math.Abs(f) >= 1<<63 {
		return 0, false
	}
	return int64(f), true
}

// Float decodes a raw number. What is out of range, or no number, is not ok.
func Float(value []byte) (float64, bool) {
	if len(value) == 0 || value[0] != '-' && value[0]-'0' > 9 {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(value), 64)
	return f, err == nil
}

// AppendQuoted appends s as a JSON string. It escapes no more than JSON asks
// for, and U+2028 and U+2029, which some readers take for line ends. What is no
// UTF-8 becomes U+FFFD.
func AppendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		var r rune
		if c >= utf8.RuneSelf {
			if r, size = utf8.DecodeRuneInString(s[i:]); r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || size > 1) {
				i += size
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			if c < utf8.RuneSelf {
				r = rune(c)
			}
			dst = append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		}
		i += size
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
