package deepseektest

import (
	"net/http"
	"slices"
	"time"
)

// A Reply says what a Server does with one request. The functions that return
// a Reply are in two groups:
//
//   - Replies that are no answer, such as Status, HTML or Hang. They are played
//     at once, before the request is validated or counted against a limit.
//   - Replies that change an answer, such as Queued, CutAfter or FinishReason.
//     They are played only if the Server accepts the request; a request that it
//     refuses (400, 402, 429) takes none.
//
// Replies are combined with And. The zero Reply is a normal answer. A Reply
// may be used any number of times and by several goroutines.
//
// Faults that come after n tokens never come after the end of the answer: if
// it is shorter, they replace its final chunk. With n = 0 they come before the
// first event, right after the headers. In a response that is no stream, n = 0
// means no byte of the body, and everything else the middle of it.
type Reply struct {
	steps []func(*plan)
}

func reply(step func(*plan)) Reply {
	return Reply{steps: []func(*plan){step}}
}

// And returns a Reply that does all of what r and others do. Where they
// contradict each other, the last one counts; there is one fault (a cut, reset,
// stall, error or pause) per answer.
func (r Reply) And(others ...Reply) Reply {
	all := slices.Clone(r.steps)
	for _, o := range others {
		all = append(all, o.steps...)
	}
	return Reply{steps: all}
}

func (r Reply) plan() *plan {
	p := new(plan)
	for _, step := range r.steps {
		step(p)
	}
	return p
}

// Repeat returns n times r, for Enqueue.
func Repeat(n int, r Reply) []Reply {
	list := make([]Reply, n)
	for i := range list {
		list[i] = r
	}
	return list
}

// Normal is the answer that a request gets without any script.
func Normal() Reply { return Reply{} }

// Delayed waits before anything else is done: before the status is sent.
func Delayed(d time.Duration) Reply {
	return reply(func(p *plan) { p.delay = d })
}

// WithHeader adds a header to the response, or replaces the one that it has.
func WithHeader(key, value string) Reply {
	return reply(func(p *plan) {
		if p.header == nil {
			p.header = make(http.Header)
		}
		p.header.Set(key, value)
	})
}

// WithRetryAfter adds a Retry-After header with any value, sensible or not. It
// is meant to be combined: ServiceUnavailable().And(WithRetryAfter("2")).
func WithRetryAfter(value string) Reply { return WithHeader("Retry-After", value) }

// checkStatus panics if a response cannot have this status. Those below 200 do not
// end one, and net/http takes none of more than three digits.
func checkStatus(code int) {
	if code < 200 || code > 999 {
		panic("deepseektest: a response has a status from 200 to 999, not " + itoa(code))
	}
}

// Status answers with an error of this status, 200 to 999, and its usual body. For
// any other it panics.
func Status(code int) Reply {
	checkStatus(code)
	return reply(func(p *plan) { p.status = code })
}

// Unauthorized is the 401 for an invalid key.
func Unauthorized() Reply { return Status(http.StatusUnauthorized) }

// InsufficientBalance is the 402 of an empty account.
func InsufficientBalance() Reply { return Status(http.StatusPaymentRequired) }

// ServiceUnavailable is the 503 of an overloaded server.
func ServiceUnavailable() Reply { return Status(http.StatusServiceUnavailable) }

// RateLimited is the 429 that names the limit and blames the balance.
func RateLimited(limit int) Reply {
	return reply(func(p *plan) { p.failure = errConcurrencyOf(limit+1, limit) })
}

// RateLimitedPlain is a 429 without numbers.
func RateLimitedPlain() Reply { return Status(http.StatusTooManyRequests) }

// ContentRisk is the 400 of the content filter.
func ContentRisk() Reply {
	return reply(func(p *plan) { p.failure = errInvalid("Content Exists Risk") })
}

// APIError answers with an error of DeepSeek's form and this message. It panics as
// Status does.
func APIError(code int, message string) Reply {
	checkStatus(code)
	return reply(func(p *plan) {
		e := errStatus(code, "")
		e.message = message
		p.failure = e
	})
}

// Body answers with any status, content type and body. It panics as Status does.
func Body(code int, contentType, body string) Reply {
	checkStatus(code)
	return reply(func(p *plan) {
		p.status = code
		p.raw = &rawBody{contentType, body}
	})
}

// EmptyBody answers with a status and nothing else.
func EmptyBody(code int) Reply { return Body(code, "", "") }

// EmptyBody200 is a 200 without a body.
func EmptyBody200() Reply { return EmptyBody(http.StatusOK) }

// HTML answers with the error page of a gateway.
func HTML(code int) Reply {
	text := itoa(code) + " " + http.StatusText(code)
	return Body(code, "text/html", "<html>\r\n<head><title>"+text+"</title></head>\r\n<body>\r\n<center><h1>"+
		text+"</h1></center>\r\n<hr><center>openresty</center>\r\n</body>\r\n</html>\r\n")
}

// HTML200 is a page of a proxy that calls itself a success.
func HTML200() Reply { return HTML(http.StatusOK) }

// ErrorObject200 is a 200 whose JSON body is an error object.
func ErrorObject200(message string) Reply {
	return reply(func(p *plan) {
		e := errBusy()
		e.message = message
		p.status = http.StatusOK
		p.raw = &rawBody{jsonType, string(appendError(nil, e, false))}
	})
}

// Hang accepts the request and never answers, not even with headers. It ends
// when the client leaves or the Server is closed.
func Hang() Reply {
	return reply(func(p *plan) { p.hang = true })
}

// CloseBeforeHeaders closes the connection instead of answering.
func CloseBeforeHeaders() Reply {
	return reply(func(p *plan) { p.close = true })
}

// ResetBeforeHeaders resets the connection instead of answering.
func ResetBeforeHeaders() Reply {
	return reply(func(p *plan) { p.reset = true })
}

// Say answers with this content, without reasoning.
func Say(content string) Reply { return Give(Answer{Content: content}) }

// Give answers with a. Should the answer be cut, a request with the same
// messages and a prefix of it gets the rest.
func Give(a Answer) Reply {
	return reply(func(p *plan) { p.answer = &a })
}

// FinishReason gives the whole answer but ends it with this finish_reason:
// insufficient_system_resource, aborted, content_filter, or one that nobody
// has heard of.
func FinishReason(reason string) Reply {
	return reply(func(p *plan) { p.finish, p.limited = reason, false })
}

// FinishAfter ends the answer with this finish_reason after n tokens. With
// n = 0 the answer is empty. A negative n panics.
func FinishAfter(n int, reason string) Reply {
	if n < 0 {
		panic("deepseektest: FinishAfter wants 0 or more tokens, not " + itoa(n))
	}
	return reply(func(p *plan) { p.finish, p.cutoff, p.limited = reason, n, true })
}

// LengthEmpty gives the reasoning but no content, ended by "length": thinking
// took the whole budget.
func LengthEmpty() Reply {
	return reply(func(p *plan) { p.finish, p.mute = "length", true })
}

// BlankJSON replaces the content by spaces, with finish_reason "stop", as JSON
// mode does with output that is no JSON.
func BlankJSON() Reply {
	return reply(func(p *plan) { p.blank = true })
}

// NoUsage leaves the usage out.
func NoUsage() Reply {
	return reply(func(p *plan) { p.usage = usageNone })
}

// OpenAIUsageChunk sends the usage of a stream on an extra chunk with empty
// choices, after the one with the finish_reason.
func OpenAIUsageChunk() Reply {
	return reply(func(p *plan) { p.usage = usageSeparate })
}

// Paced gives this one answer a pace of its own.
func Paced(pace Pace) Reply {
	return reply(func(p *plan) { p.pace = &pace })
}

// Framed writes this one stream in another form.
func Framed(f Framing) Reply {
	return reply(func(p *plan) { p.framing = &f })
}

// Queued keeps the request waiting with n keep-alives (blank lines, if it is no
// stream), one at the end of each interval, and then answers. The headers of a
// stream are sent at once, others with the first blank line.
func Queued(n int, every time.Duration) Reply {
	return reply(func(p *plan) { p.queued, p.queue, p.every = true, n, every })
}

// QueueTimeout keeps the request waiting like Queued and then ends the
// response without any data. The real server does so after ten minutes.
func QueueTimeout(n int, every time.Duration) Reply {
	return Queued(n, every).And(CutAfter(0))
}

// CutAfter ends the response cleanly after n tokens: no finish_reason, no
// [DONE], and yet an EOF like any other.
func CutAfter(n int) Reply { return broken(faultEOF, atBoundary, n) }

// CutInsideEvent ends the response cleanly in the middle of the event that
// follows n tokens.
func CutInsideEvent(n int) Reply { return broken(faultEOF, atEvent, n) }

// TruncatedJSON ends the response cleanly in the middle of a JSON object.
func TruncatedJSON() Reply { return CutInsideEvent(1) }

// DropAfter closes the connection after n tokens. The client reads
// io.ErrUnexpectedEOF.
func DropAfter(n int) Reply { return broken(faultDrop, atBoundary, n) }

// ResetAfter resets the connection after n tokens. The client reads
// ECONNRESET.
func ResetAfter(n int) Reply { return broken(faultReset, atBoundary, n) }

// ResetInsideEvent resets the connection in the middle of the event that
// follows n tokens.
func ResetInsideEvent(n int) Reply { return broken(faultReset, atEvent, n) }

// ResetInsideRune resets the connection between two bytes of one character: the
// first one of several bytes that follows n tokens. If there is none, it is
// ResetInsideEvent.
func ResetInsideRune(n int) Reply { return broken(faultReset, atRune, n) }

// ResetInsideToolArguments resets the connection half way through the arguments
// of the first tool call. If there is none, it is ResetInsideEvent after the
// last token.
func ResetInsideToolArguments() Reply { return broken(faultReset, atArguments, 0) }

// CutInsideToolArguments is like ResetInsideToolArguments with a clean end.
func CutInsideToolArguments() Reply { return broken(faultEOF, atArguments, 0) }

// StallAfter falls silent after n tokens and keeps the connection open. It ends
// when the client leaves or the Server is closed; until then the request counts
// as in flight.
func StallAfter(n int) Reply { return broken(faultStall, atBoundary, n) }

// StallKeepAlive is like StallAfter, but keep-alives go on at this interval.
func StallKeepAlive(n int, every time.Duration) Reply {
	return reply(func(p *plan) { p.fault = fault{kind: faultPulse, after: n, every: every} })
}

// PauseAfter falls silent for a while after n tokens and then goes on.
func PauseAfter(n int, d time.Duration) Reply {
	return reply(func(p *plan) { p.fault = fault{kind: faultPause, after: n, every: d} })
}

// ErrorInStream sends an error object as an event after n tokens and ends the
// response. An answer that is no stream becomes a 200 with the error object.
func ErrorInStream(n int, message string) Reply {
	return reply(func(p *plan) { p.fault = fault{kind: faultError, after: n, text: message} })
}

// JunkAfter appends a text that is no event after n tokens and ends the
// response cleanly, as some proxies do.
func JunkAfter(n int, text string) Reply {
	return reply(func(p *plan) { p.fault = fault{kind: faultJunk, after: n, text: text} })
}

// NoDone ends a stream after the finish_reason, without [DONE].
func NoDone() Reply {
	return reply(func(p *plan) { p.ending = endNoDone })
}

// NoFinish ends a stream with [DONE], without a finish_reason.
func NoFinish() Reply {
	return reply(func(p *plan) { p.ending = endNoFinish })
}

// StallAfterDone keeps the connection open after [DONE], in silence, until the
// client leaves or the Server is closed. The request is no longer in flight.
func StallAfterDone() Reply {
	return reply(func(p *plan) { p.ending = endOpen })
}

func broken(kind faultKind, at faultPlace, after int) Reply {
	return reply(func(p *plan) { p.fault = fault{kind: kind, at: at, after: after} })
}

// Enqueue appends replies to the queue. The next requests that ask for an
// answer (chat, FIM, Responses, Anthropic messages) take them in order.
func (s *Server) Enqueue(replies ...Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, replies...)
}

// Handle sets a function that decides on each request with a valid key,
// whatever its path, unless the queue holds a reply for it. Returning nil
// leaves the request alone. The function is called by many goroutines at once,
// and may call the methods of the Server. If it panics, that is printed, and the
// connection is closed.
func (s *Server) Handle(f func(*Request) *Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = f
}

// Pending returns how many replies are still in the queue.
func (s *Server) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// take takes the first reply in the queue and the slot that it needs, both at once:
// no other request comes between and leaves this one without its reply. A request
// that is refused leaves the reply where it is. Both results are nil if the queue
// is empty.
func (s *Server) take(x *exchange) (*plan, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, nil
	}
	p := s.queue[0].plan()
	if err := x.admitLocked(p); err != nil {
		return nil, err
	}
	s.queue = s.queue[1:]
	return p, nil
}

// decide asks the handler and the timeline, nil if neither has a reply.
func (s *Server) decide(r *Request, answers bool) *plan {
	s.mu.Lock()
	handle := s.handle
	s.mu.Unlock()
	if handle != nil {
		copied := *r
		if re := handle(&copied); re != nil {
			return re.plan()
		}
	}
	if answers {
		if re := s.phaseReply(r); re != nil {
			return re.plan()
		}
	}
	return nil
}
