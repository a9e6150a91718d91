package deepseek

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
)

// Client is the typed door to DeepSeek. All its calls go through one
// [Transport], which retries, waits, and picks the account; what a call returns
// is final.
//
// Errors are: [*RequestError] for a request that was not sent because the API is
// known to reject it; [*APIError] for an error that the server answered with;
// [*TruncatedError] for a stream, or an answer that the server broke off, with what
// had arrived; [*CallError] for everything else that ended a call without an answer.
// A context's error is found in them with errors.Is.
//
// A Client is safe for concurrent use. Make one and share it: its limits and
// what it learned of the accounts hold for the calls that go through it. It is made
// by [New]; the zero value is of no use.
type Client struct {
	transport *Transport
	rules     rules
}

// New returns a client. Without options it takes its keys from the environment:
// see [WithAPIKeys]. An impossible option is reported as a [*ConfigError].
func New(opts ...Option) (*Client, error) {
	t, err := NewTransport(opts...)
	if err != nil {
		return nil, err
	}
	return newClient(t), nil
}

func newClient(t *Transport) *Client { return &Client{transport: t, rules: rulesOf(t.endpoints)} }

// Successor returns a client with other options that goes on where c is, over
// [Transport.Successor] of its transport. Calls under way in c end as they began. If
// there is an error, nothing has changed.
func (c *Client) Successor(opts ...Option) (*Client, error) {
	t, err := c.transport.Successor(opts...)
	if err != nil {
		return nil, err
	}
	return newClient(t), nil
}

// String says where calls go, and nothing of keys.
func (c *Client) String() string { return "client over a " + c.transport.String() }

// GoString is String, so that %#v tells no key either.
func (c *Client) GoString() string { return c.String() }

// Transport returns the client's transport, for its Stats, its accounts, or to
// be used under another client as well.
func (c *Client) Transport() *Transport { return c.transport }

// Chat sends a conversation and returns the model's next message. An answer that
// was cut off by MaxTokens is no error: look at its FinishReason.
//
// A request that continues an assistant message, or has strict tools, goes to
// DeepSeek's beta address by itself. Where there is none, strict tools go to the usual
// address, and what continues a message is refused with a [*RequestError], or goes
// there too under [WithoutValidation]. A server on this machine is believed to have
// that address, unless its [Endpoint] has [DialectOpenAI].
func (c *Client) Chat(ctx context.Context, req *ChatRequest) (*ChatResponse, error) {
	body, err := validBody(c, req, false)
	if err != nil {
		return nil, err
	}
	answer := new(ChatResponse)
	resp, call, err := c.call(ctx, req.path(c.rules), cmp.Or(req.Model, ModelFlash), body, answer.decode)
	if err != nil {
		return nil, err
	}
	answer.Header, answer.Attempts = resp.Header, call.trail()
	for i := range answer.Choices {
		if reason := answer.Choices[i].FinishReason; finishReasonFault(string(reason)) {
			return nil, &TruncatedError{Reason: "finish_reason " + string(reason), Response: answer, Attempts: answer.Attempts}
		}
	}
	return answer, nil
}

// ChatStream is [Client.Chat] with the answer streamed as it is written. It
// returns when the answer has begun. The caller must range over
// [ChatStream.Chunks] or call [ChatStream.Close].
func (c *Client) ChatStream(ctx context.Context, req *ChatRequest) (*ChatStream, error) {
	body, err := validBody(c, req, true)
	if err != nil {
		return nil, err
	}
	events, err := c.stream(ctx, req.path(c.rules), cmp.Or(req.Model, ModelFlash), body)
	if err != nil {
		return nil, err
	}
	return &ChatStream{events: events}, nil
}

// validBody is the body of a request, once it has been looked at.
func validBody[R any, P interface {
	*R
	validate(stream bool, at rules) error
	body(stream bool) ([]byte, error)
}](c *Client, req P, stream bool) ([]byte, error) {
	if req == nil {
		return nil, &RequestError{Field: "request", Reason: "is nil"}
	}
	if c.transport.validate {
		if err := req.validate(stream, c.rules); err != nil {
			return nil, err
		}
	}
	return req.body(stream)
}

// url is where a path of the API is: at the first endpoint; what is beta, at the
// first that has it.
func (c *Client) url(path string) string {
	at := c.transport.endpoints[0]
	if strings.HasPrefix(path, betaPart) {
		for _, e := range c.transport.endpoints {
			if e.deepSeek {
				at = e
				break
			}
		}
	}
	return at.url(path)
}

// send makes a call and returns its response, which is a 2xx.
func (c *Client) send(ctx context.Context, method, path, model string, body []byte, stream bool) (*http.Response, *call, error) {
	ctx, call := newCall(ctx, model, stream, body)
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url(path), content)
	if err != nil {
		return nil, nil, &CallError{Err: err}
	}
	req.Header["User-Agent"] = userAgent()
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if stream {
		req.Header.Set("Accept", "text/event-stream")
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, nil, errorFromResponse(resp, call.trail())
	}
	return resp, call, nil
}

// call makes a call and decodes its answer. The method follows from the body.
func (c *Client) call(ctx context.Context, path, model string, body []byte, decode func([]byte) error) (*http.Response, *call, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	resp, call, err := c.send(ctx, method, path, model, body, false)
	if err != nil {
		return nil, nil, err
	}
	data, err := readWhole(resp)
	if err == nil {
		err = decodeAnswer(resp, data, decode)
	}
	if err != nil {
		return nil, nil, withTrail(err, call)
	}
	return resp, call, nil
}

// readWhole reads and closes a body.
func readWhole(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	var buf bytes.Buffer
	if n := resp.ContentLength; n > 0 && n < 16<<20 {
		buf.Grow(int(n) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// decodeAnswer decodes what came with a 2xx, which may yet be an error, or only
// a part of an answer.
func decodeAnswer(resp *http.Response, data []byte, decode func([]byte) error) error {
	ans, ok := readAnswer(data)
	switch {
	case !ok || !ans.isObject:
		return noAnswer(resp, data)
	case ans.isError:
		return newAPIError(resp.StatusCode, resp.Header, data, nil)
	}
	if err := decode(data); err != nil {
		return &CallError{Err: err}
	}
	return nil
}

// withTrail adds the attempts to an error that came after the response's header.
func withTrail(err error, c *call) error {
	var api *APIError
	var cut *TruncatedError
	var call *CallError
	switch {
	case errors.As(err, &call):
		if call.Attempts == nil {
			call.Attempts = c.trail()
		}
		return err
	case errors.As(err, &api):
		if api.Attempts == nil {
			return api.after(c.trail())
		}
		return err
	case errors.As(err, &cut):
		return &CallError{Err: err, Attempts: c.trail()}
	case isContextError(err), errors.Is(err, ErrStalled):
		return &CallError{Err: err, Attempts: c.trail()}
	}
	return &CallError{Err: &TruncatedError{Reason: "body broke off", Err: err}, Attempts: c.trail()}
}
