package watermark

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMark(t *testing.T) {
	var m Mark
	in, out := make(chan struct{}), make(chan struct{})
	h := m.Around(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		in <- struct{}{}
		<-out
	}))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { h.ServeHTTP(nil, httptest.NewRequest(http.MethodGet, "/", nil)) })
		<-in
	}
	require.EqualValues(t, 3, m.Now())
	close(out)
	wg.Wait()
	require.Zero(t, m.Now())
	require.EqualValues(t, 3, m.Since())
	require.Zero(t, m.Since())
}
