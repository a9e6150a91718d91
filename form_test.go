package deepseek

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFormChangesNothingElse(t *testing.T) {
	all := newForm([]string{"user_id", "x", "messages.reasoning_content"}).as("host/model")
	for _, c := range []struct {
		name     string
		f        form
		in, want string
	}{
		{"model", form{model: "m2"}, `{ "messages" : [ {"model":"m1"} ] , "model" :  "m1" , "n":1.0e0 }`, `{ "messages" : [ {"model":"m1"} ] , "model" :  "m2" , "n":1.0e0 }`},
		{"model twice", form{model: "m2"}, `{"model":"a","x":1,"model":"b"}`, `{"model":"m2","x":1,"model":"m2"}`},
		{"model of another type", form{model: "m2"}, `{"model":null}`, `{"model":"m2"}`},
		{"escaped", form{model: `a"b`}, "{\"mod\\u0065l\":\"m1\"}", "{\"mod\\u0065l\":\"a\\\"b\"}"},
		{"no model", form{model: "m2"}, `{"a":1}`, `{"a":1}`},
		{"same", form{model: "m"}, "\n{\"model\":\"m\"}\n", "\n{\"model\":\"m\"}\n"},
		{"empty", all, ` {} `, ` {} `},
		{"first", newForm([]string{"x"}), `{"x":1, "a":2}`, `{"a":2}`},
		{"last", newForm([]string{"x"}), `{"a":2 , "x":1 }`, `{"a":2 }`},
		{"only", newForm([]string{"x"}), `{ "x":{"y":[1,2]} }`, `{  }`},
		{"middle", newForm([]string{"x", "y"}), `{"a":2,"x":1,"y":2,"b":3}`, `{"a":2,"b":3}`},
		{"here and there", newForm([]string{"x", "y"}), `{"x":1,"a":2,"y":2,"b":3,"x":4,"y":5}`, `{"a":2,"b":3}`},
		{"all of them", newForm([]string{"x", "y"}), `{"x":1,"y":2}`, `{}`},
		{"not inside", newForm([]string{"x"}), `{"a":{"x":1},"messages":[{"x":2}]}`, `{"a":{"x":1},"messages":[{"x":2}]}`},
		{"escaped name", newForm([]string{"x"}), "{\"\\u0078\":1,\"a\":2}", `{"a":2}`},
		{"in messages", newForm([]string{"messages.r"}), `{"r":0,"messages":[{"r":1,"c":2},{"c":2,"r":{}},7,{"r":3}, {"c":4}],"r":5}`, `{"r":0,"messages":[{"c":2},{"c":2},7,{}, {"c":4}],"r":5}`},
		{"messages that are none", newForm([]string{"messages.r"}), `{"messages":"r"}`, `{"messages":"r"}`},
		{"all at once", all,
			`{"model":"deepseek-flash","messages":[{"role":"user","content":"<b> & é 世"},{"role":"assistant","content":"","reasoning_content":"hm"}],"user_id":"u1","temperature":0.70}`,
			`{"model":"host/model","messages":[{"role":"user","content":"<b> & é 世"},{"role":"assistant","content":""}],"temperature":0.70}`},
	} {
		in := []byte(c.in)
		got, ok := c.f.apply(in)
		require.True(t, ok, c.name)
		require.Equal(t, c.want, string(got), c.name)
		require.Equal(t, c.in, string(in), "%s: the original is not touched", c.name)
		if c.in == c.want {
			require.Same(t, &in[0], &got[0], "%s: no copy where there is no change", c.name)
		}
	}
	for _, in := range []string{``, `[]`, `"x"`, `{"model":"m"`, `{"model":"m"} {}`, `{"model"}`} {
		_, ok := all.apply([]byte(in))
		require.False(t, ok, in)
	}
}

// FuzzForm compares with decoding, changing and comparing the values.
func FuzzForm(f *testing.F) {
	for _, s := range []string{
		smallRequest, `{"x":1,"a":2,"messages":[{"r":1,"x":2},{},3],"x":"}"}`, `{"\u0078":[],"messages":{"r":1}}`,
		"{\n \"messages\" : [ { \"r\" : \"a\\\"\" } ] , \"model\" : 3 }", `{"messages":[{"r":1}],"messages":[{"r":2,"q":[{"r":1}]}]}`,
	} {
		f.Add([]byte(s))
	}
	form := newForm([]string{"x", "messages.r"}).as("other")
	f.Fuzz(func(t *testing.T, in []byte) {
		var want map[string]any
		if json.Unmarshal(in, &want) != nil || want == nil {
			return
		}
		got, ok := form.apply(in)
		if !ok {
			t.Fatalf("%q is an object", in)
		}
		delete(want, "x")
		if _, ok := want["model"]; ok {
			want["model"] = "other"
		}
		if list, ok := want["messages"].([]any); ok {
			for _, m := range list {
				if m, ok := m.(map[string]any); ok {
					delete(m, "r")
				}
			}
		}
		var have map[string]any
		if err := json.Unmarshal(got, &have); err != nil {
			t.Fatalf("%q became %q: %v", in, got, err)
		}
		if !reflect.DeepEqual(have, want) {
			t.Fatalf("%q became %q", in, got)
		}
	})
}
