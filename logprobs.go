package deepseek

import (
	"encoding/json"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// Logprobs are the probabilities of the tokens of an answer.
type Logprobs struct {
	Content          []TokenLogprob // of the text
	ReasoningContent []TokenLogprob // of the reasoning
	Extra            Extra          // what else the server sent
}

// TokenLogprob is the probability of one token, and of those that were likely in
// its place.
type TokenLogprob struct {
	Token       string         // the token's text
	Logprob     float64        // -9999 means outside the 20 most likely
	Bytes       []int          // the token's UTF-8 bytes; a token may be part of a character
	TopLogprobs []TokenLogprob // the likeliest, as many as asked for
	Extra       Extra          // what else the server sent
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (t *TokenLogprob) UnmarshalJSON(data []byte) error { return unmarshal(data, t.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (t TokenLogprob) MarshalJSON() ([]byte, error) { return marshal(t.encode) }

func (t *TokenLogprob) decode(data []byte) error {
	return decodeObject(data, &t.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "token":
			return decodeString(value, &t.Token)
		case "logprob":
			t.Logprob = 0
			return json.Unmarshal(value, &t.Logprob) == nil
		case "bytes":
			t.Bytes = nil
			return json.Unmarshal(value, &t.Bytes) == nil
		case "top_logprobs":
			return decodeTokens(value, &t.TopLogprobs)
		}
		return false
	})
}

func (t *TokenLogprob) encode(w *jsonWriter) {
	o := w.object(t.Extra)
	o.str("token", t.Token)
	o.any("logprob", t.Logprob)
	o.any("bytes", t.Bytes)
	if len(t.TopLogprobs) > 0 && o.member("top_logprobs") {
		elements(w, t.TopLogprobs, (*TokenLogprob).encode)
	}
	o.end()
}

func decodeTokens(value []byte, dst *[]TokenLogprob) bool {
	return decodeArray(value, dst, (*TokenLogprob).decode)
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (l *Logprobs) UnmarshalJSON(data []byte) error { return unmarshal(data, l.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (l Logprobs) MarshalJSON() ([]byte, error) { return marshal(l.encode) }

func decodeLogprobs(value []byte, dst **Logprobs) bool {
	*dst = nil
	if jsonscan.IsNull(value) {
		return true
	}
	l := new(Logprobs)
	if l.decode(value) != nil {
		return false
	}
	*dst = l
	return true
}

// encodeLogprobs writes null where there are none, as the server does.
func encodeLogprobs(o object, l *Logprobs) {
	if o.member("logprobs") {
		if l == nil {
			o.b = append(o.b, "null"...)
		} else {
			l.encode(o.jsonWriter)
		}
	}
}

func (l *Logprobs) decode(data []byte) error {
	return decodeObject(data, &l.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "content":
			return decodeTokens(value, &l.Content)
		case "reasoning_content":
			return decodeTokens(value, &l.ReasoningContent)
		}
		return false
	})
}

func (l *Logprobs) encode(w *jsonWriter) {
	o := w.object(l.Extra)
	if l.Content == nil {
		o.null("content")
	} else if o.member("content") {
		elements(w, l.Content, (*TokenLogprob).encode)
	}
	if l.ReasoningContent != nil && o.member("reasoning_content") {
		elements(w, l.ReasoningContent, (*TokenLogprob).encode)
	}
	o.end()
}

// add appends what a chunk brings.
func (l *Logprobs) add(more *Logprobs) {
	l.Content = append(l.Content, more.Content...)
	l.ReasoningContent = append(l.ReasoningContent, more.ReasoningContent...)
	l.Extra.merge(more.Extra)
}
