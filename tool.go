package deepseek

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// Tool is something that the model may ask to have called. Make it with
// [FunctionTool].
//
// Source: https://api-docs.deepseek.com/guides/tool_calls
type Tool struct {
	Type     string   `json:"type"`     // empty means "function", the only one there is
	Function Function `json:"function"` // what can be called
}

// Function describes a function to the model.
type Function struct {
	Name        string `json:"name"`                  // letters, digits, _ and -; at most 128, unique in its request
	Description string `json:"description,omitempty"` // what it does, for the model to know when to call it
	// Parameters is the JSON Schema of the arguments: anything that encodes to a
	// JSON object, such as a map, a json.RawMessage or a schema type's value. Keep
	// its bytes the same from call to call, or the context cache is lost. nil is no
	// parameters.
	Parameters any `json:"parameters,omitempty"`
	// Strict has the server hold the arguments to the schema. All functions of a
	// request must be strict or none. The client then uses DeepSeek's beta address.
	Strict bool `json:"strict,omitempty"`
}

// FunctionTool returns a tool of this name. For parameters see [Function].
func FunctionTool(name, description string, parameters any) Tool {
	return Tool{Type: "function", Function: Function{Name: name, Description: description, Parameters: parameters}}
}

// UnmarshalJSON implements [encoding/json.Unmarshaler]. The function's parameters are
// then a [json.RawMessage], byte for byte.
func (t *Tool) UnmarshalJSON(data []byte) error {
	type function Function
	var in struct {
		Type     string `json:"type"`
		Function struct {
			function
			Parameters json.RawMessage `json:"parameters"`
		} `json:"function"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*t = Tool{Type: in.Type, Function: Function(in.Function.function)}
	if in.Function.Parameters != nil {
		t.Function.Parameters = in.Function.Parameters
	}
	return nil
}

func (t *Tool) encode(w *jsonWriter) {
	o := w.object(nil)
	o.str("type", cmp.Or(t.Type, "function"))
	if o.member("function") {
		sound := w.err == nil
		f := w.object(nil)
		f.str("name", t.Function.Name)
		f.optional("description", t.Function.Description)
		if t.Function.Parameters != nil {
			f.any("parameters", t.Function.Parameters)
		}
		if t.Function.Strict {
			f.bool("strict", true)
		}
		f.end()
		if sound {
			w.within("function.")
		}
	}
	o.end()
}

// ToolChoice tells the model whether to call tools. DeepSeek refuses to force a
// call while thinking is on, which it is by default: see [ThinkingOff].
type ToolChoice struct {
	Mode string // "none", "auto" or "required"; ignored if Name is set
	Name string // the function that must be called
}

// ToolsNone forbids tool calls.
func ToolsNone() *ToolChoice { return &ToolChoice{Mode: "none"} }

// ToolsAuto leaves it to the model, which is the default when there are tools.
func ToolsAuto() *ToolChoice { return &ToolChoice{Mode: "auto"} }

// ToolsRequired demands at least one tool call.
func ToolsRequired() *ToolChoice { return &ToolChoice{Mode: "required"} }

// ToolNamed demands a call of this function.
func ToolNamed(name string) *ToolChoice { return &ToolChoice{Name: name} }

func (c *ToolChoice) forces() bool { return c != nil && (c.Name != "" || c.Mode == "required") }

// MarshalJSON implements [encoding/json.Marshaler].
func (c ToolChoice) MarshalJSON() ([]byte, error) {
	if c.Name == "" {
		return json.Marshal(cmp.Or(c.Mode, "auto"))
	}
	var named struct {
		Type     string `json:"type"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	named.Type, named.Function.Name = "function", c.Name
	return json.Marshal(named)
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (c *ToolChoice) UnmarshalJSON(data []byte) error {
	*c = ToolChoice{}
	if len(data) > 0 && data[0] != '{' {
		return json.Unmarshal(data, &c.Mode)
	}
	name, _ := jsonscan.Get(data, "function", "name")
	return json.Unmarshal(name, &c.Name)
}

// ToolCall is the model's wish to have a tool called. In a chunk of a stream it
// is a fragment, which [ChatStream.Response] joins to the others of its Index.
type ToolCall struct {
	Index    int          // place among the message's calls
	ID       string       // such as "call_00_oNaYFdzFE2LrYatAn7252220"; goes into [ToolResult]
	Type     string       // "function"
	Function FunctionCall // which, and with what
	Extra    Extra        // what else the server sent

	indexed bool // the JSON has an index
}

// FunctionCall is which function to call, and how.
type FunctionCall struct {
	Name string // that of a function among the request's tools
	// Arguments is JSON text as the model wrote it: it may be no JSON at all, or
	// have members that the schema does not know. See [ToolCall.DecodeArguments].
	Arguments string
	Extra     Extra // what else the server sent
}

// DecodeArguments decodes the call's arguments into v as [json.Unmarshal] does;
// no arguments at all are {}. An error names the function, and is worth sending
// back to the model as the call's result.
func (c ToolCall) DecodeArguments(v any) error {
	if err := json.Unmarshal([]byte(cmp.Or(c.Function.Arguments, "{}")), v); err != nil {
		return fmt.Errorf("deepseek: arguments of %s: %w", c.Function.Name, err)
	}
	return nil
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (c *ToolCall) UnmarshalJSON(data []byte) error { return unmarshal(data, c.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (c ToolCall) MarshalJSON() ([]byte, error) {
	return marshal(func(w *jsonWriter) { c.encode(w, asReceived) })
}

func (c *ToolCall) decode(data []byte) error {
	return decodeObject(data, &c.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "index":
			c.indexed = decodeInt(value, &c.Index) && !jsonscan.IsNull(value)
			return c.indexed
		case "id":
			return decodeString(value, &c.ID)
		case "type":
			return decodeShared(value, &c.Type, "function")
		case "function":
			c.Function = FunctionCall{}
			return jsonscan.IsNull(value) || c.Function.decode(value) == nil
		}
		return false
	})
}

func (f *FunctionCall) decode(data []byte) error {
	return decodeObject(data, &f.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "name":
			return decodeString(value, &f.Name)
		case "arguments":
			return decodeString(value, &f.Arguments)
		}
		return false
	})
}

func encodeToolCalls(w *jsonWriter, calls []ToolCall, why purpose) {
	elements(w, calls, func(c *ToolCall, w *jsonWriter) { c.encode(w, why) })
}

func (c *ToolCall) encode(w *jsonWriter, why purpose) {
	o := w.object(c.Extra)
	if c.indexed && why == asReceived {
		o.int("index", int64(c.Index))
	}
	if why != asReceived {
		o.str("id", c.ID)
		o.str("type", cmp.Or(c.Type, "function"))
	} else {
		o.optional("id", c.ID)
		o.optional("type", c.Type)
	}
	if o.member("function") {
		sound := w.err == nil
		f := w.object(c.Function.Extra)
		if why != asReceived {
			f.str("name", c.Function.Name)
		} else {
			f.optional("name", c.Function.Name)
		}
		f.str("arguments", c.Function.Arguments)
		f.end()
		if sound {
			w.within("function.")
		}
	}
	o.end()
}
