package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// atOnce is how much of a request's declared length is believed before it has
// come.
const atOnce = 1 << 20

// readBody reads a request's body whole, before anything is sent: then no early
// answer can race with the reading of it (https://go.dev/issue/40747), it can be
// sent again, and a slow client holds nothing but its own connection.
func readBody(w http.ResponseWriter, r *http.Request, most int64, patience time.Duration) ([]byte, *problem) {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, &problem{
			status: http.StatusUnsupportedMediaType, code: "unsupported_encoding",
			message: "the request's body must not be compressed",
		}
	}
	if r.ContentLength > most {
		return nil, tooLarge(most)
	}
	var (
		data []byte
		err  error
	)
	if n := r.ContentLength; n >= 0 && n <= atOnce { // net/http hands out no more than was declared
		data = make([]byte, n)
		_, err = io.ReadFull(r.Body, data)
	} else {
		var body io.Reader = http.MaxBytesReader(w, r.Body, most)
		if patience > 0 {
			body = &patient{Reader: body, rc: http.NewResponseController(w), patience: patience}
		}
		var buf bytes.Buffer
		buf.Grow(int(min(max(n, 0), atOnce)) + bytes.MinRead)
		_, err = buf.ReadFrom(body)
		data = buf.Bytes()
	}
	if err != nil {
		var most *http.MaxBytesError
		switch {
		case errors.As(err, &most):
			return nil, tooLarge(most.Limit)
		case isTimeout(err):
			return nil, &problem{status: http.StatusRequestTimeout, code: "request_timeout", message: "the request came too slowly"}
		}
		return nil, &problem{status: http.StatusBadRequest, code: "request_cut", message: "the request broke off: " + err.Error()}
	}
	return data, nil
}

// patient is a body whose client has some more time for each MiB that has come.
type patient struct {
	io.Reader
	rc       *http.ResponseController
	patience time.Duration
	since    int // bytes
}

func (b *patient) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.since += n; err == nil && b.since >= atOnce {
		b.since = 0
		_ = b.rc.SetReadDeadline(time.Now().Add(b.patience))
	}
	return n, err
}

func tooLarge(most int64) *problem {
	return &problem{
		status: http.StatusRequestEntityTooLarge, code: "request_too_large",
		message: fmt.Sprintf("the request is larger than %d bytes", most),
	}
}

// maxModelName is the longest name that a model may have. It is logged, and told
// in statistics.
const maxModelName = 256

// question is what the gateway wants to know of a request for an answer.
type question struct {
	model  string
	stream bool
	from   int // where in the body the model is
	until  int
}

// readQuestion looks at a body that must be a JSON object. Nothing in it is
// changed.
func readQuestion(body []byte) (q question, p *problem) {
	bad := func(code, message string) (question, *problem) {
		return question{}, &problem{status: http.StatusBadRequest, code: code, message: message}
	}
	models := 0
	m := jsonscan.Members(body)
	for m.Next() {
		name := m.Key
		if bytes.IndexByte(name, '\\') >= 0 {
			// Nobody writes a name with escapes, unless two readers are to take it
			// for two different ones.
			if plain, err := jsonscan.Name(name); err != nil || string(plain) == "model" || string(plain) == "stream" {
				return bad("invalid_json", "the name of a member is written with escapes")
			}
		}
		switch string(name) {
		case "model":
			models++
			q.from, q.until = m.At, m.At+len(m.Value)
			var err error
			if q.model, err = jsonscan.String(m.Value); err != nil {
				return bad("invalid_model", "model must be a string")
			}
		case "stream":
			q.stream = jsonscan.IsTrue(m.Value)
		}
	}
	if m.Err() != nil || len(bytes.TrimSpace(m.Rest())) > 0 {
		return bad("invalid_json", "the request's body must be one JSON object, and is not")
	}
	if len(q.model) > maxModelName {
		return bad("invalid_model", "the model's name is longer than "+strconv.Itoa(maxModelName)+" bytes")
	}
	if models > 1 {
		return bad("invalid_json", "the request names its model more than once")
	}
	return q, nil
}

// renamed is the body with another name for its model.
func (q *question) renamed(body []byte, model string) []byte {
	fresh := make([]byte, 0, len(body)+len(model)+2)
	fresh = append(fresh, body[:q.from]...)
	fresh = jsonscan.AppendQuoted(fresh, model)
	return append(fresh, body[q.until:]...)
}

// outgoing is the request as it is sent on. It is another one than r, which the
// server goes on using.
func outgoing(ctx context.Context, r *http.Request, base *url.URL, rt route, body []byte) *http.Request {
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + r.URL.Path, RawQuery: r.URL.RawQuery}
	if base.Path != "" { // it brings a version of its own
		u.Path = base.Path + strings.TrimPrefix(r.URL.Path, "/v1")
	}
	header := make(http.Header, len(r.Header)+2)
	passOn(header, r.Header, notForServer)
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = nil // none, rather than net/http's
	}
	if rt.asks && !strings.Contains(header.Get("Content-Type"), "json") {
		header["Content-Type"] = jsonType // curl -d says that it is a form
	}
	out := r.WithContext(ctx)
	out.URL, out.Header = u, header
	out.Host, out.RequestURI, out.Close = "", "", false
	out.Body, out.GetBody, out.ContentLength, out.TransferEncoding, out.Trailer = nil, nil, 0, nil, nil
	if len(body) > 0 {
		out.ContentLength = int64(len(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		out.Body, _ = out.GetBody()
	}
	return out
}

var jsonType = []string{"application/json"}
