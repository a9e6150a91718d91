package deepseektest

import "strings"

// hidden is what thinking adds to a prompt: about 80 tokens.
var hidden = strings.Repeat("Think step by step before you answer. ", 9)[:80*bytesPerToken]

// prompt lays a request out as the text whose prefixes are cached. The same
// conversation, one turn longer, starts with the same bytes.
func (a *ask) prompt() []byte {
	n := len(hidden) + len(a.toolText) + len(a.suffix) + 64
	for i := range a.messages {
		n += 24 + len(a.messages[i].Content) + len(a.messages[i].ReasoningContent)
	}
	b := make([]byte, 0, n)
	if a.thinking {
		b = append(b, hidden...)
	}
	b = append(b, a.toolText...)
	for i := range a.messages {
		b = a.messages[i].append(b)
	}
	b = append(b, a.suffix...)
	b = append(b, "<|assistant|>"...)
	if p := a.prefix; p != nil {
		b = append(b, p.ReasoningContent...)
		b = append(b, p.Content...)
	}
	return b
}

// append appends the message in the form that prompts have.
func (m *Message) append(b []byte) []byte {
	b = append(b, "<|"...)
	b = append(b, m.Role...)
	b = append(b, "|>"...)
	return m.appendText(b)
}

func (m *Message) appendText(b []byte) []byte {
	if m.thinks {
		b = append(b, m.ReasoningContent...)
	}
	b = append(b, m.Content...)
	for _, t := range m.ToolCalls {
		b = append(b, t.Name...)
		b = append(b, t.Arguments...)
	}
	return b
}

// withAnswer appends an answer to a prompt as a later turn will repeat it.
func (a *ask) withAnswer(prompt []byte, out *Answer) []byte {
	if a.prefix != nil && len(a.tools) == 0 {
		// A later turn repeats the prefix without its reasoning.
		prompt = prompt[:len(prompt)-len(a.prefix.ReasoningContent)-len(a.prefix.Content)]
		prompt = append(prompt, a.prefix.Content...)
	}
	m := Message{
		Content:          out.Content,
		ReasoningContent: out.Reasoning,
		ToolCalls:        out.ToolCalls,
		thinks:           a.thinking && len(a.tools) > 0,
	}
	return m.appendText(prompt)
}
