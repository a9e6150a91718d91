package deepseek

import (
	"context"
	"net/url"
)

// Model is a model as the API lists it. What a host does not tell is zero.
//
// Source: https://api-docs.deepseek.com/api/list-models
type Model struct {
	ID               string   // the name to call it by
	Object           string   // "model"
	OwnedBy          string   // such as "deepseek"
	Name             string   // the release that serves it, such as "DeepSeek-V4.1-Flash"
	ContextWindow    int      // tokens
	MaxOutputTokens  int      // tokens of one answer, reasoning included
	InputModalities  []string // such as "text", "image"
	OutputModalities []string // such as "text"
	Extra            Extra    // what else the server sent
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (m *Model) UnmarshalJSON(data []byte) error { return unmarshal(data, m.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (m Model) MarshalJSON() ([]byte, error) { return marshal(m.encode) }

func (m *Model) decode(data []byte) error {
	return decodeObject(data, &m.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "id":
			return decodeString(value, &m.ID)
		case "object":
			return decodeString(value, &m.Object)
		case "owned_by":
			return decodeString(value, &m.OwnedBy)
		case "name":
			return decodeString(value, &m.Name)
		case "context_window":
			return decodeInt(value, &m.ContextWindow)
		case "max_output_tokens":
			return decodeInt(value, &m.MaxOutputTokens)
		case "input_modalities":
			return decodeArray(value, &m.InputModalities, decodeElement)
		case "output_modalities":
			return decodeArray(value, &m.OutputModalities, decodeElement)
		}
		return false
	})
}

func (m *Model) encode(w *jsonWriter) {
	o := w.object(m.Extra)
	o.str("id", m.ID)
	o.str("object", m.Object)
	o.optional("owned_by", m.OwnedBy)
	o.optional("name", m.Name)
	if m.ContextWindow != 0 {
		o.int("context_window", int64(m.ContextWindow))
	}
	if m.MaxOutputTokens != 0 {
		o.int("max_output_tokens", int64(m.MaxOutputTokens))
	}
	o.strings("input_modalities", m.InputModalities)
	o.strings("output_modalities", m.OutputModalities)
	o.end()
}

// Models lists the models there are at DeepSeek, or at the endpoint of
// [OnEndpoint], by that endpoint's own names.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var list struct {
		data  []Model
		extra Extra
	}
	_, _, err := c.call(ctx, "/models", "", nil, func(data []byte) error {
		return decodeObject(data, &list.extra, func(key, value []byte) bool {
			return string(key) == "data" && decodeArray(value, &list.data, (*Model).decode)
		})
	})
	return list.data, err
}

// Model returns one model. One that there is not is an [*APIError]; no id at all is
// a [*RequestError].
func (c *Client) Model(ctx context.Context, id string) (*Model, error) {
	if id == "" { // which would be the list
		return nil, &RequestError{Field: "id", Reason: "must not be empty"}
	}
	m := new(Model)
	if _, _, err := c.call(ctx, "/models/"+url.PathEscape(id), "", nil, m.decode); err != nil {
		return nil, err
	}
	return m, nil
}
