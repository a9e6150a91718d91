package deepseek

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek/internal/jsonscan"
	"github.com/seawall-go/deepseek/internal/sse"
)

// maxEvent is the largest event accepted in a stream.
const maxEvent = sse.DefaultMaxEvent

// streamBody is an event stream under guard. It hands out whole events only,
// so a cut never shows as half of one, and it knows the end of the answer.
type streamBody struct {
	*watched
	events *sse.Reader
	req    *http.Request
	header http.Header // the response's

	choices progress

	event   sse.Event // the one being handed out
	fresh   bool      // and not yet taken by nextEvent
	pending []byte    // what is left of it for Read
	err     error     // what comes after it
	closed  atomic.Bool
	drained atomic.Bool
	done    bool // [DONE] or a terminal event has come: the server has nothing more to say
}

// stream hands a stream up at its first data.
func (g *guard) stream(w *watched, req *http.Request, resp *http.Response) (open bool, err error) {
	b := &streamBody{watched: w, req: req, header: resp.Header}
	b.events = sse.NewReader(w, maxEvent)
	b.events.KeepComments(g.keepComments)
	b.watchCaller()
	resp.ContentLength = -1 // comments are left out
	resp.Header.Del("Content-Length")
	for {
		b.advance()
		if b.err != nil && !b.done {
			// Before the first data, or with nothing in it: nobody has seen
			// anything of it yet.
			b.over()
			_ = b.src.Close()
			b.end(judge(nil, b.err))
			return false, b.err
		}
		if b.dataAt.Load() != 0 || b.done {
			resp.Body = b
			return true, nil
		}
		// A comment that is to be kept, or a ping: it will be news to nobody.
	}
}

// advance makes the next event the current one, or sets err.
func (b *streamBody) advance() {
	b.pending, b.fresh = nil, false
	if b.err != nil {
		return
	}
	if b.done {
		b.err = b.drain()
		return
	}
	ev, err := b.events.Next()
	if err != nil {
		b.err = b.ended(err)
		return
	}
	b.take(ev)
}

// take makes ev the current event.
func (b *streamBody) take(ev sse.Event) {
	b.event, b.pending, b.fresh = ev, ev.Raw, true
	if ev.Data != nil {
		b.inspect(ev)
	}
}

// alongside makes the next event the current one if it has come already.
func (b *streamBody) alongside() bool {
	if b.err != nil || b.done {
		return false
	}
	ev, ready := b.events.Buffered()
	if ready {
		b.take(ev)
	}
	return ready
}

// ended says what the end of the bytes means.
func (b *streamBody) ended(err error) error {
	if b.clocks.over.Load() && !isContextError(err) {
		// A finish_reason has come, and so has the whole answer.
		b.end(verdict{outcome: answered})
		return io.EOF
	}
	switch {
	case err == io.EOF && b.dataAt.Load() == 0:
		err = &TruncatedError{Reason: "stream ended before its first data (the server gave up on it while it was queued)"}
	case err == io.EOF:
		err = &TruncatedError{Reason: "stream ended without finish_reason or [DONE]"}
	case errors.Is(err, ErrStalled), isContextError(err):
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = &TruncatedError{Reason: "stream ended in the middle of an event", Err: err}
	default:
		err = &TruncatedError{Reason: "stream broke off", Err: err}
	}
	if b.dataAt.Load() != 0 {
		b.c.noteBroken(err)
	}
	b.end(judge(nil, err))
	return err
}

// said is what an event says that matters to the stream: the raw values of its
// members, and how its choices stand.
type said struct {
	kind, failure, usage, response, message []byte // "type", "error" and so on; nil: there is none

	choices progress
	fault   []byte // a finish_reason by which the server says that it broke off
}

// readEvent reads an event in one pass. What is wrong with it is not looked at.
func readEvent(data []byte) (s said) {
	c := jsonscan.NewCursor(data)
	if !c.Object() {
		return s
	}
	for c.Key() {
		switch string(c.Name) {
		case "choices":
			s.choices, s.fault = finishReasons(&c)
		case "usage":
			s.usage = notNull(c.Value())
		case "type":
			s.kind = c.Value()
		case "error":
			s.failure = notNull(c.Value())
		case "response":
			s.response = c.Value()
		case "message":
			s.message = c.Value()
		default:
			c.Skip()
		}
	}
	return s
}

// notNull is value, or nil if it is null.
func notNull(value []byte) []byte {
	if jsonscan.IsNull(value) {
		return nil
	}
	return value
}

// is reports whether the event is of one of these types.
func (s *said) is(kinds ...string) bool {
	for _, kind := range kinds {
		if jsonscan.Equal(s.kind, kind) {
			return true
		}
	}
	return false
}

// inspect reads out of an event what the stream's end depends on.
func (b *streamBody) inspect(ev sse.Event) {
	data := ev.Data
	if string(data) == sse.Done {
		b.clocks.data()
		b.complete()
		return
	}
	s := readEvent(data)
	// What was used, before anybody is told of an end.
	onlyPrompt := false
	switch {
	case s.usage != nil:
		b.tally.noteIn(b.c, data, false)
	case s.message != nil: // Anthropic's message_start, which has nothing of the output yet
		onlyPrompt = b.tally.noteIn(b.c, s.message, true)
	}
	if s.fault != nil {
		reason, _ := jsonscan.String(s.fault)
		b.broken(&TruncatedError{Reason: "finish_reason " + reason})
	}
	switch {
	case s.kind == nil: // chat
	case s.is("ping"): // Anthropic's keep-alive
		return
	case s.is("message_stop"):
		b.clocks.data()
		b.complete()
		return
	case s.is("response.completed", "response.incomplete", "response.failed"):
		if s.response != nil {
			b.tally.noteIn(b.c, s.response, false)
		}
		b.clocks.data()
		b.complete()
		return
	}
	if len(data) == 0 || data[0] != '{' { // nobody knows what that is
		b.event.Data = b.redacted(b.req, nil, data)
		b.event.Raw = b.redacted(b.req, nil, ev.Raw)
		b.pending = b.event.Raw
	}
	if s.failure != nil || s.is("error") {
		header := b.header.Clone() // the caller may have it already
		ev.Data, ev.Raw = b.redacted(b.req, header, data), b.redacted(b.req, nil, ev.Raw)
		b.event, b.pending = ev, ev.Raw
		b.broken(newAPIError(http.StatusOK, header, ev.Data, nil))
		return
	}
	if !onlyPrompt {
		b.tally.event(len(data))
	}
	b.clocks.data()
	if s.choices.begun != 0 {
		b.choices.add(s.choices)
		b.clocks.finishing(b.choices.complete(b.c.choices))
	}
}

// broken notes that the stream is over after this event, and not well.
func (b *streamBody) broken(err error) {
	if b.dataAt.Load() != 0 {
		b.c.noteBroken(err)
	}
	b.err = err
	b.end(judge(nil, err))
}

// complete notes that the answer is all there: the server's slot is free now.
func (b *streamBody) complete() {
	b.done = true
	if b.err == nil {
		b.end(verdict{outcome: answered})
	}
}

// drainFor is how long the end of a complete response is waited for. It is
// nearly always there already, and lets the connection be used again.
const drainFor = 250 * time.Millisecond

// drain reads what little may come after the answer's end.
func (b *streamBody) drain() error {
	if b.drained.Swap(true) {
		return io.EOF
	}
	b.clocks.stop()
	timer := time.AfterFunc(drainFor, func() { b.cancel(nil) })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, b.src, 4<<10)
	return io.EOF
}

// Read hands out the events' bytes as they came, and those of several at once if
// they have come at once.
func (b *streamBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	for len(b.pending) == 0 {
		if b.err != nil {
			b.over()
			return 0, b.err
		}
		b.advance()
	}
	n := 0
	for {
		taken := copy(p[n:], b.pending)
		n += taken
		b.pending, b.fresh = b.pending[taken:], false
		if n == len(p) || !b.alongside() {
			return n, nil
		}
	}
}

// WriteTo writes the events' bytes to w without a buffer between, and has w flush
// them, if it can, whenever nothing more has come yet.
func (b *streamBody) WriteTo(w io.Writer) (n int64, err error) {
	flusher, _ := w.(interface{ FlushError() error })
	for {
		if b.closed.Load() {
			return n, http.ErrBodyReadAfterClose
		}
		for len(b.pending) == 0 {
			if b.err != nil {
				b.over()
				if b.err == io.EOF {
					return n, nil
				}
				return n, b.err
			}
			b.advance()
		}
		for more := true; more; more = b.alongside() {
			written, err := w.Write(b.pending)
			n += int64(written)
			b.pending, b.fresh = b.pending[written:], false
			if err != nil {
				return n, err
			}
		}
		if flusher != nil {
			if err := flusher.FlushError(); err != nil {
				return n, err
			}
		}
	}
}

// nextEvent hands out the events themselves.
func (b *streamBody) nextEvent() (sse.Event, error) {
	if b.closed.Load() {
		return sse.Event{}, http.ErrBodyReadAfterClose
	}
	for !b.fresh {
		if b.err != nil {
			b.over()
			return sse.Event{}, b.err
		}
		b.advance()
	}
	b.fresh, b.pending = false, nil
	return b.event, nil
}

// Close gives everything back. It may be called while a Read is under way, and
// more than once.
func (b *streamBody) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	how := cancelled
	if b.clocks.over.Load() { // the finish_reason was all that was wanted
		how = answered
	}
	b.end(verdict{outcome: how})
	if b.soFar().outcome == answered && !b.clocks.reading.Load() {
		_ = b.drain() // the reader has seen the end and stopped: keep the connection
	}
	b.over() // wakes a Read that is under way
	return b.src.Close()
}
