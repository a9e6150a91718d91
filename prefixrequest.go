package deepseek

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// refusal is why an answer is not continued.
type refusal string

func (r refusal) Error() string { return "deepseek: " + string(r) }

// prefixRequest is a caller's chat request, read for where it must change to ask
// for the rest of its answer by chat prefix completion
// (https://api-docs.deepseek.com/guides/chat_prefix_completion).
type prefixRequest struct {
	data   []byte
	end    int          // where the messages' closing bracket is
	last   span         // the last message, if it is a prefix itself
	prefix prefixFields // of that message
	limits []tokenLimit
	stops  []string // texts that end the answer
	tools  bool
}

type span struct{ from, to int }

// prefixFields are a prefix message's texts and where they are in the request;
// a text that it does not have is put in before its closing brace.
type prefixFields struct {
	content, reasoning     []byte
	contentAt, reasoningAt span // zero if it has none
}

// tokenLimit is a member that bounds the answer's tokens.
type tokenLimit struct {
	at   span
	most int64
}

// readPrefixRequest reads a request, or says why no answer to it can be
// continued.
func readPrefixRequest(data []byte) (*prefixRequest, error) {
	p := &prefixRequest{data: data}
	seen := map[string]bool{}
	var no error
	m := jsonscan.Members(data)
	for m.Next() {
		if bytes.IndexByte(m.Key, '\\') >= 0 || seen[string(m.Key)] {
			return nil, refusal("the request's JSON is not in plain form: " + snippet(m.Key))
		}
		seen[string(m.Key)] = true
		if err := p.member(&m); err != nil && no == nil {
			no = err
		}
	}
	switch {
	case m.Err() != nil || len(bytes.TrimSpace(m.Rest())) > 0:
		return nil, refusal("the request is not JSON")
	case no != nil:
		return nil, no
	case p.end == 0:
		return nil, refusal("the request has no messages")
	}
	return p, nil
}

// member takes in a top-level member of the request.
func (p *prefixRequest) member(m *jsonscan.MemberIter) error {
	v := m.Value
	if jsonscan.IsNull(v) {
		return nil
	}
	switch string(m.Key) {
	case "messages":
		return p.readMessages(v, m.At)
	case "n":
		if n, ok := jsonscan.Int(v); !ok || n != 1 {
			return refusal("more than one answer was asked for")
		}
	case "logprobs", "top_logprobs":
		if string(v) != "false" && string(v) != "0" {
			return refusal("logprobs were asked for")
		}
	case "response_format":
		if kind, _ := jsonscan.Get(v, "type"); !jsonscan.Equal(kind, "text") {
			return refusal("a response_format was asked for")
		}
	case "tools", "functions":
		e := jsonscan.Elements(v)
		p.tools = p.tools || e.Next() || e.Err() != nil
	case "max_tokens", "max_completion_tokens":
		most, ok := jsonscan.Int(v)
		if !ok {
			return refusal(string(m.Key) + " is no number")
		}
		p.limits = append(p.limits, tokenLimit{span{m.At, m.At + len(v)}, most})
	case "stop":
		return p.readStops(v)
	}
	return nil
}

func (p *prefixRequest) readStops(v []byte) error {
	add := func(raw []byte) error {
		s, err := jsonscan.String(raw)
		if err != nil {
			return refusal("stop cannot be read")
		}
		p.stops = append(p.stops, s)
		return nil
	}
	if v[0] == '"' {
		return add(v)
	}
	e := jsonscan.Elements(v)
	for e.Next() {
		if err := add(e.Value); err != nil {
			return err
		}
	}
	if e.Err() != nil {
		return refusal("stop cannot be read")
	}
	return nil
}

// readMessages finds the end of the messages, and the prefix that they may end
// in. at is where v is in the request.
func (p *prefixRequest) readMessages(v []byte, at int) error {
	var last []byte
	e := jsonscan.Elements(v)
	for e.Next() {
		last, p.last = e.Value, span{at + e.Start, at + e.Start + len(e.Value)}
	}
	if e.Err() != nil || last == nil {
		return refusal("the request has no messages")
	}
	p.end = at + len(v) - 1
	prefix, _ := jsonscan.Get(last, "prefix")
	if role, _ := jsonscan.Get(last, "role"); !jsonscan.IsTrue(prefix) || !jsonscan.Equal(role, string(RoleAssistant)) {
		p.last = span{}
		return nil
	}
	for m := jsonscan.Members(last); m.Next(); {
		where := span{p.last.from + m.At, p.last.from + m.At + len(m.Value)}
		var err error
		switch string(m.Key) {
		case "content":
			p.prefix.contentAt = where
			p.prefix.content, err = readText(m.Value)
		case "reasoning_content":
			p.prefix.reasoningAt = where
			p.prefix.reasoning, err = readText(m.Value)
		case "tool_calls":
			if !jsonscan.IsNull(m.Value) {
				err = refusal("it has tool calls")
			}
		}
		if err != nil {
			return refusal("the request's own prefix cannot be extended")
		}
	}
	return nil
}

// readText is a text, which may be null.
func readText(v []byte) ([]byte, error) {
	if jsonscan.IsNull(v) {
		return nil, nil
	}
	return jsonscan.AppendString(nil, v)
}

// extends reports whether the request ends in a prefix itself.
func (p *prefixRequest) extends() bool { return p.last != span{} }

// straddles reports whether text ends in the beginning of a stop: the server,
// which looks for it in what it adds, might not see it whole.
func (p *prefixRequest) straddles(text []byte) bool {
	for _, stop := range p.stops {
		for n := min(len(stop)-1, len(text)); n > 0; n-- {
			if strings.HasPrefix(stop, string(text[len(text)-n:])) {
				return true
			}
		}
	}
	return false
}

// rest is the request for what comes after content and reasoning. used is how
// many tokens they are; thinks says that the answer has a reasoning_content,
// even if nothing is in it.
func (p *prefixRequest) rest(content, reasoning []byte, thinks bool, used int64) ([]byte, error) {
	var e edits
	for _, l := range p.limits {
		left := l.most - used
		if left < 1 {
			return nil, refusal(fmt.Sprintf("nothing is left of the %d tokens asked for", l.most))
		}
		e.replace(l.at.from, l.at.to, strconv.AppendInt(nil, left, 10))
	}
	if p.extends() {
		p.extend(&e, content, reasoning, thinks)
	} else {
		message := append([]byte(`,{"role":"assistant","content":`), quoted(content)...)
		if thinks || p.tools { // with tools every assistant message must have it
			message = append(append(message, `,"reasoning_content":`...), quoted(reasoning)...)
		}
		e.replace(p.end, p.end, append(message, `,"prefix":true}`...))
	}
	return e.apply(make([]byte, 0, len(p.data)+2*len(content)+2*len(reasoning)+128), p.data), nil
}

// extend lengthens the request's own prefix.
func (p *prefixRequest) extend(e *edits, content, reasoning []byte, thinks bool) {
	end := p.last.to - 1
	set := func(name string, at span, text []byte) {
		if at == (span{}) {
			e.replace(end, end, append([]byte(`,"`+name+`":`), quoted(text)...))
			return
		}
		e.replace(at.from, at.to, quoted(text))
	}
	set("content", p.prefix.contentAt, p.wholeContent(content))
	if thinks || p.prefix.reasoningAt != (span{}) {
		set("reasoning_content", p.prefix.reasoningAt, p.wholeReasoning(reasoning))
	}
}

// wholeContent is the content so far as the next attempt's prefix.
func (p *prefixRequest) wholeContent(content []byte) []byte {
	return append(bytes.Clone(p.prefix.content), content...)
}

func (p *prefixRequest) wholeReasoning(reasoning []byte) []byte {
	return append(bytes.Clone(p.prefix.reasoning), reasoning...)
}

func quoted(text []byte) []byte { return jsonscan.AppendQuoted(nil, string(text)) }

const chatPath = "/chat/completions"

// isChatPath reports whether a path is that of chat completions.
func isChatPath(path string) bool { return strings.HasSuffix(strings.TrimSuffix(path, "/"), chatPath) }

// onBeta is where the beta API has what is at path, one of chat completions.
func onBeta(path string) string {
	base := strings.TrimSuffix(strings.TrimSuffix(path, "/"), chatPath)
	for _, prefix := range []string{"/v1", "/beta"} {
		base = strings.TrimSuffix(base, prefix)
	}
	return base + "/beta" + chatPath
}

// betaURL is the URL of prefix completion at the base that u has.
func betaURL(u *url.URL) *url.URL {
	beta := *u
	beta.Path = onBeta(u.Path)
	if u.RawPath != "" {
		beta.RawPath = onBeta(u.RawPath)
	}
	return &beta
}
