package deepseek

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/seawall-go/deepseek/internal/jsonscan"
	"github.com/seawall-go/deepseek/internal/sse"
)

// maxWholeBody is how much of an answer that is no stream is held back until it
// is known to be whole. A longer one is passed on as it comes.
const maxWholeBody = 64 << 20

// NewGuard returns the layer that decides when an answer is an answer.
//
// A stream is handed up at its first data, not at its status: DeepSeek sends
// the status when the request is queued, and may fail afterwards. From then on
// it must end with a finish_reason, [DONE], or the terminal event of /responses
// or of the Anthropic format; any other end, clean or not, is a
// [*TruncatedError] to whoever reads it, as are the finish reasons
// insufficient_system_resource and aborted. Comments serve the clocks and are not
// passed on, unless keepComments is set.
//
// An answer that is no stream is read to its end and checked to be one whole JSON
// value before it is handed up, if it is no longer than 64 MiB and not compressed.
// Blank lines before it are normal.
//
// The clocks of t run until the end; what they find is a [*StallError]. The
// request's context is never made to end by them, and there is no limit on the
// whole.
func NewGuard(t Timeouts, keepComments bool) Middleware {
	g := &guard{limits: t.withDefaults(), keepComments: keepComments}
	return layer(g.do)
}

type guard struct {
	limits       Timeouts
	keepComments bool
}

// watched is one attempt under guard: its clocks, its cancellation and its end.
type watched struct {
	ending
	clocks
	tally   tally
	c       *call
	attempt context.Context // the request's, cancelled when the attempt is over
	src     io.ReadCloser   // the response's body as it comes
	memory  memBody         // the body, if it is read at once
	stop    func() bool     // undoes the watch on the caller's context
}

func (g *guard) do(next http.RoundTripper, c *call, req *http.Request) (resp *http.Response, err error) {
	ctx, cancel := context.WithCancelCause(c.context(req))
	w := &watched{c: c}
	w.begin(&g.limits, c.tempo, cancel)
	c.tally.Store(&w.tally)
	place := c.began(cancel)
	w.attempt = c.watch.attemptContext(ctx, c, req.URL.Host, place)

	handedUp, returned := false, false
	defer func() { // also when next panics
		if !handedUp {
			w.over()
		}
		if !returned {
			c.ended(w.attempt, place, nil, errPanicked, clock().sub(w.start))
		}
	}()
	own := req.WithContext(w.attempt)
	own.Body = c.body.bare(req)
	if header(own.Header, "Accept-Encoding") != "" {
		// What is compressed cannot be watched. Without this the base may still
		// ask for compression by itself, and then undoes it by itself.
		own.Header = own.Header.Clone()
		own.Header.Del("Accept-Encoding")
	}
	c.fresh = own
	resp, err = c.pass(next, own)
	returned = true
	if err != nil {
		err = w.cause(err)
	} else {
		w.responseBegan()
		handedUp, err = g.examine(w, own, resp)
	}
	c.ended(w.attempt, place, resp, err, w.soFar().when().sub(w.start))
	if err != nil {
		return nil, err
	}
	return resp, nil
}

var errPanicked = errors.New("deepseek: a transport panicked")

// over ends the attempt: no clock and no goroutine is left of it.
func (w *watched) over() {
	w.clocks.stop()
	if w.stop != nil {
		w.stop()
	}
	w.cancel(nil)
}

// cause tells a read error or a failed round trip by what brought it about.
func (w *watched) cause(err error) error {
	var stall *StallError
	if errors.As(context.Cause(w.attempt), &stall) {
		return stall
	}
	if w.c.Context.Err() != nil {
		return gaveUp(w.c.Context)
	}
	if context.Cause(w.attempt) == errLost {
		return errLost
	}
	if w.attempt.Err() == nil && isContextError(err) {
		return &baseTimeoutError{err}
	}
	return err
}

// baseTimeoutError is a time limit of the base's own: to connect, to get
// headers. Those of net and net/http say that they are context.DeadlineExceeded,
// which to everybody above would mean that the caller's time is up.
type baseTimeoutError struct{ err error }

func (e *baseTimeoutError) Error() string      { return e.err.Error() }
func (e *baseTimeoutError) Timeout() bool      { return true }
func (e *baseTimeoutError) As(target any) bool { return errors.As(e.err, target) }
func (e *baseTimeoutError) Is(target error) bool {
	return target != context.Canceled && target != context.DeadlineExceeded && errors.Is(e.err, target)
}

// Read is the network's side, for the parsers above.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.clocks.read(w.src, p)
	if err != nil && err != io.EOF {
		err = w.cause(err)
	}
	return n, err
}

// examine looks at a response until it is known what it is. open reports
// whether its body is still to be read from the network; then resp.Body ends
// the attempt.
func (g *guard) examine(w *watched, req *http.Request, resp *http.Response) (open bool, err error) {
	w.src = resp.Body
	w.verdict = judgeStatus(resp)
	if resp.StatusCode/100 == 2 {
		w.tally.accepted.Store(true)
	}
	media := mediaType(resp.Header)
	isJSON, isHTML := strings.Contains(media, "json"), strings.Contains(media, "html")
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols, req.Method == http.MethodHead,
		resp.StatusCode == http.StatusNoContent, resp.StatusCode >= 300 && resp.StatusCode < 400:
		return g.pass(w, resp), nil
	case isEncoded(resp.Header):
		return g.pass(w, resp), nil
	case resp.StatusCode >= 400:
		return g.failed(w, req, resp)
	case isEventStreamType(media), w.c.stream && !isJSON && !isHTML:
		return g.stream(w, req, resp)
	case isJSON, w.c.stream, answersJSON(req.URL.Path):
		return g.whole(w, req, resp)
	}
	return g.pass(w, resp), nil
}

// isEncoded reports whether a body is compressed, so that nobody can look at it.
func isEncoded(h http.Header) bool {
	encoding := header(h, "Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

// answersJSON reports whether DeepSeek answers at path with JSON, whatever the
// content type says.
func answersJSON(path string) bool {
	path = strings.TrimSuffix(path, "/")
	for _, s := range []string{"/completions", "/responses", "/messages", "/models", "/balance"} {
		if strings.HasSuffix(path, s) {
			return true
		}
	}
	i := strings.LastIndexByte(path, '/')
	return i > 0 && strings.HasSuffix(path[:i], "/models")
}

// isGeneration reports whether a model writes the answer at path.
func isGeneration(path string) bool {
	path = strings.TrimSuffix(path, "/")
	return strings.HasSuffix(path, "/completions") || strings.HasSuffix(path, "/responses") || strings.HasSuffix(path, "/messages")
}

// failed reads an error's body into memory: it is small, and its permit and
// connection are free for others then. What of it does not come in time is done
// without, because failover waits for it.
func (g *guard) failed(w *watched, req *http.Request, resp *http.Response) (open bool, err error) {
	data, long, err := readError(w, w.src)
	if long {
		head := w.redacted(req, resp.Header, data)
		if len(head) != len(data) { // a name is shorter than a key
			resp.ContentLength = -1
			resp.Header.Del("Content-Length")
		}
		resp.Body = g.rest(w, head)
		return true, nil
	}
	if err != nil && isContextError(err) {
		return false, err
	}
	data = w.redacted(req, resp.Header, data)
	if resp.ContentLength >= 0 {
		resp.ContentLength = int64(len(data))
	}
	if resp.Header.Get("Content-Length") != "" {
		resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
	}
	resp.Body = w.inMemory(data)
	return false, nil
}

// redacted is a copy of an error's text without the key that req was sent with,
// should the server repeat it. The key is taken out of the response's headers as
// well.
func (w *watched) redacted(req *http.Request, h http.Header, text []byte) []byte {
	text = bytes.Clone(text)
	hide := func(secret string) {
		if len(secret) < 8 { // no key, and maybe a word
			return
		}
		name := "#" + fingerprint(secret)
		text = bytes.ReplaceAll(text, []byte(secret), []byte(name))
		for _, values := range h {
			for i, v := range values {
				values[i] = strings.ReplaceAll(v, secret, name)
			}
		}
	}
	for _, name := range keyHeaders {
		hide(strings.TrimPrefix(req.Header.Get(name), "Bearer "))
	}
	if to := w.c.to; to != nil && to.key != nil { // which is put in below
		hide(to.key.plain[0])
	}
	return text
}

// whole reads an answer that is no stream, and accepts it if it is whole.
func (g *guard) whole(w *watched, req *http.Request, resp *http.Response) (open bool, err error) {
	data, long, err := w.readAll(resp.ContentLength)
	w.tally.piece(len(bytes.TrimSpace(data)))
	if err == nil && long {
		resp.Body = g.rest(w, data)
		return true, nil
	}
	_ = w.src.Close()
	if err != nil {
		if isContextError(err) || errors.Is(err, ErrStalled) {
			return false, err
		}
		return false, &TruncatedError{Reason: "body broke off after " + strconv.Itoa(len(data)) + " bytes", Err: err}
	}
	ans, ok := readAnswer(data)
	if !ok || !ans.isObject && isGeneration(req.URL.Path) {
		return false, noAnswer(resp, w.redacted(req, resp.Header, data))
	}
	if ans.isError {
		return false, newAPIError(resp.StatusCode, resp.Header, w.redacted(req, resp.Header, data), nil)
	}
	w.verdict.outcome = answered
	if ans.brokenOff {
		w.verdict.outcome = fault
	}
	w.tally.note(w.c, ans.usage, ans.model, false)
	resp.Body = w.inMemory(data)
	return false, nil
}

// answer is what the guard wants to know of a whole body.
type answer struct {
	isObject  bool // as all answers of a model are
	isError   bool // an error object that came with a 2xx
	brokenOff bool // the server says that it did not finish
	usage     reported
	model     []byte // raw
}

// readAnswer reads a body in one pass; ok is whether it is one whole JSON value.
func readAnswer(data []byte) (ans answer, ok bool) {
	c := jsonscan.NewCursor(data)
	if !c.Object() {
		return answer{}, jsonscan.Whole(data) // an array, say
	}
	ans.isObject = true
	var hasError, hasID bool
	for c.Key() {
		switch string(c.Name) {
		case "id":
			hasID = true
			c.Skip()
		case "error":
			hasError = !jsonscan.IsNull(c.Value())
		case "usage":
			ans.usage.decode(&c)
		case "model":
			ans.model = c.Value()
		case "choices":
			_, fault := finishReasons(&c)
			ans.brokenOff = fault != nil
		default:
			c.Skip()
		}
	}
	if c.Err() != nil {
		return answer{}, false
	}
	ans.isError = hasError && !hasID // a /responses object tells its error beside its id
	return ans, len(bytes.TrimSpace(c.Rest())) == 0
}

// inMemory is the body that was read.
func (w *watched) inMemory(data []byte) *memBody {
	w.verdict.at = clock()
	w.memory = memBody{data: data, verdict: &w.verdict}
	return &w.memory
}

// readAll reads the body to its end, or to maxWholeBody.
func (w *watched) readAll(length int64) (data []byte, long bool, err error) {
	size := 4 << 10
	if length >= 0 && length < maxWholeBody {
		size = int(length) + 1 // one more, to see the end without growing
	}
	data = make([]byte, 0, size)
	for {
		if len(data) == cap(data) {
			if len(data) >= maxWholeBody {
				return data, true, nil
			}
			data = append(data, 0)[:len(data)]
		}
		n, err := w.src.Read(data[len(data):cap(data)])
		if n > 0 {
			fresh := data[len(data) : len(data)+n]
			w.heard()
			if len(bytes.TrimSpace(fresh)) > 0 {
				w.data()
			}
			data = data[:len(data)+n]
		}
		if err == io.EOF {
			return data, false, nil
		}
		if err != nil {
			return data, false, w.cause(err)
		}
	}
}

// noAnswer says what came in place of a whole JSON object.
func noAnswer(resp *http.Response, data []byte) error {
	rest := bytes.TrimSpace(data)
	switch {
	case len(rest) == 0:
		return &TruncatedError{Reason: "body ended without an answer (the server gave up on it while it was queued)"}
	case (rest[0] == '{' || rest[0] == '[') && !jsonscan.Whole(rest):
		return &TruncatedError{Reason: "body is cut short after " + strconv.Itoa(len(data)) + " bytes"}
	}
	e := newAPIError(resp.StatusCode, resp.Header, data[:min(len(data), maxErrorBody)], nil)
	e.Message = "the answer is not JSON: " + snippet(rest)
	if jsonscan.Whole(rest) {
		e.Message = "the answer is no JSON object: " + snippet(rest)
	}
	return e
}

// rest is a body of which a beginning was read already.
func (g *guard) rest(w *watched, head []byte) io.ReadCloser {
	w.leaves()
	w.watchCaller()
	return &plainBody{watched: w, head: head}
}

// pass hands a response up unread, under the silence clock only.
func (g *guard) pass(w *watched, resp *http.Response) (open bool) {
	if wr, ok := resp.Body.(io.Writer); ok { // 101: no longer HTTP, no longer ours to time
		w.clocks.stop()
		b := &plainBody{watched: w}
		b.watchCaller()
		resp.Body = &plainPipe{plainBody: b, Writer: wr}
		return true
	}
	if resp.Body == http.NoBody { // over already
		resp.Body = w.inMemory(nil)
		return false
	}
	w.onlySilence()
	w.leaves()
	b := &plainBody{watched: w}
	b.watchCaller()
	resp.Body = b
	return true
}

// watchCaller ends the response as soon as the caller gives up, read or not.
func (w *watched) watchCaller() {
	if w.c.Context.Done() == nil {
		return
	}
	w.stop = context.AfterFunc(w.c.Context, func() { w.end(verdict{outcome: cancelled}) })
}

// plainBody is a body whose content is not looked at.
type plainBody struct {
	*watched
	head []byte // read before
}

type plainPipe struct {
	*plainBody
	io.Writer
}

func (b *plainBody) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	n, err := b.watched.Read(p)
	b.tally.piece(n)
	if err != nil {
		v := b.soFar()
		if err != io.EOF {
			v = judge(nil, err)
		}
		b.over()
		b.end(v)
	}
	return n, err
}

func (b *plainBody) Close() error {
	b.over()
	err := b.src.Close()
	b.end(verdict{outcome: cancelled})
	return err
}

// eventSource is a response body that can hand out its events without their
// being parsed a second time. They are as [sse.Reader.Next] returns them: one
// without data is a comment.
type eventSource interface {
	nextEvent() (sse.Event, error)
}

var (
	_ ender       = (*memBody)(nil)
	_ ender       = (*plainBody)(nil)
	_ ender       = (*streamBody)(nil)
	_ judged      = (*memBody)(nil)
	_ eventSource = (*streamBody)(nil)
)
