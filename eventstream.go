package deepseek

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/seawall-go/deepseek/internal/jsonscan"
	"github.com/seawall-go/deepseek/internal/sse"
)

var (
	errRanged = errors.New("deepseek: the stream was ranged over before")
	errClosed = errors.New("deepseek: the stream was closed")
)

// eventStream is a streamed answer, whatever its events mean.
type eventStream struct {
	resp   *http.Response
	call   *call
	source eventSource // nil until the first event is wanted

	// A server that does not stream, though it was asked to, answers as a whole.
	whole []byte

	odd *TruncatedError // an event that did not decode; nil: there was none

	ranged atomic.Bool
	closed atomic.Bool
}

// stream makes a call for a streamed answer.
func (c *Client) stream(ctx context.Context, path, model string, body []byte) (*eventStream, error) {
	resp, call, err := c.send(ctx, http.MethodPost, path, model, body, true)
	if err != nil {
		return nil, err
	}
	return &eventStream{resp: resp, call: call}, nil
}

// readerSource is the source of events where the transport's own is out of
// reach, because something of the caller's is in between.
type readerSource struct{ *sse.Reader }

func (r readerSource) nextEvent() (sse.Event, error) { return r.Next() }

// open finds out what the body is.
func (e *eventStream) open() error {
	if source, ok := e.resp.Body.(eventSource); ok {
		e.source = source
		return nil
	}
	body := bufio.NewReader(e.resp.Body)
	for {
		first, err := body.ReadByte()
		switch {
		case err != nil:
			return err
		case first == ' ' || first == '\n' || first == '\t' || first == '\r':
			continue
		}
		_ = body.UnreadByte()
		if first == '{' || first == '[' || first == '<' { // no field of an event begins like that
			e.whole, err = io.ReadAll(body)
			return err
		}
		e.source = readerSource{sse.NewReader(body, maxEvent)}
		return nil
	}
}

// next returns the data of the next event, or the whole answer if there are no
// events. The end is io.EOF, after which final must judge.
func (e *eventStream) next() (data []byte, whole bool, err error) {
	if e.closed.Load() {
		return nil, false, errClosed
	}
	if e.source == nil {
		if e.whole != nil {
			return nil, true, io.EOF
		}
		if err := e.open(); err != nil {
			return nil, false, e.readError(err)
		}
		if e.whole != nil {
			return e.whole, true, nil
		}
	}
	for {
		event, err := e.source.nextEvent()
		if err != nil {
			return nil, false, e.readError(err)
		}
		if len(event.Data) > 0 {
			return event.Data, false, nil
		}
	}
}

// readError says that a read failed because of Close, if it did.
func (e *eventStream) readError(err error) error {
	if e.closed.Load() {
		return errClosed
	}
	return err
}

// streamEnd is how a stream ended, and what is known of its answer.
type streamEnd struct {
	err      error        // io.EOF: at the end of the body
	done     bool         // by [DONE]
	finished bool         // a choice's finish_reason had come
	open     bool         // another's had not
	fault    FinishReason // by which the server said that it broke off
	arrived  *ChatResponse
	any      bool // something had arrived
}

// choice takes in how a choice stands.
func (how *streamEnd) choice(reason FinishReason) {
	if reason == "" {
		how.open = true
		return
	}
	how.finished = true
	if finishReasonFault(string(reason)) {
		how.fault = reason
	}
}

// final is the error that the stream's reader is given; nil if the answer is
// whole.
func (e *eventStream) final(how streamEnd) error {
	err := e.ending(how)
	if cut, ok := err.(*TruncatedError); ok {
		cut.Attempts = e.call.trail()
	}
	return err
}

func (e *eventStream) ending(how streamEnd) error {
	err := how.err
	var cut *TruncatedError
	var api *APIError
	var why error
	if errors.As(err, &cut) {
		why = cut.Continuation
	}
	switch {
	case how.fault != "":
		return &TruncatedError{Reason: "finish_reason " + string(how.fault), Response: how.arrived, Continuation: why}
	case how.done:
		return nil
	case isContextError(err):
		return &CallError{Err: err, Attempts: e.call.trail()}
	case errors.Is(err, errClosed):
		return errClosed
	case how.finished && !how.open: // the rest is of no interest
		return nil
	case errors.As(err, &api):
		if api.Attempts == nil {
			api = api.after(e.call.trail())
		}
		if !how.any {
			return api
		}
		return &TruncatedError{Reason: "the server reported an error", Err: api, Response: how.arrived, Continuation: why}
	case cut != nil:
		if cut == e.odd {
			e.broken(cut)
		}
		return &TruncatedError{Reason: cut.Reason, Err: cut.Err, Response: how.arrived, Continuation: why}
	case err == io.EOF:
		return &TruncatedError{Reason: "stream ended without finish_reason or [DONE]", Response: how.arrived}
	}
	reason := "stream broke off"
	if errors.Is(err, ErrStalled) {
		reason = "stream stalled"
	}
	return &TruncatedError{Reason: reason, Err: err, Response: how.arrived}
}

// errorEvent returns the error that an event tells in place of an answer.
func (e *eventStream) errorEvent(data []byte, extra Extra) error {
	if v, ok := extra["error"]; ok && !jsonscan.IsNull(v) {
		return newAPIError(e.resp.StatusCode, e.resp.Header, append([]byte(nil), data...), nil)
	}
	return nil
}

// notJSON is the error for an event that does not decode. It tells nothing of the
// event, which may be a part of an answer.
func (e *eventStream) notJSON(err error) error {
	e.odd = &TruncatedError{Reason: "an event is not JSON", Err: err}
	return e.odd
}

// broken has all who wait for the stream's end know that it broke, which nobody but
// its reader has seen.
func (e *eventStream) broken(err error) {
	e.call.answer().noteBroken(err)
	if b, ok := e.resp.Body.(interface{ end(verdict) }); ok {
		b.end(judge(nil, err))
	}
}

// close ends the stream. It may be called at any time, more than once.
func (e *eventStream) close() error {
	if e.closed.Swap(true) {
		return nil
	}
	return e.resp.Body.Close()
}
