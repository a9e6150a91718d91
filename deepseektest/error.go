package deepseektest

import (
	"fmt"
	"net/http"
)

// apiError is an error response in DeepSeek's form.
type apiError struct {
	status  int
	typ     string
	code    string
	message string
	// contentType is application/json unless set. The real server labels
	// failed validation application/octet-stream.
	contentType string
	// plain sends the message alone instead of a JSON object.
	plain bool
}

const (
	octetStream = "application/octet-stream"
	plainText   = "text/plain; charset=utf-8"
	jsonType    = "application/json"
)

// errInvalid is failed validation: valid JSON of the right types that breaks
// a rule.
func errInvalid(format string, args ...any) *apiError {
	return &apiError{
		status:      http.StatusBadRequest,
		typ:         "invalid_request_error",
		code:        "invalid_request_error",
		message:     fmt.Sprintf(format, args...),
		contentType: octetStream,
	}
}

// errDecode is a body that does not fit the types.
func errDecode(format string, args ...any) *apiError {
	e := errInvalid(format, args...)
	e.contentType = jsonType
	return e
}

func errKey(key string) *apiError {
	return &apiError{
		status:  http.StatusUnauthorized,
		typ:     "authentication_error",
		code:    "invalid_request_error",
		message: "Authentication Fails, Your api key: " + maskKey(key) + " is invalid",
	}
}

func errBalance() *apiError {
	return &apiError{
		status:  http.StatusPaymentRequired,
		typ:     "unknown_error",
		code:    "invalid_request_error",
		message: "Insufficient Balance",
	}
}

func errConcurrency() *apiError {
	return &apiError{
		status:  http.StatusTooManyRequests,
		typ:     "rate_limit_error",
		code:    "invalid_request_error",
		message: "Too many requests. Please reduce your concurrency.",
	}
}

func errConcurrencyOf(current, limit int) *apiError {
	e := errConcurrency()
	e.message = fmt.Sprintf("Too many requests. Your current concurrency is %d, which exceeds your concurrency limit of %d based on your remaining balance. Please top up your balance to restore your concurrency.", current, limit)
	return e
}

func errBusy() *apiError {
	return &apiError{
		status:  http.StatusServiceUnavailable,
		typ:     "service_unavailable_error",
		code:    "service_unavailable_error",
		message: "Service is too busy. We advise users to temporarily switch to alternative LLM API service providers.",
	}
}

func errNotFound() *apiError {
	return &apiError{
		status:  http.StatusNotFound,
		typ:     "invalid_request_error",
		code:    "invalid_request_error",
		message: "Not Found",
	}
}

// errStatus is the usual error of a status.
func errStatus(status int, key string) *apiError {
	switch status {
	case http.StatusUnauthorized:
		return errKey(key)
	case http.StatusPaymentRequired:
		return errBalance()
	case http.StatusNotFound:
		return errNotFound()
	case http.StatusTooManyRequests:
		return errConcurrency()
	case http.StatusServiceUnavailable:
		return errBusy()
	}
	e := &apiError{status: status, typ: "invalid_request_error", code: "invalid_request_error", message: http.StatusText(status)}
	if status >= 500 {
		e.typ, e.code = "internal_error", "internal_error"
	}
	if e.message == "" {
		e.message = "status " + itoa(status)
	}
	return e
}

// appendError appends {"error":{...}}; the Anthropic form adds a type.
func appendError(b []byte, e *apiError, anthropic bool) []byte {
	if anthropic {
		b = append(b, `{"type":"error","error":{"message":`...)
	} else {
		b = append(b, `{"error":{"message":`...)
	}
	b = appendString(b, e.message)
	b = append(b, `,"type":`...)
	b = appendString(b, e.typ)
	b = append(b, `,"param":null,"code":`...)
	b = appendString(b, e.code)
	return append(b, `}}`...)
}

// appendString appends s as a JSON string, characters outside ASCII as they
// are. Invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x80 {
			// Rare enough to be worth a second look only as a whole.
			b = append(b, s[from:i]...)
			return append(appendRunes(b, s[i:]), '"')
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

func appendRunes(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for _, r := range s { // invalid bytes arrive as U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return b
}
