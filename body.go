package deepseek

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// maxReplayBody is how much of a request body is kept for a second attempt:
// the API's own limit on a request.
const maxReplayBody = 48 << 20

// body makes a request's body sendable more than once, and sees to it that the
// caller's is closed whatever happens.
type body struct {
	get     func() (io.ReadCloser, error) // a fresh copy; nil: there is none to be had
	current *sentBody                     // what the attempt under way was given; nil: no body at all
	first   sentBody                      // room for the one that most calls have
}

// sentBody notices whether a transport took charge of it.
type sentBody struct {
	io.ReadCloser
	touched atomic.Bool
	closed  atomic.Bool
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.touched.Store(true)
	return b.ReadCloser.Read(p)
}

func (b *sentBody) Close() error {
	b.touched.Store(true)
	if b.closed.Swap(true) {
		return nil
	}
	return b.ReadCloser.Close()
}

// How [io.NopCloser] returns a reader, with and without WriteTo.
var (
	nopCloser         = reflect.TypeOf(io.NopCloser(struct{ io.Reader }{}))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser((*bytes.Reader)(nil)))
)

func isNopCloser(rc io.ReadCloser) bool {
	t := reflect.TypeOf(rc)
	return t == nopCloserWriterTo || t == nopCloser
}

// bare returns the body as it is best sent with req. net/http sends one that it
// knows to be in memory in one write with the header, and any other one after it;
// so such a body, of which there are copies, goes without the wrapper: there is
// nothing to be noticed, as its Close does nothing.
func (b *body) bare(req *http.Request) io.ReadCloser {
	if b.current == nil {
		return req.Body
	}
	if req.GetBody == nil {
		return b.current
	}
	if !isNopCloser(b.current.ReadCloser) {
		return b.current
	}
	b.current.touched.Store(true)
	return b.current.ReadCloser
}

// isOf reports whether req has this body: nobody has put in another.
func (b *body) isOf(req *http.Request) bool {
	if b.current == nil {
		return req.Body == nil || req.Body == http.NoBody
	}
	return req.Body == b.current
}

// take makes the request's body ready for its first attempt; what of the request
// has to be different for that is so in the one that it returns. A body that comes
// with GetBody is sent as it is. One without is read into memory first, so that
// it can be sent again and so that no server's early answer can race with the
// reading of it (https://go.dev/issue/40747); one larger than the limit is sent once.
func (b *body) take(req *http.Request) (*http.Request, error) {
	b.get = nil
	if req.Body == nil || req.Body == http.NoBody {
		b.current = nil
		return req, nil
	}
	if req.GetBody != nil {
		b.get = req.GetBody
		b.send(req.Body)
		return req, nil
	}
	if req.ContentLength > maxReplayBody {
		b.send(req.Body)
		return req, nil
	}
	return b.buffer(req)
}

// buffer reads a body without GetBody into memory, for take.
func (b *body) buffer(req *http.Request) (*http.Request, error) {
	original := req.Body
	var buf bytes.Buffer
	if req.ContentLength > 0 {
		buf.Grow(int(req.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(original, maxReplayBody+1))
	if err != nil {
		_ = original.Close()
		return nil, fmt.Errorf("deepseek: reading the request body: %w", err)
	}
	if n > maxReplayBody {
		b.send(&struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&buf, original), original})
		return req, nil
	}
	if err := original.Close(); err != nil {
		return nil, fmt.Errorf("deepseek: closing the request body: %w", err)
	}
	if req.ContentLength > 0 && req.ContentLength != n { // 0 with a body means unknown
		return nil, fmt.Errorf("deepseek: the request body has %d bytes where Content-Length says %d", n, req.ContentLength)
	}
	own := *req
	own.ContentLength, own.TransferEncoding = n, nil
	if len(req.Trailer) > 0 { // for which there is only room after chunks
		own.ContentLength = -1
	}
	if n == 0 {
		b.current, own.Body = nil, http.NoBody
		return &own, nil
	}
	b.get = replay(buf.Bytes())
	own.GetBody = b.get
	rc, _ := b.get()
	b.send(rc)
	own.Body = b.current
	return &own, nil
}

// replay hands out data as often as it is asked to.
func replay(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// send makes rc the body of the attempt to come.
func (b *body) send(rc io.ReadCloser) {
	if b.current == nil && b.first.ReadCloser == nil {
		b.first.ReadCloser = rc
		b.current = &b.first
		return
	}
	b.current = &sentBody{ReadCloser: rc}
}

func (b *body) replayable() bool {
	return b.current == nil || b.get != nil || !b.current.touched.Load()
}

var errNotReplayable = errors.New("deepseek: the request body cannot be sent again")

// rewind has the body start from the beginning.
func (b *body) rewind() error {
	if b.current == nil || !b.current.touched.Load() {
		return nil
	}
	if b.get == nil {
		return errNotReplayable
	}
	rc, err := b.get()
	if err != nil {
		return fmt.Errorf("deepseek: getting the request body again: %w", err)
	}
	b.send(rc)
	return nil
}

// restock makes what get returns the body of req, which is ours, and of the
// attempts that follow it.
func (b *body) restock(req *http.Request, get func() (io.ReadCloser, error), length int64) error {
	b.abandon()
	rc, err := get()
	if err != nil {
		return fmt.Errorf("deepseek: getting the request body again: %w", err)
	}
	b.get = get
	b.send(rc)
	req.Body, req.GetBody, req.ContentLength, req.TransferEncoding = b.current, get, length, nil
	return nil
}

// form returns req with its body in the form f, to be taken back; changed is
// false if it has that form already.
func (b *body) form(req *http.Request, f form) (own *http.Request, kept lent, changed bool, err error) {
	buf := takeSniffer()
	defer giveSniffer(buf)
	rc, err := b.get()
	if err == nil {
		_, err = buf.ReadFrom(rc)
		_ = rc.Close()
	}
	if err != nil {
		return nil, lent{}, false, fmt.Errorf("deepseek: getting the request body again: %w", err)
	}
	data := buf.Bytes()
	formed, ok := f.apply(data)
	switch {
	case !ok:
		return nil, lent{}, false, &RequestError{Field: "body", Reason: "is not one JSON object"}
	case len(formed) == len(data) && (len(data) == 0 || &formed[0] == &data[0]):
		return req, lent{}, false, nil
	}
	own, kept = b.lend(req, formed)
	return own, kept, true, nil
}

// lent is a body that gives way to another one for a while.
type lent struct {
	get     func() (io.ReadCloser, error)
	current *sentBody
}

// lend returns req with data as its body, however often it is sent, until the
// body is taken back.
func (b *body) lend(req *http.Request, data []byte) (*http.Request, lent) {
	kept := lent{b.get, b.current}
	b.get = replay(data)
	rc, _ := b.get()
	b.send(rc)
	own := *req
	own.Body, own.GetBody, own.ContentLength, own.TransferEncoding, own.Trailer = b.current, b.get, int64(len(data)), nil, nil
	return &own, kept
}

// takeBack undoes lend. If the other body was sent, nobody will read the one that
// gave way to it. o is what the attempt came to: a refusal may have been sent
// before, to an account that could not serve it.
func (b *body) takeBack(kept lent, o outcome) {
	if b.current == nil { // there was none in its place
		b.get, b.current = kept.get, kept.current
		return
	}
	sent := o != refused || b.current.touched.Load()
	b.get, b.current = kept.get, kept.current
	if sent && b.current != nil {
		_ = b.current.Close()
	}
}

// abandon closes a body that no transport took charge of.
func (b *body) abandon() {
	if b.current != nil && !b.current.touched.Load() {
		_ = b.current.Close()
	}
}

// sniffers are buffers to read a body's copy into.
var sniffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxSniffer is the largest buffer that is kept for the next call.
const maxSniffer = 1 << 20

func takeSniffer() *bytes.Buffer {
	buf := sniffers.Get().(*bytes.Buffer)
	buf.Reset()
	return buf
}

func giveSniffer(buf *bytes.Buffer) {
	if buf.Cap() <= maxSniffer {
		sniffers.Put(buf)
	}
}

// copyTo reads a copy of a JSON body. It is false if the body is none, or can
// be read only once.
func (b *body) copyTo(buf *bytes.Buffer, req *http.Request) bool {
	if b.get == nil || req.Method != http.MethodPost || header(req.Header, "Content-Encoding") != "" {
		return false
	}
	if t := header(req.Header, "Content-Type"); t != "" && !strings.Contains(t, "json") {
		return false
	}
	if b.current != nil && !b.current.touched.Load() && peek(buf, b.current.ReadCloser) {
		return true
	}
	rc, err := b.get()
	if err != nil {
		return false
	}
	defer rc.Close()
	_, err = buf.ReadFrom(rc)
	return err == nil
}

// peek copies what is to be read of rc, if that is one of those in memory that
// [http.NewRequest] knows, and leaves it as it is.
func peek(buf *bytes.Buffer, rc io.ReadCloser) bool {
	if !isNopCloser(rc) {
		return false
	}
	switch r := reflect.ValueOf(rc).Field(0).Interface().(type) {
	case *bytes.Reader:
		return peekAt(buf, r, r.Size(), r.Len())
	case *strings.Reader:
		return peekAt(buf, r, r.Size(), r.Len())
	case *bytes.Buffer:
		buf.Write(r.Bytes())
		return true
	}
	return false
}

// peekAt copies the last of r, which has size bytes.
func peekAt(buf *bytes.Buffer, r io.ReaderAt, size int64, last int) bool {
	buf.Grow(last)
	data := buf.AvailableBuffer()[:last]
	if n, _ := r.ReadAt(data, size-int64(last)); n != last {
		return false
	}
	buf.Write(data)
	return true
}

// sniff finds what the call's record tells of a body, in a copy of it: the model
// and whether to stream, which decide how the call is limited and guarded, and
// the conversation. What cannot be read has none of it.
func (b *body) sniff(req *http.Request, c *call) {
	buf := takeSniffer()
	defer giveSniffer(buf)
	if !b.copyTo(buf, req) {
		return
	}
	c.read(buf.Bytes())
}

// read takes over what the call's record tells of a body.
func (c *call) read(data []byte) {
	var beginning beginning
	cursor := jsonscan.NewCursor(data)
	if cursor.Object() {
		for cursor.Key() {
			switch string(cursor.Name) {
			case "model":
				c.model = modelName(cursor.Value())
			case "stream":
				c.stream = jsonscan.IsTrue(cursor.Value())
			case "n":
				n, _ := cursor.Int()
				c.choices = uint8(min(max(n, 0), 63))
			default:
				beginning.member(&cursor)
			}
		}
	}
	c.conversation = beginning.conversation()
}

// modelName is a JSON string as a model's name; the usual ones cost nothing.
func modelName(value []byte) string {
	for _, known := range [...]string{"deepseek-flash", "deepseek-v4-pro", "deepseek-v4-flash"} {
		if jsonscan.Equal(value, known) {
			return known
		}
	}
	name, _ := jsonscan.String(value)
	return name
}
