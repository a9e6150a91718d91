package deepseek_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// What Stats says was spent is what the server has charged each account, over
// all formats, streamed and not, with context cache hits among them.
func TestBooksAgreeWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events struct {
			sync.Mutex
			sum deepseek.Money
		}
		srv, client, tr := memory(t, []deepseektest.Option{
			deepseektest.WithAccount(deepseektest.Account{Name: "a", Keys: []string{"sk-a"}, Balance: 1e9}),
			deepseektest.WithAccount(deepseektest.Account{Name: "b", Keys: []string{"sk-b"}, Balance: 1e9}),
			deepseektest.WithPace(deepseektest.Pace{FirstToken: 100 * time.Millisecond, Token: 10 * time.Millisecond, Jitter: 0.5}),
			deepseektest.WithCache(deepseektest.Cache{Granularity: 8}),
		}, deepseek.WithAccounts(deepseek.Account{Name: "a", Keys: []string{"sk-a"}}, deepseek.Account{Name: "b", Keys: []string{"sk-b"}}),
			deepseek.WithObserver(deepseek.Observer{CallEnd: func(e deepseek.CallEndEvent) {
				events.Lock()
				events.sum += e.Cost.Amount
				events.Unlock()
			}}))
		require.NoError(t, tr.Pool().Remove("account-1"))

		call := func(path, body string) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+path, strings.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			require.NoError(t, err)
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s", text)
		}
		var wg sync.WaitGroup
		for i := range 120 {
			wg.Go(func() {
				model := []string{"deepseek-flash", "deepseek-v4-pro", "deepseek-v4-flash"}[i%3]
				prompt := strings.Repeat("The same long beginning of every prompt. ", 20) + fmt.Sprint("And one end of four: ", i%4)
				head := fmt.Sprintf(`{"model":%q,"stream":%t,`, model, i%2 == 0)
				messages := fmt.Sprintf(`"messages":[{"role":"user","content":%q}]}`, prompt)
				switch i % 4 {
				case 0, 1:
					call("/chat/completions", head+messages)
				case 2:
					call("/responses", head+fmt.Sprintf(`"input":%q}`, prompt))
				case 3:
					call("/anthropic/v1/messages", head+`"max_tokens":1000,`+messages)
				}
			})
			time.Sleep(20 * time.Millisecond)
		}
		wg.Wait()

		stats := tr.Stats()
		require.EqualValues(t, 120, stats.Spend.Attempts)
		require.Zero(t, stats.Spend.Estimated)
		require.Zero(t, stats.Spend.Unpriced)
		require.Positive(t, stats.Spend.Saved)
		require.Len(t, stats.Accounts, 2)
		for _, a := range stats.Accounts {
			require.Positive(t, a.Spend.Amount)
			require.InDelta(t, srv.Spent(a.Name), a.Spend.Amount.Float64(), 1e-9, a.Name)
			var models deepseek.Money
			for _, m := range a.Models {
				models += m.Spend.Amount
			}
			require.Equal(t, a.Spend.Amount, models)
		}
		require.Equal(t, stats.Spend.Amount, stats.Accounts[0].Spend.Amount+stats.Accounts[1].Spend.Amount)
		require.Equal(t, stats.Spend.Amount, events.sum)
	})
}
