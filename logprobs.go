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
	Token       string         `json:"token"`                  // the token's text
	Logprob     float64        `json:"logprob"`                // -9999 means outside the 20 most likely
	Bytes       []int          `json:"bytes"`                  // the token's UTF-8 bytes; a token may be part of a character
	TopLogprobs []TokenLogprob `json:"top_logprobs,omitempty"` // the likeliest, as many as asked for
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
			l.Content = nil
			return json.Unmarshal(value, &l.Content) == nil
		case "reasoning_content":
			l.ReasoningContent = nil
			return json.Unmarshal(value, &l.ReasoningContent) == nil
		}
		return false
	})
}

func (l *Logprobs) encode(w *jsonWriter) {
	o := w.object(l.Extra)
	o.any("content", l.Content)
	if l.ReasoningContent != nil {
		o.any("reasoning_content", l.ReasoningContent)
	}
	o.end()
}

// add appends what a chunk brings.
func (l *Logprobs) add(more *Logprobs) {
	l.Content = append(l.Content, more.Content...)
	l.ReasoningContent = append(l.ReasoningContent, more.ReasoningContent...)
	l.Extra.merge(more.Extra)
}
