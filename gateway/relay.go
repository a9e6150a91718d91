package gateway

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// KeepAlive says how a client's connection is kept alive while its call waits:
// in the queue, for a retry, for the first data, or between two pieces of data.
// Clients and the proxies before them give up on connections that are silent.
//
// The first sign of life sends the status, 200, before it is known how the call
// ends. If it then fails, the answer is the error as JSON or, in a stream, an
// error event.
//
// The zero value is the default.
type KeepAlive struct {
	// Every is how long a stream may be silent before its client is sent a
	// comment, ": keep-alive", and so on. Default 10 s; negative: never.
	Every time.Duration
	// WholeAfter is how long a client waits for an answer that is no stream before
	// it is sent a blank line, and another one each Every (each minute, if that is
	// negative). Most clients take an error for one by its status only, so this is
	// later than for streams. Default 45 s; negative: never.
	WholeAfter time.Duration
}

func (k KeepAlive) withDefaults() KeepAlive {
	if k.Every == 0 {
		k.Every = 10 * time.Second
	}
	if k.WholeAfter == 0 {
		k.WholeAfter = 45 * time.Second
	}
	return k
}

var (
	comment   = []byte(": keep-alive\n\n")
	blankLine = []byte("\n")
)

// relay is the way back to a client. Two write to it: the call, and the timer
// that keeps the connection alive while the call does not.
type relay struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	format format
	stream bool
	every  time.Duration
	timer  *time.Timer // nil: the connection is not kept alive

	next int64 // sequence number of a /responses stream's next event
	late int   // status of what the client was told when another had been sent
	lost bool  // the client could not be written to

	// Guarded by mu.
	mu     sync.Mutex
	status int     // that was sent; 0: none yet
	moved  bool    // something was written since the timer last went off
	tail   [4]byte // of what was written of a stream
	amid   bool    // that ends amid an event
	over   bool
}

// afresh is the tail of a stream that is between two events.
var afresh = [4]byte{'\n', '\n', '\n', '\n'}

// keepAlive sets the timer.
func (y *relay) keepAlive(k KeepAlive) {
	first := k.Every
	if !y.stream {
		first = k.WholeAfter
	}
	if y.every = k.Every; y.every <= 0 {
		y.every = time.Minute
	}
	if first < 0 {
		return
	}
	// Not set before tick can know of it.
	y.timer = time.AfterFunc(math.MaxInt64, y.tick)
	y.timer.Reset(first)
}

// tick writes a sign of life, if there was none since the last one.
func (y *relay) tick() {
	if !y.mu.TryLock() { // somebody writes, which takes as long as the client likes
		y.timer.Reset(y.every)
		return
	}
	defer y.mu.Unlock()
	if y.over {
		return
	}
	if !y.moved && !y.amid {
		life := blankLine
		if y.stream {
			life = comment
		}
		y.begin()
		if _, err := y.w.Write(life); err != nil || y.rc.Flush() != nil {
			return // the client has gone, which its context tells the call
		}
	}
	y.moved = false
	y.timer.Reset(y.every)
}

// begin sends the status and headers of an answer of which nothing has come
// yet. y.mu is held.
func (y *relay) begin() {
	if y.status != 0 {
		return
	}
	y.status, y.tail = http.StatusOK, afresh
	h := y.w.Header()
	h["Content-Type"] = jsonType
	if y.stream {
		h["Content-Type"] = eventStream
		h["Cache-Control"] = noCache
	}
	h["X-Accel-Buffering"] = noBuffering
	y.w.WriteHeader(http.StatusOK)
}

var (
	eventStream = []string{"text/event-stream; charset=utf-8"}
	noCache     = []string{"no-cache"}
	noBuffering = []string{"no"} // nginx
)

// end ends the signs of life: from now on only the call writes.
func (y *relay) end() (sent bool) {
	if y.timer != nil {
		y.timer.Stop()
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.over = true
	return y.status != 0
}

// follow keeps track of where in a stream it is after p. y.mu is held.
func (y *relay) follow(p []byte) {
	if !y.amid && p[0] == ':' && bytes.IndexByte(p, '\n') == len(p)-1 { // a comment, its blank line still to come
		y.tail = afresh
		return
	}
	n := min(len(p), len(y.tail))
	copy(y.tail[:], y.tail[n:])
	copy(y.tail[len(y.tail)-n:], p[len(p)-n:])
	line, ended := cutLineEnd(y.tail[:])
	_, blank := cutLineEnd(line)
	y.amid = !ended || !blank
}

func cutLineEnd(p []byte) ([]byte, bool) {
	n := len(p)
	switch {
	case n >= 2 && p[n-1] == '\n' && p[n-2] == '\r':
		return p[:n-2], true
	case n >= 1 && (p[n-1] == '\n' || p[n-1] == '\r'):
		return p[:n-1], true
	}
	return p, false
}

// pass passes a response on. Without an error the client has all of it; with one, the
// connection must be broken to tell that it has not.
func (y *relay) pass(resp *http.Response) error {
	if isStream(resp) {
		return y.passStream(resp)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return y.fail(&problem{status: http.StatusBadGateway, code: "bad_gateway", message: "the server switched protocols, which it was not asked to"})
	}
	if y.end() { // the status is sent
		return y.passLate(resp)
	}
	if resp.StatusCode >= 400 {
		return y.passError(resp)
	}
	if m, ok := resp.Body.(inMemory); ok && resp.Header["Content-Length"] == nil {
		resp.Header["Content-Length"] = []string{strconv.Itoa(m.Len())}
	}
	y.head(resp)
	return y.copy(resp.Body, resp.ContentLength < 0)
}

// inMemory is a body that has come.
type inMemory interface {
	io.WriterTo
	Len() int
}

// passError passes an error on, in a shape that the client can read.
func (y *relay) passError(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxLate))
	if err == nil && len(body) < maxLate {
		if shaped := inShape(resp.StatusCode, body, y.format); shaped != nil {
			body = shaped
			resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
		}
	}
	y.head(resp)
	if _, werr := y.w.Write(body); werr != nil {
		y.lost = true
		return werr
	}
	if err != nil || len(body) < maxLate {
		return err
	}
	return y.copy(resp.Body, false)
}

// isStream reports whether a response is a stream of whole events.
func isStream(resp *http.Response) bool {
	const stream = "text/event-stream"
	media := resp.Header.Get("Content-Type")
	return len(media) >= len(stream) && strings.EqualFold(media[:len(stream)], stream) && resp.Header.Get("Content-Encoding") == ""
}

// head sends a response's status and headers.
func (y *relay) head(resp *http.Response) {
	h := y.w.Header()
	passOn(h, resp.Header, notForClient)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // nor does net/http guess one
	}
	y.status = resp.StatusCode
	y.w.WriteHeader(resp.StatusCode)
}

// passStream passes a stream on, event by event.
func (y *relay) passStream(resp *http.Response) error {
	y.mu.Lock()
	switch {
	case y.status == 0:
		y.stream, y.tail = true, afresh
		y.w.Header()["X-Accel-Buffering"] = noBuffering
		y.head(resp)
	case !y.stream: // a blank line said that it would be JSON
		y.mu.Unlock()
		return y.fail(&problem{status: http.StatusBadGateway, code: "bad_gateway", message: "the server answered with a stream that was not asked for"})
	}
	y.mu.Unlock()
	switch err := y.copyStream(resp.Body); {
	case err == nil:
		y.end()
		return nil
	case y.lost, errors.As(err, new(*deepseek.APIError)): // nobody is there, or the error was an event itself
		return err
	default:
		_ = y.fail(problemOf(resp.Request.Context(), err))
		return err
	}
}

// copyStream passes on what comes when it comes.
func (y *relay) copyStream(body io.Reader) error {
	w := streamWriter{y}
	if wt, ok := body.(io.WriterTo); ok {
		_, err := wt.WriteTo(w)
		return err
	}
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := w.FlushError(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// streamWriter is a relay's way for the pieces of a stream.
type streamWriter struct{ relay *relay }

func (w streamWriter) Write(p []byte) (int, error) {
	y := w.relay
	y.mu.Lock()
	defer y.mu.Unlock()
	y.moved = true
	y.follow(p)
	if y.format == responses {
		y.next = max(y.next, nextSequence(p))
	}
	n, err := y.w.Write(p)
	y.lost = err != nil
	return n, err
}

func (w streamWriter) FlushError() error {
	y := w.relay
	y.mu.Lock()
	defer y.mu.Unlock()
	err := y.rc.Flush()
	y.lost = err != nil
	return err
}

// copy passes a body on that is no stream: at once if it is in memory already,
// and as it comes if nobody knows how long it is.
func (y *relay) copy(body io.Reader, flush bool) error {
	if m, ok := body.(inMemory); ok {
		_, err := m.WriteTo(y.w)
		if err == nil { // the client has it before the rest is done
			err = y.rc.Flush()
		}
		y.lost = err != nil
		return err
	}
	buf := parts.Get().(*[partSize]byte)
	defer parts.Put(buf)
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			_, werr := y.w.Write(buf[:n])
			if werr == nil && flush {
				werr = y.rc.Flush()
			}
			if werr != nil {
				y.lost = true
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// passLate passes a response on whose client was sent the status already.
func (y *relay) passLate(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") { // which the headers that were sent do not tell
		return y.fail(&problem{status: http.StatusBadGateway, code: "bad_gateway", message: "the server answered compressed, which was not asked for"})
	}
	if !y.stream && resp.StatusCode < 400 {
		return y.copy(resp.Body, false)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxLate))
	switch {
	case err != nil:
		return err
	case !y.stream && jsonscan.Whole(body):
		_, err = y.w.Write(body)
		return err
	}
	if resp.StatusCode < 400 {
		return y.fail(&problem{status: http.StatusBadGateway, code: "bad_gateway", message: "the server answered without a stream, which was asked for"})
	}
	return y.fail(problemFrom(resp.StatusCode, body))
}

// fail tells a client why it gets no answer, or no more of it. After the status
// was sent, a stream is over with an error event, and other answers are the
// error's JSON.
func (y *relay) fail(p *problem) error {
	sent := y.end()
	switch {
	case !sent:
		y.status = p.status
		p.write(y.w, y.format)
		return nil
	case !y.stream:
		y.late = p.status
		_, err := y.w.Write(p.body(y.format))
		return err
	case y.amid: // not to be told apart from what it would be in the middle of
		return errBroken
	}
	if _, err := y.w.Write(p.event(y.format, y.next)); err != nil {
		return err
	}
	if err := y.rc.Flush(); err != nil {
		return err
	}
	// Some clients overlook the event, but none a connection that breaks.
	return errBroken
}

// errBroken says that a response is over and not complete.
var errBroken = errors.New("the response is not complete")

// maxLate is how much of an error is read that cannot be passed on as it is.
const maxLate = 64 << 10

// A stream comes in events of a few hundred bytes; other bodies that are not in
// memory are large.
const (
	pieceSize = 2 << 10
	partSize  = 32 << 10
)

var (
	pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}
	parts  = sync.Pool{New: func() any { return new([partSize]byte) }}
)
