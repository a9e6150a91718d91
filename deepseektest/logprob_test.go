package deepseektest

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestLogprobs(t *testing.T) {
	type token struct {
		Token   string
		Logprob float64
		Bytes   []byte
		Top     []token `json:"top_logprobs"`
	}
	type choice struct {
		Logprobs *struct {
			Content   []token
			Reasoning []token `json:"reasoning_content"`
		}
	}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, top := range []int{0, 1, 3, 20} {
			for _, stream := range []bool{false, true} {
				s.Enqueue(Give(Answer{Reasoning: "Look at it.", Content: "海堤 the wall"}))
				r := post(t, s, c, "/chat/completions", chatRequest(object{"logprobs": true, "top_logprobs": top, "stream": stream}))
				var content, reasoning string
				for _, data := range objects(r.body) {
					var w struct{ Choices []choice }
					require.NoError(t, json.Unmarshal(data, &w), "%s", data)
					l := w.Choices[0].Logprobs
					if l == nil {
						require.True(t, stream, "the first and the last chunk of a stream have no token")
						continue
					}
					for _, k := range append(l.Content, l.Reasoning...) {
						require.Equal(t, k.Token, string(k.Bytes))
						require.Len(t, k.Top, top)
						p, seen := 0.0, make(map[string]bool)
						for i, other := range k.Top {
							require.Equal(t, other.Token, string(other.Bytes))
							require.False(t, seen[other.Token])
							require.False(t, i > 0 && other.Logprob >= k.Top[i-1].Logprob, "the likeliest first")
							p, seen[other.Token] = p+math.Exp(other.Logprob), true
						}
						require.True(t, top == 0 || seen[k.Token])
						require.Less(t, p, 1.0)
					}
					for _, k := range l.Content {
						content += k.Token
					}
					for _, k := range l.Reasoning {
						reasoning += k.Token
					}
				}
				require.Equal(t, "海堤 the wall", content)
				require.Equal(t, "Look at it.", reasoning)
			}
		}
	})
}

// objects returns the JSON objects of a stream or of a whole response.
func objects(body []byte) (list [][]byte) {
	for line := range strings.Lines(string(body)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "data: ")
		if strings.HasPrefix(line, "{") {
			list = append(list, []byte(line))
		}
	}
	return list
}

func TestLogprobsOfTextCompletions(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		const text = "海堤 holds, the wall holds."
		for _, n := range []int{0, 1, 20} {
			for _, stream := range []bool{false, true} {
				s.Enqueue(Say(text))
				r := post(t, s, c, "/beta/completions", object{"model": "deepseek-flash", "prompt": "x", "logprobs": n, "stream": stream})
				require.Equal(t, 200, r.StatusCode, "%s", r.body)
				var got string
				for _, data := range objects(r.body) {
					var w struct {
						Choices []struct {
							Text     string
							Logprobs *struct {
								Offset []int                `json:"text_offset"`
								P      []float64            `json:"token_logprobs"`
								Tokens []string             `json:"tokens"`
								Top    []map[string]float64 `json:"top_logprobs"`
							}
						}
					}
					require.NoError(t, json.Unmarshal(data, &w), "%s", data)
					l := w.Choices[0].Logprobs
					if l == nil {
						require.Empty(t, w.Choices[0].Text)
						continue
					}
					require.Equal(t, w.Choices[0].Text, strings.Join(l.Tokens, ""))
					require.Len(t, l.Offset, len(l.Tokens))
					require.Len(t, l.P, len(l.Tokens))
					require.Len(t, l.Top, len(l.Tokens))
					for i, token := range l.Tokens {
						require.Equal(t, utf8.RuneCountInString(got), l.Offset[i])
						require.Len(t, l.Top[i], n)
						if n > 0 {
							require.Equal(t, l.P[i], l.Top[i][token])
						}
						got += token
					}
				}
				require.Equal(t, text, got)
			}
		}
		r := post(t, s, c, "/beta/completions", object{"model": "deepseek-flash", "prompt": "x"})
		require.Contains(t, string(r.body), `"logprobs":null`)
	})
}
