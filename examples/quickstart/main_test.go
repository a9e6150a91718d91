package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
)

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// What a newcomer sees must be there, in this order, and within six seconds.
func TestRunWithoutKey(t *testing.T) {
	for range 20 { // the waits are random
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			start := time.Now()
			require.NoError(t, run(t.Context(), &out, env(nil), false))
			require.Less(t, time.Since(start), 6*time.Second)

			rest := out.String()
			for _, want := range []string{
				"fake DeepSeek inside this process, with its faults switched on",
				"somewhere else to go.",
				"402 Payment Required", "account spare: out of balance, for 5 min",
				"401 Unauthorized", "unauthorized, for 10 min",
				"503 Service Unavailable", "retry after",
				"200, but", "retry after",
				"200, first data after 0.8",
				"+  answer   whole, after 5 requests",
				"12 questions at once, to an account that has room for 4",
				"12 of 12", "2500, then 3",
				"13 calls: 13 answered, 0 failed",
				"harbour active, 1 of 2 keys usable", "spare out of balance", "breaker closed",
			} {
				_, after, found := strings.Cut(rest, want)
				require.Truef(t, found, "%q is missing after what came before it:\n%s", want, out.String())
				rest = after
			}
			require.NotContains(t, out.String(), "sk-", "no key is ever told")
			require.NotContains(t, out.String(), "\x1b", "no colours without a terminal")
			for _, line := range strings.Split(out.String(), "\n") {
				require.Equal(t, strings.TrimRight(line, " "), line)
			}
		})
	}
}

func TestColors(t *testing.T) {
	for _, test := range []struct {
		terminal bool
		noColor  string
		want     bool
	}{{true, "", true}, {true, "1", false}, {false, "", false}} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			require.NoError(t, run(t.Context(), &out, env(map[string]string{"NO_COLOR": test.noColor}), test.terminal))
			require.Equal(t, test.want, strings.Contains(out.String(), "\x1b["))
		})
	}
}

// With a key it asks the endpoint that the environment names, once.
func TestRunWithKey(t *testing.T) {
	s := deepseektest.NewServer()
	defer s.Close()
	t.Setenv("DEEPSEEK_API_KEY", "sk-real")
	t.Setenv("DEEPSEEK_BASE_URL", s.URL)
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, env(map[string]string{"DEEPSEEK_API_KEY": "sk-real"}), false))
	require.NotContains(t, out.String(), "fake")
	require.Contains(t, out.String(), "whole, after 1 request and")
	require.Len(t, s.Requests(), 1)
	require.Equal(t, "sk-real", s.Requests()[0].Key)
}

func TestRunInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(10*time.Millisecond, cancel).Stop()
		var out strings.Builder
		require.ErrorIs(t, run(ctx, &out, env(nil), false), context.Canceled)
		require.Contains(t, out.String(), "x  failed")
	})
}

func TestFailure(t *testing.T) {
	s := deepseektest.NewServer()
	defer s.Close()
	s.Enqueue(deepseektest.CutAfter(5))
	t.Setenv("DEEPSEEK_API_KEY", "sk-real")
	t.Setenv("DEEPSEEK_BASE_URL", s.URL)
	var out strings.Builder
	require.ErrorContains(t, run(t.Context(), &out, env(map[string]string{"DEEPSEEK_API_KEY": "sk-real"}), false), "without finish_reason")
	require.Contains(t, out.String(), "it breaks off here")
	require.Contains(t, out.String(), "x  failed   answer truncated")
}
