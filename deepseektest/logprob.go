package deepseektest

import (
	"iter"
	"strconv"
	"unicode/utf8"
)

// otherTokens are what might have been written in place of a token, as far as
// made-up probabilities know: enough for the 20 that may be asked for.
var otherTokens = [...]string{
	" the", ",", ".", " and", " a", " of", " to", " in", "\n", " is",
	" it", " that", " wall", " for", " sea", " with", " on", " as", " not", " so",
}

// chosenLogprob is the log probability of each token that was written.
const chosenLogprob = -0.25

// likeliest returns the n likeliest tokens with their log probabilities: the token
// that was written, then others, each less likely, and all together not certain.
func likeliest(token string, n int) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		if n < 1 || !yield(token, chosenLogprob) {
			return
		}
		i := 1
		for _, other := range otherTokens {
			if other == token {
				continue
			}
			if i >= n || !yield(other, -2-float64(i)/2) {
				return
			}
			i++
		}
	}
}

// appendLogprobs appends made-up log probabilities for reasoning and content, with
// the top likeliest for each token.
func appendLogprobs(b []byte, list []piece, top int) []byte {
	for i, kind := range []pieceKind{contentPiece, reasoningPiece} {
		b = append(b, []string{`{"content":[`, `],"reasoning_content":[`}[i]...)
		first := true
		for j := range list {
			if list[j].kind != kind {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = appendTokenLogprob(b, list[j].text, chosenLogprob)
			b = append(b, `,"top_logprobs":[`...)
			for token, p := range likeliest(list[j].text, top) {
				if b[len(b)-1] != '[' {
					b = append(b, ',')
				}
				b = append(appendTokenLogprob(b, token, p), '}')
			}
			b = append(b, `]}`...)
		}
	}
	return append(b, `]}`...)
}

// appendTokenLogprob appends an object that is still open.
func appendTokenLogprob(b []byte, token string, p float64) []byte {
	b = append(b, `{"token":`...)
	b = appendString(b, token)
	b = append(b, `,"logprob":`...)
	b = appendFloat(b, p)
	b = append(b, `,"bytes":[`...)
	for k := range len(token) {
		if k > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(token[k]), 10)
	}
	return append(b, ']')
}

// appendTextLogprobs appends made-up log probabilities in the form of text
// completions: lists with an element for each token. The first token comes after
// offset characters of text.
func appendTextLogprobs(b []byte, list []piece, top, offset int) []byte {
	each := func(name string, f func(p *piece)) {
		b = append(b, name...)
		n := 0
		for i := range list {
			if list[i].kind != contentPiece {
				continue
			}
			if n++; n > 1 {
				b = append(b, ',')
			}
			f(&list[i])
		}
	}
	each(`{"text_offset":[`, func(p *piece) {
		b = strconv.AppendInt(b, int64(offset), 10)
		offset += utf8.RuneCountInString(p.text)
	})
	each(`],"token_logprobs":[`, func(*piece) { b = appendFloat(b, chosenLogprob) })
	each(`],"tokens":[`, func(p *piece) { b = appendString(b, p.text) })
	each(`],"top_logprobs":[`, func(p *piece) {
		b = append(b, '{')
		for token, q := range likeliest(p.text, top) {
			if b[len(b)-1] != '{' {
				b = append(b, ',')
			}
			b = appendString(b, token)
			b = append(b, ':')
			b = appendFloat(b, q)
		}
		b = append(b, '}')
	})
	return append(b, `]}`...)
}

func appendFloat(b []byte, f float64) []byte { return strconv.AppendFloat(b, f, 'g', -1, 64) }
