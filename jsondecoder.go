package deepseek

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// decodeObject calls field for every member of the object in data. What field
// does not take goes to extra. Of equal names the last counts.
func decodeObject(data []byte, extra *Extra, field func(key, value []byte) bool) error {
	*extra = nil
	m := jsonscan.Members(data)
	for m.Next() {
		key := m.Key
		taken := field(key, m.Value)
		if !taken && (bytes.IndexByte(key, '\\') >= 0 || !utf8.Valid(key)) {
			plain, err := jsonscan.Name(key)
			if err != nil {
				return err
			}
			key = plain
			taken = field(key, m.Value)
		}
		switch {
		case !taken:
			if *extra == nil {
				*extra = Extra{}
			}
			(*extra)[string(key)] = bytes.Clone(m.Value)
		case *extra != nil:
			delete(*extra, string(key))
		}
	}
	return m.Err()
}

// unmarshal checks what encoding/json leaves to an UnmarshalJSON method.
func unmarshal(data []byte, decode func([]byte) error) error {
	if jsonscan.IsNull(bytes.TrimSpace(data)) {
		return nil
	}
	return decode(data)
}

// The decoders of single values below set dst and report true for a value of
// their type and for null, which is the zero value. For anything else they
// report false, and dst is the zero value.

func decodeString(value []byte, dst *string) bool {
	if jsonscan.IsString(value) {
		if s, err := jsonscan.String(value); err == nil {
			*dst = s
			return true
		}
	}
	*dst = ""
	return jsonscan.IsNull(value)
}

// decodeElement is decodeString for [decodeArray].
func decodeElement(dst *string, value []byte) error {
	if !decodeString(value, dst) {
		return jsonscan.ErrSyntax
	}
	return nil
}

// decodeShared is decodeString for values that are mostly equal to one that is
// in memory already.
func decodeShared(value []byte, dst *string, known ...string) bool {
	for _, s := range known {
		if jsonscan.Equal(value, s) {
			*dst = s
			return true
		}
	}
	return decodeString(value, dst)
}

func decodeInt(value []byte, dst *int) bool {
	n, ok := jsonscan.Int(value)
	*dst = int(n)
	return ok || jsonscan.IsNull(value)
}

func decodeInt64(value []byte, dst *int64) bool {
	n, ok := jsonscan.Int(value)
	*dst = n
	return ok || jsonscan.IsNull(value)
}

func decodeBool(value []byte, dst *bool) bool {
	*dst = jsonscan.IsTrue(value)
	return *dst || string(value) == "false" || jsonscan.IsNull(value)
}

// decodeWhole is decodeAny for what must not lose anything that its type has no
// field for.
func decodeWhole[T any](value []byte, dst *T) bool {
	if !decodeAny(value, dst) {
		return false
	}
	again, err := json.Marshal(dst)
	var was, is any
	return err == nil && json.Unmarshal(value, &was) == nil && json.Unmarshal(again, &is) == nil && isIn(was, is)
}

// isIn reports whether all of one JSON value is in another, but for what means as
// much as if it were not there.
func isIn(v, other any) bool {
	switch v := v.(type) {
	case map[string]any:
		o, ok := other.(map[string]any)
		for name, member := range v {
			if ok && member != nil && member != "" && member != false && !isIn(member, o[name]) {
				return false
			}
		}
		return ok
	case []any:
		o, ok := other.([]any)
		return ok && slices.EqualFunc(v, o, isIn)
	}
	return v == other
}

// decodeAny is for what encoding/json decodes.
func decodeAny[T any](value []byte, dst *T) bool {
	var fresh T
	ok := json.Unmarshal(value, &fresh) == nil
	if !ok {
		var zero T
		fresh = zero
	}
	*dst = fresh
	return ok
}

// decodeArray sets dst to the elements of an array, as far as decode takes
// them; one that it does not take spoils the array.
func decodeArray[T any](value []byte, dst *[]T, decode func(dst *T, value []byte) error) bool {
	*dst = (*dst)[:0:cap(*dst)]
	if jsonscan.IsNull(value) {
		*dst = nil
		return true
	}
	e := jsonscan.Elements(value)
	for e.Next() {
		var zero T
		*dst = append(*dst, zero)
		if !jsonscan.IsNull(e.Value) && decode(&(*dst)[len(*dst)-1], e.Value) != nil {
			*dst = nil
			return false
		}
	}
	if e.Err() != nil {
		*dst = nil
	}
	return e.Err() == nil
}

// decodeMembers reports whether field took every member of an object.
func decodeMembers(value []byte, field func(key, value []byte) bool) bool {
	all := true
	err := jsonscan.Object(value, func(key, value []byte) bool {
		all = field(key, value) && all
		return true
	})
	return all && err == nil
}
