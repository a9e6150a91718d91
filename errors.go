package deepseek

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What went wrong, for errors.Is. The first group is what a server said,
// the second what this package decided by itself.
var (
	// ErrAuthentication: the key is wrong, revoked or not allowed (401, 403).
	ErrAuthentication = errors.New("deepseek: authentication failed")
	// ErrInsufficientBalance: the account has no money left (402).
	ErrInsufficientBalance = errors.New("deepseek: insufficient balance")
	// ErrInvalidRequest: the request itself is at fault (400, 404, 413, 422 and
	// other 4xx), or was refused before sending because the API is known to
	// reject it. Sending it again unchanged cannot help.
	ErrInvalidRequest = errors.New("deepseek: invalid request")
	// ErrContentRisk: the server's filter does not let the messages through. It comes
	// with ErrInvalidRequest.
	ErrContentRisk = errors.New("deepseek: content exists risk")
	// ErrContextLength: the messages and what may be answered are more than the model
	// can take in. It comes with ErrInvalidRequest.
	ErrContextLength = errors.New("deepseek: context too long")
	// ErrRateLimited: more requests in flight than the account may have (429).
	ErrRateLimited = errors.New("deepseek: rate limited")
	// ErrServer: the server failed or is overloaded (408, 409, 5xx, or a 200
	// that is no answer).
	ErrServer = errors.New("deepseek: server error")

	// ErrCircuitOpen: the breaker of the endpoint is open; nothing was sent.
	ErrCircuitOpen = errors.New("deepseek: circuit open")
	// ErrNoAccount: no account or key is usable (401, 402, disabled); nothing was sent.
	// While one is put aside for a 403 or 429 only, calls wait for it instead.
	ErrNoAccount = errors.New("deepseek: no usable account")
	// ErrNoEndpoint: none of several endpoints can take the call; nothing was sent.
	ErrNoEndpoint = errors.New("deepseek: no endpoint")
	// ErrQueueFull: the call could not wait for room: the waiting room is full,
	// its time is up, or the call's deadline is nearer than its turn.
	ErrQueueFull = errors.New("deepseek: queue full")
	// ErrStalled: the connection is open but nothing (or no data) comes.
	ErrStalled = errors.New("deepseek: stalled")
	// ErrTruncated: the answer ended before it was complete.
	ErrTruncated = errors.New("deepseek: answer truncated")
)

// APIError is an error that the server answered with.
//
// Match it with errors.As, or its class with errors.Is and one of
// [ErrAuthentication], [ErrInsufficientBalance], [ErrInvalidRequest],
// [ErrRateLimited], [ErrServer]; some of ErrInvalidRequest are [ErrContentRisk] or
// [ErrContextLength] as well. The class follows from the status, then from
// the error's type, then from its text; never from its code, which DeepSeek
// sets to invalid_request_error for nearly everything.
type APIError struct {
	StatusCode int           // HTTP status; 200 when the error came inside a 200
	Type       string        // "type" of the error object, such as "rate_limit_error"
	Code       string        // "code" of the error object
	Param      string        // "param" of the error object
	Message    string        // "message" of the error object, or the start of a body that is no JSON
	TraceID    string        // x-ds-trace-id, what DeepSeek's support asks for
	RetryAfter time.Duration // what the server asked to wait; 0 if it did not
	Attempts   Attempts      // how the call got here, oldest first
	Header     http.Header   // of the response
	Body       []byte        // the body as received, at most 64 KiB
}

// Error tells status, type, message, trace id and, where there was more than
// one, the attempts. The message is the server's and may repeat a prompt: for logs
// there is [LogText].
func (e *APIError) Error() string {
	var b strings.Builder
	b.WriteString("deepseek: ")
	b.WriteString(strconv.Itoa(e.StatusCode))
	if text := http.StatusText(e.StatusCode); text != "" {
		b.WriteString(" " + text)
	}
	if e.Type != "" {
		b.WriteString(" (" + e.Type + ")")
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.TraceID != "" {
		b.WriteString(" [trace " + e.TraceID + "]")
	}
	if len(e.Attempts) > 1 {
		b.WriteString(" after " + e.Attempts.String())
	}
	return b.String()
}

// Is reports whether the error is of the class that target stands for.
func (e *APIError) Is(target error) bool {
	if target == nil {
		return false
	}
	class := e.class()
	return class == target || class == ErrInvalidRequest && e.invalidBy() == target
}

// invalidBy is what an invalid request is known to be at fault for, going by the
// server's text; nil if there is no class for it.
func (e *APIError) invalidBy() error {
	switch {
	case strings.Contains(e.Message, "Content Exists Risk"):
		return ErrContentRisk
	case strings.Contains(e.Message, "maximum context length"):
		return ErrContextLength
	}
	return nil
}

func (e *APIError) class() error {
	switch s := e.StatusCode; {
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return ErrAuthentication
	case s == http.StatusPaymentRequired:
		return ErrInsufficientBalance
	case s == http.StatusTooManyRequests:
		return ErrRateLimited
	case s >= 500, s == http.StatusRequestTimeout, s == http.StatusConflict:
		return ErrServer
	case s >= 400:
		return ErrInvalidRequest
	}
	// An error object inside a 2xx: only the type and the text can tell.
	switch e.Type {
	case "authentication_error", "permission_error":
		return ErrAuthentication
	case "rate_limit_error":
		return ErrRateLimited
	case "invalid_request_error":
		return ErrInvalidRequest
	}
	if strings.Contains(e.Message, "Insufficient Balance") {
		return ErrInsufficientBalance
	}
	return ErrServer
}

// after returns the error with the attempts that led to it. It is a copy: the
// last attempt holds the error itself.
func (e *APIError) after(trail Attempts) *APIError {
	told := *e
	told.Attempts = trail
	return &told
}

// Timeout reports whether the server itself gave up waiting (408, 504).
func (e *APIError) Timeout() bool {
	return e.StatusCode == http.StatusRequestTimeout || e.StatusCode == http.StatusGatewayTimeout
}

// maxErrorBody bounds how much of a failed response is kept in memory.
const maxErrorBody = 64 << 10

// errorFromResponse reads what is left of resp and turns it into an *APIError.
func errorFromResponse(resp *http.Response, trail Attempts) *APIError {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	return newAPIError(resp.StatusCode, resp.Header, body, trail)
}

// newAPIError decodes the error shapes seen in the wild: DeepSeek's and
// OpenAI's {"error":{...}}, a bare {"error":"text"}, SiliconFlow's flat
// {"code":…,"message":…}, and bodies that are no JSON at all. The content type
// is not consulted: DeepSeek labels JSON errors application/octet-stream.
func newAPIError(status int, header http.Header, body []byte, trail Attempts) *APIError {
	e := &APIError{StatusCode: status, Header: header, Body: body, Attempts: trail}
	if header != nil {
		e.TraceID = header.Get("X-Ds-Trace-Id")
		e.RetryAfter = retryAfter(header, time.Now())
	}
	type object struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Param   json.RawMessage `json:"param"`
		Code    json.RawMessage `json:"code"`
	}
	var wrapped struct {
		Error json.RawMessage `json:"error"`
	}
	var o object
	switch {
	case json.Unmarshal(body, &wrapped) == nil && len(wrapped.Error) > 0 && string(wrapped.Error) != "null":
		if json.Unmarshal(wrapped.Error, &o) != nil {
			o.Message = scalar(wrapped.Error)
		}
	default:
		if json.Unmarshal(body, &o) != nil || o.Message == "" {
			o.Message = snippet(body)
		}
	}
	e.Message, e.Type, e.Code, e.Param = o.Message, o.Type, scalar(o.Code), scalar(o.Param)
	return e
}

// scalar renders a JSON string without its quotes, null as nothing, and
// anything else as it stands.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// snippet is the start of a body that is no JSON, on one line.
func snippet(body []byte) string {
	const most = 200
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), 4*most)]), "\uFFFD")), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

// CallError is a call that ended without a response: the network failed, the
// caller gave up, or this package refused to send. It wraps the cause, so
// errors.Is and errors.As see through it, and tells the attempts made.
type CallError struct {
	Err      error    // the cause
	Attempts Attempts // how the call got here, oldest first; empty when nothing was sent
}

// Error tells the cause and, where anything was sent, the attempts. A server's text
// may be in it, as in that of [APIError].
func (e *CallError) Error() string {
	text := e.Err.Error()
	if !strings.HasPrefix(text, "deepseek: ") {
		text = "deepseek: " + text
	}
	if len(e.Attempts) == 0 {
		return text
	}
	return text + " after " + e.Attempts.String()
}

// Unwrap returns the cause.
func (e *CallError) Unwrap() error { return e.Err }

// Timeout reports whether the cause is a timeout.
func (e *CallError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// CircuitOpenError is a call refused because the endpoint's breaker is open.
// It matches [ErrCircuitOpen].
type CircuitOpenError struct {
	Endpoint string        // name of the endpoint
	Model    string        // model whose breaker is open; empty if none was named
	RetryIn  time.Duration // until the next probe is let through

	end noRoom // where its end is told, for calls that wait for another endpoint as well
}

// Error tells endpoint, model and the time to the next probe.
func (e *CircuitOpenError) Error() string {
	s := "deepseek: circuit open"
	if e.Endpoint != "" {
		s += " for " + e.Endpoint
	}
	if e.Model != "" {
		s += " " + e.Model
	}
	return s + ", next probe in " + seconds(e.RetryIn)
}

// Is matches ErrCircuitOpen.
func (e *CircuitOpenError) Is(target error) bool { return target == ErrCircuitOpen }

// NoAccountError is a call refused because no key could be used for it. It
// matches [ErrNoAccount].
type NoAccountError struct {
	Model  string // empty if the call named none
	Reason string // what is wrong with the accounts, by count
	// RetryIn is the time until an account may be tried again; 0 if unknown.
	RetryIn time.Duration

	causes []error
	end    noRoom // as that of CircuitOpenError
}

// Unwrap returns what put the accounts aside: ErrInsufficientBalance,
// ErrAuthentication, both or none.
func (e *NoAccountError) Unwrap() []error { return e.causes }

// Error tells what is wrong with the accounts, by count.
func (e *NoAccountError) Error() string {
	s := "deepseek: no usable account"
	if e.Model != "" {
		s += " for " + e.Model
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.RetryIn > 0 {
		s += ", next try in " + seconds(e.RetryIn)
	}
	return s
}

// Is matches ErrNoAccount.
func (e *NoAccountError) Is(target error) bool { return target == ErrNoAccount }

// NoEndpointError is a call that none of several endpoints can take. It matches
// [ErrNoEndpoint]; [ErrInvalidRequest] if none of them serves such calls; and
// what the refusals of the endpoints match.
type NoEndpointError struct {
	Model  string // empty if the call named none
	Path   string // of the request
	Reason string // what is wrong with each endpoint
	// RetryIn is the time until one of them may be tried again; 0 if unknown.
	RetryIn time.Duration

	causes []error
}

// noEndpoint is the error for a call that was refused so. One endpoint's own
// error says it all if there is no other that serves such calls.
func noEndpoint(model, path string, refusals []declined) error {
	e := &NoEndpointError{Model: model, Path: path}
	var reasons []string
	for _, r := range refusals {
		if r.err == nil {
			reasons = append(reasons, r.endpoint.name+": does not have "+r.lacks)
			continue
		}
		reasons = append(reasons, r.endpoint.name+": "+strings.TrimPrefix(r.err.Error(), "deepseek: "))
		e.causes = append(e.causes, r.err)
		if in := retryIn(r.err); in > 0 && (e.RetryIn == 0 || in < e.RetryIn) {
			e.RetryIn = in
		}
	}
	if len(e.causes) == 1 {
		return e.causes[0]
	}
	e.Reason = strings.Join(reasons, "; ")
	if len(refusals) == 0 {
		e.Reason = "there is none of the name that was asked for"
	}
	return e
}

// RetryAfter returns how long to wait until it is worth trying again, going by the
// error that a call ended with: what the server asked for, or when what refused the
// call is due to end. ok is false if nobody knows; that says nothing of whether it is
// worth trying.
func RetryAfter(err error) (wait time.Duration, ok bool) {
	var (
		full *QueueFullError
		api  *APIError
	)
	wait = retryIn(err)
	switch {
	case wait > 0:
	case errors.As(err, &full) && full.RetryIn > 0:
		wait = full.RetryIn
	case errors.As(err, &api):
		wait = api.RetryAfter
	}
	return wait, wait > 0
}

// retryIn is when a refusal may end; 0 if unknown.
func retryIn(err error) time.Duration {
	var (
		nowhere *NoEndpointError
		open    *CircuitOpenError
		none    *NoAccountError
	)
	switch {
	case errors.As(err, &nowhere): // the soonest of those that it is made of
		return nowhere.RetryIn
	case errors.As(err, &open):
		return open.RetryIn
	case errors.As(err, &none):
		return none.RetryIn
	}
	return 0
}

// Error tells what is wrong with each endpoint.
func (e *NoEndpointError) Error() string {
	s := "deepseek: no endpoint takes " + cmp.Or(e.Model, e.Path)
	return s + ": " + e.Reason
}

// Is matches ErrNoEndpoint and, if no endpoint serves such calls, ErrInvalidRequest.
func (e *NoEndpointError) Is(target error) bool {
	return target == ErrNoEndpoint || target == ErrInvalidRequest && len(e.causes) == 0
}

// Unwrap returns the refusals of the endpoints that serve such calls.
func (e *NoEndpointError) Unwrap() []error { return e.causes }

// QueueFullError is a call that could not wait for room. It matches
// [ErrQueueFull].
type QueueFullError struct {
	Reason string        // why it could not wait
	For    string        // what it would have waited for, such as "1 of 1 calls in flight"
	Waited time.Duration // how long it did wait
	// RetryIn is a guess of when there will be room; 0 if there is none.
	RetryIn time.Duration
}

// Error tells why the call could not wait, and for what.
func (e *QueueFullError) Error() string {
	s := "deepseek: " + e.Reason
	if e.Waited > 0 {
		s += " after " + seconds(e.Waited)
	}
	if e.For != "" {
		s += ", waiting for room: " + e.For
	}
	return s
}

// Is matches ErrQueueFull.
func (e *QueueFullError) Is(target error) bool { return target == ErrQueueFull }

// StallError is a connection on which nothing (clock "silence") or no data
// (clocks "first data", "between data") came for too long. It matches
// [ErrStalled] and is never a context error: nobody cancelled anything.
type StallError struct {
	Clock string        // "first data", "between data" or "silence"
	After time.Duration // how long the clock allows
}

// Error tells what did not come, and for how long.
func (e *StallError) Error() string {
	return fmt.Sprintf("deepseek: stalled: no %s for %s", map[string]string{
		clockFirstData: "first data", clockBetweenData: "data", clockSilence: "byte",
	}[e.Clock], seconds(e.After))
}

// Is matches ErrStalled.
func (e *StallError) Is(target error) bool { return target == ErrStalled }

// Timeout is true: a stall is a timeout for net.Error users.
func (e *StallError) Timeout() bool { return true }

// Temporary is true: the next attempt may well succeed.
func (e *StallError) Temporary() bool { return true }

// TruncatedError is an answer that ended before it was complete. It matches
// [ErrTruncated] and unwraps to its cause: io.ErrUnexpectedEOF for a clean but
// early end, else what broke the connection.
type TruncatedError struct {
	Reason string // how it ended, such as "stream ended without finish_reason"
	Err    error  // the cause; nil means io.ErrUnexpectedEOF
	// Response is what had arrived, when the call was made by the typed client.
	Response *ChatResponse
	// Attempts are how the call got here, oldest first, with the typed client.
	Attempts Attempts
	// Continuation is why the answer was not continued, or what came of trying;
	// nil without [WithStreamResume].
	Continuation error
}

// Error tells how the answer ended, why it was not continued and, where there was more
// than one, the attempts; nothing of its text.
func (e *TruncatedError) Error() string {
	s := "deepseek: answer truncated: " + e.Reason
	if e.Err != nil && !errors.Is(e.Err, io.ErrUnexpectedEOF) {
		s += ": " + e.Err.Error()
	}
	if e.Continuation != nil {
		s += " (not continued: " + strings.TrimPrefix(e.Continuation.Error(), "deepseek: ") + ")"
	}
	var api *APIError
	if told := errors.As(e.Err, &api) && len(api.Attempts) > 1; len(e.Attempts) > 1 && !told {
		s += " after " + e.Attempts.String()
	}
	return s
}

// Timeout reports whether the cause is a timeout: a stall, for one.
func (e *TruncatedError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// Is matches ErrTruncated and, whatever the cause, io.ErrUnexpectedEOF.
func (e *TruncatedError) Is(target error) bool {
	return target == ErrTruncated || target == io.ErrUnexpectedEOF
}

// Unwrap returns the cause.
func (e *TruncatedError) Unwrap() error {
	if e.Err == nil {
		return io.ErrUnexpectedEOF
	}
	return e.Err
}

// OriginError is a request for a place that the keys are not for: another
// scheme, host or port than the configured one, a redirect included. Nothing
// was sent.
type OriginError struct {
	Got  string // scheme://host:port of the request
	Want string // scheme://host:port that the keys belong to; several are joined by " or "
}

// Error names both origins.
func (e *OriginError) Error() string {
	return "deepseek: refusing to send to " + e.Got + ": the keys are for " + e.Want
}

// Is matches ErrInvalidRequest.
func (e *OriginError) Is(target error) bool { return target == ErrInvalidRequest }

// RequestError is a request that was not sent because the API is known to
// reject it. It matches [ErrInvalidRequest].
type RequestError struct {
	Field  string // JSON path of the field, such as "messages[2].role"
	Value  string // the value at fault, shortened
	Reason string // what is wrong with it
}

// Error names the field and the value.
func (e *RequestError) Error() string {
	s := "deepseek: invalid request: " + e.Field
	if e.Value != "" {
		s += " " + strconv.Quote(e.Value)
	}
	return s + ": " + e.Reason
}

// Is matches ErrInvalidRequest.
func (e *RequestError) Is(target error) bool { return target == ErrInvalidRequest }

// ConfigError is an option or policy with an impossible value.
type ConfigError struct {
	Field  string // such as "Retry.MaxAttempts"
	Value  string // never a secret
	Reason string // what is wrong with it
}

// Error names the field and the value.
func (e *ConfigError) Error() string {
	s := "deepseek: invalid configuration: " + e.Field
	if e.Value != "" {
		s += " " + e.Value
	}
	return s + ": " + e.Reason
}

func badConfig(field string, value any, reason string) error {
	return &ConfigError{Field: field, Value: fmt.Sprint(value), Reason: reason}
}

// seconds prints a duration the way people read waits: 0.21s, 12.5s, 90s.
func seconds(d time.Duration) string {
	s := d.Seconds()
	switch {
	case s >= 60:
		return strconv.FormatFloat(s, 'f', 0, 64) + "s"
	case s >= 10:
		return strconv.FormatFloat(s, 'f', 1, 64) + "s"
	case s == 0 || s >= 0.01:
		return strconv.FormatFloat(s, 'f', 2, 64) + "s"
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}

// isContextError reports whether err is the caller's own giving up.
func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
