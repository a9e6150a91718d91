package deepseek

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// outcome is what one attempt came to, in the classes that make a difference.
type outcome uint8

const (
	answered     outcome = iota // 2xx, 1xx, 3xx: the caller's
	rejected                    // 4xx that is the request's own fault
	unauthorized                // 401: the key is at fault
	broke                       // 402: the account is at fault
	forbidden                   // 403: the key may not
	throttled                   // 429: too many in flight
	fault                       // 408, 409, 5xx, network, stall, cut: the server is at fault
	cancelled                   // the caller gave up
	unsendable                  // no attempt can help: certificate, URL, origin, body
	refused                     // this package did not send it: no room, breaker open, no account
)

var outcomeNames = [...]string{
	"answered", "rejected", "unauthorized", "out of balance", "forbidden", "rate limited", "fault", "cancelled", "unsendable", "refused",
}

func (o outcome) String() string { return outcomeNames[o] }

// verdict is the one reading of a response or error that retry, breaker and
// pool all go by.
type verdict struct {
	outcome outcome
	// wait is the least time that the server asks for; 0 if it does not.
	wait time.Duration
	// at is when it was known, where that was noted; 0: just now.
	at moment
}

// when is the time at which it was known.
func (v verdict) when() moment {
	if v.at == 0 {
		return clock()
	}
	return v.at
}

// judged is a body whose response the guard has already judged by its content.
type judged interface{ soFar() verdict }

// judge reads what an attempt came to. resp may be nil only if err is not.
func judge(resp *http.Response, err error) verdict {
	if err != nil {
		return verdict{outcome: judgeError(err)}
	}
	if b, ok := resp.Body.(judged); ok {
		return b.soFar()
	}
	return judgeStatus(resp)
}

func judgeStatus(resp *http.Response) verdict {
	var v verdict
	switch s := resp.StatusCode; {
	case s < 400:
		return v
	case s == http.StatusUnauthorized:
		v.outcome = unauthorized
	case s == http.StatusPaymentRequired:
		v.outcome = broke
	case s == http.StatusForbidden:
		v.outcome = forbidden
	case s == http.StatusTooManyRequests:
		v.outcome = throttled
	case s == http.StatusRequestTimeout, s == http.StatusConflict:
		v.outcome = fault
	case s >= 500 && s != http.StatusNotImplemented && s != http.StatusHTTPVersionNotSupported:
		v.outcome = fault
	default:
		v.outcome = rejected
	}
	if v.outcome == throttled || v.outcome == fault {
		v.wait, _ = retryAfter(resp.Header, time.Now())
	}
	return v
}

func judgeError(err error) outcome {
	var (
		stall *StallError
		cut   *TruncatedError
		api   *APIError
	)
	switch {
	case isRefusal(err):
		return refused
	case isContextError(err): // first: it may be joined with what the last attempt came to
		return cancelled
	case errors.As(err, &stall), errors.As(err, &cut):
		return fault
	case errors.As(err, &api): // an error inside a 200
		if api.class() == ErrRateLimited {
			return throttled
		}
		return fault
	case isUnsendable(err):
		return unsendable
	}
	return fault
}

// isRefusal reports whether err says that this package did not send.
func isRefusal(err error) bool {
	if _, ok := err.(*noRoom); ok { // by far the most frequent
		return true
	}
	return errors.Is(err, ErrCircuitOpen) || errors.Is(err, ErrNoAccount) || errors.Is(err, ErrNoEndpoint) || errors.Is(err, ErrQueueFull)
}

// isUnsendable reports whether the same request must fail the same way again.
func isUnsendable(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		hostname  x509.HostnameError
		header    tls.RecordHeaderError
		origin    *OriginError
		request   *RequestError
		urlErr    url.InvalidHostError
		escape    url.EscapeError
	)
	if errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &invalid) || errors.As(err, &hostname) ||
		errors.As(err, &header) || errors.As(err, &origin) || errors.As(err, &request) || errors.As(err, &urlErr) || errors.As(err, &escape) ||
		errors.Is(err, errNotReplayable) || errors.Is(err, http.ErrSkipAltProtocol) {
		return true
	}
	// net/http has no types for these.
	text := err.Error()
	for _, s := range []string{
		"unsupported protocol scheme", "no Host in request URL", "nil Request.URL", "invalid URL", "invalid method",
		"invalid header field", "http: ContentLength=", "http: server gave HTTP response to HTTPS client",
	} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// retryable reports whether a later attempt at the same place may end better.
func (v verdict) retryable() bool { return v.outcome == fault || v.outcome == throttled }

// settleFor is how long the body of a failed response is waited for where no
// guard's clocks run: the status has said what matters.
const settleFor = 10 * time.Second

// settle makes a failed response independent of its connection: what is small
// is read into memory, so that it can be handed out later while connection and
// permits already serve others. What is not small stays as it is; what does not
// come is cut off.
func settle(resp *http.Response) {
	if _, ok := resp.Body.(*memBody); ok {
		return
	}
	v, body := judge(resp, nil), resp.Body
	late := time.AfterFunc(settleFor, func() { _ = body.Close() }) // which wakes the read
	data, err := io.ReadAll(io.LimitReader(body, maxErrorBody+1))
	inTime := late.Stop()
	if len(data) > maxErrorBody && err == nil && inTime {
		resp.Body = &longBody{io.MultiReader(bytes.NewReader(data), body), body, data}
		return
	}
	if inTime {
		_ = body.Close() // half an error body still tells more than none
	}
	resp.Body = newMemBody(data, v)
}

// longBody is the body of a failed response that is not small.
type longBody struct {
	io.Reader
	io.Closer
	head []byte // its beginning
}

// letGo frees the connection and permits of a settled response before others
// are tried. Of a long one only the beginning is left.
func letGo(resp *http.Response) {
	b, ok := resp.Body.(*longBody)
	if !ok {
		return
	}
	_ = b.Close()
	resp.Body = newMemBody(b.head, judgeStatus(resp))
	resp.ContentLength = int64(len(b.head))
	resp.Header.Del("Content-Length")
}

// discard gives back a response that nobody will read. It is drained first,
// for the connection's sake, only if that is sure to be short, in bytes and in
// time.
func discard(resp *http.Response) {
	if resp == nil {
		return
	}
	body := resp.Body
	_, inMemory := body.(*memBody)
	if inMemory || resp.ContentLength < 0 || resp.ContentLength > 16<<10 || isEventStream(resp.Header) {
		_ = body.Close()
		return
	}
	late := time.AfterFunc(drainFor, func() { _ = body.Close() })
	_, _ = io.CopyN(io.Discard, body, resp.ContentLength)
	if late.Stop() {
		_ = body.Close()
	}
}

func isEventStream(h http.Header) bool { return isEventStreamType(mediaType(h)) }

const jsonMedia = "application/json"

// mediaType is the content type in lower case.
func mediaType(h http.Header) string {
	if header(h, "Content-Type") == jsonMedia { // nearly always, if it is no stream
		return jsonMedia
	}
	return strings.ToLower(strings.TrimSpace(header(h, "Content-Type")))
}

func isEventStreamType(media string) bool { return strings.HasPrefix(media, "text/event-stream") }
