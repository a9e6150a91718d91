package jsonscan

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCursorGoesInAndOver(t *testing.T) {
	c := NewCursor([]byte(` { "a" : 1 , "b":[2, {"c": 3} ,"]"] ,"d" : {"e":"}", "f":{}},"g":-1.5e3 } rest`))
	var got []string
	note := func(s string) { got = append(got, s) }
	require.True(t, c.Object())
	for c.Key() {
		name := string(c.Name)
		switch {
		case c.Array():
			for c.Element() {
				if c.Object() {
					for c.Key() {
						n, ok := c.Int()
						require.True(t, ok)
						note(name + string(c.Name) + strconv.FormatInt(n, 10))
					}
					continue
				}
				note(name + string(c.Value()))
			}
		case c.Object():
			for c.Key() {
				c.Skip()
				note(name + string(c.Name))
			}
		default:
			note(name + string(c.Value()))
		}
	}
	require.NoError(t, c.Err())
	require.Equal(t, []string{"a1", "b2", "bc3", `b"]"`, "de", "df", "g-1.5e3"}, got)
	require.Equal(t, " rest", string(c.Rest()))
}

func TestCursorTellsWhatIsWrong(t *testing.T) {
	for in, want := range map[string]error{
		``: ErrEnd, ` `: ErrEnd, `{`: ErrEnd, `{"a"`: ErrEnd, `{"a":`: ErrEnd, `{"a":1`: ErrEnd, `{"a":1,`: ErrEnd, `{"a":"`: ErrEnd,
		`{"a":1]`: ErrSyntax, `{1:1}`: ErrSyntax, `{"a":1,}`: ErrSyntax, `{,"a":1}`: ErrSyntax, `{"a":012}`: ErrSyntax, `{"a" 1}`: ErrSyntax,
		`{"a":x}`: ErrSyntax, `{"a":1 "b":2}`: ErrSyntax,
	} {
		c := NewCursor([]byte(in))
		if c.Object() {
			for c.Key() {
				c.Skip()
			}
		}
		require.ErrorIs(t, c.Err(), want, in)
		require.False(t, c.Key() || c.Element() || c.Object() || c.Array(), in)
		require.Nil(t, c.Value(), in)
		_, ok := c.Int()
		require.False(t, ok, in)
	}
	array := NewCursor([]byte(`[1,]`))
	require.False(t, array.Object(), "the cursor stays")
	require.True(t, array.Array())
	require.True(t, array.Element())
	array.Skip()
	require.True(t, array.Element(), "what is there is no value, which only the taking finds out")
	array.Skip()
	require.ErrorIs(t, array.Err(), ErrSyntax)
}

func TestCursorReadsNumbers(t *testing.T) {
	for in, want := range map[string]int64{
		`0`: 0, `7`: 7, `-7`: -7, `306`: 306, `1e2`: 100, `12.9`: 12, `999999999999999999`: 999999999999999999, `9223372036854775807`: 1<<63 - 1,
	} {
		c := NewCursor([]byte(`[` + in + `, 1]`))
		require.True(t, c.Array() && c.Element())
		n, ok := c.Int()
		require.True(t, ok, in)
		require.Equal(t, want, n)
		require.True(t, c.Element(), in)
	}
	for _, in := range []string{`"1"`, `null`, `1e300`, `9223372036854775808`, `{}`} {
		c := NewCursor([]byte(`[` + in + `]`))
		require.True(t, c.Array() && c.Element())
		_, ok := c.Int()
		require.False(t, ok, in)
		require.False(t, c.Element(), "it is gone over: "+in)
		require.NoError(t, c.Err())
	}
}

// A cursor that goes into everything comes to the same end as the skipping.
func FuzzCursor(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5e-7,"x\\\"",{"b":{}}],"c":true} `))
	f.Add([]byte(`[[],[{}],"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := NewCursor(data)
		var into func(depth int)
		into = func(depth int) {
			switch {
			case depth == 100:
				c.Skip()
			case c.Object():
				for c.Key() {
					into(depth + 1)
				}
			case c.Array():
				for c.Element() {
					into(depth + 1)
				}
			default:
				if from := c.pos; c.Value() != nil {
					require.Greater(t, c.pos, from)
				}
			}
		}
		into(0)
		n, err := Skip(data)
		require.Equal(t, err == nil, c.Err() == nil, "%q: %v, %v", data, err, c.Err())
		if err == nil {
			require.Equal(t, len(data)-n, len(c.Rest()), "%q", data)
		}
		if json.Valid(data) {
			require.NoError(t, c.Err())
		}
	})
}
