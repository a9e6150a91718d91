package deepseek

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// classes are all that errors.Is can be asked for.
var classes = []error{
	ErrAuthentication, ErrInsufficientBalance, ErrInvalidRequest, ErrRateLimited, ErrServer,
	ErrContentRisk, ErrContextLength, ErrCircuitOpen, ErrNoAccount, ErrNoEndpoint, ErrQueueFull, ErrStalled, ErrTruncated,
}

// isOnly demands that err is of these classes and no other.
func isOnly(t *testing.T, err error, want ...error) {
	t.Helper()
	for _, class := range classes {
		expected := false
		for _, w := range want {
			expected = expected || w == class
		}
		require.Equal(t, expected, errors.Is(err, class), "%v: is %v", err, class)
	}
}

// The class follows from the status, the type, the text; never from the code.
func TestAPIErrorClasses(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{"error":{"message":"m","code":"invalid_request_error"}}`, ErrInvalidRequest},
		{401, `{"error":{"message":"m","type":"authentication_error","code":"invalid_request_error"}}`, ErrAuthentication},
		{402, `{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}`, ErrInsufficientBalance},
		{403, ``, ErrAuthentication},
		{404, `404 page not found`, ErrInvalidRequest},
		{408, ``, ErrServer},
		{409, ``, ErrServer},
		{413, ``, ErrInvalidRequest},
		{422, `{"error":{"message":"m"}}`, ErrInvalidRequest},
		{429, `{"error":{"message":"m","code":"invalid_request_error"}}`, ErrRateLimited},
		{500, ``, ErrServer},
		{503, `<html>`, ErrServer},
		{529, ``, ErrServer},
		{200, `{"error":{"message":"m","type":"authentication_error"}}`, ErrAuthentication},
		{200, `{"error":{"message":"m","type":"permission_error"}}`, ErrAuthentication},
		{200, `{"error":{"message":"m","type":"rate_limit_error"}}`, ErrRateLimited},
		{200, `{"error":{"message":"m","type":"invalid_request_error"}}`, ErrInvalidRequest},
		{200, `{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}`, ErrInsufficientBalance},
		{200, `{"error":{"message":"m","code":"invalid_request_error"}}`, ErrServer},
		{200, `{"error":"overloaded"}`, ErrServer},
	} {
		err := newAPIError(c.status, nil, []byte(c.body), nil)
		isOnly(t, err, c.want)
		isOnly(t, &CallError{Err: err}, c.want)
		require.Equal(t, c.status == 408 || c.status == 504, err.Timeout())
	}
	require.True(t, newAPIError(504, nil, nil, nil).Timeout())
}

// Two of the requests' faults are told apart by their text, at whatever host.
func TestInvalidRequestsByTheirText(t *testing.T) {
	const long = `{"error":{"message":"This model's maximum context length is 1048576 tokens. However, you requested 1060836 tokens"}}`
	for _, c := range []struct {
		status int
		body   string
		want   []error
	}{
		{400, `{"error":{"message":"Content Exists Risk","type":"invalid_request_error","code":"invalid_request_error"}}`, []error{ErrInvalidRequest, ErrContentRisk}},
		{400, long, []error{ErrInvalidRequest, ErrContextLength}},
		{422, long, []error{ErrInvalidRequest, ErrContextLength}},
		{200, `{"error":{"message":"Content Exists Risk","type":"invalid_request_error"}}`, []error{ErrInvalidRequest, ErrContentRisk}},
		{500, long, []error{ErrServer}},
		{429, `{"error":{"message":"Content Exists Risk"}}`, []error{ErrRateLimited}},
	} {
		err := newAPIError(c.status, nil, []byte(c.body), nil)
		isOnly(t, err, c.want...)
		isOnly(t, &TruncatedError{Err: err}, append(c.want, ErrTruncated)...)
	}
}

func TestRetryAfterOfErrors(t *testing.T) {
	const soon = 7 * time.Second
	api := newAPIError(429, http.Header{"Retry-After": {"7"}}, nil, nil)
	for _, err := range []error{
		api, &CircuitOpenError{RetryIn: soon}, &NoAccountError{RetryIn: soon}, &NoEndpointError{RetryIn: soon}, &QueueFullError{RetryIn: soon},
		&NoEndpointError{RetryIn: soon, causes: []error{&CircuitOpenError{RetryIn: time.Hour}, &NoAccountError{RetryIn: soon}}},
		&CallError{Err: api}, &TruncatedError{Err: api}, fmt.Errorf("wrapped: %w", &CallError{Err: &QueueFullError{RetryIn: soon}}),
		&interrupted{err: context.Canceled, last: api},
	} {
		wait, ok := RetryAfter(err)
		require.True(t, ok, "%v", err)
		require.Equal(t, soon, wait, "%v", err)
	}
	for _, err := range []error{nil, io.EOF, newAPIError(429, nil, nil, nil), &CircuitOpenError{}, &QueueFullError{}, &RequestError{}, &StallError{}, &TruncatedError{}} {
		wait, ok := RetryAfter(err)
		require.False(t, ok, "%v", err)
		require.Zero(t, wait)
	}
}

// The shapes of errors that are seen in the wild, and what comes of them.
func TestAPIErrorShapes(t *testing.T) {
	for _, c := range []struct {
		body                       string
		message, kind, code, param string
	}{
		{`{"error":{"message":"m","type":"t","param":null,"code":"c"}}`, "m", "t", "c", ""},
		{`{"error":{"message":"m","type":"t","param":"messages[0]","code":40301}}`, "m", "t", "40301", "messages[0]"},
		{`{"error":"only text"}`, "only text", "", "", ""},
		{`{"error":null,"message":"flat","code":20012}`, "flat", "", "20012", ""},
		{`{"code":20012,"message":"flat","data":null}`, "flat", "", "20012", ""},
		{`{"detail":"other"}`, `{"detail":"other"}`, "", "", ""},
		{"<html>\n  <b>502</b>\n</html>", "<html> <b>502</b> </html>", "", "", ""},
		{"", "", "", "", ""},
		{"\xff\xfe", "\uFFFD", "", "", ""},
	} {
		e := newAPIError(500, nil, []byte(c.body), nil)
		require.Equal(t, []string{c.message, c.kind, c.code, c.param}, []string{e.Message, e.Type, e.Code, e.Param}, c.body)
		require.Equal(t, c.body, string(e.Body))
	}
	header := http.Header{"Retry-After": {"7"}, "X-Ds-Trace-Id": {"abc"}}
	e := newAPIError(503, header, []byte(`{"error":{"message":"m","type":"t"}}`), Attempts{{Status: 500}, {Status: 503, Wait: time.Second}})
	require.Equal(t, 7*time.Second, e.RetryAfter)
	require.Equal(t, "abc", e.TraceID)
	require.Equal(t, header, e.Header)
	require.Equal(t, "deepseek: 503 Service Unavailable (t): m [trace abc] after 2 attempts: 500 in 0.00s; waited 1.00s; 503 in 0.00s", e.Error())
	require.Equal(t, "deepseek: 599", newAPIError(599, nil, nil, nil).Error())
}

// Every error says what it is, in words as well as to errors.Is, and whether it
// is a timeout.
func TestErrorsSayWhatTheyAre(t *testing.T) {
	reset := errors.New("connection reset")
	for _, c := range []struct {
		err     error
		text    string
		classes []error
		timeout bool
	}{
		{&CircuitOpenError{Endpoint: "main", Model: ModelFlash, RetryIn: 2 * time.Second},
			"deepseek: circuit open for main deepseek-flash, next probe in 2.00s", []error{ErrCircuitOpen}, false},
		{&CircuitOpenError{}, "deepseek: circuit open, next probe in 0.00s", []error{ErrCircuitOpen}, false},
		{&NoAccountError{Model: ModelPro, Reason: "1 out of balance", RetryIn: 90 * time.Second, causes: []error{ErrInsufficientBalance}},
			"deepseek: no usable account for deepseek-v4-pro: 1 out of balance, next try in 90s", []error{ErrNoAccount, ErrInsufficientBalance}, false},
		{&NoEndpointError{Path: "/files", Reason: "a: does not have /files"}, "deepseek: no endpoint takes /files: a: does not have /files", []error{ErrNoEndpoint, ErrInvalidRequest}, false},
		{&NoEndpointError{Model: "m", Reason: "two are open", causes: []error{&CircuitOpenError{}, &QueueFullError{}}},
			"deepseek: no endpoint takes m: two are open", []error{ErrNoEndpoint, ErrCircuitOpen, ErrQueueFull}, false},
		{&QueueFullError{Reason: "waited too long", For: "1 of 1 calls in flight", Waited: 3 * time.Second},
			"deepseek: waited too long after 3.00s, waiting for room: 1 of 1 calls in flight", []error{ErrQueueFull}, false},
		{&StallError{Clock: "first data", After: 10 * time.Minute}, "deepseek: stalled: no first data for 600s", []error{ErrStalled}, true},
		{&StallError{Clock: "between data", After: 2 * time.Minute}, "deepseek: stalled: no data for 120s", []error{ErrStalled}, true},
		{&StallError{Clock: "silence", After: time.Minute}, "deepseek: stalled: no byte for 60s", []error{ErrStalled}, true},
		{&TruncatedError{Reason: "stream ended"}, "deepseek: answer truncated: stream ended", []error{ErrTruncated}, false},
		{&TruncatedError{Reason: "stream broke off", Err: reset}, "deepseek: answer truncated: stream broke off: connection reset", []error{ErrTruncated}, false},
		{&TruncatedError{Reason: "stalled", Err: &StallError{Clock: "silence"}, Continuation: errors.New("deepseek: it has tools")},
			"deepseek: answer truncated: stalled: deepseek: stalled: no byte for 0.00s (not continued: it has tools)", []error{ErrTruncated, ErrStalled}, true},
		{&OriginError{Got: "https://evil.example:443", Want: "https://api.deepseek.com:443"},
			"deepseek: refusing to send to https://evil.example:443: the keys are for https://api.deepseek.com:443", []error{ErrInvalidRequest}, false},
		{&RequestError{Field: "messages[0].role", Value: "x", Reason: "is unknown"}, `deepseek: invalid request: messages[0].role "x": is unknown`, []error{ErrInvalidRequest}, false},
		{&RequestError{Field: "request", Reason: "is nil"}, "deepseek: invalid request: request: is nil", []error{ErrInvalidRequest}, false},
		{&ConfigError{Field: "Retry.MaxAttempts", Value: "-1", Reason: "must not be negative"},
			"deepseek: invalid configuration: Retry.MaxAttempts -1: must not be negative", nil, false},
		{&AnswerError{Reason: "it is blank"}, "deepseek: unusable answer: it is blank", nil, false},
		{&AnswerError{Reason: "it does not decode", Err: io.ErrUnexpectedEOF}, "deepseek: unusable answer: it does not decode: unexpected EOF", nil, false},
		{&interrupted{err: io.ErrClosedPipe, last: &APIError{StatusCode: 503}}, "io: read/write on closed pipe (the last attempt: 503 Service Unavailable)", []error{ErrServer}, false},
		{lostError{}, "deepseek: lost to another attempt", nil, false},
		{&baseTimeoutError{errors.New("net/http: timeout awaiting response headers")}, "net/http: timeout awaiting response headers", nil, true},
	} {
		require.EqualError(t, c.err, c.text)
		isOnly(t, c.err, c.classes...)
		require.Equal(t, isContextError(c.err), c.err == error(lostError{}), c.text)
		call := &CallError{Err: c.err, Attempts: Attempts{{Status: 503}, {Err: reset}}}
		isOnly(t, call, c.classes...)
		require.Contains(t, call.Error(), " after 2 attempts: 503 in 0.00s; connection reset in 0.00s")
		var timeout interface{ Timeout() bool }
		require.Equal(t, c.timeout, errors.As(fmt.Errorf("wrapped: %w", c.err), &timeout) && timeout.Timeout(), c.text)
	}
	for _, cut := range []error{&TruncatedError{}, &TruncatedError{Err: reset}} {
		require.ErrorIs(t, cut, io.ErrUnexpectedEOF, "whatever the cause")
	}
	require.ErrorIs(t, &TruncatedError{Err: reset}, reset)
	require.ErrorIs(t, &AnswerError{Err: io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF)
	var stall net.Error
	require.ErrorAs(t, fmt.Errorf("read: %w", &StallError{}), &stall)
	require.True(t, stall.Timeout())
	require.True(t, stall.(*StallError).Temporary())
}

func TestAttemptsReadAsALine(t *testing.T) {
	require.Equal(t, "0 attempts", Attempts(nil).String())
	as := Attempts{
		{Account: "main", Key: "1f3a", Status: 503, Duration: 210 * time.Millisecond},
		{Endpoint: "spare", Account: "b", Status: 200, Err: errors.New("deepseek: answer truncated: x"), Wait: 12500 * time.Millisecond, Duration: 90 * time.Second},
		{Account: "c", Hedge: true, Lost: true, Err: errLost, Duration: 5 * time.Millisecond},
		{Account: "d", Model: "other", Fallback: true, Status: 200, Continues: true, Broke: &StallError{Clock: "silence", After: time.Minute}},
	}
	require.Equal(t, "4 attempts: main#1f3a 503 in 0.21s; waited 12.5s; spare b 200 answer truncated: x in 90s; "+
		"hedge on c lost to another attempt in 5ms; d other 200 in 0.00s, continuing, then stalled: no byte for 60s", as.String())
	require.Equal(t, "1 attempt: main#1f3a 503 in 0.21s", as[:1].String())
}
