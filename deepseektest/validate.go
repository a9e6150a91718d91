package deepseektest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

type chatBody struct {
	Model            *string            `json:"model"`
	Messages         *[]json.RawMessage `json:"messages"`
	Thinking         json.RawMessage    `json:"thinking"`
	ReasoningEffort  *string            `json:"reasoning_effort"`
	MaxTokens        *int64             `json:"max_tokens"`
	Temperature      *float64           `json:"temperature"`
	TopP             *float64           `json:"top_p"`
	FrequencyPenalty *float64           `json:"frequency_penalty"`
	PresencePenalty  *float64           `json:"presence_penalty"`
	ResponseFormat   *struct {
		Type *string `json:"type"`
	} `json:"response_format"`
	Stop          json.RawMessage `json:"stop"`
	Stream        *bool           `json:"stream"`
	StreamOptions *struct {
		IncludeUsage *bool `json:"include_usage"`
	} `json:"stream_options"`
	Tools       *[]json.RawMessage `json:"tools"`
	ToolChoice  json.RawMessage    `json:"tool_choice"`
	Logprobs    *bool              `json:"logprobs"`
	TopLogprobs *int64             `json:"top_logprobs"`
	UserID      *string            `json:"user_id"`
	N           *int64             `json:"n"`
}

type chatMessage struct {
	Role             *string         `json:"role"`
	Content          json.RawMessage `json:"content"`
	Name             *string         `json:"name"`
	ReasoningContent *string         `json:"reasoning_content"`
	ToolCallID       *string         `json:"tool_call_id"`
	Prefix           *bool           `json:"prefix"`
	ToolCalls        *[]struct {
		ID       *string `json:"id"`
		Type     *string `json:"type"`
		Function *struct {
			Name      *string `json:"name"`
			Arguments *string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

type chatTool struct {
	Type     *string `json:"type"`
	Function *struct {
		Name        *string         `json:"name"`
		Description *string         `json:"description"`
		Parameters  json.RawMessage `json:"parameters"`
		Strict      *bool           `json:"strict"`
	} `json:"function"`
}

// decodeChat reads a chat completion request and applies the server's rules.
func decodeChat(c *config, body []byte, beta bool) *ask {
	a := &ask{format: chatFormat, thinking: true}
	a.err = a.chat(c, body, beta)
	return a
}

func (a *ask) chat(c *config, body []byte, beta bool) *apiError {
	var in chatBody
	if e := unmarshal(body, body, "", &in); e != nil {
		// What is needed to count the request all the same.
		a.stream = or(in.Stream, false)
		a.named(c, or(in.Model, ""))
		return e
	}
	a.stream = or(in.Stream, false)
	a.includeUsage = in.StreamOptions != nil && or(in.StreamOptions.IncludeUsage, false)
	a.user = or(in.UserID, "")
	a.logprobs = or(in.Logprobs, false)
	a.topLogprobs = int(or(in.TopLogprobs, 0))
	named := a.named(c, or(in.Model, ""))
	if in.Model == nil {
		return missing(body, "model")
	}
	if in.Messages == nil {
		return missing(body, "messages")
	}
	if e := a.options(body, in.Thinking, in.ReasoningEffort); e != nil {
		return e
	}
	if e := a.readMessages(body, *in.Messages); e != nil {
		return e
	}
	if e := a.readTools(body, in.Tools, beta); e != nil {
		return e
	}
	if e := a.readStop(body, in.Stop); e != nil {
		return e
	}
	if named != nil {
		return named
	}
	if len(a.messages) == 0 && a.prefix == nil {
		return errInvalid("Empty input messages")
	}
	if e := a.ranges(&in); e != nil {
		return e
	}
	if e := a.readFormat(body, &in); e != nil {
		return e
	}
	if e := a.choice(body, in.ToolChoice); e != nil {
		return e
	}
	if a.prefix != nil && !beta {
		return errInvalid(`prefix is only available when using beta api (set base_url="https://api.deepseek.com/beta")`)
	}
	if e := a.history(); e != nil {
		return e
	}
	return a.fits(int(or(in.MaxTokens, 0)))
}

// named finds the model.
func (a *ask) named(c *config, name string) *apiError {
	a.modelName = name
	if a.model = c.model(name); a.model == nil {
		return errInvalid("The supported API model names are %s, but you passed %s.", c.modelNames(), name)
	}
	return nil
}

var efforts = []string{"none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"}

// options reads what decides about thinking and the default budget.
func (a *ask) options(body []byte, thinking json.RawMessage, effort *string) *apiError {
	a.maxTokens = 64 << 10
	disabled := false
	if !isNull(thinking) {
		if thinking[0] != '{' {
			return badType(body, thinking, "thinking", "struct ThinkingOptions")
		}
		var t struct {
			Type json.RawMessage `json:"type"`
		}
		if e := unmarshal(body, thinking, "thinking", &t); e != nil {
			return e
		}
		if len(t.Type) > 0 && t.Type[0] != '"' {
			// The real server answers this one with a plain text.
			e := badType(body, t.Type, "thinking.type", "a string")
			e.plain, e.contentType = true, ""
			return e
		}
		switch name := strings.Trim(string(t.Type), `"`); name {
		case "disabled":
			disabled = true
		case "enabled", "adaptive":
		case "":
			return badValue(body, thinking, "thinking", "missing field `type`")
		default:
			return badVariant(body, t.Type, "thinking.type", name, "enabled", "disabled")
		}
	}
	switch e := or(effort, ""); e {
	case "":
	case "none":
		disabled = true
	case "max", "ultra":
		a.maxTokens = 128 << 10
	case "minimal", "low", "medium", "high", "xhigh":
	default:
		return badVariant(body, []byte(`"`+e+`"`), "reasoning_effort", e, efforts...)
	}
	if disabled && effort != nil && *effort != "none" && *effort != "" {
		return errInvalid("thinking options type cannot be disabled when reasoning_effort is set")
	}
	if disabled {
		a.thinking = false
		a.maxTokens = 8 << 10
	}
	return nil
}

func (a *ask) readMessages(body []byte, list []json.RawMessage) *apiError {
	for i, raw := range list {
		name := fmt.Sprintf("messages[%d]", i)
		var in chatMessage
		if e := unmarshal(body, raw, name, &in); e != nil {
			return e
		}
		if in.Role == nil {
			return badValue(body, raw, name, "missing field `role`")
		}
		m := Message{
			Role:             *in.Role,
			ReasoningContent: or(in.ReasoningContent, ""),
			ToolCallID:       or(in.ToolCallID, ""),
			reasoned:         in.ReasoningContent != nil,
		}
		switch m.Role {
		case "system", "user", "assistant", "tool", "latest_reminder":
		default:
			return badVariant(body, raw, name+".role", m.Role, "system", "user", "assistant", "tool", "latest_reminder")
		}
		parts := m.Role == "user" || m.Role == "tool"
		s, images, e := text(body, in.Content, name, parts)
		if e != nil {
			return e
		}
		if images && a.model != nil && !a.model.Images {
			return errInvalid("This model does not support image")
		}
		m.Content = s
		if isNull(in.Content) && m.Role != "assistant" {
			return badValue(body, raw, name, "missing field `content`")
		}
		if in.ToolCalls != nil && m.Role == "assistant" {
			for _, t := range *in.ToolCalls {
				call := ToolCall{ID: or(t.ID, "")}
				if t.Function != nil {
					call.Name, call.Arguments = or(t.Function.Name, ""), or(t.Function.Arguments, "")
				}
				m.ToolCalls = append(m.ToolCalls, call)
			}
		}
		if or(in.Prefix, false) && m.Role == "assistant" && i == len(list)-1 {
			a.prefix = &m
			continue
		}
		a.messages = append(a.messages, m)
	}
	return nil
}

var toolName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func (a *ask) readTools(body []byte, list *[]json.RawMessage, beta bool) *apiError {
	if list == nil || len(*list) == 0 {
		return nil
	}
	if len(*list) > 128 {
		return errInvalid("Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length %d instead.", len(*list))
	}
	seen := make(map[string]bool)
	strict := 0
	for i, raw := range *list {
		name := fmt.Sprintf("tools[%d]", i)
		var t chatTool
		if e := unmarshal(body, raw, name, &t); e != nil {
			return e
		}
		if or(t.Type, "") != "function" {
			return badVariant(body, raw, name+".type", or(t.Type, ""), "function")
		}
		if t.Function == nil {
			return badValue(body, raw, name, "missing field `function`")
		}
		fn := or(t.Function.Name, "")
		if !toolName.MatchString(fn) {
			return errInvalid("Invalid '%s.function.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.", name)
		}
		if seen[fn] {
			return errInvalid("Tool names must be unique.")
		}
		seen[fn] = true
		if or(t.Function.Strict, false) {
			strict++
		}
		a.tools = append(a.tools, fn)
		a.toolText = append(a.toolText, raw...)
	}
	if beta && strict > 0 && strict < len(*list) {
		return errInvalid("All functions must set strict to true when strict mode is used.")
	}
	return nil
}

func (a *ask) readStop(body []byte, raw json.RawMessage) *apiError {
	if isNull(raw) {
		return nil
	}
	if raw[0] == '"' {
		var s string
		if e := unmarshal(body, raw, "stop", &s); e != nil {
			return e
		}
		a.stop = []string{s}
		return nil
	}
	if e := unmarshal(body, raw, "stop", &a.stop); e != nil {
		return e
	}
	if len(a.stop) > 16 {
		return errInvalid("Invalid stop value, at most 16 stop sequences are supported")
	}
	return nil
}

func (a *ask) ranges(in *chatBody) *apiError {
	for _, r := range []struct {
		name     string
		value    *float64
		from, to float64
		open     bool
		interval string
	}{
		{"temperature", in.Temperature, 0, 2, false, "[0, 2]"},
		{"top_p", in.TopP, 0, 1, true, "(0, 1.0]"},
		{"frequency_penalty", in.FrequencyPenalty, -2, 2, false, "[-2, 2]"},
		{"presence_penalty", in.PresencePenalty, -2, 2, false, "[-2, 2]"},
	} {
		if r.value == nil {
			continue
		}
		if v := *r.value; v < r.from || v > r.to || r.open && v == r.from {
			return errInvalid("Invalid %s value, the valid range of %s is %s", r.name, r.name, r.interval)
		}
	}
	if in.MaxTokens != nil {
		if n := *in.MaxTokens; n < 1 || n > int64(a.model.MaxOutput) {
			return errInvalid("Invalid max_tokens value, the valid range of max_tokens is [1, %d]", a.model.MaxOutput)
		}
		a.maxTokens = int(*in.MaxTokens)
	}
	if in.TopLogprobs != nil {
		if n := *in.TopLogprobs; n < 0 || n > 20 {
			return errInvalid("Invalid top_logprobs value, the valid range of top_logprobs is [0, 20]")
		}
		if !a.logprobs {
			return errInvalid("Invalid top_logprobs value, logprobs must be set to true if top_logprobs is used")
		}
	}
	if in.N != nil && *in.N != 1 {
		return errInvalid("Invalid n value (currently only n = 1 is supported)")
	}
	if in.StreamOptions != nil && !a.stream {
		return errInvalid("stream_options should be set along with stream = true")
	}
	if len(a.user) > 512 {
		return errInvalid("Invalid user_id value, the maximum length of user_id is 512")
	}
	return nil
}

func (a *ask) readFormat(body []byte, in *chatBody) *apiError {
	if in.ResponseFormat == nil {
		return nil
	}
	switch t := or(in.ResponseFormat.Type, ""); t {
	case "text":
	case "json_object":
		a.asJSON = true
		for _, m := range a.messages {
			if (m.Role == "system" || m.Role == "user") && strings.Contains(strings.ToLower(m.Content), "json") {
				return nil
			}
		}
		return errInvalid("Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'.")
	case "json_schema":
		return errInvalid("This response_format type is unavailable now")
	default:
		return badVariant(body, dig(body, "response_format.type"), "response_format.type", t, "text", "json_object")
	}
	return nil
}

// choice reads tool_choice and finds the tool that must be called.
func (a *ask) choice(body []byte, raw json.RawMessage) *apiError {
	if isNull(raw) {
		return nil
	}
	if raw[0] == '"' {
		switch s := strings.Trim(string(raw), `"`); s {
		case "none", "auto":
			return nil
		case "required":
			if len(a.tools) > 0 {
				a.force = a.tools[0]
			}
		default:
			return badVariant(body, raw, "tool_choice", s, "none", "auto", "required")
		}
	} else {
		var t chatTool
		if e := unmarshal(body, raw, "tool_choice", &t); e != nil {
			return e
		}
		if t.Function != nil {
			a.force = or(t.Function.Name, "")
		}
	}
	if a.thinking {
		return errInvalid("Thinking mode does not support this tool_choice")
	}
	for _, name := range a.tools {
		if name == a.force {
			return nil
		}
	}
	return errInvalid("Invalid tool_choice value, tool_choice must name one of the tools")
}

// history checks what earlier turns must look like.
func (a *ask) history() *apiError {
	for i := 0; i < len(a.messages); i++ {
		m := &a.messages[i]
		switch m.Role {
		case "tool":
			return errInvalid("Messages with role 'tool' must be a response to a preceding message with 'tool_calls'")
		case "assistant":
			if a.thinking && len(a.tools) > 0 && !m.reasoned {
				return errInvalid("The `reasoning_content` in the thinking mode must be passed back to the API.")
			}
			m.thinks = a.thinking && len(a.tools) > 0
			open := make(map[string]bool, len(m.ToolCalls))
			for _, t := range m.ToolCalls {
				open[t.ID] = true
			}
			for len(m.ToolCalls) > 0 && i+1 < len(a.messages) && a.messages[i+1].Role == "tool" {
				i++
				delete(open, a.messages[i].ToolCallID)
			}
			if len(open) > 0 {
				return errInvalid("An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. (insufficient tool messages following tool_calls message)")
			}
		}
	}
	return nil
}

// fits checks the prompt against the context.
func (a *ask) fits(completion int) *apiError {
	a.text = a.prompt()
	n := promptTokens(a.text)
	if n+completion > a.model.Context {
		return errInvalid("This model's maximum context length is %d tokens. However, you requested %d tokens (%d in the messages, %d in the completion). Please reduce the length of the messages or completion.",
			a.model.Context, n+completion, n, completion)
	}
	return nil
}
