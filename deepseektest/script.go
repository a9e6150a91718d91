package deepseektest

import (
	"hash/fnv"
	"strings"
	"sync"
)

// maxScripts is how many scripted answers are remembered, of all conversations.
const maxScripts = 1000

// scripts remembers the answers that replies gave, so that one that was cut can
// be continued: as the default answers can, which are made from the messages
// anew each time.
type scripts struct {
	mu   sync.Mutex
	list []script // the last maxScripts, as a ring
	next int
}

type script struct {
	messages uint64
	answer   Answer
}

// keep remembers what was answered to a request.
func (s *scripts) keep(a *ask, answer Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := script{hashMessages(a.messages), answer}
	if len(s.list) < maxScripts {
		s.list = append(s.list, told)
		return
	}
	s.list[s.next] = told
	s.next = (s.next + 1) % maxScripts
}

// find returns the last answer to these messages that begins with the prefix.
func (s *scripts) find(a *ask) *Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages := hashMessages(a.messages)
	for i := range s.list {
		told := &s.list[(s.next+len(s.list)-1-i)%len(s.list)]
		if told.messages == messages && told.answer.begins(a.prefix) {
			answer := told.answer
			return &answer
		}
	}
	return nil
}

func hashMessages(list []Message) uint64 {
	h := fnv.New64a()
	for i := range list {
		for _, s := range []string{list[i].Role, list[i].Content, list[i].ToolCallID} {
			_, _ = h.Write([]byte(s))
			_, _ = h.Write([]byte{0})
		}
	}
	return h.Sum64()
}

// begins reports whether a begins with the prefix.
func (a *Answer) begins(prefix *Message) bool {
	if prefix.Content == "" {
		return strings.HasPrefix(a.Reasoning, prefix.ReasoningContent)
	}
	return strings.HasPrefix(a.Content, prefix.Content)
}
