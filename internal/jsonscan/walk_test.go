package jsonscan

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMembersWalksAnObject(t *testing.T) {
	var got []string
	require.NoError(t, Object([]byte(` { "a" : 1 , "b":[2, 3] ,"c" : {"d":"}"}} rest`), func(key, value []byte) bool {
		got = append(got, string(key)+"="+string(value))
		return true
	}))
	require.Equal(t, []string{"a=1", "b=[2, 3]", `c={"d":"}"}`}, got)

	require.NoError(t, Object([]byte(`{}`), nil))
	require.NoError(t, Object([]byte(`{"a":1,`), func(_, _ []byte) bool { return false }), "what is not walked is not judged")
	for in, want := range map[string]error{``: ErrEnd, `{`: ErrEnd, `[`: ErrSyntax, `{"a":1`: ErrEnd, `{"a":1,`: ErrEnd, `{"a":1]`: ErrSyntax, `{1:1}`: ErrSyntax} {
		require.ErrorIs(t, Object([]byte(in), func(_, _ []byte) bool { return true }), want, in)
	}
}

func TestElementsWalksAnArray(t *testing.T) {
	walk := func(in string) (got []string, err error) {
		e := Elements([]byte(in))
		for e.Next() {
			got = append(got, string(e.Value))
		}
		return got, e.Err()
	}
	got, err := walk(`[1, "a" ,[],{}]`)
	require.NoError(t, err)
	require.Equal(t, []string{"1", `"a"`, "[]", "{}"}, got)
	_, err = walk(`[]`)
	require.NoError(t, err)
	_, err = walk(`null`)
	require.ErrorIs(t, err, ErrSyntax)
	_, err = walk(`[1`)
	require.ErrorIs(t, err, ErrEnd)
}

func TestWalksTellWhereThingsAre(t *testing.T) {
	data := []byte(` { "a" : 1 , "b":[2, "x"] } `)
	for m := Members(data); m.Next(); {
		require.Equal(t, `"`+string(m.Key)+`"`, string(data[m.Start:m.Start+len(m.Key)+2]))
		require.Equal(t, string(m.Value), string(data[m.At:m.At+len(m.Value)]))
		for e := Elements(m.Value); e.Next(); {
			require.Equal(t, string(e.Value), string(m.Value[e.Start:e.Start+len(e.Value)]))
		}
	}
}

func TestWalksTellWhereTheyAre(t *testing.T) {
	data := []byte(` { "a" : 1 ,"b":[2, {"c": 3} ] } `)
	var got []string
	for m := Members(data); m.Next(); {
		got = append(got, string(data[m.Start:m.End]), string(data[m.End-len(m.Value):m.End]))
	}
	require.Equal(t, []string{`"a" : 1`, "1", `"b":[2, {"c": 3} ]`, `[2, {"c": 3} ]`}, got)
	got = nil
	array := []byte(`[ 2 , {"c": 3} ]`)
	for e := Elements(array); e.Next(); {
		got = append(got, string(array[e.Start:e.End]))
	}
	require.Equal(t, []string{"2", `{"c": 3}`}, got)
}

func TestGetFollowsKeys(t *testing.T) {
	data := []byte(`{"a":{"b":[1],"c":"x"},"a":2}`)
	v, ok := Get(data, "a", "c")
	require.True(t, ok)
	require.Equal(t, `"x"`, string(v))
	for _, keys := range [][]string{{"z"}, {"a", "z"}, {"a", "c", "z"}, {"a", "b", "z"}} {
		_, ok = Get(data, keys...)
		require.False(t, ok, keys)
	}
	_, ok = Get(nil, "a")
	require.False(t, ok)
}
