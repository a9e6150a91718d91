package deepseek

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/seawall-go/deepseek/internal/sse"
)

// resumedStream is the stream of an answer that may come in several parts. All
// that is to be done for that is done on the goroutine that reads.
type resumedStream struct {
	continuation
	ending
	tempo  tempo
	armed  bool // it was found out whether the tempo is to count
	header http.Header
	seam   seam

	source   eventSource // of the part that comes now
	fragment fragment    // what its current event adds
	shape    shape       // of most of its events
	echo     echo        // whether it begins the answer anew
	cause    error       // why the part before it ended
	role     bool        // the message's role has come
	finished atomic.Bool // the answer's finish_reason has come
	done     bool        // and [DONE]
	err      error       // what comes after all events

	event   sse.Event // the one being handed out
	fresh   bool      // and not yet taken by nextEvent
	pending []byte    // what is left of it for Read
	joined  []byte    // room for its data, if it is not as it came,
	raw     []byte    // and for the whole of it

	// Events that are kept back until it is known how things go on.
	held    []sse.Event
	letGo   bool       // they are to be handed out now
	instead *sse.Event // takes their place if the answer goes on
	length  bool       // the part has ended with finish_reason length; its usage may yet come
	failed  bool       // the last of them is an error of the server's; the source will say more

	closed atomic.Bool
	mu     sync.Mutex
	body   io.Closer               // of the part that comes now; nil: there is none
	cancel context.CancelCauseFunc // of its attempt; nil for the first part
	part   ender                   // the last body there was
	last   verdict                 // how the stream ends
	leaves bool                    // that is known
}

var (
	_ ender       = (*resumedStream)(nil)
	_ judged      = (*resumedStream)(nil)
	_ eventSource = (*resumedStream)(nil)
)

// begin puts the stream in the place of resp's body, if that is one.
func (s *resumedStream) begin(resp *http.Response) {
	if !isEvents(resp) {
		return
	}
	s.header = resp.Header
	s.enter(resp.Body, nil)
	atEnd(s.call, resp, s)
	s.enter(resp.Body, nil) // which may be another now
	s.source = eventsOf(resp)
	resp.Body, resp.ContentLength = s, -1
	resp.Header.Del("Content-Length")
}

// isEvents reports whether a response is an event stream that can be read.
func isEvents(resp *http.Response) bool {
	_, ok := resp.Body.(eventSource)
	return ok || isEventStream(resp.Header) && resp.Header.Get("Content-Encoding") == ""
}

// eventsOf is the body of an event stream as events.
func eventsOf(resp *http.Response) eventSource {
	if source, ok := resp.Body.(eventSource); ok {
		return source
	}
	return readerSource{sse.NewReader(resp.Body, maxEvent)}
}

// finish is told of the end of each part. Most have no meaning before it is known
// what comes after them; but when the caller gives up, the call is over.
func (s *resumedStream) finish(_ *call, v verdict) {
	s.mu.Lock()
	ours := s.body == nil // we ended it ourselves
	s.mu.Unlock()
	if v.outcome == cancelled && !ours {
		s.end(v)
	}
}

// Read hands out the events' bytes.
func (s *resumedStream) Read(p []byte) (int, error) {
	if s.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	for len(s.pending) == 0 {
		if err := s.advance(); err != nil {
			return 0, err
		}
	}
	s.fresh = false
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

// nextEvent hands out the events themselves.
func (s *resumedStream) nextEvent() (sse.Event, error) {
	for !s.fresh {
		if err := s.advance(); err != nil {
			return sse.Event{}, err
		}
	}
	s.fresh, s.pending = false, nil
	return s.event, nil
}

// Close gives everything back. It may be called while a Read is under way, which
// may be waiting to continue, and more than once.
func (s *resumedStream) Close() error {
	s.mu.Lock()
	if s.closed.Swap(true) {
		s.mu.Unlock()
		return nil
	}
	body, cancel := s.body, s.cancel
	s.mu.Unlock()
	var err error
	if body != nil {
		err = body.Close()
	}
	if cancel != nil {
		cancel(http.ErrBodyReadAfterClose)
	}
	how := cancelled
	if s.finished.Load() { // that was all that was wanted
		how = answered
	}
	s.endAfterPart(verdict{outcome: how})
	return err
}

// advance makes the next event the current one, or returns what comes after the
// last.
func (s *resumedStream) advance() error {
	s.pending, s.fresh = nil, false
	for {
		switch {
		case s.closed.Load():
			return http.ErrBodyReadAfterClose
		case s.letGo && len(s.held) > 0:
			s.hand(s.held[0])
			s.held = s.held[1:]
			return nil
		case s.err != nil:
			return s.err
		}
		if s.letGo {
			s.held, s.letGo = nil, false
		}
		event, err := s.source.nextEvent()
		if err != nil {
			s.ended(err)
		} else if s.take(event) {
			return nil
		}
	}
}

// hand makes event the current one.
func (s *resumedStream) hand(event sse.Event) {
	s.event, s.pending, s.fresh = event, event.Raw, true
}

// hold keeps an event back.
func (s *resumedStream) hold(event sse.Event) {
	s.held = append(s.held, cloneEvent(event))
}

func cloneEvent(e sse.Event) sse.Event {
	return sse.Event{Name: bytes.Clone(e.Name), Data: bytes.Clone(e.Data), Raw: bytes.Clone(e.Raw)}
}

// pass hands an event out, after those that were kept back. It reports whether
// it is the current one.
func (s *resumedStream) pass(event sse.Event) bool {
	if len(s.held) == 0 {
		s.hand(event)
		return true
	}
	s.hold(event)
	s.letGo = true
	return false
}

// take takes in an event of the part that comes now, and reports whether it is
// the current one.
func (s *resumedStream) take(event sse.Event) bool {
	switch {
	case len(event.Data) == 0: // a comment
		if len(s.held) > 0 {
			return false
		}
		s.hand(event)
		return true
	case string(event.Data) == sse.Done:
		if s.length {
			s.hold(event)
			s.goOn(errLength, verdict{outcome: answered})
			return false
		}
		s.done = true
		s.completed()
		s.end(verdict{outcome: answered})
		return s.pass(event)
	}
	f := &s.fragment
	if !s.shape.scan(f, event.Data) {
		s.spoil("an event is no chunk of a chat completion")
		s.disarm()
		return s.pass(event)
	}
	if f.failed {
		s.hold(event)
		s.failed = true
		return false
	}
	if s.failed { // more came after it: then it was not the end
		s.failed = false
		s.spoil("an error came in the midst of it")
	}
	if s.tries == 0 && s.seam.id == nil {
		s.seam.learn(event.Data)
	}
	if f.role {
		if f.role = !s.role; !f.role && !f.says() && f.finish == nil && f.usage == nil {
			return false // its message has begun long since
		}
		s.role = true
	}
	return s.chunk(event, f)
}

// chunk is take for a chunk of the answer.
func (s *resumedStream) chunk(event sse.Event, f *fragment) bool {
	content, reasoning := len(s.content), len(s.reasoning)
	s.note(f)
	if f.finish != nil && !s.finished.Load() {
		if v, cause := s.by.ending(f.finish); cause != nil && (cause != errLength || s.mayBeLonger()) {
			if f.says() {
				whole := cloneEvent(s.join(event, changes{role: !f.role, finish: true}))
				s.instead = &whole
			}
			s.hold(s.shown(event, f))
			if s.length = v.outcome == answered; !s.length {
				s.goOn(cause, v)
			}
			return false
		}
		s.finished.Store(true)
		s.disarm()
		s.completed()
		if s.tempo.habit != nil {
			s.tempo.habit.learn(&s.tempo)
		}
	}
	if s.length { // its usage
		s.hold(s.shown(event, f))
		return false
	}
	if s.tries > 0 {
		switch s.echo.hear(s.content[content:], s.reasoning[reasoning:]) {
		case undecided:
			if f.finish == nil {
				s.hold(s.shown(event, f))
				return false
			}
			s.echo.listens = false // it ends before that could be told
		case anew:
			s.startedOver()
			return false
		}
	}
	return s.pass(s.shown(event, f))
}

// note takes in what a chunk adds to the answer.
func (s *resumedStream) note(f *fragment) {
	if f.content != nil || f.reasoning != nil {
		s.text(f.content, f.reasoning)
		s.now.pieces++
		if f.reasoning != nil {
			s.now.thoughts++
		}
	}
	s.thinks = s.thinks || f.thinks
	if f.usage != nil {
		s.now.told = append(s.now.told[:0], f.usage...)
	}
	switch {
	case f.tools:
		s.spoil("a tool call has begun")
		s.disarm()
	case f.others:
		s.spoil("it is more than one answer")
		s.disarm()
	case f.more:
		s.spoil("it is more than text")
		s.disarm()
	}
	if !s.armed && s.begun && s.tempo.limit.Load() > 0 {
		s.armed = true
		s.tempo.budget = s.retrier().budget
		s.tempo.on.Store(s.refusal() == nil && s.call.mayTryAgain())
	}
}

// disarm has the clocks no longer go by the tempo: the answer cannot go on.
func (s *resumedStream) disarm() {
	s.armed = true
	s.tempo.on.Store(false)
}

// shown is an event as the caller is to see it.
func (s *resumedStream) shown(event sse.Event, f *fragment) sse.Event {
	if s.tries == 0 {
		return event
	}
	ch := changes{role: !f.role}
	if f.usage != nil {
		ch.usage = s.total(f.usage)
	}
	return s.join(event, ch)
}

// join is an event as one of the first part.
func (s *resumedStream) join(event sse.Event, ch changes) sse.Event {
	s.joined = s.seam.join(s.joined[:0], event.Data, ch)
	s.raw = s.raw[:0]
	if len(event.Name) > 0 {
		s.raw = append(append(append(s.raw, "event: "...), event.Name...), '\n')
	}
	for line := range bytes.Lines(s.joined) {
		s.raw = append(append(s.raw, "data: "...), line...)
	}
	return sse.Event{Name: event.Name, Data: s.joined, Raw: append(s.raw, "\n\n"...)}
}

// ended takes in that the part's source has ended with err.
func (s *resumedStream) ended(err error) {
	switch {
	case s.closed.Load():
		s.err = http.ErrBodyReadAfterClose
	case isContextError(err):
		s.held = nil
		s.stop(err, verdict{outcome: cancelled})
	case s.length:
		s.goOn(errLength, verdict{outcome: answered})
	case s.done, s.finished.Load():
		s.stop(io.EOF, verdict{outcome: answered})
	case s.failed:
		s.endedByError(err)
	case errors.Is(err, sse.ErrEventTooLong):
		s.stop(err, verdict{outcome: fault})
	case err == io.EOF: // no guard below
		err = &TruncatedError{Reason: "stream ended without finish_reason or [DONE]"}
		s.goOn(err, verdict{outcome: fault})
	default:
		if s.tempo.called.Swap(false) {
			s.prepaid = s.tempo.budget != nil
			s.tempo.stalled()
		}
		s.goOn(err, judge(nil, err))
	}
}

// endedByError is ended for a part whose last event was an error of the server's.
func (s *resumedStream) endedByError(err error) {
	s.failed = false
	var api *APIError
	if !errors.As(err, &api) { // no guard below
		api = newAPIError(http.StatusOK, s.header, s.held[len(s.held)-1].Data, nil)
	}
	if class := api.class(); class == ErrServer || class == ErrRateLimited {
		s.goOn(api, judge(nil, api))
		return
	}
	s.stop(err, judge(nil, api)) // the request or the account is at fault
}

// stop ends the stream after what is to be handed out yet.
func (s *resumedStream) stop(err error, v verdict) {
	s.err, s.letGo = err, true
	if err != io.EOF {
		s.call.noteBroken(err)
	}
	s.leave()
	s.endAfterPart(v) // what it cost belongs to the call
}

// endAfterPart ends the stream once all have been told of the end of its last part,
// which may be happening on another goroutine.
func (s *resumedStream) endAfterPart(v verdict) {
	s.mu.Lock()
	part := s.part
	if !s.leaves {
		s.last, s.leaves = v, true
	}
	s.mu.Unlock()
	if part != nil {
		part.onEnd(s.call, wholeEnd{s})
		return
	}
	s.end(v)
}

// wholeEnd ends a stream when its last part has ended.
type wholeEnd struct{ s *resumedStream }

func (w wholeEnd) finish(*call, verdict) {
	w.s.mu.Lock()
	v := w.s.last
	w.s.mu.Unlock()
	w.s.end(v)
}

// goOn has the answer go on after a part that ended because of cause, or end as
// it would have without that.
func (s *resumedStream) goOn(cause error, v verdict) {
	if s.echo.listens {
		// Whatever was heard is not to be trusted yet: it is asked for again.
		s.content, s.reasoning = s.content[:s.echo.content], s.reasoning[:s.echo.reasoning]
		s.echo.listens, s.instead = false, nil
		if !s.length { // which is an end, if nothing comes after it
			s.held = nil
		}
	}
	why := s.resume(cause, v)
	switch {
	case why == nil:
		s.held = nil
		if s.instead != nil {
			s.held, s.letGo = append(s.held, *s.instead), true
		}
	case s.closed.Load():
		s.err = http.ErrBodyReadAfterClose
	case isContextError(why):
		s.held = nil
		s.stop(&interrupted{err: why, last: cause}, verdict{outcome: cancelled})
	case s.length:
		s.finished.Store(true)
		s.completed()
		s.stop(io.EOF, verdict{outcome: answered})
	default:
		s.stop(s.unfinished(cause, why), v)
	}
	s.instead, s.length = nil, false
}

// resume makes the rest of the answer the source.
func (s *resumedStream) resume(cause error, v verdict) error {
	s.leave()
	ctx, cancel := context.WithCancelCause(s.call)
	if !s.enter(nil, cancel) {
		cancel(nil)
		return http.ErrBodyReadAfterClose
	}
	returned := false
	defer func() {
		if !returned { // a panic below
			s.end(verdict{outcome: cancelled})
		}
		if s.body == nil {
			cancel(nil)
		}
	}()
	sent := s.call.sent()
	resp, err := s.send(ctx, cause, v)
	s.by.counts.sent.Add(int64(s.call.sent() - sent))
	returned = true
	if err != nil {
		return err
	}
	if !isEvents(resp) {
		discard(resp)
		return s.unsend(cause, refusal("what came to continue it is no stream"))
	}
	atEnd(s.call, resp, s) // in vain, should the caller have given up: this read will tell
	if !s.enter(resp.Body, cancel) {
		_ = resp.Body.Close()
		return http.ErrBodyReadAfterClose
	}
	s.goesOn()
	s.source, s.cause = eventsOf(resp), cause
	s.echo = echo{content: len(s.content), reasoning: len(s.reasoning)}
	if s.begun {
		s.echo.listenFor(s.prefix(), len(s.content) > 0)
	}
	if !s.call.mayTryAgain() || s.refusal() != nil {
		s.disarm()
	}
	return nil
}

// enter makes an attempt the one that Close ends. It is false if the stream is
// closed already.
func (s *resumedStream) enter(body io.Closer, cancel context.CancelCauseFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return false
	}
	s.body, s.cancel = body, cancel
	if part, ok := body.(ender); ok {
		s.part = part
	}
	return true
}

// leave gives back what is left of the part that came now.
func (s *resumedStream) leave() {
	s.mu.Lock()
	body, cancel := s.body, s.cancel
	s.body, s.cancel = nil, nil
	s.mu.Unlock()
	if body != nil {
		_ = body.Close()
	}
	if cancel != nil {
		cancel(nil)
	}
}

// startedOver ends a stream whose continuation began the answer anew.
func (s *resumedStream) startedOver() {
	s.held = nil
	s.stop(s.unfinished(s.cause, s.refused(s.cause, errAnew)), verdict{outcome: fault})
}
