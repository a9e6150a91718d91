package deepseek

import "bytes"

// echo finds out whether what is to continue a text begins it anew, as an
// endpoint might that does not know what a prefix is. Then it says again, word
// for word, what the text begins with.
type echo struct {
	listens            bool
	content, reasoning int // how long the texts were when it began to

	beginning []byte // of the text
	said      int    // how much of that was said again
	inContent bool   // the text is content, and the thinking is over
}

const (
	echoLeast = 8  // bytes said again that may be more than chance
	echoMost  = 48 // bytes that are
)

// listenFor begins to listen for a text's beginning. A text that repeats itself
// may well do so again, and what is short proves nothing.
func (e *echo) listenFor(text []byte, inContent bool) {
	n := min(len(text), echoMost)
	e.listens = n >= echoLeast && !bytes.Contains(text[1:], text[:n/2])
	e.beginning, e.inContent = text[:n], inContent
}

type hearing uint8

const (
	undecided hearing = iota
	goesOn
	anew
)

// hear takes in what was said next.
func (e *echo) hear(content, reasoning []byte) hearing {
	text := reasoning
	switch {
	case e.inContent && len(reasoning) > 0:
		return anew // it thinks again
	case !e.listens:
		return goesOn
	case e.inContent:
		text = content
	case len(content) > 0: // it has thought enough
		e.listens = false
		return goesOn
	}
	left := e.beginning[e.said:]
	n := min(len(left), len(text))
	if !bytes.Equal(text[:n], left[:n]) {
		e.listens = false
		return goesOn
	}
	if e.said += n; e.said == len(e.beginning) {
		return anew
	}
	return undecided
}
