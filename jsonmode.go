package deepseek

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
)

// AnswerError is an answer that came whole but is not what was asked for: blank,
// or no JSON of the wanted kind.
type AnswerError struct {
	Reason   string        // what is wrong with it
	Err      error         // why it could not be decoded; nil if it is blank
	Response *ChatResponse // the answer
}

// Error tells what is wrong with the answer, nothing of its text.
func (e *AnswerError) Error() string {
	s := "deepseek: unusable answer: " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns why the answer could not be decoded.
func (e *AnswerError) Unwrap() error { return e.Err }

// jsonTries is how often ChatJSON asks before it gives up on a blank answer.
const jsonTries = 2

// DecodeJSON decodes the text of an answer in JSON mode, as [json.Unmarshal]
// does. A Markdown fence around the JSON is taken off, because models put it
// there.
//
// An answer that ended for another reason than that the model was done is a
// [*TruncatedError]: half a JSON value, which must not be guessed at. A blank
// one, which is how DeepSeek hands out what is no JSON, and one that does not
// decode is an [*AnswerError].
func DecodeJSON[T any](resp *ChatResponse) (T, error) {
	var v T
	switch reason := resp.FinishReason(); reason {
	case FinishStop, "":
	default:
		return v, &TruncatedError{Reason: "finish_reason " + string(reason), Response: resp, Attempts: resp.Attempts}
	}
	text := unfenced(resp.Text())
	if text == "" {
		return v, &AnswerError{Reason: "it is blank", Response: resp}
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		var zero T
		return zero, &AnswerError{Reason: "it does not decode", Err: err, Response: resp}
	}
	return v, nil
}

// ChatJSON is [Client.Chat] in JSON mode, with the answer decoded as [DecodeJSON]
// does. The word "json" must occur in a system or user message, and an example of the
// wanted object should. The request itself is not changed.
//
// A blank answer is asked for once more, and paid for once more; everything else
// is final. The response is returned along with an error that is about it.
func ChatJSON[T any](ctx context.Context, c *Client, req *ChatRequest) (T, *ChatResponse, error) {
	var zero T
	if req == nil {
		return zero, nil, &RequestError{Field: "request", Reason: "is nil"}
	}
	own := *req
	own.ResponseFormat = JSONFormat()
	for try := 1; ; try++ {
		resp, err := c.Chat(ctx, &own)
		if err != nil {
			return zero, nil, err
		}
		v, err := DecodeJSON[T](resp)
		var unusable *AnswerError
		if try < jsonTries && errors.As(err, &unusable) && unusable.Err == nil && ctx.Err() == nil {
			continue
		}
		return v, resp, err
	}
}

// unfenced trims text and takes one Markdown fence off.
func unfenced(text string) string {
	text = strings.TrimSpace(text)
	rest, fenced := strings.CutPrefix(text, "```")
	if !fenced {
		return text
	}
	rest, fenced = strings.CutSuffix(rest, "```")
	if !fenced {
		return text
	}
	// What follows the opening fence on its line is the name of the language.
	if i := strings.IndexAny(rest, "\n{["); i >= 0 && !strings.ContainsAny(rest[:i], "\"0123456789") {
		rest = rest[i:]
	}
	return strings.TrimSpace(rest)
}
