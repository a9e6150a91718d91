package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func prompts(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("What about gauge ", i, "?")
	}
	return all
}

// Everything is answered, though the account has room for 40 calls.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" }, fakeAccount)
		defer api.Close()
		var out strings.Builder
		require.NoError(t, run(t.Context(), &out, prompts(1000), api.Options...))
		require.Contains(t, out.String(), "1000 of 1000 done, 0 waiting for room")
		require.Contains(t, out.String(), "1000 answered, 0 failed\n")
		require.LessOrEqual(t, api.Server.MaxInFlight("fake", deepseek.ModelFlash), 40)
	})
}

// While the account is without money, calls wait, but for those that find it out.
func TestOutOfMoney(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" }, fakeAccount)
		defer api.Close()
		api.Server.Timeline(
			deepseektest.Phase{From: 5 * time.Second, Do: func(s *deepseektest.Server) { s.SetBalance("fake", -1) }},
			deepseektest.Phase{From: time.Minute, Do: func(s *deepseektest.Server) { s.SetBalance("fake", 1) }},
		)
		var out strings.Builder
		if err := run(t.Context(), &out, prompts(1000), api.Options...); err != nil {
			require.ErrorIs(t, err, deepseek.ErrInsufficientBalance)
		}
		_, sum, found := strings.Cut(out.String(), "1000 of 1000 done, 0 waiting for room")
		require.True(t, found, out.String())
		var answered, failed int
		_, err := fmt.Sscanf(sum[strings.Index(sum, "\n")+1:], "%d answered, %d failed", &answered, &failed)
		require.NoError(t, err)
		require.NotZero(t, api.Server.Count(http.StatusPaymentRequired))
		require.LessOrEqual(t, failed, api.Server.Count(http.StatusPaymentRequired))
		require.Equal(t, 1000, answered+failed)
	})
}

// Whoever ends it has what was answered by then.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" }, fakeAccount)
		defer api.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		var out strings.Builder
		require.ErrorContains(t, run(ctx, &out, prompts(1000), api.Options...), "of 1000 prompts have no answer")
		require.NotContains(t, out.String(), "\n0 answered")
	})
}
