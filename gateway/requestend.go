package gateway

import (
	"cmp"
	"time"

	"github.com/seawall-go/deepseek"
)

// Outcome is what became of a client's request.
type Outcome string

// The outcomes of requests.
const (
	Answered Outcome = "answered"    // the client has its answer whole
	Refused  Outcome = "refused"     // by the gateway itself, before anything was sent
	Rejected Outcome = "rejected"    // by DeepSeek: a 4xx that the client got
	Left     Outcome = "client left" // before it had its answer
	Failed   Outcome = "failed"      // in whatever way
)

// RequestEnd is a client's request that is over. Nothing of prompts, answers or
// keys is in it.
type RequestEnd struct {
	ID       string                // as in logs and the X-Request-Id header
	Client   string                // empty where there are none
	Method   string                // such as "POST"
	Path     string                // of the URL
	Model    string                // that was asked for, by its own name
	Stream   bool                  // an event stream was asked for
	Status   int                   // that the client was sent, perhaps as a sign of life only; 0: nothing was
	Code     string                // of the refusal, such as "tokens_exceeded"
	Outcome  Outcome               // what became of it
	Err      error                 // why it failed
	Start    time.Time             // when it came
	Duration time.Duration         // until it was over
	Call     deepseek.CallEndEvent // zero if nothing was sent
}

// requestEnd is the exchange, now that it is over.
func (x *exchange) requestEnd(now time.Time) RequestEnd {
	e := RequestEnd{
		ID: x.id, Client: x.who, Method: x.r.Method, Path: x.r.URL.Path, Model: x.model, Stream: x.stream,
		Status: x.relay.status, Outcome: x.outcome(), Start: x.start, Duration: now.Sub(x.start), Call: x.call,
	}
	if x.problem != nil {
		e.Code = x.problem.code
	}
	if e.Outcome == Failed {
		e.Err = cmp.Or(x.call.Err, x.err)
	}
	return e
}

// status is what the exchange came to: the client may have been sent a 200, as a sign
// of life, before that was known.
func (x *exchange) status() int { return max(x.relay.status, x.relay.late, x.call.Status) }

// outcome is what became of the exchange.
func (x *exchange) outcome() Outcome {
	status := x.status()
	switch {
	case x.problem != nil:
		return Refused
	case x.err != nil && (x.gone() || x.relay.lost):
		return Left
	case x.err != nil || x.call.Err != nil || status >= 500:
		return Failed
	case status >= 400:
		return Rejected
	}
	return Answered
}
