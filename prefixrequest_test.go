package deepseek

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrefixRequestChangesNothingElse(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"appended",
			`{ "model":"m" ,"messages" : [ {"role":"user","content":"é\u00e9"} ] , "x":{"y" : 1.0} }`,
			`{ "model":"m" ,"messages" : [ {"role":"user","content":"é\u00e9"} ,{"role":"assistant","content":"a\"b","prefix":true}] , "x":{"y" : 1.0} }`},
		{"what is left of max_tokens, after",
			`{"messages":[{"role":"user","content":"x"}],"max_tokens": 100 }`,
			`{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a\"b","prefix":true}],"max_tokens": 93 }`},
		{"what is left of max_tokens, before",
			`{"max_completion_tokens":9,"max_tokens":8,"messages":[{"role":"user","content":"x"}]}`,
			`{"max_completion_tokens":2,"max_tokens":1,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a\"b","prefix":true}]}`},
		{"no limit", `{"messages":[{}],"max_tokens":null}`,
			`{"messages":[{},{"role":"assistant","content":"a\"b","prefix":true}],"max_tokens":null}`},
		{"the caller's prefix",
			`{"messages":[{"role":"user","content":"x"},{"prefix":true,"content":"\u0041 ","role":"assistant","name":"n"}],"stop":["z"]}`,
			`{"messages":[{"role":"user","content":"x"},{"prefix":true,"content":"A a\"b","role":"assistant","name":"n"}],"stop":["z"]}`},
		{"the caller's prefix is thinking",
			`{"messages":[{"role":"assistant","reasoning_content":"hm","prefix":true}]}`,
			`{"messages":[{"role":"assistant","reasoning_content":"hm","prefix":true,"content":"a\"b"}]}`},
		{"an assistant message that is no prefix",
			`{"messages":[{"role":"assistant","content":"A","prefix":false}]}`,
			`{"messages":[{"role":"assistant","content":"A","prefix":false},{"role":"assistant","content":"a\"b","prefix":true}]}`},
		{"with tools the reasoning is there, if empty",
			`{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}`,
			`{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a\"b","reasoning_content":"","prefix":true}],"tools":[{"type":"function"}]}`},
	} {
		p, err := readPrefixRequest([]byte(c.in))
		require.NoError(t, err, c.name)
		got, err := p.rest([]byte(`a"b`), nil, false, 7)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, string(got), c.name)
	}
	p, err := readPrefixRequest([]byte(`{"messages":[{"role":"user","content":"x"}]}`))
	require.NoError(t, err)
	got, err := p.rest(nil, []byte("think\n"), true, 0)
	require.NoError(t, err)
	require.Equal(t, `{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"","reasoning_content":"think\n","prefix":true}]}`, string(got))

	p, err = readPrefixRequest([]byte(`{"messages":[{"content":null,"reasoning_content":"I ","role":"assistant","prefix":true}]}`))
	require.NoError(t, err)
	got, err = p.rest([]byte("x"), []byte("think"), true, 0)
	require.NoError(t, err)
	require.Equal(t, `{"messages":[{"content":"x","reasoning_content":"I think","role":"assistant","prefix":true}]}`, string(got))
}

func TestPrefixRequestRefusals(t *testing.T) {
	for in, want := range map[string]string{
		``:                                   "not JSON",
		`[]`:                                 "not JSON",
		`{"messages":[{}]`:                   "not JSON",
		`{"messages":[{}]} {}`:               "not JSON",
		`{"model":"m"}`:                      "no messages",
		`{"messages":[]}`:                    "no messages",
		`{"messages":{}}`:                    "no messages",
		`{"messages":[{}],"n":2}`:            "more than one answer",
		`{"messages":[{}],"n":"1"}`:          "more than one answer",
		`{"n":2,"messages":[{}]}`:            "more than one answer",
		`{"messages":[{}],"logprobs":true}`:  "logprobs",
		`{"messages":[{}],"top_logprobs":5}`: "logprobs",
		`{"messages":[{}],"response_format":{"type":"json_object"}}`:                               "response_format",
		`{"messages":[{}],"response_format":{}}`:                                                   "response_format",
		`{"messages":[{}],"max_tokens":"8"}`:                                                       "max_tokens is no number",
		`{"messages":[{}],"stop":[1]}`:                                                             "stop cannot be read",
		`{"messages":[{}],"stop":{}}`:                                                              "stop cannot be read",
		`{"messages":[{}],"messages":[{}]}`:                                                        "not in plain form",
		`{"messages":[{}],"\u006e":2}`:                                                             "not in plain form",
		`{"messages":[{"role":"assistant","prefix":true,"content":[{"type":"text","text":"x"}]}]}`: "prefix cannot be extended",
		`{"messages":[{"role":"assistant","prefix":true,"content":"x","tool_calls":[{}]}]}`:        "prefix cannot be extended",
	} {
		_, err := readPrefixRequest([]byte(in))
		require.ErrorContains(t, err, want, in)
	}
	for _, in := range []string{`{"messages":[{}],"n":1,"logprobs":false,"top_logprobs":0,"response_format":{"type":"text"},"stop":null,"tools":[]}`} {
		p, err := readPrefixRequest([]byte(in))
		require.NoError(t, err)
		require.False(t, p.tools)
	}
	p, err := readPrefixRequest([]byte(`{"messages":[{}],"max_tokens":7}`))
	require.NoError(t, err)
	_, err = p.rest([]byte("x"), nil, false, 7)
	require.ErrorContains(t, err, "nothing is left of the 7 tokens")
}

func TestTextThatEndsInTheBeginningOfAStop(t *testing.T) {
	for _, c := range []struct {
		stop, text string
		straddles  bool
	}{
		{`"\n\n"`, "a\n", true}, {`"\n\n"`, "a", false}, {`"\n"`, "a", false}, {`["x","END"]`, "the E", true}, {`["x","END"]`, "EN", true},
		{`["END"]`, "E", true}, {`["END"]`, "ENx", false}, {`["aab"]`, "xaa", true}, {`[]`, "x", false}, {`""`, "x", false},
	} {
		p, err := readPrefixRequest([]byte(`{"messages":[{}],"stop":` + c.stop + `}`))
		require.NoError(t, err)
		require.Equal(t, c.straddles, p.straddles([]byte(c.text)), "%s %q", c.stop, c.text)
	}
}

func TestBetaURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://api.deepseek.com/chat/completions":              "https://api.deepseek.com/beta/chat/completions",
		"https://api.deepseek.com/v1/chat/completions":           "https://api.deepseek.com/beta/chat/completions",
		"https://api.deepseek.com/beta/chat/completions":         "https://api.deepseek.com/beta/chat/completions",
		"https://api.deepseek.com/chat/completions/":             "https://api.deepseek.com/beta/chat/completions",
		"https://proxy.example/deep%2Fseek/chat/completions?a=b": "https://proxy.example/deep%2Fseek/beta/chat/completions?a=b",
	} {
		u, err := url.Parse(in)
		require.NoError(t, err)
		require.True(t, isChatPath(u.Path))
		require.Equal(t, want, betaURL(u).String())
		require.Equal(t, in, u.String())
	}
	for _, path := range []string{"/beta/completions", "/responses", "/anthropic/v1/messages", "/models", "/chat/completions/x"} {
		require.False(t, isChatPath(path))
	}
}

func FuzzPrefixRequest(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":100,"stream":true}`), "a\"\n", "é", int64(7), true)
	f.Add([]byte(`{"messages":[{"role":"assistant","content":"A","reasoning_content":null,"prefix":true}] , "stop":["x"]}`), "b", "", int64(0), false)
	f.Add([]byte(`{"max_tokens":1e2,"messages":[{}],"tools":[{}]}`), "\xff", "\u2028", int64(99), true)
	f.Fuzz(func(t *testing.T, data []byte, content, reasoning string, used int64, thinks bool) {
		p, err := readPrefixRequest(data)
		if err != nil {
			return
		}
		if used < 0 {
			used = 0
		}
		straddles := p.straddles([]byte(content))
		if straddles && len(p.stops) == 0 {
			t.Fatal("straddles nothing")
		}
		rest, err := p.rest([]byte(content), []byte(reasoning), thinks, used)
		if err != nil || !json.Valid(data) {
			return
		}
		require.True(t, json.Valid(rest), "%s", rest)
		var before, after map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &before))
		require.NoError(t, json.Unmarshal(rest, &after))
		require.Len(t, after, len(before))
		for name, value := range before {
			if name != "messages" && !strings.HasPrefix(name, "max_") {
				require.Equal(t, string(value), string(after[name]))
			}
		}
		var was, is []json.RawMessage
		require.NoError(t, json.Unmarshal(before["messages"], &was))
		require.NoError(t, json.Unmarshal(after["messages"], &is))
		n := len(was)
		var own struct {
			Content string
			Prefix  bool
		}
		if p.extends() {
			n--
			_ = json.Unmarshal(was[n], &own)
		}
		require.Len(t, is, n+1)
		for i := range n {
			require.Equal(t, string(was[i]), string(is[i]))
		}
		var last struct {
			Role, Content string
			Prefix        bool
		}
		if json.Unmarshal(is[n], &last) == nil && !bytes.Contains(is[n], []byte(`\u0`)) && bytes.Count(bytes.ToLower(is[n]), []byte(`"content"`)) == 1 {
			require.True(t, last.Prefix)
			require.Equal(t, "assistant", last.Role)
			require.Equal(t, own.Content+string([]rune(content)), last.Content)
		}
	})
}
