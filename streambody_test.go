package deepseek

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadEvent(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		want       said
	}{
		{"a chunk", `{"id":"a","choices":[{"index":0,"delta":{"content":"\"finish_reason\":\"stop\""},"finish_reason":null}],"usage":null}`, said{choices: progress{begun: 1}}},
		{"the last one", `{"choices":[{"finish_reason":"stop","delta":{}}],"usage":{"total_tokens":1}}`,
			said{choices: progress{1, 1}, usage: []byte(`{"total_tokens":1}`)}},
		{"only the second choice ends", `{"choices":[{"finish_reason":null,"index":0},{"finish_reason":"length","index":1}]}`, said{choices: progress{3, 2}}},
		{"an empty one is none", `{"choices":[{"index":0,"finish_reason":""}]}`, said{choices: progress{begun: 1}}},
		{"an index beyond all", `{"choices":[{"index":1000,"finish_reason":"stop"},{"index":-1}]}`, said{choices: progress{1 << 63, 1 << 63}}},
		{"one ends, one breaks", `{"choices":[{"finish_reason":"stop"},{"index":1,"finish_reason":"aborted"}]}`, said{choices: progress{3, 1}, fault: []byte(`"aborted"`)}},
		{"nothing counts after a fault", `{"choices":[{"finish_reason":"insufficient_system_resource"},{"finish_reason":"stop"}]}`,
			said{choices: progress{begun: 1}, fault: []byte(`"insufficient_system_resource"`)}},
		{"a finish_reason elsewhere", `{"choices":[{"delta":{"finish_reason":"stop"}}],"finish_reason":"stop"}`, said{choices: progress{begun: 1}}},
		{"choices that are none", `{"choices":{"finish_reason":"stop"},"error":null}`, said{}},
		{"an error", `{"error":{"message":"no"}}`, said{failure: []byte(`{"message":"no"}`)}},
		{"of /responses, with a tool that speaks of choices",
			`{"type":"response.completed","response":{"tools":[{"parameters":{"choices":[{"finish_reason":"aborted"}]}}]}}`,
			said{kind: []byte(`"response.completed"`), response: []byte(`{"tools":[{"parameters":{"choices":[{"finish_reason":"aborted"}]}}]}`)}},
		{"Anthropic's", `{"type":"message_start","message":{"usage":{"input_tokens":1}}}`,
			said{kind: []byte(`"message_start"`), message: []byte(`{"usage":{"input_tokens":1}}`)}},
		{"what is wrong after it does not matter", `{"type":"ping",]`, said{kind: []byte(`"ping"`)}},
		{"no object", `[{"error":1}]`, said{}},
		{"nothing", ``, said{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, readEvent([]byte(tt.data)))
		})
	}
}
