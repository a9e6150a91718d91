package deepseek

import "strings"

// LogText is the text of an error for a log. What a server says in its errors is
// left out, because it may repeat a prompt, or be an answer that came in place of
// an error; the status, the type and the trace id are not. That of nil is empty.
func LogText(err error) string {
	if err == nil {
		return ""
	}
	return withoutMessages(err.Error(), err)
}

// withoutMessages leaves out of text, which tells err, what servers say in all that
// err consists of.
func withoutMessages(text string, err error) string {
	trail := func(as Attempts) {
		if len(as) > 0 {
			text = strings.ReplaceAll(text, as.String(), as.text(LogText))
		}
	}
	switch e := err.(type) {
	case *APIError:
		trail(e.Attempts)
		if e.Message != "" {
			text = strings.ReplaceAll(text, ": "+e.Message, "")
		}
		if !isWord(e.Type) {
			text = strings.ReplaceAll(text, " ("+e.Type+")", "")
		}
	case *CallError:
		trail(e.Attempts)
	case *TruncatedError:
		trail(e.Attempts)
		if e.Continuation != nil {
			text = withoutMessages(text, e.Continuation)
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			text = withoutMessages(text, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text = withoutMessages(text, inner)
		}
	}
	return text
}

// isWord reports whether s is as a type of error is, such as rate_limit_error.
func isWord(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return len(s) <= 64
}
