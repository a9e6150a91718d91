package deepseek

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// errorResponse is a local refusal as a response; nil if err is none.
func errorResponse(req *http.Request, err error) *http.Response {
	var (
		status  int
		kind    string
		retryIn time.Duration
		open    *CircuitOpenError
		full    *QueueFullError
		none    *NoAccountError
		nowhere *NoEndpointError
	)
	switch {
	case errors.As(err, &nowhere) && errors.Is(err, ErrInvalidRequest):
		status, kind = http.StatusBadRequest, "invalid_request_error"
	case nowhere != nil:
		status, kind, retryIn = http.StatusServiceUnavailable, "service_unavailable_error", nowhere.RetryIn
	case errors.As(err, &open):
		status, kind, retryIn = http.StatusServiceUnavailable, "service_unavailable_error", open.RetryIn
	case errors.As(err, &none):
		status, kind, retryIn = http.StatusServiceUnavailable, "service_unavailable_error", none.RetryIn
	case errors.As(err, &full):
		status, kind, retryIn = http.StatusTooManyRequests, "rate_limit_error", full.RetryIn
	default:
		return nil
	}
	body, _ := json.Marshal(map[string]any{"error": map[string]any{
		"message": err.Error(), "type": kind, "param": nil, "code": kind,
	}})
	retryAfter := max(1, int64((retryIn+time.Second-1)/time.Second))
	resp := &http.Response{
		Status:     fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode: status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":   {"application/json"},
			"Content-Length": {strconv.Itoa(len(body))},
			"X-Should-Retry": {"false"},
			"Retry-After":    {strconv.FormatInt(retryAfter, 10)},
		},
		ContentLength: int64(len(body)),
		Request:       req,
	}
	resp.Body = newMemBody(body, verdict{outcome: refused})
	return resp
}
