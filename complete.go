package deepseek

import (
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/seawall-go/deepseek/internal/jsonscan"
	"github.com/seawall-go/deepseek/internal/sse"
)

// CompletionRequest asks for the text between a prompt and a suffix (fill in
// the middle), or after a prompt. The model does not think for it.
//
// Source: https://api-docs.deepseek.com/api/create-completion
type CompletionRequest struct {
	Model       string   // empty means ModelFlash
	Prompt      string   // what comes before the gap
	Suffix      string   // what follows the gap
	Echo        bool     // repeat the prompt in the answer; not with Suffix or Logprobs
	Logprobs    *int     // tell probabilities, of as many likely tokens, 0 to 20
	MaxTokens   int      // 1 to 4096; 0 is the server's default
	Stop        []string // at most 16 texts that end the answer
	Temperature *float64 // 0 to 2; nil means 1
	TopP        *float64 // above 0 up to 1; nil means 1
	// StreamOptions is for CompleteStream only. DeepSeek tells the usage without it.
	StreamOptions *StreamOptions
	// Extra is sent along at the top level. A field that this type knows is refused.
	Extra map[string]any
}

var completionFields = []string{"model", "prompt", "suffix", "echo", "logprobs", "max_tokens", "stop", "temperature",
	"top_p", "stream", "stream_options"}

// MarshalJSON implements [encoding/json.Marshaler]: the body of a call of Complete.
func (r CompletionRequest) MarshalJSON() ([]byte, error) { return r.body(false) }

// UnmarshalJSON is as that of [ChatRequest].
func (r *CompletionRequest) UnmarshalJSON(data []byte) error { return unmarshal(data, r.decode) }

func (r *CompletionRequest) decode(data []byte) error {
	var fresh CompletionRequest
	var rest Extra
	err := decodeObject(data, &rest, func(key, value []byte) bool {
		switch string(key) {
		case "model":
			return decodeString(value, &fresh.Model)
		case "prompt":
			return decodeString(value, &fresh.Prompt)
		case "suffix":
			return decodeString(value, &fresh.Suffix)
		case "echo":
			return decodeBool(value, &fresh.Echo)
		case "logprobs":
			return decodeAny(value, &fresh.Logprobs)
		case "max_tokens":
			return decodeInt(value, &fresh.MaxTokens)
		case "stop":
			return decodeStop(value, &fresh.Stop)
		case "temperature":
			return decodeAny(value, &fresh.Temperature)
		case "top_p":
			return decodeAny(value, &fresh.TopP)
		case "stream":
			return true
		case "stream_options":
			return decodeWhole(value, &fresh.StreamOptions)
		}
		return false
	})
	if err == nil {
		fresh.Extra, err = rest.ofRequest(completionFields)
	}
	if err == nil {
		*r = fresh
	}
	return err
}

func (r *CompletionRequest) body(stream bool) ([]byte, error) {
	w := jsonWriter{b: make([]byte, 0, len(r.Prompt)+len(r.Suffix)+1<<10)}
	o := w.object(nil)
	o.str("model", cmp.Or(r.Model, ModelFlash))
	o.str("prompt", r.Prompt)
	o.optional("suffix", r.Suffix)
	if r.Echo {
		o.bool("echo", true)
	}
	if r.Logprobs != nil {
		o.int("logprobs", int64(*r.Logprobs))
	}
	if r.MaxTokens != 0 {
		o.int("max_tokens", int64(r.MaxTokens))
	}
	o.strings("stop", r.Stop)
	o.float("temperature", r.Temperature)
	o.float("top_p", r.TopP)
	o.stream(stream, r.StreamOptions)
	o.more(r.Extra, completionFields)
	o.end()
	return w.b, w.err
}

// CompletionResponse is the answer to a completion request, or one piece of it
// in a [CompletionStream].
type CompletionResponse struct {
	ID                string             // of the call; the same in all pieces
	Object            string             // "text_completion"
	Created           int64              // seconds since 1970
	Model             string             // what answered
	SystemFingerprint string             // opaque
	Choices           []CompletionChoice // one with DeepSeek; may be empty elsewhere
	Usage             *Usage             // nil if the server told none
	Extra             Extra              // what else the server sent

	// Header is the response's header, and Attempts how the call got here, oldest
	// first. They are not part of the JSON, and a piece has neither.
	Header   http.Header
	Attempts Attempts
}

// CompletionChoice is one answer of a [CompletionResponse].
type CompletionChoice struct {
	Index        int             // its place among the answers
	Text         string          // the text, or what a piece adds to it
	FinishReason FinishReason    // never FinishToolCalls
	Logprobs     json.RawMessage // text_offset, token_logprobs, tokens, top_logprobs; nil unless asked for
	Extra        Extra           // what else the server sent
}

// Text returns the text of the first choice, "" if there is none.
func (r *CompletionResponse) Text() string {
	if r == nil || len(r.Choices) == 0 {
		return ""
	}
	return r.Choices[0].Text
}

// FinishReason returns why the first choice ended; "" if it has not.
func (r *CompletionResponse) FinishReason() FinishReason {
	if r == nil || len(r.Choices) == 0 {
		return ""
	}
	return r.Choices[0].FinishReason
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (r *CompletionResponse) UnmarshalJSON(data []byte) error { return unmarshal(data, r.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (r CompletionResponse) MarshalJSON() ([]byte, error) { return marshal(r.encode) }

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (c *CompletionChoice) UnmarshalJSON(data []byte) error { return unmarshal(data, c.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (c CompletionChoice) MarshalJSON() ([]byte, error) { return marshal(c.encode) }

func (r *CompletionResponse) decode(data []byte) error {
	return decodeObject(data, &r.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "id":
			return decodeString(value, &r.ID)
		case "object":
			return decodeShared(value, &r.Object, "text_completion")
		case "created":
			return decodeInt64(value, &r.Created)
		case "model":
			return decodeShared(value, &r.Model, ModelFlash, ModelPro)
		case "system_fingerprint":
			return decodeString(value, &r.SystemFingerprint)
		case "choices":
			return decodeArray(value, &r.Choices, (*CompletionChoice).decode)
		case "usage":
			return decodeUsage(value, &r.Usage)
		}
		return false
	})
}

func (c *CompletionChoice) decode(data []byte) error {
	return decodeObject(data, &c.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "index":
			return decodeInt(value, &c.Index)
		case "text":
			return decodeString(value, &c.Text)
		case "finish_reason":
			return c.FinishReason.decode(value)
		case "logprobs":
			c.Logprobs = nil
			if !jsonscan.IsNull(value) {
				c.Logprobs = append(c.Logprobs, value...)
			}
			return true
		}
		return false
	})
}

func (r *CompletionResponse) encode(w *jsonWriter) {
	o := w.object(r.Extra)
	o.str("id", r.ID)
	o.str("object", r.Object)
	o.int("created", r.Created)
	o.str("model", r.Model)
	if o.member("choices") {
		elements(w, r.Choices, (*CompletionChoice).encode)
	}
	if r.Usage != nil && o.member("usage") {
		r.Usage.encode(w)
	}
	o.optional("system_fingerprint", r.SystemFingerprint)
	o.end()
}

func (c *CompletionChoice) encode(w *jsonWriter) {
	o := w.object(c.Extra)
	o.int("index", int64(c.Index))
	o.str("text", c.Text)
	if c.Logprobs == nil {
		o.null("logprobs")
	} else {
		o.any("logprobs", c.Logprobs)
	}
	c.FinishReason.encode(o)
	o.end()
}

// completionsPath is where completions are: FIM is beta, where there is that.
func completionsPath(at rules) string {
	if at.prefix {
		return "/beta/completions"
	}
	return "/completions"
}

// Complete fills in the middle: it returns the text between the request's prompt
// and suffix. It goes to DeepSeek's beta address; where there is none, to /completions
// under [WithoutValidation], and else it is refused with a [*RequestError]. Its errors
// are those of [Client.Chat].
func (c *Client) Complete(ctx context.Context, req *CompletionRequest) (*CompletionResponse, error) {
	body, err := validBody(c, req, false)
	if err != nil {
		return nil, err
	}
	answer := new(CompletionResponse)
	resp, call, err := c.call(ctx, completionsPath(c.rules), cmp.Or(req.Model, ModelFlash), body, answer.decode)
	if err != nil {
		return nil, err
	}
	answer.Header, answer.Attempts = resp.Header, call.trail()
	for _, choice := range answer.Choices {
		if reason := string(choice.FinishReason); finishReasonFault(reason) {
			return nil, &TruncatedError{Reason: "finish_reason " + reason, Response: answer.asChat(), Attempts: answer.Attempts}
		}
	}
	return answer, nil
}

// CompleteStream is [Client.Complete] with the answer streamed as it is written.
// The caller must range over [CompletionStream.Chunks] or call Close.
func (c *Client) CompleteStream(ctx context.Context, req *CompletionRequest) (*CompletionStream, error) {
	body, err := validBody(c, req, true)
	if err != nil {
		return nil, err
	}
	events, err := c.stream(ctx, completionsPath(c.rules), cmp.Or(req.Model, ModelFlash), body)
	if err != nil {
		return nil, err
	}
	return &CompletionStream{events: events}, nil
}

// asChat is the completion in the shape that a TruncatedError carries.
func (r *CompletionResponse) asChat() *ChatResponse {
	chat := &ChatResponse{ID: r.ID, Object: r.Object, Created: r.Created, Model: r.Model,
		SystemFingerprint: r.SystemFingerprint, Usage: r.Usage, Extra: r.Extra, Header: r.Header, Attempts: r.Attempts}
	for _, c := range r.Choices {
		chat.Choices = append(chat.Choices, Choice{Index: c.Index, FinishReason: c.FinishReason, Extra: c.Extra,
			Message: Message{Role: RoleAssistant, Content: c.Text}})
	}
	return chat
}

// CompletionStream is a completion that is being written. It is used as a
// [ChatStream] is.
type CompletionStream struct {
	events *eventStream

	mu    sync.Mutex // guards what follows
	head  CompletionResponse
	texts []*strings.Builder // of head.Choices
}

// Chunks returns the pieces of the text as they come, as [ChatStream.Chunks]
// does. What had arrived is in a TruncatedError's Response as an assistant
// message.
func (s *CompletionStream) Chunks() iter.Seq2[*CompletionResponse, error] {
	return func(yield func(*CompletionResponse, error) bool) {
		if s.events.ranged.Swap(true) {
			yield(nil, errRanged)
			return
		}
		defer s.Close()
		for {
			chunk, done, err := s.next()
			if err != nil || done {
				if err := s.final(err, done); err != nil {
					yield(nil, err)
				}
				return
			}
			s.add(chunk)
			if !yield(chunk, nil) {
				return
			}
		}
	}
}

func (s *CompletionStream) next() (chunk *CompletionResponse, done bool, err error) {
	data, whole, err := s.events.next()
	switch {
	case err != nil:
		return nil, false, err
	case !whole && string(data) == sse.Done:
		return nil, true, nil
	}
	chunk = new(CompletionResponse)
	if whole {
		return chunk, false, decodeAnswer(s.events.resp, data, chunk.decode)
	}
	if err := chunk.decode(data); err != nil {
		return nil, false, s.events.notJSON(err)
	}
	return chunk, false, s.events.errorEvent(data, chunk.Extra)
}

func (s *CompletionStream) final(err error, done bool) error {
	r := s.Response()
	how := streamEnd{err: err, done: done, arrived: r.asChat(), any: r.ID != "" || len(r.Choices) > 0}
	for _, c := range r.Choices {
		how.choice(c.FinishReason)
	}
	return s.events.final(how)
}

func (s *CompletionStream) add(c *CompletionResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.head
	if h.ID == "" {
		h.ID, h.Object, h.Created = c.ID, c.Object, c.Created
	}
	h.Model = cmp.Or(h.Model, c.Model)
	h.SystemFingerprint = cmp.Or(h.SystemFingerprint, c.SystemFingerprint)
	if c.Usage != nil {
		h.Usage = c.Usage
	}
	h.Extra.merge(c.Extra)
	for i := range c.Choices {
		from := &c.Choices[i]
		at := 0
		for at < len(h.Choices) && h.Choices[at].Index != from.Index {
			at++
		}
		if at == len(h.Choices) {
			h.Choices = append(h.Choices, CompletionChoice{Index: from.Index})
			s.texts = append(s.texts, new(strings.Builder))
		}
		s.texts[at].WriteString(from.Text)
		to := &h.Choices[at]
		if from.FinishReason != "" {
			to.FinishReason = from.FinishReason
		}
		to.Extra.merge(from.Extra)
	}
}

// Response returns all that has come so far as one response, without its
// logprobs, which stay with the chunks.
func (s *CompletionStream) Response() *CompletionResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.head
	r.Header, r.Attempts = s.events.resp.Header, s.events.call.trail()
	r.Extra = maps.Clone(r.Extra)
	r.Choices = append([]CompletionChoice(nil), r.Choices...)
	for i := range r.Choices {
		r.Choices[i].Text = s.texts[i].String()
		r.Choices[i].Extra = maps.Clone(r.Choices[i].Extra)
	}
	slices.SortStableFunc(r.Choices, func(a, b CompletionChoice) int { return cmp.Compare(a.Index, b.Index) })
	return &r
}

// Close is as [ChatStream.Close].
func (s *CompletionStream) Close() error { return s.events.close() }
