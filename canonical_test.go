package deepseek

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

func keyed(tb testing.TB, body string, place ...string) string {
	tb.Helper()
	key, ok := requestKey([]byte(body), place...)
	require.True(tb, ok, "%q", body)
	require.Len(tb, key, 74)
	return key
}

func TestEqualRequestsHaveEqualKeys(t *testing.T) {
	const plain = `{"model":"deepseek-flash","messages":[{"role":"user","content":"Héllo, \"世界\" 😀\n"}],"temperature":0.70,"user_id":"u","tools":[],"x":null}`
	for _, other := range []string{
		" \n{ \"messages\" : [ { \"content\" : \"H\\u00e9llo, \\\"\\u4E16\\u754c\\\" \\ud83d\\ude00\\u000a\" , \"role\":\"\\u0075ser\" } ] ,\t\"tools\":[ ],\r\n\"x\": null, \"model\":\"deepseek-flash\",\"user_id\":\"u\",\"temperature\":0.70} \n",
		strings.Replace(plain, `"model"`, `"\u006dodel"`, 1),
	} {
		require.Equal(t, keyed(t, plain), keyed(t, other))
	}
	for _, other := range []string{
		strings.Replace(plain, "0.70", "0.7", 1), // nobody knows what a server makes of it
		strings.Replace(plain, "flash", "v4-pro", 1),
		strings.Replace(plain, `"user_id":"u"`, `"user_id":"v"`, 1),
		strings.Replace(plain, `"x":null`, `"x":"null"`, 1),
		strings.Replace(plain, `,"x":null`, ``, 1),
		strings.Replace(plain, `"tools":[]`, `"tools":[[]]`, 1),
		strings.Replace(plain, `"tools":[]`, `"tools":{}`, 1),
		strings.Replace(plain, `}],`, `},{}],`, 1),
		strings.Replace(plain, `"x":null`, `"stream":true`, 1),
		strings.Replace(plain, "Héllo", "He\u0301llo", 1), // another text, though it looks alike
	} {
		require.NotEqual(t, keyed(t, plain), keyed(t, other), other)
	}
	require.NotEqual(t, keyed(t, plain, "a", "b"), keyed(t, plain, "ab", ""))
	require.NotEqual(t, keyed(t, plain, "a"), keyed(t, plain))
	require.NotEqual(t, keyed(t, `{"a":[1,23]}`), keyed(t, `{"a":[12,3]}`))
	require.NotEqual(t, keyed(t, `{"a":"b","c":"d"}`), keyed(t, `{"a":"d","c":"b"}`))
}

func TestWhatHasNotOneMeaningHasNoKey(t *testing.T) {
	for _, body := range []string{
		``, ` `, `null`, `[]`, `"x"`, `{`, `{}}`, `{} {}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"b":{"a":1,"a":1}}`,
		`{"a":"\ud800"}`, `{"a":"\udc00\ud800"}`, `{"\ud800":1}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", "{\"\n\":1}", `{"a":nul}`, `{"a":01}`,
		`{"a":` + strings.Repeat("[", maxCanonicalDepth) + strings.Repeat("]", maxCanonicalDepth) + `}`,
	} {
		_, ok := requestKey([]byte(body))
		require.False(t, ok, "%q", body)
	}
	keyed(t, `{"a":`+strings.Repeat("[", maxCanonicalDepth-2)+strings.Repeat("]", maxCanonicalDepth-2)+`}`)
	// What is no UTF-8 is kept apart, byte for byte.
	require.NotEqual(t, keyed(t, "{\"a\":\"\xff\"}"), keyed(t, "{\"a\":\"\xfe\"}"))
	require.NotEqual(t, keyed(t, "{\"a\":\"\xff\"}"), keyed(t, "{\"a\":\"\ufffd\"}"))
}

func TestKeysOfLongRequests(t *testing.T) {
	long := strings.Repeat("many words ", 20_000)
	body := func(a, b string) string { return `{"messages":["` + a + `","` + b + `"],"z":"` + long + `"}` }
	require.Equal(t, keyed(t, body(long, "x")), keyed(t, body(long, "x")))
	require.NotEqual(t, keyed(t, body(long, "x")), keyed(t, body(long+"x", "")))
	require.NotEqual(t, keyed(t, body(long, "x")), keyed(t, body("x", long)))
}

// FuzzRequestKey: what encoding/json takes for equal has equal keys however it
// is written, and what it takes for different has different ones.
func FuzzRequestKey(f *testing.F) {
	for _, s := range []string{
		smallRequest, wholeAnswer, `{"a":[1,-0,1.0,1e5,true,null,"x\u0000\ud83d\ude00\/"],"b":{"":{}},"ü":"\u00fc"}`, `{"a":"\ufffd"}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(s), []byte(s), uint64(1))
		f.Add([]byte(s), []byte(`{"a":1}`), uint64(2))
	}
	f.Fuzz(func(t *testing.T, a, b []byte, seed uint64) {
		keyA, okA := requestKey(a)
		if !okA {
			return
		}
		require.True(t, json.Valid(a), "%q", a)
		again := rewrite(rand.New(rand.NewPCG(seed, 1)), a)
		keyAgain, ok := requestKey(again)
		require.True(t, ok, "%q", again)
		require.Equal(t, keyA, keyAgain, "%q\n%q", a, again)

		keyB, okB := requestKey(b)
		if okB && keyA == keyB {
			require.Equal(t, meaning(t, a), meaning(t, b), "%q\n%q", a, b)
		}
	})
}

// meaning is what encoding/json makes of a text; numbers as they are written.
func meaning(tb testing.TB, text []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	require.NoError(tb, d.Decode(&v))
	return v
}

// rewrite writes a JSON object in another way that means the same: members in
// another order, blanks, escapes.
func rewrite(r *rand.Rand, raw []byte) []byte {
	var out []byte
	blank := func() {
		for r.IntN(3) == 0 {
			out = append(out, " \t\r\n"[r.IntN(4)])
		}
	}
	str := func(quoted []byte) {
		if !json.Valid(quoted) || !utf8Clean(quoted) {
			out = append(out, quoted...)
			return
		}
		var s string
		_ = json.Unmarshal(quoted, &s)
		out = append(out, '"')
		for _, c := range s {
			switch {
			case r.IntN(4) == 0 || c < ' ' || c == '"' || c == '\\':
				for _, u := range utf16.Encode([]rune{c}) {
					hex := strconv.FormatUint(uint64(u)|0x10000, 16)[1:]
					if r.IntN(2) == 0 {
						hex = strings.ToUpper(hex)
					}
					out = append(append(out, '\\', 'u'), hex...)
				}
			case c == '/' && r.IntN(2) == 0:
				out = append(out, '\\', '/')
			default:
				out = append(out, string(c)...)
			}
		}
		out = append(out, '"')
	}
	var value func(raw []byte)
	value = func(raw []byte) {
		raw = bytes.TrimSpace(raw)
		blank()
		switch raw[0] {
		case '{':
			keys, values := split(raw)
			r.Shuffle(len(keys), func(i, j int) {
				keys[i], keys[j] = keys[j], keys[i]
				values[i], values[j] = values[j], values[i]
			})
			out = append(out, '{')
			for i := range keys {
				if i > 0 {
					out = append(out, ',')
				}
				blank()
				str(keys[i])
				blank()
				out = append(out, ':')
				value(values[i])
			}
			blank()
			out = append(out, '}')
		case '[':
			var all []json.RawMessage
			_ = json.Unmarshal(raw, &all)
			out = append(out, '[')
			for i := range all {
				if i > 0 {
					out = append(out, ',')
				}
				value(all[i])
			}
			blank()
			out = append(out, ']')
		case '"':
			str(raw)
		default:
			out = append(out, raw...)
		}
		blank()
	}
	value(raw)
	return out
}

func utf8Clean(quoted []byte) bool { return bytes.Equal(bytes.ToValidUTF8(quoted, nil), quoted) }

// split returns an object's members, raw.
func split(raw []byte) (keys, values [][]byte) {
	d := json.NewDecoder(bytes.NewReader(raw))
	_, _ = d.Token()
	for d.More() {
		from := d.InputOffset()
		_, _ = d.Token()
		keys = append(keys, bytes.Trim(raw[from:d.InputOffset()], ", \t\r\n"))
		var v json.RawMessage
		_ = d.Decode(&v)
		values = append(values, v)
	}
	return keys, values
}

func BenchmarkRequestKey(b *testing.B) {
	body := []byte(`{"model":"deepseek-flash","messages":[{"role":"system","content":"` + strings.Repeat("You are a helpful assistant. ", 35) + `"},{"role":"user","content":"Hi"}],"temperature":0.7}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := requestKey(body, DefaultBaseURL, "/chat/completions", ""); !ok {
			b.Fatal("no key")
		}
	}
}
