package deepseek

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
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
		v.wait = retryAfter(resp.Header, time.Now())
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
