package deepseek

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/internal/sse"
)

const chunkHead = `{"id":"daca7221-40a7-4917-aefe-4528b88c1a45","object":"chat.completion.chunk","created":1784697182,"model":"deepseek-flash","system_fingerprint":"8b330d02d0",`

func decodeOne(t *testing.T, data string) *ChatChunk {
	t.Helper()
	c, err := decodeChunk([]byte(data), &ChatChunk{})
	require.NoError(t, err, data)
	return c
}

func TestChunkTellsWhatItAdds(t *testing.T) {
	c := decodeOne(t, chunkHead+`"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"We"},"logprobs":null,"finish_reason":null}],"usage":null}`)
	require.Equal(t, "daca7221-40a7-4917-aefe-4528b88c1a45", c.ID)
	require.Equal(t, int64(1784697182), c.Created)
	require.Equal(t, "", c.Text())
	require.Equal(t, "We", c.Reasoning())
	require.Equal(t, FinishReason(""), c.FinishReason())
	require.Equal(t, RoleAssistant, c.Choices[0].Delta.Role)
	require.Nil(t, c.Usage)
	require.Nil(t, c.Extra)

	c = decodeOne(t, chunkHead+`"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_tokens_details":{"cached_tokens":256},"completion_tokens_details":{"reasoning_tokens":31},"prompt_cache_hit_tokens":256,"prompt_cache_miss_tokens":50}}`)
	require.Equal(t, FinishStop, c.FinishReason())
	require.Equal(t, &Usage{PromptTokens: 306, CompletionTokens: 85, TotalTokens: 391, CachedTokens: 256, ReasoningTokens: 31,
		PromptCacheHitTokens: 256, PromptCacheMissTokens: 50}, c.Usage)
}

func TestChunkDecodesLeniently(t *testing.T) {
	for _, in := range []string{
		`{}`, `{"choices":null}`, `{"choices":[]}`, `{"choices":[null]}`, `{"choices":[{}]}`, `{"choices":[{"delta":null}]}`,
		`{"choices":{"a":1}}`, `{"choices":[7]}`, `{"id":7,"created":"x","model":null,"usage":[]}`,
		`{"choices":[{"index":"0","delta":{"content":7,"tool_calls":[{"function":null,"index":null}]}}]}`,
	} {
		c := decodeOne(t, in)
		require.Equal(t, "", c.Text(), in)
		require.Equal(t, "", c.Reasoning(), in)
	}
	var none *ChatChunk
	require.Equal(t, "", none.Text())
	_, err := decodeChunk([]byte(`{"choices":[`), &ChatChunk{})
	require.Error(t, err)
}

func TestUnknownMembersSurviveARoundTrip(t *testing.T) {
	in := `{"new":{"a":[1,2]},"choices":[{"index":0,"delta":{"content":"x","mood":"good","tool_calls":[{"index":1,"id":"c","type":"function","function":{"name":"f","arguments":"{}","k":1},"z":null}]},"logprobs":null,"finish_reason":"brand_new","choice_new":true}],` +
		`"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":1,"audio_tokens":9},"price":"0.1","prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":0},"id":"i","object":"chat.completion.chunk","created":1,"model":"m"}`
	out, err := json.Marshal(decodeOne(t, in))
	require.NoError(t, err)
	require.JSONEq(t, in, string(out))

	in = strings.NewReplacer(`"delta"`, `"message"`, `"content":"x"`, `"role":"assistant","content":"x"`).Replace(in)
	var r ChatResponse
	require.NoError(t, json.Unmarshal([]byte(in), &r))
	require.Equal(t, FinishReason("brand_new"), r.FinishReason())
	out, err = json.Marshal(r)
	require.NoError(t, err)
	require.JSONEq(t, in, string(out))
}

func TestChunksShareWhatIsTheSame(t *testing.T) {
	data := []byte(chunkHead + `"choices":[{"index":0,"delta":{"content":"x"},"logprobs":null,"finish_reason":null}],"usage":null}`)
	last, err := decodeChunk(data, &ChatChunk{})
	require.NoError(t, err)
	allocs := testing.AllocsPerRun(100, func() {
		if last, err = decodeChunk(data, last); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocs, 1.0, "the chunk with its choice; a single letter is free")
}

func FuzzChunk(f *testing.F) {
	f.Add([]byte(chunkHead + `"choices":[{"index":0,"delta":{"role":"assistant","content":"a\u00e9","reasoning_content":""},"logprobs":{"content":[{"token":"a","logprob":-1,"bytes":[97],"top_logprobs":[]}]},"finish_reason":null}],"usage":null}`))
	f.Add([]byte(`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":1,"x":2}}}`))
	f.Add([]byte(`{"id":1,"id":"a","\u0069d":2,"choices":[null,{"delta":{"content":null}}],"error":{"message":"x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeChunk(data, &ChatChunk{})
		var r ChatResponse
		_ = r.decode(data)
		_, _, _ = r.Text(), r.Reasoning(), r.FinishReason()
		if err != nil || !json.Valid(data) {
			return
		}
		var want map[string]any
		require.NoError(t, json.Unmarshal(data, &want))
		require.Equal(t, textOf(want), c.Text())

		one, err := json.Marshal(c)
		require.NoError(t, err)
		again, err := decodeChunk(one, &ChatChunk{})
		require.NoError(t, err)
		require.Equal(t, c.Text(), again.Text())
		require.Equal(t, c.Reasoning(), again.Reasoning())
		require.Equal(t, c.FinishReason(), again.FinishReason())
		two, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(one), string(two))
	})
}

// textOf is Text by way of encoding/json.
func textOf(chunk map[string]any) string {
	choices, _ := chunk["choices"].([]any)
	for _, c := range choices {
		switch c.(type) {
		case nil, map[string]any:
		default:
			return "" // not an array of choices
		}
	}
	if len(choices) == 0 {
		return ""
	}
	choice, _ := choices[0].(map[string]any)
	delta, _ := choice["delta"].(map[string]any)
	text, _ := delta["content"].(string)
	return text
}

// benchStream is a stream of 1000 chunks of about 290 bytes.
func benchStream() []byte {
	var b bytes.Buffer
	for range 1000 {
		b.WriteString("data: " + chunkHead + `"choices":[{"index":0,"delta":{"content":" the","reasoning_content":null},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n")
	}
	return b.Bytes()
}

// BenchmarkDecodeStream is from the bytes of a stream to typed chunks; an
// operation is a chunk.
func BenchmarkDecodeStream(b *testing.B) {
	stream := benchStream()
	b.SetBytes(int64(len(stream) / 1000))
	b.ReportAllocs()
	r := sse.NewReader(bytes.NewReader(stream), 0)
	last := &ChatChunk{}
	for b.Loop() {
		e, err := r.Next()
		if err != nil {
			r = sse.NewReader(bytes.NewReader(stream), 0)
			continue
		}
		if last, err = decodeChunk(e.Data, last); err != nil {
			b.Fatal(err)
		}
	}
}
