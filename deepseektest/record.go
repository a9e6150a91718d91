package deepseektest

import (
	"net/http"
	"time"
)

// A Request is one request that a Server has seen, and what became of it.
type Request struct {
	// Seq numbers the requests from 1 in order of arrival.
	Seq int
	// Time is when it arrived.
	Time time.Time
	// Done is when the last byte of the response was about to be sent, or
	// the request was given up. It is zero while the request is in flight.
	Done time.Time

	Method string // such as "POST"
	Path   string // of the URL
	// Header is without the key.
	Header http.Header
	// Key is the API key, from Authorization or x-api-key.
	Key string
	// Account is the name of the account, empty if the key is invalid.
	Account string
	// Body is the request body as received. It must not be modified.
	Body []byte

	// Model is the id of the model after aliases, or what was asked for if
	// there is no such model.
	Model string
	// Stream says that an event stream was asked for.
	Stream bool
	// Thinking says that the answer starts with reasoning.
	Thinking bool
	// UserID is the user_id.
	UserID string
	// Messages are the messages of a chat, without a last one that is a
	// prefix to be continued; for FIM the prompt as one user message.
	Messages []Message
	// Prefix is the prefix to be continued, nil if there is none.
	Prefix *Message
	// Tools are the names of the tools on offer.
	Tools []string

	// InFlight is how many requests of the account and model were in flight
	// when it was admitted, this one included. It is zero if it was refused,
	// by the Server or with a status from 400 to 499 by a Reply.
	InFlight int
	// Status is the status sent, zero as long as there is none.
	Status int
	// Usage is what the answer used, as far as it was produced.
	Usage Usage
	// Cut says that the Server broke the response off on purpose.
	Cut bool
	// Left says that the client went away before the end of the answer.
	Left bool
}

// A Message is a message of a conversation, in whichever of the formats it
// came. Content holds the text parts only.
type Message struct {
	Role             string     // such as "user"
	Content          string     // its text; of parts, those that are text
	ReasoningContent string     // of an assistant message
	ToolCalls        []ToolCall // of an assistant message
	ToolCallID       string     // of a tool message

	reasoned bool // the key reasoning_content was there
	thinks   bool // the reasoning is part of the prompt
}

// LastUser returns the text of the last user message, or "".
func (r *Request) LastUser() string {
	for i := len(r.Messages) - 1; i >= 0; i-- {
		if r.Messages[i].Role == "user" {
			return r.Messages[i].Content
		}
	}
	return ""
}

// arrive starts the record of a request.
func (s *Server) arrive(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	r.Seq = s.seq
	if s.cfg.records {
		s.records = append(s.records, r)
	}
}

// update changes the record of a request.
func (s *Server) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Requests returns every request so far, in order of arrival, those in flight
// included. The records are copies; only header, body and messages are shared.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Request, len(s.records))
	for i, r := range s.records {
		list[i] = *r
	}
	return list
}

// Count returns how many responses had this status. Status 0 counts requests
// that were ended without one.
func (s *Server) Count(status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statuses[status]
}

// Reset forgets all records and counters. MaxInFlight starts again from what
// is in flight now. Accounts, balances, the context cache and replies that are
// still to come stay as they are.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = nil
	clear(s.statuses)
	for _, acc := range s.names {
		acc.spent = 0
		for _, g := range acc.models {
			g.max = g.now
		}
	}
}
