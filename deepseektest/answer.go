package deepseektest

import (
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// An Answer is what the model says.
type Answer struct {
	// Reasoning is left out when thinking is off.
	Reasoning string
	Content   string     // the text
	ToolCalls []ToolCall // come after it
	// FinishReason is "stop" by default, "tool_calls" with tool calls, and
	// "length" if max_tokens is too small, whatever is set here.
	FinishReason string
}

// A ToolCall is one call of a function.
type ToolCall struct {
	// ID is made up if it is empty.
	ID        string
	Name      string // of the function
	Arguments string // JSON text, or what a model may write in its place
}

// sentences are what the default answers are made of. Some hold characters of
// several bytes, so that streams can break inside of one.
var sentences = []string{
	"A wall is only as good as the stones that touch the water first.",
	"Each stone leans on the next, and none of them hurries.",
	"The tide table is pinned to the door of the harbour café.",
	"海堤很稳，潮水来了又退。",
	"What the sea takes in winter it returns, grain by grain, in summer.",
	"A naïve builder counts the waves; a patient one counts the years.",
	"The gauge reads 2.4 m above the mark, which is less than last spring.",
	"Nobody remembers who laid the first row, but the row is still there.",
	"When the wind turns, the spray stops at the railing 🌊.",
	"Small gaps let the water through slowly, and that is on purpose.",
	"The old plan shows a second wall that was never built.",
	"It holds, as far as anyone can tell, for the same reason it always has.",
}

// defaultAnswer derives a text from the messages, always the same for the
// same messages.
func (c *config) defaultAnswer(r *Request, force string, asJSON bool) Answer {
	h := fnv.New64a()
	for _, m := range r.Messages {
		_, _ = h.Write([]byte(m.Role))
		_, _ = h.Write([]byte(m.Content))
	}
	rng := rand.New(rand.NewPCG(h.Sum64(), 7))
	topic := abridge(r.LastUser(), 48)
	size := c.pace.tokenSize()

	var a Answer
	a.Reasoning = compose(rng, `The question is "`+topic+`", so think about that first.`, 1, c.reasoning*size)
	switch {
	case force != "":
		args := appendString([]byte(`{"query": `), topic)
		a.ToolCalls = []ToolCall{{Name: force, Arguments: string(append(args, '}'))}}
	case asJSON:
		text := appendString([]byte(`{"answer": `), compose(rng, `You asked "`+topic+`".`, 3, c.content*size))
		a.Content = string(append(text, '}'))
	default:
		a.Content = compose(rng, `You asked "`+topic+`".`, 3, c.content*size)
	}
	return a
}

// compose writes the opening and n sentences more, or exactly so many
// characters if there are any.
func compose(rng *rand.Rand, opening string, n, characters int) string {
	var b strings.Builder
	b.WriteString(opening)
	have := utf8.RuneCountInString(opening)
	for i := 0; characters > 0 && have < characters || characters <= 0 && i < n; i++ {
		s := sentences[rng.IntN(len(sentences))]
		b.WriteByte(' ')
		b.WriteString(s)
		have += 1 + utf8.RuneCountInString(s)
	}
	text := b.String()
	if characters > 0 {
		text, _ = cutRunes(text, characters)
	}
	return text
}

// abridge folds white space and keeps the first n characters.
func abridge(s string, n int) string {
	if len(s) > 8*n {
		s = s[:8*n] // do not fold megabytes for a title
	}
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "")
	head, rest := cutRunes(s, n)
	if rest != "" {
		return head + "…"
	}
	return head
}

// cutRunes splits s after n characters.
func cutRunes(s string, n int) (head, rest string) {
	for i := range s {
		if n == 0 {
			return s[:i], s[i:]
		}
		n--
	}
	return s, ""
}

type pieceKind uint8

const (
	reasoningPiece pieceKind = iota
	contentPiece
	toolPiece // the start of a tool call: id and name
	argumentsPiece
)

// piece is one token of an answer.
type piece struct {
	kind pieceKind
	tool int
	text string
}

// pieces cuts an answer into tokens.
func pieces(a *Answer, size int) []piece {
	n := (len(a.Reasoning) + len(a.Content)) / size
	list := make([]piece, 0, n+2+8*len(a.ToolCalls))
	add := func(kind pieceKind, tool int, text string) {
		for text != "" {
			var head string
			head, text = cutRunes(text, size)
			list = append(list, piece{kind, tool, head})
		}
	}
	add(reasoningPiece, 0, a.Reasoning)
	add(contentPiece, 0, a.Content)
	for i, t := range a.ToolCalls {
		list = append(list, piece{toolPiece, i, ""})
		add(argumentsPiece, i, t.Arguments)
	}
	return list
}

// join is the inverse of pieces.
func join(list []piece, full *Answer) Answer {
	var reasoning, content strings.Builder
	var out Answer
	for i := range list {
		p := &list[i]
		switch p.kind {
		case reasoningPiece:
			reasoning.WriteString(p.text)
		case contentPiece:
			content.WriteString(p.text)
		case toolPiece:
			t := full.ToolCalls[p.tool]
			t.Arguments = ""
			out.ToolCalls = append(out.ToolCalls, t)
		case argumentsPiece:
			out.ToolCalls[len(out.ToolCalls)-1].Arguments += p.text
		}
	}
	out.Reasoning, out.Content = reasoning.String(), content.String()
	return out
}

// continueFrom leaves out what a prefix already holds. A prefix that is no
// part of the answer is simply followed by all of it.
func (a *Answer) continueFrom(prefix *Message) {
	if prefix.Content != "" {
		// The thinking is over once there is content.
		a.Reasoning = ""
		a.Content = strings.TrimPrefix(a.Content, prefix.Content)
		return
	}
	a.Reasoning = strings.TrimPrefix(a.Reasoning, prefix.ReasoningContent)
}
