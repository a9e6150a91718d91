package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStringDecodesEscapes(t *testing.T) {
	for _, s := range []string{``, `abc`, `a\"b\\c\/d`, `\b\f\n\r\t`, `\u00e9\u4e2d`, `\ud83d\ude00`, `\ud83d`, `\ud83dx`, `\ud83d\u0041`, `\ude00`, "é中😀", "\xff\xfe", strings.Repeat("long ", 10) + `\n`} {
		var want string
		require.NoError(t, json.Unmarshal([]byte(`"`+s+`"`), &want))
		got, err := String([]byte(`"` + s + `"`))
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
	for _, s := range []string{``, `"`, `"a`, `a"`, `null`, `"\"`, `"\x"`, `"\u12"`, `"\u12zz"`, `"a"b"`} {
		_, err := String([]byte(s))
		require.Error(t, err, s)
	}
}

func TestIntAndFloat(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1784697182": 1784697182, "-5": -5, "1.9": 1, "1e3": 1000, "9223372036854775807": 1<<63 - 1} {
		n, ok := Int([]byte(in))
		require.True(t, ok, in)
		require.Equal(t, want, n, in)
	}
	for _, in := range []string{"", "null", `"1"`, "1e30", "NaN", "Inf", "{}"} {
		_, ok := Int([]byte(in))
		require.False(t, ok, in)
	}
	f, ok := Float([]byte("-9999.5"))
	require.True(t, ok)
	require.Equal(t, -9999.5, f)
	_, ok = Float([]byte("1e999"))
	require.False(t, ok)
}

func TestEqualAndKinds(t *testing.T) {
	require.True(t, Equal([]byte(`"stop"`), "stop"))
	require.False(t, Equal([]byte(`"stopp"`), "stop"))
	require.False(t, Equal([]byte(`stop`), "stop"))
	require.True(t, IsNull([]byte("null")))
	require.True(t, IsTrue([]byte("true")))
	require.True(t, IsString([]byte(`""`)))
	require.False(t, IsString([]byte(`"`)))
}

func FuzzString(f *testing.F) {
	f.Add(`a\"\u00e9`)
	f.Add("\u2028<&>\x00\xff")
	f.Fuzz(func(t *testing.T, s string) {
		quoted := AppendQuoted(nil, s)
		require.True(t, Whole(quoted))
		var back string
		require.NoError(t, json.Unmarshal(quoted, &back), "%q", quoted)
		got, err := String(quoted)
		require.NoError(t, err)
		require.Equal(t, back, got)

		raw := []byte(`"` + s + `"`)
		var want string
		if json.Unmarshal(raw, &want) == nil {
			got, err := String(raw)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	})
}

func TestNameIsWhatItMeans(t *testing.T) {
	for raw, want := range map[string]string{`a`: "a", ``: "", `\u0061\n`: "a\n"} {
		require.Equal(t, `"`+raw+`"`, string(Quoted([]byte(raw))))
		got, err := Name([]byte(raw))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	_, err := Name([]byte(`\x`))
	require.Error(t, err)
}
