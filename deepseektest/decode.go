package deepseektest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// ask is what a request wants of the model, in whichever format it came.
type ask struct {
	err       *apiError // why it is refused; the rest may be incomplete
	format    format
	model     *Model
	modelName string // as asked for

	stream       bool
	includeUsage bool
	thinking     bool
	maxTokens    int
	user         string

	messages    []Message
	prefix      *Message
	tools       []string
	toolText    []byte // the tools as part of the prompt
	force       string // the tool that must be called
	asJSON      bool
	stop        []string
	logprobs    bool
	topLogprobs int // of that many tokens each
	suffix      string
	echo        bool
	text        []byte // the prompt
}

type format uint8

const (
	chatFormat format = iota
	fimFormat
	responsesFormat
	anthropicFormat
)

// unmarshal decodes a body and words failures as the real server does. The name
// is the path of the value inside the body, empty for the body itself.
func unmarshal(body, part []byte, name string, v any) *apiError {
	err := json.Unmarshal(exact(part, reflect.TypeOf(v)), v)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line, column := position(part, int(syntax.Offset))
		return errDecode("Failed to parse the request body as JSON: %s at line %d column %d", syntax.Error(), line, column)
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		path := typ.Field
		if path == "" {
			return badType(body, part, name, expected(typ.Type, name))
		}
		return badType(body, dig(part, path), joinPath(name, path), expected(typ.Type, path))
	}
	return errDecode("Failed to deserialize the JSON body into the target type: %s", err)
}

// exact returns a body in which no name fits a field of t but for its case.
// encoding/json would take it for the field; the real server knows no such name.
func exact(part []byte, t reflect.Type) []byte {
	if plainNames(part) {
		return part
	}
	part = bytes.Clone(part)
	blankNames(part, t)
	return part
}

// plainNames reports whether all names in a body are made of what the names of
// fields are made of. Nearly always they are. Some text inside a string may look
// like a name that is not.
func plainNames(part []byte) bool {
	for {
		head, rest, found := bytes.Cut(part, []byte{':'})
		if !found {
			return true
		}
		part = rest
		if head = bytes.TrimRight(head, " \t\r\n"); !bytes.HasSuffix(head, []byte{'"'}) {
			continue // a colon inside of a string
		}
		head = bytes.TrimRight(head[:len(head)-1], "abcdefghijklmnopqrstuvwxyz_")
		if !bytes.HasSuffix(head, []byte{'"'}) {
			return false
		}
	}
}

// blankNames overwrites the names of members that t has no field for with spaces,
// so that everything else stays in its place. Of a part that is no JSON it does
// what comes before the fault.
func blankNames(part []byte, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	dec := json.NewDecoder(bytes.NewReader(part))
	open, err := dec.Token()
	var value json.RawMessage
	switch {
	case err != nil:
	case open == json.Delim('{') && t.Kind() == reflect.Struct:
		for dec.More() {
			from := dec.InputOffset()
			name, err := dec.Token()
			to := dec.InputOffset()
			if err != nil || dec.Decode(&value) != nil {
				return
			}
			if field := fieldNamed(t, name); field != nil {
				end := dec.InputOffset()
				blankNames(part[end-int64(len(value)):end], field)
				continue
			}
			from += int64(bytes.IndexByte(part[from:to], '"')) + 1
			for i := from; i < to-1; i++ {
				part[i] = ' '
			}
		}
	case open == json.Delim('[') && t.Kind() == reflect.Slice:
		for dec.More() {
			if dec.Decode(&value) != nil {
				return
			}
			end := dec.InputOffset()
			blankNames(part[end-int64(len(value)):end], t.Elem())
		}
	}
}

// fieldNamed returns the type of the field of a struct with this name in JSON, nil
// if there is none.
func fieldNamed(t reflect.Type, name json.Token) reflect.Type {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("json") == name {
			return f.Type
		}
	}
	return nil
}

// badType words a value of the wrong type.
func badType(body, value []byte, name, want string) *apiError {
	return badValue(body, value, name, "invalid type: "+describe(value)+", expected "+want)
}

// badVariant words a string that is not one of those allowed.
func badVariant(body, value []byte, name, got string, allowed ...string) *apiError {
	return badValue(body, value, name, "unknown variant `"+got+"`, expected one of `"+strings.Join(allowed, "`, `")+"`")
}

func missing(body []byte, name string) *apiError {
	return badValue(body, body, "", "missing field `"+name+"`")
}

func badValue(body, value []byte, name, what string) *apiError {
	at := bytes.Index(body, value)
	line, column := position(body, max(at, 0)+len(value))
	if name != "" {
		what = name + ": " + what
	}
	return errDecode("Failed to deserialize the JSON body into the target type: %s at line %d column %d", what, line, column)
}

func position(body []byte, offset int) (line, column int) {
	head := body[:min(offset, len(body))]
	return 1 + bytes.Count(head, []byte{'\n'}), len(head) - 1 - bytes.LastIndexByte(head, '\n')
}

// dig finds the value at a path of object keys, as far as there is one.
func dig(part []byte, path string) []byte {
	for key := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		if json.Unmarshal(part, &object) != nil || object[key] == nil {
			break
		}
		part = object[key]
	}
	return part
}

func joinPath(name, path string) string {
	if name == "" {
		return path
	}
	return name + "." + path
}

// describe names a JSON value the way serde does.
func describe(value []byte) string {
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return "unit value"
	}
	switch c := value[0]; {
	case c == '"':
		return "string " + string(value)
	case c == '[':
		return "sequence"
	case c == '{':
		return "map"
	case c == 't' || c == 'f':
		return "boolean `" + string(value) + "`"
	case c == 'n':
		return "unit value"
	case bytes.ContainsAny(value, ".eE"):
		return "floating point `" + string(value) + "`"
	}
	return "integer `" + string(value) + "`"
}

// expected names a Go type as the server would name its own.
func expected(t reflect.Type, path string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Int, reflect.Int64:
		return "u32"
	case reflect.Float64:
		return "f64"
	case reflect.Slice:
		return "a sequence"
	}
	name := path[strings.LastIndexByte(path, '.')+1:]
	var b strings.Builder
	b.WriteString("struct ")
	for word := range strings.SplitSeq(strings.TrimRight(name, "[]0123456789"), "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// isNull reports whether an optional raw value is absent or null.
func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(raw) == "null"
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// text reads a content that may be a string or a list of parts. Images says that
// there is one among them.
func text(body, raw json.RawMessage, name string, list bool) (s string, images bool, e *apiError) {
	if isNull(raw) {
		return "", false, nil
	}
	if raw[0] == '"' {
		e = unmarshal(body, raw, name, &s)
		return s, false, e
	}
	if raw[0] != '[' || !list {
		return "", false, badType(body, raw, name, "a string")
	}
	var parts []struct {
		Type *string `json:"type"`
		Text *string `json:"text"`
	}
	if e := unmarshal(body, raw, name, &parts); e != nil {
		return "", false, e
	}
	for i, p := range parts {
		switch t := or(p.Type, ""); t {
		case "text", "input_text", "output_text":
			s += or(p.Text, "")
		case "image_url", "input_image", "image":
			images = true
		case "file", "input_file", "document":
		default:
			return "", false, badVariant(body, raw, fmt.Sprintf("%s[%d].type", name, i), t, "text", "image_url", "file")
		}
	}
	return s, images, nil
}
