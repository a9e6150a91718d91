package deepseek_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

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
