package deepseek_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// An answer that is continued is of one model from its beginning to its end, which is
// the one that its header tells.
func TestContinuedAnswersAreOfOneModel(t *testing.T) {
	down := deepseektest.ServiceUnavailable()
	for _, c := range []struct {
		name    string
		replies []deepseektest.Reply
		models  []string
		breaks  bool
	}{
		{"another model's", []deepseektest.Reply{down, down, deepseektest.CutAfter(20)}, []string{"deepseek-flash", "deepseek-flash", "deepseek-v4-pro", "deepseek-v4-pro"}, false},
		{"another model's, anew", []deepseektest.Reply{down, down, deepseektest.CutAfter(0)}, []string{"deepseek-flash", "deepseek-flash", "deepseek-v4-pro", "deepseek-v4-pro"}, false},
		{"its own, which is down", []deepseektest.Reply{deepseektest.CutAfter(50), down, down}, []string{"deepseek-flash", "deepseek-flash"}, true},
	} {
		for _, stream := range []bool{true, false} {
			if !stream && c.breaks {
				continue
			}
			t.Run(fmt.Sprint(c.name, " ", stream), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, client, tr := memory(t, nil, deepseek.WithStreamResume(), deepseek.WithRetry(deepseek.Retry{MaxAttempts: 2}),
						deepseek.WithFallbackModels(map[string][]string{"deepseek-flash": {"deepseek-v4-pro"}}))
					replies := slices.Clone(c.replies)
					if !stream {
						replies[len(replies)-1] = deepseektest.FinishAfter(20, "insufficient_system_resource")
					}
					srv.Enqueue(replies...)
					resp, err := client.Post(srv.URL+"/chat/completions", "application/json",
						strings.NewReader(fmt.Sprintf(`{"model":"deepseek-flash","stream":%t,"messages":[{"role":"user","content":"Hi"}]}`, stream)))
					require.NoError(t, err)
					require.Equal(t, http.StatusOK, resp.StatusCode)
					_, err = io.ReadAll(resp.Body)
					require.NoError(t, resp.Body.Close())
					if c.breaks {
						require.ErrorIs(t, err, deepseek.ErrTruncated)
					} else {
						require.NoError(t, err)
						require.Equal(t, "deepseek-v4-pro", resp.Header.Get("Seawall-Fallback"))
					}
					var models []string
					for _, r := range srv.Requests() {
						models = append(models, r.Model)
					}
					require.Equal(t, c.models, models)
					require.Zero(t, tr.Stats().InFlight)
				})
			})
		}
	}
}

// A part's usage is not that of the whole.
func TestUsageOfAContinuedAnswerThatTellsNone(t *testing.T) {
	c, s := newClient(t, deepseek.WithStreamResume())
	s.Enqueue(deepseektest.FinishAfter(5, "insufficient_system_resource"), deepseektest.NoUsage())
	resp, err := c.Chat(t.Context(), ask(deepseek.User("Hi")))
	require.NoError(t, err)
	require.Greater(t, len(resp.Text())+len(resp.Reasoning()), 50)
	require.Nil(t, resp.Usage)
}

// An answer that the server says it did not finish is not given again.
func TestCacheKeepsNoMessageThatWasBrokenOff(t *testing.T) {
	for _, stream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			srv, client, _ := memory(t, nil, deepseek.WithCache(deepseek.Cache{}))
			srv.Enqueue(deepseektest.FinishAfter(3, "insufficient_system_resource"))
			for range 3 {
				resp, err := client.Post(srv.URL+"/anthropic/v1/messages", "application/json",
					strings.NewReader(fmt.Sprintf(`{"model":"deepseek-flash","max_tokens":1000,"stream":%t,"messages":[{"role":"user","content":"Hi"}]}`, stream)))
				require.NoError(t, err)
				_, _ = io.ReadAll(resp.Body)
				require.NoError(t, resp.Body.Close())
			}
			require.Len(t, srv.Requests(), 2)
		})
	}
}
