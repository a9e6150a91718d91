package deepseek

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

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

func (o object) float(name string, f *float64) {
	if f != nil {
		o.any(name, *f)
	}
}

func (o object) strings(name string, all []string) {
	if len(all) > 0 {
		o.any(name, all)
	}
}

func (o object) stream(stream bool, options *StreamOptions) {
	if stream {
		o.bool("stream", true)
	}
	if options != nil && o.member("stream_options") {
		s := o.object(nil)
		s.bool("include_usage", options.IncludeUsage)
		s.end()
	}
}

// object starts an object inside this one.
func (o object) object(extra Extra) object { return o.jsonWriter.object(extra) }

// more writes the caller's extra fields of a request.
func (o object) more(extra map[string]any, known []string) {
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if slices.Contains(known, name) {
			o.fail(&RequestError{Field: "Extra", Value: name, Reason: "has a field of its own"})
		}
		o.any(name, extra[name])
	}
}
