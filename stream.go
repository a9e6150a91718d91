package deepseek

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/seawall-go/deepseek/internal/sse"
)

// ChatStream is an answer that is being written.
//
//	for chunk, err := range stream.Chunks() {
//		if err != nil {
//			return err
//		}
//		fmt.Print(chunk.Text())
//	}
//	answer := stream.Response()
//
// One goroutine may range over it; Response and Close may be called from any
// other at the same time.
type ChatStream struct {
	events *eventStream

	mu     sync.Mutex
	joined joined // guarded by mu
}

// Chunks returns the pieces of the answer as they come. It may be ranged over
// once; a second time it yields an error only. Leaving the loop closes the
// stream.
//
// The last thing yielded is an error unless the answer is whole. It is a
// [*TruncatedError] with what had arrived, for a stream that broke, stalled,
// ended early, or was ended by an error of the server, which errors.As finds as
// an [*APIError]; an [*APIError] if that came first of all; and a [*CallError]
// if the call's context ended.
func (s *ChatStream) Chunks() iter.Seq2[*ChatChunk, error] {
	return func(yield func(*ChatChunk, error) bool) {
		if s.events.ranged.Swap(true) {
			yield(nil, errRanged)
			return
		}
		defer s.Close()
		last := &ChatChunk{}
		for {
			chunk, done, err := s.next(last)
			if err != nil || done {
				if err := s.final(err, done); err != nil {
					yield(nil, err)
				}
				return
			}
			s.mu.Lock()
			s.joined.add(chunk)
			s.mu.Unlock()
			if !yield(chunk, nil) {
				return
			}
			last = chunk
		}
	}
}

// next returns the next chunk; done is for [DONE].
func (s *ChatStream) next(last *ChatChunk) (chunk *ChatChunk, done bool, err error) {
	data, whole, err := s.events.next()
	switch {
	case err != nil:
		return nil, false, err
	case whole:
		chunk, err = s.asChunk(data)
		return chunk, false, err
	case string(data) == sse.Done:
		return nil, true, nil
	}
	chunk, err = decodeChunk(data, last)
	if err != nil {
		return nil, false, s.events.notJSON(err)
	}
	if len(chunk.Extra) > 0 {
		if err := s.events.errorEvent(data, chunk.Extra); err != nil {
			return nil, false, err
		}
	}
	return chunk, false, nil
}

// asChunk makes one chunk of an answer that was not streamed.
func (s *ChatStream) asChunk(data []byte) (*ChatChunk, error) {
	var r ChatResponse
	if err := decodeAnswer(s.events.resp, data, r.decode); err != nil {
		return nil, err
	}
	c := &ChatChunk{ID: r.ID, Object: r.Object, Created: r.Created, Model: r.Model,
		SystemFingerprint: r.SystemFingerprint, Usage: r.Usage, Extra: r.Extra}
	for i := range r.Choices {
		from := &r.Choices[i]
		m := &from.Message
		c.Choices = append(c.Choices, ChunkChoice{Index: from.Index, FinishReason: from.FinishReason,
			Logprobs: from.Logprobs, Extra: from.Extra, Delta: Delta{Role: m.Role, Content: m.Content, ToolCalls: m.ToolCalls,
				ReasoningContent: m.ReasoningContent, Extra: m.Extra, content: m.content, reasoning: m.reasoning}})
	}
	return c, nil
}

func (s *ChatStream) final(err error, done bool) error {
	how := streamEnd{err: err, done: done, arrived: s.Response()}
	for _, c := range how.arrived.Choices {
		how.choice(c.FinishReason)
	}
	how.any = how.arrived.ID != "" || len(how.arrived.Choices) > 0
	return s.events.final(how)
}

// Response returns all that has come so far as one response: texts and
// arguments joined, choices and calls in the order of their Index, usage if it was
// told. Before the end its FinishReason is
// empty, and arguments may be half. It costs no copy of the texts.
func (s *ChatStream) Response() *ChatResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.joined.response()
	r.Header, r.Attempts = s.events.resp.Header, s.events.call.trail()
	return r
}

// Close ends the stream and gives its place back. It may be called more than
// once, and during a loop over Chunks, which then yields an error. After a loop
// that ran to its end, or was left, it need not be called.
func (s *ChatStream) Close() error { return s.events.close() }

// joined is the answer that chunks add up to.
type joined struct {
	head    ChatResponse
	choices []*joinedChoice
}

type joinedChoice struct {
	Choice
	content, reasoning strings.Builder
	calls              []*joinedCall
}

type joinedCall struct {
	ToolCall
	arguments strings.Builder
}

func (j *joined) add(c *ChatChunk) {
	h := &j.head
	if h.ID == "" {
		h.ID, h.Created = c.ID, c.Created
	}
	h.Model = cmp.Or(h.Model, c.Model)
	h.SystemFingerprint = cmp.Or(h.SystemFingerprint, c.SystemFingerprint)
	if c.Usage != nil {
		h.Usage = c.Usage
	}
	h.Extra.merge(c.Extra)
	for i := range c.Choices {
		j.choice(c.Choices[i].Index).add(&c.Choices[i])
	}
}

func (j *joined) choice(index int) *joinedChoice {
	for _, c := range j.choices {
		if c.Index == index {
			return c
		}
	}
	c := &joinedChoice{Choice: Choice{Index: index, Message: Message{Role: RoleAssistant}}}
	j.choices = append(j.choices, c)
	return c
}

func (c *joinedChoice) add(from *ChunkChoice) {
	d, m := &from.Delta, &c.Message
	if d.Role != "" {
		m.Role = d.Role
	}
	c.content.WriteString(d.Content)
	c.reasoning.WriteString(d.ReasoningContent)
	m.content = max(m.content, d.content)
	m.reasoning = max(m.reasoning, d.reasoning)
	m.Extra.merge(d.Extra)
	for i := range d.ToolCalls {
		c.call(&d.ToolCalls[i]).add(&d.ToolCalls[i])
	}
	if from.FinishReason != "" {
		c.FinishReason = from.FinishReason
	}
	if from.Logprobs != nil {
		if c.Logprobs == nil {
			c.Logprobs = new(Logprobs)
		}
		c.Logprobs.add(from.Logprobs)
	}
	c.Extra.merge(from.Extra)
}

// call returns the call that a fragment belongs to: the one of its index or,
// from hosts that send none, a new one for every new id.
func (c *joinedChoice) call(from *ToolCall) *joinedCall {
	index := from.Index
	if !from.indexed {
		last := len(c.calls) - 1
		if last >= 0 && (from.ID == "" || from.ID == c.calls[last].ID) {
			return c.calls[last]
		}
		index = last + 1
	}
	for i := len(c.calls) - 1; i >= 0; i-- {
		if c.calls[i].Index == index {
			return c.calls[i]
		}
	}
	call := &joinedCall{ToolCall: ToolCall{Index: index, indexed: from.indexed}}
	c.calls = append(c.calls, call)
	return call
}

func (c *joinedCall) add(from *ToolCall) {
	c.ID = cmp.Or(c.ID, from.ID)
	c.Type = cmp.Or(c.Type, from.Type)
	c.Function.Name = cmp.Or(c.Function.Name, from.Function.Name)
	c.arguments.WriteString(from.Function.Arguments)
	c.Extra.merge(from.Extra)
	c.Function.Extra.merge(from.Function.Extra)
}

// response is what was added so far. Strings share memory with the builders,
// which only ever append.
func (j *joined) response() *ChatResponse {
	r := j.head
	r.Object = "chat.completion"
	r.Extra = maps.Clone(r.Extra)
	r.Choices = make([]Choice, len(j.choices))
	for i, c := range j.choices {
		to := &r.Choices[i]
		*to = c.Choice
		to.Extra, to.Message.Extra = maps.Clone(c.Extra), maps.Clone(c.Message.Extra)
		to.Message.Content, to.Message.ReasoningContent = c.content.String(), c.reasoning.String()
		if c.Logprobs != nil {
			l := *c.Logprobs
			l.Extra = maps.Clone(l.Extra)
			to.Logprobs = &l
		}
		for _, call := range c.calls {
			t := call.ToolCall
			t.Extra, t.Function.Extra = maps.Clone(call.Extra), maps.Clone(call.Function.Extra)
			t.Function.Arguments = call.arguments.String()
			to.Message.ToolCalls = append(to.Message.ToolCalls, t)
		}
		slices.SortStableFunc(to.Message.ToolCalls, func(a, b ToolCall) int { return cmp.Compare(a.Index, b.Index) })
	}
	slices.SortStableFunc(r.Choices, func(a, b Choice) int { return cmp.Compare(a.Index, b.Index) })
	return &r
}
