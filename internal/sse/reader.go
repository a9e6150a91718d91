// Package sse reads server-sent events as chat APIs send them: promptly, without
// allocating, and never half an event.
package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// DefaultMaxEvent is how long an event may be, in bytes, unless NewReader is
// told otherwise.
const DefaultMaxEvent = 16 << 20

// ErrEventTooLong says that an event is longer than the reader's limit. The
// stream cannot be read on.
var ErrEventTooLong = errors.New("sse: event too long")

// Done is the data that ends an OpenAI-style stream.
const Done = "[DONE]"

const (
	startBuffer = 4 << 10
	keepBuffer  = 64 << 10 // a larger buffer is given up once it is empty
	maxEmpty    = 100      // reads of nothing before io.ErrNoProgress
)

// Event is one event of a stream. Its slices are valid until the next call of
// Next or Buffered.
type Event struct {
	// Name is the value of the last event field; empty means "message".
	Name []byte
	// Data is the values of the data fields, joined by newlines. It is nil, not
	// empty, for what is no event: see [Reader.KeepComments].
	Data []byte
	// Raw is the event as it was received, its blank line included, without
	// comment lines. At the end of the input a missing blank line is supplied.
	Raw []byte
}

// Reader reads events. Lines may end in LF, CRLF or CR, also mixed; a byte order
// mark at the start is skipped; id, retry and unknown fields have no meaning but
// stay in Raw. A Reader is for one goroutine.
type Reader struct {
	src  io.Reader
	max  int
	keep bool
	err  error // what the source ended with, or what is wrong; final

	buf   []byte
	start int  // where the current block starts
	pos   int  // where the line to be parsed next starts
	end   int  // end of what was read
	lf    int  // no LF in buf[pos:lf]
	cr    int  // no CR in buf[pos:cr]
	begun bool // the byte order mark is dealt with
	amid  bool // the current block is not handed out yet

	// A CR that was the last byte read ends its line at once; half says that the
	// LF that may belong to it is still to be passed. If its Raw was handed out
	// without that LF, the LF is owed: the next Raw begins with it (lead).
	half, owed, lead bool

	// What is known of the current block. Spans count from start.
	fields  bool // a line that is no comment was seen
	name    span
	data    span   // value of the first data line
	lines   int    // data lines so far
	joined  []byte // their values, if there are several
	isCut   bool   // there were comments
	cut     []byte // Raw without them
	skipped bool   // the last line was one of them
}

type span struct{ from, to int }

// NewReader returns a Reader of r that takes events of up to maxEvent bytes; 0
// or less means [DefaultMaxEvent].
func NewReader(r io.Reader, maxEvent int) *Reader {
	if maxEvent <= 0 {
		maxEvent = DefaultMaxEvent
	}
	return &Reader{src: r, max: maxEvent}
}

// KeepComments decides what happens to what is no event. Without it, comments
// and blocks without a data line are dropped. With it, they are returned too,
// with Data nil: a comment between events as soon as its line has come, the
// blank line after it by itself, a block without data at its end; and comments
// inside an event stay in its Raw.
func (r *Reader) KeepComments(keep bool) { r.keep = keep }

// Next returns the next event as soon as its blank line has come. It returns
// io.EOF at a clean end. An end inside an event is clean if the last line was
// complete, or if the data is [DONE] or a whole JSON object or array: the event
// is returned first. Else it is io.ErrUnexpectedEOF. Any other error of the
// source is returned after the whole events before it. Errors are final.
func (r *Reader) Next() (Event, error) {
	for {
		if event, ready := r.Buffered(); ready {
			return event, nil
		}
		if r.err != nil {
			r.amid = false
			return r.finish()
		}
		r.fill()
	}
}

// Buffered returns the next event if all of it has been read from the source
// already, without reading more. It takes the place of Next, which is also to be
// asked for what is wrong.
func (r *Reader) Buffered() (event Event, ready bool) {
	if !r.amid {
		r.reset()
		r.amid = true
	}
	for {
		line, ok := r.line()
		if !ok {
			return Event{}, false
		}
		if event, ready := r.take(line); ready {
			r.amid = false
			return event, true
		}
		if r.pos-r.start > r.max {
			r.tooLong()
		}
	}
}

// reset forgets the block that was handed out.
func (r *Reader) reset() {
	r.start = r.pos
	r.fields, r.isCut, r.skipped, r.lines = false, false, false, 0
	r.name, r.data = span{}, span{}
	if cap(r.joined) > keepBuffer {
		r.joined = nil
	}
	if cap(r.cut) > keepBuffer {
		r.cut = nil
	}
	r.joined, r.cut = r.joined[:0], r.cut[:0]
}

// line passes the next complete line and returns where it is in buf, without
// its end, which is at [to:pos].
func (r *Reader) line() (span, bool) {
	if r.pos == r.end {
		return span{}, false
	}
	if r.half {
		r.half = false
		if r.buf[r.pos] == '\n' {
			r.lateLF()
		}
		r.owed = false
		if r.pos == r.end {
			return span{}, false
		}
	}
	if r.lf < r.pos {
		r.lf = r.pos
	}
	if r.lf < r.end && r.buf[r.lf] != '\n' {
		if n := bytes.IndexByte(r.buf[r.lf:r.end], '\n'); n >= 0 {
			r.lf += n
		} else {
			r.lf = r.end
		}
	}
	from := max(r.cr, r.pos)
	if from < r.lf {
		if n := bytes.IndexByte(r.buf[from:r.lf], '\r'); n >= 0 {
			at := from + n
			line := span{r.pos, at}
			r.pos = at + 1
			switch {
			case r.pos == r.end:
				r.half = true
			case r.buf[r.pos] == '\n':
				r.pos++
			}
			r.cr = r.pos
			return line, true
		}
		r.cr = r.lf
	}
	if r.lf == r.end {
		return span{}, false
	}
	line := span{r.pos, r.lf}
	r.pos = r.lf + 1
	return line, true
}

// lateLF passes the LF of a CRLF whose CR had ended the line already.
func (r *Reader) lateLF() {
	r.pos++
	switch {
	case r.pos-1 > r.start: // in the middle of a block
		if r.isCut && !r.skipped {
			r.cut = append(r.cut, '\n')
		}
	case r.owed:
		r.lead = true
	default: // of a line that was dropped
		r.start = r.pos
	}
}

// take is told the next line, which ends before r.pos, and returns the event
// that it completes, if any.
func (r *Reader) take(line span) (Event, bool) {
	text := r.buf[line.from:line.to]
	if !r.begun {
		r.begun = true
		if bytes.HasPrefix(text, []byte("\ufeff")) {
			text = text[3:]
			line.from += 3
			r.start += 3
		}
	}
	switch {
	case len(text) == 0:
		if r.lines > 0 || r.keep {
			if r.isCut {
				r.cut = append(r.cut, r.buf[line.from:r.pos]...)
			}
			return r.event()
		}
		r.drop()
	case text[0] != ':':
		r.field(text, line.from-r.start)
		if r.isCut {
			r.cut = append(r.cut, r.buf[line.from:r.pos]...)
			r.skipped = false
		}
	case r.fields && r.keep: // stays where it is
	case r.fields:
		if !r.isCut {
			r.cut = append(r.cut, r.buf[r.start:line.from]...)
		}
		r.isCut, r.skipped = true, true
	case r.keep:
		return r.event()
	default:
		r.drop()
	}
	return Event{}, false
}

// field notes what a line means that is at offset at of the block.
func (r *Reader) field(text []byte, at int) {
	r.fields = true
	colon := bytes.IndexByte(text, ':')
	value := span{at + colon + 1, at + len(text)}
	if colon < 0 {
		colon = len(text)
		value.from = value.to
	} else if colon+1 < len(text) && text[colon+1] == ' ' {
		value.from++
	}
	switch string(text[:colon]) {
	case "event":
		r.name = value
	case "data":
		r.lines++
		if r.lines == 1 {
			r.data = value
			return
		}
		if r.lines == 2 {
			r.joined = append(r.joined, r.at(r.data)...)
		}
		r.joined = append(append(r.joined, '\n'), r.at(value)...)
	}
}

func (r *Reader) at(s span) []byte { return r.buf[r.start+s.from : r.start+s.to : r.start+s.to] }

// drop forgets the block up to pos, of which nothing is handed out.
func (r *Reader) drop() {
	lead := r.lead
	r.reset()
	if lead {
		r.start--
		r.buf[r.start] = '\n'
	}
}

// event hands out the block up to pos.
func (r *Reader) event() (Event, bool) {
	e := Event{Raw: r.buf[r.start:r.pos:r.pos], Name: r.at(r.name)}
	if r.isCut {
		e.Raw = r.cut
	}
	switch r.lines {
	case 0:
	case 1:
		e.Data = r.at(r.data)
	default:
		e.Data = r.joined
	}
	r.owed, r.lead = r.half, false
	if r.pos-r.start > r.max {
		r.tooLong()
		return Event{}, false
	}
	return e, true
}

// tooLong ends the stream: what was read is forgotten.
func (r *Reader) tooLong() {
	r.err = fmt.Errorf("%w: more than %d bytes", ErrEventTooLong, r.max)
	r.buf, r.start, r.pos, r.end, r.lf, r.cr, r.half = nil, 0, 0, 0, 0, 0, false
	r.reset()
}

// finish decides what becomes of the block that the source ended in.
func (r *Reader) finish() (Event, error) {
	if r.err != io.EOF {
		return Event{}, r.err
	}
	unterminated := r.pos < r.end
	if unterminated {
		line := span{r.pos, r.end}
		r.pos = r.end
		if event, ready := r.take(line); ready {
			return event, nil
		}
	}
	if r.err != io.EOF { // too long
		return Event{}, r.err
	}
	if r.lines == 0 && (!r.fields || !unterminated && r.name == (span{}) && !r.keep) {
		return Event{}, io.EOF
	}
	event, ok := r.event()
	if !ok {
		return Event{}, r.err
	}
	if r.lines == 0 && (unterminated || r.name != (span{})) || unterminated && !complete(event.Data) {
		r.err = io.ErrUnexpectedEOF
		return Event{}, r.err
	}
	if !r.isCut {
		r.cut = append(r.cut, event.Raw...)
	}
	if unterminated || r.cut[len(r.cut)-1] == '\r' {
		r.cut = append(r.cut, '\n')
	}
	r.cut = append(r.cut, '\n')
	event.Raw = r.cut
	return event, nil
}

// complete reports whether data shows by itself that nothing of it is missing.
func complete(data []byte) bool {
	if string(data) == Done {
		return true
	}
	return len(data) > 0 && (data[0] == '{' || data[0] == '[') && jsonscan.Whole(data)
}

// fill reads once more from the source.
func (r *Reader) fill() {
	if r.end-r.start > r.max {
		r.tooLong()
		return
	}
	r.room()
	for range maxEmpty {
		n, err := r.src.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			n, err = 0, errors.New("sse: source returned an impossible count")
		}
		r.end += n
		if err != nil {
			r.err = err
			return
		}
		if n > 0 {
			return
		}
	}
	r.err = io.ErrNoProgress
}

// room makes room in the buffer.
func (r *Reader) room() {
	held := r.end - r.start
	switch {
	case held == 0 && len(r.buf) > keepBuffer, r.buf == nil:
		r.buf = make([]byte, startBuffer)
	case r.end < len(r.buf) && held > 0:
		return
	case held > len(r.buf)/2:
		r.buf = append(make([]byte, 0, 2*len(r.buf)), r.buf[r.start:r.end]...)
		r.buf = r.buf[:cap(r.buf)]
	default:
		copy(r.buf, r.buf[r.start:r.end])
	}
	r.pos -= r.start
	r.lf = max(r.lf-r.start, 0)
	r.cr = max(r.cr-r.start, 0)
	r.start, r.end = 0, held
}
