package main

import (
	"fmt"
	"hash/fnv"
	"strings"
	"unicode/utf8"

	"github.com/seawall-go/deepseek/deepseektest"
)

// question is one call: what is asked, and what a whole answer to it is.
type question struct {
	id       string
	messages []message
	stream   bool
	answer   string
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Answers have from shortest to longest tokens, of tokenSize characters.
const (
	shortest  = 16
	longest   = 32
	tokenSize = 4
)

// prose is what prompts and answers are cut from. It holds characters of
// several bytes, so that streams break inside of one.
var prose = []rune(strings.Repeat("The harbour keeps two ledgers: one of ships, one of weather. 海堤很稳，潮水来了又退。 "+
	"In the café by the quay a naïve clerk adds both up 🌊 and finds that they agree. ", 8))

// answerTo is what the server answers to the question of that id: the same
// text whenever and wherever it is asked.
func answerTo(id string) string {
	h := hash(id)
	characters := tokenSize * (shortest + int(h%(longest-shortest+1)))
	head := "To " + id + ": "
	from := int(h>>32) % (len(prose) - characters)
	return head + string(prose[from:from+characters-utf8.RuneCountInString(head)])
}

// script is answerTo for the server.
func script(r *deepseektest.Request) deepseektest.Answer {
	id, _, _ := strings.Cut(r.LastUser(), "?")
	return deepseektest.Answer{Content: answerTo(id)}
}

// prompt is a text of so many tokens as the server counts those of prompts:
// four bytes each.
func prompt(tokens int) string {
	text := string(prose)
	text = strings.Repeat(text, 1+4*tokens/len(text))
	return strings.ToValidUTF8(text[:4*tokens], "")
}

// talk is what one caller says: conversation after conversation, or question
// after question.
type talk struct {
	load    *load
	caller  int
	asked   int
	history []message
}

// systemPrompts are made once for all callers.
func (l *load) systemPrompt() string { return "You keep the ledgers. " + prompt(l.system) }

// next is the caller's next question; said is the answer that it takes for
// that to its last one, empty if there was none.
func (t *talk) next(system, filler string, stream bool) *question {
	id := fmt.Sprintf("c%d-%d", t.caller, t.asked)
	t.asked++
	if t.load.turns == 0 || len(t.history) >= 1+2*t.load.turns {
		t.history = nil
	}
	if len(t.history) == 0 && t.load.turns > 0 {
		t.history = append(t.history, message{"system", system})
	}
	t.history = append(t.history, message{"user", id + "? " + filler})
	return &question{id: id, messages: t.history[:len(t.history):len(t.history)], stream: stream, answer: answerTo(id)}
}

// heard adds the answer to the conversation.
func (t *talk) heard(answer string) {
	if t.load.turns > 0 {
		t.history = append(t.history, message{"assistant", answer})
		return
	}
	t.history = nil
}

// missed takes a question back that was not answered; the conversation goes on
// with another.
func (t *talk) missed() { t.history = t.history[:len(t.history)-1] }

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return mix(h.Sum64())
}

// mix is the finalizer of splitmix64: FNV's high bits say too little of short
// texts.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
