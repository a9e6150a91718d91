package deepseek_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// What a call has cost that its caller gives up is told with its end, though that comes
// on another goroutine.
func TestCancelledStreamsTellTheirCost(t *testing.T) {
	for name, opt := range map[string]deepseek.Option{
		"plain": deepseek.WithOptions(), "resume": deepseek.WithStreamResume(), "cache": deepseek.WithCache(deepseek.Cache{}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told, missed atomic.Int64
				srv, _, tr := memory(t, []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{Token: 100 * time.Millisecond})}, opt,
					deepseek.WithObserver(deepseek.Observer{CallEnd: func(e deepseek.CallEndEvent) {
						told.Add(int64(e.Cost.Amount))
						if e.Cost.Amount == 0 {
							missed.Add(1)
						}
					}}))
				var wg sync.WaitGroup
				for i := range 500 {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
						defer cancel()
						req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/chat/completions",
							strings.NewReader(fmt.Sprintf(`{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"Hi %d"}]}`, i)))
						require.NoError(t, err)
						resp, err := tr.RoundTrip(req)
						require.NoError(t, err)
						_, err = io.Copy(io.Discard, resp.Body)
						require.ErrorIs(t, err, context.DeadlineExceeded)
						require.NoError(t, resp.Body.Close())
					})
				}
				wg.Wait()
				synctest.Wait()
				require.Zero(t, missed.Load(), "of 500")
				require.Equal(t, int64(tr.Stats().Spend.Amount), told.Load())
			})
		})
	}
}
