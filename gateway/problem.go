package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// problem is an error as a client is told it.
type problem struct {
	status  int
	kind    string // OpenAI's type; default by status
	code    string
	message string
	allow   string        // methods, for a 405
	retryIn time.Duration // 0: nothing is known of that
	final   bool          // an SDK must not try again: the transport has
}

// ErrShutdown is the cause to end a server's base context with, so that calls
// that are under way tell their clients why they end.
var ErrShutdown = errors.New("the gateway is shutting down")

// problemOf tells what a call came to that ended without a response, or in the
// middle of one.
func problemOf(ctx context.Context, err error) *problem {
	p := &problem{status: http.StatusBadGateway, code: "bad_gateway", message: err.Error(), final: true}
	// Some clients look for the mark of a stream's end anywhere in a line.
	p.message = strings.ReplaceAll(p.message, "[DONE]", "the mark of its end")
	var (
		nowhere *deepseek.NoEndpointError
		open    *deepseek.CircuitOpenError
		none    *deepseek.NoAccountError
		full    *deepseek.QueueFullError
		api     *deepseek.APIError
		timed   interface{ Timeout() bool }
	)
	switch {
	case errors.Is(context.Cause(ctx), ErrShutdown):
		p.status, p.code, p.message, p.retryIn = http.StatusServiceUnavailable, "shutting_down", ErrShutdown.Error(), time.Second
		p.final = false
	case errors.As(err, &nowhere) && errors.Is(err, deepseek.ErrInvalidRequest):
		p.status, p.code = http.StatusBadRequest, "no_endpoint"
	case nowhere != nil: // before the refusals that it is made of
		p.status, p.code, p.retryIn = http.StatusServiceUnavailable, "no_endpoint", max(nowhere.RetryIn, time.Second)
	case errors.As(err, &open):
		p.status, p.code, p.retryIn = http.StatusServiceUnavailable, "circuit_open", max(open.RetryIn, time.Second)
	case errors.As(err, &none):
		p.status, p.code, p.retryIn = http.StatusServiceUnavailable, "no_account", max(none.RetryIn, time.Second)
	case errors.As(err, &full):
		p.status, p.code, p.retryIn = http.StatusTooManyRequests, "queue_full", max(full.RetryIn, time.Second)
	case errors.Is(err, deepseek.ErrTruncated):
		p.code = "truncated"
	case errors.Is(err, deepseek.ErrStalled):
		p.status, p.code = http.StatusGatewayTimeout, "stalled"
	case errors.As(err, &api):
		if api.Type != "" {
			p.kind = api.Type
		}
	case errors.As(err, &timed) && timed.Timeout():
		p.status, p.code = http.StatusGatewayTimeout, "timeout"
	}
	return p
}

// problemFrom tells an error response of the server's to a client that was told
// 200 already.
func problemFrom(status int, body []byte) *problem {
	p := &problem{status: status, code: "upstream_error", final: true}
	object, ok := jsonscan.Get(body, "error")
	if !ok {
		object = body
	}
	p.tellFrom(object)
	if p.message == "" {
		p.message = "the server answered " + strconv.Itoa(status) + " " + http.StatusText(status)
	}
	return p
}

// tellFrom takes what an error object says.
func (p *problem) tellFrom(object []byte) {
	text := func(key string) string {
		v, _ := jsonscan.Get(object, key)
		if s, err := jsonscan.String(v); err == nil {
			return s
		}
		if string(v) == "null" {
			return ""
		}
		return string(v) // a number, or what is wrong with which field
	}
	p.message, p.kind = cmp.Or(text("message"), text("detail")), text("type")
	p.code = cmp.Or(text("code"), p.code)
}

// inShape returns an error's body in OpenAI's shape if it is in that of another
// host: SiliconFlow's {"code": …, "message": …}, Mistral's and vLLM's {"object":
// "error", "message": …}, or {"detail": …}. SDKs find no message in these. nil: it
// is to stay as it is.
func inShape(status int, body []byte, f format) []byte {
	if f == anthropic || !jsonscan.Whole(body) {
		return nil
	}
	if _, ok := jsonscan.Get(body, "error"); ok {
		return nil
	}
	p := &problem{status: status, code: "upstream_error"}
	if p.tellFrom(body); p.message == "" {
		return nil
	}
	return p.body(f)
}

// openAIType is the error's type in OpenAI's and DeepSeek's shape.
func (p *problem) openAIType() string {
	switch {
	case p.kind != "":
		return p.kind
	case p.status == http.StatusUnauthorized:
		return "authentication_error"
	case p.status == http.StatusForbidden:
		return "permission_error"
	case p.status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case p.status == http.StatusServiceUnavailable:
		return "service_unavailable_error"
	case p.status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

// anthropicType is the error's type in Anthropic's shape
// (https://docs.anthropic.com/en/api/errors).
func (p *problem) anthropicType() string {
	switch p.status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusServiceUnavailable:
		return "overloaded_error"
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return "timeout_error"
	}
	if p.status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

// appendObject appends what is under "error".
func (p *problem) appendObject(b []byte, f format) []byte {
	if f == anthropic {
		b = append(b, `{"type":`...)
		b = jsonscan.AppendQuoted(b, p.anthropicType())
		b = append(b, `,"message":`...)
		b = jsonscan.AppendQuoted(b, p.message)
		return append(b, '}')
	}
	b = append(b, `{"message":`...)
	b = jsonscan.AppendQuoted(b, p.message)
	b = append(b, `,"type":`...)
	b = jsonscan.AppendQuoted(b, p.openAIType())
	b = append(b, `,"param":null,"code":`...)
	b = jsonscan.AppendQuoted(b, p.code)
	return append(b, '}')
}

// body is the error as the body of a response.
func (p *problem) body(f format) []byte {
	b := []byte(`{"error":`)
	if f == anthropic {
		b = []byte(`{"type":"error","error":`)
	}
	return append(p.appendObject(b, f), '}')
}

// event is the error as the last event of a stream, whose number there is next
// where they have any.
func (p *problem) event(f format, next int64) []byte {
	switch f {
	case anthropic:
		b := []byte("event: error\ndata: ")
		return append(append(b, p.body(f)...), "\n\n"...)
	case responses:
		// OpenAI documents the members and sends the object: both are told.
		b := []byte(`event: error` + "\n" + `data: {"type":"error","sequence_number":`)
		b = strconv.AppendInt(b, next, 10)
		b = append(b, `,"code":`...)
		b = jsonscan.AppendQuoted(b, p.code)
		b = append(b, `,"message":`...)
		b = jsonscan.AppendQuoted(b, p.message)
		b = append(b, `,"param":null,"error":`...)
		return append(p.appendObject(b, f), "}\n\n"...)
	}
	return append(append([]byte("data: "), p.body(f)...), "\n\n"...)
}

// nextSequence is the number of the event that follows those in text; 0 if that
// tells none.
func nextSequence(text []byte) int64 {
	mark := []byte(`"sequence_number":`)
	i := bytes.LastIndex(text, mark)
	if i < 0 {
		return 0
	}
	digits := bytes.TrimLeft(text[i+len(mark):], " ")
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	number, ok := jsonscan.Int(digits[:n])
	if !ok {
		return 0
	}
	return number + 1
}

// write answers with the problem.
func (p *problem) write(w http.ResponseWriter, f format) {
	body := p.body(f)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	if p.status == http.StatusUnauthorized {
		h.Set("Www-Authenticate", "Bearer")
	}
	if p.retryIn > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(p.retryIn.Seconds())), 10))
	}
	if p.final {
		h.Set("X-Should-Retry", "false")
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(body)
}

// isTimeout reports whether a client was too slow.
func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}
