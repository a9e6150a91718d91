package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func noEnv(string) string { return "" }

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(noEnv, deepseektest.WithAnswer(func(r *deepseektest.Request) deepseektest.Answer {
			return deepseektest.Answer{Content: "Asked: " + r.LastUser()}
		}))
		defer api.Close()
		var out strings.Builder
		require.NoError(t, run(t.Context(), &out, api.URL, api.Options...))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 4, out.String())
		require.Equal(t, "Asked: What is a sea wall?", lines[0])
		require.Contains(t, lines[1], "3 attempts: account-1#", "the faults are met once")
		require.Equal(t, "Asked: And what is a groyne?", lines[2])
		require.Equal(t, "-- 1 attempt", lines[3])
	})
}

// A stream that ends early must be an error for the SDK too.
func TestCutStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(noEnv)
		defer api.Close()
		api.Server.Enqueue(deepseektest.Normal(), deepseektest.CutAfter(5))
		var out strings.Builder
		require.ErrorContains(t, run(t.Context(), &out, api.URL, api.Options...), "truncated")
	})
}
