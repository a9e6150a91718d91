package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" }, deepseektest.WithAnswer(fakeAnswer))
		defer api.Close()
		var out strings.Builder
		require.NoError(t, run(t.Context(), &out, api.Options...))
		require.Equal(t, `call:   tide {"place": "Dover", "day": "tomorrow"}
result: High water at Dover tomorrow: 04:12 and 16:38, 6.4 m.
answer: High water at Dover tomorrow: 04:12 and 16:38, 6.4 m.
`, out.String())

		requests := api.Server.Requests()
		last := requests[len(requests)-1]
		require.Equal(t, "/beta/chat/completions", last.Path, "strict tools are beta")
		require.Len(t, last.Messages, 3)
		require.Equal(t, "The tide function knows.", last.Messages[1].ReasoningContent, "replayed whole")
		require.Equal(t, last.Messages[1].ToolCalls[0].ID, last.Messages[2].ToolCallID)
	})
}

func TestEndlessCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" }, deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer {
			return deepseektest.Answer{ToolCalls: []deepseektest.ToolCall{{Name: "tide", Arguments: `{"place": 1}`}}}
		}))
		defer api.Close()
		var out strings.Builder
		require.ErrorContains(t, run(t.Context(), &out, api.Options...), "without end")
		require.Contains(t, out.String(), "result: deepseek: arguments of tide: json: cannot unmarshal number")
	})
}

func TestPerform(t *testing.T) {
	call := func(name, arguments string) string {
		return perform(deepseek.ToolCall{Function: deepseek.FunctionCall{Name: name, Arguments: arguments}})
	}
	require.Equal(t, "there is no function moon", call("moon", "{}"))
	require.Contains(t, call("tide", `{"place": "Do`), "unexpected end of JSON input")
	require.Equal(t, "High water at Dover today: 04:12 and 16:38, 6.4 m.", call("tide", `{"place": "Dover", "day": "today"}`))
}
