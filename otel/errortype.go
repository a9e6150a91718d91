package otel

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/seawall-go/deepseek"
)

// errorType is the class of what a call or an attempt came to, one of few; empty
// if it succeeded.
func errorType(status int, err error, cancelled bool) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline_exceeded"
	case cancelled:
		return "cancelled"
	case err == nil && status >= 400:
		return strconv.Itoa(status)
	case err == nil:
		return ""
	}
	return classOf(err)
}

// classOf is the class of an error.
func classOf(err error) string {
	var api *deepseek.APIError
	var network net.Error
	switch {
	case errors.Is(err, deepseek.ErrQueueFull):
		return "queue_full"
	case errors.Is(err, deepseek.ErrNoEndpoint): // which may wrap the next two
		return "no_endpoint"
	case errors.Is(err, deepseek.ErrCircuitOpen):
		return "circuit_open"
	case errors.Is(err, deepseek.ErrNoAccount):
		return "no_account"
	case errors.Is(err, deepseek.ErrStalled):
		return "stalled"
	case errors.Is(err, deepseek.ErrTruncated):
		return "truncated"
	case errors.As(err, &api) && api.StatusCode >= 400:
		return strconv.Itoa(api.StatusCode)
	case api != nil: // with the status of a success
		return "api_error"
	case errors.Is(err, deepseek.ErrInvalidRequest):
		return "invalid_request"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.As(err, new(*net.OpError)), errors.As(err, new(*net.DNSError)), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "network"
	}
	return other
}

// errorTypeOf is the class of what an attempt came to.
func errorTypeOf(a deepseek.Attempt) string {
	if a.Lost { // to another attempt of the call: nobody's fault
		return "lost"
	}
	return errorType(a.Status, a.Err, false)
}

// longestText is how much of an error's text is told.
const longestText = 1024

// textOf is an error's text as it is told: without what servers say, and as shortened
// is. It may have a trace id in it, which is whatever a server sent.
func textOf(err error) string {
	text := deepseek.LogText(err)
	return strings.ToValidUTF8(text[:min(len(text), longestText)], "")
}
