package deepseek

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// Extra holds the members of a JSON object that its Go type has no field for, as
// raw JSON by name: fields that DeepSeek has added since, or that another host
// adds. A known member whose value is of an unexpected type is kept here too.
// Encoding writes them back, and prefers them over the field of the same name.
// nil, the normal case, is none.
type Extra map[string]json.RawMessage

// merge adds more to e; of equal names more's counts.
func (e *Extra) merge(more Extra) {
	if len(more) == 0 {
		return
	}
	if *e == nil {
		*e = Extra{}
	}
	maps.Copy(*e, more)
}

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

// jsonWriter builds JSON text. The first error stays.
type jsonWriter struct {
	b    []byte
	err  error
	last string // name of the member that was begun last
}

// marshal is for MarshalJSON methods.
func marshal(encode func(*jsonWriter)) ([]byte, error) {
	var w jsonWriter
	encode(&w)
	return w.b, w.err
}

// elements writes an array.
func elements[T any](w *jsonWriter, all []T, encode func(*T, *jsonWriter)) {
	w.b = append(w.b, '[')
	member, sound := w.last, w.err == nil
	for i := range all {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		encode(&all[i], w)
		if sound && w.err != nil {
			w.within(member + "[" + strconv.Itoa(i) + "].")
			sound = false
		}
	}
	w.b = append(w.b, ']')
}

// name begins a member of the object under construction.
func (w *jsonWriter) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(jsonscan.AppendQuoted(w.b, name), ':')
	w.last = name
}

// object starts an object whose unknown members are extra.
func (w *jsonWriter) object(extra Extra) object {
	w.b = append(w.b, '{')
	return object{w, extra}
}

// value writes anything that encoding/json can, without escaping HTML.
func (w *jsonWriter) value(v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	w.b = append(w.b, bytes.TrimRight(buf.Bytes(), "\n")...)
	return nil
}

func (w *jsonWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// within says where the field is that the error is about.
func (w *jsonWriter) within(place string) {
	if bad, ok := w.err.(*RequestError); ok {
		bad.Field = place + bad.Field
	}
}

// object writes one object's members. A member that extra has as well is left
// to it.
type object struct {
	*jsonWriter
	extra Extra
}

// member begins a member and reports whether its value is to be written.
func (o object) member(name string) bool {
	if _, has := o.extra[name]; has {
		return false
	}
	o.name(name)
	return true
}

func (o object) str(name, s string) {
	if o.member(name) {
		o.b = jsonscan.AppendQuoted(o.b, s)
	}
}

// optional writes a string unless it is empty.
func (o object) optional(name, s string) {
	if s != "" {
		o.str(name, s)
	}
}

func (o object) int(name string, n int64) {
	if o.member(name) {
		o.b = strconv.AppendInt(o.b, n, 10)
	}
}

func (o object) bool(name string, v bool) {
	if o.member(name) {
		o.b = strconv.AppendBool(o.b, v)
	}
}

func (o object) null(name string) {
	if o.member(name) {
		o.b = append(o.b, "null"...)
	}
}

// any writes a member of any type.
func (o object) any(name string, v any) {
	if !o.member(name) {
		return
	}
	if err := o.value(v); err != nil {
		o.fail(&RequestError{Field: name, Reason: "cannot be written as JSON: " + err.Error()})
	}
}

// end writes the extra members, in the order of their names, and closes the
// object.
func (o object) end() {
	if len(o.extra) > 0 {
		for _, name := range slices.Sorted(maps.Keys(o.extra)) {
			raw := o.extra[name]
			if !jsonscan.Whole(raw) {
				o.fail(&RequestError{Field: "Extra[" + strconv.Quote(name) + "]", Reason: "is not JSON"})
			}
			o.name(name)
			o.b = append(o.b, raw...)
		}
	}
	o.b = append(o.b, '}')
}
