package watermark

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// failing is a test that notes its failure.
type failing struct {
	testing.TB
	said string
}

func (*failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) { f.said = fmt.Sprintf(format, args...) }

func TestKeeps(t *testing.T) {
	for _, c := range []struct {
		name string
		most []int // in the windows one after the other
		said string
	}{
		{"from the start", []int{8}, ""},
		{"after one was tried", []int{9, 10, 8}, ""},
		{"never", []int{9, 9, 9, 9, 9}, "never: [9 9 9 9 9] in flight, and no more than 8 were to be"},
		{"once far beyond", []int{11, 8}, "once far beyond: [11] in flight, and no more than 8 were to be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m Mark
				ctx, stop := context.WithCancel(t.Context())
				var callers sync.WaitGroup
				h := m.Around(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second / 2) }))
				callers.Go(func() {
					for i := 0; i < len(c.most) && ctx.Err() == nil; i++ {
						time.Sleep(time.Second / 10)
						for range c.most[i] {
							callers.Go(func() { h.ServeHTTP(nil, httptest.NewRequest(http.MethodGet, "/", nil)) })
						}
						time.Sleep(9 * time.Second / 10)
					}
				})
				f := &failing{TB: t}
				m.Keeps(f, 8, time.Second, c.name)
				require.Equal(t, c.said, f.said)
				stop()
				callers.Wait()
			})
		})
	}
}
