package deepseek

import (
	"bytes"
	"strings"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// form is how a request's JSON must differ from what the caller wrote, for the
// place that it is sent to. All else stays as it is, byte for byte.
type form struct {
	model string   // the value of "model"; empty: as it is
	drop  []string // members to leave out
	deep  []string // members to leave out of the elements of "messages"
}

// inMessages is before the names of members that are dropped from messages.
const inMessages = "messages."

// newForm makes a form that drops what names say: members of the request, and
// with "messages." before the name, members of its messages.
func newForm(names []string) form {
	var f form
	for _, name := range names {
		if inside, ok := strings.CutPrefix(name, inMessages); ok {
			f.deep = append(f.deep, inside)
		} else {
			f.drop = append(f.drop, name)
		}
	}
	return f
}

// as is the form with the model called by another name.
func (f form) as(model string) form {
	f.model = model
	return f
}

// changes reports whether the form asks for anything.
func (f form) changes() bool { return f.model != "" || len(f.drop)+len(f.deep) > 0 }

// apply returns data in this form: data itself if it has that already, else a
// copy. ok is false if data is not one JSON object.
func (f form) apply(data []byte) (formed []byte, ok bool) {
	var e edits
	m := jsonscan.Members(data)
	dropped := dropper{edits: &e}
	for m.Next() {
		switch {
		case dropped.member(&m, 0, f.drop):
		case f.model != "" && isKey(m.Key, "model"):
			if !jsonscan.Equal(m.Value, f.model) {
				e.replace(m.At, m.End, jsonscan.AppendQuoted(nil, f.model))
			}
		case len(f.deep) > 0 && isKey(m.Key, "messages"):
			f.messages(&e, m.Value, m.At)
		}
	}
	dropped.end()
	if m.Err() != nil || len(bytes.TrimSpace(m.Rest())) > 0 {
		return nil, false
	}
	if len(e) == 0 {
		return data, true
	}
	return e.apply(make([]byte, 0, len(data)+len(f.model)), data), true
}

// messages drops members of the elements of an array that begins at offset.
func (f form) messages(e *edits, array []byte, offset int) {
	for el := jsonscan.Elements(array); el.Next(); {
		dropped := dropper{edits: e}
		for m := jsonscan.Members(el.Value); m.Next(); {
			dropped.member(&m, offset+el.Start, f.deep)
		}
		dropped.end()
	}
}

// isKey reports whether a raw key means name.
func isKey(key []byte, name string) bool {
	if string(key) == name {
		return true
	}
	if bytes.IndexByte(key, '\\') < 0 {
		return false
	}
	plain, err := jsonscan.Name(key)
	return err == nil && string(plain) == name
}

// dropper leaves members out of an object, with the commas that belong to them.
type dropper struct {
	*edits
	kept  int // end of the last member that stays; 0: there is none
	begin int // of the members that are being left out
	until int // end of the last of them; 0: none
}

// member takes the next member of the object that begins at offset, and reports
// whether it is left out.
func (d *dropper) member(m *jsonscan.MemberIter, offset int, names []string) bool {
	if len(names) == 0 {
		return false
	}
	start, end := offset+m.Start, offset+m.End
	for _, name := range names {
		if isKey(m.Key, name) {
			if d.until == 0 {
				d.begin = start
			}
			d.until = end
			return true
		}
	}
	if d.until != 0 {
		d.replace(d.begin, start, nil)
	}
	d.kept, d.until = end, 0
	return false
}

// end is called after the last member.
func (d *dropper) end() {
	switch {
	case d.until == 0:
	case d.kept != 0:
		d.replace(d.kept, d.until, nil)
	default:
		d.replace(d.begin, d.until, nil)
	}
}
