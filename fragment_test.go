package deepseek

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFragment(t *testing.T) {
	scan := func(data string) fragment {
		var f fragment
		require.True(t, f.scan([]byte(data)), data)
		return f
	}
	f := scan(`{"id":"u","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":""},"logprobs":null,"finish_reason":null}],"usage":null}`)
	require.True(t, f.role && f.thinks && !f.says())
	f = scan(`{"choices":[{"delta":{"content":"x","reasoning_content":null},"finish_reason":"stop"}],"usage":{"a":1}}`)
	require.Equal(t, `"x"`, string(f.content))
	require.Equal(t, `"stop"`, string(f.finish))
	require.Equal(t, `{"a":1}`, string(f.usage))
	require.False(t, f.thinks || f.role || f.tools || f.others || f.more || f.failed)
	f = scan(`{"choices":[{"delta":{"content":"","reasoning_content":"y"}}]}`)
	require.Nil(t, f.content)
	require.Equal(t, `"y"`, string(f.reasoning))

	require.True(t, scan(`{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}`).tools)
	require.False(t, scan(`{"choices":[{"delta":{"tool_calls":[]}}]}`).tools)
	require.True(t, scan(`{"choices":[{"delta":{"refusal":"no"}}]}`).more)
	require.False(t, scan(`{"choices":[{"delta":{"refusal":null}}]}`).more)
	require.True(t, scan(`{"choices":[{"delta":{},"logprobs":{"content":[1]}}]}`).more)
	require.True(t, scan(`{"choices":[{"index":1,"delta":{"content":"x"}}]}`).others)
	require.True(t, scan(`{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`).others)
	f = scan(`{"choices":[{"index":1,"delta":{"role":"assistant","content":""}}]}`)
	require.True(t, f.role && !f.says())
	f = scan(`{"choices":[{"index":0,"delta":{"content":"x"}},{"index":0,"delta":{"content":"y"}}]}`)
	require.True(t, f.others)
	require.True(t, scan(`{"error":{"message":"m"}}`).failed)
	require.False(t, scan(`{"error":null,"choices":[]}`).failed)
	for _, data := range []string{``, `[]`, `oops`, `{"choices":[{"delta":{"content":"x"}]}`, `{"choices":[{"delta":[]}]}`} {
		require.False(t, new(fragment).scan([]byte(data)), data)
	}
}

func TestSeam(t *testing.T) {
	var s seam
	s.learn([]byte(`{"id":"first","created":1,"model":"m1","system_fingerprint":"f1","choices":[]}`))
	for _, c := range []struct {
		in, want string
		ch       changes
	}{
		{`{"id":"x", "created":2,"model":"m2","system_fingerprint":null,"new":[1, 2],"choices":[]}`,
			`{"id":"first", "created":1,"model":"m1","system_fingerprint":"f1","new":[1, 2],"choices":[]}`, changes{}},
		{`{"choices":[{"delta":{"role":"assistant","content":"x"}}]}`, `{"choices":[{"delta":{"content":"x"}}]}`, changes{role: true}},
		{`{"choices":[{"delta":{"content":"x" , "role":"assistant"}}]}`, `{"choices":[{"delta":{"content":"x"}}]}`, changes{role: true}},
		{`{"choices":[{"delta":{"a":1,"role":"assistant","content":"x"}}]}`, `{"choices":[{"delta":{"a":1,"content":"x"}}]}`, changes{role: true}},
		{`{"choices":[{"delta":{"role":"assistant"}}]}`, `{"choices":[{"delta":{}}]}`, changes{role: true}},
		{`{"choices":[{"finish_reason":"length","delta":{"content":"x"}}],"usage":{"a":1}}`,
			`{"choices":[{"finish_reason":null,"delta":{"content":"x"}}],"usage":null}`, changes{finish: true}},
		{`{"usage":{"a":1},"choices":[{"finish_reason":"stop"}]}`, `{"usage":{"b":2},"choices":[{"finish_reason":"stop"}]}`, changes{usage: []byte(`{"b":2}`)}},
	} {
		require.Equal(t, c.want, string(s.join([]byte("kept "), []byte(c.in), c.ch))[len("kept "):])
	}
}

func TestShapeTellsWhatScanningTells(t *testing.T) {
	head := `{"id":"u","choices":[{"index":0,"delta":{"content":`
	tail := `,"reasoning_content":null},"finish_reason":null}],"usage":null}`
	var s shape
	require.True(t, s.scan(new(fragment), []byte(head+`"a"`+tail)))
	for _, text := range []string{`"b"`, `"\"\\"`, `"世\n"`} {
		var f fragment
		require.True(t, s.fits(&f, []byte(head+text+tail)))
		require.Equal(t, text, string(f.content))
	}
	for _, text := range []string{``, `""`, `null`, `"`, `"a","x":"b"`, `"a\"`, `{"a":"b"}`, `12345`} {
		require.False(t, s.fits(new(fragment), []byte(head+text+tail)), text)
	}
	event, f := []byte(head+`"b"`+tail), new(fragment)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !f.scan(event) || !s.scan(f, event) {
			t.Fatal("no chunk")
		}
	}))
}

// FuzzShape: two events after each other are read as each by itself.
func FuzzShape(f *testing.F) {
	const head = `{"choices":[{"index":0,"delta":{"content":`
	f.Add([]byte(head+`"a"}}]}`), []byte(head+`"b"}}]}`))
	f.Add([]byte(head+`"a"}}]}`), []byte(head+`"b","tool_calls":[{}],"x":"c"}}]}`))
	f.Add([]byte(head+`null,"reasoning_content":"a"}}]}`), []byte(head+`null,"reasoning_content":"\""}}],"usage":{"a":1}}`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		var s shape
		var byShape, plain fragment
		if !s.scan(&byShape, one) {
			return
		}
		ok, want := s.scan(&byShape, two), plain.scan(two)
		require.Equal(t, want, ok)
		if ok {
			byShape.at, plain.at = 0, 0
			// An empty reasoning_content beside a text is known of since the first.
			byShape.thinks, plain.thinks = false, false
			require.Equal(t, plain, byShape)
		}
	})
}

// FuzzSeam: what is rewritten is JSON again, and differs only where it should.
func FuzzSeam(f *testing.F) {
	const first = `{"id":"1","created":1,"model":"m","system_fingerprint":"f","choices":[]}`
	f.Add([]byte(first), []byte(`{"id":"2","created":2,"model":"n","choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":"length"}],"usage":{"a":1}}`), true, true)
	f.Add([]byte(`{}`), []byte(`{"choices":[{"delta":{"a":1,"role":"assistant"}},{"delta":{"role":null}}] , "x":[1]}`), true, false)
	f.Fuzz(func(t *testing.T, first, data []byte, role, finish bool) {
		var before map[string]json.RawMessage
		if json.Unmarshal(data, &before) != nil || before == nil || !json.Valid(first) {
			return
		}
		var s seam
		s.learn(first)
		got := s.join(nil, data, changes{role: role, finish: finish})
		require.True(t, json.Valid(got), "%s", got)
		var after map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(got, &after))
		require.Len(t, after, len(before))
		for name, value := range before {
			switch name {
			case "id", "created", "model", "system_fingerprint", "choices", "usage":
			default:
				require.Equal(t, string(value), string(after[name]))
			}
		}
		if id, ok := before["id"]; ok && s.id == nil {
			require.Equal(t, string(id), string(after["id"]))
		}
	})
}
