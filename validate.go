package deepseek

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The bounds that the API enforces
// (https://api-docs.deepseek.com/api/create-chat-completion and
// https://api-docs.deepseek.com/api/create-completion).
const (
	maxTokens      = 393_216
	maxTokensFIM   = 4_096
	maxTopLogprobs = 20
	maxStops       = 16
	maxToolName    = 128
	maxUserID      = 512
)

// rules are what a client's endpoints are known to ask of its requests. The zero
// value is for hosts of which nothing is known.
type rules struct {
	deepSeek bool // the first accepts what DeepSeek does, and nothing else
	names    bool // its models have DeepSeek's own names
	beta     bool // it has DeepSeek's beta address
	prefix   bool // one of them has it
}

func rulesOf(endpoints []*endpoint) rules {
	first := endpoints[0]
	return rules{
		deepSeek: first.deepSeek && !first.vague,
		names:    first.itself && first.models == nil,
		beta:     first.deepSeek,
		prefix:   slices.ContainsFunc(endpoints, func(e *endpoint) bool { return e.deepSeek }),
	}
}

// noBeta is said of what is wanted of hosts without it.
const noBeta = "needs DeepSeek's beta address, which none of the endpoints has"

// checker collects the first thing that is wrong.
type checker struct{ err *RequestError }

func (c *checker) refuse(field, value, reason string) {
	if c.err == nil {
		const most = 80
		if len(value) > most {
			value = strings.ToValidUTF8(value[:most], "") + "…"
		}
		c.err = &RequestError{Field: field, Value: value, Reason: reason}
	}
}

func (c *checker) result() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

func (c *checker) number(field string, f *float64, low, high float64) {
	if f != nil && !(*f >= low && *f <= high) {
		c.refuse(field, strconv.FormatFloat(*f, 'g', -1, 64), fmt.Sprintf("must be from %g to %g", low, high))
	}
}

func (c *checker) topP(f *float64) {
	if f != nil && !(*f > 0 && *f <= 1) {
		c.refuse("top_p", strconv.FormatFloat(*f, 'g', -1, 64), "must be above 0 and at most 1")
	}
}

func (c *checker) count(field string, n, low, high int) {
	if n < low || n > high {
		c.refuse(field, strconv.Itoa(n), fmt.Sprintf("must be from %d to %d", low, high))
	}
}

func (c *checker) stops(stop []string) {
	if len(stop) > maxStops {
		c.refuse("stop", strconv.Itoa(len(stop))+" texts", fmt.Sprintf("must be at most %d", maxStops))
	}
}

func (c *checker) streamOptions(stream bool, options *StreamOptions) {
	if options != nil && !stream {
		c.refuse("stream_options", "", "is only for streams")
	}
}

// model refuses the names that people still use and that no longer answer.
func (c *checker) model(name string) {
	switch {
	case name == "deepseek-chat":
		c.refuse("model", name, "was retired in July 2026; use "+ModelFlash+" with ThinkingOff")
	case name == "deepseek-reasoner":
		c.refuse("model", name, "was retired in July 2026; use "+ModelFlash+" or "+ModelPro+", which think by default")
	case strings.HasPrefix(name, "DeepSeek-V"), strings.HasPrefix(name, "deepseek-v4.1"):
		c.refuse("model", name, "is the label of a release, not an API name; use "+ModelFlash+" or "+ModelPro)
	}
}

// n refuses several answers, which can be asked for only by way of Extra.
func (c *checker) n(extra map[string]any) {
	n, ok := extra["n"]
	if !ok {
		return
	}
	// What cannot be written is told when it is to be.
	if s, err := json.Marshal(n); err == nil && string(s) != "1" && string(s) != "null" {
		c.refuse("n", string(s), "must be 1")
	}
}

// validate refuses what the API is known to reject, before it costs a round
// trip. Away from DeepSeek, only what no server could accept, or has.
func (r *ChatRequest) validate(stream bool, at rules) error {
	var c checker
	if len(r.Messages) == 0 {
		c.refuse("messages", "", "must not be empty")
	}
	c.streamOptions(stream, r.StreamOptions)
	c.toolNames(r)
	if last := len(r.Messages) - 1; !at.prefix && last >= 0 && r.Messages[last].Prefix {
		c.refuse(fmt.Sprintf("messages[%d].prefix", last), "true", noBeta)
	}
	if at.names {
		c.model(r.Model)
	}
	if at.deepSeek {
		c.official(r)
	}
	return c.result()
}

// official refuses what DeepSeek rejects.
func (c *checker) official(r *ChatRequest) {
	c.n(r.Extra)
	c.thinking(r)
	if r.MaxTokens != 0 {
		c.count("max_tokens", r.MaxTokens, 1, maxTokens)
	}
	c.number("temperature", r.Temperature, 0, 2)
	c.topP(r.TopP)
	c.number("frequency_penalty", r.FrequencyPenalty, -2, 2)
	c.number("presence_penalty", r.PresencePenalty, -2, 2)
	c.stops(r.Stop)
	c.count("top_logprobs", r.TopLogprobs, 0, maxTopLogprobs)
	if r.TopLogprobs > 0 && !r.Logprobs {
		c.refuse("top_logprobs", strconv.Itoa(r.TopLogprobs), "needs logprobs")
	}
	if len(r.UserID) > maxUserID {
		c.refuse("user_id", r.UserID, fmt.Sprintf("must be at most %d bytes", maxUserID))
	}
	c.format(r)
	c.strict(r.Tools)
	c.messages(r)
}

func (c *checker) thinking(r *ChatRequest) {
	if t := r.Thinking; t != nil {
		switch {
		case !slices.Contains([]string{"enabled", "disabled", "adaptive"}, t.Type):
			c.refuse("thinking.type", t.Type, "must be enabled or disabled")
		case t.Type == "disabled" && r.ReasoningEffort != "":
			c.refuse("reasoning_effort", string(r.ReasoningEffort), "must not be set when thinking is disabled")
		case t.Type != "disabled" && r.ReasoningEffort == EffortNone:
			c.refuse("reasoning_effort", string(r.ReasoningEffort), "contradicts thinking "+t.Type)
		}
	}
	if r.ToolChoice.forces() && r.thinks() {
		c.refuse("tool_choice", cmp.Or(r.ToolChoice.Name, r.ToolChoice.Mode),
			"cannot be forced while thinking, which is on by default; set Thinking to ThinkingOff")
	}
}

func (c *checker) format(r *ChatRequest) {
	f := r.ResponseFormat
	if f == nil {
		return
	}
	switch f.Type {
	case "text":
	case formatJSON:
		for i := range r.Messages {
			m := &r.Messages[i]
			if (m.Role == RoleSystem || m.Role == RoleUser) && m.contains("json") {
				return
			}
		}
		c.refuse("response_format.type", f.Type, `needs the word "json" in a system or user message`)
	case "json_schema":
		c.refuse("response_format.type", f.Type, "is not offered; use json_object, or a strict tool")
	default:
		c.refuse("response_format.type", f.Type, "must be text or json_object")
	}
}

func (m *Message) contains(word string) bool {
	if m.Parts == nil {
		return containsFold(m.Content, word)
	}
	return slices.ContainsFunc(m.Parts, func(p Part) bool { return containsFold(p.Text, word) })
}

func (c *checker) toolNames(r *ChatRequest) {
	seen := make(map[string]bool, len(r.Tools))
	for i, t := range r.Tools {
		field := fmt.Sprintf("tools[%d].function.name", i)
		name := t.Function.Name
		switch {
		case t.Type != "" && t.Type != "function":
			c.refuse(fmt.Sprintf("tools[%d].type", i), t.Type, "must be function")
		case name == "":
			c.refuse(field, "", "must not be empty")
		case !isToolName(name):
			c.refuse(field, name, "must be letters, digits, _ and - only")
		case len(name) > maxToolName:
			c.refuse(field, name, fmt.Sprintf("must be at most %d characters", maxToolName))
		case seen[name]:
			c.refuse(field, name, "is there twice")
		}
		seen[name] = true
	}
	if t := r.ToolChoice; t != nil && t.Name != "" && !seen[t.Name] {
		c.refuse("tool_choice.function.name", t.Name, "is not among the tools")
	}
}

func (c *checker) strict(tools []Tool) {
	for i, t := range tools {
		if t.Function.Strict != tools[0].Function.Strict {
			c.refuse(fmt.Sprintf("tools[%d].function.strict", i), strconv.FormatBool(t.Function.Strict), "must be the same for all tools")
		}
	}
}

func (c *checker) messages(r *ChatRequest) {
	for i := range r.Messages {
		m := &r.Messages[i]
		at := func(field string) string { return fmt.Sprintf("messages[%d].%s", i, field) }
		switch m.Role {
		case RoleSystem, RoleAssistant:
			if m.Parts != nil {
				c.refuse(at("content"), "", "must be text: parts are for user and tool messages")
			}
		case RoleUser, RoleTool, "latest_reminder":
		case "developer":
			c.refuse(at("role"), string(m.Role), "is unknown to DeepSeek; use system")
		case "function":
			c.refuse(at("role"), string(m.Role), "is unknown to DeepSeek; use tool")
		default:
			c.refuse(at("role"), string(m.Role), "must be system, user, assistant or tool")
		}
		if r.Model == ModelPro && slices.ContainsFunc(m.Parts, func(p Part) bool { return p.ImageURL != "" }) {
			c.refuse(at("content"), "image", "is not supported by "+ModelPro+"; use "+ModelFlash)
		}
		if m.Prefix && (m.Role != RoleAssistant || i < len(r.Messages)-1) {
			c.refuse(at("prefix"), "true", "is for the last message, which must be the assistant's")
		}
	}
	c.toolResults(r.Messages)
}

// toolResults checks that the calls of an assistant message are answered, each
// once, by the tool messages right after it, and that there are no others.
func (c *checker) toolResults(messages []Message) {
	var open []string
	by := 0 // the message whose calls are open
	for i := range messages {
		m := &messages[i]
		if m.Role == RoleTool {
			at := slices.Index(open, m.ToolCallID)
			if at < 0 {
				c.refuse(fmt.Sprintf("messages[%d].tool_call_id", i), m.ToolCallID,
					"answers no call of the assistant message before it")
				return
			}
			open = slices.Delete(open, at, at+1)
			continue
		}
		if len(open) > 0 {
			break
		}
		if m.Role == RoleAssistant {
			by = i
			for _, call := range m.ToolCalls {
				open = append(open, call.ID)
			}
		}
	}
	if len(open) > 0 {
		c.refuse(fmt.Sprintf("messages[%d].tool_calls", by), open[0], "is not answered by a tool message after it")
	}
}

func isToolName(name string) bool {
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return name != ""
}

// validate is as that of ChatRequest.
func (r *CompletionRequest) validate(stream bool, at rules) error {
	var c checker
	c.streamOptions(stream, r.StreamOptions)
	if !at.prefix {
		c.refuse("prompt", "", noBeta)
	}
	if at.names {
		c.model(r.Model)
	}
	if !at.deepSeek {
		return c.result()
	}
	c.n(r.Extra)
	if r.MaxTokens != 0 {
		c.count("max_tokens", r.MaxTokens, 1, maxTokensFIM)
	}
	c.number("temperature", r.Temperature, 0, 2)
	c.topP(r.TopP)
	c.stops(r.Stop)
	if r.Logprobs != nil {
		c.count("logprobs", *r.Logprobs, 0, maxTopLogprobs)
	}
	if r.Echo && r.Suffix != "" {
		c.refuse("echo", "true", "cannot be had with suffix")
	}
	if r.Echo && r.Logprobs != nil {
		c.refuse("echo", "true", "cannot be had with logprobs")
	}
	return c.result()
}

// containsFold reports whether s contains word, given in lower case ASCII.
func containsFold(s, word string) bool {
	for len(s) >= len(word) {
		i := strings.IndexAny(s, word[:1]+strings.ToUpper(word[:1]))
		if i < 0 || len(s)-i < len(word) {
			return false
		}
		if strings.EqualFold(s[i:i+len(word)], word) {
			return true
		}
		s = s[i+1:]
	}
	return false
}
