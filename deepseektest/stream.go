package deepseektest

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"time"
)

// An encoder writes one answer in one of the formats. Its methods append whole
// events, or for whole the body of a response that is no stream.
type encoder interface {
	open(b []byte, u *Usage) []byte
	piece(b []byte, p *piece) []byte
	finish(b []byte, reason string, u *Usage, mode usageMode) []byte
	done(b []byte) []byte
	fail(b []byte, e *apiError) []byte
	whole(b []byte, out *Answer, reason string, u *Usage, mode usageMode) []byte
}

// turn is one answer about to be sent.
type turn struct {
	ask     *ask
	id      string
	created int64
	print   string // system_fingerprint
	full    Answer // with all its tool calls
	pieces  []piece
	lost    int // tokens after the pieces that nobody gets, and that count
	reason  string
}

func (t *turn) encoder() encoder {
	switch t.ask.format {
	case fimFormat:
		return newFIMEncoder(t)
	case responsesFormat:
		return newResponsesEncoder(t)
	case anthropicFormat:
		return newAnthropicEncoder(t)
	}
	return newChatEncoder(t)
}

// generate makes up the answer.
func (x *exchange) generate(p *plan, pace Pace) *turn {
	s, a := x.s, x.ask
	t := &turn{ask: a, id: uuid(s.id()), print: hex32(mix(s.cfg.seed), mix(s.cfg.seed+1)), created: time.Now().Unix()}
	t.full = x.draft(p)
	out := &t.full
	a.fit(out)
	if p.mute {
		out.Content, out.ToolCalls = "", nil
	}
	if p.blank {
		out.Content = strings.Repeat(" ", max(len(out.Content), 1))
	}
	out.ToolCalls = slices.Clone(out.ToolCalls)
	for i := range out.ToolCalls {
		if c := &out.ToolCalls[i]; c.ID == "" {
			c.ID = "call_0" + itoa(i%10) + "_" + hex32(s.id())[:24]
		}
	}
	t.pieces = pieces(out, pace.tokenSize())
	t.end(p)
	return t
}

// draft returns the answer as it would be without any bounds: the one planned, the
// one that a prefix is of, or the server's own.
func (x *exchange) draft(p *plan) Answer {
	s, a := x.s, x.ask
	if p.answer != nil {
		s.scripts.keep(a, *p.answer)
		return *p.answer
	}
	if a.prefix != nil {
		if told := s.scripts.find(a); told != nil { // by an earlier reply: this is to be the rest
			return *told
		}
	}
	if s.cfg.answer != nil {
		copied := *x.rec
		return s.cfg.answer(&copied)
	}
	return s.cfg.defaultAnswer(x.rec, a.force, a.asJSON)
}

// fit makes of a whole answer what was asked for.
func (a *ask) fit(out *Answer) {
	if !a.thinking {
		out.Reasoning = ""
	}
	if a.prefix != nil {
		out.continueFrom(a.prefix)
	}
	for _, stop := range a.stop { // in what is written now, not in the prefix
		if i := strings.Index(out.Content, stop); i >= 0 && stop != "" {
			out.Content = out.Content[:i]
		}
	}
	if a.echo {
		out.Content = a.messages[0].Content + out.Content
	}
}

// end finds out where the answer ends, and why.
func (t *turn) end(p *plan) {
	t.reason = t.full.FinishReason
	if t.reason == "" {
		t.reason = "stop"
		if len(t.full.ToolCalls) > 0 {
			t.reason = "tool_calls"
		}
	}
	if most := t.ask.maxTokens; len(t.pieces) > most {
		t.pieces, t.reason = t.pieces[:most], "length"
		// A tool call cut by the budget is lost altogether.
		for i := range t.pieces {
			if t.pieces[i].kind >= toolPiece {
				t.pieces, t.lost = t.pieces[:i], len(t.pieces)-i
				break
			}
		}
	}
	if p.limited {
		keep := min(p.cutoff, len(t.pieces))
		t.pieces, t.lost = t.pieces[:keep], min(p.cutoff-keep, t.lost)
	}
	if p.finish != "" {
		t.reason = p.finish
	}
}

// play answers a request as planned.
func (x *exchange) play(p *plan) {
	pace := x.s.pace(x.acc)
	if p.pace != nil {
		pace = *p.pace
	}
	if pace.Jitter != 0 {
		pace = pace.spread(x.s.random())
	}
	x.framing = x.s.cfg.framing
	if p.framing != nil {
		x.framing = *p.framing
	}
	if !x.wait(pace.Headers) {
		return
	}
	if x.ask.stream {
		x.playStream(p, pace)
	} else {
		x.playWhole(p, pace)
	}
}

var (
	comment   = []byte(": keep-alive\n\n")
	blankLine = []byte("\n")
)

// begin looks the prompt up in the cache: inference starts.
func (x *exchange) begin() partition {
	part := partition{x.acc.Name, x.ask.model.ID, x.ask.user}
	hit := x.s.cache.lookup(part, x.ask.text)
	n := promptTokens(x.ask.text)
	x.usage.Prompt, x.usage.CacheHit, x.usage.CacheMiss = n, hit, n-hit
	return part
}

func (x *exchange) count(list []piece) {
	for i := range list {
		x.usage.Completion++
		if list[i].kind == reasoningPiece {
			x.usage.Reasoning++
		}
	}
}

// remember keeps the finished output as a unit of the cache.
func (x *exchange) remember(part partition, t *turn) {
	if x.s.cache.off {
		return
	}
	out := t.full
	if n := len(t.pieces); n > 0 {
		out = join(t.pieces, &t.full)
	}
	x.s.cache.store(part, x.ask.withAnswer(x.ask.text, &out))
}

func (x *exchange) playStream(p *plan, pace Pace) {
	x.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	x.w.Header().Set("Cache-Control", "no-cache")
	x.status(http.StatusOK)
	if p.queued || pace.Queue > 0 || pace.FirstToken > 0 || p.fault.kind != faultNone && p.fault.after <= 0 {
		x.flush()
	}
	if !x.enqueued(p, pace, comment) {
		return
	}
	part := x.begin()
	if !x.wait(pace.FirstToken) {
		return
	}
	t := x.generate(p, pace)
	enc := t.encoder()
	f := p.fault.locate(t)
	first := p.fault.after <= 0 && f.at == atBoundary
	if first && f.kind != faultNone && !x.fault(f, enc, nil) {
		return
	}
	if first {
		f = fault{} // it is over
	}
	if x.buf = enc.open(x.buf[:0], &x.usage); len(x.buf) > 0 {
		x.write(x.buf)
	}
	if !x.playPieces(p, pace, t, enc, f) {
		return
	}
	x.remember(part, t)
	x.release()
	if p.ending != endNoFinish {
		x.buf = enc.finish(x.buf[:0], t.reason, &x.usage, p.usage)
		x.write(x.buf)
	}
	if p.ending != endNoDone {
		if x.buf = enc.done(x.buf[:0]); len(x.buf) > 0 {
			x.write(x.buf)
		}
	}
	if p.ending == endOpen {
		x.hold()
	}
}

// playPieces sends an answer's tokens, and reports whether its end is to follow.
func (x *exchange) playPieces(p *plan, pace Pace, t *turn, enc encoder, f fault) bool {
	for i := range t.pieces {
		if i > 0 && !x.wait(pace.Token) {
			return false
		}
		piece := &t.pieces[i]
		if f.kind != faultNone && f.after == i && !x.fault(f, enc, func() []byte { return enc.piece(nil, piece) }) {
			return false
		}
		x.count(t.pieces[i : i+1])
		if x.buf = enc.piece(x.buf[:0], piece); len(x.buf) > 0 {
			x.write(x.buf)
		}
	}
	if t.lost > 0 && !x.wait(time.Duration(t.lost)*pace.Token) {
		return false
	}
	x.usage.Completion += t.lost
	return f.kind == faultNone || f.after != len(t.pieces) ||
		x.fault(f, enc, func() []byte { return enc.finish(nil, t.reason, &x.usage, p.usage) })
}

// enqueued waits in the queue, sending the keep-alive at each interval.
func (x *exchange) enqueued(p *plan, pace Pace, keepAlive []byte) bool {
	if p.queued {
		for range p.queue {
			if !x.wait(p.every) {
				return false
			}
			x.write(keepAlive)
		}
		return true
	}
	return x.waitAlive(pace.Queue, pace.keepAlive(), keepAlive)
}

func (x *exchange) waitAlive(d, every time.Duration, keepAlive []byte) bool {
	for d > 0 {
		step := min(d, every)
		if !x.wait(step) {
			return false
		}
		if d -= step; d > 0 {
			x.write(keepAlive)
		}
	}
	return true
}

// locate fixes a fault that is to come inside of a character or of arguments to
// a token.
func (f fault) locate(t *turn) fault {
	switch f.at {
	case atRune:
		for i := max(f.after, 0); i < len(t.pieces); i++ {
			if !ascii(t.pieces[i].text) {
				f.after = i
				return f
			}
		}
	case atArguments:
		first, last := -1, -1
		for i := range t.pieces {
			if t.pieces[i].kind == argumentsPiece && t.pieces[i].tool == 0 {
				if first < 0 {
					first = i
				}
				last = i
			}
		}
		f.at, f.after = atEvent, len(t.pieces)
		if first >= 0 {
			f.after = first + (last-first+1)/2
		}
		return f
	}
	f.after = max(0, min(f.after, len(t.pieces)))
	return f
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// fault breaks the stream; next encodes the event that would have come next, and
// is called only if a part of it is sent: encoders know what they have written.
// It reports whether the answer goes on.
func (x *exchange) fault(f fault, enc encoder, next func() []byte) bool {
	switch f.at {
	case atEvent:
		event := next()
		x.write(event[:len(event)/2])
	case atRune:
		event := next()
		n := bytes.IndexFunc(event, func(r rune) bool { return r >= 0x80 })
		if n < 0 {
			n = len(event)/2 - 1
		}
		x.write(event[:n+1])
	}
	switch f.kind {
	case faultPause:
		return x.wait(f.every)
	case faultError:
		e := errBusy()
		e.message = f.text
		x.cut()
		x.release()
		x.write(enc.fail(nil, e))
		return false
	case faultJunk:
		x.cut()
		x.release()
		x.write([]byte(f.text))
		return false
	}
	x.collapse(f, comment)
	return false
}

// collapse ends a response that has begun, in one of the ways that send nothing
// more of it.
func (x *exchange) collapse(f fault, keepAlive []byte) {
	x.cut()
	switch f.kind {
	case faultEOF:
		x.release()
	case faultDrop, faultReset:
		x.flush()
		x.release()
		x.abort(f.kind == faultReset)
	case faultStall:
		x.flush()
		x.hold()
	case faultPulse:
		every := f.every
		if every <= 0 {
			every = 10 * time.Second
		}
		x.flush()
		for x.wait(every) {
			x.write(keepAlive)
		}
	}
}

// playWhole answers without a stream.
func (x *exchange) playWhole(p *plan, pace Pace) {
	x.w.Header().Set("Content-Type", jsonType)
	// Headers go out with the first blank line, or with the answer.
	if !x.enqueued(p, pace, blankLine) {
		return
	}
	part := x.begin()
	t := x.generate(p, pace)
	work := pace.FirstToken + time.Duration(len(t.pieces)+t.lost)*pace.Token
	if !x.waitAlive(work, pace.keepAlive(), blankLine) {
		return
	}
	f := p.fault
	if f.kind == faultPause {
		if !x.wait(f.every) {
			return
		}
		f = fault{}
	}
	enc := t.encoder()
	if f.kind == faultNone {
		x.count(t.pieces)
		x.usage.Completion += t.lost
	} else {
		x.count(t.pieces[:max(0, min(f.after, len(t.pieces)))])
	}
	out := join(t.pieces, &t.full)
	body := enc.whole(nil, &out, t.reason, &x.usage, p.usage)
	if f.kind == faultNone {
		x.remember(part, t)
		x.release()
		x.sendStatus()
		_, _ = x.w.Write(body)
		return
	}

	if f.kind == faultError {
		e := errBusy()
		e.message = f.text
		x.cut()
		x.release()
		x.sendStatus()
		_, _ = x.w.Write(appendError(nil, e, x.anthropic))
		return
	}
	x.sendStatus()
	_, _ = x.w.Write(f.head(body))
	if f.kind == faultJunk {
		x.cut()
		x.release()
		_, _ = x.w.Write([]byte(f.text))
		return
	}
	x.collapse(f, blankLine)
}

// head is what of a whole body comes before the fault.
func (f fault) head(body []byte) []byte {
	switch {
	case f.after <= 0 && f.at == atBoundary:
		return nil
	case f.at == atRune:
		if n := bytes.IndexFunc(body, func(r rune) bool { return r >= 0x80 }); n >= 0 {
			return body[:n+1]
		}
	}
	return body[:len(body)/2]
}

// sendStatus sends the 200 unless a blank line has done so already.
func (x *exchange) sendStatus() {
	if !x.written {
		x.written = true
		x.status(http.StatusOK)
	}
}

// write sends a part of a response at once, framed if it is a stream.
func (x *exchange) write(b []byte) {
	if !x.ask.stream {
		x.sendStatus()
		_, _ = x.w.Write(b)
		x.flush()
		return
	}
	if x.framing != (Framing{}) {
		b = x.framing.apply(b, !x.written)
	}
	x.written = true
	if n := x.framing.Fragment; n > 0 {
		for len(b) > n {
			_, _ = x.w.Write(b[:n])
			x.flush()
			b = b[n:]
		}
	}
	_, _ = x.w.Write(b)
	x.flush()
}

// apply rewrites events.
func (f Framing) apply(b []byte, first bool) []byte {
	if f.SplitData {
		for _, start := range []string{`data: {"id"`, `data: {"type"`} {
			var out []byte
			for rest := b; ; {
				i := bytes.Index(rest, []byte(start))
				if i < 0 {
					b = append(out, rest...)
					break
				}
				line, _, _ := bytes.Cut(rest[i:], []byte("\n"))
				comma := bytes.IndexByte(line, ',')
				if comma < 0 { // one member only, as in message_stop
					out = append(out, rest[:i+len(line)]...)
					rest = rest[i+len(line):]
					continue
				}
				out = append(out, rest[:i+comma+1]...)
				out = append(out, "\ndata: "...)
				rest = rest[i+comma+1:]
			}
		}
	}
	if f.LineEnd != "" && f.LineEnd != "\n" {
		b = bytes.ReplaceAll(b, []byte("\n"), []byte(f.LineEnd))
	}
	if f.BOM && first {
		b = append([]byte("\ufeff"), b...)
	}
	return b
}
