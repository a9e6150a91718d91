package deepseek

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Calls that may wait sit out an outage: none fails, none is sent but as a probe,
// and all are answered in their order once it is over.
func TestQueueSitsOutAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		base := scripted(func(req *http.Request) (*http.Response, error) {
			if down.Load() {
				return status(503)(req)
			}
			return after(time.Second, answers)(req)
		})
		// The first in line finds out each time, and needs an attempt for each.
		tr := transportOver(t, base, WithQueue(Queue{Outages: true}), WithMaxConcurrency(50), WithRetry(Retry{MaxAttempts: 20}))
		down.Store(true)
		time.AfterFunc(time.Minute, func() { down.Store(false) })
		start := time.Now()
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				resp, err := send(ctx, tr)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = readBody(resp)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
				if err != nil || resp.StatusCode != 200 {
					t.Error(i, resp.StatusCode, err)
				}
			})
		}
		time.Sleep(time.Minute)
		into := len(base.sent())
		require.LessOrEqual(t, into, 60, "requests sent into the outage")
		wg.Wait()
		require.Len(t, order, 300)
		require.Less(t, time.Since(start), 90*time.Second)
		require.Zero(t, tr.Stats().Waiting)
	})
}

// A call that cannot wait for so long is told at once what is the matter; so is
// one that gives up while it waits.
func TestQueueTellsOfTheOutageThatACallCannotSitOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := transportOver(t, scripted(status(503)), WithQueue(Queue{Outages: true, MaxWait: time.Minute}), WithoutRetry(),
			WithBreaker(Breaker{MinRequests: 1, OpenFor: 10 * time.Second, MaxOpenFor: 10 * time.Second}))
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)

		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = send(ctx, tr)
		require.ErrorIs(t, err, ErrCircuitOpen)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, time.Since(start))

		ctx, giveUp := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, giveUp)
		_, err = send(ctx, tr)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, ErrCircuitOpen)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Zero(t, tr.Stats().Waiting)
	})
}

// It is the same for accounts: one without money is tried again in its time.
func TestQueueWaitsForAnAccountToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &keyBase{}
		base.set("a", "402")
		base.set("balance of a", `200 {"is_available":false}`)
		tr, err := NewTransport(WithTransport(base), WithBaseURL(DefaultBaseURL), WithQueue(Queue{Outages: true}), WithAPIKeys("a"))
		require.NoError(t, err)
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		require.Equal(t, 402, resp.StatusCode)
		base.set("a", "200 {}")
		start := time.Now()
		resp, err = send(t.Context(), tr)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		require.InDelta(t, accountOffFor.Seconds(), time.Since(start).Seconds(), 1)
	})
}
