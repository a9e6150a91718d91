package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// FileError is what is wrong with a line of a configuration file.
type FileError struct {
	File   string // its name
	Line   int    // 0: the file as a whole
	Field  string // such as "accounts[0].keys"; empty if it is none of them
	Reason string // never tells a secret
}

// Error tells file, line, field and what is wrong.
func (e *FileError) Error() string {
	s := e.File + ":"
	if e.Line > 0 {
		s += strconv.Itoa(e.Line) + ":"
	}
	if e.Field != "" {
		s += " " + e.Field + ":"
	}
	return s + " " + e.Reason
}

// document reads a YAML document into Go values, and remembers the lines. It is
// strict: a field that is not there, that is there twice, or whose value is of
// another kind is an error, and all errors are told at once. Fields are called as
// those of the Go struct, in lower case with underscores.
type document struct {
	file  string
	lines map[string]int  // of fields, by their path
	given map[string]bool // fields with a single value of their own, by their path
	files []File          // that it is read from, the first of them its own
	errs  []error
}

// parseDocument reads data into the struct that v points to.
func parseDocument(file string, data []byte, v any) *document {
	d := &document{file: file, lines: map[string]int{}, given: map[string]bool{}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF): // nothing, or comments only
		return d
	case err != nil:
		d.syntax(err)
		return d
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		d.fail(&more, "", "there is a second document in the file")
		return d
	}
	d.value(root.Content[0], "", reflect.ValueOf(v).Elem())
	return d
}

// syntax tells an error of the YAML parser, which has its line in its text.
func (d *document) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, reason, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, text = n, reason
			}
		}
	}
	d.errs = append(d.errs, &FileError{File: d.file, Line: line, Reason: text})
}

func (d *document) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, &FileError{File: d.file, Line: n.Line, Field: path, Reason: fmt.Sprintf(format, args...)})
}

// failAt tells what is wrong with the field at path.
func (d *document) failAt(path, reason string) { d.errs = append(d.errs, d.errorAt(path, reason)) }

// errorAt is what is wrong with the field at path. Its line is that of the field, or of
// what it is in.
func (d *document) errorAt(path, reason string) error {
	line := 0
	for at := path; line == 0 && at != ""; {
		line = d.lines[at]
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	return &FileError{File: d.file, Line: line, Field: path, Reason: reason}
}

// err is all that is wrong, in the order of the lines.
func (d *document) err() error {
	slices.SortStableFunc(d.errs, func(a, b error) int {
		return errorLine(a) - errorLine(b)
	})
	return errors.Join(d.errs...)
}

func errorLine(err error) int {
	if e, ok := errors.AsType[*FileError](err); ok && e.Line > 0 {
		return e.Line
	}
	return math.MaxInt
}

// reader is a value that reads itself.
type reader interface {
	read(d *document, n *yaml.Node, path string)
}

// value reads a node into v.
func (d *document) value(n *yaml.Node, path string, v reflect.Value) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if _, known := d.lines[path]; !known {
		d.lines[path] = n.Line
	}
	if r, ok := v.Addr().Interface().(reader); ok {
		r.read(d, n, path)
		return
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(n, path, v)
	case reflect.Slice:
		d.list(n, path, v)
	case reflect.Map:
		d.table(n, path, v)
	default:
		if n.Kind != yaml.ScalarNode {
			d.fail(n, path, "must be a single value")
			return
		}
		if reason := scalar(n.Value, v); reason != "" {
			d.fail(n, path, "%q %s", n.Value, reason)
		}
		d.given[path] = true
	}
}

// fields reads a mapping into a struct. "off" in its place sets the struct's
// field Off, if it has one. Its field On, if it has that, is set by a mapping, and
// by "on" in the place of one; then "off" is the default.
func (d *document) fields(n *yaml.Node, path string, v reflect.Value) {
	off, on := v.FieldByName("Off"), v.FieldByName("On")
	switch value := n.Kind == yaml.ScalarNode; {
	case value && (n.Value == "off" || n.Value == "false") && off.IsValid():
		off.SetBool(true)
		return
	case value && (n.Value == "off" || n.Value == "false") && on.IsValid():
		return
	case value && (n.Value == "on" || n.Value == "true") && on.IsValid():
		on.SetBool(true)
		return
	case on.IsValid() && n.Kind == yaml.MappingNode:
		on.SetBool(true)
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must be fields with values")
		return
	}
	known := map[string]reflect.Value{}
	collect(known, v)
	for key, value := range d.members(n, path) {
		at := join(path, key.Value)
		field, ok := known[key.Value]
		if !ok {
			d.fail(key, path, "there is no field %q here; there are: %s", key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			continue
		}
		d.lines[at] = key.Line
		d.value(value, at, field)
	}
}

// collect finds a struct's fields by their names in the file.
func collect(known map[string]reflect.Value, v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Type().Field(i); {
		case f.Anonymous:
			collect(known, v.Field(i))
		case f.IsExported() && f.Name != "Off" && f.Name != "On" && f.Tag.Get("file") != "-":
			known[fieldName(f.Name)] = v.Field(i)
		}
	}
}

// table reads a mapping into a map.
func (d *document) table(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "must be names with values")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, value := range d.members(n, path) {
		at := join(path, key.Value)
		d.lines[at] = key.Line
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(value, at, element)
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), element)
	}
}

// members are a mapping's keys and values, each key once.
func (d *document) members(n *yaml.Node, path string) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Kind != yaml.ScalarNode {
				d.fail(key, path, "the name of a field must be a single value")
				continue
			}
			if first, again := seen[key.Value]; again {
				d.fail(key, join(path, key.Value), "is there twice; the first is on line %d", first)
				continue
			}
			seen[key.Value] = key.Line
			if !yield(key, value) {
				return
			}
		}
	}
}

// defaultTo sets what the file says nothing of. A 0 that it says is no default.
func defaultTo[T comparable](d *document, path string, v *T, value T) {
	if !d.given[path] {
		*v = cmp.Or(*v, value)
	}
}

// list reads a sequence, or the one value of it, into a slice.
func (d *document) list(n *yaml.Node, path string, v reflect.Value) {
	elements := n.Content
	switch n.Kind {
	case yaml.ScalarNode:
		elements = []*yaml.Node{n}
	case yaml.SequenceNode:
	default:
		d.fail(n, path, "must be a list")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(elements))) // an empty list is not none
	for i, e := range elements {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(e, path+"["+strconv.Itoa(i)+"]", element)
		v.Set(reflect.Append(v, element))
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

var durationType = reflect.TypeFor[time.Duration]()

// scalar reads a text into v, or says why not.
func scalar(text string, v reflect.Value) (reason string) {
	switch {
	case v.Type() == durationType:
		if text == "off" {
			v.SetInt(-1)
			return ""
		}
		dur, err := time.ParseDuration(text)
		if err != nil {
			return "is no duration, such as 500ms, 10s or 2m"
		}
		v.SetInt(int64(dur))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return "is neither true nor false"
		}
		v.SetBool(b)
	case v.CanInt():
		i, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
		if err != nil || v.OverflowInt(i) {
			return "is no whole number"
		}
		v.SetInt(i)
	case v.CanFloat():
		f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return "is no number"
		}
		v.SetFloat(f)
	default:
		panic("gateway: a field of a kind that no file can hold: " + v.Type().String())
	}
	return ""
}

// fieldName is what a file calls a struct's field: MaxAttempts is max_attempts,
// BaseURL is base_url.
func fieldName(name string) string {
	var b strings.Builder
	upper := func(i int) bool { return i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	for i := range len(name) {
		if !upper(i) {
			b.WriteByte(name[i])
			continue
		}
		if i > 0 && (!upper(i-1) || i+1 < len(name) && !upper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i] + 'a' - 'A')
	}
	return b.String()
}

// Size is a number of bytes: in a file 48MiB, 64KB or 1000.
type Size int64

var units = []struct {
	name string
	size float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1},
}

func (s *Size) read(d *document, n *yaml.Node, path string) {
	d.given[path] = true
	for _, u := range units {
		number, ok := strings.CutSuffix(n.Value, u.name)
		if !ok || n.Kind != yaml.ScalarNode {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err == nil && f >= 0 && f*u.size < 1<<53 {
			*s = Size(f * u.size)
			return
		}
		break
	}
	d.fail(n, path, "%q is no size, such as 48MiB", n.Value)
}

// relative is a path as the file means it: from where the file is.
func (d *document) relative(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(d.file), path)
}
