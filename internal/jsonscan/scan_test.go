package jsonscan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var chunk = []byte(`{"id":"daca7221-40a7-4917-aefe-4528b88c1a45","object":"chat.completion.chunk","created":1784697182,"model":"deepseek-flash","system_fingerprint":"8b330d02d0","choices":[{"index":0,"delta":{"content":" \"the\"","reasoning_content":null},"logprobs":null,"finish_reason":null}],"usage":null}`)

func TestWholeTellsCompleteValues(t *testing.T) {
	for _, s := range []string{`{}`, `[]`, `""`, `0`, `-1.5e+3`, `true`, `null`, " \n\t\r{ } \n", `{"a":[1,{"b":"\\"}],"c":"\"]"}`, string(chunk)} {
		require.True(t, Whole([]byte(s)), s)
	}
	for _, s := range []string{``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `[1`, `[1,`, `"a`, `"\"`, `tru`, `-`, `1.`, `1e`, `01`,
		`{]`, `[}`, `{}}`, `[]]`, `[1 2]`, `{"a" 1}`, `{"a":1 "b":2}`, `{a:1}`, `[,]`, `[1,]`, `{,}`, `{"a":1,}`, `nul`, `x`, `{} {}`, `<html>`} {
		require.False(t, Whole([]byte(s)), s)
	}
}

func TestNestingIsBounded(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	for _, n := range []int{1, 63, 64, 65, 128, 129, MaxDepth} {
		require.True(t, Whole(nested(n)), n)
		require.False(t, Whole(nested(n)[1:]), n)
	}
	require.False(t, Whole(nested(MaxDepth+1)))
	_, err := Skip(bytes.Repeat([]byte(`{"a":[`), 1<<20))
	require.ErrorIs(t, err, ErrDepth)

	mixed := strings.Repeat(`{"a":[`, 100) + strings.Repeat(`]}`, 100)
	require.True(t, Whole([]byte(mixed)))
	require.False(t, Whole([]byte(strings.Replace(mixed, "]}", "}]", 1))))
}

func TestSkipTellsWhatIsWrong(t *testing.T) {
	n, err := Skip([]byte(` {"a":1} x`))
	require.NoError(t, err)
	require.Equal(t, 8, n)
	for in, want := range map[string]error{"": ErrEnd, "[1": ErrEnd, "fal": ErrEnd, "[1}": ErrSyntax, "fax": ErrSyntax, "1.x": ErrSyntax} {
		_, err := Skip([]byte(in))
		require.ErrorIs(t, err, want, in)
	}
}

func FuzzWhole(f *testing.F) {
	f.Add(chunk)
	for _, s := range []string{`{"a":[1,2.5e-7,"x\\\""],"b":{}}`, ` [ true , null ] `, `"\ud800"`, `{"a":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := Whole(data)
		if json.Valid(data) {
			require.True(t, whole, "%q", data)
		}
		if trimmed := bytes.TrimSpace(data); whole && strings.ContainsAny(string(trimmed[:1]), `{["`) {
			for i := range trimmed {
				require.False(t, Whole(trimmed[:i]), "%q", trimmed[:i])
			}
		}
		n := 0
		m := Members(data)
		for m.Next() {
			_, err := Skip(m.Value)
			require.NoError(t, err)
			n++
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(data, &want) == nil && want != nil {
			require.NoError(t, m.Err())
			require.GreaterOrEqual(t, n, len(want))
		}
	})
}

func TestScanDoesNotAllocate(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !Whole(chunk) {
			t.Fatal("not whole")
		}
		if _, ok := Get(chunk, "usage"); !ok {
			t.Fatal("no usage")
		}
		n := 0
		_ = Object(chunk, func(_, _ []byte) bool { n++; return true })
	}))
}

func BenchmarkWhole(b *testing.B) {
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		Whole(chunk)
	}
}

func BenchmarkValidOfEncodingJSON(b *testing.B) {
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		json.Valid(chunk)
	}
}
