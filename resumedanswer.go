package deepseek

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
)

// whole is the layer for an answer that is no stream. One that the server broke
// off is continued in place of being asked for, and paid for, once more; where
// that cannot be, it is.
func (r *resumer) whole(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	c.wantsHalf = true
	asked := c.model
	resp, err := c.pass(next, req)
	if err != nil || resp.StatusCode != http.StatusOK || !r.looksHalf(resp.Body) {
		return resp, err
	}
	a, err := answerOf(resp)
	if err != nil {
		return resp, nil
	}
	v, cause := r.ending(a.finish)
	if cause == nil {
		return resp, nil
	}
	k := r.continuation(next, c, req, asked)
	k.add(a)
	return k.complete(resp, a, cause, v)
}

var markLength = []byte(string(FinishLength) + `"`)

// looksHalf spares most answers a careful look.
func (r *resumer) looksHalf(body io.Reader) bool {
	b, ok := body.(*memBody)
	return ok && (b.soFar().outcome == fault || r.policy.Length && bytes.Contains(b.data, markLength))
}

// complete makes one answer of first, which is what resp holds and which ended
// because of cause, and of what continues it.
func (k *continuation) complete(resp *http.Response, first *answerObject, cause error, v verdict) (*http.Response, error) {
	last := first
	for cause != nil && (cause != errLength || k.mayBeLonger()) {
		anew := !k.begun
		a, more, err := k.further(cause, v)
		switch {
		case err == nil && anew:
			resp, first, last = more, a, a
		case err == nil:
			last = a
		case isContextError(err):
			return nil, &interrupted{err: err, last: cause}
		case anew, cause == errLength:
			return k.stitch(resp, first, last), nil
		default: // it cannot go on, but nobody has seen it yet
			resp = k.stitch(resp, first, last)
			first = last
			k.forget()
			continue
		}
		v, cause = k.by.ending(a.finish)
	}
	if cause == nil {
		k.completed()
	}
	return k.stitch(resp, first, last), nil
}

// further gets the next part of the answer.
func (k *continuation) further(cause error, v verdict) (*answerObject, *http.Response, error) {
	var listener echo
	if k.begun && k.refusal() == nil {
		listener.listenFor(k.prefix(), len(k.content) > 0)
	}
	resp, err := k.send(k.call, cause, v)
	if err != nil {
		return nil, nil, err
	}
	a, err := answerOf(resp)
	if err != nil {
		discard(resp)
		return nil, nil, k.unsend(cause, err)
	}
	begun, content, reasoning := k.begun, len(k.content), len(k.reasoning)
	k.add(a)
	if begun && listener.hear(k.content[content:], k.reasoning[reasoning:]) == anew {
		k.content, k.reasoning = k.content[:content], k.reasoning[:reasoning]
		return nil, nil, k.unsend(cause, errAnew)
	}
	k.goesOn()
	return a, resp, nil
}

// add takes in an answer, or a further part of one.
func (k *continuation) add(a *answerObject) {
	if a.usage != nil {
		k.now.told = append(k.now.told[:0], a.usage...)
	}
	k.thinks = k.thinks || a.reasoning != nil
	if !isVoid(a.content) || !isVoid(a.reasoning) {
		k.text(a.content, a.reasoning)
	}
	switch {
	case a.tools != nil:
		k.spoil("a tool call has begun")
	case a.no != "":
		k.spoil(a.no)
	}
}

// forget has the answer begin anew.
func (k *continuation) forget() {
	k.content, k.reasoning, k.begun, k.no = nil, nil, false, nil
	k.parts, k.now = nil, part{}
}

// stitch puts what came after first into resp, which holds first; last is the
// last part.
func (k *continuation) stitch(resp *http.Response, first, last *answerObject) *http.Response {
	if first == last {
		return resp
	}
	var e edits
	set := func(name string, at span, value []byte, end int) {
		if at == (span{}) {
			e.replace(end, end, append([]byte(`,"`+name+`":`), value...))
			return
		}
		e.replace(at.from, at.to, value)
	}
	if len(k.content) > 0 {
		set("content", first.contentAt, quoted(k.content), first.messageEnd)
	}
	if len(k.reasoning) > 0 {
		set("reasoning_content", first.reasoningAt, quoted(k.reasoning), first.messageEnd)
	}
	if last.tools != nil {
		set("tool_calls", first.toolsAt, last.tools, first.messageEnd)
	}
	e.replace(first.finishAt.from, first.finishAt.to, last.finish)
	if last.usage != nil {
		set("usage", first.usageAt, k.total(last.usage), first.end)
	} else if first.usage != nil { // which is of a part only
		set("usage", first.usageAt, rawNull, first.end)
	}
	data := e.apply(make([]byte, 0, len(first.data)+len(last.data)), first.data)
	v, _ := k.by.ending(last.finish)
	resp.Body = newMemBody(data, v)
	if resp.ContentLength >= 0 {
		resp.ContentLength = int64(len(data))
	}
	if resp.Header.Get("Content-Length") != "" {
		resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
	}
	return resp
}
