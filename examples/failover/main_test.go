package main

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		require.NoError(t, run(t.Context(), &out))
		text := out.String()
		require.Contains(t, text, "What is a sea wall?\n  answered by deepseek after 1 attempt")
		require.Contains(t, text, "And a groyne?\n  answered by elsewhere after 2 attempts: deepseek main#")
		require.Contains(t, text, "What is a sea wall?\n  answered by the cache\n")
		require.NotContains(t, text, "sk-")
	})
}
