package deepseektest

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seawall-go/deepseek/internal/memnet"
)

// bodyLimit is the largest request body, 48 MiB.
const bodyLimit = 48 << 20

// exchange is one request on its way through a Server.
type exchange struct {
	s *Server
	w http.ResponseWriter
	r *http.Request

	rec       *Request
	trace     string
	anthropic bool // errors in the Anthropic form
	acc       *account
	ask       *ask
	slot      bool
	usage     Usage
	timer     *time.Timer
	flusher   *http.ResponseController
	framing   Framing
	header    http.Header // scripted, in place of what is usual
	written   bool        // something of the body
	broken    bool        // the connection: the client has gone
	buf       []byte
}

func (x *exchange) serve() {
	defer x.end()
	path := strings.TrimSuffix(x.r.URL.Path, "/")
	x.begun(path)
	body, err := readBody(x.w, x.r)
	x.rec.Body = body
	e, beta := x.s.route(x.r.Method, path)
	if err == nil && e.decode != nil {
		x.ask = e.decode(&x.s.cfg, body, beta)
		x.describe()
	}
	x.acc = x.s.authenticate(x.rec.Key)
	if x.acc != nil {
		x.rec.Account = x.acc.Name
	}
	x.s.arrive(x.rec)

	switch {
	case err != nil:
		x.unreadable(err)
	case x.acc == nil:
		x.fail(errKey(x.rec.Key))
	case e.decode != nil:
		x.answer()
	default:
		p := x.s.decide(x.rec, false)
		if p != nil && (!x.wait(p.delay) || x.early(p)) {
			return
		}
		if e.serve == nil {
			x.fail(errNotFound())
			return
		}
		if err := e.serve(x, path); err != nil {
			x.fail(err)
		}
	}
}

// begun starts the request's record.
func (x *exchange) begun(path string) {
	x.trace = hex32(x.s.id())
	x.flusher = http.NewResponseController(x.w)
	x.anthropic = strings.HasPrefix(path, "/anthropic/")
	x.rec = &Request{
		Time:   time.Now(),
		Method: x.r.Method,
		Path:   x.r.URL.Path,
		Header: x.r.Header.Clone(),
		Key:    key(x.r.Header),
	}
	x.rec.Header.Del("Authorization")
	x.rec.Header.Del("X-Api-Key")
}

// unreadable ends a request whose body could not be read, because of err.
func (x *exchange) unreadable(err error) {
	switch {
	case tooLarge(err):
		x.fail(errStatus(http.StatusRequestEntityTooLarge, ""))
	case x.r.Context().Err() != nil || cutOff(err):
		x.gone() // the client left while sending
	default: // no way to send a body, such as chunks without a length
		x.fail(errStatus(http.StatusBadRequest, ""))
	}
}

// answer serves a request that asks the model for something.
func (x *exchange) answer() {
	p, err := x.s.take(x)
	if p == nil && err == nil {
		p = x.s.decide(x.rec, true)
		if p == nil {
			p = new(plan)
		}
		err = x.admit(p)
	}
	switch {
	case err != nil:
		x.fail(err)
	case x.wait(p.delay) && !x.early(p):
		x.play(p)
	}
}

// admit takes the slot that a plan needs, or says why there is none.
func (x *exchange) admit(p *plan) *apiError {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.admitLocked(p)
}

func (x *exchange) admitLocked(p *plan) *apiError {
	a := x.ask
	early := p.early()
	switch {
	case !early && a.err != nil:
		return a.err
	case early && (a.model == nil || p.refuses()):
		return nil
	}
	n, err := x.s.admit(x.acc, a.model, a.user, early)
	if err == nil {
		x.slot = true
		x.rec.InFlight = n
	}
	return err
}

// early plays a plan that is no answer, and reports whether it was one.
func (x *exchange) early(p *plan) bool {
	if p.header != nil {
		x.header = p.header
	}
	switch {
	case p.hang:
		x.hold()
	case p.close, p.reset:
		x.cut()
		x.release()
		x.abort(p.reset)
	case p.failure != nil:
		x.fail(p.failure)
	case p.raw != nil:
		if p.raw.contentType == "" {
			x.w.Header()["Content-Type"] = nil
		} else {
			x.w.Header().Set("Content-Type", p.raw.contentType)
		}
		x.complete(p.status, []byte(p.raw.body))
	case p.status != 0:
		switch p.status {
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			x.early(HTML(p.status).plan())
		default:
			x.fail(errStatus(p.status, x.rec.Key))
		}
	default:
		return false
	}
	return true
}

// status notes the status and writes the headers.
func (x *exchange) status(code int) {
	x.s.update(func() {
		x.rec.Status = code
		x.s.statuses[code]++
	})
	h := x.w.Header()
	h.Set("Server", "openresty")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Ds-Trace-Id", x.trace)
	maps.Copy(h, x.header) // last: a script may replace any of them
	x.w.WriteHeader(code)
}

// complete writes a whole response. The slot is free before the client can
// have read it.
func (x *exchange) complete(code int, body []byte) {
	x.release()
	x.status(code)
	_, _ = x.w.Write(body)
}

// json writes a 200.
func (x *exchange) json(body []byte) {
	x.w.Header().Set("Content-Type", jsonType)
	x.complete(http.StatusOK, body)
}

func (x *exchange) fail(e *apiError) {
	body := []byte(e.message)
	contentType := plainText
	if !e.plain {
		body = appendError(nil, e, x.anthropic)
		contentType = jsonType
	}
	if e.contentType != "" {
		contentType = e.contentType
	}
	x.w.Header().Set("Content-Type", contentType)
	x.complete(e.status, body)
}

func (x *exchange) flush() {
	if err := x.flusher.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		x.broken = true
	}
}

// wait sleeps, and reports whether the request is still worth serving.
func (x *exchange) wait(d time.Duration) bool {
	if x.broken {
		x.gone()
		return false
	}
	if d <= 0 {
		return true
	}
	if x.timer == nil {
		x.timer = time.NewTimer(d)
	} else {
		x.timer.Reset(d)
	}
	select {
	case <-x.timer.C:
		return true
	case <-x.r.Context().Done():
	case <-x.s.closing:
	}
	x.gone()
	return false
}

// hold waits until the client leaves or the Server is closed.
func (x *exchange) hold() {
	select {
	case <-x.r.Context().Done():
	case <-x.s.closing:
	}
	x.gone()
}

// gone gives the request up: the client has left, or the Server is closing.
func (x *exchange) gone() {
	if x.broken || x.r.Context().Err() != nil {
		// After the end, as with StallAfterDone, only what could not be sent shows it.
		x.s.update(func() { x.rec.Left = x.broken || x.rec.Done.IsZero() })
	}
	x.release()
	select {
	case <-x.s.closing:
		panic(http.ErrAbortHandler)
	default:
	}
}

// cut notes that the response is broken on purpose.
func (x *exchange) cut() {
	x.s.update(func() { x.rec.Cut = true })
}

// abort closes or resets the connection under the response.
func (x *exchange) abort(reset bool) {
	conn, _, err := x.flusher.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if reset {
		if c, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS would say goodbye first
			conn = c.NetConn()
		}
		switch c := conn.(type) {
		case *memnet.Conn:
			c.Reset()
		case *net.TCPConn:
			_ = c.SetLinger(0)
		}
	}
	_ = conn.Close()
}

// release ends the request's time in flight, once: it frees the slot, charges
// for what was produced and completes the record.
func (x *exchange) release() {
	if x.slot {
		x.slot = false
		m := x.ask.model
		x.s.release(x.acc, m, x.ask.user, m.Price.Cost(x.usage))
	}
	x.s.update(func() {
		if x.rec.Done.IsZero() {
			x.rec.Done = time.Now()
			x.rec.Usage = x.usage
		}
	})
}

func (x *exchange) end() {
	if x.timer != nil {
		x.timer.Stop()
	}
	if x.rec == nil {
		return
	}
	x.release()
	x.s.update(func() {
		if x.rec.Status == 0 {
			x.s.statuses[0]++
		}
	})
	if watch := x.s.cfg.watch; watch != nil {
		var done Request
		x.s.update(func() { done = *x.rec })
		watch(done)
	}
}

// describe copies what was asked into the record.
func (x *exchange) describe() {
	a, r := x.ask, x.rec
	r.Model, r.Stream, r.Thinking, r.UserID = a.modelName, a.stream, a.thinking, a.user
	if a.model != nil {
		r.Model = a.model.ID
	}
	r.Messages, r.Prefix, r.Tools = a.messages, a.prefix, a.tools
}

func key(h http.Header) string {
	auth := h.Get("Authorization")
	if len(auth) > 7 && strings.EqualFold(auth[:7], "bearer ") {
		return strings.TrimSpace(auth[7:])
	}
	return h.Get("X-Api-Key")
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	limited := http.MaxBytesReader(w, r.Body, bodyLimit)
	if n := r.ContentLength; n > 0 && n <= bodyLimit {
		body := make([]byte, n)
		_, err := io.ReadFull(limited, body)
		return body, err
	}
	return io.ReadAll(limited)
}

func tooLarge(err error) bool {
	var e *http.MaxBytesError
	return errors.As(err, &e)
}

// cutOff reports whether the reading of a body ended with the connection.
func cutOff(err error) bool {
	var network net.Error
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}
